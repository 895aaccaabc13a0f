"""Durable deliveries to local mailboxes over SMTP, driven by Postfix's smtp-source: beside Postfix, Exim and OpenSMTPD.

250 means that the message is on disk: all of them fsync. What arrived is counted in the mailbox files after the queue
has drained, and only then is a figure a figure; the clock runs until the last message is in its mailbox.
"""
import os
import re
import shutil
import signal
import subprocess
import time

import login
import peers
from tables import NEEDED, alternate

USERS = 10
PATIENCE = 60  # seconds for one job
FEW = 3  # rounds of those that are no part of a budget


def names():
    """Accounts: bench0 and up, and 1bench0 to 10bench0, as smtp-source numbers the recipients of one message."""
    for n in range(USERS):
        yield f"bench{n}", 1600 + n
    for n in range(1, USERS + 1):
        yield f"{n}bench0", 1650 + n


def accounts(root):
    """The accounts of login.py, ten recipients and Postfix's own."""
    login.accounts(root)
    with open(os.path.join(root, "etc/passwd"), "a", encoding="ascii") as f:
        f.write("postfix:x:907:907::/nonexistent:/bin/false\n")
        for name, uid in names():
            f.write(f"{name}:x:{uid}:{uid}::/nonexistent:/bin/sh\n")
    with open(os.path.join(root, "etc/group"), "a", encoding="ascii") as f:
        f.write("postfix:x:907:\npostdrop:x:908:\n")
        for name, uid in names():
            f.write(f"{name}:x:{uid}:\n")
    return root


def clear(spool):
    """Empty mailboxes, owned as Debian does."""
    for _ in range(100):  # who wrote the last message may be about to take its lock away
        if not any(name.endswith(".lock") for name in os.listdir(spool)):
            break
        time.sleep(0.02)
    for name in os.listdir(spool):
        try:
            os.unlink(os.path.join(spool, name))
        except FileNotFoundError:  # a file of a lock that its owner has just removed
            pass
    for name, uid in names():
        box = os.path.join(spool, name)
        open(box, "wb").close()
        os.chmod(box, 0o660)
        os.chown(box, uid, 8)


def boxes(spool):
    """Paths of the mailboxes; lock files come and go."""
    return [os.path.join(spool, name) for name, _ in names()]


class Arrivals:
    """Counts the messages in all mailboxes, reading only what is new: who still delivers needs the processor."""

    def __init__(self, spool):
        self.boxes = boxes(spool)
        self.count, self.ends = 0, {box: (0, b"\n") for box in self.boxes}

    def look(self):
        for box in self.boxes:
            at, before = self.ends[box]
            if os.stat(box).st_size > at:
                with open(box, "rb") as f:
                    f.seek(at)
                    text = before + f.read()
                self.count += text.count(b"\nFrom ")
                self.ends[box] = at + len(text) - len(before), text[-5:]
        return self.count

    def octets(self):
        return sum(at for at, _ in self.ends.values())


def expected_body(size):
    """What smtp-source puts into a message of that size: lines of a digit and X, without the line ends."""
    body = bytearray(b"X" * size)
    for number, at in enumerate(range(80, size, 80), 1):
        body[at - 80] = b"0123456789"[number % 10]
        body[at - 2:at] = b"\r\n"
    return bytes(body).replace(b"\r\n", b"\n").rstrip(b"\n")


def wrong_bodies(spool, wanted):
    """How many bodies are not that."""
    wrong = 0
    for box in boxes(spool):
        with open(box, "rb") as f:
            for text in re.split(rb"(?m)^From ", f.read())[1:]:
                wrong += text.partition(b"\n\n")[2].rstrip(b"\n") != wanted
    return wrong


def verify(name, spool, job):
    """Each message has come whole. Of the last one the From_ line may have been seen before the rest."""
    wanted = expected_body(job["size"])
    for _ in range(20):
        wrong = wrong_bodies(spool, wanted)
        if not wrong:
            return
        time.sleep(0.1)
    raise RuntimeError(f"{name}: {wrong} bodies are not what was sent")


