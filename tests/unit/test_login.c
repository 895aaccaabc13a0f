/*
 * shared/login: SASL exchanges and the login stages of IMAP and POP3 over a socket pair with the test as client and
 * monitor.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "handlers/imap/greeting.h"
#include "handlers/imap/login.h"
#include "handlers/pop3/login.h"
#include "shared/base/macros.h"
#include "shared/io/frame.h"

#define WAIT_MS 60000 /* of a busy machine */

/* ---- a login stage with the test around it ---- */

struct stage {
    pid_t pid;
    int client;
    int control;
};

static void send_facts(int control, bool is_plain_allowed, bool can_tls, const char *capabilities)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_LOGIN_START);
    assert_int_equal(frame_put_str(&f, STR("192.0.2.1")) | frame_put_str(&f, STR("192.0.2.2")) | frame_put_u32(&f, 0) |
                         frame_put_u32(&f, can_tls) | frame_put_u32(&f, is_plain_allowed) |
                         frame_put_str(&f, is_plain_allowed ? STR("PLAIN LOGIN") : STR("")) |
                         frame_put_str(&f, STR("mail.example")) | frame_put_str(&f, STR("")) |
                         frame_put_str(&f, str_from(capabilities)),
                     0);
    assert_int_equal(frame_send(control, &f, -1), 0);
}

static struct stage start_stage(const struct login_protocol *p, bool is_plain_allowed, bool can_tls)
{
    struct stage s;
    int client[2];
    int control[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
    assert_int_equal(frame_pair(control), 0);
    s.pid = fork();
    assert_true(s.pid >= 0);
    if (s.pid == 0) {
        (void)close(client[1]);
        (void)close(control[1]);
        _exit(login_run(p, control[0], client[0]));
    }
    (void)close(client[0]);
    (void)close(control[0]);
    s.client = client[1];
    s.control = control[1];
    send_facts(s.control, is_plain_allowed, can_tls, "TOP\r\nUIDL\r\n");
    return s;
}

static int end_stage(struct stage *s)
{
    int status = -1;

    (void)close(s->client);
    (void)close(s->control);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    return status;
}

static void say(const struct stage *s, const char *text)
{
    assert_int_equal(send(s->client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads until `text` has come; more than it is wrong. "" waits for the end of the connection. */
static void expect(const struct stage *s, const char *text)
{
    char got[2048] = "";
    size_t len = 0;

    while (len < strlen(text) || text[0] == '\0') {
        struct pollfd p = {.fd = s->client, .events = POLLIN};
        ssize_t n = poll(&p, 1, WAIT_MS) == 1 ? read(s->client, got + len, sizeof(got) - 1 - len) : -1;

        if (n == 0 && text[0] == '\0')
            break;
        if (n <= 0)
            fail_msg("wanted \"%s\", got \"%s\"", text, got);
        len += (size_t)n;
        got[len] = '\0';
    }
    assert_string_equal(got, text);
}

static void expect_attempt(const struct stage *s, uint32_t number, const char *mechanism, struct str response)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    uint32_t attempt = 0;
    uint32_t has_response = 0, has_ahead = 0;
    struct str name, bytes, unread, left;

    assert_int_equal(frame_recv(s->control, &f, WAIT_MS), 0);
    assert_int_equal(f.type, FRAME_AUTH_START);
    in = frame_read(&f);
    assert_int_equal(frame_get_u32(&in, &attempt) | frame_get_str(&in, 20, &name) | frame_get_str(&in, 4096, &bytes) |
                         frame_get_u32(&in, &has_response) | frame_get_u32(&in, &has_ahead) |
                         frame_get_str(&in, LIMIT_FRAME, &unread) | frame_get_str(&in, 100, &left) | frame_end(&in),
                     0);
    assert_int_equal(has_ahead, 1);
    assert_int_equal(attempt, number);
    assert_true(str_eq(name, str_from(mechanism)));
    assert_true(str_eq(bytes, response));
}

static void refuse(const struct stage *s, uint32_t attempt, uint32_t class)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_AUTH_FAILED);
    assert_int_equal(frame_put_u32(&f, attempt) | frame_put_u32(&f, class) | frame_put_str(&f, STR("no")) |
                         frame_put_str(&f, STR("")) | frame_put_str(&f, STR("")),
                     0);
    assert_int_equal(frame_send(s->control, &f, -1), 0);
}

static void challenge(const struct stage *s, uint32_t attempt, const char *text)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_AUTH_CHALLENGE);
    assert_int_equal(frame_put_u32(&f, attempt) | frame_put_str(&f, str_from(text)), 0);
    assert_int_equal(frame_send(s->control, &f, -1), 0);
}

