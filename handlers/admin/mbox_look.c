/*
 * Looking through an mbox file for what is wrong with it, and copying it without that. Part of `pennypost mbox`; runs
 * as whoever calls it and only reads the file.
 */
#include "handlers/admin/mbox_look.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/fromline.h"
#include "shared/mbox/scan.h"

#define BLOCK     65536u
#define NUL_RUN   16u   /* fewer NULs than this in a row are some program's message */
#define EDIT_MOST 65536 /* bytes put in by one edit */

static int add_finding(struct mbox_look *look, uint64_t offset, uint32_t message, struct mbox_finding **ret,
                       const char *format, ...) _printf_(5, 6);

static int add_finding(struct mbox_look *look, uint64_t offset, uint32_t message, struct mbox_finding **ret,
                       const char *format, ...)
{
    struct mbox_finding *f;
    va_list ap;
    int r;

    if (look->count == LIMIT_FINDINGS) {
        look->is_full = true;
        return -E2BIG;
    }
    if (look->count == look->cap) {
        size_t cap = look->cap > 0 ? look->cap * 2 : 16;

        f = reallocarray(look->findings, cap, sizeof(*f));
        if (f == NULL)
            return -ENOMEM;
        look->findings = f;
        look->cap = cap;
    }
    f = &look->findings[look->count];
    *f = (struct mbox_finding){.offset = offset, .message = message, .insert = BUF_INIT(EDIT_MOST)};
    va_start(ap, format);
    r = vasprintf(&f->text, format, ap);
    va_end(ap);
    if (r < 0)
        return -ENOMEM;
    look->count++;
    if (ret != NULL)
        *ret = f;
    return 0;
}

static int make_fix(struct mbox_finding *f, uint64_t removed, struct str insert, const char *what)
{
    f->is_fixable = true;
    f->removed = removed;
    f->fix = str_dup(str_from(what));
    if (f->fix == NULL)
        return -ENOMEM;
    return buf_add_str(&f->insert, insert);
}

static int add_fixed(struct mbox_look *look, uint64_t offset, uint32_t message, struct str insert, const char *text,
                     const char *fix)
{
    struct mbox_finding *f;
    int r = add_finding(look, offset, message, &f, "%s", text);

    return r < 0 ? r : make_fix(f, 0, insert, fix);
}

/* ---- lines ---- */

struct line_walk {
    struct mbox_look *look;
    uint32_t message;
    bool is_own;
    uint64_t at;    /* of the byte that comes next */
    uint64_t start; /* of the current line */
    size_t len;     /* of it, as far as kept */
    bool was_empty; /* the line before */
    bool has_candidate;
    uint64_t candidate; /* a From_ line without an empty line before it */
    uint64_t nuls;      /* in a row, just before `at` */
    char line[FROMLINE_MAX + 1];
};

/* A field name and a colon (RFC 5322 2.2). */
static bool is_field(struct str line)
{
    size_t n = 0;

    while (n < line.len && line.ptr[n] > ' ' && line.ptr[n] < 127 && line.ptr[n] != ':')
        n++;
    return n > 0 && n < line.len && line.ptr[n] == ':';
}

static int end_nuls(struct line_walk *w)
{
    struct mbox_finding *f;
    uint64_t n = w->nuls;
    int r;

    w->nuls = 0;
    if (n < NUL_RUN)
        return 0;
    r = add_finding(w->look, w->at - n, w->message, &f,
                    "%" PRIu64 " NUL bytes in a row: data that a crash of the machine lost", n);
    return r < 0 ? r : make_fix(f, n, STR_NULL, "left them out");
}

static int end_line(struct line_walk *w)
{
    struct str line = {w->line, w->len < sizeof(w->line) ? w->len : sizeof(w->line)};
    struct fromline from;
    int r = 0;

    if (line.len > 0 && line.ptr[line.len - 1] == '\r') {
        w->look->crlf_lines++;
        line.len--;
    } else {
        w->look->lf_lines++;
    }
    if (w->has_candidate && is_field(line))
        r = add_fixed(w->look, w->candidate, w->message, STR("\n"),
                      "a From_ line with a header behind it, but no empty line before it: two messages run together",
                      "put the empty line in, so that they are two");
    w->has_candidate = !w->is_own && !w->was_empty && w->len <= FROMLINE_MAX && str_starts(line, STR("From ")) &&
                       fromline_parse(line, &from);
    w->candidate = w->start;
    w->was_empty = line.len == 0;
    w->start = w->at;
    w->len = 0;
    return r;
}

