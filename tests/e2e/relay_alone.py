#!/usr/bin/env python3
"""relay-session alone: this test is its relay on one side and all kinds of servers on the other.

    relay_alone.py PATH-OF-RELAY-SESSION

Closes with "N passed, N failed".
"""
import base64
import concurrent.futures
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from frames import Control, T, Tests, s, start, u
from receiver import FEATURES, Hangup, Receiver, drip

PROGRAM = sys.argv[1]
FOLDER = tempfile.mkdtemp(prefix="pennypost-relay-")
PLAIN = "From: a@here.example\nSubject: hello\n\nOne line.\n.\n..two dots\n"


def path(name):
    return os.path.join(FOLDER, name)


def make_certificates():
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    for name, names in (("mx", "DNS:mx.example"), ("other", "DNS:other.example"), ("common", "email:mx@mx.example")):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                path(name + ".key"), "-out", path(name + ".pem"), "-days", "30", "-subj",
                "/CN=%s.example" % ("other" if name == "other" else "mx"), "-addext", "subjectAltName=" + names)


def context(name="mx"):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(path(name + ".pem"), path(name + ".key"))
    return c


def spki_digest(name):
    """The data of a TLSA record 3 1 1."""
    import hashlib
    key = subprocess.run(["openssl", "x509", "-in", path(name + ".pem"), "-noout", "-pubkey"], check=True,
                         capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, check=True,
                         capture_output=True).stdout
    return hashlib.sha256(der).digest()


class Reply:
    def __init__(self, r):
        self.code, self.enhanced, self.text, self.phase, self.ours = r.u(), r.t(), r.t(), r.u(), r.u()

    def __repr__(self):
        return "%d %s %s (phase %d%s)" % (self.code, self.enhanced, self.text, self.phase, ", ours" if self.ours else "")


class Ready:
    def __init__(self, r):
        self.status, self.reply = r.u(), Reply(r)
        self.tls, self.verified, self.extensions = r.t(), r.u(), r.u()
        self.size = r.u() | r.u() << 32
        r.end()


class Client:
    """One relay-session and the server it talks to."""

    def __init__(self, receiver, tls="NONE", implicit=0, percent=100, names="mx.example", user="", secret="",
                 login="NONE", tlsa=(), trust=None, host="mx.example"):
        ours, theirs = socket.socketpair()
        self.receiver = receiver
        self.session = receiver.serve(theirs)
        self.control = Control()
        self.process = start([PROGRAM], {0: ours.fileno(), 1: os.open("/dev/null", os.O_RDWR), 2: 2,
                                         3: self.control.child.fileno()})
        ours.close()
        self.control.child.close()
        fields = [s(host), s("client.example"), u(T["TALK_TLS_" + tls]), u(implicit), u(percent), s(names), s(user),
                  s(secret), u(T["TALK_LOGIN_" + login]), u(len(tlsa))]
        for usage, selector, matching, data in tlsa:
            fields += [u(usage), u(selector), u(matching), s(data)]
        if trust:
            with open(path(trust), "rb") as f:
                self.control.send("FRAME_RELAY_HOST", *fields, fd=f.fileno())
        else:
            self.control.send("FRAME_RELAY_HOST", *fields)

    def ready(self, status="TALK_READY"):
        name, r = self.control.recv()
        assert name == "FRAME_RELAY_READY", (name, self.process.wait(60))
        ready = Ready(r)
        assert ready.status == T[status], (ready.status, ready.reply)
        return ready

    def mail(self, text=PLAIN, recipients=("b@there.example",), sender="a@here.example", body="UNKNOWN", utf8=0,
             requiretls=0, report=0, envid="", ret="UNSET", notify=0, orcpt=""):
        """Sends a message; the replies, and whether the connection can be used further."""
        data = text if isinstance(text, bytes) else text.encode()
        with tempfile.TemporaryFile() as f:
            f.write(data)
            f.flush()
            self.control.send("FRAME_RELAY_MAIL", s(sender), u(T["TALK_BODY_" + body]), u(utf8), u(requiretls), u(report),
                              s(envid), u(T["TALK_RET_" + ret]), u(0), u(0), u(0), u(0), u(len(recipients)), fd=f.fileno())
        left = list(recipients)
        replies = []
        while True:
            name, r = self.control.recv()
            if name == "FRAME_RELAY_MORE":
                part, left = left[:100], left[100:]
                self.control.send("FRAME_RELAY_RCPT", u(len(part)),
                                  *[x for a in part for x in (s(a), u(notify), s(orcpt))])
            elif name == "FRAME_RELAY_RESULT":
                replies.append(Reply(r))
            elif name == "FRAME_RELAY_DONE":
                self.usable, self.converted = r.u(), r.u()
                assert len(replies) == len(recipients)
                return replies
            else:
                raise AssertionError((name, self.process.wait(60)))

    def quit(self):
        self.control.send("FRAME_RELAY_QUIT")
        self.end()

    def end(self):
        assert self.process.wait(60) == 0, self.process.returncode
        self.control.close()


