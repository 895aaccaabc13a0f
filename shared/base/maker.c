/*
 * Who made a lock file. Runs anywhere; reads the id of the machine's boot and the file that it is given.
 */
#include "shared/base/maker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"

#define BOOT_ID  "/proc/sys/kernel/random/boot_id"
#define BOOT_LEN 36 /* a UUID */
#define BEGIN    "0\npennypost "

/* BEGIN, the boot, a blank. */
static int text_of_boot(char *out)
{
    _cleanup_close_ int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    size_t len = strlen(BEGIN);

    memcpy(out, BEGIN, len);
    if (fd < 0 || read(fd, out + len, BOOT_LEN) != BOOT_LEN)
        return -EOPNOTSUPP;
    out[len + BOOT_LEN] = ' ';
    out[len + BOOT_LEN + 1] = '\0';
    return 0;
}

static int text_of(long pid, char *ret)
{
    int r = text_of_boot(ret);

    if (r == 0)
        (void)snprintf(ret + strlen(ret), MAKER_TEXT - strlen(ret), "%ld\n", pid);
    return r;
}

int maker_text(char *ret, size_t *ret_len)
{
    char text[MAKER_TEXT];
    int r = text_of(getpid(), text);

    if (r < 0)
        return r;
    *ret_len = strlen(text);
    memcpy(ret, text, *ret_len + 1);
    return 0;
}

bool maker_is_gone(int fd)
{
    char found[MAKER_TEXT], text[MAKER_TEXT], *number;
    struct stat st;
    ssize_t n;
    long pid;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    n = pread(fd, found, sizeof(found) - 1, 0);
    if (n <= 0 || memchr(found, '\0', (size_t)n) != NULL)
        return false;
    found[n] = '\0';
    number = strrchr(found, ' ');
    pid = number != NULL ? strtol(number + 1, NULL, 10) : 0;
    return pid > 0 && pid <= INT32_MAX && text_of(pid, text) == 0 && strcmp(text, found) == 0 &&
           kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}
