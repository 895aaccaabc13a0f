#include "handlers/admin/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "shared/base/macros.h"

#define OUTPUT_CHUNK 4096
#define STOP_WAITS   20 /* of 50 ms each */

/* In the child: fds in place, no signal blocked, exec. 127 tells the parent that there is no such program. */
static _noreturn_ void child_exec(const char *const argv[], int in, int out, int errors)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    char *const *words;
    sigset_t none;

    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(errors >= 0 ? errors : null, STDERR_FILENO) < 0)
        _exit(127);
    (void)sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0) /* the parent may read its signals from an fd */
        _exit(127);
    memcpy(&words, &argv, sizeof(words)); /* execvp() does not write to them, whatever its prototype says */
    (void)execvp(argv[0], words);
    _exit(127);
}

static int start(const char *const argv[], bool with_errors, int errors, pid_t *ret_pid, int *ret_fd)
{
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid = fork();
    if (pid < 0) {
        int r = -errno;

        (void)close(pair[0]);
        (void)close(pair[1]);
        return r;
    }
    if (pid == 0)
        child_exec(argv, pair[1], pair[1], with_errors ? pair[1] : errors);
    (void)close(pair[1]);
    *ret_pid = pid;
    *ret_fd = pair[0];
    return 0;
}

int child_start(const char *const argv[], int errors, pid_t *ret_pid, int *ret_fd)
{
    return start(argv, false, errors, ret_pid, ret_fd);
}

void child_stop(pid_t pid)
{
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};

    if (pid <= 0)
        return;
    for (int i = 0; i < STOP_WAITS; i++) {
        pid_t done = waitpid(pid, NULL, WNOHANG);

        if (done == pid || (done < 0 && errno != EINTR))
            return;
        (void)nanosleep(&pause, NULL);
    }
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Reads the child's output to its end; what does not fit into *output is read and dropped. */
static int drain(int fd, struct buf *output)
{
    char chunk[OUTPUT_CHUNK];

    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));

        if (n == 0)
            return 0;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno == ECONNRESET ? 0 : -errno;
        }
        if (output && buf_add(output, chunk, (size_t)n) == -ENOMEM)
            return -ENOMEM;
    }
}

int child_run(const char *const argv[], struct str input, struct buf *output)
{
    _cleanup_close_ int fd = -1;
    pid_t pid;
    int status;
    int r;

    r = start(argv, true, -1, &pid, &fd);
    if (r < 0)
        return r;
    while (input.len > 0) {
        ssize_t n = send(fd, input.ptr, input.len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break; /* it did not want to read; its status tells */
        input = str_sub(input, (size_t)n, input.len);
    }
    (void)shutdown(fd, SHUT_WR);
    r = drain(fd, output);
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return r < 0 ? r : status;
}