def wire(text):
    return text.replace("\n", "\r\n").encode() if isinstance(text, str) else text.replace(b"\n", b"\r\n")


def simple(receiver, **options):
    c = Client(receiver, **options)
    c.ready()
    replies = c.mail()
    c.quit()
    return replies


# ---- sending ----

def test_pipelining():
    r = Receiver()
    c = Client(r)
    ready = c.ready()
    assert ready.extensions & T["TALK_PIPELINING"] and ready.size == 10000000 and not ready.tls
    for n in range(3):
        replies = c.mail(recipients=["r%d@there.example" % i for i in range(n + 1)])
        assert all(x.code == 250 and x.text == "taken" for x in replies), replies
        assert c.usable
    c.quit()
    assert [len(m.recipients) for m in r.messages] == [1, 2, 3]
    assert all(m.data == wire(PLAIN) for m in r.messages)
    assert c.session.lines[0] == "EHLO client.example" and c.session.lines[-1] == "QUIT"


def test_one_by_one():
    r = Receiver(features=())
    replies = simple(r)
    assert replies[0].code == 250 and r.messages[0].data == wire(PLAIN)


def test_helo():
    r = Receiver(hook=lambda session, verb, line: b"502 5.5.1 no\r\n" if verb == "EHLO" else None)
    assert simple(r)[0].code == 250
    assert "HELO client.example" in r.sessions[0].lines


def test_thousand_recipients():
    r = Receiver(hook=lambda session, verb, line: b"550 5.1.1 no\r\n" if verb == "RCPT" and "7@" in line else None)
    c = Client(r)
    c.ready()
    addresses = ["recipient-with-a-name-%d@there.example" % i for i in range(1000)]
    replies = c.mail(recipients=addresses)
    assert [x.code for x in replies] == [550 if "7@" in a else 250 for a in addresses]
    c.quit()
    assert len(r.messages[0].recipients) == 900


def test_all_refused():
    for features in (FEATURES, (), FEATURES + ("CHUNKING",)):
        r = Receiver(features=features,
                     hook=lambda session, verb, line: b"550-5.1.1 nobody\r\n550 5.1.1 here\r\n" if verb == "RCPT" else None)
        c = Client(r)
        c.ready()
        replies = c.mail(recipients=("x@there.example", "y@there.example"))
        assert [(x.code, x.enhanced, x.text, x.ours) for x in replies] == [(550, "5.1.1", "nobody here", 0)] * 2
        assert c.usable
        r.hook = None
        assert c.mail()[0].code == 250
        c.quit()
        assert len(r.messages) == 1


def test_data_accepted_without_recipients():
    """RFC 2920 3.1: a server may say 354 although it refused everybody."""
    def hook(session, verb, line):
        if verb == "RCPT" and not getattr(session, "done", False):
            return b"550 5.1.1 no\r\n"
        if verb == "DATA" and not session.recipients:
            session.say("354 go on")
            assert session.line() == "."
            session.done = True
            return b"554 5.5.1 nobody to send to\r\n"
        return None
    r = Receiver(hook=hook)
    c = Client(r)
    c.ready()
    assert c.mail()[0].code == 550 and c.usable
    assert c.mail()[0].code == 250
    c.quit()
    assert len(r.messages) == 1


def test_mail_refused():
    for features in (FEATURES, ()):
        r = Receiver(features=features,
                     hook=lambda session, verb, line: b"451 4.7.1 greylisted\r\n" if verb == "MAIL" else
                     b"503 5.5.1 MAIL first\r\n" if verb in ("RCPT", "DATA") and session.sender is None else None)
        c = Client(r)
        c.ready()
        replies = c.mail(recipients=("x@there.example", "y@there.example"))
        assert [(x.code, x.enhanced, x.text) for x in replies] == [(451, "4.7.1", "greylisted")] * 2, replies
        assert c.usable
        c.quit()