static void expect_response(const struct stage *s, uint32_t number, const char *text)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    uint32_t attempt = 0;
    struct str response;

    assert_int_equal(frame_recv(s->control, &f, WAIT_MS), 0);
    assert_int_equal(f.type, FRAME_AUTH_RESPONSE);
    in = frame_read(&f);
    assert_int_equal(frame_get_u32(&in, &attempt) | frame_get_str(&in, 100, &response) | frame_end(&in), 0);
    assert_int_equal(attempt, number);
    assert_true(str_eq(response, str_from(text)));
}

static void accept_login(const struct stage *s, uint32_t attempt)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_AUTH_DONE);
    assert_int_equal(frame_put_u32(&f, attempt) | frame_put_str(&f, STR("bob")) | frame_put_str(&f, STR("")) |
                         frame_put_str(&f, STR("")),
                     0);
    assert_int_equal(frame_send(s->control, &f, -1), 0);
}

static void expect_handover(const struct stage *s, const char *unread, const char *protocol)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    struct str a;
    struct str b;

    assert_int_equal(frame_recv(s->control, &f, WAIT_MS), 0);
    assert_int_equal(f.type, FRAME_HANDOVER);
    in = frame_read(&f);
    assert_int_equal(frame_get_str(&in, LIMIT_FRAME, &a) | frame_get_str(&in, 100, &b) | frame_end(&in), 0);
    assert_true(str_eq(a, str_from(unread)));
    assert_true(str_eq(b, str_from(protocol)));
}

static void imap_greets_with_what_it_offers(void **state)
{
    static const struct {
        struct imap_offer offer;
        const char *text;
    } rows[] = {
        {{true, false, {NULL, 0}}, "STARTTLS LOGINDISABLED"},
        {{false, true, {"PLAIN LOGIN", 11}}, "AUTH=PLAIN AUTH=LOGIN"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        _cleanup_buf_ struct buf text = BUF_INIT(512);
        char wanted[512];

        (void)snprintf(wanted, sizeof(wanted),
                       "* OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ID %s] mail.example Pennypost ready\r\n",
                       rows[i].text);
        assert_int_equal(imap_add_greeting(&rows[i].offer, "mail.example", &text), 0);
        assert_string_equal(buf_cstr(&text), wanted);
    }
}

static void imap_login_with_literals_hands_over(void **state)
{
    struct stage s = start_stage(&IMAP_LOGIN, true, false);

    (void)state;
    say(&s, "t1 LOGIN {3}\r\n");
    expect(&s, "+ Go ahead\r\n");
    say(&s, "bob {8+}\r\np \"{3}\r\n\r\nt2 SELECT INBOX\r\n");
    expect_attempt(&s, 1, "PLAIN", STR("\0bob\0p \"{3}\r\n"));
    accept_login(&s, 1);
    expect_handover(&s, "t2 SELECT INBOX\r\n", "t1");
    assert_int_equal(end_stage(&s), 0);
}

static void imap_one_byte_at_a_time(void **state)
{
    static const char dialogue[] = "1 NOOP\r\n2 LOGIN \"b\\\\o\\\"b\" pass%%\r\n";
    struct stage s = start_stage(&IMAP_LOGIN, true, false);

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(dialogue); i++) {
        assert_int_equal(send(s.client, dialogue + i, 1, MSG_NOSIGNAL), 1);
        (void)usleep(500);
    }
    expect(&s, "1 OK NOOP completed\r\n2 BAD LOGIN takes a user name and a password\r\n");
    say(&s, "3 LOGIN \"b\\\\o\\\"b\" pass\r\n");
    expect_attempt(&s, 1, "PLAIN", STR("\0b\\o\"b\0pass"));
    refuse(&s, 1, AUTH_CLASS_EXPIRED);
    expect(&s, "3 NO [EXPIRED] no\r\n");
    assert_int_equal(end_stage(&s), 0);
}

