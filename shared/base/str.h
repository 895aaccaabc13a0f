/*
 * struct str: a view of bytes, {pointer, length}. It owns nothing, may contain any byte, and is not NUL-terminated.
 * Everything that comes from the network, the spool or a pipe travels as a view. A view lives as long as what it looks
 * into; functions that keep one copy it.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *ptr;
    size_t len;
};

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_NULL     ((struct str){NULL, 0})
/* For printf: printf("%.*s", STR_ARG(s)). Capped, since the precision is an int. */
#define STR_ARG(s) (int)((s).len > 65536 ? 65536 : (s).len), ((s).ptr ? (s).ptr : "")

/* The view of a C string; NULL gives the null view. */
struct str str_from(const char *c);

/* The view from byte `at`, `len` bytes long; both are clipped to the end of `s`. */
static inline struct str str_sub(struct str s, size_t at, size_t len)
{
    if (at > s.len)
        at = s.len;
    if (len > s.len - at)
        len = s.len - at;
    return (struct str){at ? s.ptr + at : s.ptr, len};
}

/* Equal bytes. */
bool str_eq(struct str a, struct str b);

/* Order as memcmp, shorter first; str_icmp folds ASCII letters. */
int str_cmp(struct str a, struct str b);
int str_icmp(struct str a, struct str b);

/* Equal but for the case of ASCII letters (protocol keywords are ASCII whatever the locale). */
bool str_ieq(struct str a, struct str b);

/* Does it begin or end with these bytes? str_istarts folds ASCII letters. */
bool str_starts(struct str s, struct str prefix);
bool str_istarts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);

/* Index of the first byte `c`, or -1. */
ptrdiff_t str_chr(struct str s, char c);

/* Index of the first occurrence of `needle`, or -1; str_ifind folds ASCII letters. */
ptrdiff_t str_find(struct str s, struct str needle);
ptrdiff_t str_ifind(struct str s, struct str needle);

/* Without leading and trailing space, TAB, CR, LF. */
struct str str_trim(struct str s);

/* Takes what stands before `sep` off the front of *s into *ret_head; *s becomes what stands behind it. Without a `sep`
 * the whole of *s is taken and false is returned. */
bool str_cut(struct str *s, char sep, struct str *ret_head);

/* Takes the next run of non-blank bytes off *s (skipping blanks before it). False when only blanks are left. */
bool str_word(struct str *s, struct str *ret_word);

/* Is it one of these blank-separated words, without regard to case? */
bool str_has_word(struct str list, struct str word);

/* The whole view as a decimal number without sign or blanks. -EINVAL: not a number. -ERANGE: too large. */
int str_to_u32(struct str s, uint32_t *ret);
int str_to_u64(struct str s, uint64_t *ret);

/* A NUL-terminated copy, freed by the caller; NULL when out of memory. A NUL inside the view ends the C string early:
 * callers that care check with str_has_nul(). */
char *str_dup(struct str s);
bool str_has_nul(struct str s);

/* ASCII case folding, independent of the locale. */
static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}
static inline char ascii_upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - ('a' - 'A')) : c;
}
static inline bool ascii_is_digit(char c)
{
    return c >= '0' && c <= '9';
}
/* A letter of US-ASCII, whatever the locale. */
bool ascii_is_alpha(char c);

/* 1 to 4: bytes of the valid UTF-8 sequence (RFC 3629) at the front of `s`; 0: not valid. */
size_t utf8_sequence(struct str s);
bool utf8_valid(struct str s);
bool str_is_ascii(struct str s);     /* no byte above 127 */
bool str_is_printable(struct str s); /* and none below the blank */

#endif