def test_bdat():
    r = Receiver(features=FEATURES + ("CHUNKING",))
    c = Client(r)
    c.ready()
    big = PLAIN + ".dot\n" * 100000
    assert c.mail(big)[0].code == 250 and c.mail(PLAIN)[0].code == 250
    c.quit()
    assert r.messages[0].data == wire(big) and r.messages[1].data == wire(PLAIN)
    assert any(x.startswith("BDAT") for x in c.session.lines) and "DATA" not in c.session.lines


def test_parameters():
    r = Receiver()
    c = Client(r)
    c.ready()
    c.mail("Subject: x\n\ncaf\u00e9\n", envid="id+2B1", ret="HDRS", notify=2 + 4 + 8, orcpt="rfc822;b@there.example")
    c.mail(notify=1)
    c.mail(sender="", utf8=1, recipients=("j\u00f6rg@there.example",))
    c.quit()
    lines = c.session.lines
    assert lines[1].startswith("MAIL FROM:<a@here.example> SIZE=") and \
        lines[1].endswith(" BODY=8BITMIME RET=HDRS ENVID=id+2B1"), lines
    assert lines[2] == "RCPT TO:<b@there.example> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;b@there.example"
    assert "RCPT TO:<b@there.example> NOTIFY=NEVER" in lines
    assert any(x.startswith("MAIL FROM:<> SIZE=") and x.endswith(" SMTPUTF8") for x in lines), lines


def test_no_dsn_no_size():
    r = Receiver(features=("PIPELINING",))
    c = Client(r)
    c.ready()
    c.mail(envid="x", ret="FULL", notify=2, orcpt="rfc822;b@there.example")
    c.quit()
    assert c.session.lines[1:3] == ["MAIL FROM:<a@here.example>", "RCPT TO:<b@there.example>"], c.session.lines


def test_size():
    r = Receiver(features=("SIZE 50",))
    c = Client(r)
    c.ready()
    reply = c.mail()[0]
    assert (reply.code, reply.enhanced, reply.ours) == (552, "5.3.4", 1) and c.usable
    assert c.mail("a: b\n\n")[0].code == 250
    c.quit()


def test_conversion():
    r = Receiver(features=("PIPELINING",))
    c = Client(r)
    c.ready()
    text = "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ncaf\u00e9\n"
    assert c.mail(text)[0].code == 250 and c.converted
    assert c.mail(PLAIN)[0].code == 250 and not c.converted
    c.quit()
    import email
    m = email.message_from_bytes(r.messages[0].data)
    assert m["Content-Transfer-Encoding"] == "quoted-printable"
    assert m.get_payload(decode=True).decode() == "caf\u00e9\r\n"
    assert r.messages[1].data == wire(PLAIN)


def test_utf8_report():
    """RFC 6533 4.5: a message/global that our report returns is encoded for who has no SMTPUTF8, all of it in seven bits for
    who has no 8BITMIME; of what others made it is not ours to change."""
    import email
    text = ("From: x@here.example\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n"
            "Content-Transfer-Encoding: 8bit\n\n--b\nContent-Type: text/plain; charset=utf-8\n"
            "Content-Transfer-Encoding: 8bit\n\ngr\u00fcn, says the report\n--b\nContent-Type: message/delivery-status\n\na: b\n\n--b\n"
            "Content-Type: message/global\nContent-Transfer-Encoding: 8bit\n\nSubject: gr\u00fcn\n\ngr\u00fcn\n\n--b--\n")
    inner = "Subject: gr\u00fcn\r\n\r\ngr\u00fcn\r\n".encode()
    for features, report, encoding, others in (
            (("8BITMIME", "SMTPUTF8"), 1, "8bit", "8bit"), (("8BITMIME",), 1, "quoted-printable", "8bit"),
            (("8BITMIME", "CHUNKING"), 1, "quoted-printable", "8bit"), (("8BITMIME",), 0, "8bit", "8bit"),
            (("PIPELINING",), 1, "quoted-printable", "7bit"), ((), 0, "quoted-printable", "7bit")):
        r = Receiver(features=features)
        c = Client(r)
        c.ready()
        assert c.mail(text, sender="", report=report)[0].code == 250
        c.quit()
        data = r.messages[0].data
        assert ("BODY=8BITMIME" in " ".join(r.sessions[0].lines)) == ("8BITMIME" in features), r.sessions[0].lines
        if encoding == "8bit":
            assert data == wire(text), data
            continue
        m = email.message_from_bytes(data)
        parts = data.split(b"\r\n--b")
        assert (max(data) < 128) == (others == "7bit") and m["Content-Transfer-Encoding"] == others, data
        assert ("Content-Transfer-Encoding: " + encoding).encode() in parts[3] and max(parts[3]) < 128, parts
        header, body = parts[3].split(b"\r\n\r\n", 1)
        import quopri
        assert quopri.decodestring(body) + b"\r\n" == inner + b"\r\n" or quopri.decodestring(body) == inner, body
        assert "gr\u00fcn, says" in m.get_payload()[0].get_payload(decode=True).decode()


