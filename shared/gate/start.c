/*
 * The first things that a connection program does. Runs as whoever started it: root under systemd and inetd, a person
 * on a pipe. Touches fds 0 to 2, the configuration and the log.
 */
#include "shared/gate/start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/chain.h"
#include "shared/gate/priv.h"

#define ARGUMENTS_MAX 64

/* A closed standard fd would be given to the next socket or file that is opened. */
static int fill_standard_fds(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        if (errno != EBADF || open("/dev/null", O_RDWR) != fd) /* the lowest free fd, which is this one */
            return -errno;
    }
    return 0;
}

static bool is_same_file(int a, int b)
{
    struct stat sa;
    struct stat sb;

    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* inetd makes fd 2 the client too. */
static int save_stderr(bool is_connection)
{
    _cleanup_close_ int null = -1;

    if (!is_connection || !is_same_file(STDIN_FILENO, STDERR_FILENO))
        return 0;
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, STDERR_FILENO) < 0)
        return -errno;
    return 0;
}

/* Replies are written whole, so Nagle only costs time; keepalive finds clients that are gone without a word. Neither
 * matters enough to fail. */
static void tune_socket(int fd)
{
    int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static bool has_peer(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    return getpeername(fd, (struct sockaddr *)&ss, &len) == 0;
}

/* A connection that its client has reset has no peer any more; a socket that listens has another state. */
static bool is_reset(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    return !has_peer(fd) && errno == ENOTCONN && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           info.tcpi_state == TCP_CLOSE;
}

int start_find(struct start *ret)
{
    struct start s = {0};
    int r = fill_standard_fds();

    if (r < 0)
        return r;
    peer_find(STDIN_FILENO, &s.peer);
    s.is_connection = has_peer(STDIN_FILENO) && (s.peer.kind == PEER_INET || priv_is_root());
    s.is_gone = is_reset(STDIN_FILENO);
    if (s.is_connection)
        tune_socket(STDIN_FILENO);
    r = save_stderr(s.is_connection || s.is_gone);
    if (r < 0)
        return r;
    s.stderr_ok = true;
    *ret = s;
    return 0;
}

void start_warn(const char *ident, const struct conf *conf, bool is_person)
{
    struct str rest = buf_str(&conf->warnings);
    struct str line;

    while (rest.len > 0) {
        (void)str_cut(&rest, '\n', &line);
        if (is_person)
            (void)fprintf(stderr, "%s: %.*s\n", ident, STR_ARG(line));
        else
            LOG_EVENT(LOG_WARNING, "configuration", LOG_F("warning", line));
    }
}

int start_program(const char *ident, int *argc, char **argv, struct conf *conf, struct start *ret)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    int r = start_find(ret);

    if (r < 0)
        return EX_OSERR;
    (void)sigaction(SIGPIPE, &ignore, NULL);
    log_open(ident, ret->stderr_ok);
    r = conf_init(conf);
    if (r == 0)
        r = conf_args(conf, argc, argv);
    if (r < 0) {
        LOG_EVENT(LOG_ERR, "configuration",
                  LOG_F("error", conf->error.len > 0 ? buf_str(&conf->error) : str_from(strerror(-r))));
        return EX_CONFIG;
    }
    if (ret->is_gone) {
        LOG_EVENT(LOG_INFO, "client gone", LOG_FC("reason", "reset before it was served"));
        return START_GONE;
    }
    if (ret->is_connection) /* on a pipe the session that we become says so */
        start_warn(ident, conf, false);
    return 0;
}

int start_usage(const char *program, const char *arguments, const struct start *start)
{
    if (start->is_connection)
        LOG_EVENT(LOG_ERR, "usage", LOG_FC("program", program), LOG_FC("arguments", arguments));
    else
        (void)fprintf(stderr, "usage: %s %s\n", program, arguments);
    return EX_USAGE;
}

int start_exec_session(const char *program, const struct conf *conf, int argc, char **argv)
{
    struct sigaction normal = {.sa_handler = SIG_DFL};
    char path[PATH_MAX];
    char *args[ARGUMENTS_MAX + 1];
    int count = 0;
    int r = chain_locate(program, path, sizeof(path));

    args[count++] = path;
    for (int i = 1; r == 0 && i < argc; i++) {
        if (count == ARGUMENTS_MAX)
            r = -E2BIG;
        else
            args[count++] = argv[i];
    }
    args[count] = NULL;
    if (r == 0)
        r = conf_pass_on(conf, args, &count, ARGUMENTS_MAX);
    if (r == 0) {
        (void)sigaction(SIGPIPE, &normal, NULL);
        (void)execv(path, args);
        r = -errno;
    }
    LOG_ERROR(LOG_ERR, "exec failed", r, LOG_FC("program", program));
    return EX_OSERR;
}
