/*
 * An append of ours that came to nothing, with mail of another program behind it, which knows none of our locks or came
 * when we were dead. That mail stays, and stays a message of its own. Runs as the user under BOX_WRITE.
 *
 * With a state what is ours goes out under a journal. Without one it cannot be moved over safely, so its marker says
 * void, in one byte, and all behind it becomes empty lines: other programs see an empty message, the store none, and
 * takes it out when it can. After a crash in between the void marker is enough to know what is to go, up to where the
 * other mail begins.
 */
#include "shared/mbox/excise.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/fromline.h"
#include "shared/mbox/interop.h"
#include "shared/mbox/journal.h"
#include "shared/mbox/tail.h"

#define PIECE       (64u << 10)
#define LOOK        1024u /* a From_ line and a marker */
#define BLOCK_LEAST 512u  /* no file system writes less, unless we told it to */
#define RANGES_MAX  2u

static const struct str marker_start = STR("X-Pennypost: ");

/* ---- where it ends ---- */

/* What we write has no line that begins with "From " but for those of our own messages, and a write that was cut off,
 * or one of several, ends with a block. `before`: the byte in front. */
static bool is_foreign(const char *p, size_t n, uint64_t offset, uint64_t begin)
{
    const char *lf = memchr(p, '\n', n);
    struct fromline from;
    size_t len;

    if (p[-1] != '\n' && offset % BLOCK_LEAST != 0)
        return false;
    if (lf == NULL)
        return false;
    len = (size_t)(lf - p);
    if (!fromline_parse((struct str){p, len - (len > 0 && lf[-1] == '\r' ? 1 : 0)}, &from))
        return false;
    return !tail_is_of_append(lf + 1, n - len - 1, offset, begin);
}

int excise_foreign(struct box *b, uint64_t from, uint64_t *ret)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    _cleanup_free_ char *bytes = malloc(PIECE + LOOK);
    int r;

    if (bytes == NULL)
        return -ENOMEM;
    for (uint64_t at = from; at < size; at += PIECE) {
        size_t n = size - at < PIECE + LOOK ? (size_t)(size - at) : PIECE + LOOK;

        if ((r = file_read(b->fd, bytes, n, at)) < 0)
            return r;
        for (size_t i = 1; i <= PIECE && i < n; i++) {
            const char *p = memmem(bytes + i, n - i, "From ", 5);

            if (p == NULL || (i = (size_t)(p - bytes)) > PIECE)
                break;
            if (is_foreign(p, n - i, at + i, from)) {
                *ret = at + i;
                return 0;
            }
        }
    }
    *ret = size;
    return 0;
}

/* ---- out of the file ---- */

static int move_up(struct box *b, const struct excise_range *ranges, size_t count)
{
    struct journal_plan plan;
    struct stat st;
    int r = 0;

    if (fstat(b->fd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size < ranges[count - 1].to)
        return -ESTALE;
    journal_plan_init(&plan, ranges[0].from, (uint64_t)st.st_size);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = journal_plan_copy(&plan, ranges[i].to,
                              (i + 1 < count ? ranges[i + 1].from : (uint64_t)st.st_size) - ranges[i].to);
    if (r == 0)
        r = journal_run(b, &plan);
    journal_plan_finish(&plan);
    return r;
}

/* ---- void ---- */

static int fill(struct box *b, uint64_t from, uint64_t to)
{
    char lines[4096];
    int r = 0;

    memset(lines, '\n', sizeof(lines));
    for (size_t n; r == 0 && from < to; from += n) {
        n = to - from < sizeof(lines) ? (size_t)(to - from) : sizeof(lines);
        r = file_write(b->fd, lines, n, from);
    }
    return r;
}

/* Where the form stands in the marker of the message of ours in these bytes, which begins at `offset`, and where the
 * line behind the marker begins. */
static bool find_form(const char *bytes, size_t n, uint64_t offset, size_t *ret_form, size_t *ret_end)
{
    const char *lf = memchr(bytes, '\n', n), *end;
    struct interop_marker marker;
    struct str line;

    if (lf == NULL || (end = memchr(lf + 1, '\n', n - (size_t)(lf + 1 - bytes))) == NULL)
        return false;
    line = (struct str){lf + 1, (size_t)(end - lf) - 1};
    if (!str_starts(line, marker_start) || !interop_marker_parse(str_trim(line), &marker) || marker.offset != offset)
        return false;
    *ret_form = (size_t)(line.ptr - bytes) + marker_start.len;
    *ret_end = (size_t)(end - bytes) + 1;
    return true;
}

/* What has no marker of its own becomes empty lines of the message in front of it. */
static int make_void(struct box *b, const struct excise_range *range)
{
    uint64_t length = range->to - range->from;
    size_t n = length < LOOK ? (size_t)length : LOOK, form, end;
    char bytes[LOOK];
    int r;

    if ((r = file_read(b->fd, bytes, n, range->from)) < 0)
        return r;
    if (!find_form(bytes, n, range->from, &form, &end) || end + 2 > length)
        return fill(b, range->from, range->to);
    if ((r = file_write(b->fd, "3", 1, range->from + form)) < 0)
        return r;
    return fill(b, range->from + end, range->to);
}

int excise(struct box *b, const struct excise_range *ranges, size_t count)
{
    struct excise_range some[RANGES_MAX];
    size_t n = 0;
    int r = -ENOBUFS;

    for (size_t i = 0; i < count && n < RANGES_MAX; i++)
        if (ranges[i].to > ranges[i].from)
            some[n++] = ranges[i];
    if (n == 0)
        return 0;
    if (b->held & BOX_STATE) {
        r = move_up(b, some, n);
        if (r < 0 && !journal_exists(b) && store_use_reserve(b->store, r, true))
            r = move_up(b, some, n);
        if (r == 0 || journal_exists(b))
            return r;
    }
    for (size_t i = 0; i < n; i++)
        if ((r = make_void(b, &some[i])) < 0)
            return r;
    return fdatasync(b->fd) < 0 ? -errno : -ENOBUFS;
}
