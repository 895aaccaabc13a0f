#!/usr/bin/env python3
"""DELIVERBY (RFC 2852) in the queue and on the way to the next hop, with servers that this test plays.

    deliverby_alone.py BUILD-DIR [TEST...]

Closes with "N passed, N failed".
"""
import re
import shutil
import sys
import time

from frames import Tests
from receiver import FEATURES, Receiver
from relay_queue import FOLDER, hop, parse

KNOWING = FEATURES + ("DELIVERBY",)


def late(seconds):
    """A deadline so many seconds ago, negative: to come."""
    return "%d" % (time.time() - seconds)


def commands(receiver, verb):
    return [x for s in receiver.sessions for x in s.lines if x.startswith(verb)]


def by_of(receiver):
    return [re.search(r" BY=(-?\d+);(\w+)$", x).groups() for x in commands(receiver, "MAIL FROM:<a@")]


def reports(receiver):
    return [m for m in receiver.messages if m.sender == ""]


def run_twice(q):
    q.run("--all")
    q.run("--all")


# ---- 4.1.4: what the next hop hears ----

def test_handed_on():
    """4.1.4: what is left of the time, the mode and the trace go on to a server that knows them."""
    for mode, trace, letters in (("return", False, "R"), ("notify", False, "N"), ("return", True, "RT"),
                                 ("notify", True, "NT")):
        r = Receiver(features=KNOWING)
        q = hop(r)
        fields = {"deliverby": mode, "deliverby_deadline": late(-500)}
        if trace:
            fields["deliverby_trace"] = "yes"
        q.add(["b@there.example", "to-notify 4"], sender="a@there.example", **fields)
        run_twice(q)
        seconds, got = by_of(r)[0]
        assert got == letters and 400 <= int(seconds) <= 500, by_of(r)
        assert q.ids() == []
        # 4.1.4: a trace is told although nobody asked for SUCCESS.
        told = reports(r)
        assert len(told) == trace, (mode, trace, told)
        if trace:
            fields = parse(told[0].data)[0]
            assert [f["Action"] for f in fields] == ["relayed"], fields


def test_negative():
    """4.1.4: mode N goes on when the time has passed, with a negative time."""
    r = Receiver(features=KNOWING)
    q = hop(r)
    q.add("b@there.example", deliverby="notify", deliverby_deadline=late(100))
    q.run()
    seconds, letters = by_of(r)[0]
    assert letters == "N" and -200 <= int(seconds) <= -99 and q.ids() == [] and len(r.messages) == 1


def test_return_unknown():
    """4.1.4.1: mode R goes to no server that does not know it, nor to one that wants more time; it fails at once."""
    for features, status in ((FEATURES, "5.3.3"), (FEATURES + ("DELIVERBY 1000",), "5.4.7")):
        r = Receiver(features=features)
        q = hop(r)
        q.add("b@there.example", sender="a@there.example", deliverby="return", deliverby_deadline=late(-500))
        run_twice(q)
        assert commands(r, "MAIL FROM:<a@") == [], commands(r, "MAIL")
        fields = parse(reports(r)[0].data)[0]
        assert [(f["Action"], f["Status"]) for f in fields] == [("failed", status)], fields[0].as_string()
        assert q.ids() == []


def test_least_time():
    """2: an empty min-by-time, one that fits, and options that nobody knows."""
    for parameter in ("", " 400", " 400,X-MORE", " ,X-MORE"):
        r = Receiver(features=FEATURES + ("DELIVERBY" + parameter,))
        q = hop(r)
        q.add("b@there.example", deliverby="return", deliverby_deadline=late(-500))
        q.run()
        assert len(by_of(r)) == 1 and len(r.messages) == 1, parameter


def test_notify_unknown():
    """4.1.4.2: mode N goes to any server; "relayed" is told, and DSN is asked for delays."""
    for notify, said in ((0, "NOTIFY=FAILURE,DELAY"), (2, "NOTIFY=SUCCESS,DELAY"), (4, "NOTIFY=FAILURE,DELAY"),
                         (8, "NOTIFY=DELAY"), (1, "NOTIFY=NEVER")):
        for features in (FEATURES, tuple(f for f in FEATURES if f != "DSN")):
            r = Receiver(features=features)
            q = hop(r)
            q.add(["b@there.example"] + ["to-notify %d" % notify] * (notify > 0), sender="a@there.example",
                  deliverby="notify", deliverby_deadline=late(-500))
            run_twice(q)
            rcpt = commands(r, "RCPT TO:<b@")
            assert rcpt == ["RCPT TO:<b@there.example>" + (" " + said) * ("DSN" in features)], rcpt
            assert " BY=" not in commands(r, "MAIL")[0]
            assert [parse(m.data)[0][0]["Action"] for m in reports(r)] == ["relayed"] * (notify != 1), (notify, features)
            assert q.ids() == []


def test_notify_unknown_late():
    """4.1.4.2: behind the deadline nothing is said of the relaying."""
    r = Receiver()
    q = hop(r)
    q.add("b@there.example", sender="a@there.example", deliverby="notify", deliverby_deadline=late(5))
    run_twice(q)
    assert reports(r) == [] and len(r.messages) == 1


# ---- 4.1.3: the time is over ----

