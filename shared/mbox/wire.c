/*
 * Stored bytes to wire form. Part of the library: no process of its own.
 */
#include "shared/mbox/wire.h"

#include <string.h>

#include "shared/base/lanes.h"

#define WINDOW 4096          /* bytes in which line ends are looked for at once */
#define ENDS   (WINDOW / 16) /* of them, more than that only in strange text */
#define LINE   96            /* few lines are longer (RFC 5322 2.1.1: 78) */

/* Copies a piece of a line; `is_end`: its last byte is the LF. */
static uint8_t *put_piece(struct wire *w, const uint8_t *p, size_t n, bool is_end, uint8_t *out)
{
    size_t text = is_end ? n - 1 : n;
    uint8_t before = text > 0 ? p[text - 1] : w->last;

    memcpy(out, p, text);
    out += text;
    if (is_end) {
        if (w->form == INTEROP_OWN_LF || before != '\r')
            *out++ = '\r';
        *out++ = '\n';
    }
    return out;
}

/* What is left out at the beginning of a line: everything (hidden), or the quoting. */
static size_t line_start(struct wire *w, const uint8_t *p, size_t n)
{
    struct str line = {(const char *)p, n};
    bool is_header = w->header > 0;
    enum interop_field field;

    if (is_header) {
        if (*p != ' ' && *p != '\t') {
            field = interop_field(line);
            w->is_hidden =
                interop_is_hidden(field) && (w->has_marker || (field != INTEROP_MARKER && field != INTEROP_PAD));
        }
    } else {
        w->is_hidden = false;
    }
    if (w->form == INTEROP_FOREIGN || w->is_hidden || (*p != '>' && !is_header))
        return 0;
    return interop_quoted(line, is_header);
}

/* Takes a line, or a piece of one: `is_end`, with its LF. */
static uint8_t *take_line(struct wire *w, const uint8_t *p, size_t n, bool is_end, uint8_t *out)
{
    size_t skip = 0;

    if (!w->is_inside) {
        w->last = '\n';
        skip = line_start(w, p, n);
    }
    if (!w->is_hidden)
        out = put_piece(w, p + skip, n - skip, is_end, out);
    w->is_inside = !is_end;
    w->last = p[n - 1];
    w->header -= w->header < n ? w->header : n;
    return out;
}

/* Has line_start() to look at a line that begins so? */
static inline bool is_special(const struct wire *w, uint8_t first)
{
    if (first == '>')
        return w->form != INTEROP_FOREIGN;
    if (w->header == 0)
        return false;
    return interop_may_begin((char)first) || (w->is_hidden && (first == ' ' || first == '\t'));
}

/* Which of the 64 bytes at p are LFs. */
static inline uint64_t newlines(const uint8_t *p)
{
    uint64_t bits = 0;

    for (unsigned i = 0; i < 64; i += LANES)
        bits |= (uint64_t)lanes_bits((lanes_bytes)(lanes_load(p + i) == '\n')) << i;
    return bits;
}

/* Where the lines end that end in the first WINDOW bytes, or ENDS lines and a few more. Returns how many. */
static inline size_t find_ends(const uint8_t *p, size_t len, uint16_t ends[ENDS + 64])
{
    size_t n = 0;

    if (len > WINDOW)
        len = WINDOW;
    for (unsigned at = 0; at + 64 <= len && n < ENDS; at += 64) {
        uint64_t bits = newlines(p + at);

        /* None, one or two cannot be foretold, and a branch that is guessed wrong costs more than all of this. */
        for (int i = 0; i < 2; i++) {
            ends[n] = (uint16_t)(at + (unsigned)__builtin_ctzll(bits | 1ull << 63));
            n += bits != 0;
            bits &= bits - 1;
        }
        for (; bits != 0; bits &= bits - 1)
            ends[n++] = (uint16_t)(at + (unsigned)__builtin_ctzll(bits));
    }
    return n;
}

/* Takes whole lines, as many as end in a window. First all ends are found and then all lines are copied: so the
 * processor need not know how long one line is to begin with the next. Lines are copied as if they had LINE bytes,
 * of which the rest is overwritten by what follows; there is room for them, as each of the LINE stored bytes or more
 * that are left may become two. Returns how many bytes were taken. */
static size_t take_lines(struct wire *w, const uint8_t *in, size_t len, uint8_t **to)
{
    bool has_crlf = w->form != INTEROP_OWN_LF;
    uint8_t *out = *to;
    size_t at = 0;

    if (w->is_inside || len < LINE)
        return 0;

    uint16_t ends[ENDS + 64];
    size_t count = find_ends(in, len, ends);

    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = in + at;
        size_t n = ends[i] - at;

        if (n > LINE || len - at < LINE || is_special(w, *p)) {
            out = take_line(w, p, n + 1, true, out);
        } else {
            bool has_cr = has_crlf && n > 0 && p[n - 1] == '\r';

            memcpy(out, p, LINE);
            out[n] = '\r';
            out += n + !has_cr;
            *out++ = '\n';
            w->is_hidden = false;
            w->header -= w->header <= n ? w->header : n + 1;
        }
        at += n + 1;
    }
    if (at > 0)
        w->last = '\n';
    *to = out;
    return at;
}

size_t wire_convert(struct wire *w, const uint8_t *in, size_t len, bool is_last, uint8_t *out, size_t *ret_consumed)
{
    uint8_t *to = out;
    size_t at = 0;

    while (at < len) {
        size_t taken = take_lines(w, in + at, len - at, &to);

        at += taken;
        if (taken > 0)
            continue;

        const uint8_t *p = in + at;
        const uint8_t *lf = memchr(p, '\n', len - at);
        size_t n = lf == NULL ? len - at : (size_t)(lf - p) + 1;

        if (lf == NULL && !is_last && !w->is_inside && n < INTEROP_WINDOW)
            break;
        to = take_line(w, p, n, lf != NULL, to);
        at += n;
    }
    if (is_last && w->lacks_newline && at == len) {
        if (w->form == INTEROP_OWN_LF || w->last != '\r')
            *to++ = '\r';
        *to++ = '\n';
    }
    *ret_consumed = at;
    return (size_t)(to - out);
}
