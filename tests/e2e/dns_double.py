"""A DNS server for tests that says what the test wants, true or not, over UDP and TCP.

    with Double({("example.org", "MX"): [mx(10, "mail.example.org")], ...}) as dns:
        dns.address        "127.0.0.1:PORT"
        dns.asked          [(name, type, source port, id), ...]

A value is a list of records, a list of (owner, record) tuples, an int (the response code), or a function that gets the
packet and `is_tcp` and returns a packet, None (silence) or a list of packets. Names that are not there do not exist;
names that are there with other types have no data.
"""
import ipaddress
import socket
import struct
import threading

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "OPT": 41, "DNSKEY": 48, "TLSA": 52}
NAMES = {number: name for name, number in TYPES.items()}
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5


def encode_name(name):
    out = b""
    for label in filter(None, name.rstrip(".").split(".")):
        data = label.encode("latin-1")
        out += bytes([len(data)]) + data
    return out + b"\0"


def decode_name(packet, at):
    labels = []
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("latin-1"))
        at += 1 + packet[at]
    return ".".join(labels), at + 1


def a(address):
    kind = "A" if ipaddress.ip_address(address).version == 4 else "AAAA"
    return kind, ipaddress.ip_address(address).packed


def mx(preference, host):
    return "MX", struct.pack("!H", preference) + encode_name(host)


def cname(target):
    return "CNAME", encode_name(target)


def ptr(target):
    return "PTR", encode_name(target)


def txt(*strings):
    return "TXT", b"".join(bytes([len(x)]) + x for x in (s.encode() if isinstance(s, str) else s for s in strings))


def tlsa(usage, selector, matching, data):
    return "TLSA", bytes([usage, selector, matching]) + data


def record(owner, kind, data, ttl=60):
    return encode_name(owner) + struct.pack("!HHIH", TYPES.get(kind, kind), 1, ttl, len(data)) + data


def question(packet):
    """(name, type, end of the question)"""
    name, at = decode_name(packet, 12)
    return name.lower(), NAMES.get(struct.unpack_from("!H", packet, at)[0], "?"), at + 4


def reply(packet, records=(), rcode=0, secure=False, truncated=False, ident=None, ancount=None, tail=b""):
    """A packet that answers this one; `records` are bytes from record()."""
    _, _, end = question(packet)
    flags = 0x8180 | rcode | (0x20 if secure else 0) | (0x200 if truncated else 0)
    number = struct.unpack_from("!H", packet)[0] if ident is None else ident
    return struct.pack("!HHHHHH", number, flags, 1, len(records) if ancount is None else ancount, 0, 0) + \
        packet[12:end] + b"".join(records) + tail


def same_port(host, port, family):
    """A UDP and a TCP socket on one port; where any will do, one that is free for both."""
    for _ in range(1 if port else 50):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.bind((host, port))
        try:
            return udp, socket.create_server((host, udp.getsockname()[1]), family=family)
        except OSError:
            udp.close()
    raise OSError("no port that is free for UDP and TCP")


class Double:
    def __init__(self, zone, secure=False, host="127.0.0.1", port=0):
        self.zone, self.secure, self.asked = {(n.lower(), t): v for (n, t), v in zone.items()}, secure, []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.udp, self.tcp = same_port(host, port, family)
        self.address = ("[%s]:%d" if ":" in host else "%s:%d") % self.udp.getsockname()[:2]
        for run in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=run, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for sock in (self.udp, self.tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def answers(self, packet, is_tcp):
        name, kind, _ = question(packet)
        value = self.zone.get((name, kind))
        if callable(value):
            value = value(packet, is_tcp)
            return value if isinstance(value, list) else [value] if value else []
        if isinstance(value, int):
            return [reply(packet, rcode=value)]
        records, at, target = [], name, value
        while target is None and (at, "CNAME") in self.zone and kind != "CNAME" and len(records) < 12:
            alias = self.zone[(at, "CNAME")][0]
            records.append(record(at, *alias))
            at = decode_name(alias[1], 0)[0].lower()
            target = self.zone.get((at, kind))
        for item in target if isinstance(target, list) else ():
            records.append(record(item[0], *item[1]) if isinstance(item[1], tuple) else record(at, *item))
        exists = records or any(n == name or n.endswith("." + name) for n, _ in self.zone)
        return [reply(packet, records, 0 if exists else NXDOMAIN, self.secure)]

    def serve_udp(self):
        while True:
            try:
                packet, peer = self.udp.recvfrom(65536)
                if not packet:
                    return  # closed
                name, kind, _ = question(packet)
                self.asked.append((name, kind, peer[1], struct.unpack_from("!H", packet)[0]))
                for out in self.answers(packet, False):
                    self.udp.sendto(out, peer)
            except (OSError, ValueError):
                return

    def serve_tcp(self):
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        with connection, connection.makefile("rb") as stream:
            try:
                while True:
                    head = stream.read(2)
                    if len(head) < 2:
                        return
                    packet = stream.read(struct.unpack("!H", head)[0])
                    for out in self.answers(packet, True):
                        connection.sendall(struct.pack("!H", len(out)) + out)
            except OSError:
                pass
