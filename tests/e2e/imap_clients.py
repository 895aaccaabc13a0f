#!/usr/bin/env python3
"""IMAP clients that fetch, synchronise and show: fetchmail, getmail, curl, mbsync (over TLS and through a pipe),
offlineimap, and Sylpheed on a virtual screen. Runs inside a machine of world.py as root; closes with "N passed, N failed".

    imap_clients.py [fetchmail] [getmail] [curl] [mbsync] [offlineimap] [sylpheed]   (default: all)
"""
import glob
import imaplib
import mailbox
import os
import pwd
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import clients  # noqa: E402
from clients import GETMAIL, HOST, SSL, curl, deliver, empty, guarded, message  # noqa: E402
from world import PASSWORDS, Tests, run, wait_until  # noqa: E402

TESTS = Tests()
check = TESTS.check
clients.check = check
USER = "bob"
HOME = "/home/" + USER
HOWS = ("plain", "starttls", "tls")
FOLDERS = ["INBOX", "work", "work/deep", "r&AOk-sum&AOk-", "with space"]


def as_user(argv, **more):
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": HOME, "USER": USER, "LC_ALL": "C.UTF-8", **more.pop("env", {})}
    return run(["runuser", "-u", USER, "--"] + argv, env=env, **more)


def write(name, text, mode=0o600):
    path = os.path.join(HOME, name)
    who = pwd.getpwnam(USER)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    while path != HOME:
        os.chown(path, who.pw_uid, who.pw_gid)
        path = os.path.dirname(path)
    return os.path.join(HOME, name)


def imap():
    m = imaplib.IMAP4_SSL(HOST, ssl_context=SSL)
    m.login(USER, PASSWORDS[USER])
    return m


def fill(count, what):
    empty(USER)
    for i in range(count):
        deliver(USER, "%s %d" % (what, i))


