/*
 * IMAP strings: see nstring.h.
 */
#include "shared/mime/nstring.h"

#include <string.h>

#define NSTRING_QUOTED_MAX 1000 /* RFC 9051 4.3 advises literals for long ones; clients' line buffers */

enum form { FORM_PLAIN, FORM_QUOTED, FORM_LITERAL };

/* Which form the bytes need, and how many NULs are among them. */
static enum form form_of(struct str s, bool is_utf8, size_t *ret_nuls)
{
    unsigned char all = 0, is_escaped = 0, is_literal = s.len > NSTRING_QUOTED_MAX, has_nul = 0;

    /* Without a branch: the compiler looks at many bytes at once. */
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        all |= c;
        is_literal |= (unsigned char)((c == '\r') | (c == '\n'));
        is_escaped |= (unsigned char)((c == '"') | (c == '\\'));
        has_nul |= (unsigned char)(c == 0);
    }
    *ret_nuls = 0;
    for (size_t i = 0; has_nul && i < s.len; i++)
        *ret_nuls += s.ptr[i] == '\0';
    if (is_literal || has_nul || (all >= 0x80 && (!is_utf8 || !utf8_valid(s))))
        return FORM_LITERAL;
    return is_escaped ? FORM_QUOTED : FORM_PLAIN;
}

/* Eight bytes: bits are set if one of them is no printable ASCII, or a quote or backslash. A borrow from such a byte
 * can only add to them. */
static uint64_t not_plain(const char *bytes)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t w;

    memcpy(&w, bytes, sizeof(w));
    return (w | (w - ones * ' ') | ((w ^ (ones * '"')) - ones) | ((w ^ (ones * '\\')) - ones)) & (ones * 0x80);
}

/* Is it one of the many strings that stand between quotes as they are? */
static bool is_plain(struct str s)
{
    uint64_t odd = 0;

    if (s.len > NSTRING_QUOTED_MAX)
        return false;
    if (s.len >= sizeof(odd)) {
        for (size_t i = 0; i + sizeof(odd) < s.len; i += sizeof(odd))
            odd |= not_plain(s.ptr + i);
        return !(odd | not_plain(s.ptr + s.len - sizeof(odd)));
    }
    for (size_t i = 0; i < s.len; i++)
        odd |= s.ptr[i] < ' ' || s.ptr[i] > '~' || s.ptr[i] == '"' || s.ptr[i] == '\\';
    return !odd;
}

static int add_plain(struct buf *out, struct str s)
{
    int r = buf_reserve(out, s.len + 2);
    char *p;

    if (r)
        return r;
    p = out->data + out->len;
    *p = '"';
    if (s.len)
        memcpy(p + 1, s.ptr, s.len);
    p[s.len + 1] = '"';
    p[s.len + 2] = '\0';
    out->len += s.len + 2;
    return 0;
}

static int add_quoted(struct buf *out, struct str s)
{
    int r = 0;

    for (size_t i = 0; i < s.len && !r; i++) {
        if (s.ptr[i] == '"' || s.ptr[i] == '\\')
            r = buf_add_byte(out, '\\');
        if (!r)
            r = buf_add_byte(out, s.ptr[i]);
    }
    return r;
}

static int add_literal(struct buf *out, struct str s, size_t nuls)
{
    int r = buf_printf(out, "{%zu}\r\n", s.len - nuls);

    while (!r && s.len) {
        const char *nul = nuls ? memchr(s.ptr, '\0', s.len) : NULL;
        size_t n = nul ? (size_t)(nul - s.ptr) : s.len;

        r = buf_add(out, s.ptr, n);
        s = str_sub(s, nul ? n + 1 : n, s.len);
    }
    return r;
}

int nstring_add(struct buf *out, struct str s, bool is_utf8)
{
    size_t start = out->len, nuls;
    enum form form;
    int r;

    if (is_plain(s))
        return add_plain(out, s);
    form = form_of(s, is_utf8, &nuls);
    if (form == FORM_LITERAL) {
        r = add_literal(out, s, nuls);
    } else {
        r = buf_add_byte(out, '"');
        if (!r)
            r = form == FORM_PLAIN ? buf_add_str(out, s) : add_quoted(out, s);
        if (!r)
            r = buf_add_byte(out, '"');
    }
    if (r)
        buf_truncate(out, start);
    return r;
}

int nstring_add_nil(struct buf *out, struct str s, bool is_utf8)
{
    return s.ptr ? nstring_add(out, s, is_utf8) : buf_add(out, "NIL", 3);
}
