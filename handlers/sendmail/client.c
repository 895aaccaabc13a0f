/*
 * SMTP from the client's side. Runs as the invoking user; touches the server's socket.
 */
#include "handlers/sendmail/client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"

#define CONNECT_SECONDS 60 /* a server that has all connections it may have */
#define REPLY_SECONDS                                                                                                  \
    900 /* RFC 5321 4.5.3.2.6 asks for ten minutes behind the data: mailboxes are locked, disks slow */
#define REPLY_LINES 1000000 /* the queue */
#define LEAVE_MS    5000
#define AGAIN_MS    200

/* ---- the way to the server ---- */

static int connect_socket(const char *path, int *ret_fd)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = CONNECT_SECONDS};

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        if (errno != EINTR)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int start_session(struct client *c, const struct conf *conf)
{
    struct chain_spec spec = {CHAIN_SPEC("smtp-session"), .arguments = {"-bs", "--local"}, .conf = conf};
    int ends[2];
    int e;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    spec.fds[0] = spec.fds[1] = ends[1];
    e = chain_spawn(&spec, &c->child);
    (void)close(ends[1]);
    if (e < 0) {
        (void)close(ends[0]);
        return e;
    }
    c->fd = ends[0];
    c->is_direct = true;
    return 0;
}

int client_connect(struct client *c, const struct conf *conf, bool socket_only, FILE *transcript)
{
    int e;

    *c = (struct client){.fd = -1, .child = CHAIN_CHILD_NONE, .transcript = transcript};
    e = connect_socket(conf->submit_socket, &c->fd);
    c->connect_error = e;
    if (e < 0 && !socket_only)
        e = start_session(c, conf);
    if (e < 0)
        return e;
    transport_init(&c->transport, c->fd, c->fd, REPLY_SECONDS, TIMEOUT_WRITE);
    writer_init(&c->writer, &c->transport);
    line_reader_init(&c->reader, &c->transport, &c->writer, LINE_CRLF, LIMIT_LINE_SMTP);
    return 0;
}

void client_close(struct client *c)
{
    struct client_reply bye;

    if (c->fd < 0)
        return;
    c->transport.read_timeout = LEAVE_MS / 1000;
    if (c->writer.error == 0)
        (void)client_command(c, &bye, "QUIT");
    line_reader_finish(&c->reader);
    writer_finish(&c->writer);
    close_fd(&c->fd);
    if (c->child.pid > 0)
        (void)chain_end(&c->child, LEAVE_MS);
}

/* ---- replies ---- */

static void note(const struct client *c, const char *arrow, struct str line)
{
    if (c->transcript)
        (void)fprintf(c->transcript, "%s %.*s\n", arrow, STR_ARG(line));
}

static void keep_text(struct client_reply *r, struct str text)
{
    size_t used = strlen(r->text), room = sizeof(r->text) - 1 - used;

    if (used > 0 && room > 0) {
        r->text[used++] = ' ';
        room--;
    }
    if (text.len > room)
        text.len = room;
    memcpy(r->text + used, text.ptr, text.len);
    r->text[used + text.len] = '\0';
    for (char *p = r->text + used; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = ' ';
}

/* One line of a reply (RFC 5321 4.2.1). *ret_is_last: no more follow. */
static int read_reply_line(struct client *c, struct client_reply *r, bool *ret_is_last)
{
    struct str line, text;
    uint32_t code = 0;
    int e = line_read(&c->reader, &line);

    if (e < 0)
        return e == -ENODATA || e == -EPIPE ? -ECONNRESET : e;
    note(c, "<<<", line);
    if (line.len < 3 || str_to_u32(str_sub(line, 0, 3), &code) < 0 || code < 200 || code > 599 ||
        (r->code != 0 && r->code != code) || (line.len > 3 && line.ptr[3] != ' ' && line.ptr[3] != '-'))
        return -EBADMSG;
    text = str_sub(line, 4, line.len);
    r->code = code;
    keep_text(r, text);
    if (c->on_line)
        c->on_line(c->context, text);
    *ret_is_last = line.len == 3 || line.ptr[3] == ' ';
    return 0;
}

int client_reply(struct client *c, struct client_reply *ret)
{
    bool is_last = false;
    int e = 0;

    *ret = (struct client_reply){0};
    for (int i = 0; e == 0 && !is_last; i++)
        e = i < REPLY_LINES ? read_reply_line(c, ret, &is_last) : -EBADMSG;
    return e;
}

int client_line(struct client *c, struct str line, struct client_reply *ret)
{
    int e;

    note(c, ">>>", line);
    (void)writer_str(&c->writer, line);
    e = writer_text(&c->writer, "\r\n");
    return e < 0 ? e : client_reply(c, ret);
}

int client_command(struct client *c, struct client_reply *ret, const char *format, ...)
{
    _cleanup_buf_ struct buf line = BUF_INIT(LIMIT_LINE_SMTP - 2);
    va_list ap;
    int e;

    va_start(ap, format);
    e = buf_vprintf(&line, format, ap);
    va_end(ap);
    return e < 0 ? e : client_line(c, buf_str(&line), ret);
}

static void on_offer(void *context, struct str line)
{
    struct client *c = context;
    struct str word;

    if (!str_word(&line, &word))
        return;
    c->has_dsn |= str_ieq(word, STR("DSN"));
    c->has_8bit |= str_ieq(word, STR("8BITMIME"));
    c->has_utf8 |= str_ieq(word, STR("SMTPUTF8"));
    c->has_size |= str_ieq(word, STR("SIZE"));
}

static int greet(struct client *c, struct client_reply *ret)
{
    int e = client_reply(c, ret);

    if (e == 0 && !client_is_ok(ret))
        e = -EPROTO;
    if (e < 0)
        return e;
    c->on_line = on_offer;
    c->context = c;
    e = client_command(c, ret, "EHLO localhost");
    c->on_line = NULL;
    return e == 0 && !client_is_ok(ret) ? -EPROTO : e;
}

/* 421 before anything else (RFC 5321 4.5.4.1 lets us come again), or a super-server that closes what is too much. */
static bool is_busy(const struct client *c, int error, const struct client_reply *r)
{
    return !c->is_direct && (error == -EPROTO ? r->code == 421 : error == -ECONNRESET && r->code == 0);
}

int client_open(struct client *c, const struct conf *conf, FILE *transcript, struct client_reply *ret)
{
    int64_t end = clock_monotonic_ms() + CONNECT_SECONDS * INT64_C(1000);

    for (;;) {
        int e = client_connect(c, conf, false, transcript);

        *ret = (struct client_reply){0};
        if (e == 0)
            e = greet(c, ret);
        if (!is_busy(c, e, ret) || clock_monotonic_ms() >= end)
            return e;
        client_close(c);
        (void)poll(NULL, 0, AGAIN_MS);
    }
}

int client_text(struct client *c, struct str text, bool *at_start)
{
    int e = 0;

    while (text.len > 0 && e == 0) {
        struct str line;
        bool is_whole = str_cut(&text, '\n', &line);

        if (*at_start && line.len > 0 && line.ptr[0] == '.')
            (void)writer_text(&c->writer, ".");
        e = writer_str(&c->writer, line);
        if (is_whole)
            e = writer_text(&c->writer, "\r\n");
        *at_start = is_whole;
    }
    return e;
}
