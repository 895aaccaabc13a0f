#!/usr/bin/env python3
"""The smtp monitor with everything behind it, on a loopback connection of its own for each case.

    box smtp_alone.py BUILD_DIR/handlers/smtp/smtp

What dialogs on a pipe cannot show: delivery as other users with their keeper, aliases and .forward with commands and files,
root's mail, the queue, submission, a stranger's connection, connections that break. Closes with "N passed, N failed".
"""
import fcntl
import os
import pty
import random
import re
import signal
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
import time
import tty

from world import Tests, kill, open_files, wait_until

SMTP = os.path.abspath(sys.argv[1])
CERTIFICATE, KEY = "/etc/pennypost/certificate.pem", "/etc/pennypost/key.pem"
OUT, ALIASES, QUEUE = "/var/tmp/out", "/etc/aliases", "/var/spool/pennypost"
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
                'inc: :include:%s/inc\nopen: :include:%s/open\nwebmaster: root\n' % ((OUT,) * 6) +
                'linked: :include:%s/bob/linked\nnested: :include:%s/bob/nested\nprivate: :include:%s/bob/private\n'
                'named: :include:%s/bob/named\nwho: "|id -un > %s/who"\n' % ((OUT,) * 5) +
                'shared: :include:%s/bob/shared\nroots: :include:%s/bob/roots\n' % (OUT, OUT))
    for name, mode in (("inc", 0o644), ("open", 0o666)):
        path = os.path.join(OUT, name)
        with open(path, "w", encoding="ascii") as f:
            f.write('# a list of bob\'s\nalice\n"|id -un > %s/ran-%s"\n' % (OUT, name))
        os.chown(path, 60002, 60002)
        os.chmod(path, mode)
    # What is alice's is no list, whatever is in it; bob is free to say it were.
    os.mkdir(OUT + "/bob")
    os.chown(OUT + "/bob", 60002, 60002)
    os.symlink(OUT + "/hers", OUT + "/bob/linked")
    os.lchown(OUT + "/bob/linked", 60002, 60002)
    os.symlink(OUT + "/roots", OUT + "/bob/roots")
    os.lchown(OUT + "/bob/roots", 60002, 60002)
    for name, text, owner, mode in (("hers", '"|id -un >> %s/ran-hers"\n' % OUT, 60001, 0o644),
                                    ("hidden", "alice\n", 60001, 0o600),
                                    ("bob/nested", ":include:%s/hers\n" % OUT, 60002, 0o644),
                                    ("roots", '"|id -un > %s/ran-roots"\n' % OUT, 0, 0o644),
                                    ("bob/private", ":include:%s/hidden\n" % OUT, 60002, 0o644),
                                    ("bob/shared", ":include:%s/hidden\n" % OUT, 60002, 0o666),
                                    ("bob/named", "who\n", 60002, 0o644)):
        write(os.path.join(OUT, name), text, owner, mode)


class Client:
    """A connection and the smtp that serves it."""

    def __init__(self, *arguments, greeting=True, is_unix=False, uid=0):
        with socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET) as listener:
            listener.bind("\0smtp-alone-%d" % os.getpid() if is_unix else ("127.0.0.1", 0))
            listener.listen()
            self.sock = socket.socket(listener.family)
            self.sock.settimeout(120)
            os.seteuid(uid)
            self.sock.connect(listener.getsockname())
            os.seteuid(0)
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
    TESTS.check("no lock is left", wait_until(lambda: sorted(os.listdir("/var/mail")) == ["alice", "bob"]),
                os.listdir("/var/mail"))


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
                            ("part", "250 2.0.0 Delivered"), ("inc", "250 "), ("open", "550 5.3.5 "),
                            ("linked", "550 5.3.5 "), ("nested", "250 "), ("private", "451 "), ("shared", "451 "),
                            ("roots", "550 5.3.5 "), ("named", "250 "),
                            ("root", "250 "), ("Postmaster", "250 "), ("webmaster", "250 ")):
        answer = client.send(recipient + "@mail.test", b"Subject: %s\r\n\r\nbody\r\n" % recipient.encode())
        TESTS.check("alias %s: %s" % (recipient, want), answer.startswith(want), answer)
    answer = client.send("early@mail.test", b"Subject: early\r\n\r\n" + b"a line of text\r\n" * 100000)
    TESTS.check("a command that does not read", answer.startswith("250 "), answer)
    TESTS.check("the command ran as nobody, with the list's owner as sender",
                read_out("cmd").endswith("nobody\nowner-list@mail.test list@mail.test\n"), read_out("cmd"))
    TESTS.check("an included command ran as its owner", read_out("ran-inc") == "bob\n", read_out("ran-inc"))
    TESTS.check("a command in a file that others can write did not run", read_out("ran-open") == "")
    TESTS.check("what a user's list includes ran as that user, and was not taken for the list of whose file it is",
                read_out("ran-hers") == "bob\n", read_out("ran-hers"))
    TESTS.check("the command of an alias that a user's list names ran as nobody", read_out("who") == "nobody\n", read_out("who"))
    TESTS.check("the file is nobody's and has the message",
                "Subject: box" in read_out("box") and os.stat(OUT + "/box").st_uid == 65534)
    TESTS.check("alice got list, part and inc", [b[9:13] for b in bodies("alice")] == [b"list", b"part", b"inc\n"],
                bodies("alice"))
    TESTS.check("root got three", len(bodies("root")) == 3 and os.stat("/var/mail/root").st_uid == 0, bodies("root"))
    TESTS.check("the sender of a list is its owner", b"Return-Path: <owner-list@mail.test>\n" in mailbox("bob"))
    (entry,) = [e for e in queue() if "to-reply 550 5.3.0 no good" in e]
    TESTS.check("the part of an alias that failed is reported", "to part@mail.test\n" in entry and
                "\nto-state failed\n" in entry and "\nsender s@example.org\n" in entry, entry)
    answer = client("EXPN list")
    TESTS.check("EXPN tells a program on this machine", answer.startswith("250 2.1.5 "), answer)
    client.close()


