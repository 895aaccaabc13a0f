/*
 * relay-courier's main: a job, one connection at a time, then perhaps another job. Runs as root (or, without an
 * installation, as the invoking user); parses frames only.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

#include "handlers/relay/courier.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/priv.h"

#define CONNECT_SECONDS 30               /* of one address: a host that is there answers in less than a second */
#define ADDRESSES_MAX   12               /* tried of one next hop in one run */
#define READY_MS        (45 * 60 * 1000) /* all the time-outs of a beginning that relay-session has */
#define SESSION_END_MS  8000

/* ---- one connection ---- */

/* A socket that is connected, or a negative errno. */
static int connect_to(const struct hop_address *a, uint16_t port, int timeout_ms)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    bool is_v6 = a->len == 16;
    _cleanup_close_ int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0, r;
    socklen_t len = sizeof(error);

    if (fd < 0)
        return -errno;
    memcpy(is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr, a->bytes, a->len);
    r = is_v6 ? connect(fd, (struct sockaddr *)&v6, sizeof(v6)) : connect(fd, (struct sockaddr *)&v4, sizeof(v4));
    if (r < 0 && errno != EINPROGRESS)
        return -errno;
    r = poll(&p, 1, timeout_ms);
    if (r <= 0)
        return r == 0 ? -ETIMEDOUT : -errno;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0)
        return error ? -error : -errno;
    (void)fcntl(fd, F_SETFL, 0);
    return steal_fd(&fd);
}

static int send_host(struct courier *c, const struct talk_host *h)
{
    _cleanup_close_ int trust = -1;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = talk_put_host(&f, h);

    if (r == 0 && h->tls == TALK_TLS_VERIFY) {
        trust = open(c->conf->tls_ca, O_RDONLY | O_CLOEXEC);
        if (trust < 0)
            LOG_ERROR(LOG_ERR, "no trusted authorities", errno, LOG_FC("file", c->conf->tls_ca));
    }
    return r < 0 ? r : frame_send(c->session.control, &f, trust);
}

/* Starts relay-session on the connection and waits until it has greeted. 0 with *ret, whatever its status. */
static int start_session(struct courier *c, int network, const struct talk_host *h, struct talk_ready *ret)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct chain_spec spec = {CHAIN_SPEC("relay-session"), .has_control = true, .dies_with_us = true};
    struct frame_reader in;
    int r;

    spec.fds[0] = network;
    r = chain_spawn(&spec, &c->session);
    if (r == 0)
        r = send_host(c, h);
    if (r == 0)
        r = frame_recv(c->session.control, &f, READY_MS);
    in = frame_read(&f);
    if (r == 0)
        r = f.type == FRAME_RELAY_READY ? talk_get_ready(&in, ret) : -EBADMSG;
    if (r < 0 || ret->status != TALK_READY)
        (void)chain_end(&c->session, r < 0 ? 0 : SESSION_END_MS);
    return r;
}

static int try_once(struct courier *c, const struct hop_address *a, const struct talk_host *h, struct talk_ready *ret)
{
    _cleanup_close_ int network =
        connect_to(a, (uint16_t)c->job.port, CONNECT_SECONDS * 10 * (int)c->job.percent + 1000);
    int r = network < 0 ? network : start_session(c, network, h, ret);

    if (network < 0)
        talk_reply_set(&c->last, TALK_GREETING, 421, "4.4.1", "cannot connect to %s port %u: %s", a->text, c->job.port,
                       strerror(-r));
    else if (r < 0)
        talk_reply_set(&c->last, TALK_GREETING, 421, "4.3.0", "relay-session failed: %s", strerror(-r));
    else
        c->last = ret->reply;
    return r;
}

/* RFC 7504 4: 521 and 556 are final, the host takes no mail at all. Any other refusal before MAIL is the host's trouble
 * and not the recipients': the mail waits. */
static void soften(struct talk_reply *r)
{
    if (r->code / 100 != 5 || r->is_ours || r->code == 521 || r->code == 556)
        return;
    r->code = 450;
    r->enhanced[0] = '4';
}

