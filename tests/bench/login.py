"""What a connection costs: to the greeting, and through a login with PAM to the end, over POP3 on loopback.

Every server is started by the same super-server (our `listen`), but Dovecot, which has daemons of its own. All run in a
mount namespace with accounts of its own; the password is checked by pam_unix against its /etc/shadow.
"""
import os
import shutil
import socket
import statistics
import subprocess
import time

import peers

ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
                  "dovecot:x:901:901::/nonexistent:/bin/false\n"
                  "dovenull:x:902:902::/nonexistent:/bin/false\npopa3d:x:903:903::/var/empty:/bin/false\n"
                  "pennypost-login:x:904:904::/nonexistent:/bin/false\n"
                  "pennypost-tls:x:905:905::/nonexistent:/bin/false\n"
                  "pennypost-smtp:x:906:906::/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nmail:x:8:\nnogroup:x:65534:\ndovecot:x:901:\ndovenull:x:902:\npopa3d:x:903:\n"
                 "pennypost-login:x:904:\npennypost-tls:x:905:\npennypost-smtp:x:906:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "etc/resolv.conf": "nameserver 127.0.0.1\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}
PAM = "auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession required pam_unix.so\n"
PAM_NAMES = ("dovecot", "popa3d", "pop3", "pop3d", "imap4d", "pennypost-pop3", "pennypost-imap", "other")
PASSWORD = "correct horse"
# A user for each server, so that none meets what another wrote into a mailbox.
USERS = {"bench-pennypost": 1500, "bench-popa3d": 1501, "bench-mailutils": 1502, "bench-dovecot": 1503}


def accounts(root):
    """Makes the folder that is laid over /etc."""
    for name, text in ACCOUNTS.items():
        write(os.path.join(root, name), text)
    digest = subprocess.run(["openssl", "passwd", "-6", "-salt", "bench", PASSWORD], capture_output=True, text=True,
                            check=True).stdout.strip()
    shadow = "root:*:19000::::::\n"
    for name, uid in USERS.items():
        append(os.path.join(root, "etc/passwd"), f"{name}:x:{uid}:{uid}::/nonexistent:/bin/sh\n")
        append(os.path.join(root, "etc/group"), f"{name}:x:{uid}:\n")
        shadow += f"{name}:{digest}:19000::::::\n"
    write(os.path.join(root, "etc/shadow"), shadow)
    os.chmod(os.path.join(root, "etc/shadow"), 0o600)
    for name in ("empty", "locks"):
        os.makedirs(os.path.join(root, "var/lib/pennypost", name), exist_ok=True)
    for name in PAM_NAMES:
        write(os.path.join(root, "etc/pam.d", name), PAM)
    return root


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def append(path, text):
    with open(path, "a", encoding="ascii") as f:
        f.write(text)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One server, listening on a port of its own."""

    def __init__(self, name, command, folders, spool, port=None):
        self.name = name
        self.user = "bench-" + name
        self.port = port or free_port()
        words = [w.replace("@PORT@", str(self.port)) for w in command]
        self.process = subprocess.Popen(peers.overlay_command(folders, words, spool), stdin=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise RuntimeError(f"{name} does not listen")

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def greeting(self):
        """Seconds from connect to the greeting."""
        start = time.perf_counter()
        with self.connect() as s:
            if not s.recv(4096).startswith(b"+OK"):
                raise RuntimeError(self.name)
            seconds = time.perf_counter() - start
            try:
                s.sendall(b"QUIT\r\n")
                s.recv(4096)
            except ConnectionResetError:
                pass  # the floor ends without reading all
        return seconds

    def login(self):
        """Seconds from connect to the end of a session with a login."""
        start = time.perf_counter()
        with self.connect() as s:
            f = s.makefile("rwb")
            for line in (None, f"USER {self.user}\r\n".encode(), f"PASS {PASSWORD}\r\n".encode(), b"STAT\r\n", b"QUIT\r\n"):
                if line:
                    f.write(line)
                    f.flush()
                answer = f.readline()
                if not answer.startswith(b"+OK"):
                    raise RuntimeError(f"{self.name}: {line}: {answer}")
            f.read()
        return time.perf_counter() - start

    def stop(self):
        self.process.terminate()
        self.process.wait()


def dovecot_conf(path, work, port):
    write(path, f"""protocols = pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = mbox:{work}/home/%u:INBOX={work}/spool/%u
