#!/usr/bin/env python3
"""Delivery together with other people's programs: procmail, maildrop and set-group-id wrappers behind our smtp; our deliver
and our LMTP behind Postfix, Exim and fetchmail.

    agents.py BUILD_DIR

The servers run in a box; Debian's packages are unpacked and laid over the file system there, not installed. What cannot be
had is named and left out. Closes with "N passed, N failed".
"""
import glob
import os
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../bench")]
import peers  # noqa: E402
import world  # noqa: E402

BUILD = os.path.abspath(sys.argv[1])
DELIVER, SMTP, LISTEN, POP3 = (BUILD + "/handlers/" + x for x in ("deliver/deliver", "smtp/smtp", "listen/listen", "pop3/pop3"))
UNPACKED = os.environ.get("PENNYPOST_UNPACKED")
PACKAGES = {"postfix": ["postfix"], "exim": ["exim4-daemon-light"], "procmail": ["procmail"],
            "maildrop": ["maildrop"], "fetchmail": ["fetchmail"]}
WORK = "/var/tmp/work"
TESTS = world.Tests()
OPTIONS = ["-o", "hostname=mail.test"]
BODY = b"From here\n>From there\n.\n..\n.x\nGr\xfc\xdfe \xc3\xa9\n\n\nFrom  the end\nlast line\n"


# ---- the world ----

def write(path, text, owner=0, mode=0o644):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chown(path, owner, owner)
    os.chmod(path, mode)


def uid(user):
    return int(subprocess.run(["id", "-u", user], check=True, stdout=subprocess.PIPE).stdout)


def prepare():
    for folder in ("/etc/pennypost", WORK, "/var/spool/pennypost", "/var/lib/pennypost/locks"):
        os.makedirs(folder, 0o755, exist_ok=True)
    write("/etc/aliases", "")
    os.chmod(WORK, 0o1777)
    write("/etc/pennypost/pennypost.conf", "hostname = mail.test\nplaintext_auth = local\n")
    with open("/etc/passwd", "a", encoding="ascii") as f:
        f.write("postfix:x:907:907::/nonexistent:/bin/false\nDebian-exim:x:911:911::/nonexistent:/bin/false\n")
    with open("/etc/group", "a", encoding="ascii") as f:
        f.write("postfix:x:907:\npostdrop:x:908:\nDebian-exim:x:911:\n")


def home(user):
    return os.path.expanduser("~" + user)


def forward(text, user="alice"):
    path = home(user) + "/.forward"
    if text is None:
        if os.path.exists(path):
            os.unlink(path)
    else:
        write(path, text + "\n", uid(user))


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return b""


def empty_box(user="alice"):
    """Where nobody is root there must be one, as adduser and other mailers leave it."""
    write("/var/mail/" + user, "", uid(user), 0o660)
    shutil.chown("/var/mail/" + user, group="mail")


def clear(user="alice"):
    for path in ("/var/mail/" + user, *glob.glob(home(user) + "/mail/*"), WORK + "/out"):
        if os.path.isfile(path):
            os.unlink(path)
    forward(None, user)
    empty_box(user)


def bodies(text):
    """What is behind the header of each message of an mbox that we wrote."""
    parts = re.split(rb"(?:^|\n\n)From [^\n]*\nX-Pennypost", text)[1:]
    return [re.sub(rb"(?m)^>(>*From )", rb"\1", p.partition(b"\n\n")[2]).rstrip(b"\n") + b"\n" for p in parts]


def message(subject):
    return b"From: s@example.org\nTo: alice@mail.test\nSubject: %s\nMessage-ID: <%s@example.org>\n\n" % (
        subject.encode(), subject.encode()) + BODY


def is_whole(path):
    return bodies(read(path)) == [BODY]


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def inject(port, subject="x", recipients=("alice@mail.test",), sender="s@example.org"):
    """None, or what the server said."""
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=120) as client:
            client.sendmail(sender, list(recipients), message(subject).replace(b"\n", b"\r\n"), ["BODY=8BITMIME"])
    except (smtplib.SMTPException, OSError) as e:
        return repr(e)
    return None


