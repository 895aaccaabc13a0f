/* Unit tests of pop3-session over the store in memory of pop3_store.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "handlers/pop3/session.h"
#include "shared/base/limits.h"
#include "tests/unit/pop3_store.h"

/* ---- a session ---- */

static int setup(void **state)
{
    numset_finish(&fake.removed);
    numset_finish(&fake.seen);
    memset(&fake, 0, sizeof(fake));
    fake.messages[0] = "Subject: one\r\n\r\nHello\r\n.\r\n..two\r\nend\r\n";
    fake.messages[1] = "Subject: two\r\n\r\nno line end";
    fake.messages[2] = "Subject: three\r\n\r\n";
    fake.count = 3;
    fake.piece = 7;
    return 0;
}

struct run {
    struct conf conf;
    struct session who;
    int result;
    struct buf out;
    struct pop3 s;
};

static void run_init(struct run *r)
{
    *r = (struct run){.out = BUF_INIT(1u << 20)};
    assert_int_equal(conf_init(&r->conf), 0);
    r->conf.clock = (struct clock){.is_frozen = true, .epoch = 1700000000};
    r->who = (struct session){.is_preauth = true, .control = -1};
    r->who.user = str_dup(STR("joe"));
    r->who.unread = r->who.protocol = r->who.messages = BUF_INIT(4096);
}

static void run_finish(struct run *r)
{
    free(r->who.user);
    free(r->who.state);
    buf_finish(&r->who.unread);
    buf_finish(&r->who.protocol);
    buf_finish(&r->who.messages);
    buf_finish(&r->out);
    conf_finish(&r->conf);
}

/* Plays the input to its end and collects all output. */
static void play(struct run *r, const char *input)
{
    char piece[4096];
    ssize_t n;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(write(fds[0], input, strlen(input)), strlen(input));
    assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
    assert_int_equal(pop3_init(&r->s, &r->conf, &r->who, fds[1], fds[1]), 0);
    r->result = pop3_run(&r->s);
    pop3_finish(&r->s);
    assert_int_equal(close(fds[1]), 0);
    while ((n = read(fds[0], piece, sizeof(piece))) > 0)
        assert_int_equal(buf_add(&r->out, piece, (size_t)n), 0);
    assert_int_equal(close(fds[0]), 0);
}

#define GREETING "+OK joe has 3 messages (83 octets)\r\n"

/* One session with this input gives exactly this output. */
static void expect(const char *input, const char *output, int result)
{
    struct run r;

    run_init(&r);
    play(&r, input);
    assert_string_equal(buf_cstr(&r.out), output);
    assert_int_equal(r.result, result);
    run_finish(&r);
}

/* ---- tests ---- */

static void retr_stuffs_dots_in_any_pieces(void **state)
{
    for (fake.piece = 1; fake.piece < 50; fake.piece++) {
        expect("RETR 1\r\nRETR 2\r\nRETR 3\r\nQUIT\r\n",
               GREETING "+OK 38 octets\r\nSubject: one\r\n\r\nHello\r\n..\r\n...two\r\nend\r\n.\r\n"
                        "+OK 27 octets\r\nSubject: two\r\n\r\nno line end\r\n.\r\n"
                        "+OK 18 octets\r\nSubject: three\r\n\r\n.\r\n"
                        "+OK Good bye, 0 deleted, 3 left\r\n",
               0);
    }
}

static void top_counts_lines_in_any_pieces(void **state)
{
    for (fake.piece = 1; fake.piece < 50; fake.piece++) {
        expect("TOP 1 0\r\nTOP 1 2\r\nTOP 1 100\r\nTOP 2 1\r\nTOP 3 5\r\nQUIT\r\n",
               GREETING
               "+OK Header and 0 lines of message 1\r\nSubject: one\r\n\r\n.\r\n"
               "+OK Header and 2 lines of message 1\r\nSubject: one\r\n\r\nHello\r\n..\r\n.\r\n"
               "+OK Header and 100 lines of message 1\r\nSubject: one\r\n\r\nHello\r\n..\r\n...two\r\nend\r\n.\r\n"
               "+OK Header and 1 lines of message 2\r\nSubject: two\r\n\r\nno line end\r\n.\r\n"
               "+OK Header and 5 lines of message 3\r\nSubject: three\r\n\r\n.\r\n"
               "+OK Good bye, 0 deleted, 3 left\r\n",
               0);
    }
}