/* What a TLS report (RFC 8460 4) is made of: a line for each connection to a domain with a policy. */
static void log_policy(const struct courier *c, const struct talk_host *h, const struct talk_ready *ready)
{
    const char *type = h->tls == TALK_TLS_DANE ? "tlsa" : sts_policy_type(&c->sts);
    const char *result = "", *text = ready->reply.text;

    if (h->tls != TALK_TLS_DANE && !c->sts.is_found)
        return;
    if (ready->status == TALK_NO_TLS || (h->tls <= TALK_TLS_MAY && !ready->tls[0]))
        result = strstr(text, "expired")                                   ? STS_RESULT_EXPIRED
                 : strstr(text, "mismatch")                                ? STS_RESULT_HOST_MISMATCH
                 : strstr(text, "self-signed") || strstr(text, " issuer ") ? STS_RESULT_NOT_TRUSTED
                 : strstr(text, "handshake")                               ? STS_RESULT_VALIDATION
                                                                           : STS_RESULT_STARTTLS;
    LOG_EVENT(result[0] ? LOG_NOTICE : LOG_INFO, "tls-policy", LOG_FC("policy_type", type),
              LOG_FC("policy_domain", c->hops.domain), LOG_FC("policy_mode", sts_mode_name(c->sts.policy.mode)),
              LOG_FC("mx", c->last_host), LOG_FC("addr", c->last_address), LOG_FC("result_type", result));
}

/* RFC 8689 4.2.1: a host that does not know of REQUIRETLS gets a QUIT, and the next one is asked. */
static int demand_requiretls(struct courier *c, const struct talk_ready *ready)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    if (!c->job.is_requiretls || (ready->tls[0] && (ready->extensions & TALK_REQUIRETLS)))
        return 0;
    frame_begin(&f, FRAME_RELAY_QUIT);
    (void)frame_send(c->session.control, &f, -1);
    (void)chain_end(&c->session, SESSION_END_MS);
    talk_reply_set(&c->last, TALK_HELLO, 550, "5.7.30",
                   "the message demands TLS all the way (REQUIRETLS), which the server does not have");
    return -ECANCELED;
}

/* Tries an address with what TLS it must have, and again with less where less will do. */
static int try_policy(struct courier *c, const struct hop_host *host, const struct hop_address *a, struct talk_host *h,
                      struct talk_ready *ret)
{
    int r = try_once(c, a, h, ret);
    bool is_logged = r == 0 && c->is_trial && ret->status == TALK_NO_TLS;

    /* RFC 8461 5: with a policy that is only tested mail goes on as if it were not there. */
    if (is_logged) {
        log_policy(c, h, ret);
        h->tls = TALK_TLS_MAY;
        r = try_once(c, a, h, ret);
    }
    /* RFC 7435 4.1: opportunistic TLS that fails must not be worse than none. */
    if (r == 0 && ret->status == TALK_TLS_BAD && h->tls == TALK_TLS_MAY && !h->is_implicit) {
        LOG_EVENT(LOG_NOTICE, "tls-failed", LOG_FC("host", host->name), LOG_FC("addr", a->text),
                  LOG_FC("reason", ret->reply.text));
        h->tls = TALK_TLS_NONE;
        r = try_once(c, a, h, ret);
    }
    if (r == 0 && !is_logged)
        log_policy(c, h, ret);
    return r;
}

static int try_address(struct courier *c, const struct hop_host *host, const struct hop_address *a,
                       struct talk_ready *ret)
{
    _cleanup_buf_ struct buf names = BUF_INIT(TALK_NAMES * (LIMIT_DOMAIN + 1));
    struct talk_host h;
    struct dane dane;
    int r;

    (void)snprintf(c->last_host, sizeof(c->last_host), "%s", host->name);
    (void)snprintf(c->last_address, sizeof(c->last_address), "%s", a->text);
    r = courier_policy(c, host, &names, &dane, &h);
    if (r == 0)
        r = try_policy(c, host, a, &h, ret);
    if (r == 0 && ret->status != TALK_READY) {
        soften(&c->last);
        r = -ECANCELED;
    }
    return r < 0 ? r : demand_requiretls(c, ret);
}

/* The next address that has not been tried, NULL: there is none. */
static const struct hop_address *next_address(struct courier *c, const struct hop_host **ret_host)
{
    while (c->host < c->hops.count && c->tries < ADDRESSES_MAX) {
        const struct hop_host *host = &c->hops.hosts[c->host];

        if (c->address == host->count) {
            c->host++;
            c->address = 0;
            continue;
        }
        if (c->is_v4_only && host->addresses[c->address].len != 4) {
            c->address++;
            continue;
        }
        c->tries++;
        *ret_host = host;
        return &host->addresses[c->address++];
    }
    return NULL;
}

/* ---- relay's side ---- */

static int say_down(struct courier *c)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct job_down down = {str_from(c->last_host), str_from(c->last_address), c->last};
    int r = job_put_down(&f, &down);

    return r < 0 ? r : frame_send(COURIER_CONTROL, &f, -1);
}

