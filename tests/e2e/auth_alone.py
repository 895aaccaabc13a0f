#!/usr/bin/env python3
"""The program `auth` alone, with this test as its monitor and a real PAM in the box (tests/e2e/box).

    box auth_alone.py BUILD/handlers/auth/auth [TEST...]

Closes with "N passed, N failed".
"""
import base64
import hashlib
import hmac
import os
import pwd
import re
import signal
import subprocess
import sys
import time

from frames import Control, Tests, T, s, start, u
from world import wait_until

PROGRAM = os.path.abspath(sys.argv[1])
ADMIN = os.path.join(os.path.dirname(os.path.dirname(PROGRAM)), "admin", "pennypost")
DEVICES = "/var/lib/pennypost/devices"
PAM = "/etc/pam.d/pennypost-imap"


class Attempt:
    """One auth process with its request."""

    def __init__(self, mechanism, initial=None, service="imap", peer="192.0.2.1", apop="", tls=0, exporter=b"",
                 end_point=b"", subject="", options=(), wrap=(), attempt=1, **more):
        self.control = Control()
        self.attempt = attempt
        with open("/dev/null", "r+b") as null:
            self.process = start([*wrap, PROGRAM, *options], {0: null.fileno(), 1: null.fileno(), 2: 2,
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
            return {"left": self.process.wait(60)}
        assert r.u() == self.attempt
        if name == "FRAME_AUTH_DONE":
            out = {"user": r.t(), "messages": r.t(), "final": r.s()}
            self.account = r.u(), r.u(), r.s(), r.t()
        else:
            assert name == "FRAME_AUTH_FAILED", name
            number = r.u()
            out = {"class": next(n[11:] for n, v in T.items() if n.startswith("AUTH_CLASS_") and v == number),
                   "text": r.t(), "user": r.t(), "reason": r.t()}
        r.end()
        return out

    def end(self):
        self.control.close()
        return self.process.wait(60)


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


def test_account():
    """What the monitor is told about who was let in is what the name service knows, and a service account can be asked for."""
    a = Attempt("PLAIN", plain("alice", "wonderland"))
    assert a.result()["user"] == "alice"
    alice = pwd.getpwnam("alice")
    groups = b"".join(u(g) for g in os.getgrouplist("alice", alice.pw_gid))
    assert a.account == (alice.pw_uid, alice.pw_gid, groups, alice.pw_dir), a.account
    a.end()
    for name, answers in (("alice", True), ("nobody-here", False)):
        control = Control()
        with open("/dev/null", "r+b") as null:
            process = start([PROGRAM, "--account", name], {0: null.fileno(), 1: null.fileno(), 2: 2, 3: control.child.fileno()})
        control.child.close()
        kind, fields = control.recv()
        assert kind == ("FRAME_ACCOUNT" if answers else None), kind
        assert not answers or (fields.u(), fields.u()) == (alice.pw_uid, alice.pw_gid)
        control.close()
        assert (process.wait(60) == 0) == answers


def test_acting_for_another():
    """Nobody can, and only who has proved who he is hears of it (RFC 4422 2, RFC 5530 3)."""
    forget_devices()
    for mechanism in ("PLAIN", "LOGIN"):
        out = attempt(mechanism, plain("alice", "wonderland", "bob"))
        assert out["class"] == "AUTHORIZATION" and out["text"] and out["user"] == "alice", out
        assert attempt(mechanism, plain("alice", "wrong", "bob"))["class"] == "CREDENTIALS"
        assert attempt(mechanism, plain("nobody-here", "wrong", "bob"))["class"] == "CREDENTIALS"
        assert attempt(mechanism, plain("alice", "wonderland", "alice"))["user"] == "alice"
    assert attempt("PLAIN", plain("late", "wonderland", "bob"))["class"] == "EXPIRED"
    password = device("add", "alice")
    assert attempt("PLAIN", plain("alice", password, "bob"))["class"] == "AUTHORIZATION"
    for digest in ("256", "1"):
        out = scram("SCRAM-SHA-" + digest, Scram("alice", password, "sha" + digest, authzid="bob"))
        assert out["class"] == "AUTHORIZATION", out
        assert scram("SCRAM-SHA-" + digest, Scram("alice", "wrong", "sha" + digest, authzid="bob"))["class"] == "CREDENTIALS"
    assert "----------" in device("list", "alice")  # it was not used
    forget_devices()


def test_login():
    """The login stage has asked for name and password."""
    assert attempt("LOGIN", plain("alice", "wonderland"))["user"] == "alice"
    assert attempt("LOGIN", plain("bob", "wrong"))["class"] == "CREDENTIALS"
    assert attempt("LOGIN")["class"] == "MECHANISM"


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


def commands(parent):
    """The command lines of the children of a process."""
    out = b""
    with open("/proc/%d/task/%d/children" % (parent, parent), encoding="ascii") as f:
        for child in f.read().split():
            try:
                with open("/proc/%s/cmdline" % child, "rb") as line:
                    out += line.read()
            except OSError:
                pass
    return out


def test_a_module_that_crashes_or_hangs():
    with open("/var/tmp/crash.sh", "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nkill -9 $PPID\n")
    os.chmod("/var/tmp/crash.sh", 0o755)
    out = with_pam("auth required pam_exec.so quiet /var/tmp/crash.sh\naccount required pam_unix.so\n",
                   lambda: login("alice", "wonderland"))
    assert out == {"left": -9}, out

    def begin():
        begun = Attempt("PLAIN", plain("alice", "wonderland"))
        assert wait_until(lambda: b"/bin/sleep" in commands(begun.process.pid))  # it has read its stack
        return begun

    a = with_pam("auth required pam_exec.so quiet /bin/sleep 60\naccount required pam_unix.so\n", begin)
    a.process.send_signal(signal.SIGKILL)  # what the monitor does at its deadline
    assert a.result() == {"left": -9}
    a.end()


def test_its_share_of_the_processor():
    """Policy and nice value are the service's, whose Nice= counts for the modules too."""
    for wrap, policy, nice in ((("nice", "-n", "10"), os.SCHED_OTHER, 10), (("nice", "-n", "-3"), os.SCHED_OTHER, -3),
                               (("nice", "-n", "7", "chrt", "--batch", "0"), os.SCHED_BATCH, 7),
                               (("chrt", "--idle", "0"), os.SCHED_IDLE, 0), (("chrt", "--fifo", "1"), os.SCHED_FIFO, 0)):
        a = Attempt("PLAIN", wrap=wrap)
        a.challenge()
        pid = a.process.pid
        assert os.sched_getscheduler(pid) == policy, (wrap, os.sched_getscheduler(pid))
        assert os.getpriority(os.PRIO_PROCESS, pid) == nice, (wrap, os.getpriority(os.PRIO_PROCESS, pid))
        a.end()


IN_A_SESSION = """import fcntl, os, sys, termios
os.setsid()
if sys.argv[1] == "terminal":
    ours = os.openpty()
    fcntl.ioctl(ours[1], termios.TIOCSCTTY, 0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]) if os.fork() else os.execv(sys.argv[2], sys.argv[2:]))
"""


def test_its_group():
    """The monitor ends it as a whole. No module finds a terminal, of which there is one for who tries `listen` by hand."""
    for where in ("terminal", "none"):
        a = Attempt("PLAIN", wrap=(sys.executable, "-c", IN_A_SESSION, where))
        a.challenge()
        with open("/proc/%d/task/%d/children" % (a.process.pid, a.process.pid), encoding="ascii") as f:
            pid = int(f.read())
        assert os.getpgid(pid) == pid
        assert (os.getsid(pid) == pid) == (where == "terminal"), where
        with open("/proc/%d/stat" % pid, encoding="ascii") as f:
            assert f.read().rpartition(")")[2].split()[4] == "0", where  # tty_nr
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


def test_a_name_that_forges_a_log_line():
    """pam_unix writes RUSER bare into its line, and fail2ban blocks the address that it reads there."""
    with open("/var/tmp/pam-env", "w", encoding="ascii"):
        pass
    out = with_pam("auth required pam_exec.so quiet log=/var/tmp/pam-env /usr/bin/env\nauth required pam_deny.so\n"
                   "account required pam_unix.so\n",
                   lambda: login("x rhost=192.0.2.66 user=y", "wonderland"))
    assert out["class"] == "CREDENTIALS", out
    with open("/var/tmp/pam-env", encoding="utf-8") as f:
        text = f.read()
    assert "PAM_RHOST=192.0.2.1\n" in text and "PAM_RUSER" not in text, text


def one_time_code(secret):
    """RFC 6238 with its defaults, which is what phones show."""
    digest = hmac.digest(base64.b32decode(secret), int(time.time() // 30).to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15
    return b"%06d" % ((int.from_bytes(digest[at:at + 4], "big") & 0x7fffffff) % 10**6)


def test_a_second_factor():
    """A module that asks for more than the password: LOGIN carries the question, PLAIN cannot and says so."""
    secret = "JBSWY3DPEHPK3PXP"
    with open("/var/tmp/totp", "w", encoding="ascii") as f:
        f.write(secret + '\n" TOTP_AUTH\n')
    os.chmod("/var/tmp/totp", 0o600)
    stack = ("auth required pam_unix.so\n"
             "auth required pam_google_authenticator.so user=root secret=/var/tmp/totp\naccount required pam_unix.so\n")

    def ask(password, code):
        a = Attempt("LOGIN", plain("alice", password))
        assert a.challenge() == b"Verification code:"
        a.respond(code)
        out = a.result()
        a.end()
        return out

    def run():
        assert ask("wonderland", one_time_code(secret))["user"] == "alice"
        assert ask("wonderland", b"000000")["class"] == "CREDENTIALS"
        assert ask("wonderland", b"")["class"] == "CREDENTIALS"
        assert ask("wrong", one_time_code(secret))["class"] == "CREDENTIALS"
        # The same words for a right and a wrong password, and for nobody.
        refused = [login(user, password) for user, password in (("alice", "wonderland"), ("alice", "wrong"))]
        assert refused[0] == refused[1], refused
        assert refused[0]["class"] == "DENIED" and "device password" in refused[0]["text"], refused[0]
        a = Attempt("LOGIN", plain("alice", "wonderland"))
        a.challenge()
        a.control.close()  # the client is gone
        assert a.process.wait(60) is not None

    with_pam(stack, run)


def test_modules_that_ask_for_the_same_password():
    out = with_pam("auth required pam_unix.so\nauth required pam_unix.so\naccount required pam_unix.so\n",
                   lambda: login("alice", "wonderland"))
    assert out["user"] == "alice", out


def test_what_modules_call():
    """crypt_r() and getaddrinfo() are the program's own for modules and libraries, hash_once.c and numeric.c."""
    log = "/var/tmp/bindings"
    a = Attempt("PLAIN", plain("alice", "wonderland"), env={"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": log})
    assert a.result()["user"] == "alice"
    a.end()
    with open("%s.%d" % (log, a.process.pid), encoding="utf-8", errors="replace") as f:
        text = f.read()
    for library, symbol in (("pam_unix", "crypt_r"), ("libaudit", "getaddrinfo")):
        assert re.search(r"%s\.so\S* \[0\] to %s \[0\]: normal symbol `%s'" % (library, re.escape(PROGRAM), symbol), text), symbol


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
        a = Attempt("PLAIN", plain("alice", "wonderland"), options=("-o", "pam_session=yes"))
        assert a.result()["user"] == "alice"
        a.process.send_signal(signal.SIGTERM)  # as whoever stops the service does to all of it
        time.sleep(0.3)
        assert a.process.poll() is None
        assert a.end() == 0
        assert types() == ["open_session", "close_session"] * 2

    with_pam("auth required pam_unix.so\naccount required pam_unix.so\n"
             "session required pam_exec.so quiet /var/tmp/session.sh\n", run)
    a = Attempt("PLAIN", plain("alice", "wonderland"))
    assert a.result()["user"] == "alice"
    assert a.process.wait(60) == 0
    a.end()


def test_malformed():
    for initial in (b"", b"\0", b"\0\0", b"alice", b"\0alice", b"\0alice\0", b"\0alice\0x\0", b"\0al\xffice\0x",
                    os.urandom(200).replace(b"\0", b"x")):
        assert attempt("PLAIN", initial)["class"] == "MECHANISM", initial
    assert attempt("X-UNHEARD-OF", b"")["class"] == "MECHANISM"


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
        assert process.wait(60) > 0
        control.close()


def test_the_secret_is_not_readable():
    """Not dumpable, no core file."""
    a = Attempt("PLAIN")
    a.challenge()
    with open("/proc/%d/limits" % a.process.pid, encoding="ascii") as f:
        core = [line for line in f if line.startswith("Max core file size")][0]
    assert core.split()[4:6] == ["0", "0"], core
    a.respond(plain("alice", "wonderland"))
    a.result()
    a.end()


def test_same_time_for_unknown_and_wrong():
    """The monitor hides the time of the check; here only: neither waits for PAM's own delay, which is a second at least."""
    for user in ("alice", "nobody-here"):
        took = []
        while len(took) < 20 and (not took or min(took) >= 1):  # a busy machine may be slow, but not each time
            began = time.monotonic()
            login(user, "wrong")
            took.append(time.monotonic() - began)
        assert min(took) < 1, (user, took)


# ---- device passwords ----


def device(*args, **more):
    out = subprocess.run([ADMIN, *more.get("options", ()), "device", *args], stdout=subprocess.PIPE,
                         check=not more.get("may_fail"), text=True, stderr=subprocess.PIPE)
    return (out.returncode, out.stdout.strip()) if more.get("may_fail") else out.stdout.strip()


def forget_devices():
    for name in (DEVICES, DEVICES + ".lock"):
        if os.path.exists(name):
            os.unlink(name)


def hi(digest, password, salt, iterations):
    return hashlib.pbkdf2_hmac(digest, password.encode(), salt, iterations)


class Scram:
    """A SCRAM client, written from RFC 5802 3 and 5."""

    def __init__(self, user, password, digest="sha256", flag="n", data=b"", authzid=""):
        self.password, self.digest = password, digest
        self.header = ("%s,%s," % (flag, "a=" + authzid if authzid else "")).encode()
        self.data = data
        self.nonce = base64.b64encode(os.urandom(15)).decode()
        self.bare = "n=%s,r=%s" % (user.replace("=", "=3D").replace(",", "=2C"), self.nonce)

    def first(self):
        return self.header + self.bare.encode()

    def final(self, server_first):
        fields = dict(x.split("=", 1) for x in server_first.decode().split(","))
        assert fields["r"].startswith(self.nonce) and len(fields["r"]) > len(self.nonce) + 16
        assert int(fields["i"]) >= 4096
        salted = hi(self.digest, self.password, base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", self.digest)
        without = "c=%s,r=%s" % (base64.b64encode(self.header + self.data).decode(), fields["r"])
        message = ",".join((self.bare, server_first.decode(), without)).encode()
        signature = hmac.digest(hashlib.new(self.digest, client_key).digest(), message, self.digest)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.server = hmac.digest(hmac.digest(salted, b"Server Key", self.digest), message, self.digest)
        return (without + ",p=" + base64.b64encode(proof).decode()).encode()

    def accepts(self, final):
        return final == b"v=" + base64.b64encode(self.server)


def scram(mechanism, client, change=lambda x: x, **more):
    a = Attempt(mechanism, client.first(), **more)
    name, r = a.control.recv()
    if name == "FRAME_AUTH_CHALLENGE":
        r.u()
        a.respond(change(client.final(r.s())))
        out = a.result()
        if "user" in out and "final" in out:
            assert client.accepts(out["final"]), out
    else:
        assert name == "FRAME_AUTH_FAILED"
        r.u()
        number = r.u()
        out = {"class": next(n[11:] for n, v in T.items() if n.startswith("AUTH_CLASS_") and v == number)}
        r.t()
        r.t()
        out["reason"] = r.t()
    a.end()
    return out


def test_scram():
    forget_devices()
    first, second = device("add", "alice"), device("add", "--name", "Phone, = new", "alice")
    assert re.fullmatch("[a-z2-9]{4}(-[a-z2-9]{4}){4}", first) and first != second
    for mechanism, digest in (("SCRAM-SHA-256", "sha256"), ("SCRAM-SHA-1", "sha1")):
        for password in (first, second):
            assert scram(mechanism, Scram("alice", password, digest))["user"] == "alice"
            assert scram(mechanism, Scram("alice", password, digest, "y"))["user"] == "alice"
            assert scram(mechanism, Scram("alice", password, digest, authzid="alice"))["user"] == "alice"
        assert scram(mechanism, Scram("alice", "wonderland", digest))["class"] == "CREDENTIALS"
        assert scram(mechanism, Scram("bob", first, digest))["class"] == "CREDENTIALS"
        assert scram(mechanism, Scram("nobody-here", first, digest))["class"] == "CREDENTIALS"
    # The server waits for the first message if the protocol has no initial responses.
    client = Scram("alice", first)
    a = Attempt("SCRAM-SHA-256")
    assert a.challenge() == b""
    a.respond(client.first())
    a.respond(client.final(a.challenge()))
    assert a.result()["user"] == "alice"
    a.end()


def test_scram_tampered():
    forget_devices()
    password = device("add", "alice")
    for change in (lambda x: x[:-9] + (b"B" if x[-9:-8] == b"A" else b"A") + x[-8:], lambda x: x.replace(b"r=", b"r=x"),
                   lambda x: x.replace(b"c=biws", b"c=eSws"),
                   lambda x: x.split(b",p=")[0], lambda x: b"", lambda x: x + b",p=AAAA", lambda x: x.replace(b",p", b",\0p"),
                   lambda x: b"c=biws,r=1,p=" + b"A" * 9000):
        out = scram("SCRAM-SHA-256", Scram("alice", password), change)
        assert out.get("class") in ("CREDENTIALS", "MECHANISM"), out
    for message in (b"", b"n", b"n,,", b"n,,n=alice", b"n,,r=x,n=alice", b"x,,n=alice,r=x", b"n,,m=1,n=alice,r=x",
                    b"p=,,n=alice,r=x", b"n,b=alice,n=alice,r=x", b"n,,n=al=ice,r=x", b"n,,n=alice,r=", b"\xff,,n=a,r=b",
                    b"n,,n=alice,r=a\0b", b"n,,n=" + b"a" * 500 + b",r=x"):
        assert attempt("SCRAM-SHA-256", message)["class"] in ("CREDENTIALS", "MECHANISM"), message


def test_scram_salt_does_not_tell_who_exists():
    forget_devices()
    device("add", "alice")

    def salt(user):
        a = Attempt("SCRAM-SHA-256", b"n,,n=%s,r=abcdef" % user)
        fields = dict(x.split(b"=", 1) for x in a.challenge().split(b","))
        a.end()
        return base64.b64decode(fields[b"s"]), fields[b"i"]

    for user in (b"alice", b"nobody-here"):
        assert salt(user) == salt(user)
        assert len(salt(user)[0]) == 16 and salt(user)[1] == b"4096"
    assert salt(b"nobody-here") != salt(b"nobody-there")


def test_scram_plus():
    forget_devices()
    password = device("add", "alice")
    exporter, end_point = os.urandom(32), os.urandom(32)
    channel = {"tls": 1, "exporter": exporter, "end_point": end_point}
    for mechanism, digest in (("SCRAM-SHA-256-PLUS", "sha256"), ("SCRAM-SHA-1-PLUS", "sha1")):
        for name, data in (("tls-exporter", exporter), ("tls-server-end-point", end_point)):
            client = Scram("alice", password, digest, "p=" + name, data)
            assert scram(mechanism, client, **channel)["user"] == "alice"
            client = Scram("alice", password, digest, "p=" + name, os.urandom(32))
            assert scram(mechanism, client, **channel)["class"] == "CREDENTIALS"  # somebody in the middle
            client = Scram("alice", password, digest, "p=" + name, data)
            assert scram(mechanism, client)["class"] == "MECHANISM"  # no TLS at all
        client = Scram("alice", password, digest, "p=tls-unique", exporter)
        assert scram(mechanism, client, **channel)["class"] == "MECHANISM"
        client = Scram("alice", password, digest, "n")
        assert scram(mechanism, client, **channel)["class"] == "MECHANISM"
    # RFC 5802 6: "y" means that the client was told there is no PLUS, which was not us.
    assert scram("SCRAM-SHA-256", Scram("alice", password, flag="y"), **channel)["class"] == "CREDENTIALS"
    assert scram("SCRAM-SHA-256", Scram("alice", password), **channel)["user"] == "alice"


def md5(key, text):
    return hmac.digest(key.encode(), text, "md5").hex().encode()


def test_cram_and_apop():
    forget_devices()
    plain_one = device("add", "alice")
    password = device("add", "--cram", "alice")
    challenges = set()
    for user, secret, result in (("alice", password, "alice"), ("alice", plain_one, None), ("bob", password, None),
                                 ("alice", "wonderland", None)):
        a = Attempt("CRAM-MD5")
        text = a.challenge()
        assert re.fullmatch(rb"<[0-9a-f]{16}\.[0-9]+@[^>]+>", text), text
        challenges.add(text)
        a.respond(user.encode() + b" " + md5(secret, text))
        assert a.result().get("user" if result else "class") == (result or "CREDENTIALS")
        a.end()
    assert len(challenges) == 4
    for initial in (b"", b"alice " + b"0" * 32):  # RFC 5034 4: the server speaks first
        assert attempt("CRAM-MD5", initial)["class"] == "MECHANISM"
    text = b"<1896.697170952@dbc.mtview.ca.us>"
    for user, secret, result in (("alice", password, "alice"), ("alice", plain_one, None)):
        digest = hashlib.md5(text + secret.encode()).hexdigest().encode()
        out = attempt("APOP", user.encode() + b" " + digest, service="pop3", apop=text)
        assert out.get("user" if result else "class") == (result or "CREDENTIALS")
    assert attempt("APOP", b"alice " + b"0" * 32, service="pop3")["class"] == "MECHANISM"  # no challenge was given
    for message in (b"", b"alice", b"alice 00", b"alice " + b"G" * 32, b" " + b"0" * 32):
        assert attempt("APOP", message, service="pop3", apop=text)["class"] in ("MECHANISM", "CREDENTIALS"), message


def test_device_passwords_in_plain():
    forget_devices()
    password = device("add", "alice")
    assert login("alice", password)["user"] == "alice"
    assert login("alice", "wonderland")["user"] == "alice"  # the login password is still good
    assert login("alice", "wrong")["class"] == "CREDENTIALS"
    assert login("bob", password)["class"] == "CREDENTIALS"
    assert attempt("LOGIN", plain("alice", password))["user"] == "alice"


def test_device_limits():
    forget_devices()
    only_pop = device("add", "--protocols", "pop3", "alice")
    assert login("alice", only_pop, service="pop3")["user"] == "alice"
    assert login("alice", only_pop, service="imap")["class"] == "CREDENTIALS"
    short = device("add", "--days", "1", "alice")
    assert login("alice", short)["user"] == "alice"
    with open(DEVICES, encoding="ascii") as f:
        text = f.read()
    with open(DEVICES, "w", encoding="ascii") as f:
        f.write(re.sub(r"expires=[1-9]\d*", "expires=%d" % (time.time() - 1), text))
    assert login("alice", short)["class"] == "CREDENTIALS"
    assert scram("SCRAM-SHA-256", Scram("alice", short))["class"] == "CREDENTIALS"
    # PAM's account check holds for device passwords too.
    late = device("add", "late")
    assert login("late", late)["class"] == "EXPIRED"
    assert scram("SCRAM-SHA-256", Scram("late", late))["class"] == "EXPIRED"
    toor = device("add", "root")
    assert login("root", toor)["class"] == "CREDENTIALS"
    assert scram("SCRAM-SHA-256", Scram("root", toor))["class"] == "CREDENTIALS"


def test_device_list_and_revoke():
    forget_devices()
    password, other = device("add", "--name", "Old phone", "alice"), device("add", "alice")
    assert device("add", "no-such-user", may_fail=True)[0] == 67
    assert device("add", "--protocols", "http", "alice", may_fail=True)[0] == 64
    assert device("add", "--name", "tab\there", "alice", may_fail=True)[0] == 65
    assert os.stat(DEVICES).st_mode & 0o777 == 0o600
    assert "Old phone" in device("list") and "----------" in device("list", "alice")
    days = [time.strftime("%Y-%m-%d", time.gmtime())]
    assert login("alice", password)["user"] == "alice"
    days.append(time.strftime("%Y-%m-%d", time.gmtime()))
    assert any(day in device("list") for day in days)
    assert password not in open(DEVICES, encoding="ascii").read()
    assert device("revoke", "alice", "Old phone") == "1 revoked"
    assert login("alice", password)["class"] == "CREDENTIALS"
    assert login("alice", other)["user"] == "alice"
    assert device("revoke", "bob", "all", may_fail=True) == (67, "0 revoked")
    assert device("revoke", "alice", "2") == "1 revoked"
    assert login("alice", other)["class"] == "CREDENTIALS"


def test_damaged_device_file():
    forget_devices()
    password = device("add", "alice")
    with open(DEVICES, "a", encoding="latin-1") as f:
        f.write("alice\tid=x\nnonsense\n\t\t=\n" + "x" * 5000 + "\nalice\tid=9\tsha256=1:2\ncut off in the mid")
    assert login("alice", password)["user"] == "alice"
    assert "nonsense" not in device("list")
    other = device("add", "alice")  # what it appends starts a line of its own
    assert login("alice", other)["user"] == "alice" and login("alice", password)["user"] == "alice"
    os.chmod(DEVICES, 0o644)  # readable by others: not believed
    assert login("alice", password)["class"] == "CREDENTIALS"
    assert attempt("SCRAM-SHA-256", b"n,,n=alice,r=x")["class"] == "MECHANISM"
    assert device("list", may_fail=True)[0] == 77
    with open(DEVICES, "wb") as f:
        f.write(os.urandom(10000))
    os.chmod(DEVICES, 0o600)
    assert login("alice", "wonderland")["user"] == "alice"
    forget_devices()


def test_without_root():
    """The file of device passwords is all there is, and its users are the user who runs the program."""
    path = "/home/alice/devices"

    def demote():
        os.setgid(60001)
        os.setuid(60001)

    def run(*args, **more):
        return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=demote, text=True, **more)

    password = run(ADMIN, "-o", "devices=" + path, "device", "add", "--cram", "demo").stdout.strip()
    assert len(password) == 24

    def as_alice(*args):
        return Attempt(*args, options=("-o", "devices=" + path), user=60001, group=60001, extra_groups=[])

    a = as_alice("PLAIN", plain("demo", password))
    assert a.result() == {"user": "alice", "messages": "", "final": b""}
    a.end()
    for user, secret in (("alice", "wonderland"), ("alice", password), ("demo", "x"), ("root", "toor")):
        a = as_alice("PLAIN", plain(user, secret))
        assert a.result()["class"] == "CREDENTIALS"
        a.end()
    client = Scram("demo", password)
    a = as_alice("SCRAM-SHA-256", client.first())
    a.respond(client.final(a.challenge()))
    assert a.result()["user"] == "alice"
    a.end()


def test_external():
    on = {"options": ("-o", "external_auth=yes"), "tls": 1}
    assert attempt("EXTERNAL", b"", subject="CN=alice,O=Example", **on)["user"] == "alice"
    assert attempt("EXTERNAL", b"alice", subject="O=Example,CN=alice", **on)["user"] == "alice"
    assert attempt("EXTERNAL", b"bob", subject="CN=alice", **on)["class"] == "AUTHORIZATION"
    assert attempt("EXTERNAL", b"", subject="CN=late", **on)["class"] == "EXPIRED"
    assert attempt("EXTERNAL", b"", subject="CN=root", **on)["class"] == "CREDENTIALS"
    assert attempt("EXTERNAL", b"", subject="CN=nobody-here", **on)["class"] == "CREDENTIALS"
    for subject in ("", "O=alice", "CN=a\\,CN=alice", "CN="):
        assert attempt("EXTERNAL", b"", subject=subject, **on)["class"] == "MECHANISM", subject
    assert attempt("EXTERNAL", b"", subject="CN=alice", tls=1)["class"] == "MECHANISM"  # off by default
    assert attempt("EXTERNAL", b"", subject="CN=alice", options=on["options"])["class"] == "MECHANISM"


def test_oauth():
    """The token goes to PAM as the secret; pam_unix plays the module that knows tokens."""
    stack = "/etc/pam.d/pennypost-oauth"
    with open(stack, "w", encoding="ascii") as f:
        f.write("auth required pam_unix.so\naccount required pam_unix.so\n")
    try:
        good = b"n,a=alice,\1host=x\1port=143\1auth=Bearer wonderland\1\1"
        assert attempt("OAUTHBEARER", good)["user"] == "alice"
        assert attempt("XOAUTH2", b"user=alice\1auth=Bearer wonderland\1\1")["user"] == "alice"
        for mechanism, message in (("OAUTHBEARER", good.replace(b"wonderland", b"x")),
                                   ("XOAUTH2", b"user=alice\1auth=Bearer x\1\1")):
            a = Attempt(mechanism, message)
            assert a.challenge() == b'{"status":"invalid_token"}'
            a.respond(b"\1")
            assert a.result()["class"] == "CREDENTIALS"
            a.end()
        for mechanism, message, error in (("OAUTHBEARER", b"n,,\1auth=Bearer wonderland\1\1", b"invalid_token"),
                                          ("OAUTHBEARER", b"n,a=alice,\1auth=Basic wonderland\1\1", b"invalid_request"),
                                          ("OAUTHBEARER", b"n,a=alice,\1auth=Bearer wonderland\1", b"invalid_request"),
                                          ("OAUTHBEARER", b"p=x,a=alice,\1auth=Bearer wonderland\1\1", b"invalid_request"),
                                          ("XOAUTH2", b"auth=Bearer wonderland\1\1", b"invalid_request"),
                                          ("XOAUTH2", b"user=alice\1\1", b"invalid_request"),
                                          ("XOAUTH2", b"user=alice\1auth=Bearer a b\1\1", b"invalid_request"),
                                          ("XOAUTH2", b"", b"invalid_request")):
            a = Attempt(mechanism, message)
            assert a.challenge() == b'{"status":"%s"}' % error, message
            a.respond(b"\1")
            assert a.result()["class"] == ("CREDENTIALS" if error == b"invalid_token" else "MECHANISM"), message
            a.end()
    finally:
        os.unlink(stack)


def main():
    tests = Tests()
    for name, function in list(globals().items()):
        if name.startswith("test_") and (len(sys.argv) < 3 or name in sys.argv[2:]):
            tests.run(function)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
