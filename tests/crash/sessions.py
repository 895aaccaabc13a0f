"""IMAP and POP3 sessions on pipes, for the actors of the hammer."""

import os
import pty
import re
import subprocess


class Vanished(Exception):
    """A session ended because the message that it was half-way through was removed by somebody else; what came of it."""


class Pipe:
    """A session program on a pair of pipes; what it logs goes to a terminal, which is the one place where nothing takes it for
    the client's connection."""

    def __init__(self, work, name):
        self.terminal, log = pty.openpty()
        self.p = subprocess.Popen([work.programs[name]] + work.options(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=log, **work.as_user)
        os.close(log)

    def send(self, line):
        self.p.stdin.write(line.encode() + b"\r\n")
        self.p.stdin.flush()

    def line(self):
        line = self.p.stdout.readline()
        if not line:
            raise self.ended()
        return line

    def ended(self, part=b""):
        """What to raise when the session has ended by itself."""
        status, log = self.p.wait(), b""
        try:
            while piece := os.read(self.terminal, 65536):
                log += piece
        except OSError: # that is its end
            pass
        os.close(self.terminal)
        if status == 1 and b"end=message_vanished" in log:
            return Vanished(part)
        return EOFError("%s ended with status %r: %r" % (self.p.args[0], status, log[-1000:]))

    def end(self):
        try:
            self.p.stdin.close()
        except BrokenPipeError:
            pass
        self.p.stdout.close()
        self.p.wait(300)
        os.close(self.terminal)


class Imap(Pipe):
    def __init__(self, work):
        super().__init__(work, "imap-session")
        self.n = 0
        self.line()

    def ask(self, command):
        """All lines of the answer, literals joined in, the tagged one last."""
        self.n += 1
        tag, out = b"a%d " % self.n, []
        self.send("a%d %s" % (self.n, command))
        while True:
            line = self.line()
            while True:
                found = re.search(rb"\{(\d+)\}\r\n$", line)
                if not found:
                    break
                line += self.p.stdout.read(int(found.group(1)))
                rest = self.p.stdout.readline()
                if not rest:
                    raise self.ended(line)
                line += rest
            out.append(line)
            if line.startswith(tag):
                return out

    def messages(self):
        out = []
        for line in self.ask("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (X-Crash-Id)])"):
            found = re.search(rb"UID (\d+).*X-Crash-Id: (\S+)", line, re.S)
            if found:
                out.append((int(found.group(1)), found.group(2).decode()))
        return out

    def store(self, uid, what):
        """True if it is acknowledged and the message was still there (untagged FETCH, or silent and not expunged)."""
        lines = self.ask("UID STORE %d %s" % (uid, what))
        return lines[-1].split()[1] == b"OK" and ("SILENT" in what or any(b"FETCH" in l and b"UID %d" % uid in l for l in lines))

    def fetch(self, uid):
        for line in self.ask("UID FETCH %d BODY.PEEK[]" % uid):
            found = re.match(rb"\* \d+ FETCH .*?\{(\d+)\}\r\n", line)
            if found:
                return line[found.end():found.end() + int(found.group(1))]
        return None

    def end(self):
        self.ask("LOGOUT")
        super().end()


class Pop3(Pipe):
    def __init__(self, work):
        super().__init__(work, "pop3-session")
        greeting = self.p.stdout.readline()
        self.is_open = greeting.startswith(b"+OK") # else [IN-USE]: another POP3 session has the maildrop

    def ask(self, command):
        self.send(command)
        return self.line()

    def retr(self, n):
        if not self.ask("RETR %d" % n).startswith(b"+OK"):
            return None
        out = []
        while True:
            line = self.p.stdout.readline()
            if not line.endswith(b"\n"):
                raise self.ended(b"".join(out))
            if line == b".\r\n":
                return b"".join(out)
            out.append(line[1:] if line.startswith(b".") else line)
