/*
 * Content transfer decodings: see decode.h. (The encoders are in encode.c.)
 */
#include "shared/mime/decode.h"

#include <errno.h>
#include <string.h>

#define UU_LINE_MAX 128  /* a line has at most 62 characters; longer ones are no data */
#define QP_HELD_MAX 4096 /* blanks kept until it is known whether the line goes on */

#define X 0xff
/* clang-format off */
static const uint8_t sextets[256] = {
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  62, X,  X,  X,  63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, X,  X,  X,  X,  X,  X,
    X,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, X,  X,  X,  X,  X,
    X,  26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
};
/* clang-format on */
#undef X

#define NOT_SEXTET 255

void decoder_init(struct decoder *d, enum mime_encoding kind)
{
    *d = (struct decoder){.kind = kind, .held = BUF_INIT(QP_HELD_MAX)};
}

void decoder_finish(struct decoder *d)
{
    buf_finish(&d->held);
}

void decoder_reset(struct decoder *d)
{
    struct buf held = d->held;

    buf_clear(&held);
    *d = (struct decoder){.kind = d->kind, .held = held};
}

enum mime_encoding decoder_kind(struct str encoding)
{
    static const struct {
        struct str name;
        enum mime_encoding kind;
    } names[] = {
        {{"7bit", 4}, MIME_ENCODING_NONE},
        {{"8bit", 4}, MIME_ENCODING_NONE},
        {{"binary", 6}, MIME_ENCODING_NONE},
        {{"base64", 6}, MIME_ENCODING_BASE64},
        {{"quoted-printable", 16}, MIME_ENCODING_QUOTED_PRINTABLE},
        {{"x-uuencode", 10}, MIME_ENCODING_UUENCODE},
        {{"uuencode", 8}, MIME_ENCODING_UUENCODE},
        {{"x-uue", 5}, MIME_ENCODING_UUENCODE},
    };

    if (!encoding.len)
        return MIME_ENCODING_NONE;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (str_ieq(encoding, names[i].name))
            return names[i].kind;
    }
    return MIME_ENCODING_UNKNOWN;
}

/* ---- base64 ---- */

/* What is left of a group that padding or the end cuts off. */
static void base64_flush(struct decoder *d, struct buf *out)
{
    if (d->count >= 2)
        out->data[out->len++] = (char)(d->bits >> (d->count == 2 ? 4 : 10));
    if (d->count == 3)
        out->data[out->len++] = (char)(d->bits >> 2);
    d->is_damaged |= d->count == 1;
    d->count = 0;
    d->bits = 0;
    out->data[out->len] = '\0';
}

/* Whole groups without anything between them: the bulk of a part. Returns how many characters were taken. */
static size_t base64_groups(struct str s, struct buf *out)
{
    const uint8_t *in = (const uint8_t *)s.ptr;
    char *to = out->data + out->len;
    size_t n = 0;

    for (; n + 4 <= s.len; n += 4) {
        uint32_t a = sextets[in[n]], b = sextets[in[n + 1]], c = sextets[in[n + 2]], d = sextets[in[n + 3]];

        if ((a | b | c | d) > 63)
            break;
        *to++ = (char)(a << 2 | b >> 4);
        *to++ = (char)(b << 4 | c >> 2);
        *to++ = (char)(c << 6 | d);
    }
    out->len += n / 4 * 3;
    return n;
}

