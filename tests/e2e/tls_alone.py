#!/usr/bin/env python3
"""The program `tls` alone, with this test as its monitor on one side and real TLS clients on the other.

    tls_alone.py PATH-OF-TLS

Closes with "N passed, N failed".
"""
import hashlib
import os
import random
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from frames import Control, Tests, T, s, start, u
from world import wait_until

PROGRAM = sys.argv[1]
FOLDER = tempfile.mkdtemp(prefix="pennypost-tls-")


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def path(name):
    return os.path.join(FOLDER, name)


def make_certificates():
    for name in ("a", "b"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path(name + ".key"), "-out",
                path(name + ".pem"), "-days", "30", "-subj", "/CN=%s.example" % name, "-addext",
                "subjectAltName=DNS:%s.example" % name)
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", path("old.key"), "-out", path("old.csr"), "-subj",
            "/CN=old.example")
    openssl("x509", "-req", "-in", path("old.csr"), "-signkey", path("old.key"), "-days", "-1", "-out", path("old.pem"))
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path("ca.key"), "-out", path("ca.pem"), "-days",
            "30", "-subj", "/CN=Test CA")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", path("client.key"), "-out", path("client.csr"), "-subj",
            "/O=Example/CN=alice")
    openssl("x509", "-req", "-in", path("client.csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-days", "30",
            "-set_serial", "7", "-out", path("client.pem"))
    with open(path("tickets"), "wb") as f:
        f.write(os.urandom(80))


class Server:
    """One `tls` process: .client is the network end, .inner the clear end."""

    def __init__(self, files=(("TLS_FILE_CERTIFICATE", "a.pem"), ("TLS_FILE_KEY", "a.key")), seconds=60, ask=0,
                 alpn="imap", tcp=False, network=None, configuration=None):
        self.control = Control()
        if network:
            self.client, _ = socket.socketpair()
        elif tcp:
            listener = socket.create_server(("127.0.0.1", 0))
            self.client = socket.create_connection(listener.getsockname())
            network, _ = listener.accept()
            listener.close()
        else:
            self.client, network = socket.socketpair()
        self.inner, inner = socket.socketpair()
        self.inner.settimeout(300)
        self.client.settimeout(300)
        self.process = start([PROGRAM], {0: network.fileno(), 1: network.fileno(), 2: 2,
                                         3: self.control.child.fileno(), 4: inner.fileno()},
                             env=dict(os.environ, OPENSSL_CONF=configuration) if configuration else None)
        for x in (network, inner, self.control.child):
            x.close()
        self.control.send("FRAME_TLS_CONFIG", s("192.0.2.1"), u(seconds), u(ask), s(alpn))
        for kind, name in files:
            with open(path(name), "rb") as f:
                self.control.send("FRAME_TLS_FILE", u(T[kind]), s(path(name)), fd=f.fileno())
        self.control.send("FRAME_TLS_GO")

    def facts(self):
        """Fields of FRAME_TLS_FACTS, notes before it, or the reason of FRAME_TLS_FAILED."""
        notes = []
        while True:
            name, r = self.control.recv()
            if name == "FRAME_NOTE":
                notes.append((r.u(), r.t()))
                r.end()
                continue
            if name == "FRAME_TLS_FAILED":
                is_ours, number, reason = r.u(), r.u(), r.t()
                r.end()
                return {"failed": reason, "number": number, "is_ours": is_ours}
            assert name == "FRAME_TLS_FACTS", name
            out = {"version": r.t(), "cipher": r.t(), "subject": r.t(), "exporter": r.s(),
                   "end_point": r.s(), "alpn": r.t(), "resumed": r.u(), "notes": notes}
            r.end()
            return out

    def end(self):
        status = self.process.wait(60)
        self.control.close()
        self.inner.close()
        return status


def context(**attributes):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    for name, value in attributes.items():
        setattr(c, name, value)
    return c


def talk(server, client):
    """A line each way, then both sides end."""
    client.sendall(b"hello\r\n")
    assert server.inner.recv(100) == b"hello\r\n"
    server.inner.sendall(b"* OK\r\n")
    assert client.recv(100) == b"* OK\r\n"
    server.inner.close()
    assert client.recv(100) == b""
    client.close()
    assert server.end() == 0


def test_versions():
    for version, text in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        server = Server()
        c = context(minimum_version=version, maximum_version=version)
        client = c.wrap_socket(server.client, server_hostname="a.example")
        facts = server.facts()
        assert facts["version"] == text and facts["subject"] == "", facts
        assert facts["cipher"] == client.cipher()[0] and facts["resumed"] == 0 and facts["notes"] == []
        der = client.getpeercert(binary_form=True)
        assert facts["end_point"] == hashlib.sha256(der).digest()
        assert len(facts["exporter"]) == 32
        talk(server, client)


def test_old_versions_refused():
    server = Server()
    c = context()
    c.set_ciphers("ALL:@SECLEVEL=0")
    c.minimum_version = ssl.TLSVersion.TLSv1
    c.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        c.wrap_socket(server.client)
        raise AssertionError("TLS 1.1 was accepted")
    except ssl.SSLError:
        pass
    assert server.facts() == {"failed": "handshake: TLS error", "number": 258, "is_ours": 0}  # SSL_R_UNSUPPORTED_PROTOCOL
    assert server.end() != 0


def test_system_configuration_narrows():
    def configured(text):
        with open(path("openssl.cnf"), "w", encoding="ascii") as conf:
            conf.write("openssl_conf = i\n[i]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\n%s\n" % text)
        return path("openssl.cnf")

    server = Server(configuration=configured("MinProtocol = TLSv1.3"))
    try:
        context(maximum_version=ssl.TLSVersion.TLSv1_2).wrap_socket(server.client)
        raise AssertionError("TLS 1.2 was accepted")
    except ssl.SSLError:
        pass
    assert server.facts()["number"] == 258  # SSL_R_UNSUPPORTED_PROTOCOL
    server.end()
    for suite in ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_CCM_SHA256"):
        server, client = s_client("-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_CCM_SHA256",
                                  configuration=configured("Ciphersuites = " + suite))
        facts = server.facts()
        assert facts.get("cipher") == suite, (suite, facts)
        server.inner.close()
        client.communicate(timeout=120)
        assert server.end() == 0


def s_client(*options, **more):
    """A Server and the openssl s_client that talks to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % listener.getsockname()[1],
                               "-no_ign_eof", *options],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    network, _ = listener.accept()
    listener.close()
    return Server(network=network, alpn="", **more), client


def test_exporter_is_the_client_s():
    """openssl s_client prints the keying material that both sides must agree on."""
    server, client = s_client("-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32", "-tls1_3")
    facts = server.facts()
    server.inner.close()
    out = client.communicate(timeout=60)[0].decode(errors="replace")
    server.end()
    assert re.findall(r"Keying material: ([0-9A-F]+)", out) == [facts["exporter"].hex().upper()], out


def test_names_choose_the_certificate():
    both = (("TLS_FILE_CERTIFICATE", "a.pem"), ("TLS_FILE_KEY", "a.key"), ("TLS_FILE_CERTIFICATE", "b.pem"),
            ("TLS_FILE_KEY", "b.key"))
    for name, file in (("a.example", "a.pem"), ("b.example", "b.pem"), ("c.example", "a.pem"), (None, "a.pem")):
        server = Server(both)
        client = context().wrap_socket(server.client, server_hostname=name)
        with open(path(file), encoding="ascii") as f:
            expected = ssl.PEM_cert_to_DER_cert(f.read())
        assert client.getpeercert(binary_form=True) == expected, name
        assert server.facts()["end_point"] == hashlib.sha256(expected).digest()
        talk(server, client)


def test_alpn():
    for offered, chosen in ((["imap"], "imap"), (["h2", "imap"], "imap"), ([], "")):
        server = Server()
        c = context()
        if offered:
            c.set_alpn_protocols(offered)
        client = c.wrap_socket(server.client)
        assert server.facts()["alpn"] == chosen
        assert (client.selected_alpn_protocol() or "") == chosen
        talk(server, client)
    server = Server()
    c = context()
    c.set_alpn_protocols(["http/1.1"])
    try:
        c.wrap_socket(server.client)
        raise AssertionError("http/1.1 was accepted")
    except ssl.SSLError:
        pass
    assert "failed" in server.facts()
    server.end()


def test_resumption_in_another_process():
    files = (("TLS_FILE_CERTIFICATE", "a.pem"), ("TLS_FILE_KEY", "a.key"), ("TLS_FILE_TICKETS", "tickets"))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        c = context(minimum_version=version, maximum_version=version)
        session = None
        for expected in (0, 1, 1):
            server = Server(files)
            client = c.wrap_socket(server.client, server_hostname="a.example", session=session)
            facts = server.facts()
            assert facts["resumed"] == expected, (version, facts)
            assert client.session_reused == bool(expected)
            assert len(facts["end_point"]) == 32 and len(facts["exporter"]) == 32, facts
            server.inner.sendall(b"x")
            assert client.recv(1) == b"x"  # TLS 1.3: the ticket comes before it
            session = client.session
            talk(server, client)
        # An old key still opens its tickets; a forgotten one costs a full handshake, no failure.
        with open(path("tickets"), "rb") as f:
            old = f.read()
        for content, expected in ((os.urandom(80) + old, 1), (os.urandom(80), 0)):
            with open(path("tickets"), "wb") as f:
                f.write(content)
            server = Server(files)
            client = c.wrap_socket(server.client, server_hostname="a.example", session=session)
            assert server.facts()["resumed"] == expected
            talk(server, client)
        with open(path("tickets"), "wb") as f:
            f.write(old)


def test_client_certificate():
    files = (("TLS_FILE_CERTIFICATE", "a.pem"), ("TLS_FILE_KEY", "a.key"), ("TLS_FILE_CLIENT_CA", "ca.pem"))
    for certificate, subject in ((None, ""), ("client", "CN=alice,O=Example"), ("b", "")):
        server = Server(files, ask=1)
        c = context()
        if certificate:
            c.load_cert_chain(path(certificate + ".pem"), path(certificate + ".key"))
        client = c.wrap_socket(server.client)
        facts = server.facts()
        assert facts.get("subject") == subject, (certificate, facts)
        talk(server, client)
    server = Server(files, ask=0)
    c = context()
    c.load_cert_chain(path("client.pem"), path("client.key"))
    client = c.wrap_socket(server.client)
    assert server.facts()["subject"] == ""
    talk(server, client)


# Arguments of openssl genpkey for each kind of key that a certificate may have.
KINDS = {
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "rsa-pss": ("-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"),
    "p-256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "p-384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "p-521": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "ed25519": ("-algorithm", "ED25519"),
    "ed448": ("-algorithm", "ED448"),
}


def make_kinds():
    for kind, how in KINDS.items():
        openssl("genpkey", *how, "-out", path(kind + ".key"))
        openssl("req", "-x509", "-key", path(kind + ".key"), "-out", path(kind + ".pem"), "-days", "30", "-subj", "/CN=" + kind)
    # As programs of old wrote them.
    openssl("rsa", "-in", path("rsa.key"), "-traditional", "-out", path("rsa-old.key"))
    openssl("ec", "-in", path("p-256.key"), "-out", path("p-256-old.key"))
    with open(path("parameters"), "wb") as f:
        f.write(subprocess.run(["openssl", "ecparam", "-name", "prime256v1"], check=True, stdout=subprocess.PIPE).stdout)
        with open(path("p-256-old.key"), "rb") as key:
            f.write(key.read())
    os.rename(path("parameters"), path("p-256-old.key"))


def test_keys_of_every_kind():
    make_kinds()
    for kind, key in [(kind, kind) for kind in KINDS] + [("rsa", "rsa-old"), ("p-256", "p-256-old")]:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            server = Server((("TLS_FILE_CERTIFICATE", kind + ".pem"), ("TLS_FILE_KEY", key + ".key")))
            client = context(minimum_version=version, maximum_version=version).wrap_socket(server.client)
            facts = server.facts()
            assert "failed" not in facts, (kind, key, facts)
            # RFC 5929 4.1; certificates signed with Ed25519 and Ed448 name no hash.
            if not kind.startswith("ed"):
                der = client.getpeercert(binary_form=True)
                assert facts["end_point"] in (hashlib.sha256(der).digest(), hashlib.sha384(der).digest(),
                                              hashlib.sha512(der).digest()), (kind, facts)
            talk(server, client)


def test_signatures_with_sha3():
    """Of an authority's, above whose own signature nobody looks at: certificates of server and client."""
    for name in ("a", "client"):
        openssl("req", "-new", "-key", path(name + ".key"), "-out", path("sha3.csr"), "-subj", "/O=Example/CN=alice")
        openssl("x509", "-req", "-in", path("sha3.csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-days", "30",
                "-set_serial", "7", "-out", path(name + "-sha3.pem"), "-sha3-256")
    server = Server((("TLS_FILE_CERTIFICATE", "a-sha3.pem"), ("TLS_FILE_KEY", "a.key"), ("TLS_FILE_CLIENT_CA", "ca.pem")), ask=1)
    c = context()
    c.load_cert_chain(path("client-sha3.pem"), path("client.key"))
    client = c.wrap_socket(server.client)
    facts = server.facts()
    assert facts.get("subject") == "CN=alice,O=Example", facts
    assert facts["end_point"] == hashlib.sha3_256(client.getpeercert(binary_form=True)).digest(), facts
    talk(server, client)


def test_every_cipher_and_group():
    for cipher, version in [("ECDHE-%s-%s" % (key, kind), "-tls1_2") for key in ("RSA", "ECDSA") for kind in (
            "AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")] + [(kind, "-tls1_3") for kind in (
                "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")]:
        for group in ("X25519", "P-256", "P-384", "X448", "P-521"):
            certificate = "a"
            if "ECDSA" in cipher:
                certificate = "ec"
                if not os.path.exists(path("ec.pem")):
                    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                            path("ec.key"), "-out", path("ec.pem"), "-days", "30", "-subj", "/CN=ec")
            files = (("TLS_FILE_CERTIFICATE", certificate + ".pem"), ("TLS_FILE_KEY", certificate + ".key"))
            # P-256 is for the certificate, whose curve the client must know.
            server, client = s_client("-groups", group if group == "P-256" or certificate == "a" else group + ":P-256", version,
                                      "-ciphersuites" if version == "-tls1_3" else "-cipher", cipher, files=files)
            facts = server.facts()
            assert facts.get("cipher") == cipher, (cipher, group, facts)
            server.inner.close()
            client.communicate(timeout=60)
            assert server.end() == 0


def test_client_certificates_of_every_kind():
    make_kinds()
    for kind in KINDS:
        files = (("TLS_FILE_CERTIFICATE", "a.pem"), ("TLS_FILE_KEY", "a.key"), ("TLS_FILE_CLIENT_CA", kind + ".pem"))
        for hashed in ("sha1", "sha256", "sha384", "sha512"):
            openssl("req", "-new", "-key", path("client.key"), "-out", path("one.csr"), "-subj", "/O=Example/CN=alice")
            openssl("x509", "-req", "-in", path("one.csr"), "-CA", path(kind + ".pem"), "-CAkey", path(kind + ".key"), "-days",
                    "30", "-set_serial", "7", "-out", path("one.pem"), *([] if kind.startswith("ed") else ["-" + hashed]))
            server = Server(files, ask=1)
            c = context()
            c.set_ciphers("DEFAULT:@SECLEVEL=0")
            c.load_cert_chain(path("one.pem"), path("client.key"))
            client = c.wrap_socket(server.client)
            facts = server.facts()
            if hashed == "sha1" and not kind.startswith("ed"):  # OpenSSL's security level 1 and above refuses it
                assert facts.get("subject") != "CN=alice,O=Example", (kind, hashed, facts)
                server.inner.close()
                client.close()
                server.end()
                continue
            assert facts.get("subject") == "CN=alice,O=Example", (kind, hashed, facts)
            talk(server, client)


def test_other_authorities_end_a_session():
    """A session in which one set of authorities vouched for the client is not resumed where another one counts."""
    files = [("TLS_FILE_CERTIFICATE", "a.pem"), ("TLS_FILE_KEY", "a.key"), ("TLS_FILE_TICKETS", "tickets")]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        c = context(minimum_version=version, maximum_version=version)
        c.load_cert_chain(path("client.pem"), path("client.key"))
        session = None
        for authorities, subject, resumed in (("ca.pem", "CN=alice,O=Example", 0), ("ca.pem", "CN=alice,O=Example", 1),
                                              ("b.pem", "", 0)):
            server = Server(files + [("TLS_FILE_CLIENT_CA", authorities)], ask=1)
            try:
                client = c.wrap_socket(server.client, session=session)
            except ssl.SSLError:  # a session of another context may be refused as a whole
                assert authorities == "b.pem"
                server.end()
                continue
            facts = server.facts()
            assert (facts["subject"], facts["resumed"]) == (subject, resumed), (version, authorities, facts)
            server.inner.sendall(b"x")
            assert client.recv(1) == b"x"
            session = client.session
            talk(server, client)


def test_expired_certificate_is_told():
    """Which one it is, too."""
    server = Server((("TLS_FILE_CERTIFICATE", "a.pem"), ("TLS_FILE_KEY", "a.key"), ("TLS_FILE_CERTIFICATE", "old.pem"),
                     ("TLS_FILE_KEY", "old.key")))
    client = context().wrap_socket(server.client)
    assert server.facts()["notes"] == [(T["NOTE_CERTIFICATE"], "expired: " + path("old.pem"))]
    talk(server, client)


def test_bad_files():
    with open(path("noise"), "wb") as f:
        f.write(os.urandom(3000))
    with open(path("large"), "wb") as f:
        f.write(b"x" * (300 << 10))
    for files, words in (((), "no certificate"),
                         ((("TLS_FILE_KEY", "a.key"),), "without a certificate"),
                         ((("TLS_FILE_CERTIFICATE", "noise"), ("TLS_FILE_KEY", "a.key")), "no PEM certificate"),
                         ((("TLS_FILE_CERTIFICATE", "large"), ("TLS_FILE_KEY", "a.key")), "unreadable"),
                         ((("TLS_FILE_CERTIFICATE", "a.pem"), ("TLS_FILE_KEY", "noise")), "private key"),
                         ((("TLS_FILE_CERTIFICATE", "a.pem"), ("TLS_FILE_KEY", "b.key")), "does not belong")):
        server = Server(files)
        facts = server.facts()
        assert words in facts.get("failed", "") and facts["is_ours"] == 1, (files, facts)
        assert server.end() != 0


def test_noise_instead_of_a_handshake():
    rng = random.Random(1)
    hello = None
    for data in (b"GET / HTTP/1.0\r\n\r\n", b"a LOGIN x y\r\n", bytes(rng.randrange(256) for _ in range(5000)),
                 b"\x16\x03\x01\xff\xff" + b"\0" * 70000, b""):
        server = Server(tcp=True)
        try:
            server.client.sendall(data)
            server.client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        assert "failed" in server.facts(), hello
        assert server.end() > 0


def test_handshake_dropped_at_every_byte():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(incoming, outgoing)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()
    for n in list(range(0, 12)) + list(range(12, len(hello), 61)):
        server = Server(tcp=True)
        server.client.sendall(hello[:n])
        server.client.close()
        assert "failed" in server.facts()
        assert server.end() > 0


def test_deadline():
    began = time.monotonic()
    server = Server(seconds=1)
    assert server.facts() == {"failed": "handshake: timed out", "number": 0, "is_ours": 0}
    assert time.monotonic() - began > 0.9
    server.end()


def test_monitor_that_speaks_nonsense():
    for packet in (b"", b"\x01", b"\xff" * 8, b"\x00" * 2000):
        control = Control()
        left, right = socket.socketpair()
        process = start([PROGRAM], {0: left.fileno(), 1: left.fileno(), 2: 2, 3: control.child.fileno(),
                                    4: right.fileno()})
        control.child.close()
        if packet:
            control.send_raw(packet)
        control.sock.shutdown(socket.SHUT_WR)
        assert process.wait(60) > 0
        for x in (left, right):
            x.close()
        control.close()


def pour(sock, data, chunks):
    view, at, rng = memoryview(data), 0, random.Random(chunks)
    while at < len(data):
        n = rng.randrange(1, chunks)
        sock.sendall(view[at:at + n])
        at += n


def drain(sock, total, out):
    digest, got = hashlib.sha256(), 0
    while got < total:
        data = sock.recv(65536)
        if not data:
            break
        digest.update(data)
        got += len(data)
    out.append((got, digest.digest()))


def exchange(client, data, total):
    """Sends all of data and receives total bytes, in one thread: ssl objects cannot be read and written by two."""
    client.setblocking(False)
    digest, got, at, length, rng = hashlib.sha256(), 0, 0, 0, random.Random(7)
    end = time.monotonic() + 300
    while (at < len(data) or got < total) and time.monotonic() < end:
        waiting = [[client], [client] if at < len(data) else []]
        select.select(waiting[0], waiting[1], [], 1)
        try:
            while got < total:
                piece = client.recv(65536)
                assert piece, "closed early"
                digest.update(piece)
                got += len(piece)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            while at < len(data):
                length = length or rng.randrange(1, 100000)  # a retry must bring the same
                at += client.send(data[at:at + length])
                length = 0
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
    client.setblocking(True)
    assert at == len(data) and got == total, (at, got)
    return digest.digest()


def test_bulk_both_ways_at_once():
    """Several times, since what goes wrong here is a matter of who is quicker."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3) * 4:
        size = 8 << 20
        data, back = memoryview(os.urandom(size)), os.urandom(size)
        server = Server(tcp=True)
        c = context(minimum_version=version, maximum_version=version)
        client = c.wrap_socket(server.client)
        server.facts()
        there = []
        jobs = [threading.Thread(target=drain, args=(server.inner, size, there)),
                threading.Thread(target=pour, args=(server.inner, back, 200000))]
        for job in jobs:
            job.start()
        here = exchange(client, data, size)
        for job in jobs:
            job.join()
        assert there == [(size, hashlib.sha256(data).digest())]
        assert here == hashlib.sha256(back).digest()
        talk(server, client)


def test_half_close_by_the_client():
    """What the session answers after the client's close_notify still arrives."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = Server(tcp=True)
    tls = context().wrap_bio(incoming, outgoing)

    def step(function, *args):
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                result = None
            data = outgoing.read()
            if data:
                server.client.sendall(data)
            if result is not None or function == tls.do_handshake and tls.version() and not data:
                return result
            data = server.client.recv(65536)
            if not data:
                incoming.write_eof()
            incoming.write(data)

    while True:
        try:
            tls.do_handshake()
            server.client.sendall(outgoing.read())
            break
        except ssl.SSLWantReadError:
            server.client.sendall(outgoing.read())
            incoming.write(server.client.recv(65536))
    server.facts()
    step(tls.write, b"QUIT\r\n")
    try:
        tls.unwrap()
    except (ssl.SSLWantReadError, ssl.SSLSyscallError):
        pass
    server.client.sendall(outgoing.read())
    server.client.shutdown(socket.SHUT_WR)
    assert server.inner.recv(100) == b"QUIT\r\n"
    assert server.inner.recv(100) == b""
    server.inner.sendall(b"+OK bye\r\n")
    server.inner.close()
    received = b""
    while True:
        data = server.client.recv(65536)
        if not data:
            break
        received += data
    assert len(received) > 9 + 16  # a record with the answer, and a close_notify
    assert server.end() == 0


def test_the_client_vanishes():
    server = Server(tcp=True)
    client = context().wrap_socket(server.client)
    server.facts()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.detach_fd = os.dup(client.fileno())
    os.close(client.detach_fd)
    client.close()
    assert server.inner.recv(100) == b""
    server.inner.close()
    server.end()


def test_the_session_dies_in_the_middle():
    server = Server(tcp=True)
    client = context().wrap_socket(server.client)
    server.facts()
    server.inner.sendall(b"* BYE\r\n")
    server.inner.close()
    assert client.recv(100) == b"* BYE\r\n"
    assert client.recv(100) == b""
    client.close()
    assert server.end() == 0


def test_renegotiation_is_refused():
    server, client = s_client("-tls1_2")
    assert "failed" not in server.facts()
    client.stdin.write(b"R\n")
    client.stdin.flush()
    out = client.communicate(timeout=60)[0]
    assert b"no renegotiation" in out, out[-2000:]
    server.end()


def private_memory(pid):
    """In kB."""
    with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Private_"))


def test_memory_when_idle():
    """Private memory of an idle connection after it carried a lot: the buffers went back."""
    server = Server(tcp=True)
    client = context().wrap_socket(server.client)
    server.facts()
    out = []
    job = threading.Thread(target=pour, args=(server.inner, os.urandom(4 << 20), 100000))
    job.start()
    drain(client, 4 << 20, out)
    job.join()
    limit = float("inf") if "ASAN_OPTIONS" in os.environ else 2048  # a sanitizer has tables of its own
    time.sleep(2.5)
    wait_until(lambda: private_memory(server.process.pid) < limit)
    private = private_memory(server.process.pid)
    print("     private memory of an idle tls process: %d kB" % private)
    talk(server, client)
    assert private < limit, private


def main():
    tests = Tests()
    try:
        make_certificates()
        for name, function in list(globals().items()):
            if name.startswith("test_") and (len(sys.argv) < 3 or name in sys.argv[2:]):
                tests.run(function)
    finally:
        shutil.rmtree(FOLDER)
    return tests.close()


if __name__ == "__main__":
    sys.exit(main())
