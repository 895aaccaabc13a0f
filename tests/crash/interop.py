#!/usr/bin/env python3
"""Other programs on the same mbox: mutt, bsd-mailx, s-nail, alpine and Debian's Dovecot change it and we see it; we change it
and they see it; UIDs and flags stay with their messages through rewriting, reordering and a restored backup.

  interop.py [--quick] [--only NAME] BUILD_DIR

Root and an apt cache are needed for Dovecot (unpacked, never installed). Everything runs as user 65534 in a scratch folder."""

import argparse
import fcntl
import os
import pty
import random
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../bench")]
import crashlib
import peers
import scenarios

USER = 65534

class Place:
    """A scratch folder with a box of its own; programs run there as USER (or as whoever we are, when not root)."""

    def __init__(self, build):
        self.folder = tempfile.mkdtemp(prefix="interop-")
        os.chmod(self.folder, 0o755)
        shutil.copy(os.path.join(build, "tests/crash/work"), os.path.join(self.folder, "work"))
        self.work = crashlib.Work(build, os.path.join(self.folder, "root"))
        self.work.program = os.path.join(self.folder, "work")
        self.own = os.geteuid() == 0
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.folder, "TERM": "xterm", "LANG": "C", "USER": "nobody",
                    "MAIL": self.work.inbox, "MAILRC": "/dev/null"}
        self.new_box(b"")

    def new_box(self, data):
        self.work.fresh()
        for name in os.listdir(self.folder):
            if name not in ("root", "work"):
                path = os.path.join(self.folder, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        self.write(data)
        if self.own:
            subprocess.run(["chown", "-R", "%d:%d" % (USER, USER), self.folder], check=True)

    def write(self, data):
        """Puts other bytes into the box, in the same inode, as a program that rewrites it would."""
        with open(self.work.inbox, "wb") as f:
            f.write(data)

    def read(self):
        with open(self.work.inbox, "rb") as f:
            return f.read()

    def demote(self):
        return {"user": USER, "group": USER, "extra_groups": []} if self.own else {}

    def run(self, argv, text=b"", **more):
        return subprocess.run(argv, input=text, capture_output=True, env=self.env, cwd=self.folder, timeout=300, check=False,
                              **self.demote(), **more)

    def ours(self, *words):
        """Runs work; its output. Fails loudly."""
        p = self.run(self.work.argv(list(words)))
        if p.returncode != 0:
            raise RuntimeError("work %r: %r %r" % (words, p.stdout[-300:], p.stderr[-300:]))
        return p.stdout

    def dump(self):
        box = crashlib.parse_dump(self.ours("open", "INBOX", ",", "dump", ",", "close"))
        if isinstance(box, str):
            raise RuntimeError(box)
        return box

    def terminal(self, argv, seconds=300, keys="", ready=b""):
        """Runs a full-screen program on a terminal of its own until it ends; once it has shown what `ready` says, types a key
        whenever it has answered the last one and has been quiet for a while. What it showed and its status."""
        master, slave = pty.openpty()
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        p = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=self.env, cwd=self.folder,
                             start_new_session=True, **self.demote())
        os.close(slave)
        out, seen, ends, keys = b"", 0, time.monotonic() + seconds, list(keys)
        while time.monotonic() < ends:
            if select.select([master], [], [], 0.3)[0]:
                try:
                    out += os.read(master, 65536)
                except OSError:
                    break
            elif p.poll() is not None:
                break
            elif keys and ready in out and len(out) > seen:
                seen = len(out)
                os.write(master, keys.pop(0).encode())
        try:
            p.wait(60)
        except subprocess.TimeoutExpired:
            p.kill()
        os.close(master)
        return out, p.wait()

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def table(box):
    return {m.ident: (m.uid, m.flags) for m in box.messages}


def start(place, own=False, count=6):
    """A box of `count` messages whose UIDs we have given; {ident: (uid, flags)}."""
    if own:
        place.new_box(b"")
        words = []
        for n in range(count):
            path = os.path.join(place.folder, "m%d" % n)
            with open(path, "wb") as f:
                f.write(crashlib.message("f%d" % n, 600 * (n + 1)))
            os.chmod(path, 0o644)
            words += ["append", "INBOX", "", path, ","]
        place.ours(*words[:-1])
    else:
        place.new_box(scenarios.foreign_mbox(count))
    place.ours("open", "INBOX", ",", "flags", "all", "-S", ",", "flush", ",", "close")
    return table(place.dump())


