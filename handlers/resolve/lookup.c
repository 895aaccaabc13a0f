/*
 * Questions under way. Runs in `resolve`; talks to the DNS servers through c-ares.
 */
#include "handlers/resolve/lookup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "shared/base/clock.h"
#include "shared/base/macros.h"

#define EDNS_SIZE   1232 /* as DNS software agreed in 2020: no fragments */
#define TRY_MS      2000 /* first try; c-ares doubles it with each round over the servers */
#define TRIES       4
#define QUERY_AD    0x20 /* RFC 6840 5.7: tell us whether the data are authentic */
#define SERVERS_MAX 1024

/* ---- servers ---- */

static bool is_local(const struct ares_addr_port_node *server)
{
    static const struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;

    if (server->family == AF_INET)
        return (ntohl(server->addr.addr4.s_addr) >> 24) == 127;
    return memcmp(&server->addr.addr6, &loopback, sizeof(loopback)) == 0;
}

/* c-ares wants commas. */
static int set_servers(ares_channel channel, const char *argument)
{
    char list[SERVERS_MAX];
    size_t len = strlen(argument);

    if (len >= sizeof(list))
        return -E2BIG;
    for (size_t i = 0; i <= len; i++)
        list[i] = argument[i] == ' ' ? ',' : argument[i];
    return ares_set_servers_ports_csv(channel, list) == ARES_SUCCESS ? 0 : -EINVAL;
}

int servers_find(const char *argument, struct servers *ret)
{
    ares_channel channel = NULL;
    struct servers s = {.is_local = true};
    int r = 0;

    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS || ares_init(&channel) != ARES_SUCCESS)
        return -EIO;
    if (argument)
        r = set_servers(channel, argument);
    if (r == 0 && (ares_get_servers_ports(channel, &s.list) != ARES_SUCCESS || !s.list))
        r = -ENOENT;
    ares_destroy(channel);
    if (r < 0)
        return r;
    for (const struct ares_addr_port_node *n = s.list; n; n = n->next)
        s.is_local &= is_local(n);
    *ret = s;
    return 0;
}

void servers_finish(struct servers *s)
{
    if (s->list)
        ares_free_data(s->list);
    *s = (struct servers){0};
}

/* With every option given, c-ares looks at no file: in the sandbox there is none. */
static int open_channel(const struct servers *servers, ares_channel *ret)
{
    char lookups[] = "b";
    struct in_addr unused = {.s_addr = htonl(INADDR_LOOPBACK)};
    struct ares_options options = {.flags = ARES_FLAG_EDNS | ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
                                   .timeout = TRY_MS,
                                   .tries = TRIES,
                                   .ndots = 1,
                                   .lookups = lookups,
                                   .servers = &unused,
                                   .nservers = 1,
                                   .ednspsz = EDNS_SIZE};
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_LOOKUPS |
               ARES_OPT_SERVERS | ARES_OPT_DOMAINS | ARES_OPT_SORTLIST | ARES_OPT_EDNSPSZ | ARES_OPT_NOROTATE;

    if (ares_init_options(ret, &options, mask) != ARES_SUCCESS)
        return -EIO;
    if (ares_set_servers_ports(*ret, servers->list) == ARES_SUCCESS)
        return 0;
    ares_destroy(*ret);
    *ret = NULL;
    return -EIO;
}

/* ---- one question ---- */

static void fail(struct lookup *l, const char *reason)
{
    if (!l->is_done)
        convert_fail(&l->answer, reason);
    l->is_done = true;
}

static void on_packet(void *context, int status, int timeouts, unsigned char *packet, int len)
{
    struct lookup *l = context;

    (void)timeouts;
    if (l->is_done || status == ARES_EDESTRUCTION)
        return;
    if (status != ARES_SUCCESS || !packet || len < 0) {
        fail(l, status == ARES_ETIMEOUT ? "no server answered in time" : ares_strerror(status));
        return;
    }
    if (convert_packet(packet, (size_t)len, l->type, l->servers->is_local, &l->chain, &l->answer) == CONVERT_AGAIN)
        l->is_again = true;
    else
        l->is_done = true;
}

