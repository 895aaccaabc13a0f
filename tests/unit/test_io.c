/* Unit tests of shared/io: the line reader (whole and one byte at a time), the writer, frames, dispatch. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/io/dispatch.h"
#include "shared/io/frame.h"
#include "shared/io/line.h"

/* A child that writes `input` in pieces of `step` bytes; what we read comes from the returned fd. */
static int feed(struct str input, size_t step, pid_t *ret_child)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *ret_child = fork();
    assert_true(*ret_child >= 0);
    if (*ret_child == 0) {
        (void)close(fds[0]);
        for (size_t at = 0; at < input.len; at += step)
            if (write(fds[1], input.ptr + at, at + step > input.len ? input.len - at : step) < 0)
                _exit(1);
        _exit(0);
    }
    (void)close(fds[1]);
    return fds[0];
}

#define LINE_TEST_MAX 100

static const struct line_case {
    enum line_ending ending;
    struct str input;
    struct {
        int result;
        const char *line;
    } expect[6];
} LINE_CASES[] = {
    {LINE_CRLF, STR("one\r\n\r\ntwo\r\n"), {{0, "one"}, {0, ""}, {0, "two"}, {-ENODATA, NULL}}},
    {LINE_CRLF, STR("a\nb\r\nc\r\n"), {{-EBADMSG, NULL}, {0, "c"}, {-ENODATA, NULL}}},
    {LINE_CRLF, STR("a\rb\r\nc\r\n"), {{-EBADMSG, NULL}, {0, "c"}, {-ENODATA, NULL}}},
    {LINE_CRLF, STR("a\0b\r\nc\r\n"), {{-EBADMSG, NULL}, {0, "c"}, {-ENODATA, NULL}}},
    {LINE_CRLF, STR("half"), {{-EPIPE, NULL}, {-ENODATA, NULL}}},
    {LINE_CRLF, STR("lf only\n"), {{-EPIPE, NULL}}},
    {LINE_LENIENT, STR("one\ntwo\r\n\nlast"), {{0, "one"}, {0, "two"}, {0, ""}, {-EPIPE, NULL}}},
    {LINE_LENIENT, STR("a\rb\n"), {{0, "a\rb"}, {-ENODATA, NULL}}},
    {LINE_LENIENT, STR(""), {{-ENODATA, NULL}}},
};

static void check_lines(const struct line_case *c, size_t step)
{
    pid_t child;
    int fd = feed(c->input, step, &child);
    struct transport t;
    struct line_reader r;

    transport_init(&t, fd, fd, 60, 60);
    line_reader_init(&r, &t, NULL, c->ending, LINE_TEST_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(c->expect) && (c->expect[i].result < 0 || c->expect[i].line); i++) {
        struct str line = STR("untouched");

        assert_int_equal(line_read(&r, &line), c->expect[i].result);
        assert_true(str_eq(line, str_from(c->expect[i].line ? c->expect[i].line : "untouched")));
    }
    line_reader_finish(&r);
    (void)close(fd);
    (void)waitpid(child, NULL, 0);
}

static void lines(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(LINE_CASES); i++) {
        check_lines(&LINE_CASES[i], 1);
        check_lines(&LINE_CASES[i], 3);
        check_lines(&LINE_CASES[i], SIZE_MAX / 2);
    }
}