def test_conversion_impossible():
    r = Receiver(features=("PIPELINING",))
    c = Client(r)
    c.ready()
    reply = c.mail("Content-Transfer-Encoding: x-own\n\ncaf\u00e9\n")[0]
    assert (reply.code, reply.enhanced) == (554, "5.6.3"), reply
    c.quit()


def test_utf8_refused():
    r = Receiver(features=("PIPELINING", "8BITMIME"))
    c = Client(r)
    c.ready()
    replies = c.mail(utf8=1, recipients=("b@there.example", "j\u00f6rg@there.example"))
    assert [(x.code, x.enhanced) for x in replies] == [(250, "2.0.0"), (550, "5.6.7")], replies
    assert c.mail("Subject: \u00e9\n\n", utf8=1)[0].enhanced == "5.6.7"
    c.quit()


def test_requiretls():
    r = Receiver(context=context())
    c = Client(r, tls="VERIFY", trust="mx.pem")
    assert c.ready().verified
    assert c.mail(requiretls=1)[0].enhanced == "5.7.30"
    assert c.mail(requiretls=1, sender="")[0].code == 250  # RFC 8689 5: a report is not lost by it
    c.quit()
    assert not any("REQUIRETLS" in x for x in c.session.lines)
    r = Receiver(context=context(), features=FEATURES + ("REQUIRETLS",))
    c = Client(r, tls="VERIFY", trust="mx.pem")
    c.ready()
    assert c.mail(requiretls=1)[0].code == 250
    c.quit()
    assert any(x.endswith(" REQUIRETLS") for x in c.session.lines)


# ---- TLS ----

def test_opportunistic():
    r = Receiver(context=context())
    c = Client(r, tls="MAY")
    ready = c.ready()
    assert ready.tls.startswith("TLSv1.") and not ready.verified
    big = PLAIN + "0123456789\n" * 200000
    assert c.mail(big)[0].code == 250
    c.quit()
    assert r.messages[0].data == wire(big) and c.session.tls
    assert Client(Receiver(), tls="MAY").ready().tls == ""


def test_sni():
    """The server hears which name is meant (RFC 6066 3, RFC 7672 8.1), whatever is checked; an address is no such name."""
    for host, tls, name in (("mx.example", "MAY", "mx.example"), ("mx.example", "VERIFY", "mx.example"), ("other.example", "MAY",
                            "other.example"), ("[192.0.2.1]", "MAY", None), ("[IPv6:2001:db8::1]", "MAY", None)):
        heard, server = [], context()
        server.sni_callback = lambda sock, name, _, heard=heard: heard.append(name)
        c = Client(Receiver(context=server), tls=tls, host=host, trust="mx.pem" if tls == "VERIFY" else None)
        assert c.ready().tls
        c.quit()
        assert heard == [name], (host, tls, heard)


def test_implicit():
    r = Receiver(context=context(), implicit=True)
    c = Client(r, tls="VERIFY", implicit=1, trust="mx.pem")
    assert c.ready().verified
    assert c.mail()[0].code == 250
    c.quit()


def test_no_downgrade():
    for hook in (None, lambda session, verb, line: b"454 4.7.0 not now\r\n" if verb == "STARTTLS" else None):
        c = Client(Receiver(hook=hook, context=context() if hook else None), tls="ENCRYPT")
        ready = c.ready("TALK_NO_TLS")
        assert ready.reply.code == 454 and ready.reply.enhanced == "4.7.5"
        c.end()
        assert not any(x.startswith("MAIL") for x in c.session.lines)


