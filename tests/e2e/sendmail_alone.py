#!/usr/bin/env python3
"""sendmail(8) as other programs call it, with smtp --local behind a unix socket of `listen`, and without.

    box sendmail_alone.py BUILD_DIR/handlers/sendmail/sendmail

Closes with "N passed, N failed".
"""
import fcntl
import json
import os
import pwd
import re
import signal
import socket
import struct
import subprocess
import sys
import time

from receiver import Receiver
from world import Tests, wait_until

SENDMAIL = os.path.abspath(sys.argv[1])
HANDLERS = os.path.dirname(os.path.dirname(SENDMAIL))
SOCKET = "/run/pennypost/submit.sock"
HOST = "mail.test"
SHARE = 32  # LIMIT_LOCAL_PLACES
TESTS = Tests()


class Server:
    """`listen` on the socket, as a host without systemd has it."""

    def __init__(self):
        os.makedirs(os.path.dirname(SOCKET), exist_ok=True)
        self.process = subprocess.Popen([HANDLERS + "/listen/listen", "--bind", SOCKET, "--", "smtp", "--local", "-o",
                                         "hostname=" + HOST], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(SOCKET) and self.answers())

    def is_idle(self):
        """Has it no connection any more? A letter is delivered before the last of it has left."""
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid), encoding="ascii") as f:
            return not f.read().split()

    @staticmethod
    def answers():
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(SOCKET)
                return s.recv(3) == b"220"
            except OSError:
                return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def sendmail(arguments, message="", user="alice", name="sendmail", home=None, **more):
    """(exit status, standard output, standard error)"""
    account = pwd.getpwnam(user) if isinstance(user, str) else None
    uid, gid = (account.pw_uid, account.pw_gid) if account else (user, user)
    argv = [name] + list(arguments)
    if name == "sendmail":
        argv[1:1] = ["-o", "hostname=" + HOST]
    else:
        argv += ["-o", "hostname=" + HOST]
    done = subprocess.run(argv, executable=SENDMAIL, input=message if isinstance(message, bytes) else message.encode(),
                          capture_output=True, timeout=300, check=False, user=uid, group=gid, extra_groups=[],
                          env={"PATH": "/usr/bin:/bin", "HOME": home or (account.pw_dir if account else "/nonexistent"),
                               "PENNYPOST_LOG": "none"}, cwd="/", **more)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def mailbox(user):
    try:
        with open("/var/mail/" + user, "rb") as f:
            return f.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def clear():
    """Nothing is left in any mailbox. Locks are their makers', who may still be about to let them go."""
    for user in os.listdir("/var/mail"):
        if not user.startswith(".") and not user.endswith(".lock"):
            try:
                os.unlink("/var/mail/" + user)
            except FileNotFoundError:  # what a lock is made of
                pass


def field(text, name):
    found = re.search(r"(?mi)^%s:[ \t]*((?:.|\n[ \t])*)" % re.escape(name), text.split("\n\n", 1)[0])
    return found.group(1) if found else None


def sent(arguments, message, box="bob", **more):
    """Sends into an empty mailbox and returns what came, or ''."""
    clear()
    result = sendmail(arguments, message, **more)
    TESTS.check("exit 0: sendmail %s" % " ".join(arguments), result[0] == 0, result)
    return mailbox(box)