def postfix(etc, root, work, spool):
    """Starts Postfix with a queue of its own; returns the server."""
    port = login.free_port()
    conf, queue = os.path.join(work, "postfix"), os.path.join(work, "postfix-queue")
    share = os.path.join(root, "usr/share/postfix")
    shutil.copytree(os.path.join(root, "etc/postfix"), conf, dirs_exist_ok=True)
    shutil.copy(os.path.join(share, "dynamicmaps.cf"), conf)
    with open(os.path.join(share, "master.cf.dist"), encoding="ascii") as f:
        master = f.read()
    master = master.replace("smtp      inet  n       -       y       -       -       smtpd",
                            f"127.0.0.1:{port} inet n - n - - smtpd")
    lines = []
    for line in master.splitlines():
        words = line.split()
        if len(words) >= 8 and not line.startswith(("#", " ")) and words[4] == "y":
            words[4] = "n"
            line = " ".join(words)
        lines.append(line)
    login.write(os.path.join(conf, "master.cf"), "\n".join(lines) + "\n")
    login.write(os.path.join(conf, "main.cf"), f"""compatibility_level = 3.6
queue_directory = {queue}
data_directory = {work}/postfix-data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = localhost
mydestination = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
maillog_file = {work}/postfix.log
maillog_file_prefixes = {work}
biff = no
mail_spool_directory = /var/mail
""")
    os.makedirs(queue, exist_ok=True)
    os.makedirs(os.path.join(work, "postfix-data"), exist_ok=True)
    os.chown(os.path.join(work, "postfix-data"), 907, 907)
    for name in "active bounce corrupt defer deferred flush hold incoming private saved trace".split():
        os.makedirs(os.path.join(queue, name), exist_ok=True)
        os.chown(os.path.join(queue, name), 907, 0)
        os.chmod(os.path.join(queue, name), 0o700)
    for name, mode in (("maildrop", 0o730), ("public", 0o710)):
        os.makedirs(os.path.join(queue, name), exist_ok=True)
        os.chown(os.path.join(queue, name), 907, 908)
        os.chmod(os.path.join(queue, name), mode)
    os.makedirs(os.path.join(queue, "pid"), exist_ok=True)
    return login.Server("postfix", ["/usr/lib/postfix/sbin/master", "-c", conf, "-d"], [etc, root], spool, port)


def exim(etc, root, work, spool):
    """Starts Exim: Debian's binary, a configuration of its own."""
    conf = os.path.join(etc, "etc/exim4/exim4.conf")  # the only place for which it keeps its privileges
    port = login.free_port()
    login.write(conf, f"""primary_hostname = localhost
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
spool_directory = {work}/exim
log_file_path = {work}/exim/%slog
acl_smtp_rcpt = accept
acl_smtp_data = accept
domainlist local_domains = localhost
queue_run_max = 20
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
remote_max_parallel = 10
host_lookup =
keep_environment =
rfc1413_hosts =
never_users =
tls_advertise_hosts =
begin routers
local:
  driver = accept
  domains = localhost
  local_part_suffix_optional
  check_local_user
  transport = box
begin transports
box:
  driver = appendfile
  file = /var/mail/$local_part_data
  delivery_date_add
  return_path_add
  home_directory = /
  current_directory = /
  group = mail
  mode = 0660
  mode_fail_narrower = false
begin retry
* * F,1h,1s
""")
    os.makedirs(os.path.join(work, "exim"), exist_ok=True)
    os.chown(os.path.join(work, "exim"), 911, 911)
    os.chmod(conf, 0o644)
    return login.Server("exim", ["/usr/sbin/exim4", "-bdf", "-q1m"], [etc, root], spool, port)


def opensmtpd(etc, root, work, spool):
    """Starts OpenSMTPD; its queue has to be in /var/spool/smtpd."""
    port = login.free_port()
    conf, queues = os.path.join(work, "smtpd.conf"), os.path.join(work, "opensmtpd-spool")
    login.write(conf, f"""smtp limit max-mails 100000
listen on 127.0.0.1 port {port}
action "box" mbox
match from any for domain "localhost" action "box"
""")
    os.makedirs(os.path.join(queues, "smtpd"), exist_ok=True)
    os.chmod(os.path.join(queues, "smtpd"), 0o711)
    return login.Server("opensmtpd", ["/usr/sbin/smtpd", "-d", "-f", conf], [etc, root], spool, port, var_spool=queues)


# Waits for a line, runs all clients at once, to their end; an argument is one client's.
CLIENTS = """echo; read -r _; for words; do smtp-source $words & clients="$clients $!"; done
for client in $clients; do wait "$client" || failed=1; done; exit $failed"""