static int say_up(struct courier *c, const struct talk_ready *ready)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct job_up up = {str_from(c->last_host), str_from(c->last_address), c->job.port, *ready};
    int r = job_put_up(&f, &up);

    return r < 0 ? r : frame_send(COURIER_CONTROL, &f, -1);
}

static int say_lost(const struct talk_reply *why)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r;

    frame_begin(&f, FRAME_RELAY_LOST);
    r = talk_put_reply(&f, why);
    return r < 0 ? r : frame_send(COURIER_CONTROL, &f, -1);
}

/* 1: there is a connection, 0: there is none and relay knows, or a negative errno. */
static int bring_up(struct courier *c)
{
    const struct hop_host *host = NULL;
    const struct hop_address *a;
    struct talk_ready ready;
    int r;

    while ((a = next_address(c, &host))) {
        if (try_address(c, host, a, &ready) == 0) {
            r = say_up(c, &ready);
            return r < 0 ? r : 1;
        }
        courier_weigh(c);
    }
    if (c->passing.code != 0)
        c->last = c->passing;
    if (c->last.code / 100 == 2) { /* the one that we had has broken, and that was all: nobody is known to be down */
        talk_reply_set(&c->last, TALK_DATA, 421, "4.4.2", "the connection ended, and there is no other address");
        return say_lost(&c->last);
    }
    return say_down(c);
}

static int session_ended(struct courier *c)
{
    struct talk_reply reply;
    char status[24];

    chain_status_text(chain_end(&c->session, 0), status);
    talk_reply_set(&reply, TALK_DATA, 421, "4.3.0", "relay-session ended: %s", status);
    LOG_EVENT(LOG_ERR, "relay-session ended", LOG_FC("status", status), LOG_FC("host", c->last_host));
    return say_lost(&reply);
}

/* What may go which way. relay checks the content again. */
static bool is_from_session(uint16_t type)
{
    return type == FRAME_RELAY_MORE || type == FRAME_RELAY_RESULT || type == FRAME_RELAY_DONE;
}

/* Another connection. 1, or a negative errno. */
static int again(struct courier *c, const struct frame *f)
{
    struct frame_reader in = frame_read(f);
    uint32_t how;
    int r;

    (void)chain_end(&c->session, SESSION_END_MS);
    if (frame_get_u32(&in, &how) < 0 || frame_end(&in) < 0 || how > JOB_AGAIN_V4)
        return -EBADMSG;
    if (how == JOB_AGAIN_SAME || (how == JOB_AGAIN_V4 && !c->is_v4_only))
        c->host = c->address = 0;
    if (how == JOB_AGAIN_SAME)
        c->tries = 0;
    c->is_v4_only |= how == JOB_AGAIN_V4;
    r = bring_up(c);
    return r < 0 ? r : 1;
}

/* A frame of relay's. 1: go on, 0: it was QUIT, or a negative errno, -ENODATA when relay is gone. */
static int from_relay(struct courier *c)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = frame_recv(COURIER_CONTROL, &f, COURIER_PATIENCE_MS);

    if (r < 0)
        return r;
    if (f.type == FRAME_RELAY_AGAIN)
        return again(c, &f);
    if (c->job.kind == JOB_LOCAL && f.type == FRAME_RELAY_MAIL) {
        r = courier_deliver(c, &f);
        return r < 0 ? r : 1;
    }
    if (f.type == FRAME_RELAY_QUIT && c->session.control >= 0)
        (void)frame_send(c->session.control, &f, -1);
    if (f.type == FRAME_RELAY_QUIT)
        return 0;
    if (f.type != FRAME_RELAY_MAIL && f.type != FRAME_RELAY_RCPT)
        return -EBADMSG;
    if (c->session.control < 0) /* relay has not heard yet that it is lost */
        return 1;
    r = frame_send(c->session.control, &f, f.fd);
    return r < 0 && r != -EPIPE ? r : 1; /* a session that has gone shows on its own side */
}

static int from_session(struct courier *c)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = frame_recv(c->session.control, &f, 0);

    if (r == 0 && is_from_session(f.type))
        r = frame_send(COURIER_CONTROL, &f, -1);
    else
        r = session_ended(c);
    return r < 0 ? r : 1;
}

static int carry(struct courier *c)
{
    int r = 1;

    while (r > 0) {
        struct pollfd p[2] = {{.fd = COURIER_CONTROL, .events = POLLIN}, {.fd = c->session.control, .events = POLLIN}};

        if (poll(p, 2, -1) < 0) {
            if (errno != EINTR)
                return -errno;
            continue;
        }
        if (p[1].revents)
            r = from_session(c);
        else if (p[0].revents)
            r = from_relay(c);
    }
    return r;
}

