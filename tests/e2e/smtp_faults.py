#!/usr/bin/env python3
"""Full disks and kill -9 at every system call of a message on its way in.

    box smtp_faults.py BUILD_DIR/handlers/smtp/smtp

strace makes the n-th call of each process fail, or kills the process there. Whatever happens: if the client saw 250 the
message is in the mailbox or in the queue, once and whole; if it did not, no part of it is anywhere, at most the whole
(killed between the disk and the reply). A second message on the same connection finds the processes that took the first.
Closes with "N passed, N failed".
"""
import collections
import os
import re
import socket
import subprocess
import sys

from world import Tests, wait_until

SMTP = os.path.abspath(sys.argv[1])
PENNYPOST = os.path.join(os.path.dirname(SMTP), "../admin/pennypost")
RELAY = os.path.join(os.path.dirname(SMTP), "../relay/relay")
QUEUE, OUT = "/var/spool/pennypost", "/var/tmp/out"
TESTS = Tests()
LINES = [4000]  # of the message: more than is kept in memory
WRITES = "write,pwrite64,fsync,fdatasync,linkat,link,renameat,rename,renameat2,unlinkat,unlink,ftruncate,sendmsg"
CREATES = WRITES.replace(",sendmsg", "") + ",openat"
MOST = 150  # calls of one process; fewer are made


def body():
    return b"".join(b"line %05d of a message that takes a few writes\r\n" % n for n in range(LINES[0]))


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return b""


def clear():
    for folder in ("/var/mail", OUT, QUEUE + "/new", QUEUE + "/cur", QUEUE + "/msg", "/var/lib/pennypost/locks"):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            try:
                os.unlink(os.path.join(folder, name))
            except FileNotFoundError:  # a lock that was let go just then
                pass


