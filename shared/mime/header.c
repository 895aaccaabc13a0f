/*
 * Message headers: see header.h. Pure functions over bytes; any process.
 */
#include "shared/mime/header.h"

#include <errno.h>
#include <string.h>

#include "shared/base/limits.h"

/* The first line of `s` with its line end. */
static struct str line_first(struct str s)
{
    const char *nl = s.len ? memchr(s.ptr, '\n', s.len) : NULL;

    return nl ? str_sub(s, 0, (size_t)(nl - s.ptr) + 1) : s;
}

static bool line_is_empty(struct str line)
{
    return (line.len == 1 && line.ptr[0] == '\n') || (line.len == 2 && line.ptr[0] == '\r' && line.ptr[1] == '\n');
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

size_t header_length(struct str bytes, bool *ret_is_whole)
{
    struct str rest = bytes;
    bool is_whole = false;

    while (rest.len && !is_whole) {
        struct str line = line_first(rest);

        is_whole = line_is_empty(line);
        rest = str_sub(rest, line.len, rest.len);
    }
    if (ret_is_whole)
        *ret_is_whole = is_whole;
    return bytes.len - rest.len;
}

struct header_iter header_iterate(struct str header)
{
    return (struct header_iter){.rest = header};
}

/* A line end is CRLF or LF; other trailing CRs are content. */
static struct str without_line_end(struct str s)
{
    if (s.len && s.ptr[s.len - 1] == '\n')
        s.len--;
    if (s.len && s.ptr[s.len - 1] == '\r')
        s.len--;
    return s;
}

bool header_next(struct header_iter *i, struct header_field *ret)
{
    struct str raw = line_first(i->rest), rest;
    const char *colon;
    size_t name_len;

    if (!raw.len || line_is_empty(raw))
        return false;
    rest = str_sub(i->rest, raw.len, i->rest.len);
    colon = memchr(raw.ptr, ':', raw.len);
    while (rest.len && is_blank(rest.ptr[0])) {
        size_t len = line_first(rest).len;

        raw.len += len;
        rest = str_sub(rest, len, rest.len);
    }
    i->rest = rest;

    name_len = colon ? (size_t)(colon - raw.ptr) : 0;
    ret->raw = raw;
    ret->body = without_line_end(str_sub(raw, colon ? name_len + 1 : 0, raw.len));
    /* Blanks between name and colon are obsolete syntax (RFC 5322 4.5); inside a name they make it no field. */
    while (name_len && is_blank(raw.ptr[name_len - 1]))
        name_len--;
    ret->name = str_sub(raw, 0, name_len);
    if (memchr(raw.ptr, ' ', name_len) || memchr(raw.ptr, '\t', name_len))
        ret->name.len = 0;
    if (!ret->name.len)
        ret->body = without_line_end(raw);
    return true;
}

bool header_find(struct str header, struct str name, struct header_field *ret)
{
    struct header_iter i = header_iterate(header);
    struct header_field field;

    while (header_next(&i, &field)) {
        if (str_ieq(field.name, name)) {
            *ret = field;
            return true;
        }
    }
    return false;
}

/* Length of the line end at the front, 0: none. */
static size_t line_end_length(struct str s)
{
    if (s.len && s.ptr[0] == '\n')
        return 1;
    return s.len > 1 && s.ptr[0] == '\r' && s.ptr[1] == '\n' ? 2 : 0;
}

int header_unfold(struct str body, struct buf *out)
{
    size_t start = out->len;
    struct str s = str_trim(str_sub(body, 0, LIMIT_HEADER_FIELD));
    int r = 0;

    while (s.len && !r) {
        size_t n = 0, end;

        while (n < s.len && s.ptr[n] != '\r' && s.ptr[n] != '\n' && s.ptr[n] != '\0')
            n++;
        r = buf_add(out, s.ptr, n);
        s = str_sub(s, n, s.len);
        end = line_end_length(s);
        if (!r && s.len && !end)
            r = buf_add_byte(out, ' ');
        s = str_sub(s, end ? end : 1, s.len);
    }
    if (r) {
        buf_truncate(out, start);
        return r;
    }
    while (out->len > start && is_blank(out->data[out->len - 1]))
        buf_truncate(out, out->len - 1);
    return 0;
}

int header_value(struct str header, struct str name, struct buf *out)
{
    struct header_field field;

    if (!header_find(header, name, &field))
        return -ENOENT;
    return header_unfold(field.body, out);
}

int header_select(struct str header, const struct str *names, size_t count, bool is_not, struct buf *out)
{
    struct header_iter i = header_iterate(header);
    struct header_field field;
    size_t start = out->len;
    int r = 0;

    while (!r && header_next(&i, &field)) {
        bool is_among = false;

        for (size_t n = 0; n < count && !is_among; n++)
            is_among = str_ieq(field.name, names[n]);
        if (is_among != is_not)
            r = buf_add_str(out, field.raw);
        /* The last line of a cut header may lack its end. */
        if (!r && is_among != is_not && field.raw.ptr[field.raw.len - 1] != '\n')
            r = buf_add(out, "\r\n", 2);
    }
    if (!r)
        r = buf_add(out, "\r\n", 2);
    if (r)
        buf_truncate(out, start);
    return r;
}

void header_collector_init(struct header_collector *c)
{
    *c = (struct header_collector){.bytes = BUF_INIT(LIMIT_HEADER)};
}

void header_collector_finish(struct header_collector *c)
{
    buf_finish(&c->bytes);
}

void header_collector_clear(struct header_collector *c)
{
    struct buf bytes = c->bytes;

    buf_clear(&bytes);
    *c = (struct header_collector){.bytes = bytes};
}

/* Keeps the bytes if they fit. Once they do not, the field that was being collected goes too, and all behind it. */
static int collect_bytes(struct header_collector *c, struct str bytes)
{
    int r;
    size_t at;

    if (c->is_cut)
        return 0;
    r = buf_add_str(&c->bytes, bytes);
    if (r != -ENOBUFS)
        return r;
    c->is_cut = true;
    for (at = c->bytes.len; at > 0; at--) {
        if (c->bytes.data[at - 1] == '\n' && at < c->bytes.len && !is_blank(c->bytes.data[at]))
            break;
    }
    buf_truncate(&c->bytes, at);
    return 0;
}

int header_collect(struct header_collector *c, struct str piece, size_t *ret_used)
{
    size_t used = 0;
    int r = 0;

    while (used < piece.len && !c->is_whole && !r) {
        struct str line = line_first(str_sub(piece, used, piece.len));
        bool is_ended = line.ptr[line.len - 1] == '\n';
        struct str content = line;

        if (is_ended)
            content.len--;
        if (!c->is_line_used && c->is_cr && content.len)
            c->is_line_used = true; /* the CR was not the one of a CRLF */
        if (!c->is_line_used && content.len == 1 && content.ptr[0] == '\r')
            c->is_cr = true;
        else if (content.len)
            c->is_line_used = true;
        r = collect_bytes(c, line);
        used += line.len;
        c->length += line.len;
        if (is_ended) {
            c->is_whole = !c->is_line_used;
            c->is_line_used = c->is_cr = false;
        }
    }
    if (!r)
        *ret_used = used;
    return r;
}
