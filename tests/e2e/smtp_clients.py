#!/usr/bin/env python3
"""Real clients of SMTP: plain, STARTTLS and TLS, with messages of every awkward kind.

    smtp_clients.py BUILD_DIR

curl, swaks, msmtp, s-nail, git send-email, Python, nodemailer and Postfix's smtp-source. What cannot be had is named and
left out. The server runs in a box; Postfix's tools and nodemailer are unpacked, not installed. Closes with "N passed, N
failed".
"""
import email
import email.policy
import glob
import os
import random
import re
import shutil
import smtplib
import ssl
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../bench")]
import peers  # noqa: E402
import world  # noqa: E402

BUILD = os.path.abspath(sys.argv[1])
UNPACKED = os.environ.get("PENNYPOST_UNPACKED")
CERTIFICATE, KEY, WORK = "/etc/pennypost/certificate.pem", "/etc/pennypost/key.pem", "/var/tmp/work"
TESTS = world.Tests()
PORTS = {}
HOWS = ("plain", "starttls", "tls")


def messages():
    random.seed(3)
    head = "From: alice <alice@mail.test>\r\nTo: bob@mail.test\r\nDate: Sat, 14 Nov 2026 12:00:00 +0000\r\n" \
           "Message-ID: <%s@mail.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" \
           "Content-Transfer-Encoding: %s\r\n\r\n"
    letters = "abcdefghijklmnopqrstuvwxyz    "
    attachment = "\r\n".join("".join(random.choices(letters, k=76)).rstrip() + "x" for _ in range(130000))
    yield "dots", head % ("dots", "7bit") + ".\r\n..\r\n.x\r\n. \r\n\r\n.\r\nFrom here\r\n>From there\r\nend\r\n"
    yield "8bit", head % ("8bit", "8bit") + "Gr\u00fc\u00dfe, \u20ac 5, \u65e5\u672c\r\n"
    yield "998", head % ("998", "7bit") + "x" * 998 + "\r\n" + "y" * 997 + "\r\n"
    yield "long", head % ("long", "7bit") + "z" * 2000 + "\r\n." + "w" * 9000 + "\r\n"
    yield "10 MB", head % ("big", "7bit") + attachment + "\r\n"


MESSAGES = {name: "Subject: %s\r\n" % name + text for name, text in messages()}


# ---- the server ----

