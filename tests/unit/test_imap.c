/*
 * imap-session against a store in memory: what must happen at one exact moment (another program deletes, delivers, sets
 * flags between or inside commands), in both ways of feeding it: a line at a time and a byte at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#define ZLIB_CONST
#include <zlib.h>

#include "handlers/imap/folders.h"
#include "handlers/imap/session.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "tests/unit/imap_store.h"

/*
 * A script is a list of steps: ">" sends a line, "=" sends bytes as they are, "<" expects a line, "~" expects a line
 * that begins so, "!" does something to the store, "$" expects the end of the connection.
 */
struct talk {
    struct conf conf;
    struct session who;
    struct imap imap;
    const char *messages; /* what PAM had to say */
    pthread_t thread;
    int fd;
    int session_fd;
    int result;
    char in[256 * 1024];
    size_t have;
};

static const char message[] = "From: a@example.org\r\nSubject: one\r\nMessage-ID: <1@x>\r\n\r\nBody one\r\n";
static const char reply[] = "From: b@example.org\r\nSubject: Re: one\r\nIn-Reply-To: <1@x>\r\n\r\nBody two\r\n";

static void *serve(void *context)
{
    struct talk *t = context;

    t->result = imap_run(&t->imap);
    (void)shutdown(t->session_fd, SHUT_RDWR);
    return NULL;
}