def whole(place, result, text):
    box = place.dump()
    bad = [m.ident for m in box.messages if not crashlib.is_whole(m.text)]
    result.check(not bad, text + ": every message is whole", repr(bad))
    return table(box)


def same_uids(result, text, before, after, gone=()):
    want = {i: u for i, (u, _) in before.items() if i not in gone}
    have = {i: u for i, (u, _) in after.items()}
    result.check(want == have, text + ": UIDs stay", "%r became %r" % (want, have))


# ---- the programs: flag f1, read f2, delete f3 ----

def mutt_keys(place, keys):
    rc = os.path.join(place.folder, "muttrc")
    with open(rc, "w") as f:
        f.write('set folder=%s\nset tmpdir=%s\nset delete=yes\nset quit=yes\nset move=no\nset wait_key=no\nset beep=no\n'
                'unset resolve\nset confirmcreate=no\nset confirmappend=no\nset copy=no\nset record=""\nset header_cache=""\npush "%s"\n' % (place.folder, place.folder, keys))
    os.chmod(rc, 0o644)
    return place.terminal(["mutt", "-n", "-F", rc, "-f", place.work.inbox])


def by_mutt(place):
    mutt_keys(place, "<first-entry><next-entry><flag-message><next-entry><clear-flag>N<delete-pattern>~i f3@<enter><quit>")
    return "F", "S"


def mutt_sees(place):
    """Idents that mutt calls flagged, answered, read."""
    out = {}
    for name, pattern in (("F", "~F"), ("A", "~Q"), ("S", "~R")):
        target = os.path.join(place.folder, "seen-" + name)
        mutt_keys(place, "<tag-pattern>%s<enter><tag-prefix-cond><copy-message>%s<enter><end-cond><exit>" % (pattern, target))
        data = b""
        if os.path.exists(target):
            with open(target, "rb") as f:
                data = f.read()
        out[name] = {crashlib.ident_of(m) for m in crashlib.mbox_messages(data)}
    return out


def by_bsd_mailx(place):
    place.run(["bsd-mailx", "-n", "-f", place.work.inbox], b"type 3\ndelete 4\nquit\n")
    return None, "S"


def bsd_mailx_sees(place):
    out = place.run(["bsd-mailx", "-n", "-f", place.work.inbox], b"headers\nexit\n").stdout.decode()
    return {"S": {m.group(2) for m in re.finditer(r"^[> ]([ RNUO*M]) .*test (f\d)", out, re.M) if m.group(1) in " O"}}


def by_s_nail(place):
    place.run(["s-nail", "-#", "-:/", "-f", place.work.inbox], b"flag 2\ntype 3\ndelete 4\nquit\n")
    return "F", "S"


def s_nail_sees(place):
    out = {}
    for name, pattern in (("F", ":f"), ("A", ":a")):
        text = place.run(["s-nail", "-#", "-:/", "-R", "-f", place.work.inbox], b"from %s\nexit\n" % pattern.encode()).stdout.decode()
        out[name] = set(re.findall(r"test (f\d)", text))
    return out


def by_alpine(place):
    rc = os.path.join(place.folder, "pinerc")
    with open(rc, "w") as f:
        f.write("inbox-path=%s\nfeature-list=enable-flag-cmd,quit-without-confirm,expunge-without-confirm,"
                "expunge-without-confirm-everywhere,enable-full-header-cmd,no-show-cursor,auto-move-read-msgs\n"
                "last-version-used=99.99\nlast-time-prune-questioned=126.1\npersonal-name=nobody\nuser-domain=example.org\n"
                "postponed-folder=\ndefault-fcc=\"\"\n" % place.work.inbox)
    if place.own:
        os.chown(rc, USER, USER)
    # next, flag it important, next, view it, index, next, delete it, expunge, quit
    place.alpine = place.terminal(["alpine", "-p", rc, "-i", "-n", "1", "-sort", "arrival"], keys="n**nvindxq", ready=b"test f5")
    return "F", "S"


# ---- Dovecot ----

