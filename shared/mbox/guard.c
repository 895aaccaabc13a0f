/*
 * What becomes of a mapped index that somebody cuts: see mbox_guard(). Runs in the process that reads the index, as the
 * user; reads /proc/self/maps then.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/mbox.h"

#define MAPS_LINE (PATH_MAX + 128)

/* One line of /proc/self/maps: "FROM-TO PERMS OFFSET DEVICE INODE  NAME". Is the address in it, and is it a mapping of
 * ours: shared, read-only, of a file NAME.index or the .index.new that is being made? */
static bool is_index_at(const char *line, uintptr_t at, bool *ret_ours)
{
    uintptr_t bounds[2] = {0};
    const char *p = line;

    for (size_t i = 0; i < 2; i++) {
        for (; (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'f'); p++)
            bounds[i] = bounds[i] << 4 | (uintptr_t)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
        if (*p++ != (i == 0 ? '-' : ' '))
            return false;
    }
    if (at < bounds[0] || at >= bounds[1])
        return false;
    *ret_ours = strncmp(p, "r--s ", 5) == 0 && strstr(p, ".index") != NULL;
    return true;
}

/* Is it one of our mappings? Where there is no /proc to tell, it is taken for one. No allocation: this is a signal
 * handler. */
static bool is_ours(uintptr_t at)
{
    _cleanup_close_ int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    char line[MAPS_LINE], bytes[4096];
    bool is_found = false, ours = true;
    size_t len = 0;
    ssize_t n;

    while (fd >= 0 && !is_found && (n = read(fd, bytes, sizeof(bytes))) > 0) {
        for (ssize_t i = 0; i < n && !is_found; i++) {
            if (bytes[i] != '\n') {
                line[len] = bytes[i];
                len += len < sizeof(line) - 1;
                continue;
            }
            line[len] = '\0';
            len = 0;
            is_found = is_index_at(line, at, &ours);
        }
    }
    return ours;
}

/* The page that is not there any more reads as zeros: no header and no record checks so. Anything else that raises this
 * signal raises it again, and is not held up then. */
static void on_cut(int number, siginfo_t *info, void *context)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    void *at = (void *)((uintptr_t)info->si_addr & ~(page - 1));
    int saved = errno;

    (void)context;
    if (info->si_code != BUS_ADRERR || !is_ours((uintptr_t)at) ||
        mmap(at, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        (void)sigaction(number, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    errno = saved;
}

int mbox_guard(void)
{
    struct sigaction action = {.sa_sigaction = on_cut, .sa_flags = SA_SIGINFO | SA_RESTART};

    return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}