class Outcome:
    """What a session with a message for each subject led to."""

    def __init__(self, inject, recipients, is_binary=False, subjects=("one",)):
        clear()
        self.is_binary = is_binary
        self.codes = {subject: "" for subject in subjects}
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            self.sock = socket.create_connection(listener.getsockname(), 60)
            served, _ = listener.accept()
        argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + inject.split(":")[0], "-e", "inject=" + inject] if inject else []
        with served:
            process = subprocess.Popen([*argv, SMTP, "-o", "hostname=mail.test", "-o", "networks=127.0.0.0/8"], stdin=served,
                                       stdout=served, stderr=subprocess.DEVNULL)
        self.sock.settimeout(120)
        self.file = self.sock.makefile("rb")
        try:
            self.reply()
            for subject in subjects:
                self.codes[subject] = self.talk(subject, recipients)
        except OSError:
            pass
        self.file.close()
        self.sock.close()
        process.wait(300)
        subprocess.run([PENNYPOST, "recover"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def reply(self):
        while True:
            line = self.file.readline()
            if not line:
                raise ConnectionError
            if line[3:4] != b"-":
                return line.decode("latin-1")

    def talk(self, subject, recipients):
        message = b"Subject: %s\r\n\r\n" % subject.encode() + body()
        commands = ["EHLO x", "MAIL FROM:<s@example.org>" + " BODY=BINARYMIME" * self.is_binary]
        for command in (*commands, *("RCPT TO:<%s>" % r for r in recipients), *["DATA"] * (not self.is_binary)):
            self.sock.sendall(command.encode() + b"\r\n")
            answer = self.reply()
            if answer[0] not in "23":
                return answer[:3]
        self.sock.sendall(b"BDAT %d LAST\r\n" % len(message) + message if self.is_binary else message + b".\r\n")
        return self.reply()[:3]


def in_boxes(subjects):
    """({subject: whole copies}, bytes of anything else)"""
    text = read("/var/mail/alice") + read(OUT + "/box")
    want = body().replace(b"\r\n", b"\n")
    whole = {}
    for subject in subjects:
        message = b"Subject: %s\n\n" % subject.encode() + want
        whole[subject] = text.count(message)
        text = re.sub(rb"(?s)From s@example.org(?:(?!\nFrom ).)*?\n" + re.escape(message) + rb"\n?", b"", text)
    return whole, len(text)


def in_queue():
    """(entries, entries whose message is not whole)"""
    names = [n for d in ("new", "cur") for n in (os.listdir(QUEUE + "/" + d) if os.path.isdir(QUEUE + "/" + d) else [])]
    want = body().replace(b"\r\n", b"\n")
    return len(names), sum(not read(QUEUE + "/msg/" + n).endswith(b"\n\n" + want) for n in names)


def judge(outcome, has_local, has_remote):
    """Why the outcome is wrong, or ''."""
    whole, rest = in_boxes(outcome.codes)
    entries, broken = in_queue()
    left = lambda: [n for n in os.listdir("/var/mail") if n.startswith(".")]
    if not wait_until(lambda: not left()):
        return "files of locks are left: %s" % left()
    if rest or broken:
        return "a part of the message is there (%d bytes, %d entries)" % (rest, broken)
    if max(whole.values()) > 1 or entries > len(whole):
        return "it is there more than once"
    for subject, code in outcome.codes.items():
        if code == "250":
            queued_local = any(b"to-user " in read(QUEUE + "/new/" + n) for n in os.listdir(QUEUE + "/new"))
            if has_remote and not entries:
                return "250, and it is not in the queue"
            if has_local and whole[subject] + queued_local != 1:
                return "250, and it is %d times in the mailbox, queued %s" % (whole[subject], queued_local)
        elif code[:1] == "5":
            return "a full disk is no permanent failure: " + code
    return ""


def every_call(name, calls, fault, recipients, is_binary=False, subjects=("one",)):
    has_local = any("alice" in r or "file" in r for r in recipients)
    has_remote = any("example" in r for r in recipients)
    codes = collections.Counter()
    for n in range(1, MOST + 1):
        outcome = Outcome("%s:%s:when=%d" % (calls, fault, n), recipients, is_binary, subjects)
        codes[" ".join(outcome.codes.values())] += 1
        wrong = judge(outcome, has_local, has_remote)
        if wrong:
            TESTS.check("%s, call %d" % (name, n), False, wrong)
        if n > 20 and set(outcome.codes.values()) == {"250"}:
            break
    good = " ".join(["250"] * len(subjects))
    TESTS.check("%s: every outcome is right, and both ends are seen %s" % (name, dict(codes)),
                codes[good] > 0 and sum(codes.values()) > codes[good])


def kill_and_fill(name, recipients, is_binary=False, subjects=("one",)):
    TESTS.attempt(every_call, "kill -9, " + name, WRITES, "signal=SIGKILL", recipients, is_binary, subjects)
    TESTS.attempt(every_call, "disk full, " + name, CREATES, "error=ENOSPC", recipients, is_binary, subjects)


def every_deliver_dies(recipient):
    """Nobody knows whether the mailbox has it: the message is ours, and who tries again looks first."""
    outcome = Outcome("fdatasync:signal=SIGKILL", [recipient])
    TESTS.check("to %s, whose delivers all die: it is queued" % recipient, outcome.codes == {"one": "250"} and
                in_queue() == (1, 0), (outcome.codes, in_queue()))
    subprocess.run([RELAY, "-o", "hostname=mail.test"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    TESTS.check("and there once in the end", in_boxes(outcome.codes) == ({"one": 1}, 0) and in_queue() == (0, 0),
                (in_boxes(outcome.codes), in_queue()))


def main():
    for folder in ("/etc/pennypost", QUEUE, "/var/lib/pennypost/locks"):
        os.makedirs(folder, exist_ok=True)
    os.makedirs(OUT)
    os.chmod(OUT, 0o1777)
    with open("/etc/aliases", "w", encoding="ascii") as f:
        f.write("file: %s/box\n" % OUT)
    plain = Outcome("", ["alice@mail.test", "x@example.com"])
    TESTS.check("without a fault", plain.codes == {"one": "250"} and judge(plain, True, True) == "", plain.codes)
    plain = Outcome("", ["alice@mail.test"], subjects=("one", "two"))
    TESTS.check("two without a fault", plain.codes == {"one": "250", "two": "250"} and judge(plain, True, False) == "",
                plain.codes)
    for name, recipients in (("to a mailbox", ["alice@mail.test"]), ("to the queue", ["x@example.com"]),
                             ("to both", ["alice@mail.test", "x@example.com"]), ("to a file", ["file@mail.test"])):
        kill_and_fill(name, recipients)
    kill_and_fill("two messages", ["alice@mail.test"], subjects=("one", "two"))
    LINES[0] = 20  # a small one never comes to the queue's disk, unless it must
    for name, recipients in (("a small one to a mailbox", ["alice@mail.test"]),
                             ("a small one to both", ["alice@mail.test", "x@example.com"])):
        kill_and_fill(name, recipients)
    LINES[0] = 4000
    TESTS.attempt(every_deliver_dies, "alice@mail.test")
    TESTS.attempt(every_deliver_dies, "file@mail.test")
    # Put into lines first, by a process of its own.
    kill_and_fill("binary", ["alice@mail.test", "x@example.com"], is_binary=True)
    print("%d passed, %d failed" % (TESTS.passed, TESTS.failed))
    return TESTS.failed > 0


if __name__ == "__main__":
    sys.exit(main())
