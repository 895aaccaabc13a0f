"""IMAP on one large mbox: the same work for every server, in alternation, each on a fresh copy of the same file, over the
loopback. What is timed is asked by the load generator in C; what was sent is proved afterwards.
"""
import os
import re
import shutil
import statistics
import subprocess
import time

import login
import peers
from client import Late, Session, compile_load
from tables import DAMAGED, NEEDED, alternate, leave_out, log

USER = 65534
WAKES = 5
BATCH = 1000  # numbers in one command, which all servers take


class Pennypost:
    name = "pennypost"
    avoided = ()  # steps that are not asked of it
    most = 1 << 30  # messages

    def __init__(self, work, build, _peers):
        self.work = work
        self.patience, self.limit = 600, 3600  # seconds for one answer, for a round
        self.load = compile_load(work)
        self.program = os.path.join(build, "handlers/imap/imap-session")

    def reset(self):
        for folder in ("state", "mail"):
            shutil.rmtree(os.path.join(self.work, folder), ignore_errors=True)
            os.makedirs(os.path.join(self.work, folder))
        own(self.work)

    def clear(self):
        """Gives back what a box of a gigabyte takes."""
        self.reset()
        if os.path.exists(self.box()):
            os.unlink(self.box())

    def box(self):
        return os.path.join(self.work, "inbox")

    def command(self):
        options = ["-o", f"spool={self.work}/inbox", "-o", f"folders={self.work}/mail", "-o", f"state={self.work}/state"]
        return [self.program, *options], USER

    def session(self):
        command, user = self.command()
        session = Session(self.load, command, self.patience, user)
        session.greeting()
        return session


class Dovecot(Pennypost):
    name = "dovecot"

    def __init__(self, work, build, peer_root):
        super().__init__(work, build, peer_root)
        self.root = peers.unpack("dovecot", peer_root)
        if not self.root:
            raise RuntimeError("dovecot cannot be had")
        self.conf = os.path.join(work, "dovecot.conf")
        with open(self.conf, "w", encoding="ascii") as f:
            f.write(f"mail_location = mbox:{work}/mail:INBOX={work}/inbox\nmbox_write_locks = fcntl\n"
                    f"mbox_read_locks = fcntl\nssl = no\nlog_path = {work}/dovecot.log\nbase_dir = {work}/run\n"
                    f"state_dir = {work}/state\n")

    def command(self):
        return peers.overlay_command([self.root], [
            "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env", f"HOME={self.work}", "USER=nobody",
            "/usr/lib/dovecot/imap", "-c", self.conf]), None


class Mailutils(Pennypost):
    """Without SORT and THREAD. Version 3.15 announces more octets of a large message than it sends when other commands were
    given before in the same session: it is asked with few messages only, until it comes to its end with them."""
    name = "mailutils"
    avoided = ("SORT", "THREAD")
    most = 1000

    def __init__(self, work, build, peer_root):
        super().__init__(work, build, peer_root)
        self.root = peers.unpack("mailutils", peer_root)
        if not self.root:
            raise RuntimeError("mailutils cannot be had")

        self.etc = os.path.join(work, "accounts")  # it wants folders in the user's home
        os.makedirs(os.path.join(self.etc, "etc"))
        with open(os.path.join(self.etc, "etc/passwd"), "w", encoding="ascii") as f:
            f.write(f"root:x:0:0:root:/root:/bin/sh\nnobody:x:{USER}:{USER}:nobody:{work}/mail:/bin/sh\n")

    def box(self):
        return os.path.join(self.work, "nobody")

    def command(self):
        return peers.overlay_command([self.etc, self.root], [
            "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env", f"HOME={self.work}/mail", "USER=nobody",
            "/usr/sbin/imap4d", "--no-config", "--inetd", "--set=.preauth=stdio", f"--set=.mailbox.mail-spool={self.work}"]), None


def own(folder):
    subprocess.run(["chown", "-R", f"{USER}:{USER}", folder], check=True)


def append(session, count):
    """Seconds for that many APPENDs to the folder Copy, each durable when it is acknowledged."""
    text = b"From: a@example.org\r\nSubject: appended\r\n\r\n" + (b"y" * 70 + b"\r\n") * 140
    return sum(session.imap(b"APPEND Copy {%d+}\r\n" % len(text) + text)[0] for _ in range(count))


def wake_up(box, session):
    """Seconds from an append by another program to the EXISTS under IDLE."""
    session.send(b"idle IDLE\r\n")
    while not (line := session.line()).startswith(b"+"):
        if line.startswith(b"idle "):
            raise RuntimeError(f"IDLE: {line[:200]}")
    time.sleep(0.3)
    start = time.perf_counter()
    with open(box, "ab") as f:
        f.write(b"From a@b Sat Nov 14 12:00:00 2026\nSubject: wake up\n\nx\n\n")
    while b"EXISTS" not in session.line():
        pass
    seconds = time.perf_counter() - start
    session.send(b"DONE\r\n")
    while not session.line().startswith(b"idle "):
        pass
    return seconds


