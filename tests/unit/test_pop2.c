/*
 * handlers/pop2 before login: quoting, and the login stage over a socket pair with the test as client and monitor.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "handlers/pop2/login.h"
#include "handlers/pop2/quote.h"
#include "shared/base/macros.h"
#include "shared/io/frame.h"

/* RFC 937, Quoting */
static void arguments_are_unquoted(void **state)
{
    static const struct {
        const char *text, *first, *last;
        int r;
    } rows[] = {
        {"Fred Secret", "Fred", "Secret", 0},
        {"Fred two words", "Fred", "two words", 0},
        {"F\\ d two\\ words\\\\", "F d", "two words\\", 0},
        {"Fred  Secret", "Fred", " Secret", 0},
        {"Fred", "Fred", "", -EINVAL},
        {"Fred ", "Fred", "", -EINVAL},
        {"Fred Secret\\", "Fred", "", -EINVAL},
        {"Fred 123456789", "Fred", "", -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        _cleanup_buf_ struct buf first = BUF_INIT(64), last = BUF_INIT(i + 1 == ARRAY_SIZE(rows) ? 8 : 64);
        struct str rest = str_from(rows[i].text);
        int r;

        assert_int_equal(quote_take(&rest, false, &first), 0);
        assert_string_equal(buf_cstr(&first), rows[i].first);
        r = quote_take(&rest, true, &last);
        if (i + 1 == ARRAY_SIZE(rows)) {
            assert_int_equal(r, -ENOBUFS);
            continue;
        }
        assert_int_equal(r, rows[i].r);
        if (r == 0) {
            assert_string_equal(buf_cstr(&last), rows[i].last);
            assert_int_equal(rest.len, 0);
        }
    }
}

#define WAIT_MS 60000 /* of a busy machine */

struct stage {
    pid_t pid;
    int client;
    int control;
};

static struct stage start_stage(bool is_plain_allowed)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
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
        _exit(login_run(&POP2_LOGIN, control[0], client[0]));
    }
    (void)close(client[0]);
    (void)close(control[0]);
    s.client = client[1];
    s.control = control[1];
    frame_begin(&f, FRAME_LOGIN_START);
    assert_int_equal(frame_put_str(&f, STR("192.0.2.1")) | frame_put_str(&f, STR("192.0.2.2")) | frame_put_u32(&f, 0) |
                         frame_put_u32(&f, 1) | frame_put_u32(&f, is_plain_allowed) |
                         frame_put_str(&f, is_plain_allowed ? STR("PLAIN") : STR("")) |
                         frame_put_str(&f, STR("mail.example")) | frame_put_str(&f, STR("")) |
                         frame_put_str(&f, STR("")),
                     0);
    assert_int_equal(frame_send(s.control, &f, -1), 0);
    return s;
}

static void end_stage(struct stage *s)
{
    int status = -1;

    (void)close(s->client);
    (void)close(s->control);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    assert_int_equal(status, 0);
}

static void say(const struct stage *s, const char *text, size_t step)
{
    for (size_t at = 0, len = strlen(text); at < len; at += step)
        assert_true(send(s->client, text + at, step < len - at ? step : len - at, MSG_NOSIGNAL) > 0);
}

/* Everything up to the end of the connection is `text`. */
static void expect_last(const struct stage *s, const char *text)
{
    char got[2048] = "";
    size_t len = 0;
    ssize_t n;

    do {
        struct pollfd p = {.fd = s->client, .events = POLLIN};

        n = poll(&p, 1, WAIT_MS) == 1 ? recv(s->client, got + len, sizeof(got) - 1 - len, 0) : -1;
        len += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    assert_int_equal(n, 0);
    assert_string_equal(got, text);
}

/* With what the session gets if nothing is asked. */
static void expect_attempt(const struct stage *s, struct str response, const char *rest)
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
    assert_true(str_eq(unread, str_from(rest)));
    assert_int_equal(left.len, 0);
    assert_int_equal(attempt, 1);
    assert_true(str_eq(name, STR("PLAIN")));
    assert_true(str_eq(bytes, response));
}

static void answer(const struct stage *s, bool is_done)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, is_done ? FRAME_AUTH_DONE : FRAME_AUTH_FAILED);
    assert_int_equal(frame_put_u32(&f, 1), 0);
    if (!is_done)
        assert_int_equal(frame_put_u32(&f, AUTH_CLASS_CREDENTIALS), 0);
    assert_int_equal(frame_put_str(&f, is_done ? STR("Fred") : STR("no")) | frame_put_str(&f, STR("")) |
                         frame_put_str(&f, STR("")),
                     0);
    assert_int_equal(frame_send(s->control, &f, -1), 0);
}

