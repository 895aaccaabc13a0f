#!/usr/bin/env python3
"""The real thing: the store on loop-mounted ext4 and XFS, the file system shut down (FS_IOC_SHUTDOWN) before every system
call that changes a file, mounted again, looked at. As root, in a mount namespace of its own.

  powercut.py [--quick] [--only TEXT] [--fs ext4,ext4-1k,xfs] BUILD_DIR

NOLOGFLUSH (2) loses what is neither synced nor written back, LOGFLUSH (1) keeps metadata whose data may be lost."""

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashlib
import scenarios
from importlib import import_module

run_crash = import_module("run-crash")
QUICK = ("append to own", "multiappend", "collapse", "moved expunge first, own", "move", "flags and flush, own")
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18


class Disk:
    def __init__(self, kind, folder):
        self.kind, self.image, self.mount = kind, os.path.join(folder, kind + ".img"), os.path.join(folder, kind)
        os.makedirs(self.mount)
        with open(self.image, "wb") as f:
            f.truncate(320 << 20) # mkfs.xfs wants 300 MiB; it stays a sparse file
        argv = {"ext4": ["mkfs.ext4", "-q", "-F"], "ext4-1k": ["mkfs.ext4", "-q", "-F", "-b", "1024"], "xfs": ["mkfs.xfs", "-q", "-f"]}[kind]
        subprocess.run(argv + [self.image], check=True, capture_output=True)
        self.up()

    def up(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.mount], check=True, capture_output=True)

    def down(self):
        subprocess.run(["umount", self.mount], check=True, capture_output=True)

    def again(self):
        self.down()
        self.up()


class CutBench(run_crash.Bench):
    def is_power_lost(self):
        return True

    def cut(self, disk, flags):
        n = 1
        while n < 5000:
            self.reset()
            subprocess.run(["sync", "-f", disk.mount], check=True)
            p = self.work.run(self.scenario.words(self.files),
                              interpose=dict(self.env, CRASH_MODE="cut", CRASH_AT=n, CRASH_SHUTDOWN=flags))
            if p.returncode == 0:
                return
            disk.again()
            if p.returncode != -9:
                self.errors.append("call %d: status %d %r" % (n, p.returncode, p.stdout[-200:] + p.stderr[-300:]))
                return
            step = self.steps_done(p.stdout)
            self.settle(step, "power cut at call %d, %d steps acknowledged" % (n, step), p.stdout)
            n += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--fs", default="")
    args = parser.parse_args()
    build, result, points = os.path.abspath(args.build), crashlib.Result(), 0
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        result.skip("power cut on loop devices: needs root and mount namespaces")
        return result.finish()
    scratch = tempfile.mkdtemp(prefix="crash-cut-", dir=build)
    disk = None
    try:
        for kind in (args.fs or ("ext4,xfs" if args.quick else "ext4,ext4-1k,xfs")).split(","):
            try:
                disk = Disk(kind, scratch)
            except (OSError, subprocess.CalledProcessError) as error:
                detail = getattr(error, "stderr", b"") or b""
                result.skip("power cut on %s: %s %s" % (kind, error, detail.decode("utf-8", "replace").strip()))
                continue
            for scenario in scenarios.ALL:
                if args.only not in scenario.name or (args.quick and scenario.name not in QUICK):
                    continue
                for flags, name in ((2, "NOLOGFLUSH"), (1, "LOGFLUSH")):
                    folder = tempfile.mkdtemp(prefix="cut-", dir=disk.mount)
                    bench = CutBench(build, folder, scenario, args.quick)
                    if not bench.errors:
                        bench.cut(disk, flags)
                    points += bench.points
                    for error in bench.errors[:3]:
                        print("  %s (%s, %s): %s" % (scenario.name, kind, name, error), flush=True)
                    result.check(not bench.errors, "%s, %s, %s" % (scenario.name, kind, name),
                                 "%d of %d points" % (len(bench.errors), bench.points))
                    shutil.rmtree(folder)
            disk.down()
            disk = None
    finally:
        if disk:
            subprocess.run(["umount", "-l", disk.mount], check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    print("power cuts tried: %d" % points)
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
