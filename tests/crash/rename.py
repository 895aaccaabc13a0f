#!/usr/bin/env python3
"""RENAME and DELETE of a mailbox in which an expunge was interrupted, stopped at every system call that changes a file:
the messages are there whole, under the old name or the new one, or, when it is deleted, all or none.

  rename.py [--quick] BUILD_DIR"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashlib
import scenarios

MOST_CALLS = 400
REMOVE = ["open", "Work", ",", "remove", "2", ",", "close"]
LEFT = ["s1", "s3", "m4"]
STEPS = {"rename": ["rename", "Work", "Play"], "delete": ["delete", "Work"]}
MODES = {
    "kill": dict(CRASH_MODE="kill"), "torn": dict(CRASH_MODE="torn"),
    "EIO": dict(CRASH_MODE="fail", CRASH_ERRNO=5, CRASH_STICKY=0),
    "ENOSPC": dict(CRASH_MODE="fail", CRASH_ERRNO=28, CRASH_STICKY=1),
}


class Bench:
    def __init__(self, build, folder):
        self.work = crashlib.Work(build, os.path.join(folder, "root"))
        self.files = scenarios.files_of(os.path.join(folder, "messages"))
        self.journal = os.path.join(self.work.root, "state/Work.journal")
        self.torn = 0  # the first write of the expunge into the mailbox: half of it is done
        for at in range(1, MOST_CALLS):
            whole = self.make(at)
            has_journal, data = self.state()
            if has_journal and data != whole:
                self.torn = at
                break
        assert self.torn, "no call leaves half of a change"

    def state(self):
        with open(os.path.join(self.work.root, "mail/Work"), "rb") as f:
            return os.path.exists(self.journal), f.read()

    def make(self, at):
        """Work with three messages and one that is on its way out; a child. Returns Work's bytes before that."""
        self.work.fresh()
        words = ["create", "Work", ",", "create", "Work/kid", ",", "append", "Work/kid", "", self.files["@s5"]]
        for name in ("@s1", "@m2", "@s3", "@m4"):
            words += [",", "append", "Work", "", self.files[name]]
        self.work.run(words)
        _, whole = self.state()
        self.work.run(REMOVE, interpose=dict(CRASH_MODE="torn", CRASH_AT=at, CRASH_NO_COLLAPSE=1))
        self.unlock()
        return whole

    def unlock(self):
        """The dotlocks of who was killed; their age is the matter of other tests."""
        for base, _, names in os.walk(os.path.join(self.work.root, "mail")):
            for name in names:
                if name.endswith(".lock"):
                    os.unlink(os.path.join(base, name))

    def found(self, name):
        if not os.path.exists(os.path.join(self.work.root, "mail", name.replace("/", ".sbd/"))):
            return None
        box = self.work.dump(name)
        if isinstance(box, str):
            return box
        return [m.ident if crashlib.is_whole(m.text) else "torn" for m in box.messages]

    def point(self, step, mode, at):
        """(was it kept from ending, what is wrong)"""
        self.make(self.torn)
        p = self.work.run(STEPS[step], interpose=dict(MODES[mode], CRASH_AT=at))
        is_done = b"ACK" in p.stdout
        self.unlock()
        where = [(n, self.found(n)) for n in ("Work", "Play") if self.found(n) is not None]
        kids = [self.found(n) for n in ("Work/kid", "Play/kid") if self.found(n) is not None]
        wrong = []
        if kids != [["s5"]]:
            wrong.append("children: %r" % kids)
        if step == "delete":
            if where not in ([], [("Work", LEFT)]) or (is_done and where):
                wrong.append("deleted: %r" % where)
        elif len(where) != 1 or where[0][1] != LEFT or (is_done and where[0][0] != "Play"):
            wrong.append("renamed: %r" % where)
        return not is_done, wrong


def many_children(build, folder, count=400):
    """More mailboxes below one than a process may have files open to begin with: renamed, or refused when it may not have more."""
    work = crashlib.Work(build, os.path.join(folder, "many", "root"), demote=True)
    if "imap-session" not in work.programs:
        return ["imap-session is not built"]
    work.fresh()
    os.makedirs(os.path.join(work.paths[1], "Work.sbd"), 0o700)
    for name in ["Work"] + ["Work.sbd/%d" % n for n in range(count)]:
        with open(os.path.join(work.paths[1], name), "wb"):
            pass
    work.give()
    wrong = []
    for hard, answer in ((512, b"b NO [LIMIT]"), (4096, b"b OK")):
        p = subprocess.run([work.programs["imap-session"]] + work.options(), input=b"b RENAME Work Play\r\nc LOGOUT\r\n", timeout=600,
                           capture_output=True, check=False, **work.as_user,
                           preexec_fn=lambda most=hard: resource.setrlimit(resource.RLIMIT_NOFILE, (256, most)))
        if answer not in p.stdout:
            wrong.append("with %d files: %r" % (hard, p.stdout[-200:]))
    if len(os.listdir(os.path.join(work.paths[1], "Play.sbd"))) != count:
        wrong.append("not all children came along")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("build")
    args = parser.parse_args()
    passed = failed = points = 0
    with tempfile.TemporaryDirectory(prefix="pennypost-rename-") as folder:
        bench = Bench(os.path.abspath(args.build), folder)
        for step in STEPS:
            calls = None # of the whole step, when it is known
            for mode in ("kill", "ENOSPC") if args.quick else MODES:
                errors, at = [], 0
                while at < (calls or MOST_CALLS):
                    at += 1
                    is_stopped, wrong = bench.point(step, mode, at)
                    errors += ["call %d: %s" % (at, w) for w in wrong]
                    if not is_stopped and calls is None:
                        calls = at
                points += at
                print("%-8s %-8s %4d points %4d bad" % (step, mode, at, len(errors)), *errors[:5], sep="\n    ")
                passed, failed = passed + (not errors), failed + bool(errors)
        os.chmod(folder, 0o755)
        os.mkdir(os.path.join(folder, "many"))
        wrong = many_children(os.path.abspath(args.build), folder)
        print("many children:", wrong or "as it should be")
        passed, failed = passed + (not wrong), failed + bool(wrong)
    print("points tried: %d" % points)
    print("%d passed, %d failed" % (passed, failed))
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
