#!/usr/bin/env python3
"""A queue run: messages to many destinations, each an address of this machine's loopback where Postfix's smtp-sink takes
everything. Prints seconds, messages a second and the memory of relay and of all processes together at their most.

    relay.py BUILD_DIR PEERS_DIR [MESSAGES [DESTINATIONS [CONNECTIONS]]]
"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peers  # noqa: E402

BODY = "Subject: bench\n\n" + "0123456789abcdef" * 4 + "\n"


def fill(queue, messages, destinations):
    for name in ("msg", "new", "cur", "corrupt"):
        os.mkdir(os.path.join(queue, name), 0o700)
    now = int(time.time())
    for i in range(messages):
        with open("%s/msg/M%06d" % (queue, i), "w", encoding="ascii") as f:
            f.write(BODY * 60)
        with open("%s/new/M%06d" % (queue, i), "w", encoding="ascii") as f:
            f.write("pennypost-envelope 1\ncreated %d\nsender a@here.example\nto x@d%d.example\nend\n" % (now, i % destinations))


def memory(parent):
    """(kB private of relay, kB private of it and all below it)."""
    tree, total, own = {parent}, 0, 0
    for path in sorted(glob.glob("/proc/[0-9]*/status")):
        try:
            with open(path, encoding="ascii", errors="replace") as f:
                status = dict(l.split(":\t", 1) for l in f.read().splitlines() if ":\t" in l)
            pid = int(status["Pid"])
            if pid in tree or int(status["PPid"]) in tree:
                tree.add(pid)
                with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as f:
                    kb = sum(int(l.split()[1]) for l in f if l.startswith("Private_"))
                total += kb
                own = kb if pid == parent else own
        except (OSError, KeyError, ValueError):
            pass
    return own, total


def main():
    build, root = os.path.abspath(sys.argv[1]), sys.argv[2]
    messages, destinations, connections = [int(x) for x in sys.argv[3:] + ["10000", "1000", "20"][len(sys.argv) - 3:]]
    postfix = peers.unpack("postfix", root)
    if not postfix:
        sys.exit("relay.py: no smtp-sink to send to")
    queue = tempfile.mkdtemp(prefix="pennypost-bench-", dir="/var/tmp")
    fill(queue, messages, destinations)
    with open(queue + "/routes", "w", encoding="ascii") as f:
        for i in range(destinations):
            f.write("d%d.example 127.1.%d.%d:2599\n" % (i, i // 250, i % 250 + 1))
    sink = subprocess.Popen([postfix + "/usr/sbin/smtp-sink", "-u", "nobody", "0.0.0.0:2599", "500"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL,
                            env=dict(os.environ, LD_LIBRARY_PATH=postfix + "/usr/lib/postfix", MAIL_CONFIG=postfix + "/etc/postfix"))
    time.sleep(1)
    began = time.monotonic()
    with open(queue + "/log", "w", encoding="ascii") as log:
        run = subprocess.Popen([build + "/handlers/relay/relay", "-o", "queue=" + queue, "-o", "hostname=here.example", "-o",
                                "relay_routes=" + queue + "/routes", "-o", "relay_connections=%d" % connections],
                               stdin=subprocess.DEVNULL, stderr=log, stdout=log)
        most = [0, 0]

        def watch():
            while run.poll() is None:
                most[:] = [max(a, b) for a, b in zip(most, memory(run.pid))]
                time.sleep(1)
        threading.Thread(target=watch).start()
        status = run.wait()
    seconds = time.monotonic() - began
    sink.kill()
    left = len(os.listdir(queue + "/new")) + len(os.listdir(queue + "/cur"))
    print("relay: status %d, %d of %d messages to %d destinations in %.1f s, %.0f a second; relay %.1f MB, everything %.1f MB"
          % (status, messages - left, messages, destinations, seconds, (messages - left) / seconds, most[0] / 1024,
             most[1] / 1024))
    if left == 0:
        shutil.rmtree(queue)
    else:
        print("see", queue)


main()
