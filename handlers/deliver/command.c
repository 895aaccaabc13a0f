/*
 * Runs a user's command. Part of deliver: already as that user (or alias_user), never as root.
 */
#include "handlers/deliver/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define COMMAND_BLOCK   (64u << 10)
#define ENVIRONMENT_MAX 16

struct run {
    pid_t pid;
    int pidfd;
    int input;  /* we write the message here; -1: done */
    int output; /* and read what it says here; -1: closed */
    struct str head;
    char block[COMMAND_BLOCK];
    size_t at, len; /* what of the block is left to write */
    int error;      /* of reading the message: the command has a part of it only */
    struct buf said;
};

/* ---- the child ---- */

static void add_variable(char **env, size_t *count, const char *name, const char *value)
{
    char *text = NULL;

    if (*count < ENVIRONMENT_MAX && value && asprintf(&text, "%s=%s", name, value) >= 0)
        env[(*count)++] = text;
}

_noreturn_ static void run_child(const struct session *s, const struct deliver_options *o, int input, int output,
                                 pid_t parent)
{
    char *env[ENVIRONMENT_MAX + 1] = {0};
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, NULL, NULL};
    struct sigaction normal = {.sa_handler = SIG_DFL};
    size_t count = 0;
    sigset_t none;

    add_variable(env, &count, "PATH", "/usr/local/bin:/usr/bin:/bin");
    add_variable(env, &count, "HOME", s->home);
    add_variable(env, &count, "USER", s->user);
    add_variable(env, &count, "LOGNAME", s->user);
    add_variable(env, &count, "SHELL", "/bin/sh");
    add_variable(env, &count, "SENDER", o->sender);
    add_variable(env, &count, "RECIPIENT", o->address);
    add_variable(env, &count, "TZ", getenv("TZ"));
    add_variable(env, &count, "LANG", getenv("LANG"));
    argv[2] = strdup(o->command);
    (void)setpgid(0, 0);
    (void)sigaction(SIGPIPE, &normal, NULL);
    (void)sigaction(SIGXFSZ, &normal, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    /* Killed with us: who waits for the delivery is told that it failed. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
        _exit(EX_TEMPFAIL);
    if (chdir(s->home) < 0 && chdir("/") < 0)
        _exit(EX_OSERR);
    (void)umask(077);
    if (!argv[2] || dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0 || close_range(STDERR_FILENO + 1, ~0u, 0) < 0)
        _exit(EX_OSERR);
    (void)execve("/bin/sh", argv, env);
    _exit(EX_TEMPFAIL);
}

static int start(const struct session *s, const struct deliver_options *o, struct run *r)
{
    pid_t parent = getpid();
    int in[2], out[2];
    int e = 0;

    if (pipe2(in, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(out, O_CLOEXEC) < 0) {
        e = -errno;
        (void)close(in[0]);
        (void)close(in[1]);
        return e;
    }
    r->pid = fork();
    if (r->pid == 0)
        run_child(s, o, in[0], out[1], parent);
    if (r->pid < 0)
        e = -errno;
    (void)close(in[0]);
    (void)close(out[1]);
    r->input = in[1];
    r->output = out[0];
    if (e == 0 && (fcntl(r->input, F_SETFL, O_NONBLOCK) < 0 || fcntl(r->output, F_SETFL, O_NONBLOCK) < 0))
        e = -errno;
    if (e == 0)
        r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
    return e;
}

/* ---- feeding and listening ---- */

/* The next block of the message. False: there is no more. */
static bool refill(struct run *r)
{
    ssize_t n;

    r->at = 0;
    if (r->head.len > 0) {
        r->len = r->head.len < sizeof(r->block) ? r->head.len : sizeof(r->block);
        memcpy(r->block, r->head.ptr, r->len);
        r->head = str_sub(r->head, r->len, r->head.len);
        return true;
    }
    do
        n = read(STDIN_FILENO, r->block, sizeof(r->block));
    while (n < 0 && errno == EINTR);
    r->len = n > 0 ? (size_t)n : 0;
    r->error = n < 0 ? -errno : 0;
    return n > 0;
}

/* A command that does not read all of the message is free to. */
static void feed(struct run *r)
{
    ssize_t n;

    if (r->at == r->len && !refill(r)) {
        close_fd(&r->input);
        return;
    }
    n = write(r->input, r->block + r->at, r->len - r->at);
    if (n > 0)
        r->at += (size_t)n;
    else if (errno != EAGAIN && errno != EINTR)
        close_fd(&r->input);
}

static void listen_to(struct run *r)
{
    char bytes[512];
    ssize_t n = read(r->output, bytes, sizeof(bytes));

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_fd(&r->output);
    for (ssize_t i = 0; i < n && r->said.len < COMMAND_OUTPUT; i++)
        (void)buf_add_byte(&r->said, bytes[i]);
}

/* 1: it has ended; 0: not yet; -ETIMEDOUT, or what kept us from reading the message. */
static int step(struct run *r, int64_t deadline)
{
    struct pollfd fds[] = {
        {.fd = r->input, .events = POLLOUT}, {.fd = r->output, .events = POLLIN}, {.fd = r->pidfd, .events = POLLIN}};
    int64_t left = deadline - clock_monotonic_ms();

    if (left <= 0)
        return -ETIMEDOUT;
    if (poll(fds, ARRAY_SIZE(fds), (int)left) <= 0)
        return 0;
    if (fds[0].revents)
        feed(r);
    if (r->error < 0)
        return r->error;
    if (fds[1].revents)
        listen_to(r);
    return fds[2].revents ? 1 : 0;
}

static int wait_for(struct run *r)
{
    int status = 0;

    while (waitpid(r->pid, &status, 0) < 0)
        if (errno != EINTR)
            return EX_TEMPFAIL;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EX_TEMPFAIL;
}

/* One line, printable. */
static void keep_first_line(const struct buf *said, struct buf *out)
{
    struct str line, rest = str_trim(buf_str(said));

    (void)str_cut(&rest, '\n', &line);
    for (size_t i = 0; i < line.len; i++)
        (void)buf_add_byte(out, line.ptr[i] < ' ' || line.ptr[i] > '~' ? '?' : line.ptr[i]);
}

int command_run(const struct session *s, const struct deliver_options *o, struct str head, struct command_result *ret)
{
    struct run r = {.pidfd = -1, .input = -1, .output = -1, .head = head, .said = BUF_INIT(COMMAND_OUTPUT)};
    int64_t deadline = clock_monotonic_ms() + TIMEOUT_COMMAND * INT64_C(1000);
    int e = geteuid() == 0 ? -EPERM : start(s, o, &r);

    if (e == 0) {
        do
            e = step(&r, deadline);
        while (e == 0);
        if (e < 0)
            (void)kill(-r.pid, SIGKILL);
        if (r.output >= 0)
            listen_to(&r);
        ret->status = wait_for(&r);
        if (e < 0)
            ret->status = EX_TEMPFAIL;
        keep_first_line(&r.said, &ret->output);
        e = 0;
    }
    close_fd(&r.input);
    close_fd(&r.output);
    close_fd(&r.pidfd);
    buf_finish(&r.said);
    return e;
}
