#!/usr/bin/env python3
"""A relayhost that wants a login, and is Dovecot's submission server: each mechanism, right and wrong secrets.

    relay_logins.py BUILD-DIR

Dovecot's packages are unpacked, not installed; then it goes into a box by itself. Closes with "N passed, N failed".
"""
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "bench")]
import peers  # noqa: E402
import world  # noqa: E402
from frames import Tests  # noqa: E402
from receiver import Receiver  # noqa: E402
from relay_queue import Queue  # noqa: E402
from sts_web import certificates  # noqa: E402

USER, PASSWORD, TOKEN = "ren\u00e9", "gru\u00df, = \u20ac", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29t"
CONF = """
protocols = submission
listen = 127.0.0.1
base_dir = %(work)s/run
state_dir = %(work)s/state
log_path = %(work)s/log
auth_verbose = yes
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
first_valid_uid = 1
mail_location = mbox:%(work)s/mail
hostname = submission.example
submission_relay_host = 127.0.0.1
submission_relay_port = %(next)d
ssl = required
ssl_cert = <%(work)s/mx.pem
ssl_key = <%(work)s/mx.key
auth_mechanisms = %(mechanisms)s
auth_username_chars =
auth_failure_delay = 0
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = %(work)s/oauth2.conf
}
passdb {
  driver = passwd-file
  mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
  args = scheme=PLAIN %(work)s/passwd
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=%(work)s/mail
}
service submission-login {
  chroot =
  inet_listener submission {
    port = %(port)d
  }
}
service stats {
  chroot =
}
"""


class Tokens(http.server.BaseHTTPRequestHandler):
    """What an authorisation server says of a token."""

    def do_GET(self):  # pylint: disable=invalid-name
        good = self.path.endswith("token=" + TOKEN)
        body = json.dumps({"email": USER, "active": True} if good else {"error": "invalid_token"}).encode()
        self.send_response(200 if good else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Dovecot:
    def __init__(self, root):
        self.root, self.work = root, tempfile.mkdtemp(prefix="pennypost-dovecot-")
        os.chmod(self.work, 0o755)
        for name in ("run", "state", "mail"):
            os.mkdir(self.work + "/" + name)
        os.chmod(self.work + "/mail", 0o777)
        certificates(self.work + "/", mx=["submission.example"])
        self.next = Receiver()
        self.next_port = self.next.listen("127.0.0.1", 0)
        self.tokens = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
        threading.Thread(target=self.tokens.serve_forever, daemon=True).start()
        self.file("oauth2.conf", "tokeninfo_url = http://127.0.0.1:%d/?token=\nusername_attribute = email\n"
                  % self.tokens.server_address[1])
        self.file("passwd", "%s:{PLAIN}%s::::::\n" % (USER, PASSWORD))
        self.process = None

    def file(self, name, text):
        with open(self.work + "/" + name, "w", encoding="utf-8") as f:
            f.write(text)

    def start(self, mechanisms):
        self.port = world.free_port()
        self.file("conf", CONF % {"work": self.work, "next": self.next_port, "port": self.port, "mechanisms": mechanisms})
        self.process = subprocess.Popen(peers.overlay_command([self.root], ["/usr/sbin/dovecot", "-F", "-c", self.work + "/conf"]),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)

        def answers():
            try:
                with socket.create_connection(("127.0.0.1", self.port), 3) as s:
                    return s.recv(3) == b"220"
            except OSError:
                return False
        assert world.wait_until(answers), self.log()

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def log(self):
        with open(self.work + "/log", encoding="utf-8", errors="replace") as f:
            return f.read()


def queue_for(dovecot, secret):
    q = Queue(relayhost="127.0.0.1:%d" % dovecot.port, tls_ca=dovecot.work + "/ca.pem")
    q.file("policy", "127.0.0.1 verify submission.example\n")
    q.file("credentials", "127.0.0.1 %s %s\n" % (USER, secret))
    return q


def check_mechanism(dovecot, mechanism):
    """With the right secret the mail arrives; with a wrong one it waits, and the log says why."""
    is_token = mechanism in ("xoauth2", "oauthbearer")
    right, wrong = ("bearer:" + TOKEN, "bearer:old") if is_token else (PASSWORD, PASSWORD + "x")
    dovecot.start(mechanism)
    try:
        since, had = len(dovecot.next.messages), len(dovecot.log())
        q = queue_for(dovecot, right)
        name = q.add("b@there.example")
        log = q.run()
        assert q.entry(name) is None and len(dovecot.next.messages) == since + 1, (log, dovecot.log()[had:])
        assert "verified=yes" in log, log
        world.wait_until(lambda: "Login: " in dovecot.log()[had:])  # another process of its writes that
        method = [l for l in dovecot.log()[had:].splitlines() if "Login: user=<%s>" % USER in l]
        assert len(method) == 1 and "method=%s," % mechanism.upper() in method[0], dovecot.log()[had:]
        q = queue_for(dovecot, wrong)
        name = q.add("b@there.example")
        log = q.run()
        state, reply = q.states(name)["b@there.example"]
        assert state == "deferred" and reply.startswith("450 4.7."), (reply, log, dovecot.log()[had:])
        assert len(dovecot.next.messages) == since + 1 and wrong not in log
    finally:
        dovecot.stop()


def check_best(dovecot):
    """Of many the one that tells the least."""
    dovecot.start("login plain scram-sha-1 scram-sha-256 oauthbearer xoauth2")
    try:
        had = len(dovecot.log())
        for secret in (PASSWORD, "bearer:" + TOKEN):
            q = queue_for(dovecot, secret)
            q.add("b@there.example")
            q.run()
        world.wait_until(lambda: dovecot.log()[had:].count("Login: ") >= 2)
        said = dovecot.log()[had:]
        assert "method=SCRAM-SHA-256," in said and "method=OAUTHBEARER," in said and said.count("Login: ") == 2, said
    finally:
        dovecot.stop()


def main():
    tests = Tests()
    folder = os.environ.get("PENNYPOST_PEERS") or os.path.join(world.cache_dir(), "peers")
    os.makedirs(folder, exist_ok=True)
    root = peers.unpack("dovecot-submission", folder)
    if root and os.environ.get("PENNYPOST_BOX") != "inside":  # where there are no packages
        os.environ.update(PENNYPOST_BUILD=sys.argv[1], PENNYPOST_PEERS=folder)
        os.execv(HERE + "/box", [HERE + "/box", sys.executable] + sys.argv)
    if not root:
        tests.skip("logins", "Dovecot's packages cannot be had")
        return tests.close()
    dovecot = Dovecot(root)
    for mechanism in ("plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "oauthbearer", "xoauth2"):
        def test(mechanism=mechanism):
            check_mechanism(dovecot, mechanism)
        test.__name__ = mechanism
        tests.run(test)
    tests.run(check_best, dovecot)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
