/* Unit tests of pop3-session over the store in memory of pop3_store.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/base/limits.h"
#include "tests/unit/pop3_play.h"

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
                    "-ERR [SYS/TEMP] There is no disk space left, nothing was removed\r\n",
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

/* RFC 1939 6: whoever hears the answer to QUIT can log in again at once, and has not waited for what can be done later.
 */
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
    assert_int_equal(fake.left, 1);
    assert_int_equal(fake.closed, 0);
    pop3_finish(&r.s);
    assert_int_equal(fake.closed, 1);
    assert_int_equal(close(client[0]) | close(client[1]), 0);
    run_finish(&r);
}

/* The same where it ends without QUIT: by the client, by us, or because a message vanished. */
static void the_end_frees_the_maildrop_first(void **state)
{
    static const struct {
        const char *input;
        int result;
    } rows[] = {{"DELE 1\r\n", -ENODATA}, {"RETR 2\r\nNOOP\r\n", -ESTALE}, {"NO", -EPIPE}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct run r;
        int client[2];

        fake.vanished = 2;
        fake.vanishes_at = 21;
        fake.left = fake.closed = 0;
        run_init(&r);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
        assert_int_equal(write(client[0], rows[i].input, strlen(rows[i].input)), strlen(rows[i].input));
        assert_int_equal(shutdown(client[0], SHUT_WR), 0);
        assert_int_equal(pop3_init(&r.s, &r.conf, &r.who, client[1], client[1]), 0);
        assert_int_equal(pop3_run(&r.s), rows[i].result);
        assert_int_equal(fake.left, 1);
        assert_int_equal(fake.closed, 0);
        pop3_finish(&r.s);
        assert_int_equal(fake.closed, 1);
        assert_int_equal(close(client[0]) | close(client[1]), 0);
        run_finish(&r);
    }
    assert_int_equal(fake.removals, 0);
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

/* RFC 1939 5, RFC 6856 2.1: LIST never tells another size than RETR sends, be it that a message cannot be read now. */
static void sizes_that_cannot_be_known(void **state)
{
    static const char locked[] = "-ERR [SYS/TEMP] Another program has locked the mailbox, try again in a moment\r\n";
    static const char message[] = "Received: by x with UTF8SMTP\r\nSubject: Gr\xc3\xbc\xc3\x9f\x65\r\n\r\nbody\r\n";
    _cleanup_buf_ struct buf expected = BUF_INIT(4096);

    fake.messages[1] = message;
    fake.read_error = -EAGAIN;
    assert_int_equal(buf_printf(&expected,
                                "+OK joe has 3 messages (%zu octets)\r\n%s%s+OK 1 38\r\n"
                                "+OK UTF-8 it is\r\n+OK 3 messages (%zu octets)\r\n1 38\r\n2 %zu\r\n3 18\r\n.\r\n"
                                "+OK Good bye, 0 deleted, 3 left\r\n",
                                strlen(message) + 56, locked, locked, strlen(message) + 56, strlen(message)),
                     0);
    expect("LIST\r\nLIST 2\r\nLIST 1\r\nUTF8\r\nLIST\r\nQUIT\r\n", buf_cstr(&expected), 0);
    /* What cannot be had at all is no reason to tell nothing. */
    fake.read_error = -ESTALE;
    buf_clear(&expected);
    assert_int_equal(buf_printf(&expected,
                                "+OK joe has 3 messages (%zu octets)\r\n"
                                "+OK 3 messages (%zu octets)\r\n1 38\r\n2 %zu\r\n3 18\r\n.\r\n"
                                "+OK Good bye, 0 deleted, 3 left\r\n",
                                strlen(message) + 56, strlen(message) + 56, strlen(message)),
                     0);
    expect("LIST\r\nQUIT\r\n", buf_cstr(&expected), 0);
}

/* RFC 6856 5: where no surrogate can be made the client is told what would help. */
static void an_internationalized_header_without_end(void **state)
{
    static const char start[] = "Received: by x with UTF8SMTP\r\nSubject: Gr\xc3\xbc\xc3\x9f\x65\r\n";
    _cleanup_buf_ struct buf message = BUF_INIT(4 * LIMIT_HEADER);
    struct run r;

    assert_int_equal(buf_add_str(&message, str_from(start)), 0);
    while (message.len <= LIMIT_HEADER)
        assert_int_equal(buf_printf(&message, "X-More: %01000d\r\n", 0), 0);
    assert_int_equal(buf_add_str(&message, STR("\r\nbody\r\n")), 0);
    fake.messages[0] = buf_cstr(&message);
    fake.count = 1;
    fake.piece = 1u << 16;
    run_init(&r);
    r.out.max = 4 * LIMIT_HEADER;
    play(&r, "RETR 1\r\nTOP 1 0\r\nSTAT\r\nQUIT\r\n");
    assert_non_null(strstr(buf_cstr(&r.out), " octets)\r\n-ERR [UTF8] This message "));
    assert_non_null(strstr(buf_cstr(&r.out), "before login\r\n-ERR [UTF8] This message "));
    assert_non_null(strstr(buf_cstr(&r.out), "before login\r\n+OK 1 "));
    run_finish(&r);
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

static void handed_over(void **state)
{
    struct run r;

    run_init(&r);
    r.who.is_preauth = false;
    assert_int_equal(buf_add_str(&r.who.unread, STR("NOOP\r\nUTF8\r\nLA")), 0);
    assert_int_equal(buf_add_str(&r.who.protocol, STR("USER\n+utf8\nSASL PLAIN\x7f\n")), 0);
    assert_int_equal(buf_add_str(&r.who.messages, STR("[Note]: your password\r expires.\nT\xc3\xa4glich.\n")), 0);
    play(&r, "ST\r\nCAPA\r\nQUIT\r\n");
    assert_string_equal(
        buf_cstr(&r.out),
        "+OK (Note): your password? expires. T??glich. joe has 3 messages (83 octets)\r\n+OK Still here\r\n"
        "-ERR UTF8 is for the time before login\r\n+OK 0\r\n"
        "+OK What there is\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\nLANG\r\n"
        "EXPIRE NEVER\r\nUSER\r\nSASL PLAIN \r\nIMPLEMENTATION Pennypost-" PENNYPOST_VERSION "\r\n.\r\n"
        "+OK Good bye, 0 deleted, 3 left\r\n");
    assert_true(r.s.is_utf8);
    run_finish(&r);
}

/* RFC 1939 3: a line has at most 512 octets, whatever PAM has to say. */
static void a_long_greeting(void **state)
{
    struct run r;

    run_init(&r);
    for (int i = 0; i < 300; i++)
        assert_int_equal(buf_add_str(&r.who.messages, STR("words of PAM\n")), 0);
    play(&r, "QUIT\r\n");
    assert_true(str_starts(buf_str(&r.out), STR("+OK words of PAM words of PAM")));
    assert_true(strcspn(buf_cstr(&r.out), "\n") + 1 <= 512);
    assert_non_null(strstr(buf_cstr(&r.out), "joe has 3 messages (83 octets)\r\n"));
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

#define TEST(name) cmocka_unit_test_setup(name, pop3_play_setup)

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
        TEST(the_end_frees_the_maildrop_first),
        TEST(last_and_rset),
        TEST(internationalized_messages),
        TEST(sizes_that_cannot_be_known),
        TEST(an_internationalized_header_without_end),
        TEST(a_message_that_is_gone),
        TEST(a_maildrop_that_does_not_open),
        TEST(handed_over),
        TEST(a_long_greeting),
        TEST(bad_commands_end_the_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
