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
