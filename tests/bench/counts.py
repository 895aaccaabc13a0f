"""Instructions of the hot paths, counted by callgrind: figures that do not depend on how busy the machine is, so that a
regression shows anywhere. A session with the work minus the same session without it. counts.reference has what they were
when somebody last looked, with Debian 12's compiler.
"""
import os
import re
import shutil
import subprocess

import generate

HERE = os.path.dirname(os.path.abspath(__file__))
REFERENCE = os.path.join(HERE, "counts.reference")
MORE = 1.05  # times the reference: worth a look
SELECT = "a SELECT INBOX\r\n"
MESSAGE = "From: a@example.org\nSubject: x\n\n" + ("y" * 70 + "\n") * 56
LITERAL = MESSAGE.replace("\n", "\r\n")
# (what, commands): on a box that is there already, with what is cached about it.
IMAP = (
    ("FETCH FLAGS", "b FETCH 1:* (UID FLAGS)\r\n"),
    ("FETCH ENVELOPE, later", "b FETCH 1:* (ENVELOPE)\r\n"),
    ("FETCH BODYSTRUCTURE, later", "b FETCH 1:* (BODYSTRUCTURE)\r\n"),
    ("FETCH BODY.PEEK[]", "b FETCH 1:* (BODY.PEEK[])\r\n"),
    ("SEARCH SUBJECT", "b SEARCH SUBJECT zyzzyva\r\n"),
    ("SEARCH TEXT", "b SEARCH TEXT zyzzyva\r\n"),
    ("SORT (DATE)", "b SORT (DATE) UTF-8 ALL\r\n"),
    ("SORT (SUBJECT)", "b SORT (SUBJECT) UTF-8 ALL\r\n"),
    ("THREAD=REFERENCES", "b THREAD REFERENCES UTF-8 ALL\r\n"),
)
FIRSTS = (  # on a box that was selected and nothing else
    ("FETCH ENVELOPE, first", "b FETCH 1:* (ENVELOPE)\r\n"),
    ("FETCH BODYSTRUCTURE, first", "b FETCH 1:* (BODYSTRUCTURE)\r\n"),
    ("SORT (DATE), nothing cached", "b SORT (DATE) UTF-8 ALL\r\n"),
    ("THREAD=REFERENCES, nothing cached", "b THREAD REFERENCES UTF-8 ALL\r\n"),
    ("STORE +FLAGS", "b STORE 1:* +FLAGS.SILENT (\\Flagged)\r\n"),
    ("COPY", "b CREATE Copy\r\nc COPY 1:* Copy\r\n"),
)
POP3 = (("STAT", "STAT\r\n"), ("UIDL", "UIDL\r\n"), ("LIST", "LIST\r\n"))
USER = 65534


def count(words, text, folder):
    """(instructions of one run, its output)"""
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *words], input=text.encode(),
                          capture_output=True, check=False, cwd=folder, user=USER, group=USER, extra_groups=[],
                          env={"PATH": "/usr/bin:/bin", "HOME": folder})
    found = re.search(rb"Collected : (\d+)", done.stderr)
    if not found or done.returncode:
        raise RuntimeError(f"{words[0]}: {done.returncode} {done.stderr[-300:]}")
    return int(found.group(1)), done.stdout