STEPS = (
    ("SELECT again (unchanged)", b"SELECT INBOX"),
    ("FETCH 1:* FLAGS", b"FETCH 1:* (UID FLAGS)"),
    ("FETCH 1:* ENVELOPE, first", b"FETCH 1:* (ENVELOPE)"),
    ("FETCH 1:* ENVELOPE, later", b"FETCH 1:* (ENVELOPE)"),
    ("FETCH 1:* BODYSTRUCTURE, first", b"FETCH 1:* (BODYSTRUCTURE)"),
    ("FETCH 1:* BODYSTRUCTURE, later", b"FETCH 1:* (BODYSTRUCTURE)"),
    ("FETCH 1:* BODY.PEEK[]", b"FETCH 1:* (BODY.PEEK[])"),
    ("SEARCH SUBJECT", b"SEARCH SUBJECT \"harbour night\""),
    ("SEARCH BODY, absent word", b"SEARCH BODY \"zyzzyva\""),
    ("SEARCH TEXT, absent word", b"SEARCH TEXT \"zyzzyva\""),
    ("SORT (DATE)", b"SORT (DATE) UTF-8 ALL"),
    ("SORT (SUBJECT)", b"SORT (SUBJECT) UTF-8 ALL"),
    ("THREAD=REFERENCES", b"THREAD REFERENCES UTF-8 ALL"),
    ("STORE 1:* +FLAGS", b"STORE 1:* +FLAGS.SILENT (\\Flagged)"),
    ("COPY 100 messages", b"COPY 1:100 Copy"),
    ("COPY all", b"COPY 1:* Copy"),
)


FIRSTS = (
    ("SORT (DATE), nothing cached", b"SORT (DATE) UTF-8 ALL"),
    ("THREAD=REFERENCES, nothing cached", b"THREAD REFERENCES UTF-8 ALL"),
)


def numbers_of(session, command):
    """The numbers in all untagged answers to a SORT, THREAD or SEARCH."""
    text = b"".join(pieces[0] for pieces in session.imap_responses(command)
                    if pieces[0].startswith((b"* SORT", b"* THREAD", b"* SEARCH")))
    return [int(n) for n in re.findall(rb"\d+", text)]