/* The id is the kernel's: in the sandbox c-ares could only make guessable ones. */
static void send_packet(struct lookup *l)
{
    unsigned char *packet = NULL;
    unsigned short id = 0;
    int len = 0;

    if (getrandom(&id, sizeof(id), 0) != sizeof(id)) {
        fail(l, "no random numbers");
        return;
    }
    if (ares_create_query(l->chain.name, 1, (int)l->type, id, 1, &packet, &len, EDNS_SIZE) != ARES_SUCCESS) {
        fail(l, "an alias that cannot be asked for");
        return;
    }
    packet[3] |= QUERY_AD;
    ares_send(l->channel, packet, len, on_packet, l);
    ares_free_string(packet);
}

/* An alias led out of the last packet. A bound: each round has followed at least one alias. */
static void go_on(struct lookup *l)
{
    while (l->is_again && !l->is_done) {
        l->is_again = false;
        dns_answer_finish(&l->answer);
        send_packet(l);
    }
}

void lookup_start(struct lookup *l, const struct servers *servers, const struct dns_ask *ask)
{
    *l = (struct lookup){.is_open = true,
                         .id = ask->id,
                         .type = ask->type,
                         .deadline = clock_monotonic_ms() + ask->milliseconds,
                         .servers = servers,
                         .answer = DNS_ANSWER_INIT};
    l->chain.name = str_dup(ask->name);
    if (!l->chain.name || open_channel(servers, &l->channel) < 0) {
        fail(l, "out of memory");
        return;
    }
    send_packet(l);
    go_on(l);
}

size_t lookup_sockets(const struct lookup *l, struct pollfd *out)
{
    ares_socket_t sockets[LOOKUP_SOCKETS];
    size_t count = 0;
    int bits = l->is_open && l->channel ? ares_getsock(l->channel, sockets, LOOKUP_SOCKETS) : 0;

    for (int i = 0; i < LOOKUP_SOCKETS; i++) {
        short events =
            (short)((ARES_GETSOCK_READABLE(bits, i) ? POLLIN : 0) | (ARES_GETSOCK_WRITABLE(bits, i) ? POLLOUT : 0));

        if (events != 0)
            out[count++] = (struct pollfd){.fd = sockets[i], .events = events};
    }
    return count;
}

int lookup_timeout(const struct lookup *l, int most)
{
    struct timeval limit = {.tv_sec = most / 1000, .tv_usec = most % 1000 * 1000};
    struct timeval space;
    const struct timeval *tv = l->channel ? ares_timeout(l->channel, &limit, &space) : &limit;
    int64_t left = l->deadline - clock_monotonic_ms();
    int64_t ms = (int64_t)tv->tv_sec * 1000 + tv->tv_usec / 1000 + 1;

    if (l->is_done || left <= 0)
        return 0;
    ms = ms < left ? ms : left;
    return (int)(ms < most ? ms : most);
}

void lookup_process(struct lookup *l, const struct pollfd *found, size_t count)
{
    if (!l->is_done && l->deadline <= clock_monotonic_ms())
        fail(l, "no server answered in time");
    for (size_t i = 0; i < count && !l->is_done; i++) {
        bool is_readable = found[i].revents & (POLLIN | POLLERR | POLLHUP);
        bool is_writable = found[i].revents & POLLOUT;

        if (is_readable || is_writable)
            ares_process_fd(l->channel, is_readable ? found[i].fd : ARES_SOCKET_BAD,
                            is_writable ? found[i].fd : ARES_SOCKET_BAD);
    }
    if (!l->is_done)
        ares_process_fd(l->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    go_on(l);
}

void lookup_finish(struct lookup *l)
{
    l->is_done = true; /* the callbacks that ares_destroy() makes find nothing to do */
    if (l->channel)
        ares_destroy(l->channel);
    convert_chain_finish(&l->chain);
    dns_answer_finish(&l->answer);
    *l = (struct lookup){0};
}
