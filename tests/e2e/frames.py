"""The frames between Pennypost's processes, for tests that play the monitor (shared/io/frame.h, frame_types.h)."""
import array
import os
import re
import socket
import struct
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def constants(*headers):
    """Names and numbers of the enums in headers, so that the test cannot drift from the code."""
    names = {}
    for header in headers:
        with open(os.path.join(ROOT, header), encoding="utf-8") as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        for body in re.findall(r"enum \w+ \{(.*?)\}", text, flags=re.S):
            value = 0
            for item in filter(None, (x.strip() for x in body.split(","))):
                name, _, number = (x.strip() for x in item.partition("="))
                shift = re.match(r"1u << (\d+)$", number)
                if number:
                    value = 1 << int(shift.group(1)) if shift else names[number] if number in names else int(number, 0)
                names[name] = value
                value += 1
    return names


T = constants("shared/io/frame_types.h", "handlers/relay/talk.h")


def u(n):
    return struct.pack("=I", n)


def s(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("=I", len(data)) + data


class Reader:
    """Takes fields off a payload."""

    def __init__(self, data):
        self.data = data

    def u(self):
        n, = struct.unpack_from("=I", self.data)
        self.data = self.data[4:]
        return n

    def s(self):
        n = self.u()
        out, self.data = self.data[:n], self.data[n:]
        assert len(out) == n
        return out

    def t(self):
        return self.s().decode()

    def end(self):
        assert not self.data, self.data


class Control:
    """The monitor's end of a control socket."""

    def __init__(self):
        self.sock, self.child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(120)

    def send(self, name, *fields, fd=None):
        payload = b"".join(fields)
        packet = struct.pack("=HHI", T[name], 0, len(payload)) + payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        self.sock.sendmsg([packet], rights)

    def send_raw(self, packet):
        self.sock.send(packet)

    def recv(self):
        """(name, Reader), or (None, None) when the program has left."""
        try:
            packet = self.sock.recv(70000)
        except ConnectionResetError:
            packet = b""
        if not packet:
            return None, None
        kind, zero, length = struct.unpack_from("=HHI", packet)
        assert zero == 0 and length == len(packet) - 8
        for name, number in T.items():
            if name.startswith("FRAME_") and number == kind:
                return name, Reader(packet[8:])
        raise AssertionError("frame of type %d" % kind)

    def close(self):
        self.sock.close()


def start(argv, fds, **options):
    """Starts a program with exactly these fds ({number: fd}); everything else is closed."""
    # Copies far away from the numbers wanted, so that dup2 in the child cannot overwrite one that is still needed.
    copies = {number: os.dup(fd) for number, fd in fds.items()}
    high = {number: _high(fd) for number, fd in copies.items()}
    for fd in copies.values():
        os.close(fd)

    def place():
        for number, fd in high.items():
            os.dup2(fd, number)
        os.closerange(max(high) + 1, 256)

    try:
        return subprocess.Popen(argv, preexec_fn=place, close_fds=False, **options)
    finally:
        for fd in high.values():
            os.close(fd)


def _high(fd):
    import fcntl
    return fcntl.fcntl(fd, fcntl.F_DUPFD, 100)


class Tests:
    """Runs functions, counts, prints one line for each."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def run(self, function, *args):
        import traceback
        try:
            function(*args)
        except Exception as e:  # pylint: disable=broad-except
            print("FAIL %s: %s\n%s" % (function.__name__, repr(e)[:300], traceback.format_exc()), flush=True)
            self.failed += 1
        else:
            print("pass", function.__name__, flush=True)
            self.passed += 1

    def skip(self, name, why):
        print("SKIP %s: %s" % (name, why))
        self.skipped += 1

    def close(self):
        print("%d passed, %d failed%s" % (self.passed, self.failed,
                                          ", %d skipped" % self.skipped if self.skipped else ""))
        return 1 if self.failed else 0
