#!/usr/bin/env python3
"""The smtp monitor with everything behind it, on a loopback connection of its own for each case.

    box smtp_alone.py BUILD_DIR/handlers/smtp/smtp

What dialogs on a pipe cannot show: delivery as other users with their keeper, aliases with commands and files, root's
mail, submission, a stranger's connection, connections that break. Closes with "N passed, N failed".
"""
import os
import random
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time

from world import Tests

SMTP = os.path.abspath(sys.argv[1])
CERTIFICATE, KEY = "/etc/pennypost/certificate.pem", "/etc/pennypost/key.pem"
OUT, ALIASES = "/var/tmp/out", "/etc/aliases"
TESTS = Tests()


def world():
    for folder in ("/etc/pennypost", "/var/spool/pennypost", OUT):
        os.makedirs(folder, exist_ok=True)
    os.chmod(OUT, 0o1777)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", KEY, "-out", CERTIFICATE, "-days",
                    "3", "-subj", "/CN=localhost"], check=True, stderr=subprocess.DEVNULL)
    with open(ALIASES, "w", encoding="ascii") as f:
        f.write('cmd: "|cat > %s/cmd; id -un >> %s/cmd; echo $SENDER $RECIPIENT >> %s/cmd"\n'
                'fail: "|echo no good; exit 70"\ntemp: "|exit 75"\nmissing: |/nonexistent/program\nearly: "|exit 0"\n'
                'box: %s/box\nnull: /dev/null\nlist: alice, bob, cmd\nowner-list: alice\npart: alice, fail\n'
                'inc: :include:%s/inc\nopen: :include:%s/open\nwebmaster: root\n' % ((OUT,) * 6))
    for name, mode in (("inc", 0o644), ("open", 0o666)):
        path = os.path.join(OUT, name)
        with open(path, "w", encoding="ascii") as f:
            f.write('# a list of bob\'s\nalice\n"|id -un > %s/ran-%s"\n' % (OUT, name))
        os.chown(path, 60002, 60002)
        os.chmod(path, mode)


