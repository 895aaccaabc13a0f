"""Pennypost beside its peers; tests/bench/run starts this and says what there is. The tables, and what each part runs."""
import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import counts  # noqa: E402
import generate  # noqa: E402
import growth  # noqa: E402
import imap  # noqa: E402
import login  # noqa: E402
import memory  # noqa: E402
import pop3  # noqa: E402
import relay  # noqa: E402
import smtp  # noqa: E402
import starting  # noqa: E402

PARTS = ("start", "login", "memory", "sizes", "smtp", "relay", "pop3", "imap", "growth", "counts")
# (messages, rounds) of pop3 and imap; connections; rounds and scale of smtp; idle sessions; growth; messages to count on;
# messages and destinations of relay; seconds after which no further round of a table begins
SIZES = {
    "quick": {"boxes": [(1000, 1)], "connections": 10, "smtp": (1, 10), "idle": (1, 5), "growth": (200, 1000), "counts": 100,
              "relay": (100, 10), "seconds": 60},
    "normal": {"boxes": [(10000, 3), (100000, 1)], "connections": 100, "smtp": (3, 1), "idle": (1, 50),
               "growth": (1000, 10000, 100000), "counts": 500, "relay": (10000, 1000), "seconds": 120},
    "full": {"boxes": [(10000, 5), (100000, 3)], "connections": 300, "smtp": (5, 1), "idle": (1, 50, 200),
             "growth": (1000, 10000, 100000, 400000), "counts": 500, "relay": (10000, 1000), "seconds": 900},
}


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
    print("installing: " + " ".join(missing), flush=True)
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


def show(title, table):
    """One table; a peer's column carries the ratio behind its figure."""
    names = sorted({n for row in table.values() for n in row}, key=lambda n: (n != "pennypost", len(n) * n.isdigit(), n))
    print(f"\n## {title}\n")
    print("| work | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for work, row in table.items():
        cells = []
        ours = row.get("pennypost")
        for name in names:
            value = row.get(name)
            if value is None:
                cells.append("-")
            elif name == "pennypost" or not ours or not value:
                cells.append(f"{value:.4g}")
            else:
                cells.append(f"{value:.4g} ({ours / value if '/s' in work else value / ours:.3g})")
        print(f"| {work} | " + " | ".join(cells) + " |")
    sys.stdout.flush()


class Run:
    """What the parts share: the size of it all, the release build, the cache of the peers, a work folder."""

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
        self.imap_tables = {}
        self.cache = os.path.join(binaries, "peers")
        os.makedirs(self.cache, exist_ok=True)

    def tools(self, name):
        """(build, peers, a work folder of its own)"""
        folder = tempfile.mkdtemp(prefix=name + "-", dir=self.work)
        os.chmod(folder, 0o755)
        return self.binaries, self.cache, folder

    def box(self, count):
        """A generated box and its digests."""
        path = os.path.join(self.work, f"box-{count}")
        digests = generate.write_mbox(path, count)
        print(f"\n{count} messages, {os.stat(path).st_size / 1e6:.0f} MB", flush=True)
        return path, digests

    def imap_servers(self):
        """Pennypost and Dovecot as sessions on a socket."""
        return [imap.Pennypost(self.tools("imap-p")[2], self.binaries, self.cache),
                imap.Dovecot(self.tools("imap-d")[2], self.binaries, self.cache)]

    def run_start(self):
        show("From connect to the greeting of POP3", starting.compare(self.tools("start"), self.size["connections"]))

    def run_login(self):
        show("Sessions", login.compare(self.tools("login"), self.size["connections"]))

    def run_memory(self):
        path, _ = self.box(1000 if self.size is SIZES["quick"] else 10000)
        show("Memory of idle sessions", memory.compare(self.tools("memory"), path, self.size["idle"]))
        os.unlink(path)

    def run_sizes(self):
        show("At rest", {**memory.idle(self.tools("idle")), **memory.sizes(self.tools("sizes"))})

    def run_smtp(self):
        show("SMTP to durable local mailboxes", smtp.compare(self.tools("smtp"), *self.size["smtp"]))

    def run_relay(self):
        messages, destinations = self.size["relay"]
        show(f"A queue run, {messages} messages to {destinations} destinations",
             relay.compare(self.tools("relay"), messages, destinations))

    def run_pop3(self):
        paces = {}
        for count, rounds in self.size["boxes"]:
            path, digests = self.box(count)
            table = pop3.compare(self.tools("pop3"), path, digests, rounds, self.size["seconds"], paces)
            show(f"POP3, {count} messages, seconds", table)
            os.unlink(path)

    def run_imap(self):
        for count, rounds in self.size["boxes"]:
            path, digests = self.box(count)
            table = imap.compare(self.imap_servers(), path, digests, rounds, self.size["seconds"])
            show(f"IMAP, {count} messages, seconds", table)
            self.imap_tables[count] = table
            os.unlink(path)

    def run_growth(self):
        curve = growth.compare(self.imap_servers, self.work, self.size["growth"], self.imap_tables)
        show("Growth, seconds, by messages", growth.rows(curve))
        growth.plot(curve, self.svg)

    def run_counts(self):
        show("Instructions of the hot paths (callgrind)", counts.compare(self.tools("counts"), self.size["counts"]))


def machine():
    """One line on what it ran on."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        model = next((l.partition(":")[2].strip() for l in f if l.startswith("model name")), platform.machine())
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} x {model}, Linux {platform.release()}, load {load:.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="Pennypost beside its peers")
    parser.add_argument("parts", nargs="*", metavar="part", help=" ".join(PARTS))
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", default="normal")
    parser.add_argument("--full", dest="size", action="store_const", const="full")
    parser.add_argument("--build", default=os.path.join(TREE, "build-bench"))
    parser.add_argument("--work", default="/var/tmp")
    parser.add_argument("--plot", default=os.path.join(HERE, "growth.svg"))
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error("no part " + ", ".join(sorted(unknown)))
    if os.geteuid() != 0:
        sys.exit("tests/bench/run needs root: the peers run in a mount namespace with accounts of their own")
    os.umask(0o022)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends
    install()
    build(os.path.abspath(options.build))
    machine()
    work = tempfile.mkdtemp(prefix="pennypost-bench-", dir=options.work)
    os.chmod(work, 0o755)
    failed = []
    try:
        run = Run(options.size, os.path.abspath(options.build), work, os.path.abspath(options.plot))
        for part in options.parts or PARTS:
            began = time.monotonic()
            try:
                getattr(run, "run_" + part)()
            except (RuntimeError, OSError, EOFError, subprocess.SubprocessError) as error:
                failed.append(part)
                print(f"\n!! {part}: {error}")
            print(f"\n({part}: {time.monotonic() - began:.0f} s)", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if failed:
        sys.exit("without figures: " + ", ".join(failed))


if __name__ == "__main__":
    main()
