/*
 * The file of those who fetch their mail. Runs in the monitor of smtp and in relay, as root; reads the admin's file
 * only.
 */
#include "shared/route/customers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"

int customers_load(const char *path, struct buf *text)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    int r = 0;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t)CUSTOMERS_FILE)
        return -EFBIG;
    while (r == 0) {
        char piece[4096];
        ssize_t n = read(fd, piece, sizeof(piece));

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return 0;
        r = n > 0 ? buf_add(text, piece, (size_t)n) : 0;
    }
    return r;
}

struct entry {
    struct str line, user; /* what is left of them */
};

/* The next domain with the user whose it is. */
static bool next(struct str *text, struct entry *e, struct str *ret_domain)
{
    while (!str_word(&e->line, ret_domain)) {
        if (text->len == 0)
            return false;
        (void)str_cut(text, '\n', &e->line);
        if (!str_word(&e->line, &e->user) || e->user.ptr[0] == '#')
            e->line = STR("");
    }
    return true;
}

bool customers_have(struct str text, struct str domain)
{
    struct entry e = {0};
    struct str one;

    while (next(&text, &e, &one))
        if (str_ieq(one, domain))
            return true;
    return false;
}

bool customers_owns(struct str text, struct str user, struct str domain)
{
    struct entry e = {0};
    struct str one;

    while (next(&text, &e, &one))
        if (str_eq(e.user, user) && str_ieq(one, domain))
            return true;
    return false;
}

int customers_domains(struct str text, struct str user, struct buf *out)
{
    struct entry e = {0};
    struct str one;
    int r = 0;

    while (r == 0 && next(&text, &e, &one))
        if (str_eq(e.user, user)) {
            r = out->len > 0 ? buf_add_byte(out, ',') : 0;
            if (r == 0)
                r = buf_add_str(out, one);
        }
    return r;
}
