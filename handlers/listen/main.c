/*
 * listen: the super-server of hosts without systemd or inetd, and the long-lived variant under both (Accept=no,
 * "wait"). Runs as root where the handler needs it; reads no byte of any connection, starts one handler for each.
 *
 *     listen [--bind ADDRESS]... [options] [--] HANDLER [ARGUMENT]...
 *     listen --stop FILE
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "handlers/listen/lock.h"
#include "handlers/listen/serve.h"
#include "handlers/listen/sockets.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/chain.h"

#define DEFAULT_MAX            256
#define DEFAULT_MAX_PER_SOURCE 64
#define DEFAULT_IDLE           60 /* seconds, with inherited sockets */
#define HIGHEST_MAX            65535
#define STOP_MS                10000

struct options {
    const char *binds[SOCKETS_MAX];
    size_t bind_count;
    uint32_t max;
    uint32_t max_per_source;
    uint32_t idle;
    bool has_idle;
    bool is_detached;
    bool is_printing;
    const char *lock;
    const char *stop;
};

static int usage(void)
{
    (void)fputs(
        "usage: listen [--bind ADDRESS:PORT | --bind /PATH]... [--max N] [--max-per-source N] [--idle SECONDS]\n"
        "              [--lock FILE] [--detach] [--print-address] [--] HANDLER [ARGUMENT]...\n"
        "       listen --stop FILE\n",
        stderr);
    return EX_USAGE;
}

static int number(const char *text, uint32_t max, uint32_t *ret)
{
    uint32_t n;

    if (str_to_u32(str_from(text), &n) < 0 || n > max)
        return -EINVAL;
    *ret = n;
    return 0;
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {
        {"bind", required_argument, NULL, 'b'},
        {"max", required_argument, NULL, 'm'},
        {"idle", required_argument, NULL, 'i'},
        {"max-per-source", required_argument, NULL, 's'},
        {"lock", required_argument, NULL, 'l'},
        {"stop", required_argument, NULL, 'S'},
        {"detach", no_argument, NULL, 'd'},
        {"print-address", no_argument, NULL, 'p'},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "+", table, NULL)) != -1) {
        int r = 0;

        switch (c) {
        case 'b':
            if (o->bind_count >= SOCKETS_MAX)
                return -EINVAL;
            o->binds[o->bind_count++] = optarg;
            break;
        case 'm':
            r = number(optarg, HIGHEST_MAX, &o->max);
            break;
        case 's':
            r = number(optarg, HIGHEST_MAX, &o->max_per_source);
            break;
        case 'i':
            r = number(optarg, 86400, &o->idle);
            o->has_idle = true;
            break;
        case 'l':
            o->lock = optarg;
            break;
        case 'S':
            o->stop = optarg;
            break;
        case 'd':
            o->is_detached = true;
            break;
        case 'p':
            o->is_printing = true;
            break;
        default:
            r = -EINVAL;
        }
        if (r < 0)
            return r;
    }
    return o->max == 0 ? -EINVAL : 0;
}

/* Without what belongs to this process or to another connection. */
static bool is_for_children(const char *entry)
{
    static const char *const ours[] = {"LISTEN_",   "NOTIFY_SOCKET=", "WATCHDOG_", "REMOTE_",
                                       "TCPREMOTE", "TCPLOCAL",       "PROTO="};

    for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
        if (strncmp(entry, ours[i], strlen(ours[i])) == 0)
            return false;
    return true;
}

static char **children_environment(void)
{
    size_t n = 0, kept = 0;
    char **envp;

    while (environ[n])
        n++;
    envp = calloc(n + 1, sizeof(*envp));
    for (size_t i = 0; envp && i < n; i++)
        if (is_for_children(environ[i]))
            envp[kept++] = environ[i];
    return envp;
}

static int fail(const char *what, int err)
{
    (void)fprintf(stderr, "listen: %s: %s\n", what, strerror(-err));
    LOG_ERROR(LOG_ERR, "listen-failed", err, LOG_FC("at", what));
    return err == -EADDRINUSE ? EX_UNAVAILABLE : err == -EACCES || err == -EPERM ? EX_NOPERM : EX_OSERR;
}

