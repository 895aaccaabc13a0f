/*
 * The login stage's life: confinement, one command after the other, hand-over. Own uid, empty root, no
 * capabilities, seccomp; libc only. It may read and write the client's connection and the monitor's socket.
 */
#include "shared/login/login.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

#include "shared/base/clock.h"
#include "shared/base/macros.h"
#include "shared/io/frame.h"

#define CONTROL_FD   3
#define WRITE_WAIT   30 /* seconds that a client may not read before login */
#define TIMEOUT_MS   (TIMEOUT_PREAUTH * 1000)

static void set_connection(struct login *l, int fd)
{
    l->connection = fd;
    l->transport.rfd = fd;
    l->transport.wfd = fd;
}

static void init(struct login *l, const struct login_protocol *p, int control, int connection)
{
    *l = (struct login){.protocol = p,
                        .control = control,
                        .user = BUF_INIT(LIMIT_USER),
                        .tag = BUF_INIT(LIMIT_NOTE),
                        .protocol_data = BUF_INIT(2 * LIMIT_NOTE)};
    transport_init(&l->transport, connection, connection, 0, WRITE_WAIT);
    l->transport.deadline = clock_monotonic_ms() + TIMEOUT_MS;
    writer_init(&l->out, &l->transport);
    line_reader_init(&l->in, &l->transport, &l->out, LINE_LENIENT, p->line_max);
    set_connection(l, connection);
}

static void finish(struct login *l)
{
    line_reader_finish(&l->in);
    writer_finish(&l->out);
    buf_finish(&l->user);
    buf_finish(&l->tag);
    buf_finish(&l->protocol_data);
}

int login_do_starttls(struct login *l, const char *go_ahead, const char *refused)
{
    int fd = -1;
    int r = l->facts.can_tls ? login_starttls(l->control, &l->in, &fd) : -EOPNOTSUPP;

    if (r == -EOPNOTSUPP) {
        (void)writer_text(&l->out, refused);
        return LOGIN_BAD;
    }
    if (r == -EPROTO)
        return LOGIN_LEAVE;
    if (r == 0) {
        (void)writer_text(&l->out, go_ahead);
        r = writer_flush(&l->out);
    }
    if (r < 0)
        return r;
    (void)close(l->connection);
    set_connection(l, fd);
    line_discard(&l->in);
    /* All that was known about the client is forgotten (RFC 9051 6.2.1, RFC 2595 4). */
    buf_clear(&l->user);
    return login_facts_receive(l->control, &l->connection, TIMEOUT_MS, &l->facts);
}

/* What is buffered goes out first: the monitor may take its time to answer. */
static int begin_attempt(struct login *l)
{
    l->attempts++;
    buf_clear(&l->protocol_data);
    if (l->protocol->leave)
        l->protocol->leave(l, &l->protocol_data);
    return writer_flush(&l->out);
}

#define AHEAD(l) ((struct sasl_ahead){&(l)->in, &(l)->protocol_data})

int login_try(struct login *l, struct str mechanism, struct str user, struct str secret)
{
    _cleanup_sasl_outcome_ struct sasl_outcome o = SASL_OUTCOME_INIT;
    int r = begin_attempt(l);

    if (r == 0)
        r = sasl_secret(l->control, l->attempts, AHEAD(l), mechanism, user, secret, &o);
    return r < 0 ? r : o.is_done ? LOGIN_DONE : l->protocol->conclude(l, &o);
}

static int send_challenge(void *context, struct str base64)
{
    struct login *l = context;

    (void)writer_text(&l->out, "+ ");
    (void)writer_str(&l->out, base64);
    return writer_text(&l->out, "\r\n");
}

/* The question goes out in any case: once the attempt is on its way nothing of ours may come behind the session's. */
static int read_response(void *context, struct str *ret_line)
{
    struct login *l = context;
    int r = writer_flush(&l->out);

    return r < 0 ? r : line_read(&l->in, ret_line);
}

int login_exchange(struct login *l, struct str arguments)
{
    _cleanup_sasl_outcome_ struct sasl_outcome o = SASL_OUTCOME_INIT;
    const struct sasl_client client = {.context = l, .challenge = send_challenge, .response = read_response};
    struct str mechanism, initial = STR_NULL;
    int r;

    if (str_cut(&arguments, ' ', &mechanism))
        initial = arguments;
    if (mechanism.len == 0 || (initial.ptr && initial.len == 0))
        return -EINVAL;
    r = begin_attempt(l);
    if (r == 0)
        r = sasl_exchange(l->control, l->attempts, AHEAD(l), str_from(l->facts.mechanisms), mechanism, initial, &client,
                          &o);
    return r < 0 ? r : o.is_done ? LOGIN_DONE : l->protocol->conclude(l, &o);
}

/* Browsers and scanners that were sent here (cross-protocol requests carry attacker-chosen lines). */
static bool is_foreign(struct str line)
{
    return str_ends(line, STR(" HTTP/1.0")) || str_ends(line, STR(" HTTP/1.1")) || str_istarts(line, STR("Host:")) ||
           str_starts(line, STR("\x16\x03"));
}

/* One line, or why there is none. An enum login_outcome or a negative errno that ends the connection without a word. */
static int serve_line(struct login *l)
{
    struct str line;
    int r = line_read(&l->in, &line);

    if (r == -ETIMEDOUT || r == -ENOBUFS)
        return l->protocol->complain(l, r);
    if (r == -EBADMSG || (r == 0 && is_foreign(line))) {
        login_note(l->control, NOTE_WRONG_PROTOCOL, r == 0 ? line : STR("NUL"));
        return LOGIN_LEAVE;
    }
    return r < 0 ? r : l->protocol->line(l, line);
}

static int serve(struct login *l)
{
    int r = LOGIN_OK;

    while (r == LOGIN_OK || r == LOGIN_BAD) {
        r = serve_line(l);
        l->bad = r == LOGIN_BAD ? l->bad + 1 : 0;
        if (l->bad >= LIMIT_BAD_COMMANDS) {
            login_note(l->control, NOTE_BAD_COMMANDS, STR_NULL);
            r = l->protocol->complain(l, -E2BIG);
        }
    }
    if (writer_flush(&l->out) < 0 && r >= 0)
        r = -EPIPE;
    return r;
}

int login_run(const struct login_protocol *p, int control, int connection)
{
    struct login l;
    int r = 0;

    init(&l, p, control, connection);
    r = login_facts_receive(l.control, &l.connection, TIMEOUT_MS, &l.facts);
    if (r == 0) {
        set_connection(&l, l.connection);
        r = serve(&l);
    }
    if (r == LOGIN_DONE) /* and the monitor has asked something meanwhile */
        r = frame_say(control, FRAME_HANDOVER, -1, FRAME_STR(line_buffered(&l.in)),
                      FRAME_STR(buf_str(&l.protocol_data)));
    close_fd(&l.connection);
    finish(&l);
    /* A client that goes away or times out is no failure of ours; a monitor that speaks nonsense is. */
    return r == -EBADMSG || r == -ENOBUFS || r == -ENOMEM ? EX_SOFTWARE : 0;
}

int login_main(const struct login_protocol *p)
{
    struct pollfd control = {.fd = CONTROL_FD};
    int r;

    (void)close(STDOUT_FILENO); /* the same socket as fd 0 */
    r = login_run(p, CONTROL_FD, STDIN_FILENO);
    /* The end of a process takes time of a processor. Those who answer the client come first: the monitor closes its
     * side when the session has the connection. */
    (void)shutdown(CONTROL_FD, SHUT_WR);
    (void)poll(&control, 1, LOGIN_PAUSE_MS);
    return r;
}