static void dele_takes_effect_at_quit(void **state)
{
    expect("DELE 2\r\nDELE 3\r\nSTAT\r\nQUIT\r\n",
           GREETING "+OK Message 2 will be deleted at QUIT\r\n+OK Message 3 will be deleted at QUIT\r\n+OK 1 38\r\n"
                    "+OK Good bye, 2 deleted, 1 left\r\n",
           0);
    assert_int_equal(fake.removals, 1);
    assert_true(numset_size(&fake.removed) == 2 && numset_has(&fake.removed, 102) && numset_has(&fake.removed, 103));
}

static void nothing_is_deleted_without_quit(void **state)
{
    expect("DELE 1\r\nRETR 2\r\n",
           GREETING
           "+OK Message 1 will be deleted at QUIT\r\n+OK 27 octets\r\nSubject: two\r\n\r\nno line end\r\n.\r\n",
           -ENODATA);
    expect("DELE 1\r\nQUI", GREETING "+OK Message 1 will be deleted at QUIT\r\n", -EPIPE);
    assert_int_equal(fake.removals, 0);
    assert_int_equal(fake.seen.count, 0);
}

static void quit_says_when_it_failed(void **state)
{
    fake.remove_error = -EROFS;
    expect("DELE 1\r\nQUIT\r\n",
           GREETING "+OK Message 1 will be deleted at QUIT\r\n-ERR [SYS/PERM] The mailbox cannot be changed\r\n",
           -EROFS);
    fake.remove_error = -ENOSPC;
    expect("DELE 1\r\nQUIT\r\n",
           GREETING "+OK Message 1 will be deleted at QUIT\r\n"
                    "-ERR [SYS/TEMP] There is no disk space left, nothing was changed\r\n",
           -ENOSPC);
    assert_int_equal(fake.removals, 2);
}

/* An error behind the point of no return: what is gone is not called an error. */
static void quit_says_when_it_failed_late(void **state)
{
    fake.remove_error = -EIO;
    fake.has_journal = true;
    expect("DELE 1\r\nQUIT\r\n",
           GREETING "+OK Message 1 will be deleted at QUIT\r\n+OK Good bye, 1 deleted, 2 left\r\n", 0);
}

static void what_was_read_is_seen(void **state)
{
    expect("RETR 3\r\nTOP 1 0\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n",
           GREETING "+OK 18 octets\r\nSubject: three\r\n\r\n.\r\n"
                    "+OK Header and 0 lines of message 1\r\nSubject: one\r\n\r\n.\r\n"
                    "+OK 27 octets\r\nSubject: two\r\n\r\nno line end\r\n.\r\n"
                    "+OK Message 2 will be deleted at QUIT\r\n+OK Good bye, 1 deleted, 2 left\r\n",
           0);
    assert_true(numset_size(&fake.seen) == 1 && numset_has(&fake.seen, 103));
}

/* RFC 1939 6: whoever hears the answer to QUIT can log in again at once. */
static void quit_frees_the_maildrop_first(void **state)
{
    int client[2];
    char piece[256];
    struct run r;

    run_init(&r);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
    assert_int_equal(write(client[0], "QUIT\r\n", 6), 6);
    assert_int_equal(pop3_init(&r.s, &r.conf, &r.who, client[1], client[1]), 0);
    assert_int_equal(pop3_run(&r.s), 0);
    assert_true(read(client[0], piece, sizeof(piece)) > 0);
    assert_int_equal(fake.closed, 1);
    pop3_finish(&r.s);
    assert_int_equal(fake.closed, 1);
    assert_int_equal(close(client[0]) | close(client[1]), 0);
    run_finish(&r);
}

