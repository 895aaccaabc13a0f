/*
 * Login attempts: starting A, carrying messages between it and the front, delaying failures, believing a success. Runs
 * in the monitor. A decides who somebody is, and looks the account up; the monitor decides whether that may be tried,
 * and whether such an account may have a session.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/monitor_parts.h"
#include "shared/gate/throttle.h"
#include "shared/io/frame_types.h"

#define MECHANISM_MAX 20   /* RFC 4422 3.1 */
#define AUTH_LEAVE    1000 /* ms */
#define AHEAD_MS      5000 /* that A waits for an attempt: programs log in at once, and who types has the time */
#define LAST_WORDS_MS 10000
#define HANDOVER_MS   30000 /* from a login to the hand-over: with SCRAM the client has an empty response to send yet */

/* Seconds from the start of an attempt to the answer that it failed: guessing gets slower, a typing mistake does not
 * hurt, and the time says nothing about whether the user exists. */
static const int DELAYS[LIMIT_AUTH_TRIES + 1] = {0, 2, 4, 8};

/* ---- failure ---- */

/* Makes the answer and holds it back until its time. */
static int hold_failure(struct monitor *m, uint32_t class, struct str text, int delay)
{
    int r = 0;

    frame_begin(&m->held, FRAME_AUTH_FAILED);
    if ((r = frame_put_u32(&m->held, m->attempt)) < 0 || (r = frame_put_u32(&m->held, class)) < 0 ||
        (r = frame_put_str(&m->held, text)) < 0 || (r = frame_put_str(&m->held, STR_NULL)) < 0 ||
        (r = frame_put_str(&m->held, STR_NULL)) < 0)
        return r;
    m->phase = MONITOR_WAIT;
    m->release = m->attempt_started + delay * INT64_C(1000);
    return 0;
}

/* The line that fail2ban reads: its form is a contract. A name is one word there, whatever the client called itself. */
static void log_failure(const struct monitor *m, struct str user)
{
    char host[LIMIT_ADDRESS + 2];
    char name[LIMIT_USER];
    size_t len = user.len < sizeof(name) ? user.len : sizeof(name);

    for (size_t i = 0; i < len; i++)
        name[i] = user.ptr[i] > ' ' && user.ptr[i] <= '~' && user.ptr[i] != '=' ? user.ptr[i] : '?';
    (void)snprintf(host, sizeof(host), "[%s]", m->peer.address);
    LOG_EVENT(LOG_NOTICE, "Login failed", LOG_F("user", ((struct str){name, len})),
              LOG_F("auth", ((struct str){name, len})), LOG_FC("host", host));
}

/* Seconds for which whatever A said is held back: what others have tried before counts too. Our own machine's address
 * stands for many clients (a webmail), so there only the user counts. */
static int penalty(struct monitor *m, struct str user, bool is_failure)
{
    if (m->throttle < 0)
        m->throttle = throttle_open(m->conf);
    return (int)throttle_delay(&m->throttle, m->peer.is_loopback ? "" : m->peer.address, user, is_failure, time(NULL));
}

static int fail(struct monitor *m, uint32_t class, struct str text, struct str user, struct str reason)
{
    bool is_guess = class == AUTH_CLASS_CREDENTIALS || class == AUTH_CLASS_DENIED || class == AUTH_CLASS_EXPIRED;
    int delay = class == AUTH_CLASS_CANCELLED ? 0 : DELAYS[m->attempt];
    int more = 0;

    if (m->protocol->failed)
        m->protocol->failed(m);
    /* A password that was right, although it does not lead in, is no faster known than a wrong one. */
    if (is_guess || class == AUTH_CLASS_AUTHORIZATION || class == AUTH_CLASS_TEMPORARY)
        more = penalty(m, user, is_guess);
    delay = more > delay ? more : delay;
    if (is_guess)
        log_failure(m, user);
    LOG_EVENT(class == AUTH_CLASS_TEMPORARY ? LOG_ERR : LOG_INFO, "login refused", LOG_F("reason", reason),
              LOG_F("user", user), LOG_FC("mechanism", m->mechanism), LOG_FC("service", m->protocol->service),
              LOG_FC("host", m->peer.address));
    if (m->front.control < 0) { /* the client did not wait for the answer */
        m->phase = MONITOR_END;
        return 0;
    }
    return hold_failure(m, class, text, delay);
}

