/*
 * Lists of names, and the subscriptions: one text file in the state folder, a name a line. Runs as the user.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/folders.h"

#define SUBSCRIPTIONS_MAX (16u << 20)

int names_add(struct names *list, struct str name)
{
    if (list->count >= LIMIT_MAILBOXES)
        return -ENOBUFS;
    if (list->count == list->cap) {
        size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        char **more = realloc(list->names, cap * sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        list->names = more;
        list->cap = cap;
    }
    list->names[list->count] = str_dup(name);
    if (list->names[list->count] == NULL)
        return -ENOMEM;
    list->count++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void names_sort(struct names *list)
{
    if (list->count > 1)
        qsort(list->names, list->count, sizeof(*list->names), by_name);
}

bool names_has(const struct names *list, struct str name)
{
    size_t low = 0, high = list->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = str_cmp(str_from(list->names[mid]), name);

        if (order == 0)
            return true;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

void names_finish(struct names *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
    *list = (struct names){0};
}

static int side_file(struct mbox_store *s, const char *name, struct buf *out)
{
    return s->state == NULL ? -EROFS : buf_printf(out, "%s/%s", s->state, name);
}

static int read_lines(int fd, struct names *list)
{
    _cleanup_buf_ struct buf text = BUF_INIT(SUBSCRIPTIONS_MAX);
    struct stat st;
    struct str rest, line;
    bool has_more;
    int r;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size > SUBSCRIPTIONS_MAX - 1)
        return -EFBIG;
    if ((r = buf_reserve(&text, (size_t)st.st_size + 1)) < 0 ||
        (r = file_read(fd, text.data, (size_t)st.st_size, 0)) < 0)
        return r == -ENODATA ? -EIO : r;
    rest = (struct str){text.data, (size_t)st.st_size};
    do {
        has_more = str_cut(&rest, '\n', &line);
        if (line.len > 0 && (r = names_add(list, line)) < 0)
            return r;
    } while (has_more);
    names_sort(list);
    return 0;
}

int subscriptions_load(struct mbox_store *s, struct names *ret)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    struct names list = {0};
    int r;

    if (s->state == NULL)
        return 0;
    if ((r = side_file(s, "subscriptions", &path)) < 0)
        return r;
    fd = open(buf_cstr(&path), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    r = read_lines(fd, &list);
    if (r < 0) {
        names_finish(&list);
        return r;
    }
    *ret = list;
    return 0;
}

static int write_lines(struct mbox_store *s, const struct names *list, struct str skip)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_buf_ struct buf temp = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_buf_ struct buf text = BUF_INIT(SUBSCRIPTIONS_MAX);
    _cleanup_close_ int fd = -1;
    int r;

    for (size_t i = 0; i < list->count; i++) {
        if (str_eq(str_from(list->names[i]), skip))
            continue;
        if ((r = buf_add_str(&text, str_from(list->names[i]))) < 0 || (r = buf_add_byte(&text, '\n')) < 0)
            return r;
    }
    if ((r = side_file(s, "subscriptions", &path)) < 0 || (r = side_file(s, "subscriptions.new", &temp)) < 0)
        return r;
    fd = open(buf_cstr(&temp), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = file_write(fd, text.data, text.len, 0);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (r == 0 && rename(buf_cstr(&temp), buf_cstr(&path)) < 0)
        r = -errno;
    return r == 0 ? file_sync_folder(buf_cstr(&path)) : r;
}

int subscriptions_change(struct mbox_store *s, struct str name, bool subscribed)
{
    _cleanup_buf_ struct buf lock = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    struct names list = {0};
    int r;

    if ((r = side_file(s, "subscriptions.lock", &lock)) < 0 || (r = store_prepare(s)) < 0)
        return r;
    fd = open(buf_cstr(&lock), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return -errno;
    r = subscriptions_load(s, &list);
    if (r == 0 && names_has(&list, name) != subscribed) {
        if (subscribed && (r = names_add(&list, name)) == 0)
            names_sort(&list);
        if (r == 0)
            r = write_lines(s, &list, subscribed ? STR_NULL : name);
    }
    names_finish(&list);
    return r;
}
