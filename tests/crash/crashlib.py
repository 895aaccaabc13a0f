"""What the crash, hammer and interop tests share: messages that prove themselves, a mbox reader that owes nothing to the
store, folders put back to an earlier moment in the same inodes, and runs of the `work` program."""

import ctypes
import functools
import hashlib
import os
import re
import select
import shutil
import stat
import subprocess

HIDDEN = re.compile(rb"(status|x-status|x-keywords|x-uid|x-imap|x-imapbase|content-length|x-pennypost[a-z-]*|lines):", re.I)


# ---- messages ----

def message(ident, size, extra=b"", odd=True):
    """A message in LF form with its own identity and the checksum of its body in the header."""
    body = bytearray()
    if odd:
        body += b"From here on a line that looks like a separator\n\nFrom me to you Thu Jan  1 00:00:00 1970\n"
        body += b">From quoted once\n>>From quoted twice\n \n\n.\n..\n"
    n = 0
    while len(body) < size:
        body += b"%s line %d " % (ident.encode(), n) + hashlib.sha1(b"%s %d" % (ident.encode(), n)).hexdigest().encode() + b"\n"
        n += 1
    digest = hashlib.sha256(body).hexdigest().encode()
    head = (b"From: Sender <sender@example.org>\nTo: user@example.org\nSubject: test %s\n"
            b"Message-ID: <%s@example.org>\nDate: Thu, 1 Jan 2026 00:00:00 +0000\nX-Crash-Id: %s\nX-Crash-Sum: %s\n"
            % (ident.encode(), ident.encode(), ident.encode(), digest))
    return head + extra + b"\n" + bytes(body)


def wire(text):
    """The form in which the store serves it."""
    return text.replace(b"\n", b"\r\n")


def ident_of(text):
    found = re.search(rb"^X-Crash-Id: (\S+)\r?$", text, re.M)
    return found.group(1).decode() if found else None


@functools.lru_cache(maxsize=512)
def is_whole(text):
    """Does the checksum in a message's header hold for its body (LF or CRLF, as served)?"""
    head, sep, body = text.replace(b"\r\n", b"\n").partition(b"\n\n")
    found = re.search(rb"^X-Crash-Sum: (\S+)$", head, re.M)
    return bool(found) and hashlib.sha256(body).hexdigest().encode() == found.group(1)


# ---- an independent reader of mbox files ----

FROM_LINE = re.compile(rb"From (?:\S+ +)?.*\d\d:\d\d(?::\d\d)?.* \d{4}\b")


def mbox_messages(data):
    """The messages of an mbox file, each without its From_ line, headers as stored, body unquoted (mboxrd)."""
    data = data.replace(b"\r\n", b"\n")
    starts, at = [], 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end + 1
        if data.startswith(b"From ", at) and (at == 0 or data[max(at - 2, 0):at] == b"\n\n") and FROM_LINE.match(data[at:end]):
            starts.append((at, end))
        at = end
    out = []
    for i, (begin, end) in enumerate(starts):
        last = starts[i + 1][0] if i + 1 < len(starts) else len(data)
        text = data[end:last]
        if text.endswith(b"\n\n"):
            text = text[:-1]
        elif not text.endswith(b"\n"):
            text += b"\n" # an unended last line
        out.append(text)
    return out


@functools.lru_cache(maxsize=32)
def texts_of(data):
    """The same for who looks at nearly the same file many times."""
    return tuple(mbox_messages(data))


def stored_to_wire(text, unquote):
    """What the store should serve of a stored message."""
    head, _, body = text.partition(b"\n\n")
    lines = re.split(rb"\n(?![ \t])", head)
    head = b"\n".join(l for l in lines if not HIDDEN.match(l))
    if unquote:
        body = re.sub(rb"(?m)^>(>*From )", rb"\1", body)
    return (head + b"\n\n" + body).replace(b"\n", b"\r\n")


@functools.lru_cache(maxsize=512)
def raw_whole(text):
    """Is a message as it stands in the file whole, quoted or not?"""
    return is_whole(stored_to_wire(text, True)) or is_whole(stored_to_wire(text, False))


# ---- folders ----

class Snapshot:
    """All files below a folder; put back in place, so that inode numbers and times stay what they were."""

    def __init__(self, root):
        self.root, self.files, self.dirs = root, {}, []
        for base, dirs, files in os.walk(root):
            self.dirs += [os.path.relpath(os.path.join(base, d), root) for d in dirs]
            for name in files:
                path = os.path.join(base, name)
                st = os.lstat(path)
                with open(path, "rb") as f:
                    self.files[os.path.relpath(path, root)] = (f.read(), st.st_mtime_ns, st.st_mode, st.st_ino)

    def restore(self):
        materialise(self.root, self.files, self.dirs)


