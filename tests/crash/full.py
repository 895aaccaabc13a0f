#!/usr/bin/env python3
"""A full disk: nothing is damaged, new mail is refused with the right error, and messages can be removed, by IMAP and POP3
too. One that became read-only: all can be read. On a tmpfs (everything behind moves up) and on loop-mounted ext4 and XFS
(blocks are given back). As root, in a mount namespace of its own.

  full.py [--quick] [--fs tmpfs,ext4,xfs] BUILD_DIR"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashlib

SIZES = {"tmpfs": 48 << 20, "ext4": 64 << 20, "xfs": 304 << 20}
COUNT = 40


def mount(kind, folder):
    point = os.path.join(folder, kind)
    os.makedirs(point)
    if kind == "tmpfs":
        argv = ["mount", "-t", "tmpfs", "-o", "size=%d,mode=755" % SIZES[kind], "none", point]
    else:
        image = os.path.join(folder, kind + ".img")
        with open(image, "wb") as f:
            f.truncate(SIZES[kind])
        subprocess.run({"ext4": ["mkfs.ext4", "-q", "-F", "-m", "0"], "xfs": ["mkfs.xfs", "-q", "-f"]}[kind] + [image],
                       check=True, capture_output=True)
        argv = ["mount", "-o", "loop", image, point]
    subprocess.run(argv, check=True, capture_output=True)
    return point


class Disk:
    """A small file system with a mailbox of 40 messages on it, and what it takes to fill it up."""

    def __init__(self, build, point):
        self.filler = os.path.join(point, "filler")
        os.makedirs(os.path.join(point, "home"))
        self.work = crashlib.Work(build, os.path.join(point, "home", "root"), demote=True)
        self.texts = {}

    def seed(self, size):
        if os.path.exists(self.filler):
            os.unlink(self.filler)
        self.work.fresh()
        words = []
        for n in range(COUNT):
            path = os.path.join(os.path.dirname(self.work.root), "m")
            text = crashlib.message("m%d" % n, size)
            self.texts["m%d" % n] = crashlib.wire(text)
            with open(path, "wb") as f:
                f.write(text)
            p = self.work.run(["append", "INBOX", "", path])
            if p.returncode != 0:
                raise RuntimeError("cannot seed the box: %r" % p.stdout)
            os.unlink(path)
        self.work.run(["open", "INBOX", ",", "poll", ",", "close"])

    def fill(self):
        """Until nothing more goes in; what the file system holds back for a moment as well."""
        for _ in range(3):
            with open(self.filler, "ab", buffering=0) as f:
                for piece in (1 << 20, 64 << 10, 4096, 512):
                    try:
                        while True:
                            f.write(b"x" * piece)
                    except OSError:
                        pass
                try:
                    os.fsync(f.fileno())
                except OSError:
                    pass

    def idents(self):
        """The messages that are there, each checked byte for byte; a text when something is wrong."""
        box = self.work.dump()
        if isinstance(box, str):
            return box
        for m in box.messages:
            if m.text != self.texts.get(m.ident):
                return "%s is not what was stored" % m.ident
        return [m.ident for m in box.messages]

    def session(self, name, text):
        p = subprocess.run([self.work.programs[name]] + self.work.options(), input=text, capture_output=True, timeout=600,
                           check=False, **self.work.as_user)
        return p.stdout.replace(b"\r\n", b"\n")


def left(*gone):
    return ["m%d" % n for n in range(COUNT) if n not in gone]


def test_refusals(disk, where, result):
    disk.seed(60000)
    disk.fill()
    size = os.path.getsize(disk.work.inbox)
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as f: # there is no room for it on the disk
        f.write(crashlib.message("extra", 300000))
        f.flush()
        os.chmod(f.name, 0o644)
        p = disk.work.run(["append", "INBOX", "", f.name])
    result.check(b"ERR append ENOSPC" in p.stdout, where + ": an append is refused", repr(p.stdout[-200:]))
    result.check(os.path.getsize(disk.work.inbox) == size, where + ": and leaves nothing behind")
    found = disk.idents()
    result.check(found == left(), where + ": nothing is lost by it", str(found)[:300])


def test_work(disk, where, result, size, count):
    """count: so many are removed, from the beginning."""
    disk.seed(size)
    disk.fill()
    uids = ",".join(str(n + 1) for n in range(0, 2 * count, 2))
    p = disk.work.run(["open", "INBOX", ",", "flags", uids, "+D", ",", "expunge", ",", "poll", ",", "close"])
    result.check(p.returncode == 0, "%s: %d of %d bytes expunged" % (where, count, size), "%r %r" % (p.stdout[-300:], p.stderr[-300:]))
    found = disk.idents()
    result.check(found == left(*range(0, 2 * count, 2)), where + ": the others stay", str(found)[:300])


def test_sessions(disk, where, result):
    disk.seed(60000)
    disk.fill()
    out = disk.session("imap-session", b"a SELECT INBOX\r\nb STORE 3 +FLAGS (\\Deleted)\r\nc EXPUNGE\r\nd LOGOUT\r\n")
    result.check(b"\na OK [READ-WRITE]" in out and b"\n* 3 EXPUNGE\n" in out and b"\nc OK" in out, where + ": IMAP EXPUNGE", repr(out[-600:]))
    result.check(disk.idents() == left(2), where + ": it is gone", str(disk.idents())[:300])
    disk.seed(60000)
    disk.fill()
    out = disk.session("pop3-session", b"DELE 1\r\nDELE 5\r\nQUIT\r\n")
    result.check(out.count(b"+OK") == 4, where + ": POP3 DELE and QUIT", repr(out[-600:]))
    result.check(disk.idents() == left(0, 4), where + ": they are gone", str(disk.idents())[:300])


def test_no_reserve(disk, where, result):
    """Without what was kept for this: refused, or done, but never by half."""
    disk.seed(3000)
    os.unlink(os.path.join(disk.work.paths[2], "reserve"))
    disk.fill()
    p = disk.work.run(["open", "INBOX", ",", "remove", "2,7", ",", "close"])
    found = disk.idents()
    wanted = left(1, 6) if b"ACK remove" in p.stdout else left()
    result.check(p.returncode == 0 or b" ENOSPC" in p.stdout, where + ": a clear error without a reserve", repr(p.stdout[-300:]))
    result.check(found == wanted, where + ": all or nothing without a reserve", "%r %s" % (p.stdout[-200:], str(found)[:300]))


def test_read_only(disk, where, point, result):
    """A file system that became read-only: everything can be read, nothing is changed, and each refusal says why."""
    disk.seed(3000)
    with open(disk.work.inbox, "rb") as f:
        before = f.read()
    subprocess.run(["mount", "-o", "remount,ro", point], check=True, capture_output=True)
    try:
        result.check(disk.idents() == left(), where + ": read-only: all is there", str(disk.idents())[:300])
        p = disk.work.run(["append", "INBOX", "", "/dev/null"])
        result.check(b"ERR append EROFS" in p.stdout or b"ERR append EACCES" in p.stdout, where + ": read-only: no append", repr(p.stdout))
        p = disk.work.run(["open", "INBOX", ",", "flags", "1", "+D"])
        result.check(b"ERR flags EROFS" in p.stdout, where + ": read-only: no flags", repr(p.stdout))
        out = disk.session("imap-session", b"a SELECT INBOX\r\nb STORE 3 +FLAGS (\\Deleted)\r\nc EXPUNGE\r\nd LOGOUT\r\n")
        result.check(b"\na OK [READ-ONLY]" in out and b"\nb NO" in out and b"\nc NO" in out, where + ": read-only: IMAP says so",
                     repr(out[-600:]))
    finally:
        subprocess.run(["mount", "-o", "remount,rw", point], check=True, capture_output=True)
    with open(disk.work.inbox, "rb") as f:
        result.check(f.read() == before and disk.idents() == left(), where + ": nothing was changed")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fs", default="")
    args = parser.parse_args()
    build, result = os.path.abspath(args.build), crashlib.Result()
    if not crashlib.Disk.own_namespace():
        result.skip("full disks: needs root and mount namespaces")
        return result.finish()
    scratch = tempfile.mkdtemp(prefix="crash-full-")
    os.chmod(scratch, 0o755)
    for kind in (args.fs or ("tmpfs,ext4" if args.quick else "tmpfs,ext4,xfs")).split(","):
        try:
            point = mount(kind, scratch)
        except (OSError, subprocess.CalledProcessError) as error:
            detail = getattr(error, "stderr", b"") or b""
            result.skip("full disk on %s: %s %s" % (kind, error, detail.decode("utf-8", "replace").strip()))
            continue
        try:
            disk = Disk(build, point)
            test_refusals(disk, kind, result)
            test_work(disk, kind, result, 60000, 1)
            test_work(disk, kind, result, 3000, 1)
            test_work(disk, kind, result, 3000, 20)
            test_sessions(disk, kind, result)
            test_no_reserve(disk, kind, result)
            test_read_only(disk, kind, point, result)
        finally:
            subprocess.run(["umount", "-l", point], check=False)
    shutil.rmtree(scratch, ignore_errors=True)
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