static int walk_byte(struct line_walk *w, char c)
{
    int r = 0;

    if (c == '\0') {
        w->nuls++;
        w->at++;
    } else {
        r = end_nuls(w);
        w->at++;
    }
    if (c == '\n')
        return r < 0 ? r : end_line(w);
    if (w->len < sizeof(w->line))
        w->line[w->len++] = c;
    return r;
}

/* Looks at the lines from `from` up to `to`; the first one is a From_ line that is in its place. */
static int walk_lines(struct mbox_look *look, uint32_t message, bool is_own, uint64_t from, uint64_t to)
{
    struct line_walk w = {
        .look = look, .message = message, .is_own = is_own, .at = from, .start = from, .was_empty = true};
    _cleanup_free_ char *block = malloc(BLOCK);
    int r = 0;

    if (block == NULL)
        return -ENOMEM;
    while (r == 0 && w.at < to) {
        size_t want = to - w.at < BLOCK ? (size_t)(to - w.at) : BLOCK;
        ssize_t n = pread(look->fd, block, want, (off_t)w.at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        for (ssize_t i = 0; r == 0 && i < n; i++)
            r = walk_byte(&w, block[i]);
    }
    return r < 0 ? r : end_nuls(&w);
}

/* ---- messages ---- */

/* Did we write it, and is it as long as we wrote it? */
static bool is_as_written(const struct scan_message *m)
{
    return m->has_marker && m->marker.form != INTEROP_FOREIGN &&
           (m->marker.length == m->length || m->marker.length == m->length - m->separator);
}

static int check_own(struct mbox_look *look, const struct scan_message *m)
{
    struct mbox_finding *f;
    int r;

    look->own++;
    if (is_as_written(m))
        return 0;
    r = add_finding(look, m->offset + m->from_length, look->messages, &f,
                    "we wrote it with %" PRIu64 " bytes, %" PRIu64 " are there: cut off, or edited by another program",
                    m->marker.length, m->length);
    if (r < 0)
        return r;
    r = make_fix(f, m->block, STR_NULL, "kept it as a message like those of other programs");
    if (r == 0)
        r = buf_printf(&f->insert, "X-Repaired: pennypost; %" PRIu64 " of %" PRIu64 " bytes\n", m->length,
                       m->marker.length);
    return r;
}

static int check_uid(struct mbox_look *look, const struct scan_message *m)
{
    if (m->uid == 0)
        return 0;
    if (numset_has(&look->uids, m->uid))
        return add_finding(look, m->offset, look->messages, NULL,
                           "X-UID %" PRIu32 " is that of another message too: it gets a new UID when it is opened",
                           m->uid);
    return numset_add(&look->uids, m->uid, m->uid);
}

static int visit(void *context, const struct scan_message *m)
{
    struct mbox_look *look = context;
    bool is_own = m->has_marker && m->marker.form != INTEROP_FOREIGN;
    int r = 0;

    look->messages++;
    look->pseudo += m->is_pseudo ? 1 : 0;
    if (m->has_base && look->uidvalidity == 0) {
        look->uidvalidity = m->uidvalidity;
        look->uidlast = m->uidlast;
    }
    if (is_own)
        r = check_own(look, m);
    if (r == 0)
        r = check_uid(look, m);
    if (r == 0)
        r = walk_lines(look, look->messages, is_as_written(m), m->offset, m->offset + m->length);
    if (r == 0 && m->lacks_newline)
        r = add_fixed(look, m->offset + m->length, look->messages, STR("\n\n"), "the file ends inside its last line",
                      "ended the line");
    else if (r == 0 && m->separator == 0 && m->offset + m->length == (uint64_t)look->st.st_size)
        r = add_fixed(look, m->offset + m->length, look->messages, STR("\n"), "no empty line at the end of the file",
                      "put it in");
    return r;
}

/* ---- the beginning ---- */

/* Where the first From_ line stands, at the start of any line. The size if there is none. */
static int find_start(struct mbox_look *look)
{
    _cleanup_free_ char *block = malloc(BLOCK);
    char line[FROMLINE_MAX + 1];
    uint64_t at = 0, start = 0;
    struct fromline from;
    size_t len = 0;

    if (block == NULL)
        return -ENOMEM;
    for (;;) {
        ssize_t n = pread(look->fd, block, BLOCK, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        for (ssize_t i = 0; i < n; i++, at++) {
            if (block[i] != '\n') {
                if (len < sizeof(line))
                    line[len++] = block[i];
                continue;
            }
            if (len > 0 && len <= FROMLINE_MAX && line[len - 1] == '\r')
                len--;
            if (len <= FROMLINE_MAX && fromline_parse((struct str){line, len}, &from)) {
                look->start = start;
                return 0;
            }
            start = at + 1;
            len = 0;
        }
        if (n == 0)
            break;
    }
    look->start = at;
    return 0;
}

static bool is_blank(const struct mbox_look *look)
{
    char block[512];
    ssize_t n = look->start <= sizeof(block) ? pread(look->fd, block, (size_t)look->start, 0) : -1;

    for (ssize_t i = 0; i < n; i++)
        if (block[i] != '\n' && block[i] != '\r')
            return false;
    return n >= 0;
}

static int check_start(struct mbox_look *look)
{
    struct mbox_finding *f;
    int r = find_start(look);

    if (r < 0 || look->start == 0 || is_blank(look))
        return r;
    r = add_finding(look, 0, 0, &f, "%" PRIu64 " bytes before the first From_ line%s", look->start,
                    look->start == (uint64_t)look->st.st_size ? ": there is none, this is not an mbox" : "");
    if (r < 0)
        return r;
    r = make_fix(f, 0, STR_NULL, "made a message of its own of them");
    if (r == 0)
        r = fromline_write(STR_NULL, look->st.st_mtim.tv_sec, &f->insert);
    if (r == 0)
        r = buf_printf(&f->insert, "Subject: bytes that stood before the first message\nX-Repaired: pennypost\n\n");
    if (r == 0)
        r = add_fixed(look, look->start, 0, STR("\n\n"), "no empty line before the first From_ line", "put it in");
    return r;
}

static int by_offset(const void *a, const void *b)
{
    const struct mbox_finding *x = a;
    const struct mbox_finding *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

int mbox_look(int fd, const char *path, struct mbox_look *ret)
{
    static const uint64_t key[2];
    struct scan_result result;
    int r;

    *ret = (struct mbox_look){.fd = fd, .path = path, .uids = NUMSET_INIT};
    if (fstat(fd, &ret->st) < 0)
        return -errno;
    r = check_start(ret);
    if (r == 0 && ret->start < (uint64_t)ret->st.st_size)
        r = scan_file(fd, ret->start, key, visit, ret, &result);
    if (r == -E2BIG && ret->is_full)
        r = 0;
    if (r == 0 && ret->count > 1)
        qsort(ret->findings, ret->count, sizeof(*ret->findings), by_offset);
    if (r < 0)
        mbox_look_finish(ret);
    return r;
}

void mbox_look_finish(struct mbox_look *look)
{
    for (size_t i = 0; i < look->count; i++) {
        free(look->findings[i].text);
        free(look->findings[i].fix);
        buf_finish(&look->findings[i].insert);
    }
    free(look->findings);
    numset_finish(&look->uids);
    look->findings = NULL;
    look->count = look->cap = 0;
}

/* ---- the copy ---- */

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int copy_range(int from, int to, uint64_t at, uint64_t end)
{
    _cleanup_free_ char *block = malloc(BLOCK);
    int r = 0;

    if (block == NULL)
        return -ENOMEM;
    while (r == 0 && at < end) {
        ssize_t n = pread(from, block, end - at < BLOCK ? (size_t)(end - at) : BLOCK, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        r = write_all(to, block, (size_t)n);
        at += (uint64_t)n;
    }
    return r;
}

int mbox_look_copy(const struct mbox_look *look, int out)
{
    uint64_t at = 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < look->count; i++) {
        const struct mbox_finding *f = &look->findings[i];

        if (!f->is_fixable)
            continue;
        if (f->offset > at) {
            r = copy_range(look->fd, out, at, f->offset);
            at = f->offset;
        }
        if (r == 0)
            r = write_all(out, f->insert.data, f->insert.len);
        if (f->offset + f->removed > at)
            at = f->offset + f->removed;
    }
    if (r == 0)
        r = copy_range(look->fd, out, at, (uint64_t)look->st.st_size);
    return r < 0 ? r : fsync(out) < 0 ? -errno : 0;
}
