"""Durable deliveries to local mailboxes over SMTP, driven by Postfix's smtp-source, beside Postfix itself.

250 means that the message is on disk: both servers fsync. What arrived is counted in the mailbox files after the queue
has drained, and only then is a figure a figure; the clock runs until the last message is in its mailbox.
"""
import os
import shutil
import statistics
import subprocess
import time

import login
import peers

USERS = 10


def accounts(root):
    """The accounts of login.py, ten recipients and Postfix's own."""
    login.accounts(root)
    with open(os.path.join(root, "etc/passwd"), "a", encoding="ascii") as f:
        f.write("postfix:x:907:907::/nonexistent:/bin/false\n")
        for n in range(USERS):
            f.write(f"bench{n}:x:{1600 + n}:{1600 + n}::/nonexistent:/bin/sh\n")
    with open(os.path.join(root, "etc/group"), "a", encoding="ascii") as f:
        f.write("postfix:x:907:\npostdrop:x:908:\n")
        for n in range(USERS):
            f.write(f"bench{n}:x:{1600 + n}:\n")
    return root


def clear(spool):
    """Empty mailboxes, owned as Debian does."""
    for name in os.listdir(spool):
        os.unlink(os.path.join(spool, name))
    for n in range(USERS):
        box = os.path.join(spool, f"bench{n}")
        open(box, "wb").close()
        os.chmod(box, 0o660)
        os.chown(box, 1600 + n, 8)


def boxes(spool):
    """Paths of the mailboxes; lock files come and go."""
    return [os.path.join(spool, f"bench{n}") for n in range(USERS)]


def arrived(spool):
    """Messages in all mailboxes."""
    count = 0
    for box in boxes(spool):
        with open(box, "rb") as f:
            count += sum(line.startswith(b"From ") for line in f)
    return count


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


def one_run(server, tools, job):
    """Seconds until every message of a job {sessions, messages, size, users} is in its mailbox."""
    etc, root, spool = tools
    clear(spool)
    started = []
    start = time.perf_counter()
    for n in range(job["users"]):
        command = ["/usr/sbin/smtp-source", "-d", "-s", str(max(1, job["sessions"] // job["users"])), "-m",
                   str(job["messages"] // job["users"]), "-l", str(job["size"]), "-f", "sender@localhost", "-t",
                   f"bench{n}@localhost", f"127.0.0.1:{server.port}"]
        started.append(subprocess.Popen(peers.overlay_command([etc, root], command), stdout=subprocess.DEVNULL))
    for process in started:
        if process.wait() != 0:
            raise RuntimeError(f"{server.name}: smtp-source failed")
    replied = time.perf_counter() - start
    sizes = -1
    while True:
        now = sum(os.stat(box).st_size for box in boxes(spool))
        if now == sizes and arrived(spool) == job["messages"]:
            break
        sizes = now
        if time.perf_counter() - start > 300:
            raise RuntimeError(f"{server.name}: {arrived(spool)} of {job['messages']} arrived")
        time.sleep(0.02)
    return replied, time.perf_counter() - start


JOBS = (
    {"sessions": 1, "messages": 200, "size": 4096, "users": 1},
    {"sessions": 10, "messages": 1000, "size": 4096, "users": 1},
    {"sessions": 10, "messages": 1000, "size": 4096, "users": 10},
    {"sessions": 50, "messages": 1000, "size": 4096, "users": 10},
    {"sessions": 10, "messages": 100, "size": 1 << 20, "users": 10},
)


def compare(tools, rounds):
    """tools: build, peers, work folders. Returns {measure: {server: median messages a second}}."""
    build, root, work = tools
    etc = accounts(os.path.join(work, "accounts"))
    spool = os.path.join(work, "spool")
    os.makedirs(spool, exist_ok=True)
    os.makedirs(os.path.join(work, "queue"), exist_ok=True)
    os.chown(spool, 0, 8)
    os.chmod(spool, 0o2775)
    peer = peers.unpack("postfix", root)
    listen = [os.path.join(build, "handlers/listen/listen"), "--bind", "127.0.0.1:@PORT@", "--max-per-source", "1000", "--"]
    servers = [login.Server("pennypost", listen + [os.path.join(build, "handlers/smtp/smtp"), "-o", f"spool={spool}", "-o",
                                                   f"queue={work}/queue"], [etc], spool),
               postfix(etc, peer, work, spool)]
    table = {}
    try:
        for job in JOBS:
            title = f"SMTP {job['size']} octets, {job['sessions']} sessions, {job['users']} boxes: messages/s"
            samples = {s.name: [] for s in servers}
            for _ in range(rounds):
                for server in servers:
                    try:
                        samples[server.name].append(job["messages"] / one_run(server, (etc, peer, spool), job)[1])
                    except RuntimeError as error:
                        print(f"  {error}")
            table[title] = {name: statistics.median(v) for name, v in samples.items() if v}
    finally:
        for server in servers:
            server.stop()
    return table
