#!/usr/bin/env python3
"""No lock is held while waiting for a client: proved by strace (no write to fd 1 between a lock and its release) and by a
client that stops reading while others deliver. Nobody's dotlock is taken away, however many want it. What was waited for
too long is not delivered behind the back of who gave it up.

  locks.py [--quick] BUILD_DIR"""

import argparse
import fcntl
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import crashlib
import frames

MAILDROP = "l_start=1, l_len=1" # of POP3 sessions among themselves (RFC 1939 3): held for the session, waited for by nobody
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")


def locks_at_writes(trace):
    """Descriptions of writes to fd 1 made under a lock; how many locks were taken and how many writes made."""
    held, bad, taken, writes = {}, [], 0, 0
    with open(trace) as f:
        for line in f:
            found = CALL.match(line)
            if not found:
                continue
            name, args, result = found.group(1), found.group(2), int(found.group(3))
            if name == "fcntl" and "SETLK" in args and result == 0 and MAILDROP not in args:
                fd = args.split(",")[0]
                if "F_UNLCK" in args:
                    held.pop(fd, None)
                else:
                    held[fd] = line.strip()
                    taken += 1
            elif name == "flock" and result == 0:
                fd = args.split(",")[0]
                if "LOCK_UN" in args:
                    held.pop(fd, None)
                else:
                    held[fd] = line.strip()
                    taken += 1
            elif name == "close" and result == 0:
                held.pop(args, None)
            elif name in ("link", "linkat", "rename", "renameat2") and result == 0 and re.search(r'\.lock"', args):
                held["dotlock"] = line.strip()
                taken += 1
            elif name == "openat" and result >= 0 and "O_EXCL" in args and re.search(r'\.lock"', args):
                held["dotlock"] = line.strip()
                taken += 1
            elif name in ("unlink", "unlinkat") and result == 0 and re.search(r'INBOX\.lock"', args):
                held.pop("dotlock", None)
            elif name in ("write", "writev", "sendto", "sendmsg") and args.startswith("1,"):
                writes += 1
                if held:
                    bad.append("%s while holding %s" % (line.strip()[:60], list(held.values())))
    return bad, taken, writes


IMAP = (b"a SELECT INBOX\r\nb STORE 1:3 +FLAGS (\\Seen)\r\nc FETCH 1:* (FLAGS ENVELOPE BODY.PEEK[])\r\n"
        b"d STORE 2 +FLAGS (\\Deleted)\r\ne EXPUNGE\r\nf FETCH 1:* BODY[]\r\ng LOGOUT\r\n")
POP3 = b"STAT\r\nUIDL\r\nLIST\r\nRETR 1\r\nRETR 2\r\nDELE 2\r\nTOP 3 5\r\nQUIT\r\n"


def programs(work):
    """(name, argv, what to send) of what can be talked to."""
    out = [("work", work.argv(["-"]), b"open INBOX\nflags 1:3 +S\ndump\nremove 2\npoll\nflush\ndump\nclose\n")]
    for name, text in (("imap-session", IMAP), ("pop3-session", POP3)):
        if name in work.programs:
            out.append((name, [work.programs[name]] + work.options(), text))
    return out


def seed(work, folder, size):
    work.fresh()
    words = []
    for n in range(6):
        path = os.path.join(folder, "m%d" % n)
        with open(path, "wb") as f:
            f.write(crashlib.message("m%d" % n, size))
        words += ["append", "INBOX", "", path, ","]
    p = work.run(words[:-1])
    if p.returncode != 0:
        raise RuntimeError("cannot seed the box: %r" % p.stdout)


def test_strace(build, folder, result):
    if not shutil.which("strace"):
        result.skip("locks: strace is not installed")
        return
    work = crashlib.Work(build, os.path.join(folder, "root"), demote=True)
    trace = os.path.join(folder, "strace")
    for name, argv, text in programs(work):
        seed(work, folder, 300000)
        p = subprocess.run(["strace", "-f", "-o", trace, "-s", "64", "-e",
                            "trace=fcntl,flock,close,link,linkat,rename,renameat2,openat,unlink,unlinkat,write,writev,sendto,sendmsg"] + argv,
                           input=text, capture_output=True, timeout=600, check=False, **work.as_user)
        if b"ptrace" in p.stderr.lower() and p.returncode != 0:
            result.skip("locks: strace cannot trace here")
            return
        bad, taken, writes = locks_at_writes(trace)
        result.check(p.returncode == 0, name + " runs under strace", "%d %r" % (p.returncode, p.stderr[-300:]))
        result.check(taken > 2 and writes > 2, name + ": the trace shows locks and writes", "%d locks, %d writes" % (taken, writes))
        result.check(not bad, name + " writes to its client without a lock", "; ".join(bad[:2]))


def wait_for_full(pipe):
    """Until nothing more goes into it for a second."""
    looks, ends = [], time.monotonic() + 60
    while time.monotonic() < ends and (len(looks) < 10 or looks[-1] == 0 or len(set(looks[-10:])) > 1):
        looks.append(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])
        time.sleep(0.1)


def wait_for_sleep(process):
    """Until it is in a nanosleep or clock_nanosleep (of x86-64 or arm64); is it?"""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with open("/proc/%d/syscall" % process.pid) as f:
            if f.read().split()[0] in ("35", "230", "115", "101"):
                return True
        time.sleep(0.01)
    return False


