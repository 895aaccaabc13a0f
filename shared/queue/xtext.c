/*
 * xtext. Runs everywhere; pure.
 */
#include "shared/queue/xtext.h"

#include <errno.h>

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Takes one character off the front; -1: there is none that could be. */
static int take(struct str *s)
{
    unsigned char c = (unsigned char)s->ptr[0];
    int high, low;

    if (c != '+') {
        *s = str_sub(*s, 1, s->len);
        return c < 33 || c > 126 || c == '=' ? -1 : c;
    }
    high = s->len > 2 ? hex_digit(s->ptr[1]) : -1;
    low = s->len > 2 ? hex_digit(s->ptr[2]) : -1;
    *s = str_sub(*s, 3, s->len);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

bool xtext_is_valid(struct str s)
{
    while (s.len > 0)
        if (take(&s) < 0)
            return false;
    return true;
}

int xtext_encode(struct str plain, struct buf *out)
{
    int e = 0;

    for (size_t i = 0; i < plain.len && e == 0; i++) {
        unsigned char c = (unsigned char)plain.ptr[i];

        if (c < 33 || c > 126 || c == '+' || c == '=')
            e = buf_printf(out, "+%02X", (unsigned)c);
        else
            e = buf_add_byte(out, (char)c);
    }
    return e;
}

int xtext_decode(struct str s, struct buf *out)
{
    int e = 0;

    while (s.len > 0 && e == 0) {
        int c = take(&s);

        e = c <= 0 ? -EINVAL : buf_add_byte(out, (char)c);
    }
    return e;
}

/* EmbeddedUnicodeChar: how many bytes; 0: none is here. */
static size_t embedded(struct str s, uint32_t *ret)
{
    uint32_t value = 0;
    size_t i = 3;

    if (!str_starts(s, STR("\\x{")))
        return 0;
    for (; i < s.len && i < 9 && hex_digit(s.ptr[i]) >= 0; i++)
        value = value << 4 | (uint32_t)hex_digit(s.ptr[i]);
    if (i < 5 || i >= s.len || s.ptr[i] != '}' || value == 0 || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        return 0;
    *ret = value;
    return i + 1;
}

/* How many bytes the next character has, 0: it is none. */
static size_t next_length(struct str s)
{
    unsigned char c = (unsigned char)s.ptr[0];
    uint32_t unused;

    if (c >= 128)
        return utf8_sequence(s);
    if (c == '\\')
        return embedded(s, &unused);
    return c > 32 && c < 127 && c != '+' && c != '=';
}

bool utf8_xtext_is_valid(struct str s)
{
    while (s.len > 0) {
        size_t n = next_length(s);

        if (n == 0)
            return false;
        s = str_sub(s, n, s.len);
    }
    return true;
}

int utf8_xtext_encode(struct str s, struct buf *out)
{
    int e = 0;

    while (s.len > 0 && e == 0) {
        size_t n = next_length(s);
        uint32_t value = (unsigned char)s.ptr[0];

        if (n == 0)
            return -EINVAL;
        if (value < 128) {
            e = buf_add_str(out, str_sub(s, 0, n));
        } else {
            value &= 0x7Fu >> n;
            for (size_t i = 1; i < n; i++)
                value = value << 6 | ((unsigned char)s.ptr[i] & 0x3F);
            e = buf_printf(out, "\\x{%X}", (unsigned)value);
        }
        s = str_sub(s, n, s.len);
    }
    return e;
}

static int add_utf8(uint32_t value, struct buf *out)
{
    char bytes[4];
    size_t n = value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4;

    for (size_t i = n - 1; i > 0; i--, value >>= 6)
        bytes[i] = (char)(0x80 | (value & 0x3F));
    bytes[0] = (char)(n == 1 ? value : (0xF0u << (4 - n)) | value);
    return buf_add(out, bytes, n);
}

int utf8_xtext_decode(struct str s, struct buf *out)
{
    int e = 0;

    while (s.len > 0 && e == 0) {
        size_t n = next_length(s);
        uint32_t value = 0;

        if (n == 0)
            return -EINVAL;
        e = embedded(s, &value) > 0 ? add_utf8(value, out) : buf_add_str(out, str_sub(s, 0, n));
        s = str_sub(s, n, s.len);
    }
    return e;
}
