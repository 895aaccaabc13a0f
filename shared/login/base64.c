/*
 * Base64 (RFC 4648 4). Runs before login, on what strangers send: strict, one pass, no table in writable memory.
 */
#include "shared/login/base64.h"

#include <errno.h>
#include <stdint.h>

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct str data, struct buf *out)
{
    size_t start = out->len;
    int r = 0;

    for (size_t i = 0; r == 0 && i < data.len; i += 3) {
        size_t n = data.len - i;
        uint32_t bits = (uint32_t)(unsigned char)data.ptr[i] << 16;

        bits |= n > 1 ? (uint32_t)(unsigned char)data.ptr[i + 1] << 8 : 0;
        bits |= n > 2 ? (uint32_t)(unsigned char)data.ptr[i + 2] : 0;
        r = buf_add(out,
                    (const char[]){ALPHABET[bits >> 18], ALPHABET[bits >> 12 & 63],
                                   n > 1 ? ALPHABET[bits >> 6 & 63] : '=', n > 2 ? ALPHABET[bits & 63] : '='},
                    4);
    }
    if (r < 0)
        buf_truncate(out, start);
    return r;
}

int base64_decode(struct str text, struct buf *out)
{
    size_t padding = str_ends(text, STR("==")) ? 2 : str_ends(text, STR("=")) ? 1 : 0;
    size_t start = out->len;
    uint32_t bits = 0;
    int r = text.len % 4 == 0 ? 0 : -EINVAL;

    for (size_t i = 0; r == 0 && i < text.len; i++) {
        const char *at = i >= text.len - padding ? ALPHABET : memchr(ALPHABET, text.ptr[i], sizeof(ALPHABET) - 1);
        size_t missing = i + 1 == text.len ? padding : 0; /* of the three bytes that four characters are; zero then */

        bits = bits << 6 | (at ? (uint32_t)(at - ALPHABET) : 0);
        if (!at || (bits & ((1u << 8 * missing) - 1)) != 0)
            r = -EINVAL;
        else if (i % 4 == 3)
            r = buf_add(out, (const char[]){(char)(bits >> 16), (char)(bits >> 8), (char)bits}, 3 - missing);
    }
    if (r < 0)
        buf_truncate(out, start);
    return r;
}
