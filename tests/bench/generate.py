"""Mail for the benchmarks: seeded, so that every run and every server gets the same bytes.

A realistic mix: log-normal sizes, threads, encoded words, multiparts with attachments, HTML, 8-bit text, From-like
lines. write_mbox() returns a digest of every message as a client must see it (CRLF line ends).
"""
import base64
import hashlib
import random
import time

WORDS = ("meeting invoice budget garden printer holiday server report draft minutes letter parcel window school "
         "project contract update question answer ticket release night music harbour engine paper bread").split()
NAMES = ("Anna Bertram Clara Dmitri Elena Farid Grete Hamid Ines Jorge Kaoru Lars Mina Noor Olga Pavel Quinn Rosa "
         "Sven Tomas Ursula Viktor Wanda Xenia Yusuf Zoe").split()
START = 1735732800  # 1 January 2025
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _rfc5322(when):
    t = time.gmtime(when)
    return (f"{DAYS[t.tm_wday]}, {t.tm_mday:02d} {MONTHS[t.tm_mon - 1]} {t.tm_year} "
            f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000")


class Generator:
    """Messages 0, 1, 2, ... of one seed."""

    def __init__(self, seed=1, mean_size=10000):
        self.random = random.Random(seed)
        self.mean = mean_size
        lines = []
        for _ in range(4000):
            words = self.random.choices(WORDS, k=self.random.randint(4, 13))
            lines.append(" ".join(words))
        lines[7] = "Straße und Größe, déjà vu"
        lines[19] = "From here on it is a body line"
        self.text = "\n".join(lines) + "\n"
        blob = self.random.randbytes(600000)
        self.base64 = base64.encodebytes(blob).decode("ascii")
        self.threads = []

    def _body(self, source, size):
        at = self.random.randrange(max(1, len(source) - size - 1))
        at = source.find("\n", at) + 1 or 0
        end = source.find("\n", min(at + size, len(source) - 1)) + 1 or len(source)
        return source[at:end]

    def message(self, number):
        """The headers and body of one message with LF line ends, as bytes."""
        rnd = self.random
        sender, receiver = rnd.choice(NAMES), rnd.choice(NAMES)
        ident = f"<{number}.{rnd.getrandbits(40):x}@example.org>"
        reply = ""
        if self.threads and rnd.random() < 0.6:
            subject, references = rnd.choice(self.threads[-200:])
            reply = f"In-Reply-To: {references[-1]}\nReferences: {' '.join(references[-5:])}\n"
            references = references + [ident]
            title = "Re: " + subject
        else:
            subject = " ".join(rnd.choices(WORDS, k=rnd.randint(2, 6)))
            references = [ident]
            title = subject
            if rnd.random() < 0.1:
                title = f"=?utf-8?q?Gr=C3=BC=C3=9Fe_{number}?="
        self.threads.append((subject, references))
        del self.threads[:-400]
        size = min(int(rnd.lognormvariate(0, 1.2) * self.mean / 2.05), 500000)
        head = (f"Received: from mx.example.org (mx.example.org [192.0.2.{number % 250}])\n\tby mail.example.net with ESMTPS"
                f" id {rnd.getrandbits(60):x}\n\tfor <{receiver.lower()}@example.net>; {_rfc5322(START + number * 60)}\n"
                f"Date: {_rfc5322(START + number * 60)}\nFrom: {sender} Example <{sender.lower()}@example.org>\n"
                f"To: \"{receiver} Example\" <{receiver.lower()}@example.net>\n"
                f"Subject: {title}\nMessage-ID: {ident}\n{reply}MIME-Version: 1.0\n")
        kind = rnd.random()
        if kind < 0.5:
            text = (head + "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
                    + self._body(self.text, size))
        elif kind < 0.75:
            part = self._body(self.text, size // 2)
            text = (head + f"Content-Type: multipart/alternative; boundary=\"=_{number}\"\n\n--=_{number}\n"
                    f"Content-Type: text/plain; charset=utf-8\n\n{part}\n--=_{number}\nContent-Type: text/html; "
                    f"charset=utf-8\n\n<html><body><p>{part}</p></body></html>\n\n--=_{number}--\n")
        else:
            text = (head + f"Content-Type: multipart/mixed; boundary=\"=_{number}\"\n\n--=_{number}\n"
                    f"Content-Type: text/plain; charset=utf-8\n\n{self._body(self.text, 500)}\n--=_{number}\n"
                    f"Content-Type: application/pdf; name=\"report-{number}.pdf\"\nContent-Transfer-Encoding: base64\n"
                    f"Content-Disposition: attachment; filename=\"report-{number}.pdf\"\n\n"
                    f"{self._body(self.base64, size)}\n--=_{number}--\n")
        return text.encode("utf-8")


def write_mbox(path, count, seed=1, mean_size=10000):
    """Writes an mbox of `count` messages; returns the list of SHA-256 digests of their wire forms."""
    generator = Generator(seed, mean_size)
    digests = []
    with open(path, "wb", buffering=1 << 20) as out:
        for number in range(count):
            text = generator.message(number)
            t = time.gmtime(START + number * 60)
            # The body may hold From-like lines: they are quoted on disk as any delivery agent does.
            text = text.replace(b"\nFrom ", b"\n>From ")
            digests.append(hashlib.sha256(text.replace(b"\n", b"\r\n")).hexdigest())
            out.write(f"From sender@example.org {DAYS[t.tm_wday]} {MONTHS[t.tm_mon - 1]} {t.tm_mday:2d} {t.tm_hour:02d}:"
                      f"{t.tm_min:02d}:{t.tm_sec:02d} {t.tm_year}\n".encode("ascii"))
            out.write(text + b"\n")
    return digests
