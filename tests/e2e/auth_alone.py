#!/usr/bin/env python3
"""The program `auth` alone, with this test as its monitor and a real PAM in the box (tests/e2e/box).

    box auth_alone.py PATH-OF-AUTH

Closes with "N passed, N failed".
"""
import os
import signal
import sys
import time

from frames import Control, Tests, T, s, start, u

PROGRAM = os.path.abspath(sys.argv[1])
PAM = "/etc/pam.d/pennypost-imap"


class Attempt:
    """One auth process with its request."""

    def __init__(self, mechanism, initial=None, service="imap", peer="192.0.2.1", apop="", tls=0, exporter=b"",
                 end_point=b"", subject="", options=(), attempt=1, **more):
        self.control = Control()
        self.attempt = attempt
        with open("/dev/null", "r+b") as null:
            self.process = start([PROGRAM, *options], {0: null.fileno(), 1: null.fileno(), 2: 2,
                                                       3: self.control.child.fileno()}, **more)
        self.control.child.close()
        self.control.send("FRAME_AUTH_REQUEST", u(attempt), s(service), s(mechanism), s(initial or b""),
                          u(initial is not None), s(peer), s(apop), u(tls), s(exporter), s(end_point), s(subject))

    def challenge(self):
        name, r = self.control.recv()
        assert name == "FRAME_AUTH_CHALLENGE", (name, r and r.data)
        assert r.u() == self.attempt
        text = r.s()
        r.end()
        return text

    def respond(self, data):
        self.control.send("FRAME_AUTH_RESPONSE", u(self.attempt), s(data))

    def result(self):
        """A dictionary of the final frame; {"left": status} when the process ended without one."""
        name, r = self.control.recv()
        if name is None:
            return {"left": self.process.wait(20)}
        assert r.u() == self.attempt
        if name == "FRAME_AUTH_DONE":
            out = {"user": r.t(), "messages": r.t(), "final": r.s()}
        else:
            assert name == "FRAME_AUTH_FAILED", name
            number = r.u()
            out = {"class": next(n[11:] for n, v in T.items() if n.startswith("AUTH_CLASS_") and v == number),
                   "text": r.t(), "user": r.t(), "reason": r.t()}
        r.end()
        return out

    def end(self):
        self.control.close()
        return self.process.wait(20)


def plain(user, password, authzid=""):
    return b"\0".join(x.encode() if isinstance(x, str) else x for x in (authzid, user, password))


def attempt(*args, **more):
    a = Attempt(*args, **more)
    out = a.result()
    a.end()
    return out


def login(user, password, **more):
    return attempt("PLAIN", plain(user, password), **more)


def test_plain():
    assert login("alice", "wonderland") == {"user": "alice", "messages": "", "final": b""}
    assert login("bob", "builder", service="pop3")["user"] == "bob"
    assert login("bob", "builder", service="smtp", peer="stdin")["user"] == "bob"
    assert attempt("PLAIN", plain("alice", "wonderland", "alice"))["user"] == "alice"
    a = Attempt("plain")
    assert a.challenge() == b""
    a.respond(plain("alice", "wonderland"))
    assert a.result()["user"] == "alice"
    assert a.end() == 0


def test_login():
    a = Attempt("LOGIN")
    assert a.challenge() == b"Username:"
    a.respond(b"alice")
    assert a.challenge() == b"Password:"
    a.respond(b"wonderland")
    assert a.result()["user"] == "alice"
    a.end()
    a = Attempt("LOGIN", b"bob")
    assert a.challenge() == b"Password:"
    a.respond(b"wrong")
    assert a.result()["class"] == "CREDENTIALS"
    a.end()


def test_wrong():
    wrong = login("alice", "looking-glass")
    unknown = login("nobody-here", "looking-glass")
    assert wrong["class"] == unknown["class"] == "CREDENTIALS"
    assert wrong["text"] == unknown["text"] == ""
    assert wrong["user"] == "alice" and unknown["user"] == "nobody-here"
    for user, password in (("alice", ""), ("", "x"), ("alice", "wonderland "), ("Alice", "wonderland"),
                           ("alice" * 20, "x"), ("al\nice", "x"), ("../alice", "x"), ("alice", "x" * 2000)):
        assert login(user, password)["class"] in ("CREDENTIALS", "MECHANISM"), user


def test_accounts():
    assert login("late", "wonderland")["class"] == "EXPIRED"
    assert login("late", "wrong")["class"] == "CREDENTIALS"
    assert login("stale", "wonderland")["class"] == "EXPIRED"
    assert login("locked", "wonderland")["class"] == "CREDENTIALS"
    # Root and system accounts look like a wrong password, whatever the password is.
    assert login("root", "toor")["class"] == "CREDENTIALS"
    assert login("root", "wrong")["class"] == "CREDENTIALS"
    assert login("daemonic", "system")["class"] == "CREDENTIALS"
    assert login("daemonic", "system", options=("-o", "min_uid=500"))["user"] == "daemonic"
    assert login("root", "toor", options=("-o", "min_uid=0"))["class"] == "CREDENTIALS"


def test_messages():
    out = login("soon", "wonderland")
    assert out["user"] == "soon" and "expire" in out["messages"], out
    assert "expired" in login("late", "wonderland")["text"]


def with_pam(text, function):
    with open(PAM, encoding="ascii") as f:
        before = f.read()
    try:
        with open(PAM, "w", encoding="ascii") as f:
            f.write(text)
        return function()
    finally:
        with open(PAM, "w", encoding="ascii") as f:
            f.write(before)


def test_nologin():
    with open("/etc/nologin", "w", encoding="ascii") as f:
        f.write("System is going down\n")
    try:
        out = login("alice", "wonderland")
        assert out["class"] == "TEMPORARY", out
        assert login("alice", "wrong")["class"] == "CREDENTIALS"
    finally:
        os.unlink("/etc/nologin")


