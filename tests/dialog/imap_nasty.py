"""Nasty messages: every MIME fault we could think of, made by rule, and random mutations of them (seeded)."""
import base64
import random

BASE = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: s\r\nDate: Mon, 7 Feb 1994 21:52:25 -0800\r\n"


def multipart(parts, boundary=b"b", closing=b"--b--\r\n", extra=b""):
    body = b"".join(b"--" + boundary + b"\r\n" + p + b"\r\n" for p in parts)
    return (BASE + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"" + boundary + b"\"" + extra + b"\r\n\r\n" +
            body + closing)


def nested(depth, leaf=b"\r\nleaf\r\n"):
    text = leaf
    for i in range(depth):
        b = b"x%d" % i
        text = (b"Content-Type: multipart/mixed; boundary=" + b + b"\r\n\r\n--" + b + b"\r\n" + text + b"\r\n--" + b +
                b"--\r\n")
    return BASE + text


def messages_within(depth):
    text = b"Subject: innermost\r\n\r\nbody\r\n"
    for i in range(depth):
        text = b"Subject: level %d\r\nContent-Type: message/rfc822\r\n\r\n" % i + text
    return BASE + text


HEADERS = [
    b"",
    b"\r\n",
    b"no colon here\r\n",
    b": empty name\r\n",
    b" begins with a blank\r\n",
    b"Subject\r\n",
    b"Subject:\r\n",
    b"Subject: " + b"x" * 3000 + b"\r\n",
    b"Subject: 8-bit \xe4\xf6\xfc \xff\xfe\r\n",
    b"Subject: utf-8 \xc3\xa4 \xe2\x82\xac\r\n",
    b"Subject: NUL \x00 inside\r\n",
    b"Subject: CR \r inside\r\n",
    b"Subject: quote \" and \\ and {12}\r\n",
    b"Subject: =?utf-8?B?w6Q=?= =?x-no?Q?=FF?= =?bad\r\n",
    b"Subject: folded\r\n \r\n\t\r\n more\r\n",
    b"Subject: one\r\nSubject: two\r\n",
    b"Date: yesterday, perhaps\r\n",
    b"Date: " + b"9" * 200 + b"\r\n",
    b"Date: Mon, 99 Foo 99999 99:99:99 +99999\r\n",
    b"From: \r\n",
    b"From: <>\r\n",
    b"From: <<<<\r\n",
    b"From: a@b@c@d\r\n",
    b"From: \"unclosed <a@b>\r\n",
    b"From: (unclosed comment a@b\r\n",
    b"From: (a (b (c))) x@y (d)\r\n",
    b"From: group: a@b, c@d;, e@f\r\n",
    b"From: group: ;\r\n",
    b"From: undisclosed-recipients:;\r\n",
    b"From: group without an end: a@b\r\n",
    b"From: @a,@b:c@d\r\n",
    b"From: <@a,@b:c@d>\r\n",
    b"From: \"a \\\" b\\\\\" <\"x y\"@z>\r\n",
    b"From: =?utf-8?Q?=C3=A4?= <a@b>\r\n",
    b"From: \xe4 \xff <\xe4@\xfc>\r\n",
    b"From: " + b", ".join(b"u%d@example.org" % i for i in range(500)) + b"\r\n",
    b"To: ,,,,;;;\r\n",
    b"Cc: a b c d e\r\n",
    b"Bcc: [1.2.3.4], a@[1.2.3.4]\r\n",
    b"Sender: \r\nReply-To:\r\nFrom: x@y\r\n",
    b"Message-ID: not an id\r\nIn-Reply-To: <a@b> <c@d>\r\n",
    b"Message-ID: " + b"<" * 500 + b"\r\nReferences: " + b"<a@b> " * 1000 + b"\r\n",
    b"Content-Type:\r\n",
    b"Content-Type: ;;;;\r\n",
    b"Content-Type: text\r\n",
    b"Content-Type: /\r\n",
    b"Content-Type: text/\r\n",
    b"Content-Type: \"text\"/plain\r\n",
    b"Content-Type: text/plain; charset\r\n",
    b"Content-Type: text/plain; charset=\r\n",
    b"Content-Type: text/plain; =value\r\n",
    b"Content-Type: text/plain; charset=\"unclosed\r\n",
    b"Content-Type: text/plain; a=\"\\\"\\\\\"; b=\"x\r\n y\"\r\n",
    b"Content-Type: text/plain; a=\xe4\xff\r\n",
    b"Content-Type: text/plain; a*0=x; a*1=y; a*3=gap\r\n",
    b"Content-Type: text/plain; a*=utf-8'de'%C3%A4%ZZ\r\n",
    b"Content-Type: text/plain; a*0*=utf-8''%C3; a*1*=%A4\r\n",
    b"Content-Type: text/plain; " + b"; ".join(b"p%d=v" % i for i in range(300)) + b"\r\n",
    b"Content-Type: text/plain; x=" + b"y" * 5000 + b"\r\n",
    b"Content-Type: multipart/mixed\r\n",
    b"Content-Type: multipart/mixed; boundary=\r\n",
    b"Content-Type: multipart/mixed; boundary=\"\"\r\n",
    b"Content-Type: multipart/mixed; boundary=" + b"q" * 300 + b"\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n",
    b"Content-Type: message/partial; number=1\r\n",
    b"Content-Type: message/global\r\n",
    b"Content-Transfer-Encoding: \r\n",
    b"Content-Transfer-Encoding: \xff\"quoted\"\r\n",
    b"Content-Transfer-Encoding: x-own\r\n",
    b"Content-Transfer-Encoding: base64 (comment)\r\n",
    b"Content-Disposition:\r\n",
    b"Content-Disposition: attachment; filename=\"a\\\"b\"; size=x\r\n",
    b"Content-Disposition: ;filename=x\r\n",
    b"Content-Disposition: attachment; filename*=iso-8859-1''%E4.txt\r\n",
    b"Content-Language: en, de,, \"x y\", (c)\r\n",
    b"Content-Language:\r\n",
    b"Content-Location: \r\n x\r\n",
    b"Content-ID: <\xff>\r\nContent-Description: \x01\x02\x7f\r\nContent-MD5: \"\r\n",
    b"MIME-Version: 2.0\r\n",
]

