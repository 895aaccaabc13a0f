#!/usr/bin/env python3
"""Wrong input for servers that listen: every one must be answered by a clear error or a closed connection, and the
server must serve the next client as if nothing had been.

    hostile.py [--smtp HOST:PORT] [--pop3 ...] [--imap ...] [--imaps ...] [--user NAME --password WORD]

Closes with "opened PROTOCOL N" lines, one per protocol, and "N passed, N failed". The caller looks into the log for crashes
and sanitizer reports, and for a line about each connection.
"""
import argparse
import collections
import random
import socket
import sys
import time
import traceback

GREETING = {"smtp": b"220", "pop3": b"+OK", "imap": b"* OK"}
SCRIPTS = {
    "smtp": b"EHLO client.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<%(user)s@localhost>\r\nDATA\r\n"
            b"Subject: dropped\r\n\r\nbody\r\n..dot\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n",
    "pop3": b"CAPA\r\nUSER %(user)s\r\nPASS %(password)s\r\nSTAT\r\nUIDL\r\nLIST\r\nTOP 1 0\r\nNOOP\r\nQUIT\r\n",
    "imap": b"a CAPABILITY\r\nb LOGIN %(user)s {%(length)d+}\r\n%(password)s\r\nc SELECT INBOX\r\nd FETCH 1:* (FLAGS "
            b"ENVELOPE)\r\ne APPEND INBOX {5+}\r\na: b\n\r\nf LOGOUT\r\n",
}
LOGIN_ENDS = {"pop3": b"PASS %(password)s\r\n", "imap": b"%(password)s\r\n"}
OPENED = collections.Counter()  # connections, by port
LOGGED_IN = {"pop3": (b"-ERR [", b"octets)"), "imap": (b"b ", b"\nb OK")}  # the login's answer, and that it is a good one
STARTTLS = {"smtp": ((b"EHLO client.example\r\n", b"250 "), (b"STARTTLS\r\n", b"220 ")), "pop3": ((b"STLS\r\n", b"+OK"),),
            "imap": ((b"a STARTTLS\r\n", b"a OK"),)}
ERRORS = {"smtp": (b"\r\n5", b"\r\n4"), "pop3": (b"-ERR",), "imap": (b"BAD", b"BYE", b"NO ")}
TIMEOUT = 120
LONG_LINE = 10 << 20
NOISE_ROUNDS = 40


