"""A client that costs little, at the other end of a connection over the loopback. What is timed is done by load.c,
which looks only for the end of an answer; what verifies reads with literals taken apart."""
import os
import re
import socket
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


def compile_load(folder):
    """The load generator, where Python would be slower than what is measured."""
    path = os.path.join(folder, "load")
    if not os.path.exists(path):
        subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-o", path, os.path.join(HERE, "load.c"), "-lcrypto"],
                       check=True)
    return path


class Late(RuntimeError):
    """A server has taken longer for one thing than it may: it is not asked again."""


def load(program, connection, *words, patience=None):
    """Runs it on a connected socket; returns its lines."""
    try:
        done = subprocess.run([program, *words], stdin=connection, capture_output=True, text=True, check=False,
                              timeout=patience)
    except subprocess.TimeoutExpired as late:
        raise Late(f"{str(words)[:80]}: no answer after {patience:.0f} s") from late
    if done.returncode:
        raise RuntimeError(f"{str(words)[:80]}: {done.stderr.strip()}")
    return done.stdout.splitlines()


def loopback():
    """Two ends of a TCP connection, as a server and its client have them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends = [socket.create_connection(listener.getsockname()), listener.accept()[0]]
    for end in ends:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ends


class Session:
    """An IMAP server on one end of a connection. `patience`: seconds for one answer."""

    def __init__(self, program, command, patience, user=None):
        self.program, self.patience = program, patience  # program: of compile_load()
        self.socket, theirs = loopback()
        options = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
        try:
            self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, **options)
        finally:
            theirs.close()
        self.socket.settimeout(patience)
        self.file = self.socket.makefile("rb", buffering=1 << 16)
        self.number = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def line(self):
        """One line with its CRLF."""
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError(f"the connection is gone after {line!r}")
        return line

    def send(self, data):
        self.socket.sendall(data)

    def greeting(self):
        line = self.line()
        if not line.startswith((b"* OK", b"* PREAUTH")):
            raise RuntimeError(f"greeting: {line!r}")

    def imap(self, command):
        """Sends a command, waits for its tagged reply; returns (seconds, bytes received, last line)."""
        self.number += 1
        counts, last = load(self.program, self.socket, "imap", f"t{self.number}", command, patience=self.patience)
        if not last.startswith(f"t{self.number} OK"):
            raise RuntimeError(f"{command[:60].decode()}: {last[:200]}")
        seconds, received = counts.split()
        return float(seconds), int(received), last

    def digests(self, command):
        """SHA-256 of each literal of the answer."""
        self.number += 1
        return load(self.program, self.socket, "literals", f"t{self.number}", command, patience=self.patience)

    def imap_responses(self, command):
        """Sends a command; yields every untagged response as a list of pieces (text, literal, text, ...)."""
        self.number += 1
        tag = b"t%d " % self.number
        self.send(tag + command + b"\r\n")
        while True:
            pieces = [self.line()]
            while match := LITERAL.search(pieces[-1]):
                pieces.append(self.file.read(int(match.group(1))))
                pieces.append(self.line())
            if pieces[0].startswith(tag):
                if not pieces[0].startswith(tag + b"OK"):
                    raise RuntimeError(f"{command[:60].decode()}: {pieces[0][:200]}")
                return
            yield pieces

    def private_kb(self):
        """Private memory of the server process."""
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as f:
            return sum(int(line.split()[1]) for line in f if line.startswith(("Private_Clean:", "Private_Dirty:")))

    def close(self):
        self.file.close()
        self.socket.close()
        try:
            self.process.wait(timeout=120)  # it may have something to write
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
