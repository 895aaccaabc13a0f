"""MTA-STS policies (RFC 8461) over real HTTPS, an authority, and certificates of it: for tests of those who fetch them."""
import http.server
import ssl
import subprocess
import threading

POLICY = "version: STSv1\r\nmode: %s\r\nmx: %s\r\nmax_age: %d\r\n"


class Web(http.server.BaseHTTPRequestHandler):
    """Serves the policies of Web.policies by host name and counts who asks."""
    policies, asked, kind, code = {}, [], "text/plain; charset=utf-8", 200

    def do_GET(self):  # pylint: disable=invalid-name
        host = self.headers.get("Host", "")
        Web.asked.append((host, self.path))
        body = Web.policies.get(host, "").encode()
        self.send_response(Web.code)
        self.send_header("Content-Type", Web.kind)
        if Web.code == 301:
            self.send_header("Location", "https://mta-sts.sts.test/.well-known/mta-sts.txt")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificates(folder, **names):
    """An authority, ca.pem, and for each name NAME.pem and NAME.key for the hosts of its list.
    An empty list makes a certificate without any DNS-ID, whose CN is NAME."""
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder + "ca.key",
            "-out", folder + "ca.pem", "-days", "3", "-subj", "/CN=Test CA")
    for name, hosts in names.items():
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder + name + ".key",
                "-out", folder + name + ".csr", "-subj", "/CN=" + name)
        with open(folder + "ext", "w", encoding="ascii") as f:
            f.write("basicConstraints=CA:FALSE\n")
            f.write("subjectAltName=%s\n" % ",".join("DNS:" + h for h in hosts) if hosts else "")
        openssl("x509", "-req", "-in", folder + name + ".csr", "-CA", folder + "ca.pem", "-CAkey", folder + "ca.key",
                "-CAcreateserial", "-days", "3", "-extfile", folder + "ext", "-out", folder + name + ".pem")


def server_context(folder, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder + name + ".pem", folder + name + ".key")
    return context


def serve_web(address, context):
    server = http.server.ThreadingHTTPServer((address, 443), Web)
    server.handle_error = lambda *_: None  # clients that do not like our certificate
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
