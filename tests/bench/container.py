"""Connect to greeting under systemd itself: a socket unit with Accept=yes for each program, in the container that the
end-to-end tests boot.
"""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader

HERE = os.path.dirname(os.path.abspath(__file__))
E2E = os.path.join(os.path.dirname(HERE), "e2e")
LIBEXEC = "/usr/libexec/pennypost"
FIRST_PORT = 11000
SOCKET = """[Socket]
ListenStream=127.0.0.1:%d
Accept=yes
MaxConnections=1000
TriggerLimitIntervalSec=0
"""
SERVICE = """[Unit]
CollectMode=inactive-or-failed
[Service]
ExecStart=-%s
StandardInput=socket
StandardOutput=inherit
StandardError=journal
"""


def boot():
    """The container of tests/e2e/systemd with the root that debootstrap makes."""
    for program in ("systemd-nspawn", "debootstrap"):
        if not shutil.which(program):
            raise RuntimeError(f"no {program}")
    sys.path.insert(0, E2E)
    loader = SourceFileLoader("e2e_systemd", os.path.join(E2E, "systemd"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("e2e_systemd", loader))
    loader.exec_module(module)
    machine = module.Container("base")
    try:
        if machine.boot():
            return machine
        state = machine.state()
    except BaseException:
        machine.remove()
        raise
    machine.remove()
    raise RuntimeError(f"no container boots on this host (state '{state}')")


def put(machine, path, source):
    """A program of ours or of a peer at its place inside."""
    os.makedirs(machine.root + os.path.dirname(path), exist_ok=True)
    shutil.copy(source, machine.root + path)
    os.chmod(machine.root + path, 0o755)


def add_units(machine, programs):
    """{name: port} of what listens inside."""
    ports = {}
    for number, (name, words) in enumerate(programs):
        ports[name] = FIRST_PORT + number
        machine.write(f"/etc/systemd/system/bench-{name}.socket", SOCKET % ports[name])
        machine.write(f"/etc/systemd/system/bench-{name}@.service", SERVICE % words)
    machine.run(["systemctl", "daemon-reload"], check=True)
    for name in ports:
        machine.run(["systemctl", "start", f"bench-{name}.socket"], check=True)
    return ports


def compare(tools, floor, popa3d, connections):
    """[(program, seconds)] of connections to each, in alternation. floor: path; popa3d: folder of the package or None."""
    machine = boot()
    try:
        for name in ("pop3", "pop3-login"):
            put(machine, f"{LIBEXEC}/{name}", os.path.join(tools[0], "handlers", "pop3", name))
        put(machine, "/usr/local/bin/floor", floor)
        machine.write("/etc/passwd", "pennypost-login:x:904:904::/nonexistent:/bin/false\n"
                      "popa3d:x:903:903::/var/empty:/bin/false\n", how="a")
        for folder in ("/var/lib/popa3d", "/var/lib/pennypost/empty"):
            os.makedirs(machine.root + folder, exist_ok=True)
        programs = [("floor", "/usr/local/bin/floor"), ("pennypost", LIBEXEC + "/pop3")]
        if popa3d:
            put(machine, "/usr/sbin/popa3d", os.path.join(popa3d, "usr/sbin/popa3d"))
            programs.append(("popa3d", "/usr/sbin/popa3d"))
        ports = add_units(machine, programs)
        time.sleep(1)
        done = subprocess.run(["nsenter", "--target", str(machine.leader), "--net", sys.executable, os.path.abspath(__file__),
                               str(connections), json.dumps(ports)], capture_output=True, text=True, check=False)
        if done.returncode:
            log = machine.run(["journalctl", "--no-pager", "-q", "-n", "8", "-o", "cat"]).stdout
            raise RuntimeError(done.stderr.strip().rpartition("\n")[2] + "; the journal ends: " + log)
        return [(name, seconds) for name, seconds in json.loads(done.stdout)]
    finally:
        machine.remove()


def client(connections, ports):
    """Inside the network of the container."""
    import login

    samples = []
    for _ in range(connections):
        for name, port in ports.items():
            samples.append((name, login.greeting("127.0.0.1", port)))
            time.sleep(0.02)  # the last instance goes
    print(json.dumps(samples))


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    sys.dont_write_bytecode = True
    client(int(sys.argv[1]), json.loads(sys.argv[2]))
