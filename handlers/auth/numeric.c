/*
 * getaddrinfo() of auth and auth-sasl, in place of libc's, whose own answers all but this: an address in digits is no
 * name. libaudit asks for the client's address with each of PAM's messages, and with AI_ADDRCONFIG, for which libc
 * lists all addresses of the machine every time.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
                                                       const struct addrinfo *hints, struct addrinfo **res)
{
    const union {
        void *symbol;
        lookup *function;
    } libc = {dlsym(RTLD_NEXT, "getaddrinfo")};
    struct addrinfo digits = hints ? *hints : (struct addrinfo){.ai_flags = AI_V4MAPPED};
    unsigned char address[sizeof(struct in6_addr)];

    if (!libc.symbol)
        return EAI_SYSTEM;
    if (!node || (inet_pton(AF_INET, node, address) != 1 && inet_pton(AF_INET6, node, address) != 1))
        return libc.function(node, service, hints, res);
    digits.ai_flags = (digits.ai_flags & ~AI_ADDRCONFIG) | AI_NUMERICHOST;
    return libc.function(node, service, &digits, res);
}