def queue(clear_it=False):
    """The envelopes of the queue."""
    found = []
    for name in sorted(os.listdir(QUEUE + "/new") if os.path.isdir(QUEUE + "/new") else []):
        with open(QUEUE + "/new/" + name, encoding="utf-8") as f:
            found.append(f.read())
        if clear_it:
            os.unlink(QUEUE + "/new/" + name)
            os.unlink(QUEUE + "/msg/" + name)
    return found


def write(path, text, owner, mode=0o644):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chown(path, owner, owner)
    os.chmod(path, mode)


def test_forward():
    clear()
    queue(clear_it=True)
    write("/home/alice/.forward", '\\alice, "|id -un >> %s/fw; echo $SENDER >> %s/fw", /home/alice/copy\n' % (OUT, OUT), 60001)
    write("/home/bob/.forward", "alice@mail.test, far@example.com\n", 60002, 0o600)
    client = hello()
    for recipient in ("alice", "bob", "bob+x"):
        answer = client.send(recipient + "@mail.test", b"Subject: %s\r\n\r\nbody\r\n" % recipient.encode())
        TESTS.check("to %s, who forwards" % recipient, answer.startswith("250 "), answer)
    TESTS.check("alice has all three in her mailbox, bob has none", (len(bodies("alice")), bodies("bob")) == (3, []))
    TESTS.check("her command ran as alice, for the sender", read_out("fw") == "alice\ns@example.org\n" * 3, read_out("fw"))
    TESTS.check("her file is hers", os.stat("/home/alice/copy").st_uid == 60001)
    entries = queue(clear_it=True)
    TESTS.check("what bob forwards to another machine is queued", len(entries) == 2 and
                all(re.search("\nto far@example.com\nto-sender SRS0=.*=example.org=s@mail.test\nto-orcpt rfc822;bob", e)
                    for e in entries), entries)
    for text, want in (('"|true secret"\n', "A command, run by alice"), ("/home/alice/secret\n", "A file, written by alice")):
        write("/home/alice/.forward", text, 60001, 0o600)
        answer = client("EXPN alice")
        TESTS.check("what only she can read is not told to others", answer == "250 2.1.5 " + want, answer)
    write("/home/alice/.forward", '"|printf changed 1<>/proc/$PPID/fd/0; exit 0"\n', 60001)
    answer = client.send("bob@mail.test")
    texts = [open(QUEUE + "/msg/" + name, encoding="ascii").read() for name in os.listdir(QUEUE + "/msg")]
    TESTS.check("what one recipient's command does to the message is not sent to another", answer.startswith("250 ") and
                len(texts) == 1 and texts[0].startswith("Received: "), (answer, texts))
    queue(clear_it=True)
    write("/home/alice/.forward", "bob\n", 60001)
    write("/home/bob/.forward", "alice\n", 60002)
    TESTS.check("two who forward to each other", client.send("alice@mail.test").startswith("250 ") and
                len(bodies("alice")) == 4, bodies("alice"))
    for text, mode, owner, want in (("|", 0o644, 60001, "451 "), ("x\n", 0o666, 60001, "250 "), ("x\n", 0o644, 60002, "250 "),
                                    (":include:/etc/shadow\n", 0o644, 60001, "451 "), ("nosuch\n", 0o644, 60001, "250 "),
                                    ("# none\n", 0o644, 60001, "250 "), ('"|exit 67"\n', 0o644, 60001, "550 5.1.1 ")):
        write("/home/alice/.forward", text, owner, mode)
        answer = client.send("alice@mail.test")
        TESTS.check(".forward with %r, mode %o, of %d: %s" % (text, mode, owner, want), answer.startswith(want), answer)
    os.unlink("/home/alice/.forward")
    os.mkdir("/home/alice/.forward")
    TESTS.check(".forward that is no file", client.send("alice@mail.test").startswith("451 "))
    os.rmdir("/home/alice/.forward")
    # What only root can read stays unread: alice's file is a link to it.
    write("/var/tmp/secret", "bob\n", 0, 0o600)
    os.symlink("/var/tmp/secret", "/home/alice/.forward")
    TESTS.check(".forward is read with its owner's rights", client.send("alice@mail.test").startswith("451 "))
    os.unlink("/home/alice/.forward")
    os.unlink("/home/bob/.forward")
    os.rename("/home/bob", "/home/bob.away")
    TESTS.check("no home, no .forward", client.send("bob@mail.test").startswith("250 ") and len(bodies("bob")) == 1)
    os.rename("/home/bob.away", "/home/bob")
    client.close()


def test_root():
    clear()
    write("/root/.forward" if os.path.isdir("/root") else "/.forward", "alice\n", 0)
    client = hello()
    client.send("root@mail.test")
    TESTS.check("root has no .forward", len(bodies("root")) == 1 and bodies("alice") == [])
    client.close()
    os.unlink("/root/.forward" if os.path.isdir("/root") else "/.forward")
    client = hello("-o", "root_mail_to=alice", "-o", "catch_all=bob")
    for recipient in ("root", "postmaster", "webmaster"):
        client.send(recipient + "@mail.test")
    TESTS.check("root_mail_to", len(bodies("alice")) == 3 and len(bodies("root")) == 1)
    client.send("whoever@mail.test")
    TESTS.check("catch_all", len(bodies("bob")) == 1)
    client.close()


def children_of(pid):
    """(pid, name) of all processes below that one."""
    parents, found = {}, []
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/stat" % int(name), encoding="latin-1") as f:
                text = f.read()
        except (ValueError, OSError):
            continue
        comm, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 1:].split()
        if rest[0] != "Z":
            parents.setdefault(int(rest[1]), []).append((int(name), comm))
    below = [pid]
    while below:
        more = parents.get(below.pop(), [])
        found += more
        below += [p for p, _ in more]
    return found


def postmen(client):
    """pids of the delivers that a connection has."""
    return [pid for pid, comm in children_of(client.process.pid) if comm == "deliver"]


def is_locked(user):
    with open("/var/mail/" + user, "r+b") as f:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return os.path.exists("/var/mail/%s.lock" % user)


def is_gone(pid):
    return not os.path.exists("/proc/%d" % pid)


