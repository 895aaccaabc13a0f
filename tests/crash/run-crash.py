#!/usr/bin/env python3
"""Crash tests of the mbox store: every operation is stopped at every system call that changes a file, and its disk is put
into the states that a power cut may leave; after each, the boxes are opened again and looked at.

  run-crash.py [--quick] [--only TEXT] [--mode kill,torn,again,afresh,foreign,fail,power,strict,nosync] [--results FILE] [-j N]
               [-v] BUILD_DIR

  kill     SIGKILL before the n-th such call, for every n
  torn     SIGKILL in the middle of it: half of a write, or just after the call
  again    killed at every call, and the process that recovers is killed at every call too
  afresh   the same, and the index is gone when it does: all of the mailbox is read
  foreign  killed at every call, then another program appends to the file before anyone recovers
  fail     the n-th call fails with ENOSPC or EDQUOT (and all later ones that need space), with EIO or EPERM, or with
           EROFS (and all later ones: ext4 refuses everything after an error)
  power    what was not synced is lost, as journalling file systems lose it; strict: as POSIX allows
  nosync   the test of the test: with syncs that do nothing, power must find losses

--results keeps what each scenario and mode found; a later run with the same programs and the same file does the rest."""

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

# Modes, and how long they take beside each other.
MODES = {"kill": 2, "torn": 2, "again": 20, "afresh": 40, "foreign": 2, "fail": 10, "power": 20, "strict": 20, "nosync": 1}
QUICK_MODES = ["kill", "torn", "foreign", "fail", "power", "nosync"]
QUICK = { # what a quick run tries besides kill and torn, which it tries everywhere
    "foreign": ["expunge every second, own"],
    "fail": ["append to own", "moved expunge first, own"],
    "power": ["append to own", "deliveries", "append to folder", "flags and flush, own", "flags and flush, foreign", "collapse",
              "expunge last, own", "move", "moved expunge of much, own",
              "moved expunge of as much as follows"],
    "nosync": ["append to own"],
}
PROOFS = ["append to own", "moved expunge first, own", "move"]


def run_one(build, scratch, name, mode, quick):
    scenario = next(s for s in scenarios.ALL if s.name == name)
    folder = tempfile.mkdtemp(prefix="crash-", dir=scratch)
    try:
        bench = crashbench.Bench(build, folder, scenario, quick)
        if not bench.errors:
            bench.run_mode(mode)
        return bench.points, bench.errors
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def own_disk(place):
    """A folder on an ext4 in memory: what a power cut leaves is worked out from what was called, not from a disk. Without
    root it is `place`."""
    if not os.path.isdir("/dev/shm") or not crashlib.Disk.own_namespace():
        return place, None
    folder = tempfile.mkdtemp(prefix="pennypost-crash-", dir="/dev/shm")
    try:
        disk = crashlib.Disk("ext4", folder)
        return disk.mount, disk
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(folder, ignore_errors=True)
        return place, None


def choose(args, modes):
    """The pieces of this run."""
    out = []
    for scenario in scenarios.ALL:
        for mode in modes:
            if mode == "nosync" and scenario.name not in PROOFS:
                continue
            if scenario.modes and mode not in scenario.modes:
                continue
            if args.quick and scenario.name not in QUICK.get(mode, [scenario.name]):
                continue
            if args.only in scenario.name:
                weight = MODES[mode] * len(scenario.steps)
                out.append(jobs.Job(scenario.name, mode, weight, scenario.name, mode, args.quick))
    return out


def book(args, build):
    here = os.path.dirname(os.path.abspath(__file__))
    programs = [os.path.join(build, "tests/crash", n) for n in ("work", "libinterpose.so")]
    texts = [os.path.join(here, n) for n in ("run-crash.py", "crashbench.py", "crashlib.py", "powermodel.py", "scenarios.py")]
    return jobs.Book(args.results, jobs.fingerprint(programs + texts) + " quick" * args.quick)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--mode", default="")
    parser.add_argument("--results")
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1)
    parser.add_argument("-v", action="store_true")
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    result = crashlib.Result()
    modes = args.mode.split(",") if args.mode else QUICK_MODES if args.quick else list(MODES)
    run = jobs.Run(choose(args, modes), result, book(args, build), loud=args.v)
    place = tempfile.mkdtemp(prefix="crash-run-", dir=build)
    scratch, disk = own_disk(place)
    try:
        run.run(run_one, args.j, build, scratch)
    finally:
        if disk:
            disk.down()
            shutil.rmtree(os.path.dirname(disk.mount))
        shutil.rmtree(place, ignore_errors=True)
    print("points tried: " + run.summary())
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
