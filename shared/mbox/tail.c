/*
 * The end of an mbox file. Runs as the user under BOX_WRITE.
 */
#include "shared/mbox/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/excise.h"
#include "shared/mbox/fromline.h"
#include "shared/mbox/hash.h"

#define LOOK        1024
#define BLOCK_LEAST 512        /* no file system has smaller blocks */
#define TAIL_MOST   (1u << 20) /* looked through for the beginning of the last message */
#define TAIL_PIECE  (64u << 10)

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

/* The bytes at the end, at most `most`. */
static int read_tail(struct box *b, uint64_t most, char **ret, size_t *ret_len)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    size_t n = (size_t)(size < most ? size : most);
    char *bytes = malloc(n + 1);
    int r;

    if (bytes == NULL)
        return -ENOMEM;
    if ((r = file_read(b->fd, bytes, n, size - n)) < 0) {
        free(bytes);
        return r == -ENODATA ? -EIO : r;
    }
    *ret = bytes;
    *ret_len = n;
    return 0;
}

static bool is_after_empty_line(const char *bytes, size_t at, bool is_whole)
{
    if (at == 0)
        return is_whole;
    if (bytes[at - 1] != '\n')
        return false;
    if (at == 1)
        return is_whole;
    return bytes[at - 2] == '\n' || (at >= 3 && bytes[at - 2] == '\r' && bytes[at - 3] == '\n');
}

/* Index of an unfinished line at the end that begins like a From_ line, or of such a line whole with nothing behind it
 * but the beginning of our marker. n: there is none. */
static size_t fragment_at(const char *bytes, size_t n, bool is_whole)
{
    static const char from[] = "From ", marker[] = "X-Pennypost:";
    const char *lf = n > 0 ? memrchr(bytes, '\n', n) : NULL;
    size_t line = lf == NULL ? 0 : (size_t)(lf - bytes) + 1;
    size_t len = n - line, before, end;
    struct fromline parsed;

    if (len > 0 && len <= FROMLINE_MAX && is_after_empty_line(bytes, line, is_whole) &&
        memcmp(bytes + line, from, len < 5 ? len : 5) == 0)
        return line;
    if (line == 0 || memcmp(bytes + line, marker, len < 12 ? len : 12) != 0)
        return n;
    lf = line > 1 ? memrchr(bytes, '\n', line - 1) : NULL;
    before = lf == NULL ? 0 : (size_t)(lf - bytes) + 1;
    end = line - 1;
    if (end > before && bytes[end - 1] == '\r')
        end--;
    if (is_after_empty_line(bytes, before, is_whole) &&
        fromline_parse((struct str){bytes + before, end - before}, &parsed))
        return before;
    return n;
}

bool tail_is_of_append(const char *header, size_t n, uint64_t offset, uint64_t begin)
{
    const char *lf = memchr(header, '\n', n);
    struct interop_marker marker;

    return lf != NULL && interop_marker_parse(str_trim((struct str){header, (size_t)(lf - header)}), &marker) &&
           marker.form != INTEROP_FOREIGN && marker.offset == offset && marker.begin <= begin;
}

/* Does a message begin somewhere in [at, n) that was not appended together with what stands at `hole`? */
static bool has_message(const char *bytes, size_t n, size_t at, size_t hole, uint64_t offset)
{
    struct fromline parsed;

    while (at < n) {
        const char *lf = memchr(bytes + at, '\n', n - at);
        size_t end = lf == NULL ? n : (size_t)(lf - bytes);

        if (is_after_empty_line(bytes, at, false) &&
            fromline_parse((struct str){bytes + at, end - at - (end > at && bytes[end - 1] == '\r' ? 1 : 0)},
                           &parsed) &&
            (end >= n || !tail_is_of_append(bytes + end + 1, n - end - 1, offset + at, offset + hole)))
            return true;
        at = end + 1;
    }
    return false;
}

/* Index of a hole where a From_ line should stand or go on, up to the end of a block, with the rest of that append
 * behind it: its first block was lost. `offset`: of the bytes in the file. n: there is none. */
static size_t hole_at(const char *bytes, size_t n, uint64_t offset, bool is_whole)
{
    for (size_t at = 0, end; at < n; at = end) {
        const char *nul = memchr(bytes + at, '\0', n - at);
        size_t start;

        if (nul == NULL)
            return n;
        at = end = (size_t)(nul - bytes);
        while (end < n && bytes[end] == '\0')
            end++;
        start = is_after_empty_line(bytes, at, is_whole) ? at : fragment_at(bytes, at, is_whole);
        if ((start < at || is_after_empty_line(bytes, at, is_whole)) && end < n && (offset + end) % BLOCK_LEAST == 0 &&
            !has_message(bytes, n, end, start, offset))
            return start;
    }
    return n;
}

