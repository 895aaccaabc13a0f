#!/usr/bin/env python3
"""The empty line with which an expunge that gives no blocks back marks the end of the mailbox, as a crash may leave it:
written, lost as a NUL, absent; with mail of another program behind it and without. Every message is there whole, and no
NUL is.

  mark.py [--quick] BUILD_DIR"""

import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashlib
import scenarios

MOST_CALLS = 80
REMOVE = ["open", "INBOX", ",", "remove", "1", ",", "close"]
MAIL = b"From other@example.org Fri Jan  2 00:00:00 2026\n" + crashlib.message("foreign", 900, odd=False) + b"\n"
TAILS = {
    "mark": b"\n", "mark, mail": b"\n" + MAIL, "mark, two mails": b"\n" + MAIL + MAIL,
    "NUL": b"\0", "NUL, mail": b"\0" + MAIL, "NUL, two mails": b"\0" + MAIL + MAIL,
    "no mark": b"", "no mark, mail": MAIL,
}


def read(path):
    with open(path, "rb") as f:
        return f.read()


def copy(source, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def stop(work, fresh, at):
    """Kills an expunge behind its call number `at`. A journal is that of one inode: it cannot be copied."""
    copy(fresh, work.root)
    work.run(["open", "INBOX", ",", "close"])
    work.run(REMOVE, interpose=dict(CRASH_MODE="kill", CRASH_AT=at))
    return read(work.inbox)


def find_mark(work, fresh):
    """The call that writes the mark."""
    for at in range(1, MOST_CALLS):
        if stop(work, fresh, at).endswith(b"\n\n\n") and os.path.exists(os.path.join(work.root, "state/INBOX.journal")):
            return at
    raise RuntimeError("the expunge has written no mark")


def main():
    folder, result = tempfile.mkdtemp(prefix="mark-"), crashlib.Result()
    try:
        work = crashlib.Work(os.path.abspath(sys.argv[-1]), os.path.join(folder, "root"))
        fresh = os.path.join(folder, "fresh")
        work.fresh()
        scenarios.own(work, scenarios.files_of(os.path.join(folder, "messages")))
        copy(work.root, fresh)
        at = find_mark(work, fresh)
        for name, tail in TAILS.items():
            data = stop(work, fresh, at)
            with open(work.inbox, "r+b") as f:
                f.truncate(len(data) - 1)
                f.seek(0, os.SEEK_END)
                f.write(tail)
            dump = work.dump()
            found = [] if isinstance(dump, str) else dump.messages
            result.check([m.ident for m in found][:1] == ["m2"], name + ": the expunge is carried out")
            result.check(found and all(crashlib.is_whole(m.text) for m in found), name + ": all are whole", str(dump)[:200])
            foreign = [m for m in found if m.ident == "foreign"]
            result.check(len(foreign) == tail.count(b"From other"), name + ": the mail behind it is there")
            result.check(b"\0" not in read(work.inbox), name + ": no NUL")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
