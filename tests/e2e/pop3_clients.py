#!/usr/bin/env python3
"""POP3 clients that fetch, leave and delete: fetchmail, mpop, getmail, curl and Python's poplib, in the clear, with STLS
and over pop3s; UIDLs over IMAP's and mutt's work on the box; LOGIN-DELAY and EXPIRE; sessions cut off and killed at QUIT. Runs
inside a machine of world.py as root; closes with "N passed, N failed".

    pop3_clients.py [fetchmail] [mpop] [getmail] [curl] [poplib] [uidl] [policy] [cut] [kill]   (default: all)
"""
import fcntl
import imaplib
import mailbox
import os
import poplib
import pwd
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import clients  # noqa: E402
from clients import GETMAIL, HOST, deliver, empty, guarded, is_free, pop3, pop3_at_once, spool  # noqa: E402
from world import PASSWORDS, Tests, ours, run, wait_until  # noqa: E402

TESTS = Tests()
check = TESTS.check
clients.check = check
USER = "bob"
HOME = "/root/pop3-clients"
HOWS = ("plain", "stls", "tls")


def write(name, text):
    os.makedirs(HOME, exist_ok=True)
    path = os.path.join(HOME, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o600)
    return path


def fill(count, what):
    empty(USER)
    for i in range(count):
        deliver(USER, "%s %d" % (what, i))


def subjects(path):
    """Subjects of an mbox that a client has written; each body must be whole."""
    found = []
    if not os.path.exists(path):
        return found
    for m in mailbox.mbox(path):
        body = m.get_payload().replace("\r\n", "\n").replace(">From", "From")
        found.append(m["Subject"] if body.startswith("Line one\n.a dot\nFrom the beginning\n") else "broken: " + body)
    return found


def left():
    return re.findall(r"^Subject: (.*)$", spool(USER), re.M)


def sessions():
    return [p for p in ours() if p[3] == "pop3-session"]


def fetch_leave_delete(name, how, run_client):
    """`run_client(keep)` runs the client once and returns (exit status, its output, all subjects it has by now)."""
    fetch = lambda keep: is_free() and run_client(keep)
    what = "%s %s" % (name, how)
    expected = ["%s %d" % (what, i) for i in range(3)]
    fill(3, what)
    done, got = fetch(True)
    check("%s: fetches" % what, got == expected, (done.stdout, got))
    check("%s: leaves" % what, left() == expected, left())
    done, got = fetch(True)
    check("%s: fetches nothing twice" % what, got == expected, (done.stdout, got))
    deliver(USER, what + " new")
    done, got = fetch(True)
    check("%s: fetches what is new" % what, got == expected + [what + " new"], (done.stdout, got))
    done, got = fetch(False)
    is_free()  # not every client waits for the answer to QUIT
    check("%s: deletes" % what, not left(), (done.stdout, left()))


def test_fetchmail():
    for how in HOWS:
        box = os.path.join(HOME, "fetchmail-" + how)

        def fetch(keep):
            ssl = {"plain": "sslproto ''", "stls": "sslproto 'TLS1.2+' no sslcertck", "tls": "ssl no sslcertck"}[how]
            rc = write("fetchmailrc-" + how, "poll %s protocol pop3 port %d uidl user %s password '%s' %s %s mda "
                       "\"formail >> %s\"\n" % (HOST, 995 if how == "tls" else 110, USER, PASSWORDS[USER], ssl,
                                                "keep" if keep else "nokeep fetchall", box))
            done = run(["fetchmail", "-f", rc, "-i", os.path.join(HOME, "fetchids-" + how), "--pidfile",
                        os.path.join(HOME, "fetchmail.pid"), "-v"], timeout=300)
            return done, subjects(box)[:4]

        fetch_leave_delete("fetchmail", how, fetch)


