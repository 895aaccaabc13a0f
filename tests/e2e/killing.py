"""A build tree of which one program is killed at a chosen system call, for tests of what is left of its work."""
import collections
import concurrent.futures
import os
import re
import shutil
import subprocess
import tempfile
import time


def kill_at(call, number):
    """The option of strace that kills before the number-th such call."""
    return "-e inject=%s:signal=KILL:when=%d" % (call, number)


def calls(lines):
    """The system calls of a trace, behind the execve() with which it begins: [(call, its how manieth one)]."""
    seen, out = collections.Counter(), []
    for line in lines:
        call = re.match(r"\w+(?=\()", line)
        if call:
            seen[call[0]] += 1
            out.append((call[0], seen[call[0]]))
    return out[1:]


def is_killed(lines):
    return bool(lines) and "killed by SIGKILL" in lines[-1]


def kill_at_each(name, killed_at, points, further=()):
    """killed_at(call, number) at each of the points; it says whether there was such a call, and raises what was wrong then.
    Behind those of `further` also at the next ones, as long as there are any. (killed, further ones, what was wrong)"""
    def fault_at(call, number):
        try:
            return killed_at(call, number), []
        except (AssertionError, OSError, subprocess.SubprocessError) as e:
            return True, ["%s %s %d: %r" % (name, call, number, e)]

    def beyond(point):
        count, faults = 0, []
        while not faults:
            was_killed, faults = fault_at(point[0], point[1] + count + 1)
            if not was_killed:
                break
            count += 1
        return count, faults
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda p: fault_at(*p), points))
        more = list(pool.map(beyond, further))
    return sum(was_killed for was_killed, _ in results), sum(n for n, _ in more), [f for _, fs in results + more for f in fs]


def program_of(pid):
    try:
        return os.readlink("/proc/%s/exe" % pid)
    except OSError:
        return ""


class KillingTree:
    """The programs of `build`, the first `part` of them traced as these options of strace say, killed for example; all others
    live."""

    def __init__(self, build, part, *options):
        self.top = tempfile.mkdtemp(dir=build, prefix="killing-")
        os.chmod(self.top, 0o755)
        real = os.path.join(build, "handlers")
        for folder in os.listdir(real):  # links: a program finds the others beside itself
            os.mkdir(os.path.join(self.top, folder))
            for name in os.listdir(os.path.join(real, folder)):
                if os.access(os.path.join(real, folder, name), os.X_OK) and os.path.isfile(os.path.join(real, folder, name)):
                    os.link(os.path.join(real, folder, name), os.path.join(self.top, folder, name))
        here, self.trace = self.program(part), os.path.join(self.top, "trace")
        os.mkdir(self.trace)
        os.chmod(self.trace, 0o777)
        os.rename(here, here + ".real")
        os.symlink(os.path.join(os.path.dirname(os.path.abspath(__file__)), "traced"), here)
        with open(here + ".options", "w", encoding="ascii") as f:
            f.write("trace='%s' options='%s'\n" % (self.trace, " ".join(options)))

    def program(self, name):
        return os.path.join(self.top, name.split("-")[0], name)

    def lines(self):
        """What strace wrote of the part; none: it was never started."""
        deadline = time.monotonic() + 60  # strace may be a moment behind the end of what it traces
        while os.path.exists(os.path.join(self.trace, "once")):
            try:
                with open(os.path.join(self.trace, "out"), encoding="utf-8", errors="replace") as f:
                    lines = f.readlines()
            except FileNotFoundError:
                lines = []
            if lines and re.match(r"\+\+\+ .* \+\+\+\n", lines[-1]):
                return lines
            assert time.monotonic() < deadline, lines[-3:]
            time.sleep(0.01)
        return []

    def left(self):
        """The processes of its programs, behind the end of all work: they have some time to leave in."""
        deadline = time.monotonic() + 60
        while True:
            found = [path for path in map(program_of, filter(str.isdigit, os.listdir("/proc"))) if path.startswith(self.top)]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def remove(self):
        shutil.rmtree(self.top)