def test_wrong_certificate():
    for name, options in (("mx", {"trust": "other.pem"}), ("mx", {"trust": "mx.pem", "names": "else.example"}),
                          ("common", {"trust": "common.pem"})):  # a common name is no DNS-ID (RFC 8461 4.2)
        c = Client(Receiver(context=context(name)), tls="VERIFY", **options)
        ready = c.ready("TALK_NO_TLS")
        assert "certificate" in ready.reply.text, ready.reply
        c.end()


def test_dane():
    good, bad = (3, 1, 1, spki_digest("mx")), (3, 1, 1, bytes(32))
    assert Client(Receiver(context=context()), tls="DANE", tlsa=(bad, good)).ready().verified
    c = Client(Receiver(context=context()), tls="DANE", tlsa=(bad,))
    assert "certificate" in c.ready("TALK_NO_TLS").reply.text
    # Unusable records demand TLS, with any certificate (RFC 7672 2.2).
    c = Client(Receiver(context=context()), tls="DANE", tlsa=((1, 1, 1, bytes(32)), (3, 1, 9, bytes(5))))
    ready = c.ready()
    assert ready.tls and not ready.verified
    Client(Receiver(), tls="DANE", tlsa=((1, 1, 1, bytes(32)),)).ready("TALK_NO_TLS")


def test_tls_broken():
    """Opportunistic TLS that fails says so, for a retry without it; demanded TLS that fails is a failure."""
    def hook(session, verb, line):
        if verb == "STARTTLS":
            session.say("220 go")
            session.say(b"this is no TLS record at all\r\n" * 10)
            raise Hangup
        return None
    Client(Receiver(hook=hook, context=context()), tls="MAY").ready("TALK_TLS_BAD")
    Client(Receiver(hook=hook, context=context()), tls="ENCRYPT").ready("TALK_NO_TLS")


def test_injection():
    """What comes in the clear with the answer to STARTTLS is never taken for an answer inside TLS."""
    hook = lambda session, verb, line: b"220 go\r\n250 injected\r\n" if verb == "STARTTLS" else None
    c = Client(Receiver(hook=hook, context=context()), tls="MAY")
    assert "clear" in c.ready("TALK_TLS_BAD").reply.text
    c = Client(Receiver(hook=hook, context=context()), tls="ENCRYPT")
    assert "clear" in c.ready("TALK_NO_TLS").reply.text


# ---- login ----

def login(mechanisms, tls=True, secret="pass word", **options):
    r = Receiver(context=context() if tls else None, logins={"alice": "pass word", "al,i=ce": "x"}, mechanisms=mechanisms)
    for key, value in options.pop("receiver", {}).items():
        setattr(r, key, value)
    return Client(r, tls="ENCRYPT" if tls else "NONE", user=options.pop("user", "alice"), secret=secret,
                  login=options.pop("login", "PASSWORD"), **options)


def test_mechanisms():
    for mechanisms in ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN LOGIN SCRAM-SHA-256 XOAUTH2"):
        c = login(mechanisms)
        c.ready()
        assert c.session.user == "alice"
        c.quit()
        c = login(mechanisms, secret="wrong")
        reply = c.ready("TALK_NO_LOGIN").reply
        assert reply.code == 535 and not reply.ours, reply
    assert "SCRAM-SHA-256" in [x.split()[1] for x in c.session.lines if x.startswith("AUTH")]
    c = login("SCRAM-SHA-256", user="al,i=ce", secret="x", receiver={"logins": {"al=2Ci=3Dce": "x"}})  # escaped
    c.ready()
    # SASLprep (RFC 4013): what is typed in another way is the same; what no password may have never gets that far.
    logins = {"logins": {"ren\u00e9": "gru\u00df IX"}}
    c = login("SCRAM-SHA-256", user="rene\u0301", secret="gru\u00df\u00a0\u2168", receiver=logins)
    c.ready()
    assert c.session.user == "ren\u00e9"
    assert "SASLprep" in login("SCRAM-SHA-256", secret="a\x01b").ready("TALK_NO_LOGIN").reply.text


