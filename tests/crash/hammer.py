#!/usr/bin/env python3
"""Everybody at once on one spool: store clients that change flags, expunge and append, procmail, dotlockfile scripts, mutt;
and, where the programs are built, IMAP and POP3 sessions. Afterwards every message that was delivered and not
deliberately deleted is there once, byte for byte, and acknowledged flags are set. The checker trusts only the id and
the checksum inside each message.

  hammer.py [--quick] [--seconds N] BUILD_DIR"""

import argparse
import os
import pty
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashlib
from sessions import Imap, Pop3, Vanished

ATTEMPTS = 16
TEMPORARY = ("EAGAIN", "ESTALE", "EBUSY")
MUST_HIT = ("flags", "expunges", "appends")
PATIENCE = 300  # seconds more, until a busy machine has come to each of them


class Book:
    """What was promised, by whom. One lock, since the actors are threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent, self.delivered, self.doomed, self.gone, self.flags = {}, set(), set(), set(), {}
        self.counts, self.trouble, self.serial = {}, [], 0

    def new(self, who, size):
        with self.lock:
            self.serial += 1
            ident = "%s.%d" % (who, self.serial)
            # What others append ends where it ends. If it were all of few lengths, the file would often be as long again as a
            # mutt remembers it from before an expunge, and nobody could prevent that; in real mail it is as rare as here.
            is_ours = who not in ("procmail", "script")
            fill = b"" if is_ours else b"X-Fill: %s\n" % (b"x" * random.randrange(900))
            text = crashlib.message(ident, size, extra=fill, odd=is_ours)
            self.sent[ident] = text
        return ident, text

    def add(self, name, ident):
        with self.lock:
            getattr(self, name).add(ident)

    def flag(self, ident, flag):
        with self.lock:
            self.flags.setdefault(ident, set()).add(flag)

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def complain(self, text):
        with self.lock:
            self.trouble.append(text)


class Client:
    """A long-lived `work -` on a pipe."""

    def __init__(self, hammer, options=()):
        self.book = hammer.book
        self.process = subprocess.Popen(hammer.work.argv(["-"], ("-t", "60", *options)), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **hammer.work.as_user)

    def ask(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        out = self.process.stdout.readline().decode()
        if not out:
            raise EOFError("work ended with status %r at %s" % (self.process.wait(), line))
        return out.split()

    def dump(self):
        """[(uid, flags, ident)], or None."""
        self.process.stdin.write(b"dump\n")
        self.process.stdin.flush()
        out = []
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise EOFError("work ended with status %r at dump" % self.process.wait())
            words = line.split()
            if words[0] == b"ERR":
                return None
            if words[0] == b"ACK":
                return out
            if words[0] == b"MSG":
                text = self.process.stdout.read(int(words[4]))
                rest = self.process.stdout.readline()
                if rest.startswith(b"ERR"):
                    return None
                if rest != b"\n" or not crashlib.is_whole(text):
                    self.book.complain("a client read a message that is not whole: %r" % text[:200])
                out.append((int(words[1]), words[2].decode(), crashlib.ident_of(text)))

    def end(self):
        self.process.stdin.close()
        if self.process.wait(300) != 0:
            self.book.complain("a client ended with status %d" % self.process.returncode)


class Hammer:
    def __init__(self, build, folder, seconds):
        self.work = crashlib.Work(build, os.path.join(folder, "root"), demote=True)
        self.work.fresh()
        self.folder, self.build = folder, build
        self.book, self.until = Book(), time.monotonic() + seconds
        self.threads, self.is_void = [], False

    def running(self):
        late = time.monotonic() - self.until
        return late < 0 or (late < PATIENCE and not all(self.book.counts.get(what, 0) for what in MUST_HIT))

    def is_adding(self):
        """Behind its time nobody makes the mailbox larger, for whom all the others would become slower and slower."""
        return time.monotonic() < self.until or (self.running() and not self.book.counts.get("appends", 0))

    def start(self, function, *args):
        def run():
            try:
                function(*args)
            except Exception: # any failure of an actor is a failure of the test
                self.book.complain("%s: %s" % (function.__name__, traceback.format_exc(limit=3)))
        self.threads.append(threading.Thread(target=run))

    # ---- the store's own ----

    def view(self, client):
        """Opens or polls; the messages, or None when it has to try again."""
        words = client.ask("poll")
        if words[0] == "ERR" and words[2] == "EBADF":
            words = client.ask("open INBOX")
        elif words[0] == "ERR" and words[2] == "ESTALE":
            client.ask("close")
            return None
        if words[0] == "ERR":
            if words[2] not in TEMPORARY:
                self.book.complain("open or poll: %s" % " ".join(words))
            return None
        return client.dump()

    def flagger(self, number):
        rng, client, flag = random.Random(number), Client(self), "kw%d" % number
        while self.running():
            messages = self.view(client)
            if messages:
                for uid, _, ident in rng.sample(messages, min(5, len(messages))):
                    words = client.ask("flags %d +%s:%s" % (uid, "F" if number % 2 else "", flag))
                    if words[0] == "ACK":
                        self.book.flag(ident, flag)
                        self.book.count("flags")
                    elif words[2] not in TEMPORARY:
                        self.book.complain("flags: %s" % " ".join(words))
            if rng.random() < 0.2:
                client.ask(rng.choice(("flush", "close")))
            time.sleep(rng.random() * 0.05)
        client.end()

    def expunger(self, number):
        rng, client = random.Random(number), Client(self)
        while self.running():
            messages = self.view(client)
            if messages and len(messages) > 20:
                chosen = rng.sample(messages, rng.choice((1, 2, 5)))
                if rng.random() < 0.3:
                    chosen.append(messages[0])
                chosen = sorted(set(chosen))
                for _, _, ident in chosen:
                    self.book.add("doomed", ident)
                words = client.ask("remove %s" % ",".join(str(c[0]) for c in chosen))
                if words[0] == "ACK":
                    for _, _, ident in chosen:
                        self.book.add("gone", ident)
                    self.book.count("expunges")
                elif words[2] not in TEMPORARY:
                    self.book.complain("remove: %s" % " ".join(words))
            time.sleep(rng.random() * 0.1)
        client.end()

    def file_of(self, ident, text):
        path = os.path.join(self.folder, ident)
        with open(path, "wb") as f:
            f.write(text)
        return path

    def deliverer(self, number):
        rng = random.Random(number)
        while self.is_adding():
            ident, text = self.book.new("own", rng.choice((300, 3000, 12000, 70000, 3000000)))
            p = self.work.run(["append", "INBOX", "", self.file_of(ident, text)], options=("-t", "60"), timeout=600)
            if p.returncode == 0:
                self.book.add("delivered", ident)
                self.book.count("appends")
            elif not any(t.encode() in p.stdout for t in TEMPORARY):
                self.book.complain("append: %r %r" % (p.stdout, p.stderr[-300:]))
            time.sleep(rng.random() * 0.05)

    # ---- our sessions, as clients see them ----

    def session(self, function, *args):
        """Half of a message that somebody else has expunged cannot be followed by the rest: the session has to end there."""
        try:
            function(*args)
        except Vanished as e:
            ident = crashlib.ident_of(e.args[0])
            if ident not in self.book.doomed:
                self.book.complain("%r was cut off in the middle, and nobody removes it" % ident)
            self.book.count("cut off")

    def imap(self, number):
        """Sessions one after the other: read everything, set a keyword, delete, EXPUNGE, LOGOUT."""
        rng, flag = random.Random(number), "imap%d" % number
        while self.running():
            self.session(self.imap_once, rng, flag)

    def imap_once(self, rng, flag):
        c = Imap(self.work)
        c.ask("SELECT INBOX")
        for _ in range(rng.randrange(1, 8)):
            messages = c.messages()
            for uid, ident in rng.sample(messages, min(4, len(messages))):
                if c.store(uid, "+FLAGS (%s)" % flag):
                    self.book.flag(ident, flag)
                    self.book.count("IMAP STORE")
                text = c.fetch(uid)
                if text is not None and not crashlib.is_whole(text):
                    self.book.complain("IMAP FETCH of %s is not whole: %r" % (ident, text[:200]))
            if len(messages) > 30 and rng.random() < 0.5:
                uid, ident = rng.choice(messages)
                self.book.add("doomed", ident)
                if c.store(uid, "+FLAGS.SILENT (\\Deleted)") and c.ask("UID EXPUNGE %d" % uid)[-1].split()[1] == b"OK":
                    self.book.add("gone", ident)
                    self.book.count("IMAP EXPUNGE")
            time.sleep(rng.random() * 0.05)
        c.end()

    def pop3(self, number):
        """Sessions one after the other: RETR some, DELE one, QUIT."""
        rng = random.Random(number)
        while self.running():
            self.session(self.pop3_once, rng)
            time.sleep(rng.random() * 0.2)

    def pop3_once(self, rng):
        c = Pop3(self.work)
        count = int(c.ask("STAT").split()[1]) if c.is_open else 0
        chosen = {}
        for n in rng.sample(range(1, count + 1), min(4, count)):
            text = c.retr(n)
            if text is None:
                continue # deleted by somebody else meanwhile
            if not crashlib.is_whole(text):
                self.book.complain("POP3 RETR is not whole: %r" % text[:200])
            else:
                chosen[n] = crashlib.ident_of(text)
                self.book.count("POP3 RETR")
        if count > 30 and chosen:
            n, ident = next(iter(chosen.items()))
            self.book.add("doomed", ident)
            if c.ask("DELE %d" % n).startswith(b"+OK") and c.ask("QUIT").startswith(b"+OK"):
                self.book.add("gone", ident)
                self.book.count("POP3 DELE")
        elif c.is_open:
            c.ask("QUIT")
        c.end()

    # ---- other programs ----

    def procmail(self, number):
        rng, rc = random.Random(number), os.path.join(self.folder, "procmailrc")
        with open(rc, "w") as f:
            f.write("MAILDIR=%s\nLOCKSLEEP=1\nUMASK=077\n:0:\nINBOX\n" % os.path.dirname(self.work.inbox))
        while self.is_adding():
            ident, text = self.book.new("procmail", rng.choice((300, 5000, 30000)))
            p = subprocess.run(["procmail", "-f", "sender@example.org", rc], input=text, capture_output=True, timeout=600, check=False,
                               **self.work.as_user)
            if p.returncode == 0:
                self.book.add("delivered", ident)
                self.book.count("procmail")
            time.sleep(rng.random() * 0.3)

    def script(self, number):
        rng, lock = random.Random(number), self.work.inbox + ".lock"
        while self.is_adding():
            ident, text = self.book.new("script", rng.choice((300, 5000)))
            data = b"From sender@example.org Thu Jan  1 00:00:00 2026\n" + text + b"\n"
            line = 'dotlockfile -l -r 60 -i 1 "$1" && { cat "$2" >> "$3"; s=$?; dotlockfile -u "$1"; exit $s; }'
            p = subprocess.run(["sh", "-c", line, "sh", lock, self.file_of(ident, data), self.work.inbox],
                               capture_output=True, timeout=600, check=False, **self.work.as_user)
            if p.returncode == 0:
                self.book.add("delivered", ident)
                self.book.count("scripts")
            time.sleep(rng.random() * 0.3)

    def mutt_once(self, keys):
        """Runs mutt on a terminal of its own; keys go in with `push`. A mailbox that has shrunk it reads anew without any
        lock, says that it was externally modified, and would write what it took for the mailbox: then it is left with
        x, which writes nothing. If it had gone on to write by itself, the run proves nothing about anybody else."""
        rc = os.path.join(self.folder, "muttrc")
        with open(rc, "w") as f:
            f.write('set folder=%s\nset header_cache=""\nset confirmappend=no\nset delete=yes\nset quit=yes\nset move=no\nset wait_key=no\n'
                    'set beep=no\nset tmpdir=%s\npush "%s"\n' % (self.folder, self.folder, keys))
        terminal, slave = pty.openpty()
        p = subprocess.Popen(["mutt", "-n", "-F", rc, "-f", self.work.inbox], stdin=slave, stdout=slave, stderr=slave,
                             env={"PATH": os.environ["PATH"], "TERM": "xterm", "HOME": self.folder, "LANG": "C"},
                             start_new_session=True, **self.work.as_user)
        os.close(slave)
        ends, tail, last, is_misled = time.monotonic() + 120, b"", b"q", False
        is_over = False
        while time.monotonic() < ends and not is_over: # what it said last is read when it has ended, too
            if select.select([terminal], [], [], 1.0)[0]:
                try:
                    tail = (tail + os.read(terminal, 65536))[-2000:]
                except OSError:
                    is_over = True
                is_misled = is_misled or b"externally modified" in tail
            elif p.poll() is not None:
                is_over = True
            else: # the mailbox changed under it, and it forgot the keys that were waiting
                last = b"n" if b"remove lock for" in tail else b"x" if is_misled else b"q"
                os.write(terminal, last)
                tail = b""
        if not is_over:
            self.book.count("mutt gave up") # it wants its locks when nobody else does, and asks instead of waiting
            p.terminate()
        os.close(terminal)
        self.is_void = self.is_void or (is_misled and last != b"x")
        return p.wait()

    def mutt(self, number):
        rng = random.Random(number)
        reader = Client(self)
        while self.running():
            messages = self.view(reader)
            keys = "<first-entry><flag-message><last-entry><set-flag>r"
            if messages and len(messages) > 20 and rng.random() < 0.7:
                ident = rng.choice(messages)[2]
                self.book.add("doomed", ident)
                keys += "<delete-pattern>~i%s@example.org<enter>" % ident.replace(".", "\\\\.")
            if self.mutt_once(keys + "<quit>") == 0:
                self.book.count("mutt")
            time.sleep(rng.random())
        reader.end()

    # ---- the end ----

    def run(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()

    def check(self, result):
        book = self.book
        for text in book.trouble[:10]:
            print("  " + text)
        result.check(not book.trouble, "every actor got what it asked for", "%d complaints" % len(book.trouble))
        box = self.work.dump("INBOX")
        if not result.check(not isinstance(box, str), "the box opens", str(box)):
            return
        found = box.by_ident()
        bad = [m.ident for m in box.messages if m.ident not in book.sent or plain(m.text) != crashlib.wire(book.sent[m.ident])]
        for m in [m for m in box.messages if m.ident in bad][:1]:
            print("  %s is there as %r" % (m.ident, m.text[:600]))
        result.check(not bad, "every message is byte-identical", repr(bad[:5]))
        lost = sorted(i for i in book.delivered - book.doomed if i not in found)
        result.check(not lost, "no delivered message is lost", "%d: %r" % (len(lost), lost[:8]))
        double = sorted(str(i) for i, ms in found.items() if len(ms) > 1)
        result.check(not double, "no message is there twice", repr(double[:8]))
        back = sorted(i for i in book.gone if i in found)
        result.check(not back, "no expunged message came back", repr(back[:8]))
        unset = [(i, f) for i, fs in book.flags.items() for f in fs if i in found and f not in found[i][0].flags.split(":")[1].split(",")]
        result.check(not unset, "every acknowledged flag is set", "%d: %r" % (len(unset), unset[:5]))
        with open(self.work.inbox, "rb") as f:
            raw = crashlib.mbox_messages(f.read())
        broken = [crashlib.ident_of(t) for t in raw if not crashlib.raw_whole(t)]
        result.check(not broken and len(raw) == len(box.messages), "another reader sees the same",
                     "%d and %d messages, broken %r" % (len(raw), len(box.messages), broken[:5]))
        print("hammered: %s; %d messages at the end, %d delivered, %d deleted" % (
            ", ".join("%s %d" % c for c in sorted(book.counts.items())), len(box.messages), len(book.delivered), len(book.gone)))
        for what in MUST_HIT:
            result.check(book.counts.get(what, 0) > 0, "the hammer hit: %s" % what)


def plain(text):
    """Without the two header fields that mutt adds to every message that it writes."""
    head, sep, body = text.partition(b"\r\n\r\n")
    return re.sub(rb"\r\n(?:Content-Length|Lines): \d+(?=\r\n|$)", b"", head) + sep + body


def hammer_once(args, build, result):
    """True: mutt spoilt the run."""
    folder = tempfile.mkdtemp(prefix="crash-hammer-")
    os.chmod(folder, 0o755)
    hammer = Hammer(build, folder, args.seconds or (10 if args.quick else 60))
    for n in range(2):
        hammer.start(hammer.flagger, n)
        hammer.start(hammer.deliverer, 10 + n)
    hammer.start(hammer.expunger, 20)
    hammer.start(hammer.expunger, 21)
    for n, (program, actor) in enumerate((("procmail", hammer.procmail), ("dotlockfile", hammer.script), ("mutt", hammer.mutt))):
        if program in args.without.split(","):
            continue
        if shutil.which(program):
            hammer.start(actor, 30 + n)
        else:
            result.skip("hammer: %s is not installed" % program)
    for name, actor in (("imap-session", hammer.imap), ("pop3-session", hammer.pop3)):
        for n in range(2):
            if name in hammer.work.programs and name not in args.without.split(","):
                hammer.start(actor, 40 + n)
        if name not in hammer.work.programs:
            result.skip("hammer: %s is not built" % name)
    try:
        hammer.run()
        if not hammer.is_void:
            hammer.check(result)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return hammer.is_void


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--without", default="")
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    for _ in range(ATTEMPTS):
        result = crashlib.Result()
        if not hammer_once(args, build, result):
            break
        print("mutt wrote what it had read without a lock: once more")
    else:
        result.check(False, "a run in which mutt did no harm")
    return result.finish()


if __name__ == "__main__":
    sys.exit(main())
