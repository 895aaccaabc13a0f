#!/usr/bin/env python3
"""The program `resolve` alone: this test is its asker on one side and a DNS server that lies on the other.

    resolve_alone.py BUILD_DIR/handlers/resolve/resolve

Closes with "N passed, N failed".
"""
import os
import random
import struct
import subprocess
import sys
import time

from dns_double import (REFUSED, SERVFAIL, TYPES, Double, a, cname, encode_name, mx, ptr, question, record, reply, tlsa,
                        txt)
from frames import Control, Tests, T, s, start, u

PROGRAM = os.path.abspath(sys.argv[1])
OK, NODATA, NXDOMAIN, FAILED = range(4)
TESTS = Tests()


class Resolver:
    """One `resolve` and the questions that it is asked."""

    def __init__(self, server):
        self.control = Control()
        self.process = start([PROGRAM] + ([server] if server else []),
                             {0: os.open("/dev/null", os.O_RDONLY), 1: 1, 2: 2, 3: self.control.child.fileno()})
        self.control.child.close()
        self.last = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.control.close()
        assert self.process.wait(60) in (0, 76), self.process.returncode

    def send(self, name, kind, milliseconds=20000):
        self.last += 1
        self.control.send("FRAME_DNS_QUESTION", u(self.last), u(TYPES.get(kind, kind)), s(name), u(milliseconds))
        return self.last

    def recv(self):
        name, r = self.control.recv()
        assert name == "FRAME_DNS_ANSWER", name
        out = {"id": r.u(), "status": r.u(), "secure": r.u(), "ttl": r.u(), "canonical": r.t(), "reason": r.t()}
        out["records"] = [(r.u(), r.u(), r.u(), r.u(), r.s()) for _ in range(r.u())]
        r.end()
        return out

    def ask(self, name, kind, milliseconds=20000):
        number = self.send(name, kind, milliseconds)
        out = self.recv()
        assert out["id"] == number, out
        return out


def ask(zone, name, kind, milliseconds=20000, **options):
    with Double(zone, **options) as dns, Resolver(dns.address) as resolver:
        return resolver.ask(name, kind, milliseconds)


def data(answer):
    return sorted(r[4] for r in answer["records"])


def alone():
    """A network of our own: only loopback, with an address that is not 127.0.0.1."""
    if os.environ.get("RESOLVE_ALONE") != "inside":
        os.environ["RESOLVE_ALONE"] = "inside"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", "192.0.2.77/32", "dev", "lo"], check=True)


def every_type_is_understood():
    zone = {("h.test", "A"): [a("192.0.2.1"), a("192.0.2.2")], ("h.test", "AAAA"): [a("2001:db8::1")],
            ("h.test", "MX"): [mx(10, "Mail.test"), mx(0, "b.test")], ("h.test", "TXT"): [txt("v=spf1 ", "-all"), txt("x")],
            ("1.2.0.192.in-addr.arpa", "PTR"): [ptr("h.test")], ("al.test", "CNAME"): [cname("h.test")],
            ("_25._tcp.h.test", "TLSA"): [tlsa(3, 1, 1, b"d" * 32)]}
    with Double(zone) as dns, Resolver(dns.address) as r:
        got = r.ask("h.test", "A")
        assert (got["status"], data(got)) == (OK, [b"\xc0\0\2\1", b"\xc0\0\2\2"]), got
        assert (got["secure"], got["ttl"], got["canonical"]) == (0, 60, "h.test"), got
        assert data(r.ask("h.test", "AAAA"))[0][:4] == b"\x20\x01\x0d\xb8"
        assert [(x[0], x[4]) for x in r.ask("H.test", "MX")["records"]] == [(10, b"Mail.test"), (0, b"b.test")]
        assert data(r.ask("h.test", "TXT")) == [b"v=spf1 -all", b"x"]
        assert data(r.ask("1.2.0.192.in-addr.arpa", "PTR")) == [b"h.test"]
        assert r.ask("_25._tcp.h.test", "TLSA")["records"] == [(0, 3, 1, 1, b"d" * 32)]
        assert data(r.ask("al.test", "CNAME")) == [b"h.test"]


def nothing_and_nobody_are_told_apart():
    zone = {("h.test", "A"): [a("192.0.2.1")], ("sf.test", "A"): SERVFAIL, ("ref.test", "A"): REFUSED,
            ("notimp.test", "A"): 4, ("formerr.test", "A"): 1}
    with Double(zone) as dns, Resolver(dns.address) as r:
        assert r.ask("h.test", "MX")["status"] == NODATA
        assert r.ask("none.test", "MX")["status"] == NXDOMAIN
        for name in ("sf.test", "ref.test", "notimp.test", "formerr.test"):
            got = r.ask(name, "A")
            assert got["status"] == FAILED and got["reason"], (name, got)


