/*
 * The mbox scanner: one message after another. Part of the library: no process of its own; reads one file by pread.
 */
#include "shared/mbox/scan_part.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#ifdef SCAN_HAS_WIDE
#include <sys/platform/x86.h>
#endif

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mbox/mbox.h"

#define KEEP 600 /* bytes never consumed before more are there: a From_ line, a quoting window */

static void hash_rest(struct scanner *s)
{
    mhash_add(&s->hash, s->buf + s->text, s->text_end - s->text);
    s->text = s->text_end = 0;
}

/* Hashes bytes of the buffer; what follows one another goes into the hash at once. */
static void hash_bytes(struct scanner *s, const uint8_t *p, size_t len)
{
    size_t at = (size_t)(p - s->buf);

    if (at != s->text_end) {
        hash_rest(s);
        s->text = at;
    }
    s->text_end = at + len;
}

int scan_enlarge(struct scanner *s)
{
    uint8_t *larger = realloc(s->buf, SCAN_BUFFER + SCAN_SLACK);

    if (larger == NULL)
        return -ENOMEM;
    s->buf = larger;
    s->size = SCAN_BUFFER;
    return 0;
}

/* Moves what is unconsumed (and the history) to the front and reads behind it. */
static int refill(struct scanner *s)
{
    size_t from = s->pos > SCAN_HISTORY ? s->pos - SCAN_HISTORY : 0;
    size_t size = s->len == 0 ? s->first : SCAN_BUFFER;

    hash_rest(s);
    if (size > s->size && scan_enlarge(s) < 0)
        return -ENOMEM;
    memmove(s->buf, s->buf + from, s->len - from);
    s->base += from;
    s->pos -= from;
    s->len -= from;
    while (!s->is_eof && s->len < size) {
        ssize_t n = pread(s->fd, s->buf + s->len, size - s->len, (off_t)(s->base + s->len));

        if (n < 0 && errno != EINTR)
            return -errno;
        s->is_eof = n == 0;
        s->len += n > 0 ? (size_t)n : 0;
    }
    memset(s->buf + s->len, 0, SCAN_SLACK);
    return 0;
}

static int need(struct scanner *s, size_t n)
{
    return s->len - s->pos >= n || s->is_eof ? 0 : refill(s);
}

static bool is_exact_lf(const struct scanner *s)
{
    return s->m.marker.form == INTEROP_OWN_LF;
}

/* Hashes stored bytes; CRs of CRLFs are left out, unless a CR belongs to the text. */
static void hash_text(struct scanner *s, const uint8_t *p, size_t len, bool has_crlf)
{
    if (is_exact_lf(s) || !has_crlf) {
        hash_bytes(s, p, len);
        return;
    }
    while (len > 0) {
        const uint8_t *cr = memchr(p, '\r', len);
        size_t n = cr == NULL ? len : (size_t)(cr - p);

        hash_bytes(s, p, n);
        p += n;
        len -= n;
        if (len > 0) {
            if (p[1] != '\n')
                hash_bytes(s, p, 1);
            p++;
            len--;
        }
    }
}

