/*
 * Listening sockets: inherited or bound. Runs in `listen`, as root where ports below 1024 are bound.
 */
#include "handlers/listen/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#if HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "shared/base/macros.h"

static bool is_listening(int fd)
{
    int value = 0;
    socklen_t len = sizeof(value);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) < 0 || !value)
        return false;
    len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len) == 0 && value == SOCK_STREAM;
}

/* Accepted sockets inherit both options on Linux, so they cost nothing per connection. On a unix socket they fail,
 * which is right. */
static void set_options(int fd)
{
    int one = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

static int add(struct sockets *s, int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (s->count >= SOCKETS_MAX)
        return -ENOBUFS;
    /* Non-blocking: a client that is gone again before accept() must not stop the other sockets. */
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    set_options(fd);
    s->fds[s->count++] = fd;
    return 0;
}

int sockets_from_systemd(struct sockets *s)
{
#if HAVE_SYSTEMD
    int n = sd_listen_fds(1);

    if (n < 0)
        return n;
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        int r = is_listening(fd) ? add(s, fd) : -EINVAL;
        if (r < 0)
            return r;
        s->is_inherited = true;
    }
#else
    (void)s;
#endif
    return 0;
}

int sockets_from_inetd(struct sockets *s)
{
    _cleanup_close_ int fd = -1;
    _cleanup_close_ int null = -1;
    int r;

    if (!is_listening(STDIN_FILENO))
        return 0;
    fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0 || null < 0)
        return -errno;
    for (int i = 0; i <= 2; i++)
        if (is_listening(i) && dup2(null, i) < 0)
            return -errno;
    r = add(s, fd);
    if (r < 0)
        return r;
    s->is_inherited = true;
    (void)steal_fd(&fd);
    return 0;
}

static int bind_one(struct sockets *s, const struct addrinfo *ai, bool is_any)
{
    _cleanup_close_ int fd = -1;
    int one = 1, v6only = !is_any;
    int r;

    fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
        return -errno;
    if (ai->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) < 0)
        return -errno;
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    r = add(s, fd);
    if (r < 0)
        return r;
    (void)steal_fd(&fd);
    return 0;
}

static int bind_address(struct sockets *s, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST};
    struct addrinfo *list;
    bool is_any = strcmp(host, "*") == 0;
    int r;

    if (is_any) {
        /* One IPv6 socket takes both families; a kernel without IPv6 gets an IPv4 one. */
        hints.ai_family = AF_INET6;
        if (getaddrinfo(NULL, port, &hints, &list) == 0) {
            r = bind_one(s, list, true);
            freeaddrinfo(list);
            if (r != -EAFNOSUPPORT && r != -EADDRNOTAVAIL)
                return r;
        }
        hints.ai_family = AF_INET;
    }
    if (getaddrinfo(is_any ? NULL : host, port, &hints, &list) != 0)
        return -EINVAL;
    r = bind_one(s, list, false);
    freeaddrinfo(list);
    return r;
}

/* A socket file that nobody serves any more is in the way; one that is served is not ours to take. */
static int clear_path(const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat facts;

    if (fd < 0)
        return -errno;
    if (lstat(address->sun_path, &facts) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(facts.st_mode))
        return -EEXIST;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED)
        return -EADDRINUSE;
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

/* Everybody may connect: who it is, the handler asks the kernel. */
static int bind_path(struct sockets *s, const char *path)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int r;

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    r = clear_path(&address);
    if (r < 0)
        return r;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0666) < 0 ||
        listen(fd, SOMAXCONN) < 0)
        return -errno;
    r = add(s, fd);
    if (r < 0)
        return r;
    (void)steal_fd(&fd);
    return 0;
}

int sockets_bind(struct sockets *s, const char *where)
{
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 1] = "*";
    const char *colon = strrchr(where, ':');
    const char *start = where;
    size_t len;

    if (where[0] == '/')
        return bind_path(s, where);
    if (!colon)
        return bind_address(s, host, where);
    len = (size_t)(colon - where);
    if (len > 0 && where[0] == '[') {
        if (where[len - 1] != ']')
            return -EINVAL;
        start++;
        len -= 2;
    } else if (memchr(where, ':', len)) {
        return -EINVAL; /* an IPv6 address needs its brackets, or nobody knows where the port begins */
    }
    if (len >= sizeof(host))
        return -EINVAL;
    if (len > 0) {
        memcpy(host, start, len);
        host[len] = '\0';
    }
    return bind_address(s, host, colon + 1);
}

int sockets_describe(const struct sockets *s, size_t i, struct buf *out)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 1], port[8];

    if (getsockname(s->fds[i], (struct sockaddr *)&ss, &len) < 0)
        return -errno;
    if (ss.ss_family == AF_UNIX)
        return buf_add_str(out, STR("unix"));
    if (getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return -EINVAL;
    return buf_printf(out, ss.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

void sockets_finish(struct sockets *s)
{
    for (size_t i = 0; i < s->count; i++)
        close_fd(&s->fds[i]);
    s->count = 0;
}

void sockets_notify(const char *state)
{
#if HAVE_SYSTEMD
    (void)sd_notify(0, state);
#else
    (void)state;
#endif
}
