"""What a connection costs: to the greeting, for each way of being started, and through a login with PAM to the end, in the
clear, over TLS and over resumed TLS, on loopback.

Servers are started by the same super-servers, but Dovecot, which has daemons of its own. All run in a mount namespace
with accounts of its own; the password is checked by pam_unix against its /etc/shadow.
"""
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time

import peers
from tables import samples_within

ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
                  "dovecot:x:901:901::/nonexistent:/bin/false\n"
                  "dovenull:x:902:902::/nonexistent:/bin/false\npopa3d:x:903:903::/var/empty:/bin/false\n"
                  "pennypost-login:x:904:904::/nonexistent:/bin/false\n"
                  "pennypost-tls:x:905:905::/nonexistent:/bin/false\n"
                  "pennypost-smtp:x:906:906::/nonexistent:/bin/false\n"
                  "opensmtpd:x:909:909::/nonexistent:/bin/false\nopensmtpq:x:910:910::/nonexistent:/bin/false\n"
                  "Debian-exim:x:911:911::/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nmail:x:8:\nnogroup:x:65534:\ndovecot:x:901:\ndovenull:x:902:\npopa3d:x:903:\n"
                 "pennypost-login:x:904:\npennypost-tls:x:905:\npennypost-smtp:x:906:\nopensmtpd:x:909:\nopensmtpq:x:910:\n"
                 "Debian-exim:x:911:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "etc/resolv.conf": "nameserver 127.0.0.1\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}
PAM = "auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession required pam_unix.so\n"
PAM_NAMES = ("dovecot", "popa3d", "pop3", "pop3d", "imap4d", "pennypost-pop3", "pennypost-imap", "other")
PASSWORD = "correct horse"
# A user for each server, so that none meets what another wrote into a mailbox.
USERS = {"bench-pennypost": 1500, "bench-popa3d": 1501, "bench-mailutils": 1502, "bench-dovecot": 1503}
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE


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


def connect(host, port):
    s = socket.create_connection((host, port), timeout=120)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def greeting(host, port, is_tls=False):
    """Seconds from connect to the greeting."""
    start = time.perf_counter()
    with TLS.wrap_socket(connect(host, port)) if is_tls else connect(host, port) as s:
        if not s.recv(4096).startswith((b"+OK", b"* OK")):
            raise RuntimeError(f"no greeting on port {port}")
        seconds = time.perf_counter() - start
        try:
            s.sendall(b"QUIT\r\n")
            s.recv(4096)
        except (ConnectionResetError, ssl.SSLError, BrokenPipeError):
            pass  # the floor ends without reading all
    return seconds


class NotResumed(RuntimeError):
    """The server has begun a new TLS session where it was offered an old one."""


