/*
 * Punycode. Runs in the monitor and in smtp-session; pure.
 */
#include "shared/route/idna.h"

#include <errno.h>

#include "shared/base/limits.h"

/* RFC 3492 5 */
#define BASE         36
#define TMIN         1
#define TMAX         26
#define SKEW         38
#define DAMP         700
#define INITIAL_BIAS 72
#define INITIAL_N    128

struct label {
    uint32_t points[LIMIT_DOMAIN];
    uint32_t count;
    uint32_t ascii; /* how many of them are */
};

static uint32_t decode_sequence(struct str s, size_t len)
{
    uint32_t point = (unsigned char)s.ptr[0];

    if (len == 1)
        return (unsigned char)ascii_lower((char)point);
    point &= 0x7Fu >> len;
    for (size_t i = 1; i < len; i++)
        point = point << 6 | ((unsigned char)s.ptr[i] & 0x3Fu);
    return point;
}

static int decode_label(struct str s, struct label *ret)
{
    *ret = (struct label){0};
    while (s.len > 0) {
        size_t len = utf8_sequence(s);

        if (len == 0 || ret->count == LIMIT_DOMAIN)
            return -EINVAL;
        ret->points[ret->count++] = decode_sequence(s, len);
        ret->ascii += len == 1;
        s = str_sub(s, len, s.len);
    }
    return 0;
}

static uint32_t adapt(uint32_t delta, uint32_t count, bool is_first)
{
    uint32_t k = 0;

    delta = is_first ? delta / DAMP : delta / 2;
    delta += delta / count;
    for (; delta > ((BASE - TMIN) * TMAX) / 2; k += BASE)
        delta /= BASE - TMIN;
    return k + (BASE - TMIN + 1) * delta / (delta + SKEW);
}

static int add_digit(struct buf *out, uint32_t digit)
{
    return buf_add_byte(out, (char)(digit < 26 ? 'a' + (char)digit : '0' + (char)(digit - 26)));
}

/* One variable-length integer. */
static int add_delta(struct buf *out, uint32_t delta, uint32_t bias)
{
    int e = 0;

    for (uint32_t k = BASE; e == 0; k += BASE) {
        uint32_t t = k <= bias ? TMIN : k >= bias + TMAX ? TMAX : k - bias;

        if (delta < t)
            return add_digit(out, delta);
        e = add_digit(out, t + (delta - t) % (BASE - t));
        delta = (delta - t) / (BASE - t);
    }
    return e;
}

static uint32_t next_point(const struct label *l, uint32_t from)
{
    uint32_t next = UINT32_MAX;

    for (uint32_t i = 0; i < l->count; i++)
        if (l->points[i] >= from && l->points[i] < next)
            next = l->points[i];
    return next;
}

/* No overflow: 255 points below 2^21 give a delta below 2^30. */
static int add_punycode(const struct label *l, struct buf *out)
{
    uint32_t n = INITIAL_N, bias = INITIAL_BIAS, delta = 0, handled = l->ascii;
    int e = 0;

    while (handled < l->count) {
        uint32_t next = next_point(l, n);

        delta += (next - n) * (handled + 1);
        n = next;
        for (uint32_t i = 0; i < l->count && e == 0; i++) {
            delta += l->points[i] < n;
            if (l->points[i] != n)
                continue;
            e = add_delta(out, delta, bias);
            bias = adapt(delta, handled + 1, handled == l->ascii);
            delta = 0;
            handled++;
        }
        if (e < 0)
            return e;
        delta++;
        n++;
    }
    return 0;
}

static int add_label(struct str s, struct buf *out)
{
    struct label l;
    int e = decode_label(s, &l);

    if (e == 0 && l.ascii < l.count)
        e = buf_add_str(out, STR("xn--"));
    for (uint32_t i = 0; i < l.count && e == 0; i++)
        if (l.points[i] < INITIAL_N)
            e = buf_add_byte(out, (char)l.points[i]);
    if (e < 0 || l.ascii == l.count)
        return e;
    if (l.ascii > 0)
        e = buf_add_byte(out, '-');
    return e < 0 ? e : add_punycode(&l, out);
}

int idna_to_ascii(struct str domain, struct buf *out)
{
    size_t start = out->len;
    bool more = true;
    int e = 0;

    while (more && e == 0) {
        struct str label;

        more = str_cut(&domain, '.', &label);
        e = add_label(label, out);
        if (e == 0 && more)
            e = buf_add_byte(out, '.');
    }
    if (e < 0)
        buf_truncate(out, start);
    return e;
}
