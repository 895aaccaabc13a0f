/*
 * What the front learns from the monitor: the facts of the connection, and TLS. Runs in login stages and smtp-session.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/base/macros.h"
#include "shared/io/frame.h"
#include "shared/login/login.h"
#include "shared/login/proxy.h"

#define STARTTLS_TIMEOUT_MS 10000 /* the monitor only has to start a program */

static int get_text(struct frame_reader *in, char *out, size_t size)
{
    struct str s;
    int r = frame_get_str(in, size - 1, &s);

    if (r < 0)
        return r;
    if (s.len > 0)
        memcpy(out, s.ptr, s.len);
    out[s.len] = '\0';
    return 0;
}

static int get_bool(struct frame_reader *in, bool *ret)
{
    uint32_t n = 0;
    int r = frame_get_u32(in, &n);

    if (r < 0 || n > 1)
        return -EBADMSG;
    *ret = n == 1;
    return 0;
}

static int read_facts(const struct frame *f, struct login_facts *ret)
{
    struct frame_reader in = frame_read(f);
    struct login_facts facts = {0};

    if (get_text(&in, facts.peer, sizeof(facts.peer)) < 0 || get_text(&in, facts.local, sizeof(facts.local)) < 0 ||
        get_bool(&in, &facts.is_tls) < 0 || get_bool(&in, &facts.can_tls) < 0 ||
        get_bool(&in, &facts.plaintext_allowed) < 0 || get_text(&in, facts.mechanisms, sizeof(facts.mechanisms)) < 0 ||
        get_text(&in, facts.hostname, sizeof(facts.hostname)) < 0 ||
        get_text(&in, facts.apop, sizeof(facts.apop)) < 0 || frame_end(&in) < 0)
        return -EBADMSG;
    *ret = facts;
    return 0;
}

/* The old connection is the same number afterwards: fd 0 and 1 of a front are one socket. */
static int replace_connection(struct frame *f, int *connection)
{
    if (f->fd < 0 || f->payload.len != 0)
        return -EBADMSG;
    close_fd(connection);
    *connection = steal_fd(&f->fd);
    return 0;
}

void login_note(int control, enum note_event event, struct str text)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_NOTE);
    if (frame_put_u32(&f, event) == 0 && frame_put_str(&f, str_sub(text, 0, LIMIT_NOTE)) == 0)
        (void)frame_send(control, &f, -1);
}

/* What is no header is the proxy's fault, not the monitor's. */
static int take_proxy_header(int connection, int control, int timeout_ms)
{
    int r = proxy_serve(connection, control, timeout_ms);

    if (r != -EBADMSG)
        return r;
    login_note(control, NOTE_WRONG_PROTOCOL, STR("no PROXY header"));
    return -EPROTO;
}

int login_facts_receive(int control, int *connection, int timeout_ms, struct login_facts *ret)
{
    for (int i = 0; i < 3; i++) { /* PROXY_WANTED, TLS_STARTED, LOGIN_START */
        _cleanup_frame_ struct frame f = FRAME_INIT;
        int r = frame_recv(control, &f, timeout_ms);

        if (r < 0)
            return r;
        if (f.type == FRAME_LOGIN_START)
            return read_facts(&f, ret);
        if (f.type == FRAME_PROXY_WANTED)
            r = take_proxy_header(*connection, control, timeout_ms);
        else
            r = f.type == FRAME_TLS_STARTED ? replace_connection(&f, connection) : -EBADMSG;
        if (r < 0)
            return r;
    }
    return -EBADMSG;
}

/* Has the client sent anything behind the command? It must wait for our answer (RFC 2595 4, RFC 3207 4.2). */
static bool has_more_input(const struct line_reader *in)
{
    struct pollfd p = {.fd = in->transport->rfd, .events = POLLIN};
    char byte = 0;

    if (line_buffered(in).len > 0)
        return true;
    /* Readable and not at its end. */
    return poll(&p, 1, 0) > 0 && recv(p.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

int login_starttls(int control, struct line_reader *in, int *ret_fd)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    if (has_more_input(in)) {
        login_note(control, NOTE_INJECTION, line_buffered(in));
        return -EPROTO;
    }
    frame_begin(&f, FRAME_STARTTLS);
    r = frame_send(control, &f, -1);
    if (r == 0)
        r = frame_recv(control, &f, STARTTLS_TIMEOUT_MS);
    if (r < 0)
        return r;
    if (f.type == FRAME_REFUSED)
        return -EOPNOTSUPP;
    if (f.type != FRAME_TLS_STARTED || f.fd < 0 || f.payload.len != 0)
        return -EBADMSG;
    *ret_fd = steal_fd(&f.fd);
    return 0;
}
