/*
 * LIST: walking the folders directory. Runs as the user; reads directories, and the first bytes of dot files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/folders.h"
#include "shared/mbox/names.h"

struct walk {
    struct mbox_store *s;
    struct names files;   /* mailboxes */
    struct names folders; /* names that have a directory */
};

/* Dot files are mailboxes only when they look like one. */
static bool is_mailbox(int folder, const char *entry)
{
    _cleanup_close_ int fd = -1;
    char start[5];
    ssize_t n;

    if (entry[0] != '.')
        return true;
    fd = openat(folder, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = pread(fd, start, sizeof(start), 0);
    return n == 0 || (n == sizeof(start) && memcmp(start, "From ", sizeof(start)) == 0);
}

static int walk_folder(struct walk *w, const char *path, struct str prefix, int depth);

static int walk_children(struct walk *w, const char *path, const char *entry, struct str name, int depth)
{
    _cleanup_buf_ struct buf below = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    if ((r = names_add(&w->folders, name)) < 0 || (r = buf_printf(&below, "%s/%s", path, entry)) < 0)
        return r;
    return walk_folder(w, buf_cstr(&below), name, depth + 1);
}

static int walk_entry(struct walk *w, int folder, const char *path, struct str prefix, const char *entry, int depth)
{
    _cleanup_buf_ struct buf name = BUF_INIT(LIMIT_MAILBOX_NAME);
    struct str level = str_from(entry);
    bool is_sbd = str_ends(level, STR(".sbd"));
    struct stat st;

    if (fstatat(folder, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (S_ISDIR(st.st_mode) && is_sbd)
        level.len -= 4;
    if ((prefix.len > 0 && (buf_add_str(&name, prefix) < 0 || buf_add_byte(&name, '/') < 0)) ||
        buf_add_str(&name, level) < 0 || mbox_name_check(buf_str(&name)) < 0)
        return 0; /* one that the store could not name */
    if (S_ISDIR(st.st_mode))
        return walk_children(w, path, entry, buf_str(&name), depth);
    if (!S_ISREG(st.st_mode) || name_is_inbox(buf_str(&name)) || !is_mailbox(folder, entry))
        return 0;
    return names_add(&w->files, buf_str(&name));
}

static int walk_folder(struct walk *w, const char *path, struct str prefix, int depth)
{
    struct dirent *entry;
    DIR *dir;
    int r = 0;

    if (depth > LIMIT_MAILBOX_DEPTH)
        return 0;
    dir = opendir(path);
    if (dir == NULL)
        return errno == ENOENT || errno == EACCES ? 0 : -errno;
    while (r == 0 && (entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = walk_entry(w, dirfd(dir), path, prefix, entry->d_name, depth);
    (void)closedir(dir);
    return r;
}

/* Is there a name below this one? The lists are sorted. */
static bool has_below(const struct names *list, struct str name)
{
    size_t low = 0, high = list->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        struct str other = str_from(list->names[mid]);
        int order = str_cmp(str_sub(other, 0, name.len), name);

        if (order > 0 || (order == 0 && other.len > name.len && other.ptr[name.len] >= '/'))
            high = mid;
        else
            low = mid + 1;
    }
    return low < list->count && str_starts(str_from(list->names[low]), name) && list->names[low][name.len] == '/';
}

struct visitor {
    struct walk *w;
    struct names subscribed;
    int (*visit)(void *context, struct str name, unsigned flags);
    void *context;
};

static int tell(struct visitor *v, struct str name, unsigned flags)
{
    if (has_below(&v->w->files, name) || has_below(&v->w->folders, name))
        flags |= MBOX_ENTRY_HAS_CHILDREN;
    if (names_has(&v->subscribed, name))
        flags |= MBOX_ENTRY_SUBSCRIBED;
    return v->visit(v->context, name, flags);
}

/* All names once, in order: files, directories without a file, subscriptions to what is not there and what is above. */
static int tell_all(struct visitor *v, const struct names *all)
{
    int r = tell(v, STR("INBOX"), 0);

    for (size_t i = 0; r == 0 && i < all->count; i++) {
        struct str name = str_from(all->names[i]);

        if ((i > 0 && strcmp(all->names[i], all->names[i - 1]) == 0) || name_is_inbox(name))
            continue;
        if (names_has(&v->w->files, name))
            r = tell(v, name, 0);
        else if (names_has(&v->w->folders, name))
            r = tell(v, name, MBOX_ENTRY_NOSELECT);
        else
            r = tell(v, name, MBOX_ENTRY_NOSELECT | MBOX_ENTRY_MISSING);
    }
    return r;
}

static int add_all(struct names *to, const struct names *from)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < from->count; i++)
        r = names_add(to, str_from(from->names[i]));
    return r;
}

/* Subscriptions with the names above them: what is subscribed may be all there is of a branch (RFC 3501 6.3.9). Sorted,
 * so names with the same one above them follow each other. */
static int add_subscribed(struct names *to, const struct names *subscribed)
{
    struct str last = STR_NULL;
    int r = 0;

    for (size_t i = 0; r == 0 && i < subscribed->count; i++) {
        struct str name = str_from(subscribed->names[i]);

        r = names_add(to, name);
        for (size_t at = 1; r == 0 && at < name.len; at++)
            if (name.ptr[at] == '/' && !str_starts(last, str_sub(name, 0, at + 1)))
                r = names_add(to, str_sub(name, 0, at));
        last = name;
    }
    return r;
}

int mbox_list(struct mbox_store *s, int (*visit)(void *context, struct str name, unsigned flags), void *context)
{
    struct walk w = {.s = s};
    struct visitor v = {.w = &w, .visit = visit, .context = context};
    struct names all = {0};
    int r;

    r = s->folders == NULL ? 0 : walk_folder(&w, s->folders, STR_NULL, 1);
    if (r == 0)
        r = subscriptions_load(s, &v.subscribed);
    if (r == 0 && (r = add_all(&all, &w.files)) == 0 && (r = add_all(&all, &w.folders)) == 0 &&
        (r = add_subscribed(&all, &v.subscribed)) == 0) {
        names_sort(&w.files);
        names_sort(&w.folders);
        names_sort(&all);
        r = tell_all(&v, &all);
    }
    names_finish(&w.files);
    names_finish(&w.folders);
    names_finish(&v.subscribed);
    names_finish(&all);
    return r;
}