def keeper_of(client, uid):
    """pid of the keeper that a deliver of that user has, who waits for the next message with nothing locked."""
    def look():
        found = []
        for pid, comm in children_of(client.process.pid):
            try:
                with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as f:
                    is_his = "\nUid:\t0\t0\t0\t%d\n" % uid in f.read()
            except OSError:
                continue
            if comm == "smtp-keeper" and is_his and any(name == "deliver" for _, name in children_of(pid)):
                found.append(pid)
        return found if len(found) == 1 else []
    (pid,) = wait_until(look)
    return pid


def numbers(user):
    return [int(b[9:].split()[0]) for b in bodies(user)]


def send_number(client, n, recipient="alice@mail.test"):
    return client.send(recipient, b"Subject: %d\r\n\r\nbody\r\n" % n)[:3]


def test_postmen():
    """The deliver of a recipient stays for the next message of a connection."""
    clear()
    client = hello()
    seen = set()
    for n in range(3):
        TESTS.check("message %d" % n, send_number(client, n) == "250")
        seen |= set(postmen(client))
    TESTS.check("three messages, one deliver", len(seen) == 1 and numbers("alice") == [0, 1, 2], (seen, numbers("alice")))
    (pid,) = seen
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        status = f.read()
    TESTS.check("it is alice's process", "\nUid:\t60001\t60001\t60001\t60001\n" in status, status)
    TESTS.check("it has no message open", wait_until(lambda: not any(QUEUE in name for name in open_files(pid).values())),
                open_files(pid))
    for command in ("MAIL FROM:<a@b>", "RCPT TO:<alice@mail.test>", "DATA"):
        client(command)
        TESTS.check("nothing is locked behind " + command, wait_until(lambda: not is_locked("alice")))
    client(b"Subject: 3\r\n\r\n.")
    TESTS.check("another recipient, another deliver", send_number(client, 0, "bob@mail.test") == "250" and
                len(postmen(client)) == 2 and pid in postmen(client), postmen(client))
    TESTS.check("nor his box", wait_until(lambda: not is_locked("bob")))
    kill(pid)
    TESTS.check("one that was killed while it waited", wait_until(lambda: is_gone(pid)) and send_number(client, 4) == "250" and
                numbers("alice") == [0, 1, 2, 3, 4], numbers("alice"))
    kill(keeper_of(client, 60001))
    answer = client.send("alice@mail.test", b"Subject: 5\r\n\r\nbody\r\n")
    TESTS.check("a keeper that was killed meanwhile", answer.startswith("250 2.0.0 Delivered") and
                numbers("alice") == [0, 1, 2, 3, 4, 5], (answer, numbers("alice")))
    at_work = postmen(client)
    TESTS.check("QUIT", client("QUIT").startswith("221 ") and client.close() == 0 and
                wait_until(lambda: all(is_gone(p) for p in at_work)), at_work)
    client = hello()
    send_number(client, 5)
    wait_until(lambda: len(children_of(client.process.pid)) == 3)
    at_work = [pid for pid, _ in children_of(client.process.pid)]
    client.process.kill()
    TESTS.check("a monitor that is killed leaves nobody", len(at_work) == 3 and wait_until(lambda: all(is_gone(p) for p in at_work)),
                at_work)
    client.close()


def test_keeper_killed_at_work():
    """A deliver that asks for the lock has nobody to answer: another one does it, and the client hears nothing of that."""
    clear()
    client = hello()
    send_number(client, 0)
    TESTS.check("nothing is locked behind a message", wait_until(lambda: not is_locked("alice")))
    keeper = keeper_of(client, 60001)
    os.kill(keeper, signal.SIGSTOP)
    client("RSET")
    client("MAIL FROM:<s@example.org>")
    client("RCPT TO:<alice@mail.test>")
    client("DATA")
    client.sock.sendall(b"Subject: 1\r\n\r\nbody\r\n.\r\n")
    is_waiting = wait_until(lambda: is_locked("alice"))  # by the kernel lock, behind which it asks the keeper
    kill(keeper)
    answer = client.reply()
    TESTS.check("a keeper that is killed when the lock is asked for", is_waiting and
                answer.startswith("250 2.0.0 Delivered") and numbers("alice") == [0, 1], (is_waiting, answer, numbers("alice")))
    client.close()


def test_killed_keepers_lock():
    """The lock that a killed keeper left is nobody's at once, whoever else of the connection has come and gone."""
    clear()
    client = hello()
    send_number(client, 0, "bob@mail.test")
    send_number(client, 0)
    keeper = keeper_of(client, 60001)
    deliver, = [pid for pid, _ in children_of(keeper)]
    write("/var/mail/bob", "this is no mbox\n", 60002, 0o660)
    TESTS.check("bob's deliver goes", send_number(client, 1, "bob@mail.test") == "451" and
                wait_until(lambda: postmen(client) == [deliver]), postmen(client))
    for pid in (keeper, deliver):
        kill(pid)
    TESTS.check("nobody takes her next letter", wait_until(lambda: is_gone(deliver)))
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        boot = f.read().strip()
    write("/var/mail/alice.lock", "0\npennypost %s %d %s\n" % (boot, keeper, os.uname().nodename), 60001)
    answer = send_number(client, 1)
    TESTS.check("the lock of a keeper that was killed", answer == "250" and numbers("alice") == [0, 1],
                (answer, numbers("alice")))
    client.close()


