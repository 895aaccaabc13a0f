/*
 * Printable addresses of both ends of a connection. Runs in the monitor (as root) and in a lone session (as the user);
 * it asks the kernel and the environment, never a name service, and touches no file.
 */
#include "shared/gate/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An address in its canonical 16-byte form: IPv4 is mapped (RFC 4291 2.5.5.2), so that networks compare as prefixes. */
struct raw_address {
    uint8_t bytes[16];
};

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_mapped(const struct raw_address *a)
{
    return memcmp(a->bytes, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

static void raw_from_v4(const void *four, struct raw_address *ret)
{
    memcpy(ret->bytes, mapped_prefix, sizeof(mapped_prefix));
    memcpy(ret->bytes + 12, four, 4);
}

/* Text without a zone. */
static int raw_from_text(const char *text, struct raw_address *ret)
{
    uint8_t four[4];

    if (inet_pton(AF_INET, text, four) == 1) {
        raw_from_v4(four, ret);
        return 0;
    }
    return inet_pton(AF_INET6, text, ret->bytes) == 1 ? 0 : -EINVAL;
}

static bool raw_is_loopback(const struct raw_address *a)
{
    static const struct raw_address one = {{[15] = 1}};

    return is_mapped(a) ? a->bytes[12] == 127 : memcmp(a, &one, sizeof(one)) == 0;
}

static void print_raw(const struct raw_address *a, uint32_t zone, char out[static LIMIT_ADDRESS])
{
    char name[IF_NAMESIZE];
    size_t len = 0;

    if (is_mapped(a)) {
        (void)inet_ntop(AF_INET, a->bytes + 12, out, LIMIT_ADDRESS);
        return;
    }
    (void)inet_ntop(AF_INET6, a->bytes, out, LIMIT_ADDRESS);
    len = strlen(out);
    if (zone != 0 && if_indextoname(zone, name))
        (void)snprintf(out + len, LIMIT_ADDRESS - len, "%%%s", name);
}

/* False for another family. */
static bool raw_from_sockaddr(const struct sockaddr_storage *ss, struct raw_address *ret, uint16_t *ret_port,
                              uint32_t *ret_zone)
{
    if (ss->ss_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, ss, sizeof(in));
        raw_from_v4(&in.sin_addr, ret);
        *ret_port = ntohs(in.sin_port);
        *ret_zone = 0;
        return true;
    }
    if (ss->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, ss, sizeof(in6));
        memcpy(ret->bytes, &in6.sin6_addr, 16);
        *ret_port = ntohs(in6.sin6_port);
        *ret_zone = in6.sin6_scope_id;
        return true;
    }
    return false;
}

static void name_both(struct peer *p, enum peer_kind kind, const char *name)
{
    *p = (struct peer){.kind = kind, .is_loopback = true};
    (void)snprintf(p->address, sizeof(p->address), "%s", name);
    (void)snprintf(p->local, sizeof(p->local), "%s", name);
}

void peer_from_sockaddr(const struct sockaddr_storage *remote, const struct sockaddr_storage *local, struct peer *ret)
{
    struct raw_address theirs;
    struct raw_address ours;
    uint32_t zone = 0;

    name_both(ret, PEER_LOCAL, "local");
    if (!raw_from_sockaddr(remote, &theirs, &ret->port, &zone))
        return;
    ret->kind = PEER_INET;
    print_raw(&theirs, zone, ret->address);
    ret->is_loopback = raw_is_loopback(&theirs);
    if (!raw_from_sockaddr(local, &ours, &ret->local_port, &zone))
        return;
    print_raw(&ours, zone, ret->local);
    /* A client that connects to one of our own addresses comes from it. */
    if (memcmp(&theirs, &ours, sizeof(ours)) == 0)
        ret->is_loopback = true;
}

static uint16_t port_from_env(const char *name)
{
    const char *text = getenv(name);
    uint32_t port = 0;

    return text && str_to_u32(str_from(text), &port) == 0 && port <= UINT16_MAX ? (uint16_t)port : 0;
}

