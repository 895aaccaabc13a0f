#!/usr/bin/env python3
"""The program `listen` alone, with a small handler of our own behind it.

    listen_alone.py PATH-OF-LISTEN [TEST...]

Closes with "N passed, N failed".
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from frames import Tests, start
from world import wait_until

PROGRAM = os.path.abspath(sys.argv[1])
FOLDER = tempfile.mkdtemp(prefix="pennypost-listen-")
HANDLER = os.path.join(FOLDER, "handler")


def make_handler():
    """Greets, tells what it was given, echoes until the client has ended."""
    with open(HANDLER, "w", encoding="ascii") as f:
        f.write("#!%s -u\n" % shutil.which("python3.11") if shutil.which("python3.11") else "#!/usr/bin/python3 -u\n")
        f.write("""import os, signal, socket, sys
out = ["hello", " ".join(sys.argv[1:])]
out.append(",".join(sorted(n for n in os.listdir("/proc/self/fd") if int(n) > 2 and n != "3")))
s = socket.socket(fileno=os.dup(0))
out.append("nodelay" if s.family == socket.AF_UNIX or s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) else "delay")
out.append("keepalive" if s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) else "no keepalive")
out.append("blocking" if os.get_blocking(0) else "non-blocking")
out.append("mask " + [l.split()[1] for l in open("/proc/self/status") if l.startswith("SigBlk")][0].strip("0"))
out.append("env " + ",".join(n for n in os.environ if n.startswith(("LISTEN", "NOTIFY", "REMOTE"))))
os.write(1, ("|".join(out) + "\\n").encode())
while True:
    data = os.read(0, 1000)
    if not data:
        break
    if data == b"crash\\n":
        os.kill(os.getpid(), signal.SIGSEGV)
    os.write(1, data)
