"""POP3 on one large maildrop: the same work for every server on a fresh copy of the same file."""
import os
import time

import client
import login
from tables import DAMAGED, NEEDED, alternate, leave_out, log

DAMAGED_MOST = 0.001  # of all: above it what was timed is not the same work
LIBERTIES = {"h": "shows the header fields that mbox programs keep for themselves", "q": "undoes the quoting of From_ lines"}


class Maildrop:
    """A logged-in session."""

    def __init__(self, server, program, patience):
        self.program, self.patience = program, patience
        self.socket = server.connect()
        self.socket.settimeout(patience)
        self.file = self.socket.makefile("rwb", buffering=1 << 20)
        self.file.readline()
        self.ask("USER " + server.user)
        self.seconds = self.ask("PASS " + login.PASSWORD)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.file.close()
        except OSError:
            pass
        self.socket.close()

    def ask(self, command):
        """One command, one line of answer; returns (seconds, answer)."""
        start = time.perf_counter()
        self.file.write(command.encode() + b"\r\n")
        self.file.flush()
        answer = self.file.readline()
        if not answer.startswith(b"+OK"):
            raise RuntimeError(f"{command}: {answer}")
        return time.perf_counter() - start, answer

    def lines(self):
        """The lines of an answer that ask() has begun."""
        while (line := self.file.readline()) != b".\r\n":
            if not line:
                raise EOFError("the connection is gone")
            yield line

    def load(self, *words):
        return client.load(self.program, self.socket, *words, patience=self.patience)

    def seconds_of(self, *words):
        """(seconds, octets)"""
        seconds, octets = self.load(*words)[0].split()
        return float(seconds), int(octets)


def processor_seconds(server):
    """What all processes of the server have used: a busy machine changes it least."""
    ticks = 0
    for pid in server.processes():
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                ticks += sum(int(n) for n in f.read().rpartition(")")[2].split()[11:13])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


class Work:
    """All the work once, for one server on a fresh copy of the box."""

    def __init__(self, server, folder, program, patience):
        self.server, self.folder, self.program, self.patience = server, folder, program, patience
        self.result, self.notes = {}, set()
        self.octets = 0

    def drop(self):
        return Maildrop(self.server, self.program, self.patience)

    def run(self, box, digests, is_verified):
        login.put_box(self.folder, self.server, box)
        self.look(len(digests))
        if is_verified:
            self.verify(digests)
        with self.drop() as drop:
            seconds = drop.seconds_of("pipeline", "DELE", "1", "2", str(len(digests)), r"\r\n")[0]
            self.result["DELE every second, QUIT"] = seconds + drop.ask("QUIT")[0]
        if is_verified:
            self.verify(digests[1::2])
        with self.drop() as drop:
            self.expect_messages(drop.ask("STAT")[1], len(digests[1::2]))
            drop.ask("QUIT")

    def expect_messages(self, answer, count):
        if int(answer.split()[1]) != count:
            raise RuntimeError(f"{self.server.name}: {answer} where there should be {count} messages")

    def look(self, count):
        with self.drop() as drop:
            seconds, answer = drop.ask("STAT")
            self.expect_messages(answer, count)
            self.result["login and STAT, first"] = drop.seconds + seconds
            drop.ask("QUIT")
        with self.drop() as drop:
            self.result["login and STAT, later"] = drop.seconds + drop.ask("STAT")[0]
            self.result["UIDL"] = drop.seconds_of("answer", "UIDL")[0]
            used = processor_seconds(self.server)
            seconds, self.octets = drop.seconds_of("pipeline", "RETR", "1", "1", str(count), r"\r\n.\r\n")
            self.result["RETR all"] = seconds
            self.result["RETR all, of the processor"] = processor_seconds(self.server) - used
            self.result["QUIT after that"] = drop.ask("QUIT")[0]

    def verify(self, digests):
        """What is fetched is what was stored, or the notes say what is not."""
        name = self.server.name
        with self.drop() as drop:
            drop.ask("UIDL")
            names = [line.split()[1] for line in drop.lines()]
            found = [line.split(" ") for line in drop.load("digests", str(len(digests)))]
            drop.ask("QUIT")
        damaged = [n for n, (wanted, (digest, _)) in enumerate(zip(digests, found), 1) if digest != wanted]
        self.result[DAMAGED] = self.result.get(DAMAGED, 0) + len(damaged)
        most = DAMAGED_MOST * len(digests) if name != "pennypost" else 0
        if len(names) != len(digests) or len(found) != len(digests) or len(damaged) > most:
            raise RuntimeError(f"{name}: {len(names)} of {len(digests)} messages, {len(damaged)} are not what was stored"
                               f" {damaged[:3]}")
        self.notes.update(f"{name} {LIBERTIES[what]}: compared without that" for what in {c for _, marks in found for c in marks})
        if len(set(names)) < len(names):
            self.notes.add(f"{name} names messages alike in UIDL")
        if damaged:
            self.notes.add(f"{name} has damaged messages: its times stand all the same")


def compare(tools, table, box, digests, rounds, seconds, paces):
    """Alternates the servers, medians come into the table. The first round of each is verified, of the others what they
    count. paces: {server: seconds a message}, kept from box to box."""
    servers, octets = login.start_servers(tools), {}
    started, program = servers[:], client.compile_load(tools[2])
    try:
        leave_out(servers, table, len(digests), seconds, paces)
        until = time.monotonic() + seconds
        for number, server in alternate(servers, rounds, seconds):
            # Who is no part of a budget has what the others left; a larger box takes it more than its share.
            if number == 0 and not leave_out([server], table, len(digests), (until - time.monotonic()) / 2, paces):
                servers.remove(server)
                continue
            patience = max(60, seconds / 2) if server.name in NEEDED else max(20, seconds / 3)
            began, work = time.monotonic(), Work(server, tools[2], program, patience)
            try:
                work.run(box, digests, number == 0)
                if work.octets != octets.setdefault(server.name, work.octets):
                    raise RuntimeError(f"{server.name}: {work.octets} octets by RETR, {octets[server.name]} before")
                paces[server.name] = (time.monotonic() - began) / len(digests)
            except (RuntimeError, OSError, EOFError) as error:
                table.note(f"{server.name} has not come to its end: {error}")
                paces[server.name] = float("inf")
                if not isinstance(error, (client.Late, TimeoutError)):  # a run that lost something is not a figure
                    work.result = {t: v for t, v in work.result.items() if t == DAMAGED}
                servers.remove(server)
                server.stop()  # it may still be busy with what nobody waits for
            finally:  # also when there is no time left for the rest
                for title, value in work.result.items():
                    table.add(title, server.name, value)
                for note in sorted(work.notes):
                    table.note(note)
                log(f"  {server.name}: " + " ".join(f"{v:.4g}" for v in work.result.values()))
    finally:
        for server in started:
            server.stop()
