"""The operations of the crash test: how the boxes look before, and the steps of one run of `work`."""

import os

import crashlib


class Scenario:
    """seed(work, files): makes the boxes. steps: commands of one process. Each step that ends in ACK and is in `atomic`
    must be there whole or not at all."""

    def __init__(self, name, seed, steps, atomic=(), no_collapse=False, room=0, options=(), modes=()):
        self.name, self.seed, self.steps, self.atomic, self.no_collapse = name, seed, steps, atomic, no_collapse
        self.room = room # see CRASH_ROOM
        self.modes = modes # those that it is run in, where not all
        self.options = ("-t", "2", *options) # of `work`

    def words(self, files, count=None):
        out = []
        for step in self.steps[:count]:
            out += [files.get(w, w) for w in step] + [","]
        return out[:-1]


SIZES = [300, 5000, 9000, 700, 20000, 4200, 1500, 12000]


def files_of(folder):
    """Message files to append, {name in a step: path}."""
    out = {}
    os.makedirs(folder, exist_ok=True)
    for n in range(1, 9):
        for kind, size in (("s", 400 + 97 * n), ("m", 5000 + 1500 * n), ("l", 150000 + 1000 * n)):
            path = os.path.join(folder, "%s%d" % (kind, n))
            with open(path, "wb") as f:
                f.write(crashlib.message("%s%d" % (kind, n), size))
            out["@%s%d" % (kind, n)] = path
    return out


def foreign_mbox(count, prefix="f", tail=b"\n", sizes=SIZES):
    data = b""
    for n in range(count):
        text = crashlib.message("%s%d" % (prefix, n), sizes[n % len(sizes)], odd=False,
                                extra=b"Status: RO\n" if n % 3 == 1 else b"")
        data += b"From sender@example.org Thu Jan  1 00:%02d:%02d 2026\n" % divmod(n, 60) + text + b"\n"
    return data[:-1] + tail if data else data


def put(work, data, box=None):
    path = os.path.join(work.root, "mail", box) if box else work.inbox
    with open(path, "wb") as f:
        f.write(data)
    work.give()


def nothing(work, files):
    pass


def foreign(work, files):
    put(work, foreign_mbox(5))


def foreign_unended(work, files):
    """The last line has no newline: whoever appends must mend that first."""
    put(work, foreign_mbox(3, tail=b"")[:-1])


def opened(work, files):
    """Eight foreign messages, seen by the store, flags and UIDs in the file; a second box."""
    put(work, foreign_mbox(8))
    work.run(["open", "INBOX", ",", "flags", "2,5", "+F", ",", "flush", ",", "close", ",", "create", "Work", ",",
              "append", "Work", "S", files["@s8"]])


def twins(work, files):
    """Foreign messages, the last two of one length, seen by the store."""
    put(work, foreign_mbox(4, sizes=[300, 700, 5000, 5000]))
    work.run(["open", "INBOX", ",", "close"])


def own(work, files):
    """Eight messages that the store wrote, the 2nd and 5th flagged; a second box."""
    words = ["create", "Work", ",", "append", "Work", "S", files["@s8"]]
    for n, kind in enumerate("smsmlsms", 1):
        words += [",", "append", "INBOX", "F" if n in (2, 5) else "", files["@%s%d" % (kind, n if kind != "s" or n < 8 else 7)]]
    work.run(words)


def large(work, files):
    """Messages of many blocks, so that whole ones can be given back; the 2nd is flagged."""
    words = ["create", "Work", ",", "append", "Work", "S", files["@s8"]]
    for n, kind in enumerate("mmsmml", 1):
        words += [",", "append", "INBOX", "F" if n == 2 else "", files["@%s%d" % (kind, n)]]
    work.run(words)


def many(work, files):
    """More messages than the store writes of an index at once, some of them read; seen by the store."""
    put(work, foreign_mbox(600, sizes=[300]))
    work.run(["open", "INBOX", ",", "close"])


def unflushed(work, files):
    """Flags that are in the state log only."""
    own(work, files)
    work.run(["open", "INBOX", ",", "flags", "1:3", "+SA"], interpose=dict(CRASH_MODE="kill", CRASH_AT=100000))


