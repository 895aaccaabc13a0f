/*
 * sendmail -bs: bytes between a program that speaks SMTP on a pipe and the server. Runs as the invoking user.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/sendmail/client.h"
#include "handlers/sendmail/modes.h"
#include "shared/base/macros.h"
#include "shared/gate/start.h"

#define PIECE (16u << 10)

struct pipe_state {
    struct transport input, output, server; /* for whole writes */
    bool is_known;                          /* whether lines end in LF alone: the first one tells */
    bool adds_cr;
    char previous; /* last byte of the input */
    char line[4];  /* front of the server's current line */
    size_t line_len;
    char code[4]; /* of its last whole line */
};

/* People and their scripts end lines with LF; a program that says CRLF once may send BDAT and means what it sends. */
static int forward(struct pipe_state *s, struct str bytes)
{
    char out[2 * PIECE];
    size_t n = 0;

    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.ptr[i];

        if (c == '\n' && !s->is_known) {
            s->is_known = true;
            s->adds_cr = s->previous != '\r';
        }
        if (c == '\n' && s->adds_cr && s->previous != '\r')
            out[n++] = '\r';
        out[n++] = c;
        s->previous = c;
    }
    return transport_write(&s->server, out, n);
}

static int backward(struct pipe_state *s, struct str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.ptr[i];

        if (c != '\n') {
            if (s->line_len < 3)
                s->line[s->line_len++] = c;
            continue;
        }
        memcpy(s->code, s->line, sizeof(s->code));
        s->line_len = 0;
    }
    return transport_write(&s->output, bytes.ptr, bytes.len);
}

/* 1: the other side goes on; 0: the end. */
static int copy(struct pipe_state *s, struct transport *from, int (*to)(struct pipe_state *, struct str))
{
    char bytes[PIECE];
    ssize_t n = transport_read(from, bytes, sizeof(bytes));
    int e;

    if (n <= 0)
        return (int)n;
    e = to(s, (struct str){bytes, (size_t)n});
    return e < 0 ? e : 1;
}

static int serve(struct pipe_state *s)
{
    struct pollfd fds[] = {{.fd = s->server.rfd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    int r = 1;

    while (r > 0) {
        if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
            r = errno == EINTR ? 1 : -errno;
            continue;
        }
        if (fds[0].revents) {
            r = copy(s, &s->server, backward);
            continue;
        }
        r = copy(s, &s->input, forward);
        if (r == 0) { /* nothing more comes; the answers still do */
            (void)shutdown(s->server.wfd, SHUT_WR);
            fds[1].fd = -1;
            r = 1;
        }
    }
    return r;
}

int mode_smtp(const struct conf *conf)
{
    char *session[] = {(char[]){"sendmail"}, (char[]){"-bs"}, (char[]){"--local"}, NULL};
    struct pipe_state s = {0};
    struct client c;
    int e = client_connect(&c, conf, true, NULL);

    if (e < 0) /* nobody listens: what we may do ourselves */
        return start_exec_session("smtp-session", conf, 3, session);
    transport_init(&s.input, STDIN_FILENO, STDOUT_FILENO, 0, 0);
    transport_init(&s.output, STDIN_FILENO, STDOUT_FILENO, 0, 0);
    transport_init(&s.server, c.fd, c.fd, 0, 0);
    e = serve(&s);
    c.writer.error = -EPIPE; /* QUIT is the other program's to say */
    client_close(&c);
    return e == 0 && strcmp(s.code, "221") == 0 ? 0 : 1;
}
