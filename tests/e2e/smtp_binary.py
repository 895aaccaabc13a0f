#!/usr/bin/env python3
"""Binary messages (RFC 3030) through the smtp monitor, read back with Python's email package.

    box smtp_binary.py BUILD_DIR/handlers/smtp/smtp

Closes with "N passed, N failed".
"""
import email
import email.policy
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

import smtp_alone
from smtp_alone import QUEUE, SMTP, TESTS, bodies, clear, hello, queue, world

RECODE = os.path.join(os.path.dirname(SMTP), "../recode/recode")


def part(kind, content, label="binary"):
    return b"Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s" % (kind, label.encode(), content)


def multipart(parts, mark):
    text = b"Content-Type: multipart/mixed; boundary=\"%s\"\r\nContent-Transfer-Encoding: binary\r\n\r\n" % mark
    return text + b"".join(b"--%s\r\n%s\r\n" % (mark, p) for p in parts) + b"--%s--\r\n" % mark


def message(content):
    return b"Subject: binary\r\nMIME-Version: 1.0\r\n" + content


def send(client, data, recipients=("alice@mail.test",), rng=None, parameters=""):
    """In chunks of any sizes; the last reply, or the first that says no."""
    client("RSET")
    client("MAIL FROM:<s@example.org> BODY=BINARYMIME" + parameters)
    for recipient in recipients:
        client("RCPT TO:<%s>" % recipient)
    at = 0
    while rng and at < len(data):
        n = rng.randrange(1, 1 << rng.randrange(1, 22))
        piece, at = data[at:at + n], at + n
        client.sock.sendall(b"BDAT %d\r\n" % len(piece) + piece)
        answer = client.reply()
        if not answer.startswith("250 "):
            return answer
    rest = b"" if rng else data
    client.sock.sendall(b"BDAT %d LAST\r\n" % len(rest) + rest)
    return client.reply()


def leaves(text):
    """The contents of all parts that are no multiparts, as bytes."""
    return [p.get_payload(decode=True) for p in email.message_from_bytes(text).walk()
            if not p.is_multipart() and p.get_content_maintype() != "message"]


def test_content():
    """What each part decodes to is what was sent: nested, in messages in messages, megabytes, any octets."""
    rng = random.Random(3030)
    clear()
    noise, text = rng.randbytes(5000000), b"line\rwith a CR\nand an LF\r\n" * 100
    nasty = b"\r\n--inner\r--outer\r\n.\r\n\r\nQUIT\r\n\0\xff\r"
    inner = multipart([part(b"text/plain", text), part(b"application/x", nasty)], b"in-ner")
    data = message(multipart([part(b"image/png", noise), inner, part(b"text/plain", b"plain\r\n", "7bit"),
                              part(b"message/rfc822", message(part(b"application/y", b"\0deep\r")))], b"out-er"))
    client = hello()
    answer = send(client, data, rng=rng, parameters=" SIZE=%d" % len(data))
    TESTS.check("5 MB of noise in chunks", answer.startswith("250 2.0.0 Delivered"), answer)
    got = leaves(bodies("alice")[0]) if answer[0] == "2" else []
    want = [noise, text.replace(b"\r\n", b"\n"), nasty, b"plain\n", b"\0deep\r"]
    TESTS.check("... each part is what it was", got == want, [len(x) for x in got])
    stored = smtp_alone.mailbox("alice")
    TESTS.check("... in lines of at most 998 octets, without NUL and CR",
                max(map(len, stored.split(b"\n"))) <= 998 and b"\0" not in stored and b"\r" not in stored)
    client.close()


def test_queue():
    queue(True)
    client = hello("-o", "networks=127.0.0.0/8")
    data = message(part(b"application/x", b"\0\1\2"))
    answer = send(client, data, ["x@example.com", "alice@mail.test"])
    names = os.listdir(QUEUE + "/new")
    with open(QUEUE + "/msg/" + names[0], "rb") as f:
        stored = f.read()
    TESTS.check("a queued one is queued with lines", answer.startswith("250 2.0.0 Queued") and leaves(stored) == [b"\0\1\2"]
                and b"\r" not in stored and "body binarymime" not in queue(True)[0], answer)
    client.close()


