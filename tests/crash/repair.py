#!/usr/bin/env python3
"""`pennypost mbox check` and `repair` on every kind of damage that we know: what they say, that the file stays as it was,
and that the copy holds every message that can be had.

  repair.py [--quick] BUILD_DIR"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashlib
import scenarios


class Tool:
    def __init__(self, build, folder, result):
        self.program = os.path.join(build, "handlers/admin/pennypost")
        self.path, self.result = os.path.join(folder, "box"), result

    def run(self, verb, path):
        return subprocess.run([self.program, "mbox", verb, path], capture_output=True, text=True, timeout=300, check=False)

    def try_box(self, name, data, problems, whole, total=None):
        """problems: patterns that the check must print, in order; whole: messages that must be whole in the copy."""
        check, copy = self.result.check, self.path + ".repaired"
        with open(self.path, "wb") as f:
            f.write(data)
        if os.path.exists(copy):
            os.unlink(copy)
        p = self.run("check", self.path)
        said = re.findall(r"^  problem: (.*)$", p.stdout, re.M)
        check(len(said) == len(problems) and all(re.search(w, s) for w, s in zip(problems, said)), name + ": what check says",
              "%r, wanted %r" % (said, problems))
        check(p.returncode == (1 if problems else 0), name + ": exit status of check", str(p.returncode))
        p = self.run("repair", self.path)
        check(p.returncode == 0, name + ": exit status of repair", "%d %s" % (p.returncode, p.stderr))
        with open(self.path, "rb") as f:
            check(f.read() == data, name + ": the file is as it was")
        check(os.path.exists(copy) == bool(problems), name + ": a copy is written when there is something to repair")
        if os.path.exists(copy):
            with open(copy, "rb") as f:
                messages = crashlib.mbox_messages(f.read())
            good = [crashlib.ident_of(m) for m in messages if crashlib.raw_whole(m)]
            check(good == whole, name + ": whole messages in the copy", "%r, wanted %r" % (good, whole))
            check(len(messages) == (total or len(whole)), name + ": messages in the copy", str(len(messages)))
            p = self.run("check", copy)
            check(p.returncode == 0, name + ": the copy is clean", p.stdout)
            check(self.run("repair", self.path).returncode != 0, name + ": an older copy is not overwritten")


def own_box(build, folder):
    """Three messages that the store wrote."""
    work = crashlib.Work(build, os.path.join(folder, "root"))
    work.fresh()
    words = []
    for n in range(3):
        path = os.path.join(folder, "m%d" % n)
        with open(path, "wb") as f:
            f.write(crashlib.message("m%d" % n, 3000 + n))
        words += ["append", "INBOX", "", path, ","]
    work.run(words[:-1])
    with open(work.inbox, "rb") as f:
        return f.read()


def sidecars(build, folder, result):
    """What check says of state log, index and journal."""
    work = crashlib.Work(build, os.path.join(folder, "root"))
    path = os.path.join(folder, "m1")

    def said():
        p = subprocess.run([os.path.join(build, "handlers/admin/pennypost"), *work.options(), "mbox", "check", work.inbox],
                           capture_output=True, text=True, timeout=300, check=False)
        return p.returncode, p.stdout + p.stderr

    def expect(text, status, *patterns):
        have, out = said()
        result.check(have == status and all(re.search(p, out) for p in patterns), "sidecars, " + text, "%d %r" % (have, out))

    work.fresh()
    own_box(build, folder)
    expect("whole", 0, "state: UIDVALIDITY \\d+, next UID 4", "index: up to date")
    os.truncate(os.path.join(work.paths[2], "INBOX.index"), 100)
    expect("no index", 0, "index: made anew")
    work.run(["open", "INBOX", ",", "close"])
    with open(work.inbox, "ab") as f:
        f.write(scenarios.foreign_mbox(1))
    expect("a delivery", 0, "index: behind the file")
    journal, n = os.path.join(work.paths[2], "INBOX.journal"), 0
    while not os.path.exists(journal) and n < 200:
        n += 1
        own_box(build, folder)
        work.run(["open", "INBOX", ",", "remove", "1", ",", "close"], interpose=dict(CRASH_MODE="kill", CRASH_AT=n))
        for name in ("INBOX.lock",):
            lock = os.path.join(os.path.dirname(work.inbox), name)
            if os.path.exists(lock):
                os.unlink(lock)
    expect("a journal", 1, "problem: a journal is pending")
    work.run(["open", "INBOX", ",", "close"])
    expect("after the journal", 0, "state: UIDVALIDITY")
    with open(os.path.join(work.paths[2], "INBOX.state"), "r+b") as f:
        f.write(b"x" * 40)
    expect("a damaged state", 1, "problem: the state log is damaged")


def main():
    args = [a for a in sys.argv[1:] if a != "--quick"]
    if len(args) != 1:
        print(__doc__)
        return 64
    result, build = crashlib.Result(), os.path.abspath(args[0])
    folder = tempfile.mkdtemp(prefix="crash-repair-")
    try:
        tool = Tool(build, folder, result)
        box, all4 = scenarios.foreign_mbox(4), ["f0", "f1", "f2", "f3"]
        third = b"\n\nFrom sender@example.org Thu Jan  1 00:00:02"
        tool.try_box("clean", box, [], all4)
        tool.try_box("empty", b"", [], [])
        tool.try_box("CRLF", box.replace(b"\n", b"\r\n"), [], all4)
        tool.try_box("garbage first", b"hello\nworld\n" + box, ["^at byte 0: 12 bytes before", "no empty line before the first"], all4, 5)
        tool.try_box("no mbox at all", b"hello\nworld\n", ["there is none, this is not an mbox", "no empty line"], [], 1)
        tool.try_box("unended line", box[:-2], ["message 4: the file ends inside its last line"], all4)
        tool.try_box("no empty line at the end", box[:-1], ["no empty line at the end"], all4)
        tool.try_box("glued", box.replace(third, third[1:]), ["message 2: a From_ line with a header behind it"], all4)
        tool.try_box("NULs", box[:3000] + bytes(512) + box[3512:], ["at byte 3000, message 2: 512 NUL bytes"], ["f0", "f2", "f3"], 4)
        own = own_box(build, folder)
        tool.try_box("own", own, [], [])
        tool.try_box("own, torn", own[:-1000], ["message 3: we wrote it with \\d+ bytes, \\d+ are there", "message 3: the file ends|no empty"],
                     ["m0", "m1"], 3)
        tool.try_box("own, torn, then a delivery", own[:-1000] + b"\n" + box, ["message 3: we wrote it with", "message 3: a From_ line with a header"],
                     ["m0", "m1"] + all4, 7)
        sidecars(build, folder, result)
        os.unlink(tool.path)
        os.symlink("/dev/null", tool.path)
        result.check(tool.run("check", tool.path).returncode not in (0, 1), "a symlink is refused")
        result.check(tool.run("check", tool.path + ".absent").returncode == 66, "a missing file is told from a bad one")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
