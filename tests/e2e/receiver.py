"""A mail server that does what a test tells it to: the other side of relay-session and relay.

It speaks SMTP like any server (EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, BDAT, RSET, QUIT), keeps what it was given, and
misbehaves where a hook says so. A hook is called with (session, verb, line) before each command is answered, verb
GREETING before the first word and END behind the message; it returns None (go on), bytes (say this instead; a list says
them one by one), or raises Hangup.
"""
import base64
import hashlib
import hmac
import os
import re
import socket
import ssl
import threading
import time

FEATURES = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


class Hangup(Exception):
    """The server closes the connection here."""


class Message:
    def __init__(self, sender, recipients, data, session):
        self.sender, self.recipients, self.data, self.session = sender, recipients, data, session


class Session:
    """One connection."""

    def __init__(self, receiver, sock, family):
        self.receiver, self.sock, self.family = receiver, sock, family
        self.buffer = b""
        self.tls = None
        self.user = None
        self.lines = []  # commands as they came
        self.sender, self.recipients = None, []
        self.data = b""

    # ---- bytes ----

    def say(self, *texts):
        for text in texts:
            self.sock.sendall(text if isinstance(text, bytes) else text.encode() + b"\r\n")

    def more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise Hangup
        self.buffer += piece

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("utf-8", "surrogateescape")

    def count(self, n):
        while len(self.buffer) < n:
            self.more()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def stuffed(self):
        """Message data up to its end, unstuffed."""
        while not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
            self.more()
        if self.buffer.startswith(b".\r\n"):
            self.buffer = self.buffer[3:]
            return b""
        data, self.buffer = self.buffer.split(b"\r\n.\r\n", 1)
        return re.sub(rb"^\.", b"", data + b"\r\n", flags=re.M)

    # ---- commands ----

    def hook(self, verb, line):
        """True: the hook has answered."""
        answer = self.receiver.hook(self, verb, line) if self.receiver.hook else None
        if answer is None:
            return False
        for piece in answer if isinstance(answer, list) else [answer]:
            self.say(piece)
        return True

    def run(self):
        if self.receiver.implicit:
            self.start_tls()
        if not self.hook("GREETING", ""):
            self.say("220 %s ESMTP" % self.receiver.name)
        while True:
            line = self.line()
            self.lines.append(line)
            verb = line.split(" ")[0].split(":")[0].upper()
            if self.hook(verb, line):
                continue
            action = getattr(self, "do_" + verb.lower(), None)
            if not action:
                self.say("500 5.5.2 what?")
                continue
            if action(line) == "quit":
                return

    def do_ehlo(self, _):
        words = [self.receiver.name] + list(self.receiver.features)
        if self.receiver.context and not self.tls:
            words.append("STARTTLS")
        if self.receiver.logins:
            words.append("AUTH " + self.receiver.mechanisms)
        self.say(*["250-" + w for w in words[:-1]], "250 " + words[-1])

    def do_helo(self, _):
        self.say("250 " + self.receiver.name)

    def do_starttls(self, _):
        self.say("220 2.0.0 go ahead")
        self.start_tls()

    def start_tls(self):
        self.sock = self.receiver.context.wrap_socket(self.sock, server_side=True)
        self.tls = self.sock.version()
        self.sni = getattr(self.sock, "server_name_seen", None)
        self.sender, self.recipients = None, []

    def do_mail(self, line):
        self.sender, self.recipients = re.match(r"MAIL FROM:<(.*?)>", line, re.I).group(1), []
        self.say("250 2.1.0 sender ok")

    def do_rcpt(self, line):
        self.recipients.append(re.match(r"RCPT TO:<(.*?)>", line, re.I).group(1))
        self.say("250 2.1.5 recipient ok")

    def do_data(self, _):
        if not self.recipients:
            self.say("503 5.5.1 no recipients")
            return
        self.say("354 go on")
        self.finish(self.stuffed())

    def do_bdat(self, line):
        words = line.split()
        self.data += self.count(int(words[1]))
        if len(words) > 2:
            data, self.data = self.data, b""
            self.finish(data)
        else:
            self.say("250 2.0.0 chunk ok")

    def finish(self, data):
        message = Message(self.sender, self.recipients, data, self)
        self.sender, self.recipients = None, []
        if self.hook("END", ""):
            return
        with self.receiver.lock:
            self.receiver.messages.append(message)
        self.say("250 2.0.0 taken")

    def do_rset(self, _):
        self.sender, self.recipients = None, []
        self.say("250 2.0.0 reset")

    def do_noop(self, _):
        self.say("250 2.0.0 ok")

    def do_quit(self, _):
        self.say("221 2.0.0 bye")
        return "quit"

    # ---- AUTH ----

    def decoded(self, text):
        return b"" if text == "=" else base64.b64decode(text)

    def ask(self, text):
        self.say(b"334 " + base64.b64encode(text) + b"\r\n")
        return base64.b64decode(self.line())

    def do_auth(self, line):
        words = line.split()
        mechanism = words[1].upper()
        initial = self.decoded(words[2]) if len(words) > 2 else None
        ok = getattr(self, "auth_" + mechanism.lower().replace("-", "_"))(initial)
        self.say("235 2.7.0 welcome" if ok else "535 5.7.8 no")

    def check(self, user, secret):
        if self.receiver.logins.get(user) == secret:
            self.user = user
        return self.user is not None

    def auth_plain(self, initial):
        _, user, secret = (initial if initial is not None else self.ask(b"")).split(b"\0")
        return self.check(user.decode(), secret.decode())

    def auth_login(self, _):
        user = self.ask(b"Username:").decode()
        return self.check(user, self.ask(b"Password:").decode())

    def auth_cram_md5(self, _):
        challenge = b"<%d.1@mx.example>" % time.time()
        user, got = self.ask(challenge).decode().rsplit(" ", 1)
        secret = self.receiver.logins.get(user, "none")
        return got == hmac.new(secret.encode(), challenge, "md5").hexdigest() and self.check(user, secret)

    def auth_xoauth2(self, initial):
        m = re.match(rb"user=(.*)\x01auth=Bearer (.*)\x01\x01$", initial)
        if self.check(m.group(1).decode(), m.group(2).decode()):
            return True
        self.ask(b'{"status":"401"}')
        return False

    def auth_oauthbearer(self, initial):
        m = re.match(rb"n,a=([^,]*),\x01auth=Bearer (.*)\x01\x01$", initial)
        if self.check(m.group(1).decode().replace("=2C", ",").replace("=3D", "="), m.group(2).decode()):
            return True
        self.last = self.ask(b'{"status":"invalid_token"}')
        return False

    def auth_scram_sha_1(self, initial):
        return self.auth_scram_sha_256(initial, "sha1")

    def auth_scram_sha_256(self, initial, digest="sha256"):
        self.gs2, bare = re.match(r"([ny],,)(.*)$", initial.decode()).groups()
        user, nonce = re.match(r"n=(.*),r=(.*)$", bare).groups()
        secret = self.receiver.logins.get(user, "none")
        salt, rounds = os.urandom(12), self.receiver.rounds
        nonce += base64.b64encode(os.urandom(12)).decode()
        first = "r=%s,s=%s,i=%d" % (nonce, base64.b64encode(salt).decode(), rounds)
        final = self.ask(first.encode()).decode()
        without, proof = final.rsplit(",p=", 1)
        if not without.startswith("c=%s," % base64.b64encode(self.gs2.encode()).decode()):
            return False
        salted = hashlib.pbkdf2_hmac(digest, secret.encode(), salt, rounds)
        client = hmac.new(salted, b"Client Key", digest).digest()
        text = ",".join((bare, first, without)).encode()
        signature = hmac.new(hashlib.new(digest, client).digest(), text, digest).digest()
        if bytes(a ^ b for a, b in zip(client, signature)) != base64.b64decode(proof):
            return False
        server = hmac.new(hmac.new(salted, b"Server Key", digest).digest(), text, digest).digest()
        if self.receiver.lies:
            server = bytes(32)
        self.ask(b"v=" + base64.b64encode(server))
        return self.check(user, secret)


