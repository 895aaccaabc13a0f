/*
 * Stored bytes to wire form. Part of the library: no process of its own.
 */
#include "shared/mbox/wire.h"

#include <string.h>

#include "shared/mbox/lanes.h"

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

/* What stands behind the header is looked at sixteen bytes at a time, for line ends only: up to a line that may be
 * quoted, or the last bytes. Returns how many were taken; up to LANES more bytes than were made are written, for which
 * there is room. */
static size_t convert_body(struct wire *w, const uint8_t *in, size_t len, uint8_t **to)
{
    const uint8_t *p = in, *end = in + len;
    bool is_quoted = w->form != INTEROP_FOREIGN, has_crlf = w->form != INTEROP_OWN_LF;
    uint8_t *out = *to;

    if (w->header > 0 || (w->is_inside ? w->is_hidden : is_quoted && *in == '>'))
        return 0;
    while ((size_t)(end - p) >= LANES) {
        lanes_bytes v = lanes_load(p), is_lf = (lanes_bytes)(v == '\n');
        bool has_end = lanes_any(is_lf);
        size_t n = has_end ? lanes_first(is_lf) : LANES;

        lanes_store(out, v);
        p += n;
        out += n;
        if (!has_end)
            continue;
        if (!has_crlf || (p > in ? p[-1] : w->last) != '\r')
            *out++ = '\r';
        *out++ = '\n';
        p++;
        if (is_quoted && p < end && *p == '>')
            break;
    }
    if (p == in)
        return 0;
    w->last = p[-1];
    w->is_inside = p[-1] != '\n';
    w->is_hidden = false;
    *to = out;
    return (size_t)(p - in);
}

size_t wire_convert(struct wire *w, const uint8_t *in, size_t len, bool is_last, uint8_t *out, size_t *ret_consumed)
{
    uint8_t *to = out;
    size_t at = 0;

    while (at < len) {
        size_t taken = convert_body(w, in + at, len - at, &to);

        at += taken;
        if (taken > 0)
            continue;

        const uint8_t *p = in + at;
        const uint8_t *lf = memchr(p, '\n', len - at);
        size_t n = lf == NULL ? len - at : (size_t)(lf - p) + 1;
        size_t skip = 0;

        if (lf == NULL && !is_last && !w->is_inside && n < INTEROP_WINDOW)
            break;
        if (!w->is_inside) {
            w->last = '\n';
            skip = line_start(w, p, n);
        }
        if (!w->is_hidden)
            to = put_piece(w, p + skip, n - skip, lf != NULL, to);
        w->is_inside = lf == NULL;
        w->last = p[n - 1];
        w->header -= w->header < n ? w->header : n;
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