class Client:
    """A connection and the smtp that serves it."""

    def __init__(self, *arguments, greeting=True):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            self.sock = socket.create_connection(listener.getsockname(), 30)
            served, _ = listener.accept()
        with served:
            self.process = subprocess.Popen([SMTP, "-o", "hostname=mail.test", *arguments], stdin=served, stdout=served,
                                            stderr=subprocess.DEVNULL)
        self.file = self.sock.makefile("rb")
        if greeting:
            self.reply()

    def reply(self):
        while True:
            line = self.file.readline()
            if line[3:4] != b"-":
                return line.decode("latin-1").rstrip("\r\n")

    def __call__(self, line):
        self.sock.sendall((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.reply()

    def send(self, recipient, message=b"Subject: x\r\n\r\nbody\r\n", sender="s@example.org"):
        self("RSET")
        self("MAIL FROM:<%s>" % sender)
        answer = self("RCPT TO:<%s>" % recipient)
        if answer[0] != "2":
            return answer
        self("DATA")
        return self(message + b".")

    def close(self):
        self.file.close()
        self.sock.close()
        return self.process.wait(60)


def hello(*arguments):
    client = Client(*arguments)
    client("EHLO client.example")
    return client


def mailbox(user):
    try:
        with open("/var/mail/" + user, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return b""


def clear():
    for user in ("alice", "bob", "root"):
        if os.path.exists("/var/mail/" + user):
            os.unlink("/var/mail/" + user)


def bodies(user):
    """What was sent, as the mailbox has it: from Subject on, mboxrd undone, LF."""
    parts = re.split(rb"(?:^|\n\n)From [^\n]*\nX-Pennypost", mailbox(user))[1:]
    return [re.sub(rb"(?m)^>(>*From )", rb"\1", p[p.index(b"\nSubject:") + 1:]).rstrip(b"\n") for p in parts]


def same(message):
    return message.replace(b"\r\n", b"\n").rstrip(b"\n")


def test_bytes():
    clear()
    random.seed(1)
    lines = [bytes(random.choice(b".FRoma \xc3\xbc\xff\x01xyz") for _ in range(random.choice([0, 1, 2, 5, 70, 998, 3000])))
             for _ in range(1000)]
    messages = [b"Subject: random\r\n\r\n" + b"\r\n".join(lines) + b"\r\n",
                b"Subject: big\r\n\r\n" + (b"QUJD" * 18 + b"\r\n") * 140000,
                b"Subject: from\r\n\r\nFrom x\r\n>From y\r\n>>From z\r\n From\r\n..\r\n.\r\n. \r\n"]
    client = hello()
    for message in messages:
        stuffed = re.sub(rb"(?m)^\.", b"..", message)
        answer = client.send("alice@mail.test", stuffed)
        TESTS.check("DATA of %d bytes" % len(message), answer.startswith("250 "), answer)
    for at in range(0, len(messages[0]), 100000):
        chunk = messages[0][at:at + 100000]
        if at == 0:
            client("MAIL FROM:<s@example.org>")
            client("RCPT TO:<bob@mail.test>")
        last = b" LAST" if at + 100000 >= len(messages[0]) else b""
        client.sock.sendall(b"BDAT %d%s\r\n" % (len(chunk), last) + chunk)
        answer = client.reply()
    TESTS.check("BDAT in chunks", answer.startswith("250 "), answer)
    TESTS.check("ends well", client("QUIT").startswith("221 ") and client.close() == 0)
    TESTS.check("alice has the same bytes", bodies("alice") == [same(m) for m in messages])
    TESTS.check("bob has the same bytes", bodies("bob") == [same(messages[0])])
    for user, uid in (("alice", 60001), ("bob", 60002)):
        facts = os.stat("/var/mail/" + user)
        TESTS.check("mailbox of %s is %s:mail 0660" % (user, user),
                    (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (uid, 8, 0o660), facts)
    TESTS.check("no lock is left", sorted(os.listdir("/var/mail")) == ["alice", "bob"], os.listdir("/var/mail"))


def read_out(name):
    try:
        with open(os.path.join(OUT, name), encoding="latin-1") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def test_aliases():
    clear()
    client = hello()
    for recipient, want in (("cmd", "250 "), ("fail", "550 5.3.0 no good"), ("temp", "451 4.3.0 "), ("missing", "451 4.3.5 "),
                            ("box", "250 "), ("null", "250 "), ("list", "250 "),
                            ("part", "550 5.3.0 Delivered to 1 of 2: no good"), ("inc", "250 "), ("open", "550 5.3.5 "),
                            ("root", "250 "), ("Postmaster", "250 "), ("webmaster", "250 ")):
        answer = client.send(recipient + "@mail.test", b"Subject: %s\r\n\r\nbody\r\n" % recipient.encode())
        TESTS.check("alias %s: %s" % (recipient, want), answer.startswith(want), answer)
    answer = client.send("early@mail.test", b"Subject: early\r\n\r\n" + b"a line of text\r\n" * 100000)
    TESTS.check("a command that does not read", answer.startswith("250 "), answer)
    TESTS.check("the command ran as nobody, with the list's owner as sender",
                read_out("cmd").endswith("nobody\nowner-list@mail.test list@mail.test\n"), read_out("cmd"))
    TESTS.check("an included command ran as its owner", read_out("ran-inc") == "bob\n", read_out("ran-inc"))
    TESTS.check("a command in a file that others can write did not run", read_out("ran-open") == "")
    TESTS.check("the file is nobody's and has the message",
                "Subject: box" in read_out("box") and os.stat(OUT + "/box").st_uid == 65534)
    TESTS.check("alice got list, part and inc", [b[9:13] for b in bodies("alice")] == [b"list", b"part", b"inc\n"],
                bodies("alice"))
    TESTS.check("root got three", len(bodies("root")) == 3 and os.stat("/var/mail/root").st_uid == 0, bodies("root"))
    TESTS.check("the sender of a list is its owner", b"Return-Path: <owner-list@mail.test>\n" in mailbox("bob"))
    answer = client("EXPN list")
    TESTS.check("EXPN tells a program on this machine", answer.startswith("250 2.1.5 "), answer)
    client.close()


def test_many():
    clear()
    client = hello()
    client("MAIL FROM:<s@example.org>")
    for n in range(20):
        client("RCPT TO:<%s+%d@mail.test>" % (("alice", "bob")[n % 2], n))
    client("RCPT TO:<alice@mail.test>")
    client("RCPT TO:<ALICE@localhost>")
    client("DATA")
    answer = client(b"Subject: many\r\n\r\n.")
    TESTS.check("22 recipients in one message", answer.startswith("250 "), answer)
    TESTS.check("a mailbox named twice has it once", (len(bodies("alice")), len(bodies("bob"))) == (11, 10),
                (len(bodies("alice")), len(bodies("bob"))))
    client.close()


def strangers_client():
    client = hello("-o", "networks_xclient=127.0.0.0/8")
    answer = client("XCLIENT ADDR=192.0.2.1 NAME=far.example")
    TESTS.check("XCLIENT from a trusted network", answer.startswith("220 "), answer)
    return client


def test_stranger():
    client = strangers_client()
    client("EHLO far.example")
    for command, want in (("VRFY alice", "252 "), ("EXPN list", "252 "), ("XCLIENT ADDR=127.0.0.1", "550 "),
                          ("MAIL FROM:<alice@mail.test>", "250 "), ("RCPT TO:<victim@example.com>", "550 5.7.1 "),
                          ("RCPT TO:<victim%example.com@mail.test>", "550 5.1.1 "),
                          ("RCPT TO:<@mail.test:victim@example.com>", "550 5.7.1 "),
                          ("RCPT TO:<alice>", "501 "), ("RCPT TO:<Postmaster>", "250 "), ("AUTH PLAIN AGEAYg==", "503 ")):
        answer = client(command)
        TESTS.check("stranger: " + command, answer.startswith(want), answer)
    client.close()
    for early in (b"EHLO far.example\r\nMAIL FROM:<a@b>\r\n", None):
        client = strangers_client()
        if early is None:
            client("EHLO far.example")
            client("MAIL FROM:<a@example.org>")
            client("RCPT TO:<alice@mail.test>")
            early = b"DATA\r\nSubject: x\r\n\r\n.\r\n"
        client.sock.sendall(early)
        answer = client.reply()
        TESTS.check("a stranger that talks early is cut off", answer.startswith("554 5.5.0 ") and client.reply() == "", answer)
        client.close()
    client = hello()
    answer = client("XCLIENT ADDR=192.0.2.1")
    TESTS.check("XCLIENT from nobody's friend", answer.startswith("550 "), answer)
    client.close()


def test_smuggling():
    clear()
    tail = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<bob@mail.test>\r\nDATA\r\nSubject: two\r\n\r\nx\r\n.\r\n"
    ends = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r.\n", b"\n.\r", b"\r\n.\r\r\n", b"\r\n\0.\r\n"]
    for mode in ("reject", "normalize"):
        client = hello("-o", "smtp_bare_newline=" + mode)
        for end in ends:
            answer = client.send("alice@mail.test", b"Subject: one\r\n\r\nbody" + end + tail[:-3])
            is_refused = mode == "reject" or b"\r" in end.replace(b"\r\n", b"") or b"\0" in end
            TESTS.check("%s, %r: one message or none" % (mode, end), answer.startswith("550 " if is_refused else "250 "), answer)
            answer = client("NOOP")
            TESTS.check("%s, %r: nothing became a command" % (mode, end), answer == "250 2.0.0 Ok", answer)
        client.close()
    TESTS.check("nothing was smuggled to bob", mailbox("bob") == b"")


def submission(*arguments):
    client = smtplib.SMTP()
    raw = Client("--submission", "-o", "tls_certificate=" + CERTIFICATE, "-o", "tls_key=" + KEY, *arguments, greeting=False)
    client.sock, client.file, client._host = raw.sock, raw.file, "localhost"
    client.raw = raw
    client.getreply()
    return client


def code(answer):
    return answer[0]


def test_submission():
    clear()
    context = ssl.create_default_context(cafile=CERTIFICATE)
    client = submission("-o", "plaintext_auth=no")
    client.ehlo()
    TESTS.check("no AUTH in the clear", "auth" not in client.esmtp_features and code(client.docmd("AUTH PLAIN")) == 538)
    TESTS.check("nothing without AUTH", code(client.docmd("MAIL FROM:<alice@mail.test>")) == 530)
    client.starttls(context=context)
    client.ehlo()
    TESTS.check("AUTH within TLS", "auth" in client.esmtp_features)
    TESTS.check("unknown mechanism", code(client.docmd("AUTH FROB")) == 504)
    TESTS.check("AUTH that makes no sense", code(client.docmd("AUTH PLAIN %%%")) == 501)
    TESTS.check("login", code(client.login("alice", "wonderland")) == 235)
    TESTS.check("login twice", code(client.docmd("AUTH PLAIN")) == 503)
    for sender, want in (("alice@mail.test", 250), ("alice+x@localhost", 250), ("", 250), ("bob@mail.test", 553),
                         ("alice@example.com", 553), ("list@mail.test", 250)):
        TESTS.check("alice sends as <%s>" % sender, code(client.docmd("MAIL FROM:<%s>" % sender)) == want)
        client.docmd("RSET")
    client.docmd("MAIL FROM:<alice@mail.test>")
    TESTS.check("no relaying behind AUTH and RSET", code(client.docmd("RCPT TO:<victim@example.com>")) == 550)
    client.docmd("RSET")
    client.sendmail("alice@mail.test", ["bob@mail.test"], "Subject: without\n\nbody\n")
    text = mailbox("bob")
    TESTS.check("Date and Message-ID are added inside the header",
                re.search(rb"\nSubject: without\nDate: [^\n]+\nMessage-ID: <[^\n]+@mail\.test>\n\nbody\n", text), text)
    TESTS.check("the trace says ESMTPSA and the cipher", b" with ESMTPSA\n" in text and b"\ttls TLS_" in text, text)
    client.quit()
    TESTS.check("ends well", client.raw.close() == 0)
    client = submission("-o", "plaintext_auth=no")
    client.ehlo()
    client.sock.sendall(b"STARTTLS\r\nNOOP\r\n")
    TESTS.check("data behind STARTTLS is cut off", code(client.getreply()) == 554)
    client.raw.close()


def test_breaking():
    clear()
    script = (b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<bob@mail.test>\r\nDATA\r\nSubject: x\r\n\r\nhi\r\n.\r\n")
    statuses = set()
    for end in list(range(0, len(script), 4)) + [len(script)]:
        client = Client()
        client.sock.sendall(script[:end])
        statuses.add(client.close())
    for _ in range(50):
        if len(bodies("bob")) == 1:
            break
        time.sleep(0.1)
    TESTS.check("a connection that breaks at every place: no failure of ours", statuses == {0}, statuses)
    TESTS.check("... and one message, that which was complete", len(bodies("bob")) == 1, mailbox("bob"))
    statuses = set()
    random.seed(2)
    for size in (1, 10, 1000, 100000, 2000000):
        client = Client(greeting=False)
        try:
            client.sock.sendall(random.randbytes(size))
            client.sock.shutdown(socket.SHUT_WR)
            while client.sock.recv(65536):
                pass
        except OSError:
            pass
        statuses.add(client.close())
    TESTS.check("noise: no failure of ours", statuses == {0}, statuses)


def test_stop():
    client = hello()
    children = subprocess.run(["pgrep", "-P", str(client.process.pid)], stdout=subprocess.PIPE, text=True, check=True)
    for pid in (client.process.pid, *map(int, children.stdout.split())):
        os.kill(pid, signal.SIGTERM)
    answer = client.reply()
    TESTS.check("a service that stops says 421", answer.startswith("421 4.3.2 ") and client.close() == 0, answer)


def main():
    world()
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            try:
                test()
            except Exception as error:  # one case must not hide the others
                TESTS.check(name, False, repr(error))
    print("%d passed, %d failed" % (TESTS.passed, TESTS.failed))
    return TESTS.failed > 0


if __name__ == "__main__":
    sys.exit(main())
