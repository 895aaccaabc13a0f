"""POP3 on one large maildrop: the same work for every server on a fresh copy of the same file."""
import hashlib
import statistics
import time

import login
from client import rounds_within

GROUP = 20  # commands sent at a time, as fast clients do
PATIENCE = 3  # times the limit: who would take longer with one box, as a smaller one makes it seem, is left out


class Maildrop:
    """A logged-in session."""

    def __init__(self, server):
        self.socket = server.connect()
        self.file = self.socket.makefile("rwb", buffering=1 << 20)
        self.file.readline()
        self.ask("USER " + server.user)
        self.seconds = self.ask("PASS " + login.PASSWORD)[0]

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
        """A multi-line answer, dot-unstuffed."""
        while True:
            line = self.file.readline()
            if line == b".\r\n":
                return
            if not line:
                raise EOFError
            yield line[1:] if line.startswith(b".") else line

    def pipeline(self, verb, numbers, end):
        """A command for each number, in groups; `end` ends an answer. Looks for nothing else, so that what is timed is the
        server."""
        for first in range(0, len(numbers), GROUP):
            group = numbers[first:first + GROUP]
            self.socket.sendall(b"".join(b"%s %d\r\n" % (verb, n) for n in group))
            missing, tail = len(group), b""
            while missing > 0:
                piece = self.socket.recv(1 << 20)
                if not piece:
                    raise EOFError
                tail += piece
                missing -= tail.count(end)
                tail = tail[-len(end) + 1:]
            if tail != end[1:] or missing:
                raise RuntimeError(f"{verb}: {missing} {tail}")

    def lines_of_all(self, count):
        """The lines of each message."""
        for first in range(1, count + 1, GROUP):
            group = range(first, min(first + GROUP, count + 1))
            self.socket.sendall(b"".join(b"RETR %d\r\n" % n for n in group))
            for number in group:
                if not self.file.readline().startswith(b"+OK"):
                    raise RuntimeError(f"RETR {number}")
                yield number, self.lines()


INTEROP = (b"status:", b"x-status:", b"x-keywords:", b"x-uid:", b"x-imapbase:", b"x-imap:", b"x-uidl:")
DAMAGED_MOST = 0.001  # of all: above it what was timed is not the same work


def as_stored(lines, liberties):
    """The message as it stands in the mbox; what a server shows in another way and may is added to `liberties`."""
    is_header = True
    for line in lines:
        is_header = is_header and line != b"\r\n"
        if is_header and line.lower().startswith(INTEROP):
            liberties.add("shows the header fields that mbox programs keep for themselves")
        elif not is_header and line.startswith(b"From "):
            liberties.add("undoes the quoting of From_ lines")
            yield b">" + line
        else:
            yield line


def verify(server, digests, notes):
    """What is fetched is what was stored, or `notes` says what is not."""
    drop = Maildrop(server)
    liberties, damaged = set(), []
    for number, lines in drop.lines_of_all(len(digests)):
        if hashlib.sha256(b"".join(as_stored(lines, liberties))).hexdigest() != digests[number - 1]:
            damaged.append(number)
    drop.ask("QUIT")
    if len(damaged) > DAMAGED_MOST * len(digests):
        raise RuntimeError(f"{server.name}: {len(damaged)} of {len(digests)} messages are not what was stored, the first is"
                           f" {damaged[0]}")
    notes.update(f"{server.name} {what}: compared without that" for what in liberties)
    if damaged:
        notes.add(f"{server.name} has damaged {len(damaged)} of {len(digests)} messages: its times stand all the same")


def one_run(server, work, box, digests, notes):
    login.put_box(work, server, box)
    count = len(digests)
    result = {}
    drop = Maildrop(server)
    seconds, answer = drop.ask("STAT")
    if int(answer.split()[1]) != count:
        raise RuntimeError(f"{server.name}: {answer}")
    result["login and STAT, first"] = drop.seconds + seconds
    drop.ask("QUIT")
    drop = Maildrop(server)
    result["login and STAT, later"] = drop.seconds + drop.ask("STAT")[0]
    start = time.perf_counter()
    drop.ask("UIDL")
    for _ in drop.lines():
        pass
    result["UIDL"] = time.perf_counter() - start
    start = time.perf_counter()
    drop.pipeline(b"RETR", range(1, count + 1), b"\r\n.\r\n")
    result["RETR all"] = time.perf_counter() - start
    drop.ask("QUIT")
    verify(server, digests, notes)
    drop = Maildrop(server)
    start = time.perf_counter()
    drop.pipeline(b"DELE", range(1, count + 1, 2), b"\r\n")
    result["QUIT after that"] = drop.ask("QUIT")[0]
    result["DELE every second, QUIT"] = time.perf_counter() - start
    verify(server, digests[1::2], notes)
    return result


def compare(tools, box, digests, rounds, limit, paces):
    """Returns {measure: {server: median seconds}}. `limit`: seconds after which no further round begins; who would take
    PATIENCE times as long with one box is left out. `paces`: {server: seconds a message, verification included}, kept
    from box to box."""
    servers = login.start_servers(tools)
    samples, notes = {}, set()
    try:
        for _ in rounds_within(rounds, limit):
            for server in servers:
                if paces.get(server.name, 0) * len(digests) > PATIENCE * limit:
                    notes.add(f"{server.name} is left out: it would take more than {PATIENCE * limit / 60:.0f} minutes")
                    continue
                begun = time.monotonic()
                try:
                    for title, seconds in one_run(server, tools[2], box, digests, notes).items():
                        samples.setdefault((title, server.name), []).append(seconds)
                except (RuntimeError, EOFError, TimeoutError) as error:
                    print(f"  {server.name}: {error}")
                paces[server.name] = (time.monotonic() - begun) / len(digests)
    finally:
        for server in servers:
            server.stop()
    for note in sorted(notes):
        print("  " + note)
    table = {}
    for (title, name), values in samples.items():
        table.setdefault(title, {})[name] = statistics.median(values)
    return table