def test_pam_out_of_order():
    """No service file and no `other`, a module that is missing, one that denies."""
    assert with_pam("auth required pam_unix.so\naccount required pam_deny.so\n",
                    lambda: login("alice", "wonderland"))["class"] == "DENIED"
    assert with_pam("auth required pam_not_there.so\naccount required pam_unix.so\n",
                    lambda: login("alice", "wonderland"))["class"] == "TEMPORARY"


def test_a_module_that_crashes_or_hangs():
    with open("/var/tmp/crash.sh", "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nkill -9 $PPID\n")
    os.chmod("/var/tmp/crash.sh", 0o755)
    out = with_pam("auth required pam_exec.so quiet /var/tmp/crash.sh\naccount required pam_unix.so\n",
                   lambda: login("alice", "wonderland"))
    assert out == {"left": -9}, out
    a = with_pam("auth required pam_exec.so quiet /bin/sleep 30\naccount required pam_unix.so\n",
                 lambda: (lambda x: (time.sleep(0.5), x)[1])(Attempt("PLAIN", plain("alice", "wonderland"))))
    a.process.send_signal(signal.SIGKILL)  # what the monitor does at its deadline
    assert a.result() == {"left": -9}
    a.end()


def test_what_modules_see():
    """RHOST, RUSER, TTY, SERVICE and a clean environment."""
    with open("/var/tmp/pam-env", "w", encoding="ascii"):
        pass
    out = with_pam("auth required pam_unix.so\nauth required pam_exec.so quiet log=/var/tmp/pam-env /usr/bin/env\n"
                   "account required pam_unix.so\n",
                   lambda: login("alice", "wonderland", env={"SECRET": "x", "LD_LIBRARY_PATH": ""}))
    assert out["user"] == "alice"
    with open("/var/tmp/pam-env", encoding="utf-8") as f:
        text = f.read()
    for line in ("PAM_RHOST=192.0.2.1", "PAM_RUSER=alice", "PAM_TTY=imap", "PAM_SERVICE=pennypost-imap",
                 "PAM_USER=alice"):
        assert line in text, (line, text)
    assert "SECRET" not in text and "wonderland" not in text


def test_session():
    """With pam_session the process stays until the connection ends, and then closes the session."""
    log = "/var/tmp/pam-session"
    with open(log, "w", encoding="ascii"):
        pass
    with open("/var/tmp/session.sh", "w", encoding="ascii") as f:
        f.write("#!/bin/sh\necho $PAM_TYPE >>%s\n" % log)
    os.chmod("/var/tmp/session.sh", 0o755)

    def types():
        with open(log, encoding="ascii") as f:
            return f.read().split()

    def run():
        a = Attempt("PLAIN", plain("alice", "wonderland"), options=("-o", "pam_session=yes"))
        assert a.result()["user"] == "alice"
        time.sleep(0.3)
        assert a.process.poll() is None
        assert types() == ["open_session"]
        assert a.end() == 0
        assert types() == ["open_session", "close_session"]

    with_pam("auth required pam_unix.so\naccount required pam_unix.so\n"
             "session required pam_exec.so quiet /var/tmp/session.sh\n", run)
    a = Attempt("PLAIN", plain("alice", "wonderland"))
    assert a.result()["user"] == "alice"
    assert a.process.wait(20) == 0
    a.end()


def test_malformed():
    for initial in (b"", b"\0", b"\0\0", b"alice", b"\0alice", b"\0alice\0", b"\0alice\0x\0", b"\0al\xffice\0x",
                    os.urandom(200).replace(b"\0", b"x")):
        assert attempt("PLAIN", initial)["class"] == "MECHANISM", initial
    assert attempt("X-UNHEARD-OF", b"")["class"] == "MECHANISM"
    assert attempt("PLAIN", plain("alice", "wonderland", "bob"))["class"] == "CREDENTIALS"


def test_monitor_that_speaks_nonsense():
    good = (u(1), s("imap"), s("PLAIN"), s(plain("alice", "wonderland")), u(1), s("192.0.2.1"), s(""), u(0), s(""),
            s(""), s(""))
    for fields in (good[:-1], good + (u(0),), (), (u(1), s("../../x")) + good[2:], (u(1), s("")) + good[2:],
                   good[:2] + (s("PL\0IN"),) + good[3:], good[:5] + (s("x" * 100),) + good[6:]):
        control = Control()
        with open("/dev/null", "r+b") as null:
            process = start([PROGRAM], {0: null.fileno(), 1: null.fileno(), 2: null.fileno(), 3: control.child.fileno()})
        control.child.close()
        control.send("FRAME_AUTH_REQUEST", *fields)
        assert control.recv() == (None, None), fields
        assert process.wait(20) > 0
        control.close()


def test_the_secret_is_not_readable():
    """Not dumpable, no core file."""
    a = Attempt("LOGIN", b"alice")
    a.challenge()
    with open("/proc/%d/limits" % a.process.pid, encoding="ascii") as f:
        core = [line for line in f if line.startswith("Max core file size")][0]
    assert core.split()[4:6] == ["0", "0"], core
    a.respond(b"wonderland")
    a.result()
    a.end()


def test_same_time_for_unknown_and_wrong():
    """The monitor hides the time of the check; here only: neither waits for PAM's own delay."""
    for user in ("alice", "nobody-here"):
        began = time.monotonic()
        login(user, "wrong")
        assert time.monotonic() - began < 1.5, user


def main():
    tests = Tests()
    for name, function in list(globals().items()):
        if name.startswith("test_") and (len(sys.argv) < 3 or name in sys.argv[2:]):
            tests.run(function)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
