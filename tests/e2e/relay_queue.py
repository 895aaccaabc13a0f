#!/usr/bin/env python3
"""relay and its programs with a queue made by this test and servers that this test plays, on loopback.

    relay_queue.py BUILD-DIR [TEST...]

Closes with "N passed, N failed".
"""
import email
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from frames import T, Tests
from receiver import FEATURES, Hangup, Receiver
from world import wait_until

BUILD = sys.argv[1]
RELAY = os.path.join(BUILD, "handlers/relay/relay")
FOLDER = tempfile.mkdtemp(prefix="pennypost-queue-")
PLAIN = "From: a@here.example\nSubject: hello\n\nOne line.\n"
serial = 0


def quote(text):
    return "".join("%%%02X" % ord(c) if ord(c) < 32 or c == "%" else c for c in text)


class Queue:
    """A queue folder and the options of its runs."""

    def __init__(self, **options):
        self.folder = tempfile.mkdtemp(dir=FOLDER, prefix="q")
        os.chmod(self.folder, 0o700)
        for name in ("msg", "new", "cur", "corrupt"):
            os.mkdir(os.path.join(self.folder, name), 0o700)
        for name in ("routes", "policy", "credentials"):
            self.file(name, "")
        self.options = {"hostname": "here.example", "queue": self.folder, "relay_routes": self.path("routes"),
                        "tls_policy": self.path("policy"), "relay_credentials": self.path("credentials"),
                        "retry_min": "1", "retry_max": "1", "aliases": self.path("aliases")}
        self.options.update(options)

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, name, text, mode=0o600):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.path(name), mode)

    def add(self, *recipients, text=PLAIN, sender="a@here.example", age=0, folder="new", **fields):
        """A message; recipients are addresses or lists of further lines. Returns its id."""
        global serial
        serial += 1
        name = "T%06d" % serial
        with open(os.path.join(self.folder, "msg", name), "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        lines = ["pennypost-envelope 1", "created %d" % (time.time() - age), "sender " + quote(sender)]
        lines += ["%s %s" % (k.replace("_", "-"), v) for k, v in fields.items()]
        for r in recipients:
            one = [r] if isinstance(r, str) else r
            lines += ["to " + quote(one[0])] + one[1:]
        with open(os.path.join(self.folder, "tmp"), "w", encoding="utf-8") as f:
            f.write("\n".join(lines + ["end"]) + "\n")
        os.rename(os.path.join(self.folder, "tmp"), os.path.join(self.folder, folder, name))
        return name

    def argv(self, *arguments, **options):
        words = [RELAY]
        for key, value in {**self.options, **options}.items():
            words += ["-o", "%s=%s" % (key, value)]
        return words + list(arguments)

    def start(self, *arguments, **options):
        return subprocess.Popen(self.argv(*arguments, **options), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def run(self, *arguments, status=0, timeout=600, **options):
        done = subprocess.run(self.argv(*arguments, **options), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              timeout=timeout, check=False)
        self.log = done.stderr.decode()
        assert done.returncode == status, (done.returncode, self.log)
        assert not os.listdir(self.path("new")), "new/ is not empty"
        return self.log

    def entry(self, name):
        """The envelope as a list of (key, value), None: it has gone."""
        for folder in ("new", "cur"):
            try:
                with open(os.path.join(self.folder, folder, name), encoding="utf-8") as f:
                    return [tuple(x.split(" ", 1)) for x in f.read().splitlines() if " " in x]
            except FileNotFoundError:
                pass
        assert not os.path.exists(os.path.join(self.folder, "msg", name))
        return None

    def states(self, name):
        """{recipient: (state, reply)}"""
        out, at = {}, None
        for key, value in self.entry(name) or []:
            if key == "to":
                at = value
                out[at] = ["pending", ""]
            elif key == "to-state":
                out[at][0] = value
            elif key == "to-reply":
                out[at][1] = value
        return out

    def ids(self):
        return sorted(os.listdir(self.path("new")) + os.listdir(self.path("cur")))

    def left(self):
        """Files of messages behind the end of all of them. What a run that was killed has half written goes a day later."""
        if os.listdir(self.path("msg")):
            self.run("--epoch=%d" % (time.time() + 2 * 86400))
        return ["%s/%s" % (f, n) for f in ("msg", "new", "cur", "corrupt") for n in os.listdir(self.path(f))]


def hop(receiver, **options):
    """A queue whose relayhost is this receiver."""
    return Queue(relayhost="127.0.0.1:%d" % receiver.listen("127.0.0.1", 0), **options)


# ---- the main way ----

def test_sent():
    r = Receiver()
    q = hop(r)
    names = [q.add("b%d@there.example" % i, "c@there.example") for i in range(5)]
    log = q.run()
    assert [q.entry(n) for n in names] == [None] * 5 and os.listdir(q.path("msg")) == []
    assert len(r.messages) == 5 and all(len(m.recipients) == 2 for m in r.messages)
    assert len(r.sessions) == 1, "one connection for all"
    assert log.count("sent ") == 10, log


def test_nothing_to_do():
    began = time.monotonic()
    Queue(relayhost="127.0.0.1:1").run()
    assert time.monotonic() - began < 60


def test_refused_and_deferred():
    def hook(session, verb, line):
        if verb == "RCPT" and "none@" in line:
            return b"550 5.1.1 nobody\r\n"
        if verb == "RCPT" and "later@" in line:
            return b"450 4.2.1 come back\r\n"
        return None
    r = Receiver(hook=hook)
    q = hop(r, retry_min="1h", retry_max="1h")
    name = q.add("good@there.example", "none@there.example", "later@there.example")
    q.run()
    states = q.states(name)
    assert states["good@there.example"][0] == "relayed" and states["none@there.example"] == \
        ["failed", "550 5.1.1 nobody"] and states["later@there.example"] == ["deferred", "450 4.2.1 come back"], states
    r.hook = None
    q.run()
    assert len(r.messages) == 1, "not before its time"
    q.run("--domain", "elsewhere.example")
    assert len(r.messages) == 1
    q.run("--domain", "there.example")
    assert [m.recipients for m in r.messages] == [["good@there.example"], ["later@there.example"]]
    assert q.entry(name) is None


def test_match_and_hold():
    r = Receiver()
    q = hop(r)
    q.add("x@one.example", folder="cur", next_attempt="0")
    held = q.add("x@two.example", held="yes")
    q.run("--match", "ONE.ex")
    assert [m.recipients for m in r.messages] == [["x@one.example"]] and q.ids() == [held]
    q.run("--all")
    assert q.ids() == [held]


def test_unreachable():
    q = Queue(relayhost="127.0.0.1:1", retry_min="1h", retry_max="1h")
    names = [q.add("b@there.example") for _ in range(20)]
    log = q.run()
    assert all(q.states(n)["b@there.example"][0] == "deferred" for n in names)
    assert log.count("unreachable ") == 1, log
    # The memory: new mail for it is not even tried.
    q.run("--all")
    name = q.add("b@there.example")
    log = q.run()
    assert "unreachable" not in log and q.states(name)["b@there.example"][0] == "deferred", log
    # Until somebody says so, or it is back.
    r = Receiver()
    q.options["relayhost"] = "127.0.0.1:%d" % r.listen("127.0.0.1", 0)
    q.run("--all")
    assert len(r.messages) == 21 and q.ids() == []


def test_expired():
    q = Queue(relayhost="127.0.0.1:1", queue_lifetime="1h")
    name = q.add("b@there.example", age=7200, sender="")
    # The first try is not the last, whatever the clock says: this machine may have been off all the time.
    assert "expired " not in q.run() and q.states(name)["b@there.example"][0] == "deferred"
    log = q.run("--all")
    assert q.entry(name) is None and "expired " in log and not os.listdir(q.path("corrupt")), log


def test_login_and_tls():
    cert = os.path.join(FOLDER, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", cert + ".key", "-out", cert, "-days", "30", "-subj", "/CN=x", "-addext",
                    "subjectAltName=IP:127.0.0.1,DNS:smart.example"], check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, cert + ".key")
    r = Receiver(context=context, logins={"alice": "pass word"})
    q = hop(r, tls_ca=cert)
    q.file("policy", "127.0.0.1 verify smart.example\n")
    q.file("credentials", "127.0.0.1 alice pass word\n")
    q.add("b@there.example")
    log = q.run()
    assert len(r.messages) == 1 and r.messages[0].session.user == "alice" and "verified=yes" in log, log
    # Not for everybody's eyes.
    q.file("credentials", "127.0.0.1 alice pass word\n", mode=0o644)
    q.run(status=77)
    # A wrong certificate: the password is not told, the mail waits.
    q.file("credentials", "127.0.0.1 alice pass word\n")
    q.file("policy", "")
    q.options["tls_ca"] = "/etc/ssl/certs/ca-certificates.crt"
    name = q.add("b@there.example")
    q.run()
    assert q.states(name)["b@there.example"][1].startswith("454 4.7.5"), q.states(name)
    assert len(r.messages) == 1 and not any(s.user for s in r.sessions[1:])
    # A systemd credential counts before the file.
    r.logins["bob"] = "secret"
    q.options["tls_ca"] = cert
    q.file("policy", "127.0.0.1 verify smart.example\n")
    os.mkdir(q.path("systemd"), 0o700)
    q.file("systemd/relay_credentials", "127.0.0.1 bob secret\n", mode=0o400)
    os.environ["CREDENTIALS_DIRECTORY"] = q.path("systemd")
    try:
        q.run("--all")
    finally:
        del os.environ["CREDENTIALS_DIRECTORY"]
    assert q.ids() == [] and r.messages[-1].session.user == "bob", q.log


def test_implicit_tls():
    """smtps://, and the port of a relayhost that wants a login without another one."""
    cert = os.path.join(FOLDER, "cert.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, cert + ".key")
    r = Receiver(context=context, implicit=True, logins={"alice": "pass word"}, mechanisms="SCRAM-SHA-256")
    q = Queue(relayhost="smtps://127.0.0.1:%d" % r.listen("127.0.0.1", 0), tls_ca=cert)
    q.file("credentials", "127.0.0.1 alice pass word\n")
    q.add("b@there.example")
    log = q.run()
    assert len(r.messages) == 1 and r.messages[0].session.user == "alice" and "verified=yes" in log, log
    # It speaks in the clear what it hears: nothing is told to who has no TLS.
    plain = Receiver(logins={"alice": "pass word"})
    for scheme in ("smtps://", ""):
        q.options["relayhost"] = "%s127.0.0.1:%d" % (scheme, plain.listen("127.0.0.1", 0))
        name = q.add("c@there.example")
        q.run(relay_timeouts="2")
        assert q.states(name)["c@there.example"][0] == "deferred" and not plain.messages, q.log
        assert not any("AUTH" in l or "pass" in l for s in plain.sessions for l in s.lines), [s.lines for s in plain.sessions]


def test_backoff():
    """The wait grows with the age of the message between retry_min and retry_max, and no two are tried together for ever."""
    q = Queue(relayhost="127.0.0.1:1", retry_min="5m", retry_max="4h")
    for age, wait in ((0, 300), (200, 300), (1200, 1200), (7200, 7200), (100000, 4 * 3600)):
        began = time.time()
        names = [q.add("b@there.example", age=age, sender="") for _ in range(20)]
        before = time.time()
        q.run()
        times = [int(dict(q.entry(n))["to-next-attempt"]) for n in names]
        after = time.time()  # they have got older meanwhile
        assert min(times) >= before + wait * 0.9 - 1, (age, wait, before, times)
        assert max(times) <= after + (wait + after - began + 2) * 1.1, (age, wait, after - began, times)
        assert len(set(times)) > 5, times
        assert all(dict(q.entry(n))["next-attempt"] == dict(q.entry(n))["to-next-attempt"] for n in names)


def test_routes():
    one, two, three = Receiver(name="one.example"), Receiver(name="two.example"), Receiver(name="three.example")
    q = hop(one)
    q.file("routes", "# routes\n.two.example [127.0.0.1]:%d\nfrom:@sender.example 127.0.0.1:%d\n" %
           (two.listen("127.0.0.1", 0), three.listen("127.0.0.1", 0)))
    q.add("x@one.example", "x@two.example", "x@sub.two.example")
    q.add("x@two.example", sender="y@sender.example")
    q.run()
    assert [sorted(m.recipients) for m in one.messages] == [["x@one.example"]]
    assert [sorted(m.recipients) for m in two.messages] == [["x@sub.two.example", "x@two.example"]]
    assert [sorted(m.recipients) for m in three.messages] == [["x@two.example"]]


def test_sender_of_recipients():
    r = Receiver()
    q = hop(r)
    q.add("x@there.example", ["y@there.example", "to-sender owner@here.example"], "z@there.example")
    q.run()
    seen = sorted((m.sender, len(m.recipients)) for m in r.messages)
    assert seen == [("a@here.example", 2), ("owner@here.example", 1)], (seen, q.log)


def test_too_many_recipients():
    hook = lambda s, verb, line: b"452 4.5.3 too many\r\n" if verb == "RCPT" and len(s.recipients) >= 10 else None
    r = Receiver(hook=hook)
    q = hop(r)
    name = q.add(*["r%d@there.example" % i for i in range(250)])
    q.run()
    assert q.entry(name) is None and sum(len(m.recipients) for m in r.messages) == 250
    assert len({a for m in r.messages for a in m.recipients}) == 250


# ---- reports ----

def spool():
    """A folder of mailboxes as Debian has it."""
    folder = tempfile.mkdtemp(dir=FOLDER)
    os.chmod(FOLDER, 0o755)
    shutil.chown(folder, "root", "mail")
    os.chmod(folder, 0o2775)
    return folder


def parse(data):
    """A report: (its recipients' fields, the first part, the type of the third)."""
    m = email.message_from_bytes(data)
    assert m.get_content_type() == "multipart/report" and m.get_param("report-type") == "delivery-status", m
    parts = m.get_payload()
    fields = parts[1].get_payload()
    return fields[1:], parts[0].get_payload(decode=True).decode(), parts[2].get_content_type()


def test_bounce():
    """A failure goes back to the sender by the same ways, from the null path; it is never answered by another one."""
    def hook(session, verb, line):
        return b"550 5.1.1 nobody of that name\r\n" if verb == "RCPT" and "none@" in line else None
    r = Receiver(hook=hook)
    q = hop(r)
    q.add("none@there.example", "good@there.example", sender="a@away.example")
    q.run()
    q.run("--all")
    report = [m for m in r.messages if m.sender == ""][0]
    fields, text, third = parse(report.data)
    assert report.recipients == ["a@away.example"] and len(r.messages) == 2 and q.ids() == []
    assert len(fields) == 1 and fields[0]["Action"] == "failed" and fields[0]["Status"] == "5.1.1", fields
    assert fields[0]["Final-Recipient"] == "rfc822; none@there.example" or "none@there.example" in fields[0]["Final-Recipient"]
    assert "nobody of that name" in fields[0]["Diagnostic-Code"] and "none@there.example" in text
    # A report that fails goes to postmaster, and no further.
    r.messages.clear()
    q.options["aliases"] = q.path("aliases")
    q.file("aliases", "postmaster: boss@away.example\n", 0o644)
    q.add("none@there.example", sender="")
    for _ in range(3):
        q.run("--all")
    assert [(m.sender, m.recipients) for m in r.messages] == [("", ["boss@away.example"])], \
        [(m.sender, m.recipients) for m in r.messages]
    r.hook = lambda s, verb, line: b"550 5.1.1 no\r\n" if verb == "RCPT" else None
    q.add("none@there.example", sender="")
    for _ in range(3):
        q.run("--all")
    assert q.ids() == [] and len(r.messages) == 1


def test_success_reports():
    """Asked for, and the next hop knows of DSN: the duty is its. If not, we say `relayed` (RFC 3461 5.2.2)."""
    for features, count in ((FEATURES, 1), (("PIPELINING",), 2)):
        r = Receiver(features=features)
        q = hop(r)
        q.add(["b@there.example", "to-notify 2"], sender="a@away.example", envid="x1")
        q.run()
        q.run("--all")
        assert len(r.messages) == count, (features, len(r.messages))
        if count == 2:
            assert parse(r.messages[1].data)[0][0]["Action"] == "relayed"


def test_aliases_and_lists():
    """RFC 3461 5.2.7: one place tells for its alias, several do not, and a list's members get nothing of what was asked."""
    r = Receiver()
    q = hop(r, spool=spool())
    q.file("aliases", "one: alice\ntwo: alice, bob@away.example\nlist: x@away.example\nowner-list: alice\n", 0o644)
    for name, told in (("alice", ("delivered", "alice")), ("one", ("delivered", "one")), ("two", ("expanded", "two")),
                       ("list", ("delivered", "list"))):
        r.messages.clear()
        r.sessions.clear()
        q.add(["%s@here.example" % name, "to-notify 6", "to-orcpt rfc822;%s@old.example" % name], sender="a@away.example",
              envid="x1", ret="hdrs")
        for _ in range(3):
            q.run("--all")
        reports = [f for m in r.messages if m.sender == "" for f in parse(m.data)[0]]
        got = [(f["Action"], f["Final-Recipient"], f["Original-Recipient"]) for f in reports]
        assert got == [(told[0], "rfc822; %s@here.example" % told[1], "rfc822; %s@old.example" % name)], (name, got)
        lines = [l for s in r.sessions for l in s.lines if l.startswith(("MAIL FROM:<", "RCPT")) and
                 not l.startswith(("MAIL FROM:<>", "RCPT TO:<a@away.example>"))]
        if name == "two":
            assert "ENVID=x1" in lines[0] and "RET=HDRS" in lines[0], lines
            assert lines[1].endswith(" NOTIFY=FAILURE ORCPT=rfc822;two@old.example"), lines
        if name == "list":
            assert lines[0].startswith("MAIL FROM:<owner-list@here.example>") and lines[1] == "RCPT TO:<x@away.example>", lines
            assert "ENVID" not in lines[0] and "RET" not in lines[0], lines


def test_owner_is_told():
    """RFC 3461 5.2.7.1 (b): what a list sends out is another message, and its failures go to the owner without the envelope
    id, the wish for headers only and the recipient's name of the first one; the sender's other recipients keep them."""
    r = Receiver()
    r.hook = lambda s, verb, line: b"550 5.1.1 no\r\n" if line.startswith(("RCPT TO:<x@", "RCPT TO:<y@")) else None
    q = hop(r, spool=spool())
    q.file("aliases", "list: x@away.example\nowner-list: boss@away.example\n", 0o644)
    for sender, told in (("a@away.example", ("boss@away.example", "a@away.example")), ("", ("chief@away.example",) * 2)):
        r.messages.clear()
        q.file("aliases", "list: x@away.example\nowner-list: boss@away.example\npostmaster: chief@away.example\n", 0o644)
        q.add(["list@here.example", "to-orcpt rfc822;list@old.example"], "y@there.example", sender=sender, envid="x1", ret="hdrs")
        for _ in range(4):
            q.run("--all")
        got = {}
        for m in r.messages:
            parts = email.message_from_bytes(m.data).get_payload()
            per_message, fields = parts[1].get_payload()[0], parts[1].get_payload()[1:]
            got[fields[0]["Final-Recipient"]] = (m.recipients, per_message["Original-Envelope-Id"], parts[2].get_content_type())
            assert len(fields) == 1 and "Original-Recipient" not in fields[0], fields
        assert got == {"rfc822; x@away.example": ([told[0]], None, "message/rfc822"),
                       "rfc822; y@there.example": ([told[1]], "x1", "text/rfc822-headers")}, got


def test_alias_of_alias():
    """RFC 3461 6.3 (d): the next hop hears whom the sender meant (5.2.1), he does not, he gave no ORCPT. 5.2.7.1: what a
    list led to stays so behind an alias of ours."""
    r = Receiver()
    r.hook = lambda s, verb, line: b"550 5.1.1 no\r\n" if line.startswith("RCPT TO:<x@") else None
    q = hop(r, spool=spool())
    q.file("aliases", "one: x@away.example\n", 0o644)
    for lines in ([], ["to-orcpt rfc822;old@here.example", "to-orcpt-ours yes"], ["to-list yes"]):
        r.messages.clear()
        r.sessions.clear()
        q.add(["one@here.example"] + lines, sender="a@away.example", envid="x1", ret="hdrs")
        for _ in range(3):
            q.run("--all")
        fields = [f for m in r.messages for f in parse(m.data)[0]]
        assert [f["Final-Recipient"] for f in fields] == ["rfc822; x@away.example"] and "Original-Recipient" not in fields[0], fields
        sent = [l for s in r.sessions for l in s.lines]
        rcpt = next(l for l in sent if l.startswith("RCPT TO:<x@"))
        assert rcpt.endswith(" ORCPT=rfc822;%s@here.example" % ("old" if lines[1:] else "one")), rcpt
        mail = sent[sent.index(rcpt) - 1]
        assert ("ENVID" in mail, "RET" in mail) == (lines != ["to-list yes"],) * 2, mail


def test_many_messages():
    """More than one connection carries: none of them waits for the next run."""
    r = Receiver()
    q = hop(r, relay_connections_per_destination="1")
    total = 1010  # MESSAGES_MAX of relay-session is 1000
    for i in range(total):
        q.add("b%d@there.example" % i)
    q.run()
    assert q.ids() == [] and len(r.messages) == total and len(r.sessions) == 2, (len(q.ids()), len(r.sessions))
    assert "relay-session ended" not in q.log
    # The last one that a connection takes, of which the server takes one recipient at a time: the others get a new one.
    r.hook = lambda s, verb, line: b"452 4.5.3 one\r\n" if verb == "RCPT" and s.recipients else None
    r.messages.clear()
    r.sessions.clear()
    for i in range(999):
        q.add("b%d@there.example" % i)
    q.add("last@there.example", "other@there.example", priority="-5")
    q.run()
    assert q.ids() == [] and len(r.messages) == 1001 and len(r.sessions) == 2, (q.ids(), len(r.messages), len(r.sessions))
    assert not re.search("deferred|unreachable|courier-ended", q.log), q.log


def test_broken_connection():
    """A server with one address that hangs up at one message says nothing of the others, which get a connection each."""
    def hook(session, verb, line):
        if verb == "RCPT" and "poison@" in line:
            raise Hangup
    r = Receiver(hook=hook)
    q = hop(r, relay_connections_per_destination="1")
    bad = q.add("poison@there.example", priority="5")
    for i in range(3):
        q.add("b%d@there.example" % i)
    q.run()
    assert q.ids() == [bad] and len(r.messages) == 3 and len(r.sessions) == 2, (q.ids(), len(r.sessions), q.log)
    assert q.states(bad)["poison@there.example"][1].startswith("421 4.4.2 connection lost"), q.states(bad)
    assert "courier-ended" not in q.log, q.log


def test_broken_every_time():
    """A server that greets and then breaks off whatever it is given is down after a few connections, not after as many as
    there are messages; nothing is lost, and the next run knows."""
    def hang_up(session, verb, line):
        if verb == "RCPT":
            raise Hangup

    def hang_up_later(session, verb, line):
        if verb == "END":
            raise Hangup
    for hook in (lambda s, verb, line: b"421 4.3.2 going down\r\n" if verb == "MAIL" else None, hang_up, hang_up_later):
        for most in ("1", "5"):
            r = Receiver(hook=hook)
            q = hop(r, relay_connections_per_destination=most, retry_min="1h", retry_max="1h")
            names = [q.add("b%d@there.example" % i) for i in range(50)]
            q.run()
            assert len(r.sessions) <= 2 + int(most) and q.ids() == sorted(names), (len(r.sessions), q.log[-2000:])
            assert all(q.states(n)["b%d@there.example" % i][0] == "deferred" for i, n in enumerate(names))
            assert q.log.count("unreachable ") == 1 and "courier-ended" not in q.log, q.log
            # The memory, which a greeting does not wipe out: the wait gets longer.
            r.sessions.clear()
            names.append(q.add("b50@there.example"))
            q.run()
            assert not r.sessions and q.states(names[50])["b50@there.example"][1].startswith("421 4.4.2 "), q.log
            q.run("--all")
            with open(q.path("destinations"), encoding="utf-8") as f:
                assert f.read().split(" ")[1] == "2"
            assert 1 <= len(r.sessions) <= 2 + int(most), len(r.sessions)
            # It is back.
            r.hook = None
            q.run("--all")
            assert q.ids() == [] and sorted(m.recipients[0] for m in r.messages) == sorted("b%d@there.example" % i for i in range(51))
            with open(q.path("destinations"), encoding="utf-8") as f:
                assert f.read() == ""


def test_broken_by_some():
    """Messages at which a server breaks off, more of them than it takes to be down: those behind them go all the same."""
    def hook(session, verb, line):
        if verb == "RCPT" and "poison" in line:
            raise Hangup
    r = Receiver(hook=hook)
    q = hop(r, relay_connections_per_destination="1")
    bad = [q.add("poison%d@there.example" % i, priority="5") for i in range(6)]
    bad.append(q.add(*["poison%d@there.example" % i for i in range(350)], priority="6"))
    for i in range(20):
        q.add("b%d@there.example" % i)
    q.run()
    assert q.ids() == sorted(bad) and len(r.messages) == 20, (q.ids(), len(r.messages), q.log[-2000:])


def test_couriers_go_on():
    """One process after the other's destination, and none of the last one's: addresses, logins, failures."""
    rs = [Receiver(name="mx%d.example" % i) for i in range(6)]
    rs[3].hook = lambda s, verb, line: b"554 no\r\n" if verb == "GREETING" else None
    q = Queue(relay_connections="1")
    ports = [r.listen("127.0.0.1", 0) for r in rs]
    q.file("routes", "".join("d%d.example 127.0.0.1:%d\n" % (i, p) for i, p in enumerate(ports)) + "gone.example 127.0.0.1:1\n")
    names = [q.add("x@d%d.example" % i) for i in range(6)] + [q.add("x@gone.example")]
    trace = q.path("trace")
    done = subprocess.run(["strace", "-f", "-o", trace, "-e", "trace=execve"] + q.argv(), stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert [[m.recipients for m in r.messages] for r in rs] == [[] if i == 3 else [["x@d%d.example" % i]] for i in range(6)]
    assert sorted(q.ids()) == sorted([names[3], names[6]]), q.ids()
    with open(trace, encoding="utf-8", errors="replace") as f:
        assert f.read().count("/relay-courier\"") == 1


def test_delay_warning():
    r = Receiver(hook=lambda s, verb, line: b"451 4.3.0 not now\r\n" if verb == "RCPT" and "slow@" in line else None)
    q = hop(r)
    name = q.add("slow@there.example", sender="a@away.example", age=5 * 3600)
    for _ in range(3):
        q.run("--all")
    assert [m.recipients for m in r.messages] == [["a@away.example"]] and q.ids() == [name]
    assert parse(r.messages[0].data)[0][0]["Action"] == "delayed"


# ---- hostile ----

def test_crash_in_the_middle():
    """A server that hangs up at any point: nothing lost, nothing doubled, the other messages go."""
    for verb in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END"):
        seen = []

        def hook(session, v, line, verb=verb, seen=seen):
            if v == verb and not seen:
                seen.append(1)
                raise Hangup
            return None
        r = Receiver(hook=hook)
        q = hop(r)
        for _ in range(3):
            q.add("b@there.example")
        q.run()
        time.sleep(1.1)
        q.run("--all")
        assert q.ids() == [] and len(r.messages) == 3, (verb, q.ids(), len(r.messages))


def test_stall_does_not_hold_others():
    def hook(session, verb, line):
        time.sleep(60)
        raise Hangup
    bad, good = Receiver(hook=hook), Receiver()
    q = hop(good, relay_timeouts="5", relay_connections="2")
    q.file("routes", "bad.example 127.0.0.1:%d\n" % bad.listen("127.0.0.1", 0))
    name = q.add("x@bad.example", "x@good.example")
    q.add("y@good.example")
    q.run()
    assert len(good.messages) == 2 and q.states(name)["x@bad.example"][0] == "deferred"


def test_many_stall():
    """More servers than there are connections say nothing: those that answer do not wait for them."""
    bad, good = [Receiver(hook=lambda s, verb, line: time.sleep(90)) for _ in range(5)], Receiver()
    q = Queue(relay_timeouts="20", relay_connections="2")  # 60 s for the greeting; slow is who needs more than 6
    q.file("routes", "".join("bad%d.example 127.0.0.1:%d\n" % (i, r.listen("127.0.0.1", 0)) for i, r in enumerate(bad)) +
           "good.example 127.0.0.1:%d\n" % good.listen("127.0.0.1", 0))
    for i in range(5):
        q.add("x@bad%d.example" % i, age=100 - i)
    for i in range(10):
        q.add("y%d@good.example" % i)
    p, began = q.start(), time.monotonic()
    seen = lambda: (len(good.messages), sum(len(r.sessions) for r in bad))
    while seen() != (10, 5) and time.monotonic() < began + 90:
        time.sleep(0.05)
    assert seen() == (10, 5) and time.monotonic() < began + 57, (seen(), time.monotonic() - began)
    p.kill()
    p.wait()


def at(verb, *answers, then=None):
    """A hook that says these bytes there, and hangs up if told so."""
    def hook(session, v, _):
        if v != verb:
            return None
        for a in answers:
            session.sock.sendall(a)
        if then:
            raise then
        return []
    return hook


HOSTILE = {  # what it does: hook, and what becomes of the recipient
    "stalls": (lambda s, v, l: time.sleep(20), "deferred"),
    "hangs-up": (lambda s, v, l: (_ for _ in ()).throw(Hangup), "deferred"),
    "hangs-up-after-data": (at("END", then=Hangup), "deferred"),
    "half-an-answer": (at("MAIL", b"25", then=Hangup), "deferred"),
    "never-ends": (at("GREETING", b"220-and so on\r\n" * 100000, then=Hangup), "deferred"),
    "never-ends-a-line": (at("EHLO", b"250 " + b"x" * 1000000, then=Hangup), "deferred"),
    "garbage": (at("GREETING", bytes(range(128, 256)) * 50 + b"\r\n"), "deferred"),
    "garbage-in-a-reply": (at("RCPT", b"550 5.1.1 " + bytes(range(128, 256)) + b"\x1b[2J\0\r\n"), "failed"),
    "http": (at("GREETING", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", then=Hangup), "deferred"),
    "lies-about-data": (at("DATA", b"250 2.0.0 I have it already\r\n"), "deferred"),
    "lies-about-recipients": (at("RCPT", b"354 send it\r\n"), "deferred"),
    "redirects": (at("RCPT", b"551 5.1.6 not here, try <victim@good.example>\r\n"), "failed"),
    "says-421": (at("RCPT", b"421 4.3.2 going down\r\n", then=Hangup), "deferred"),
    "says-500-to-everything": (lambda s, v, l: b"500 5.5.2 what?\r\n" if v != "GREETING" else None, "deferred"),
}


def test_hostile_beside_others():
    """Whatever one server does: the other ones get their mail, once, and nothing is lost."""
    good = Receiver()
    q = Queue(relay_timeouts="5", relay_connections="3")
    routes = "good.example 127.0.0.1:%d\n" % good.listen("127.0.0.1", 0)
    names = {}
    for name, (hook, _) in HOSTILE.items():
        bad = Receiver(hook=hook)
        routes += "%s.example 127.0.0.1:%d\n" % (name, bad.listen("127.0.0.1", 0))
        names[name] = q.add("x@%s.example" % name, "y-%s@good.example" % name, sender="")
    q.file("routes", routes)
    q.run()
    got = sorted(a for m in good.messages for a in m.recipients)
    assert got == sorted("y-%s@good.example" % n for n in HOSTILE) + [a for a in got if a.startswith("boss")], got
    for name, (_, state) in HOSTILE.items():
        states = q.states(names[name])
        if state == "failed":  # a report that cannot go to anybody: postmaster is told, here by nobody's alias
            assert not states or states["x@%s.example" % name][0] == "failed", (name, states)
            assert re.search(r"failed queue_id=%s to=x@%s.example" % (names[name], name), q.log), (name, q.log)
        else:
            assert states["x@%s.example" % name][0] == "deferred", (name, states, q.log)
            assert states["y-%s@good.example" % name][0] == "relayed", (name, states)
    assert "\x1b" not in q.log and "victim" not in str(got)


def test_several_runs():
    r = Receiver()
    q = hop(r)
    names = [q.add("b%d@there.example" % i) for i in range(60)]
    runs = [q.start() for _ in range(4)]
    assert all(p.wait(300) == 0 for p in runs)
    assert q.ids() == [] and len(r.messages) == len(names)
    assert len({m.recipients[0] for m in r.messages}) == len(names)


def test_new_mail_while_running():
    """What is queued while a run goes on is sent by it at once."""
    is_added = threading.Event()

    def hook(session, verb, line):
        if verb == "MAIL":
            is_added.wait(60)
    r = Receiver(hook=hook)
    q = hop(r)
    q.add("b@there.example")
    p = q.start()
    assert wait_until(lambda: r.sessions, step=0.02)
    q.add("c@there.example")
    is_added.set()
    assert p.wait(300) == 0 and len(r.messages) == 2 and q.ids() == []


def test_damaged():
    r = Receiver()
    q = hop(r)
    good = q.add("b@there.example")
    with open(q.path("new/BROKEN"), "w", encoding="ascii") as f:
        f.write("pennypost-envelope 1\nsender x\n")
    with open(q.path("msg/BROKEN"), "w", encoding="ascii") as f:
        f.write(PLAIN)
    with open(q.path("new/FUTURE"), "w", encoding="ascii") as f:
        f.write("pennypost-envelope 9\nend\n")
    with open(q.path("msg/FUTURE"), "w", encoding="ascii") as f:
        f.write(PLAIN)
    q.run()
    assert q.entry(good) is None and q.ids() == ["FUTURE"] and sorted(os.listdir(q.path("corrupt"))) == \
        ["BROKEN", "BROKEN.msg"]
    # In both folders, whoever left it so: the one in cur/ counts.
    with open(q.path("new/FUTURE"), "w", encoding="ascii") as f:
        f.write("pennypost-envelope 9\nold yes\nend\n")
    q.run()
    with open(q.path("cur/FUTURE"), encoding="ascii") as f:
        assert f.read() == "pennypost-envelope 9\nend\n"


def test_killed_anywhere():
    """kill -9 at some moment of a run, again and again: each message once, or twice where the answer was on its way."""
    r = Receiver()
    q = hop(r)
    total = 40
    for i in range(total):
        q.add("b%d@there.example" % i)
    for attempt in range(60):
        p = q.start("--all")
        time.sleep(0.01 + 0.013 * attempt)
        p.send_signal(signal.SIGKILL)
        p.wait()
        if not q.ids():
            break
    for _ in range(10):  # what the last one had begun may still be under way
        q.run("--all")
        if not q.ids():
            break
        time.sleep(0.5)
    seen = [m.recipients[0] for m in r.messages]
    assert q.ids() == [] and set(seen) == {"b%d@there.example" % i for i in range(total)}
    assert len(seen) <= total + 2 * (attempt + 1), (len(seen), attempt)  # one on each of two connections


def test_order_on_disk():
    """What a power cut must not undo is on the disk before anybody is told or anything else is removed: the trace of a run
    with a bounce and a deferral."""
    r = Receiver(hook=lambda s, verb, line: b"550 5.1.1 no\r\n" if verb == "RCPT" and "none@" in line else
                 b"451 4.3.0 later\r\n" if verb == "RCPT" and "slow@" in line else None)
    q = hop(r)
    q.add("x@there.example", "none@there.example", "slow@there.example", sender="c@here.example")
    q.add("y@there.example")
    trace = os.path.join(FOLDER, "trace")
    done = subprocess.run(["strace", "-y", "-s", "999", "-o", trace, "-e", "trace=fsync,renameat,linkat,unlinkat,sendmsg"] +
                          q.argv(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with open(trace, encoding="utf-8", errors="replace") as f:
        events = check_order([line for line in f if not line.startswith(("---", "+++"))])
    assert q.states("T%06d" % (serial - 1))["slow@there.example"][0] == "deferred"
    reports = [i for i, (what, name) in enumerate(events) if what == "made" and not name.startswith("T")]
    originals = [i for i, (what, name) in enumerate(events) if what == "made" and name == "T%06d" % (serial - 1)]
    removed = [name for what, name in events if what == "removed"]
    assert reports and originals[0] < reports[0] < originals[-1], events  # failed, reported, noted that it is reported
    assert "T%06d" % serial in removed and "T%06d" % (serial - 1) not in removed, events


def test_waits_for_the_disk():
    """A deferral costs two: its envelope's bytes, and its name."""
    q = Queue(relayhost="127.0.0.1:1")
    for _ in range(10):
        q.add("x@there.example")
    trace = os.path.join(FOLDER, "trace")
    done = subprocess.run(["strace", "-c", "-U", "name,calls", "-o", trace, "-e", "trace=fsync,fdatasync,sync_file_range"] + q.argv(),
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with open(trace, encoding="ascii") as f:
        calls = dict(line.split() for line in f if line.startswith("fsync "))
    assert int(calls["fsync"]) <= 2 * 10 + 2, calls
    assert len(q.ids()) == 10 and not os.listdir(q.path("new"))


QUIT = 'iov_base="\\%o\\0\\0\\0' % T["FRAME_RELAY_QUIT"]


def check_order(lines):
    """Goes through the calls: a file has a name only when its bytes are on the disk, and nothing else happens until the name
    is there too; a message is removed behind its envelope. Returns [("made" or "removed", name of an envelope)]."""
    synced, pending, events = set(), set(), []
    behind, made = set(), {}  # folders where a second name is left; in which folder an envelope was made
    for line in lines:
        assert line.startswith("sendmsg") or " = 0" in line, line
        paths = re.findall(r"(\d+|AT_FDCWD)<([^>]*)>(?:\(deleted\))?", line)
        names = re.findall(r', "([^"]+)"', line)
        call = line.split("(")[0]
        if call == "fsync":
            pending.discard(paths[0][1])
            behind.discard(paths[0][1])
            synced.update(paths[0])
            continue
        if call == "sendmsg" and QUIT in line:  # tells nobody of anything
            continue
        assert not pending, (line, pending)
        if call == "unlinkat" and paths[0][1].endswith("/new") and made.get(names[0], "").endswith("/cur"):
            behind.add(paths[0][1])  # it goes on in the other folder
        elif call == "unlinkat" and not paths[0][1].endswith("/msg"):
            pending.update({paths[0][1]} | behind)
            events.append(("removed", names[0]))
        elif call == "unlinkat":
            assert ("removed", names[0]) in events, (line, events)
        elif call == "linkat":  # an unnamed file, by its number
            number = names[0].rsplit("/", 1)[1]
            assert number in synced, (line, synced)
            synced.discard(number)
            pending.add(paths[1][1])
        elif call == "renameat" and names[0].endswith(".tmp"):
            scratch = paths[0][1] + "/" + names[0]
            assert scratch in synced, (line, synced)
            synced.discard(scratch)
            pending.add(paths[1][1])
            events.append(("made", names[1]))
            made[names[1]] = paths[1][1]
        elif call == "renameat":
            pending.add(paths[1][1])
            behind.add(paths[0][1])
    assert not pending
    return events


# ---- here ----

def test_local():
    boxes = spool()
    q = Queue(spool=boxes, state=os.path.join(boxes, "%u.state"))
    q.file("aliases", "list: alice, bob\n", 0o644)
    name = q.add("alice@here.example", ["bob@here.example", "to-kind mailbox", "to-user bob", "to-argument "], "list@here.example",
                 "nobody-there@here.example", sender="")
    q.run()
    assert q.entry(name) is None, q.log
    for user in ("alice", "bob"):
        with open(os.path.join(boxes, user), encoding="utf-8") as f:
            assert f.read().count("Subject: hello") == 2, (user, q.log)


def test_local_one_process():
    """A mailbox's `deliver` stays for the next message of the run."""
    boxes = spool()
    q = Queue(spool=boxes, state=os.path.join(boxes, "%u.state"))
    q.file("aliases", "", 0o644)
    for i in range(5):
        q.add("bob@here.example", text="Subject: hello\n\nnumber %d\n" % i)
    trace = q.path("trace")
    done = subprocess.run(["strace", "-f", "-o", trace, "-e", "trace=execve"] + q.argv(), stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 0 and not q.ids(), done.stderr
    with open(os.path.join(boxes, "bob"), encoding="utf-8") as f:
        assert f.read().count("Subject: hello") == 5
    with open(trace, encoding="utf-8", errors="replace") as f:
        assert f.read().count("/deliver\"") == 1


def test_answered_report():
    """Who answers one of our reports writes to a person (RFC 3464 2), also where no alias says so."""
    boxes = spool()
    q = Queue(spool=boxes, state=os.path.join(boxes, "%u.state"))
    q.file("aliases", "root: bob\n", 0o644)
    name = q.add("MAILER-DAEMON@here.example", text="Subject: an answer\n\n?\n", sender="a@away.example")
    q.run()
    with open(os.path.join(boxes, "bob"), encoding="utf-8") as f:
        assert q.entry(name) is None and "Subject: an answer\n" in f.read(), q.log


VERIFY = """
import ast, sys, dkim
message, zone = ast.literal_eval(sys.stdin.read())
print([dkim.DKIM(message).verify(idx=i, dnsfunc=lambda name, timeout=5: zone[name.decode().rstrip('.')]) for i in (0, 1)])
"""


def signatures(data, zone):
    """What another implementation says of both."""
    done = subprocess.run(["/usr/bin/python3", "-c", VERIFY], input=repr((data, zone)), capture_output=True, text=True,
                          check=False)
    return done.stdout or done.stderr


def test_dkim():
    """What users of this machine send is signed when it leaves, and what is only passed on is not."""
    r = Receiver()
    q = hop(r)
    q.options["dkim_keys"] = q.path("keys")
    made = subprocess.run([os.path.join(BUILD, "handlers/admin/pennypost"), "-o", "dkim_keys=" + q.path("keys"), "dkim",
                           "keygen", "here.example"], capture_output=True, text=True, check=True).stdout
    zone = {}
    for line in made.splitlines():
        name, value = line.split(". IN TXT ( ")
        zone[name] = value.replace('" "', "").strip('" )').encode()
    long = PLAIN + "From here\n.\n" + "trailing  \n" * 3 + "\n\n"
    names = [q.add("b@there.example", "c@elsewhere.example", text=long, user="alice"),
             q.add("b@there.example", text=PLAIN.replace("here.example", "other.example"), user="alice"),
             q.add("b@there.example", peer="192.0.2.1"), q.add("b@there.example", sender="")]
    q.run()
    assert [q.entry(n) for n in names] == [None] * 4
    count = sorted((m.data.count(b"DKIM-Signature:"), m.sender) for m in r.messages)
    assert count == [(0, "a@here.example"), (0, "a@here.example"), (2, ""), (2, "a@here.example")], count
    for m in r.messages:
        if m.data.count(b"DKIM-Signature:") == 2:
            assert signatures(m.data, zone) == "[True, True]\n", m.data
    # 8-bit text is signed as every server can take it: one without 8BITMIME changes nothing.
    eight = "From: a@here.example\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n" \
        "Content-Transfer-Encoding: 8bit\n\nr\u00f6st\u00ed =\n.\n"
    for features in (FEATURES, [f for f in FEATURES if f != "8BITMIME"]):
        r.features = features
        q.add("b@there.example", text=eight, user="alice", body="8bitmime")
        q.run()
        got = r.messages[-1].data
        assert signatures(got, zone) == "[True, True]\n" and max(got) < 128, got
        assert email.message_from_bytes(got).get_payload(decode=True).decode() == "r\u00f6st\u00ed =\r\n.\r\n", got
    # What has another signature inside is left alone.
    sealed = "From: a@here.example\nMIME-Version: 1.0\nContent-Type: multipart/signed; boundary=s\n\n--s\n" \
        "Content-Type: text/plain\n\nr\u00f6st\u00ed\n--s\nContent-Type: application/pgp-signature\n\nsig\n--s--\n"
    r.features = FEATURES
    q.add("b@there.example", text=sealed, user="alice", body="8bitmime")
    q.run()
    got = r.messages[-1].data
    assert signatures(got, zone) == "[True, True]\n" and got.endswith(sealed.replace("\n", "\r\n").encode()), got
    # A key that cannot be used: the message waits, its signature is not left out.
    os.chmod(q.path("keys") + "/here.example.mail.key", 0o644)
    name = q.add("b@there.example", user="alice")
    passed_on = q.add("b@there.example", peer="192.0.2.1")
    q.run()
    assert q.states(name)["b@there.example"][1].startswith("451 4.7.5 ") and q.entry(passed_on) is None, q.states(name)
    os.chmod(q.path("keys") + "/here.example.mail.key", 0o600)
    q.run("--all")
    assert q.entry(name) is None and r.messages[-1].data.count(b"DKIM-Signature:") == 2


def main():
    tests = Tests()
    for name, function in list(globals().items()):
        if name.startswith("test_") and (len(sys.argv) < 3 or name[5:] in sys.argv[2:]):
            tests.run(function)
    shutil.rmtree(FOLDER)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
