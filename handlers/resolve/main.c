/*
 * resolve: the only parser of DNS packets. Started by a trusted process (shared/dns/dns.c) with its control socket on
 * fd 3, asked by frames, gone when that socket closes. Finds the servers while there are files, then its own user, an
 * empty root, no capabilities, and a seccomp filter that leaves it internet sockets and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sysexits.h>

#include "handlers/resolve/lookup.h"
#include "shared/base/macros.h"
#include "shared/gate/confine.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

#define CONTROL 3
#define MEMORY  (64u << 20)
#define FDS     (16 + LIMIT_DNS_OPEN * LOOKUP_SOCKETS)
#define PLACES  (1 + LIMIT_DNS_OPEN * LOOKUP_SOCKETS)
#define WAIT_MS 60000

struct resolver {
    struct servers servers;
    struct lookup lookups[LIMIT_DNS_OPEN];
};

static struct lookup *find_free(struct resolver *r)
{
    for (size_t i = 0; i < LIMIT_DNS_OPEN; i++)
        if (!r->lookups[i].is_open)
            return &r->lookups[i];
    return NULL;
}

static int take_question(struct resolver *r, struct lookup *l)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct dns_ask ask;
    int e = frame_recv(CONTROL, &f, -1);

    if (e == 0)
        e = dns_ask_decode(&f, &ask);
    if (e == 0)
        lookup_start(l, &r->servers, &ask);
    return e;
}

static int send_answer(struct lookup *l)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e = dns_answer_encode(l->id, &l->answer, &f);

    if (e < 0) {
        convert_fail(&l->answer, "the answer is too large");
        e = dns_answer_encode(l->id, &l->answer, &f);
    }
    if (e == 0)
        e = frame_send(CONTROL, &f, -1);
    lookup_finish(l);
    return e;
}

static int send_answers(struct resolver *r)
{
    int e = 0;

    for (size_t i = 0; i < LIMIT_DNS_OPEN && e == 0; i++)
        if (r->lookups[i].is_open && r->lookups[i].is_done)
            e = send_answer(&r->lookups[i]);
    return e;
}

/* One round: waits, moves every lookup on, takes a question. */
static int turn(struct resolver *r)
{
    struct pollfd places[PLACES];
    size_t counts[LIMIT_DNS_OPEN];
    struct lookup *free_one = find_free(r);
    int timeout = WAIT_MS;
    size_t n = 1;

    places[0] = (struct pollfd){.fd = CONTROL, .events = free_one ? POLLIN : 0};
    for (size_t i = 0; i < LIMIT_DNS_OPEN; i++) {
        counts[i] = lookup_sockets(&r->lookups[i], places + n);
        n += counts[i];
        if (r->lookups[i].is_open)
            timeout = lookup_timeout(&r->lookups[i], timeout);
    }
    if (poll(places, n, timeout) < 0)
        return errno == EINTR ? 0 : -errno;
    n = 1;
    for (size_t i = 0; i < LIMIT_DNS_OPEN; i++) {
        if (r->lookups[i].is_open)
            lookup_process(&r->lookups[i], places + n, counts[i]);
        n += counts[i];
    }
    if (places[0].revents & (POLLHUP | POLLERR))
        return -ENODATA; /* whoever asked is gone */
    return free_one && (places[0].revents & POLLIN) ? take_question(r, free_one) : 0;
}

static int serve(struct resolver *r)
{
    int e;

    do {
        e = turn(r);
        if (e == 0)
            e = send_answers(r);
    } while (e == 0);
    for (size_t i = 0; i < LIMIT_DNS_OPEN; i++)
        lookup_finish(&r->lookups[i]);
    return e == -ENODATA || e == -EPIPE ? EX_OK : EX_PROTOCOL;
}

int main(int argc, char **argv)
{
    static const struct priv_confinement limits = {
        .account = PRIV_USER_RESOLVE, .find = priv_account_named, .open_files = FDS, .file_size = 0, .memory = MEMORY};
    struct resolver r = {0};
    int status;

    if (argc > 2 || fcntl(CONTROL, F_GETFD) < 0) {
        (void)fputs("resolve: smtp(8) and relay(8) start this; it is of no use by hand\n", stderr);
        return EX_USAGE;
    }
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    if (servers_find(argc == 2 ? argv[1] : NULL, &r.servers) < 0)
        return EX_CONFIG;
    if (confine_enter("resolve", &limits, SANDBOX_RESOLVE) < 0)
        return EX_CONFIG;
    status = serve(&r);
    servers_finish(&r.servers);
    return status;
}