def aliases_are_followed():
    zone = {("a.test", "CNAME"): [cname("b.test")], ("b.test", "CNAME"): [cname("c.test")],
            ("c.test", "A"): [a("192.0.2.3")]}
    got = ask(zone, "a.test", "A")
    assert (got["status"], got["canonical"], len(got["records"])) == (OK, "c.test", 1), got
    # A server that gives one step at a time.
    zone[("a.test", "A")] = [("a.test", cname("b.test"))]
    zone[("b.test", "A")] = [("b.test", cname("c.test"))]
    got = ask(zone, "a.test", "A")
    assert (got["status"], got["canonical"]) == (OK, "c.test"), got
    # RFC 2317: an alias whose name is no host name.
    zone = {("1.2.0.192.in-addr.arpa", "CNAME"): [cname("1.0/25.2.0.192.in-addr.arpa")],
            ("1.0/25.2.0.192.in-addr.arpa", "PTR"): [ptr("h.test")]}
    got = ask(zone, "1.2.0.192.in-addr.arpa", "PTR")
    assert (got["status"], got["canonical"], data(got)) == (OK, "", [b"h.test"]), got


def loops_of_aliases_end():
    loop = {("a.test", "A"): [("a.test", cname("b.test"))], ("b.test", "A"): [("b.test", cname("a.test"))]}
    got = ask(loop, "a.test", "A")
    assert got["status"] == FAILED and "alias" in got["reason"], got
    inside = {("a.test", "A"): [("a.test", cname("b.test")), ("b.test", cname("a.test"))]}
    assert ask(inside, "a.test", "A")["status"] == FAILED
    itself = {("a.test", "A"): [("a.test", cname("a.test"))]}
    assert ask(itself, "a.test", "A")["status"] == FAILED
    deep = {("n%d.test" % i, "A"): [("n%d.test" % i, cname("n%d.test" % (i + 1)))] for i in range(30)}
    assert ask(deep, "n0.test", "A")["status"] == FAILED


def other_peoples_records_are_not_taken():
    zone = {("h.test", "A"): [("other.test", a("192.0.2.66")), ("h.test", a("192.0.2.1"))],
            ("h.test", "MX"): [("x.test", mx(0, "evil.test"))]}
    with Double(zone) as dns, Resolver(dns.address) as r:
        assert data(r.ask("h.test", "A")) == [b"\xc0\0\2\1"]
        assert r.ask("h.test", "MX")["status"] == NODATA


def names_that_are_none():
    bad = ["a b.test", "a\nb.test", "-.te$t", "\xff.test", "a'.test"]
    zone = {("h.test", "MX"): [mx(1, x) for x in bad] + [mx(2, "good.test")], ("h.test", "PTR"): [ptr(x) for x in bad],
            ("null.test", "MX"): [mx(0, "")]}
    with Double(zone) as dns, Resolver(dns.address) as r:
        assert data(r.ask("h.test", "MX")) == [b"good.test"]
        assert r.ask("h.test", "PTR")["status"] == NODATA
        assert data(r.ask("null.test", "MX")) == [b""]


def only_a_resolver_here_is_believed():
    zone = {("h.test", "A"): [a("192.0.2.1")]}
    assert ask(zone, "h.test", "A", secure=True)["secure"] == 1
    assert ask(zone, "h.test", "A", secure=False)["secure"] == 0
    assert ask(zone, "none.test", "A", secure=True)["secure"] == 1
    with Double(zone, secure=True, host="192.0.2.77") as dns, Resolver(dns.address) as r:
        got = r.ask("h.test", "A")
        assert (got["status"], got["secure"]) == (OK, 0), got
    # One step of a chain is not secure: nothing of it is.
    zone = {("a.test", "A"): lambda p, t: reply(p, [record("a.test", *cname("b.test"))]), ("b.test", "A"): [a("192.0.2.1")]}
    assert ask(zone, "a.test", "A", secure=True)["secure"] == 0


def truncated_answers_come_over_tcp():
    many = [a("192.0.2.%d" % i) for i in range(1, 90)]

    def answer(packet, is_tcp):
        name, _, _ = question(packet)
        return reply(packet, [record(name, *x) for x in many] if is_tcp else [], truncated=not is_tcp)
    assert len(ask({("h.test", "A"): answer}, "h.test", "A")["records"]) == 89
    # Said to be truncated, and nobody listens for TCP.
    dns = Double({("h.test", "A"): lambda p, t: reply(p, truncated=True) if not t else None})
    dns.tcp.close()
    with Resolver(dns.address) as r:
        assert r.ask("h.test", "A", 3000)["status"] == FAILED
    dns.close()


