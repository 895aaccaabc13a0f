"""Many independent pieces of a long test, run side by side, in an order of one's choice, and not twice: what a piece found
is kept in a file, and a later run with the same programs goes on from there."""

import concurrent.futures
import hashlib
import json
import os
import time
import traceback


class Job:
    """group: what it belongs to in the summary (a scenario); part: which piece of it (a mode). `weight` puts those that take
    long first, so that no processor waits for one of them at the end."""

    def __init__(self, group, part, weight, *args):
        self.group, self.part, self.weight, self.args = group, part, weight, args

    def key(self):
        return "%s: %s" % (self.group, self.part)


class Outcome:
    def __init__(self, points, errors, seconds):
        self.points, self.errors, self.seconds = points, errors, seconds


def fingerprint(paths):
    """What a result is worth: nothing, once the programs that made it are others."""
    h = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as f:
            h.update(os.path.basename(path).encode() + b"\0" + f.read())
    return h.hexdigest()


class Book:
    """The results so far, a line each. Those with errors are tried again."""

    def __init__(self, path, mark):
        self.path, self.mark, self.known, self.seconds = path, mark, {}, {}
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                for line in f:
                    self.take(line)

    def take(self, line):
        try:
            entry = json.loads(line)
        except ValueError:
            return # a run was stopped in the middle of it
        self.seconds[entry["key"]] = entry["seconds"]
        if entry["mark"] == self.mark and not entry["errors"]:
            self.known[entry["key"]] = Outcome(entry["points"], [], entry["seconds"])

    def add(self, key, outcome):
        if not self.path:
            return
        entry = {"key": key, "mark": self.mark, "points": outcome.points, "seconds": round(outcome.seconds, 1),
                 "errors": outcome.errors[:20]}
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(entry) + "\n")


def guarded(function, *args):
    """An Outcome whatever happens: one piece that breaks does not end the run."""
    began = time.monotonic()
    try:
        points, errors = function(*args)
    except Exception: # the text of it is the result
        points, errors = 0, ["broken: " + traceback.format_exc()[-1500:]]
    return Outcome(points, errors, time.monotonic() - began)


class Run:
    """Runs jobs and tells of them: with `loud` each as it ends; each group, with its points, when it is complete."""

    def __init__(self, jobs, result, book, loud=False):
        self.jobs, self.result, self.book, self.loud = jobs, result, book, loud
        self.total, self.parts, self.open = 0, {}, {}
        for job in jobs:
            self.open.setdefault(job.group, {})[job.part] = None

    def note(self, job, outcome, is_old=False):
        self.total += outcome.points
        self.parts[job.part] = self.parts.get(job.part, 0) + outcome.points
        if self.loud and not is_old:
            print("%-36s %-16s %5d points %4d bad %6.1f s" % (job.group, job.part, outcome.points, len(outcome.errors), outcome.seconds),
                  flush=True)
        for error in outcome.errors[:3]:
            print("  %s (%s): %s" % (job.group, job.part, error), flush=True)
        self.result.check(not outcome.errors, "%s, %s" % (job.group, job.part), "%d of %d points" % (len(outcome.errors), outcome.points))
        group = self.open[job.group]
        group[job.part] = outcome.points
        if None not in group.values():
            print("== %s: %d points (%s)" % (job.group, sum(group.values()), ", ".join("%s %d" % i for i in group.items())), flush=True)

    def run(self, function, workers, *first):
        """function(*first, *job.args) in a process of its own: (points, errors)."""
        left = []
        for job in self.jobs:
            if job.key() in self.book.known:
                self.note(job, self.book.known[job.key()], is_old=True)
            else:
                left.append(job)
        left.sort(key=lambda j: -self.book.seconds.get(j.key(), j.weight))
        with concurrent.futures.ProcessPoolExecutor(workers) as pool:
            running = {pool.submit(guarded, function, *first, *job.args): job for job in left}
            for future in concurrent.futures.as_completed(running):
                job, outcome = running[future], future.result()
                self.book.add(job.key(), outcome)
                self.note(job, outcome)

    def summary(self):
        return "%d (%s)" % (self.total, ", ".join("%s %d" % i for i in self.parts.items()))
