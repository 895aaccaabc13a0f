"""Connect to greeting for each way of being started, beside a trivial C program that the same super-server starts."""
import os
import shutil
import subprocess

import container
import login
import peers
from tables import samples_within

HERE = os.path.dirname(os.path.abspath(__file__))


def compile_floor(work):
    """The trivial programs, in the clear and with OpenSSL; the second is None without its headers."""
    made = []
    for name, more in (("floor", []), ("floor_tls", ["-lssl", "-lcrypto"])):
        path = os.path.join(work, name)
        done = subprocess.run(["cc", "-O2", "-o", path, os.path.join(HERE, name + ".c"), *more], check=False,
                              stderr=subprocess.DEVNULL)
        made.append([path] if done.returncode == 0 else None)
    if made[1]:
        made[1] += [os.path.join(work, "certificate.pem"), os.path.join(work, "key.pem")]
    return made


def ways(tools, etc, name, command):
    """Yields (way of being started, arguments of Server) for one program."""
    build, root, work = tools
    yield "listen", login.listen(build) + command, [etc]
    inetd = peers.unpack("inetd", root)
    if inetd:
        conf = os.path.join(work, f"inetd-{name}.conf")
        yield "openbsd-inetd", inetd_command(conf, command), [etc, inetd]
    xinetd = peers.unpack("xinetd", root)
    if xinetd:
        conf = os.path.join(work, f"xinetd-{name}.conf")
        yield "xinetd", xinetd_command(conf, command), [etc, xinetd]
    if shutil.which("systemd-socket-activate"):
        yield "systemd-socket-activate", ["systemd-socket-activate", "--accept", "--inetd", "--listen", "127.0.0.1:@PORT@",
                                          *command], [etc]


def inetd_command(conf, command):
    """The port is known when the server starts: a shell writes the configuration."""
    words = " ".join(command)
    line = f"127.0.0.1:@PORT@ stream tcp nowait.60000 root {command[0]} {words}"
    return ["sh", "-c", f"echo '{line}' > {conf}; exec /usr/sbin/inetd -i {conf}"]


def xinetd_command(conf, command):
    text = ("defaults\n{\n instances = UNLIMITED\n per_source = UNLIMITED\n cps = 100000 1\n}\nservice bench\n{\n"
            " type = UNLISTED\n socket_type = stream\n protocol = tcp\n wait = no\n user = root\n bind = 127.0.0.1\n"
            f" port = @PORT@\n server = {command[0]}\n")
    if command[1:]:
        text += f" server_args = {' '.join(command[1:])}\n"
    text += "}\n"
    return ["sh", "-c", f"cat > {conf} <<'END'\n{text}END\nexec /usr/sbin/xinetd -dontfork -f {conf}"]


def start_all(tools, table, programs, etc, spool, popa3d):
    """[(title, server, is_tls)] of each program in each way."""
    started = []
    for number, (name, command, is_tls) in enumerate(programs):
        for way, words, folders in ways(tools, etc, f"{name}{number}", command):
            if is_tls and way != "listen":
                continue
            folders = folders + [popa3d] if name == "popa3d" else folders
            try:
                server = login.Server(name, words, folders, spool)
            except RuntimeError as error:
                table.note(f"{way}: {error}")
                continue
            started.append((f"{way}{' over TLS' if is_tls else ''}: greeting, ms", server, is_tls))
    return started


def compare(tools, table, connections, seconds):
    """Milliseconds to the greeting for each way of being started."""
    etc, spool = login.prepare(tools)
    floor, floor_tls = compile_floor(tools[2])
    popa3d = peers.unpack("popa3d", tools[1])
    programs = [("floor", floor, False)] if floor else []
    programs.append(("pennypost", login.our_command(tools, "pop3"), False))
    if popa3d:
        programs.append(("popa3d", ["/usr/sbin/popa3d"], False))
    if floor_tls:
        programs.append(("floor", floor_tls, True))
    programs.append(("pennypost", login.our_command(tools, "pop3", "--tls"), True))
    started, samples = start_all(tools, table, programs, etc, spool, popa3d), login.Samples(table)
    try:
        for _ in samples_within(connections, seconds):
            for title, server, is_tls in started:
                samples.take(title, server, lambda s=server, t=is_tls: s.greeting(is_tls=t))
    finally:
        for _, server, _ in started:
            server.stop()


def compare_systemd(tools, table, connections):
    """The same under systemd itself, in a container."""
    floor = compile_floor(tools[2])[0]
    if not floor:
        raise RuntimeError("no compiler for the trivial program")
    for name, seconds in container.compare(tools, floor[0], peers.unpack("popa3d", tools[1]), connections):
        table.add("systemd, Accept=yes: greeting, ms", name, seconds * 1000)