/* Too long by one, by a little, by a lot: dropped to its end whatever the pieces, and the next line is whole. */
static void long_lines(void **state)
{
    static const size_t lengths[] = {LINE_TEST_MAX, LINE_TEST_MAX + 1, LINE_TEST_MAX + 2, 40000, 300000};

    for (int ending = LINE_CRLF; ending <= LINE_LENIENT; ending++)
        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
            struct buf input = BUF_INIT(SIZE_MAX);
            pid_t child;
            struct transport t;
            struct line_reader r;
            struct str line = STR("");

            for (size_t n = 0; n < lengths[i]; n++)
                assert_int_equal(buf_add_byte(&input, 'x'), 0);
            assert_int_equal(buf_add_str(&input, STR("\r\nnext\r\n")), 0);

            int fd = feed(buf_str(&input), i < 3 ? 1 : 4093, &child);

            transport_init(&t, fd, fd, 60, 60);
            line_reader_init(&r, &t, NULL, (enum line_ending)ending, LINE_TEST_MAX);
            assert_int_equal(line_read(&r, &line), lengths[i] > LINE_TEST_MAX ? -ENOBUFS : 0);
            assert_int_equal(line_read(&r, &line), 0);
            assert_true(str_eq(line, STR("next")));
            assert_true(r.in.cap <= LINE_TEST_MAX + 2 * LINE_BUFFER + 1);
            line_reader_finish(&r);
            (void)close(fd);
            (void)waitpid(child, NULL, 0);
            buf_finish(&input);
        }
}

static void counted_bytes_and_unread(void **state)
{
    pid_t child;
    int fd = feed(STR("{4}\r\nabcdrest\r\n"), 1, &child);
    struct transport t;
    struct line_reader r;
    struct str s;

    transport_init(&t, fd, fd, 60, 60);
    line_reader_init(&r, &t, NULL, LINE_CRLF, LINE_TEST_MAX);
    assert_int_equal(line_read(&r, &s), 0);
    assert_int_equal(line_peek_more(&r, 4, &s), 0);
    assert_true(str_starts(s, STR("abcd")));
    line_consume(&r, 4);
    assert_int_equal(line_unread(&r, STR("first\r\nun")), 0);
    assert_int_equal(line_read(&r, &s), 0);
    assert_true(str_eq(s, STR("first")));
    assert_int_equal(line_read(&r, &s), 0);
    assert_true(str_eq(s, STR("unrest")));
    assert_int_equal(line_peek(&r, &s), -ENODATA);
    line_reader_finish(&r);
    (void)close(fd);
    (void)waitpid(child, NULL, 0);
}

static void time_runs_out(void **state)
{
    int fds[2];
    struct transport t;
    char c;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    transport_init(&t, fds[0], fds[0], 1, 1);
    t.deadline = clock_monotonic_ms() + 30;
    assert_int_equal(transport_read(&t, &c, 1), -ETIMEDOUT);
    assert_int_equal(transport_wait(&t, -1, -1), 0);

    /* A peer that does not read: the buffer of the socket fills, then the deadline ends it. */
    static char block[1 << 20];

    t.deadline = clock_monotonic_ms() + 50;
    assert_int_equal(transport_write(&t, block, sizeof(block)), -ETIMEDOUT);
    (void)close(fds[1]);
    t.deadline = 0;
    assert_int_equal(transport_write(&t, block, 1), -EPIPE);
    (void)close(fds[0]);
}

static void writer_flushes_before_a_wait(void **state)
{
    int fds[2];
    struct transport t;
    struct writer w;
    struct line_reader r;
    char got[32] = "";
    struct str line;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    transport_init(&t, fds[0], fds[0], 1, 1);
    writer_init(&w, &t);
    line_reader_init(&r, &t, &w, LINE_CRLF, LINE_TEST_MAX);
    assert_int_equal(writer_printf(&w, "%s %d\r\n", "hello", 1), 0);
    assert_int_equal(writer_u64(&w, 42), 0);
    assert_int_equal(recv(fds[1], got, sizeof(got), MSG_DONTWAIT), -1);
    assert_int_equal(write(fds[1], "x\r\n", 3), 3);
    assert_int_equal(line_read(&r, &line), 0);
    assert_int_equal(recv(fds[1], got, sizeof(got), MSG_DONTWAIT), 11);
    assert_memory_equal(got, "hello 1\r\n42", 11);
    (void)close(fds[1]);
    assert_int_equal(writer_text(&w, "y"), 0);
    assert_int_equal(writer_flush(&w), -EPIPE);
    assert_int_equal(writer_text(&w, "z"), -EPIPE);
    line_reader_finish(&r);
    writer_finish(&w);
    (void)close(fds[0]);
}