static struct str without_eol(struct str line)
{
    if (line.len > 0 && line.ptr[line.len - 1] == '\n')
        line.len--;
    if (line.len > 0 && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

/* ---- header ---- */

/* "UIDVALIDITY UIDLAST KEYWORD..." */
static void take_base(struct scanner *s, struct str value)
{
    struct str word;
    uint32_t validity, last;

    if (!str_word(&value, &word) || str_to_u32(word, &validity) < 0 || validity == 0)
        return;
    if (!str_word(&value, &word) || str_to_u32(word, &last) < 0)
        return;
    s->m.has_base = true;
    s->m.uidvalidity = validity;
    s->m.uidlast = last;
    buf_clear(&s->base_keywords);
    (void)buf_add_str(&s->base_keywords, str_trim(value));
}

static void take_field(struct scanner *s, enum interop_field field, struct str line)
{
    struct str value = interop_value(line);

    switch (field) {
    case INTEROP_STATUS:
    case INTEROP_X_STATUS:
        s->m.flags |= interop_flags(field, value);
        break;
    case INTEROP_X_KEYWORDS:
        if (value.len > 0 && (buf_add_str(&s->keywords, value) < 0 || buf_add_byte(&s->keywords, ' ') < 0))
            s->lacks_room = true;
        break;
    case INTEROP_X_UID:
        if (str_to_u32(value, &s->m.uid) < 0)
            s->m.uid = 0;
        break;
    case INTEROP_X_IMAP:
    case INTEROP_X_IMAPBASE:
        if (s->is_first)
            take_base(s, value);
        s->m.is_pseudo |= s->is_first && field == INTEROP_X_IMAP;
        break;
    default:
        break;
    }
}

/* The first bytes of a header line decide what it is. */
static void classify(struct scanner *s, struct str line)
{
    struct str text = without_eol(line);
    enum interop_field field;

    if (s->has_lines && (line.ptr[0] == ' ' || line.ptr[0] == '\t')) {
        /* It goes with the line before it. Our own block has no folded lines: behind it the message begins so. */
        if (s->in_block)
            s->class = CLASS_NORMAL;
        return;
    }
    field = interop_field(text);
    if (!s->has_lines)
        s->m.has_marker = s->in_block = interop_marker_parse(text, &s->m.marker);
    s->class = CLASS_NORMAL;
    if (interop_is_hidden(field) && (s->m.has_marker || (field != INTEROP_MARKER && field != INTEROP_PAD)))
        s->class = CLASS_HIDDEN;
    if (s->class == CLASS_HIDDEN) {
        s->m.has_interop |= field != INTEROP_CONTENT_LENGTH && field != INTEROP_LINES;
        take_field(s, field, text);
    }
    if (s->is_first && str_istarts(text, STR("Subject:")) && str_ifind(text, STR("FOLDER INTERNAL DATA")) >= 0)
        s->is_pseudo_subject = true;
}

/* A header line or a piece of a very long one. */
static void take_line(struct scanner *s, struct str line, bool is_start)
{
    bool has_crlf = line.len > 1 && line.ptr[line.len - 1] == '\n' && line.ptr[line.len - 2] == '\r';
    size_t quoted = 0;

    if (is_start) {
        classify(s, line);
        if (s->m.marker.form != INTEROP_FOREIGN && s->class != CLASS_HIDDEN)
            quoted = interop_quoted(line, true);
        s->has_lines = true;
    }
    s->m.header += line.len;
    if (s->class == CLASS_HIDDEN) {
        if (s->in_block)
            s->m.block += (uint32_t)line.len;
        else
            s->m.has_stray = true;
        return;
    }
    s->in_block = false;
    s->m.has_8bit |= !str_is_ascii(line);
    s->m.size += line.len - quoted;
    if (line.ptr[line.len - 1] == '\n' && (is_exact_lf(s) || !has_crlf))
        s->m.size++;
    if (s->class == CLASS_NORMAL)
        hash_text(s, (const uint8_t *)line.ptr + quoted, line.len - quoted, has_crlf);
}

/* The next line, or what fits of it. A null view: the end of the file. */
static int next_line(struct scanner *s, struct str *ret)
{
    const uint8_t *lf;
    size_t n;
    int r;

    for (;;) {
        n = s->len - s->pos;
        lf = n > 0 ? memchr(s->buf + s->pos, '\n', n) : NULL;
        if (lf != NULL || s->is_eof || s->len - (s->pos > SCAN_HISTORY ? s->pos - SCAN_HISTORY : 0) >= SCAN_BUFFER)
            break;
        if ((r = refill(s)) < 0)
            return r;
    }
    if (lf != NULL)
        n = (size_t)(lf - (s->buf + s->pos)) + 1;
    else if (!s->is_eof && s->buf[s->pos + n - 1] == '\r')
        n--; /* its LF may follow */
    *ret = (struct str){(const char *)s->buf + s->pos, n};
    return 0;
}

/* Up to the empty line, which is left to the body. */
static int scan_header(struct scanner *s)
{
    bool is_start = true;
    struct str line;
    int r;

    for (;;) {
        if ((r = next_line(s, &line)) < 0)
            return r;
        if (line.len == 0)
            return 0;
        if (is_start && line.ptr[line.len - 1] == '\n' && without_eol(line).len == 0)
            return 0;
        take_line(s, line, is_start);
        s->pos += line.len;
        is_start = line.ptr[line.len - 1] == '\n';
    }
}

/* ---- body ---- */

/* Takes the body bytes up to index `to`. */
static void take_body(struct scanner *s, size_t to)
{
    size_t n = to - s->pos;

    s->m.size += n;
    hash_text(s, s->buf + s->pos, n, s->counts.crlf > 0);
    s->pos = to;
}

/* Bytes of the empty line in front of `end`, of which `available` bytes are known. */
static uint8_t separator_at(const uint8_t *end, size_t available)
{
    if (available < 2 || end[-1] != '\n')
        return 0;
    if (end[-2] == '\n')
        return 1;
    return available >= 3 && end[-2] == '\r' && end[-3] == '\n' ? 2 : 0;
}

/* Takes the last body bytes, up to index `to`, without the separator. */
static void end_body(struct scanner *s, size_t to)
{
    s->m.separator = separator_at(s->buf + to, to);
    if (to - s->m.separator > s->pos) /* scan_search() may begin within it */
        take_body(s, to - s->m.separator);
    s->pos = to;
    if (s->m.separator > 0)
        s->counts.lf--;
    if (s->m.separator == 2)
        s->counts.crlf--;
    s->m.size += s->counts.lf - (is_exact_lf(s) ? 0 : s->counts.crlf);
}

/* Is there a separator and a From_ line: at index c, behind the LF at c - 1? */
static bool is_boundary(struct scanner *s, size_t c)
{
    const uint8_t *p = s->buf + c, *lf;
    size_t n = s->len - c;

    if (n < 5 || memcmp(p, "From ", 5) != 0)
        return false;
    if (p[-2] != '\n' && (p[-2] != '\r' || p[-3] != '\n'))
        return false;
    if (n > FROMLINE_MAX + 2)
        n = FROMLINE_MAX + 2;
    lf = memchr(p, '\n', n);
    if (lf == NULL && !s->is_eof)
        return false;
    if (!fromline_parse(without_eol((struct str){(const char *)p, lf == NULL ? n : (size_t)(lf - p) + 1}), &s->from))
        return false;
    s->from_at = s->base + c;
    return true;
}

/* Where to stop until more is read: not so near the end that a From_ line might be cut, and never behind a line end,
 * because the next line may be a From_ line that makes it a separator. */
static size_t safe_limit(const struct scanner *s)
{
    size_t limit = s->len;

    if (s->is_eof)
        return limit;
    limit -= KEEP;
    for (int i = 0; i < SCAN_HISTORY && limit > s->pos && (s->buf[limit - 1] == '\n' || s->buf[limit - 1] == '\r'); i++)
        limit--;
    if (limit > s->pos && s->buf[limit - 1] == '\r')
        limit--;
    return limit;
}

/* From the empty line behind the header to the next From_ line or the end. *ret_more: a From_ line follows. */
static int scan_body(struct scanner *s, bool *ret_more)
{
    bool is_quoted = s->m.marker.form != INTEROP_FOREIGN;
    int r;

    for (;;) {
        size_t at, limit;

        if (s->len - s->pos <= KEEP + SCAN_HISTORY && !s->is_eof && (r = refill(s)) < 0)
            return r;
        limit = safe_limit(s);
        for (at = s->pos; at < limit; at++) {
            const uint8_t *p = s->find(s->buf + at, s->buf + limit, 'F', is_quoted ? '>' : 'F', &s->counts);

            at = (size_t)(p - s->buf);
            if (at >= limit)
                break;
            if (p[1] == 'F' && is_boundary(s, at + 1)) {
                end_body(s, at + 1);
                *ret_more = true;
                return 0;
            }
            if (p[1] == '>' && interop_quoted((struct str){(const char *)p + 1, s->len - at - 1}, false) > 0) {
                take_body(s, at + 1);
                s->pos++;
            }
        }
        if (s->is_eof) {
            end_body(s, s->len);
            *ret_more = false;
            return 0;
        }
        if (s->pos < limit)
            take_body(s, limit);
        if ((r = refill(s)) < 0)
            return r;
    }
}

/* ---- messages ---- */

/* A file may end in the middle of a line: the wire form completes it. */
static void complete_line(struct scanner *s, bool has_body)
{
    uint8_t last = s->buf[s->pos - 1];

    if (last == '\n' || s->m.length == s->m.from_length || (!has_body && s->class == CLASS_HIDDEN))
        return;
    hash_rest(s);
    s->m.lacks_newline = true;
    s->m.size += last == '\r' && !is_exact_lf(s) ? 1 : 2;
    mhash_add(&s->hash, "\n", 1);
}

/* Starts a message with the From_ line at s->pos. */
static int scan_from(struct scanner *s)
{
    struct str line;
    int r;

    if ((r = need(s, KEEP)) < 0 || (r = next_line(s, &line)) < 0)
        return r;
    if (s->from_at != s->base + s->pos && !fromline_parse(without_eol(line), &s->from))
        return -EBADMSG;
    s->m = (struct scan_message){.offset = s->base + s->pos,
                                 .from_length = (uint32_t)line.len,
                                 .date = s->from.date,
                                 .date_offset = s->from.offset};
    mhash_init(&s->hash, s->key);
    s->text = s->text_end = 0;
    s->counts = (struct scan_counts){0};
    buf_clear(&s->keywords);
    s->in_block = s->has_lines = s->is_pseudo_subject = false;
    s->class = CLASS_NORMAL;
    s->pos += line.len;
    return 0;
}

int scan_one(struct scanner *s, bool *ret_more)
{
    struct scan_message *m = &s->m;
    bool has_body;
    int r;

    *ret_more = false;
    if ((r = scan_from(s)) < 0 || (r = scan_header(s)) < 0)
        return r;
    has_body = s->pos < s->len;
    if (has_body && (r = scan_body(s, ret_more)) < 0)
        return r;
    m->length = s->base + s->pos - m->offset;
    complete_line(s, has_body);
    if (m->has_marker && m->date_offset == 0)
        m->date_offset = m->marker.zone;
    m->is_pseudo = m->is_pseudo && s->is_pseudo_subject;
    m->keywords = str_trim(buf_str(&s->keywords));
    m->base_keywords = m->has_base ? buf_str(&s->base_keywords) : STR_NULL;
    hash_rest(s);
    mhash_done(&s->hash, m->hash);
    return 0;
}

int scan_prefix(struct scanner *s)
{
    int r = need(s, KEEP);

    while (r == 0 && s->is_first && s->pos < s->len && (s->buf[s->pos] == '\n' || s->buf[s->pos] == '\r')) {
        s->pos++;
        r = need(s, KEEP);
    }
    return r;
}

int scan_search(struct scanner *s, bool *ret_found)
{
    int r;

    scan_at(s, scan_offset(s) - SCAN_HISTORY);
    *ret_found = false;
    if ((r = need(s, KEEP)) < 0 || s->len < SCAN_HISTORY)
        return r;
    s->m = (struct scan_message){0}; /* as if in the middle of a body */
    s->pos = SCAN_HISTORY - 1;
    return scan_body(s, ret_found);
}

/* ---- a scanner ---- */

static scan_finder *choose_finder(void)
{
#ifdef SCAN_HAS_WIDE
    if (CPU_FEATURE_ACTIVE(AVX2))
        return scan_find_wide;
#endif
    return scan_find;
}

int scan_begin(struct scanner *s, int fd, const uint64_t *key)
{
    *s = (struct scanner){.fd = fd,
                          .key = key,
                          .find = choose_finder(),
                          .buf = malloc(SCAN_FIRST + SCAN_SLACK),
                          .size = SCAN_FIRST,
                          .first = SCAN_FIRST,
                          .keywords = BUF_INIT(LIMIT_HEADER),
                          .base_keywords = BUF_INIT(LIMIT_HEADER)};
    return s->buf == NULL ? -ENOMEM : 0;
}

void scan_at(struct scanner *s, uint64_t offset)
{
    s->pos = s->len = s->text = s->text_end = 0;
    s->base = offset;
    s->from_at = UINT64_MAX;
    s->is_eof = s->lacks_room = false;
    s->is_first = offset == 0;
}

void scan_finish(struct scanner *s)
{
    free(s->buf);
    buf_finish(&s->keywords);
    buf_finish(&s->base_keywords);
}
