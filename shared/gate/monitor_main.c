/*
 * main() of imap and pop3: everything from the first system call to the hand-over to session and keeper. Runs as root
 * under a super-server; as the invoking user it only tries things out.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/keeper.h"
#include "shared/gate/monitor.h"
#include "shared/gate/session.h"
#include "shared/io/frame_types.h"

/* The protocol's own state of struct monitor. */
struct own {
    const char *session;         /* program */
    struct keeper_family family; /* who is left after the hand-over */
    bool is_handed_over;
};

static struct chain_child steal_child(struct chain_child *child)
{
    struct chain_child c = *child;

    *child = CHAIN_CHILD_NONE;
    return c;
}

static int send_start(const struct monitor *m, int control, struct str unread, struct str protocol)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    char tls[sizeof(m->tls.version) + sizeof(m->tls.cipher) + 1] = "";
    int r = 0;

    if (m->is_tls)
        (void)snprintf(tls, sizeof(tls), "%s %s", m->tls.version, m->tls.cipher);
    frame_begin(&f, FRAME_SESSION_START);
    if ((r = frame_put_str(&f, str_from(m->user->name))) < 0 || (r = frame_put_str(&f, str_from(m->user->home))) < 0 ||
        (r = frame_put_str(&f, str_from(m->peer.address))) < 0 ||
        (r = frame_put_str(&f, str_from(m->peer.local))) < 0 || (r = frame_put_u32(&f, m->is_tls)) < 0 ||
        (r = frame_put_str(&f, str_from(tls))) < 0 || (r = frame_put_str(&f, unread)) < 0 ||
        (r = frame_put_str(&f, protocol)) < 0 || (r = frame_put_str(&f, buf_str(&m->messages))) < 0)
        return r;
    return frame_send(control, &f, -1);
}

/* Starts the session while the front still packs up; it waits for what on_handover() sends it. */
static int start_session(struct monitor *m)
{
    struct own *own = m->own;
    struct chain_spec spec = {CHAIN_SPEC(own->session), .conf = m->conf,      .has_control = true,
                              .user = m->user,          .no_new_privs = true, .dies_with_us = true};

    spec.fds[0] = spec.fds[1] = m->connection;
    return chain_spawn(&spec, &own->family.session);
}

/* The front's last frame: the session takes the connection over. */
static int on_handover(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    struct own *own = m->own;
    struct str unread;
    struct str protocol;
    int r = 0;

    (void)f;
    if (frame_get_str(in, LIMIT_FRAME, &unread) < 0 || frame_get_str(in, LIMIT_NOTE, &protocol) < 0 ||
        frame_end(in) < 0)
        return -EBADMSG;
    r = send_start(m, own->family.session.control, unread, protocol);
    if (r < 0)
        return r;
    close_fd(&m->connection);
    own->is_handed_over = true;
    own->family.tls = steal_child(&m->tls_child);
    if (m->conf->pam_session) /* else it is on its way out, and the monitor's to wait for */
        own->family.auth = steal_child(&m->auth);
    m->phase = MONITOR_END;
    return 0;
}

static const struct permit ROWS[] = {
    {FRAME_HANDOVER, 1, MONITOR_IN(MONITOR_DONE), on_handover},
};

/* The summary of a connection that came to no session, which would write its own. */
static void log_end(const struct monitor *m, int64_t began)
{
    char seconds[24];
    char attempts[16];

    (void)snprintf(seconds, sizeof(seconds), "%lld", (long long)(clock_monotonic_ms() - began) / 1000);
    (void)snprintf(attempts, sizeof(attempts), "%u", m->attempt);
    LOG_EVENT(LOG_INFO, "no login", LOG_FC("service", m->protocol->service), LOG_FC("host", m->peer.address),
              LOG_FC("tls", m->is_tls ? m->tls.version : "no"), LOG_FC("attempts", attempts),
              LOG_FC("seconds", seconds));
}

static int run_monitor(const struct monitor_protocol *p, const char *session, struct conf *conf,
                       const struct start *start, bool is_implicit_tls)
{
    struct monitor_protocol with_rows = *p;
    struct own own = {.session = session, .family = {CHAIN_CHILD_NONE, CHAIN_CHILD_NONE, CHAIN_CHILD_NONE}};
    int64_t began = clock_monotonic_ms();
    struct monitor m;
    int r = 0;

    with_rows.rows = ROWS;
    with_rows.row_count = ARRAY_SIZE(ROWS);
    with_rows.authenticated = start_session;
    monitor_init(&m, &with_rows, conf, start, is_implicit_tls);
    m.own = &own;
    r = monitor_run(&m);
    if (!own.is_handed_over)
        log_end(&m, began);
    if (own.is_handed_over) {
        r = keeper_exec(p->service, conf, m.user->name, &own.family);
        LOG_ERROR(LOG_ERR, "keeper not started", r, LOG_FC("service", p->service));
    }
    (void)chain_end(&own.family.session, 0); /* nobody handed it the connection, or nobody keeps it */
    monitor_finish(&m);
    return r < 0 ? EX_SOFTWARE : 0;
}

#define USAGE "[--tls] [-c FILE] [-o key=value]... [--epoch=SECONDS]"

int monitor_main(const struct monitor_protocol *p, const char *session, int argc, char **argv)
{
    _cleanup_conf_ struct conf conf = {0};
    struct start start;
    bool is_implicit_tls = false;
    int r = start_program(p->ident, &argc, argv, &conf, &start);

    if (r != 0)
        return r;
    if (argc > 1 && strcmp(argv[1], "--keeper") == 0)
        return keeper_main(&conf, argc, argv);
    if (start.is_connection && argc == 2 && strcmp(argv[1], "--tls") == 0)
        is_implicit_tls = true;
    else if (argc != 1)
        return start_usage(p->service, USAGE, &start);
    if (!start.is_connection)
        return start_exec_session(session, &conf, argc, argv);
    return run_monitor(p, session, &conf, &start, is_implicit_tls);
}