void monitor_auth_abandon(struct monitor *m)
{
    m->awaits_client = false;
    m->is_cancelled = true;
    (void)shutdown(m->auth.control, SHUT_WR);
    m->auth_deadline = clock_monotonic_ms() + AUTH_LEAVE;
}

int monitor_auth_leave(const struct monitor *m)
{
    return m->conf->pam_session ? TIMEOUT_PAM_CLOSE * 1000 : AUTH_LEAVE;
}

static int cancelled(struct monitor *m)
{
    (void)chain_end(&m->auth, monitor_auth_leave(m));
    return fail(m, AUTH_CLASS_CANCELLED, STR("Authentication cancelled"), STR_NULL, STR("cancelled by the client"));
}

int monitor_auth_lost(struct monitor *m, const char *reason)
{
    if (m->is_cancelled)
        return cancelled(m);
    (void)chain_end(&m->auth, m->conf->pam_session ? monitor_auth_leave(m) : 0);
    return fail(m, AUTH_CLASS_TEMPORARY, STR("Temporary authentication failure"), STR_NULL, str_from(reason));
}

/* ---- the front's frames ---- */

static bool is_mechanism_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!ascii_is_alpha(s.ptr[i]) && !ascii_is_digit(s.ptr[i]) && s.ptr[i] != '-' && s.ptr[i] != '_')
            return false;
    return s.len > 0 && s.len <= MECHANISM_MAX;
}

/* APOP is no SASL mechanism: it can succeed where a challenge was made. */
static bool is_offered(const struct monitor *m, struct str mechanism)
{
    _cleanup_buf_ struct buf list = BUF_INIT(256);

    if (str_eq(mechanism, STR("APOP")))
        return m->apop[0] != '\0';
    return monitor_mechanisms(m, &list) == 0 && str_has_word(buf_str(&list), mechanism);
}

static struct str bytes(const uint8_t *data, size_t len)
{
    return (struct str){(const char *)data, len};
}

static int send_request(struct monitor *m, struct str initial, uint32_t has_initial)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    const struct tls_facts *t = &m->tls;
    int r = 0;

    frame_begin(&f, FRAME_AUTH_REQUEST);
    if ((r = frame_put_u32(&f, m->attempt)) < 0 || (r = frame_put_str(&f, str_from(m->protocol->service))) < 0 ||
        (r = frame_put_str(&f, str_from(m->mechanism))) < 0 || (r = frame_put_str(&f, initial)) < 0 ||
        (r = frame_put_u32(&f, has_initial)) < 0 || (r = frame_put_str(&f, str_from(m->peer.address))) < 0 ||
        (r = frame_put_str(&f, str_from(m->apop))) < 0 || (r = frame_put_u32(&f, m->is_tls)) < 0 ||
        (r = frame_put_str(&f, bytes(t->exporter, t->exporter_len))) < 0 ||
        (r = frame_put_str(&f, bytes(t->end_point, t->end_point_len))) < 0 ||
        (r = frame_put_str(&f, str_from(t->subject))) < 0)
        return r;
    return frame_send(m->auth.control, &f, -1);
}

/* Each message of an exchange has its time; how many there are, and the login as a whole, is limited elsewhere. */
static void await(struct monitor *m)
{
    m->auth_deadline = clock_monotonic_ms() + TIMEOUT_AUTH * INT64_C(1000);
}