def test_return_late():
    """4.1.3: no further attempt, "failed" with 5.4.7 for those who want to hear of failures."""
    r = Receiver(features=KNOWING)
    q = hop(r)
    q.add("b@there.example", ["c@there.example", "to-notify 2"], ["d@there.example", "to-notify 4"],
          ["e@there.example", "to-notify 1"], sender="a@there.example", deliverby="return", deliverby_deadline=late(1),
          age=100)
    log = q.run()
    assert commands(r, "MAIL FROM:<a@") == [] and log.count("too-late ") == 4, log
    q.run("--all")
    fields, text, _ = parse(reports(r)[0].data)
    assert [(f["Action"], f["Status"], f["Final-Recipient"]) for f in fields] == [
        ("failed", "5.4.7", "rfc822; %s@there.example" % x) for x in "bd"], [f.as_string() for f in fields]
    assert b"\r\nDeliver-By-Date: " in reports(r)[0].data and b"\r\nArrival-Date: " in reports(r)[0].data
    assert "in time" in text and q.ids() == []


def test_return_after_attempts():
    """4.1.2, 4.1.3: tried until then; the next look is no later than the deadline, and says 5.4.7 then."""
    r = Receiver(features=KNOWING, hook=lambda s, verb, line: b"450 4.2.1 not now\r\n" if "b@" in line else None)
    q = hop(r, retry_min="1000", retry_max="1000")
    name = q.add("b@there.example", sender="a@there.example", deliverby="return", deliverby_deadline=late(-15))
    deadline = int(dict(q.entry(name))["deliverby-deadline"])
    q.run()
    assert dict(q.entry(name))["next-attempt"] == "%d" % deadline
    time.sleep(max(0, deadline + 1 - time.time()))
    q.run()
    assert q.entry(name) is None
    q.run("--all")
    fields = parse(reports(r)[0].data)[0]
    assert (fields[0]["Action"], fields[0]["Status"]) == ("failed", "5.4.7") and \
        "not now" in fields[0]["Diagnostic-Code"], fields[0].as_string()
    assert len(commands(r, "MAIL FROM:<a@")) == 1


def test_return_fails_late():
    """4.1.3: an attempt that fails for a while behind the deadline is the last one."""
    def hook(_, verb, line):
        if verb == "RCPT" and "b@" in line:
            time.sleep(3)
            return b"450 4.2.1 not now\r\n"
        return None
    r = Receiver(features=KNOWING, hook=hook)
    q = hop(r)
    name = q.add("b@there.example", sender="a@there.example", deliverby="return", deliverby_deadline=late(-2))
    q.run()
    assert q.entry(name) is None
    q.run("--all")
    fields = parse(reports(r)[0].data)[0]
    assert (fields[0]["Action"], fields[0]["Status"]) == ("failed", "5.4.7"), fields[0].as_string()


def test_return_held():
    """What the admin holds is his."""
    q = hop(Receiver(features=KNOWING))
    name = q.add("b@there.example", deliverby="return", deliverby_deadline=late(5), held="yes")
    q.run()
    assert q.ids() == [name] and q.states(name)["b@there.example"][0] == "pending"


def test_notify_late():
    """4.1.3: "delayed" with 4.4.7, once, to those who want to hear of delays; and it is tried on."""
    r = Receiver(features=KNOWING, hook=lambda s, verb, line: b"450 4.2.1 not now\r\n" if "@away" in line else None)
    q = hop(r)
    name = q.add("b@away.example", ["c@away.example", "to-notify 4"], ["d@away.example", "to-notify 8"],
                 ["e@away.example", "to-notify 1"], sender="a@there.example", deliverby="notify",
                 deliverby_deadline=late(1))
    for _ in range(3):
        q.run("--all")
    assert len(reports(r)) == 1
    fields = parse(reports(r)[0].data)[0]
    assert [(f["Action"], f["Status"], f["Final-Recipient"]) for f in fields] == [
        ("delayed", "4.4.7", "rfc822; %s@away.example" % x) for x in "bd"], [f.as_string() for f in fields]
    assert b"\r\nDeliver-By-Date: " in reports(r)[0].data
    assert q.ids() == [name] and set(x[0] for x in q.states(name).values()) == {"deferred"}
    r.hook = None
    q.run("--all")
    assert q.ids() == [] and [m.recipients for m in r.messages if m.sender] == [
        ["%s@away.example" % x for x in "bcde"]]


def test_notify_late_between_attempts():
    """4.1.3: told when the time has passed, although the next attempt comes later."""
    r = Receiver(features=KNOWING)
    q = hop(r, retry_max="1000")
    name = q.add(["b@there.example", "to-state deferred", "to-next-attempt %d" % (time.time() + 1000)],
                 sender="a@there.example", folder="cur", next_attempt="%d" % (time.time() + 1000), deliverby="notify",
                 deliverby_deadline=late(1), delay_warned="yes")
    q.run()
    q.run()
    assert [parse(m.data)[0][0]["Status"] for m in reports(r)] == ["4.4.7"]
    assert q.ids() == [name] and commands(r, "MAIL FROM:<a@") == []


def test_local():
    """A place on this machine is no next hop: mode R needs nothing of it, and its time passes all the same."""
    q = hop(Receiver())
    spool = q.path("spool")
    q.options.update(spool=spool, state=q.path("state"))
    name = q.add(["root@here.example", "to-kind command", "to-user nobody", "to-argument exit 75"],
                 deliverby="return", deliverby_deadline=late(-15))
    deadline = int(dict(q.entry(name))["deliverby-deadline"])
    q.run()
    assert q.states(name)["root@here.example"][0] == "deferred", q.log
    time.sleep(max(0, deadline + 1 - time.time()))
    log = q.run()
    assert "too-late" in log and q.entry(name) is None, log


def main():
    tests = Tests()
    for name, function in list(globals().items()):
        if name.startswith("test_") and (len(sys.argv) < 3 or name[5:] in sys.argv[2:]):
            tests.run(function)
    shutil.rmtree(FOLDER)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
