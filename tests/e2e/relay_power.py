#!/usr/bin/env python3
"""A queue run and the current fails: every state that the disk may be in afterwards, and another run on each of them.

    box python3 relay_power.py BUILD-DIR

A run is traced; tests/crash/powermodel.py says what may be on the disk at each moment: what was synced, and of the rest any
part (in the order of a journal, and as POSIX promises it). A message that was not done must be delivered by the next run,
one whose end was on the disk must not; the ones in between may come twice, one of each connection. Closes with "N passed,
N failed".
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "crash")]
import crashlib  # noqa: E402
import powermodel  # noqa: E402
import relay_queue  # noqa: E402
from frames import Tests  # noqa: E402
from receiver import Receiver  # noqa: E402
from relay_queue import FOLDER, hop  # noqa: E402

CALLS = "openat,write,fsync,renameat,linkat,unlinkat,ftruncate"
WORD = re.compile(rb'(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*?)>)?')


def unquote(text):
    """What strace -xx prints."""
    return bytes(int(h, 16) for h in re.findall(rb"\\x([0-9a-f]{2})", text))


class Trace:
    """The lines of strace as powermodel's records (interpose.h)."""

    def __init__(self, root):
        self.root, self.numbers = root.encode(), {}
        self.ends, self.unnamed = {}, {}  # where the next write goes; unnamed files by fd
        for base, _, names in os.walk(root):
            for name in names + [""]:
                path = os.path.join(base, name).rstrip("/")
                self.numbers[path.encode()] = os.lstat(path).st_ino

    def number(self, path):
        return self.numbers[path]

    def parse(self, lines):
        for line in lines:
            found = WORD.match(line)
            if not found or int(found[3]) < 0:
                continue
            call, arguments, fd_path = found[1].decode(), found[2], found[4]
            fds = [unquote(f) if b"\\x" in f else f for f in re.findall(rb"(?:\d+|AT_FDCWD)<(.*?)>", arguments)]
            names = [unquote(n) for n in re.findall(rb'"((?:\\x[0-9a-f]{2})*)"', arguments)]
            if fd_path is not None and b"\\x" in fd_path:
                fd_path = unquote(fd_path)
            yield from getattr(self, call)(arguments, fds, names, fd_path)

    def below(self, path):
        return path.startswith(self.root + b"/")

    def new(self, path):
        self.numbers[path] = -1 - len(self.numbers)  # no inode has that
        return self.numbers[path]

    def openat(self, arguments, fds, names, made):
        if b"O_TMPFILE" in arguments and self.below(made):
            yield "inode", self.new(made), 0, 0, b""
        elif b"O_CREAT" in arguments and self.below(made):
            if made not in self.numbers:
                yield "create", self.new(made), 0, 0, made
            elif b"O_TRUNC" in arguments:
                yield "size", self.number(made), 0, 0, b""

    def write(self, _, fds, names, __):
        if self.below(fds[0]):
            yield "write", self.number(fds[0]), self.ends.get(fds[0], 0), 0, names[0]
            self.ends[fds[0]] = self.ends.get(fds[0], 0) + len(names[0])

    def fsync(self, _, fds, __, ___):
        if self.below(fds[0]):
            yield "fsync", self.numbers.get(fds[0], 0), 0, 0, fds[0]

    def renameat(self, _, fds, names, __):
        old, new = fds[0] + b"/" + names[0], fds[1] + b"/" + names[1]
        number = self.numbers[new] = self.numbers.pop(old)
        self.ends.pop(old, None)
        if old.endswith(b".tmp"):  # from folder to folder: a sync of the one that it went to is enough for the name there
            yield "link", number, 0, 0, new
            yield "unlink", number, 0, 0, old
        else:
            yield "rename", number, 0, 0, old
            yield "to", number, 0, 0, new

    def linkat(self, arguments, fds, names, _):
        if names[0].startswith(b"/proc/self/fd/"):
            old = self.unnamed[int(names[0].rsplit(b"/", 1)[1])]
        else:
            old = fds[0] + b"/" + names[0]
        new = fds[-1] + b"/" + names[1]
        self.numbers[new] = self.numbers[old]
        yield "link", self.numbers[new], 0, 0, new

    def unlinkat(self, _, fds, names, __):
        path = fds[0] + b"/" + names[0]
        yield "unlink", self.numbers.pop(path), 0, 0, path
        self.ends.pop(path, None)

    def ftruncate(self, arguments, fds, _, __):
        yield "size", self.number(fds[0]), int(arguments.rsplit(b",", 1)[1]), 0, b""


def hook(session, verb, line):
    if verb == "RCPT" and "none@" in line:
        return b"550 5.1.1 nobody of that name\r\n"
    return b"451 4.3.0 later\r\n" if verb == "RCPT" and "slow@" in line and not session.receiver.is_second else None


def fill(q):
    """Messages of every fate; {id: addresses that must hear of it in the end}."""
    wanted = {}
    for i in range(5):
        wanted[q.add("b%d@there.example" % i)] = {"b%d@there.example" % i}
    wanted[q.add("x@there.example", "y@other.example")] = {"x@there.example", "y@other.example"}
    wanted[q.add("z@there.example", "slow@there.example")] = {"z@there.example", "slow@there.example"}
    wanted[q.add("none@there.example", sender="a@away.example")] = {"a@away.example"}
    return wanted


