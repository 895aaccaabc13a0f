/*
 * Character sets: see charset.h.
 */
#include "shared/mime/charset.h"

#include <errno.h>
#include <iconv.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LENGTH 64
#define HELD_MAX        16 /* bytes of a character that is not complete */

static const char replacement[] = "\xef\xbf\xbd";

enum charset_kind {
    KIND_UTF8,
    KIND_LATIN1, /* windows-1252, which ISO-8859-1 mail means (as the WHATWG encoding standard says) */
    KIND_GUESS,  /* unknown, and US-ASCII with 8-bit bytes: UTF-8 where valid, else windows-1252 */
    KIND_ICONV,
};

struct charset {
    enum charset_kind kind;
    iconv_t conv;
    char held[HELD_MAX];
    size_t held_len;
    bool is_damaged;
};

/* windows-1252's 0x80 to 0x9f; 0: not assigned. */
static const uint16_t cp1252[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017d, 0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178,
};

static const struct {
    struct str name;
    enum charset_kind kind;
} names[] = {
    {{"utf-8", 5}, KIND_UTF8},         {{"us-ascii", 8}, KIND_GUESS},
    {{"utf8", 4}, KIND_UTF8},          {{"ascii", 5}, KIND_GUESS},
    {{"iso-8859-1", 10}, KIND_LATIN1}, {{"windows-1252", 12}, KIND_LATIN1},
    {{"latin1", 6}, KIND_LATIN1},      {{"cp1252", 6}, KIND_LATIN1},
    {{"iso8859-1", 9}, KIND_LATIN1},   {{"ansi_x3.4-1968", 14}, KIND_GUESS},
};

/* Names that mail uses and glibc's iconv lacks or takes for something narrower. */
static const struct {
    struct str name;
    const char *iconv_name;
} aliases[] = {
    {{"gb2312", 6}, "GB18030"},     {{"gbk", 3}, "GB18030"},
    {{"x-gbk", 5}, "GB18030"},      {{"ks_c_5601-1987", 14}, "CP949"},
    {{"euc-kr", 6}, "CP949"},       {{"shift_jis", 9}, "CP932"},
    {{"x-sjis", 6}, "CP932"},       {{"iso-8859-8-i", 12}, "ISO-8859-8"},
    {{"iso-8859-9", 10}, "CP1254"}, {{"x-mac-roman", 11}, "MACINTOSH"},
    {{"big5", 4}, "BIG5-HKSCS"},    {{"unicode-1-1-utf-7", 17}, "UTF-7"},
};

/* What mail is written in. iconv knows hundreds more, whose converters nobody looks at and whose names a stranger could
 * choose (the worst of them, ISO-2022-CN-EXT, wrote over its buffer for twenty years). */
static const char *const families[] = {
    "iso-8859-",   "iso8859-",  "iso_8859-", "windows-", "cp125",  "cp437",  "cp850", "cp852",
    "cp855",       "cp858",     "cp866",     "cp874",    "cp93",   "cp949",  "cp950", "ibm437",
    "ibm85",       "ibm866",    "koi8",      "utf-16",   "utf-32", "ucs-",   "utf-7", "gb",
    "big5",        "euc-",      "eucjp",     "sjis",     "shift",  "johab",  "uhc",   "iso-2022-jp",
    "iso-2022-kr", "ks_c_5601", "ksc5601",   "tis-620",  "tis620", "viscii", "mac",   "hp-roman8",
    "latin",       "armscii",   "georgian",  "ptcp154",  "pt154",  "rk1048",
};

/* iconv's options ("//IGNORE") and anything that is no charset name are refused. */
static bool name_is_valid(struct str name)
{
    bool is_known = false;

    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (!ascii_is_alpha(c) && !ascii_is_digit(c) && !strchr("-_.:+()", c))
            return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(families) && !is_known; i++)
        is_known = str_istarts(name, str_from(families[i]));
    return is_known && name.len <= NAME_MAX_LENGTH;
}

