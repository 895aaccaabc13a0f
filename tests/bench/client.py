"""A client that costs little: speaks to a server on a socket pair or a TCP connection and looks only for the end of an
answer, so that what is timed is the server. verify() reads with literals taken apart."""
import os
import re
import select
import socket
import subprocess
import time

LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


def rounds_within(rounds, seconds):
    """The numbers of the rounds; no further one begins when the time is used up."""
    began = time.monotonic()
    for number in range(rounds):
        if number and time.monotonic() - began > seconds:
            print(f"  {number} of {rounds} rounds: the time was up")
            return
        yield number


class Session:
    """A server started on one end of a socket pair, or a connection."""

    def __init__(self, command=None, address=None, environment=None, user=None):
        self.process = None
        if command:
            ours, theirs = socket.socketpair()
            options = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
            self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL,
                                            env=environment, **options)
            theirs.close()
            self.socket = ours
        else:
            self.socket = socket.create_connection(address)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.number = 0

    def line(self):
        """One line with its CRLF."""
        while b"\n" not in self.buffer:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise EOFError(self.buffer)
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def exactly(self, size):
        """`size` bytes."""
        pieces, have = [self.buffer], len(self.buffer)
        while have < size:
            piece = self.socket.recv(1 << 20)
            if not piece:
                raise EOFError
            pieces.append(piece)
            have += len(piece)
        data = b"".join(pieces)
        self.buffer = data[size:]
        return data[:size]

    def send(self, data):
        self.socket.sendall(data)

    def imap(self, command):
        """Sends a command, waits for its tagged reply; returns (seconds, bytes received, last line)."""
        self.number += 1
        tag = b"t%d" % self.number
        start = time.perf_counter()
        self.send(tag + b" " + command + b"\r\n")
        received, tail = 0, self.buffer
        self.buffer = b""
        end = re.compile(rb"(?:\A|\n)" + tag + rb" (OK|NO|BAD)[^\r\n]*\r\n\Z")
        while True:
            piece = self.socket.recv(1 << 20)
            if not piece:
                raise EOFError(tail[-200:])
            received += len(piece)
            tail = (tail + piece)[-4096:] if len(piece) < 4096 else piece[-4096:]
            match = end.search(tail)
            if match:
                seconds = time.perf_counter() - start
                if match.group(1) != b"OK":
                    raise RuntimeError(command[:100] + b": " + match.group(0).strip())
                return seconds, received, tail

    def imap_responses(self, command):
        """Sends a command; yields every untagged response as a list of pieces (text, literal, text, ...)."""
        self.number += 1
        tag = b"t%d " % self.number
        self.send(tag + command + b"\r\n")
        while True:
            pieces = [self.line()]
            while True:
                match = LITERAL.search(pieces[-1])
                if not match:
                    break
                pieces.append(self.exactly(int(match.group(1))))
                pieces.append(self.line())
            if pieces[0].startswith(tag):
                if not pieces[0].startswith(tag + b"OK"):
                    raise RuntimeError(command[:100] + b": " + pieces[0])
                return
            yield pieces

    def wait_for_input(self, seconds):
        return bool(select.select([self.socket], [], [], seconds)[0])

    def memory(self):
        """(RSS, private) in KB of the server process."""
        values = {}
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as f:
            for line in f:
                words = line.split()
                if words[0].endswith(":") and words[-1] == "kB":
                    values[words[0]] = int(words[1])
        return values["Rss:"], values["Private_Clean:"] + values["Private_Dirty:"]

    def close(self):
        self.socket.close()
        if self.process:
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.kill(self.process.pid, 9)
                self.process.wait()