class Box:
    """A box of some messages, put back when asked."""

    def __init__(self, tools, messages):
        self.build, self.messages = tools[0], messages
        self.folder = os.path.join(tools[2], "counts")
        self.options = ["--epoch=1764400000", "-o", f"spool={self.folder}/inbox", "-o", f"folders={self.folder}/mail", "-o",
                        f"state={self.folder}/state"]
        self.source = os.path.join(tools[2], "counts-box")
        generate.write_mbox(self.source, messages)
        # What the user may not reach is run from where he may.
        self.programs = os.path.join(tools[2], "programs")
        os.makedirs(self.programs)
        for path in ("imap/imap-session", "pop3/pop3-session", "deliver/deliver"):
            shutil.copy(os.path.join(self.build, "handlers", path), self.programs)

    def fresh(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(os.path.join(self.folder, "mail"))
        shutil.copyfile(self.source, os.path.join(self.folder, "inbox"))
        subprocess.run(["chown", "-R", f"{USER}:{USER}", self.folder], check=True)

    def run(self, program, text, *more):
        return count([os.path.join(self.programs, program), *self.options, *more], text, self.folder)

    def imap(self, commands):
        """Instructions of a session; each command is answered with OK, a FETCH for all messages."""
        instructions, answer = self.run("imap-session", commands + "x LOGOUT\r\n")
        refused = re.search(rb"(?m)^[a-z] (NO|BAD).*", answer)
        fetched = len(re.findall(rb"(?m)^\* \d+ FETCH ", answer))
        if refused or b"\nx OK" not in answer or (" FETCH " in commands and fetched != self.messages):
            raise RuntimeError(f"{commands[:60]!r}: {refused.group(0)[:80] if refused else fetched}")
        return instructions

    def pop3(self, commands):
        instructions, answer = self.run("pop3-session", commands + "QUIT\r\n")
        if b"-ERR" in answer or not answer.rstrip().rpartition(b"\r\n")[2].startswith(b"+OK"):
            raise RuntimeError(f"{commands[:60]!r}: {answer[-80:]!r}")
        return instructions


def count_imap(box, add):
    box.fresh()
    empty = box.imap("")
    box.fresh()
    add("IMAP SELECT of a new box", box.imap(SELECT) - empty)
    add("IMAP SELECT, unchanged", box.imap(SELECT) - empty)
    for title, commands in IMAP:
        box.imap(SELECT + commands)  # what is cached is cached now
        base = box.imap(SELECT)
        add("IMAP " + title, box.imap(SELECT + commands) - base)
    for title, commands in FIRSTS:
        box.fresh()
        box.imap(SELECT)
        base = box.imap(SELECT)
        add("IMAP " + title, box.imap(SELECT + commands) - base)
    number = box.messages // 10
    append = "".join(f"b APPEND Copy {{{len(LITERAL)}+}}\r\n{LITERAL}\r\n" for _ in range(number))
    base = box.imap(SELECT)
    add("IMAP APPEND, 4 KB", (box.imap(SELECT + append) - base) * box.messages / number)
    for title, which in (("the first", "1"), ("every tenth", ",".join(str(n) for n in range(1, box.messages, 10)))):
        box.fresh()
        box.imap(SELECT)
        base = box.imap(SELECT)
        add(f"IMAP EXPUNGE {title}, of all left", box.imap(
            f"{SELECT}b STORE {which} +FLAGS.SILENT (\\Deleted)\r\nc EXPUNGE\r\n") - base)


def count_pop3(box, add):
    box.fresh()
    box.pop3("")
    empty = box.pop3("")
    for title, commands in POP3:
        add("POP3 " + title, box.pop3(commands) - empty)
    retrieve = "".join(f"RETR {n}\r\n" for n in range(1, box.messages + 1))
    box.pop3(retrieve)  # the first time they become \Seen, which is work of another kind
    add("POP3 RETR of all", box.pop3(retrieve) - empty)
    delete = "".join(f"DELE {n}\r\n" for n in range(1, box.messages + 1, 2))
    add("POP3 DELE every second, QUIT", box.pop3(delete) - empty)


def reference():
    """{what: instructions a message}"""
    if not os.path.exists(REFERENCE):
        return {}
    with open(REFERENCE, encoding="ascii") as f:
        return {what: float(n) for n, _, what in (line.strip().partition(" ") for line in f)}


def compare(tools, table, messages=500):
    """Instructions a message, beside the reference. Only a count of as many messages can be compared with it."""
    if not shutil.which("valgrind"):
        raise RuntimeError("no valgrind")
    box, before = Box(tools, messages), reference()

    def add(title, instructions):
        table.add(title, "pennypost", instructions / messages)
        old = before.get(title) if before.get("messages") == messages else None
        if old:
            table.add(title, "reference", old)
            if instructions / messages > old * MORE:
                table.note(f"{title}: {instructions / messages / old - 1:.0%} more than the reference")

    count_imap(box, add)
    count_pop3(box, add)
    add("deliver, 4 KB", box.run("deliver", MESSAGE)[0] * messages)


def keep(table, messages):
    """Writes what was counted as the new reference."""
    with open(REFERENCE, "w", encoding="ascii") as f:
        f.write(f"{messages} messages\n")
        for what in table.samples:
            f.write(f"{table.median(what, 'pennypost'):.0f} {what}\n")
