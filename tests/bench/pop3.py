"""POP3 on one large maildrop: the same work for every server on a fresh copy of the same file."""
import hashlib
import statistics
import time

import login


class Maildrop:
    """A logged-in session."""

    def __init__(self, server):
        self.file = server.connect().makefile("rwb", buffering=1 << 20)
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

    def skip(self):
        """The same, thrown away quickly."""
        while self.file.readline() != b".\r\n":
            pass


def retrieve_all(drop, count):
    """Every message, pipelined in small groups as fast clients do; returns seconds."""
    start = time.perf_counter()
    for first in range(1, count + 1, 20):
        group = range(first, min(first + 20, count + 1))
        drop.file.write(b"".join(b"RETR %d\r\n" % n for n in group))
        drop.file.flush()
        for _ in group:
            if not drop.file.readline().startswith(b"+OK"):
                raise RuntimeError("RETR")
            drop.skip()
    return time.perf_counter() - start


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
    for number, digest in enumerate(digests, 1):
        drop.ask(f"RETR {number}")
        if hashlib.sha256(b"".join(as_stored(drop.lines(), liberties))).hexdigest() != digest:
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
    drop.skip()
    result["UIDL"] = time.perf_counter() - start
    result["RETR all"] = retrieve_all(drop, count)
    drop.ask("QUIT")
    verify(server, digests, notes)
    drop = Maildrop(server)
    start = time.perf_counter()
    for number in range(1, count + 1, 2):
        drop.ask(f"DELE {number}")
    drop.ask("QUIT")
    result["DELE every second, QUIT"] = time.perf_counter() - start
    verify(server, digests[1::2], notes)
    return result


def compare(tools, box, digests, rounds):
    """Returns {measure: {server: median seconds}}."""
    servers = login.start_servers(tools)
    samples, notes = {}, set()
    try:
        for _ in range(rounds):
            for server in servers:
                try:
                    for title, seconds in one_run(server, tools[2], box, digests, notes).items():
                        samples.setdefault((title, server.name), []).append(seconds)
                except (RuntimeError, EOFError) as error:
                    print(f"  {server.name}: {error}")
    finally:
        for server in servers:
            server.stop()
    for note in sorted(notes):
        print("  " + note)
    table = {}
    for (title, name), values in samples.items():
        table.setdefault(title, {})[name] = statistics.median(values)
    return table
