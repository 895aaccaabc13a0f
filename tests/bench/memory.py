"""What idle sessions cost: PSS and private memory of all processes of an IMAP session with 10 000 messages selected, in
the clear and over TLS; and the processes that stay when nobody is connected.
"""
import os
import time

import login
import peers
import smtp


def weigh(pids):
    """(PSS, private) of these processes in KB."""
    pss = private = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                values = {w[0]: int(w[1]) for w in (line.split() for line in f) if w[-1] == "kB"}
        except (OSError, ProcessLookupError):
            continue
        pss += values.get("Pss:", 0)
        private += values.get("Private_Clean:", 0) + values.get("Private_Dirty:", 0)
    return pss, private


def open_session(server, kind):
    """An IMAP session that has selected INBOX and waits."""
    s = server.connect_tls(kind) if kind == "imaps" else server.connect(kind)
    f = s.makefile("rwb")
    f.readline()
    for line in (f'a LOGIN {server.user} "{login.PASSWORD}"', "b SELECT INBOX", "c IDLE"):
        f.write(line.encode() + b"\r\n")
        f.flush()
        answer = f.readline()
        while answer.startswith(b"*"):
            answer = f.readline()
        if not answer.startswith((line[:1].encode() + b" OK", b"+")):
            raise RuntimeError(f"{server.name}: {line}: {answer}")
    return s, f


def settled(server):
    """weigh() once nothing that belonged to an earlier session is left: the same processes for a second."""
    last, since, deadline = None, time.monotonic(), time.monotonic() + 30
    while time.monotonic() - since < 1 and time.monotonic() < deadline:
        pids = sorted(server.processes())
        if pids != last:
            last, since = pids, time.monotonic()
        time.sleep(0.1)
    return weigh(last)


def measure(server, kind, count):
    """KB per session, as (PSS, private), over what the server is without them."""
    before = settled(server)
    sessions = []
    try:
        for _ in range(count):
            sessions.append(open_session(server, kind))
        time.sleep(1)
        after = weigh(server.processes())
    finally:
        for s, f in sessions:
            f.close()
            s.close()
    return tuple((a - b) / count for a, b in zip(after, before))


def compare(tools, table, box, counts):
    """KB of a session, where so many are open."""
    etc, spool = login.prepare(tools)
    ours = login.start_pennypost(tools, etc, spool, ("imap", "imaps"))
    dovecot = login.start_dovecot(tools, etc, spool)
    try:
        for kind, title in (("imap", "plain"), ("imaps", "TLS")):
            for server in (ours[kind], dovecot):
                if not server:
                    continue
                login.put_box(tools[2], server, box)
                try:
                    for one in open_session(server, kind)[::-1]:  # the index is there afterwards
                        one.close()
                    for count in counts:
                        pss, private = measure(server, kind, count)
                        table.add(f"IMAP session of {count}, {title}: private KB", server.name, private)
                        table.add(f"IMAP session of {count}, {title}: PSS KB", server.name, pss)
                except (OSError, RuntimeError) as error:
                    table.note(f"{server.name}, {title}: {error}")
    finally:
        for server in (*ours.values(), dovecot):
            if server:
                server.stop()


def idle(tools, table):
    """Processes that stay when nobody is connected. Under systemd or inetd none of ours does; `listen` is one."""
    etc = smtp.accounts(os.path.join(tools[2], "accounts"))
    spool = login.prepare(tools)[1]
    smtp.accounts(os.path.join(tools[2], "accounts"))
    table.add("processes when idle", "pennypost", 0)
    for name, start in (("dovecot", lambda root: login.start_dovecot(tools, etc, spool)),
                        ("postfix", lambda root: smtp.postfix(etc, root, tools[2], spool)),
                        ("opensmtpd", lambda root: smtp.opensmtpd(etc, root, tools[2], spool)),
                        ("exim", lambda root: smtp.exim(etc, root, tools[2], spool))):
        root = peers.unpack(name, tools[1])
        if not root:
            continue
        try:
            server = start(root)
            time.sleep(1)
            table.add("processes when idle", name, len(server.processes()))
            server.stop()
        except RuntimeError as error:
            table.note(str(error))


def sizes(tools, table):
    """KB of the programs."""
    build, root, _ = tools
    work = "programs and libraries of their own, KB"
    ours = [os.path.join(d, n) for d, _, names in os.walk(os.path.join(build, "handlers")) for n in names if "." not in n]
    table.add(work, "pennypost", sum(os.stat(path).st_size for path in ours if os.access(path, os.X_OK)) / 1024)
    parts = {"dovecot": ("usr/lib/dovecot", "usr/sbin", "usr/bin"), "postfix": ("usr/lib/postfix", "usr/sbin"),
             "exim": ("usr/sbin",), "opensmtpd": ("usr/sbin", "usr/lib"), "popa3d": ("usr/sbin",), "mailutils": ("usr/sbin",)}
    for name, folders in parts.items():
        peer = peers.unpack(name, root)
        if peer:
            table.add(work, name, sum(os.lstat(os.path.join(d, n)).st_size for folder in folders
                                      for d, _, names in os.walk(os.path.join(peer, folder)) for n in names) / 1024)