def test_mpop():
    for how in HOWS:
        box = os.path.join(HOME, "mpop-" + how)

        def fetch(keep):
            tls = {"plain": "tls off", "stls": "tls on\ntls_starttls on\ntls_certcheck off",
                   "tls": "tls on\ntls_starttls off\ntls_certcheck off"}[how]
            rc = write("mpoprc-" + how, "account default\nhost %s\nport %d\nuser %s\npassword %s\n%s\nauth user\nkeep %s\n"
                       "uidls_file %s/mpop-uidls-%s\ndelivery mbox %s\nreceived_header off\n" %
                       (HOST, 995 if how == "tls" else 110, USER, PASSWORDS[USER], tls, "on" if keep else "off", HOME, how,
                        box))
            return run(["mpop", "-C", rc, "-d"], timeout=300), subjects(box)

        fetch_leave_delete("mpop", how, fetch)


def test_getmail():
    for how in ("plain", "tls"):  # it has no STLS
        box = os.path.join(HOME, "getmail-" + how)
        write("getmail-" + how, "")

        def fetch(keep):
            kind = "SimplePOP3SSLRetriever" if how == "tls" else "SimplePOP3Retriever"
            # It refuses to deliver as root.
            pwd_nobody = pwd.getpwnam("carol")
            folder = "/home/carol/getmail-" + how
            os.makedirs(folder, exist_ok=True)
            there = os.path.join(folder, "box")
            if not os.path.exists(there):
                open(there, "w", encoding="ascii").close()
            rc = os.path.join(folder, "rc")
            with open(rc, "w", encoding="utf-8") as f:
                f.write("[retriever]\ntype = %s\nserver = %s\nusername = %s\npassword = %s\n[destination]\ntype = Mboxrd\n"
                        "path = %s\n[options]\nread_all = false\ndelete = %s\nverbose = 2\n" %
                        (kind, HOST, USER, PASSWORDS[USER], there, "false" if keep else "true"))
            for path in (folder, rc, there):
                os.chown(path, pwd_nobody.pw_uid, pwd_nobody.pw_gid)
            done = run(["runuser", "-u", "carol", "--", "python3", "-c", GETMAIL, "--getmaildir", folder, "--rcfile", rc], timeout=300)
            return done, subjects(there)

        fetch_leave_delete("getmail", how, fetch)
        if os.path.exists(box):
            os.unlink(box)


def test_curl():
    for how in HOWS:
        what = "curl %s" % how
        url = "%s://%s/" % ("pop3s" if how == "tls" else "pop3", HOST)
        words = ["curl", "-sS", "-k", "-u", "%s:%s" % (USER, PASSWORDS[USER])] + (["--ssl-reqd"] if how == "stls" else [])
        fill(2, what)
        done = is_free() and run(words + [url], timeout=300)
        check("%s: lists" % what, len(done.stdout.split("\n")) == 3, done.stdout)
        done = is_free() and run(words + [url + "2"], timeout=300)
        check("%s: fetches" % what, "Subject: %s 1\n" % what in done.stdout and "\n.a dot\nFrom the beginning\n" in
              done.stdout, done.stdout)
        done = is_free() and run(words + ["-X", "UIDL", url], timeout=300)
        check("%s: UIDL" % what, re.search(r"^1 \d+\.\d+$", done.stdout, re.M), done.stdout)
        done = is_free() and run(words + ["-I", "-X", "DELE 1", url], timeout=300)
        is_free()
        check("%s: deletes" % what, left() == [what + " 1"], (done.stdout, left()))


def test_poplib():
    for how in HOWS:
        known, got = set(), []

        def fetch(keep):
            p = pop3(USER, how)
            sizes = dict(line.split() for line in p.list()[1])
            for line in p.uidl()[1]:
                number, uid = line.split()
                lines = p.retr(int(number))[1]
                if int(sizes[number]) != sum(len(l) + 2 for l in lines):
                    got.append("wrong size")
                if uid not in known:
                    got.extend(l[9:].decode() for l in lines if l.startswith(b"Subject: "))
                known.add(uid)
                if not keep:
                    p.dele(int(number))
            return subprocess.CompletedProcess([], 0, p.quit()), got

        fetch_leave_delete("poplib", how, fetch)


# ---- UIDLs ----

