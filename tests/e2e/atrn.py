#!/usr/bin/env python3
"""ATRN (RFC 2645), both ends: a provider that keeps mail for its customers, and a machine that fetches it.

    atrn.py BUILD-DIR [--all] [TEST...]

With --all the parts of both ends are killed at each of their system calls, without it at those by which they talk to anybody or
change anything. alice is the provider's customer, bob lives at home.example. Fetchmail's package is unpacked, not installed;
then the test goes into a box by itself. Closes with "N passed, N failed".
"""
import base64
import collections
import fcntl
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "bench")]
import peers  # noqa: E402
import world  # noqa: E402
from frames import Tests  # noqa: E402
from killing import KillingTree, calls, is_killed, kill_at, kill_at_each, program_of  # noqa: E402
from relay_queue import FOLDER, Queue  # noqa: E402
from sts_web import certificates, server_context  # noqa: E402

BUILD, IS_ALL, TESTS = os.path.abspath(sys.argv[1]), "--all" in sys.argv, [x for x in sys.argv[2:] if x != "--all"]
HANDLERS = os.path.join(BUILD, "handlers")
WORK = tempfile.mkdtemp(prefix="pennypost-atrn-") + "/"
ALICE = base64.b64encode(b"\0alice\0wonderland").decode()
SUBMISSION, MX = [], []


def words(q):
    return [x for key, value in q.options.items() for x in ("-o", "%s=%s" % (key, value))]


def listen(q, *more, program=HANDLERS + "/listen/listen", log="/dev/null"):
    """smtp on a port: [port, process]."""
    with open(log, "a", encoding="ascii") as f:
        p = subprocess.Popen([program, "--bind", "127.0.0.1:0", "--print-address", "--", "smtp", *more, *words(q)],
                             stdout=subprocess.PIPE, stderr=f, stdin=subprocess.DEVNULL)
    return [int(p.stdout.readline().decode().rsplit(":", 1)[1]), p]


def provider_queue():
    return Queue(hostname="provider.example", domains="provider.example", atrn_customers=WORK + "customers",
                 tls_certificate=WORK + "provider.pem", tls_key=WORK + "provider.key", plaintext_auth="yes",
                 retry_min="1h", retry_max="1h", devices=WORK + "devices")


def start_provider():
    os.chmod(WORK, 0o755)
    os.makedirs("/etc/pennypost", exist_ok=True)
    os.makedirs("/run/pennypost", exist_ok=True)
    certificates(WORK, provider=["provider.example"])
    with open(WORK + "customers", "w", encoding="ascii") as f:
        f.write("# user, domains\nalice home.example  cottage.example\nbob\tbarn.example\n")
    q = provider_queue()
    SUBMISSION[:] = listen(q, "--submission", log=WORK + "log")
    MX[:] = listen(q)
    return q


class Line:
    """A client by hand."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 120)
        self.file = self.sock.makefile("rb")
        assert self.reply()[0] == "220"

    def reply(self):
        lines = []
        while not lines or lines[-1][3:4] == "-":
            lines.append(self.file.readline().decode())
            assert lines[-1], lines
        return lines[-1][:3], "".join(lines)

    def say(self, text):
        self.sock.sendall(text.encode() + b"\r\n")
        return self.reply()

    def login(self):
        assert self.say("EHLO home.example")[0] == "250"
        assert self.say("AUTH PLAIN " + ALICE)[0] == "235"
        return self

    def command(self):
        """The other side's turn."""
        line = self.file.readline()
        assert line, "the connection has ended"
        return line.decode().rstrip("\r\n")

    def close(self):
        self.file.close()
        self.sock.close()


def send_to(*recipients, subject="hello"):
    """From a stranger, by port 25. The codes of the RCPTs."""
    c = Line(MX[0])
    c.say("EHLO away.example")
    c.say("MAIL FROM:<a@away.example>")
    codes = [c.say("RCPT TO:<%s>" % r)[0] for r in recipients]
    if "250" in codes:
        assert c.say("DATA")[0] == "354"
        assert c.say("Subject: %s\r\n\r\n..one\r\n...two\r\ncaf\u00e9\r\n." % subject)[0] == "250"
    c.say("QUIT")
    c.close()
    return codes