/* Index of what a crash left at the end: a fragment, NULs, or both. n: nothing. */
static size_t torn_at(const char *bytes, size_t n, uint64_t offset, bool is_whole)
{
    size_t text = n, at = hole_at(bytes, n, offset, is_whole);

    if (at < n)
        return at;

    while (text > 0 && bytes[text - 1] == '\0')
        text--;
    at = fragment_at(bytes, text, is_whole);
    if (at < text)
        return at;
    return text;
}

int tail_look_torn(struct box *b, const struct index_header *known)
{
    uint64_t size = (uint64_t)b->facts.st_size, limit = 0;
    _cleanup_free_ char *bytes = NULL;
    size_t n, at;
    int r;

    if (b->fd < 0 || size == 0 || b->takes_torn)
        return 0;
    if (known != NULL && known->dev == b->facts.st_dev && known->ino == b->facts.st_ino)
        limit = known->size;
    if (limit >= size)
        return 0;
    if ((r = read_tail(b, TAIL_MOST, &bytes, &n)) < 0)
        return r;
    at = torn_at(bytes, n, size - n, n == size);
    if (at == n || size - n + at < limit)
        return 0;
    b->torn = size - n + at;
    return -EUCLEAN;
}

/* The marker of the message of ours that begins, still where it was written, at `offset`. False: there is none, or not
 * all of it. */
static bool read_marker(struct box *b, uint64_t offset, struct interop_marker *ret)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    size_t n = offset >= size ? 0 : size - offset < LOOK ? (size_t)(size - offset) : LOOK;
    char bytes[LOOK];
    const char *lf, *end;

    if (n == 0 || file_read(b->fd, bytes, n, offset) < 0 || (lf = memchr(bytes, '\n', n)) == NULL)
        return false;
    end = memchr(lf + 1, '\n', n - (size_t)(lf + 1 - bytes));
    return end != NULL && interop_marker_parse(str_trim((struct str){lf + 1, (size_t)(end - lf) - 1}), ret) &&
           ret->form != INTEROP_FOREIGN && ret->offset == offset;
}

/* Where the append begins of which this message is: what stands in front of a torn one is as little acknowledged. */
static uint64_t begin_of_append(struct box *b, const struct interop_marker *torn)
{
    struct interop_marker first;

    return torn->begin < torn->offset && torn->offset < torn->end && read_marker(b, torn->begin, &first) &&
                   first.begin == torn->begin && first.end == torn->end
               ? torn->begin
               : torn->offset;
}

/* Where the message itself begins behind From_ line and block. 0: not in these bytes. */
static size_t end_of_block(const char *bytes, size_t n)
{
    const char *end = bytes + n, *p = memchr(bytes, '\n', n), *lf;

    for (p = p == NULL ? end : p + 1; p < end && (lf = memchr(p, '\n', (size_t)(end - p))) != NULL; p = lf + 1)
        if (!interop_is_hidden(interop_field((struct str){p, (size_t)(lf - p)})))
            return (size_t)(p - bytes);
    return 0;
}

/* Adds stored text as it was before it got the line ends of the file; there is room for a byte in front of it.
 * *has_cr: a CR behind which an LF may follow. */
static void add_text(struct mhash *h, char *text, size_t n, bool is_crlf, bool *has_cr)
{
    char *to = text - 1;

    for (size_t i = 0; is_crlf && i < n; i++) {
        char c = text[i];

        if (*has_cr && c != '\n')
            *to++ = '\r';
        *has_cr = c == '\r';
        if (!*has_cr)
            *to++ = c;
    }
    mhash_add(h, is_crlf ? text - 1 : text, is_crlf ? (size_t)(to - (text - 1)) : n);
}

bool tail_is_whole(struct box *b, const struct interop_marker *m)
{
    static const uint64_t no_key[2];
    bool is_crlf = m->form == INTEROP_OWN_CRLF, has_cr = false;
    uint64_t size = (uint64_t)b->facts.st_size, at = m->offset, end;
    _cleanup_free_ char *bytes = malloc(TAIL_PIECE + 1);
    struct mhash h;
    uint8_t sum[16];
    size_t n;

    if (bytes == NULL || m->offset > size || m->length > size - m->offset || m->length < 2)
        return false;
    end = m->offset + m->length - (is_crlf ? 2 : 1); /* the empty line */
    n = end - at < TAIL_PIECE ? (size_t)(end - at) : TAIL_PIECE;
    if (file_read(b->fd, bytes, n, at) < 0 || (n = end_of_block(bytes, n)) == 0)
        return false;
    mhash_init(&h, no_key);
    for (at += n; at < end; at += n) {
        n = end - at < TAIL_PIECE ? (size_t)(end - at) : TAIL_PIECE;
        if (file_read(b->fd, bytes + 1, n, at) < 0)
            return false;
        add_text(&h, bytes + 1, n, is_crlf, &has_cr);
    }
    mhash_done(&h, sum);
    return memcmp(sum, &m->sum, sizeof(m->sum)) == 0;
}