class Receiver:
    def __init__(self, name="mx.example", features=FEATURES, hook=None, context=None, implicit=False, logins=None,
                 mechanisms="PLAIN LOGIN SCRAM-SHA-256"):
        self.name, self.features, self.hook = name, list(features), hook
        self.context, self.implicit = context, implicit
        self.logins, self.mechanisms, self.rounds, self.lies = logins, mechanisms, 4096, False
        self.lock = threading.Lock()
        self.messages, self.sessions, self.errors = [], [], []
        self.listeners = []

    def serve(self, sock, family=socket.AF_UNIX):
        """Serves one connected socket in a thread of its own."""
        session = Session(self, sock, family)
        with self.lock:
            self.sessions.append(session)
        thread = threading.Thread(target=self._serve, args=(session,), daemon=True)
        thread.start()
        return session

    def _serve(self, session):
        try:
            session.run()
        except (Hangup, OSError, ssl.SSLError, ValueError, AssertionError) as e:
            self.errors.append(e)
        finally:
            try:
                session.sock.close()
            except OSError:
                pass

    def listen(self, address, port, family=socket.AF_INET):
        listener = socket.create_server((address, port), family=family, backlog=200)
        self.listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, family), daemon=True).start()
        return listener.getsockname()[1]

    def _accept(self, listener, family):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.serve(sock, family)

    def close(self):
        for listener in self.listeners:
            try:
                listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            listener.close()


def drip(session, data, seconds=0.01):
    """Byte by byte."""
    for i in range(len(data)):
        session.sock.sendall(data[i:i + 1])
        time.sleep(seconds)