class Work:
    """All the work once, for one server on fresh copies. `wants`: is a step of this title wanted?"""

    def __init__(self, server, box, digests, is_verified, wants):
        self.server, self.box, self.digests, self.is_verified = server, box, digests, is_verified
        self.wants = lambda title: wants(title) and not title.startswith(server.avoided)
        self.result = {}
        self.octets, self.began = 0, time.monotonic()

    def take(self, title, measure):
        """Keeps what measure() returns. A command that the server does not know leaves no figure; lateness ends it all."""
        if not self.wants(title):
            return
        if time.monotonic() - self.began > self.server.limit:
            raise Late(f"{title}: no time is left for it")
        try:
            self.result[title] = measure()
        except Late:
            raise
        except RuntimeError as error:
            log(f"  {self.server.name}: {error}")

    def must(self, is_so, what):
        if not is_so:
            raise RuntimeError(f"{self.server.name}: {what}")

    def fresh_session(self):
        """A session on a fresh copy of the box, of which the server knows nothing."""
        self.server.reset()
        login.copy_box(self.box, self.server.box())
        own(self.server.work)
        return self.server.session()

    def run(self):
        """{step: seconds}, and the memory afterwards."""
        for title, command in FIRSTS:
            if self.wants(title):
                with self.fresh_session() as session:
                    session.imap(b"SELECT INBOX")
                    self.take(title, lambda s=session, c=command: s.imap(c)[0])
        with self.fresh_session() as session:
            self.take("SELECT, first", lambda: session.imap(b"SELECT INBOX")[0])
        with self.server.session() as session:
            self.take("SELECT, new session", lambda: session.imap(b"SELECT INBOX")[0])
            self.ask(session)
            self.expunge(session)
        return self.result

    def ask(self, session):
        """What changes no box, and copies."""
        try:
            session.imap(b"CREATE Copy")
        except RuntimeError:
            pass
        for title, command in STEPS:
            self.take(title, lambda c=command: self.seconds(session, c))
        if self.is_verified:
            self.verify(session)
        self.take("APPEND 100 messages of 10 KB", lambda: append(session, 100))
        self.take("private KB after all", session.private_kb)

    def seconds(self, session, command):
        seconds, octets, _ = session.imap(command)
        if b"BODY.PEEK" in command:
            self.octets = octets
        return seconds

    def verify(self, session):
        """What was timed without being looked at, asked again: orders, threads, flags, copies, texts."""
        count, is_known = len(self.digests), self.result.__contains__
        everything = list(range(1, count + 1))
        if is_known("SORT (DATE)"):
            self.must(numbers_of(session, b"SORT (DATE) UTF-8 ALL") == everything,
                      "the order by date is not that in which the messages were made")
        for title, command in (("SORT (SUBJECT)", b"SORT (SUBJECT) UTF-8 ALL"), ("STORE 1:* +FLAGS", b"SEARCH FLAGGED"),
                               ("THREAD=REFERENCES", b"THREAD REFERENCES UTF-8 ALL")):
            if is_known(title):
                self.must(sorted(numbers_of(session, command)) == everything, f"{command.decode()} is not about all messages")
        if is_known("SEARCH BODY, absent word"):
            self.must(not numbers_of(session, b"SEARCH BODY \"zyzzyva\""), "found what is not there")
        for item in (b"ENVELOPE", b"BODYSTRUCTURE"):
            if is_known(f"FETCH 1:* {item.decode()}, first"):
                found = sum(item + b" (" in pieces[0] for pieces in session.imap_responses(b"FETCH 1:* (" + item + b")"))
                self.must(found == count, f"{found} of {count} answers to FETCH {item.decode()}")
        if is_known("COPY all"):
            wanted = count + (100 if is_known("COPY 100 messages") else 0)
            copies = [pieces[0] for pieces in session.imap_responses(b"STATUS Copy (MESSAGES)")]
            self.must(any(b"(MESSAGES %d)" % wanted in line for line in copies), f"{wanted} copies, but {copies}")
        self.compare_texts(session.digests(b"FETCH 1:* (BODY.PEEK[])"), self.digests, "fetched")

    def compare_texts(self, found, wanted, how):
        damaged = sum(a != b for a, b in zip(found, wanted))
        self.must(len(found) == len(wanted), f"{len(found)} of {len(wanted)} messages {how}")
        self.result[DAMAGED] = self.result.get(DAMAGED, 0) + damaged
        self.must(damaged <= len(wanted) / 1000 and (self.server.name != "pennypost" or not damaged),
                  f"{damaged} messages {how} are not what was stored")

    def wake(self, session, wakes):
        for _ in range(WAKES):
            wakes.append(wake_up(self.server.box(), session))
        return statistics.median(wakes)

    def expunge(self, session):
        wakes = []
        self.take("IDLE wake-up", lambda: self.wake(session, wakes))
        session.imap(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        self.take("EXPUNGE the first", lambda: session.imap(b"EXPUNGE")[0])
        tenth = [b"%d" % n for n in range(1, len(self.digests), 10)]
        for at in range(0, len(tenth), BATCH):
            session.imap(b"STORE " + b",".join(tenth[at:at + BATCH]) + b" +FLAGS.SILENT (\\Deleted)")
        self.take("EXPUNGE every tenth", lambda: session.imap(b"EXPUNGE")[0])
        gone = {0} | set(range(1, len(self.digests), 10))
        left = [d for n, d in enumerate(self.digests) if n not in gone]
        there = len(numbers_of(session, b"SEARCH ALL"))
        self.must(there == len(left) + len(wakes), f"{there} messages are left of {len(left) + len(wakes)}")
        if self.is_verified:
            found = session.digests(b"FETCH 1:* (BODY.PEEK[])")
            self.compare_texts(found[:len(found) - len(wakes)], left, "left by an expunge")


def compare(servers, table, box, digests, rounds, seconds, paces, wants=lambda title: True):
    """Alternates the servers, medians come into the table. The first round of each is verified. paces: {server: seconds a
    message}, kept from box to box. wants: is a step of this title wanted?"""
    octets = {}
    servers[:] = [server for server in servers if len(digests) <= server.most]
    for server in leave_out(servers, table, len(digests), max(30, seconds), paces):
        is_needed = server.name in NEEDED
        server.patience = max(60, seconds / 2) if is_needed else max(20, seconds / 6)
        server.limit = max(60, seconds) if is_needed else max(20, seconds / 3)
    for number, server in alternate(servers, rounds, seconds):
        work = Work(server, box, digests, number == 0, wants)
        try:
            work.run()
            work.must(abs(octets.setdefault(server.name, work.octets) - work.octets) <= len(digests),
                      f"{work.octets} octets of BODY[], {octets[server.name]} before")
            paces[server.name] = (time.monotonic() - work.began) / len(digests)
        except (RuntimeError, OSError, EOFError) as error:
            table.note(f"{server.name} has not come to its end: {error}")
            paces[server.name] = float("inf")
            if not isinstance(error, (Late, TimeoutError)):  # a run that lost something is not a figure
                work.result = {t: v for t, v in work.result.items() if t == DAMAGED}
            servers.remove(server)
        finally:  # also when there is no time left for the rest
            for title, value in work.result.items():
                table.add(title, server.name, value)
            log(f"  {server.name}: " + " ".join(f"{v:.4g}" for v in work.result.values()))
            server.clear()
