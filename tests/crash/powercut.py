#!/usr/bin/env python3
"""The real thing: the store on loop-mounted ext4 and XFS, the file system shut down (FS_IOC_SHUTDOWN) before every system
call that changes a file, mounted again, looked at. As root, in a mount namespace of its own.

  powercut.py [--quick] [--only TEXT] [--fs ext4,ext4-1k,xfs] [--results FILE] [-j N] [-v] BUILD_DIR

NOLOGFLUSH (2) loses what is neither synced nor written back, LOGFLUSH (1) keeps metadata whose data may be lost. --results:
see run-crash.py."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashbench
import crashlib
import jobs
import scenarios

QUICK = ("append to own", "multiappend", "collapse", "moved expunge first, own", "move", "flags and flush, own")
FLAGS = {"NOLOGFLUSH": 2, "LOGFLUSH": 1}


class CutBench(crashbench.Bench):
    plain_times = False

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


def run_one(build, scratch, name, kind, flags, quick):
    """On a disk of its own: a power cut is one for all who use it."""
    scenario = next(s for s in scenarios.ALL if s.name == name)
    place = tempfile.mkdtemp(prefix="disk-", dir=scratch)
    disk = crashlib.Disk(kind, place)
    try:
        bench = CutBench(build, tempfile.mkdtemp(prefix="cut-", dir=disk.mount), scenario, quick)
        if not bench.errors:
            bench.cut(disk, flags)
        return bench.points, bench.errors
    finally:
        subprocess.run(["umount", "-l", disk.mount], check=False)
        shutil.rmtree(place, ignore_errors=True)


def usable(kinds, scratch, result):
    out = []
    for kind in kinds:
        place = tempfile.mkdtemp(prefix="try-", dir=scratch)
        try:
            crashlib.Disk(kind, place).down()
            out.append(kind)
        except (OSError, subprocess.CalledProcessError) as error:
            detail = getattr(error, "stderr", b"") or b""
            result.skip("power cut on %s: %s %s" % (kind, error, detail.decode("utf-8", "replace").strip()))
        shutil.rmtree(place, ignore_errors=True)
    return out


def choose(args, kinds):
    out = []
    for scenario in scenarios.ALL:
        if args.only not in scenario.name or (args.quick and scenario.name not in QUICK):
            continue
        for kind in kinds:
            for name, flags in FLAGS.items():
                out.append(jobs.Job(scenario.name, "%s %s" % (kind, name), len(scenario.steps), scenario.name, kind, flags, args.quick))
    return out


def book(args, build):
    here = os.path.dirname(os.path.abspath(__file__))
    programs = [os.path.join(build, "tests/crash", n) for n in ("work", "libinterpose.so")]
    texts = [os.path.join(here, n) for n in ("powercut.py", "crashbench.py", "crashlib.py", "scenarios.py")]
    return jobs.Book(args.results, jobs.fingerprint(programs + texts))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--fs", default="")
    parser.add_argument("--results")
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1)
    parser.add_argument("-v", action="store_true")
    args = parser.parse_args()
    build, result = os.path.abspath(args.build), crashlib.Result()
    if not crashlib.Disk.own_namespace():
        result.skip("power cut on loop devices: needs root and mount namespaces")
        return result.finish()
    scratch = tempfile.mkdtemp(prefix="pennypost-cut-", dir="/dev/shm" if os.path.isdir("/dev/shm") else build)
    try:
        kinds = usable((args.fs or ("ext4,xfs" if args.quick else "ext4,ext4-1k,xfs")).split(","), scratch, result)
        run = jobs.Run(choose(args, kinds), result, book(args, build), loud=args.v)
        run.run(run_one, args.j, build, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("power cuts tried: " + run.summary())
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
