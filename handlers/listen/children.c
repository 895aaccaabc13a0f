/*
 * The table of children: an unordered array, scanned. With some hundred rows of 16 bytes a scan costs less than the
 * system call before it.
 */
#include "handlers/listen/children.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

int children_init(struct children *c, size_t max)
{
    struct child *rows = calloc(max, sizeof(*rows));

    if (!rows)
        return -ENOMEM;
    *c = (struct children){.rows = rows, .max = max};
    return 0;
}

void children_finish(struct children *c)
{
    free(c->rows);
    *c = (struct children){0};
}

int children_add(struct children *c, pid_t pid, struct source source)
{
    if (c->count >= c->max)
        return -ENOBUFS;
    c->rows[c->count++] = (struct child){.pid = pid, .source = source};
    return 0;
}

int children_remove(struct children *c, pid_t pid)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->rows[i].pid == pid) {
            c->rows[i] = c->rows[--c->count];
            return 0;
        }
    return -ENOENT;
}

size_t children_from(const struct children *c, struct source source)
{
    size_t n = 0;

    if (source.len == 0)
        return 0;
    for (size_t i = 0; i < c->count; i++)
        if (c->rows[i].source.len == source.len && memcmp(c->rows[i].source.bytes, source.bytes, source.len) == 0)
            n++;
    return n;
}

struct source source_of(const struct sockaddr *sa, socklen_t len)
{
    struct source s = {0};

    if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        s.len = 4;
        memcpy(s.bytes, &in.sin_addr, 4);
    } else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof(in6));
        if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
            s.len = 4;
            memcpy(s.bytes, in6.sin6_addr.s6_addr + 12, 4);
        } else {
            s.len = 8;
            memcpy(s.bytes, in6.sin6_addr.s6_addr, 8);
        }
    }
    return s;
}
