/*
 * What the front (F) and the TLS process (T) may ask of the monitor. Runs in the monitor; every field is checked again.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/monitor_parts.h"
#include "shared/io/frame_types.h"

#define STARTTLS_TRIES 3 /* one succeeds; a certificate that is just being renewed may be missing for a moment */

/* ---- facts ---- */

/* What is offered now; the mechanisms are in `mechanisms`. */
static int find_offer(struct monitor *m, struct buf *mechanisms, struct monitor_offer *ret)
{
    struct str file;
    int r = monitor_mechanisms(m, mechanisms);

    if (r == 0)
        r = monitor_make_apop(m);
    /* Also where nothing could check a password: a client that is not asked for one does not send it in vain. */
    *ret = (struct monitor_offer){.can_tls = !m->is_tls && tls_check(m->conf, &file) == 0,
                                  .plaintext_allowed = str_has_word(buf_str(mechanisms), STR("PLAIN")),
                                  .mechanisms = buf_str(mechanisms)};
    return r;
}

int monitor_greet(struct monitor *m)
{
    _cleanup_buf_ struct buf mechanisms = BUF_INIT(256);
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_LINE_PREAUTH);
    struct monitor_offer offer;
    int r = 0;

    if (!m->protocol->greet || m->is_greeted)
        return 0;
    r = find_offer(m, &mechanisms, &offer);
    if (r == 0)
        r = m->protocol->greet(m, &offer, &text);
    if (r < 0)
        return r;
    /* The first bytes in an empty buffer: there is room. If it is said to nobody the front finds that the client is
     * gone. */
    (void)send(m->connection, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    m->is_greeted = true;
    return 0;
}

/* Certificates are renewed by programs: that one is missing must not go unnoticed. */
static void report_certificates(const struct monitor *m)
{
    struct str file;
    int r = m->is_tls || m->real.kind != PEER_INET ? 0 : tls_check(m->conf, &file);

    if (r < 0 && r != -ENODATA)
        LOG_ERROR(LOG_WARNING, "TLS not offered", r, LOG_F("file", file), LOG_FC("service", m->protocol->service),
                  LOG_FC("host", m->peer.address));
}

int monitor_send_facts(struct monitor *m)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    _cleanup_buf_ struct buf mechanisms = BUF_INIT(256);
    _cleanup_buf_ struct buf capabilities = BUF_INIT(LIMIT_LINE_PREAUTH);
    struct monitor_offer offer;
    int r;

    monitor_auth_ahead(m);
    r = monitor_greet(m);
    if (r == 0)
        r = find_offer(m, &mechanisms, &offer);
    if (r == 0 && m->protocol->capabilities)
        r = m->protocol->capabilities(m, &offer, &capabilities);
    report_certificates(m);
    frame_begin(&f, FRAME_LOGIN_START);
    if (r < 0 || (r = frame_put_str(&f, str_from(m->peer.address))) < 0 ||
        (r = frame_put_str(&f, str_from(m->peer.local))) < 0 || (r = frame_put_u32(&f, m->is_tls)) < 0 ||
        (r = frame_put_u32(&f, offer.can_tls)) < 0 || (r = frame_put_u32(&f, offer.plaintext_allowed)) < 0 ||
        (r = frame_put_str(&f, offer.mechanisms)) < 0 || (r = frame_put_str(&f, str_from(m->conf->hostname))) < 0 ||
        (r = frame_put_str(&f, str_from(m->apop))) < 0 || (r = frame_put_str(&f, buf_str(&capabilities))) < 0)
        return r;
    m->phase = MONITOR_OPEN;
    return monitor_tell_front(m, &f, -1);
}

/* ---- TLS ---- */

int monitor_start_tls(struct monitor *m)
{
    const char *what = "";
    int inner = -1;
    int r = tls_run_start(m->conf, m->connection, m->peer.address, m->protocol->alpn, &m->tls_child, &inner, &what);

    if (r < 0) {
        struct str file = STR("");

        if (tls_check(m->conf, &file) >= 0)
            file = STR(""); /* it was something else */
        LOG_ERROR(LOG_ERR, "TLS not started", r, LOG_FC("part", what), LOG_F("file", file),
                  LOG_FC("service", m->protocol->service), LOG_FC("host", m->peer.address));
        return r;
    }
    close_fd(&m->connection);
    m->connection = inner;
    m->phase = MONITOR_HANDSHAKE;
    return 0;
}

static int refuse(struct monitor *m, int error)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    frame_begin(&f, FRAME_REFUSED);
    if ((r = frame_put_u32(&f, (uint32_t)-error)) < 0 || (r = frame_put_str(&f, str_from(strerror(-error)))) < 0)
        return r;
    return monitor_tell_front(m, &f, -1);
}

static int give_connection(struct monitor *m)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_TLS_STARTED);
    return monitor_tell_front(m, &f, m->connection);
}

static int on_starttls(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    struct str file;
    int r = frame_end(in);

    if (r < 0 || f->fd >= 0)
        return -EBADMSG;
    if (m->is_tls)
        return -EPERM;
    r = tls_check(m->conf, &file);
    if (r == 0)
        r = monitor_start_tls(m);
    return r < 0 ? refuse(m, r) : give_connection(m);
}