def uidls():
    """Subject -> unique-id."""
    p = pop3(USER)
    found = {}
    for line in p.uidl()[1]:
        number, uid = line.decode().split()
        header = b"\n".join(p.top(int(number), 0)[1])
        found[re.search(rb"^Subject: (.*)$", header, re.M).group(1).decode()] = uid
    p.quit()
    return found


def test_uidl():
    fill(5, "uidl")
    before = uidls()
    check("uidl: five different ones", len(set(before.values())) == 5, before)
    m = imaplib.IMAP4(HOST)
    m.login(USER, PASSWORDS[USER])
    m.select("INBOX")
    m.store("2", "+FLAGS.SILENT", "(\\Deleted)")
    m.expunge()
    m.logout()
    after = uidls()
    check("uidl: the same after an IMAP expunge", after == {s: u for s, u in before.items() if s != "uidl 1"}, after)
    # mutt writes the whole box anew: its own Status lines, its own separators.
    screen = clients.mutt(USER, "/var/mail/" + USER, "<first-entry><delete-message><last-entry><flag-message><quit>")
    after = uidls()
    check("uidl: the same after mutt has rewritten the box", after == {s: before[s] for s in ("uidl 2", "uidl 3", "uidl 4")},
          (after, screen[-500:]))
    deliver(USER, "uidl new")
    after = uidls()
    check("uidl: a new message has a new one", len(after) == 4 and after.pop("uidl new") not in before.values() and
          after == {s: before[s] for s in ("uidl 2", "uidl 3", "uidl 4")}, after)


# ---- what the administrator decides ----

CONF = "/etc/pennypost/pennypost.conf"


def refusal(user):
    """Why a login is refused; "": it is not."""
    try:
        pop3_at_once(user).quit()
    except poplib.error_proto as e:
        return str(e)
    return ""


def policy(delay):
    """What of it is right, by name, where so many seconds must lie between two logins."""
    fill(2, "policy")
    p = pop3(USER)
    capabilities = p.capa()
    good = {"CAPA tells it": capabilities.get("LOGIN-DELAY") == [str(delay)] and capabilities.get("EXPIRE") == ["0"]}
    p.retr(2)
    p.quit()
    begun = time.monotonic()
    good["EXPIRE 0 removes what was retrieved"] = left() == ["policy 0"]
    is_free()
    good["too soon"] = "[LOGIN-DELAY]" in refusal(USER)
    good["others are let in"] = refusal("alice") == ""
    good["a refused login does not make it longer"] = wait_until(lambda: refusal(USER) == "", delay + 3, 0.2) and \
        time.monotonic() - begun < delay + 2
    return good


def test_policy():
    with open(CONF, encoding="ascii") as f:
        before = f.read()
    try:
        for delay in (4, 8, 30):  # a busy machine may need more time for the steps in between
            with open(CONF, "w", encoding="ascii") as f:
                f.write(before + "pop3_login_delay = %d\npop3_expire = 0\n" % delay)
            if delay > 4:
                time.sleep(delay)  # the logins of the round before
            good = policy(delay)
            if all(good.values()):
                break
        for name, is_good in good.items():
            check("policy: " + name, is_good, delay)
    finally:
        with open(CONF, "w", encoding="ascii") as f:
            f.write(before)
    p = pop3(USER)
    check("policy: a second session is told why", "[IN-USE]" in refusal(USER))
    p.quit()


# ---- QUIT, cut off at every point ----

