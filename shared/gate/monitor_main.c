/*
 * main() of imap and pop3: everything from the first system call to the hand-over to session and keeper. Runs as root
 * under a super-server; as the invoking user it only tries things out.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
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

#define UNNEEDED_MS 50    /* that a session may take for its beginning */
#define AUTH_END_MS 1000  /* that auth may take for the end of PAM; for a slower one the keeper waits */
#define UNKEPT_MS   10000 /* that it may take to leave when its socket is closed */

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

/* The session's program is loaded while A computes the hash of a password. It waits, and has neither the connection nor
 * a user, until somebody is logged in. */
static int spawn_session(struct monitor *m)
{
    struct own *own = m->own;
    const struct chain_spec spec = {CHAIN_SPEC(own->session), .conf = m->conf,      .has_control = true,
                                    .is_for_user = true,      .no_new_privs = true, .dies_with_us = true};

    return own->family.session.pid > 0 ? 0 : chain_spawn(&spec, &own->family.session);
}

/* Where it cannot be started it is tried once more when it is needed. */
static void load_session(struct monitor *m)
{
    (void)spawn_session(m);
}

/* Who has failed has no use for it: nothing of root's waits for a stranger longer than he is being looked at. */
static void unload_session(struct monitor *m)
{
    struct own *own = m->own;

    (void)chain_end(&own->family.session, 0);
}

/* The beginning of the session has the processors to itself, until it needs the keeper or is over. Then front and A may
 * pack up. With a PAM session to close A stays; without it is on its way out, if its modules let it. */
static void pack_up(struct monitor *m)
{
    struct own *own = m->own;
    struct pollfd p = {.fd = own->family.session.control, .events = POLLIN};

    if (!own->is_handed_over)
        return;
    (void)poll(&p, 1, UNNEEDED_MS);
    if (m->auth.control >= 0 && !m->conf->pam_session)
        (void)shutdown(m->auth.control, SHUT_WR);
    if (m->auth.pid > 0 && !chain_is_over(&m->auth, m->conf->pam_session ? 0 : AUTH_END_MS))
        own->family.auth = steal_child(&m->auth);
}

/* The session takes the connection over. */
static int hand_over(struct monitor *m, struct str unread, struct str protocol)
{
    struct own *own = m->own;
    int r = 0;

    keeper_hold_stop();
    r = send_start(m, own->family.session.control, unread, protocol);
    if (r < 0 && r != -EPIPE) /* a session that is gone already is missed as one that goes later */
        return r;
    close_fd(&m->connection);
    own->is_handed_over = true;
    own->family.tls = steal_child(&m->tls_child);
    m->phase = MONITOR_END;
    return 0;
}

/* It becomes the user, then waits for what hand_over() sends it. */
static int start_session(struct monitor *m)
{
    struct own *own = m->own;
    const struct priv_user *u = m->user;
    int r = spawn_session(m);

    if (r == 0)
        r = frame_say(own->family.session.control, FRAME_SESSION_USER, m->connection, FRAME_U32((uint32_t)getpid()),
                      FRAME_U32(u->uid), FRAME_U32(u->gid), FRAME_STR(priv_user_groups(u)));
    return r == -EPIPE ? 0 : r; /* one that is gone already is missed as one that goes later */
}

static int on_ready(struct monitor *m)
{
    return hand_over(m, buf_str(&m->unread), buf_str(&m->left));
}

/* The front's last frame, where the client was asked for something after it had begun its attempt. */
static int on_handover(void *context, struct frame *f, struct frame_reader *in)
{
    struct str unread, protocol;

    (void)in;
    if (frame_take(f, FRAME_TO_STR(&unread, LIMIT_UNREAD), FRAME_TO_STR(&protocol, LIMIT_NOTE)) < 0)
        return -EBADMSG;
    return hand_over(context, unread, protocol);
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

/* The session is over, it never asked for anything, and nobody else is left: who only looks whether there is mail needs
 * no keeper at all, whose start is a tenth of what such a connection costs. One that was killed has a keeper, which
 * mends what it left. */
static bool is_over_unkept(const struct keeper_family *family)
{
    char byte;

    return family->tls.pid == 0 && family->auth.pid == 0 &&
           recv(family->session.control, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) == 0 &&
           chain_is_over(&family->session, UNKEPT_MS);
}

static int run_monitor(const struct monitor_protocol *p, const char *session, struct conf *conf,
                       const struct start *start, bool is_implicit_tls)
{
    struct monitor_protocol with_rows = *p;
    struct own own = {.session = session, .family = {CHAIN_CHILD_NONE, CHAIN_CHILD_NONE, CHAIN_CHILD_NONE}};
    int64_t began = clock_monotonic_ms();
    struct monitor m;
    bool is_over;
    int status, r;

    with_rows.rows = ROWS;
    with_rows.row_count = ARRAY_SIZE(ROWS);
    with_rows.asked = load_session;
    with_rows.failed = unload_session;
    with_rows.authenticated = start_session;
    with_rows.ready = on_ready;
    with_rows.leaving = pack_up;
    with_rows.is_for_login = true;
    monitor_init(&m, &with_rows, conf, start, is_implicit_tls);
    m.own = &own;
    r = monitor_run(&m);
    if (!own.is_handed_over)
        log_end(&m, began);
    is_over = own.is_handed_over && is_over_unkept(&own.family);
    if (own.is_handed_over && !is_over) {
        r = keeper_exec(p->service, conf, m.user, &own.family);
        LOG_ERROR(LOG_ERR, "keeper not started", r, LOG_FC("service", p->service));
    }
    status = chain_end(&own.family.session, 0); /* it has left, or nobody handed it the connection or keeps it */
    if (is_over && status > 0 && chain_has_failed(status))
        r = keeper_part_failed("session", status, m.user->name);
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
        return r == START_GONE ? 0 : r;
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
