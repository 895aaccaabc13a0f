#!/usr/bin/env python3
"""kill -9 of whatever takes part in a queue run, at every system call of it: relay, what carries the mail (relay-courier,
relay-session, deliver), and who is asked for something (resolve, sts, sign, srs).

    box python3 relay_kill.py BUILD-DIR [--all] [--only TEXT]

A run is traced first: each system call that the part makes, from its start to its exit, is a point. For each point there is a
run in which the part dies before that call and all others live, and further runs on the queue that it leaves. Without --all
these points are tried: the calls of TALK, and of the rest as many as SAMPLE, spread over the run; with --all every one,
and more ways. --only tries the points whose name, as a failure tells it, begins with TEXT: "relay-session tls poll 3". Closes
with "N passed, N failed".
"""
import argparse
import collections
import ctypes
import itertools
import os
import re
import shutil
import ssl
import subprocess
import sys
import time

from dns_double import Double, a, mx, txt
from frames import T, Tests
from killing import KillingTree, calls, is_killed, kill_at, kill_at_each
from receiver import Hangup, Receiver
import relay_queue
from relay_queue import FOLDER, Queue, hop, spool
from sts_web import POLICY, Web, certificates, serve_web, server_context

BUILD = os.path.abspath(relay_queue.BUILD)
SAMPLE = 30  # points of each case, at most; 20 at least
# What strace prints of the words that a recipient has the message.
RESULT = re.compile(r'sendmsg\(.*iov_base="\\%o\\0.*iov_base="\\372\\0.* = \d' % T["FRAME_RELAY_RESULT"])
PLACE = FOLDER + "/"
KEYS = PLACE + "dkim"
WEB = "198.18.0.1"  # of the policies
TALK = {"relay": ("linkat", "renameat", "unlinkat", "fsync", "write", "sendmsg"),
        "relay-courier": ("socket", "connect", "poll", "sendmsg", "recvmsg", "vfork"),
        "relay-session": ("poll", "sendmsg", "recvmsg", "read", "write", "sendto", "recvfrom"),
        "deliver": ("sendmsg", "recvmsg", "fsync", "fdatasync", "pwrite64", "ftruncate"),
        "srs": ("write", "fsync", "linkat"), "hops": ()}
CASES = (("relay", "fates"), ("relay-courier", "plain"), ("relay-courier", "here"), ("relay-courier", "hops"),
         ("relay-session", "plain"), ("relay-session", "tls"), ("deliver", "here"), ("resolve", "hops"), ("sts", "sts"),
         ("sign", "signed"), ("srs", "forwarded"))
MORE = (("relay", "here"), ("relay", "hops"), ("relay", "signed"), ("relay", "forwarded"), ("relay-courier", "tls"),
        ("relay-courier", "sts"), ("relay-courier", "forwarded"), ("relay-session", "hops"), ("relay-session", "sts"),
        ("resolve", "sts"))
numbers = itertools.count(2)