static void start(struct talk *t)
{
    int fds[2];

    assert_int_equal(conf_init(&t->conf), 0);
    t->conf.clock.is_frozen = true;
    t->conf.clock.epoch = 1700000000;
    t->who.is_preauth = true;
    t->who.control = -1;
    t->who.unread = BUF_INIT(1024);
    t->who.protocol = BUF_INIT(1024);
    t->who.messages = BUF_INIT(1024);
    if (t->messages)
        assert_int_equal(buf_add_str(&t->who.messages, str_from(t->messages)), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    t->fd = fds[0];
    t->session_fd = fds[1];
    assert_int_equal(imap_init(&t->imap, &t->conf, &t->who, fds[1], fds[1]), 0);
    store_deliver("INBOX", message);
    store_deliver("INBOX", reply);
    store_deliver("INBOX", message);
    assert_int_equal(pthread_create(&t->thread, NULL, serve, t), 0);
}

static void finish(struct talk *t)
{
    (void)shutdown(t->fd, SHUT_WR);
    assert_int_equal(pthread_join(t->thread, NULL), 0);
    imap_finish(&t->imap);
    close(t->fd);
    close(t->session_fd);
    conf_finish(&t->conf);
    store_cut(0);
}

static void send_bytes(struct talk *t, const char *bytes, size_t len, bool by_byte)
{
    size_t step = by_byte ? 1 : len;

    for (size_t at = 0; at < len; at += step)
        assert_int_equal(send(t->fd, bytes + at, step, MSG_NOSIGNAL), step);
}

/* The next line with its CRLF cut off, or NULL at the end. */
static char *next_line(struct talk *t)
{
    static char line[64 * 1024];

    for (;;) {
        char *end = memmem(t->in, t->have, "\r\n", 2);
        ssize_t n;

        if (end) {
            size_t len = (size_t)(end - t->in);

            memcpy(line, t->in, len);
            line[len] = '\0';
            memmove(t->in, end + 2, t->have - len - 2);
            t->have -= len + 2;
            return line;
        }
        n = recv(t->fd, t->in + t->have, sizeof(t->in) - t->have, 0);
        if (n <= 0)
            return NULL;
        t->have += (size_t)n;
    }
}

static void do_store(const char *what)
{
    unsigned n = 0;

    if (sscanf(what, "expunge %u", &n) == 1)
        store_expunge("INBOX", n);
    else if (sscanf(what, "flag %u", &n) == 1)
        store_flag("INBOX", n, MBOX_FLAGGED);
    else if (sscanf(what, "cut %u", &n) == 1)
        store_cut(n);
    else if (sscanf(what, "fail %u", &n) == 1)
        store_fail(-(int)n);
    else if (strcmp(what, "deliver") == 0)
        store_deliver("INBOX", message);
    else
        fail_msg("unknown step %s", what);
}

static void step(struct talk *t, const char *text, bool by_byte)
{
    const char *line;
    char out[8192];

    switch (text[0]) {
    case '>':
        (void)snprintf(out, sizeof(out), "%s\r\n", text + 1);
        send_bytes(t, out, strlen(out), by_byte);
        return;
    case '=':
        send_bytes(t, text + 1, strlen(text + 1), by_byte);
        return;
    case '!':
        do_store(text + 1);
        return;
    case '$':
        line = next_line(t);
        if (line)
            fail_msg("expected the end, got: %s", line);
        return;
    default:
        line = next_line(t);
        if (!line)
            fail_msg("expected: %s, got the end", text + 1);
        if (text[0] == '<' ? strcmp(line, text + 1) != 0 : strncmp(line, text + 1, strlen(text + 1)) != 0)
            fail_msg("expected: %s\n     got: %s", text + 1, line);
    }
}

static void play(const char *const *steps)
{
    for (int by_byte = 0; by_byte < 2; by_byte++) {
        struct talk *t = calloc(1, sizeof(*t));

        assert_non_null(t);
        start(t);
        step(t, "~* PREAUTH [CAPABILITY IMAP4rev1 ", false);
        for (size_t i = 0; steps[i]; i++)
            step(t, steps[i], by_byte);
        finish(t);
        free(t);
    }
}

#define PLAY(...) play((const char *const[]){__VA_ARGS__, NULL})
#define SELECT                                                                                                         \
    ">s SELECT INBOX", "<* 3 EXISTS", "~* 0 RECENT", "~* FLAGS (", "~* OK [PERMANENTFLAGS (", "~* OK [UNSEEN 1]",      \
        "~* OK [UIDVALIDITY ", "<* OK [UIDNEXT 4] Next UID", "~* OK [HIGHESTMODSEQ 4]", "~* OK [MAILBOXID (",          \
        "<s OK [READ-WRITE] SELECT completed"

/* RFC 9051 7.5.1: no EXPUNGE during FETCH, STORE, SEARCH; at the next command that allows it. */
static void test_no_expunge(void **state)
{
    PLAY(SELECT, "!expunge 2", ">a FETCH 3 UID", "<* 3 FETCH (UID 3)", "<a OK FETCH completed",
         ">b STORE 3 +FLAGS (\\Seen)", "<* 3 FETCH (FLAGS (\\Seen))", "<b OK STORE completed", ">c SEARCH ALL",
         "<* SEARCH 1 2 3", "<c OK SEARCH completed", ">d UID SEARCH ALL", "<* SEARCH 1 2 3", "<* 2 EXPUNGE",
         "<d OK UID SEARCH completed", ">e FETCH 2 UID", "<* 2 FETCH (UID 3)", "<e OK FETCH completed");
}

/* What is gone but still numbered: its content is refused, the rest of the set is served (RFC 2180 4.1.2). */
static void test_fetch_gone(void **state)
{
    PLAY(SELECT, "!expunge 2", ">a FETCH 1:3 BODY.PEEK[TEXT]", "<* 1 FETCH (BODY[TEXT] {10}", "<Body one", "<)",
         "<* 3 FETCH (BODY[TEXT] {10}", "<Body one", "<)",
         "<a NO [EXPUNGEISSUED] Some of the messages are no longer there", ">b NOOP", "<* 2 EXPUNGE",
         "<b OK NOOP completed");
}

/* RFC 2180 4.2: STORE changes what is there, and says that the rest is not. */
static void test_store_gone(void **state)
{
    PLAY(SELECT, "!expunge 2", ">a STORE 1:3 +FLAGS (\\Seen)", "<* 1 FETCH (FLAGS (\\Seen))",
         "<* 3 FETCH (FLAGS (\\Seen))", "<a NO [EXPUNGEISSUED] Some of the messages are no longer there",
         ">b STORE 1:3 +FLAGS.SILENT (\\Draft)", "<b OK STORE completed", ">c COPY 1:3 INBOX", "<* 2 EXPUNGE",
         "<c NO [EXPUNGEISSUED] Some of the messages are no longer there, nothing was copied", ">d NOOP",
         "<d OK NOOP completed");
}

/* A message that vanishes in the middle of its literal: the connection ends rather than send other bytes. */
static void test_fetch_vanishes(void **state)
{
    PLAY(SELECT, "!cut 3", ">a FETCH 1 BODY.PEEK[]", "<* 1 FETCH (BODY[] {66}", "<From: a@example.org", "$");
    PLAY(SELECT, "!cut 0", ">a NOOP", "<a OK NOOP completed");
}

static void test_updates(void **state)
{
    PLAY(SELECT, "!deliver", "!flag 1", ">a NOOP", "<* 1 FETCH (FLAGS (\\Flagged))", "<* 4 EXISTS", "<* 0 RECENT",
         "<a OK NOOP completed", "!expunge 1", "!expunge 3", ">b CHECK", "<* 1 EXPUNGE", "<* 2 EXPUNGE",
         "<b OK CHECK completed");
}

/* RFC 7162 3.2: VANISHED instead of EXPUNGE; UID and MODSEQ in every FETCH response. */
static void test_qresync(void **state)
{
    PLAY(">q ENABLE QRESYNC", "<* ENABLED QRESYNC", "<q OK ENABLE completed", SELECT, "!expunge 1", "!expunge 3",
         "!flag 2", ">a NOOP", "<* VANISHED 1,3", "<* 1 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ (7))",
         "<a OK NOOP completed", ">b STORE 1 +FLAGS (\\Deleted)",
         "<* 1 FETCH (UID 2 FLAGS (\\Flagged \\Deleted) MODSEQ (8))", "<b OK STORE completed", ">c EXPUNGE",
         "<* VANISHED 2", "<c OK [HIGHESTMODSEQ 9] EXPUNGE completed", ">d SELECT INBOX (QRESYNC (1001 5 1:10))",
         "~* OK [CLOSED]", "<* 0 EXISTS", "~* 0 RECENT", "~* FLAGS", "~* OK [PERM", "~* OK [UIDV", "~* OK [UIDN",
         "~* OK [HIGH", "~* OK [MAIL", "<* VANISHED (EARLIER) 1:3", "<d OK [READ-WRITE] SELECT completed");
}

/* RFC 7162 3.2: an expunge that is held back, and a MODSEQ above it that is not. */
static void test_qresync_held_back(void **state)
{
    PLAY(">q ENABLE QRESYNC", "<* ENABLED QRESYNC", "<q OK ENABLE completed", SELECT, "!expunge 2", "!flag 3",
         ">a FETCH 1 UID", "<* 1 FETCH (UID 1)", "<* 3 FETCH (UID 3 FLAGS (\\Flagged) MODSEQ (6))",
         "<a OK [HIGHESTMODSEQ 4] FETCH completed", ">b NOOP", "<* VANISHED 2", "<b OK NOOP completed");
}

/* The same from a client that knows less than the history: everything that is missing (RFC 7162 3.2.6). */
static void test_qresync_forgotten(void **state)
{
    PLAY(">q ENABLE QRESYNC", "<* ENABLED QRESYNC", "<q OK ENABLE completed", "!expunge 2",
         ">d EXAMINE INBOX (QRESYNC (1001 1 1:3 (1 1)))", "<* 2 EXISTS", "~* 0 RECENT", "~* FLAGS", "~* OK [PERM",
         "~* OK [UNSEEN", "~* OK [UIDV", "~* OK [UIDN", "~* OK [HIGH", "~* OK [MAIL", "<* VANISHED (EARLIER) 2",
         "<* 1 FETCH (UID 1 FLAGS () MODSEQ (2))", "<* 2 FETCH (UID 3 FLAGS () MODSEQ (4))",
         "<d OK [READ-ONLY] EXAMINE completed", ">e SELECT INBOX (QRESYNC (9 1))", "~* OK [CLOSED]", "<* 2 EXISTS",
         "~* 0 RECENT", "~* FLAGS", "~* OK [PERM", "~* OK [UNSEEN", "~* OK [UIDV", "~* OK [UIDN", "~* OK [HIGH",
         "~* OK [MAIL", "<e OK [READ-WRITE] SELECT completed");
}

static void test_conditional_store(void **state)
{
    PLAY(SELECT, "!flag 2", ">a STORE 1:3 (UNCHANGEDSINCE 4) +FLAGS.SILENT (\\Seen)", "<* OK [HIGHESTMODSEQ 5] Highest",
         "<* 1 FETCH (UID 1 MODSEQ (6))", "~* 2 FETCH (UID 2 FLAGS", "<* 3 FETCH (UID 3 MODSEQ (7))",
         "<* 2 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ (5))",
         "<a OK [MODIFIED 2] Messages that changed meanwhile were left alone",
         ">b UID STORE 2 (UNCHANGEDSINCE 1) FLAGS ()", "<* 2 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ (5))",
         "<b OK [MODIFIED 2] Messages that changed meanwhile were left alone");
}

/* IDLE tells at once, and DONE in any case ends it. */
static void test_idle(void **state)
{
    PLAY(SELECT, ">a IDLE", "<+ idling", "!deliver", "<* 4 EXISTS", "<* 0 RECENT", "!expunge 2", "<* 2 EXPUNGE",
         ">done", "<a OK IDLE completed", ">b IDLE", "<+ idling", ">NOOP", "<b BAD Expected DONE", ">c LOGOUT",
         "~* BYE", "<c OK LOGOUT completed", "$");
}

/* Literals: asked for, not asked for, refused before and after (RFC 9051 4.3, RFC 7888). */
static void test_literals(void **state)
{
    PLAY(">a SELECT {5}", "~+ ", "=INBOX\r\n", "<* 3 EXISTS", "~* 0 R", "~* FLAGS", "~* OK [PERM", "~* OK [UNS",
         "~* OK [UIDV", "~* OK [UIDN", "~* OK [HIGH", "~* OK [MAIL", "<a OK [READ-WRITE] SELECT completed",
         ">b SEARCH SUBJECT {3+}", "=one BODY {4}\r\n", "~+ ", "=body\r\n", "<* SEARCH 1 2 3", "<b OK SEARCH completed",
         ">c FROB {5}", "<c BAD There is no command FROB", ">d FROB {5+}", "=hello {3+}\r\nxyz\r\n",
         "<d BAD There is no command FROB", ">e SEARCH SUBJECT {9999999}", "~e NO [TOOBIG]", ">f NOOP",
         "<f OK NOOP completed", ">g APPEND INBOX {0}", "<g NO Cannot append an empty message",
         ">h APPEND None {300000000}", "<h NO [TOOBIG] Cannot append: the message is larger than this server takes");
}

static void test_append(void **state)
{
    PLAY(SELECT, ">a APPEND INBOX (\\Seen $x) \" 7-Feb-1994 22:43:04 -0800\" {11+}", "=a: b\r\n\r\nc\r\n", "=\r\n",
         "<* 4 EXISTS", "<* 0 RECENT", "<a OK [APPENDUID 1001 4] APPEND completed",
         ">b FETCH 4 (FLAGS INTERNALDATE RFC822.SIZE)", "~* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $x)",
         "~* OK [PERMANENTFLAGS",
         "<* 4 FETCH (FLAGS (\\Seen $x) INTERNALDATE \" 7-Feb-1994 22:43:04 -0800\" RFC822.SIZE 11)",
         "<b OK FETCH completed", ">c APPEND Nowhere {10}", "<c NO [TRYCREATE] Cannot append: there is no such mailbox",
         ">d APPEND INBOX {11+}", "=a: b\r\n\r\nc\r\n (\\Flagged) {11}\r\n", "~+ ", "=a: b\r\n\r\nd\r\n\r\n",
         "<* 6 EXISTS", "<* 0 RECENT", "<d OK [APPENDUID 1001 5:6] APPEND completed", ">e APPEND INBOX {20+}",
         "=a: b\r\n\r\nNOSPACE12345\r\n", "<e NO [OVERQUOTA] Cannot append: the disk is full; nothing was changed",
         ">f NOOP", "<f OK NOOP completed");
}

static void test_copy_move(void **state)
{
    PLAY(SELECT, ">a COPY 1 Work", "<a NO [TRYCREATE] There is no such mailbox", ">b CREATE Work", "~b OK [MAILBOXID (",
         ">c COPY 1,3 Work", "<c OK [COPYUID 1002 1,3 1:2] COPY completed", ">d UID MOVE 2 Work",
         "<* OK [COPYUID 1002 2 3] Moved", "<* 2 EXPUNGE", "<d OK UID MOVE completed", ">e UID COPY 99 Work",
         "<e OK UID COPY completed", ">f COPY 99 Work",
         "~f BAD [CLIENTBUG] COPY: expected numbers of messages that exist");
}

/* RFC 5530 3: each class of error has its code and its words. */
static void test_error_codes(void **state)
{
    static const struct { int error; const char *code; } cases[] = {
        {ENOENT, "NONEXISTENT"}, {EEXIST, "ALREADYEXISTS"}, {EINVAL, "CANNOT"},      {ENAMETOOLONG, "CANNOT"},
        {EBADMSG, "CORRUPTION"}, {ELOOP, "NOPERM"},         {EPERM, "NOPERM"},       {EACCES, "NOPERM"},
        {EROFS, "NOPERM"},       {EAGAIN, "INUSE"},         {EBUSY, "INUSE"},        {ESTALE, "EXPUNGEISSUED"},
        {ENOSPC, "OVERQUOTA"},   {EDQUOT, "OVERQUOTA"},     {EFBIG, "TOOBIG"},       {ENOTEMPTY, "HASCHILDREN"},
        {ENOBUFS, "LIMIT"},      {ENOMEM, "UNAVAILABLE"},   {EIO, "UNAVAILABLE"},    {ENOEXEC, "SERVERBUG"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char fail[32], expect[64];

        (void)snprintf(fail, sizeof(fail), "!fail %d", cases[i].error);
        (void)snprintf(expect, sizeof(expect), "~a NO [%s] Cannot create: ", cases[i].code);
        PLAY(fail, ">a CREATE x", expect);
    }
}

/* RFC 9051 7.1: what the login had to say to the user comes first, made fit for a line. */
static void test_alert(void **state)
{
    struct talk *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    t->messages = "Your password expires\x07\n";
    start(t);
    step(t, "~* PREAUTH [CAPABILITY IMAP4rev1 ", false);
    step(t, "<* OK [ALERT] Your password expires?", false);
    finish(t);
    buf_finish(&t->who.messages);
    free(t);
}

static void test_syntax(void **state)
{
    PLAY(">", "<* BAD Expected a tag and a command", "> NOOP", "<* BAD Expected a tag and a command", ">a",
         "<* BAD Expected a tag and a command", ">a ", "<a BAD Expected the name of a command", ">a NOOP x",
         "<a BAD NOOP: expected the end of the command at: x", ">a FETCH 1 UID",
         "<a BAD [CLIENTBUG] FETCH needs a selected mailbox", ">a UID",
         "<a BAD UID: expected a space, found the end of the line",
         ">a UID NOOP", "<a BAD There is no command UID NOOP", ">a SELECT",
         "<a BAD SELECT: expected a space, found the end of the line", ">a SELECT \"x",
         "<a BAD SELECT: expected the closing quote of a string at: \"x", ">a SELECT a&b",
         "~a BAD SELECT: expected a mailbox name in modified UTF-7", ">a STATUS INBOX (FROB)",
         "<a BAD STATUS: expected a status item like MESSAGES or UIDNEXT at: FROB)", ">a LOGOUT", "~* BYE",
         "<a OK LOGOUT completed", "$");
}

/* RFC 5182 2.1: `$`. */
static void test_searchres(void **state)
{
    PLAY(SELECT, ">a SEARCH RETURN (SAVE) SUBJECT re:", "<a OK SEARCH completed", ">b FETCH $ UID",
         "<* 2 FETCH (UID 2)", "<b OK FETCH completed", ">c UID SEARCH RETURN (MIN MAX COUNT ALL SAVE) ALL",
         "<* ESEARCH (TAG \"c\") UID MIN 1 MAX 3 ALL 1:3 COUNT 3", "<c OK UID SEARCH completed", "!expunge 2",
         ">d NOOP", "<* 2 EXPUNGE", "<d OK NOOP completed", ">e SEARCH $", "<* SEARCH 1 2", "<e OK SEARCH completed",
         ">f SEARCH RETURN (SAVE) CHARSET x-nothing ALL", "~f NO [BADCHARSET (", ">g SEARCH $", "<* SEARCH",
         "<g OK SEARCH completed");
}

static void test_thread_sort(void **state)
{
    PLAY(SELECT, ">a THREAD REFERENCES UTF-8 ALL", "<* THREAD ((1 2)(3))", "<a OK THREAD completed",
         ">b THREAD REFS UTF-8 ALL", "<* THREAD (1 2)(3)", "<b OK THREAD completed",
         ">c THREAD ORDEREDSUBJECT UTF-8 ALL", "<* THREAD (1 (2)(3))", "<c OK THREAD completed",
         ">d SORT (REVERSE FROM) UTF-8 ALL", "<* SORT 2 1 3", "<d OK SORT completed",
         ">e UID SORT RETURN (COUNT MIN ALL) (SIZE) UTF-8 ALL", "<* ESEARCH (TAG \"e\") UID MIN 1 ALL 1,3,2 COUNT 3",
         "<e OK UID SORT completed");
}

// CAPABILITY: COMPRESS=DEFLATE
/* RFC 4978: the reply to COMPRESS is in the clear, everything behind it is not. */
static void test_compress(void **state)
{
    static const char commands[] = "b SELECT INBOX\r\nc FETCH 1:3 BODY.PEEK[]\r\nd COMPRESS DEFLATE\r\ne LOGOUT\r\n";
    struct talk *t = calloc(1, sizeof(*t));
    static unsigned char packed[1024], plain[16384];
    z_stream out = {.next_in = (const unsigned char *)commands, .avail_in = sizeof(commands) - 1, .next_out = packed,
                    .avail_out = sizeof(packed)};
    z_stream in = {.next_out = plain, .avail_out = sizeof(plain) - 1};
    ssize_t n;

    assert_non_null(t);
    start(t);
    step(t, "~* PREAUTH [CAPABILITY ", false);
    step(t, ">a COMPRESS LZW", false);
    step(t, "<a BAD COMPRESS: expected DEFLATE at: LZW", false);
    step(t, ">a COMPRESS DEFLATE", false);
    step(t, "<a OK COMPRESS completed", false);
    assert_int_equal(deflateInit2(&out, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&out, Z_SYNC_FLUSH), Z_OK);
    n = (ssize_t)(sizeof(packed) - out.avail_out) - 8; /* LOGOUT can be understood before the flush is at its end */
    send_bytes(t, (const char *)packed, (size_t)n, true);
    send_bytes(t, (const char *)packed + n, 8, false);
    assert_int_equal(inflateInit2(&in, -15), Z_OK);
    while ((n = recv(t->fd, t->in, sizeof(t->in), 0)) > 0) {
        in.next_in = (unsigned char *)t->in;
        in.avail_in = (unsigned)n;
        assert_true(inflate(&in, Z_SYNC_FLUSH) >= 0);
    }
    plain[sizeof(plain) - 1 - in.avail_out] = '\0';
    assert_non_null(strstr((char *)plain, "b OK [READ-WRITE] SELECT completed\r\n"));
    assert_non_null(strstr((char *)plain, "* 3 FETCH (BODY[] {"));
    assert_non_null(strstr((char *)plain, "d NO [COMPRESSIONACTIVE] "));
    assert_non_null(strstr((char *)plain, "e OK LOGOUT completed\r\n"));
    (void)inflateEnd(&in);
    (void)deflateEnd(&out);
    finish(t);
    free(t);
}

/* Twenty bad commands in a row end the session. */
static void test_bad_commands(void **state)
{
    const char *steps[2 * LIMIT_BAD_COMMANDS + 3] = {NULL};
    size_t n = 0;

    for (unsigned i = 0; i < LIMIT_BAD_COMMANDS; i++) {
        steps[n++] = ">x FROB";
        steps[n++] = "<x BAD There is no command FROB";
    }
    steps[n++] = "<* BYE Too many bad commands";
    steps[n++] = "$";
    play(steps);
}

/* The plain way, for comparison: every split that a wildcard allows. */
static bool slow_match(const char *pattern, const char *name)
{
    if (!*pattern)
        return !*name;
    if (*pattern == '*' || *pattern == '%')
        return slow_match(pattern + 1, name) ||
               (*name && (*pattern == '*' || *name != '/') && slow_match(pattern, name + 1));
    return *pattern == *name && slow_match(pattern + 1, name + 1);
}

static void test_match(void **state)
{
    uint32_t seed = 1;

    for (unsigned n = 0; n < 200000; n++) {
        char pattern[8] = "", name[10] = "";

        for (size_t i = 0; i < sizeof(pattern) - 1; i++)
            pattern[i] = "aab/*%%"[(seed = seed * 1103515245 + 12345) >> 16 & 7];
        for (size_t i = 0; i < sizeof(name) - 1; i++)
            name[i] = "aaab//b"[(seed = seed * 1103515245 + 12345) >> 16 & 7];
        if (folders_match(str_from(pattern), str_from(name)) != slow_match(pattern, name))
            fail_msg("pattern %s, name %s", pattern, name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_expunge),
        cmocka_unit_test(test_fetch_gone),
        cmocka_unit_test(test_store_gone),
        cmocka_unit_test(test_fetch_vanishes),
        cmocka_unit_test(test_updates),
        cmocka_unit_test(test_qresync),
        cmocka_unit_test(test_qresync_forgotten),
        cmocka_unit_test(test_conditional_store),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_literals),
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_copy_move),
        cmocka_unit_test(test_error_codes),
        cmocka_unit_test(test_alert),
        cmocka_unit_test(test_syntax),
        cmocka_unit_test(test_searchres),
        cmocka_unit_test(test_thread_sort),
        cmocka_unit_test(test_bad_commands),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_qresync_held_back),
        cmocka_unit_test(test_compress),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
