/*
 * pennypost check --security: the programs that strangers talk to, as they run. Each is started by its own monitor, as
 * a super-server starts that, and must show in /proc that it has given everything up before anybody has said a word to
 * it. Runs as root.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handlers/admin/check_security.h"
#include "shared/base/macros.h"
#include "shared/gate/chain.h"
#include "shared/gate/priv.h"
#include "shared/gate/tls.h"

#define LOOK_MS 50
#define LOOKS   100 /* until a part has confined itself */
#define LINE    256
#define PARTS   16 /* children of a monitor */
#define FACTS   10 /* lines of a status that count */

struct part {
    const char *monitor;
    const char *option;
    const char *name;
};

static const struct part parts[] = {
    {"imap", NULL, "imap-login"}, {"pop3", NULL, "pop3-login"},   {"pop2", NULL, "pop2-login"},
    {"imap", "--tls", "tls"},     {"smtp", NULL, "smtp-session"},
};

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

static bool has_name(pid_t pid, const char *name)
{
    char line[LINE];
    FILE *f = open_proc(pid, "comm");
    bool has_it =
        f && fgets(line, sizeof(line), f) && strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == '\n';

    if (f)
        (void)fclose(f);
    return has_it;
}

/* The child of that name, 0 for none. */
static pid_t find_part(pid_t monitor, const char *name)
{
    char file[48];
    FILE *f;
    int pid = 0;
    pid_t found = 0;

    (void)snprintf(file, sizeof(file), "task/%d/children", (int)monitor);
    f = open_proc(monitor, file);
    for (int i = 0; f && i < PARTS && found == 0 && fscanf(f, "%d", &pid) == 1; i++)
        if (has_name(pid, name))
            found = pid;
    if (f)
        (void)fclose(f);
    return found;
}

/* Is this line of /proc/PID/status about what a process may do? 1: and as it should be, -1: and it is not. */
static int judge_line(const char *line)
{
    static const struct {
        const char *name;
        unsigned long long value;
    } wanted[] = {{"CapInh", 0}, {"CapPrm", 0}, {"CapEff", 0},     {"CapBnd", 0},
                  {"CapAmb", 0}, {"Groups", 0}, {"NoNewPrivs", 1}, {"Seccomp", 2}};
    unsigned long long n[4] = {0};
    char name[16];

    if (sscanf(line, "%15[^:]: %llx %llx %llx %llx", name, &n[0], &n[1], &n[2], &n[3]) < 1)
        return 0;
    if (strcmp(name, "Uid") == 0 || strcmp(name, "Gid") == 0)
        return n[0] != 0 && n[1] != 0 && n[2] != 0 && n[3] != 0 ? 1 : -1;
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        if (strcmp(name, wanted[i].name) == 0)
            return n[0] == wanted[i].value ? 1 : -1;
    return 0;
}

/* What of it is not as it should be; "": nothing. */
static void judge_status(pid_t pid, char out[static LINE])
{
    char line[LINE];
    FILE *f = open_proc(pid, "status");
    int seen = 0, verdict = 0;

    while (f && verdict >= 0 && fgets(line, sizeof(line), f)) {
        verdict = judge_line(line);
        seen += verdict > 0;
    }
    if (f)
        (void)fclose(f);
    line[verdict < 0 ? strcspn(line, "\n") : 0] = '\0';
    (void)snprintf(out, LINE, "%s", verdict < 0 ? line : seen < FACTS ? "its status cannot be read" : "");
}

static void judge_root(pid_t pid, char out[static LINE])
{
    char path[64], root[LINE];
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/proc/%d/root", (int)pid);
    n = readlink(path, root, sizeof(root) - 1);
    root[n < 0 ? 0 : n] = '\0';
    if (strcmp(root, PRIV_EMPTY_DIR) != 0)
        (void)snprintf(out, LINE, "its root is %.200s", root);
}

static void look_at(struct report *r, const struct part *p, pid_t monitor)
{
    char what[64], wrong[LINE] = "it was not started";

    for (int i = 0; i < LOOKS && wrong[0] != '\0'; i++) {
        pid_t pid = find_part(monitor, p->name);

        if (pid > 0)
            judge_status(pid, wrong);
        if (pid > 0 && wrong[0] == '\0')
            judge_root(pid, wrong);
        if (wrong[0] != '\0')
            (void)poll(NULL, 0, LOOK_MS);
    }
    (void)snprintf(what, sizeof(what), "%s as it runs", p->name);
    report_say(r, wrong[0] == '\0', what,
               wrong[0] == '\0' ? "its own uid, no capabilities, an empty root, a filter" : wrong);
}

/* Starts the monitor of a part on a connection that nobody speaks on. */
static int start(const struct conf *conf, const struct part *p, struct chain_child *ret, int *ret_fd)
{
    struct chain_spec spec = {CHAIN_SPEC(p->monitor), .arguments = {p->option}, .conf = conf};
    int pair[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    spec.fds[0] = spec.fds[1] = pair[1];
    spec.fds[2] = CHAIN_NULL;
    r = chain_spawn(&spec, ret);
    (void)close(pair[1]);
    if (r < 0)
        (void)close(pair[0]);
    else
        *ret_fd = pair[0];
    return r;
}

void check_running(struct report *r, const struct conf *conf)
{
    struct str file;
    bool has_tls = tls_check(conf, &file) == 0;

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        struct chain_child child = CHAIN_CHILD_NONE;
        int fd = -1;
        int e = parts[i].option && !has_tls ? -ENODATA : start(conf, &parts[i], &child, &fd);

        if (e < 0) {
            report_skip(r, parts[i].name, e == -ENODATA ? "no certificate" : strerror(-e));
            continue;
        }
        look_at(r, &parts[i], child.pid);
        close_fd(&fd);
        (void)chain_end(&child, LOOKS * LOOK_MS);
    }
}
