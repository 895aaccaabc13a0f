/*
 * The user's mailboxes as LIST sees them (see folders.h). Runs in imap-session as the user.
 */
#include "handlers/imap/folders.h"

#include <errno.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define NAMES_MAX ((size_t)LIMIT_MAILBOXES * 256)

void folders_init(struct folders *f)
{
    *f = (struct folders){.names = BUF_INIT(NAMES_MAX)};
}

void folders_finish(struct folders *f)
{
    free(f->items);
    buf_finish(&f->names);
    f->items = NULL;
    f->count = f->cap = 0;
}

int folders_add(struct folders *f, struct str name, unsigned flags)
{
    int r;

    if (f->count >= LIMIT_MAILBOXES)
        return -ENOBUFS;
    if (f->count == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 32;
        struct folder *more = realloc(f->items, cap * sizeof(*more));

        if (!more)
            return -ENOMEM;
        f->items = more;
        f->cap = cap;
    }
    f->items[f->count] = (struct folder){.name_at = f->names.len, .name_len = name.len, .flags = flags};
    r = buf_add_str(&f->names, name);
    if (r >= 0)
        f->count++;
    return r;
}

static int on_entry(void *context, struct str name, unsigned flags)
{
    return folders_add(context, name, flags);
}

int folders_load(struct imap *s, struct folders *f)
{
    return mbox_list(s->store, on_entry, f);
}

struct str folders_name(const struct folders *f, size_t i)
{
    return str_sub(buf_str(&f->names), f->items[i].name_at, f->items[i].name_len);
}

ptrdiff_t folders_find(const struct folders *f, struct str name)
{
    for (size_t i = 0; i < f->count; i++)
        if (str_eq(folders_name(f, i), name))
            return (ptrdiff_t)i;
    return -1;
}

struct str folders_parent(struct str name)
{
    size_t at = name.len;

    while (at > 0 && name.ptr[at - 1] != '/')
        at--;
    return str_sub(name, 0, at > 0 ? at - 1 : 0);
}

struct str folders_renamed(struct parse *p, struct str name, struct str from, struct str to)
{
    struct str rest = str_sub(name, from.len, name.len);
    char *copy;

    if (!str_starts(name, from) || (rest.len && rest.ptr[0] != '/'))
        return STR_NULL;
    copy = parse_alloc(p, to.len + rest.len + 1);
    if (!copy)
        return STR_NULL;
    memcpy(copy, to.ptr, to.len);
    if (rest.len)
        memcpy(copy + to.len, rest.ptr, rest.len);
    return (struct str){copy, to.len + rest.len};
}

/* One pass with a place to come back to: the last wildcard takes one byte more each time. A `%` that cannot grow over
 * "/" gives way to the last `*`. Time is the product of both lengths at worst, and both are capped. */
bool folders_match(struct str pattern, struct str name)
{
    size_t p = 0, n = 0, star = SIZE_MAX, star_n = 0, percent = SIZE_MAX, percent_n = 0;

    while (n < name.len || p < pattern.len) {
        char c = p < pattern.len ? pattern.ptr[p] : '\0';

        if (p < pattern.len && c == '*') {
            star = p++;
            star_n = n;
            percent = SIZE_MAX;
        } else if (p < pattern.len && c == '%') {
            percent = p++;
            percent_n = n;
        } else if (p < pattern.len && n < name.len && c == name.ptr[n]) {
            p++;
            n++;
        } else if (percent != SIZE_MAX && percent_n < name.len && name.ptr[percent_n] != '/') {
            p = percent + 1;
            n = ++percent_n;
        } else if (star != SIZE_MAX && star_n < name.len) {
            p = star + 1;
            n = ++star_n;
            percent = SIZE_MAX;
        } else {
            return false;
        }
    }
    return true;
}