static void frames_carry_fields_and_an_fd(void **state)
{
    int pair[2], pipes[2];
    struct frame f = FRAME_INIT, g = FRAME_INIT;
    struct str s = STR("");
    uint32_t n = 0;
    uint64_t m = 0;

    assert_int_equal(frame_pair(pair), 0);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    frame_begin(&f, 9);
    assert_int_equal(frame_put_u32(&f, 5), 0);
    assert_int_equal(frame_put_str(&f, STR("user\0name")), 0);
    assert_int_equal(frame_put_u64(&f, UINT64_MAX), 0);
    assert_int_equal(frame_send(pair[0], &f, pipes[1]), 0);
    assert_int_equal(frame_recv(pair[1], &g, 1000), 0);
    assert_int_equal(g.type, 9);
    assert_true(g.fd >= 0);
    assert_int_equal(write(g.fd, "x", 1), 1);

    struct frame_reader r = frame_read(&g);

    assert_int_equal(frame_get_u32(&r, &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(frame_get_str(&r, 3, &s), -EBADMSG);
    assert_int_equal(frame_get_str(&r, 9, &s), 0);
    assert_true(str_eq(s, STR("user\0name")));
    assert_int_equal(frame_end(&r), -EBADMSG);
    assert_int_equal(frame_get_u64(&r, &m), 0);
    assert_int_equal(frame_get_u32(&r, &n), -EBADMSG);
    assert_int_equal(frame_end(&r), 0);
    frame_finish(&f);
    assert_int_equal(frame_recv(pair[1], &g, 10), -ETIMEDOUT);
    (void)close(pair[0]);
    assert_int_equal(frame_recv(pair[1], &g, 10), -ENODATA);
    frame_finish(&g);
    (void)close(pair[1]);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

/* frame_say() and frame_take(): every field has its bound, and nothing may be left. */
static void frames_are_said_and_taken_whole(void **state)
{
    struct frame f = FRAME_INIT;
    int pair[2];
    uint32_t n = 0;
    bool flag = false;
    struct str view = STR_NULL;
    char text[5];

    (void)state;
    assert_int_equal(frame_pair(pair), 0);
    assert_int_equal(
        frame_say(pair[0], 7, -1, FRAME_U32(9), FRAME_U32(1), FRAME_STR(STR("a\0b")), FRAME_STR(STR("word"))), 0);
    assert_int_equal(frame_recv(pair[1], &f, 1000), 0);
    assert_int_equal(f.type, 7);
    assert_int_equal(
        frame_take(&f, FRAME_TO_U32(&n, 9), FRAME_TO_BOOL(&flag), FRAME_TO_STR(&view, 3), FRAME_TO_TEXT(text)), 0);
    assert_true(n == 9 && flag && str_eq(view, STR("a\0b")));
    assert_string_equal(text, "word");
    assert_int_equal(
        frame_take(&f, FRAME_TO_U32(&n, 8), FRAME_TO_BOOL(&flag), FRAME_TO_STR(&view, 3), FRAME_TO_TEXT(text)),
        -EBADMSG);
    assert_int_equal(
        frame_take(&f, FRAME_TO_BOOL(&flag), FRAME_TO_BOOL(&flag), FRAME_TO_STR(&view, 3), FRAME_TO_TEXT(text)),
        -EBADMSG);
    assert_int_equal(
        frame_take(&f, FRAME_TO_U32(&n, 9), FRAME_TO_BOOL(&flag), FRAME_TO_STR(&view, 2), FRAME_TO_TEXT(text)),
        -EBADMSG);
    /* Control characters are no text; a field too few, and one too many. */
    assert_int_equal(
        frame_take(&f, FRAME_TO_U32(&n, 9), FRAME_TO_BOOL(&flag), FRAME_TO_TEXT(text), FRAME_TO_STR(&view, 9)),
        -EBADMSG);
    assert_int_equal(frame_take(&f, FRAME_TO_U32(&n, 9), FRAME_TO_BOOL(&flag), FRAME_TO_STR(&view, 9)), -EBADMSG);
    assert_int_equal(frame_take(&f, FRAME_TO_U32(&n, 9), FRAME_TO_BOOL(&flag), FRAME_TO_STR(&view, 9),
                                FRAME_TO_STR(&view, 9), FRAME_TO_U32(&n, 9)),
                     -EBADMSG);
    assert_int_equal(frame_take_fields(&f, NULL, 0), -EBADMSG);
    assert_int_equal(frame_say(pair[0], 7, -1, FRAME_STR(((struct str){"x", LIMIT_FRAME}))), -ENOBUFS);
    assert_int_equal(frame_say(pair[0], 7, -1, FRAME_STR(((struct str){"x", SIZE_MAX})), FRAME_U32(1)), -ENOBUFS);
    frame_finish(&f);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

/* One fd at most: of two the kernel gives us none that we would not know of. */
static void frames_refuse_two_fds(void **state)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    uint16_t header[4] = {1}; /* type, zero, a length of zero */
    struct iovec part = {header, sizeof(header)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    struct frame f = FRAME_INIT;
    int pair[2], next;

    (void)state;
    assert_int_equal(frame_pair(pair), 0);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(c), pair, sizeof(pair));
    assert_int_equal(sendmsg(pair[0], &message, 0), sizeof(header));
    next = fcntl(pair[0], F_DUPFD, 0);
    (void)close(next);
    assert_int_equal(frame_recv(pair[1], &f, 1000), -EBADMSG);
    assert_int_equal(fcntl(pair[0], F_DUPFD, 0), next); /* the lowest free one is the same */
    (void)close(next);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

/* Whatever bytes come, they are a whole frame or -EBADMSG, and no fd stays open. */
static void frames_refuse_nonsense(void **state)
{
    int pair[2];
    struct frame f = FRAME_INIT;
    uint16_t header[4] = {1, 0, 5, 0};
    static char large[LIMIT_FRAME + 100];

    assert_int_equal(frame_pair(pair), 0);
    assert_int_equal(send(pair[0], header, 3, 0), 3);
    assert_int_equal(frame_recv(pair[1], &f, 1000), -EBADMSG);
    assert_int_equal(send(pair[0], header, 8, 0), 8);
    assert_int_equal(frame_recv(pair[1], &f, 1000), -EBADMSG);
    header[1] = 1;
    header[2] = 0;
    assert_int_equal(send(pair[0], header, 8, 0), 8);
    assert_int_equal(frame_recv(pair[1], &f, 1000), -EBADMSG);
    assert_int_equal(send(pair[0], large, sizeof(large), 0), sizeof(large));
    assert_int_equal(frame_recv(pair[1], &f, 1000), -EBADMSG);

    frame_begin(&f, 1);
    assert_int_equal(frame_put_str(&f, (struct str){large, LIMIT_FRAME - 4}), 0);
    assert_int_equal(frame_put_u32(&f, 1), -ENOBUFS);
    frame_finish(&f);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static int nothing(void *session, struct str arguments)
{
    return 0;
}

static void commands_are_found_in_their_states(void **state)
{
    static const struct command table[] = {{"STAT", 1u << 1, 0, nothing}, {"QUIT", 1u << 0 | 1u << 1, 0, nothing}};
    const struct command *c = NULL;

    assert_int_equal(command_find(table, 2, STR("quit"), 0, &c), 0);
    assert_ptr_equal(c, &table[1]);
    assert_int_equal(command_find(table, 2, STR("STAT"), 0, &c), -EPERM);
    assert_int_equal(command_find(table, 2, STR("STA"), 1, &c), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(counted_bytes_and_unread),
        cmocka_unit_test(time_runs_out),
        cmocka_unit_test(writer_flushes_before_a_wait),
        cmocka_unit_test(frames_carry_fields_and_an_fd),
        cmocka_unit_test(frames_are_said_and_taken_whole),
        cmocka_unit_test(frames_refuse_two_fds),
        cmocka_unit_test(frames_refuse_nonsense),
        cmocka_unit_test(commands_are_found_in_their_states),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
