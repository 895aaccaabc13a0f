/*
 * The end of an mbox file. Runs as the user under BOX_WRITE.
 */
#include "shared/mbox/tail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/fromline.h"

#define LOOK      1024
#define TAIL_MOST (1u << 20) /* looked through for the beginning of the last message */

/* is_all: there is no more of the file. */
static bool begins_like_mbox(const char *p, size_t n, bool is_all)
{
    struct fromline from;
    const char *lf;

    while (n > 0 && (*p == '\n' || *p == '\r')) {
        p++;
        n--;
    }
    if (n == 0)
        return is_all; /* `echo > mbox` empties a mailbox for many */
    lf = memchr(p, '\n', n);
    if (lf != NULL)
        n = (size_t)(lf - p);
    if (n > 0 && p[n - 1] == '\r')
        n--;
    return fromline_parse((struct str){p, n}, &from);
}

int tail_look(struct box *b, bool *ret_crlf, struct str *ret_repair)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    size_t n = size < LOOK ? (size_t)size : LOOK;
    char bytes[LOOK];
    const char *lf;
    int r;

    *ret_crlf = false;
    *ret_repair = STR_NULL;
    if (size == 0)
        return 0;
    if ((r = file_read(b->fd, bytes, n, 0)) < 0)
        return r;
    if (!begins_like_mbox(bytes, n, n == size))
        return -EBADMSG;
    lf = memchr(bytes, '\n', n);
    *ret_crlf = lf != NULL && lf > bytes && lf[-1] == '\r';
    if ((r = file_read(b->fd, bytes, n < 3 ? n : 3, size - (n < 3 ? n : 3))) < 0)
        return r;
    n = n < 3 ? n : 3;
    if (bytes[n - 1] != '\n')
        *ret_repair = *ret_crlf ? STR("\r\n\r\n") : STR("\n\n");
    else if (n >= 2 && bytes[n - 2] != '\n' && !(n == 3 && bytes[1] == '\r' && bytes[0] == '\n'))
        *ret_repair = *ret_crlf ? STR("\r\n") : STR("\n");
    return 0;
}

/* The last From_ line in these bytes whose next line is our marker; *ret_at its index. */
static bool find_marker(const char *bytes, size_t n, size_t *ret_at, struct interop_marker *ret)
{
    for (size_t at = n; at-- > 0;) {
        const char *p = memrchr(bytes, 'F', at + 1);
        const char *lf, *end;
        struct str line;
        struct fromline from;

        if (p == NULL)
            return false;
        at = (size_t)(p - bytes);
        if ((at > 0 && p[-1] != '\n') || n - at < 5 || memcmp(p, "From ", 5) != 0)
            continue;
        lf = memchr(p, '\n', n - at);
        if (lf == NULL)
            continue;
        line = (struct str){p, (size_t)(lf - p)};
        if (line.len > 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (!fromline_parse(line, &from))
            continue;
        end = memchr(lf + 1, '\n', n - (size_t)(lf + 1 - bytes));
        if (end == NULL || !interop_marker_parse(str_trim((struct str){lf + 1, (size_t)(end - lf) - 1}), ret))
            return false; /* the last message is not ours */
        *ret_at = at;
        return true;
    }
    return false;
}

int tail_recover(struct box *b)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    size_t n = size < TAIL_MOST ? (size_t)size : TAIL_MOST;
    _cleanup_free_ char *bytes = NULL;
    struct interop_marker marker;
    size_t at;
    int r;

    if (size == 0)
        return 0;
    bytes = malloc(n);
    if (bytes == NULL)
        return -ENOMEM;
    if ((r = file_read(b->fd, bytes, n, size - n)) < 0)
        return r;
    if (!find_marker(bytes, n, &at, &marker) || marker.form == INTEROP_FOREIGN)
        return 0;
    if (marker.offset != size - n + at || marker.offset + marker.length <= size)
        return 0;
    if (ftruncate(b->fd, (off_t)marker.offset) < 0 || fsync(b->fd) < 0 || fstat(b->fd, &b->facts) < 0)
        return -errno;
    (void)store_notice(b->store, "%s: the unfinished end of an interrupted append was cut off, %llu bytes", b->name,
                       (unsigned long long)(size - marker.offset));
    return 0;
}
