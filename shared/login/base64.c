/*
 * Base64 (RFC 4648 4). Runs before login, on what strangers send: strict, one pass, no table in writable memory.
 */
#include "shared/login/base64.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct str data, struct buf *out)
{
    size_t start = out->len;

    for (size_t i = 0; i < data.len; i += 3) {
        size_t n = data.len - i < 3 ? data.len - i : 3;
        uint32_t bits = (uint32_t)(unsigned char)data.ptr[i] << 16;
        char four[4];
        int r = 0;

        bits |= n > 1 ? (uint32_t)(unsigned char)data.ptr[i + 1] << 8 : 0;
        bits |= n > 2 ? (uint32_t)(unsigned char)data.ptr[i + 2] : 0;
        four[0] = ALPHABET[bits >> 18];
        four[1] = ALPHABET[bits >> 12 & 63];
        four[2] = n > 1 ? ALPHABET[bits >> 6 & 63] : '=';
        four[3] = n > 2 ? ALPHABET[bits & 63] : '=';
        r = buf_add(out, four, sizeof(four));
        if (r < 0) {
            buf_truncate(out, start);
            return r;
        }
    }
    return 0;
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four characters to one to three bytes; only the last four may be padded, and the bits under the padding are zero. */
static int decode_four(const char *four, bool is_last, struct buf *out)
{
    int padding = !is_last || four[3] != '=' ? 0 : four[2] == '=' ? 2 : 1;
    uint32_t bits = 0;
    char three[3];

    for (int i = 0; i < 4; i++) {
        int v = i >= 4 - padding ? 0 : value_of(four[i]);

        if (v < 0)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)v;
    }
    if ((padding == 1 && (bits & 0xff)) || (padding == 2 && (bits & 0xffff)))
        return -EINVAL;
    three[0] = (char)(bits >> 16);
    three[1] = (char)(bits >> 8);
    three[2] = (char)bits;
    return buf_add(out, three, (size_t)(3 - padding));
}

int base64_decode(struct str text, struct buf *out)
{
    size_t start = out->len;
    int r = text.len % 4 == 0 ? 0 : -EINVAL;

    for (size_t i = 0; r == 0 && i < text.len; i += 4)
        r = decode_four(text.ptr + i, i + 4 == text.len, out);
    if (r < 0)
        buf_truncate(out, start);
    return r;
}
