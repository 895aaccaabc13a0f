#include "shared/base/str.h"

#include <errno.h>
#include <stdlib.h>

struct str str_from(const char *c)
{
    return (struct str){c, c ? strlen(c) : 0};
}

bool ascii_is_alpha(char c)
{
    c = ascii_lower(c);
    return c >= 'a' && c <= 'z';
}

bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static int compare_folded(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char x = (unsigned char)ascii_lower(a[i]);
        unsigned char y = (unsigned char)ascii_lower(b[i]);

        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}

static int compare_lengths(size_t a, size_t b)
{
    return a < b ? -1 : a > b;
}

int str_cmp(struct str a, struct str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int r = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;

    return r != 0 ? r : compare_lengths(a.len, b.len);
}

int str_icmp(struct str a, struct str b)
{
    int r = compare_folded(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

    return r != 0 ? r : compare_lengths(a.len, b.len);
}

/* Most names are written in the same case. */
static bool is_same_folded(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && ascii_lower(a[i]) != ascii_lower(b[i]))
            return false;
    return true;
}

bool str_ieq(struct str a, struct str b)
{
    return a.len == b.len && is_same_folded(a.ptr, b.ptr, a.len);
}

bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_eq(str_sub(s, 0, prefix.len), prefix);
}

bool str_istarts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && is_same_folded(s.ptr, prefix.ptr, prefix.len);
}

bool str_ends(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_eq(str_sub(s, s.len - suffix.len, suffix.len), suffix);
}

ptrdiff_t str_chr(struct str s, char c)
{
    const char *p = s.len > 0 ? memchr(s.ptr, c, s.len) : NULL;

    return p ? p - s.ptr : -1;
}

ptrdiff_t str_find(struct str s, struct str needle)
{
    if (needle.len == 0)
        return 0;
    if (s.len < needle.len)
        return -1;

    const char *p = memmem(s.ptr, s.len, needle.ptr, needle.len);

    return p ? p - s.ptr : -1;
}

ptrdiff_t str_ifind(struct str s, struct str needle)
{
    for (size_t i = 0; i + needle.len <= s.len; i++)
        if (is_same_folded(s.ptr + i, needle.ptr, needle.len))
            return (ptrdiff_t)i;
    return -1;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
    while (s.len > 0 && is_space(s.ptr[s.len - 1]))
        s.len--;
    while (s.len > 0 && is_space(s.ptr[0]))
        s = str_sub(s, 1, s.len);
    return s;
}

bool str_cut(struct str *s, char sep, struct str *ret_head)
{
    ptrdiff_t at = str_chr(*s, sep);

    if (at < 0) {
        *ret_head = *s;
        *s = str_sub(*s, s->len, 0);
        return false;
    }
    *ret_head = str_sub(*s, 0, (size_t)at);
    *s = str_sub(*s, (size_t)at + 1, s->len);
    return true;
}

bool str_word(struct str *s, struct str *ret_word)
{
    size_t end = 0;
    struct str rest = *s;

    while (rest.len > 0 && is_space(rest.ptr[0]))
        rest = str_sub(rest, 1, rest.len);
    while (end < rest.len && !is_space(rest.ptr[end]))
        end++;
    *s = str_sub(rest, end, rest.len);
    if (end == 0)
        return false;
    *ret_word = str_sub(rest, 0, end);
    return true;
}

bool str_has_word(struct str list, struct str word)
{
    struct str item;

    while (str_word(&list, &item))
        if (str_ieq(item, word))
            return true;
    return false;
}

int str_to_u64(struct str s, uint64_t *ret)
{
    uint64_t n = 0;

    if (s.len == 0)
        return -EINVAL;
    for (size_t i = 0; i < s.len; i++) {
        if (!ascii_is_digit(s.ptr[i]))
            return -EINVAL;
        if (__builtin_mul_overflow(n, UINT64_C(10), &n) || __builtin_add_overflow(n, (uint64_t)(s.ptr[i] - '0'), &n))
            return -ERANGE;
    }
    *ret = n;
    return 0;
}

int str_to_u32(struct str s, uint32_t *ret)
{
    uint64_t n;
    int r = str_to_u64(s, &n);

    if (r < 0)
        return r;
    if (n > UINT32_MAX)
        return -ERANGE;
    *ret = (uint32_t)n;
    return 0;
}

char *str_dup(struct str s)
{
    char *c = malloc(s.len + 1);

    if (!c)
        return NULL;
    if (s.len > 0)
        memcpy(c, s.ptr, s.len);
    c[s.len] = '\0';
    return c;
}

bool str_has_nul(struct str s)
{
    return str_chr(s, '\0') >= 0;
}

size_t utf8_sequence(struct str s)
{
    if (s.len == 0)
        return 0;

    unsigned char c = (unsigned char)s.ptr[0];
    size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;

    if (n > s.len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)s.ptr[i] & 0xc0) != 0x80)
            return 0;
    if (n >= 3) {
        unsigned char d = (unsigned char)s.ptr[1];

        /* Overlong forms, surrogates, beyond U+10FFFF (RFC 3629 4). */
        if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) || (c == 0xf4 && d > 0x8f))
            return 0;
    }
    return n;
}

bool utf8_valid(struct str s)
{
    while (s.len > 0) {
        size_t n = utf8_sequence(s);

        if (n == 0)
            return false;
        s = str_sub(s, n, s.len);
    }
    return true;
}

bool str_is_ascii(struct str s)
{
    uint64_t all = 0, w;
    size_t n = 0;

    for (; s.len - n >= sizeof(w); n += sizeof(w)) {
        memcpy(&w, s.ptr + n, sizeof(w));
        all |= w;
    }
    for (; n < s.len; n++)
        all |= (unsigned char)s.ptr[n];
    return (all & UINT64_C(0x8080808080808080)) == 0;
}

bool str_is_printable(struct str s)
{
    const uint64_t high = UINT64_C(0x8080808080808080), blanks = UINT64_C(0x2020202020202020);
    uint64_t odd = 0, w;
    size_t n = 0;

    /* Eight bytes at a time. Bit 7: not ASCII, or below the blank; a borrow from such a byte only adds to them. */
    for (; n + sizeof(w) <= s.len; n += sizeof(w)) {
        memcpy(&w, s.ptr + n, sizeof(w));
        odd |= w | (w - blanks);
    }
    odd &= high;
    for (; n < s.len; n++)
        odd |= (unsigned char)s.ptr[n] < ' ' || (unsigned char)s.ptr[n] >= 0x80;
    return odd == 0;
}
