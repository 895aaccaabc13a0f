"""Pennypost beside its peers; tests/bench/run starts this and says what there is. The parts, what each may take, the order."""
import argparse
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import budgets  # noqa: E402
import counts  # noqa: E402
import generate  # noqa: E402
import growth  # noqa: E402
import imap  # noqa: E402
import login  # noqa: E402
import memory  # noqa: E402
import peers  # noqa: E402
import pop3  # noqa: E402
import relay  # noqa: E402
import smtp  # noqa: E402
import starting  # noqa: E402
from tables import Table, log  # noqa: E402

# The share of the time that a part gets, in seconds of the normal run; what it leaves goes to those after it.
SHARES = {"sizes": 20, "start": 50, "login": 60, "smtp": 220, "relay": 60, "pop3": 270, "imap": 460, "memory": 110, "growth": 330,
          "counts": 120, "systemd": 100}
# Minutes of the whole run; shares that differ. boxes: (messages, most rounds) of pop3 and imap; connections; smtp: most rounds, one part of the
# messages; idle: sessions; growth: messages; counts: messages; relay: messages, destinations, most rounds.
SIZES = {
    "quick": {"minutes": 5, "boxes": [(1000, 1)], "connections": 10, "smtp": (1, 10), "idle": (1, 50), "growth": (200, 1000),
              "counts": 100, "relay": (100, 10, 1)},
    "normal": {"minutes": 30, "boxes": [(10000, 3), (100000, 3)], "connections": 100, "smtp": (7, 1), "idle": (1, 50, 200),
               "growth": (1000, 10000, 100000, 400000), "counts": 500, "relay": (2000, 200, 3)},
    "full": {"minutes": 100, "boxes": [(10000, 5), (100000, 5)], "connections": 300, "smtp": (9, 1), "idle": (1, 50, 200),
             "growth": (1000, 10000, 100000, 400000), "counts": 500, "relay": (10000, 1000, 3)},
}
LEEWAY = 60  # seconds over its share after which a part is ended


class TimeUp(Exception):
    """A part has taken too long. Nothing inside it takes this for the failure of one server."""


@contextlib.contextmanager
def at_most(seconds):
    """Ends what is inside after that time."""
    def end(*_):
        raise TimeUp(f"not at its end after {seconds:.0f} s")
    signal.signal(signal.SIGALRM, end)
    signal.alarm(int(seconds) + 1)
    try:
        yield
    finally:
        signal.alarm(0)


def install():
    """What units/packages names for building and for this; on other systems things are taken as they are."""
    if not shutil.which("apt-get"):
        return
    names = []
    with open(os.path.join(TREE, "units", "packages"), encoding="ascii") as f:
        for line in f:
            group, _, rest = line.partition(": ")
            names += rest.split() if group in ("build", "run", "bench", "e2e") else []
    state = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names], capture_output=True,
                           text=True, check=False).stdout
    missing = [n for n in names if f"{n} installed" not in state.splitlines()]
    if not missing and os.listdir("/var/lib/apt/lists"):
        return
    log("installing: " + " ".join(missing))
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(["apt-get", "-q", "update"], check=True, stdout=subprocess.DEVNULL, env=environment)
    if missing:
        subprocess.run(["apt-get", "-q", "-y", "--no-install-recommends", "install", *missing], check=True,
                       stdout=subprocess.DEVNULL, env=environment)


