"""A hostile login stage, session or tls, or an auth that takes its time to leave: installed in their places by
tests/e2e/door, which puts the table T of frame types (frames.py) before this text. What it does is said by the client:
the first line for login stage and tls, the unread input for the session.
"""
import array
import os
import pwd
import random
import signal
import socket
import struct
import sys
import time

CONTROL = socket.socket(fileno=3)
MARKS = "/srv/marks/"  # a file for each session that ran: PID.UID


def u(n):
    return struct.pack("=I", n)


def s(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("=I", len(data)) + data


def send(kind, *fields, fd=None, length=None):
    payload = b"".join(fields)
    packet = struct.pack("=HHI", T.get(kind, kind), 0, len(payload) if length is None else length) + payload
    CONTROL.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else [])


def receive():
    packet = CONTROL.recv(70000)
    if not packet:
        sys.exit(0)
    return struct.unpack_from("=H", packet)[0], packet[8:]


NOTHING_AHEAD = u(0), s(""), s("")  # of an attempt, for the session


def attempt(number, user, password, ahead=NOTHING_AHEAD):
    send("FRAME_AUTH_START", u(number), s("PLAIN"), s("\0%s\0%s" % (user, password)), u(1), *ahead)


def login(password):
    attempt(1, "bob", password)
    assert receive()[0] == T["FRAME_AUTH_DONE"]


def handover(unread=b""):
    send("FRAME_HANDOVER", s(unread), s("a"))


def noise(seed, good):
    """Frames that are nearly right: a field longer, shorter, with other bytes, of another type, with an fd."""
    rnd = random.Random(seed)
    for _ in range(60):
        kind, fields = rnd.choice(good)
        payload = bytearray(b"".join(fields))
        for _ in range(rnd.randrange(4)):
            if payload:
                payload[rnd.randrange(len(payload))] = rnd.choice((0, 1, 127, 255, rnd.randrange(256)))
        if rnd.randrange(4) == 0:
            del payload[rnd.randrange(len(payload) + 1):]
        if rnd.randrange(4) == 0:
            payload += rnd.randbytes(rnd.randrange(300))
        if rnd.randrange(5) == 0:
            kind = rnd.choice(list(T.values()) + [0, 63, 255, 65535])
        send(kind, bytes(payload), fd=2 if rnd.randrange(12) == 0 else None,
             length=rnd.randrange(1 << 32) if rnd.randrange(12) == 0 else None)


FRONT = [("FRAME_AUTH_START", (u(1), s("PLAIN"), s("\0bob\0wrong"), u(1), *NOTHING_AHEAD)), ("FRAME_NOTE", (u(1), s("text"))),
         ("FRAME_STARTTLS", ()), ("FRAME_AUTH_RESPONSE", (u(1), s("x"))), ("FRAME_AUTH_CANCEL", (u(1),)),
         ("FRAME_PROXY", (s("192.0.2.1"), u(1), s("192.0.2.2"), u(2))), ("FRAME_HANDOVER", (s(""), s("a"))),
         ("FRAME_AUTH_DONE", (u(1), s("bob"), s(""), s("")))]
KEEPER = [("FRAME_KEEPER_LOCK", (u(0),)), ("FRAME_KEEPER_UNLOCK", ()), ("FRAME_KEEPER_CREATE", ())]


def front(what, *more):
    if what == "handover":
        handover()
    elif what == "done":
        send("FRAME_AUTH_DONE", u(1), s("bob"), s(""), s(""))
    elif what == "start":
        send("FRAME_SESSION_START", s("alice"), s("/home/alice"), s("x"), s("x"), u(0), s(""), s(""), s(""), s(""))
    elif what == "lock":
        send("FRAME_KEEPER_LOCK", u(0))
    elif what == "attempt":
        attempt(int(more[0]), "bob", "wrong")
    elif what == "two-at-once":
        attempt(1, "bob", "wrong")
        attempt(2, "bob", "wrong")
    elif what == "mechanism":
        send("FRAME_AUTH_START", u(1), s("EXTERNAL"), s("bob"), u(1), *NOTHING_AHEAD)
        assert receive()[0] == T["FRAME_AUTH_FAILED"]
    elif what == "proxy":
        send("FRAME_PROXY", s("127.0.0.1"), u(1), s("127.0.0.1"), u(2))
    elif what == "fd":
        send("FRAME_NOTE", u(1), s("x"), fd=0)
    elif what == "length":
        send("FRAME_NOTE", u(1), s("x"), length=1 << 31)
    elif what == "large":
        send("FRAME_NOTE", u(1), b"x" * 66000)
    elif what == "notes":
        for _ in range(20):
            send("FRAME_NOTE", u(1), s("x"))
    elif what == "noise":
        noise(int(more[0]), FRONT)
    elif what == "ahead":
        attempt(1, "bob", more[0], (u(1), s(""), s("a")))
        receive()
    else:
        after_login(what, *more)