def waiting():
    return sorted(a for n in Q.ids() for a, (state, _) in Q.states(n).items() if state not in ("relayed", "failed"))


def clean():
    for name in Q.ids():
        for folder in ("new", "cur", "msg"):
            if os.path.exists(os.path.join(Q.path(folder), name)):
                os.unlink(os.path.join(Q.path(folder), name))


def serve(c, refuse=()):
    """The customer's side of the turned connection, by hand: (sender, recipients, data) of what came."""
    got, codes = [], {"QUIT": "221"}
    c.sock.sendall(b"220 home.example ready\r\n")
    while True:
        line = c.command()
        verb = line.split(" ")[0].split(":")[0].upper()
        if verb == "MAIL":
            got.append([line, [], ""])
        if verb == "RCPT" and any(r in line for r in refuse):
            c.sock.sendall(b"450 4.2.1 not now\r\n")
            continue
        if verb == "RCPT":
            got[-1][1].append(re.search("<(.*)>", line).group(1))
        if verb == "DATA":
            c.sock.sendall(b"354 go on\r\n")
            lines = []
            while not lines or lines[-1] != ".":
                lines.append(c.command())
            got[-1][2] = "\r\n".join(lines)
        elif verb == "EHLO":
            c.sock.sendall(b"250-home.example\r\n250 8BITMIME\r\n")
            continue
        c.sock.sendall(("%s ok\r\n" % codes.get(verb, "250")).encode())
        if verb == "QUIT":
            return got


# ---- the provider ----

def test_taken_and_kept():
    """Mail for customers is taken from everybody, for nobody else, and waits."""
    assert send_to("bob@home.example", "x@COTTAGE.example", "x@other.example", "x@sub.home.example",
                   "bob@home.example.other.example") == ["250", "250", "550", "550", "550"]
    Q.run("--all")
    assert waiting() == ["bob@home.example", "x@COTTAGE.example"]
    for n in Q.ids():
        for state, reply in Q.states(n).values():
            assert state == "deferred" and "(ATRN)" in reply, reply
    clean()
    os.rename(WORK + "customers", WORK + "hidden")  # whose mail it is nobody can tell for a while
    os.mkdir(WORK + "customers")
    codes = send_to("bob@home.example")
    os.rmdir(WORK + "customers")
    os.rename(WORK + "hidden", WORK + "customers")
    assert codes == ["451"], codes


def test_refused():
    c = Line(MX[0])
    assert "ATRN" not in c.say("EHLO home.example")[1] and c.say("ATRN home.example")[0] == "502"
    c.close()
    send_to("x@barn.example")
    c = Line(SUBMISSION[0])
    text = c.say("EHLO home.example")[1]
    assert "250-ATRN\r\n" in text and "250-AUTH " in text, text
    assert c.say("ATRN home.example")[0] == "530"
    c.login()
    assert c.say("ATRN barn.example")[0] == "450"  # bob's
    assert c.say("ATRN home.example,barn.example")[0] == "450"
    assert c.say("ATRN unknown.example")[0] == "450"
    for wrong in ("home.example,", ",home.example", "home.example cottage.example", "a b", "-x", "home.example\x01"):
        assert c.say("ATRN " + wrong)[0] == "501", wrong
    assert c.say("ATRN " + ",".join(["home.example"] * 40))[0] == "453"
    assert c.say("ATRN")[0] == "453"
    c.sock.sendall(b"ATRN\r\nNOOP\r\n")  # before the answer
    assert c.reply()[0] in ("503", "453") and c.reply()[0] == "250"
    assert c.say("QUIT")[0] == "221"
    c.close()
    assert waiting() == ["x@barn.example"]
    clean()