class Tests:
    """Counts."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, good, detail=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAIL {name}: {detail}")

    def attempt(self, function, *arguments):
        """What it raises is one failed check, and what comes behind it is tried all the same."""
        try:
            function(self, *arguments)
        except (OSError, RuntimeError) as e:
            self.check(f"{function.__name__} {arguments[0]} comes to its end", False, f"{e!r}\n{traceback.format_exc()}")


def connect(address):
    s = socket.create_connection(address, timeout=TIMEOUT)
    OPENED[address[1]] += 1
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def is_alive(protocol, address):
    """Does the next client get its greeting and a clean end?"""
    for _ in range(600):
        try:
            with connect(address) as s:
                if s.recv(4096).startswith(GREETING[protocol]):
                    s.sendall(b"a LOGOUT\r\n" if protocol == "imap" else b"QUIT\r\n")
                    while s.recv(4096):
                        pass
                    return True
        except OSError:
            pass
        time.sleep(0.1)  # over a per-source limit for a moment
    return False


def drain(s):
    """Everything until the server closes; None when it does not within the time."""
    s.settimeout(TIMEOUT)
    data = b""
    try:
        while len(data) < 1 << 22:
            piece = s.recv(1 << 16)
            if not piece:
                return data
            data += piece
    except ConnectionError:
        return data
    except TimeoutError:
        return None
    return data


def attempt(address, data):
    """Sends what the server takes, ends the input, returns its answer (None: it did not end)."""
    with connect(address) as s:
        return say(s, data)


def say(s, data):
    try:
        for at in range(0, len(data), 1 << 16):
            s.sendall(data[at:at + (1 << 16)])
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return drain(s)


def bad_lines(tests, protocol, address, words):
    """One bad line each, then an ordinary end: an error for the first, or a closed door; before a login and, where there is
    one, after it."""
    tail = b"a LOGOUT\r\n" if protocol == "imap" else b"QUIT\r\n"
    cases = {
        "10 MB line": b"A" * LONG_LINE + b"\r\n",
        "NUL bytes": b"NO\0OP\r\n",
        "only NULs": b"\0" * 4096 + b"\r\n",
        "8-bit": b"\xff\xfe\x80\x81\r\n",
        "bare CR": b"NOOP\rNOOP\r\n",
        "empty lines": b"\r\n" * 50,
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "format characters": b"%s%n%s%n%x \r\n",
    }
    for name, data in cases.items():
        answer = attempt(address, data + tail)
        # A closed door: nothing behind the greeting, so what followed the bad line was not carried out either.
        is_closed = answer is not None and answer.count(b"\n") <= 1
        tests.check(f"{protocol} {name}", answer is not None and
                    (any(w in answer for w in ERRORS[protocol]) or is_closed), answer and answer[:2000])
        if protocol in LOGGED_IN:
            with begin(protocol, address, login_of(protocol, words)) as s:
                answer = say(s, data + tail)
            tests.check(f"{protocol} session, {name}", answer is not None and
                        (any(w in answer for w in ERRORS[protocol]) or not answer), answer and answer[:2000])
        tests.check(f"{protocol} after {name}", is_alive(protocol, address))


def noise(tests, protocol, address):
    """Random bytes, random lengths; the server ends it when the input ends."""
    rnd = random.Random(7)
    bad = sum(attempt(address, rnd.randbytes(rnd.randrange(1, 60000))) is None for _ in range(NOISE_ROUNDS))
    tests.check(f"{protocol} binary noise", bad == 0, f"{bad} of {NOISE_ROUNDS} did not end")
    tests.check(f"{protocol} after noise", is_alive(protocol, address))


def begin(protocol, address, login):
    """A connection that has logged in: what is cut off after that meets the session, not the login stage."""
    end, is_in = LOGGED_IN[protocol]
    for _ in range(1200):
        s = connect(address)
        data = b""
        s.sendall(login)
        while is_in not in data and not any(line.startswith(end) for line in data.split(b"\n")[:-1]):
            piece = s.recv(4096)
            if not piece:
                break
            data += piece
        if is_in in data:
            return s
        s.close()
        time.sleep(0.05)  # POP3: the session before is about to end
    raise RuntimeError("no login for %s: %r" % (protocol, data))


def login_of(protocol, words):
    """The script as far as the login."""
    script, end = SCRIPTS[protocol] % words, LOGIN_ENDS[protocol] % words
    return script[:script.find(end) + len(end)]


def dropped(tests, protocol, address, words):
    """The connection breaks at every byte of a session, closed and reset in turn."""
    script = SCRIPTS[protocol] % words
    after = len(login_of(protocol, words)) if protocol in LOGGED_IN else 0
    for length in range(len(script) + 1):
        try:
            with begin(protocol, address, script[:after]) if 0 < after <= length else connect(address) as s:
                s.sendall(script[after if 0 < after <= length else 0:length])
                if length % 2:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        except OSError:
            pass
        time.sleep(0.002)
    tests.check(f"{protocol} dropped at each of {len(script) + 1} bytes", is_alive(protocol, address))


HELLO = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(32)) + b"\x00\x00\x04\x13\x01\x13\x02\x01\x00"
NO_HELLOS = [b"a LOGIN x y\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"\x80\x2e\x01\x03\x01", HELLO + b"\0" * 200]


def half_handshakes(tests, address):
    """TLS records cut short, malformed, and plain text where TLS is spoken."""
    cases = [HELLO[:n] for n in range(len(HELLO))] + NO_HELLOS
    bad = sum(attempt(address, data) is None for data in cases)
    tests.check("imaps half handshakes", bad == 0, f"{bad} of {len(cases)} did not end")


def until(s, end):
    """Lines of the server's, to the one that begins so."""
    data = b""
    while not any(line.startswith(end) for line in data.split(b"\r\n")[:-1]):
        piece = s.recv(4096)
        if not piece:
            raise RuntimeError("no %r but %r" % (end, data))
        data += piece


def half_starttls(tests, protocol, address):
    """The same behind STARTTLS: what follows is no handshake, or half of one."""
    cases = [HELLO[:n] for n in range(0, len(HELLO), 5)] + NO_HELLOS
    bad = 0
    for data in cases:
        with connect(address) as s:
            until(s, GREETING[protocol])
            for line, answer in STARTTLS[protocol]:
                s.sendall(line)
                until(s, answer)
            bad += say(s, data) is None
    tests.check(f"{protocol} half handshakes behind STARTTLS", bad == 0, f"{bad} of {len(cases)} did not end")
    tests.check(f"{protocol} after half handshakes", is_alive(protocol, address))


def address_of(where):
    host, _, port = where.rpartition(":")
    return host, int(port)


def main():
    parser = argparse.ArgumentParser(description="wrong input for servers that listen")
    for name in ("smtp", "pop3", "imap", "imaps", "user", "password"):
        parser.add_argument("--" + name, default="")
    options = parser.parse_args()
    words = {b"user": options.user.encode(), b"password": options.password.encode(), b"length": len(options.password)}
    tests = Tests()
    for protocol in ("smtp", "pop3", "imap"):
        where = getattr(options, protocol)
        if where:
            tests.attempt(bad_lines, protocol, address_of(where), words)
            tests.attempt(noise, protocol, address_of(where))
            tests.attempt(dropped, protocol, address_of(where), words)
            tests.attempt(half_starttls, protocol, address_of(where))
    if options.imaps:
        tests.attempt(half_handshakes, address_of(options.imaps))
    for protocol in ("smtp", "pop3", "imap", "imaps"):
        if getattr(options, protocol):
            print("opened", protocol, OPENED[address_of(getattr(options, protocol))[1]])
    print(f"{tests.passed} passed, {tests.failed} failed")
    return 1 if tests.failed or not tests.passed else 0


if __name__ == "__main__":
    sys.exit(main())