class Dovecot:
    def __init__(self, place):
        conf = os.path.join(place.folder, "dovecot.conf")
        work = place.folder
        with open(conf, "w") as f:
            f.write("mail_location = mbox:%s/dovemail:INBOX=%s\nssl = no\nlog_path = %s/dovecot.log\nbase_dir = %s/run\n"
                    "state_dir = %s/dovestate\n" % (work, place.work.inbox, work, work, work))
        os.chmod(conf, 0o644)
        self.p = subprocess.Popen(["/usr/lib/dovecot/imap", "-c", conf], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, env=place.env, cwd=place.folder, **place.demote())
        if not self.p.stdout.readline().startswith(b"* PREAUTH"):
            raise RuntimeError("Dovecot does not start")
        self.n = 0

    def ask(self, command):
        self.n += 1
        tag = b"t%d" % self.n
        self.p.stdin.write(tag + b" " + command.encode() + b"\r\n")
        self.p.stdin.flush()
        out = []
        while True:
            line = self.p.stdout.readline()
            if not line:
                raise RuntimeError("Dovecot ended at %s" % command)
            out.append(line.decode("latin-1").rstrip())
            if line.startswith(tag + b" "):
                if not line.startswith(tag + b" OK"):
                    raise RuntimeError("Dovecot: %s: %s" % (command, line))
                return out

    def flags(self):
        """{ident: (uid, set of flags)}."""
        out = {}
        text = "\n".join(self.ask("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (X-CRASH-ID)])"))
        for m in re.finditer(r"UID (\d+) FLAGS \(([^)]*)\)[^\n]*\n+X-Crash-Id: (\S+)", text):
            out[m.group(3)] = (int(m.group(1)), set(m.group(2).split()) - {"\\Recent"})
        return out

    def end(self):
        self.ask("LOGOUT")
        self.p.stdin.close()
        self.p.wait(60)


def by_dovecot(place):
    d = Dovecot(place)
    d.ask("SELECT INBOX")
    d.ask("STORE 2 +FLAGS (\\Flagged)")
    d.ask("STORE 3 +FLAGS (\\Seen)")
    d.ask("STORE 4 +FLAGS (\\Deleted)")
    d.ask("EXPUNGE")
    d.end()
    return "F", "S"


DOVE = {"F": "\\Flagged", "S": "\\Seen", "A": "\\Answered"}


def dovecot_sees(place):
    d = Dovecot(place)
    d.ask("SELECT INBOX")
    flags = d.flags()
    d.end()
    return {name: {i for i, (_, fs) in flags.items() if flag in fs} for name, flag in DOVE.items()}


def test_dovecot_uids(place, result, own):
    text = "dovecot, %s messages" % ("own" if own else "foreign")
    before = start(place, own)
    place.ours("open", "INBOX", ",", "flags", "2", "+:work,$Forwarded", ",", "flush", ",", "close")
    validity = place.dump().validity
    d = Dovecot(place)
    line = [l for l in d.ask("SELECT INBOX") if "UIDVALIDITY" in l]
    result.check(bool(line) and "UIDVALIDITY %d]" % validity in line[0], text + ": UIDVALIDITY agrees", "%d, %r" % (validity, line))
    theirs = d.flags()
    result.check({i: u for i, (u, _) in theirs.items()} == {i: u for i, (u, _) in before.items()}, text + ": UIDs agree",
                 "%r %r" % (theirs, before))
    second = [i for i, (u, _) in before.items() if u == sorted(v[0] for v in before.values())[1]][0]
    result.check(theirs.get(second, (0, set()))[1] >= {"work", "$Forwarded"}, text + ": Dovecot sees our keywords", repr(theirs.get(second)))
    d.ask("STORE 1 +FLAGS (fromdovecot \\Answered)")
    new = crashlib.wire(crashlib.message("fromdovecot", 900, odd=False))
    d.p.stdin.write(b"x APPEND INBOX (\\Seen) {%d+}\r\n" % len(new) + new + b"\r\n")
    d.ask("NOOP")
    d.ask("CHECK")
    theirs = d.flags()
    d.end()
    after = whole(place, result, text)
    same_uids(result, text + ", after its append", before, {i: v for i, v in after.items() if i != "fromdovecot"})
    result.check("fromdovecot" in after and after["fromdovecot"][0] == theirs["fromdovecot"][0], text + ": its APPEND's UID is ours",
                 "%r %r" % (after.get("fromdovecot"), theirs.get("fromdovecot")))
    result.check("fromdovecot" in after[min(before, key=lambda i: before[i][0])][1], text + ": we see its keyword", repr(after))
    path = os.path.join(place.folder, "late")
    with open(path, "wb") as f:
        f.write(crashlib.message("late", 500))
    os.chmod(path, 0o644)
    place.ours("append", "INBOX", "SA", path)
    ours = table(place.dump())
    d = Dovecot(place)
    d.ask("SELECT INBOX")
    theirs = d.flags()
    d.end()
    result.check(theirs.get("late", (0, 0)) == (ours["late"][0], {"\\Seen", "\\Answered"}), text + ": it sees our append, UID and flags",
                 "%r %r" % (theirs.get("late"), ours["late"]))


