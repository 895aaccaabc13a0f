#!/usr/bin/env python3
"""A lone imap-session killed in the middle of APPEND, MULTIAPPEND, MOVE and EXPUNGE, at calls that change a file: what the
client was told is so, nothing is lost or doubled, and the next session opens the boxes at once (RFC 9051 6.3.12, RFC 3502,
RFC 6851 3, RFC 4315 3).

  imap.py [--quick] BUILD_DIR"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashlib
import scenarios

KILLS, QUICK_KILLS = 120, 30  # spread over the calls of a whole session
NEW = {ident: crashlib.wire(crashlib.message(ident, size)) for ident, size in (("n1", 9000), ("n2", 300), ("n3", 40000))}
FEWER = 4  # calls: where a second ends between two changes, the time of the file is not moved on (file_tick())
MOVED, DELETED = (3, 4), (2, 6)  # message numbers; those deleted count after the move


def literal(ident):
    return b"~{%d+}\r\n%s" % (len(NEW[ident]), NEW[ident])


COMMANDS = [
    (b"select", b"SELECT INBOX"),
    (b"append", b"APPEND INBOX (\\Flagged) " + literal("n1")),
    (b"multi", b"APPEND INBOX " + literal("n2") + b" (\\Seen) " + literal("n3")),
    (b"move", b"MOVE %d:%d Work" % MOVED),
    (b"store", b"STORE %d,%d +FLAGS.SILENT (\\Deleted)" % DELETED),
    (b"expunge", b"EXPUNGE"),
    (b"logout", b"LOGOUT"),
]


class Bench:
    """Two boxes, put back before each session."""

    def __init__(self, build, folder):
        self.work = crashlib.Work(build, os.path.join(folder, "root"), demote=True)
        self.work.fresh()
        scenarios.own(self.work, scenarios.files_of(os.path.join(folder, "messages")))
        self.work.give()
        self.start = crashlib.Snapshot(self.work.root)
        before = [self.work.dump("INBOX"), self.work.dump("Work")]
        self.inbox, self.other = [[m.ident for m in box.messages] for box in before]
        self.moved = [self.inbox[n - 1] for n in MOVED]
        rest = [ident for ident in self.inbox if ident not in self.moved]
        self.deleted = [rest[n - 1] for n in DELETED]

    def session(self, **env):
        """One session, command by command, until it ends. {command: its tagged response}, exit status."""
        self.start.restore()
        self.work.give()
        ours, theirs = socket.socketpair()
        env = dict(os.environ, CRASH_DIR=self.work.root, LD_PRELOAD=self.work.library, ASAN_OPTIONS="verify_asan_link_order=0",
                   **{k: str(v) for k, v in env.items()})
        process = subprocess.Popen([self.work.programs["imap-session"], "-c", "/dev/null", *self.work.options()], stdin=theirs,
                                   stdout=theirs, stderr=subprocess.DEVNULL, cwd="/", env=env, **self.work.as_user)
        theirs.close()
        ours.settimeout(300)
        answers = {}
        try:
            with ours, ours.makefile("rb") as lines:
                for tag, text in COMMANDS:
                    ours.sendall(tag + b" " + text + b"\r\n")
                    for line in lines:
                        if line.startswith(tag + b" ") and line.endswith(b"\r\n"):
                            answers[tag] = line
                            break
        except (BrokenPipeError, ConnectionResetError):
            pass  # killed
        return answers, process.wait(300)

    def calls(self):
        """How many calls a whole session makes."""
        answers, status = self.session(CRASH_MODE="kill", CRASH_AT=0)
        if status != 0 or [t for t, _ in COMMANDS if not answers.get(t, b"").startswith(t + b" OK ")]:
            raise AssertionError("status %d, %r" % (status, answers))
        low, high = 1, 2
        while self.session(CRASH_MODE="kill", CRASH_AT=high)[1] != 0:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.session(CRASH_MODE="kill", CRASH_AT=middle)[1] == 0 else (middle, high)
        return low

    def wrong(self, answers):
        """What is not as the client was told, or None."""
        inbox, other = self.work.dump("INBOX"), self.work.dump("Work")
        for box in (inbox, other):
            if isinstance(box, str):
                return "the box cannot be opened: " + box
            if [m for m in box.messages if not crashlib.is_whole(m.text)]:
                return "a message is not whole"
        here, there = [[m.ident for m in box.messages] for box in (inbox, other)]
        if len(set(here)) != len(here) or len(set(there)) != len(there):
            return "a message is there twice: %r, %r" % (here, there)
        bad = [tag.decode() for tag, line in answers.items() if not line.startswith(tag + b" OK ")]
        return "%r" % bad if bad else self.wrong_places(answers, here, there) or self.wrong_uids(answers, inbox, other)

    def wrong_places(self, answers, here, there):
        deleted = self.deleted if b"store" in answers else []
        for ident in self.inbox:
            if ident in self.moved:
                is_right = ident in there and ident not in here if b"move" in answers else ident in here or ident in there
            elif ident in self.deleted and b"expunge" in answers:
                is_right = ident not in here
            else:
                is_right = ident in here or ident in deleted
            if not is_right:
                return "%s: INBOX %r, Work %r" % (ident, here, there)
        if [ident for ident in self.other if ident not in there]:
            return "a message of Work is lost"
        if b"append" in answers and "n1" not in here:
            return "n1 was acknowledged and is not there"
        if ("n2" in here) != ("n3" in here) or (b"multi" in answers and "n2" not in here):
            return "half of a MULTIAPPEND, or none that was acknowledged: %r" % here
        strangers = set(here) - set(self.inbox) - set(NEW) | set(there) - set(self.other) - set(self.moved)
        return "strangers: %r" % strangers if strangers else None

    def wrong_uids(self, answers, inbox, other):
        uids = {m.uid: m.ident for m in inbox.messages}
        for tag, idents in ((b"append", ["n1"]), (b"multi", ["n2", "n3"])):
            code = re.search(rb"\[APPENDUID (\d+) (\d+)(?::(\d+))?\]", answers.get(tag, b""))
            if tag in answers and code is None:
                return "no APPENDUID: %r" % answers[tag]
            if code is None:
                continue
            first, last = int(code[2]), int(code[3] or code[2])
            if int(code[1]) != inbox.validity or [uids.get(uid) for uid in range(first, last + 1)] != idents:
                return "%r is not so: %r" % (answers[tag], uids)
        if len({m.uid for m in other.messages}) != len(other.messages) or inbox.uidnext <= max(uids, default=0):
            return "UIDs"
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("build")
    args = parser.parse_args()
    result = crashlib.Result()
    scratch = tempfile.mkdtemp(prefix="crash-imap-", dir="/var/tmp")
    os.chmod(scratch, 0o755)
    try:
        bench = Bench(os.path.abspath(args.build), scratch)
        calls = bench.calls()
        kills = min(calls, QUICK_KILLS if args.quick else KILLS)
        for mode in ("kill", "torn"):
            errors, reached = [], set()
            for i in range(kills):
                at = 1 + (i * calls + (calls // 2 if mode == "torn" else 0)) // kills
                answers, status = bench.session(CRASH_MODE=mode, CRASH_AT=min(at, calls))
                reached.add(len(answers))
                is_expected = status == -signal.SIGKILL or (status == 0 and at > calls - FEWER)
                error = bench.wrong(answers) if is_expected else "status %d" % status
                if error:
                    errors.append("call %d, after %s: %s" % (at, b" ".join(answers).decode(), error))
            result.check(not errors, "%s: what was told is so" % mode, "%d of %d: %s" % (len(errors), kills, "; ".join(errors[:3])))
            result.check({1, 2, 3, 5} <= reached, "%s: killed inside of each command" % mode, repr(reached))
        print("%d calls, %d kills" % (calls, 2 * kills), flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
