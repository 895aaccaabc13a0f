#!/usr/bin/env python3
"""Programs that send through /usr/sbin/sendmail, on a machine where that is ours. Runs there, as root.

    sendmail_clients.py [--systemd] [TEST...]
"""
import os
import pwd
import re
import subprocess
import sys

from world import Tests, wait_until

TESTS = Tests()
HOST = "mail.example.test"


def run(argv, user="alice", message="", **more):
    account = pwd.getpwnam(user)
    done = subprocess.run(argv, input=message.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
                          check=False, user=account.pw_uid, group=account.pw_gid, extra_groups=[],
                          cwd=more.pop("cwd", account.pw_dir),
                          env=dict({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": account.pw_dir, "USER": user,
                                    "LOGNAME": user, "LC_ALL": "C.UTF-8", "TERM": "vt100"}, **more))
    return done.returncode, done.stdout.decode("utf-8", "replace")


def mailbox(user):
    try:
        with open("/var/mail/" + user, encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def arrives(name, argv, mark, user="alice", box="bob", message="", sender=None, **more):
    """Runs it; true if one message with the mark is in the box then."""
    before = mailbox(box).count(mark)
    code, out = run(argv, user, message, **more)
    came = wait_until(lambda: mailbox(box).count(mark) - before)
    text = mailbox(box)[-3000:]
    TESTS.check(name, code == 0 and came == 1, (code, out[-1500:], came, text[-500:]))
    if sender:
        TESTS.check(name + ": sent by " + sender, "Return-Path: <%s>" % sender in text, text)
    return text


def test_cron():
    text = arrives("cron's command line", ["/usr/sbin/sendmail", "-i", "-FCronDaemon", "-B8BITMIME", "-oem", "bob"], "cron-1",
                   user="root", message="From: root (Cron Daemon)\nTo: bob\nSubject: Cron <root@mail> true\nContent-Type: "
                   "text/plain; charset=UTF-8\n\ncron-1 \u00e4\n.\nend\n", sender="root@" + HOST)
    TESTS.check("cron's addresses are whole", "From: root@%s (Cron Daemon)" % HOST in text and "To: bob@%s" % HOST in text and
                "\n.\nend\n" in text, text)


def test_php():
    arrives("PHP's command line", ["/bin/sh", "-c", "/usr/sbin/sendmail -t -i"], "php-1",
            message="To: bob@%s\nSubject: php-1\nX-PHP-Originating-Script: 0:x.php\n\ntext\n" % HOST, sender="alice@" + HOST)


def test_s_nail():
    arrives("s-nail", ["s-nail", "-n", "-s", "s-nail-1", "-r", "alice@" + HOST, "bob@" + HOST], "Subject: s-nail-1",
            message="text\n", sender="alice@" + HOST)


def test_mutt():
    arrives("mutt", ["mutt", "-n", "-F", "/dev/null", "-e", "set sendmail='/usr/sbin/sendmail -oem -oi'", "-s", "mutt-1", "-e",
                     "set copy=no", "-e", "set use_envelope_from=yes", "-e", "set from=alice@" + HOST, "--", "bob@" + HOST],
            "Subject: mutt-1", message="text\n")
    arrives("mutt with a delivery report wanted", ["mutt", "-n", "-F", "/dev/null", "-e", "set dsn_notify='failure,delay'",
                                                   "-e", "set dsn_return=hdrs", "-e", "set copy=no", "-s", "mutt-2", "--",
                                                   "bob@" + HOST], "Subject: mutt-2", message="text\n")


def test_git():
    place = "/home/alice/repository"
    run(["git", "init", "-q", place])
    for key, value in (("user.name", "Alice"), ("user.email", "alice@" + HOST), ("sendemail.smtpserver", "/usr/sbin/sendmail"),
                       ("sendemail.confirm", "never")):
        run(["git", "-C", place, "config", key, value])
    with open(place + "/file", "w", encoding="utf-8") as f:
        f.write("text\n.\n")
    os.chown(place + "/file", pwd.getpwnam("alice").pw_uid, -1)
    run(["git", "-C", place, "add", "file"])
    run(["git", "-C", place, "commit", "-qm", "git-1"])
    arrives("git send-email", ["git", "-C", place, "send-email", "--to", "bob@" + HOST, "-1"], "[PATCH] git-1\n", cwd=place,
            sender="alice@" + HOST)


def test_commands():
    code, out = run(["mailq"])
    TESTS.check("mailq of a user: nothing", code == 0 and "empty" in out, (code, out))
    code, out = run(["newaliases"], user="root")
    TESTS.check("newaliases", code == 0 and "aliases" in out, (code, out))
    code, out = run(["/usr/sbin/sendmail", "-bs"], message="EHLO x\nQUIT\n")
    TESTS.check("-bs", code == 0 and "220 " + HOST in out, (code, out))
    code, out = run(["/usr/sbin/sendmail", "nobody-at-all"], message="x\n")
    TESTS.check("an unknown user is 67", code == 67, (code, out))
    TESTS.check("no set-id bit", os.stat("/usr/sbin/sendmail").st_mode & 0o6000 == 0)


def in_service(properties, script):
    """Runs a service of its own, as hardened services call sendmail; its exit status and what it logged."""
    unit = "/run/systemd/system/send-test.service"
    with open("/srv/send-test", "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\n" + script + "\n")
    os.chmod("/srv/send-test", 0o755)
    os.makedirs(os.path.dirname(unit), exist_ok=True)
    with open(unit, "w", encoding="utf-8") as f:
        f.write("[Service]\nType=oneshot\nExecStart=/srv/send-test\n" + "\n".join(properties) + "\n")
    for words in (["daemon-reload"], ["start", "send-test.service"]):
        done = subprocess.run(["systemctl"] + words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=300, check=False)
    log = subprocess.run(["journalctl", "-q", "-n", "20", "--no-pager", "-u", "send-test.service"], stdout=subprocess.PIPE,
                         timeout=300, check=False).stdout
    subprocess.run(["systemctl", "reset-failed", "send-test.service"], stderr=subprocess.DEVNULL, timeout=300, check=False)
    os.unlink(unit)
    return done.returncode, log.decode("utf-8", "replace")


def test_services():
    hard = ["NoNewPrivileges=yes", "PrivateTmp=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateDevices=yes",
            "CapabilityBoundingSet=", "RestrictSUIDSGID=yes", "RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes",
            "SystemCallFilter=@system-service", "MemoryDenyWriteExecute=yes", "RestrictNamespaces=yes"]
    for name, properties, sender in (
            ("an ordinary service", ["User=alice"], "alice@" + HOST),
            ("NoNewPrivileges=", ["User=alice", "NoNewPrivileges=yes"], "alice@" + HOST),
            ("a hardened service", ["User=alice"] + hard, "alice@" + HOST),
            ("DynamicUser=", ["DynamicUser=yes", "User=somedyn", "NoNewPrivileges=yes"], None),
            ("DynamicUser= and hardened", ["DynamicUser=yes", "User=somedyn"] + hard, None)):
        mark = "in " + name.replace("=", "").replace(" ", "-") + "."
        code, out = in_service(properties, "printf 'Subject: %s\\n\\ntext\\n' | /usr/sbin/sendmail -i bob" % mark)
        came = wait_until(lambda: mailbox("bob").count(mark))
        text = mailbox("bob")[-2000:]
        TESTS.check(name + ": sendmail works", code == 0 and came == 1, (code, out, came))
        found = re.findall(r"Return-Path: <(\S*)>", text)
        TESTS.check(name + ": the sender is its user", found and (found[-1] == sender if sender else found[-1] in
                                                                 ("somedyn@" + HOST, "nobody@" + HOST)), found[-1:])


def test_socket_is_down():
    """A machine whose unit is not enabled: nothing is lost."""
    subprocess.run(["systemctl", "stop", "pennypost-sendmail.socket"], check=True)
    try:
        without_socket()
    finally:
        subprocess.run(["systemctl", "start", "pennypost-sendmail.socket"], check=True)


def without_socket():
    code, out = run(["/usr/sbin/sendmail", "-i", "-FCronDaemon", "-oem", "bob"], message="Subject: down-1\n\ntext\n")
    kept = mailbox("alice") + (open("/home/alice/dead.letter", encoding="utf-8").read()
                               if os.path.exists("/home/alice/dead.letter") else "")
    TESTS.check("without the socket a user's cron mail is kept", code == 75 and "down-1" in kept, (code, out))
    before = mailbox("bob").count("down-2")
    code, out = run(["/usr/sbin/sendmail", "-i", "-FCronDaemon", "-oem", "bob"], user="root", message="Subject: down-2\n\nx\n")
    TESTS.check("without the socket root's cron mail is delivered", code == 0 and mailbox("bob").count("down-2") == before + 1,
                (code, out))


def main():
    tests = [test_cron, test_php, test_s_nail, test_mutt, test_git, test_commands]
    if "--systemd" in sys.argv:
        tests += [test_services, test_socket_is_down]
    wanted = [a for a in sys.argv[1:] if a != "--systemd"]
    for test in tests:
        if not wanted or test.__name__[5:] in wanted:
            TESTS.attempt(test)
    TESTS.close()


main()