static int spawn_auth(struct monitor *m, bool is_ahead)
{
    struct chain_spec spec = {CHAIN_SPEC("auth"), .conf = m->conf, .has_control = true, .is_reaper = true};

    if (is_ahead) {
        spec.arguments[0] = "--ahead";
        spec.arguments[1] = m->protocol->service;
    }
    return chain_spawn(&spec, &m->auth);
}

void monitor_auth_ahead(struct monitor *m)
{
    if (m->auth.pid > 0 || m->attempt > 0 || !m->protocol->is_for_login || !priv_is_root() ||
        !monitor_allows_plaintext(m))
        return;
    /* Who guesses is not served faster, and must not cost more than he has to. */
    if (!m->peer.is_loopback && penalty(m, STR_NULL, false) > 0)
        return;
    if (spawn_auth(m, true) == 0)
        m->ahead_until = clock_monotonic_ms() + AHEAD_MS;
}

/* It has called no module yet: there is nothing to wait for, and nothing below it. */
void monitor_auth_dismiss(struct monitor *m)
{
    m->ahead_until = 0;
    m->auth.is_reaper = false;
    (void)chain_end(&m->auth, 0);
}

static int start_auth(struct monitor *m, struct str initial, uint32_t has_initial)
{
    bool was_ahead = m->ahead_until > 0;
    int r = was_ahead ? 0 : spawn_auth(m, false);

    m->ahead_until = 0;
    if (r == 0)
        r = send_request(m, initial, has_initial);
    if (r < 0)
        return monitor_auth_lost(m, strerror(-r));
    m->phase = MONITOR_AUTH;
    m->awaits_client = m->is_cancelled = false;
    await(m);
    if (m->throttle < 0) /* it will be looked at: now there is time */
        m->throttle = throttle_open(m->conf);
    if (was_ahead && m->protocol->asked)
        m->protocol->asked(m);
    return 0;
}

/* What the session is to get if nothing is asked meanwhile. */
static int keep_ahead(struct monitor *m, bool is_ready, struct str unread, struct str left)
{
    int r = 0;

    buf_wipe_finish(&m->unread); /* a later password may be in it */
    m->unread.max = LIMIT_UNREAD;
    buf_clear(&m->left);
    m->is_ready = is_ready;
    r = buf_add_str(&m->unread, unread);
    return r < 0 ? r : buf_add_str(&m->left, left);
}

int monitor_auth_start(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    uint32_t attempt = 0;
    bool has_initial = false, is_ready = false;
    struct str mechanism, initial, unread, left;
    int r = 0;

    (void)in;
    if (frame_take(f, FRAME_TO_U32(&attempt, UINT32_MAX), FRAME_TO_STR(&mechanism, MECHANISM_MAX),
                   FRAME_TO_STR(&initial, LIMIT_SASL), FRAME_TO_BOOL(&has_initial), FRAME_TO_BOOL(&is_ready),
                   FRAME_TO_STR(&unread, LIMIT_UNREAD), FRAME_TO_STR(&left, LIMIT_NOTE)) < 0 ||
        !is_mechanism_name(mechanism))
        return -EBADMSG;
    if (attempt <= m->attempt || attempt > LIMIT_AUTH_TRIES) /* the front may have refused some by itself */
        return -EPERM;
    m->attempt = attempt;
    m->attempt_started = clock_monotonic_ms();
    for (size_t i = 0; i < mechanism.len; i++)
        m->mechanism[i] = ascii_upper(mechanism.ptr[i]);
    m->mechanism[mechanism.len] = '\0';
    r = keep_ahead(m, is_ready, unread, left);
    if (r < 0)
        return r;
    if (!is_offered(m, str_from(m->mechanism)))
        return fail(m, AUTH_CLASS_MECHANISM, STR("Mechanism not available"), STR_NULL, STR("mechanism not offered"));
    return start_auth(m, initial, has_initial);
}

