/*
 * Modified UTF-7: see utf7.h.
 */
#include "shared/mime/utf7.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static uint32_t code_point(struct str s, size_t len)
{
    const uint8_t *b = (const uint8_t *)s.ptr;

    switch (len) {
    case 1:
        return b[0];
    case 2:
        return (uint32_t)(b[0] & 0x1f) << 6 | (b[1] & 0x3f);
    case 3:
        return (uint32_t)(b[0] & 0x0f) << 12 | (uint32_t)(b[1] & 0x3f) << 6 | (b[2] & 0x3f);
    default:
        return (uint32_t)(b[0] & 0x07) << 18 | (uint32_t)(b[1] & 0x3f) << 12 | (uint32_t)(b[2] & 0x3f) << 6 |
               (b[3] & 0x3f);
    }
}

static bool is_direct(char c)
{
    return c >= 0x20 && c <= 0x7e;
}

/* Bits that wait for a letter. */
struct shift {
    uint32_t bits;
    unsigned count;
};

static int shift_unit(struct shift *s, uint32_t unit, struct buf *out)
{
    int r = 0;

    s->bits = s->bits << 16 | unit;
    s->count += 16;
    while (s->count >= 6 && !r) {
        s->count -= 6;
        r = buf_add_byte(out, letters[s->bits >> s->count & 63]);
    }
    s->bits &= (1u << s->count) - 1;
    return r;
}

static int shift_code_point(struct shift *s, uint32_t u, struct buf *out)
{
    int r;

    if (u < 0x10000)
        return shift_unit(s, u, out);
    u -= 0x10000;
    r = shift_unit(s, 0xd800 + (u >> 10), out);
    return r ? r : shift_unit(s, 0xdc00 + (u & 0x3ff), out);
}

/* Encodes the run of characters that cannot stand for themselves; *s is moved behind it. */
static int encode_run(struct str *s, struct buf *out)
{
    struct shift shift = {0};
    int r = buf_add_byte(out, '&');

    while (!r && s->len && !is_direct(s->ptr[0])) {
        size_t len = utf8_sequence(str_sub(*s, 0, 4));

        if (!len)
            return -EINVAL;
        r = shift_code_point(&shift, code_point(*s, len), out);
        *s = str_sub(*s, len, s->len);
    }
    if (!r && shift.count)
        r = buf_add_byte(out, letters[shift.bits << (6 - shift.count) & 63]);
    return r ? r : buf_add_byte(out, '-');
}

int utf7_encode(struct str utf8, struct buf *out)
{
    size_t start = out->len;
    struct str s = utf8;
    int r = 0;

    while (s.len && !r) {
        if (!is_direct(s.ptr[0])) {
            r = encode_run(&s, out);
            continue;
        }
        r = s.ptr[0] == '&' ? buf_add(out, "&-", 2) : buf_add_byte(out, s.ptr[0]);
        s = str_sub(s, 1, s.len);
    }
    if (r)
        buf_truncate(out, start);
    return r;
}

static int add_utf8(struct buf *out, uint32_t u)
{
    char bytes[4];

    if (u < 0x800) {
        bytes[0] = (char)(0xc0 | u >> 6);
        bytes[1] = (char)(0x80 | (u & 63));
        return buf_add(out, bytes, 2);
    }
    if (u < 0x10000) {
        bytes[0] = (char)(0xe0 | u >> 12);
        bytes[1] = (char)(0x80 | (u >> 6 & 63));
        bytes[2] = (char)(0x80 | (u & 63));
        return buf_add(out, bytes, 3);
    }
    bytes[0] = (char)(0xf0 | u >> 18);
    bytes[1] = (char)(0x80 | (u >> 12 & 63));
    bytes[2] = (char)(0x80 | (u >> 6 & 63));
    bytes[3] = (char)(0x80 | (u & 63));
    return buf_add(out, bytes, 4);
}

/* One UTF-16 unit of a shifted run; *high is the first half of a pair that waits for the second. */
static int take_unit(uint32_t unit, uint32_t *high, struct buf *out)
{
    if (*high) {
        uint32_t u = 0x10000 + ((*high - 0xd800) << 10) + (unit - 0xdc00);

        if (unit < 0xdc00 || unit > 0xdfff)
            return -EINVAL;
        *high = 0;
        return add_utf8(out, u);
    }
    if (unit >= 0xd800 && unit <= 0xdbff) {
        *high = unit;
        return 0;
    }
    /* What stands for itself must not be shifted; control characters (NUL too) have no other form. */
    if ((unit >= 0xdc00 && unit <= 0xdfff) || (unit >= 0x20 && unit <= 0x7e))
        return -EINVAL;
    return unit < 0x80 ? buf_add_byte(out, (char)unit) : add_utf8(out, unit);
}

/* The letters between & and -. */
static int decode_run(struct str run, struct buf *out)
{
    uint32_t bits = 0, high = 0;
    unsigned count = 0;
    int r = 0;

    for (size_t i = 0; i < run.len && !r; i++) {
        const char *letter = run.ptr[i] ? strchr(letters, run.ptr[i]) : NULL;

        if (!letter)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)(letter - letters);
        count += 6;
        if (count >= 16) {
            count -= 16;
            r = take_unit(bits >> count & 0xffff, &high, out);
        }
        bits &= (1u << count) - 1;
    }
    /* The bits left over are fewer than a letter and zero. */
    return r ? r : high || count >= 6 || bits ? -EINVAL : 0;
}

int utf7_decode(struct str utf7, struct buf *out)
{
    size_t start = out->len;
    bool is_after_run = false;
    struct str s = utf7;
    int r = 0;

    while (s.len && !r) {
        struct str run;
        char c = s.ptr[0];

        s = str_sub(s, 1, s.len);
        if (!is_direct(c)) {
            r = -EINVAL;
        } else if (c != '&') {
            r = buf_add_byte(out, c);
            is_after_run = false;
        } else if (!str_cut(&s, '-', &run)) {
            r = -EINVAL;
        } else if (!run.len) {
            r = buf_add_byte(out, '&');
            is_after_run = false;
        } else {
            r = is_after_run ? -EINVAL : decode_run(run, out); /* two runs side by side are one */
            is_after_run = true;
        }
    }
    if (r)
        buf_truncate(out, start);
    return r;
}