class Server:
    """One server, listening on a port of its own. `ports`: of other protocols, {"pop3": n, "imap": n, "pop3s": n, ...}."""

    def __init__(self, name, command, folders, spool=None, port=None, ports=None, var_spool=None):
        self.name = name
        self.user = "bench-" + name
        self.port = port or free_port()
        self.ports = ports or {}
        words = [w.replace("@PORT@", str(self.port)) for w in command]
        # A session of its own: what it starts goes with it.
        self.process = subprocess.Popen(peers.overlay_command(folders, words, spool, var_spool), stdin=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"{name} does not listen")

    def connect(self, kind=None):
        return connect("127.0.0.1", self.ports.get(kind, self.port))

    def connect_tls(self, kind, session=None):
        return TLS.wrap_socket(self.connect(kind), session=session)

    def greeting(self, kind=None, is_tls=False):
        """Seconds from connect to the greeting."""
        return greeting("127.0.0.1", self.ports.get(kind, self.port), is_tls)

    def login(self, kind=None, session=None):
        """Seconds from connect to the end of a session with a login; the TLS session to resume, if any."""
        start = time.perf_counter()
        is_tls = bool(kind) and kind.endswith("s")
        with self.connect_tls(kind, session) if is_tls else self.connect(kind) as s:
            if session and not s.session_reused:
                raise NotResumed(self.name)
            talk(s, self.name, self.user, bool(kind) and kind.startswith("imap"))
            return time.perf_counter() - start, s.session if is_tls else None

    def processes(self):
        """Process ids of the server and all it has started."""
        children = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                    fields = f.read().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(pid))
            except OSError:
                pass
        found, rest = [], [self.process.pid]
        while rest:
            found.append(rest.pop())
            rest += children.get(found[-1], [])
        return found

    def stop(self):
        """Ends it and everything it has started."""
        if self.process.returncode is not None:
            return
        pids = self.processes()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in pids[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def talk(s, name, user, is_imap):
    """Login, one command, the end."""
    f = s.makefile("rwb")
    quoted = f'"{PASSWORD}"'
    lines = ([None, f"a LOGIN {user} {quoted}", "b SELECT INBOX", "c LOGOUT"] if is_imap else
             [None, f"USER {user}", f"PASS {PASSWORD}", "STAT", "QUIT"])
    for line in lines:
        if line:
            f.write(line.encode() + b"\r\n")
            f.flush()
        answer = f.readline()
        while is_imap and line and answer.startswith(b"*"):
            answer = f.readline()
        if not answer.startswith((b"+OK", b"* OK", (line or "-").encode()[:1] + b" OK")):
            raise RuntimeError(f"{name}: {line}: {answer}")
    f.read()


def dovecot_conf(path, work, ports):
    """Writes its configuration; ports: {"pop3": n, "pop3s": n, "imap": n, "imaps": n}."""
    listeners = "".join(
        f"service {p}-login {{\n  inet_listener {p} {{\n    port = {ports[p]}\n  }}\n  inet_listener {p}s {{\n"
        f"    port = {ports[p + 's']}\n    ssl = yes\n  }}\n}}\n" for p in ("pop3", "imap"))
    write(path, f"""protocols = pop3 imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{work}/certificate.pem
ssl_key = <{work}/key.pem
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
default_process_limit = 1000
default_client_limit = 4000
service imap {{
  process_limit = 1000
}}
passdb {{
  driver = pam
}}
userdb {{
  driver = passwd
}}
{listeners}""")


def certificate(work):
    """A self-signed certificate and its key."""
    pair = os.path.join(work, "certificate.pem"), os.path.join(work, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", "/CN=localhost", "-keyout", pair[1], "-out", pair[0]], check=True, stderr=subprocess.DEVNULL)
    return pair


def prepare(tools):
    """Accounts, folders, certificate in the work folder; returns the folder laid over /etc and the spool."""
    work = tools[2]
    etc = accounts(os.path.join(work, "accounts"))
    spool = os.path.join(work, "spool")
    for name, owner, mode in (("spool", (0, 8), 0o2775), ("home", (0, 0), 0o1777), ("state", (0, 0), 0o1777)):
        folder = os.path.join(work, name)
        os.makedirs(folder, exist_ok=True)
        os.chown(folder, *owner)
        os.chmod(folder, mode)
    certificate(work)
    return etc, spool


def listen(build):
    return [os.path.join(build, "handlers/listen/listen"), "--bind", "127.0.0.1:@PORT@", "--max-per-source", "1000",
            "--max", "1000", "--"]


def our_command(tools, program, *arguments):
    """One of our handlers with the bench's folders."""
    build, _, work = tools
    return [os.path.join(build, "handlers", program, program), *arguments, "-o", f"spool={work}/spool", "-o",
            f"state={work}/state/%u", "-o", f"folders={work}/home/%u", "-o", f"tls_certificate={work}/certificate.pem", "-o",
            f"tls_key={work}/key.pem"]


def start_pennypost(tools, etc, spool, kinds=("pop3",)):
    """Servers for these protocols ("pop3", "imap", with s over TLS), as {kind: Server}."""
    build = tools[0]
    return {kind: Server("pennypost", listen(build) + our_command(tools, kind.rstrip("s"), *(["--tls"] if kind[-1] == "s" else [])),
                         [etc], spool) for kind in kinds}


def start_dovecot(tools, etc, spool):
    """Dovecot with all its ports, or None."""
    peer = peers.unpack("dovecot", tools[1])
    if not peer:
        return None
    ports = {kind: free_port() for kind in ("pop3", "pop3s", "imap", "imaps")}
    conf = os.path.join(tools[2], "dovecot-login.conf")
    dovecot_conf(conf, tools[2], ports)
    return Server("dovecot", ["/usr/sbin/dovecot", "-F", "-c", conf], [etc, peer], spool, ports["pop3"], ports)


def start_servers(tools):
    """Starts all POP3 servers on the same accounts and spool. tools: build, peers, work folders."""
    build, root, _ = tools
    etc, spool = prepare(tools)
    servers = [start_pennypost(tools, etc, spool)["pop3"]]
    for name, command in (("popa3d", ["/usr/sbin/popa3d"]), ("mailutils", ["/usr/sbin/pop3d", "--inetd"])):
        peer = peers.unpack(name, root)
        if peer:
            servers.append(Server(name, listen(build) + command, [etc, peer], spool))
    dovecot = start_dovecot(tools, etc, spool)
    return servers + ([dovecot] if dovecot else [])


def copy_box(source, box):
    """Every server meets its copy in the same state: on disk, whole in the page cache, and not changed just now (popa3d waits
    until the second is over in which a mailbox was changed)."""
    shutil.copyfile(source, box)
    os.utime(box, (time.time() - 60,) * 2)
    with open(box, "rb") as f:
        os.fsync(f)  # else the first server that syncs writes our copy, too
        while f.read(1 << 20):  # a copy that shares its blocks with the source is not there yet
            pass


def put_box(work, server, source=None):
    """Puts a mailbox into the spool, owned as Debian does, and forgets what the server remembered of the old one."""
    box = os.path.join(work, "spool", server.user)
    if source:
        copy_box(source, box)
    else:
        write(box, "From a@b Sat Nov 14 12:00:00 2026\nSubject: one\n\nbody\n\n")
    os.chmod(box, 0o660)
    os.chown(box, USERS.get(server.user, 0), 8)
    for name in ("state", "home"):
        shutil.rmtree(os.path.join(work, name, server.user), ignore_errors=True)


class Samples:
    """Milliseconds into a table. What fails once is noted and not tried again."""

    def __init__(self, table):
        self.table, self.failed = table, set()

    def take(self, title, server, measure):
        """measure() returns seconds, or None where it has no figure."""
        if (title, server) in self.failed:
            return
        try:
            seconds = measure()
            if seconds is not None:
                self.table.add(title, server.name, seconds * 1000)
        except (RuntimeError, OSError, EOFError) as error:
            self.failed.add((title, server))
            self.table.note(f"{server.name}, {title.partition(',')[0]}: {error}")


def log_in_over_tls(server, kind, sessions):
    seconds, sessions[server, kind] = server.login(kind)
    return seconds


def resume(server, kind, sessions):
    try:
        return server.login(kind, sessions[server, kind])[0]
    except NotResumed:
        return None  # Dovecot's login processes do not share their tickets


def compare(tools, table, connections, seconds):
    """Greeting, and login to quit, in milliseconds."""
    servers = start_servers(tools)
    etc, spool = os.path.join(tools[2], "accounts"), os.path.join(tools[2], "spool")
    more = start_pennypost(tools, etc, spool, ("pop3s", "imap", "imaps"))
    servers[0].ports = {kind: server.port for kind, server in more.items()}
    for s in servers:
        put_box(tools[2], s)
    both = [s for s in servers if s.name in ("pennypost", "dovecot")]
    samples, sessions = Samples(table), {}
    try:
        for _ in samples_within(connections, seconds):
            for s in servers:
                samples.take("POP3 greeting, ms", s, s.greeting)
                samples.take("POP3 login to quit, ms", s, lambda s=s: s.login()[0])
            for s in both:
                samples.take("IMAP login to logout, ms", s, lambda s=s: s.login("imap")[0])
                for kind, title in (("pop3s", "POP3"), ("imaps", "IMAP")):
                    samples.take(f"{title} over TLS, login to end, ms", s, lambda s=s, k=kind: log_in_over_tls(s, k, sessions))
                    if (s, kind) in sessions:
                        samples.take(f"{title} over resumed TLS, login to end, ms", s, lambda s=s, k=kind: resume(s, k, sessions))
    finally:
        for s in servers + list(more.values()):
            s.stop()