/* Has another program's mail come to stand in a message of ours, which was not finished? */
static bool has_foreign(struct box *b, const struct interop_marker *m, uint64_t end)
{
    uint64_t at;

    return excise_foreign(b, m->offset, &at) == 0 && at < end && !tail_is_whole(b, m);
}

bool tail_is_torn(struct box *b, const struct index_record *rec, bool is_unseen, uint64_t *ret)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    struct interop_marker marker;

    /* Fields outside of the block: another program has edited it, and its length is what that made it. */
    if (b->takes_torn || !(rec->bits & INDEX_IS_TORN) || (rec->bits & INDEX_HAS_STRAY))
        return false;
    if (!read_marker(b, rec->offset, &marker)) {
        *ret = rec->offset;
        return rec->offset + rec->length == size;
    }
    *ret = begin_of_append(b, &marker);
    if (rec->offset + rec->length < size || marker.end <= size)
        return has_foreign(b, &marker, rec->offset + rec->length);
    return is_unseen || marker.offset + marker.length > size;
}

/* It was never acknowledged, but bytes are not thrown away where they can be kept. */
static void keep_cut(struct box *b, uint64_t begin, uint64_t end)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_free_ char *bytes = malloc(TAIL_PIECE);
    _cleanup_close_ int fd = -1;
    size_t n;

    if (b->side == NULL || bytes == NULL || buf_printf(&path, "%s.torn", b->side) < 0)
        return;
    fd = open(buf_cstr(&path), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    for (uint64_t at = begin; fd >= 0 && at < end; at += n) {
        n = end - at < TAIL_PIECE ? (size_t)(end - at) : TAIL_PIECE;
        if (file_read(b->fd, bytes, n, at) < 0 || file_write(fd, bytes, n, at - begin) < 0)
            return;
    }
}

int tail_cut(struct box *b, uint64_t from)
{
    struct excise_range cut = {.from = from};
    struct stat st;
    int r;

    if ((r = excise_foreign(b, from, &cut.to)) < 0)
        return r;
    keep_cut(b, from, cut.to);
    if (fstat(b->fd, &st) < 0 || st.st_size != b->facts.st_size)
        return -EAGAIN; /* somebody appended behind it, without regard to our locks */
    if (cut.to < (uint64_t)st.st_size)
        r = excise(b, &cut, 1);
    else if (ftruncate(b->fd, (off_t)from) < 0 || fsync(b->fd) < 0)
        r = -errno;
    if (r == 0 || r == -ENOBUFS)
        (void)store_notice(b->store, "%s: the unfinished end of an interrupted append was cut off, %llu bytes", b->name,
                           (unsigned long long)(cut.to - cut.from));
    return fstat(b->fd, &b->facts) < 0 ? -errno : r;
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

/* Are there fields of other programs behind the block of the message whose From_ line begins here? */
static bool is_edited(const char *bytes, size_t n)
{
    const char *end = bytes + n, *p = memchr(bytes, '\n', n), *lf;
    bool in_block = true;

    for (p = p == NULL ? end : p + 1; p < end && (lf = memchr(p, '\n', (size_t)(end - p))) != NULL; p = lf + 1) {
        struct str line = str_trim((struct str){p, (size_t)(lf - p)});
        bool is_field = *p != ' ' && *p != '\t' && interop_is_hidden(interop_field(line));

        if (line.len == 0)
            return false;
        if (is_field && !in_block)
            return true;
        in_block = in_block && is_field;
    }
    return false;
}

/* Is the last message in these bytes, which begin at `offset`, one of ours and not all there? *ret: where to cut. */
static bool find_torn(struct box *b, const char *bytes, size_t n, uint64_t offset, uint64_t *ret)
{
    struct interop_marker marker;
    size_t at;

    if (!find_marker(bytes, n, &at, &marker) || marker.form == INTEROP_FOREIGN || marker.offset != offset + at ||
        marker.offset + marker.length == offset + n || is_edited(bytes + at, n - at))
        return false;
    if (marker.offset + marker.length < offset + n && !has_foreign(b, &marker, offset + n))
        return false;
    *ret = begin_of_append(b, &marker);
    return true;
}

/* One cut. *ret_cut: there was something, look again. */
static int recover_once(struct box *b, uint64_t most, bool *ret_cut)
{
    uint64_t size = (uint64_t)b->facts.st_size, cut;
    _cleanup_free_ char *bytes = NULL;
    size_t n, at;
    int r;

    *ret_cut = false;
    if (size == 0)
        return 0;
    if ((r = read_tail(b, most, &bytes, &n)) < 0)
        return r;
    at = torn_at(bytes, n, size - n, n == size);
    cut = size - n + at;
    if (at == n && !find_torn(b, bytes, n, size - n, &cut))
        return 0;
    *ret_cut = true;
    r = tail_cut(b, cut);
    return r == -ENOBUFS ? 0 : r;
}

int tail_recover(struct box *b, uint64_t most)
{
    bool is_cut;
    int r;

    do {
        r = recover_once(b, most, &is_cut);
    } while (r == 0 && is_cut);
    return r;
}