def left(folder="INBOX", key="ALL"):
    """Subjects on the server."""
    m = imap()
    m.select('"%s"' % folder, readonly=True)
    numbers = m.search(None, key)[1][0].split()
    found = []
    for n in numbers:
        data = m.fetch(n, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        found.append(data[0][1].decode().strip()[9:])
    m.logout()
    return found


def subjects(path):
    """Subjects of an mbox that a client has written; each body must be whole."""
    found = []
    for m in mailbox.mbox(path) if os.path.exists(path) else []:
        body = m.get_payload().replace("\r\n", "\n").replace(">From", "From")
        found.append(m["Subject"] if body.startswith("Line one\n.a dot\nFrom the beginning\n") else "broken: " + body)
    return found


# ---- clients that fetch ----

def fetch_leave_delete(name, how, fetch):
    """`fetch(keep)` runs the client once and returns (its result, all subjects it has by now)."""
    what = "%s %s" % (name, how)
    expected = ["%s %d" % (what, i) for i in range(3)]
    fill(3, what)
    done, got = fetch(True)
    check("%s: fetches" % what, got == expected, (done.stdout, got))
    check("%s: leaves" % what, left() == expected, left())
    done, got = fetch(True)
    check("%s: fetches nothing twice" % what, got == expected, (done.stdout, got))
    deliver(USER, what + " new")
    done, got = fetch(True)
    check("%s: fetches what is new" % what, got == expected + [what + " new"], (done.stdout, got))
    done, got = fetch(False)
    check("%s: deletes" % what, wait_until(lambda: not left()), (done.stdout, left()))


def test_fetchmail():
    for how in HOWS:
        box = HOME + "/fetchmail-" + how

        def fetch(keep):
            tls = {"plain": "sslproto ''", "starttls": "sslproto 'TLS1.2+' no sslcertck", "tls": "ssl no sslcertck"}[how]
            rc = write("fetchmailrc", "poll %s protocol imap port %d user %s password '%s' %s %s mda \"formail >> %s\"\n" %
                       (HOST, 993 if how == "tls" else 143, USER, PASSWORDS[USER], tls,
                        "keep" if keep else "nokeep fetchall", box))
            done = as_user(["fetchmail", "-f", rc, "--pidfile", HOME + "/fetchmail.pid", "-v"], timeout=400)
            return done, subjects(box)[:4]

        fetch_leave_delete("fetchmail", how, fetch)


def test_getmail():
    for how in ("plain", "tls"):  # it has no STARTTLS
        box = write("getmail-%s/box" % how, "")

        def fetch(keep):
            rc = write("getmail-%s/rc" % how, "[retriever]\ntype = SimpleIMAP%sRetriever\nserver = %s\nusername = %s\n"
                       "password = %s\nmailboxes = (\"INBOX\",)\n[destination]\ntype = Mboxrd\npath = %s\n[options]\n"
                       "read_all = false\ndelete = %s\n" % ("SSL" if how == "tls" else "", HOST, USER, PASSWORDS[USER], box,
                                                            "false" if keep else "true"))
            folder = os.path.dirname(rc)
            return as_user(["python3", "-c", GETMAIL, "--getmaildir", folder, "--rcfile", rc], timeout=400), subjects(box)

        fetch_leave_delete("getmail", how, fetch)


def test_curl():
    login = ["--user", "%s:%s" % (USER, PASSWORDS[USER])]
    for how in HOWS:
        what = "curl %s" % how
        base = "%s://%s/" % ("imaps" if how == "tls" else "imap", HOST)
        words = login + (["--ssl-reqd"] if how == "starttls" else [])
        fill(2, what)
        path = write("curl-appends", message(what + " appended", USER))  # it does not append what it cannot measure
        done = curl(base + "INBOX", "-T", path, *words)
        check("%s: appends" % what, done.returncode == 0 and left()[2:] == [what + " appended"], (done.stdout, left()))
        done = curl(base + "INBOX;MAILINDEX=3;SECTION=HEADER", *words)
        check("%s: a section" % what, "Subject: %s appended" % what in done.stdout and "Line one" not in done.stdout,
              done.stdout)
        done = curl(base + "INBOX", "-X", "STORE 2 +Flags \\Flagged", *words)
        check("%s: a command of its own" % what, left("INBOX", "FLAGGED") == [what + " 1"], done.stdout)
        done = curl(base + "INBOX?FLAGGED", *words)
        check("%s: searches" % what, "* SEARCH 2" in done.stdout, done.stdout)
        done = curl(base, "-X", "CREATE curl-%s" % how, *words)
        done = curl(base, *words)
        check("%s: creates and lists" % what, "curl-%s" % how in done.stdout, done.stdout)
        curl(base, "-X", "DELETE curl-%s" % how, *words)


# ---- clients that synchronise ----

def far_state():
    """Folder -> {subject: flags} on the server."""
    m = imap()
    found = {}
    for folder in FOLDERS:
        m.select('"%s"' % folder, readonly=True)
        found[folder] = {}
        for d in m.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
            if isinstance(d, tuple):
                flags = {f.decode()[1:2] for f in imaplib.ParseFlags(d[0])} - {"R"}
                found[folder][d[1].decode().strip()[9:]] = "".join(sorted(flags))
    m.logout()
    return found


def near_state(where):
    """The same of Maildirs: where(folder) tells the path. The letters of the flags fit those of far_state()."""
    found = {}
    for folder in FOLDERS:
        found[folder] = {}
        for path in glob.glob(glob.escape(where(folder)) + "/[cn][ue][rw]/*"):
            with open(path, encoding="utf-8", errors="replace") as f:
                subject = re.search(r"^Subject: (.*?)\r?$", f.read(), re.M).group(1)
            flags = path.rsplit(":2,", 1)[1] if ":2," in path else ""
            found[folder][subject] = "".join(sorted(set(flags.replace("R", "A")) & set("ADFS")))
    return found


def prepare(what):
    """Five folders on the server with three messages each, one of them flagged."""
    empty(USER)
    m = imap()
    for folder in FOLDERS:
        if folder != "INBOX":
            m.delete('"%s"' % folder)
            check("%s: CREATE %s" % (what, folder), m.create('"%s"' % folder)[0] == "OK")
            m.subscribe('"%s"' % folder)
        for i in range(3):
            m.append('"%s"' % folder, "(\\Flagged)" if i == 1 else None, None, message("%s %d" % (folder, i)).encode())
    m.logout()


def find(directory, subject):
    for path in glob.glob(glob.escape(directory) + "/[cn][ue][rw]/*"):
        with open(path, encoding="utf-8", errors="replace") as f:
            if re.search(r"^Subject: %s\r?$" % re.escape(subject), f.read(), re.M):
                return path
    raise RuntimeError("no %r in %s" % (subject, directory))


def two_ways(what, where, sync):
    prepare(what)
    done = sync()
    check("%s: first run" % what, done.returncode == 0 and far_state() == near_state(where),
          (done.stdout, far_state(), near_state(where)))
    done = sync()
    check("%s: nothing to do in the second" % what, done.returncode == 0 and far_state() == near_state(where) and
          all(len(f) == 3 for f in far_state().values()), (done.stdout, far_state(), near_state(where)))
    m = imap()  # changes there
    m.select("work")
    m.store("1", "+FLAGS", "(\\Seen \\Answered)")
    m.store("2", "-FLAGS", "(\\Flagged)")
    m.store("3", "+FLAGS", "(\\Deleted)")
    m.expunge()
    m.logout()
    os.unlink(find(where("work/deep"), "work/deep 0"))  # changes here
    path = find(where("with space"), "with space 2")
    os.rename(path, where("with space") + "/cur/" + os.path.basename(path).split(":")[0] + ":2,FS")
    new = write("new-message", message("from here", USER).replace("\r\n", "\n"), 0o600)
    os.rename(new, where("INBOX") + "/cur/1.2.from-here:2,S")
    done = sync()
    far, near = far_state(), near_state(where)
    check("%s: changes on both sides" % what, done.returncode == 0 and far == near, (done.stdout, far, near))
    check("%s: flags and deletion there are here" % what, near["work"] == {"work 0": "AS", "work 1": ""}, near["work"])
    check("%s: deletion here is there" % what, set(far["work/deep"]) == {"work/deep 1", "work/deep 2"}, far["work/deep"])
    check("%s: flags here are there" % what, far["with space"].get("with space 2") == "FS", far["with space"])
    check("%s: a new message here is there" % what, far["INBOX"].get("from here") == "S", far["INBOX"])


def test_mbsync():
    for how in ("tls", "tunnel"):
        top = "%s/mbsync-%s/" % (HOME, how)
        store = {"tls": "Host %s\nPort 993\nUser %s\nPass \"%s\"\nSSLType IMAPS\nCertificateFile %s\n" %
                        (HOST, USER, PASSWORDS[USER], "/etc/pennypost/certificate.pem"),
                 "tunnel": "Tunnel \"/usr/libexec/pennypost/imap-session\"\n"}[how].replace(
                     "Host 127.0.0.1", "Host mail.example.test")
        write("mbsync-%s/none" % how, "")
        rc = write("mbsyncrc-" + how, "IMAPStore far\n%s\nMaildirStore near\nPath %s\nInbox %sINBOX\nSubFolders Verbatim\n\n"
                   "Channel all\nFar :far:\nNear :near:\nPatterns %s\nCreate Both\nExpunge Both\nSyncState *\n" %
                   (store, top, top, " ".join('"%s"' % f.replace("r&AOk-sum&AOk-", "r*sum*") for f in FOLDERS)))
        two_ways("mbsync " + how, lambda folder: top + folder,
                 lambda: as_user(["mbsync", "-c", rc, "-a"], timeout=400))


def test_offlineimap():
    top = HOME + "/offlineimap"
    write("offlineimap/none", "")
    rc = write("offlineimaprc", "[general]\naccounts = a\nmetadata = %s/offlineimap-data\n[Account a]\nlocalrepository = l\n"
               "remoterepository = r\n[Repository l]\ntype = Maildir\nlocalfolders = %s\nsep = /\n[Repository r]\ntype = IMAP\n"
               "remotehost = mail.example.test\nremoteuser = %s\nremotepass = %s\nssl = yes\n"
               "sslcacertfile = /etc/pennypost/certificate.pem\nfolderfilter = lambda f: f in %r\n" %
               (HOME, top, USER, PASSWORDS[USER], FOLDERS))
    two_ways("offlineimap", lambda folder: top + "/" + folder,
             lambda: as_user(["offlineimap", "-c", rc, "-o", "-u", "basic"], timeout=400))


# ---- a client with windows ----

ACCOUNT = """[Account: 1]
account_name=Pennypost
is_default=1
name=Bob
address=bob@localhost
protocol=3
receive_server=mail.example.test
smtp_server=mail.example.test
user_id=%s
password=%s
ssl_imap=1
"""
FOLDERLIST = """<?xml version="1.0" encoding="UTF-8"?>
<folderlist>
<folder type="imap" name="Pennypost" account_id="1" path="%s">
<folderitem type="inbox" name="INBOX" path="INBOX" mtime="0" new="0" unread="0" total="0"/>
</folder>
</folderlist>
"""


def test_sylpheed():
    fill(3, "sylpheed")
    write(".sylpheed-2.0/accountrc", ACCOUNT % (USER, PASSWORDS[USER]))
    with open("/etc/pennypost/certificate.pem", encoding="ascii") as f:
        write(".sylpheed-2.0/certs.crt", f.read())
    write(".sylpheed-2.0/folderlist.xml", FOLDERLIST % "mail.example.test")
    write(".sylpheed-2.0/sylpheedrc", "[Common]\nonline_mode=1\nonly_first_run=0\n")
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": HOME, "DISPLAY": ":7", "LC_ALL": "C.UTF-8", "USER": USER}
    started = [subprocess.Popen(["Xvfb", ":7", "-screen", "0", "1024x768x24", "-nolisten", "tcp"], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)]
    try:
        check("sylpheed: a screen", wait_until(lambda: os.path.exists("/tmp/.X11-unix/X7")))
        started.append(subprocess.Popen(["runuser", "-u", USER, "--", "sylpheed"], env=env, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True))

        def opened():
            """Clicks on INBOX, then on the first row of the list (without a window manager all has its place)."""
            for x, y in ((141, 191), (400, 200)):
                run(["xdotool", "mousemove", str(x), str(y), "click", "1"], env=env, timeout=400)
                time.sleep(2)
            return left("INBOX", "SEEN")

        check("sylpheed: shows a message, which becomes \\Seen", wait_until(opened, 180, 1.0))
        time.sleep(1)
        picture = os.environ.get("PENNYPOST_PICTURE", "/tmp/sylpheed.png")
        run(["import", "-window", "root", picture], env=env, timeout=400)
        check("sylpheed: a picture", os.path.exists(picture) and os.path.getsize(picture) > 5000)
    finally:
        for process in reversed(started):
            if process is not started[0] and process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


ALL = {"fetchmail": test_fetchmail, "getmail": test_getmail, "curl": test_curl, "mbsync": test_mbsync,
       "offlineimap": test_offlineimap, "sylpheed": test_sylpheed}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or ALL:
        guarded(wanted, ALL[wanted])
    TESTS.close()
