/*
 * The file of those who fetch their mail. Runs in the monitor of smtp and in relay, as root; reads the admin's file
 * only.
 */
#include "shared/route/customers.h"

#include <errno.h>

#include "shared/route/listfile.h"

int customers_load(const char *path, struct buf *text)
{
    int r = listfile_read(path, NULL, text, NULL);

    return r == -ENOENT ? 0 : r;
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