/* Attempt number and nothing else wrong; 1: it belongs to an attempt that is over. */
static int check_attempt(const struct monitor *m, uint32_t attempt)
{
    if (attempt != m->attempt)
        return -EPERM;
    return m->phase == MONITOR_AUTH && !m->is_cancelled ? 0 : 1;
}

int monitor_auth_response(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    uint32_t attempt = 0;
    struct str response;
    int r = 0;

    if (frame_get_u32(in, &attempt) < 0 || frame_get_str(in, LIMIT_SASL, &response) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    r = check_attempt(m, attempt);
    if (r != 0)
        return r < 0 ? r : 0;
    m->awaits_client = false;
    await(m);
    r = frame_send(m->auth.control, f, -1);
    return r == -EPIPE ? 0 : r; /* its end of file tells the loop */
}

int monitor_auth_cancel(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    uint32_t attempt = 0;
    int r = 0;

    (void)f;
    if (frame_get_u32(in, &attempt) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    r = check_attempt(m, attempt);
    if (r != 0)
        return r < 0 ? r : 0;
    monitor_auth_abandon(m);
    return 0;
}

/* ---- auth's frames ---- */

static int on_challenge(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    uint32_t attempt = 0;
    struct str challenge;

    if (frame_get_u32(in, &attempt) < 0 || frame_get_str(in, LIMIT_SASL, &challenge) < 0 || frame_end(in) < 0 ||
        attempt != m->attempt)
        return -EBADMSG;
    if (m->is_cancelled)
        return 0;
    m->is_ready = false;
    m->awaits_client = true;
    await(m);
    if (m->front.control >= 0)
        return monitor_tell_front(m, f, -1);
    monitor_auth_abandon(m);
    return 0;
}

static int on_failed(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    uint32_t attempt = 0;
    uint32_t class = 0;
    struct str text;
    struct str user;
    struct str reason;

    (void)f;
    if (frame_get_u32(in, &attempt) < 0 || frame_get_u32(in, &class) < 0 || frame_get_str(in, LIMIT_NOTE, &text) < 0 ||
        frame_get_str(in, LIMIT_NOTE, &user) < 0 || frame_get_str(in, LIMIT_NOTE, &reason) < 0 || frame_end(in) < 0 ||
        attempt != m->attempt || class < AUTH_CLASS_CREDENTIALS || class > AUTH_CLASS_CANCELLED)
        return -EBADMSG;
    /* A guess that was found wrong before the client cancelled stays one. */
    if (m->is_cancelled && class != AUTH_CLASS_CREDENTIALS)
        return cancelled(m);
    (void)chain_end(&m->auth, AUTH_LEAVE);
    return fail(m, class, text, user, reason);
}

/* May the session run as that account? */
static bool is_admissible(const struct monitor *m, const struct priv_user *u)
{
    return u->uid != 0 && u->gid != 0 && (priv_is_root() ? u->uid >= m->conf->min_uid : u->uid == geteuid());
}

static void log_login(const struct monitor *m)
{
    char host[LIMIT_ADDRESS + 2];

    (void)snprintf(host, sizeof(host), "[%s]", m->peer.address);
    LOG_EVENT(LOG_INFO, "Login", LOG_FC("user", m->user->name), LOG_FC("auth", m->user->name), LOG_FC("host", host),
              LOG_FC("service", m->protocol->service), LOG_FC("mechanism", m->mechanism),
              LOG_FC("tls", m->is_tls ? m->tls.version : "no"), LOG_FC("cipher", m->is_tls ? m->tls.cipher : "none"));
}

/* Sends the answer that is held and lets the session begin. */
static int admit(struct monitor *m)
{
    int r = 0;

    if (m->front.control < 0) {
        m->phase = MONITOR_END;
        return 0;
    }
    /* A ends by itself, or stays where it has a PAM session to close: nobody waits for it here. */
    m->phase = MONITOR_DONE;
    if (m->protocol->authenticated) {
        m->deadline = clock_monotonic_ms() + HANDOVER_MS;
        r = m->protocol->authenticated(m);
    }
    log_login(m); /* before the session has anything to say */
    if (r == 0)
        r = m->is_ready && m->protocol->ready ? m->protocol->ready(m) : monitor_tell_front(m, &m->held, -1);
    frame_finish(&m->held);
    return r;
}

/* A right guess takes as long as a wrong one where somebody has been guessing. */
static int hold_success(struct monitor *m, struct str messages, struct str final)
{
    int delay = penalty(m, str_from(m->user->name), false);
    int r = 0;

    frame_begin(&m->held, FRAME_AUTH_DONE);
    if ((r = frame_put_u32(&m->held, m->attempt)) < 0 ||
        (r = frame_put_str(&m->held, str_from(m->user->name))) < 0 || (r = frame_put_str(&m->held, messages)) < 0 ||
        (r = frame_put_str(&m->held, final)) < 0)
        return r;
    m->is_ready &= final.len == 0;
    if (delay == 0)
        return admit(m);
    m->phase = MONITOR_WAIT;
    m->release = m->attempt_started + delay * INT64_C(1000);
    return 0;
}

int monitor_auth_release(struct monitor *m)
{
    bool is_success = m->held.type == FRAME_AUTH_DONE;
    int r = is_success ? admit(m) : monitor_tell_front(m, &m->held, -1);

    frame_finish(&m->held);
    m->release = 0;
    if (is_success)
        return r;
    if (m->attempt < LIMIT_AUTH_TRIES)
        m->phase = MONITOR_OPEN;
    else /* the front says goodbye and leaves; nothing more is permitted */
        m->deadline = clock_monotonic_ms() + LAST_WORDS_MS;
    return r;
}

static int on_done(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    _cleanup_free_ struct priv_user *user = calloc(1, sizeof(*user));
    uint32_t attempt = 0, uid = 0, gid = 0;
    struct str name, messages, final, groups, home;
    int r = 0;

    (void)in;
    if (frame_take(f, FRAME_TO_U32(&attempt, m->attempt), FRAME_TO_STR(&name, LIMIT_USER),
                   FRAME_TO_STR(&messages, LIMIT_FRAME), FRAME_TO_STR(&final, LIMIT_SASL),
                   FRAME_TO_U32(&uid, UINT32_MAX), FRAME_TO_U32(&gid, UINT32_MAX), FRAME_TO_STR(&groups, LIMIT_FRAME),
                   FRAME_TO_STR(&home, LIMIT_PATHNAME)) < 0 ||
        attempt != m->attempt)
        return -EBADMSG;
    if (m->is_cancelled)
        return cancelled(m);
    r = user ? priv_user_make(user, name, home, uid, gid, groups) : -ENOMEM;
    if (r < 0)
        return r;
    if (!is_admissible(m, user)) {
        priv_user_finish(user);
        (void)chain_end(&m->auth, monitor_auth_leave(m));
        return fail(m, AUTH_CLASS_DENIED, STR("Account not available"), name, STR("not an account for mail"));
    }
    m->user = steal_ptr(user);
    m->deadline = 0;
    r = buf_add_str(&m->messages, messages);
    return r < 0 ? r : hold_success(m, messages, final);
}

const struct permit MONITOR_AUTH_ROWS[] = {
    {FRAME_AUTH_CHALLENGE, 64, MONITOR_IN(MONITOR_AUTH), on_challenge},
    {FRAME_AUTH_FAILED, 0, MONITOR_IN(MONITOR_AUTH), on_failed},
    {FRAME_AUTH_DONE, 1, MONITOR_IN(MONITOR_AUTH), on_done},
};
const size_t MONITOR_AUTH_ROW_COUNT = ARRAY_SIZE(MONITOR_AUTH_ROWS);