BODIES = [b"\r\n", b"\r\nplain\r\n", b"", b"\r\n--b\r\n\r\nx\r\n--b--\r\n", b"\r\nNUL \x00 and \xff\r\n", b"\r\n" + b"long" * 5000]


def handmade():
    for header in HEADERS:
        yield BASE + header + b"\r\nbody\r\n"
        yield header + b"\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n"
    for body in BODIES:
        yield BASE + body
        yield b"Content-Type: multipart/mixed; boundary=b\r\n" + body
    for parts in ([], [b""], [b"\r\n"], [b"\r\n\r\n"], [b"Content-Type: text/html\r\n\r\n<p>", b"no header", b"\r\nx"],
                  [b"Content-Type: multipart/alternative; boundary=b\r\n\r\nsame boundary"],
                  [b"Content-Type: multipart/alternative; boundary=bb\r\n\r\n--bb\r\n\r\nx\r\n--b\r\n\r\ny\r\n--bb--"],
                  [b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ninner", b"\r\nafter"],
                  [b"Content-Type: message/rfc822\r\n\r\n", b"Content-Type: message/rfc822"],
                  [b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(b"\x00\xff" * 100)],
                  [b"Content-Transfer-Encoding: base64\r\n\r\n!!!not base64!!!="],
                  [b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4=\r\n=ZZ= \r\n="],
                  [b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n#0V%T\r\n`\r\nend"],
                  [b"Content-Type: text/plain; charset=x-none\r\n\r\n\xff\xfe"],
                  [b"\r\n%d" % i for i in range(200)]):
        yield multipart(parts)
        yield multipart(parts, closing=b"")
        yield multipart(parts, closing=b"--b")
        yield multipart(parts, closing=b"--b-- \r\nepilogue\r\n--b\r\n\r\nnot a part\r\n")
    yield multipart([b"\r\nx"], b"a b c'()+_,-./:=?")
    yield multipart([b"\r\nx"]).replace(b"\r\n--b\r\n", b"\r\n--b   \r\n")
    yield multipart([b"\r\nx"]).replace(b"boundary=\"b\"", b"boundary*0=\"b\"")
    for depth in (1, 5, 63, 64, 65, 200):
        yield nested(depth)
        yield messages_within(depth)
    yield BASE.replace(b"\r\n", b"\n") + b"\nbare line ends\n"
    yield BASE + b"\r\nlast line without an end"
    yield BASE + b"X: " + b"y" * 100000 + b"\r\n\r\nbig header\r\n"
    yield BASE + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\nmany fields\r\n"


def mutations(count, seed=1):
    rng = random.Random(seed)
    pool = list(handmade())
    bits = [b"\r\n", b"\r\n\r\n", b"--b", b"--b--", b"\x00", b"\xff", b"\"", b"\\", b"(", b")", b"{5}", b";", b"=", b":", b" ",
            b"Content-Type: ", b"multipart/mixed; boundary=", b"message/rfc822", b"\n", b"\r"]
    for _ in range(count):
        text = bytearray(rng.choice(pool)[:20000])
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(text) + 1)
            what = rng.randrange(4)
            if what == 0:
                text[at:at] = rng.choice(bits)
            elif what == 1:
                del text[at:at + rng.randint(1, 40)]
            elif what == 2 and text:
                text[at % len(text)] = rng.randrange(256)
            else:
                other = rng.choice(pool)
                start = rng.randrange(len(other) + 1)
                text[at:at] = other[start:start + rng.randint(1, 200)]
        yield bytes(text)


def corpus(mutated=200):
    return [m for m in list(handmade()) + list(mutations(mutated)) if m]