def test_refused():
    client = hello()
    clear()
    signed = b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n%s\r\n--s\r\n\r\nsig\r\n--s--\r\n"
    for name, data, want in (
            ("a signed part that is binary", message(signed % part(b"application/x", b"\0")), "554 5.6.2 "),
            ("a message/partial with NUL", message(part(b"message/partial", b"\0")), "554 5.6.3 "),
            ("a delimiter behind a bare LF", message(multipart([part(b"application/x", b"x\n--b")], b"b")), "554 5.6.0 "),
            ("a header with a bare LF", b"Subject: x\nX: y\r\n\r\n", "550 5.5.2 "),
            ("a header with NUL", b"Subject: \0\r\n\r\n", "550 5.6.0 "),
            ("no header", b"\0\1\2\3\r\n\r\n", "550 5.6.0 ")):
        answer = send(client, data)
        TESTS.check(name + " is refused", answer.startswith(want), answer)
    client("MAIL FROM:<s@example.org> BODY=BINARYMIME")
    client("RCPT TO:<alice@mail.test>")
    answer = client("DATA")
    TESTS.check("DATA is refused", answer.startswith("503 "), answer)
    TESTS.check("nothing was delivered", not bodies("alice"))
    client.close()


def test_too_big():
    client = hello("-o", "message_size=100000")
    clear()
    answer = send(client, message(part(b"application/x", bytes(100001))), rng=random.Random(1))
    TESTS.check("too big: 552", answer.startswith("552 5.3.4 "), answer)
    client("RSET")
    answer = send(client, message(part(b"application/x", bytes(99800))))
    TESTS.check("what fits on the wire is taken, however long its lines make it", answer.startswith("250 "), answer)
    client.close()


def test_lmtp_submission():
    clear()
    client = smtp_alone.Client("--lmtp")
    client("LHLO x")
    client("MAIL FROM:<s@example.org> BODY=BINARYMIME")
    client("RCPT TO:<alice@mail.test>")
    client("RCPT TO:<bob@mail.test>")
    data = message(part(b"application/x", b"\0"))
    client.sock.sendall(b"BDAT %d LAST\r\n" % len(data) + data)
    answers = [client.reply(), client.reply()]
    TESTS.check("LMTP: a reply for each", all(a.startswith("250 ") for a in answers), answers)
    client("MAIL FROM:<s@example.org> BODY=BINARYMIME")
    client("RCPT TO:<alice@mail.test>")
    client("RCPT TO:<bob@mail.test>")
    data = message(part(b"message/partial", b"\0"))
    client.sock.sendall(b"BDAT %d LAST\r\n" % len(data) + data)
    answers = [client.reply(), client.reply()]
    TESTS.check("... also of a refusal", all(a.startswith("554 5.6.3 ") for a in answers), answers)
    client.close()
    clear()
    client = smtp_alone.Client("--local", is_unix=True)
    client("EHLO x")
    answer = send(client, b"MIME-Version: 1.0\r\nSubject: local\r\nContent-Type: application/x\r\n\r\n\0\n", ["alice"])
    text = smtp_alone.mailbox("alice")
    TESTS.check("a submission gets Date and Message-ID", answer.startswith("250 ") and
                len(re.findall(rb"(?m)^(?:Date|Message-ID): ", text)) == 2 and b"\r" not in text, answer)
    client.close()


def test_disk_full():
    """The message fits and its lines do not: 452, and nothing stays."""
    clear()
    shutil.rmtree(QUEUE, ignore_errors=True)
    os.makedirs(QUEUE)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "none", QUEUE], check=True)
    client = hello()
    answer = send(client, message(part(b"application/x", bytes(1800000))))
    TESTS.check("a full disk: 452", answer.startswith("452 4.3.1 ") and not bodies("alice"), answer)
    answer = send(client, message(part(b"application/x", bytes(1000))))
    TESTS.check("... and room again for the next", answer.startswith("250 "), answer)
    client.close()
    subprocess.run(["umount", "-l", QUEUE], check=True)


def test_memory():
    """60 MB in one part, and many parts: in the memory that recode allows itself."""
    many = multipart([part(b"application/x", b"\0")] * 900, b"b")
    for name, data in (("60 MB", part(b"application/x", os.urandom(60000000))), ("900 parts", many)):
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(message(data))
            source.seek(0)
            status = subprocess.run([RECODE], stdin=source, stdout=target, check=False).returncode
            target.seek(0)
            sizes = [len(x) for x in leaves(target.read())]
        TESTS.check("recode: " + name, status == 0 and sum(sizes) == (60000000 if name == "60 MB" else 900), status)


def main():
    world()
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            TESTS.attempt(test)
    print("%d passed, %d failed" % (TESTS.passed, TESTS.failed))
    return TESTS.failed > 0


if __name__ == "__main__":
    sys.exit(main())
