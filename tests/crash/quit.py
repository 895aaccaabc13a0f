#!/usr/bin/env python3
"""QUIT of the real pop3-session, stopped at every system call that changes a file: the process killed, the call torn or
failing, the client's network gone. The marked messages are all gone or all there, and nothing else has changed; +OK is
never said before they are gone.

  quit.py [--quick] BUILD_DIR"""

import argparse
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashlib
import scenarios

MARKED = (2, 3, 6)
MODES = {  # what happens at the call
    "kill": dict(CRASH_MODE="kill"), "torn": dict(CRASH_MODE="torn"), "drop": dict(CRASH_MODE="stop"),
    "EIO": dict(CRASH_MODE="fail", CRASH_ERRNO=5, CRASH_STICKY=0),
    "ENOSPC": dict(CRASH_MODE="fail", CRASH_ERRNO=28, CRASH_STICKY=1),
}
MOST_CALLS = 2000


class Bench:
    """One box, put back before each session."""

    def __init__(self, build, folder, seed, no_collapse):
        self.work = crashlib.Work(build, os.path.join(folder, "root"), demote=True)
        self.env = {"CRASH_NO_COLLAPSE": "1"} if no_collapse else {}
        self.work.fresh()
        seed(self.work, scenarios.files_of(os.path.join(folder, "messages")))
        self.work.give()
        self.start = crashlib.Snapshot(self.work.root)
        self.before = self.work.dump()
        self.start.restore()
        self.work.give()

    def session(self, name, at):
        """Plays one session with something happening at call `at`. (exit status, all that was said, was it reached)"""
        self.start.restore()
        self.work.give()
        ours, theirs = socket.socketpair()
        env = dict(os.environ, CRASH_DIR=self.work.root, CRASH_AT=str(at), LD_PRELOAD=self.work.library,
                   ASAN_OPTIONS="verify_asan_link_order=0", **self.env)
        env.update({k: str(v) for k, v in MODES[name].items()})
        process = subprocess.Popen([self.work.programs["pop3-session"], *self.work.options()], stdin=theirs, stdout=theirs,
                                   stderr=subprocess.DEVNULL, env=env, **self.work.as_user)
        theirs.close()
        ours.settimeout(300)
        try:
            ours.sendall(b"RETR 1\r\n" + b"".join(b"DELE %d\r\n" % n for n in MARKED) + b"QUIT\r\n")
        except BrokenPipeError:
            pass  # killed already
        if name == "drop" and os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ours.close()
            os.kill(process.pid, signal.SIGCONT)
            return process.wait(300), b"", True
        said = b""
        try:
            while piece := ours.recv(65536):
                said += piece
        except ConnectionResetError:
            pass  # killed with input unread
        ours.close()
        if name == "drop":  # waitpid() above has seen the end
            process.returncode = 0
        status = process.wait(300)
        # A failing call is not seen from outside: the number of calls of a whole session is known from "kill".
        return status, said, status == -signal.SIGKILL

    def wrong(self, said):
        """What is not as it may be, or None; and are the messages gone?"""
        # On a disk that refuses even what was reserved nobody can tell the client more than that it failed.
        is_undecided = os.path.exists(os.path.join(self.work.root, "state", "INBOX.journal"))
        after = self.work.dump()
        if isinstance(after, str):
            return "the box cannot be opened: " + after, False
        left = {m.uid: m for m in after.messages}
        marked = {m.uid for n, m in enumerate(self.before.messages, 1) if n in MARKED}
        gone = marked - set(left)
        if gone and gone != marked:
            return "%d of %d are gone" % (len(gone), len(marked)), False
        for m in self.before.messages:
            if m.uid not in gone and (m.uid not in left or left[m.uid].digest != m.digest):
                return "UID %d has changed" % m.uid, False
            if m.uid not in gone and m.flags != left[m.uid].flags and m.uid != self.before.messages[0].uid:
                return "flags of UID %d are %s" % (m.uid, left[m.uid].flags), False
        if len(after.messages) != len(self.before.messages) - len(gone) or after.validity != self.before.validity:
            return "%d messages, UIDVALIDITY %d" % (len(after.messages), after.validity), False
        with open(self.work.inbox, "rb") as f:
            if [m for m in crashlib.mbox_messages(f.read()) if not crashlib.raw_whole(m)]:
                return "another reader sees a broken message", False
        if b"+OK Good bye, 3 deleted" in said and not gone:
            return "+OK was said and they are there", False
        if b"-ERR" in said and gone and not is_undecided:
            return "-ERR was said and they are gone", True
        return None, bool(gone)


def try_all(bench, name, calls, result, text):
    """`calls`: how many there are, None: as long as something happens."""
    errors, outcomes, n = [], set(), 0
    while n < (MOST_CALLS if calls is None else calls):
        n += 1
        _, said, is_reached = bench.session(name, n)
        if calls is None and not is_reached:
            break
        error, is_gone = bench.wrong(said)
        outcomes.add(is_gone)
        if error:
            errors.append("call %d: %s" % (n, error))
    result.check(not errors, "%s, %s: all or none" % (text, name), "%d of %d: %s" % (len(errors), n, "; ".join(errors[:3])))
    if name in ("kill", "drop"):
        result.check(outcomes == {True, False}, "%s, %s: both were seen" % (text, name), repr(outcomes))
    return n - 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("build")
    args = parser.parse_args()
    result = crashlib.Result()
    boxes = [("own", scenarios.own, False), ("foreign", scenarios.opened, False), ("own, moved", scenarios.own, True)]
    modes = ("kill", "drop", "EIO") if args.quick else tuple(MODES)
    boxes = boxes[:1] if args.quick else boxes
    for text, seed, no_collapse in boxes:
        scratch = tempfile.mkdtemp(prefix="crash-quit-", dir="/var/tmp")
        os.chmod(scratch, 0o755)
        try:
            bench = Bench(os.path.abspath(args.build), scratch, seed, no_collapse)
            calls = None
            for name in modes:
                at = try_all(bench, name, calls if name not in ("kill", "torn", "drop") else None, result, text)
                calls = at if name == "kill" else calls
            print("%s: %d calls" % (text, calls), flush=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
