"""Postfix, Exim and OpenSMTPD as receivers of what relay sends, and opendkim as the judge of what it signs: for `relay`.

Debian's packages, unpacked and laid over the file system in mount namespaces of their own. Each server has a certificate and
answers under several host names, of which the DNS says different things: DOMAINS.
"""
import base64
import email
import mailbox
import os
import quopri
import re
import shutil
import subprocess
import sys

import peers
import world

SERVERS = {"postfix": "192.0.2.11", "exim": "192.0.2.12", "opensmtpd": "192.0.2.13"}
BARE = "192.0.2.15"  # Postfix without any extension
DOMAINS = {"%s.test": "mx", "may-%s.test": "mxm", "sts-%s.test": "mxs"}  # what each server takes mail for, and its host's name
SIZE = 60000  # what each of them takes
PLAIN = "From: a@mail.example.test\nSubject: hello\nMessage-ID: <%s@mail.example.test>\n\n.one\n..two\nFrom x\n"
EIGHT = "From: a@mail.example.test\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n" \
    "Content-Transfer-Encoding: 8bit\nMessage-ID: <%s@mail.example.test>\n\ncaf\u00e9\n"
UTF8 = "From: a@mail.example.test\nSubject: gr\u00fcn\nMessage-ID: <%s@mail.example.test>\n\nx\n"
ALICE = "alice@mail.example.test"


def zone(digest):
    """The lines of the DNS for all of them: DANE, a TLSA record of another certificate, MTA-STS, and nothing at all."""
    text = "bare MX 10 mx.bare\nmx.bare A %s\nmail.example MX 10 us.example\nus.example A 192.0.2.1\n" % BARE
    for name, address in SERVERS.items():
        text += "{0} MX 10 mx.{0}\nwrong-{0} MX 10 mxw.{0}\nmay-{0} MX 10 mxm.{0}\nsts-{0} MX 10 mxs.{0}\nnone-{0} MX 10 mxm.{0}\n" \
            "_25._tcp.mx.{0} TLSA 3 1 1 {1}\n_25._tcp.mxw.{0} TLSA 3 1 1 {2}\n_mta-sts.sts-{0} TXT \"v=STSv1; id=one;\"\n" \
            "mta-sts.sts-{0} A 192.0.2.80\n".format(name, digest, "00" * 32)
        text += "".join("%s.%s A %s\n" % (host, name, address) for host in ("mx", "mxw", "mxm", "mxs"))
    return text


def hosts():
    """The names that their certificate is for."""
    return ["%s.%s.test" % (host, name) for name in SERVERS for host in ("mx", "mxw", "mxm", "mxs")]


def policy_hosts():
    return ["mta-sts.sts-%s.test" % name for name in SERVERS]


def domains(name):
    return [d % name for d in DOMAINS]


def is_at_rest(path):
    """Waits until nobody has written there for a while: what is half written is no message yet."""
    def size():
        return os.path.getsize(path) if os.path.exists(path) else 0
    sizes = [size()]

    def look():
        sizes.append(size())
        return sizes[-1] == sizes[-2]
    return world.wait_until(look, step=0.3)


def reports_in(path):
    """The multipart/reports of an mbox, with their bytes as `raw`."""
    is_at_rest(path)
    box, found = mailbox.mbox(path) if os.path.exists(path) else {}, []
    for key, m in box.items():
        if m.get_content_type() == "multipart/report":
            m.raw = box.get_bytes(key)
            found.append(m)
    return found


# ---- the servers ----

