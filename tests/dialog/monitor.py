"""The runner's part as the monitor of a login stage: frames as words of a script, and back (shared/io/frame_types.h)."""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import frames  # noqa: E402

# Fields in order: s a string, u a number (or the name of an enum constant).
FIELDS = {
    "LOGIN_START": "ssuuussss", "TLS_STARTED": "", "AUTH_CHALLENGE": "us", "AUTH_FAILED": "uusss", "AUTH_DONE": "usss",
    "REFUSED": "us", "STARTTLS": "", "AUTH_START": "ussuuss", "AUTH_RESPONSE": "us", "AUTH_CANCEL": "u", "HANDOVER": "ss",
    "NOTE": "us",
}


def constant(word):
    """A number, or an enum constant without its beginning (CREDENTIALS is AUTH_CLASS_CREDENTIALS)."""
    if word.isdigit():
        return int(word)
    for name, value in frames.T.items():
        if name.endswith(word) and name.startswith(("AUTH_CLASS_", "NOTE_")):
            return value
    raise ValueError("no number: " + word)


def capabilities(protocol, can_tls, plaintext_allowed, mechanisms):
    """What the monitor tells its login stage to announce."""
    if protocol == "imap":
        words = b"IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ID".split() + [b"STARTTLS"] * int(can_tls)
        words += [b"LOGINDISABLED"] * (not int(plaintext_allowed))
        words += [b"AUTH=" + m for m in mechanisms.replace(b'""', b"").replace(b"\\x20", b" ").split()]
        return rb"\x20".join(words)
    if protocol == "pop3":
        lines = "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER", "LANG", "EXPIRE NEVER"
        return "".join(line.replace(" ", r"\x20") + r"\r\n" for line in lines).encode()
    return b'""'


class Monitor:
    """One control socket and the connection behind it."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.control = frames.Control()
        self.next_connection = None  # our end of what TLS_STARTED has handed over

    def send(self, line, unescape):
        """NAME FIELD...: "" is the empty string, escapes as in `->|`, a blank is \\x20."""
        name, *words = line.split(b" ")
        name = name.decode()
        fields = []
        if name == "LOGIN_START":
            words.append(capabilities(self.protocol, *words[3:6]))
        for kind, word in zip(FIELDS[name], words, strict=True):
            if kind == "u":
                fields.append(frames.u(constant(word.decode())))
            else:
                fields.append(frames.s(b"" if word == b'""' else unescape(word)))
        fd, theirs = None, None
        if name == "TLS_STARTED":
            self.next_connection, theirs = socket.socketpair()
            fd = theirs.fileno()
        self.control.send("FRAME_" + name, *fields, fd=fd)
        if theirs:
            theirs.close()

    def expect(self, line, unescape):
        """None, or how the next frame differs; a field `*` may be anything. What an AUTH_START brings for the session need not be
        said."""
        name, *words = line.split(b" ")
        got, fields = self.control.recv()
        if got != "FRAME_" + name.decode():
            return "got %s" % (got or "the end")
        if name == b"AUTH_START" and len(words) == 4:
            words += [b"1", b"*", b"*"]
        for number, (kind, word) in enumerate(zip(FIELDS[name.decode()], words, strict=True), 1):
            value = fields.u() if kind == "u" else fields.s()
            if word == b"*":
                continue
            want = constant(word.decode()) if kind == "u" else b"" if word == b'""' else unescape(word)
            if value != want:
                return "field %d is %r" % (number, value)
        fields.end()
        return None

    def close(self):
        self.control.close()
        if self.next_connection:
            self.next_connection.close()