def address():
    """One that no interface has, so that it is not ours, and at which servers of the test can listen all the same."""
    n = next(numbers)
    return "198.18.%d.%d" % (n // 250, n % 250 + 1)


# ---- what is carried ----

class Away:
    """To a server: two messages, one connection."""
    context = None
    messages, recipients = 2, 3
    wanted = {("a@here.example", "x@there.example"), ("a@here.example", "y@there.example"), ("c@here.example", "z@there.example")}

    def __init__(self):
        self.receivers, self.dns, self.queue = [], None, None
        self.connect()
        self.fill()

    def connect(self):
        self.receivers = [Receiver(context=self.context)]
        self.queue = hop(self.receivers[0])

    def find_by(self, zone, **options):
        """A queue that asks the DNS for its ways."""
        self.dns = Double(zone)
        self.queue = Queue(dns_servers=self.dns.address, **options)
        self.queue.options["sts_cache"] = self.queue.path("sts")

    def fill(self):
        self.queue.add("x@there.example", "y@there.example")
        self.queue.add("z@there.example", sender="c@here.example", age=60)  # the older one is the first

    def got(self):
        return [m for r in self.receivers for m in r.messages]

    def taken(self):
        """Recipients that a server has said yes to, behind the message."""
        return sum(len(m.recipients) for m in self.got())

    def is_well(self, log):
        """Is that what it says of a run that nobody disturbs?"""
        return "deferred" not in log

    def check(self, where, unheard):
        """`unheard`: recipients of whom the server had said so to the run that was killed, and its part nothing to relay."""
        got = {(m.sender, a) for m in self.got() for a in m.recipients}
        assert got == self.wanted, (where, got)
        assert all(m.data.endswith(b"\r\n\r\nOne line.\r\n") for m in self.got()), where
        twice = len(self.got()) - self.messages
        most = 2 if where.startswith("relay ") else 1  # one on each connection
        assert twice <= most, (where, "twice only the message whose answer was on its way", twice)
        assert self.taken() - self.recipients <= unheard, (where, "twice what relay had heard of", self.taken(), unheard)

    def left(self):
        """Files that nobody will ever need or remove."""
        return []

    def close(self):
        for r in self.receivers:
            r.close()
        if self.dns:
            self.dns.close()
        shutil.rmtree(self.queue.folder)


class Tls(Away):
    """The same with STARTTLS."""

    def connect(self):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(PLACE + "mail.pem", PLACE + "mail.key")
        super().connect()


class Hops(Away):
    """By the DNS to two domains, one courier for both. Of the servers of the first one the better one dies behind its first
    message, of the other's there is none at the better address."""
    messages, recipients = 3, 4
    wanted = Away.wanted | {("d@here.example", "o@other.example")}

    def connect(self):
        self.receivers = [Receiver(name="mx%d.example" % i) for i in range(3)]
        self.receivers[0].hook = self.die
        hosts = [address() for _ in range(4)]
        for r, host in zip(self.receivers, hosts):
            r.listen(host, 25)
        zone = {("mx%d.example" % i, "A"): [a(host)] for i, host in enumerate(hosts)}
        zone["there.example", "MX"] = [mx(20, "mx1.example"), mx(10, "mx0.example")]
        zone["other.example", "MX"] = [mx(20, "mx2.example"), mx(10, "mx3.example")]
        self.find_by(zone, relay_connections="1")

    def fill(self):
        super().fill()
        self.queue.add("o@other.example", sender="d@here.example")

    @staticmethod
    def die(session, verb, _):
        if verb == "MAIL" and session.receiver.messages:
            session.receiver.close()
            raise Hangup


class Sts(Away):
    """To a domain with an MTA-STS policy."""

    def connect(self):
        self.receivers = [Receiver(context=server_context(PLACE, "mail"))]
        host = address()
        self.receivers[0].listen(host, 25)
        self.find_by({("there.example", "MX"): [mx(10, "mail.there.example")], ("mail.there.example", "A"): [a(host)],
                      ("_mta-sts.there.example", "TXT"): [txt("v=STSv1; id=one;")], ("mta-sts.there.example", "A"): [a(WEB)]},
                     tls_ca=PLACE + "ca.pem")

    def left(self):
        def half_written():
            return [n for n in os.listdir(self.queue.path("sts")) if n[0] == "."]
        for name in half_written():  # the next policy that is kept takes them away, when they are old
            os.utime(self.queue.path("sts/" + name), (0, 0))
            self.fill()
            self.queue.run("--all", "--epoch=%d" % (time.time() + 2 * 86400))
        return half_written()

    def is_well(self, log):
        return "policy_type=sts" in log and log.count("verified=yes") == 3 and super().is_well(log)


class Signed(Away):
    """With DKIM signatures, without which it does not go."""

    def connect(self):
        super().connect()
        self.queue.options["dkim_keys"] = KEYS

    def check(self, where, unheard):
        super().check(where, unheard)
        assert all(m.data.count(b"DKIM-Signature:") == 2 for m in self.got()), (where, [m.data for m in self.got()])


class Forwarded(Away):
    """By an alias of ours, with a sender of ours (SRS), unless that cannot be made just then."""
    messages = recipients = 1

    def connect(self):
        super().connect()
        self.queue.options["srs_secret"] = self.queue.path("srs-secret")
        self.queue.file("aliases", "list: x@there.example\n", 0o644)

    def fill(self):
        self.queue.add("list@here.example", sender="a@away.example", peer="192.0.2.1")

    def is_well(self, log):
        return "srs-failed" not in log and super().is_well(log)

    def check(self, where, unheard):
        for m in self.got():
            assert m.sender == "a@away.example" or m.sender.startswith("SRS0="), (where, m.sender)
            m.sender = "a@away.example"
        self.wanted = {("a@away.example", "x@there.example")}
        super().check(where, unheard)
        self.fill()  # whatever was left: the next one gets it
        self.queue.run("--all")
        assert self.got()[-1].sender.startswith("SRS0="), (where, self.queue.log)

    def left(self):
        return [n for n in os.listdir(self.queue.folder) if n.startswith("srs-secret.")]


class Fates(Away):
    """One that goes, one that is refused for a recipient, and one that has to wait."""
    messages, recipients = 4, 5
    wanted = {("a@here.example", "x@there.example"), ("a@here.example", "y@there.example"), ("a@away.example", "z@there.example"),
              ("", "a@away.example"), ("l@here.example", "late@there.example")}

    def connect(self):
        super().connect()
        self.waits = []
        self.receivers[0].hook = self.answer

    def answer(self, _, verb, line):
        if verb == "RCPT" and "late@" in line and not self.waits:
            self.waits.append(1)
            return b"451 4.3.0 later\r\n"
        return b"550 5.1.1 no\r\n" if verb == "RCPT" and "none@" in line else None

    def fill(self):
        self.queue.add("x@there.example", "y@there.example")
        self.queue.add("z@there.example", "none@there.example", sender="a@away.example")
        self.queue.add("late@there.example", sender="l@here.example")

    def is_well(self, log):
        return "late@there.example" in log

    def check(self, where, unheard):
        for m in self.got():
            if m.sender == "":  # the report
                m.data = b"\r\n\r\nOne line.\r\n"
        super().check(where, unheard)


class Here:
    """To mailboxes of this machine: `deliver` looks before a second attempt, so there is no twice at all."""
    recipients = 0

    def __init__(self):
        self.boxes = spool()
        self.queue = Queue(spool=self.boxes, state=os.path.join(self.boxes, "%u.state"))
        self.queue.file("aliases", "", 0o644)
        self.queue.add("alice@here.example", "bob@here.example")
        self.queue.add("bob@here.example", sender="c@here.example", age=60)

    def taken(self):
        return 0

    def is_well(self, log):
        return "deferred" not in log

    def check(self, where, _):
        for user, count in (("alice", 1), ("bob", 2)):
            with open(os.path.join(self.boxes, user), encoding="utf-8") as f:
                text = f.read()
            assert text.count("\nSubject: hello\n") == text.count("\nOne line.\n") == count, (where, user, text)

    def left(self):
        return [n for n in os.listdir(self.boxes) if n.startswith(".lk") or n.endswith(".lock")]

    def close(self):
        shutil.rmtree(self.boxes)
        shutil.rmtree(self.queue.folder)


SCENES = {"plain": Away, "tls": Tls, "hops": Hops, "sts": Sts, "signed": Signed, "forwarded": Forwarded, "fates": Fates, "here": Here}


# ---- a run ----

def run_in(tree, scene):
    argv = scene.queue.argv("--all")
    argv[0] = tree.program("relay")
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=300, check=False)