def test_postmen_world_changes():
    """What was true of a mailbox at one message is not believed at the next."""
    clear()
    client = hello()
    send_number(client, 0)
    os.rename("/var/mail/alice", "/var/mail/away")
    write("/var/mail/alice", "", 60001, 0o660)
    TESTS.check("another file in its place", send_number(client, 1) == "250" and numbers("alice") == [1], numbers("alice"))
    os.unlink("/var/mail/alice")
    TESTS.check("no file", send_number(client, 2) == "250" and numbers("alice") == [2], numbers("alice"))
    with open("/var/mail/alice", "ab") as f:
        f.write(b"From x@y Thu Jan  1 00:00:00 2015\nX-Pennypost: no\nSubject: 3\n\nforeign")
    TESTS.check("grown by another program", send_number(client, 4) == "250" and numbers("alice")[-1] == 4, mailbox("alice"))
    os.rename("/var/mail/alice", "/var/mail/away")
    write("/var/mail/alice", "this is no mbox\n", 60001, 0o660)
    TESTS.check("damaged", send_number(client, 5) == "451")
    os.rename("/var/mail/away", "/var/mail/alice")
    TESTS.check("mended", send_number(client, 6) == "250" and numbers("alice")[-2:] == [4, 6], mailbox("alice"))
    subprocess.run(["rm", "-rf", "/home/alice/.local"], check=True)
    TESTS.check("its state is lost", send_number(client, 7) == "250" and numbers("alice")[-1] == 7, mailbox("alice"))
    with open("/etc/passwd", encoding="utf-8") as f:
        passwd = f.read()
    for change, want in ((("alice:x:60001:", "alice:x:60021:"), "451"), (("alice:x:", "alicia:x:"), "550"), (("", ""), "250")):
        with open("/etc/passwd", "w", encoding="utf-8") as f:
            f.write(passwd.replace(*change))
        answer = send_number(client, 8)
        TESTS.check("the account is another one: %r" % (change,), answer == want, answer)
    TESTS.check("with what was acknowledged", numbers("alice")[-2:] == [7, 8], mailbox("alice"))
    client.close()


def test_postmen_many():
    """More places than there may be postmen."""
    clear()
    places = ["f%d" % n for n in range(15)]
    with open(ALIASES, "a", encoding="ascii") as f:
        f.write("".join("%s: %s/%s\n" % (p, OUT, p) for p in places))
    client = hello()
    for n in range(3):
        client("MAIL FROM:<s@example.org>")
        for place in places:
            client("RCPT TO:<%s@mail.test>" % place)
        client("DATA")
        answer = client(b"Subject: %d\r\n\r\nbody\r\n." % n)
        TESTS.check("message %d to 15 places" % n, answer.startswith("250 "), answer)
        TESTS.check("12 stay at most", 0 < len(postmen(client)) <= 12, postmen(client))
    TESTS.check("each has all three", all(re.findall("Subject: (.)", read_out(p)) == ["0", "1", "2"] for p in places),
                [read_out(p) for p in places])
    TESTS.check("who waits for ten seconds leaves", wait_until(lambda: not postmen(client)), postmen(client))
    TESTS.check("and others come", send_number(client, 3, "f1@mail.test") == "250" and
                re.findall("Subject: (.)", read_out("f1")) == ["0", "1", "2", "3"])
    client.close()


def test_room():
    """Before the data, wherever the mailbox is."""
    clear()
    client = hello("-o", "spool=/home/%u/inbox", "-o", "mailbox_size=2000")
    answer = client.send("alice@mail.test", b"Subject: x\r\n\r\n" + b"x" * 1000 + b"\r\n")
    TESTS.check("a mailbox in the home", answer.startswith("250 ") and b"Subject: x" in open("/home/alice/inbox", "rb").read(), answer)
    client("MAIL FROM:<a@b> SIZE=1500")
    answer = client("RCPT TO:<alice@mail.test>")
    TESTS.check("... has no room for what MAIL announces", answer.startswith("452 4.2.2 "), answer)
    client.close()
    os.unlink("/home/alice/inbox")


