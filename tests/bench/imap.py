"""IMAP on one large mbox: the same work for every server, in alternation, each on a fresh copy of the same file."""
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import time

import peers
from client import Session, rounds_within

USER = 65534
WAKES = 5


class Pennypost:
    name = "pennypost"

    def __init__(self, work, build, _peers):
        self.work = work
        self.program = os.path.join(build, "handlers/imap/imap-session")

    def reset(self):
        for folder in ("state", "mail"):
            shutil.rmtree(os.path.join(self.work, folder), ignore_errors=True)
            os.makedirs(os.path.join(self.work, folder))
        own(self.work)

    def command(self):
        options = ["-o", f"spool={self.work}/inbox", "-o", f"folders={self.work}/mail", "-o", f"state={self.work}/state"]
        return [self.program, *options]

    def session(self):
        session = Session(self.command(), user=USER)
        session.line()
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

    def session(self):
        command = peers.overlay_command([self.root], [
            "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env", f"HOME={self.work}", "USER=nobody",
            "/usr/lib/dovecot/imap", "-c", self.conf])
        session = Session(command)
        session.line()
        return session


def own(folder):
    subprocess.run(["chown", "-R", f"{USER}:{USER}", folder], check=True)


def digests_of(session, count):
    """SHA-256 of every message as fetched; verifies that all are there."""
    found = []
    for pieces in session.imap_responses(b"FETCH 1:* (BODY.PEEK[])"):
        if len(pieces) == 3 and b" FETCH " in pieces[0]:
            found.append(hashlib.sha256(pieces[1]).hexdigest())
    if len(found) != count:
        raise RuntimeError(f"{len(found)} of {count} messages")
    return found


def append(session, count):
    """Seconds for that many APPENDs to the folder Copy, each durable when it is acknowledged."""
    text = b"From: a@example.org\r\nSubject: appended\r\n\r\n" + (b"y" * 70 + b"\r\n") * 140
    return sum(session.imap(b"APPEND Copy {%d+}\r\n" % len(text) + text)[0] for _ in range(count))


def wake_up(server, session):
    """Seconds from an append by another program to the EXISTS under IDLE."""
    session.send(b"idle IDLE\r\n")
    while not session.line().startswith(b"+"):
        pass
    time.sleep(0.3)
    start = time.perf_counter()
    with open(os.path.join(server.work, "inbox"), "ab") as f:
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


def verify_answers(server, session, count):
    """What was timed without being looked at, asked again: orders, threads, flags, copies."""
    everything = list(range(1, count + 1))
    if numbers_of(session, b"SORT (DATE) UTF-8 ALL") != everything:
        raise RuntimeError(f"{server.name}: the order by date is not that in which the messages were made")
    for command in (b"SORT (SUBJECT) UTF-8 ALL", b"THREAD REFERENCES UTF-8 ALL", b"SEARCH FLAGGED"):
        if sorted(numbers_of(session, command)) != everything:
            raise RuntimeError(f"{server.name}: {command.decode()} is not about all messages")
    if numbers_of(session, b"SEARCH BODY \"zyzzyva\""):
        raise RuntimeError(f"{server.name}: found what is not there")
    for item in (b"ENVELOPE", b"BODYSTRUCTURE"):
        found = sum(item + b" (" in pieces[0] for pieces in session.imap_responses(b"FETCH 1:* (" + item + b")"))
        if found != count:
            raise RuntimeError(f"{server.name}: {found} of {count} answers to FETCH {item.decode()}")
    copies = [pieces[0] for pieces in session.imap_responses(b"STATUS Copy (MESSAGES)")]
    if not any(b"(MESSAGES %d)" % (count + 100) in line for line in copies):
        raise RuntimeError(f"{server.name}: {count + 100} copies, but {copies}")


def fresh_session(server, box):
    """A session on a fresh copy of the box, of which the server knows nothing."""
    server.reset()
    shutil.copyfile(box, os.path.join(server.work, "inbox"))
    own(server.work)
    return server.session()


def one_run(server, box, digests, verify):
    """All the work once on fresh copies; returns {step: seconds} and the memory afterwards."""
    result = {}
    for title, command in FIRSTS:
        session = fresh_session(server, box)
        session.imap(b"SELECT INBOX")
        result[title] = session.imap(command)[0]
        session.close()
    session = fresh_session(server, box)
    result["SELECT, first"] = session.imap(b"SELECT INBOX")[0]
    session.close()
    session = server.session()
    start = session.imap(b"SELECT INBOX")[0]
    result["SELECT, new session"] = start
    try:
        session.imap(b"CREATE Copy")
    except RuntimeError:
        pass
    for title, command in STEPS:
        try:
            result[title] = session.imap(command)[0]
        except RuntimeError as error:
            result[title] = None
            print(f"  {server.name}: {error}")
    if verify:
        verify_answers(server, session, len(digests))
        if digests_of(session, len(digests)) != digests:
            raise RuntimeError(f"{server.name}: what was fetched is not what was stored")
    result["APPEND 100 messages of 10 KB"] = append(session, 100)
    result["private KB after all"] = session.memory()[1]
    result["IDLE wake-up"] = statistics.median(wake_up(server, session) for _ in range(WAKES))
    session.imap(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
    result["EXPUNGE the first"] = session.imap(b"EXPUNGE")[0]
    tenth = ",".join(str(n) for n in range(1, len(digests), 10)).encode("ascii")
    session.imap(b"STORE " + tenth + b" +FLAGS.SILENT (\\Deleted)")
    result["EXPUNGE every tenth"] = session.imap(b"EXPUNGE")[0]
    gone = {0} | {n for n in range(1, len(digests), 10)}
    left = [d for n, d in enumerate(digests) if n not in gone]
    if verify and digests_of(session, len(left) + WAKES)[:-WAKES] != left:
        raise RuntimeError(f"{server.name}: damaged by expunge")
    session.close()
    return result


def compare(servers, box, digests, rounds, seconds, verify=True):
    """Alternates the servers; returns {step: {server: median}}. The first round is verified."""
    runs = {s.name: [] for s in servers}
    for number in rounds_within(rounds, seconds):
        for server in servers:
            runs[server.name].append(one_run(server, box, digests, verify=verify and number == 0))
    table = {}
    for title in runs[servers[0].name][0]:
        table[title] = {}
        for server in servers:
            values = [r[title] for r in runs[server.name] if r.get(title) is not None]
            table[title][server.name] = statistics.median(values) if values else None
    return table