# Who calls it so, and with which words; the recipient is bob. A header in the message where they send one.
HEADER = "From: alice\nTo: bob\nSubject: x\n\nbody\n"
MATRIX = [
    ("cron", ["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "bob"], HEADER),
    ("cron of old", ["-FCronDaemon", "-odi", "-oem", "-oi", "-or0s", "bob"], HEADER),
    ("anacron", ["-FAnacron", "-odi", "bob"], HEADER),
    ("at", ["-i", "bob"], HEADER),
    ("mail of bsd-mailx", ["-i", "bob"], HEADER),
    ("s-nail", ["-i", "-f", "alice@" + HOST, "--", "bob@" + HOST], HEADER),
    ("mutt", ["-oem", "-oi", "-f", "alice@" + HOST, "--", "bob@" + HOST], HEADER),
    ("mutt with 8bit and DSN", ["-oem", "-oi", "-B8BITMIME", "-N", "failure,delay", "-R", "hdrs", "--", "bob"], HEADER),
    ("git send-email", ["-f", "alice@" + HOST, "-i", "bob@" + HOST], HEADER),
    ("php", ["-t", "-i"], HEADER),
    ("php with -f in one word", ["-t", "-i", "-falice@" + HOST], HEADER),
    ("perl's Mail::Mailer", ["-oi", "-t"], HEADER),
    ("emacs", ["-oi", "-f", "alice", "-oem", "-odi", "-t"], HEADER),
    ("emacs of old", ["-oi", "-oep", "-odb", "bob"], HEADER),
    ("bugzilla", ["-t", "-oi", "-oem"], HEADER),
    ("smartd, mdadm", ["-i", "-t"], HEADER),
    ("clustered", ["-it"], HEADER),
    ("long options of sendmail 8", ["-O", "DeliveryMode=b", "-O", "ErrorMode=m", "-OIgnoreDots=true", "bob"], HEADER),
    ("fetchmail", ["-i", "-f", "alice@" + HOST, "--", "bob"], HEADER),
    ("procmail", ["-oi", "-f", "alice@" + HOST, "bob"], HEADER),
    ("inn", ["-oi", "-oem", "bob"], HEADER),
    ("majordomo", ["-oi", "-odq", "-fowner-list", "bob"], HEADER),
    ("rmail", ["-ee", "-f", "alice", "-pUUCP:site", "-i", "--", "bob"], HEADER),
    ("-bm, -U, -G, -n, -m, -h", ["-bm", "-U", "-G", "-n", "-m", "-h", "5", "bob"], HEADER),
    ("-A, -L, -C, -d, -x", ["-Am", "-L", "tag", "-C", "/dev/null", "-d0.1", "-x", "bob"], HEADER),
    ("-o in two words", ["-o", "i", "-o", "em", "bob"], HEADER),
    ("-r", ["-r", "alice", "bob"], HEADER),
    ("-V", ["-V", "id+1=x", "bob"], HEADER),
    ("a list as one argument", ["bob, alice"], HEADER),
    ("a full address as argument", ["Bob Builder <bob@%s>" % HOST], HEADER),
]


def test_matrix():
    for who, arguments, message in MATRIX:
        user = "root" if "-fowner-list" in arguments else "alice"
        text = sent(arguments, message, user=user)
        TESTS.check("%s: bob has it" % who, text.count("Subject: x") == 1 and text.rstrip().endswith("body"), text)


def test_header():
    text = sent(["-f", "alice", "bob"], "no header at all\n")
    TESTS.check("From with the full name is added", field(text, "From") == "Alice von Wunder <alice@%s>" % HOST, text)
    TESTS.check("Date is added", re.match(r"\w{3}, \d+ \w{3} \d{4} [\d:]{8} [+-]\d{4}$", field(text, "Date") or ""), text)
    TESTS.check("Message-ID is added", re.match(r"<\w+@%s>$" % HOST, field(text, "Message-ID") or ""), text)
    TESTS.check("To is added", field(text, "To") == "undisclosed-recipients:;", text)
    TESTS.check("the text begins behind an empty line", "\n\nno header at all\n" in text, text)
    TESTS.check("Received tells the uid and no name that nobody said", re.match(
        r"by mail\.test \(Pennypost, from uid %d\)\s+id \w+\s+for <bob@mail\.test>;" % pwd.getpwnam("alice").pw_uid,
        field(text, "Received") or ""), text)
    text = sent(["-F", "Ünal \"x\" <y>", "bob"], "Subject: s\n\n.\n")
    TESTS.check("-F is encoded", re.match(r"=\?utf-8\?.*\?= <alice@mail\.test>$", field(text, "From") or "", re.I), text)
    TESTS.check("a lone dot ends the message without -i", text.rstrip().endswith("Subject: s") or
                text.rstrip().endswith("undisclosed-recipients:;") or "\n.\n" not in text, text)
    text = sent(["-F", "A. \"B\" C", "-i", "bob"], "Subject: s\n\na\n.\nb\n..\n.c\n")
    TESTS.check("-F is quoted", field(text, "From") == '"A. \\"B\\" C" <alice@mail.test>', text)
    TESTS.check("with -i dots are text", "\n\na\n.\nb\n..\n.c\n" in text, text)
    text = sent(["bob"], "Subject: s\n\na\n..\n.c\n.\nnot this\n")
    TESTS.check("without -i the text ends at the dot", "\n\na\n..\n.c\n" in text and "not this" not in text, text)
    text = sent(["-t"], "From: alice (Alice)\nTo: bob, \"A, B\" <alice>\nReply-To: <alice>\nSubject: to: none\n\n")
    TESTS.check("bare names get the domain", (field(text, "From"), field(text, "To"), field(text, "Reply-To")) ==
                ("alice@mail.test (Alice)", "bob@mail.test, \"A, B\" <alice@mail.test>", "<alice@mail.test>"), text)
    text = sent(["-t", "root"], "To: alice\nCc: bob\nBcc: root,\n late\nSubject: s\n\nx\n")
    TESTS.check("-t: To, Cc, Bcc and the command line", all("Subject: s" in mailbox(u) for u in
                                                           ("alice", "bob", "root", "late")), os.listdir("/var/mail"))
    TESTS.check("Bcc is removed", "late" not in text and field(text, "Bcc") is None, text)
    text = sent(["-t"], "To: late\nResent-To: bob\nSubject: s\n\nx\n")
    TESTS.check("-t: Resent fields alone count", text and not mailbox("late"), os.listdir("/var/mail"))
    text = sent(["bob"], "From alice Sat Nov 14 12:00:00 2026\nSubject: s\nContent-Length: 7\nReturn-Path: <z@z>\n\nx\n")
    TESTS.check("a From_ line is none of the header, Content-Length and Return-Path go",
                field(text, "Subject") == "s" and field(text, "Content-Length") is None and "<z@z>" not in text, text)
    text = sent(["bob"], b"Subject: s\r\n\r\none\r\ntwo\rthree\0\nlast")
    TESTS.check("CRLF, CR, NUL, no line end", "\n\none\ntwo\nthree\nlast\n" in text, repr(text))
    text = sent(["bob"], "Subject: gr\u00fc\u00df\n\n\u00e4\n")
    TESTS.check("8-bit text stays", "\n\n\u00e4\n" in text and field(text, "Subject") == "gr\u00fc\u00df", text)
    big = "Subject: big\n\n" + ("0123456789" * 7 + "\n") * 150000
    text = sent(["bob"], big)
    TESTS.check("10 MB arrive", text.endswith(big.split("\n\n", 1)[1]) or big.split("\n\n", 1)[1] in text, len(text))
    text = sent(["-G", "bob"], "Subject: s\n\nx\n")
    TESTS.check("-G adds no From", field(text, "From") is None, text)


def test_sender():
    for user, sender, good in (("alice", "alice", True), ("alice", "alice+list@" + HOST, True), ("alice", "<>", True),
                               ("alice", "bob@" + HOST, False), ("alice", "x@example.org", False),
                               ("root", "x@example.org", True), ("www-data", "shop@example.org", True),
                               ("alice", "", True)):
        clear()
        code, out, errors = sendmail(["-f", sender, "bob"], "Subject: s\n\nx\n", user=user)
        TESTS.check("-f '%s' by %s is %s" % (sender, user, "taken" if good else "refused"),
                    (code == 0) == good and bool(mailbox("bob")) == good, (code, out, errors))
        if good:
            want = {"<>": "<>", "": "<>", "alice": "<alice@%s>" % HOST}.get(sender, "<%s>" % sender)
            TESTS.check("Return-Path is %s" % want, field(mailbox("bob"), "Return-Path") == want, mailbox("bob"))
    code, out, errors = sendmail(["-f", "bob@" + HOST, "alice"], "Subject: s\n\nx\n")
    TESTS.check("a foreign sender is EX_NOPERM", code == 77 and "5.7.1" in errors, (code, errors))
    text = sent(["bob"], "Subject: s\n\nx\n", user=54321)
    TESTS.check("a uid without a name sends as nobody", field(text, "Return-Path") == "<nobody@%s>" % HOST, text)


def test_errors():
    for what, arguments, message, status in (
            ("no recipients", [], "x\n", 64), ("an unknown flag", ["-Z", "bob"], "x\n", 64),
            ("-t without any", ["-t"], "Subject: s\n\nx\n", 64), ("no such user", ["nobody-here"], "x\n", 67),
            ("one of two", ["bob", "nobody-here"], "x\n", 67), ("relaying is for relay", ["-N", "sometimes", "bob"], "x\n", 64),
            ("-bd", ["-bd"], "", 69), ("-q30m", ["-q30m"], "", 69)):
        clear()
        code, out, errors = sendmail(arguments, message)
        TESTS.check("%s: exit %d and a word" % (what, status), code == status and errors.startswith("sendmail: "),
                    (code, out, errors))
    clear()
    code, out, errors = sendmail(["-oeq", "nobody-here"], "x\n")
    TESTS.check("-oeq: only the exit status", (code, out, errors) == (67, "", ""), (code, out, errors))
    code, out, errors = sendmail(["-oem", "nobody-here", "bob"], "Subject: s\n\ntext \u00e4\n")
    text = mailbox("alice")
    TESTS.check("-oem: comes back by mail", code == 67 and errors == "" and "Subject: Your message could not be sent" in text and
                "Final-Recipient: rfc822; nobody-here@mail.test" in text and "text \u00e4" in text and
                field(text, "Return-Path") == "<>", (code, errors, text))
    TESTS.check("-oem: who can have it has it", mailbox("bob").count("text \u00e4") == 1, mailbox("bob"))
    TESTS.check("-oem: a delivery status notification (RFC 3464)", re.search(
        r"report-type=delivery-status(.|\n)*Action: failed\nStatus: 5\.1\.1\nDiagnostic-Code: smtp; 550 5\.1\.1 ", text), text)
    clear()
    code, out, errors = sendmail(["-oee", "nobody-here"], "Subject: s\n\nx\n")
    TESTS.check("-oee: the same with exit 0", code == 0 and "could not be sent" in mailbox("alice"), (code, errors))
    clear()
    code, out, errors = sendmail(["-oem", "-f", "<>", "nobody-here"], "Subject: s\n\nFrom x\nx\n")
    dead = "/home/alice/dead.letter"
    kept = open(dead, encoding="utf-8").read() if os.path.exists(dead) else ""
    TESTS.check("-oem without a sender: dead.letter", code == 67 and "From MAILER-DAEMON " in kept and "\n>From x\n" in kept and
                not mailbox("alice"), (code, errors, kept))
    TESTS.check("dead.letter is private", os.path.exists(dead) and os.stat(dead).st_mode & 0o777 == 0o600)
    os.unlink(dead)
    os.symlink("/var/tmp/elsewhere", dead)
    code, out, errors = sendmail(["-oem", "-f", "<>", "nobody-here"], "Subject: s\n\nx\n")
    TESTS.check("a link is not followed", not os.path.exists("/var/tmp/elsewhere") and
                os.path.exists("/var/tmp/dead.letter-alice"), (code, errors))
    os.unlink(dead)


def test_modes():
    clear()
    code, out, errors = sendmail(["-bs"], "EHLO x\nMAIL FROM:<alice>\nRCPT TO:<bob>\nDATA\nSubject: s\n\nx\n.\nQUIT\n")
    TESTS.check("-bs with LF", code == 0 and "\n221 " in out and mailbox("bob").count("Subject: s") == 1, (code, out, errors))
    TESTS.check("-bs: the user is who he is", "AUTH" not in out and "STARTTLS" not in out and "XCLIENT" not in out, out)
    code, out, errors = sendmail(["-bs", "-odb", "-oem"], "EHLO x\r\nMAIL FROM:<alice@mail.test>\r\nRCPT TO:<bob@mail.test>\r\n"
                                 "BDAT 17 LAST\r\nSubject: b\r\n\r\nx\r\nQUIT\r\n")
    TESTS.check("-bs with CRLF and BDAT, as alpine calls it", code == 0 and mailbox("bob").count("Subject: b") == 1, out)
    code, out, errors = sendmail(["-bs"], "EHLO x\nMAIL FROM:<bob@mail.test>\nQUIT\n")
    TESTS.check("-bs: not as somebody else", "\n553 5.7.1 " in out, out)
    code, out, errors = sendmail(["-bs"], "EHLO x\n")
    TESTS.check("-bs without QUIT: exit 1", code == 1, (code, out, errors))
    clear()
    batch = ("HELO x\nMAIL FROM:<alice@mail.test>\nRCPT TO:<bob@mail.test>\nDATA\nSubject: one\n\n..dot\n.\n"
             "MAIL FROM:<alice@mail.test>\nRCPT TO:<nobody-here@mail.test>\nDATA\nSubject: two\n\nQUIT\n.\n"
             "MAIL FROM:<alice@mail.test>\r\nRCPT TO:<bob@mail.test>\r\nDATA\r\nSubject: three\r\n\r\nx\r\n.\r\nQUIT\r\n")
    code, out, errors = sendmail(["-bS"], batch)
    text = mailbox("bob")
    TESTS.check("-bS: a batch with a refused message in the middle", code == 67 and "Subject: one" in text and "\n.dot\n" in
                text and "Subject: three" in text and "two" not in text, (code, errors, text))
    TESTS.check("-bS names line and reply", "line 10: RCPT TO:<nobody-here@mail.test>: 550 5.1.1" in errors, errors)
    code, out, errors = sendmail(["-bS"], batch.replace("\nQUIT\n.\n", "\n")[:-70])
    TESTS.check("-bS: cut off in the middle of a message", code == 65, (code, errors))
    code, out, errors = sendmail(["-bv", "bob", "postmaster"])
    TESTS.check("-bv", code == 0 and "bob@mail.test... <bob@" in out and "postmaster@mail.test... <root@" in out, (code, out, errors))
    code, out, errors = sendmail(["-bv", "nobody-here"])
    TESTS.check("-bv of nobody", code == 67 and "550 5.1.1" in out, (code, out, errors))
    code, out, errors = sendmail(["-v", "bob"], "Subject: s\n\nx\n")
    TESTS.check("-v shows the dialogue", code == 0 and ">>> RCPT TO:<bob@mail.test>" in out and "<<< 250 2.0.0" in out, out)
    code, out, errors = sendmail(["-X", "/home/alice/transcript", "bob"], "Subject: s\n\nx\n")
    TESTS.check("-X writes it to a file", code == 0 and out == "" and
                ">>> DATA" in open("/home/alice/transcript", encoding="utf-8").read(), out)


def test_aliases():
    with open("/etc/aliases", encoding="utf-8") as f:
        before = f.read()
    code, out, errors = sendmail([], name="newaliases")
    TESTS.check("newaliases finds nothing wrong", code == 0 and errors == "" and "/etc/aliases: 1 aliases" in out,
                (code, out, errors))
    with open("/etc/aliases", "w", encoding="utf-8") as f:
        f.write("# comment\nlist: alice,\n  missing-one\n\njust words\nempty:\nlist: bob\nbad: a..b@@c\n"
                "inc: :include:relative\ngone: :include:/nonexistent/list\nself: self\n")
    code, out, errors = sendmail(["-bi"])
    want = ["2: warning: list: missing-one: there is no such user or alias", "5: just words: is no alias",
            "6: empty: leads nowhere", "7: warning: list: is there twice", "8: bad: a..b@@c: is no address",
            "9: inc: relative: ", "10: warning: gone: /nonexistent/list: No such file", "11: warning: self: self: there is no"]
    TESTS.check("newaliases names every fault with its line", code == 65 and len(errors.splitlines()) == len(want) and
                all("/etc/aliases:" + w in errors for w in want), (code, out, errors))
    with open("/etc/aliases", "w", encoding="utf-8") as f:
        f.write(before)


def pennypost(*arguments):
    done = subprocess.run([HANDLERS + "/admin/pennypost", "-o", "hostname=" + HOST] + list(arguments), capture_output=True,
                          check=False, timeout=300, stdin=subprocess.DEVNULL, env={"PATH": "/usr/bin", "PENNYPOST_LOG": "none"})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_queue():
    """Mail for other machines: it is queued; who sees it, and what pennypost queue does to it."""
    code, out, errors = sendmail([], name="mailq")
    TESTS.check("mailq: an empty queue", (code, out) == (0, "The queue is empty\n"), (code, out, errors))
    for user, to in (("alice", "x@one.example"), ("alice", "y@two.example"), ("bob", "z@one.example")):
        code, out, errors = sendmail([to], "Subject: out\n\nx\n", user=user)
        TESTS.check("mail of %s for another machine is queued" % user, code == 0, (code, out, errors))
    code, out, errors = sendmail([], name="mailq")
    TESTS.check("mailq: a user sees his own", code == 0 and "<x@one.example>" in out and "<y@two.example>" in out and
                "z@one.example" not in out and out.endswith("2 in the queue\n"), (code, out, errors))
    code, out, errors = sendmail(["-bp"], user="root")
    TESTS.check("mailq: root sees all", code == 0 and out.endswith("3 in the queue\n") and "from <bob@mail.test>" in out, out)
    code, out, errors = sendmail(["-bp"], user="carol" if "carol" in open("/etc/passwd").read() else "late")
    TESTS.check("mailq: others see nothing", (code, out) == (0, "The queue is empty\n"), (code, out, errors))
    code, out, errors = sendmail(["-q"])
    TESTS.check("-q is root's", code == 77, (code, out, errors))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        client = socket.create_connection(s.getsockname(), 120)
        served, _ = s.accept()
        process = subprocess.Popen([HANDLERS + "/smtp/smtp"], stdin=served, stdout=served, stderr=subprocess.DEVNULL)
        served.close()
        client.sendall(b"EHLO x\r\nXQUEUE\r\nQUIT\r\n")
        text = b""
        while True:
            piece = client.recv(4096)
            if not piece:
                break
            text += piece
        process.wait(60)
        client.close()
    TESTS.check("XQUEUE is not for the network", b"\r\n502 5.5.1 " in text and b"one.example" not in text, text)

    code, out, errors = pennypost("queue", "list")
    ids = re.findall(r"(?m)^(\w+)  \d+ bytes", out)
    TESTS.check("pennypost queue list", code == 0 and len(ids) == 3, (code, out, errors))
    code, out, errors = pennypost("queue", "list", "--json", "--sender", "alice@" + HOST)
    entries = json.loads(out)
    TESTS.check("queue list --json --sender", len(entries) == 2 and all(e["user"] == "alice" and e["recipients"][0]["state"] ==
                                                                       "pending" for e in entries), out)
    code, out, errors = pennypost("queue", "list", "--recipient", "@one.example")
    TESTS.check("queue list --recipient", out.endswith("2 in the queue\n"), out)
    code, out, errors = pennypost("queue", "show", "--message", ids[0])
    TESTS.check("queue show --message", code == 0 and "submitted by " in out and "\nSubject: out\n" in out, out)
    code, out, errors = pennypost("queue", "hold", "--sender", "*bob*")
    TESTS.check("queue hold", (code, out) == (0, "1 held\n"), (code, out, errors))
    code, out, errors = pennypost("queue", "list", "--held")
    TESTS.check("queue list --held", ", held\n" in out and out.endswith("1 in the queue\n"), out)
    code, out, errors = pennypost("queue", "remove", ids[0], ids[1][:-1] + "?")
    TESTS.check("queue remove with ids and wildcards", (code, out) == (0, "2 removed\n"), (code, out, errors))
    code, out, errors = pennypost("queue", "remove", ids[0])
    TESTS.check("queue remove of what is not there", code == 66 and "no such message" in errors, (code, out, errors))
    for wrong in ([], ["remove"], ["show"], ["list", "--sender"], ["nothing"], ["list", "--what"]):
        TESTS.check("wrong: queue " + " ".join(wrong), pennypost("queue", *wrong)[0] == 64)
    lock = os.open("/var/spool/pennypost/msg/" + ids[2], os.O_RDWR)
    fcntl.fcntl(lock, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK: relay works on it
    code, out, errors = pennypost("queue", "remove", "all")
    TESTS.check("queue remove of what is being sent", code == 75 and "worked on" in errors, (code, out, errors))
    os.close(lock)
    code, out, errors = pennypost("queue", "remove", "all")
    TESTS.check("queue remove all", (code, out) == (0, "1 removed\n"), (code, out, errors))
    code, out, errors = pennypost("queue", "list", "--json")
    TESTS.check("an empty list is JSON too", json.loads(out) == [] and code == 0, out)
    queue_runs()


def queue_runs():
    """-q and -qR: root runs the queue, others ask for a domain (ETRN)."""
    receiver = Receiver()
    there = ["-o", "relayhost=127.0.0.1:%d" % receiver.listen("127.0.0.1", 0)]
    for to in ("x@one.example", "y@two.example", "z@three.example"):
        sendmail([to], "Subject: out\n\nx\n", user="alice")
    code, out, errors = sendmail(["-o", "relayhost=127.0.0.1:1", "-q"], user="root")
    waits = lambda: {e["recipients"][0]["address"]: e["next_attempt"] for e in json.loads(pennypost("queue", "list", "--json")[1])}
    TESTS.check("-q: all are tried", code == 0 and len(waits()) == 3 and min(waits().values()) > time.time(), (code, errors, waits()))
    code, out, errors = sendmail(there + ["-qRtwo.exa"], user="root")
    TESTS.check("-qR: those with that in an address", code == 0 and [m.recipients for m in receiver.messages] == [["y@two.example"]],
                (code, out, errors, waits()))
    code, out, errors = sendmail(["-qRone.example"])
    TESTS.check("-qR of a user: that domain is due", code == 0 and waits()["x@one.example"] == 0 and waits()["z@three.example"] > 0 and
                len(os.listdir("/var/spool/pennypost/new")) == 1, (code, out, errors, waits()))
    code, out, errors = sendmail(there + ["-q"], user="root")
    TESTS.check("-q: the rest goes", code == 0 and waits() == {} and len(receiver.messages) == 3, (code, out, errors))
    receiver.close()


class Stranger:
    """A connection to port 25 from another machine, as far as smtp can tell (XCLIENT)."""

    def __init__(self, *options):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            self.client = socket.create_connection(s.getsockname(), 120)
            served, _ = s.accept()
        with served:
            self.process = subprocess.Popen([HANDLERS + "/smtp/smtp", "-o", "hostname=" + HOST, "-o",
                                             "networks_xclient=127.0.0.1", *options], stdin=served, stdout=served,
                                            stderr=subprocess.DEVNULL)
        self.file = self.client.makefile("rb")
        self.reply()
        for line in ("EHLO x", "XCLIENT ADDR=192.0.2.7", "EHLO x"):
            self(line)

    def reply(self):
        while True:
            line = self.file.readline()
            if line[3:4] != b"-":
                return line.decode("latin-1").rstrip("\r\n")

    def __call__(self, line):
        self.client.sendall(line.encode() + b"\r\n")
        return self.reply()

    def send(self, sender, recipient):
        self("RSET")
        self("MAIL FROM:<%s>" % sender)
        answer = self("RCPT TO:<%s>" % recipient)
        if answer[0] != "2":
            return answer
        self("DATA")
        return self("Subject: forwarded\r\n\r\nx\r\n.")

    def close(self):
        self.file.close()
        self.client.close()
        self.process.wait(60)


def queued():
    return [(r.get("sender", e["sender"]), r["address"]) for e in json.loads(pennypost("queue", "list", "--json")[1])
            for r in e["recipients"]]


def test_srs():
    """Forwarded mail goes out with a sender of ours, and a bounce to that finds the way back."""
    with open("/etc/aliases", "a", encoding="utf-8") as f:
        f.write("away: far@away.example\nboth: far@away.example, near@away.example\n")
    secret = "/var/lib/pennypost/srs-secret"
    stranger = Stranger()
    answer = stranger.send("ann@example.org", "away@mail.test")
    (sender, to), = queued() or [("", "")]
    TESTS.check("mail to an alias elsewhere is queued with a sender of ours", answer[:3] == "250" and to == "far@away.example" and
                re.match(r"SRS0=[a-z2-7]{8}=[a-z2-7]{2}=example\.org=ann@mail\.test$", sender), (answer, sender, to))
    TESTS.check("the key was made, and is root's", os.stat(secret).st_mode & 0o777 == 0o600 and os.stat(secret).st_size == 32)
    pennypost("queue", "remove", "all")
    answer = stranger.send("", sender)
    TESTS.check("a bounce to it goes to the original sender", answer[:3] == "250" and queued() == [("", "ann@example.org")],
                (answer, queued()))
    pennypost("queue", "remove", "all")
    answer = stranger.send("bob@other.example", sender.lower())
    TESTS.check("in lower case too; other mail is rewritten on its way back", answer[:3] == "250" and len(queued()) == 1 and
                queued()[0][1] == "ann@example.org" and queued()[0][0].startswith("SRS0="), (answer, queued()))
    pennypost("queue", "remove", "all")
    first = sender.split("=")[1]
    forged = sender.replace(first, ("b" if first[0] == "a" else "a") + first[1:])
    answer = stranger.send("", forged)
    TESTS.check("a forged one is refused", answer.startswith("550 5.1.1 "), answer)
    answer = stranger.send("", sender.replace("example.org", "victim.example"))
    TESTS.check("one for another domain is refused: no open relay", answer.startswith("550 5.1.1 ") and not queued(), answer)
    answer = stranger.send("SRS0=abcd=xy=origin.example=ann@hop.example", "both@mail.test")
    senders = {s for s, _ in queued()}
    TESTS.check("what was rewritten before becomes SRS1, once for all recipients", answer[:3] == "250" and len(queued()) == 2 and
                len(senders) == 1 and re.match(r"SRS1=[a-z2-7]{8}=hop\.example==abcd=xy=origin\.example=ann@mail\.test$",
                                               senders.pop()), (answer, queued()))
    again = queued()[0][0]
    pennypost("queue", "remove", "all")
    answer = stranger.send("", again)
    TESTS.check("and leads back to the first forwarder", queued() == [("", "SRS0=abcd=xy=origin.example=ann@hop.example")],
                (answer, queued()))
    pennypost("queue", "remove", "all")
    for who, mail_from in (("a null sender", ""), ("a sender of ours", "bob@mail.test")):
        answer = stranger.send(mail_from, "away@mail.test")
        TESTS.check("%s is not rewritten" % who, queued() == [(mail_from, "far@away.example")], (answer, queued()))
        pennypost("queue", "remove", "all")
    stranger.close()
    stranger = Stranger("-o", "srs=no")
    stranger.send("ann@example.org", "away@mail.test")
    TESTS.check("srs=no: the sender stays", queued() == [("ann@example.org", "far@away.example")], queued())
    pennypost("queue", "remove", "all")
    stranger.close()
    later = Stranger("--epoch=%d" % (time.time() + 22 * 86400 + 10))
    answer = later.send("", sender)
    TESTS.check("after three weeks it is refused", answer.startswith("550 5.1.1 ") and "too old" in answer, answer)
    later.close()
    with open("/etc/aliases", "w", encoding="utf-8") as f:
        f.write("owner-list: root\n")


def test_confined():
    """What hardened services cannot do must not be needed: set-id, new privileges, other address families."""
    clear()
    code, out, errors = sendmail(["bob"], "Subject: s\n\nx\n", name="sendmail")
    done = subprocess.run(["setpriv", "--no-new-privs", "--reuid=60002", "--regid=60002", "--clear-groups", "--bounding-set=-all",
                           "--inh-caps=-all", SENDMAIL, "-o", "hostname=" + HOST, "-t"], input=b"To: alice\nSubject: s\n\nx\n",
                          capture_output=True, check=False, env={"PATH": "/usr/bin"}, timeout=120)
    TESTS.check("with NoNewPrivileges and no capabilities", done.returncode == 0 and field(mailbox("alice"), "Return-Path") ==
                "<bob@mail.test>", done)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        client = socket.create_connection(s.getsockname())
        served, _ = s.accept()
        done = subprocess.run([HANDLERS + "/smtp/smtp", "--local"], stdin=served, stdout=served, stderr=subprocess.PIPE,
                              timeout=120, check=False)
        served.close()
        TESTS.check("--local serves nobody over TCP", done.returncode == 77 and client.recv(100) == b"", done)
        client.close()


def own_box():
    """A mailbox of her own, which she may write but could not make."""
    clear()
    with open("/var/mail/alice", "w", encoding="ascii"):
        pass
    os.chown("/var/mail/alice", pwd.getpwnam("alice").pw_uid, 8)
    os.chmod("/var/mail/alice", 0o660)


def test_alone():
    """Nothing listens."""
    for path in ("/home/alice/dead.letter", "/var/tmp/dead.letter-alice"):
        if os.path.exists(path):
            os.unlink(path)
    own_box()
    code, out, errors = sendmail(["alice"], "Subject: s\n\nx\n")
    text = mailbox("alice")
    TESTS.check("alone: to his own mailbox, with all fields", field(text, "Date") and field(text, "Message-ID") and
                field(text, "From") == "Alice von Wunder <alice@mail.test>", text)
    own_box()
    code, out, errors = sendmail(["bob"], "Subject: s\n\nx\n")
    TESTS.check("alone: to others EX_TEMPFAIL and what to do", code == 75 and SOCKET in errors and not mailbox("bob"),
                (code, errors))
    code, out, errors = sendmail(["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "bob"], HEADER)
    TESTS.check("alone: cron mail to others comes back to its sender", code == 75 and "could not be sent" in mailbox("alice"),
                (code, errors))
    text = sent(["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "alice"], HEADER, user="root", box="alice")
    TESTS.check("alone: root's cron mail to a user", "Subject: x" in text, text)
    clear()
    os.rename("/var/mail", "/var/mail.away")
    code, out, errors = sendmail(["-oem", "alice"], "Subject: s\n\nkeep me\n")
    TESTS.check("alone: with no mailbox at all cron's mail is in dead.letter", code == 75 and "keep me" in
                open("/home/alice/dead.letter", encoding="utf-8").read(), (code, errors))
    os.rename("/var/mail.away", "/var/mail")
    code, out, errors = sendmail(["-bs"], "EHLO x\nQUIT\n")
    TESTS.check("alone: -bs is a session of its own", code == 0 and out.startswith("220 mail.test"), (code, out, errors))


def greetings_for(uid, count):
    """Connections of that user, and what each is greeted with."""
    os.seteuid(uid)  # the kernel remembers who connects
    try:
        sockets = [socket.socket(socket.AF_UNIX) for _ in range(count)]
        for s in sockets:
            s.settimeout(120)
            s.connect(SOCKET)
    finally:
        os.seteuid(0)
    return sockets, [s.recv(300)[:9] for s in sockets]


def test_share(server):
    """Whoever holds all connections that he can get does not keep the others out, and gets his turn when he lets go."""
    alice, bob = pwd.getpwnam("alice").pw_uid, pwd.getpwnam("bob").pw_uid
    TESTS.check("share: nobody is connected", wait_until(server.is_idle))
    clear()
    held, said = greetings_for(alice, SHARE + 5)
    TESTS.check("share: a user has so many connections and no more", said.count(b"421 4.7.0") == 5 and
                len([x for x in said if x.startswith(b"220 ")]) == SHARE, said)
    others, said = greetings_for(bob, 1)
    TESTS.check("share: others are served meanwhile", said[0].startswith(b"220 "), said)
    root, said = greetings_for(0, SHARE + 2)
    TESTS.check("share: root has no limit", all(x.startswith(b"220 ") for x in said), said)
    for s in others + root:
        s.close()
    letter = subprocess.Popen([SENDMAIL, "-o", "hostname=" + HOST, "bob"], user=alice, group=alice, extra_groups=[], cwd="/",
                              stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": "/usr/bin:/bin", "HOME": "/home/alice"})
    letter.stdin.write(b"Subject: patient\n\nx\n")
    letter.stdin.close()
    time.sleep(2)
    TESTS.check("share: sendmail waits for its turn", letter.poll() is None and not mailbox("bob"))
    for s in held:
        s.close()
    TESTS.check("share: and delivers", letter.wait(120) == 0 and "Subject: patient" in mailbox("bob"), letter.stderr.read())
    held = []
    for uid in (70001, 70002):
        sockets, said = greetings_for(uid, SHARE // 2 + 2)
        held += list(zip(sockets, said))
    TESTS.check("share: all uids without an account have the share of one", [x[:4] for _, x in held].count(b"220 ") == SHARE, held)
    for s, _ in held:
        s.close()


def test_path_again():
    """A socket file whose server has gone is replaced, one that is served is not, and no other file ever."""
    TESTS.check("the socket of the server that has gone is in the way", os.path.exists(SOCKET) and not Server.answers())
    server = Server()
    TESTS.check("it is replaced", Server.answers())
    for path, status in ((SOCKET, 69), ("/etc/passwd", 71)):
        done = subprocess.run([HANDLERS + "/listen/listen", "--bind", path, "--", "smtp", "--local"], timeout=60,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
        TESTS.check("listen does not take %s" % path, done.returncode == status, done)
    TESTS.check("the server that was there still answers", Server.answers() and os.path.getsize("/etc/passwd") > 0)
    server.stop()


def main():
    with open("/etc/passwd", encoding="utf-8") as f:
        text = f.read()
    with open("/etc/passwd", "w", encoding="utf-8") as f:
        f.write(re.sub(r"(?m)^(alice:x:\d+:\d+:)[^:]*", r"\1& von Wunder,room 1,,", text))
    with open("/etc/aliases", "w", encoding="utf-8") as f:
        f.write("owner-list: root\n")
    for user in ("alice", "bob"):
        home = pwd.getpwnam(user).pw_dir
        os.makedirs(home, exist_ok=True)
        os.chown(home, pwd.getpwnam(user).pw_uid, -1)
    os.makedirs("/var/spool/pennypost", mode=0o700, exist_ok=True)
    server = Server()
    tests = [v for k, v in sorted(globals().items()) if k.startswith("test_") and k not in
             ("test_alone", "test_path_again")]
    wanted = sys.argv[2:]
    for test in tests:
        if not wanted or test.__name__[5:] in wanted:
            TESTS.attempt(test, *[server] if test is test_share else [])
    server.stop()
    if not wanted or "alone" in wanted:
        TESTS.attempt(test_alone)
        TESTS.attempt(test_path_again)
    TESTS.close()


main()