/* RFC 1081 */
static void last_and_rset(void **state)
{
    fake.flags[0] = MBOX_SEEN;
    expect("LAST\r\nRETR 3\r\nLAST\r\nDELE 2\r\nLAST\r\nRSET\r\nLAST\r\nSTAT\r\nQUIT\r\n",
           GREETING
           "+OK 1\r\n+OK 18 octets\r\nSubject: three\r\n\r\n.\r\n+OK 3\r\n+OK Message 2 will be deleted at QUIT\r\n"
           "+OK 3\r\n+OK No message is marked as deleted\r\n+OK 1\r\n+OK 3 83\r\n"
           "+OK Good bye, 0 deleted, 3 left\r\n",
           0);
    assert_int_equal(fake.removals, 0);
}

/* RFC 6856 2.1, RFC 6858: a surrogate without UTF8, the message itself with it. */
static void internationalized_messages(void **state)
{
    static const char surrogate[] =
        "Received: by x with UTF8SMTP\r\nSubject: =?utf-8?B?R3LDvMOfZQ==?=\r\n\r\n.\xc3\xa4\r\n";
    static const char original[] =
        "Received: by x with UTF8SMTP\r\nSubject: Gr\xc3\xbc\xc3\x9f\x65\r\n\r\n.\xc3\xa4\r\n";
    _cleanup_buf_ struct buf expected = BUF_INIT(4096);

    fake.messages[0] = original;
    fake.count = 1;
    assert_int_equal(buf_printf(&expected,
                                "+OK joe has 1 message (%zu octets)\r\n"
                                "+OK %zu octets\r\n%.*s..\xc3\xa4\r\n.\r\n"
                                "+OK Header and 0 lines of message 1\r\n%.*s.\r\n"
                                "+OK UTF-8 it is\r\n+OK %zu octets\r\n%.*s..\xc3\xa4\r\n.\r\n"
                                "+OK Good bye, 0 deleted, 1 left\r\n",
                                strlen(original), strlen(surrogate), (int)strlen(surrogate) - 5, surrogate,
                                (int)strlen(surrogate) - 5, surrogate, strlen(original), (int)strlen(original) - 5,
                                original),
                     0);
    for (fake.piece = 1; fake.piece < 100; fake.piece++)
        expect("RETR 1\r\nTOP 1 0\r\nUTF8\r\nRETR 1\r\nQUIT\r\n", buf_cstr(&expected), 0);
}

/* Another session removed the message: never the bytes of a neighbour. */
static void a_message_that_is_gone(void **state)
{
    fake.vanished = 2;
    expect("RETR 2\r\nTOP 2 1\r\nLIST 2\r\nQUIT\r\n",
           GREETING "-ERR The message is no longer there: another program has removed it\r\n"
                    "-ERR The message is no longer there: another program has removed it\r\n"
                    "+OK 2 27\r\n+OK Good bye, 0 deleted, 3 left\r\n",
           0);
    /* In the middle of it the connection ends, without the lone dot. */
    fake.vanishes_at = 21;
    expect("RETR 2\r\nQUIT\r\n", GREETING "+OK 27 octets\r\nSubject: two\r\n\r\nno li", -ESTALE);
}

