"""What is measured, gathered as it comes: a part that ends early has lost nothing of what it knew. Tables are Markdown and go
to standard output; how things go is told on standard error.
"""
import statistics
import sys
import time

NEEDED = ("pennypost", "dovecot", "popa3d", "postfix")  # the budgets are about them: they are not left out
DAMAGED = "messages damaged"


def log(text):
    print(text, file=sys.stderr, flush=True)


def is_rate(work):
    """More is better."""
    return "/s" in work


def figure(value):
    return "0" if not value else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


class Table:
    """{work: {server: [values]}} with notes; what is shown are medians."""

    def __init__(self, title, scope="", is_sampled=True):
        self.title, self.scope, self.is_sampled = title, scope, is_sampled
        self.samples, self.notes = {}, []

    def add(self, work, server, value):
        self.samples.setdefault(work, {}).setdefault(server, []).append(value)

    def note(self, text):
        """What a reader has to know; once."""
        if text not in self.notes:
            self.notes.append(text)
            log("  " + text)

    def median(self, work, server):
        values = self.samples.get(work, {}).get(server)
        return statistics.median(values) if values else None

    def servers(self):
        """Names of the columns: ours first, numbers by their size."""
        names = {n for row in self.samples.values() for n in row}
        return sorted(names, key=lambda n: (n != "pennypost", len(n) * n.isdigit(), n))

    def rounds(self):
        """A sentence on how many values the medians are of."""
        counts = {n: max(len(row.get(n, ())) for row in self.samples.values()) for n in self.servers()}
        by_count = {}
        for name, count in counts.items():
            by_count.setdefault(count, []).append(name)
        return "Medians of " + "; ".join(f"{count} ({', '.join(names)})" if len(by_count) > 1 else f"{count}"
                                         for count, names in sorted(by_count.items(), reverse=True))

    def cell(self, work, name):
        value, ours = self.median(work, name), self.median(work, "pennypost")
        if value is None:
            return "-"
        if name == "pennypost" or not ours or not value:
            return figure(value)
        return f"{figure(value)} ({ours / value if is_rate(work) else value / ours:.2g})"

    def show(self):
        print(f"\n### {self.title}{', ' if self.scope else ''}{self.scope}\n")
        names = self.servers()
        if self.samples:
            print("| work | " + " | ".join(names) + " |")
            print("|---|" + "---|" * len(names))
            for work in self.samples:
                print(f"| {work} | " + " | ".join(self.cell(work, name) for name in names) + " |")
            if self.is_sampled:
                self.notes.insert(0, self.rounds())
        if self.notes:
            print("\n" + "\n".join("- " + note for note in self.notes))
        sys.stdout.flush()


def alternate(servers, rounds, seconds):
    """Yields (number of the round, server), one server after the other, first those that the budgets are about. Who failed is
    taken out of `servers` by the caller. The first round is played in any case, a further one if what the server took last
    still fits into the time."""
    took, used = {}, 0.0
    for number in range(rounds):
        for server in sorted(servers, key=lambda server: getattr(server, "name", None) not in NEEDED):
            if server not in servers or (number and used + took[server] > seconds):
                continue
            began = time.monotonic()
            yield number, server
            took[server] = time.monotonic() - began
            used += took[server]


def leave_out(servers, table, messages, seconds, paces):
    """Takes out of `servers` who would need more than that time for one round. paces: {server: seconds a message}."""
    for server in servers[:]:
        expected = paces.get(server.name, 0) * messages
        if expected > seconds and server.name not in NEEDED:
            table.note(f"{server.name} is left out: " + (f"a round would take it {expected / 60:.0f} minutes" if expected < 1e6
                                                         else "it has not come to its end before"))
            servers.remove(server)
    return servers


def samples_within(count, seconds):
    """The numbers of samples to take, at least one, as long as there is time."""
    began = time.monotonic()
    for number in range(count):
        if number and time.monotonic() - began > seconds:
            return
        yield number
