#!/usr/bin/env python3
"""Queue runs while something else goes on: the admin's hand on the same entries, a disk that is full, a clock that jumps.

    box python3 relay_trouble.py BUILD-DIR [TEST...]

Closes with "N passed, N failed".
"""
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import relay_queue
from frames import Tests
from receiver import FEATURES, Hangup, Receiver
from relay_queue import BUILD, FOLDER, hop
from world import wait_until

PENNYPOST = os.path.join(BUILD, "handlers/admin/pennypost")


def hand(q, *words):
    """`pennypost queue ...`: its exit status and what it said."""
    argv = [PENNYPOST]
    for key, value in q.options.items():
        argv += ["-o", "%s=%s" % (key, value)]
    done = subprocess.run(argv + ["queue", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300,
                          stderr=subprocess.DEVNULL, check=False)
    return done.returncode, done.stdout


def is_quiet(q):
    """Is no run of that queue at work? Hands begin some that nobody waits for. Two looks: a process that is just about to become
    another one has no arguments."""
    if names_of(q):
        return False
    time.sleep(0.05)
    return not names_of(q)


def names_of(q):
    """The processes that have the queue's folder among their arguments."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                if q.folder.encode() in f.read():
                    found.append(pid)
        except OSError:
            pass
    return found


def finish(q, tries=20):
    for _ in range(tries):
        assert wait_until(lambda: is_quiet(q))
        q.run("--all")
        if not q.ids():
            return
        time.sleep(0.1)


# ---- the admin's hand ----

def test_verbs():
    """Each of them once, with nothing else going on."""
    r = Receiver()
    q = hop(r, retry_min="1h", retry_max="1h")
    r.hook = lambda s, verb, line: b"451 4.3.0 later\r\n" if verb == "RCPT" else None
    names = [q.add("b%d@there.example" % i, sender="a@away.example") for i in range(5)]
    q.run()
    r.hook = None
    assert hand(q, "list")[1].endswith("5 in the queue\n") and "b0@there.example" in hand(q, "show", names[0])[1]
    assert "One line." in hand(q, "show", "--message", names[0])[1]
    assert hand(q, "hold", names[0]) == (0, "1 held\n")
    assert hand(q, "remove", names[1]) == (0, "1 removed\n")
    assert hand(q, "bounce", "--reason", "wrong house", names[2]) == (0, "1 returned to their senders\n")
    assert hand(q, "retry", names[3]) == (0, "1 due now\n")
    wait_until(lambda: len(r.messages) >= 2 and is_quiet(q))  # bounce and retry start a run
    got = {m.recipients[0]: m for m in r.messages}
    assert set(got) == {"a@away.example", "b3@there.example"} and b"wrong house" in got["a@away.example"].data, got
    assert q.ids() == sorted([names[0], names[4]])
    q.run("--all")
    assert q.ids() == [names[0]]  # held: not even by force
    assert hand(q, "release", names[0]) == (0, "1 released\n")
    wait_until(lambda: not q.ids() and is_quiet(q))
    assert q.ids() == [] and len(r.messages) == 4
    assert hand(q, "retry", names[0])[0] == 66 and hand(q, "list") == (0, "The queue is empty\n")


def test_hands_while_running():
    """Several runs, several hands: what a hand was told is what happened, nothing is lost and nothing comes twice."""
    r = Receiver(hook=lambda s, verb, line: time.sleep(0.03) if verb == "MAIL" else None)
    q = hop(r, relay_connections="3", relay_connections_per_destination="3")
    names = [q.add("b%d@there.example" % i, sender="a%d@away.example" % i) for i in range(90)]
    told = {"remove": set(), "bounce": set(), "hold": set()}
    runs = [q.start("--all") for _ in range(2)]

    def meddle(seed):
        dice = random.Random(seed)
        for _ in range(25):
            verb = dice.choice(["remove", "bounce", "hold", "retry", "show", "list", "release"])
            i = dice.randrange(len(names))
            status, text = hand(q, verb, *([] if verb == "list" else [names[i]]))
            assert status in (0, 66, 75), (verb, status, text)  # 66: gone, 75: is being worked on
            if verb in told and status == 0:
                told[verb].add(i)
    hands = [threading.Thread(target=meddle, args=(seed,)) for seed in range(4)]
    for t in hands:
        t.start()
    for t in hands:
        t.join()
    assert all(p.wait(300) == 0 for p in runs) and wait_until(lambda: is_quiet(q))
    q.run("--all")
    held = q.ids()
    assert set(held) <= {names[i] for i in told["hold"]} and not os.listdir(q.path("corrupt"))
    if held:
        hand(q, "release", *held)
    finish(q)
    assert q.ids() == [] and not os.listdir(q.path("msg")), (q.ids(), os.listdir(q.path("msg")))
    got = [a for m in r.messages for a in m.recipients]
    assert len(got) == len(set(got)), [a for a in got if got.count(a) > 1]
    for i in range(len(names)):
        delivered, returned = "b%d@there.example" % i in got, "a%d@away.example" % i in got
        # Removed after a bounce that no run had seen yet: neither.
        if i in told["remove"]:
            assert not delivered, i
        elif i in told["bounce"]:
            assert returned and not delivered, i
        else:
            assert delivered and not returned, i


# ---- the disk ----

def fill(path):
    with open(path, "wb", buffering=0) as f:
        for size in (65536, 4096, 1):
            try:
                while f.write(bytes(size)) == size:
                    pass
            except OSError:
                pass


def test_full_disk():
    """Nothing is lost; what cannot be written down is not done, and what makes room is."""
    r = Receiver(hook=lambda s, verb, line: b"451 4.3.0 later\r\n" if verb == "RCPT" and "later@" in line else None)
    place = os.path.join(FOLDER, "small")
    os.mkdir(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", place], check=True)
    try:
        relay_queue.FOLDER = place
        q = hop(r)
        one = q.add("one@there.example")
        two = q.add("two@there.example", "later@there.example")
        told = q.add(["told@there.example", "to-notify 2"])
        fill(place + "/filler")
        for _ in range(2):
            p = q.start("--all")  # it makes a pause before it tells of the disk
            assert wait_until(lambda: one not in q.ids())
            time.sleep(1)
            p.kill()
            p.wait()
            fill(place + "/filler2")
        assert wait_until(lambda: is_quiet(q))
        got = [a for m in r.messages for a in m.recipients]
        assert got == ["one@there.example"] and q.ids() == sorted([two, told]), (got, q.ids(), p.stderr.read())
        os.unlink(place + "/filler")
        q.run("--all")
        q.run("--all")
        got = sorted(a for m in r.messages for a in m.recipients)
        assert got == ["one@there.example", "told@there.example", "two@there.example"], got  # told's server knows DSN
        assert [s for s, _ in q.states(two).values()] == ["relayed", "deferred"] and q.ids() == [two], q.states(two)
    finally:
        relay_queue.FOLDER = FOLDER
        subprocess.run(["umount", "-l", place], check=True)


# ---- servers that stall ----

def staller(is_meant=lambda session: True):
    """A server that says nothing more to who comes to DATA."""
    def hook(session, verb, _):
        if verb != "DATA" or not is_meant(session):
            return None
        session.receiver.woken.wait(300)
        raise Hangup
    r = Receiver(hook=hook, features=[f for f in FEATURES if f != "CHUNKING"])
    r.woken = threading.Event()
    return r


def test_stalls_every_time():
    """A server that greets and then says nothing is down after one round of connections that ran into their time-outs, however
    many there may be; nothing is lost, and the next run knows."""
    for most in (2, 8):
        r = staller()
        q = hop(r, relay_connections_per_destination=str(most), relay_timeouts="4", retry_min="1h", retry_max="1h")
        names = [q.add("b%d@there.example" % i) for i in range(9 * most)]
        q.run()
        where = (most, len(r.sessions), q.log[-2000:])
        assert 3 <= len(r.sessions) <= 2 + most and q.log.count("unreachable ") == 1 and "courier-ended" not in q.log, where
        assert q.ids() == sorted(names) and all(s == "deferred" for n in names for s, _ in q.states(n).values()), where
        seen = len(r.sessions)
        name = q.add("late@there.example")
        q.run()
        assert len(r.sessions) == seen and q.states(name)["late@there.example"][1].startswith("421 4.4.2 "), (where, q.log)
        r.hook = None
        r.woken.set()
        q.run("--all", relay_timeouts="100")
        assert q.ids() == [] and len(r.messages) == len(names) + 1, (where, len(r.messages))
        r.close()


def test_stalls_at_some():
    """Messages at which a server says nothing more, beside as many connections as it takes: the others go meanwhile, and what
    took them is not down when the first ones run into their time-outs at last."""
    r = staller(lambda session: "poison" in session.recipients[0])
    q = hop(r, relay_connections_per_destination="8", relay_timeouts="8", retry_min="1h", retry_max="1h")
    bad = [q.add("poison%d@there.example" % i, priority="5") for i in range(4)]
    for i in range(80):
        q.add("b%d@there.example" % i)
    q.run()
    assert q.ids() == sorted(bad) and len(r.messages) == 80, (len(q.ids()), len(r.messages), q.log[-2000:])
    assert all(q.states(n)["poison%d@there.example" % i][0] == "deferred" for i, n in enumerate(bad))
    q.add("next@there.example")
    q.run(relay_timeouts="100")
    assert q.ids() == sorted(bad) and len(r.messages) == 81, q.log[-2000:]
    r.woken.set()
    r.close()


# ---- the clock ----

def test_clock():
    """It was years ahead, or is years behind: the mail goes all the same, and nothing is given up at the first try."""
    now = int(time.time())
    r = Receiver()
    q = hop(r, retry_min="5m", retry_max="4h")
    port = q.options["relayhost"]
    # Scheduled, and a next hop remembered, by a clock that was ten years ahead.
    q.options["relayhost"] = "127.0.0.1:1"
    name = q.add("b@there.example", age=-10 * 365 * 86400)
    q.run("--epoch=%d" % (now + 10 * 365 * 86400))
    assert q.states(name)["b@there.example"][0] == "deferred"
    q.run()  # this is due, and the memory says nothing any more
    entry = dict(q.entry(name))
    assert abs(int(entry["created"]) - now) < 3600 and abs(int(entry["to-next-attempt"]) - now) < 5 * 3600, entry
    q.options["relayhost"] = port
    q.run("--all")
    assert [m.recipients for m in r.messages] == [["b@there.example"]] and q.ids() == []
    # Queued when the clock stood at 1970: a first failure is no reason to return it, those of four more hours are.
    q.options["relayhost"] = "127.0.0.1:1"
    name = q.add("c@there.example", age=now - 1000, sender="")
    q.run()
    assert q.states(name)["c@there.example"][0] == "deferred"
    q.run("--all", "--epoch=%d" % (now + 5 * 3600))
    assert q.entry(name) is None and "expired " in q.log


def main():
    tests = Tests()
    for name, function in list(globals().items()):
        if name.startswith("test_") and (len(sys.argv) < 3 or name[5:] in sys.argv[2:]):
            tests.run(function)
    shutil.rmtree(FOLDER)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
