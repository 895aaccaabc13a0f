#!/usr/bin/env python3
"""relay and its programs with a queue made by this test and servers that this test plays, on loopback.

    relay_queue.py BUILD-DIR [TEST...]

Closes with "N passed, N failed".
"""
import concurrent.futures
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
import time

from frames import Tests
from receiver import FEATURES, Hangup, Receiver

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

    def run(self, *arguments, status=0, timeout=120, **options):
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
    assert time.monotonic() - began < 10


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
    q = Queue(relayhost="127.0.0.1:1")
    names = [q.add("b@there.example") for _ in range(20)]
    log = q.run()
    assert all(q.states(n)["b@there.example"][0] == "deferred" for n in names)
    assert log.count("unreachable ") == 1, log
    # The memory: new mail for it is not even tried.
    q.options["retry_min"] = "1h"
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
    q = hop(good, relay_timeouts="2", relay_connections="2")
    q.file("routes", "bad.example 127.0.0.1:%d\n" % bad.listen("127.0.0.1", 0))
    name = q.add("x@bad.example", "x@good.example")
    q.add("y@good.example")
    q.run()
    assert len(good.messages) == 2 and q.states(name)["x@bad.example"][0] == "deferred"


def test_several_runs():
    r = Receiver()
    q = hop(r)
    names = [q.add("b%d@there.example" % i) for i in range(60)]
    runs = [q.start() for _ in range(4)]
    assert all(p.wait(120) == 0 for p in runs)
    assert q.ids() == [] and len(r.messages) == len(names)
    assert len({m.recipients[0] for m in r.messages}) == len(names)


def test_new_mail_while_running():
    """What is queued while a run goes on is sent by it at once."""
    r = Receiver(hook=lambda s, verb, line: time.sleep(0.4) if verb == "MAIL" else None)
    q = hop(r)
    q.add("b@there.example")
    p = q.start()
    while not r.sessions:
        time.sleep(0.02)
    q.add("c@there.example")
    assert p.wait(60) == 0 and len(r.messages) == 2 and q.ids() == []


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
    q.run("--all")
    seen = [m.recipients[0] for m in r.messages]
    assert q.ids() == [] and set(seen) == {"b%d@there.example" % i for i in range(total)}
    assert len(seen) <= total + attempt + 1, (len(seen), attempt)


CALLS = ("unlinkat", "renameat", "rename", "fsync", "fdatasync", "linkat", "write", "sendmsg", "recvmsg", "fcntl")


def killed_at(call, number):
    """One run that is killed at the number-th such system call, then one to the end. False: there was none."""
    r = Receiver(hook=lambda s, verb, line: b"550 5.1.1 no\r\n" if verb == "RCPT" and "none@" in line else None)
    q = hop(r)
    try:
        q.add("x@there.example", "y@there.example")
        q.add("z@there.example", "none@there.example", sender="a@away.example")
        done = subprocess.run(["strace", "-o", "/dev/null", "-e", "trace=" + call, "-e",
                               "inject=%s:signal=KILL:when=%d" % (call, number)] + q.argv(), stdin=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=120, check=False)
        is_killed = done.returncode in (-9, 137)
        assert is_killed or done.returncode == 0, done.returncode
        for _ in range(4):
            q.run("--all")
            if not q.ids():
                break
        got = sorted((m.sender, a) for m in r.messages for a in m.recipients)
        once = sorted([("a@here.example", "x@there.example"), ("a@here.example", "y@there.example"),
                       ("a@away.example", "z@there.example"), ("", "a@away.example")])
        where = "%s %d" % (call, number)
        # A message whose envelope has gone and an envelope half-written are swept a day later.
        assert q.ids() == [] and not os.listdir(q.path("corrupt")) and len(os.listdir(q.path("msg"))) <= 2, where
        assert set(got) == set(once), (where, got)
        # Twice: the message whose answer was on its way, or the report that was just made.
        assert len(r.messages) <= 4, (where, got)
        return is_killed
    finally:
        r.close()
        shutil.rmtree(q.folder)


def killed_at_every(call):
    number = 1
    while killed_at(call, number):
        number += 1
    return number - 1


