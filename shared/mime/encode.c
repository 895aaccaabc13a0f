/*
 * Content transfer encodings, the other way round: declared in decode.h.
 */
#include <errno.h>
#include <string.h>

#include "shared/mime/decode.h"

#define LINE_LENGTH 76 /* RFC 2045 6.7, 6.8 */

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode_group(const uint8_t *in, size_t count, char ret[4])
{
    uint32_t bits = (uint32_t)in[0] << 16 | (count > 1 ? (uint32_t)in[1] << 8 : 0) | (count > 2 ? in[2] : 0);

    ret[0] = letters[bits >> 18];
    ret[1] = letters[bits >> 12 & 63];
    ret[2] = count > 1 ? letters[bits >> 6 & 63] : '=';
    ret[3] = count > 2 ? letters[bits & 63] : '=';
}

int base64_encode(struct str bytes, struct buf *out)
{
    int r = buf_reserve(out, bytes.len / 3 * 4 + 4);
    size_t start = out->len;

    for (size_t i = 0; !r && i < bytes.len; i += 3) {
        char group[4];

        encode_group((const uint8_t *)bytes.ptr + i, bytes.len - i, group);
        r = buf_add(out, group, 4);
    }
    if (r)
        buf_truncate(out, start);
    return r;
}

static int letter_value(char c)
{
    const char *p = c ? strchr(letters, c) : NULL;

    return p ? (int)(p - letters) : -1;
}

int base64_decode(struct str text, struct buf *out)
{
    size_t start = out->len;
    int r = text.len % 4 ? -EINVAL : buf_reserve(out, text.len / 4 * 3 + 1);

    for (size_t i = 0; !r && i < text.len; i += 4) {
        const char *t = text.ptr + i;
        bool is_last = i + 4 == text.len;
        size_t bytes = is_last && t[3] == '=' ? (t[2] == '=' ? 1 : 2) : 3;
        int a = letter_value(t[0]), b = letter_value(t[1]), c = bytes > 1 ? letter_value(t[2]) : 0,
            d = bytes > 2 ? letter_value(t[3]) : 0;
        uint32_t bits;

        if (a < 0 || b < 0 || c < 0 || d < 0) {
            r = -EINVAL;
            break;
        }
        bits = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | (uint32_t)d;
        if ((bytes == 1 && bits & 0xffff) || (bytes == 2 && bits & 0xff))
            r = -EINVAL; /* RFC 4648 3.5: bits that padding covers are zero */
        else
            r = buf_add(out, (char[]){(char)(bits >> 16), (char)(bits >> 8), (char)bits}, bytes);
    }
    if (r)
        buf_truncate(out, start);
    return r;
}

void encoder_init(struct encoder *e, enum mime_encoding kind, bool is_text)
{
    *e = (struct encoder){.kind = kind, .is_text = is_text};
}

/* ---- base64 ---- */

static int base64_group_out(struct encoder *e, struct buf *out)
{
    char group[4];
    int r = 0;

    if (e->column >= LINE_LENGTH) {
        r = buf_add(out, "\r\n", 2);
        e->column = 0;
    }
    encode_group(e->held, e->count, group);
    e->count = 0;
    e->column += 4;
    return r ? r : buf_add(out, group, 4);
}

static int base64_feed(struct encoder *e, struct str s, struct buf *out)
{
    int r = 0;

    for (size_t i = 0; i < s.len && !r; i++) {
        e->held[e->count++] = (uint8_t)s.ptr[i];
        if (e->count == 3)
            r = base64_group_out(e, out);
    }
    return r;
}

/* ---- quoted-printable: held is a blank that may be trailing, then a CR that may be a line end's ---- */

/* A line that is begun here must not become a delimiter (RFC 2046 5.1.1): one that was a line before is none. */
static int qp_put(struct encoder *e, uint8_t c, bool is_encoded, struct buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    int r = 0;

    if (e->column + (is_encoded ? 3 : 1) > LINE_LENGTH - 1) {
        r = buf_add(out, "=\r\n", 3);
        e->column = 0;
        is_encoded |= c == '-';
    }
    e->column += is_encoded ? 3 : 1;
    if (r)
        return r;
    return is_encoded ? buf_add(out, (char[]){'=', digits[c >> 4], digits[c & 15]}, 3) : buf_add_byte(out, (char)c);
}

/* Writes what is held: blanks are encoded only where they end a line. */
static int qp_release(struct encoder *e, bool is_line_end, struct buf *out)
{
    int r = 0;

    for (unsigned i = 0; i < e->count && !r; i++)
        r = qp_put(e, e->held[i], e->held[i] == '\r' || is_line_end, out);
    e->count = 0;
    return r;
}

static int qp_byte(struct encoder *e, uint8_t c, struct buf *out)
{
    bool has_cr = e->count && e->held[e->count - 1] == '\r';
    int r;

    if (has_cr && c == '\n') {
        e->count--;
        r = qp_release(e, true, out);
        e->column = 0;
        return r ? r : buf_add(out, "\r\n", 2);
    }
    if (has_cr || (c != '\r' || !e->is_text)) {
        r = qp_release(e, has_cr, out);
        if (r)
            return r;
    }
    if ((c == '\r' && e->is_text) || c == ' ' || c == '\t') {
        e->held[e->count++] = c;
        return 0;
    }
    return qp_put(e, c, c < 0x20 || c > 0x7e || c == '=', out);
}

int encoder_feed(struct encoder *e, struct str piece, struct buf *out)
{
    int r = 0;

    if (e->kind == MIME_ENCODING_BASE64)
        return base64_feed(e, piece, out);
    if (e->kind != MIME_ENCODING_QUOTED_PRINTABLE)
        return buf_add_str(out, piece);
    for (size_t i = 0; i < piece.len && !r; i++)
        r = qp_byte(e, (uint8_t)piece.ptr[i], out);
    return r;
}

int encoder_end(struct encoder *e, struct buf *out)
{
    int r = 0;

    if (e->kind == MIME_ENCODING_BASE64) {
        if (e->count)
            r = base64_group_out(e, out);
        if (!r && e->column)
            r = buf_add(out, "\r\n", 2);
        e->column = 0;
    } else if (e->kind == MIME_ENCODING_QUOTED_PRINTABLE) {
        r = qp_release(e, true, out);
    }
    return r;
}