static void imap_refuses_what_it_must(void **state)
{
    struct stage s = start_stage(&IMAP_LOGIN, false, false);

    (void)state;
    say(&s, "a LOGIN bob secret\r\n");
    expect(&s, "a NO [PRIVACYREQUIRED] Use TLS before sending a password\r\n");
    say(&s, "b AUTHENTICATE PLAIN AGJvYgBzZWNyZXQ=\r\n");
    expect(&s, "b NO Authentication mechanism not available\r\n");
    say(&s, "c STARTTLS\r\n");
    expect(&s, "c BAD TLS is not available\r\n");
    say(&s, "d SELECT INBOX\r\n");
    expect(&s, "d BAD Unknown command, or log in first\r\n");
    say(&s, "* x\r\n");
    expect(&s, "* BAD No tag\r\n");
    say(&s, "e LOGIN {5000}\r\n");
    expect(&s, "e BAD Name or password too long\r\n");
    say(&s, "f LOGIN {5000+}\r\n"); /* what follows cannot be told from commands: the end */
    expect(&s, "f BAD Literal too large\r\n* BYE A literal follows that cannot be told from commands\r\n");
    expect(&s, "");
    assert_int_equal(end_stage(&s), 0);
}

static void imap_literals_of_refused_commands_are_not_commands(void **state)
{
#define BYE "* BYE A literal follows that cannot be told from commands\r\n"
    static const struct {
        const char *lines;
        const char *answer;
    } refused[] = {
        {"a ID {12+}\r\nb STARTTLS\r\n", "a BAD ID takes a list or NIL\r\n" BYE},
        {"a ID (\"a\" {2000+}\r\nb STARTTLS\r\n", "a BAD Literal too large\r\n" BYE},
        {"a ID ({1+}\r\nx b {8+}\r\nb NOOP\r\n", "a BAD ID takes a list or NIL\r\n" BYE},
        {"a APPEND INBOX {8+}\r\nb NOOP\r\n", "a BAD Unknown command, or log in first\r\n" BYE},
        {"a AUTHENTICATE PLAIN {8+}\r\nb NOOP\r\n", "a BAD No literal is taken here\r\n" BYE},
        {"a LOGIN {1+}\r\nx y {8+}\r\nb NOOP\r\n", "a BAD LOGIN takes a user name and a password\r\n" BYE},
        {"a LOGIN {1+}\r\nx {9999+}\r\nb NOOP\r\n", "a BAD Literal too large\r\n" BYE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct stage s = start_stage(&IMAP_LOGIN, true, false);

        say(&s, refused[i].lines);
        expect(&s, refused[i].answer);
        expect(&s, "");
        assert_int_equal(end_stage(&s), 0);
    }
}

static void three_failures_are_the_end(void **state)
{
    struct stage s = start_stage(&IMAP_LOGIN, true, false);

    (void)state;
    for (uint32_t i = 1; i <= 3; i++) {
        say(&s, "a LOGIN bob x\r\n");
        expect_attempt(&s, i, "PLAIN", STR("\0bob\0x"));
        refuse(&s, i, AUTH_CLASS_CREDENTIALS);
        expect(&s, i < 3 ? "a NO [AUTHENTICATIONFAILED] no\r\n"
                         : "a NO [AUTHENTICATIONFAILED] no\r\n* BYE Too many failed logins\r\n");
    }
    expect(&s, "");
    assert_int_equal(end_stage(&s), 0);
}

static void data_behind_starttls_is_cut_off(void **state)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct stage s = start_stage(&IMAP_LOGIN, true, true);

    (void)state;
    say(&s, "a STARTTLS\r\nb LOGIN evil evil\r\n");
    expect(&s, "");
    assert_int_equal(frame_recv(s.control, &f, WAIT_MS), 0);
    assert_int_equal(f.type, FRAME_NOTE);
    assert_int_equal(frame_recv(s.control, &f, WAIT_MS), -ENODATA);
    assert_int_equal(end_stage(&s), 0);
}