mail_access_groups = mail
mbox_write_locks = fcntl
log_path = {work}/dovecot.log
base_dir = {work}/dovecot-run
state_dir = {work}/dovecot-run
auth_verbose = no
mail_max_userip_connections = 1000
auth_failure_delay = 0
passdb {{
  driver = pam
}}
userdb {{
  driver = passwd
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
""")


def start_servers(tools, with_floor):
    """Starts all POP3 servers on the same accounts and spool. tools: build, peers, work folders."""
    build, root, work = tools
    etc = accounts(os.path.join(work, "accounts"))
    spool = os.path.join(work, "spool")
    for name, owner, mode in (("spool", (0, 8), 0o2775), ("home", (0, 0), 0o1777), ("state", (0, 0), 0o1777)):
        folder = os.path.join(work, name)
        os.makedirs(folder, exist_ok=True)
        os.chown(folder, *owner)
        os.chmod(folder, mode)
    listen = [os.path.join(build, "handlers/listen/listen"), "--bind", "127.0.0.1:@PORT@", "--max-per-source", "1000", "--"]
    servers = []
    if with_floor:
        floor = os.path.join(work, "floor")
        subprocess.run(["cc", "-O2", "-o", floor, os.path.join(os.path.dirname(__file__), "floor.c")], check=True)
        servers.append(Server("floor", listen + [floor], [etc], spool))
    ours = ["-o", f"spool={spool}", "-o", f"state={work}/state/%u", "-o", f"folders={work}/home/%u"]
    servers.append(Server("pennypost", listen + [os.path.join(build, "handlers/pop3/pop3"), *ours], [etc], spool))
    peer = peers.unpack("popa3d", root)
    if peer:
        servers.append(Server("popa3d", listen + ["/usr/sbin/popa3d"], [etc, peer], spool))
    peer = peers.unpack("mailutils", root)
    if peer:
        servers.append(Server("mailutils", listen + ["/usr/sbin/pop3d", "--inetd"], [etc, peer], spool))
    peer = peers.unpack("dovecot", root)
    if peer:
        port = free_port()
        conf = os.path.join(work, "dovecot-login.conf")
        dovecot_conf(conf, work, port)
        servers.append(Server("dovecot", ["/usr/sbin/dovecot", "-F", "-c", conf], [etc, peer], spool, port))
    return servers


def put_box(work, server, source=None):
    """Puts a mailbox into the spool, owned as Debian does, and forgets what the server remembered of the old one."""
    box = os.path.join(work, "spool", server.user)
    if source:
        shutil.copyfile(source, box)
    else:
        write(box, "From a@b Sat Nov 14 12:00:00 2026\nSubject: one\n\nbody\n\n")
    os.chmod(box, 0o660)
    os.chown(box, USERS.get(server.user, 0), 8)
    for name in ("state", "home"):
        shutil.rmtree(os.path.join(work, name, server.user), ignore_errors=True)


def compare(tools, connections=200):
    """Returns {measure: {server: median milliseconds}}."""
    servers = start_servers(tools, with_floor=True)
    for s in servers:
        put_box(tools[2], s)
    samples = {}
    try:
        for _ in range(connections):
            for s in servers:
                samples.setdefault(("greeting, ms", s.name), []).append(s.greeting() * 1000)
                if s.name != "floor":
                    samples.setdefault(("login to quit, ms", s.name), []).append(s.login() * 1000)
    finally:
        for s in servers:
            s.stop()
    table = {}
    for (title, name), values in samples.items():
        table.setdefault(title, {})[name] = statistics.median(values)
    return table