def huge_answers_are_cut():
    many = [a("192.0.%d.%d" % (i // 250, i % 250)) for i in range(600)]

    def answer(packet, is_tcp):
        name, _, _ = question(packet)
        return reply(packet, [record(name, *x) for x in many] if is_tcp else [], truncated=not is_tcp)
    assert len(ask({("h.test", "A"): answer}, "h.test", "A")["records"]) == 100
    texts = [txt(*[bytes([i]) * 250] * 12) for i in range(18)]  # 18 times 3000 bytes: more than is kept

    def long_texts(packet, is_tcp):
        name, _, _ = question(packet)
        return reply(packet, [record(name, *x) for x in texts] if is_tcp else [], truncated=not is_tcp)
    got = ask({("h.test", "TXT"): long_texts}, "h.test", "TXT")
    assert got["status"] == OK and 10 < len(got["records"]) < 18, (got["status"], len(got["records"]))
    one = [txt(*[b"x" * 255] * 20)]
    assert ask({("h.test", "TXT"): lambda p, t: long_of(p, t, one)}, "h.test", "TXT")["status"] == NODATA
    entries = [record("h.test", "A", b"\1\2\3\4")] * 1500
    assert ask({("h.test", "A"): lambda p, t: reply(p, entries if t else [], truncated=not t)}, "h.test",
               "A")["status"] == FAILED


def long_of(packet, is_tcp, records):
    name, _, _ = question(packet)
    return reply(packet, [record(name, *x) for x in records] if is_tcp else [], truncated=not is_tcp)


def wrong_answers_are_not_heard():
    """Another id, another question, another sender: the true answer behind them counts."""
    true = [record("h.test", *a("192.0.2.1"))]
    false = [record("h.test", *a("192.0.2.66"))]

    def answer(packet, _):
        number, = struct.unpack_from("!H", packet)
        other = packet[:12] + encode_name("x.test") + packet[-15:]
        return [reply(packet, false, ident=number ^ 1), reply(packet, false, ident=(number + 7) & 0xffff),
                reply(other[:12] + encode_name("x.test") + b"\0\1\0\1", false), b"", b"\0", packet[:11],
                reply(packet, true)]
    got = ask({("h.test", "A"): answer}, "h.test", "A")
    assert data(got) == [b"\xc0\0\2\1"], got


def silence_ends_in_time():
    began = time.monotonic()
    got = ask({("h.test", "A"): lambda p, t: None}, "h.test", "A", 1500)
    assert got["status"] == FAILED and got["reason"], got
    assert 1 < time.monotonic() - began < 20
    with Resolver("127.0.0.1:9") as r:  # nobody there at all
        assert r.ask("h.test", "A", 1500)["status"] == FAILED


def several_servers_stand_in_for_each_other():
    zone = {("h.test", "A"): [a("192.0.2.1")], ("h.test", "MX"): [mx(1, "m.test")]}
    silent = {(name, kind): lambda packet, is_tcp: None for name, kind in zone}
    broken = {(name, kind): SERVFAIL for name, kind in zone}
    for first in (None, silent, broken):
        with Double(first or zone) as bad, Double(zone, host="::1", secure=True) as good:
            servers = "%s %s" % (bad.address if first else "127.0.0.1:9", good.address)
            with Resolver(servers) as r:
                got = r.ask("h.test", "A")
                assert (got["status"], got["secure"], data(got)) == (OK, 1, [b"\xc0\0\2\1"]), (servers, got)
                assert r.ask("h.test", "MX")["status"] == OK
    # One of them is elsewhere: nothing is believed to be validated, whoever answered.
    with Double(zone, secure=True) as near, Double(zone, secure=True, host="192.0.2.77") as far:
        with Resolver("%s %s" % (near.address, far.address)) as r:
            assert r.ask("h.test", "A")["secure"] == 0


def servers_that_are_none():
    for words in ("nonsense", "127.0.0.1:0x", "x" * 2000):
        control = Control()
        process = start([PROGRAM, words], {0: os.open("/dev/null", os.O_RDONLY), 1: 1, 2: 2, 3: control.child.fileno()})
        control.child.close()
        assert process.wait(60) == 78, words
        control.close()


def silence_for_one_holds_up_nobody():
    zone = {("h.test", "A"): [a("192.0.2.1")], ("slow.test", "A"): lambda p, t: None}
    with Double(zone) as dns, Resolver(dns.address) as r:
        slow = [r.send("slow.test", "A", 6000) for _ in range(15)]
        began = time.monotonic()
        fast = [r.send("h.test", "A") for _ in range(5)]
        got = [r.recv()["id"] for _ in range(20)]
        assert got[:5] == fast and sorted(got[5:]) == slow, got
        assert time.monotonic() - began < 60


def garbage_ends_nobody():
    """Packets with the right head and noise behind it; whatever they are taken for, `resolve` lives on."""
    noise = random.Random(7)

    def answer(packet, is_tcp):
        name, kind, _ = question(packet)
        tail = bytes(noise.randrange(256) for _ in range(noise.randrange(200)))
        good = record(name, kind, tail[:noise.randrange(40)] + b"\xc0\x0c")
        return noise.choice([
            reply(packet, ancount=noise.randrange(65536), tail=tail), reply(packet, [good, tail], ancount=2),
            reply(packet, [good] * 3), reply(packet, [b"\xc0" + tail[:1] + tail], ancount=1),
            reply(packet, [encode_name(name) + struct.pack("!HHIH", TYPES[kind], 1, 1, 65535) + tail]),
            reply(packet, [b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 1, 2) + b"\xc0\x0c"]),
        ])
    kinds = ["A", "AAAA", "MX", "TXT", "TLSA", "PTR", "CNAME"]
    zone = {("g.test", kind): answer for kind in kinds}
    zone[("h.test", "A")] = [a("192.0.2.1")]
    with Double(zone) as dns, Resolver(dns.address) as r:
        for i in range(400):
            assert r.ask("g.test", kinds[i % len(kinds)], 3000)["status"] in (OK, NODATA, FAILED)
        assert r.ask("h.test", "A")["status"] == OK


def ports_and_ids_cannot_be_guessed():
    for _ in range(5):  # where the machine is busy an answer may be late and the question comes again: not in each of some rounds
        with Double({("h.test", "A"): [a("192.0.2.1")]}) as dns:
            for _ in range(3):
                with Resolver(dns.address) as r:
                    for _ in range(20):
                        r.ask("h.test", "A")
            ports = [x[2] for x in dns.asked]
            ids = [x[3] for x in dns.asked]
        if len(ids) == 60:
            break
    assert len(ids) == 60 and len(set(ids)) > 55 and len(set(ports)) > 50, (ids, ports)
    assert len({(b - x) & 0xffff for x, b in zip(ids, ids[1:])}) > 50, ids


def nonsense_from_the_asker_ends_it():
    for frame in (b"", b"\0" * 8, struct.pack("=HHI", T["FRAME_DNS_ANSWER"], 0, 0),
                  question_frame(99, "h.test"), question_frame(1, ""), question_frame(1, "a..b"),
                  question_frame(1, "a b"), question_frame(1, "x" * 64), question_frame(1, "h.test", 10**9)):
        with Resolver("127.0.0.1:9") as r:
            r.control.send_raw(frame)
            assert r.process.wait(60) in (0, 76)


def question_frame(kind, name, milliseconds=1000):
    payload = u(1) + u(kind) + s(name) + u(milliseconds)
    return struct.pack("=HHI", T["FRAME_DNS_QUESTION"], 0, len(payload)) + payload


def it_has_given_up_everything():
    with Double({("h.test", "A"): [a("192.0.2.1")]}) as dns, Resolver(dns.address) as r:
        r.ask("h.test", "A")
        pid = r.process.pid
        with open("/proc/%d/status" % pid, encoding="ascii") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        assert status["Uid"].split()[0] != "0" and len(set(status["Uid"].split())) == 1, status["Uid"]
        assert status["CapEff"].strip("0") == "" and status["CapBnd"].strip("0") == "" and status["NoNewPrivs"] == "1"
        assert status.get("Groups", "").strip() == ""
        assert os.listdir("/proc/%d/root" % pid) == []
        if "asan" not in PROGRAM:
            assert status["Seccomp"] == "2"


def the_systems_servers_are_read():
    with open("/etc/resolv.conf", "w", encoding="ascii") as f:
        f.write("nameserver 127.0.0.53\n")
    with Double({("h.test", "A"): [a("192.0.2.1")]}, secure=True, host="127.0.0.53", port=53), Resolver(None) as r:
        got = r.ask("h.test", "A")
        assert (got["status"], got["secure"]) == (OK, 1), got


alone()
for test in (every_type_is_understood, nothing_and_nobody_are_told_apart, aliases_are_followed, loops_of_aliases_end,
             other_peoples_records_are_not_taken, names_that_are_none, only_a_resolver_here_is_believed,
             truncated_answers_come_over_tcp, huge_answers_are_cut, wrong_answers_are_not_heard, silence_ends_in_time,
             several_servers_stand_in_for_each_other, servers_that_are_none,
             silence_for_one_holds_up_nobody, garbage_ends_nobody, ports_and_ids_cannot_be_guessed,
             nonsense_from_the_asker_ends_it, it_has_given_up_everything, the_systems_servers_are_read):
    TESTS.run(test)
sys.exit(TESTS.close())
