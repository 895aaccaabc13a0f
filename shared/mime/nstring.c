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
    bool is_8bit = false, is_escaped = false, is_literal = s.len > NSTRING_QUOTED_MAX;
    size_t nuls = 0;

    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        is_8bit |= c >= 0x80;
        is_literal |= c == '\r' || c == '\n';
        is_escaped |= c == '"' || c == '\\';
        nuls += c == 0;
    }
    *ret_nuls = nuls;
    if (is_literal || nuls || (is_8bit && (!is_utf8 || !utf8_valid(s))))
        return FORM_LITERAL;
    return is_escaped ? FORM_QUOTED : FORM_PLAIN;
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
    enum form form = form_of(s, is_utf8, &nuls);
    int r;

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