def test_turned():
    """Every byte, what is refused stays, nothing of others goes."""
    send_to("bob@home.example", subject="one")
    send_to("later@home.example", "x@cottage.example", subject="two")
    send_to("x@barn.example")
    c = Line(SUBMISSION[0]).login()
    assert c.say("ATRN home.example,cottage.example")[0] == "250"
    got = serve(c, refuse=["later@"])
    c.close()
    assert sorted(r for g in got for r in g[1]) == ["bob@home.example", "x@cottage.example"], got
    one = [g for g in got if g[1] == ["bob@home.example"]][0]
    assert one[0].startswith("MAIL FROM:<a@away.example>") and one[2].endswith("\r\n\r\n..one\r\n...two\r\ncaf\u00e9\r\n."), one
    settled(["later@home.example", "x@barn.example"])
    # Only one of them: the other one's waits.
    send_to("x@cottage.example")
    c = Line(SUBMISSION[0]).login()
    assert c.say("ATRN cottage.example")[0] == "250"
    got = serve(c)
    assert [g[1] for g in got] == [["x@cottage.example"]], got
    c.close()
    settled(["later@home.example", "x@barn.example"])
    clean()


def runs(q):
    """The runs of that queue that are under way: also one that has nothing more to do has locks until it ends."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                if os.path.basename(program_of(pid)) == "relay" and q.folder.encode() in f.read():
                    found.append(pid)
        except OSError:
            continue
    return found


def settled(expected):
    """Waits until a run is over and has left that."""
    time.sleep(0.3)  # one that is about to begin
    assert world.wait_until(lambda: not runs(Q)), runs(Q)
    assert world.wait_until(lambda: waiting() == expected), waiting()
    assert world.wait_until(lambda: not runs(Q)), runs(Q)


def test_cut():
    """The customer goes away at any moment: what he did not take is still there."""
    for after in ("250", "EHLO", "MAIL", "RCPT", "DATA", "."):
        send_to("bob@home.example")
        c = Line(SUBMISSION[0]).login()
        assert c.say("ATRN")[0] == "250"
        if after != "250":
            c.sock.sendall(b"220 home.example\r\n")
            while True:
                line = c.command()
                verb = line.split(" ")[0].split(":")[0]
                if verb == after or line == after:
                    break
                c.sock.sendall(b"354 go\r\n" if verb == "DATA" else b"250 ok\r\n" if verb in ("EHLO", "MAIL", "RCPT") else b"")
        c.close()
        settled(["bob@home.example"])
        c = Line(SUBMISSION[0]).login()
        assert c.say("ATRN")[0] == "250"
        assert [g[1] for g in serve(c)] == [["bob@home.example"]]
        c.close()
        settled([])


def test_hostile_customer():
    for words in (b"", b"220-" * 5000, b"220 x\r\n250 ok\r\n" * 3000, bytes(range(256)) * 100, b"554 no\r\n", b"220 x\r\n421 bye\r\n"):
        send_to("bob@home.example")
        c = Line(SUBMISSION[0]).login()
        assert c.say("ATRN")[0] == "250"
        try:
            c.sock.sendall(words)
            c.sock.shutdown(socket.SHUT_WR)
            while c.sock.recv(4096):
                pass
        except OSError:
            pass
        c.close()
        settled(["bob@home.example"])
        clean()


# ---- the machine at home ----

class Home(Queue):
    def __init__(self, port, **more):
        super().__init__(hostname="home.example", domains="home.example cottage.example", atrn_provider="127.0.0.1:%d" % port,
                         tls_ca=WORK + "ca.pem", atrn_customers=WORK + "none", **{"spool": WORK + "spool", **more})
        self.file("policy", "127.0.0.1 verify provider.example\n")
        self.file("credentials", "127.0.0.1 alice wonderland\n")

    def pull(self):
        done = subprocess.run(self.argv("--pull"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300, check=False)
        return done.returncode, done.stderr.decode()


def box_of(user):
    path = WORK + "spool/" + user
    return open(path, encoding="utf-8").read() if os.path.exists(path) else ""


def make_spool():
    os.makedirs(WORK + "spool", exist_ok=True)
    os.chmod(WORK + "spool", 0o2775)
    os.chown(WORK + "spool", 0, 8)


def test_pull():
    make_spool()
    home = Home(SUBMISSION[0])
    assert home.pull()[0] == 0 and "453" in home.pull()[1]
    for i in range(3):
        send_to("bob@home.example", subject="number %d" % i)
    send_to("nobody-here@home.example", "x@barn.example")
    status, log = home.pull()
    text = box_of("bob")
    assert status == 0 and "pulled" in log, log
    assert [text.count("Subject: number %d\n" % i) for i in range(3)] == [1, 1, 1], (text, log)
    assert "\n.one\n..two\ncaf\u00e9\n" in text
    settled(["a@away.example", "x@barn.example"])  # who is not there came back to the provider, which reports
    assert home.pull()[0] == 0 and box_of("bob") == text
    clean()


def test_pull_refused():
    """A wrong password, a wrong certificate, a provider without ATRN: nothing is told that should not be."""
    home = Home(SUBMISSION[0])
    home.file("credentials", "127.0.0.1 alice wrong\n")
    status, log = home.pull()
    assert status == 75 and "pull-failed" in log and "wonderland" not in log, log
    home.file("credentials", "127.0.0.1 alice wonderland\n")
    home.file("policy", "127.0.0.1 verify other.example\n")
    assert home.pull()[0] == 75
    home.file("credentials", "")
    assert home.pull()[0] == 78
    home.options["atrn_provider"] = ""
    assert home.pull()[0] == 78


def device(*more):
    """A password of alice's for one device."""
    done = subprocess.run([HANDLERS + "/admin/pennypost", *words(Q), "device", "add", *more, "alice"], check=True,
                          stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def revoke():
    """From here on her login password counts: who offers SCRAM gets it."""
    subprocess.run([HANDLERS + "/admin/pennypost", *words(Q), "device", "revoke", "alice", "all"], check=False,
                   stdout=subprocess.DEVNULL)


def test_pull_bound():
    """With a device password: SCRAM, bound to the TLS channel."""
    make_spool()
    os.truncate(WORK + "log", 0)
    home = Home(SUBMISSION[0])
    home.file("credentials", "127.0.0.1 alice %s\n" % device())
    send_to("bob@home.example", subject="bound")
    status, log = home.pull()
    revoke()
    with open(WORK + "log", encoding="ascii") as f:
        said = f.read()
    assert status == 0 and "Subject: bound\n" in box_of("bob") and "mechanism=SCRAM-SHA-256-PLUS" in said, (log, said)


def test_fetchmail():
    """Another program's idea of ODMR at the customer's end."""
    there = peers.unpack("fetchmail", os.environ["PENNYPOST_PEERS"])
    if not there:
        print("    fetchmail's package cannot be had")
        return
    make_spool()
    home = Home(SUBMISSION[0])
    port, process = listen(home)
    password = device("--cram")
    with open(WORK + "fetchmailrc", "w", encoding="ascii") as f:
        os.chmod(f.fileno(), 0o600)
        f.write("poll 127.0.0.1 protocol ODMR service %d auth cram-md5 user alice password \"%s\" smtphost 127.0.0.1/%d "
                "fetchdomains home.example cottage.example\n" % (SUBMISSION[0], password, port))

    def fetch():
        argv = ["fetchmail", "-f", WORK + "fetchmailrc", "--nodetach", "--nosyslog", "-v", "--pidfile", WORK + "fetchmail.pid"]
        done = subprocess.run(peers.overlay_command([there], argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=300, check=False, env=dict(os.environ, HOME=WORK))
        return done.returncode, done.stdout
    try:
        before = box_of("bob").count("Subject: by fetchmail\n")
        status, log = fetch()
        assert "no mail" in log.lower(), (status, log)
        for _ in range(3):
            send_to("bob@home.example", subject="by fetchmail")
        send_to("x@barn.example")
        status, log = fetch()
        assert box_of("bob").count("Subject: by fetchmail\n") == before + 3, (status, log)
        settled(["x@barn.example"])
    finally:
        revoke()
        process.terminate()
        process.wait()


# ---- either end is killed ----

ENDS = {
    "provider": {"relay": ("unlinkat", "fsync", "sendmsg", "recvmsg", "openat"),
                 "relay-courier": ("sendmsg", "recvmsg", "poll"),
                 "relay-session": ("sendmsg", "recvmsg", "sendto", "write", "poll"),
                 "smtp": ("sendmsg", "recvmsg", "vfork"), "smtp-session": (), "tls": (), "auth": ()},
    "home": {"relay": ("sendmsg", "recvmsg"), "relay-courier": ("sendmsg", "recvmsg", "socketpair"),
             "relay-session": ("sendmsg", "recvmsg", "read", "write", "sendto", "recvfrom", "poll"),
             "smtp": ("sendmsg", "recvmsg", "vfork"), "smtp-session": ("sendmsg", "recvmsg", "read", "write", "recvfrom"),
             "deliver": ("write", "fsync", "fdatasync", "openat", "pwrite64")},
}


def fetch(end, part, *options):
    """A customer fetches two messages while a part of one end is traced as strace is told; others fetch what that leaves. The
    lines of strace."""
    tree, q = KillingTree(BUILD, part, *options), provider_queue()
    boxes = tempfile.mkdtemp(dir=WORK)
    shutil.chown(boxes, "root", "mail")
    os.chmod(boxes, 0o2775)
    for i in range(2):
        q.add("bob@home.example", text="From: a@away.example\nSubject: number %d\n\nbody\n" % i, sender="a@away.example",
              peer="192.0.2.1")
    program = tree.program("listen") if end == "provider" else HANDLERS + "/listen/listen"
    port, process = listen(q, "--submission", program=program)
    home = Home(port, spool=boxes, state=boxes + "/%u.state")
    try:
        argv = home.argv("--pull")
        if end == "home":
            argv[0] = tree.program("relay")
        logs = []
        for _ in range(8):
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300, check=False)
            logs.append(done.stderr.decode())
            argv = home.argv("--pull")
            deadline = time.monotonic() + 60
            while any(is_locked(q, n) for n in q.ids()) and time.monotonic() < deadline:
                time.sleep(0.02)
            if not q.ids():
                break
        with open(boxes + "/bob", encoding="utf-8") as f:
            text = f.read()
        counts = [text.count("Subject: number %d\n" % i) for i in range(2)]
        assert q.ids() == [], (q.ids(), logs)
        # Twice: the one whose answer was on its way.
        assert min(counts) == 1 and sum(counts) <= 3, (counts, logs)
        process.terminate()
        process.wait()
        assert not tree.left(), ("outlives its work", tree.left())
        locks = [n for n in os.listdir(boxes) if n[0] == "." or n.endswith(".lock")]
        assert not q.left() and not locks, (q.left(), locks)
        return tree.lines()
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(boxes)
        for queue in (q, home):
            shutil.rmtree(queue.folder)
        tree.remove()


def is_locked(q, name):
    """Is a run at work on it?"""
    try:
        with open(q.path("msg/" + name), "r+b") as f:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def killed_in(end, part):
    """How often a part of that end was killed."""
    every = calls(fetch(end, part))
    points = [p for p in every if IS_ALL or p[0] in ENDS[end][part]]
    killed, further, faults = kill_at_each(end + " " + part, lambda *p: is_killed(fetch(end, part, kill_at(*p))), points,
                                           collections.Counter(c for c, _ in every).items() if IS_ALL else ())
    print("    %s, %s: %d calls; killed at %d of %d tried, and at %d beyond" % (
        end, part, len(every), killed, len(points), further), flush=True)
    assert not faults, "\n".join(faults)
    assert killed >= len(points) * 0.9, (end, part, killed, len(points))
    return killed


def test_ends_killed_at_every_call():
    """kill -9 of any part of either end."""
    with open(HANDLERS + "/relay/relay", "rb") as f:
        if b"__asan_init" in f.read():
            print("    left to the build without ASan, which has nothing to add here")
            return
    cases = [(end, part) for end, parts in ENDS.items() for part, kinds in parts.items() if kinds or IS_ALL]
    counts = {case: killed_in(*case) for case in cases}
    for what in (("provider", "relay"), ("provider", "relay-session"), ("home", "relay-session"), ("home", "smtp-session")):
        assert counts[what] > 5, (what, counts)


def hostile_provider(after):
    """A server that says yes to everything up to ATRN and then what it likes."""
    listener = socket.create_server(("127.0.0.1", 0))
    context, heard = server_context(WORK, "provider"), []

    def run():
        sock = listener.accept()[0]
        try:
            sock.sendall(b"220 x\r\n")
            sock.recv(1000)
            sock.sendall(b"250-x\r\n250 STARTTLS\r\n")
            sock.recv(1000)
            sock.sendall(b"220 go\r\n")
            sock = context.wrap_socket(sock, server_side=True)
            for answer in (b"250-x\r\n250 AUTH PLAIN\r\n", b"235 ok\r\n", b""):
                heard.append(sock.recv(1000))
                sock.sendall(answer)
            after(sock, heard)
        except OSError:
            pass
        sock.close()
    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1], heard


