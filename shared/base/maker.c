/*
 * Who made a lock file. Runs anywhere; reads the id of the machine's boot and the file that it is given.
 */
#include "shared/base/maker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/remote.h"

#define BOOT_ID  "/proc/sys/kernel/random/boot_id"
#define BOOT_LEN 36 /* a UUID */
#define BEGIN    "0\npennypost "

/* What stands in the second line. */
struct maker {
    char boot[BOOT_LEN + 1];
    long pid;
    char host[sizeof(((struct utsname *)0)->nodename)];
};

static int this_process(struct maker *ret)
{
    _cleanup_close_ int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    struct maker m = {.pid = getpid()};
    struct utsname name;

    if (fd < 0 || read(fd, m.boot, BOOT_LEN) != BOOT_LEN)
        return -EOPNOTSUPP;
    if (uname(&name) == 0 && strcspn(name.nodename, " \n") == strlen(name.nodename))
        memcpy(m.host, name.nodename, sizeof(m.host));
    *ret = m;
    return 0;
}

static void print(const struct maker *m, char *ret)
{
    (void)snprintf(ret, MAKER_TEXT, BEGIN "%s %ld%s%s\n", m->boot, m->pid, m->host[0] != '\0' ? " " : "", m->host);
}

/* False: it is not what print() makes. */
static bool parse(const char *text, struct maker *ret)
{
    struct maker m = {.pid = 0};
    const char *p = text + strlen(BEGIN);
    char *end, again[MAKER_TEXT];
    size_t len;

    if (strncmp(text, BEGIN, strlen(BEGIN)) != 0 || strlen(p) <= BOOT_LEN)
        return false;
    memcpy(m.boot, p, BOOT_LEN);
    m.pid = strtol(p + BOOT_LEN, &end, 10);
    len = *end == ' ' ? strcspn(end + 1, " \n") : 0;
    if (len >= sizeof(m.host))
        return false;
    memcpy(m.host, end + 1, len);
    print(&m, again);
    *ret = m;
    return m.pid > 0 && m.pid <= INT32_MAX && strcmp(again, text) == 0;
}

int maker_text(char *ret, size_t *ret_len)
{
    struct maker m;
    int r = this_process(&m);

    if (r < 0)
        return r;
    print(&m, ret);
    *ret_len = strlen(ret);
    return 0;
}

static bool is_shared(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) < 0 || remote_is_shared(&fs);
}

bool maker_is_gone(int fd)
{
    char found[MAKER_TEXT];
    struct maker m, we;
    struct stat st;
    ssize_t n;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    n = pread(fd, found, sizeof(found) - 1, 0);
    if (n <= 0 || memchr(found, '\0', (size_t)n) != NULL)
        return false;
    found[n] = '\0';
    if (!parse(found, &m) || this_process(&we) < 0)
        return false;
    if (strcmp(m.boot, we.boot) == 0)
        return kill((pid_t)m.pid, 0) < 0 && errno == ESRCH;
    return m.host[0] != '\0' && strcmp(m.host, we.host) == 0 && !is_shared(fd);
}
