/*
 * Ending what a PAM module has started: its programs may lead sessions of their own, so that no signal to a group finds
 * them. Runs in the monitor or keeper, as root; reads /proc.
 */
#include "shared/gate/offspring.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/base/macros.h"

#define ROUNDS   200 /* generations; what still breeds then is a fork bomb, and the service manager's */
#define ROUND_MS 5   /* until what was killed has left its children to the one that reaps them */

/* Is it a child of that parent, and alive? A zombie is not: its parent is stopped and does not reap it. */
static bool is_living_child(pid_t pid, pid_t parent)
{
    char path[48], text[512];
    const char *after;
    char state = 'X';
    int its_parent = 0;
    FILE *f;
    size_t n = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (f) {
        n = fread(text, 1, sizeof(text) - 1, f);
        (void)fclose(f);
    }
    text[n] = '\0';
    after = strrchr(text, ')'); /* the name of the program may hold anything */
    return after && sscanf(after, ") %c %d", &state, &its_parent) == 2 && its_parent == parent && state != 'Z' &&
           state != 'X';
}

/* Kills it if it is what the list said. That its parent is stopped takes a moment to be true: until then it may reap
 * one, whose number may be another's now. So the process is held first, then looked at. True: it lived. */
static bool kill_child(pid_t pid, pid_t parent)
{
    _cleanup_close_ int held = (int)syscall(SYS_pidfd_open, pid, 0);
    bool has_none = held < 0 && errno != ESRCH; /* an old kernel, a filter of system calls, no fds */

    if (!is_living_child(pid, parent) || (held < 0 && !has_none))
        return false;
    if (has_none)
        (void)kill(pid, SIGKILL);
    else
        (void)syscall(SYS_pidfd_send_signal, held, SIGKILL, NULL, 0);
    return true;
}

/* Kills the children of one thread. True: one of them lived. */
static bool kill_children(pid_t pid, const char *thread)
{
    char path[320];
    bool is_one_alive = false;
    FILE *f;
    int child;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%s/children", (int)pid, thread);
    f = fopen(path, "re");
    while (f && fscanf(f, "%d", &child) == 1)
        is_one_alive |= kill_child(child, pid);
    if (f)
        (void)fclose(f);
    return is_one_alive;
}

static bool kill_generation(pid_t pid)
{
    char path[48];
    bool is_one_alive = false;
    const struct dirent *entry;
    DIR *threads;

    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    threads = opendir(path);
    while (threads && (entry = readdir(threads)))
        if (entry->d_name[0] != '.')
            is_one_alive |= kill_children(pid, entry->d_name);
    if (threads)
        (void)closedir(threads);
    return is_one_alive;
}

void offspring_end(pid_t pid)
{
    /* Stopped, it neither starts anything nor reaps. */
    if (kill(pid, SIGSTOP) < 0)
        return;
    for (int i = 0; i < ROUNDS && kill_generation(pid); i++)
        (void)poll(NULL, 0, ROUND_MS);
}