class Real:
    """Debian's packages of a server, laid over the file system in a mount namespace of its own."""

    def __init__(self, far, work, name, keys):
        self.far, self.work, self.name = far, os.path.join(work, name), name
        os.mkdir(self.work, 0o755)
        for suffix in (".pem", ".key"):
            shutil.copy(keys + "real" + suffix, self.work + "/cert" + suffix)
        self.box = os.path.join(self.work, "box")
        etc = os.path.join(self.work, "accounts/etc")
        os.makedirs(etc)
        for file, extra in (("passwd", "postfix:x:907:907::/nonexistent:/bin/false\nopensmtpd:x:909:909::/var/lib/opensmtpd/empty:/bin/false\n"
                             "opensmtpq:x:910:910::/nonexistent:/bin/false\nDebian-exim:x:911:911::/nonexistent:/bin/false\n"),
                            ("group", "postfix:x:907:\npostdrop:x:908:\nopensmtpd:x:909:\nopensmtpq:x:910:\n"
                             "Debian-exim:x:911:\n")):
            with open("/etc/" + file, encoding="utf-8") as f:
                text = "".join(line for line in f if line.split(":")[0] not in extra)
            self.file(os.path.join(etc, file), text + extra)

    def file(self, path, text):
        with open(os.path.join(self.work, path), "w", encoding="utf-8") as f:
            f.write(text)

    def start(self, root, argv):
        self.log = open(os.path.join(self.work, "log"), "w", encoding="utf-8")
        folders = self.folders = [os.path.join(self.work, "accounts"), root]
        self.process = subprocess.Popen(self.far.command(peers.overlay_command(folders, argv)), stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)

    def said(self):
        with open(self.work + "/log", encoding="utf-8", errors="replace") as f:
            return f.read()

    def reports(self):
        """The multipart/reports in its mbox."""
        path = self.work + "/boxes/box"
        return reports_in(path)

    def messages(self):
        """What has arrived, from its own From field on, by the number in the Message-ID."""
        found = {}
        for folder, _, names in os.walk(self.work):
            for name in names:
                if "/box" in folder + "/" + name:
                    with open(os.path.join(folder, name), "rb") as f:
                        text = f.read().replace(b"\r\n", b"\n")
                    for m in re.finditer(rb"^From: a@mail\.example\.test\n(?:.+\n)*?Message-ID: <(N\d+)@", text, re.M):
                        end = re.compile(rb"^(Received|Return-[Pp]ath|Delivered-To|X-Original-To|Envelope-to): |^From \S+@", re.M)
                        rest = end.search(text, m.end())
                        found[m.group(1).decode()] = text[m.start():rest.start() if rest else len(text)]
        return found


def postfix(far, work, root, keys):
    r = Real(far, work, "postfix", keys)
    conf, queue = os.path.join(r.work, "conf"), os.path.join(r.work, "queue")
    shutil.copytree(os.path.join(root, "etc/postfix"), conf)
    shutil.copy(os.path.join(root, "usr/share/postfix/dynamicmaps.cf"), conf)
    lines = []
    with open(os.path.join(root, "usr/share/postfix/master.cf.dist"), encoding="ascii") as f:
        for line in f.read().replace("smtp      inet  n ", SERVERS["postfix"] + ":25 inet n ").splitlines():
            words = line.split()
            if len(words) >= 8 and not line.startswith(("#", " ")) and words[4] == "y":
                line = " ".join(words[:4] + ["n"] + words[5:])
            lines.append(line)
    lines.append(BARE + ":25 inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=" + ",".join(
        "8bitmime chunking dsn enhancedstatuscodes pipelining size smtputf8 starttls vrfy".split()))
    r.file(conf + "/master.cf", "\n".join(lines) + "\n")
    r.file(conf + "/main.cf", """compatibility_level = 3.6
queue_directory = %(queue)s
data_directory = %(work)s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.postfix.test
mydestination =
inet_protocols = ipv4
smtpd_peername_lookup = no
virtual_mailbox_domains = %(domains)s, bare.test
smtpd_tls_security_level = may
smtpd_tls_cert_file = %(work)s/cert.pem
smtpd_tls_key_file = %(work)s/cert.key
smtpd_recipient_restrictions = check_recipient_access inline:{{later@postfix.test = 450 4.7.1 Greylisted}}
message_size_limit = %(size)d
relayhost = [192.0.2.1]
smtp_dns_support_level = disabled
virtual_mailbox_base = %(work)s
virtual_mailbox_maps = static:boxes/box
virtual_uid_maps = static:907
virtual_gid_maps = static:907
virtual_alias_maps =
alias_maps =
alias_database =
mynetworks = 192.0.2.11/32
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
maillog_file = %(work)s/maillog
maillog_file_prefixes = %(work)s
""" % {"queue": queue, "work": r.work, "size": SIZE, "domains": ", ".join(domains("postfix"))})
    for name in ["../data", "../boxes"] + "active bounce corrupt defer deferred flush hold incoming private saved trace".split():
        os.makedirs(os.path.join(queue, name), mode=0o700)
        os.chown(os.path.join(queue, name), 907, 907)
    for name, mode in (("maildrop", 0o730), ("public", 0o710)):
        os.makedirs(os.path.join(queue, name))
        os.chown(os.path.join(queue, name), 907, 908)
        os.chmod(os.path.join(queue, name), mode)
    os.makedirs(os.path.join(queue, "pid"))
    r.start(root, ["/usr/lib/postfix/sbin/master", "-c", conf, "-d"])
    return r