/* A name with a slash is a path; else it is one of our programs. */
static int find_handler(const char *name, char *out, size_t size)
{
    if (!strchr(name, '/'))
        return chain_locate(name, out, size);
    if (snprintf(out, size, "%s", name) >= (int)size)
        return -ENAMETOOLONG;
    return access(out, X_OK) < 0 ? -errno : 0;
}

static int open_sockets(const struct options *o, struct sockets *s)
{
    const char *what = "inherited sockets";
    int r = sockets_from_systemd(s);

    if (r == 0 && s->count == 0)
        r = sockets_from_inetd(s);
    for (size_t i = 0; r == 0 && i < o->bind_count; i++) {
        what = o->binds[i];
        r = sockets_bind(s, what);
        if (r == -EINVAL) {
            (void)fprintf(stderr, "listen: %s: not an ADDRESS:PORT or /PATH\n", what);
            return EX_USAGE;
        }
    }
    return r < 0 ? fail(what, r) : 0;
}

static int print_addresses(const struct sockets *s)
{
    _cleanup_buf_ struct buf line = BUF_INIT(SOCKETS_MAX * 64);

    for (size_t i = 0; i < s->count; i++)
        if (sockets_describe(s, i, &line) < 0 || buf_add_byte(&line, '\n') < 0)
            return EX_OSERR;
    if (fputs(buf_cstr(&line), stdout) < 0 || fflush(stdout) != 0)
        return EX_IOERR;
    return 0;
}

/* Goes to the background. The parent waits until the child serves (a byte) or failed (its exit status), and hands that
 * on, so that a script sees a port that is in use. */
static int detach(int *ret_ready)
{
    int ends[2];
    pid_t pid;
    char byte;
    int status;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        (void)close(ends[0]);
        (void)setsid();
        *ret_ready = ends[1];
        return 0;
    }
    (void)close(ends[1]);
    if (read(ends[0], &byte, 1) == 1)
        _exit(0);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        _exit(EX_OSERR);
    _exit(WEXITSTATUS(status));
}

/* In the background nothing of the terminal or of the script that started us is kept. */
static int announce(const struct options *o, int ready)
{
    if (o->is_detached) {
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || chdir("/") < 0)
            return fail("detach", -errno);
        if (write(ready, "", 1) != 1)
            return EX_OSERR;
        (void)close(ready);
    }
    sockets_notify("READY=1");
    return 0;
}

static int serve(const struct options *o, struct serve *s)
{
    int ready = -1, lock = -1;
    int r;

    s->idle = (int)(o->has_idle ? o->idle : s->sockets.is_inherited ? DEFAULT_IDLE : 0);
    s->max_per_source = o->max_per_source;
    s->envp = children_environment();
    r = s->envp ? children_init(&s->children, o->max) : -ENOMEM;
    if (r == 0 && o->is_detached)
        r = detach(&ready);
    if (r < 0)
        return fail("start", r);
    r = o->lock ? lock_take(o->lock, &lock) : 0;
    if (r < 0)
        return fail(o->lock, r);
    r = serve_signals(s);
    if (r < 0)
        return fail("signals", r);
    r = announce(o, ready);
    if (r != 0)
        return r;
    r = serve_run(s);
    sockets_notify("STOPPING=1");
    return r < 0 ? fail("serve", r) : 0;
}

int main(int argc, char **argv)
{
    struct options o = {.max = DEFAULT_MAX, .max_per_source = DEFAULT_MAX_PER_SOURCE};
    char path[PATH_MAX];
    struct serve s = {.signals = -1};
    int r;

    if (parse(argc, argv, &o) < 0)
        return usage();
    if (o.stop) {
        r = optind == argc ? lock_stop_holder(o.stop, STOP_MS) : -EINVAL;
        return r == -ENOENT ? 0 : r < 0 ? fail(o.stop, r) : 0;
    }
    if (optind >= argc)
        return usage();
    r = open_sockets(&o, &s.sockets);
    log_open("listen", true);
    if (r != 0)
        return r;
    if (s.sockets.count == 0)
        return usage();
    r = find_handler(argv[optind], path, sizeof(path));
    if (r < 0)
        return fail(argv[optind], r);
    s.path = path;
    s.argv = argv + optind;
    r = o.is_printing ? print_addresses(&s.sockets) : 0;
    if (r == 0)
        r = serve(&o, &s);
    children_finish(&s.children);
    free(s.envp);
    sockets_finish(&s.sockets);
    return r;
}