static iconv_t open_iconv(struct str name)
{
    char text[NAME_MAX_LENGTH + 1];

    for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
        if (str_ieq(name, aliases[i].name))
            return iconv_open("UTF-8", aliases[i].iconv_name);
    }
    if (!name_is_valid(name))
        return (iconv_t)-1;
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    return iconv_open("UTF-8", text);
}

int charset_new(struct str name, struct charset **ret, bool *ret_is_known)
{
    struct charset *c = calloc(1, sizeof(*c));
    bool is_known = false;

    if (!c)
        return -ENOMEM;
    name = str_trim(name);
    c->kind = KIND_GUESS;
    c->conv = (iconv_t)-1;
    for (size_t i = 0; i < ARRAY_SIZE(names) && !is_known; i++) {
        is_known = str_ieq(name, names[i].name);
        if (is_known)
            c->kind = names[i].kind;
    }
    if (!is_known) {
        c->conv = open_iconv(name);
        is_known = c->conv != (iconv_t)-1;
        if (is_known)
            c->kind = KIND_ICONV;
    }
    if (ret_is_known)
        *ret_is_known = is_known;
    *ret = c;
    return 0;
}

void charset_free(struct charset *c)
{
    if (c && c->conv != (iconv_t)-1)
        (void)iconv_close(c->conv);
    free(c);
}

void charset_reset(struct charset *c)
{
    c->held_len = 0;
    c->is_damaged = false;
    if (c->conv != (iconv_t)-1)
        (void)iconv(c->conv, NULL, NULL, NULL, NULL);
}

bool charset_keeps_ascii(const struct charset *c)
{
    return c->kind != KIND_ICONV && c->held_len == 0;
}

static int add_replacement(struct charset *c, struct buf *out)
{
    c->is_damaged = true;
    return buf_add(out, replacement, 3);
}

static int add_code_point(struct charset *c, uint32_t u, struct buf *out)
{
    if (!u)
        return add_replacement(c, out);
    if (u < 0x80)
        return buf_add_byte(out, (char)u);
    if (u < 0x800)
        return buf_add(out, (char[]){(char)(0xc0 | u >> 6), (char)(0x80 | (u & 63))}, 2);
    return buf_add(out, (char[]){(char)(0xe0 | u >> 12), (char)(0x80 | (u >> 6 & 63)), (char)(0x80 | (u & 63))}, 3);
}

static int add_latin1_byte(struct charset *c, uint8_t byte, struct buf *out)
{
    return add_code_point(c, byte >= 0x80 && byte < 0xa0 ? cp1252[byte - 0x80] : byte ? byte : ' ', out);
}

/* Length of the ASCII run at the front, eight bytes at a time. */
static size_t ascii_length(struct str s)
{
    size_t n = 0;

    for (; n + 8 <= s.len; n += 8) {
        uint64_t word;

        memcpy(&word, s.ptr + n, 8);
        if (word & 0x8080808080808080u)
            break;
    }
    while (n < s.len && (unsigned char)s.ptr[n] < 0x80)
        n++;
    return n;
}

static int feed_latin1(struct charset *c, struct str s, struct buf *out)
{
    int r = 0;

    while (s.len && !r) {
        size_t n = ascii_length(s);

        r = buf_add(out, s.ptr, n);
        s = str_sub(s, n, s.len);
        if (!r && s.len)
            r = add_latin1_byte(c, (uint8_t)s.ptr[0], out);
        s = str_sub(s, 1, s.len);
    }
    return r;
}

/* Could more bytes make this start of a sequence a whole one? */
static bool is_cut_sequence(struct str s)
{
    uint8_t c = (uint8_t)s.ptr[0];
    size_t need = c >= 0xf0 && c <= 0xf4 ? 4 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xc2 && c < 0xe0 ? 2 : 0;

    for (size_t i = 1; i < s.len; i++) {
        if (((uint8_t)s.ptr[i] & 0xc0) != 0x80)
            return false;
    }
    return s.len < need;
}

