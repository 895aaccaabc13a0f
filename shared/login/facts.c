/*
 * What the front learns from the monitor: the facts of the connection, and TLS. Runs in login stages and smtp-session.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/base/macros.h"
#include "shared/io/frame.h"
#include "shared/login/login.h"
#include "shared/login/proxy.h"

#define STARTTLS_TIMEOUT_MS 10000 /* the monitor only has to start a program */

static int read_facts(const struct frame *f, struct login_facts *ret)
{
    struct login_facts facts;
    struct str capabilities; /* of lines, so no text */
    int r = frame_take(f, FRAME_TO_TEXT(facts.peer), FRAME_TO_TEXT(facts.local), FRAME_TO_BOOL(&facts.is_tls),
                       FRAME_TO_BOOL(&facts.can_tls), FRAME_TO_BOOL(&facts.plaintext_allowed),
                       FRAME_TO_TEXT(facts.mechanisms), FRAME_TO_TEXT(facts.hostname), FRAME_TO_TEXT(facts.apop),
                       FRAME_TO_STR(&capabilities, sizeof(facts.capabilities) - 1));

    if (r < 0)
        return r;
    (void)snprintf(facts.capabilities, sizeof(facts.capabilities), "%.*s", STR_ARG(capabilities));
    *ret = facts;
    return 0;
}

void login_note(int control, enum note_event event, struct str text)
{
    (void)frame_say(control, FRAME_NOTE, -1, FRAME_U32(event), FRAME_STR(str_sub(text, 0, LIMIT_NOTE)));
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
        if (f.type == FRAME_PROXY_WANTED) {
            r = proxy_serve(*connection, control, timeout_ms);
            if (r < 0)
                return r;
        } else if (f.type == FRAME_TLS_STARTED && f.fd >= 0 && f.payload.len == 0) {
            close_fd(connection); /* then it is the same number: fd 0 and 1 of a front are one socket */
            *connection = steal_fd(&f.fd);
        } else {
            return -EBADMSG;
        }
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
    int r;

    if (has_more_input(in)) {
        login_note(control, NOTE_INJECTION, line_buffered(in));
        return -EPROTO;
    }
    r = frame_send_fields(control, FRAME_STARTTLS, -1, NULL, 0);
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