def test_full_disk_at_mail():
    """A sender who is not asked about at MAIL is refused with RCPT, and the next one is not."""
    clear()
    full = "/var/tmp/full"
    os.makedirs(full, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", full], check=True)
    client = hello("-o", "queue=" + full)
    TESTS.check("MAIL with SIZE on a full disk", client("MAIL FROM:<s@example.org> SIZE=1").startswith("452 4.3.1 "))
    TESTS.check("MAIL alone", client("MAIL FROM:<s@example.org>").startswith("250 "))
    answers = [client("RCPT TO:<%s@mail.test>" % user) for user in ("alice", "bob")]
    TESTS.check("... whose recipients hear of it", all(a.startswith("452 4.3.1 ") for a in answers), answers)
    TESTS.check("... so there is nothing to send", client("DATA").startswith("503 "))
    subprocess.run(["mount", "-o", "remount,size=16m", full], check=True)
    answer = client.send("alice@mail.test")
    TESTS.check("with room again", answer.startswith("250 ") and len(bodies("alice")) == 1, answer)
    client.close()
    subprocess.run(["umount", "-l", full], check=True)


def test_relay():
    clear()
    queue(clear_it=True)
    client = hello()
    answer = client.send("x@example.com")
    TESTS.check("loopback alone may not relay", answer.startswith("550 5.7.1 "), answer)
    client.close()
    client = hello("-o", "networks=127.0.0.0/8")
    answer = client.send("x@example.com")
    TESTS.check("networks may", answer.startswith("250 2.0.0 Queued, id "), answer)
    entry = "".join(queue())
    TESTS.check("the envelope names the peer", "\npeer 127.0.0.1\n" in entry and "\nto x@example.com\n" in entry, entry)
    (name,) = os.listdir(QUEUE + "/msg")
    facts = os.stat(QUEUE + "/msg/" + name)
    TESTS.check("the message is root's alone, and once", (facts.st_mode & 0o7777, facts.st_uid, facts.st_nlink) ==
                (0o600, 0, 1), facts)
    client.close()
    queue(clear_it=True)
    client = hello("-o", "networks=127.0.0.0/8", "-o", "networks_xclient=127.0.0.0/8")
    client("XCLIENT ADDR=192.0.2.1")
    client("EHLO far.example")
    answer = client.send("x@example.com")
    TESTS.check("not those for whom a trusted client speaks", answer.startswith("550 5.7.1 "), answer)
    client.close()
    os.rename(QUEUE, QUEUE + ".away")
    client = hello("-o", "networks=127.0.0.0/8")
    answer = client.send("x@example.com")
    TESTS.check("without a queue", answer.startswith("451 4.3.0 "), answer)
    answer = client.send("alice@mail.test")
    TESTS.check("local mail goes on without it", answer.startswith("250 "), answer)
    client.close()
    os.rename(QUEUE + ".away", QUEUE)


def test_partial():
    """A part that fails after others succeeded goes to the queue, and nobody has the message twice."""
    clear()
    queue(clear_it=True)
    write("/var/mail/bob", "this is no mbox\n", 60002, 0o660)
    client = hello()
    answer = client.send("bob@mail.test")
    TESTS.check("one recipient whose mailbox is damaged: the client keeps it", answer.startswith("451 ") and queue() == [], answer)
    client("RSET")
    client("MAIL FROM:<s@example.org>")
    for user in ("alice", "bob", "temp", "fail"):
        client("RCPT TO:<%s@mail.test>" % user)
    client("DATA")
    answer = client(b"Subject: part\r\n\r\n.")
    TESTS.check("others succeeded: it is ours", answer.startswith("250 2.0.0 Queued, id "), answer)
    (entry,) = queue(clear_it=True)
    want = ("to bob@mail.test\nto-kind mailbox\nto-user bob\nto-argument \nto-state deferred\n",
            "to temp@mail.test\nto-kind command\nto-user nobody\nto-argument exit 75\nto-state deferred\n",
            "to fail@mail.test\nto-kind command\nto-user nobody\nto-argument echo no good; exit 70\nto-state failed\n")
    TESTS.check("what failed for a while is queued, what failed for good is reported", all(w in entry for w in want) and
                "alice" not in entry, entry)
    TESTS.check("alice has it once", len(bodies("alice")) == 1)
    client.close()
    lmtp = Client("--lmtp")
    lmtp("LHLO x")
    lmtp("MAIL FROM:<s@example.org>")
    for user in ("alice", "bob", "fail"):
        lmtp("RCPT TO:<%s@mail.test>" % user)
    lmtp("DATA")
    answers = [lmtp(b"Subject: each\r\n\r\n."), lmtp.reply(), lmtp.reply()]
    TESTS.check("LMTP answers for each, and keeps nothing", [a[:3] for a in answers] == ["250", "451", "550"] and
                queue() == [], answers)
    lmtp.close()


class Terminal:
    """Somebody is logged in on a pseudo-terminal."""

    def __init__(self, user, uid):
        self.master, slave = pty.openpty()
        self.path = os.ttyname(slave)
        os.chown(self.path, uid, 5)
        os.chmod(self.path, 0o620)
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        self.slave = slave
        line = self.path[len("/dev/"):].encode()
        with open("/run/utmp", "wb") as f:  # struct utmp of glibc
            f.write(struct.pack("hi32s4s32s256shhiii4i20s", 7, os.getpid(), line, b"x", user.encode(), b"", 0, 0, 0, 0, 0, 0, 0,
                                0, 0, b""))

    def text(self, end=b""):
        """What it shows. The kernel brings it there some time after it was written: what is expected is waited for."""
        out = b""

        def has_more():
            nonlocal out
            try:
                out += os.read(self.master, 65536)
            except BlockingIOError:
                pass
            return out.endswith(end)
        wait_until(has_more)
        return out

    def close(self):
        os.close(self.master)
        os.close(self.slave)
        os.unlink("/run/utmp")


TEA = b"kettle ?[2J is \xc3\xbc? on\r\n"


def note(client, verb, recipient="alice"):
    """Sends a note; the last answer."""
    client("RSET")
    answer = client(verb + " FROM:<s@example.org>")
    answer = client("RCPT TO:<%s@mail.test>" % recipient) if answer[0] == "2" else answer
    if answer[0] != "2":
        return answer
    client("DATA")
    return client(b"Subject: tea\r\nX: y\r\n\r\nkettle \x1b[2J is \xc3\xbc\xc2\x9b on\r\n.")


def test_terminal():
    clear()
    client = hello()
    TESTS.check("SEND is not done by default", all(note(client, v).startswith("502 ") for v in ("SEND", "SOML", "SAML")))
    client.close()
    client = hello("-o", "send_to_terminal=yes")
    TESTS.check("SEND to who is not logged in", note(client, "SEND").startswith("450 4.2.1 "))
    TESTS.check("SOML to who is not logged in is mail", note(client, "SOML").startswith("250 ") and len(bodies("alice")) == 1)
    TESTS.check("SAML too", note(client, "SAML").startswith("250 ") and len(bodies("alice")) == 2)
    terminal = Terminal("alice", 60001)
    TESTS.check("SEND", note(client, "SEND").startswith("250 ") and len(bodies("alice")) == 2)
    text = terminal.text(TEA)
    TESTS.check("the terminal shows who and what, and no control characters", b"Message from s@example.org\r\n" in text and
                b"Subject: tea\r\n" in text and text.endswith(TEA) and b"X: y" not in text and
                text.count(b"\a") == 1, text)
    TESTS.check("SOML to who is logged in is no mail", note(client, "SOML").startswith("250 ") and len(bodies("alice")) == 2 and
                b"kettle" in terminal.text(TEA))
    TESTS.check("SAML is both", note(client, "SAML").startswith("250 ") and len(bodies("alice")) == 3 and
                b"kettle" in terminal.text(TEA))
    TESTS.check("SEND to somebody else", note(client, "SEND", "bob").startswith("450 "))
    os.chmod(terminal.path, 0o600)
    TESTS.check("mesg n", note(client, "SEND").startswith("450 ") and terminal.text() == b"")
    os.chmod(terminal.path, 0o620)
    os.chown(terminal.path, 60002, 5)
    TESTS.check("a terminal that is not the user's", note(client, "SEND").startswith("450 ") and terminal.text() == b"")
    client("RSET")
    TESTS.check("SEND within a transaction", client("MAIL FROM:<a@example.org>")[0] == "2" and
                client("SEND FROM:<a@example.org>").startswith("503 "))
    terminal.close()
    client.close()


def test_lmtp_socket():
    """As Postfix and Exim deliver: over a unix socket, as a user of their own."""
    clear()
    client = Client("--lmtp", is_unix=True)
    client("LHLO postfix.example")
    client("MAIL FROM:<s@example.org>")
    client("RCPT TO:<alice@mail.test>")
    client("RCPT TO:<bob@mail.test>")
    TESTS.check("LMTP does not relay", client("RCPT TO:<x@example.com>").startswith("550 5.7.1 "))
    client("DATA")
    answers = [client(b"Subject: lmtp\r\n\r\n."), client.reply()]
    TESTS.check("LMTP on a unix socket", all(a.startswith("250 2.1.5 ") for a in answers) and len(bodies("alice")) == 1 and
                len(bodies("bob")) == 1, answers)
    TESTS.check("its trace", re.search(rb"Received: from postfix.example\n\tby mail.test \(Pennypost\) with LMTP\n", mailbox("bob")),
                mailbox("bob"))
    client.close()


def test_lmtp_socket_is_for_servers():
    """A user of the machine does not get around the mail server in front of us; whom the admin trusts may."""
    for uid, options, code in ((60001, (), "421 4.7.0 "), (65534, (), "421 4.7.0 "), (999, (), "220 "), (0, (), "220 "),
                               (60001, ("-o", "trusted_users=alice"), "220 ")):
        client = Client("--lmtp", *options, greeting=False, is_unix=True, uid=uid)
        answer = client.reply()
        TESTS.check("LMTP on a unix socket for uid %d%s" % (uid, " ".join(("",) + options)), answer.startswith(code), answer)
        client.close()


def transaction(client, *recipients, sender="<s@example.org>"):
    """The answers to MAIL and RCPT."""
    return [client("MAIL FROM:" + sender)] + [client("RCPT TO:<%s@mail.test>" % r) for r in recipients]


def data(client, message=b"Subject: x\r\n\r\nbody\r\n", replies=1):
    """What the last of the recipients is told."""
    answer = client("DATA")
    if not answer.startswith("354 "):
        return answer
    client.sock.sendall(message + b".\r\n")
    return [client.reply() for _ in range(replies)][-1]


def session(*arguments):
    client = Client(*arguments)
    client("LHLO client.example" if "--lmtp" in arguments else "EHLO client.example")
    return client


class Away:
    """Alice has no account meanwhile."""

    def __enter__(self):
        with open("/etc/passwd", encoding="utf-8") as f:
            self.passwd = f.read()
        self.put(self.passwd.replace("alice:x:", "alicia:x:"))

    def __exit__(self, *_):
        self.put(self.passwd)

    @staticmethod
    def put(text):
        with open("/etc/passwd.new", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename("/etc/passwd.new", "/etc/passwd")


def test_promised():
    """A recipient who was fine a moment ago is answered without asking: what is against him since comes with the data."""
    for arguments in ((), ("--lmtp",)):
        promised_and_kept(*arguments)
        promised_and_lost(*arguments)
    not_promised()


def promised_and_kept(*arguments):
    clear()
    what = " ".join(("promised",) + arguments)
    client = session(*arguments)
    text = [b"Subject: %d\r\n\r\n%s\r\n" % (n, b"x" * (n * 30000)) for n in range(4)]
    for n, message in enumerate(text):  # from one frame to a file
        TESTS.check("%s: %d" % (what, n), transaction(client, "alice")[1] == "250 2.1.5 Recipient ok" and
                    data(client, message).startswith("250 "))
    for size in range(64400, 64700, 20):  # and what is just too long to go with its envelope
        transaction(client, "alice")
        answer = data(client, b"Subject: 4\r\n\r\n" + (b"x" * 98 + b"\r\n") * (size // 100) + b"x" * (size % 100) + b"\r\n")
        if not answer.startswith("250 "):
            TESTS.check("%s: %d octets" % (what, size), False, answer)
    TESTS.check("%s: all are there" % what, [b[9:10] for b in bodies("alice")] == [b"0", b"1", b"2", b"3"] + [b"4"] * 15 and
                bodies("alice")[:4] == [same(t) for t in text], len(bodies("alice")))
    transaction(client, "alice")
    TESTS.check("%s: RSET" % what, client("RSET").startswith("250 ") and client("DATA").startswith("503 "))
    transaction(client, "alice")
    client("LHLO again.example" if arguments else "EHLO again.example")
    TESTS.check("%s: a second hello" % what, client("DATA").startswith("503 "))
    transaction(client, "alice")
    for chunk in (b"BDAT 14\r\nSubject: b\r\n\r\n", b"BDAT 70000\r\n" + (b"x" * 98 + b"\r\n") * 700, b"BDAT 0 LAST\r\n"):
        client.sock.sendall(chunk)
        answer = client.reply()
    TESTS.check("%s: BDAT" % what, answer.startswith("250 ") and len(bodies("alice")[-1]) > 69000, answer)
    transaction(client, "alice", "bob", "nobody-here")
    answer = data(client, replies=2 if arguments else 1)
    TESTS.check("%s: with another one" % what, answer.startswith("250 ") and len(bodies("bob")) == 1 and
                len(bodies("alice")) == 21, answer)
    transaction(client, "alice")
    client("DATA")
    client.sock.sendall(b"Subject: lost\r\n\r\nhalf of")
    client.close()
    TESTS.check("%s: who breaks off has sent nothing" % what, len(bodies("alice")) == 21)


def promised_and_lost(*arguments):
    clear()
    what = " ".join(("broken promise",) + arguments)
    for then in ("data", "larger", "second", "second larger"):
        client = session(*arguments)
        transaction(client, "alice")
        data(client)
        with Away():
            answers = transaction(client, "alice")
            TESTS.check("%s, %s: RCPT" % (what, then), answers[1].startswith("250 "), answers)
            if then.startswith("second"):
                answers = [client("RCPT TO:<%s@mail.test>" % user) for user in ("bob", "alice") * 20]
                TESTS.check("%s, %s: only this one" % (what, then), all(a.startswith("452 4.5.3 ") for a in answers), answers)
            answer = data(client, b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * (2000 if then.endswith("larger") else 1))
            TESTS.check("%s, %s: DATA" % (what, then), answer.startswith("550 5.1.1 "), answer)
            for _ in range(2):  # and it is not forgotten for another one
                answers = transaction(client, "alice", "bob")
                TESTS.check("%s, %s: the next transaction" % (what, then), answers[1].startswith("550 5.1.1 ") and
                            answers[2].startswith("250 ") and data(client).startswith("250 "), answers)
        client.close()
    TESTS.check("%s: nothing came of it" % what, (len(bodies("alice")), len(bodies("bob"))) == (4, 8))


def not_promised():
    """Time has passed, somebody else has had mail meanwhile, there is more to ask, or a policy."""
    clear()
    for what, pause in (("in time", 0), ("late", 5.2)):
        client = session()
        transaction(client, "alice")
        data(client)
        with Away():
            if pause:
                time.sleep(pause)
            answers = transaction(client, "alice")
            TESTS.check("%s: is RCPT asked about?" % what, answers[1].startswith("550 " if pause else "250 "), answers)
        client.close()
    for what, arguments, between, ask in (
            ("SIZE", (), ("<s@example.org> SIZE=100", "bob"), "RCPT TO:<alice@mail.test>"),
            ("another first", (), ("<s@example.org>", "bob"), "RCPT TO:<alice@mail.test>"),
            ("NOTIFY", (), None, "RCPT TO:<alice@mail.test> NOTIFY=NEVER"),
            ("ORCPT", (), None, "RCPT TO:<alice@mail.test> ORCPT=rfc822;a@b"),
            ("a policy", ("-o", "helo_checks=fqdn"), None, "RCPT TO:<alice@mail.test>")):
        client = session(*arguments)
        transaction(client, "alice")
        data(client)
        if between:
            transaction(client, between[1], sender=between[0])
            data(client)
        with Away():
            client("MAIL FROM:<s@example.org>")
            answer = client(ask)
            TESTS.check("not promised: %s" % what, answer.startswith("550 "), answer)
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


def proxied(header, *arguments):
    """A connection on which the first thing said is a PROXY header."""
    client = Client(*arguments, greeting=False)
    client.sock.sendall(header)
    client.reply()
    return client


RELAY = ("-o", "networks=198.51.100.0/24")
PROXY = ("-o", "networks_proxy=127.0.0.0/8")


def may_relay(client):
    client("EHLO far.example")
    client("MAIL FROM:<s@example.org>")
    return client("RCPT TO:<victim@example.com>")[:3] == "250"


def test_spoofing():
    """Who says that he is somebody else."""
    header = b"PROXY TCP4 198.51.100.1 198.51.100.2 4000 25\r\n"
    binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([198, 51, 100, 1, 198, 51, 100, 2, 1, 1, 0, 25])
    for name, first in (("v1", header), ("v2", binary)):
        client = proxied(first, *PROXY, *RELAY)
        TESTS.check("PROXY %s of a trusted proxy counts" % name, may_relay(client))
        client.close()
        client = Client(*RELAY)
        client.sock.sendall(first)
        TESTS.check("PROXY %s of anybody else is no command" % name, client.reply().startswith("5") and not may_relay(client))
        client.close()
        client = proxied(b"PROXY TCP4 192.0.2.9 198.51.100.2 4000 25\r\n", *PROXY, *RELAY)
        client.sock.sendall(first)
        TESTS.check("a second PROXY %s is the client's own word" % name, client.reply().startswith("5") and not may_relay(client))
        client.close()
    client = proxied(b"PROXY TCP4 127.0.0.1 127.0.0.1 4000 25\r\n", *PROXY, *RELAY)
    client("EHLO far.example")
    TESTS.check("loopback is what the kernel says, not a proxy", client("VRFY alice").startswith("252 "))
    client.close()
    both = (*PROXY, *RELAY, "-o", "networks_xclient=127.0.0.0/8")
    client = proxied(b"PROXY TCP4 192.0.2.9 198.51.100.2 4000 25\r\n", *both)
    client.sock.sendall(b"EHLO far.example\r\n")
    offers = [client.file.readline()]
    while offers[-1][3:4] == b"-":
        offers.append(client.file.readline())
    TESTS.check("who comes through a trusted proxy is not the proxy", not any(b"XCLIENT" in line for line in offers), offers)
    answer = client("XCLIENT ADDR=198.51.100.1")
    TESTS.check("... and XCLIENT of his is not believed", answer.startswith("550 ") and not may_relay(client), answer)
    client.close()
    client = Client(*both[2:])
    for line in ("XCLIENT ADDR=198.51.100.1+0D+0AX:y", "XCLIENT ADDR=198.51.100.1%lo", "XCLIENT ADDR=198.51.100.1%+0D+0AX-Evil:+20y", "XCLIENT ADDR=198.51.100.1 NAME=a+0Ab",
                 "XCLIENT ADDR=", "XCLIENT NAME=a", "XCLIENT ADDR=198.51.100.1 LOGIN=root", "XCLIENT ADDR=198.51.100.1 PORT=65536",
                 "XCLIENT ADDR=" + "1" * 300):
        client("EHLO far.example")
        TESTS.check(line[:60], client(line).startswith("501 "))
    TESTS.check("none of them changed who it is", not may_relay(client))
    TESTS.check("XCLIENT within a transaction", client("XCLIENT ADDR=198.51.100.1").startswith("503 "))
    client("RSET")
    TESTS.check("once", client("XCLIENT ADDR=192.0.2.9").startswith("220 ") and
                client("XCLIENT ADDR=198.51.100.1").startswith("550 ") and not may_relay(client))
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
    for line in ("A" * 20000, "AUTH PLAIN " + "A" * 20000):
        if line[1] == "A":
            client.docmd("AUTH PLAIN")
        answer = client.docmd(line)
        TESTS.check("a response of 20000 octets: 500", code(answer) == 500, answer)
        TESTS.check("... 5.5.6 in the exchange", line[1] != "A" or answer[1].startswith(b"5.5.6 "), answer)
    TESTS.check("login", code(client.login("alice", "wonderland")) == 235)
    TESTS.check("login twice", code(client.docmd("AUTH PLAIN")) == 503)
    for sender, want in (("alice@mail.test", 250), ("alice+x@localhost", 250), ("", 250), ("bob@mail.test", 553),
                         ("alice@example.com", 553), ("list@mail.test", 250)):
        TESTS.check("alice sends as <%s>" % sender, code(client.docmd("MAIL FROM:<%s>" % sender)) == want)
        client.docmd("RSET")
    client.docmd("MAIL FROM:<alice@mail.test>")
    TESTS.check("alice may relay", code(client.docmd("RCPT TO:<friend@example.com>")) == 250)
    client.docmd("RSET")
    client.docmd("MAIL FROM:<mallory@example.com>")
    TESTS.check("but only as herself", code(client.docmd("RCPT TO:<friend@example.com>")) == 503)
    client.docmd("RSET")
    client.sendmail("alice@mail.test", ["bob@mail.test"], "Subject: without\n\nbody\n")
    text = mailbox("bob")
    TESTS.check("From, Date and Message-ID are added inside the header",
                re.search(rb"\nSubject: without\nFrom: <alice@mail\.test>\nDate: [^\n]+\nMessage-ID: <[^\n]+@mail\.test>\n\n"
                          rb"body\n", text), text)
    TESTS.check("the trace says ESMTPSA and the cipher", b" with ESMTPSA\n" in text and b"\ttls TLS_" in text, text)
    client.quit()
    TESTS.check("ends well", client.raw.close() == 0)
    client = submission("-o", "plaintext_auth=no")
    client.ehlo()
    client.sock.sendall(b"STARTTLS\r\nNOOP\r\n")
    TESTS.check("data behind STARTTLS is cut off", code(client.getreply()) == 554)
    client.raw.close()
    client = submission("-o", "plaintext_auth=local")
    client.ehlo()
    TESTS.check("login in the clear on this machine", code(client.login("alice", "wonderland")) == 235)
    client.ehlo()
    TESTS.check("no STARTTLS behind a login", "starttls" not in client.esmtp_features and code(client.docmd("STARTTLS")) == 503,
                client.esmtp_features)
    TESTS.check("... and the connection goes on", code(client.docmd("MAIL FROM:<alice@mail.test>")) == 250)
    client.quit()
    client.raw.close()


def test_submission_from():
    """RFC 6409 8.1, RFC 5322 3.6.2: who a message says it is from."""
    own, added, refused = "250", "250 Sender", "550"
    client = submission("-o", "plaintext_auth=local")
    client.login("alice", "wonderland")
    for header, want in (("From: alice@mail.test", own), ("From: Alice <ALICE+x@LOCALHOST> (me)", own), ("From: alice", own),
                         ("From: =?utf-8?q?A?=\n <alice\n @mail.test>", own), ("From: x: boss@example.org, alice@mail.test;", own),
                         ("From: boss@example.org", added), ("From: bob@mail.test", added), ("From: \"alice@mail.test\" <b@c.d>", added),
                         ("From: b@c.d (alice@mail.test)", added), ("From: boss@example.org\nSender: alice@mail.test", own),
                         ("Sender: alice@localhost\nFrom: boss@example.org", own), ("From: b@c.d\nSender: bob@mail.test", refused),
                         ("From: alice@mail.test\nSender: bob@mail.test", own), ("From: alice@mail.test\nFrom: b@c.d", refused),
                         ("From: b@c.d\nSender: alice@mail.test\nSender: b@c.d", refused), ("From:", refused),
                         ("From: nobody:;", refused), ("From: " + "x@y.z, " * 3000 + "a@b", added),
                         ("From: b@c.d\nno field", refused), ("From: alice@mail.test\nDate: x\nMessage-ID: <y>\nno field", own)):
        clear()
        client.docmd("MAIL FROM:<alice@mail.test>")
        client.docmd("RCPT TO:<bob@mail.test>")
        client.docmd("DATA")
        client.send(header.replace("\n", "\r\n") + "\r\n\r\nbody\r\n.\r\n")
        answer = client.getreply()
        has_sender = b"\nSender: <alice@mail.test>\n" in mailbox("bob")
        got = str(answer[0]) + (" Sender" if has_sender else "")
        TESTS.check("alice submits %r" % header[:60], got == want, (answer, mailbox("bob")))
    client.quit()
    client.raw.close()
    client = submission("-o", "plaintext_auth=local", "-o", "submission_senders=any")
    client.login("alice", "wonderland")
    clear()
    client.sendmail("boss@example.org", ["bob@mail.test"], "From: boss@example.org\n\nbody\n")
    TESTS.check("where any sender will do, so does any author", b"Sender:" not in mailbox("bob"), mailbox("bob"))
    client.quit()
    client.raw.close()


def test_xclient_is_a_new_client():
    """What is offered and what is permitted are the real client's, not the proxy's that spoke for it."""
    client = submission("-o", "plaintext_auth=local", "-o", "networks_xclient=127.0.0.1")
    client.ehlo()
    TESTS.check("the proxy itself may log in in the clear", "PLAIN" in client.esmtp_features.get("auth", "").split() and
                "xclient" in client.esmtp_features, client.esmtp_features)
    TESTS.check("XCLIENT", code(client.docmd("XCLIENT ADDR=192.0.2.9")) == 220)
    client.ehlo()
    TESTS.check("its client may not, and is not asked to", "PLAIN" not in client.esmtp_features.get("auth", "").split(),
                client.esmtp_features)
    TESTS.check("no AUTH in the clear behind XCLIENT", code(client.docmd("AUTH PLAIN")) in (504, 538, 503))
    client.starttls(context=ssl.create_default_context(cafile=CERTIFICATE))
    client.ehlo()
    TESTS.check("XCLIENT is not offered again after STARTTLS", "xclient" not in client.esmtp_features, client.esmtp_features)
    TESTS.check("and not taken", code(client.docmd("XCLIENT ADDR=192.0.2.10")) == 550)
    TESTS.check("AUTH within TLS behind XCLIENT", "PLAIN" in client.esmtp_features.get("auth", "").split() and
                client.login("alice", "wonderland")[0] == 235)
    client.quit()


def test_breaking():
    clear()
    script = (b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<bob@mail.test>\r\nDATA\r\nSubject: x\r\n\r\nhi\r\n.\r\n")
    statuses = set()
    for end in list(range(0, len(script), 4)) + [len(script)]:
        client = Client()
        client.sock.sendall(script[:end])
        statuses.add(client.close())
    wait_until(lambda: bodies("bob"))
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
    for pid in (*map(int, children.stdout.split()), client.process.pid):
        kill(pid, signal.SIGTERM)
    answer = client.reply()
    TESTS.check("a service that stops says 421", answer.startswith("421 4.3.2 ") and client.close() == 0, answer)


def main():
    world()
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            TESTS.attempt(test)
    print("%d passed, %d failed" % (TESTS.passed, TESTS.failed))
    return TESTS.failed > 0


if __name__ == "__main__":
    sys.exit(main())