def test_killed_at_every_call():
    """kill -9 at every system call of a run that changes or says something."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        counts = dict(zip(CALLS, pool.map(killed_at_every, CALLS)))
    print("    killed at", counts)
    assert counts["sendmsg"] > 3 and counts["fsync"] > 3 and counts["unlinkat"] > 2, counts


PARTS = {"relay-courier": ("socket", "connect", "poll", "sendmsg", "recvmsg", "openat"),
         "relay-session": ("poll", "sendmsg", "recvmsg", "read", "sendto", "recvfrom", "pread64")}


def part_killed_at(part, call, number):
    """One run in which the first `part` is killed at its number-th such system call, then others to the end. False: there was
    none."""
    top = tempfile.mkdtemp(dir=FOLDER, prefix="part")
    os.chmod(top, 0o755)
    real = os.path.join(BUILD, "handlers")
    for name in os.listdir(real):  # a build tree, with a program of its own in the part's place
        if name != "relay":
            os.symlink(os.path.join(real, name), os.path.join(top, name))
    os.mkdir(os.path.join(top, "relay"))
    for name in ("relay", "relay-courier", "relay-session"):
        shutil.copy(os.path.join(real, "relay", name), os.path.join(top, "relay", name))
    here, trace = os.path.join(top, "relay", part), os.path.join(top, "trace")
    os.mkdir(trace, 0o777)
    os.chmod(trace, 0o777)
    program = here + ".real"
    os.rename(here, program)
    with open(here, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nif mkdir %s/once 2>/dev/null; then exec strace -D -o %s/out -e trace=%s -e "
                "inject=%s:signal=KILL:when=%d %s \"$@\"; fi\nexec %s \"$@\"\n"
                % (trace, trace, call, call, number, program, program))
    os.chmod(here, 0o755)
    r = Receiver()
    q = hop(r)
    try:
        q.add("x@there.example", "y@there.example")
        q.add("z@there.example", sender="c@here.example")
        argv = q.argv("--all")
        argv[0] = os.path.join(top, "relay", "relay")
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, check=False)
        where = "%s %s %d" % (part, call, number)
        assert done.returncode == 0, (where, done.stderr)
        with open(os.path.join(trace, "out"), encoding="utf-8", errors="replace") as f:
            is_killed = "killed by SIGKILL" in f.read()
        for _ in range(4):
            if not q.ids():
                break
            q.run("--all")
        got = {(m.sender, a) for m in r.messages for a in m.recipients}
        assert not q.ids() and not os.listdir(q.path("msg")) and not os.listdir(q.path("corrupt")), (where, q.ids())
        assert got == {("a@here.example", "x@there.example"), ("a@here.example", "y@there.example"),
                       ("c@here.example", "z@there.example")}, (where, got)
        assert len(r.messages) <= 3, (where, "twice only the message whose answer was on its way", len(r.messages))
        return is_killed
    finally:
        r.close()
        shutil.rmtree(q.folder)
        shutil.rmtree(top)


def part_killed_at_every(what):
    number = 1
    while part_killed_at(*what, number):
        number += 1
    return number - 1


def test_parts_killed_at_every_call():
    """kill -9 of what carries the mail, at every system call by which it talks to anybody."""
    with open(RELAY, "rb") as f:
        if b"__asan_init" in f.read():
            print("    left to the build without ASan, which has nothing to add here")
            return
    cases = [(part, call) for part, calls in PARTS.items() for call in calls]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        counts = dict(zip(cases, pool.map(part_killed_at_every, cases)))
    print("    killed at", {" ".join(k): n for k, n in counts.items()})
    assert counts["relay-courier", "connect"] and counts["relay-courier", "sendmsg"] > 3, counts
    assert counts["relay-session", "sendmsg"] > 3 and counts["relay-session", "poll"] > 3, counts


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
                          q.argv(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with open(trace, encoding="utf-8", errors="replace") as f:
        events = check_order([line for line in f if not line.startswith(("---", "+++"))])
    assert q.states("T%06d" % (serial - 1))["slow@there.example"][0] == "deferred"
    reports = [i for i, (what, name) in enumerate(events) if what == "made" and not name.startswith("T")]
    originals = [i for i, (what, name) in enumerate(events) if what == "made" and name == "T%06d" % (serial - 1)]
    removed = [name for what, name in events if what == "removed"]
    assert reports and originals[0] < reports[0] < originals[-1], events  # failed, reported, noted that it is reported
    assert "T%06d" % serial in removed and "T%06d" % (serial - 1) not in removed, events


def check_order(lines):
    """Goes through the calls: a file has a name only when its bytes are on the disk, and nothing else happens until the name
    is there too; a message is removed behind its envelope. Returns [("made" or "removed", name of an envelope)]."""
    synced, pending, events = set(), set(), []
    for line in lines:
        assert line.startswith("sendmsg") or " = 0" in line, line
        paths = re.findall(r"(\d+|AT_FDCWD)<([^>]*)>(?:\(deleted\))?", line)
        names = re.findall(r', "([^"]+)"', line)
        call = line.split("(")[0]
        if call == "fsync":
            pending.discard(paths[0][1])
            synced.update(paths[0])
            continue
        assert not pending, (line, pending)
        if call == "unlinkat" and not paths[0][1].endswith("/msg"):
            pending.add(paths[0][1])
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
        elif call == "renameat":
            pending.update((paths[0][1], paths[1][1]))
    assert not pending
    return events


# ---- here ----

def test_local():
    spool = tempfile.mkdtemp(dir=FOLDER)
    os.chmod(FOLDER, 0o755)
    os.chmod(spool, 0o1777)
    shutil.chown(spool, "root", "mail")
    os.chmod(spool, 0o2775)
    q = Queue(spool=spool, state=os.path.join(spool, "%u.state"))
    q.file("aliases", "list: alice, bob\n", 0o644)
    name = q.add("alice@here.example", ["bob@here.example", "to-kind mailbox", "to-user bob", "to-argument "], "list@here.example",
                 "nobody-there@here.example", sender="")
    q.run()
    assert q.entry(name) is None, q.log
    for user in ("alice", "bob"):
        with open(os.path.join(spool, user), encoding="utf-8") as f:
            assert f.read().count("Subject: hello") == 2


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
