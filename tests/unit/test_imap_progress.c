/*
 * What a client hears during a long command: INPROGRESS (RFC 9585), without waiting for it.
 */
// CAPABILITY: INPROGRESS
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handlers/imap/progress.h"
#include "shared/io/writer.h"

#define LONG_AGO 1 /* ms on the monotonic clock */

struct bench {
    struct imap imap;
    int fds[2];
};

static void set_up(struct bench *b, const char *tag)
{
    memset(b, 0, sizeof(*b));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, b->fds), 0);
    transport_init(&b->imap.transport, b->fds[0], b->fds[0], 10, 10);
    writer_init(&b->imap.out, &b->imap.transport);
    (void)snprintf(b->imap.tag, sizeof(b->imap.tag), "%s", tag);
}

static void tear_down(struct bench *b)
{
    writer_finish(&b->imap.out);
    close(b->fds[0]);
    if (b->fds[1] >= 0)
        close(b->fds[1]);
}

static void expect(struct bench *b, const char *text)
{
    char got[256];
    ssize_t n = recv(b->fds[1], got, sizeof(got) - 1, MSG_DONTWAIT);

    got[n > 0 ? n : 0] = '\0';
    assert_string_equal(got, text);
}

/* A command that began long ago. */
static struct progress old(struct bench *b, uint64_t goal)
{
    return (struct progress){
        .s = &b->imap, .doing = "searching", .goal = goal, .looked = LONG_AGO, .told = LONG_AGO - 10000};
}

static void test_numbers(void **state)
{
    struct bench b;
    struct progress p;

    set_up(&b, "a1");
    p = old(&b, 80);
    assert_int_equal(progress_go_on(&p, 3), 0);
    expect(&b, "* OK [INPROGRESS (\"a1\" 3 80)] Still searching\r\n");
    assert_int_equal(progress_go_on(&p, 4), 0); /* not again at once */
    expect(&b, "");
    p = old(&b, 80); /* RFC 9585 4: the goal is above what is done */
    assert_int_equal(progress_go_on(&p, 80), 0);
    expect(&b, "* OK [INPROGRESS (\"a1\" NIL NIL)] Still searching\r\n");
    p = old(&b, 0);
    assert_int_equal(progress_go_on(&p, 7), 0);
    expect(&b, "* OK [INPROGRESS (\"a1\" NIL NIL)] Still searching\r\n");
    tear_down(&b);
}

/* RFC 9585 4: the bracket would end the response code. */
static void test_odd_tag(void **state)
{
    struct bench b;
    struct progress p;

    set_up(&b, "a]1");
    p = old(&b, 80);
    assert_int_equal(progress_go_on(&p, 3), 0);
    expect(&b, "* OK [INPROGRESS (NIL 3 80)] Still searching\r\n");
    tear_down(&b);
}

static void test_short_command(void **state)
{
    struct progress p;
    struct bench b;

    set_up(&b, "a1");
    p = (struct progress){.s = &b.imap, .doing = "searching", .goal = 80};
    for (uint64_t i = 0; i < 80; i++)
        assert_int_equal(progress_go_on(&p, i), 0);
    expect(&b, "");
    tear_down(&b);
}

static void test_nobody_left(void **state)
{
    struct bench b;
    struct progress p;

    set_up(&b, "a1");
    close(b.fds[1]);
    b.fds[1] = -1;
    p = old(&b, 80);
    assert_int_equal(progress_go_on(&p, 3), -EPIPE);
    assert_int_equal(b.imap.out.error, -EPIPE);
    tear_down(&b);
}

static void test_stopped(void **state)
{
    struct bench b;
    struct progress p;

    set_up(&b, "a1");
    b.imap.transport.stop_fd = eventfd(1, EFD_CLOEXEC);
    p = old(&b, 80);
    assert_int_equal(progress_go_on(&p, 3), -ECANCELED);
    assert_int_equal(b.imap.out.error, 0); /* the client can still be told */
    close(b.imap.transport.stop_fd);
    tear_down(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),     cmocka_unit_test(test_odd_tag), cmocka_unit_test(test_short_command),
        cmocka_unit_test(test_nobody_left), cmocka_unit_test(test_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