static int bad_byte(struct charset *c, char byte, struct buf *out)
{
    c->is_damaged = true;
    return c->kind == KIND_GUESS ? add_latin1_byte(c, (uint8_t)byte, out) : add_replacement(c, out);
}

static int feed_utf8(struct charset *c, struct str s, struct buf *out)
{
    int r = 0;

    while (s.len && !r) {
        size_t n = ascii_length(s), len;

        while (n < s.len && (len = utf8_sequence(str_sub(s, n, 4))) != 0)
            n += len == 1 ? ascii_length(str_sub(s, n, s.len)) : len;
        r = buf_add(out, s.ptr, n);
        s = str_sub(s, n, s.len);
        if (r || !s.len)
            break;
        if (s.len < 4 && is_cut_sequence(s)) {
            memcpy(c->held, s.ptr, s.len);
            c->held_len = s.len;
            break;
        }
        r = bad_byte(c, s.ptr[0], out);
        s = str_sub(s, 1, s.len);
    }
    return r;
}

static int feed_iconv(struct charset *c, struct str s, struct buf *out)
{
    char *in = (char *)(uintptr_t)s.ptr; /* iconv does not write there */
    size_t in_left = s.len;

    while (in_left) {
        int r = buf_reserve(out, in_left + 64);
        char *to = r ? NULL : out->data + out->len;
        size_t to_left = r ? 0 : out->cap - out->len - 1, room = to_left;
        size_t n;

        if (r)
            return r;
        n = iconv(c->conv, &in, &in_left, &to, &to_left);
        out->len += room - to_left;
        out->data[out->len] = '\0';
        if (n != (size_t)-1 || errno == E2BIG)
            continue;
        if (errno == EINVAL && in_left < HELD_MAX) {
            memcpy(c->held, in, in_left);
            c->held_len = in_left;
            return 0;
        }
        r = add_replacement(c, out);
        if (r)
            return r;
        in++;
        in_left--;
    }
    return 0;
}

static int feed_all(struct charset *c, struct str s, struct buf *out)
{
    if (c->kind == KIND_ICONV)
        return feed_iconv(c, s, out);
    return c->kind == KIND_LATIN1 ? feed_latin1(c, s, out) : feed_utf8(c, s, out);
}

int charset_feed(struct charset *c, struct str piece, struct buf *out)
{
    int r = 0;

    /* A character that was cut: byte by byte until it is complete or proves to be none. */
    while (c->held_len && piece.len && !r) {
        char joined[HELD_MAX];
        size_t len = c->held_len;

        memcpy(joined, c->held, len);
        joined[len++] = piece.ptr[0];
        piece = str_sub(piece, 1, piece.len);
        c->held_len = 0;
        r = feed_all(c, (struct str){joined, len}, out);
    }
    return r ? r : feed_all(c, piece, out);
}

int charset_end(struct charset *c, struct buf *out)
{
    int r = 0;

    c->is_damaged |= c->held_len > 0;
    if (c->kind == KIND_GUESS) {
        for (size_t i = 0; i < c->held_len && !r; i++)
            r = add_latin1_byte(c, (uint8_t)c->held[i], out);
    } else if (c->held_len) {
        r = add_replacement(c, out);
    }
    c->held_len = 0;
    return r;
}

bool charset_is_known(struct str name)
{
    struct charset *c;
    bool is_known = false;

    if (charset_new(name, &c, &is_known) == 0)
        charset_free(c);
    return is_known;
}

int charset_to_utf8(struct str name, struct str text, bool is_strict, struct buf *out)
{
    size_t start = out->len;
    bool is_known = false;
    struct charset *c;
    int r = charset_new(name, &c, &is_known);

    if (r)
        return r;
    if (!is_known && is_strict)
        r = -ENOENT;
    if (!r)
        r = charset_feed(c, text, out);
    if (!r)
        r = charset_end(c, out);
    if (!r && is_strict && c->is_damaged)
        r = -EILSEQ;
    charset_free(c);
    if (r)
        buf_truncate(out, start);
    return r;
}