def traced_run(q):
    """The records of one run's calls on the queue."""
    path, trace = os.path.join(FOLDER, "trace"), Trace(q.folder)
    done = subprocess.run(["strace", "-y", "-xx", "-s", "9999999", "-o", path, "-e", "trace=" + CALLS] + q.argv(),
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with open(path, "rb") as f:
        lines = f.read().splitlines()
    for line in lines:  # an unnamed file is linked by its number
        found = re.match(rb"openat\(.*O_TMPFILE.* = (\d+)<(.*?)>", line)
        if found:
            trace.unnamed[int(found[1])] = unquote(found[2]) if b"\\x" in found[2] else found[2]
    return list(trace.parse(lines))


def ends(ops, folder_of):
    """For each entry: the number of the operation behind which it need not come again (its envelope is gone), or None."""
    out, places = {}, {}
    for i, op in enumerate(ops):
        if op.kind not in ("link", "unlink", "rename"):
            continue
        folder, name = os.path.split(op.args[0])
        here = places.setdefault(name, {"new"})  # where all of them begin
        if op.kind == "rename":
            here.discard(os.path.dirname(op.args[1]))
        if folder not in folder_of and op.kind != "rename":
            continue
        (here.discard if op.kind == "unlink" else here.add)(folder)
        out.pop(name, None)
        if not here:
            out[name] = i
    return out


def second_run(q, r):
    """Runs until the queue is empty; who got what."""
    r.messages.clear()
    for _ in range(4):
        q.run("--all")
        if not q.ids():
            break
    return [a for m in r.messages for a in m.recipients]


def check(model, strict, q, wanted, r):
    """Every state; the number of them."""
    states = 0
    for end in model.moments():
        marks, safe = model.durable(end, strict)
        done = ends(model.ops[:end], ("new", "cur"))
        gone = {n for n, i in done.items() if model.ops[i].meta < marks.get(model.ops[i].group if strict else "", 0)}
        reports = {os.path.basename(op.args[0]) for op in model.ops[:end] if op.kind == "link" and
                   os.path.dirname(op.args[0]) == "msg"} - set(wanted)
        for files, dirs in possible(model, end, strict):
            states += 1
            crashlib.materialise(q.folder, files, dirs)
            for name in ("msg", "new", "cur", "corrupt"):
                os.makedirs(q.path(name), mode=0o700, exist_ok=True)
            got = second_run(q, r)
            where = "cut at operation %d, %s" % (end, "strict" if strict else "ordered")
            assert not q.ids() and not os.listdir(q.path("corrupt")), (where, q.ids(), os.listdir(q.path("corrupt")))
            for name, addresses in wanted.items():
                if name in gone and "a@away.example" in addresses:  # its report is there, or on its way
                    assert addresses & set(got) or reports & set(done), (where, name, got)
                elif name in gone:
                    assert not addresses & set(got), (where, name, got)
                elif name not in done:
                    # What was delivered before its envelope said so comes again, what the envelope knows does not.
                    missing = addresses - set(got)
                    assert not missing or is_noted(model, end, name, missing), (where, name, missing, got)
    return states


def is_noted(model, end, name, missing):
    """Does some envelope of that entry that was written before say that these have it, or that a report has been made?"""
    texts = [bytes(op.args[1]).decode("utf-8", "replace") for op in model.ops[:end] if op.kind == "data"]
    for text in texts:
        for address in missing:
            if re.search(r"^to %s\n(?:to-(?!state).*\n)*to-state (relayed|failed)\n" % re.escape(address), text, re.M) or \
                    ("a@away.example" == address and "Final-Recipient: rfc822; none@there.example" in text):
                return True
    return False


def possible(model, end, strict):
    """Of the states at that moment those with nothing, with all and with one half of the pending data, for each prefix."""
    seen = set()
    marks, safe = model.durable(end, strict)
    pending = [i for i, op in enumerate(model.ops[:end]) if op.kind == "data" and i not in safe]
    rng, begin = powermodel.random.Random(end), model.settled(end, marks, safe, strict)
    for has_meta, _ in model.choices_of_meta(end, marks, strict, rng, 2):
        for chosen in (frozenset(), frozenset(pending), frozenset(pending[::2])):
            files, dirs = model.state(end, begin, has_meta, lambda i, c=chosen: i in safe or i in c)
            key = hash((tuple(sorted((n, e[0]) for n, e in files.items())), tuple(dirs)))
            if key not in seen:
                seen.add(key)
                yield files, dirs


def test_power_cut():
    for connections in ("3",):
        r = Receiver(hook=hook)
        r.is_second = False
        q = hop(r, relay_connections_per_destination=connections)
        q.options["relay_credentials"] = q.options["tls_policy"] = q.options["relay_routes"] = "/nonexistent"
        wanted = fill(q)
        snapshot = crashlib.Snapshot(q.folder)
        model = powermodel.Model(snapshot, traced_run(q))
        assert len(model.ops) > 30 and set(ends(model.ops, ("new", "cur"))) >= set(wanted) - {"x"} - set(q.ids())
        r.is_second = True
        counts = [check(model, strict, q, wanted, r) for strict in (False, True)]
        print("    %s connections: %d operations, %d moments, states tried: %d ordered, %d strict" % (
            connections, len(model.ops), len(model.moments()), *counts))
        assert min(counts) > 20, counts
        r.close()


def main():
    tests = Tests()
    tests.run(test_power_cut)
    shutil.rmtree(FOLDER)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