def test_binding():
    """RFC 5802 6: "y" where the channel could have been bound and that was not offered, "n" where it could not."""
    for mechanisms in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
        for tls, flag in ((True, "y,,"), (False, "n,,")):
            c = login(mechanisms, tls=tls)
            c.ready()
            assert c.session.gs2 == flag and c.session.user == "alice", (mechanisms, tls, c.session.gs2)
            c.quit()
    # Offered and not possible in the clear: the other form, which does not say that it was not offered.
    c = login("SCRAM-SHA-256-PLUS SCRAM-SHA-256", tls=False)
    c.ready()
    assert c.session.gs2 == "n,,"
    c.quit()
    # Nor is it before TLS 1.3: what such a server binds to, nobody tells.
    old = context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    c = login("SCRAM-SHA-256-PLUS SCRAM-SHA-256", receiver={"context": old})
    c.ready()
    assert c.session.gs2 == "n,,"
    c.quit()
    # Offered inside of TLS: nothing else is used (who cuts the channel in two would refuse it).
    c = login("SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN",
              receiver={"hook": lambda s_, v, l: b"535 5.7.8 no\r\n" if v == "AUTH" else None})
    c.ready("TALK_NO_LOGIN")
    line = [x for x in c.session.lines if x.startswith("AUTH")][0].split()
    assert line[1] == "SCRAM-SHA-256-PLUS" and base64.b64decode(line[2]).startswith(b"p=tls-exporter,,n=alice,r="), line


def test_token():
    c = login("XOAUTH2 PLAIN", login="TOKEN")
    c.ready()
    c.quit()
    c = login("OAUTHBEARER XOAUTH2", login="TOKEN")
    c.ready()
    assert c.session.lines[-1].startswith("AUTH OAUTHBEARER ")
    c.quit()
    login("OAUTHBEARER", login="TOKEN", user="al,i=ce", secret="x").ready()  # escaped in the header of GS2
    c = login("OAUTHBEARER", login="TOKEN", secret="old")
    assert c.ready("TALK_NO_LOGIN").reply.code == 535 and c.session.last == b"\1"
    assert login("XOAUTH2", login="TOKEN", secret="old").ready("TALK_NO_LOGIN").reply.code == 535
    assert login("PLAIN", login="TOKEN").ready("TALK_NO_LOGIN").reply.enhanced == "4.7.4"


def test_no_secret_in_the_clear():
    c = login("PLAIN LOGIN", tls=False)
    assert c.ready("TALK_NO_LOGIN").reply.ours
    assert not any("AUTH" in x for x in c.session.lines)
    login("PLAIN SCRAM-SHA-256", tls=False).ready()


def test_lying_scram():
    c = login("SCRAM-SHA-256", receiver={"lies": True})
    assert "proof" in c.ready("TALK_NO_LOGIN").reply.text
    c = login("SCRAM-SHA-256", receiver={"rounds": 1000001})
    began = time.monotonic()
    try:
        assert "sense" in c.ready("TALK_NO_LOGIN").reply.text
    finally:
        assert time.monotonic() - began < 30


# ---- hostile ----