def finish(scene):
    for _ in range(4):
        if not scene.queue.ids():
            break
        scene.queue.run("--all")


def points_of(part, way):
    """The calls of a run that nobody disturbs."""
    tree, scene = KillingTree(BUILD, part), SCENES[way]()
    try:
        done = run_in(tree, scene)
        assert done.returncode == 0 and scene.is_well(done.stderr), done.stderr
        finish(scene)
        scene.check("undisturbed", 0)
        assert not scene.left() and not scene.queue.left(), (scene.left(), scene.queue.left())
        return calls(tree.lines())
    finally:
        scene.close()
        tree.remove()


def unheard_by(part, scene, lines):
    """Recipients who have it, and of whom relay may not know so."""
    if part == "relay":
        return scene.taken()
    if part not in ("relay-courier", "relay-session"):
        return 0
    return scene.taken() - sum(bool(RESULT.match(line)) for line in lines)


def killed_at(part, way, call, number):
    """One run in which the part is killed there, then others to the end. False: it made no such call."""
    tree, scene = KillingTree(BUILD, part, kill_at(call, number)), SCENES[way]()
    where, q = "%s %s %s %d" % (part, way, call, number), scene.queue
    try:
        done = run_in(tree, scene)
        assert done.returncode == 0 or (part == "relay" and done.returncode == -9), (where, done.returncode, done.stderr)
        lines = tree.lines()
        unheard = unheard_by(part, scene, lines)
        finish(scene)
        assert not tree.left(), (where, "outlives its run", tree.left())
        finish(scene)
        assert not q.ids(), (where, q.ids(), q.log)
        scene.check(where, unheard)
        assert not q.left() and not scene.left(), (where, q.left(), scene.left())
        return is_killed(lines)
    finally:
        scene.close()
        tree.remove()


