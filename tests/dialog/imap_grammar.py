#!/usr/bin/env python3
"""A strict parser of what an IMAP server sends, from the ABNF of RFC 9051 section 9 and of the extensions we announce.

Nothing is forgiven: a missing blank, a bare line end, an 8-bit byte outside a literal, a number with a sign, an empty
list that may not be empty are errors. `check(data)` parses a whole connection and returns its responses as Python
values; `imap_grammar.py FILE` (or standard input) says where the first error is.
"""
import re
import sys

UTF8 = r"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})"
ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
ASTRING = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\]+")
TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]+")
TEXT = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]+")
NUMBER = re.compile(rb"\d+")
SEQ = re.compile(rb"(?:[1-9]\d*)(?::[1-9]\d*)?(?:,[1-9]\d*(?::[1-9]\d*)?)*")
DATE_TIME = re.compile(rb'"(?: [1-9]|[12]\d|3[01])-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-\d{4} '
                       rb'(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d [+-]\d\d[0-5]\d"')
LOST_BRACKET = re.compile(rb"[A-Z-]+(?: [^]\r\n]*)?\]")
LITERAL = re.compile(rb"(~?)\{(\d+)\}\r\n")
QUOTED = re.compile(rb'"((?:[^\x00\r\n"\\]|\\["\\])*)"')
OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}")
SYSTEM_FLAGS = {b"\\answered", b"\\flagged", b"\\deleted", b"\\seen", b"\\draft"}
LIST_FLAGS = {b"\\noinferiors", b"\\noselect", b"\\marked", b"\\unmarked", b"\\nonexistent", b"\\subscribed", b"\\remote",
              b"\\haschildren", b"\\hasnochildren", b"\\all", b"\\archive", b"\\drafts", b"\\flagged", b"\\junk", b"\\sent",
              b"\\trash", b"\\important"}
PLAIN_CODES = {b"ALERT", b"PARSE", b"READ-ONLY", b"READ-WRITE", b"TRYCREATE", b"UIDNOTSTICKY", b"CLOSED", b"UNKNOWN-CTE",
               b"NOMODSEQ", b"UNAVAILABLE", b"AUTHENTICATIONFAILED", b"AUTHORIZATIONFAILED", b"EXPIRED", b"PRIVACYREQUIRED",
               b"CONTACTADMIN", b"NOPERM", b"INUSE", b"EXPUNGEISSUED", b"CORRUPTION", b"SERVERBUG", b"CLIENTBUG", b"CANNOT",
               b"LIMIT", b"OVERQUOTA", b"ALREADYEXISTS", b"NONEXISTENT", b"NOTSAVED", b"HASCHILDREN", b"USEATTR",
               b"TOOBIG", b"COMPRESSIONACTIVE", b"BADCHARSET", b"MODIFIED",
               b"NOTIFICATIONOVERFLOW", b"UIDREQUIRED"}


class GrammarError(Exception):
    pass


