"""The budgets of the design (section 8), each line beside what was measured: met, or not. A ratio is how many times
ahead of the other we are."""
import collections

from tables import figure, is_rate

# ours and theirs: (table, work); `most` is for what we take, alone or in other's measure.
Budget = collections.namedtuple("Budget", "what ours server theirs least most", defaults=(None, None, None, None))


def ahead(what, table, work, server, least, theirs=None):
    return Budget(what, (table, work), server, theirs or (table, work), least=least)


def at_most(what, table, work, most, server=None):
    return Budget(what, (table, work), server, (table, work), most=most)


WAYS = ("listen", "openbsd-inetd", "xinetd", "systemd-socket-activate")
GREETING = "%s: greeting, ms"
SMTP = "4096 octets, %d sessions, %d boxes, 1 recipients: deliveries/s"
# "big" is the table of the largest box of the run.
BUDGETS = (
    at_most("processes when idle", "sizes", "processes when idle", 0),
    *(ahead(f"connect to greeting, {way}", "start", GREETING % way, "popa3d", 1) for way in WAYS),
    *(at_most(f"connect to greeting, {way}", "start", GREETING % way, 2.5, "floor") for way in WAYS),
    at_most("connect to greeting over TLS, listen", "start", GREETING % "listen over TLS", 2.5, "floor"),
    ahead("connect to greeting, systemd Accept=yes", "systemd", GREETING % "systemd, Accept=yes", "popa3d", 1),
    at_most("connect to greeting, systemd Accept=yes", "systemd", GREETING % "systemd, Accept=yes", 2.5, "floor"),
    ahead("POP3 login to quit", "login", "POP3 login to quit, ms", "popa3d", 1),
    at_most("private KB of an idle session of 50", "memory", "IMAP session of 50, plain: private KB", 0.4 * 1024),
    at_most("private KB of an idle session of 50, TLS", "memory", "IMAP session of 50, TLS: private KB", 1024),
    ahead("first SELECT", "imap big", "SELECT, first", "dovecot", 10),
    ahead("first STAT", "pop3 big", "login and STAT, first", "dovecot", 10),
    ahead("first STAT", "pop3 big", "login and STAT, first", "popa3d", 1),
    at_most("SELECT, unchanged, seconds", "imap big", "SELECT, new session", 0.005),
    ahead("RETR of all", "pop3", "RETR all", "popa3d", 3),
    ahead("RETR of all", "pop3 big", "RETR all", "popa3d", 3),
    ahead("FETCH BODY[] of all, against RETR", "imap", "FETCH 1:* BODY.PEEK[]", "popa3d", 3, ("pop3", "RETR all")),
    ahead("FETCH BODY[] of all, against RETR", "imap big", "FETCH 1:* BODY.PEEK[]", "popa3d", 3, ("pop3 big", "RETR all")),
    ahead("FETCH ENVELOPE of all, first", "imap big", "FETCH 1:* ENVELOPE, first", "dovecot", 5),
    ahead("FETCH ENVELOPE of all, later", "imap big", "FETCH 1:* ENVELOPE, later", "dovecot", 5),
    ahead("SEARCH BODY for an absent word", "imap big", "SEARCH BODY, absent word", "dovecot", 10),
    ahead("SEARCH TEXT for an absent word", "imap big", "SEARCH TEXT, absent word", "dovecot", 10),
    ahead("SORT, first", "imap big", "SORT (DATE), nothing cached", "dovecot", 5),
    ahead("THREAD, first", "imap big", "THREAD=REFERENCES, nothing cached", "dovecot", 5),
    ahead("STORE 1:*", "imap big", "STORE 1:* +FLAGS", "dovecot", 5),
    ahead("expunge of the first", "imap big", "EXPUNGE the first", "dovecot", 100),
    ahead("expunge of every tenth", "imap big", "EXPUNGE every tenth", "dovecot", 3),
    at_most("IDLE wake-up, seconds", "imap big", "IDLE wake-up", 0.05),
    ahead("SMTP, 4 KB, 1 session", "smtp", SMTP % (1, 1), "postfix", 2),
    ahead("SMTP, 4 KB, 10 sessions, 1 box", "smtp", SMTP % (10, 1), "postfix", 5),
    ahead("SMTP, 4 KB, 10 sessions, 10 boxes", "smtp", SMTP % (10, 10), "postfix", 5),
    at_most("messages damaged, POP3", "pop3 big", "messages damaged", 0),
    at_most("messages damaged, IMAP", "imap big", "messages damaged", 0),
)


def measured(budget, tables):
    """(ratio or value, is it met), or None where it has not been measured."""
    def median(place, server):
        table = tables.get(place[0])
        return table.median(place[1], server) if table else None
    ours = median(budget.ours, "pennypost")
    theirs = median(budget.theirs, budget.server) if budget.server else None
    if ours is None or (budget.server and not theirs):
        return None
    if budget.most is not None:
        value = ours / theirs if budget.server else ours
        return value, value <= budget.most
    if not ours:
        return None
    value = ours / theirs if is_rate(budget.ours[1]) else theirs / ours
    return value, value >= budget.least


def show(tables):
    """Prints the table of budgets that could be measured; returns the lines that are not met."""
    rows, behind = [], []
    for budget in BUDGETS:
        found = measured(budget, tables)
        if budget.most is None:
            needed = f"{budget.least} times {budget.server}" if budget.least != 1 else f"ahead of {budget.server}"
        else:
            needed = f"at most {budget.most:g}" + (f" times the {budget.server}" if budget.server else "")
        if budget.ours[0] not in tables:
            continue
        scope = tables[budget.ours[0]].scope
        what = budget.what + (", " + scope if scope else "")
        if found:
            rows.append(f"| {what} | {needed} | {figure(found[0])} | {'met' if found[1] else '**not met**'} |")
            if not found[1]:
                behind.append(f"{what}: {figure(found[0])}, {needed}")
        else:
            rows.append(f"| {what} | {needed} | - | not measured |")
    if rows:
        print("\n### Budgets\n\n| work | budget | measured | |\n|---|---|---|---|\n" + "\n".join(rows), flush=True)
    return behind