def exim(far, work, root, keys):
    r = Real(far, work, "exim", keys)
    os.mkdir(r.work + "/spool")
    os.chown(r.work + "/spool", 911, 911)
    os.mkdir(r.work + "/boxes")
    os.chown(r.work + "/boxes", 911, 911)
    r.file("exim.conf", """primary_hostname = mx.exim.test
spool_directory = %(work)s/spool
log_file_path = %(work)s/log_%%slog
local_interfaces = 192.0.2.12
domainlist here = %(domains)s
acl_smtp_rcpt = take
accept_8bitmime
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
tls_advertise_hosts = *
tls_certificate = %(work)s/cert.pem
tls_privatekey = %(work)s/cert.key
message_size_limit = %(size)d
host_lookup =
exim_user = 911
exim_group = 911
never_users = root
begin acl
take:
  defer local_parts = later
  accept domains = +here
  deny
begin routers
all:
  driver = accept
  domains = +here
  transport = file
out:
  driver = manualroute
  route_list = * 192.0.2.1
  transport = out
begin transports
out:
  driver = smtp
file:
  driver = appendfile
  file = %(work)s/boxes/box
  user = 911
  group = 911
begin retry
* * F,1h,10m
""" % {"work": r.work, "size": SIZE, "domains": " : ".join(domains("exim"))})
    for path in (r.work, r.work + "/cert.key"):
        os.chown(path, 911, 911)
    r.start(root, ["/usr/sbin/exim4", "-C", r.work + "/exim.conf", "-bdf", "-odi", "-oP", r.work + "/pid"])
    return r


def opensmtpd(far, work, root, keys):
    r = Real(far, work, "opensmtpd", keys)
    os.mkdir(r.work + "/boxes")
    os.chmod(r.work + "/boxes", 0o777)
    r.file("smtpd.conf", """pki here cert "%(work)s/cert.pem"
pki here key "%(work)s/cert.key"
smtp max-message-size "%(size)d"
listen on 192.0.2.13 tls pki here hostname mx.opensmtpd.test
table all { "@" = "nobody" }
action "take" mda "/bin/cat >> %(work)s/boxes/box" virtual <all>
action "out" relay host "smtp://192.0.2.1"
match from any for domain { %(domains)s } action "take"
match from local for any action "out"
""" % {"work": r.work, "size": SIZE, "domains": ", ".join(domains("opensmtpd"))})
    os.chmod(r.work + "/cert.key", 0o600)
    prepare = "mkdir -p /var/spool /var/lib/opensmtpd/empty && mount -t tmpfs tmpfs /var/spool && mkdir -m 711 /var/spool/smtpd && " \
        "mount -t tmpfs -o mode=755 tmpfs /run && exec /usr/sbin/smtpd -d -f %s/smtpd.conf" % r.work
    r.start(root, ["sh", "-c", prepare])
    return r


def peers_folder():
    root = os.environ.get("PENNYPOST_PEERS") or os.path.join(world.cache_dir(), "peers")
    os.makedirs(root, exist_ok=True)
    return root


# ---- reports ----

def decoded(report, number):
    """A part of it as bytes, decoded: what is of type message the module takes apart before it decodes it."""
    mark = b"\n--" + report.get_param("boundary").encode()
    header, body = report.raw.replace(b"\r\n", b"\n").split(mark)[number + 1].lstrip(b"\n").split(b"\n\n", 1)
    kind = email.message_from_bytes(header + b"\n\n")["Content-Transfer-Encoding"]
    return {"quoted-printable": quopri.decodestring, "base64": base64.b64decode}.get(kind, bytes)(body)


def fields_of(report):
    """The fields of a report: those of the message, and a list of those of each recipient."""
    blocks = re.split(r"\n\n+", decoded(report, 1).decode("utf-8").strip())
    blocks = [email.message_from_string(b) for b in blocks]
    return blocks[0], blocks[1:]