def send(server, tools, job):
    """Runs smtp-source for a job {sessions, messages, size, users, recipients} to its end; returns when it began, which is when
    the place is made in which all clients run."""
    etc, root, _ = tools
    # -r: recipients per message, which it numbers: 1bench0@..., so these boxes are named like that.
    clients = [f"-d -s {max(1, job['sessions'] // job['users'])} -m {job['messages'] // job['users']} -l {job['size']} "
               f"-f sender@localhost -r {job['recipients']} -t bench{n}@localhost 127.0.0.1:{server.port}"
               for n in range(job["users"])]
    command = peers.overlay_command([etc, root], ["sh", "-c", CLIENTS, "sh", *clients])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          start_new_session=True) as process:
        try:
            process.stdout.readline()
            start = time.perf_counter()
            process.communicate(b"\n", timeout=PATIENCE)
        except subprocess.TimeoutExpired as late:
            raise RuntimeError(f"{server.name}: not at its end after {PATIENCE} s") from late
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(f"{server.name}: smtp-source failed")
    return start


def one_run(server, tools, job):
    """Seconds until every message of a job is in its mailbox."""
    spool = tools[2]
    clear(spool)
    wanted, arrivals = job["messages"] * job["recipients"], Arrivals(spool)
    start = send(server, tools, job)
    while True:
        now = time.perf_counter()
        if arrivals.look() == wanted and arrivals.octets() > wanted * job["size"] * 0.9:  # the last one's beginning is not enough
            verify(server.name, spool, job)
            return now - start
        if now - start > PATIENCE:
            raise RuntimeError(f"{server.name}: {arrivals.count} of {wanted} arrived")
        time.sleep(0.005)


JOBS = (
    {"sessions": 1, "messages": 1000, "size": 4096, "users": 1, "recipients": 1},
    {"sessions": 10, "messages": 1000, "size": 4096, "users": 1, "recipients": 1},
    {"sessions": 10, "messages": 2000, "size": 4096, "users": 10, "recipients": 1},
    {"sessions": 50, "messages": 2000, "size": 4096, "users": 10, "recipients": 1},
    {"sessions": 10, "messages": 100, "size": 1 << 20, "users": 10, "recipients": 1},
    {"sessions": 1, "messages": 200, "size": 4096, "users": 1, "recipients": 10},
)


def start_servers(tools, table, etc, spool):
    """All that can be had; Postfix always, it brings smtp-source."""
    build, root, work = tools
    ours = [os.path.join(build, "handlers/smtp/smtp"), "-o", f"spool={spool}", "-o", f"queue={work}/queue", "-o",
            f"state={work}/state/%u", "-o", f"aliases={work}/aliases"]
    servers = [login.Server("pennypost", login.listen(build) + ours, [etc], spool)]
    for name, start in (("postfix", postfix), ("exim", exim), ("opensmtpd", opensmtpd)):
        peer = peers.unpack(name, root)
        try:
            if peer:
                servers.append(start(etc, peer, work, spool))
        except RuntimeError as error:
            table.note(str(error))
    return servers


def prepare(work):
    """Accounts and folders in the work folder."""
    etc = accounts(os.path.join(work, "accounts"))
    for name, owner, mode in (("spool", (0, 8), 0o2775), ("queue", (0, 0), 0o755), ("state", (0, 0), 0o1777)):
        os.makedirs(os.path.join(work, name), exist_ok=True)
        os.chown(os.path.join(work, name), *owner)
        os.chmod(os.path.join(work, name), mode)
    return etc, os.path.join(work, "spool")


def scaled(job, scale):
    """One part in so many of the messages, at least one for each box."""
    return dict(job, messages=max(1, job["messages"] // scale // job["users"]) * job["users"])


def compare(tools, table, rounds, scale, seconds):
    """tools: build, peers, work folders; scale: one part in so many of the messages. Deliveries a second, medians."""
    etc, spool = prepare(tools[2])
    root = peers.unpack("postfix", tools[1])
    if not root:
        raise RuntimeError("no smtp-source to send with")
    servers = start_servers(tools, table, etc, spool)
    try:
        for job in JOBS:
            job = scaled(job, scale)
            title = (f"{job['size']} octets, {job['sessions']} sessions, {job['users']} boxes, {job['recipients']} "
                     "recipients: deliveries/s")
            for number, server in alternate(servers, rounds, seconds / len(JOBS)):
                # Who is slow and no part of a budget gets less to do and fewer rounds, so that there is time for the others.
                if number >= FEW and server.name not in NEEDED:
                    continue
                own = job if server.name in NEEDED else scaled(job, 4)
                try:
                    took = one_run(server, (etc, root, spool), own)
                    table.add(title, server.name, own["messages"] * own["recipients"] / took)
                except (RuntimeError, OSError) as error:
                    # What it still holds must not arrive in another one's boxes.
                    table.note(f"{title.rpartition(':')[0]}: {error}")
                    server.stop()
                    servers.remove(server)
    finally:
        for server in servers:
            server.stop()
