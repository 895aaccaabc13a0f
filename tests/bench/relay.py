"""A queue run beside Postfix's: messages to many destinations, each an address of the loopback where Postfix's smtp-sink
takes everything; as many connections at a time. The clock runs from the release of the queue until it is empty; memory is
private pages, of all processes together, at their most.
"""
import glob
import os
import re
import shutil
import subprocess
import threading
import time

import login
import peers
import smtp
from tables import alternate

PORT, CONNECTIONS = 2599, 20
BODY = "Subject: bench\n\n" + ("0123456789abcdef" * 4 + "\n") * 60


def address(i):
    """Where destination number i is."""
    return "127.1.%d.%d" % (i // 250, i % 250 + 1)


# ---- what is measured ----

def private(parent):
    """kB of private memory of a process and all below it."""
    tree, total = {parent}, 0
    for path in sorted(glob.glob("/proc/[0-9]*/status"), key=lambda p: int(p.split("/")[2])):
        try:
            with open(path, encoding="ascii", errors="replace") as f:
                status = dict(l.split(":\t", 1) for l in f.read().splitlines() if ":\t" in l)
            pid = int(status["Pid"])
            if pid in tree or int(status["PPid"]) in tree:
                tree.add(pid)
                with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as f:
                    total += sum(int(l.split()[1]) for l in f if l.startswith("Private_"))
        except (OSError, KeyError, ValueError):
            pass
    return total


def measure(pid, is_done, release=lambda: None):
    """(seconds, MB) from release() until is_done()."""
    most, over, began = [0], threading.Event(), time.monotonic()

    def watch():
        while not over.is_set():
            most[0] = max(most[0], private(pid))
            over.wait(0.5)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        release()
        while not is_done():
            if time.monotonic() - began > 3600:
                raise RuntimeError("the queue does not get empty")
            time.sleep(0.05)
        seconds = time.monotonic() - began
    finally:
        over.set()
        watcher.join()
    return seconds, most[0] / 1024


def count(folder, *names):
    return sum(len(files) for name in names for _, _, files in os.walk(os.path.join(folder, name)))


# ---- the two ----

def pennypost(tools, etc, messages, destinations):
    build, _, work = tools
    queue = os.path.join(work, "penny")
    shutil.rmtree(queue, ignore_errors=True)
    for name in ("", "msg", "new", "cur", "corrupt"):
        os.mkdir(os.path.join(queue, name), 0o700)
    now = int(time.time())
    for i in range(messages):
        login.write("%s/msg/M%06d" % (queue, i), BODY)
        login.write("%s/new/M%06d" % (queue, i), "pennypost-envelope 1\ncreated %d\nsender a@here.example\nto x@d%d.example\nend\n"
                    % (now, i % destinations))
    login.write(queue + "/routes", "".join("d%d.example %s:%d\n" % (i, address(i), PORT) for i in range(destinations)))
    command = [build + "/handlers/relay/relay", "-o", "queue=" + queue, "-o", "hostname=here.example", "-o",
               "relay_routes=" + queue + "/routes", "-o", "relay_connections=%d" % CONNECTIONS]
    with open(queue + "/log", "w", encoding="ascii") as log:
        run = subprocess.Popen(peers.overlay_command([etc], command), stdin=subprocess.DEVNULL, stderr=log, stdout=log)
        try:
            figures = measure(run.pid, lambda: run.poll() is not None)
        finally:
            run.kill()
            run.wait()
    left = count(queue, "new", "cur")
    if run.returncode != 0 or left:
        raise RuntimeError("pennypost: status %d, %d messages are left" % (run.returncode, left))
    return figures


def postfix(tools, etc, messages, destinations):
    _, root, work = tools
    there = peers.unpack("postfix", root)
    server = smtp.postfix(etc, there, work, os.path.join(work, "spool"))
    queue, conf = work + "/postfix-queue", work + "/postfix"
    inside = lambda *words: subprocess.run(peers.overlay_command([etc, there], list(words)), check=True, stdin=subprocess.DEVNULL,
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        login.write(conf + "/routes", "".join("d%d.example smtp:[%s]:%d\n" % (i, address(i), PORT) for i in range(destinations)))
        login.append(conf + "/main.cf", "transport_maps = texthash:%s/routes\nsmtpd_sender_restrictions = static:hold\n" % conf)
        login.append(conf + "/main.cf", "default_process_limit = %d\n" % CONNECTIONS)
        inside("/usr/sbin/postfix", "-c", conf, "reload")
        fill(server, messages, destinations)
        if count(queue, "hold") != messages:
            raise RuntimeError("postfix: %d of %d messages are in its queue" % (count(queue, "hold"), messages))

        def release():
            inside("/usr/sbin/postsuper", "-c", conf, "-H", "ALL")
            inside("/usr/sbin/postqueue", "-c", conf, "-f")
        return measure(server.process.pid, lambda: not count(queue, "hold", "maildrop", "incoming", "active", "deferred"), release)
    finally:
        server.stop()


def fill(server, messages, destinations):
    """Through its port, where everything is put on hold."""
    with server.connect() as s, s.makefile("rb") as answers:
        def say(text, code):
            s.sendall(text)
            line = answers.readline()
            while line[3:4] == b"-":
                line = answers.readline()
            if not line.startswith(code):
                raise RuntimeError("postfix says %r" % line)
        say(b"", b"220")
        say(b"HELO here.example\r\n", b"250")
        body = BODY.replace("\n", "\r\n").encode() + b".\r\n"
        for i in range(messages):
            say(b"MAIL FROM:<a@here.example>\r\n", b"250")
            say(("RCPT TO:<x@d%d.example>\r\n" % (i % destinations)).encode(), b"250")
            say(b"DATA\r\n", b"354")
            say(body, b"250")
        say(b"QUIT\r\n", b"221")


class Sink:
    """smtp-sink, which counts what it is given."""

    def __init__(self, there, work):
        self.path = os.path.join(work, "sink")
        with open(self.path, "wb") as counters:
            self.process = subprocess.Popen(
                [there + "/usr/sbin/smtp-sink", "-c", "-u", "nobody", "0.0.0.0:%d" % PORT, "500"], stdout=counters,
                stderr=subprocess.DEVNULL,
                env=dict(os.environ, LD_LIBRARY_PATH=there + "/usr/lib/postfix", MAIL_CONFIG=there + "/etc/postfix"))
        time.sleep(1)

    def messages(self):
        """How many have come so far; the counters are the last line, each written over the one before."""
        with open(self.path, "rb") as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - 200))
            found = re.findall(rb"mesg=(\d+)", f.read())
        return int(found[-1]) if found else 0

    def stop(self):
        self.process.kill()
        self.process.wait()