ODD = "1,3,5,7"
ALL = [
    Scenario("append to no file", nothing, [["append", "INBOX", "", "@s1"], ["append", "INBOX", "F", "@m2"]], atomic=(0, 1)),
    Scenario("append without state", foreign, [["append", "INBOX", "", "@m1"], ["append", "INBOX", "", "@s2"]], atomic=(0, 1)),
    Scenario("append behind an unended line", foreign_unended, [["append", "INBOX", "", "@s1"]], atomic=(0,)),
    Scenario("append to own", own, [["append", "INBOX", "S:work", "@m8"], ["append", "INBOX", "", "@l1"]], atomic=(0, 1)),
    Scenario("deliveries", own, [["append", "INBOX", "", "@m8"], ["append", "INBOX", "", "@s1"]], atomic=(0, 1), options=("-d",)),
    Scenario("deliveries together", own, [["append", "INBOX", "", "@s8", "@m8", "@l8"]], atomic=(0,), options=("-d",)),
    Scenario("append to folder", own, [["append", "Work", "", "@m8"]], atomic=(0,)),
    Scenario("multiappend", own, [["append", "INBOX", "", "@s8", "@m8", "@l8"]], atomic=(0,)),
    Scenario("flags and flush, foreign", foreign, [["open", "INBOX"], ["flags", "1,3", "+SF:work"], ["flags", "2", "+D"],
                                                   ["flush"], ["flags", "2", "-D"], ["close"]]),
    Scenario("flags and flush, own", own, [["open", "INBOX"], ["flags", "all", "+S:work,home"], ["flush"], ["flags", "1", "=D"],
                                           ["flags", "2:4", "-F"], ["close"]]),
    Scenario("flags of a settled index", own, [["open", "INBOX"], ["flags", "all", "+S"], ["close"], ["open", "INBOX"], ["flags", "1:4", "-S"],
                                               ["flush"], ["flags", "2,6", "+D"], ["flags", "3", "+S"], ["close"]]),
    Scenario("flags of many", many, [["open", "INBOX"], ["flags", "all", "+F"], ["flags", "2:550", "+SD"]],
             modes=("kill", "torn", "foreign", "fail")),
    Scenario("first UIDs", foreign, [["open", "INBOX"], ["flush"], ["poll"], ["close"]]),
    Scenario("expunge first, foreign", opened, [["open", "INBOX"], ["flags", "1", "+D"], ["expunge"], ["close"]]),
    Scenario("expunge first, own", own, [["open", "INBOX"], ["remove", "1"], ["close"]]),
    Scenario("expunge middle, own", own, [["open", "INBOX"], ["remove", "5"], ["remove", "4"], ["close"]]),
    Scenario("expunge last, own", own, [["open", "INBOX"], ["remove", "8"], ["close"], ["append", "INBOX", "", "@s8"]], atomic=(3,)),
    Scenario("expunge every second, own", own, [["open", "INBOX"], ["flags", ODD, "+D"], ["expunge"], ["close"]]),
    Scenario("expunge every second, foreign", opened, [["open", "INBOX"], ["remove", ODD], ["poll"], ["close"]]),
    Scenario("expunge all", own, [["open", "INBOX"], ["remove", "all"], ["close"], ["append", "INBOX", "", "@s8"]], atomic=(3,)),
    Scenario("expunge, then append", own, [["open", "INBOX"], ["remove", "2"], ["append", "INBOX", "", "@m8"], ["poll"],
                                           ["remove", "5"], ["close"]], atomic=(2,)),
    Scenario("collapse", large, [["open", "INBOX"], ["remove", "1"], ["flags", "2", "+S:work"], ["close"]]),
    Scenario("collapse twice and cut", large, [["open", "INBOX"], ["remove", "2,4,6"], ["poll"], ["close"]]),
    Scenario("collapse refused", large, [["open", "INBOX"], ["remove", "2,4"], ["close"]], no_collapse=True),
    Scenario("all becomes padding", own, [["open", "INBOX"], ["flags", "8", "+S:work"], ["remove", "1"], ["remove", "3"], ["close"]]),
    Scenario("moved expunge first, own", own, [["open", "INBOX"], ["remove", "1"], ["close"]], no_collapse=True),
    Scenario("moved expunge every second, own", own, [["open", "INBOX"], ["remove", ODD], ["close"]], no_collapse=True),
    Scenario("moved expunge middle, foreign", opened, [["open", "INBOX"], ["remove", "3:5"], ["close"]], no_collapse=True),
    # What follows is copied from place to place: far enough to be durable together with the nonce; from where the nonce goes.
    Scenario("moved expunge of much, own", own, [["open", "INBOX"], ["remove", "5"], ["close"]], no_collapse=True),
    Scenario("moved expunge of as much as follows", twins, [["open", "INBOX"], ["remove", "3"], ["close"]], no_collapse=True),
    Scenario("moved expunge of unflushed flags", unflushed, [["open", "INBOX"], ["remove", "2"], ["close"]], no_collapse=True),
    Scenario("moved expunge, small windows", large, [["open", "INBOX"], ["remove", "3"], ["remove", "1"], ["close"]], no_collapse=True,
             room=140000), # two windows of the smallest size
    Scenario("copy", own, [["open", "INBOX"], ["copy", "2:4", "Work"], ["close"]], atomic=(1,)),
    Scenario("copy to the same box", own, [["open", "INBOX"], ["poll"], ["copy", "2:3", "Work"], ["copy", "5", "Work"], ["close"]],
             atomic=(2, 3)),
    Scenario("move", own, [["open", "INBOX"], ["move", "2:4", "Work"], ["close"]]),
    Scenario("move, no collapse, foreign", opened, [["open", "INBOX"], ["move", "1:2", "Work"], ["move", "8", "Work"], ["close"]],
             no_collapse=True),
    Scenario("rename and delete", own, [["rename", "Work", "Play"], ["create", "New"], ["delete", "New"],
                                        ["append", "Play", "", "@s1"]], atomic=(3,)),
]