def build(folder):
    """A release build, separate from those of the tests."""
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        subprocess.run(["meson", "setup", folder, TREE, "--buildtype=release", "-Dtests=false"], check=True,
                       stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", folder], check=True, stdout=subprocess.DEVNULL)


def fetch(folder):
    """The peers, before anything is timed."""
    os.makedirs(folder, exist_ok=True)
    for name in peers.MEASURED:
        peers.unpack(name, folder)


class Run:
    """What the parts share: the size of it all, the release build, the cache of the peers, a work folder, the tables."""

    def __init__(self, size, binaries, work, svg):
        self.size, self.work, self.svg = SIZES[size], work, svg
        # Where every user may come: the tree may be in somebody's home.
        self.binaries = os.path.join(work, "build")
        for folder, _, names in os.walk(os.path.join(binaries, "handlers")):
            for name in names:
                path = os.path.join(folder, name)
                if "." not in name and os.access(path, os.X_OK):
                    os.makedirs(os.path.join(self.binaries, os.path.relpath(folder, binaries)), exist_ok=True)
                    shutil.copy(path, os.path.join(self.binaries, os.path.relpath(path, binaries)))
        self.tables, self.begun = {}, []
        self.boxes, self.paces = {}, {"pop3": {}, "imap": {}}  # paces: {server: seconds a message}
        self.cache = os.path.join(binaries, "peers")

    def tools(self, name):
        """(build, peers, a work folder of its own)"""
        folder = tempfile.mkdtemp(prefix=name + "-", dir=self.work)
        os.chmod(folder, 0o755)
        return self.binaries, self.cache, folder

    def table(self, key, title, scope="", **options):
        """A table, shown when the part is over, however it ends."""
        self.tables[key] = Table(title, scope, **options)
        self.begun.append(self.tables[key])
        return self.tables[key]

    def show_begun(self):
        while self.begun:
            self.begun.pop(0).show()

    def box(self, count):
        """A generated box and its digests, kept for the parts to come."""
        if count not in self.boxes:
            path = os.path.join(self.work, f"box-{count}")
            self.boxes[count] = path, generate.write_mbox(path, count)
            log(f"  {count} messages, {os.stat(path).st_size / 1e6:.0f} MB")
        return self.boxes[count]

    def big_boxes(self, seconds):
        """Yields (key of the table, count, most rounds, seconds) for the boxes of this run."""
        sizes = self.size["boxes"]
        whole = sum(count ** 0.5 for count, _ in sizes)  # more for the larger one, but not ten times
        for count, rounds in sizes:
            is_last = count == sizes[-1][0]
            yield " big" if is_last else "", count, rounds, seconds * count ** 0.5 / whole

    def imap_servers(self, table):
        """The peers as sessions on a connection."""
        servers = [imap.Pennypost(self.tools("imap-p")[2], self.binaries, self.cache)]
        for peer in (imap.Dovecot, imap.Mailutils):
            try:
                servers.append(peer(self.tools("imap-" + peer.name)[2], self.binaries, self.cache))
            except RuntimeError as error:
                table.note(str(error))
        return servers

    # The parts. Each gets the seconds that it should take.

    def run_sizes(self, _):
        table = self.table("sizes", "At rest", is_sampled=False)
        memory.sizes(self.tools("sizes"), table)
        memory.idle(self.tools("idle"), table)

    def run_start(self, seconds):
        starting.compare(self.tools("start"), self.table("start", "From connect to the greeting of POP3"),
                         self.size["connections"], seconds)

    def run_systemd(self, _):
        starting.compare_systemd(self.tools("systemd"), self.table("systemd", "From connect to the greeting under systemd"),
                                 self.size["connections"])

    def run_login(self, seconds):
        login.compare(self.tools("login"), self.table("login", "Sessions"), self.size["connections"], seconds)

    def run_memory(self, _):
        count = self.size["boxes"][0][0]
        memory.compare(self.tools("memory"), self.table("memory", "Memory of idle sessions", f"{count} messages", is_sampled=False),
                       self.box(count)[0], self.size["idle"])

    def run_smtp(self, seconds):
        smtp.compare(self.tools("smtp"), self.table("smtp", "SMTP to durable local mailboxes"), *self.size["smtp"], seconds)

    def run_relay(self, seconds):
        messages, destinations, rounds = self.size["relay"]
        relay.compare(self.tools("relay"), self.table("relay", "A queue run", f"{messages} messages to {destinations} destinations"),
                      messages, destinations, rounds, seconds)

    def run_pop3(self, seconds):
        for key, count, rounds, share in self.big_boxes(seconds):
            pop3.compare(self.tools("pop3"), self.table("pop3" + key, "POP3, seconds", f"{count} messages"), *self.box(count),
                         rounds, share, self.paces["pop3"])

    def run_imap(self, seconds):
        for key, count, rounds, share in self.big_boxes(seconds):
            table = self.table("imap" + key, "IMAP, seconds", f"{count} messages")
            # A gigabyte is copied in the full run only: it takes as long as all the rest.
            imap.compare(self.imap_servers(table), table, *self.box(count), rounds, share, self.paces["imap"],
                         lambda title, n=count: title != "COPY all" or n < 100000 or self.size is SIZES["full"])

    def run_growth(self, seconds):
        known = {count: self.tables["imap" + key] for key, count, _, _ in self.big_boxes(0) if "imap" + key in self.tables}
        curve = growth.compare(self, self.table("growth", "Growth, seconds by messages", is_sampled=False), self.size["growth"],
                               known, seconds)
        growth.plot(curve, self.svg)

    def run_counts(self, _):
        counts.compare(self.tools("counts"), self.table("counts", "Instructions of the hot paths, a message (callgrind)",
                                                        is_sampled=False), self.size["counts"])


def machine():
    """One line on what it runs on."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        model = next((l.partition(":")[2].strip() for l in f if l.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"


def play(run, parts, shares, deadline):
    """Runs the parts; returns the names of those that failed."""
    failed = []
    for number, part in enumerate(parts):
        began = time.monotonic()
        share = (deadline - began) * shares[part] / sum(shares[p] for p in parts[number:])
        seconds = max(10, min(share, 4 * shares[part]))
        log(f"{part}: about {seconds:.0f} s")
        try:
            with at_most(seconds + LEEWAY):
                getattr(run, "run_" + part)(seconds)
        except Exception as error:  # one part that fails does not take the others with it
            failed.append(part)
            if not isinstance(error, (RuntimeError, OSError, EOFError, TimeUp, subprocess.SubprocessError)):
                traceback.print_exc()
            table = run.begun[-1] if run.begun else run.table(part, part)
            table.note(f"this part has not come to its end: {error}")
        run.show_begun()
        log(f"{part}: {time.monotonic() - began:.0f} s")
    return failed


def options_of(arguments):
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="Pennypost beside its peers")
    parser.add_argument("parts", nargs="*", metavar="part", help=" ".join(SHARES))
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", default="normal")
    parser.add_argument("--full", dest="size", action="store_const", const="full")
    parser.add_argument("--minutes", type=float, help="of the whole run")
    parser.add_argument("--build", default=os.path.join(TREE, "build-bench"))
    parser.add_argument("--work", default="/var/tmp")
    parser.add_argument("--plot", help="where the growth curves are drawn")
    parser.add_argument("--keep-counts", action="store_true", help="write the counts as the new reference")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(SHARES)
    if unknown:
        parser.error("no part " + ", ".join(sorted(unknown)))
    return options


def main():
    options = options_of(sys.argv[1:])
    if os.geteuid() != 0:
        sys.exit("tests/bench/run needs root: the peers run in a mount namespace with accounts of their own")
    began = time.monotonic()
    os.umask(0o022)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends
    install()
    build(os.path.abspath(options.build))
    fetch(os.path.join(os.path.abspath(options.build), "peers"))
    print(machine(), flush=True)
    work = tempfile.mkdtemp(prefix="pennypost-bench-", dir=options.work)
    os.chmod(work, 0o755)
    parts = options.parts or list(SHARES)
    shares = {**SHARES, **SIZES[options.size].get("shares", {})}
    minutes = options.minutes or SIZES[options.size]["minutes"] * sum(shares[p] for p in parts) / sum(shares.values())
    # The curves in the tree are those of a whole run.
    svg = options.plot or os.path.join(HERE if options.size != "quick" else work, "growth.svg")
    try:
        run = Run(options.size, os.path.abspath(options.build), work, os.path.abspath(svg))
        failed = play(run, parts, shares, began + minutes * 60)
        if options.keep_counts and "counts" in parts and "counts" not in failed:
            counts.keep(run.tables["counts"], run.size["counts"])
        behind = budgets.show(run.tables)
        print(f"\n{machine()}; {(time.monotonic() - began) / 60:.0f} minutes", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for line in behind:
        log("not met: " + line)
    if failed:
        sys.exit("not whole: " + ", ".join(failed))


if __name__ == "__main__":
    main()
