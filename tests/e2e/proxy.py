#!/usr/bin/env python3
"""A way to the packages for a machine that has loopback only: an HTTP proxy that listens inside a network namespace and
connects from outside. It exists while a test installs packages, for apt alone.

    proxy.py PORT PID       listens on 127.0.0.1:PORT of the namespaces of process PID
"""
import os
import socket
import sys
import threading

CLONE_NEWNET = 0x40000000


def pump(source, target):
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
    except OSError:
        pass
    for s, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        try:
            s.shutdown(how)
        except OSError:
            pass


def serve(client):
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 65536:
        data = client.recv(65536)
        if not data:
            return
        head += data
    method, target, version = head.split(b"\r\n", 1)[0].split(b" ")
    if method == b"CONNECT":
        host, _, port = target.rpartition(b":")
        server = socket.create_connection((host.decode(), int(port)), 60)
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
    else:
        host, _, path = target.partition(b"://")[2].partition(b"/")
        name, _, port = host.partition(b":")
        server = socket.create_connection((name.decode(), int(port or 80)), 60)
        lines = [l for l in head.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]
                 if not l.lower().startswith((b"proxy-", b"connection:"))]
        rest = head.split(b"\r\n\r\n", 1)[1]
        # One request a connection: the next may be for another server.
        server.sendall(b" ".join((method, b"/" + path, version)) + b"\r\n" + b"\r\n".join(lines + [b"Connection: close"]) +
                       b"\r\n\r\n" + rest)
    threading.Thread(target=pump, args=(client, server), daemon=True).start()
    pump(server, client)
    client.close()


def guarded(client):
    try:
        serve(client)
    except (OSError, ValueError) as e:
        try:
            client.sendall(b"HTTP/1.1 502 %s\r\nConnection: close\r\n\r\n" % str(e).encode())
        except OSError:
            pass
        client.close()


def setns(fd):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def main():
    port, pid = int(sys.argv[1]), sys.argv[2]
    outside, inside = os.open("/proc/self/ns/net", os.O_RDONLY), os.open("/proc/%s/ns/net" % pid, os.O_RDONLY)
    setns(inside)
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    setns(outside)
    print("ready", flush=True)
    while True:
        threading.Thread(target=guarded, args=(listener.accept()[0],), daemon=True).start()


main()
