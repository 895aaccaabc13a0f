"""A real DNS for a machine of world.py: knot serves and signs the zones of a test, unbound validates and is what
/etc/resolv.conf names. Everything below "test." is there and nothing else.

    dns = DnsServer(machine, {"test": text, "unsigned.test": text}, signed=["test"])
    dns.start()        the machine's own resolver answers
    dns.stop()
"""
import os
import re
import socket
import struct
import subprocess

from dns_double import TYPES, encode_name
from world import wait_until

KNOT = "127.0.0.1@5300"
SOA = "@ 60 SOA ns.test. admin.test. 1 3600 600 86400 60\n@ 60 NS ns.test.\n"


class DnsServer:
    def __init__(self, machine, zones, signed=()):
        self.machine, self.zones, self.signed, self.running = machine, zones, signed, []
        for name, text in zones.items():
            machine.write("/var/lib/knot/%s.zone" % name, "$ORIGIN %s.\n$TTL 60\n%s%s" % (name, SOA, text))
        machine.write("/etc/knot/knot.conf", self.knot_conf())
        machine.run(["chown", "-R", "knot:knot", "/var/lib/knot"], check=True)

    def knot_conf(self):
        text = "server:\n  listen: %s\n  rundir: /run/knot\n  user: knot:knot\ndatabase:\n  storage: /var/lib/knot\n" \
            "policy:\n  - id: signed\n    algorithm: ECDSAP256SHA256\n    nsec3: off\ntemplate:\n  - id: default\n" \
            "    storage: /var/lib/knot\n    file: \"%%s.zone\"\n    zonefile-load: difference\n    journal-content: all\n" \
            "zone:\n" % KNOT
        for name in self.zones:
            text += "  - domain: %s\n" % name
            if name in self.signed:
                text += "    dnssec-signing: on\n    dnssec-policy: signed\n"
        return text

    def unbound_conf(self, anchors):
        text = "server:\n  interface: 127.0.0.1\n  username: unbound\n  chroot: \"\"\n  directory: /etc/unbound\n" \
            "  use-syslog: no\n  logfile: /var/log/unbound\n  do-not-query-localhost: no\n  do-ip6: no\n" \
            "  module-config: \"validator iterator\"\n  val-log-level: 2\n  cache-max-negative-ttl: 1\n  pidfile: /run/unbound.pid\n" \
            "  qname-minimisation: no\n  infra-host-ttl: 1\n"
        for name in self.zones:
            text += "  local-zone: \"%s.\" nodefault\n" % name
        for anchor in anchors:
            text += "  trust-anchor: \"%s\"\n" % anchor
        for name in self.zones:
            if name in ("test",) or name.endswith("arpa"):
                text += "forward-zone:\n  name: \"%s.\"\n  forward-addr: %s\n" % (name, KNOT)
        return text + "remote-control:\n  control-enable: no\n"

    @staticmethod
    def answers(port, name, kind):
        """Does the server there have such records?"""
        query = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + encode_name(name) + struct.pack("!HH", TYPES[kind], 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            try:
                sock.connect(("127.0.0.1", port))
                sock.send(query)
                reply = sock.recv(4096)
            except OSError:
                return False
        return len(reply) > 12 and reply[3] & 15 == 0 and struct.unpack_from("!H", reply, 6)[0] > 0

    def wait(self, ready, what):
        if not wait_until(ready, 120):
            raise RuntimeError(what + " does not answer")

    def start(self):
        m = self.machine
        m.run(["install", "-d", "-o", "knot", "-g", "knot", "/run/knot"], check=True)
        self.running.append(m.start(["knotd", "-c", "/etc/knot/knot.conf"], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL))
        first = next(iter(self.zones))
        self.wait(lambda: self.answers(5300, first, "SOA"), "knot")
        anchors = []
        for name in self.signed:
            self.wait(lambda n=name: self.answers(5300, n, "DNSKEY"), "knot's signer")
            out = m.run(["keymgr", "-c", "/etc/knot/knot.conf", name, "ds"], check=True).stdout
            anchors.append(re.search(r"^\S+ DS \d+ \d+ 2 .*$", out, re.M).group(0))
        m.write("/etc/unbound/unbound.conf", self.unbound_conf(anchors))
        m.write("/var/log/unbound", "", mode=0o666)
        self.running.append(m.start(["unbound", "-d", "-c", "/etc/unbound/unbound.conf"], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL))
        self.wait(lambda: self.answers(53, first, "SOA"), "unbound")
        m.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")

    def stop(self):
        for process in self.running:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running = []

    def log(self):
        path = self.machine.root + "/var/log/unbound"
        return self.machine.read("/var/log/unbound")[-3000:] if os.path.exists(path) else ""