/* Padding ends the data: what a mailing list added in the clear behind it is not decoded. */
static int base64_feed(struct decoder *d, struct str s, struct buf *out)
{
    int r = buf_reserve(out, s.len + 4);

    for (size_t i = 0; !r && i < s.len && !d->is_ended; i++) {
        uint8_t value = sextets[(uint8_t)s.ptr[i]];

        if (d->count == 0 && value != NOT_SEXTET) {
            size_t n = base64_groups(str_sub(s, i, s.len), out);

            if (n) {
                i += n - 1;
                continue;
            }
        }
        if (s.ptr[i] == '=') {
            base64_flush(d, out);
            d->is_ended = true;
        } else if (value == NOT_SEXTET) {
            d->is_damaged |= !strchr(" \t\r\n", s.ptr[i]);
        } else {
            d->bits = d->bits << 6 | value;
            if (++d->count == 4) {
                out->data[out->len++] = (char)(d->bits >> 16);
                out->data[out->len++] = (char)(d->bits >> 8);
                out->data[out->len++] = (char)d->bits;
                d->count = 0;
                d->bits = 0;
            }
        }
    }
    if (!r)
        out->data[out->len] = '\0';
    return r;
}

/* ---- quoted-printable ---- */

enum qp_state {
    QP_TEXT,
    QP_EQUALS,       /* = */
    QP_DIGIT,        /* = and a hexadecimal digit */
    QP_EQUALS_BLANK, /* = and blanks, which are held */
    QP_SOFT_CR,      /* a soft line break's CR: an LF belongs to it */
};