/* Name and password go out, and what follows them is left to the session; fed whole and one byte at a time. */
static void helo_hands_over(void **state)
{
    (void)state;
    for (size_t step = 1; step <= 100; step += 99) {
        _cleanup_frame_ struct frame f = FRAME_INIT;
        struct stage s = start_stage(true);
        struct frame_reader in;
        struct str unread, protocol;

        say(&s, step == 1 ? "helo Fred\\ X a\\\\b c\r\n" : "helo Fred\\ X a\\\\b c\r\nREAD 1\r\n", step);
        expect_attempt(&s, STR("\0Fred X\0a\\b c"), step == 1 ? "" : "READ 1\r\n");
        answer(&s, true);
        assert_int_equal(frame_recv(s.control, &f, WAIT_MS), 0);
        assert_int_equal(f.type, FRAME_HANDOVER);
        in = frame_read(&f);
        assert_int_equal(frame_get_str(&in, LIMIT_FRAME, &unread) | frame_get_str(&in, 100, &protocol), 0);
        assert_true(str_eq(unread, step == 1 ? STR_NULL : STR("READ 1\r\n")));
        assert_int_equal(protocol.len, 0);
        expect_last(&s, "");
        end_stage(&s);
    }
}

/* The monitor needs nothing more, and says nothing: neither does the login stage. */
static void what_went_ahead_is_the_end(void **state)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct stage s = start_stage(true);

    (void)state;
    say(&s, "HELO Fred Secret\r\nREAD 1\r\n", 100);
    expect_attempt(&s, STR("\0Fred\0Secret"), "READ 1\r\n");
    assert_int_equal(shutdown(s.control, SHUT_WR), 0);
    assert_int_equal(frame_recv(s.control, &f, 5000), -ENODATA);
    expect_last(&s, "");
    end_stage(&s);
}

/* RFC 937 HELO: "- error report" and close the connection. */
static void a_failure_is_the_end(void **state)
{
    struct stage s = start_stage(true);

    (void)state;
    say(&s, "HELO Fred Secret\r\nHELO Fred Other\r\n", 100);
    expect_attempt(&s, STR("\0Fred\0Secret"), "HELO Fred Other\r\n");
    answer(&s, false);
    expect_last(&s, "- no\r\n");
    end_stage(&s);
}

/* Whatever else comes in AUTH state; the monitor is not asked. */
static void everything_else_is_the_end(void **state)
{
    static const char *const rows[][2] = {
        {"QUIT\r\n", "+ Bye\r\n"},
        {"QUIT now\r\n", "- QUIT takes no argument\r\n"},
        {"HELO\r\n", "- the form is: HELO user password\r\n"},
        {"HELO Fred\r\n", "- the form is: HELO user password\r\n"},
        {"HELO  Secret\r\n", "- the form is: HELO user password\r\n"},
        {"HELO Fred Secret\\\r\n", "- the form is: HELO user password\r\n"},
        {"HELO Fr\xff\x64 Secret\r\n", "- the form is: HELO user password\r\n"},
        {"FOLD x\r\n", "- HELO comes first\r\n"},
        {"READ\r\n", "- HELO comes first\r\n"},
        {"RETR\r\n", "- HELO comes first\r\n"},
        {"ACKS\r\n", "- HELO comes first\r\n"},
        {"ACKD\r\n", "- HELO comes first\r\n"},
        {"NACK\r\n", "- HELO comes first\r\n"},
        {"\r\n", "- HELO comes first\r\n"},
        {"USER Fred\r\n", "- HELO comes first\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        _cleanup_frame_ struct frame f = FRAME_INIT;
        struct stage s = start_stage(true);

        say(&s, rows[i][0], 100);
        expect_last(&s, rows[i][1]);
        assert_int_equal(frame_recv(s.control, &f, WAIT_MS), -ENODATA);
        end_stage(&s);
    }
}

static void no_password_in_the_clear(void **state)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct stage s = start_stage(false);

    (void)state;
    say(&s, "HELO Fred Secret\r\n", 100);
    expect_last(&s, "- a password is not accepted without TLS\r\n");
    assert_int_equal(frame_recv(s.control, &f, WAIT_MS), -ENODATA);
    end_stage(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_are_unquoted),   cmocka_unit_test(helo_hands_over),
        cmocka_unit_test(what_went_ahead_is_the_end),
        cmocka_unit_test(a_failure_is_the_end),     cmocka_unit_test(everything_else_is_the_end),
        cmocka_unit_test(no_password_in_the_clear),
    };

    (void)argc;
    (void)argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