def after_login(what, *more):
    login(more[0])
    if what == "twice":
        handover()
        handover()
    elif what == "again":
        attempt(2, "bob", more[0])
    elif what == "silent":
        pass
    elif what == "lingers":
        time.sleep(600)
    elif what == "leaves-late":
        handover()
        time.sleep(600)
    elif what == "session":
        handover(" ".join(more[1:]).encode())
        handover()


def session(what, *more):
    if what == "alice":
        send("FRAME_KEEPER_LOCK", u(0), s("alice"))
    elif what == "path":
        send("FRAME_KEEPER_CREATE", s("../alice"))
    elif what == "type":
        send("FRAME_AUTH_START", u(1), s("PLAIN"), s("\0alice\0x"), u(1), *NOTHING_AHEAD)
    elif what == "fd":
        send("FRAME_KEEPER_UNLOCK", fd=0)
    elif what == "noise":
        noise(int(more[0]), KEEPER)
    elif what == "stays":  # as if nothing had happened; more than any test waits
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        send("FRAME_KEEPER_UNLOCK", u(0))
        time.sleep(600)
    elif what == "dies":  # with the lock, which is its own user's and nobody else's
        send("FRAME_KEEPER_LOCK", u(0))
        assert receive()[0] == T["FRAME_KEEPER_OK"]
        with open(MARKS + "locks", "w", encoding="ascii") as f:
            f.write(" ".join(n for n in os.listdir("/var/mail") if n.endswith(".lock")))
        os.kill(os.getpid(), 9)


FACTS = ("FRAME_TLS_FACTS", (s("TLSv1.3"), s("TLS_AES_256_GCM_SHA384"), s(""), s(""), s(""), s(""), u(0)))
TLS = [FACTS, ("FRAME_TLS_FAILED", (u(0), u(0), s("because"))), ("FRAME_NOTE", (u(5), s("text"))), ("FRAME_AUTH_DONE", FRONT[-1][1])]


def tls(what, *more):
    if what == "facts":
        for _ in range(2):
            send(*FACTS[:1], *FACTS[1])
    elif what == "done":
        send(FRONT[-1][0], *FRONT[-1][1])
    elif what == "handover":
        send(*FACTS[:1], *FACTS[1])
        handover()
    elif what == "starttls":
        send("FRAME_STARTTLS")
    elif what == "escapes":
        send("FRAME_TLS_FACTS", s("TLSv1.3\r\n* OK"), *FACTS[1][1:])
    elif what == "short":
        send("FRAME_TLS_FACTS", *FACTS[1][:-1])
    elif what == "long":
        send("FRAME_TLS_FACTS", s("x" * 5000), *FACTS[1][1:])
    elif what == "fd":
        send(*FACTS[:1], *FACTS[1], fd=0)
    elif what == "length":
        send("FRAME_NOTE", u(5), s("x"), length=1 << 31)
    elif what == "notes":
        for _ in range(20):
            send("FRAME_NOTE", u(5), s("x"))
    elif what == "noise":
        noise(int(more[0]), TLS)


def auth():
    receive()
    bob = pwd.getpwnam("bob")
    send("FRAME_AUTH_DONE", u(1), s("bob"), s(""), s(""), u(bob.pw_uid), u(bob.pw_gid), s(u(bob.pw_gid)), s(bob.pw_dir))
    time.sleep(3)


def main():
    if os.path.basename(sys.argv[0]) == "auth":
        auth()
        return
    if os.path.basename(sys.argv[0]) == "imap-session":
        # A session is there before anybody is logged in; then it becomes who it is told, on the connection that it gets.
        packet, fds, _, _ = socket.recv_fds(CONTROL, 70000, 1)
        if not packet:
            sys.exit(0)
        _, uid, gid, size = struct.unpack_from("=IIII", packet, 8)
        os.setgroups(struct.unpack_from("=%dI" % (size // 4), packet, 24))
        os.setgid(gid)
        os.setuid(uid)
        os.dup2(fds[0], 0)
        os.dup2(fds[0], 1)
        with open("%s%d.%d" % (MARKS, os.getpid(), os.getuid()), "w", encoding="ascii"):
            pass
        payload = receive()[1]
        fields = []
        while payload:
            n = struct.unpack_from("=I", payload)[0]
            if len(fields) == 4:  # TLS active: a number
                fields.append(n)
                payload = payload[4:]
                continue
            fields.append(payload[4:4 + n])
            payload = payload[4 + n:]
        words = fields[6].decode().split()
        work = session
    elif os.path.basename(sys.argv[0]) == "tls":
        while receive()[0] != T["FRAME_TLS_GO"]:
            pass
        words = os.read(0, 4096).decode().split()
        work = tls
    else:
        receive()
        os.write(0, b"* OK double\r\n")
        words = os.read(0, 4096).decode().split()
        work = front
    try:
        if words:
            work(*words)
            time.sleep(0.2)
    except (BrokenPipeError, ConnectionResetError):
        pass  # cut off, as it should be


main()