static int hex_value(char c)
{
    c = ascii_lower(c);
    return ascii_is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Blanks that turned out not to be trailing. */
static int qp_release(struct decoder *d, struct buf *out)
{
    int r = d->held.len ? buf_add_str(out, buf_str(&d->held)) : 0;

    buf_clear(&d->held);
    return r;
}

static int qp_hold(struct decoder *d, char c, struct buf *out)
{
    int r = d->held.len < QP_HELD_MAX ? 0 : qp_release(d, out);

    return r ? r : buf_add_byte(&d->held, c);
}

/* Behind an equals sign. *ret_again: the byte has to be looked at once more as text. */
static int qp_token(struct decoder *d, char c, struct buf *out, bool *ret_again)
{
    int r = 0;

    *ret_again = false;
    if (d->count == QP_SOFT_CR) {
        d->count = QP_TEXT;
        *ret_again = c != '\n';
    } else if (d->count == QP_DIGIT) {
        d->count = QP_TEXT;
        if (hex_value(c) >= 0)
            return buf_add_byte(out, (char)(hex_value(d->hex) * 16 + hex_value(c)));
        d->is_damaged = true;
        *ret_again = true;
        r = buf_add(out, (char[]){'=', d->hex}, 2);
    } else if (c == '\r' || c == '\n') {
        d->count = c == '\r' ? QP_SOFT_CR : QP_TEXT;
        buf_clear(&d->held);
    } else if (is_blank(c)) {
        d->count = QP_EQUALS_BLANK;
        r = qp_hold(d, c, out);
    } else if (d->count == QP_EQUALS && hex_value(c) >= 0) {
        d->count = QP_DIGIT;
        d->hex = c;
    } else {
        d->count = QP_TEXT;
        d->is_damaged = true;
        *ret_again = true;
        r = buf_add_byte(out, '=');
        if (!r)
            r = qp_release(d, out);
    }
    return r;
}

/* Text up to the next = or line end. Blanks at its end are held: it is not known yet whether they end the line. */
static int qp_run(struct decoder *d, struct str s, struct buf *out, size_t *ret_used)
{
    size_t n = 0, kept;
    int r;

    while (n < s.len && s.ptr[n] != '=' && s.ptr[n] != '\r' && s.ptr[n] != '\n')
        n++;
    for (kept = n; kept > 0 && is_blank(s.ptr[kept - 1]);)
        kept--;
    *ret_used = n;
    r = kept ? qp_release(d, out) : 0;
    if (!r)
        r = buf_add(out, s.ptr, kept);
    for (size_t i = kept; i < n && !r; i++)
        r = qp_hold(d, s.ptr[i], out);
    return r;
}

static int qp_feed(struct decoder *d, struct str s, struct buf *out)
{
    int r = 0;

    while (s.len && !r) {
        char c = s.ptr[0];
        size_t n = 1;
        bool is_again = false;

        if (d->count != QP_TEXT) {
            r = qp_token(d, c, out, &is_again);
            n = is_again ? 0 : 1;
        } else if (c == '=') {
            r = qp_release(d, out);
            d->count = QP_EQUALS;
            /* Mostly the whole token is there. */
            if (!r && s.len >= 3 && hex_value(s.ptr[1]) >= 0 && hex_value(s.ptr[2]) >= 0) {
                d->count = QP_TEXT;
                n = 3;
                r = buf_add_byte(out, (char)(hex_value(s.ptr[1]) * 16 + hex_value(s.ptr[2])));
            }
        } else if (c == '\r' || c == '\n') {
            buf_clear(&d->held); /* RFC 2045 6.7 (3): blanks at the end of a line are none of the text's */
            r = buf_add_byte(out, c);
        } else {
            r = qp_run(d, s, out, &n);
        }
        s = str_sub(s, n, s.len);
    }
    return r;
}

static int qp_end(struct decoder *d, struct buf *out)
{
    int r = 0;

    if (d->count == QP_DIGIT)
        r = buf_add(out, (char[]){'=', d->hex}, 2);
    d->is_damaged |= d->count == QP_DIGIT;
    d->count = QP_TEXT;
    buf_clear(&d->held);
    return r;
}

/* ---- uuencode ---- */

static int uu_line(struct decoder *d, struct str line, struct buf *out)
{
    size_t want, at = 1;
    int r = 0;

    if (!d->count) { /* before "begin 644 name" */
        d->count = str_starts(line, STR("begin "));
        return 0;
    }
    if (str_eq(str_trim(line), STR("end"))) {
        d->is_ended = true;
        return 0;
    }
    want = line.len ? (size_t)((line.ptr[0] - ' ') & 63) : 0;
    while (want && at < line.len && !r) {
        uint32_t bits = 0;

        for (size_t i = 0; i < 4; i++)
            bits = bits << 6 | (at + i < line.len ? (uint32_t)((line.ptr[at + i] - ' ') & 63) : 0);
        r = buf_add(out, (char[]){(char)(bits >> 16), (char)(bits >> 8), (char)bits}, want < 3 ? want : 3);
        want -= want < 3 ? want : 3;
        at += 4;
    }
    d->is_damaged |= want > 0;
    return r;
}

static int uu_feed(struct decoder *d, struct str s, struct buf *out)
{
    int r = 0;

    while (s.len && !r && !d->is_ended) {
        struct str part;
        bool is_ended = str_cut(&s, '\n', &part);

        if (d->held.len < UU_LINE_MAX)
            r = buf_add_str(&d->held, str_sub(part, 0, UU_LINE_MAX - d->held.len));
        if (!r && is_ended) {
            struct str line = buf_str(&d->held);

            if (line.len && line.ptr[line.len - 1] == '\r')
                line.len--;
            r = uu_line(d, line, out);
            buf_clear(&d->held);
        }
    }
    return r;
}

/* ---- all ---- */

int decoder_feed(struct decoder *d, struct str piece, struct buf *out)
{
    switch (d->kind) {
    case MIME_ENCODING_BASE64:
        return base64_feed(d, piece, out);
    case MIME_ENCODING_QUOTED_PRINTABLE:
        return qp_feed(d, piece, out);
    case MIME_ENCODING_UUENCODE:
        return uu_feed(d, piece, out);
    case MIME_ENCODING_NONE:
    case MIME_ENCODING_UNKNOWN:
        break;
    }
    return buf_add_str(out, piece);
}

int decoder_end(struct decoder *d, struct buf *out)
{
    int r = 0;

    if (d->kind == MIME_ENCODING_BASE64) {
        r = buf_reserve(out, 4);
        d->is_damaged |= d->count > 0;
        if (!r)
            base64_flush(d, out);
    } else if (d->kind == MIME_ENCODING_QUOTED_PRINTABLE) {
        r = qp_end(d, out);
    } else if (d->kind == MIME_ENCODING_UUENCODE) {
        d->is_damaged |= !d->is_ended;
    }
    return r;
}