static void starttls_forgets_and_changes_over(void **state)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct stage s = start_stage(&POP3_LOGIN, true, true);
    int inner[2];

    (void)state;
    say(&s, "USER bob\r\n");
    expect(&s, "+OK send PASS\r\n");
    say(&s, "STLS\r\n");
    assert_int_equal(frame_recv(s.control, &f, WAIT_MS), 0);
    assert_int_equal(f.type, FRAME_STARTTLS);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, inner), 0);
    frame_begin(&f, FRAME_TLS_STARTED);
    assert_int_equal(frame_send(s.control, &f, inner[0]), 0);
    (void)close(inner[0]);
    expect(&s, "+OK begin TLS now\r\n");
    expect(&s, ""); /* the old connection is closed on this side */
    (void)close(s.client);
    s.client = inner[1];
    send_facts(s.control, true, false, "");
    say(&s, "PASS secret\r\n");
    expect(&s, "-ERR send USER first\r\n");
    say(&s, "STLS\r\n");
    expect(&s, "-ERR TLS is not available\r\n");
    assert_int_equal(end_stage(&s), 0);
}

static void pop3_passwords_keep_their_blanks(void **state)
{
    struct stage s = start_stage(&POP3_LOGIN, true, false);

    (void)state;
    say(&s, "USER bob\r\nPASS  two words \r\n");
    expect(&s, "+OK send PASS\r\n");
    expect_attempt(&s, 1, "PLAIN", STR("\0bob\0 two words "));
    refuse(&s, 1, AUTH_CLASS_TEMPORARY);
    expect(&s, "-ERR [SYS/TEMP] no\r\n");
    say(&s, "USER bob\r\nPASS x\r\nSTAT\r\n");
    expect(&s, "+OK send PASS\r\n");
    expect_attempt(&s, 2, "PLAIN", STR("\0bob\0x"));
    accept_login(&s, 2);
    expect_handover(&s, "STAT\r\n", "USER\nSASL PLAIN LOGIN\n");
    assert_int_equal(end_stage(&s), 0);
}

static void sasl_login_asks_and_star_cancels(void **state)
{
    struct stage s = start_stage(&POP3_LOGIN, true, false);

    (void)state;
    say(&s, "AUTH LOGIN\r\n");
    expect(&s, "+ VXNlcm5hbWU6\r\n");
    say(&s, "*\r\n");
    expect(&s, "-ERR Authentication cancelled\r\n");
    say(&s, "AUTH LOGIN\r\n");
    expect(&s, "+ VXNlcm5hbWU6\r\n");
    say(&s, "Ym9i\r\n");
    expect(&s, "+ UGFzc3dvcmQ6\r\n");
    say(&s, "not base64\r\n");
    expect(&s, "-ERR Malformed response\r\n");
    say(&s, "AUTH LOGIN Ym9i\r\n");
    expect(&s, "+ UGFzc3dvcmQ6\r\n");
    say(&s, "c2VjcmV0\r\n");
    expect_attempt(&s, 3, "LOGIN", STR("\0bob\0secret"));
    challenge(&s, 3, "Code:");
    expect(&s, "+ Q29kZTo=\r\n");
    say(&s, "MTIz\r\n");
    expect_response(&s, 3, "123");
    accept_login(&s, 3);
    expect_handover(&s, "", "USER\nSASL PLAIN LOGIN\n");
    assert_int_equal(end_stage(&s), 0);
}

