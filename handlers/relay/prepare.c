/*
 * SASLprep by libunistring. Runs in relay-session; pure.
 */
#include "handlers/relay/prepare.h"

#include <errno.h>
#include <stdlib.h>
#include <unictype.h>
#include <uninorm.h>
#include <unistr.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"

struct range {
    ucs4_t first, last;
};

/* RFC 3454 B.1: mapped to nothing. */
static const struct range NOTHING[] = {{0xad, 0xad},     {0x34f, 0x34f},   {0x1806, 0x1806}, {0x180b, 0x180d},
                                       {0x200b, 0x200d}, {0x2060, 0x2060}, {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}};
/* C.1.2: other spaces, of which U+200B is nothing before it could be a space. */
static const struct range SPACES[] = {{0xa0, 0xa0},     {0x1680, 0x1680}, {0x2000, 0x200a},
                                      {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}};
/* C.2.1, C.2.2, C.3, C.4, C.5, C.6, C.7, C.8, C.9: prohibited. Two of every plane's code points are too (C.4). */
static const struct range PROHIBITED[] = {
    {0x0, 0x1f},        {0x7f, 0x9f},       {0x340, 0x341},     {0x6dd, 0x6dd},     {0x70f, 0x70f},
    {0x180e, 0x180e},   {0x200c, 0x200f},   {0x2028, 0x202e},   {0x2060, 0x2063},   {0x206a, 0x206f},
    {0x2ff0, 0x2ffb},   {0xd800, 0xf8ff},   {0xfdd0, 0xfdef},   {0xfeff, 0xfeff},   {0xfff9, 0xfffd},
    {0x1d173, 0x1d17a}, {0xe0001, 0xe0001}, {0xe0020, 0xe007f}, {0xf0000, 0xffffd}, {0x100000, 0x10fffd},
};

static bool is_in(ucs4_t c, const struct range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    return false;
}

/* RFC 4013 2.1, code point by code point. */
static int map(struct str text, struct buf *out)
{
    const uint8_t *at = (const uint8_t *)text.ptr, *end = at + text.len;
    int r = 0;

    while (at < end && r == 0) {
        ucs4_t c;
        int n = u8_mbtoucr(&c, at, (size_t)(end - at));

        if (n <= 0)
            return -EINVAL;
        if (is_in(c, SPACES, ARRAY_SIZE(SPACES)))
            r = buf_add_byte(out, ' ');
        else if (!is_in(c, NOTHING, ARRAY_SIZE(NOTHING)))
            r = buf_add(out, at, (size_t)n);
        at += n;
    }
    return r;
}

static bool is_prohibited(ucs4_t c)
{
    return is_in(c, PROHIBITED, ARRAY_SIZE(PROHIBITED)) || (c & 0xfffe) == 0xfffe;
}

/* RFC 3454 6: text that runs to the left does so from its first character to its last, without any that runs to the
 * right. */
static bool is_one_way(const uint8_t *text, size_t len)
{
    bool has_left = false, has_right = false, is_first = false, is_last = false;

    for (size_t at = 0; at < len;) {
        ucs4_t c;
        size_t n = (size_t)u8_mbtouc(&c, text + at, len - at);
        int category = uc_bidi_category(c);

        is_last = category == UC_BIDI_R || category == UC_BIDI_AL;
        is_first |= at == 0 && is_last;
        has_left |= is_last;
        has_right |= category == UC_BIDI_L;
        at += n;
    }
    return !has_left || (!has_right && is_first && is_last);
}

static int check(const uint8_t *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        ucs4_t c;
        size_t n = (size_t)u8_mbtouc(&c, text + at, len - at);

        if (is_prohibited(c))
            return -EINVAL;
        at += n;
    }
    return is_one_way(text, len) ? 0 : -EINVAL;
}

int prepare_sasl(struct str text, struct buf *out)
{
    _cleanup_(buf_wipe_finish) struct buf mapped = BUF_INIT(out->max);
    uint8_t *normal = NULL;
    size_t len = 0;
    int r = map(text, &mapped);

    if (r < 0 || mapped.len == 0)
        return r;
    normal = u8_normalize(UNINORM_NFKC, (const uint8_t *)mapped.data, mapped.len, NULL, &len);
    if (!normal)
        return errno == ENOMEM ? -ENOMEM : -EINVAL;
    r = check(normal, len);
    if (r == 0)
        r = buf_add(out, normal, len);
    secret_wipe(normal, len);
    free(normal);
    return r;
}