/* The connection of somebody who fetches his mail (ATRN): he is the server now. TLS, if there is any, has been put
 * around it by others. 1, 0 or a negative errno as bring_up(). */
static int turn(struct courier *c, struct talk_ready *ready)
{
    struct talk_host h = {
        .name = c->job.hop, .helo = str_from(c->conf->hostname), .tls = TALK_TLS_NONE, .percent = c->job.percent};
    int r = c->frame.fd < 0 ? -EBADMSG : start_session(c, c->frame.fd, &h, ready);

    if (r < 0)
        return r;
    (void)snprintf(c->last_host, sizeof(c->last_host), "%.*s", STR_ARG(c->job.hop));
    c->last = ready->reply;
    soften(&c->last);
    r = ready->status == TALK_READY ? say_up(c, ready) : say_down(c);
    /* There is no other one when this breaks. */
    talk_reply_set(&c->last, TALK_GREETING, 450, "4.4.2", "the mail waits until it is fetched again (ATRN)");
    return r < 0 ? r : ready->status == TALK_READY;
}

/* The way to the job's connection: there is one, or relay knows that there is none. 1 or 0, or a negative errno. */
static int begin(struct courier *c)
{
    struct talk_ready ready = {.status = TALK_READY};
    int r;

    talk_reply_set(&ready.reply, TALK_HELLO, 250, "2.0.0", "ready");
    if (c->job.kind == JOB_LOCAL) {
        r = say_up(c, &ready);
        return r < 0 ? r : 1;
    }
    if (c->job.kind == JOB_TURN)
        return turn(c, &ready);
    talk_reply_set(&c->last, TALK_GREETING, 450, "4.4.1", "no address of the host can be used");
    r = hop_self_find(c->conf, &c->self);
    if (r < 0)
        return r;
    return courier_find(c) < 0 ? say_down(c) : bring_up(c);
}

static void prepare(struct courier *c, struct conf *conf, const struct dns *dns)
{
    *c = (struct courier){.conf = conf, .dns = *dns, .frame = FRAME_INIT, .session = CHAIN_CHILD_NONE};
    postmen_init(&c->postmen, conf, priv_is_root());
}

/* Nothing of a job is left to the next one but the resolver. */
static void forget(struct courier *c)
{
    struct dns dns = c->dns;

    (void)chain_end(&c->session, SESSION_END_MS);
    postmen_finish(&c->postmen);
    hop_list_finish(&c->hops);
    frame_finish(&c->frame);
    dns.starts = 0;
    prepare(c, c->conf, &dns);
}

static int do_job(struct courier *c)
{
    struct frame_reader in;
    int r = frame_recv(COURIER_CONTROL, &c->frame, COURIER_PATIENCE_MS);

    if (r < 0)
        return r;
    in = frame_read(&c->frame);
    r = c->frame.type == FRAME_RELAY_JOB ? job_get(&in, &c->job) : -EBADMSG;
    if (r == 0)
        r = begin(c);
    if (r >= 0 && c->job.kind == JOB_PULL) {
        r = r > 0 ? courier_pull(c) : 0;
        return r < 0 ? r : -ENODATA; /* nobody has another one */
    }
    return r < 0 ? r : carry(c);
}

static int say_idle(void)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_RELAY_IDLE);
    return frame_send(COURIER_CONTROL, &f, -1);
}

/* One job after the other, until relay has no more. */
static int serve(struct courier *c)
{
    int r;

    do {
        r = do_job(c);
        if (r < 0 && r != -ENODATA)
            LOG_ERROR(LOG_ERR, "relay-courier failed", r, LOG_F("hop", c->job.hop));
        forget(c);
        if (r == 0)
            r = say_idle();
    } while (r == 0);
    return r == -ENODATA || r == -EPIPE ? 0 : r;
}

int main(int argc, char **argv)
{
    struct conf conf;
    struct courier c;
    struct dns dns;
    int r = conf_init(&conf);

    if (r < 0 || conf_args(&conf, &argc, argv) < 0)
        return EX_CONFIG;
    if (argc > 1 || fcntl(COURIER_CONTROL, F_GETFD) < 0) {
        (void)fputs("relay-courier: relay(8) starts this; it is of no use by hand\n", stderr);
        return EX_USAGE;
    }
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    log_open("relay", true);
    dns_init(&dns, &conf);
    prepare(&c, &conf, &dns);
    r = serve(&c);
    dns_finish(&c.dns);
    conf_finish(&conf);
    return r < 0 ? EX_SOFTWARE : EX_OK;
}