# ---- both ways with each program ----

PROGRAMS = [
    ("mutt", "mutt", by_mutt, mutt_sees), ("bsd-mailx", "bsd-mailx", by_bsd_mailx, bsd_mailx_sees),
    ("s-nail", "s-nail", by_s_nail, s_nail_sees), ("alpine", "alpine", by_alpine, None),
    ("dovecot", "/usr/lib/dovecot/imap", by_dovecot, dovecot_sees),
]


def test_program(place, result, name, act, sees, own):
    text = "%s, %s messages" % (name, "own" if own else "foreign")
    before = start(place, own)
    flagged, read = act(place)
    after = whole(place, result, text)
    result.check("f3" not in after, text + ": we see its deletion", repr(after))
    same_uids(result, text, before, after, gone=("f3",))
    if flagged:
        result.check(flagged in after["f1"][1], text + ": we see its \\Flagged", repr(after))
    result.check(read in after["f2"][1], text + ": we see its \\Seen", repr(after))
    if not sees:
        return
    place.ours("open", "INBOX", ",", "flags", "all", "-SFA", ",", "flags", "%d,%d" % (after["f0"][0], after["f5"][0]), "+SF",
               ",", "flags", "%d" % after["f4"][0], "+SA", ",", "flush", ",", "close")
    theirs = sees(place)
    want = {"F": {"f0", "f5"}, "A": {"f4"}, "S": {"f0", "f4", "f5"}}
    for flag, idents in theirs.items():
        result.check(idents == want[flag] or (flag == "S" and name == "mutt" and idents | {"f4"} == want[flag]),
                     "%s: it sees our %s" % (text, flag), "%r, not %r" % (sorted(map(str, idents)), sorted(want[flag])))
    final = whole(place, result, text + ", after its look")
    same_uids(result, text + ", after its look", after, final)


# ---- rewriting, reordering, backups ----

def split_raw(data):
    """An mbox file as its raw messages with From_ lines (the scenarios' bodies quote theirs)."""
    return [m for m in re.split(rb"(?m)(?:(?<=\n\n)|\A)(?=From \S+ .*\d\d:\d\d:\d\d \d{4}$)", data) if m]


def test_reorder(place, result, own):
    text = "reordered, %s messages" % ("own" if own else "foreign")
    start(place, own)
    place.ours("open", "INBOX", ",", "flags", "2,5", "+F:work", ",", "flags", "3", "+SA", ",", "flush", ",", "close")
    before = table(place.dump())
    messages = split_raw(place.read())
    result.check(len(messages) == len(before), text + ": the test can split the box", "%d" % len(messages))
    rng = random.Random(7)
    for n in range(3):
        rng.shuffle(messages)
        place.write(b"".join(messages))
        after = whole(place, result, text)
        check_kept(result, "%s, shuffle %d" % (text, n), before, after)


def check_kept(result, text, before, after):
    """The same messages with the same flags; a UID may grow when IMAP's order forces it, but never names another message."""
    result.check(set(before) == set(after), text + ": the same messages", "%r %r" % (sorted(before), sorted(map(str, after))))
    result.check({i: f for i, (_, f) in before.items()} == {i: f for i, (_, f) in after.items()}, text + ": flags stay",
                 "%r became %r" % (before, after))
    same_uids(result, text, before, after)


def test_formail(place, result):
    """formail rewrites every message: a From_ line in its own form, Content-Length gone."""
    before = start(place)
    place.ours("open", "INBOX", ",", "flags", "2,5", "+F", ",", "flush", ",", "close")
    before = table(place.dump())
    p = place.run(["formail", "-s"], place.read())
    place.write(p.stdout)
    check_kept(result, "formail -s", before, whole(place, result, "formail -s"))


