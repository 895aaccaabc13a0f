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

/* Length of the line end at the front, 0: none. */
static size_t line_end_length(struct str s)
{
    if (s.len && s.ptr[0] == '\n')
        return 1;
    return s.len > 1 && s.ptr[0] == '\r' && s.ptr[1] == '\n' ? 2 : 0;
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

        is_whole = line_end_length(line) > 0;
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

/* Blanks between name and colon are obsolete syntax (RFC 5322 4.5); inside a name they make it no field. */
static struct str odd_name(struct str name)
{
    while (name.len && is_blank(name.ptr[name.len - 1]))
        name.len--;
    if (str_chr(name, ' ') >= 0 || str_chr(name, '\t') >= 0)
        name.len = 0;
    return name;
}

/* Nothing but ASCII above the blank, as it is with nearly all names; false may be wrong for others. */
static bool is_plain_name(const char *p, size_t n)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t odd = 0, w;

    if (n < sizeof(w)) {
        for (size_t i = 0; i < n; i++)
            odd |= (unsigned char)p[i] <= ' ';
        return !odd;
    }
    /* Eight bytes at a time, the last of them twice. Bit 7: not ASCII, or not above the blank. */
    for (size_t i = 0; i < n; i += sizeof(w)) {
        memcpy(&w, p + (i + sizeof(w) < n ? i : n - sizeof(w)), sizeof(w));
        odd |= w | (w - ones * '!');
    }
    return !(odd & (ones * 0x80));
}

bool header_next(struct header_iter *i, struct header_field *ret)
{
    const char *p = i->rest.ptr, *colon;
    size_t len = i->rest.len, line, end, body = 0;

    if (!len || line_end_length(i->rest))
        return false;
    line = end = line_first(i->rest).len;
    while (end < len && is_blank(p[end]))
        end += line_first((struct str){p + end, len - end}).len;
    i->rest = (struct str){p + end, len - end};

    colon = memchr(p, ':', line);
    ret->raw = (struct str){p, end};
    ret->name = (struct str){p, colon ? (size_t)(colon - p) : 0};
    if (!is_plain_name(p, ret->name.len))
        ret->name = odd_name(ret->name);
    if (ret->name.len)
        body = (size_t)(colon - p) + 1;
    ret->body = without_line_end((struct str){p + body, end - body});
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

int header_unfold(struct str body, struct buf *out)
{
    size_t start = out->len;
    struct str s = str_trim(str_sub(body, 0, LIMIT_HEADER_FIELD));
    int r = 0;

    /* Most are one line of ASCII. */
    if (str_is_printable(s))
        return buf_add_str(out, s);
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

int header_add_field(struct str raw, struct buf *out)
{
    int r = buf_add_str(out, raw);

    return r || raw.ptr[raw.len - 1] == '\n' ? r : buf_add(out, "\r\n", 2);
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
            r = header_add_field(field.raw, out);
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

/* Keeps a line, or the beginning of one, if it fits. Once one does not, the field that was being collected goes too,
 * and all behind it. */
static int collect_line(struct header_collector *c, struct str line)
{
    int r;
    size_t at;

    if (c->is_cut)
        return 0;
    r = buf_add_str(&c->bytes, line);
    if (r != -ENOBUFS)
        return r;
    c->is_cut = true;
    for (at = c->bytes.len; at > 0; at--) {
        char next = at < c->bytes.len ? c->bytes.data[at] : line.ptr[0];

        if (c->bytes.data[at - 1] == '\n' && !is_blank(next))
            break;
    }
    buf_truncate(&c->bytes, at);
    return 0;
}

/* Keeps bytes that belong to the header: at once, unless its limit is near. */
static int collect_bytes(struct header_collector *c, struct str bytes)
{
    int r = c->is_cut || !bytes.len ? 0 : buf_add_str(&c->bytes, bytes);

    if (r != -ENOBUFS)
        return r;
    for (r = 0; bytes.len && !r;) {
        struct str line = line_first(bytes);

        r = collect_line(c, line);
        bytes = str_sub(bytes, line.len, bytes.len);
    }
    return r;
}

/* Looks at a line, or a piece of one: is it the one that ends the header? */
static void look_at_line(struct header_collector *c, struct str line)
{
    bool is_ended = line.ptr[line.len - 1] == '\n';

    if (is_ended)
        line.len--;
    if (!c->is_line_used && c->is_cr && line.len)
        c->is_line_used = true; /* the CR was not the one of a CRLF */
    if (!c->is_line_used && line.len == 1 && line.ptr[0] == '\r')
        c->is_cr = true;
    else if (line.len)
        c->is_line_used = true;
    if (is_ended) {
        c->is_whole = !c->is_line_used;
        c->is_line_used = c->is_cr = false;
    }
}

int header_collect(struct header_collector *c, struct str piece, size_t *ret_used)
{
    size_t used = 0;
    int r;

    while (used < piece.len && !c->is_whole) {
        struct str line = line_first(str_sub(piece, used, piece.len));

        /* A whole line that is too long to be empty changes nothing. */
        if (c->is_line_used || c->is_cr || line.len <= 2 || line.ptr[line.len - 1] != '\n')
            look_at_line(c, line);
        used += line.len;
    }
    c->length += used;
    r = collect_bytes(c, str_sub(piece, 0, used));
    if (!r)
        *ret_used = used;
    return r;
}