/* What super-servers say when they relay through a pipe or a unix socket. */
static void apply_environment(struct peer *p)
{
    static const char *const names[][4] = {
        {"TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "TCPLOCALPORT"},
        {"REMOTE_ADDR", "REMOTE_PORT", "LOCAL_ADDR", "LOCAL_PORT"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *address = getenv(names[i][0]);
        const char *local = getenv(names[i][2]);

        if (address && peer_from_text(str_from(address), port_from_env(names[i][1]), str_from(local ? local : ""),
                                      port_from_env(names[i][3]), p) == 0)
            return;
    }
}

void peer_find(int fd, struct peer *ret)
{
    struct sockaddr_storage remote = {0};
    struct sockaddr_storage local = {0};
    socklen_t remote_len = sizeof(remote);
    socklen_t local_len = sizeof(local);

    name_both(ret, PEER_PIPE, "stdin");
    if (getpeername(fd, (struct sockaddr *)&remote, &remote_len) < 0) {
        if (errno != ENOTSOCK)
            return;
        apply_environment(ret);
        return;
    }
    if (getsockname(fd, (struct sockaddr *)&local, &local_len) < 0)
        local.ss_family = AF_UNSPEC;
    peer_from_sockaddr(&remote, &local, ret);
    if (ret->kind == PEER_LOCAL)
        apply_environment(ret);
}

int peer_credentials(int fd, uid_t *ret_uid)
{
    struct ucred credentials = {0};
    socklen_t len = sizeof(int);
    int domain = AF_UNSPEC;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
        return -errno;
    if (domain != AF_UNIX)
        return -EPROTOTYPE;
    len = sizeof(credentials);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &len) < 0)
        return -errno;
    if (credentials.uid == (uid_t)-1) /* nobody connected it */
        return -EPROTOTYPE;
    *ret_uid = credentials.uid;
    return 0;
}

/* A C string of an address without its zone. */
static int text_to_raw(struct str text, struct raw_address *ret)
{
    char address[LIMIT_ADDRESS];
    ptrdiff_t zone = str_chr(text, '%');

    if (zone >= 0)
        text.len = (size_t)zone;
    if (text.len == 0 || text.len >= sizeof(address) || str_has_nul(text))
        return -EINVAL;
    memcpy(address, text.ptr, text.len);
    address[text.len] = '\0';
    return raw_from_text(address, ret);
}

int peer_from_text(struct str address, uint16_t port, struct str local, uint16_t local_port, struct peer *ret)
{
    struct peer p = {.kind = PEER_INET, .port = port};
    struct raw_address theirs;
    struct raw_address ours;

    if (text_to_raw(address, &theirs) < 0)
        return -EINVAL;
    print_raw(&theirs, 0, p.address);
    p.is_loopback = raw_is_loopback(&theirs);
    if (text_to_raw(local, &ours) == 0) {
        print_raw(&ours, 0, p.local);
        p.local_port = local_port;
    } else {
        (void)snprintf(p.local, sizeof(p.local), "local");
    }
    *ret = p;
    return 0;
}

static bool has_prefix(const struct raw_address *a, const struct raw_address *net, uint32_t bits)
{
    uint32_t whole = bits / 8;
    uint8_t mask = (uint8_t)(0xff00u >> (bits % 8));

    return memcmp(a->bytes, net->bytes, whole) == 0 &&
           (bits % 8 == 0 || ((a->bytes[whole] ^ net->bytes[whole]) & mask) == 0);
}

/* One word of a network list. */
static bool in_network(const struct raw_address *a, struct str word)
{
    struct str address;
    struct raw_address net;
    uint32_t bits = 0;
    bool has_bits = str_cut(&word, '/', &address);
    uint32_t width = 0;

    if (text_to_raw(address, &net) < 0)
        return false;
    width = str_chr(address, ':') < 0 ? 32 : 128;
    bits = width;
    if (has_bits && (str_to_u32(word, &bits) < 0 || bits > width))
        return false;
    return has_prefix(a, &net, width == 32 ? bits + 96 : bits);
}

bool peer_in_networks(const char *address, struct str networks)
{
    struct raw_address a;
    struct str word;
    bool is_address = text_to_raw(str_from(address), &a) == 0;

    while (str_word(&networks, &word)) {
        if (is_address ? in_network(&a, word) : str_eq(word, str_from(address)))
            return true;
    }
    return false;
}