class Server:
    def __init__(self, *argv, port=None):
        self.port = port or world.free_port()
        self.log = open(WORK + "/log", "a", encoding="utf-8")
        self.process = subprocess.Popen([x.replace("PORT", str(self.port)) for x in argv], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        if not world.wait_until(lambda: listens(self.port)):
            print("    %s does not answer: %s" % (argv[0], read(WORK + "/log")[-500:]))

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def ours(*arguments):
    return Server(LISTEN, "--bind", "127.0.0.1:PORT", "--", SMTP, *arguments)


def has(*tools):
    for tool in tools:
        if not shutil.which(tool):
            print("left out: %s cannot be had" % tool)
            return False
    return True


# ---- behind our smtp ----

def test_forward_deliver():
    """A .forward that pipes into our own deliver: no loop, and the mailbox that it names."""
    server = ours()
    for argument, path in (("", "/var/mail/alice"), (" -m saved", home("alice") + "/mail/saved"),
                           (" -f \"$SENDER\" -a \"$RECIPIENT\"", "/var/mail/alice"),
                           (" -d alice", "/var/mail/alice")):
        clear()
        forward('"|%s%s"' % (DELIVER, argument.replace('"', '\\"')))
        error = inject(server.port)
        TESTS.check(".forward: |deliver%s" % argument, error is None and is_whole(path), error or read(path)[-900:])
    server.stop()


def test_procmail():
    if not has("procmail"):
        return
    server = ours()
    clear()
    forward('"|IFS=\' \' && exec /usr/bin/procmail -f- || exit 75 #alice"')
    error = inject(server.port)
    text = read("/var/mail/alice")
    TESTS.check("procmail in .forward, its own delivery", error is None and text.count(b"\nSubject: x\n") == 1 and
                text.startswith(b"From s@example.org "), error or text)
    write(home("alice") + "/.procmailrc", "VERBOSE=yes\nLOGFILE=%s/procmail.log\n:0w\n* ^Subject: list\n| %s -m list\n\n:0w\n| %s -f \"$SENDER\"\n" % (WORK, DELIVER, DELIVER),
          uid("alice"))
    empty_box()
    for subject, path in (("list", home("alice") + "/mail/list"), ("other", "/var/mail/alice")):
        error = inject(server.port, subject)
        TESTS.check("procmail, a recipe with |deliver: " + subject, error is None and is_whole(path), error or read(WORK + "/procmail.log"))
    write(home("alice") + "/.procmailrc", ":0w\n| exit 69\n\nEXITCODE=69\n:0\n/dev/null\n", uid("alice"))
    error = inject(server.port)
    TESTS.check("procmail says no: 5xx", error is not None and "550" in error, error)
    os.unlink(home("alice") + "/.procmailrc")
    server.stop()


def test_maildrop():
    if not has("maildrop"):
        return
    server = ours()
    clear()
    write(home("alice") + "/.mailfilter", "if (/^Subject: list/)\n{\n  to \"| %s -m list\"\n}\nto \"| %s\"\n" % (DELIVER, DELIVER),
          uid("alice"), 0o600)
    forward('"|/usr/bin/maildrop"')
    for subject, path in (("list", home("alice") + "/mail/list"), ("other", "/var/mail/alice")):
        error = inject(server.port, subject)
        TESTS.check("maildrop, |deliver: " + subject, error is None and is_whole(path), error or read(path))
    os.unlink(home("alice") + "/.mailfilter")
    server.stop()


def test_set_group_id():
    """Mailman's wrapper and its like: set-group-id works although the parts that strangers reach may not."""
    server = ours()
    clear()
    wrapper = WORK + "/wrapper"
    shutil.copy("/usr/bin/id", wrapper)
    shutil.chown(wrapper, "root", "mail")
    os.chmod(wrapper, 0o2755)
    write("/etc/aliases", "wrapped: \"|%s > %s/out; exit 0\"\n" % (wrapper, WORK))

    error = inject(server.port, recipients=["wrapped@mail.test"])
    TESTS.check("an alias with a set-group-id program", error is None and b"egid=8(mail)" in read(WORK + "/out"),
                error or read(WORK + "/out"))
    os.unlink(WORK + "/out")
    forward('"|%s > %s/out; exit 0"' % (wrapper, WORK))
    error = inject(server.port)
    text = read(WORK + "/out")
    TESTS.check("a .forward with one", error is None and b"egid=8(mail)" in text and b"(alice)" in text, error or text)
    write("/etc/aliases", "")
    server.stop()


def test_file_again():
    """What a killed attempt has put into a file is not put there once more by the queue."""
    import relay_queue
    path, queue = WORK + "/box", relay_queue.Queue(hostname="mail.test")
    fields = ["to-kind file", "to-user nobody", "to-argument " + path]
    subprocess.run([DELIVER, *OPTIONS, "-d", "nobody", "-f", "a@here.example", "-a", "file@mail.test", "-LF", path],
                   input=message("again"), check=True, user="nobody", group="nogroup", extra_groups=[])
    for subject, copies in (("again", 1), ("other", 1), ("other", 1)):
        queue.add(["file@mail.test", *fields], text=message(subject))
        queue.run()
        text = read(path)
        TESTS.check("a file gets %s once" % subject, text.count(b"\nSubject: %s\n" % subject.encode()) == copies and
                    not queue.ids(), text)
    shutil.rmtree(relay_queue.FOLDER)


# ---- our deliver and LMTP behind others ----

POSTFIX = """compatibility_level = 3.6
queue_directory = %(queue)s
data_directory = %(work)s/postfix-data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.test
mydestination = mail.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
maillog_file = %(work)s/postfix.log
maillog_file_prefixes = %(work)s
biff = no
%(more)s
"""


def postfix(more, master_more=""):
    conf, queue, port = WORK + "/postfix", WORK + "/postfix-queue", world.free_port()
    shutil.rmtree(conf, ignore_errors=True)
    shutil.copytree(UNPACKED + "/postfix/etc/postfix", conf)
    shutil.copy("/usr/share/postfix/dynamicmaps.cf", conf)
    lines = []
    with open("/usr/share/postfix/master.cf.dist", encoding="ascii") as f:
        for line in f.read().replace("smtp      inet  n ", "127.0.0.1:%d inet n " % port).splitlines():
            words = line.split()
            if len(words) >= 8 and not line.startswith(("#", " ")) and words[4] == "y":
                line = " ".join(words[:4] + ["n"] + words[5:])
            lines.append(line)
    write(conf + "/master.cf", "\n".join(lines) + "\n" + master_more)
    write(conf + "/main.cf", POSTFIX % {"queue": queue, "work": WORK, "more": more})
    if not os.path.isdir(queue):
        for name in ["../postfix-data"] + "active bounce corrupt defer deferred flush hold incoming private saved trace".split():
            os.makedirs(os.path.join(queue, name), mode=0o700)
            os.chown(os.path.join(queue, name), 907, 907)
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            os.makedirs(os.path.join(queue, name))
            os.chown(os.path.join(queue, name), 907, 908)
            os.chmod(os.path.join(queue, name), mode)
        os.makedirs(os.path.join(queue, "pid"))
    return Server("/usr/lib/postfix/sbin/master", "-c", conf, "-d", port=port)


def arrives(path="/var/mail/alice"):
    world.wait_until(lambda: is_whole(path))
    time.sleep(0.3)  # a second copy would come now
    return is_whole(path)


def log_of(name):
    lines = read("%s/%s" % (WORK, name)).decode("latin-1").splitlines()
    return [x for x in lines if "queue run" not in x and "is frozen" not in x][-20:]


def test_postfix():
    if not has("postconf"):
        return
    lmtp = ours("--lmtp")
    for name, more, master in (
            ("mailbox_command = deliver", "mailbox_command = %s -f \"$SENDER\"" % DELIVER, ""),
            ("mailbox_command with -a", "mailbox_command = %s -f \"$SENDER\" -a \"$RECIPIENT\"" % DELIVER, ""),
            ("pipe(8)", "mailbox_transport = pennypost", "pennypost unix - n n - - pipe\n  flags=DRhu user=alice argv=%s "
             "-f ${sender} -a ${recipient} -d ${user}\n" % DELIVER),
            ("LMTP", "mailbox_transport = lmtp:inet:127.0.0.1:%d" % lmtp.port, "")):
        clear()
        server = postfix(more, master)
        error = inject(server.port)
        TESTS.check("Postfix, %s" % name, error is None and arrives(), error or log_of("postfix.log"))
        text = read("/var/mail/alice")
        TESTS.check("... Return-Path is the sender, once", re.findall(rb"(?m)^Return-[Pp]ath: .*", text) == [
            b"Return-Path: <s@example.org>"], text[:900])
        if name == "LMTP":
            error = inject(server.port, "y", ["alice@mail.test", "bob@mail.test", "nobody-there@mail.test"])
            TESTS.check("... several recipients, one of them unknown", error is None and world.wait_until(
                lambda: len(bodies(read("/var/mail/alice"))) == 2 and len(bodies(read("/var/mail/bob"))) == 1 and
                "550 5.1.1" in read(WORK + "/postfix.log").decode("latin-1")), log_of("postfix.log"))
        server.stop()
    lmtp.stop()


EXIM = """primary_hostname = mail.test
spool_directory = %(work)s/exim
log_file_path = %(work)s/exim-%%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = %(port)d
acl_smtp_rcpt = accept
acl_smtp_data = accept
accept_8bitmime
host_lookup =
tls_advertise_hosts =
never_users =
begin routers
all:
  driver = accept
  domains = mail.test
  transport = ours
begin transports
ours:
%(transport)s
begin retry
* * F,1h,1s
"""


def test_exim():
    if not has("exim4"):
        return
    lmtp = ours("--lmtp")
    socket_path = WORK + "/lmtp.sock"
    # Exim's lmtp driver knows commands and unix sockets.
    unix = subprocess.Popen([sys.executable, "-c", """
import socket, subprocess, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
while True:
    c, _ = s.accept()
    subprocess.Popen(sys.argv[2:], stdin=c, stdout=c)
    c.close()
""", socket_path, SMTP, "--lmtp"])
    world.wait_until(lambda: os.path.exists(socket_path))
    os.chmod(socket_path, 0o666)
    for name, transport in (
            ("lmtp over a unix socket", "  driver = lmtp\n  socket = %s\n  user = Debian-exim\n" % socket_path),
            ("lmtp over TCP", "  driver = smtp\n  protocol = lmtp\n  hosts = 127.0.0.1\n  port = %d\n"
             "  hosts_override\n  allow_localhost\n" % lmtp.port),
            # What came over the wire may not be an argument; the From_ line that Exim writes tells the sender.
            ("pipe", "  driver = pipe\n  command = %s\n  user = alice\n  return_fail_output\n  delivery_date_add\n"
             "  envelope_to_add\n  return_path_add\n" % DELIVER)):
        clear()
        port = world.free_port()
        os.makedirs("/etc/exim4", exist_ok=True)
        os.makedirs(WORK + "/exim", exist_ok=True)
        os.chown(WORK + "/exim", 911, 911)
        write("/etc/exim4/exim4.conf", EXIM % {"work": WORK, "port": port, "transport": transport})
        server = Server("/usr/sbin/exim4", "-bdf", "-odi", "-q1s", port=port)
        error = inject(port)
        TESTS.check("Exim, %s" % name, error is None and arrives(), error or log_of("exim-mainlog"))
        text = read("/var/mail/alice")
        TESTS.check("... Return-Path is the sender, once", re.findall(rb"(?m)^Return-[Pp]ath: .*", text) == [
            b"Return-Path: <s@example.org>"], text[:900])
        server.stop()
    unix.terminate()
    unix.wait()
    lmtp.stop()


def test_fetchmail():
    if not has("fetchmail"):
        return
    pop = Server(LISTEN, "--bind", "127.0.0.1:PORT", "--", POP3, *OPTIONS)
    clear()
    clear("bob")
    for subject in ("one", "two", "three"):
        subprocess.run([DELIVER, *OPTIONS, "-f", "s@example.org"], input=message(subject), check=True, user="alice",
                       group="alice", extra_groups=[])
    rc = WORK + "/fetchmailrc"
    write(rc, "set no syslog\npoll 127.0.0.1 service %d protocol pop3 auth password\n  user alice password wonderland is bob here\n"
          "  sslproto '' nokeep mda \"%s %s -f %%F\"\n" % (pop.port, DELIVER, " ".join(OPTIONS)), uid("bob"), 0o600)
    done = subprocess.run(["fetchmail", "-f", rc, "--nodetach", "--pidfile", "/tmp/fetchmail-%d" % os.getpid()], check=False, timeout=300,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, user="bob", group="bob", extra_groups=[],
                          env={"HOME": home("bob"), "PATH": os.environ["PATH"], "USER": "bob"})
    text = read("/var/mail/bob")
    TESTS.check("fetchmail, mda \"deliver -f %F\"", done.returncode == 0 and bodies(text) == [BODY] * 3 and
                b"Return-Path: <s@example.org>" in text, (done.returncode, done.stdout.decode()[-600:], text[-900:]))
    pop.stop()


# ---- running ----

def inside():
    prepare()
    only = sys.argv[2:]
    for name, test in list(globals().items()):
        if name.startswith("test_") and (not only or name[5:] in only):
            TESTS.attempt(test)
    print("%d passed, %d failed" % (TESTS.passed, TESTS.failed))
    return TESTS.failed > 0


def unpack():
    root = os.path.join(world.cache_dir(), "agents")
    os.makedirs(root, exist_ok=True)
    folders = []
    for name, packages in PACKAGES.items():
        peers.PACKAGES[name] = packages
        folder = peers.unpack(name, root)
        if folder:
            folders.append(folder)
    return folders


def main():
    if UNPACKED:
        return inside()
    staging = os.path.join(BUILD, "agents")
    if not os.path.isdir(staging):
        os.makedirs(staging + ".new", exist_ok=True)
        for folder in unpack():
            shutil.copytree(folder, os.path.join(staging + ".new", os.path.basename(folder)), symlinks=True, dirs_exist_ok=True)
        os.rename(staging + ".new", staging)
    # Over /usr only: the box has an /etc of its own already.
    # What the machine has itself is not unpacked.
    unpacked = [os.path.join(staging, n, "usr") for n in sorted(os.listdir(staging))]
    lower = ":".join(folder for folder in unpacked if os.path.isdir(folder))
    mount = 'mount -t overlay overlay -o lowerdir="%s:/usr" /usr && exec "$@"' % lower
    argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", mount, "sh", sys.executable, __file__, *sys.argv[1:]]
    return subprocess.run([os.path.join(HERE, "box"), *argv], check=False,
                          env=dict(os.environ, PENNYPOST_BUILD=BUILD, PENNYPOST_UNPACKED=staging)).returncode


if __name__ == "__main__":
    sys.exit(main())
