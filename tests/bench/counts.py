"""Instructions of the hot paths, counted by callgrind: figures that do not depend on how busy the machine is, so that a
regression shows anywhere. A session with the work minus the same session without it.
"""
import os
import re
import shutil
import subprocess

import generate

IMAP = (
    ("SELECT of a new box", "a SELECT INBOX", True),
    ("SELECT, unchanged", "a SELECT INBOX", False),
    ("FETCH ENVELOPE, later", "b FETCH 1:* (ENVELOPE)", False),
    ("FETCH BODYSTRUCTURE, later", "b FETCH 1:* (BODYSTRUCTURE)", False),
    ("FETCH BODY.PEEK[]", "b FETCH 1:* (BODY.PEEK[])", False),
    ("SEARCH TEXT", "b SEARCH TEXT zyzzyva", False),
    ("SORT (DATE)", "b SORT (DATE) UTF-8 ALL", False),
    ("SORT (SUBJECT)", "b SORT (SUBJECT) UTF-8 ALL", False),
    ("THREAD=REFERENCES", "b THREAD REFERENCES UTF-8 ALL", False),
    ("STORE +FLAGS", "b STORE 1:* +FLAGS.SILENT (\\Flagged)", False),
)
FIRSTS = (  # on a box that was selected and nothing else
    ("FETCH ENVELOPE, first", "b FETCH 1:* (ENVELOPE)"),
    ("FETCH BODYSTRUCTURE, first", "b FETCH 1:* (BODYSTRUCTURE)"),
    ("SORT (DATE), nothing cached", "b SORT (DATE) UTF-8 ALL"),
    ("THREAD=REFERENCES, nothing cached", "b THREAD REFERENCES UTF-8 ALL"),
)
POP3 = (("STAT", "STAT"), ("UIDL", "UIDL"), ("LIST", "LIST"), ("RETR of all", None))
USER = 65534


def count(words, text, folder):
    """Instructions of one run."""
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *words], input=text.encode(),
                          capture_output=True, check=False, cwd=folder, user=USER, group=USER, extra_groups=[],
                          env={"PATH": "/usr/bin:/bin", "HOME": folder})
    found = re.search(rb"Collected : (\d+)", done.stderr)
    if not found or done.returncode:
        raise RuntimeError(f"{words[0]}: {done.returncode} {done.stderr[-300:]}")
    return int(found.group(1))


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


def compare(tools, messages=500):
    """{path: {"instructions a message": n}}."""
    if not shutil.which("valgrind"):
        print("  no valgrind, no counts")
        return {}
    box, table = Box(tools, messages), {}

    def add(title, instructions):
        table[title] = {"instructions a message": instructions / messages}

    box.fresh()
    empty = box.run("imap-session", "x LOGOUT\r\n")
    for title, command, is_new in IMAP:
        if is_new:
            box.fresh()
        base = empty
        if not command.startswith("a "):
            box.run("imap-session", f"a SELECT INBOX\r\n{command}\r\nx LOGOUT\r\n")  # what is cached is cached now
            base = box.run("imap-session", "a SELECT INBOX\r\nx LOGOUT\r\n")
            command = "a SELECT INBOX\r\n" + command
        add("IMAP " + title, box.run("imap-session", command + "\r\nx LOGOUT\r\n") - base)
    for title, command in FIRSTS:
        box.fresh()
        box.run("imap-session", "a SELECT INBOX\r\nx LOGOUT\r\n")
        base = box.run("imap-session", "a SELECT INBOX\r\nx LOGOUT\r\n")
        add("IMAP " + title, box.run("imap-session", f"a SELECT INBOX\r\n{command}\r\nx LOGOUT\r\n") - base)
    box.fresh()
    box.run("pop3-session", "QUIT\r\n")
    empty = box.run("pop3-session", "QUIT\r\n")
    for title, command in POP3:
        text = command or "".join(f"RETR {n}\r\n" for n in range(1, messages + 1))
        if not command:  # the first time they become \Seen, which is work of another kind
            box.run("pop3-session", text + "\r\nQUIT\r\n")
        add("POP3 " + title, box.run("pop3-session", text + "\r\nQUIT\r\n") - empty)
    message = "From: a@example.org\nSubject: x\n\n" + ("y" * 70 + "\n") * 56
    table["deliver, 4 KB"] = {"instructions a message": box.run("deliver", message)}
    return table