""")
    os.chmod(HANDLER, 0o755)


class Listen:
    """A running `listen` and the addresses it printed."""

    def __init__(self, *options, binds=("127.0.0.1:0",), arguments=(), **more):
        args = [PROGRAM, "--print-address"]
        for bind in binds:
            args += ["--bind", bind]
        self.process = subprocess.Popen([*args, *options, "--", HANDLER, *arguments], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **more)
        self.addresses = []
        for _ in binds:
            host, port = self.process.stdout.readline().decode().strip().rsplit(":", 1)
            self.addresses.append((host.strip("[]"), int(port)))

    def connect(self, i=0):
        s = socket.create_connection(self.addresses[i], timeout=120)
        return s, s.makefile("rb").readline()

    def children(self):
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid), encoding="ascii") as f:
            return f.read().split()

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        errors = self.process.communicate(timeout=60)[1].decode()
        return self.process.returncode, errors


def test_what_the_handler_gets():
    server = Listen(arguments=("--tls", "-o", "a=b"), env={**os.environ, "NOTIFY_SOCKET": "/x", "REMOTE_ADDR": "1.2.3.4"})
    client, line = server.connect()
    assert line == b"hello|--tls -o a=b||nodelay|keepalive|blocking|mask |env \n", line
    client.sendall(b"echo\n")
    assert client.recv(100) == b"echo\n"
    client.close()
    assert server.end() == (0, "")


def test_several_sockets():
    server = Listen(binds=("127.0.0.1:0", "[::1]:0", "127.0.0.1:0"))
    for i in range(3):
        client, line = server.connect(i)
        assert line.startswith(b"hello|")
        client.close()
    assert server.end()[0] == 0


def test_all_addresses():
    server = Listen(binds=("*:0",))
    port = server.addresses[0][1]
    for host in ("127.0.0.1", "::1"):
        s = socket.create_connection((host, port), timeout=60)
        assert s.makefile("rb").readline().startswith(b"hello|")
        s.close()
    server.end()


def test_limit_per_source():
    server = Listen("--max-per-source", "2")
    first, second = server.connect()[0], server.connect()[0]
    third, line = server.connect()
    assert line == b""
    other = socket.create_connection(server.addresses[0], timeout=60, source_address=("127.0.0.2", 0))
    assert other.makefile("rb").readline().startswith(b"hello|")
    first.close()
    assert wait_until(lambda: len(server.children()) == 2)  # the handler has ended
    again, line = server.connect()
    assert line.startswith(b"hello|")
    for x in (second, third, other, again):
        x.close()
    status, errors = server.end()
    assert status == 0 and "listen-refused reason=max-per-source host=127.0.0.1" in errors, errors


def test_limit_in_all():
    """Above the total, clients wait instead of being refused."""
    server = Listen("--max", "2")
    first, _ = server.connect()
    second, _ = server.connect()
    third = socket.create_connection(server.addresses[0], timeout=60)
    third.settimeout(0.5)
    try:
        assert third.recv(1) == b"never"
    except socket.timeout:
        pass
    first.close()
    third.settimeout(60)
    assert third.makefile("rb").readline().startswith(b"hello|")
    second.close()
    third.close()
    status, errors = server.end()
    assert status == 0 and "listen-full" in errors


def test_burst():
    server = Listen("--max-per-source", "0")
    clients = [socket.create_connection(server.addresses[0], timeout=300) for _ in range(150)]
    for client in clients:
        assert client.makefile("rb").readline().startswith(b"hello|")
    for client in clients:
        client.close()
    assert wait_until(lambda: not server.children())
    assert wait_until(lambda: len(os.listdir("/proc/%d/fd" % server.process.pid)) < 12)
    assert server.end() == (0, "")


def test_a_handler_that_crashes():
    server = Listen()
    client, _ = server.connect()
    handler, = server.children()
    client.sendall(b"crash\n")
    try:
        assert client.recv(100) == b""
    except ConnectionResetError:
        pass
    assert wait_until(lambda: handler not in server.children())
    assert server.connect()[1].startswith(b"hello|")
    errors = server.end()[1]
    assert "handler-died" in errors and "Segmentation fault" in errors, errors


def test_sessions_outlive_it():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        server = Listen()
        client, _ = server.connect()
        server.process.send_signal(number)
        assert server.process.wait(60) == 0
        client.sendall(b"still there\n")
        assert client.recv(100) == b"still there\n"
        client.close()
        try:
            socket.create_connection(server.addresses[0], timeout=5)
            raise AssertionError("still listening")
        except ConnectionRefusedError:
            pass


def connected_in_time(*options):
    """A server that leaves when nobody comes, and a connection to it: one that was not waited for is started again."""
    for _ in range(20):
        server = Listen(*options)
        try:
            client, line = server.connect()
        except ConnectionError:
            line = b""
        if line:
            return server, client
        server.process.wait(60)
    raise AssertionError("it leaves before anybody can come")


def test_idle():
    server, client = connected_in_time("--idle", "1")
    time.sleep(1.5)
    assert server.process.poll() is None
    began = time.monotonic()
    client.close()
    assert server.process.wait(60) == 0
    assert time.monotonic() - began > 0.9


def inherited(listener, environment, fds, *options):
    listener.setblocking(False)
    null = os.open("/dev/null", os.O_RDWR)
    wanted = {n: listener.fileno() if what == "listener" else null for n, what in fds.items()}
    process = start([PROGRAM, *options, "--", HANDLER], wanted, env={**os.environ, **environment})
    os.close(null)
    return process


def test_inetd_wait():
    """fd 0 to 2 are the listening socket; the handler must not get it as its fd 2."""
    listener = socket.create_server(("127.0.0.1", 0))
    clients = [socket.create_connection(listener.getsockname(), timeout=60)]  # who is there first need not be quick
    process = inherited(listener, {}, {0: "listener", 1: "listener", 2: "listener"}, "--idle", "1")
    for is_first in (True, False):
        line = clients[-1].makefile("rb").readline()
        # The first one connected before there was anybody to set socket options; handlers set them again.
        assert line.startswith(b"hello|||") and line.endswith(b"|blocking|mask |env \n"), line
        if is_first:
            clients.append(socket.create_connection(listener.getsockname(), timeout=60))
    for s in clients:
        s.close()
    assert process.wait(60) == 0
    # We kept the listening socket: whoever comes now waits for the next start.
    late = socket.create_connection(listener.getsockname(), timeout=60)
    again = start([PROGRAM, "--idle", "1", "--", HANDLER], {0: listener.fileno(), 1: listener.fileno(), 2: 2})
    assert late.makefile("rb").readline().startswith(b"hello|")
    late.close()
    assert again.wait(60) == 0
    listener.close()


def test_systemd():
    if subprocess.run(["ldd", PROGRAM], stdout=subprocess.PIPE, check=True).stdout.find(b"libsystemd") < 0:
        return  # built without
    folder = os.path.join(FOLDER, "notify")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(folder)
    notify.settimeout(60)
    # LISTEN_PID must be that of the process itself: a shell that execs knows it.
    listener = socket.create_server(("127.0.0.1", 0))
    s = socket.create_connection(listener.getsockname(), timeout=60)
    null = os.open("/dev/null", os.O_RDWR)
    process = start(["/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 NOTIFY_SOCKET=%s exec "$0" --idle 1 -- "$1"' % folder,
                     PROGRAM, HANDLER], {0: null, 1: null, 2: 2, 3: listener.fileno()})
    os.close(null)
    assert notify.recv(1000) == b"READY=1"
    line = s.makefile("rb").readline()
    assert line.startswith(b"hello|||") and line.endswith(b"|blocking|mask |env \n"), line
    s.close()
    assert notify.recv(1000) == b"STOPPING=1"
    assert process.wait(60) == 0
    listener.close()
    notify.close()


def run(*args):
    out = subprocess.run([PROGRAM, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         check=False, timeout=60)
    return out.returncode


def test_detach_and_stop():
    lock = os.path.join(FOLDER, "lock")
    assert run("--stop", lock) == 0  # nobody there
    done = subprocess.run([PROGRAM, "--print-address", "--detach", "--lock", lock, "--bind", "127.0.0.1:0", HANDLER],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=60)
    address = done.stdout.decode().strip()
    host, port = address.split(":")
    s = socket.create_connection((host, int(port)), timeout=60)
    assert s.makefile("rb").readline().startswith(b"hello|")
    assert run("--detach", "--lock", lock + "2", "--bind", address, HANDLER) == 69  # the port is taken
    assert run("--detach", "--lock", lock, "--bind", "127.0.0.1:0", HANDLER) == 71  # the lock is
    assert run("--stop", lock) == 0
    s.sendall(b"x\n")
    assert s.recv(10) == b"x\n"
    s.close()
    try:
        socket.create_connection((host, int(port)), timeout=5)
        raise AssertionError("still listening")
    except ConnectionRefusedError:
        pass
    # A lock file that somebody left behind points at nobody.
    with open(lock, "w", encoding="ascii") as f:
        f.write("%d\n" % os.getpid())
    assert run("--stop", lock) == 0


def test_usage():
    assert run() == 64
    assert run(HANDLER) == 64  # no socket at all
    assert run("--bind", "127.0.0.1:0") == 64
    assert run("--bind", "::1:143", HANDLER) == 64
    assert run("--bind", "[::1:143", HANDLER) == 64
    assert run("--bind", "nowhere:143", HANDLER) == 64
    assert run("--max", "0", "--bind", "127.0.0.1:0", HANDLER) == 64
    assert run("--max", "x", "--bind", "127.0.0.1:0", HANDLER) == 64
    assert run("--unknown", HANDLER) == 64
    assert run("--bind", "127.0.0.1:0", "/no/such/program") == 71
    assert run("--bind", "192.0.2.1:0", HANDLER) == 71  # not an address of this machine


def main():
    tests = Tests()
    try:
        make_handler()
        for name, function in list(globals().items()):
            if name.startswith("test_") and (len(sys.argv) < 3 or name in sys.argv[2:]):
                tests.run(function)
    finally:
        shutil.rmtree(FOLDER)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