class Alice:
    """Her mailbox here, to which the servers' reports and ours come."""

    def __init__(self, machine):
        self.path = machine.root + "/var/mail/alice"

    def reports(self):
        return reports_in(self.path)

    def mentions(self, address, who):
        """The subjects of mail from there with that address in it."""
        is_at_rest(self.path)
        box = mailbox.mbox(self.path) if os.path.exists(self.path) else []
        return [m["Subject"] or "" for m in box if who in (m["From"] or "") and address in m.as_string()]

    def told(self, address, action):
        """The fields of the report that says so, waiting for it."""
        def look():
            for m in self.reports():
                message, recipients = fields_of(m)
                for r in recipients:
                    if r["Action"] == action and address in (r["Final-Recipient"] or ""):
                        return message, r
            return None
        return world.wait_until(look)


# ---- what they see of us ----

class Cases:
    def __init__(self, tests, queue, server, alice):
        self.tests, self.queue, self.server, self.alice, self.name = tests, queue, server, alice, server.name
        self.has_tls = self.can_tls()
        self.domain = ("%s.test" if self.has_tls else "may-%s.test") % self.name

    def can_tls(self):
        """OpenSMTPD 6.8 finishes no handshake with anybody where OpenSSL is 3.0, as in Debian 12: it does not find its key."""
        code = "import smtplib, ssl; c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE; " \
            "s = smtplib.SMTP(%r); s.starttls(context=c); s.ehlo()" % SERVERS[self.name]
        return world.run(self.server.far.command([sys.executable, "-c", code])).returncode == 0

    def check(self, what, good, detail=""):
        return self.tests.check("%s: %s" % (self.name, what), good, detail)

    def arrived(self, *ids):
        looks = [{}]

        def got():
            """Found, and the same as at the last look: whole."""
            looks.append(self.server.messages())
            return set(ids) <= set(looks[-1]) and looks[-1] == looks[-2] and looks[-1]
        return world.wait_until(got, step=0.3) or {}

    def mail(self):
        """Every byte, in eight bits too."""
        plain = self.queue.add("x@" + self.domain, "y@" + self.domain)
        eight = self.queue.add("x@" + self.domain, text=EIGHT)
        self.queue.run()
        got = self.arrived(plain, eight)
        if not self.check("has the mail", plain in got and eight in got, self.queue.log):
            return False
        body = got[plain].replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]
        self.check("every byte of it", body.replace(b">From", b"From").startswith(b".one\n..two\nFrom x\n"), body)
        m = email.message_from_bytes(got[eight])
        self.check("8-bit text", m.get_payload(decode=True).decode("utf-8", "replace").startswith("caf\u00e9"), m)
        self.check("nothing is left in the queue", not self.queue.states(plain) and not self.queue.states(eight))
        return True

    def logged(self, address, word):
        """Does the line of the delivery to him say that?"""
        return any(word in l for l in self.queue.log.splitlines() if " sent " in l and "to=%s " % address in l)

    def tls(self):
        """DANE, MTA-STS, the admin's word, and any certificate where nobody says anything."""
        dane, may, sts, wrong = ["x@%s%s.test" % (p, self.name) for p in ("", "may-", "sts-", "wrong-")]
        name = self.queue.add(dane, may, sts, wrong)
        self.queue.run("-o", "tls_ca=/root/ca.pem")
        states = self.queue.states(name)
        if not self.has_tls:
            print("-- %s: its own handshake fails, whoever asks: its TLS cannot be verified" % self.name)
            self.check("TLS that is offered and fails: the mail goes without it", "tls-failed host=mxm." in self.queue.log and
                       self.logged(may, "tls=none"), self.queue.log)
            self.check("and it waits where TLS is demanded", all(states.get(a, ["", ""])[1].startswith("454 4.7.5")
                                                                 for a in (dane, sts, wrong)), states)
            self.queue.remove(name)
            return
        self.check("DANE: verified", self.logged(dane, "verified=yes"), self.queue.log)
        self.check("MTA-STS: verified", self.logged(sts, "verified=yes") and "policy_type=sts" in self.queue.log, self.queue.log)
        self.check("nothing is said: TLS", self.logged(may, "verified=no") and self.logged(may, "TLSv1."), self.queue.log)
        self.check("another certificate than DANE says: the mail waits", states.get(wrong, ["", ""])[0] == "deferred" and
                   states[wrong][1].startswith("454 4.7.5"), states)
        self.queue.remove(name)
        for names, good in (("mxm.%s.test" % self.name, True), ("other.test", False)):
            self.queue.machine.write("/etc/pennypost/tls_policy", "may-%s.test verify %s\n" % (self.name, names))
            name = self.queue.add(may)
            self.queue.run("-o", "tls_ca=/root/ca.pem")
            is_sent = not self.queue.states(name)
            self.check("a certificate that the admin demands: " + names, is_sent == good and
                       (not good or self.logged(may, "verified=yes")), self.queue.log)
            if not is_sent:
                self.queue.remove(name)
        self.queue.machine.write("/etc/pennypost/tls_policy", "")
        address = "x@may-%s.test" % self.name
        self.queue.add(address, sender=ALICE, requiretls="yes")
        self.queue.run()
        self.queue.run()
        told = self.alice.told(address, "failed")
        self.check("REQUIRETLS, which it does not know: the mail comes back", told and told[1]["Status"].startswith("5.7."), told)

    def dsn(self):
        """What the sender wants to hear goes on, and comes back from there."""
        address = "told@" + self.domain
        self.queue.add([address, "to-notify 2", "to-orcpt rfc822;old+2Bname@elsewhere.test"], sender=ALICE, envid="x+3Dy", ret="hdrs")
        self.queue.run()
        if self.name == "opensmtpd":  # what it tells has the words of RFC 3464 and not its form
            told = world.wait_until(lambda: self.alice.mentions(address, "mx.opensmtpd.test"))
            self.check("NOTIFY=SUCCESS: it tells", told and "delivered" in told[0], told or self.server.said())
            return
        told = self.alice.told(address, "delivered")
        self.check("NOTIFY=SUCCESS: it tells", told, self.queue.log + self.server.said())
        # Exim tells both as they came, not decoded (RFC 3461 6.3).
        self.check("with the envelope id and the first recipient", told and told[0]["Original-Envelope-Id"] in ("x=y", "x+3Dy") and
                   (told[1]["Original-Recipient"] or "").replace(" ", "").replace("+2B", "+") == "rfc822;old+name@elsewhere.test",
                   told and [x.as_string() for x in told])

    def refusals(self):
        """Of a recipient, for a while, of a size."""
        address = "x@none-%s.test" % self.name
        name = self.queue.add(address, "later@" + self.domain, sender=ALICE)
        self.queue.run()
        states = self.queue.states(name)
        if self.name != "opensmtpd":
            state, reply = states.get("later@" + self.domain, ["", ""])
            self.check("greylisting: the mail waits", state == "deferred" and reply.startswith("45"), states)
            self.queue.remove(name)
        self.queue.run()
        told = self.alice.told(address, "failed")
        self.check("refused: a report with its words", told and told[1]["Remote-MTA"] == "dns; mxm.%s.test" % self.name and
                   told[1]["Diagnostic-Code"].startswith("smtp; 55"), told)
        address = "big@" + self.domain
        name = self.queue.add(address, sender=ALICE, text=PLAIN + "0123456789abcdef\n" * (SIZE // 16))
        self.queue.run()
        self.queue.run()
        told = self.alice.told(address, "failed")
        self.check("SIZE: what is too big comes back and is not sent", told and told[1]["Status"] == "5.3.4" and
                   name not in self.server.messages(), told)

    def utf8(self):
        address = "j\u00f6rg@" + self.domain
        name = self.queue.add(address, sender=ALICE, text=UTF8, smtputf8="yes", body="8bitmime")
        self.queue.run()
        if self.name == "opensmtpd":
            self.queue.run()
            told = self.alice.told(address, "failed")
            self.check("no SMTPUTF8: a report in UTF-8", told and told[1]["Status"] == "5.6.7" and
                       told[1]["Final-Recipient"] == "utf-8; " + address, told)
        else:
            got = self.arrived(name)
            self.check("SMTPUTF8", "gr\u00fcn".encode() in got.get(name, b""), self.queue.log)


# ---- our reports in front of Postfix ----

def report_of(server, action, address):
    for m in server.reports():
        message, recipients = fields_of(m)
        for r in recipients:
            if r["Action"] == action and address in str(r["Final-Recipient"]):
                return m, message, r
    return None


def our_reports(tests, queue, server):
    """Each kind of report goes to Postfix, by its extensions and without any, and is read there."""
    for domain in ("postfix.test", "bare.test"):
        sender = "x@" + domain
        queue.add("failed@null.test", sender=sender, envid="f1")
        queue.add("delayed@dead.test", sender=sender, age=6 * 3600, envid="d1")
        queue.add(["relayed@bare.test", "to-notify 2"], sender=sender, envid="r1")
        queue.add(["bob@mail.example.test", "to-notify 2"], sender=sender, envid="l1")
        queue.add(["two@mail.example.test", "to-notify 2"], sender=sender, envid="e1")
        queue.add("j\u00f6rg@null.test", sender=sender, text=UTF8, smtputf8="yes", body="8bitmime", envid="u1")
        for _ in range(3):
            queue.run()
        to_it = lambda m: m["To"] == "<%s>" % sender
        world.wait_until(lambda: sum(map(to_it, server.reports())) >= 6)
        reports = {}
        for m in filter(to_it, server.reports()):
            message, recipients = fields_of(m)
            reports[message["Original-Envelope-Id"]] = (m, recipients)
        for envid, action, address in (("f1", "failed", "failed@null.test"), ("d1", "delayed", "delayed@dead.test"),
                                       ("r1", "relayed", "relayed@bare.test"), ("l1", "delivered", "bob@mail.example.test"),
                                       ("e1", "expanded", "two@mail.example.test"), ("u1", "failed", "j\u00f6rg@null.test")):
            m, recipients = reports.get(envid, (None, []))
            good = len(recipients) == 1 and recipients[0]["Action"] == action and recipients[0]["Final-Recipient"].endswith(address) and \
                m["Return-Path"] in ("<>", None) and m["Auto-Submitted"] == "auto-replied" and \
                m.get_payload()[0].get_content_type() == "text/plain"
            tests.check("a report to %s: %s" % (domain, action), good, m or queue.log)
        m = reports.get("u1", (None, []))[0]
        if not m:
            continue
        third, inside = m.get_payload()[2], decoded(m, 2)
        tests.check("a report to %s in UTF-8: %s" % (domain, "in seven bits" if domain == "bare.test" else "in eight"),
                    (max(m.raw) < 128) == (domain == "bare.test") and third.get_content_type() == "message/global", m.raw)
        tests.check("a report to %s in UTF-8: what it returns" % domain, "Subject: gr\u00fcn\n".encode() in inside, m.raw)


def postfix_asks(tests, queue, server):
    """Postfix sends to us and wants to hear of it: our report is its answer, and its own one stays its own."""
    code = """import smtplib
s = smtplib.SMTP("192.0.2.11", source_address=("192.0.2.11", 0))
s.sendmail("x@postfix.test", ["carol@mail.example.test", "nobody-here@mail.example.test"], "Subject: from postfix\\r\\n\\r\\nhi\\r\\n",
           ["ENVID=p1"], ["NOTIFY=SUCCESS,FAILURE"])"""
    done = world.run(server.far.command([sys.executable, "-c", code]))
    found = lambda action, address: report_of(server, action, address)
    world.wait_until(lambda: found("failed", "nobody-here@mail.example.test"))
    for _ in range(2):
        queue.run()
    world.wait_until(lambda: found("delivered", "carol@mail.example.test"))
    ours, its = found("delivered", "carol@mail.example.test"), found("failed", "nobody-here@mail.example.test")
    tests.check("Postfix asks for success: we tell it", ours and ours[1]["Original-Envelope-Id"] == "p1" and
                ours[1]["Reporting-MTA"] == "dns; mail.example.test", (done.stdout, queue.log))
    tests.check("whom we refuse Postfix reports itself, in our words", its and "5.1.1" in its[2]["Status"] and
                "mx.postfix.test" in its[1]["Reporting-MTA"], (done.stdout, its))


# ---- all of it ----

def servers(tests, queue, far, work, keys, only):
    """All of them, or those whose names are given."""
    root, machine = peers_folder(), queue.machine
    machine.write("/etc/aliases", "two: bob, carol@mail.example.test\n")
    ours = machine.start(["/usr/libexec/pennypost/listen", "--bind", "192.0.2.1:25", "--", "smtp"], stderr=subprocess.DEVNULL)
    for name, start in (("postfix", postfix), ("exim", exim), ("opensmtpd", opensmtpd)):
        if only and name not in only:
            continue
        there = peers.unpack(name, root)
        if not there:
            tests.skip(name, "its packages cannot be had")
            continue
        server = start(far, work, there, keys)
        if not tests.check(name + " runs", far.answers(SERVERS[name]), server.said()):
            continue
        cases = Cases(tests, queue, server, Alice(machine))
        if cases.mail():
            for case in (cases.tls, cases.dsn, cases.refusals, cases.utf8):
                tests.attempt(case)
        if name == "postfix":
            queue.add("x@postfix.test", "nobody@unknown.test", sender=ALICE)
            tests.check("refused for relaying", queue.run() == 0, queue.log)
            tests.attempt(our_reports, tests, queue, server)
            tests.attempt(postfix_asks, tests, queue, server)
        server.process.terminate()
    ours.terminate()


# ---- signatures ----

DATE = "Date: Sat, 14 Nov 2026 12:00:00 +0000\n"  # without one opendkim does not even look
SIGNED = {
    "plain": DATE + PLAIN.replace("mail.example", "signed"),
    "8-bit text": DATE + EIGHT.replace("mail.example", "signed"),
    "blanks and folds": DATE + "From:a@signed.test \t\nSubject:  a \t b\n\tfolded\t\nTo:  x\nMessage-ID: <%s@x>\n\n  a  b \t\n\n \t \n\nend  \n\n\n",
    "nothing but a header": DATE + "From: a@signed.test\nMessage-ID: <%s@x>\n\n",
    "many fields": DATE + "".join("Resent-To: <%d@x>\n" % i for i in range(40)) + "From: a@signed.test\nTo: a\nMessage-ID: <%s@x>\n\nx\n",
    "below the domain": DATE + "From: a@host.signed.test\nMessage-ID: <%s@x>\n\nx\n",
}


def opendkim(tests, queue, receiver):
    """opendkim, by the DNS, of what came over the wire: each of our signatures by itself, and of text that was changed."""
    root = peers.unpack("opendkim", peers_folder())
    if not root:
        tests.skip("opendkim", "its packages cannot be had")
        return
    etc = queue.machine.scratch + "/resolver"
    os.makedirs(etc + "/etc")
    with open(etc + "/etc/resolv.conf", "w", encoding="ascii") as f:
        f.write("nameserver 127.0.0.1\n")

    def verify(data):
        done = subprocess.run(peers.overlay_command([etc, root], ["opendkim-testmsg", "-C"]), input=data, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, timeout=300)
        return done.returncode == 0, done.stdout

    for what, text in SIGNED.items():
        since = len(receiver.messages)
        queue.add("x@implicit.test", text=text, sender="a@signed.test")
        queue.run()
        data = receiver.messages[since].data if len(receiver.messages) > since else b""
        found = re.match(rb"((?:DKIM-Signature:.*\r\n(?:[ \t].*\r\n)*)+)", data)
        fields = re.findall(rb"DKIM-Signature:.*\r\n(?:[ \t].*\r\n)*", found.group(1)) if found else []
        tests.check("opendkim, %s: two signatures" % what, len(fields) == 2, queue.log)
        rest = data[sum(map(len, fields)):]
        for field in fields:
            kind = re.search(rb"a=([a-z0-9-]+)", field).group(1).decode()
            good, said = verify(field + rest)
            tests.check("opendkim, %s: %s" % (what, kind), good, said)
            if what == "plain":
                for change, other in (("a line more", rest + b"more\r\n"), ("another subject", rest.replace(b"hello", b"hallo")),
                                      ("a second From", b"From: b@signed.test\r\n" + rest),
                                      ("a second Subject", b"Subject: x\r\n" + rest),
                                      ("a Reply-To", b"Reply-To: <thief@x.test>\r\n" + rest),
                                      ("a Content-Type", b"Content-Type: text/html\r\n" + rest)):
                    tests.check("opendkim, %s, %s: is not right" % (kind, change), not verify(field + other)[0])