def test_closing():
    """421 at every point."""
    for verb in ("GREETING", "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "END"):
        hook = lambda session, v, line, verb=verb: b"421 4.3.2 going down\r\n" if v == verb else None
        for features in (FEATURES, ()):
            c = Client(Receiver(features=features, hook=hook, context=context()), tls="MAY")
            if verb in ("GREETING", "EHLO", "STARTTLS"):
                ready = c.ready("TALK_REFUSED")
                assert ready.reply.code == 421 and ready.reply.text == "going down"
            else:
                c.ready()
                replies = c.mail(recipients=("x@there.example", "y@there.example"))
                assert all(x.code == 421 for x in replies) and not c.usable, (verb, replies)
                c.control.send("FRAME_RELAY_QUIT")
            c.end()


def test_closing_beside_refusal():
    """421 to one recipient says nothing final of the others, whoever stands between them."""
    hook = lambda session, v, line: b"421 4.3.2 going down\r\n" if v == "RCPT" else None
    c = Client(Receiver(features=("8BITMIME",), hook=hook))
    c.ready()
    replies = c.mail(utf8=1, recipients=("x@there.example", "j\u00f6rg@there.example", "y@there.example"))
    assert [x.code for x in replies] == [421, 550, 421], replies
    c.control.send("FRAME_RELAY_QUIT")
    c.end()


def test_drop_after_each_byte():
    """The server's side of a whole dialogue, cut behind each of its bytes: never a yes, and never two."""
    talk = [b"220 mx.example ESMTP\r\n", b"250-mx.example\r\n250 PIPELINING\r\n", b"250 2.1.0 sender ok\r\n",
            b"250 2.1.5 recipient ok\r\n", b"354 go on\r\n", b"250 2.0.0 taken\r\n"]
    total = b"".join(talk)
    for cut in range(0, len(total) + 1, 1 if os.environ.get("RELAY_EVERY_BYTE") else 3):
        c = Client(Raw(total[:cut]))
        name, r = c.control.recv()
        ready = Ready(r)
        if ready.status == T["TALK_READY"]:
            reply = c.mail()[0]
            # Yes only if the last line came whole.
            assert (reply.code == 250) == (cut == len(total)), (cut, reply)
            if cut < len(total):
                assert reply.code == 421 and reply.ours and not c.usable
            c.control.send("FRAME_RELAY_QUIT")
        else:
            assert ready.status == T["TALK_LOST"] and cut < len(talk[0]) + len(talk[1]), (cut, ready.reply)
        c.end()


class Raw:
    """A server that says something whatever it hears, then hangs up."""

    def __init__(self, data, stay=0.0):
        self.data, self.stay = data, stay

    def serve(self, sock, family=None):
        import threading

        def run():
            try:
                sock.sendall(self.data)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
                time.sleep(self.stay)
            except OSError:
                pass
            sock.close()
        threading.Thread(target=run, daemon=True).start()
        return self


def test_endless():
    """Replies that never end: given up at once, whatever the time-out."""
    class Endless(Raw):
        def serve(self, sock, family=None):
            import threading

            def run():
                try:
                    while True:
                        sock.sendall(self.data * 100)
                except OSError:
                    sock.close()
            threading.Thread(target=run, daemon=True).start()
            return self

    for data in (b"220-more\r\n", b"220 x", b"\xff\xfe\x00", b"\n", b"250 ok\r\n"):
        c = Client(Endless(data))
        name, r = c.control.recv()
        ready = Ready(r)
        if data == b"250 ok\r\n":  # 250 is no greeting that we insist on; answers before questions are believed to nobody
            if ready.status == T["TALK_READY"]:
                c.mail()
                c.control.send("FRAME_RELAY_QUIT")
        else:
            assert ready.status == T["TALK_LOST"], (data, ready.reply)
        c.end()


def test_stalls():
    """Each answer held back, and each answer byte by byte for ever: the time-out is that of the whole answer."""
    def hold(at):
        def hook(session, verb, line):
            if verb == at:
                time.sleep(30)
                raise Hangup
            return None
        return hook

    def dribble(at):
        def hook(session, verb, line):
            if verb == at:
                for _ in range(300):
                    drip(session, b"250-a\r\n", 0.1)
            return None
        return hook

    # Two hundredths of RFC 5321 4.5.3.2: 300 s, for DATA 120, for the end 600.
    seconds = {"GREETING": 6, "EHLO": 6, "MAIL": 6, "RCPT": 6, "DATA": 2.4, "END": 12}

    def one(hook, verb):
        began = time.monotonic()
        c = Client(Receiver(hook=hook, features=("PIPELINING",)), percent=2)
        if verb in ("GREETING", "EHLO"):
            assert "timed out" in c.ready("TALK_LOST").reply.text
        else:
            c.ready()
            reply = c.mail()[0]
            assert reply.code == 421 and reply.enhanced == "4.4.2" and "timed out" in reply.text, (verb, reply)
        took = time.monotonic() - began
        assert seconds[verb] <= took + 0.05 and took < seconds[verb] + 15, (verb, took)
        c.control.close()
        c.process.wait(60)

    def one_of_some(hook, verb):
        """On a busy machine the answer in front of the one that is held back may come too late."""
        for _ in range(4):
            try:
                return one(hook, verb)
            except AssertionError:
                pass
        return one(hook, verb)

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        for job in [pool.submit(one_of_some, make(verb), verb) for make in (hold, dribble)
                    for verb in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END")]:
            job.result()


def test_stall_in_tls():
    def hook(session, verb, line):
        if verb == "STARTTLS":
            session.say("220 go")
            time.sleep(30)
        return None
    c = Client(Receiver(hook=hook, context=context()), tls="ENCRYPT", percent=2)
    assert "timed out" in c.ready("TALK_NO_TLS").reply.text.lower()


def test_takes_nothing():
    """A server that stops reading in the middle of a message."""
    def hook(session, verb, line):
        if verb == "DATA":
            session.say("354 go on")
            time.sleep(30)
        return None
    c = Client(Receiver(features=(), hook=hook), percent=3)
    c.ready()
    reply = c.mail(PLAIN + "x" * 70 + "\n" + "0123456789\n" * 1000000)[0]
    assert reply.code == 421, reply
    c.control.close()


def test_hangs_up_in_the_message():
    """The reason that the server gave before it hung up is the one that is reported."""
    def hook(session, verb, line):
        if verb == "DATA":
            session.say("354 go on")
            session.count(1000)
            session.say("552 5.3.4 too much")
            time.sleep(1)
            session.sock.shutdown(socket.SHUT_RDWR)
            raise Hangup
        return None
    c = Client(Receiver(features=(), hook=hook))
    c.ready()
    reply = c.mail(PLAIN + "0123456789\n" * 1000000)[0]
    assert reply.code in (552, 421) and not c.usable, reply
    # A yes in the middle of the message is none.
    hook2 = lambda session, verb, line: [b"354 go on\r\n", b"250 2.0.0 taken\r\n"] if verb == "DATA" else None
    c = Client(Receiver(hook=hook2))
    c.ready()
    c.mail()
    c.control.close()


def test_answers_before_questions():
    """A server that says yes to everything in advance gets its message, and nothing breaks."""
    c = Client(Raw(b"220 x\r\n250 x\r\n" + b"250 2.0.0 ok\r\n" * 50, stay=1))
    c.ready()
    c.mail()
    c.control.close()
    assert c.process.wait(60) in (0, 74)


def test_nonsense():
    for verb, answer in (("MAIL", b"354 what\r\n"), ("RCPT", b"334 what\r\n"), ("DATA", b"250 done\r\n"),
                         ("END", b"354 more\r\n"), ("DATA", b"299 x\r\n")):
        hook = lambda session, v, line, verb=verb, answer=answer: answer if v == verb else None
        for features in ((), ("PIPELINING",)):
            c = Client(Receiver(features=features, hook=hook))
            c.ready()
            reply = c.mail()[0]
            assert reply.code == 451 and reply.enhanced == "4.5.0", (verb, reply)
            c.control.close()
            c.process.wait(60)
    c = Client(Receiver(hook=lambda s_, v, l: b"554 5.3.2 no mail here\r\n" if v == "GREETING" else None))
    assert c.ready("TALK_REFUSED").reply.code == 554


def test_too_many_recipients():
    hook = lambda session, verb, line: b"552 too many recipients\r\n" if verb == "RCPT" and session.recipients else None
    c = Client(Receiver(hook=hook))
    c.ready()
    replies = c.mail(recipients=("x@there.example", "y@there.example"))
    assert [(x.code, x.enhanced) for x in replies] == [(250, "2.0.0"), (452, "4.5.3")]
    c.quit()


# ---- relay's side ----

def test_bad_frames():
    """What relay would never say ends the program."""
    for address in ("b@there.example>\r\nRCPT TO:<c@there.example", "b c@there.example", "", "b@there.example> SIZE=1"):
        c = Client(Receiver())
        c.ready()
        try:
            c.mail(recipients=(address,))
        except AssertionError:
            pass
        else:
            raise AssertionError(address)
        assert c.process.wait(60) == 76
        assert not any(x.startswith("RCPT") for x in c.session.lines)


def test_confined():
    """Who runs: its own account, nothing left to do damage with."""
    if os.getuid() != 0:
        return
    c = Client(Receiver())
    c.ready()
    with open("/proc/%d/status" % c.process.pid, encoding="ascii") as f:
        status = dict(x.split(":\t", 1) for x in f.read().splitlines() if ":\t" in x)
    import pwd
    assert status["Uid"].split()[0] == str(pwd.getpwnam("pennypost-relay").pw_uid)
    assert int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"] == "1"
    if "asan" not in PROGRAM:
        assert status["Seccomp"] == "2"
    assert os.listdir("/proc/%d/root" % c.process.pid) == []
    c.quit()


def main():
    make_certificates()
    tests = Tests()
    for name, function in list(globals().items()):
        if name.startswith("test_"):
            tests.run(function)
    shutil.rmtree(FOLDER)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