static int on_tls_facts(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    int r = tls_facts_read(f, &m->tls);

    (void)in;
    if (r < 0)
        return r;
    m->is_tls = true;
    return monitor_send_facts(m);
}

static int on_tls_failed(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    uint32_t is_ours = 0, number = 0;
    const char *known;
    struct str reason;

    (void)f;
    if (frame_get_u32(in, &is_ours) < 0 || frame_get_u32(in, &number) < 0 ||
        frame_get_str(in, LIMIT_FRAME, &reason) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    known = tls_reason(number);
    if (known)
        reason = str_from(known);
    LOG_EVENT(is_ours ? LOG_ERR : LOG_INFO, is_ours ? "TLS cannot be served" : "TLS handshake failed",
              LOG_F("reason", str_sub(reason, 0, LIMIT_NOTE)), LOG_FC("service", m->protocol->service),
              LOG_FC("host", m->peer.address));
    m->phase = MONITOR_END;
    return 0;
}

/* ---- notes and the proxy's word ---- */

static int on_note(void *context, struct frame *f, struct frame_reader *in)
{
    static const char *const events[] = {
        [NOTE_INJECTION] = "data sent behind STARTTLS",
        [NOTE_WRONG_PROTOCOL] = "wrong protocol",
        [NOTE_BAD_COMMANDS] = "too many bad commands",
        [NOTE_TIMEOUT] = "client timed out",
        [NOTE_TLS_CLOSED] = "TLS closed",
        [NOTE_CERTIFICATE] = "TLS certificate is not valid now",
    };
    struct monitor *m = context;
    uint32_t event = 0;
    struct str text;

    (void)f;
    if (frame_get_u32(in, &event) < 0 || frame_get_str(in, LIMIT_NOTE, &text) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    if (event == 0 || event >= ARRAY_SIZE(events) || ++m->notes > LIMIT_NOTES)
        return -EPERM;
    LOG_EVENT(event == NOTE_INJECTION || event == NOTE_CERTIFICATE ? LOG_WARNING : LOG_INFO, events[event],
              LOG_F("text", text), LOG_FC("service", m->protocol->service), LOG_FC("host", m->peer.address));
    return 0;
}

static int on_proxy(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    struct str client;
    struct str local;
    uint32_t client_port = 0;
    uint32_t local_port = 0;
    int r = 0;

    (void)f;
    if (frame_get_str(in, LIMIT_ADDRESS, &client) < 0 || frame_get_u32(in, &client_port) < 0 ||
        frame_get_str(in, LIMIT_ADDRESS, &local) < 0 || frame_get_u32(in, &local_port) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    if (client.len > 0) {
        if (client_port > UINT16_MAX || local_port > UINT16_MAX ||
            peer_from_text(client, (uint16_t)client_port, local, (uint16_t)local_port, &m->peer) < 0) {
            LOG_EVENT(LOG_INFO, "wrong protocol", LOG_FC("text", "no address in the PROXY header"),
                      LOG_F("client", client), LOG_FC("service", m->protocol->service),
                      LOG_FC("host", m->real.address));
            m->phase = MONITOR_END;
            return 0;
        }
        /* Loopback is what the kernel says, never what somebody tells. */
        m->peer.is_loopback = false;
    }
    if (!m->is_implicit_tls)
        return monitor_send_facts(m);
    r = monitor_start_tls(m);
    return r < 0 ? r : give_connection(m);
}

#define ANY_PHASE                                                                                                      \
    (MONITOR_IN(MONITOR_PROXY) | MONITOR_IN(MONITOR_HANDSHAKE) | MONITOR_IN(MONITOR_OPEN) | MONITOR_IN(MONITOR_AUTH) | \
     MONITOR_IN(MONITOR_WAIT) | MONITOR_IN(MONITOR_DONE))

#define ATTEMPT_PHASES (MONITOR_IN(MONITOR_AUTH) | MONITOR_IN(MONITOR_WAIT) | MONITOR_IN(MONITOR_OPEN))

const struct permit MONITOR_FRONT[] = {
    {FRAME_PROXY, 1, MONITOR_IN(MONITOR_PROXY), on_proxy},
    {FRAME_STARTTLS, STARTTLS_TRIES, MONITOR_IN(MONITOR_OPEN), on_starttls},
    {FRAME_AUTH_START, LIMIT_AUTH_TRIES, MONITOR_IN(MONITOR_OPEN), monitor_auth_start},
    /* These two may cross the failure of their attempt on the way: then they are ignored. */
    {FRAME_AUTH_RESPONSE, 64, ATTEMPT_PHASES, monitor_auth_response},
    {FRAME_AUTH_CANCEL, LIMIT_AUTH_TRIES, ATTEMPT_PHASES, monitor_auth_cancel},
    {FRAME_NOTE, 0, ANY_PHASE, on_note},
};
const size_t MONITOR_FRONT_ROWS = ARRAY_SIZE(MONITOR_FRONT);

const struct permit MONITOR_TLS[] = {
    {FRAME_TLS_FACTS, 1, MONITOR_IN(MONITOR_HANDSHAKE), on_tls_facts},
    {FRAME_TLS_FAILED, 1, MONITOR_IN(MONITOR_HANDSHAKE), on_tls_failed},
    {FRAME_NOTE, 0, ANY_PHASE, on_note},
};
const size_t MONITOR_TLS_ROWS = ARRAY_SIZE(MONITOR_TLS);