class Parser:
    def __init__(self, data, utf8=False):
        self.data, self.at, self.utf8, self.uidonly = data, 0, utf8, False

    # ---- tools ----

    def fail(self, what):
        line = self.data.count(b"\n", 0, self.at) + 1
        raise GrammarError("line %d, byte %d: expected %s at %r" % (line, self.at, what, self.data[self.at:self.at + 60]))

    def peek(self, text):
        return self.data[self.at:self.at + len(text)].upper() == text

    def accept(self, text):
        if not self.peek(text):
            return False
        self.at += len(text)
        return True

    def need(self, text):
        if not self.accept(text):
            self.fail(repr(text))

    def match(self, pattern, what):
        m = pattern.match(self.data, self.at)
        if not m:
            self.fail(what)
        self.at = m.end()
        return m.group(0)

    def space(self):
        self.need(b" ")

    def crlf(self):
        self.need(b"\r\n")

    def number(self, limit=2 ** 32):
        n = int(self.match(NUMBER, "a number"))
        if n >= limit:
            self.fail("a number below %d" % limit)
        return n

    def number64(self):
        return self.number(2 ** 63)

    def nz_number(self):
        n = self.number()
        if n == 0:
            self.fail("a number above 0")
        return n

    def parenthesised(self, item, may_be_empty=True):
        """"(" [item *(SP item)] ")" """
        self.need(b"(")
        items = []
        if self.peek(b")"):
            if not may_be_empty:
                self.fail("an element: the list may not be empty")
        else:
            items.append(item())
            while self.accept(b" "):
                items.append(item())
        self.need(b")")
        return items

    # ---- strings ----

    def atom(self):
        return self.match(ATOM, "an atom")

    def literal(self, may_be_8=False):
        m = LITERAL.match(self.data, self.at)
        if not m or (m.group(1) and not may_be_8):
            self.fail("a literal")
        start, size = m.end(), int(m.group(2))
        value = self.data[start:start + size]
        if len(value) != size:
            self.fail("%d octets of a literal" % size)
        if not m.group(1) and b"\0" in value:
            self.fail("a literal without NUL")
        self.at = start + size
        return value

    def string(self):
        if self.peek(b'"'):
            raw = QUOTED.match(self.data, self.at)
            if not raw:
                self.fail("a quoted string")
            value = raw.group(1)
            if any(c >= 0x80 for c in value):
                if not self.utf8:
                    self.fail("a quoted string in ASCII")
                try:
                    value.decode()
                except UnicodeDecodeError:
                    self.fail("a quoted string in UTF-8")
            self.at = raw.end()
            return re.sub(rb"\\(.)", rb"\1", value)
        return self.literal()

    def is_nil(self):
        return self.peek(b"NIL") and not ATOM.match(self.data[self.at + 3:self.at + 4])

    def nstring(self):
        if self.is_nil():
            self.at += 3
            return None
        return self.string()

    def astring(self):
        if self.data[self.at:self.at + 1] in (b'"', b"{"):
            return self.string()
        return self.match(ASTRING, "an astring")

    def mailbox(self):
        name = self.astring()
        if not self.utf8 and any(c >= 0x80 for c in name):
            self.fail("a mailbox name in modified UTF-7")
        return name

    def text(self):
        if self.peek(b" ") or LOST_BRACKET.match(self.data, self.at):
            self.fail("text, not a second blank or a code without its bracket")
        if self.utf8:
            end = self.data.find(b"\r\n", self.at)
            value = self.data[self.at:end]
            try:
                value.decode()
            except UnicodeDecodeError:
                self.fail("text in UTF-8")
            if end <= self.at or b"\r" in value or b"\n" in value or b"\0" in value:
                self.fail("text")
            self.at = end
            return value
        return self.match(TEXT, "text")

    def flag(self, extra=()):
        start = self.at
        if self.accept(b"\\"):
            if self.accept(b"*"):
                flag = b"\\*"
            else:
                flag = b"\\" + self.atom()
            if flag.lower() not in SYSTEM_FLAGS | set(extra):
                self.at = start
                self.fail("a system flag")
            return flag
        return self.atom()

    def sequence_set(self):
        value = self.match(SEQ, "a sequence set")
        for n in re.findall(rb"\d+", value):
            if int(n) >= 2 ** 32:
                self.fail("numbers of 32 bits")
        return value

    def object_id(self):
        self.need(b"(")
        value = self.match(OBJECT_ID, "an object id")
        self.need(b")")
        return value

    def date_time(self):
        return self.match(DATE_TIME, "a date-time")

    # ---- response ----

    def response(self):
        if self.accept(b"+ "):
            value = ("+", self.text())
            self.crlf()
            return value
        if self.accept(b"* "):
            value = self.untagged()
            self.crlf()
            return value
        tag = self.match(TAG, "a tag")
        self.space()
        value = (tag.decode(), *self.condition((b"OK", b"NO", b"BAD")))
        self.crlf()
        return value

    def condition(self, words):
        for word in words:
            if self.accept(word + b" "):
                return (word.decode(), *self.resp_text())
        self.fail(" or ".join(w.decode() for w in words))

    def resp_text(self):
        code = None
        if self.accept(b"["):
            code = self.code()
            self.need(b"]")
            self.space()
        return code, self.text()

    def code(self):
        name = self.match(ATOM, "a response code").upper()
        if name == b"CAPABILITY":
            return (name, self.capabilities())
        if name == b"PERMANENTFLAGS":
            self.space()
            return (name, self.parenthesised(lambda: self.flag((b"\\*",))))
        if name in (b"UNSEEN", b"UIDNOTSTICKY") and self.uidonly:  # RFC 9586 3
            self.fail("no such response code after ENABLE UIDONLY")
        if name in (b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN"):
            self.space()
            return (name, self.nz_number())
        if name == b"HIGHESTMODSEQ":
            self.space()
            value = self.number64()
            if value == 0:
                self.fail("a mod-sequence above 0")
            return (name, value)
        if name == b"APPENDUID":
            self.space()
            validity = self.nz_number()
            self.space()
            return (name, validity, self.sequence_set())
        if name == b"COPYUID":
            self.space()
            validity = self.nz_number()
            self.space()
            source = self.sequence_set()
            self.space()
            return (name, validity, source, self.sequence_set())
        if name == b"MAILBOXID":
            self.space()
            return (name, self.object_id())
        if name == b"BADCHARSET" and self.accept(b" "):
            return (name, self.parenthesised(self.astring, False))
        if name == b"BADEVENT":  # RFC 5465 8
            self.space()
            return (name, self.parenthesised(self.event_name, False))
        if name == b"INPROGRESS":  # RFC 9585 5
            return (name, self.in_progress() if self.accept(b" (") else None)
        if name == b"MODIFIED":
            self.space()
            return (name, self.sequence_set())
        if name not in PLAIN_CODES:
            self.fail("a response code that is known (%r is not)" % name)
        return (name,)

    def event_name(self):
        name = self.atom()
        if name not in (b"MessageNew", b"MessageExpunge", b"FlagChange", b"AnnotationChange", b"MailboxName",
                        b"SubscriptionChange", b"MailboxMetadataChange", b"ServerMetadataChange"):
            self.fail("the name of an event")
        return name

    def in_progress(self):
        tag = None if self.accept(b"NIL ") else self.string()
        if tag is not None:
            if not TAG.fullmatch(tag):
                self.fail("a tag")
            self.space()
        done = None if self.accept(b"NIL") else self.number()
        self.space()
        goal = None if self.accept(b"NIL") else self.nz_number()
        if goal is not None and (done is None or goal <= done):
            self.fail("a goal that is above what is done")
        self.need(b")")
        return tag, done, goal

    def capabilities(self):
        names = []
        while self.accept(b" "):
            names.append(self.atom())
        if b"IMAP4rev1" not in names:
            self.fail("IMAP4rev1 among the capabilities")
        if len(set(names)) != len(names):
            self.fail("each capability once")
        return names

    def untagged(self):
        if b"0" <= self.data[self.at:self.at + 1] <= b"9":
            return self.numbered()
        for word in (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"):
            if self.peek(word + b" "):
                return self.condition((word,))
        name = self.match(re.compile(rb"[A-Z]+"), "the name of a response")
        method = getattr(self, "data_" + name.decode().lower(), None)
        if not method:
            self.fail("a response that is known (%r is not)" % name)
        return (name.decode(), method())

    def numbered(self):
        n = self.number()
        self.space()
        if self.accept(b"EXISTS"):
            return ("EXISTS", n)
        if self.accept(b"RECENT"):
            return ("RECENT", n)
        if n == 0:
            self.fail("a message number above 0")
        if not self.uidonly and self.accept(b"EXPUNGE"):
            return ("EXPUNGE", n)
        kind = "UIDFETCH" if self.uidonly else "FETCH"  # RFC 9586 3, 4
        self.need(kind.encode() + b" ")
        items = self.parenthesised(self.msg_att, False)
        if len(dict(items)) != len(items):
            self.fail("each item once")
        return (kind, n, dict(items))

    def data_capability(self):
        return self.capabilities()

    def data_enabled(self):
        names = []
        while self.accept(b" "):
            names.append(self.atom())
        if b"UTF8=ACCEPT" in names or b"IMAP4rev2" in names:
            self.utf8 = True
        self.uidonly = self.uidonly or b"UIDONLY" in names
        return names

    def data_flags(self):
        self.space()
        return self.parenthesised(self.flag)

    def data_list(self):
        self.space()
        attributes = self.parenthesised(self.list_flag)
        self.space()
        if not self.accept(b"NIL"):
            delimiter = self.string()
            if len(delimiter) != 1:
                self.fail("one character as delimiter")
        self.space()
        name = self.mailbox()
        extended = []
        if self.accept(b" "):
            extended = self.parenthesised(self.list_extended)
        return attributes, name, extended

    data_lsub = data_list

    def list_flag(self):
        self.need(b"\\")
        flag = b"\\" + self.atom()
        if flag.lower() not in LIST_FLAGS:
            self.fail("a mailbox attribute that is known (%r is not)" % flag)
        return flag

    def list_extended(self):
        tag = self.astring()
        self.space()
        if tag.upper() == b"OLDNAME":  # RFC 9051 9
            self.need(b"(")
            name = self.mailbox()
            self.need(b")")
            return tag, name
        return tag, self.extended_value()

    def extended_value(self):
        if self.peek(b"("):
            return self.parenthesised(self.extended_value)
        return self.astring()

    def data_search(self):
        numbers = []
        while self.accept(b" "):
            if self.accept(b"(MODSEQ "):
                numbers.append(("MODSEQ", self.number64()))
                self.need(b")")
                break
            numbers.append(self.nz_number())
        return numbers

    data_sort = data_search

    def data_esearch(self):
        result = {}
        if self.accept(b" (TAG "):
            result["TAG"] = self.string()
            self.need(b")")
        if self.accept(b" UID"):
            result["UID"] = True
        while self.accept(b" "):
            name = self.atom().upper()
            if name.decode() in result:
                self.fail("each result once")
            self.space()
            if name in (b"MIN", b"MAX"):
                result[name.decode()] = self.nz_number()
            elif name == b"COUNT":
                result["COUNT"] = self.number()
            elif name == b"MODSEQ":
                result["MODSEQ"] = self.number64()
            elif name == b"ALL":
                result["ALL"] = self.sequence_set()
            elif name == b"PARTIAL":  # RFC 9394 4
                self.need(b"(")
                minus = b"-" if self.accept(b"-") else b""
                self.nz_number()
                self.need(b":" + minus)
                self.nz_number()
                self.space()
                result["PARTIAL"] = None if self.accept(b"NIL") else self.sequence_set()
                self.need(b")")
            else:
                self.fail("MIN, MAX, ALL, COUNT or MODSEQ")
        return result

    def data_status(self):
        self.space()
        name = self.mailbox()
        self.space()
        return name, dict(self.parenthesised(self.status_item))

    def status_item(self):
        name = self.atom().upper()
        self.space()
        if name in (b"MESSAGES", b"RECENT", b"UNSEEN", b"DELETED"):
            return name.decode(), self.number()
        if name in (b"UIDNEXT", b"UIDVALIDITY"):
            return name.decode(), self.nz_number()
        if name in (b"SIZE", b"HIGHESTMODSEQ", b"DELETED-STORAGE"):
            return name.decode(), self.number64()
        if name == b"APPENDLIMIT":
            return name.decode(), None if self.accept(b"NIL") else self.number()
        if name == b"MAILBOXID":
            return name.decode(), self.object_id()
        self.fail("a status item")

    def data_quota(self):
        self.space()
        root = self.astring()
        self.space()
        return root, self.parenthesised(self.quota_resource, False)

    def quota_resource(self):
        name = self.atom()
        self.space()
        usage = self.number64()
        self.space()
        return name, usage, self.number64()

    def data_quotaroot(self):
        self.space()
        name, roots = self.mailbox(), []
        while self.accept(b" "):
            roots.append(self.astring())
        return name, roots

    def data_namespace(self):
        result = []
        for _ in range(3):
            self.space()
            if self.accept(b"NIL"):
                result.append(None)
                continue
            self.need(b"(")
            spaces = []
            while self.accept(b"("):
                prefix = self.string()
                self.space()
                delimiter = None if self.accept(b"NIL") else self.string()
                self.need(b")")
                spaces.append((prefix, delimiter))
            if not spaces:
                self.fail("a namespace")
            self.need(b")")
            result.append(spaces)
        return result

    def data_id(self):
        self.space()
        if self.accept(b"NIL"):
            return None
        pairs = []

        def pair():
            name = self.string()
            self.space()
            pairs.append((name, self.nstring()))
        self.parenthesised(pair)
        if len(pairs) > 30:
            self.fail("at most 30 fields")
        return pairs

    def data_vanished(self):
        is_earlier = self.accept(b" (EARLIER)")
        self.space()
        return is_earlier, self.sequence_set()

    def data_thread(self):
        threads = []
        if self.accept(b" "):
            threads.append(self.thread_list())
            while self.peek(b"("):
                threads.append(self.thread_list())
        return threads

    def thread_list(self):
        """thread-list = "(" (thread-members / thread-nested) ")", without recursion: threads may be deep."""
        self.need(b"(")
        stack, current = [], []
        while True:
            if self.accept(b"("):
                stack.append(current)
                current = []
            elif self.accept(b")"):
                lists = sum(isinstance(x, list) for x in current)
                if not current or lists == 1:
                    self.fail("a thread with members, and two lists or more where it splits")
                if not stack:
                    return current
                stack[-1].append(current)
                current = stack.pop()
            else:
                if current and isinstance(current[-1], list):
                    self.fail("no number behind a nested thread")
                current.append(self.nz_number())
                if self.accept(b" "):
                    if self.peek(b")"):
                        self.fail("a number or a nested thread")
                elif not self.peek(b")"):
                    self.fail("a space or a parenthesis")

    # ---- FETCH ----

    def msg_att(self):
        m = re.compile(rb"[A-Z0-9.]+").match(self.data, self.at)
        if not m:
            self.fail("a message data item")
        name = m.group(0)
        self.at = m.end()
        if name in (b"BODY", b"BINARY") and self.peek(b"["):
            return self.section_item(name)
        if name == b"BINARY.SIZE":
            label = name + self.section(True)
            self.space()
            return label.decode("latin-1"), self.number64()
        self.space()
        return name.decode(), self.att_value(name)

    def att_value(self, name):
        if name == b"FLAGS":
            return self.parenthesised(lambda: self.flag((b"\\recent",)))
        if name == b"UID":
            return self.nz_number()
        if name == b"INTERNALDATE":
            return self.date_time()
        if name == b"RFC822.SIZE":
            return self.number64()
        if name == b"MODSEQ":
            self.need(b"(")
            value = self.number64()
            if value == 0:
                self.fail("a mod-sequence above 0")
            self.need(b")")
            return value
        if name == b"ENVELOPE":
            return self.envelope()
        if name in (b"BODY", b"BODYSTRUCTURE"):
            return self.body(name == b"BODYSTRUCTURE", 0)
        if name in (b"RFC822", b"RFC822.HEADER", b"RFC822.TEXT", b"PREVIEW"):
            return self.nstring()
        if name == b"SAVEDATE":
            return None if self.accept(b"NIL") else self.date_time()
        if name == b"EMAILID":
            return self.object_id()
        if name == b"THREADID":
            return None if self.accept(b"NIL") else self.object_id()
        self.fail("a message data item that is known (%r is not)" % name)

    def section(self, is_binary):
        start = self.at
        self.need(b"[")
        numbers = re.compile(rb"[1-9]\d*(?:\.[1-9]\d*)*").match(self.data, self.at)
        if numbers:
            self.at = numbers.end()
        if not self.peek(b"]") and not is_binary:
            if numbers:
                self.need(b".")
            if self.accept(b"HEADER.FIELDS.NOT ") or self.accept(b"HEADER.FIELDS "):
                self.parenthesised(self.astring, False)
            elif not self.accept(b"HEADER") and not self.accept(b"TEXT") and not (numbers and self.accept(b"MIME")):
                self.fail("a section")
        self.need(b"]")
        return self.data[start:self.at]

    def section_item(self, name):
        label = name + self.section(name == b"BINARY")
        if self.accept(b"<"):
            label += b"<%d>" % self.number64()
            self.need(b">")
        self.space()
        if name == b"BINARY" and self.peek(b"~{"):
            return label.decode("latin-1"), self.literal(True)
        return label.decode("latin-1"), self.nstring()

    def envelope(self):
        self.need(b"(")
        values = [self.nstring()]
        self.space()
        values.append(self.nstring())
        for _ in range(6):
            self.space()
            values.append(self.addresses())
        for _ in range(2):
            self.space()
            values.append(self.nstring())
        self.need(b")")
        return values

    def addresses(self):
        if self.is_nil():
            self.at += 3
            return None
        self.need(b"(")
        items = []
        while self.accept(b"("):
            parts = [self.nstring()]
            for _ in range(3):
                self.space()
                parts.append(self.nstring())
            self.need(b")")
            items.append(parts)
        if not items:
            self.fail("an address")
        self.need(b")")
        return items

    def params(self):
        if self.is_nil():
            self.at += 3
            return None
        values = self.parenthesised(self.string, False)
        if len(values) % 2:
            self.fail("pairs of parameters and values")
        return values

    def body(self, is_extended, depth):
        if depth > 200:
            self.fail("a structure of bounded depth")
        self.need(b"(")
        if self.peek(b"("):
            value = self.body_multipart(is_extended, depth)
        else:
            value = self.body_single(is_extended, depth)
        self.need(b")")
        return value

    def body_multipart(self, is_extended, depth):
        parts = [self.body(is_extended, depth + 1)]
        while self.peek(b"("):
            parts.append(self.body(is_extended, depth + 1))
        self.space()
        subtype = self.string()
        if is_extended and self.accept(b" "):
            self.params()
            self.body_extension_tail()
        return (b"multipart", subtype, parts)

    def body_single(self, is_extended, depth):
        kind = self.string()
        self.space()
        subtype = self.string()
        self.space()
        params = self.params()
        self.space()
        self.nstring()
        self.space()
        self.nstring()
        self.space()
        encoding = self.string()
        self.space()
        size = self.number()
        inner = None
        if kind.lower() == b"text":
            self.space()
            self.number64()
        elif kind.lower() == b"message" and subtype.lower() in (b"rfc822", b"global"):
            self.space()
            self.envelope()
            self.space()
            inner = self.body(is_extended, depth + 1)
            self.space()
            self.number64()
        if is_extended and self.accept(b" "):
            self.nstring()
            self.body_extension_tail()
        return (kind, subtype, params, encoding, size, inner)

    def body_extension_tail(self):
        """[SP disposition [SP language [SP location]]]"""
        if not self.accept(b" "):
            return
        if not self.accept(b"NIL"):
            self.need(b"(")
            self.string()
            self.space()
            self.params()
            self.need(b")")
        if not self.accept(b" "):
            return
        if self.peek(b"("):
            self.parenthesised(self.string, False)
        else:
            self.nstring()
        if self.accept(b" "):
            self.nstring()


def check(data, is_cut=False, with_greeting=True, uidonly=False):
    """Parses everything; raises GrammarError. is_cut: the connection may have ended in the middle of a response."""
    parser, responses = Parser(data), []
    parser.uidonly = uidonly
    while parser.at < len(data):
        start = parser.at
        try:
            responses.append(parser.response())
        except GrammarError:
            if is_cut and b"\r\n" not in data[parser.at:]:
                break
            raise
        if with_greeting and start == 0 and responses[0][0] not in ("OK", "PREAUTH", "BYE"):
            raise GrammarError("the greeting is %r" % (responses[0],))
    return responses


if __name__ == "__main__":
    source = open(sys.argv[1], "rb") if len(sys.argv) > 1 else sys.stdin.buffer
    try:
        print("%d responses" % len(check(source.read())))
    except GrammarError as error:
        print(error)
        sys.exit(1)