# ---- which of them ----

def chosen(part, way, points, options):
    if options.all or options.only:
        return points
    talk = TALK.get(way, TALK.get(part, ()))
    rest = [p for p in points if p[0] not in talk]
    return [p for p in points if p[0] in talk] + rest[::-(-len(rest) // SAMPLE) or 1]


def test_killed(part, way, options):
    name = part + " " + way
    every = points_of(part, way)
    points = [p for p in chosen(part, way, every, options) if ("%s %s %d" % (name, *p)).startswith(options.only)]
    last = collections.Counter(c for c, _ in every).items() if options.all else ()
    killed, further, faults = kill_at_each(name, lambda c, n: killed_at(part, way, c, n), points, last)
    print("    %s: %d calls in a run; killed at %d of %d tried, and at %d beyond" % (
        name, len(every), killed, len(points), further), flush=True)
    assert not faults, "\n".join(faults)
    # A run waits here and there once more or less than another one.
    assert killed >= len(points) * 0.9 and (options.only or killed > 20), (killed, len(points))


def prepare():
    """A network of our own, certificates, keys, and who serves policies."""
    assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0, os.strerror(ctypes.get_errno())  # CLONE_NEWNET
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "add", "local", "198.18.0.0/15", "dev", "lo"], check=True)
    certificates(PLACE, mail=["mail.there.example"], web=["mta-sts.there.example"])
    Web.policies = {"mta-sts.there.example": POLICY % ("enforce", "mail.there.example", 86400)}
    serve_web(WEB, server_context(PLACE, "web"))
    subprocess.run([os.path.join(BUILD, "handlers/admin/pennypost"), "-o", "dkim_keys=" + KEYS, "dkim", "keygen", "here.example"],
                   stdout=subprocess.DEVNULL, check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", default="")
    options, tests = parser.parse_args(), Tests()
    prepare()
    for part, way in CASES + (MORE if options.all or options.only else ()):
        if options.only.split(" ")[:2] in ([""], [part], [part, way]):
            tests.run(test_killed, part, way, options)
    shutil.rmtree(FOLDER)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