class Session:
    """A logged-in session on a socket that can be dropped."""

    def __init__(self):
        self.socket = socket.create_connection((HOST, 110), timeout=120)
        self.file = self.socket.makefile("rb")
        self.answer()
        self.ask("USER " + USER)
        self.ask("PASS " + PASSWORDS[USER])

    def answer(self):
        line = self.file.readline()
        if not line.startswith(b"+OK"):
            raise RuntimeError(line)

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\r\n")
        self.answer()

    def drop(self):
        """As a broken network or a dead client: no FIN, a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self.socket.close()


def bodies():
    """What is in the box, by subject; None where a message is not as it was delivered."""
    found = {}
    text = spool(USER)
    for one in re.split(r"^(?=From \S+.*\d\d:\d\d:\d\d \d{4}$)", text, flags=re.M):
        subject = re.search(r"^Subject: (.*)$", one, re.M)
        if subject:
            found[subject.group(1)] = one.endswith("\nLine one\n.a dot\n>From the beginning\n>>From quoted\n\nlast\n\n")
    return found


def all_or_none(name, marked, kept):
    """The marked messages are all gone or all there, the others are there and whole. True: gone."""
    now = bodies()
    gone = [s for s in marked if s not in now]
    good = len(gone) in (0, len(marked)) and all(now.get(s) for s in kept) and all(now.values()) and \
        len(now) == len(kept) + len(marked) - len(gone)
    if not good:
        check(name, False, "%d of %d marked are gone, %d of %d others are there, %d are broken" %
              (len(gone), len(marked), len([s for s in kept if s in now]), len(kept), len([s for s in now if not now[s]])))
    return good, bool(gone)


def test_cut():
    text = b"DELE 1\r\nDELE 3\r\nQUIT\r\n"
    marked, kept = ["cut 0", "cut 2"], ["cut 1", "cut 3"]
    good, gone = True, []
    fill(4, "cut")
    for n in range(len(text) + 1):
        s = Session()
        s.socket.sendall(text[:n])
        if n % 2:
            time.sleep(0.02)  # some arrive before the reset, some do not
        s.drop()
        is_free()
        is_good, is_gone = all_or_none("cut: after %d octets" % n, marked, kept)
        good = good and is_good
        gone.append(is_gone)
        if is_gone:
            fill(4, "cut")
    check("cut: marked messages are all gone or all there, wherever the connection breaks", good)
    check("cut: without the whole of QUIT nothing is deleted", not any(gone[:len(text) - 1]), gone)


def test_kill():
    count, rounds = 400, 40
    good, outcomes = True, set()
    fill(1, "kill")
    template = spool(USER)
    for n in range(rounds):
        names = ["kill %d.%d" % (n, i) for i in range(count)]
        with open("/var/mail/" + USER, "r+", encoding="utf-8", errors="surrogateescape") as f:
            fcntl.lockf(f, fcntl.LOCK_EX)  # the last session may still be writing flags, after its +OK
            f.truncate(0)  # other messages in the same inode each time
            for name in names:
                f.write(template.replace("Subject: kill 0", "Subject: " + name).replace("<kill-0", "<" + name.replace(" ", "-")))
        s = Session()
        s.socket.sendall(b"".join(b"DELE %d\r\n" % i for i in range(1, count, 2)))
        for _ in range(1, count, 2):
            s.answer()
        found = sessions()
        s.socket.sendall(b"QUIT\r\n")
        time.sleep(random.uniform(0, 0.03))
        for process in found:
            try:
                os.kill(process[0], signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            said_ok = s.file.readline().startswith(b"+OK")
        except OSError:
            said_ok = False
        s.drop()
        is_free()
        p = pop3(USER)  # replays what was begun
        p.quit()
        is_good, is_gone = all_or_none("kill: round %d" % n, names[::2], names[1::2])
        good = good and is_good
        outcomes.add((said_ok, is_gone))
    check("kill: after kill -9 during QUIT the marked messages are all gone or all there", good)
    check("kill: no +OK without the messages gone", (True, False) not in outcomes, outcomes)
    check("kill: the box is not left locked", wait_until(lambda: not os.path.exists("/var/mail/%s.lock" % USER)))


ALL = {"fetchmail": test_fetchmail, "mpop": test_mpop, "getmail": test_getmail, "curl": test_curl, "poplib": test_poplib, "uidl": test_uidl,
       "policy": test_policy, "cut": test_cut, "kill": test_kill}


def main():
    os.makedirs(HOME, exist_ok=True)
    for name in sys.argv[1:] or ALL:
        guarded(name, ALL[name])
    TESTS.close()


if __name__ == "__main__":
    main()
