/* A session for tests: see pop3_play.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/pop3_play.h"

int pop3_play_setup(void **state)
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

void run_init(struct run *r)
{
    *r = (struct run){.out = BUF_INIT(1u << 20)};
    assert_int_equal(conf_init(&r->conf), 0);
    r->conf.clock = (struct clock){.is_frozen = true, .epoch = 1700000000};
    r->who = (struct session){.is_preauth = true, .control = -1};
    r->who.user = str_dup(STR("joe"));
    r->who.unread = r->who.protocol = r->who.messages = BUF_INIT(4096);
}

void run_finish(struct run *r)
{
    free(r->who.user);
    free(r->who.state);
    buf_finish(&r->who.unread);
    buf_finish(&r->who.protocol);
    buf_finish(&r->who.messages);
    buf_finish(&r->out);
    conf_finish(&r->conf);
}

void play(struct run *r, const char *input)
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