/* RFC 2449 5, RFC 6856: what is announced, and UTF8 and LANG before login. */
static void pop3_utf8_and_lang(void **state)
{
    struct stage s = start_stage(&POP3_LOGIN, true, true);

    (void)state;
    say(&s, "CAPA\r\n");
    expect(&s, "+OK capabilities follow\r\n"
               "TOP\r\nUIDL\r\nSTLS\r\nUSER\r\nSASL PLAIN LOGIN\r\n.\r\n");
    say(&s, "CAPA x\r\n");
    expect(&s, "-ERR that command takes no arguments\r\n");
    say(&s, "LANG\r\n");
    expect(&s, "+OK Languages follow\r\nen English\r\n.\r\n");
    say(&s, "LANG de\r\n");
    expect(&s, "-ERR There is no such language, LANG alone lists them\r\n");
    say(&s, "UTF8\r\n");
    expect(&s, "+OK UTF-8 it is\r\n");
    say(&s, "STLS\r\n");
    expect(&s, "-ERR STLS comes before UTF8\r\n");
    say(&s, "USER b\xff\r\n");
    expect(&s, "-ERR USER takes a name\r\n");
    say(&s, "USER b\xc3\xbc\r\n");
    expect(&s, "+OK send PASS\r\n");
    say(&s, "PASS \xff\r\n");
    expect(&s, "-ERR [AUTH] password too long or not UTF-8\r\n");
    say(&s, "USER b\xc3\xbc\r\nPASS \xc3\xbc\r\n");
    expect(&s, "+OK send PASS\r\n");
    expect_attempt(&s, 1, "PLAIN", STR("\0b\xc3\xbc\0\xc3\xbc"));
    accept_login(&s, 1);
    expect_handover(&s, "", "+utf8\nUSER\nSASL PLAIN LOGIN\n");
    assert_int_equal(end_stage(&s), 0);
}

static void browsers_and_binary_noise_are_cut_off(void **state)
{
    static const struct str inputs[] = {STR("GET / HTTP/1.1\r\nHost: mail.example\r\n\r\n"), STR("a NO\0OP\r\n"),
                                        STR("\x16\x03\x01\x02\0\x01\n")};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(inputs); i++) {
        struct stage s = start_stage(&POP3_LOGIN, true, false);
        _cleanup_frame_ struct frame f = FRAME_INIT;

        assert_int_equal(send(s.client, inputs[i].ptr, inputs[i].len, MSG_NOSIGNAL), inputs[i].len);
        assert_int_equal(frame_recv(s.control, &f, WAIT_MS), 0);
        assert_int_equal(f.type, FRAME_NOTE);
        assert_int_equal(frame_recv(s.control, &f, WAIT_MS), -ENODATA);
        assert_int_equal(end_stage(&s), 0);
    }
}

static void a_nul_behind_a_literal_is_the_clients_fault(void **state)
{
    static const char input[] = "a LOGIN {3}\r\nbob \0\r\n";
    struct stage s = start_stage(&IMAP_LOGIN, true, false);
    _cleanup_frame_ struct frame f = FRAME_INIT;

    (void)state;
    assert_int_equal(send(s.client, input, sizeof(input) - 1, MSG_NOSIGNAL), sizeof(input) - 1);
    assert_int_equal(frame_recv(s.control, &f, WAIT_MS), 0);
    assert_int_equal(f.type, FRAME_NOTE);
    assert_int_equal(end_stage(&s), 0);
}

static void bad_commands_are_counted(void **state)
{
    struct stage s = start_stage(&POP3_LOGIN, true, false);
    _cleanup_frame_ struct frame f = FRAME_INIT;

    (void)state;
    for (int i = 0; i < LIMIT_BAD_COMMANDS; i++)
        say(&s, "STAT\r\n");
    assert_int_equal(frame_recv(s.control, &f, WAIT_MS), 0);
    assert_int_equal(f.type, FRAME_NOTE);
    assert_int_equal(frame_recv(s.control, &f, WAIT_MS), -ENODATA);
    assert_int_equal(end_stage(&s), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(imap_greets_with_what_it_offers),
        cmocka_unit_test(imap_login_with_literals_hands_over),
        cmocka_unit_test(imap_one_byte_at_a_time),
        cmocka_unit_test(imap_refuses_what_it_must),
        cmocka_unit_test(imap_literals_of_refused_commands_are_not_commands),
        cmocka_unit_test(three_failures_are_the_end),
        cmocka_unit_test(data_behind_starttls_is_cut_off),
        cmocka_unit_test(starttls_forgets_and_changes_over),
        cmocka_unit_test(pop3_passwords_keep_their_blanks),
        cmocka_unit_test(sasl_login_asks_and_star_cancels),
        cmocka_unit_test(pop3_utf8_and_lang),
        cmocka_unit_test(browsers_and_binary_noise_are_cut_off),
        cmocka_unit_test(a_nul_behind_a_literal_is_the_clients_fault),
        cmocka_unit_test(bad_commands_are_counted),
    };

    (void)argc;
    (void)argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