def test_strip(place, result):
    """A program that throws all our headers away: content alone identifies the messages."""
    before = start(place)
    data = re.sub(rb"(?mi)^(x-uid|x-imapbase|x-imap|x-keywords): .*\n", b"", place.read())
    place.write(data)
    after = whole(place, result, "headers stripped")
    same_uids(result, "headers stripped", before, after)


def test_backup(place, result, own):
    text = "backup, %s messages" % ("own" if own else "foreign")
    start(place, own)
    place.ours("open", "INBOX", ",", "flags", "1,4", "+F:work", ",", "flush", ",", "close")
    old = place.read()
    before = table(place.dump())
    uids = sorted(u for u, _ in before.values())
    place.ours("open", "INBOX", ",", "remove", "%d,%d" % (uids[1], uids[2]), ",", "close")
    validity = place.dump().validity
    shutil.copy(place.work.inbox, place.work.inbox + ".new") # a restore puts another inode in place
    with open(place.work.inbox + ".new", "wb") as f:
        f.write(old)
    if place.own:
        os.chown(place.work.inbox + ".new", USER, USER)
    os.rename(place.work.inbox + ".new", place.work.inbox)
    box = place.dump()
    after = whole(place, result, text)
    kept = {i: v for i, v in before.items() if v[0] not in (uids[1], uids[2])}
    result.check(set(after) == set(before), text + ": all messages are back", repr(sorted(map(str, after))))
    if box.validity == validity:
        result.check(all(after.get(i) == v for i, v in kept.items()), text + ": UIDs and flags of those that stayed", "%r became %r" % (kept, after))
        used = {v[0]: i for i, v in before.items()}
        wrong = [i for i, v in after.items() if used.get(v[0], i) != i]
        result.check(not wrong, text + ": no UID names another message", repr(wrong))
    else:
        result.check(False, text + ": UIDVALIDITY stays", "%d became %d" % (validity, box.validity))


def inside(args):
    build, result = os.path.abspath(args.build), crashlib.Result()
    place = Place(build)

    def guarded(text, function, *more):
        if args.only not in text:
            return
        try:
            function(place, result, *more)
        except (RuntimeError, OSError, KeyError, IndexError, subprocess.SubprocessError) as error:
            result.check(False, text, "%s: %s" % (type(error).__name__, error))

    try:
        for name, path, act, sees in PROGRAMS:
            if not shutil.which(path):
                result.skip("interop with %s: not installed" % name)
                continue
            for own in (False, True):
                guarded(name, test_program, name, act, sees, own)
            if name == "dovecot":
                guarded("dovecot uids", test_dovecot_uids, False)
                guarded("dovecot uids", test_dovecot_uids, True)
        for own in (False, True):
            guarded("reorder", test_reorder, own)
            guarded("backup", test_backup, own)
        guarded("strip", test_strip)
        if shutil.which("formail"):
            guarded("formail", test_formail)
        else:
            result.skip("interop with formail: not installed")
    finally:
        place.close()
    return result.finish()


def unpack_alone(package, root):
    """Unpacks one package without what it depends on (bsd-mailx wants a mail server beside it)."""
    target = os.path.join(root, package)
    if not os.path.exists(os.path.join(target, "usr")):
        os.makedirs(target, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", package], cwd=target, check=True, capture_output=True)
        for deb in [n for n in os.listdir(target) if n.endswith(".deb")]:
            subprocess.run(["dpkg", "-x", os.path.join(target, deb), target], check=True)
    return target


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--inside", action="store_true")
    args = parser.parse_args()
    if args.inside or os.geteuid() != 0:
        return inside(args)
    root, roots = os.path.join(os.path.abspath(args.build), "peers"), []
    try:
        roots += [unpack_alone("bsd-mailx", root)]
    except (OSError, subprocess.CalledProcessError) as error:
        print("bsd-mailx cannot be had: %s" % error)
    roots += [r for r in [peers.unpack("dovecot", root)] if r]
    command = [sys.executable, os.path.abspath(__file__), "--inside", "--only", args.only, os.path.abspath(args.build)]
    return subprocess.run(peers.overlay_command(roots, command) if roots else command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