def start():
    os.makedirs("/etc/pennypost")
    os.makedirs(WORK, 0o755)
    os.makedirs("/var/spool/pennypost", 0o700)
    with open("/etc/aliases", "w", encoding="ascii"):
        pass
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", KEY, "-out", CERTIFICATE, "-days",
                    "3", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True,
                   stderr=subprocess.DEVNULL)
    servers = []
    for how, arguments in (("plain", []), ("starttls", ["--submission"]), ("tls", ["--submission", "--tls"])):
        servers.append(subprocess.Popen([BUILD + "/handlers/listen/listen", "--bind", "127.0.0.1:0", "--print-address", "--",
                                         BUILD + "/handlers/smtp/smtp", "-o", "hostname=mail.test", *arguments],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        PORTS[how] = int(servers[-1].stdout.readline().decode().rsplit(":", 1)[1])
    return servers


def arrived(user="bob"):
    """The messages in the mailbox, from their Subject on, mboxrd undone, as text; then it is empty."""
    path = "/var/mail/" + user
    text = open(path, "rb").read() if os.path.exists(path) else b""
    if text:
        os.unlink(path)
    parts = re.split(rb"(?:^|\n\n)From [^\n]*\nX-Pennypost", text)[1:]
    return [re.sub(rb"(?m)^>(>*From )", rb"\1", p).decode("utf-8", "surrogateescape") for p in parts]


def from_subject(text):
    return text[text.index("\nSubject:") + 1:].rstrip("\n")


def same_bytes(name, got):
    return len(got) == 1 and from_subject(got[0]) == MESSAGES[name].replace("\r\n", "\n").rstrip("\n")


def same_text(name, got):
    """For clients that write the header, or encode the body, themselves."""
    if len(got) != 1:
        return False
    parsed = email.message_from_bytes(got[0].partition("\n")[2].encode("utf-8", "surrogateescape"), policy=email.policy.default)
    body = parsed.get_body().get_content() if not parsed.is_attachment() else ""
    return body.replace("\r\n", "\n").rstrip("\n") == MESSAGES[name].partition("\r\n\r\n")[2].replace("\r\n", "\n").rstrip("\n")


# ---- the clients: each sends a message in one of the ways; None: it has no such way ----

def stored(name, crlf):
    path = "%s/%s%s" % (WORK, name.replace(" ", ""), ".crlf" if crlf else ".lf")
    with open(path, "wb") as f:
        f.write(MESSAGES[name].replace("\r\n", "\r\n" if crlf else "\n").encode())
    return path


def run(*argv, **more):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False, **more)
    return None if done.returncode == 0 else done.stdout.decode("latin-1")[-600:]


def curl(how, name):
    url = "%s://localhost:%d" % ("smtps" if how == "tls" else "smtp", PORTS[how])
    more = [] if how == "plain" else ["--ssl-reqd", "--user", "alice:wonderland"]
    return run("curl", "-sS", "-4", "--cacert", CERTIFICATE, *more, "--mail-from", "alice@mail.test", "--mail-rcpt",
               "bob@mail.test", "-T", stored(name, True), url)


def swaks(how, name):
    with open(stored(name, True), "rb") as f:
        data = re.sub(rb"(?m)^\.", b"..", f.read()) + b".\r\n"
    path = WORK + "/swaks"
    with open(path, "wb") as f:
        f.write(data)
    more = {"plain": [], "starttls": ["--tls"], "tls": ["--tls-on-connect"]}[how]
    if how != "plain":
        more += ["--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "wonderland"]
    return run("swaks", "--server", "localhost:%d" % PORTS[how], "--protocol", "ESMTP", *more, "--from", "alice@mail.test", "--to",
               "bob@mail.test", "--no-data-fixup", "--data", "@" + path, "--silent", "2", "--helo", "client.example")


def msmtp(how, name):
    more = ["--tls=off", "--auth=off"] if how == "plain" else [
        "--tls=on", "--tls-starttls=" + ("on" if how == "starttls" else "off"), "--tls-trust-file=" + CERTIFICATE, "--auth=plain",
        "--user=alice", "--passwordeval=echo wonderland"]
    with open(stored(name, False), "rb") as f:
        return run("msmtp", "--file=/dev/null", "--host=localhost", "--port=%d" % PORTS[how], *more, "--from=alice@mail.test",
                   "bob@mail.test", stdin=f)


def s_nail(how, name):
    url = {"plain": "smtp://localhost:%d", "starttls": "smtp://alice:wonderland@localhost:%d",
           "tls": "smtps://alice:wonderland@localhost:%d"}[how] % PORTS[how]
    more = ["-S", "smtp-auth=none"] if how == "plain" else ["-S", "smtp-auth=plain", "-S", "tls-ca-file=" + CERTIFICATE]
    if how == "starttls":
        more += ["-S", "smtp-use-starttls"]
    body = MESSAGES[name].partition("\r\n\r\n")[2].replace("\r\n", "\n").encode()
    return run("s-nail", "-:/", "-S", "v15-compat", "-S", "mta=" + url, *more, "-S", "ttycharset=utf-8", "-S",
               "sendcharsets=utf-8", "-S", "sendwait", "-S", "hostname=mail.test", "-r", "alice@mail.test", "-s",
               name, "bob@mail.test", input=body, env=dict(os.environ, HOME=WORK, LC_ALL="C.UTF-8"))


def git(how, name):
    path = WORK + "/0001-x.patch"
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write("From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n" +
                MESSAGES[name].replace("\r\n", "\n"))
    more = {"plain": [], "starttls": ["--smtp-encryption=tls"], "tls": ["--smtp-encryption=ssl"]}[how]
    if how != "plain":
        more += ["--smtp-ssl-cert-path=" + CERTIFICATE, "--smtp-user=alice", "--smtp-pass=wonderland", "--smtp-auth=PLAIN"]
    return run("git", "send-email", "--quiet", "--confirm=never", "--suppress-cc=all", "--no-thread", "--transfer-encoding=auto",
               "--smtp-server=localhost", "--smtp-server-port=%d" % PORTS[how], "--smtp-domain=client.example", *more,
               "--from=alice <alice@mail.test>", "--to=bob@mail.test", path, cwd=WORK, env=dict(os.environ, HOME=WORK))


def python(how, name):
    context = ssl.create_default_context(cafile=CERTIFICATE)
    client = smtplib.SMTP_SSL("localhost", PORTS[how], timeout=120, context=context) if how == "tls" else \
        smtplib.SMTP("localhost", PORTS[how], timeout=120)
    with client:
        if how == "starttls":
            client.starttls(context=context)
        if how != "plain":
            client.login("alice", "wonderland")
        client.sendmail("alice@mail.test", ["bob@mail.test"], MESSAGES[name].encode(), ["BODY=8BITMIME"])


NODE = """
const fs = require('fs');
const [how, port, file, ca] = process.argv.slice(2);
const options = {host: 'localhost', port: +port, secure: how === 'tls', ignoreTLS: how === 'plain',
                 requireTLS: how === 'starttls', tls: {ca: fs.readFileSync(ca)}};
if (how !== 'plain') options.auth = {user: 'alice', pass: 'wonderland'};
require('nodemailer').createTransport(options).sendMail(
    {envelope: {from: 'alice@mail.test', to: ['bob@mail.test']}, raw: fs.readFileSync(file)},
    (error) => { if (error) { console.log(error); process.exit(1); } });
"""


def nodemailer(how, name):
    return run("node", "-e", NODE, "x", how, str(PORTS[how]), stored(name, True), CERTIFICATE,
               env=dict(os.environ, NODE_PATH=UNPACKED + "/nodemailer/usr/share/nodejs"))


CLIENTS = {"curl": (curl, same_bytes), "swaks": (swaks, same_bytes), "msmtp": (msmtp, same_bytes), "s-nail": (s_nail, same_text),
           "git": (git, same_text), "python3": (python, same_bytes), "node": (nodemailer, same_bytes)}
if os.environ.get("SMTP_CLIENTS"):  # only these
    CLIENTS = {k: v for k, v in CLIENTS.items() if k in os.environ["SMTP_CLIENTS"].split()}


def can_run(client):
    if client == "git":
        return bool(glob.glob("/usr/lib/git-core/git-send-email"))
    if client == "node":
        return bool(shutil.which("node")) and os.path.isdir(UNPACKED + "/nodemailer/usr/share/nodejs/nodemailer")
    return bool(shutil.which(client))


def test_clients():
    for client, (send, same) in CLIENTS.items():
        if not can_run(client):
            print("left out: %s is not installed" % client)
            continue
        for how in HOWS:
            for name in MESSAGES:
                try:
                    error = send(how, name)
                except (OSError, smtplib.SMTPException, subprocess.SubprocessError) as e:
                    error = repr(e)
                got = arrived()
                TESTS.check("%s, %s, %s" % (client, how, name), error is None and same(name, got),
                            error or [g[-300:] for g in got])


def test_smtputf8():
    with smtplib.SMTP("localhost", PORTS["plain"], timeout=120) as client:
        client.ehlo()
        text = "Subject: \u00fc\r\nFrom: <\u00e4@\u00f6.example>\r\n\r\n\u00fc\r\n"
        client.sendmail("\u00e4@\u00f6.example", ["bob@mail.test"], text.encode(), ["SMTPUTF8", "BODY=8BITMIME"])
    got = arrived()
    TESTS.check("Python, SMTPUTF8", len(got) == 1 and from_subject(got[0]) == text.replace("\r\n", "\n").rstrip("\n") and
                "Return-Path: <\u00e4@\u00f6.example>\n" in got[0] and " with UTF8SMTP\n" in got[0], got)


def test_smtputf8_clients():
    """curl and nodemailer say SMTPUTF8 by themselves when an address needs it."""
    text = "Subject: utf8\r\nFrom: <\u00e4@\u00f6.example>\r\n\r\n\u00fc\r\n"
    path = WORK + "/utf8"
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write(text)
    runs = {"curl": ["curl", "-sS", "-4", "--mail-from", "\u00e4@example.org", "--mail-rcpt", "bob@mail.test", "-T", path,
                     "smtp://localhost:%d" % PORTS["plain"]],
            "node": ["node", "-e", NODE.replace("from: 'alice@mail.test'", "from: '\u00e4@example.org'"), "x", "plain",
                     str(PORTS["plain"]), path, CERTIFICATE]}
    for client, argv in runs.items():
        if not can_run(client):
            print("left out: %s is not installed" % client)
            continue
        error = run(*argv, env=dict(os.environ, LC_ALL="C.UTF-8", NODE_PATH=UNPACKED + "/nodemailer/usr/share/nodejs"))
        got = arrived()
        TESTS.check("%s, SMTPUTF8" % client, error is None and len(got) == 1 and " with UTF8SMTP\n" in got[0] and
                    "Return-Path: <\u00e4@example.org>\n" in got[0] and
                    from_subject(got[0]) == text.replace("\r\n", "\n").rstrip("\n"), error or got)


def test_smtp_source():
    tool = glob.glob(UNPACKED + "/postfix/usr/sbin/smtp-source")
    if not tool:
        print("left out: smtp-source cannot be had")
        return
    libraries = ":".join(glob.glob(UNPACKED + "/postfix/usr/lib/postfix") + glob.glob(UNPACKED + "/postfix/usr/lib/*-linux-gnu"))
    for sessions, count, length in ((1, 20, 100), (10, 200, 4096), (5, 5, 1000000)):
        error = run(*tool, "-s", str(sessions), "-m", str(count), "-l", str(length), "-f", "s@example.org", "-t", "bob@mail.test",
                    "127.0.0.1:%d" % PORTS["plain"], env=dict(os.environ, LD_LIBRARY_PATH=libraries))
        got = arrived()
        TESTS.check("smtp-source, %d sessions, %d messages of %d bytes" % (sessions, count, length),
                    error is None and len(got) == count, error or len(got))


def test_dsn():
    """A report that was asked for is in the queue, for the run to make."""
    with smtplib.SMTP("localhost", PORTS["plain"], timeout=120) as client:
        client.ehlo()
        TESTS.check("DSN is offered", client.has_extn("dsn") and client.has_extn("etrn"))
        client.sendmail("x@example.org", ["bob@mail.test"], MESSAGES["dots"].encode(), ["RET=HDRS", "ENVID=QQ314"],
                        ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;bob+40mail.test"])
    names = os.listdir("/var/spool/pennypost/new")
    text = "".join(open("/var/spool/pennypost/new/" + n, encoding="utf-8").read() for n in names)
    TESTS.check("Python asks for a report", len(arrived()) == 1 and "\nenvid QQ314\n" in text and "\nto-state delivered\n" in text,
                text)


def inside():
    servers = start()
    try:
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                TESTS.attempt(test)
    finally:
        for server in servers:
            server.terminate()
            server.wait(120)
    print("%d passed, %d failed" % (TESTS.passed, TESTS.failed))
    return TESTS.failed > 0


def unpack():
    """Postfix's tools and nodemailer beside each other; what apt does not have is left out."""
    root = os.path.join(world.cache_dir(), "smtp-clients")
    os.makedirs(root, exist_ok=True)
    peers.PACKAGES["nodemailer"] = ["node-nodemailer"]
    for name in ("postfix", "nodemailer"):
        if os.path.isdir(os.path.join(root, name)):
            continue
        target = os.path.join(root, name + ".new")
        os.makedirs(target, exist_ok=True)
        done = subprocess.run(["sh", "-ec", "apt-get download -q %s >/dev/null; for p in *.deb; do dpkg -x $p .; done; rm *.deb" %
                               peers.PACKAGES[name][0]], cwd=target, stderr=subprocess.DEVNULL, check=False)
        if done.returncode == 0:
            os.rename(target, os.path.join(root, name))
    return root


def main():
    if UNPACKED:
        return inside()
    began = time.monotonic()
    root = unpack()
    # The box hides /var: what was unpacked is kept like the build.
    staging = os.path.join(BUILD, "smtp-clients")
    if not os.path.isdir(staging):
        shutil.copytree(root, staging, symlinks=True)
    status = subprocess.run([os.path.join(HERE, "box"), sys.executable, __file__, BUILD], check=False,
                            env=dict(os.environ, PENNYPOST_BUILD=BUILD, PENNYPOST_UNPACKED=staging)).returncode
    print("%.0f seconds" % (time.monotonic() - began))
    return status


if __name__ == "__main__":
    sys.exit(main())