static void a_maildrop_that_does_not_open(void **state)
{
    static const struct {
        int error;
        const char *answer;
    } table[] = {
        {-EBUSY, "-ERR [IN-USE] Another POP3 session has this mailbox open\r\n"},
        {-EAGAIN, "-ERR [SYS/TEMP] Another program has locked the mailbox, try again in a moment\r\n"},
        {-EBADMSG, "-ERR [SYS/PERM] The mailbox file is not in mbox form and was left alone\r\n"},
        {-EACCES, "-ERR [SYS/PERM] The mailbox is not a plain file of yours that may be opened\r\n"},
        {-EIO, "-ERR [SYS/TEMP] Input/output error\r\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        fake.open_error = table[i].error;
        expect("STAT\r\nQUIT\r\n", table[i].answer, table[i].error);
    }
}

static void uidl_forms(void **state)
{
    static const char *const forms[][3] = {
        {"pennypost", "+OK 1 4711.101\r\n", "1 4711.101\r\n2 4711.102\r\n3 4711.103\r\n"},
        {"dovecot", "+OK 1 0000006500001267\r\n", "1 0000006500001267\r\n2 0000006600001267\r\n3 0000006700001267\r\n"},
        {"uw", "+OK 1 0000126700000065\r\n", "1 0000126700000065\r\n2 0000126700000066\r\n3 0000126700000067\r\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        _cleanup_buf_ struct buf expected = BUF_INIT(4096);
        struct run r;

        run_init(&r);
        assert_int_equal(conf_set(&r.conf, STR("pop3_uidl"), str_from(forms[i][0])), 0);
        play(&r, "UIDL 1\r\nUIDL\r\nQUIT\r\n");
        assert_int_equal(buf_printf(&expected,
                                    GREETING "%s+OK 3 messages (83 octets)\r\n%s.\r\n"
                                             "+OK Good bye, 0 deleted, 3 left\r\n",
                                    forms[i][1], forms[i][2]),
                         0);
        assert_string_equal(buf_cstr(&r.out), buf_cstr(&expected));
        run_finish(&r);
    }
}

/* Other UIDLs would make every client fetch everything again: no session before the value is right. */
static void a_wrong_policy_serves_nobody(void **state)
{
    static const char *const wrong[][2] = {{"pop3_uidl", "uidl"}, {"pop3_expire", "soon"}, {"pop3_expire", "-1"}};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        _cleanup_buf_ struct buf expected = BUF_INIT(4096);
        struct run r;

        run_init(&r);
        assert_int_equal(conf_set(&r.conf, str_from(wrong[i][0]), str_from(wrong[i][1])), 0);
        play(&r, "STAT\r\n");
        assert_int_equal(
            buf_printf(&expected, "-ERR [SYS/PERM] The server is not configured properly (%s)\r\n", wrong[i][0]), 0);
        assert_string_equal(buf_cstr(&r.out), buf_cstr(&expected));
        assert_int_equal(r.result, -EINVAL);
        run_finish(&r);
    }
}

static void play_with_expire(const char *expire, const char *input, int result)
{
    struct run r;

    run_init(&r);
    assert_int_equal(conf_set(&r.conf, STR("pop3_expire"), str_from(expire)), 0);
    play(&r, input);
    assert_int_equal(r.result, result);
    run_finish(&r);
}

/* RFC 2449 6.7: what was read long enough ago goes; what nobody has read stays for ever. */
static void expire_is_enforced(void **state)
{
    fake.flags[0] = fake.flags[1] = MBOX_SEEN;
    fake.saved[0] = 1700000000 - 30 * 86400;
    fake.saved[1] = 1700000000 - 30 * 86400 + 1;
    fake.saved[2] = 1;
    play_with_expire("never", "RETR 1\r\nQUIT\r\n", 0);
    assert_int_equal(fake.removals, 0);
    play_with_expire("30", "STAT\r\n", -ENODATA);
    assert_int_equal(fake.removals, 0);
}

static void expire_at_quit(void **state)
{
    fake.flags[0] = fake.flags[1] = MBOX_SEEN;
    fake.saved[0] = 1700000000 - 30 * 86400;
    fake.saved[1] = 1700000000 - 30 * 86400 + 1;
    fake.saved[2] = 1;
    play_with_expire("30", "QUIT\r\n", 0);
    assert_true(numset_size(&fake.removed) == 1 && numset_has(&fake.removed, 101));
}

static void expire_at_once(void **state)
{
    fake.flags[0] = MBOX_SEEN;
    play_with_expire("0", "RETR 2\r\nQUIT\r\n", 0);
    assert_true(numset_size(&fake.removed) == 1 && numset_has(&fake.removed, 102));
}

/* RFC 2449 6.5 */
static void login_delay(void **state)
{
    char folder[] = "/tmp/test_pop3.XXXXXX", path[64];
    struct pop3_policy p = {.login_delay = 60};
    struct clock clock = {.is_frozen = true, .epoch = 1700000000};
    uint32_t wait = 0;

    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/pop3-login", folder);
    assert_int_equal(pop3_policy_login(&p, folder, &clock, &wait), 0);
    clock.epoch += 59;
    assert_int_equal(pop3_policy_login(&p, folder, &clock, &wait), -EBUSY);
    assert_int_equal(wait, 1);
    clock.epoch++; /* the refused one does not count */
    assert_int_equal(pop3_policy_login(&p, folder, &clock, &wait), 0);
    clock.epoch -= 1000; /* the clock was set back */
    assert_int_equal(pop3_policy_login(&p, folder, &clock, &wait), 0);
    p.login_delay = 0;
    assert_int_equal(pop3_policy_login(&p, folder, &clock, &wait), 0);
    p.login_delay = 60;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(pop3_policy_login(&p, folder, &clock, &wait), -ELOOP);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(pop3_policy_login(&p, folder, &clock, &wait), -ENOENT);
}

static void login_delay_of_a_session(void **state)
{
    char folder[] = "/tmp/test_pop3.XXXXXX", path[64];

    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/pop3-login", folder);
    for (int i = 0; i < 2; i++) {
        struct run r;

        run_init(&r);
        r.who.is_preauth = false;
        r.who.state = str_dup(str_from(folder));
        assert_int_equal(conf_set(&r.conf, STR("pop3_login_delay"), STR("60")), 0);
        play(&r, "QUIT\r\n");
        assert_int_equal(r.result, i ? -EBUSY : 0);
        if (i)
            assert_string_equal(buf_cstr(&r.out),
                                "-ERR [LOGIN-DELAY] Please wait 60 more seconds between two sessions\r\n");
        run_finish(&r);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void handed_over(void **state)
{
    struct run r;

    run_init(&r);
    r.who.is_preauth = false;
    assert_int_equal(buf_add_str(&r.who.unread, STR("NOOP\r\nUTF8\r\nLA")), 0);
    assert_int_equal(buf_add_str(&r.who.protocol, STR("USER\n+utf8\nSASL PLAIN\x7f\n")), 0);
    assert_int_equal(buf_add_str(&r.who.messages, STR("Your password\r expires.\nToday.\n")), 0);
    play(&r, "ST\r\nCAPA\r\nQUIT\r\n");
    assert_string_equal(
        buf_cstr(&r.out),
        "+OK Your password expires. Today. joe has 3 messages (83 octets)\r\n+OK Still here\r\n"
        "-ERR UTF8 is for the time before login\r\n+OK 0\r\n"
        "+OK What there is\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\nLANG\r\n"
        "EXPIRE NEVER\r\nUSER\r\nSASL PLAIN \r\nIMPLEMENTATION Pennypost-" PENNYPOST_VERSION "\r\n.\r\n"
        "+OK Good bye, 0 deleted, 3 left\r\n");
    assert_true(r.s.is_utf8);
    run_finish(&r);
}

static void bad_commands_end_the_session(void **state)
{
    _cleanup_buf_ struct buf input = BUF_INIT(4096);
    struct run r;

    for (int i = 0; i < LIMIT_BAD_COMMANDS + 5; i++)
        assert_int_equal(buf_add_str(&input, STR("HELP\r\n")), 0);
    run_init(&r);
    play(&r, buf_cstr(&input));
    assert_int_equal(r.result, -EPROTO);
    assert_string_equal(r.s.end, "bad_commands");
    assert_true(str_ends(buf_str(&r.out), STR("-ERR Too many lines that are no commands, good bye\r\n")));
    run_finish(&r);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(retr_stuffs_dots_in_any_pieces),
        TEST(top_counts_lines_in_any_pieces),
        TEST(dele_takes_effect_at_quit),
        TEST(nothing_is_deleted_without_quit),
        TEST(quit_says_when_it_failed),
        TEST(quit_says_when_it_failed_late),
        TEST(what_was_read_is_seen),
        TEST(quit_frees_the_maildrop_first),
        TEST(last_and_rset),
        TEST(internationalized_messages),
        TEST(a_message_that_is_gone),
        TEST(a_maildrop_that_does_not_open),
        TEST(uidl_forms),
        TEST(a_wrong_policy_serves_nobody),
        TEST(expire_is_enforced),
        TEST(expire_at_quit),
        TEST(expire_at_once),
        TEST(login_delay),
        TEST(login_delay_of_a_session),
        TEST(handed_over),
        TEST(bad_commands_end_the_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