def materialise(root, files, dirs):
    """Makes `root` hold exactly these. files: {path: (bytes, mtime_ns or None, mode, ...)}. Existing files keep their inode."""
    wanted = set(dirs)
    for base, have_dirs, have_files in os.walk(root, topdown=False):
        for name in have_files:
            path = os.path.join(base, name)
            rel = os.path.relpath(path, root)
            if rel not in files or not stat.S_ISREG(os.lstat(path).st_mode):
                os.unlink(path)
        for name in have_dirs:
            path = os.path.join(base, name)
            if os.path.relpath(path, root) not in wanted:
                shutil.rmtree(path)
    for d in sorted(wanted):
        os.makedirs(os.path.join(root, d), mode=0o700, exist_ok=True)
    for rel, entry in files.items():
        path = os.path.join(root, rel)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, entry[2] & 0o777)
        try:
            if os.fstat(fd).st_size != len(entry[0]) or os.pread(fd, len(entry[0]), 0) != entry[0]:
                os.ftruncate(fd, 0)
                os.pwrite(fd, entry[0], 0)
            if entry[1] is not None:
                os.utime(fd, ns=(entry[1], entry[1]))
        finally:
            os.close(fd)


# ---- a disk of its own ----

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18


class Disk:
    """An ext4 or XFS file system in a file, mounted where only this process and its children see it."""

    MKFS = {"ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096"], "ext4-1k": ["mkfs.ext4", "-q", "-F", "-b", "1024"], "xfs": ["mkfs.xfs", "-q", "-f"]}

    def __init__(self, kind, folder):
        self.kind, self.image, self.mount = kind, os.path.join(folder, kind + ".img"), os.path.join(folder, kind)
        os.makedirs(self.mount)
        with open(self.image, "wb") as f:
            f.truncate(320 << 20) # mkfs.xfs wants 300 MiB; it stays a sparse file
        subprocess.run(self.MKFS[kind] + [self.image], check=True, capture_output=True)
        self.up()

    @staticmethod
    def own_namespace():
        """May we mount, and does nobody else see it?"""
        libc = ctypes.CDLL(None, use_errno=True)
        return os.geteuid() == 0 and not libc.unshare(CLONE_NEWNS) and not libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)

    def up(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.mount], check=True, capture_output=True)

    def down(self):
        subprocess.run(["umount", self.mount], check=True, capture_output=True)

    def again(self):
        self.down()
        self.up()


# ---- the work program ----


def whole(fd):
    return os.pread(fd, os.fstat(fd).st_size, 0)


def run_quickly(argv, timeout, **options):
    """subprocess.run() with what is written in memory: no pipe to be emptied in pieces, no looking again and again whether
    the process has ended. It is called some hundred thousand times."""
    out, err = os.memfd_create("stdout"), os.memfd_create("stderr")
    try:
        p = subprocess.Popen(argv, stdout=out, stderr=err, **options)
        pid = os.pidfd_open(p.pid)
        try:
            if not select.select([pid], [], [], timeout)[0]:
                p.kill()
                p.wait()
                raise subprocess.TimeoutExpired(argv, timeout, whole(out), whole(err))
        finally:
            os.close(pid)
        return subprocess.CompletedProcess(argv, p.wait(), whole(out), whole(err))
    finally:
        os.close(out)
        os.close(err)


USER = 65534