def compare(tools, table, messages, destinations, rounds, seconds):
    """tools: build, peers, work folders. What both need for it, in alternation."""
    _, root, work = tools
    there = peers.unpack("postfix", root)
    if not there:
        raise RuntimeError("no smtp-sink to send to")
    etc = smtp.accounts(os.path.join(work, "accounts"))
    for number, name in enumerate(("relay", "resolve")):
        login.append(etc + "/etc/passwd", "pennypost-%s:x:%d:%d::/nonexistent:/bin/false\n" % (name, 930 + number, 930 + number))
        login.append(etc + "/etc/group", "pennypost-%s:x:%d:\n" % (name, 930 + number))
    os.makedirs(os.path.join(work, "spool"), exist_ok=True)
    sink, both = Sink(there, work), [pennypost, postfix]
    try:
        for _, run in alternate(both, rounds, seconds):
            before = sink.messages()
            try:
                took, memory = run(tools, etc, messages, destinations)
                if sink.messages() - before != messages:
                    raise RuntimeError("%d of %d messages have come" % (sink.messages() - before, messages))
                table.add("seconds", run.__name__, took)
                table.add("messages/s", run.__name__, messages / took)
                table.add("private memory of all processes, MB", run.__name__, memory)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                table.note("%s: %s" % (run.__name__, error))
                both.remove(run)
    finally:
        sink.stop()
