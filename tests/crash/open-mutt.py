#!/usr/bin/env python3
"""mutt holds no lock while it shows a mailbox, and knows that it changed by its size alone; one that grew and has a From_
line just where it ended it takes for one that got new mail. Whatever goes and comes meanwhile, small or large, at the
beginning or in the middle: mutt sees it, and what it writes breaks nothing.

  open-mutt.py [--quick] BUILD_DIR"""

import argparse
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashlib

SIZES = [1000, 1000, 1000, 1000, 9000, 1000] + [20000] * 6
EQUAL = [1000] * 12
RC = 'set header_cache=""\nset delete=yes\nset quit=yes\nset move=no\nset wait_key=no\nset beep=no\nset tmpdir=%s\nset folder=%s\n'


class Mutt:
    """One on a terminal of its own."""

    def __init__(self, work, folder):
        rc = os.path.join(folder, "muttrc")
        with open(rc, "w") as f:
            f.write(RC % (folder, folder))
        self.shown = b""
        self.terminal, slave = pty.openpty()
        self.p = subprocess.Popen(["mutt", "-n", "-F", rc, "-f", work.inbox], stdin=slave, stdout=slave, stderr=slave,
                                  env={"PATH": os.environ["PATH"], "TERM": "xterm", "HOME": folder, "LANG": "C"},
                                  start_new_session=True, **work.as_user)
        os.close(slave)

    def show(self, text, seconds=120):
        """Waits until it has shown the text, or has ended; did it?"""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and text not in self.shown:
            if select.select([self.terminal], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self.terminal, 65536)
                except OSError:
                    break
        return text in self.shown

    def type(self, keys):
        self.shown = b""
        os.write(self.terminal, keys)

    def end(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        os.close(self.terminal)


class Case:
    """A mailbox that mutt shows, and what is done to it."""

    def __init__(self, build, folder, sizes):
        self.work = crashlib.Work(build, os.path.join(folder, "root"), demote=True)
        self.work.fresh()
        self.folder, self.sent, self.grown = folder, {}, 0
        for size in sizes:
            before = self.size()
            self.work.run(self.append(size))
            self.grown = self.size() - before

    def size(self):
        return os.stat(self.work.inbox).st_size if os.path.exists(self.work.inbox) else 0

    def append(self, size):
        """The words for one more message of exactly so many bytes."""
        name = "m%02d" % len(self.sent)
        text = crashlib.message(name, max(size - 800, 1))
        text = crashlib.message(name, max(size - 800, 1), extra=b"X-Fill: %s\n" % (b"x" * (size - len(text) - 9)))
        assert len(text) == size
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.write(text)
        self.sent[name] = text
        return ["append", "INBOX", "", path]

    def overhead(self):
        """What stands around a message that was just appended."""
        return self.grown - len(self.sent["m%02d" % (len(self.sent) - 1)])


def gone(uids):
    return ["open", "INBOX", ",", "remove", uids, ",", "close"]


def remove(case, uids):
    return case.work.run(gone(uids)).returncode == 0


def new_then_remove(case, uids):
    return case.work.run([*case.append(1000), ",", *gone(uids)]).returncode == 0


def remove_then_as_much(case, uids):
    """As large as it was again, or as near as it gets."""
    size, overhead = case.size(), case.overhead()
    return remove(case, uids) and case.work.run(case.append(size - case.size() - overhead)).returncode == 0


def remove_then_more(case, uids):
    """The same, and more behind it."""
    return remove_then_as_much(case, uids) and case.work.run(case.append(1000)).returncode == 0


# The quick ones first.
CASES = [(SIZES, remove, "1"), (SIZES, new_then_remove, "3"), (EQUAL, new_then_remove, "3"), (EQUAL, remove_then_as_much, "3"),
         (SIZES, remove_then_as_much, "7"), (EQUAL, remove_then_more, "3"),
         (SIZES, remove, "3"), (SIZES, remove, "5"), (SIZES, remove, "2:3"), (SIZES, new_then_remove, "5"),
         (SIZES, new_then_remove, "2:3"), (SIZES, remove_then_more, "7")]


def test_changed(build, folder, result, sizes, change, uids):
    case = Case(build, folder, sizes)
    text = "%s %s of %d" % (change.__name__.replace("_", " "), uids, len(sizes))
    mutt = Mutt(case.work, folder)
    result.check(mutt.show(b"Msgs:%d" % len(sizes)), text + ": mutt shows the mailbox", repr(mutt.shown[-300:]))
    mutt.p.send_signal(signal.SIGSTOP) # it would look in between
    result.check(change(case, uids), text + ": it is done")
    mutt.p.send_signal(signal.SIGCONT)
    mutt.type(b"=") # it may look by itself already
    result.check(mutt.show(b"externally modified"), text + ": mutt sees that something changed", repr(mutt.shown[-300:]))
    mutt.type(b"=F")
    mutt.show(b"Flag:1")
    mutt.type(b"q")
    mutt.show(b"\x1b[?1049l", 300)
    mutt.end()
    box = case.work.dump("INBOX")
    bad = [m.ident for m in box.messages if plain(m.text) != crashlib.wire(case.sent.get(m.ident, b""))]
    left = len(case.sent) - (2 if ":" in uids else 1)
    result.check(not bad and len(box.messages) == left, text + ": the others are whole, byte for byte",
                 "%d messages, broken %r" % (len(box.messages), bad))


def plain(text):
    """Without the fields that mutt adds when it writes."""
    head, sep, body = text.partition(b"\r\n\r\n")
    return b"\r\n".join(l for l in head.split(b"\r\n") if not l.startswith((b"Content-Length: ", b"Lines: "))) + sep + body


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("build")
    args = parser.parse_args()
    result = crashlib.Result()
    if not shutil.which("mutt"):
        result.skip("open-mutt: mutt is not installed")
        return result.finish()
    for sizes, change, uids in CASES[:6 if args.quick else None]:
        folder = tempfile.mkdtemp(prefix="crash-mutt-")
        os.chmod(folder, 0o755)
        try:
            test_changed(os.path.abspath(args.build), folder, result, sizes, change, uids)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