def test_stopped_reader(build, folder, result):
    """A client that asks for everything and reads nothing; a delivery and an expunge must not wait for it."""
    work = crashlib.Work(build, os.path.join(folder, "root"), demote=True)
    extra = os.path.join(folder, "extra")
    with open(extra, "wb") as f:
        f.write(crashlib.message("extra", 1000))
    for name, argv, text in programs(work):
        seed(work, folder, 300000)
        slow = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                **work.as_user)
        fcntl.fcntl(slow.stdout, 1031, 4096) # F_SETPIPE_SZ: full at once
        os.write(slow.stdin.fileno(), text)
        wait_for_full(slow.stdout) # it stands in a write now
        blocked = slow.poll() is None
        # Whoever waited for it would wait in vain.
        p = work.run(["append", "INBOX", "", extra, ",", "open", "INBOX", ",", "flags", "1", "+F", ",", "remove", "5", ",", "close"],
                     options=("-t", "5"))
        result.check(blocked and slow.poll() is None, name + " stands waiting for its reader")
        result.check(p.returncode == 0, name + " stopped: others deliver, flag and expunge",
                     "status %d: %r" % (p.returncode, p.stdout[-200:]))
        slow.kill()
        slow.wait()
        slow.stdin.close()
        slow.stdout.close()


def test_crowd(build, folder, result, seconds):
    """Many of us append, while somebody who knows the dotlock only does so too, and looks whether it stays his."""
    work = crashlib.Work(build, os.path.join(folder, "root"), demote=True)
    seed(work, folder, 300)
    lock, mine, script, crowd = work.inbox + ".lock", work.inbox + ".crowd", os.path.join(folder, "lines"), []
    with open(script, "w") as f:
        f.write(("append INBOX S %s\n" % os.path.join(folder, "m0")) * 100000)
    for _ in range(4):
        with open(script, "rb") as f:
            crowd.append(subprocess.Popen(work.argv(["-"], ("-t", "60")), stdin=f, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                          **work.as_user))
    taken, stolen, until = [], 0, time.monotonic() + seconds
    while time.monotonic() < until or (len(taken) <= 20 and time.monotonic() < until + 300):
        with open(mine, "w") as f, open(work.inbox, "ab", buffering=0) as box:
            f.write("0")
            try:
                os.link(mine, lock)
            except FileExistsError:
                os.unlink(mine)
                continue
            taken.append("crowd.%d" % len(taken))
            box.write(b"From sender@example.org Thu Jan  1 00:00:00 2026\n" + crashlib.message(taken[-1], 300, odd=False) + b"\n")
            if os.fstat(f.fileno()).st_nlink == 2:
                os.unlink(lock)
            else:
                stolen += 1
            os.unlink(mine)
    ended = [p.poll() for p in crowd]
    for p in crowd:
        p.kill()
        p.wait()
    result.check(ended == [None] * 4, "the crowd was at work until the end", repr(ended))
    result.check(len(taken) > 20 and stolen == 0, "a dotlock in use is nobody else's", "%d taken, %d stolen" % (len(taken), stolen))
    with open(work.inbox, "rb") as f:
        found = [crashlib.ident_of(t) for t in crashlib.mbox_messages(f.read()) if crashlib.raw_whole(t)]
    lost = [t for t in taken if found.count(t) != 1]
    result.check(not lost, "what is appended under the dotlock alone stays whole", "%d of %d: %r" % (len(lost), len(taken), lost[:5]))


def test_given_up(build, folder, result):
    """A deliver that could not write while it was waited for: afterwards another one has the message."""
    work = crashlib.Work(build, os.path.join(folder, "root"), demote=True)
    if "deliver" not in work.programs:
        result.skip("locks: deliver is not built")
        return
    for is_given_up in (False, True):
        seed(work, folder, 2000)
        size = os.path.getsize(work.inbox)
        control = frames.Control()
        deliver = subprocess.Popen([work.programs["deliver"]] + work.options() + ["-LS"], stdin=control.child,
                                   stderr=subprocess.DEVNULL, **work.as_user)
        control.child.close()
        with open(work.inbox, "r+b") as box, open(os.path.join(folder, "m0"), "rb") as message:
            fcntl.lockf(box, fcntl.LOCK_EX)
            control.send("FRAME_DELIVER_LETTER", frames.s("a@b"), frames.s("me@here"), frames.u(0), frames.s(""), fd=message.fileno())
            result.check(wait_for_sleep(deliver), "locks: deliver waits between two tries for the lock")
            if is_given_up:
                control.close()
            fcntl.lockf(box, fcntl.LOCK_UN)
        if not is_given_up:
            name, said = control.recv()
            result.check(name == "FRAME_DELIVER_VERDICT" and said.s().startswith(b"250"), "locks: a letter that is waited for is delivered")
            control.close()
        deliver.wait(60)
        grown = os.path.getsize(work.inbox) - size
        result.check((grown == 0) == is_given_up, "locks: a letter that was given up is not delivered", "%d bytes" % grown)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    result = crashlib.Result()
    folder = tempfile.mkdtemp(prefix="crash-locks-")
    os.chmod(folder, 0o777)
    try:
        test_strace(os.path.abspath(args.build), folder, result)
        test_stopped_reader(os.path.abspath(args.build), folder, result)
        test_crowd(os.path.abspath(args.build), folder, result, 3 if args.quick else 20)
        test_given_up(os.path.abspath(args.build), folder, result)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