def test_hostile_provider():
    """It is a stranger like any other: it may send us our mail and nothing to others, and is told nothing of who is here."""
    make_spool()

    def relays(sock, heard):
        sock.sendall(b"250 turn\r\n")
        for words in (None, b"EHLO provider.example\r\n", b"MAIL FROM:<a@away.example>\r\n", b"RCPT TO:<x@elsewhere.example>\r\n",
                      b"RCPT TO:<bob@home.example>\r\n", b"VRFY bob\r\n", b"EXPN bob\r\n", b"QUIT\r\n"):
            if words:
                sock.sendall(words)
            heard.append(sock.recv(4000))
    port, heard = hostile_provider(relays)
    assert Home(port).pull()[0] == 0
    assert heard[2] == b"ATRN\r\n" and heard[3].startswith(b"220 home.example"), heard
    assert [h[:3] for h in heard[5:]] == [b"250", b"550", b"250", b"252", b"252", b"221"], heard
    for after, status in ((lambda s, h: s.sendall(b"250 turn\r\n"), 0),
                          (lambda s, h: s.sendall(b"250 turn\r\n" + os.urandom(200000)), 0),
                          (lambda s, h: s.sendall(b"502 5.5.1 what?\r\n"), 75), (lambda s, h: s.sendall(b"334 \r\n"), 75),
                          (lambda s, h: s.sendall(b"250-x\r\n" * 100000), 75), (lambda s, h: None, 75)):
        port, _ = hostile_provider(after)
        got = Home(port).pull()
        assert got[0] == status, (got, status)


def main():
    global Q
    tests = Tests()
    if os.environ.get("PENNYPOST_BOX") != "inside":  # where there are no packages
        folder = os.environ.get("PENNYPOST_PEERS") or os.path.join(world.cache_dir(), "peers")
        os.makedirs(folder, exist_ok=True)
        peers.unpack("fetchmail", folder)
        shutil.rmtree(WORK)
        shutil.rmtree(FOLDER)
        os.environ.update(PENNYPOST_BUILD=sys.argv[1], PENNYPOST_PEERS=folder)
        os.execv(HERE + "/box", [HERE + "/box", sys.executable] + sys.argv)
    pwd.getpwnam("alice")
    Q = start_provider()
    for name, function in list(globals().items()):
        if name.startswith("test_") and (not TESTS or name[5:] in TESTS):
            clean()
            tests.run(function)
    for p in (SUBMISSION[1], MX[1]):
        p.terminate()
    shutil.rmtree(WORK)
    shutil.rmtree(FOLDER)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