class Work:
    """Runs of `work` on one box folder: root/spool/INBOX, root/mail, root/state. With `demote` everything runs as USER when
    we are root (the sessions refuse to be root), from copies of the programs beside the folder."""

    PROGRAMS = ["tests/crash/work", "handlers/imap/imap-session", "handlers/pop3/pop3-session", "handlers/deliver/deliver"]

    def __init__(self, build, root, demote=False):
        self.program = os.path.join(build, "tests/crash/work")
        self.library = os.path.join(build, "tests/crash/libinterpose.so")
        self.root, self.boot = root, None # boot: the text of another boot id, as after a power cut
        self.skips_sync = False # who runs the program and looks on needs none: what a process wrote is there when it is killed
        self.plain_times = False # an index fits a file that was put back (times.c)
        self.inbox = os.path.join(root, "spool/INBOX")
        self.paths = [self.inbox, os.path.join(root, "mail"), os.path.join(root, "state")]
        self.as_user = {}
        self.programs = {os.path.basename(p): os.path.join(build, p) for p in self.PROGRAMS if os.path.exists(os.path.join(build, p))}
        if demote and os.geteuid() == 0:
            self.as_user = {"user": USER, "group": USER, "extra_groups": []}
            for name, path in self.programs.items():
                self.programs[name] = shutil.copy(path, os.path.join(os.path.dirname(root), name))
            self.program = self.programs["work"]

    def give(self):
        """Hands the folder to the user that the programs run as."""
        if self.as_user:
            subprocess.run(["chown", "-R", "%d:%d" % (USER, USER), os.path.dirname(self.root)], check=True)

    def options(self):
        """The same boxes on the command line of a session."""
        return ["-o", "spool=" + self.inbox, "-o", "folders=" + self.paths[1], "-o", "state=" + self.paths[2]]

    def fresh(self):
        shutil.rmtree(self.root, ignore_errors=True)
        os.makedirs(os.path.join(self.root, "spool"))
        os.makedirs(os.path.join(self.root, "mail"), mode=0o700)
        os.makedirs(os.path.join(self.root, "state"), mode=0o700)
        self.give()

    def argv(self, words, options=()):
        return [self.program, *options, *self.paths, *words]

    def run(self, words, interpose=None, options=("-t", "2"), timeout=600):
        env = dict(os.environ)
        if (self.boot or self.skips_sync or self.plain_times) and not interpose:
            interpose = dict(CRASH_MODE="kill", CRASH_AT=0)
        if interpose:
            interpose = dict(interpose, CRASH_SKIP_SYNC=int(self.skips_sync and interpose["CRASH_MODE"] != "cut"))
            if self.boot:
                boot_file = self.root + ".boot"
                with open(boot_file, "w", encoding="ascii") as f:
                    f.write(self.boot)
                env["CRASH_BOOT"] = boot_file
            env.update({k: str(v) for k, v in interpose.items()})
            if self.plain_times:
                env["CRASH_PLAIN_TIMES"] = "1"
            env.update(CRASH_DIR=self.root, LD_PRELOAD=self.library, ASAN_OPTIONS="verify_asan_link_order=0")
        return run_quickly(self.argv(words, options), timeout, env=env, stdin=subprocess.DEVNULL, **self.as_user)

    def dump(self, box="INBOX", options=()):
        """A Box, or an error text."""
        p = self.run(["open", box, ",", "dump", ",", "close"], options=options)
        return parse_dump(p.stdout) if p.returncode == 0 else failure(p)

    def dumps(self, boxes, first=()):
        """{name: Box} of several boxes from one process, which does what the words of `first` say before; an error text."""
        words = list(first)
        for name in boxes:
            words += ([","] if words else []) + ["open", name, ",", "dump", ",", "close"]
        p = self.run(words)
        return parse_dumps(p.stdout, boxes) if p.returncode == 0 else failure(p)


class Box:
    def __init__(self, validity, uidnext, modseq):
        self.validity, self.uidnext, self.modseq, self.messages = validity, uidnext, modseq, []

    def by_ident(self):
        out = {}
        for m in self.messages:
            out.setdefault(m.ident, []).append(m)
        return out


class Message:
    def __init__(self, uid, flags, modseq, size, date, text):
        self.uid, self.flags, self.modseq, self.size, self.date, self.text = uid, flags, modseq, size, date, text
        self.ident = ident_of(text)
        self.digest = hashlib.sha256(text).hexdigest()

    def record(self):
        return (self.uid, self.flags, self.digest)


def failure(p):
    bad = re.findall(rb"^ERR .*$", p.stdout, re.M)
    return "status %d %s %s" % (p.returncode, bad[-1].decode() if bad else "", p.stderr[-600:].decode("utf-8", "replace"))


def parse_dump(out):
    box = parse_box(out, out.find(b"BOX "))
    return box if isinstance(box, str) else box[0]


def parse_dumps(out, names):
    """The dumps of one process after the other: what stands in messages is never looked at."""
    boxes, at = {}, 0
    for name in names:
        while at < len(out) and not out.startswith(b"BOX ", at):
            at = out.find(b"\n", at) + 1 or len(out)
        box = parse_box(out, at)
        if isinstance(box, str):
            return "%s: %s" % (name, box)
        boxes[name], at = box
    return boxes


def parse_box(out, at):
    """A Box and where its dump ends; an error text."""
    if not 0 <= at < len(out):
        return "no dump: %r" % out[-300:]
    end = out.index(b"\n", at)
    box = Box(*[int(x) for x in out[at:end].split()[1:4]])
    at = end + 1
    while out.startswith(b"MSG ", at):
        end = out.index(b"\n", at)
        _, uid, flags, modseq, size, date = out[at:end].split()
        size = int(size)
        text = out[end + 1:end + 1 + size]
        if out[end + 1 + size:end + 2 + size] != b"\n":
            return "message %s: not as many bytes as its size" % uid.decode()
        box.messages.append(Message(int(uid), flags.decode(), int(modseq), size, int(date), text))
        at = end + 2 + size
    return box, at


def acks(out):
    return [line.decode() for line in out.split(b"\n") if line.startswith(b"ACK ")]


class Result:
    """Counts checks; the closing line of every test program here."""

    def __init__(self):
        self.passed = self.failed = 0
        self.skipped = []

    def check(self, ok, text, detail=""):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
            print("FAILED: %s%s" % (text, ": " + detail if detail else ""), flush=True)
        return ok

    def skip(self, text):
        self.skipped.append(text)
        if os.environ.get("CI") == "true":
            self.check(False, "skipped under CI", text)
        else:
            print("SKIP " + text, flush=True)

    def finish(self):
        skipped = ", %d skipped" % len(self.skipped) if self.skipped else ""
        print("%d passed, %d failed%s" % (self.passed, self.failed, skipped), flush=True)
        return 1 if self.failed or not (self.passed or self.skipped) else 0
