/*
 * The tokens of IMAP arguments (RFC 9051 9): atoms, numbers, names, flags, dates, sequence sets. Runs in imap-session
 * as the user.
 */
#include <errno.h>
#include <string.h>

#include "handlers/imap/parse.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mime/date.h"
#include "shared/mime/utf7.h"

bool parse_is_astring_char(char c)
{
    unsigned char u = (unsigned char)c;

    return u > ' ' && u < 0x7f && !strchr("(){%*\"\\", c);
}

bool parse_is_atom_char(char c)
{
    return parse_is_astring_char(c) && c != ']';
}

static bool is_list_char(char c)
{
    return parse_is_astring_char(c) || c == '%' || c == '*';
}

static bool is_tag_char(char c)
{
    return parse_is_astring_char(c) && c != '+';
}

static bool is_name_char(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_' || c == '.';
}

static bool is_sequence_char(char c)
{
    return ascii_is_digit(c) || c == ':' || c == ',' || c == '*';
}

/* The longest front of the rest that consists of such characters. */
static struct str take_while(struct parse *p, bool (*is_wanted)(char))
{
    size_t n = 0;
    struct str r;

    while (n < p->rest.len && is_wanted(p->rest.ptr[n]))
        n++;
    r = str_sub(p->rest, 0, n);
    p->rest = str_sub(p->rest, n, p->rest.len);
    return r;
}

char parse_peek(const struct parse *p)
{
    return p->rest.len ? p->rest.ptr[0] : '\0';
}

bool parse_at_end(const struct parse *p)
{
    return p->rest.len == 0;
}

bool parse_accept(struct parse *p, char c)
{
    if (!p->rest.len || p->rest.ptr[0] != c)
        return false;
    p->rest = str_sub(p->rest, 1, p->rest.len);
    return true;
}

bool parse_accept_word(struct parse *p, struct str word)
{
    if (!str_istarts(p->rest, word))
        return false;
    if (p->rest.len > word.len && parse_is_atom_char(p->rest.ptr[word.len]))
        return false;
    p->rest = str_sub(p->rest, word.len, p->rest.len);
    return true;
}

int parse_char(struct parse *p, char c, const char *expected)
{
    return parse_accept(p, c) ? 0 : parse_fail(p, expected);
}

int parse_space(struct parse *p)
{
    return parse_char(p, ' ', "a space");
}

int parse_end(struct parse *p)
{
    /* Trailing blanks are harmless, and some clients send them. */
    while (parse_accept(p, ' '))
        ;
    return parse_at_end(p) ? 0 : parse_fail(p, "the end of the command");
}

int parse_tag(struct parse *p, struct str *ret)
{
    struct str before = p->rest, tag = take_while(p, is_tag_char);

    if (!tag.len || tag.len > 100 || !parse_accept(p, ' ')) {
        p->rest = before;
        return parse_fail(p, "a tag and a command");
    }
    *ret = tag;
    return 0;
}

int parse_name(struct parse *p, struct str *ret)
{
    struct str before = p->rest, name = take_while(p, is_name_char);

    if (!name.len || (p->rest.len && p->rest.ptr[0] != ' ')) {
        p->rest = before;
        return parse_fail(p, "the name of a command");
    }
    *ret = name;
    return 0;
}

int parse_atom(struct parse *p, const char *expected, struct str *ret)
{
    struct str atom = take_while(p, parse_is_atom_char);

    if (!atom.len)
        return parse_fail(p, expected);
    *ret = atom;
    return 0;
}

int parse_astring(struct parse *p, const char *expected, struct str *ret)
{
    struct str atom;

    if (parse_peek(p) == '"' || parse_peek(p) == '{')
        return parse_string(p, expected, ret);
    atom = take_while(p, parse_is_astring_char);
    if (!atom.len)
        return parse_fail(p, expected);
    *ret = atom;
    return 0;
}

int parse_number64(struct parse *p, const char *expected, uint64_t *ret)
{
    struct str before = p->rest, digits = take_while(p, ascii_is_digit);
    uint64_t n;

    if (!digits.len || str_to_u64(digits, &n) < 0 || n > INT64_MAX) {
        p->rest = before;
        return parse_fail(p, expected);
    }
    *ret = n;
    return 0;
}

int parse_number(struct parse *p, const char *expected, uint32_t *ret)
{
    struct str before = p->rest;
    uint64_t n;
    int r = parse_number64(p, expected, &n);

    if (r < 0)
        return r;
    if (n > UINT32_MAX) {
        p->rest = before;
        return parse_fail(p, expected);
    }
    *ret = (uint32_t)n;
    return 0;
}

int parse_nz_number(struct parse *p, const char *expected, uint32_t *ret)
{
    struct str before = p->rest;
    uint32_t n;
    int r = parse_number(p, expected, &n);

    if (r < 0)
        return r;
    if (n == 0) {
        p->rest = before;
        return parse_fail(p, expected);
    }
    *ret = n;
    return 0;
}

/* From what the client sent to UTF-8. A name that is no modified UTF-7 but UTF-8 is what broken clients send; it is
 * taken when it holds 8-bit bytes (RFC 3501 5.1 leaves it open), a stray `&` is refused. */
static int mailbox_decode(struct parse *p, struct str raw, struct str *ret)
{
    _cleanup_buf_ struct buf name = BUF_INIT((size_t)LIMIT_MAILBOX_NAME * 4);
    char *copy;

    if (raw.len > (size_t)LIMIT_MAILBOX_NAME * 2 || (p->is_utf8 && !utf8_valid(raw)))
        return parse_fail(p, p->is_utf8 ? "a mailbox name in UTF-8" : "a shorter mailbox name");
    if (p->is_utf8) {
        *ret = raw;
        return 0;
    }
    if (utf7_decode(raw, &name) < 0) {
        bool has_high = false;

        for (size_t i = 0; i < raw.len; i++)
            has_high = has_high || (unsigned char)raw.ptr[i] >= 0x80;
        if (!has_high || !utf8_valid(raw))
            return parse_fail(p, "a mailbox name in modified UTF-7");
        *ret = raw;
        return 0;
    }
    copy = parse_alloc(p, name.len + 1);
    if (!copy)
        return -EMSGSIZE;
    if (name.len)
        memcpy(copy, name.data, name.len);
    *ret = (struct str){copy, name.len};
    return 0;
}

/* INBOX in capitals as the first level (RFC 9051 5.1: in any case). */
static int mailbox_canonical(struct parse *p, struct str name, struct str *ret)
{
    char *copy;

    if (!str_istarts(name, STR("INBOX")) || (name.len > 5 && name.ptr[5] != '/')) {
        *ret = name;
        return 0;
    }
    copy = parse_alloc(p, name.len);
    if (!copy)
        return -EMSGSIZE;
    memcpy(copy, name.ptr, name.len);
    memcpy(copy, "INBOX", 5);
    *ret = (struct str){copy, name.len};
    return 0;
}

int parse_mailbox(struct parse *p, struct str *ret)
{
    struct str raw;
    int r = parse_astring(p, "a mailbox name", &raw);

    if (r >= 0)
        r = mailbox_decode(p, raw, &p->spelled);
    return r < 0 ? r : mailbox_canonical(p, p->spelled, ret);
}

/* What cannot be decoded names nothing. */
static int decode_if_possible(struct parse *p, struct str raw, struct str *ret)
{
    int r = mailbox_decode(p, raw, ret);

    if (r != -EINVAL)
        return r;
    p->expected = NULL;
    *ret = STR_NULL;
    return 0;
}

int parse_reference(struct parse *p, struct str *ret)
{
    struct str raw, name;
    int r = parse_astring(p, "a mailbox name", &raw);

    if (r >= 0)
        r = decode_if_possible(p, raw, &name);
    return r < 0 ? r : mailbox_canonical(p, name, ret);
}

int parse_list_mailbox(struct parse *p, struct str *ret)
{
    struct str raw;
    int r;

    if (parse_peek(p) == '"' || parse_peek(p) == '{') {
        r = parse_string(p, "a mailbox pattern", &raw);
        if (r < 0)
            return r;
    } else {
        raw = take_while(p, is_list_char);
        if (!raw.len)
            return parse_fail(p, "a mailbox pattern");
    }
    return decode_if_possible(p, raw, ret);
}

/* seq-number = nz-number / "*" off the front of *text. */
static bool take_seq_number(struct str *text)
{
    uint32_t n;
    size_t len = 0;

    if (text->len && text->ptr[0] == '*') {
        *text = str_sub(*text, 1, text->len);
        return true;
    }
    while (len < text->len && ascii_is_digit(text->ptr[len]))
        len++;
    if (str_to_u32(str_sub(*text, 0, len), &n) < 0 || n == 0)
        return false;
    *text = str_sub(*text, len, text->len);
    return true;
}

int parse_sequence(struct parse *p, struct str *ret)
{
    struct str before = p->rest, text, walk;
    bool is_more = true;

    text = walk = take_while(p, is_sequence_char);
    while (is_more) {
        bool is_good = take_seq_number(&walk);

        if (is_good && walk.len && walk.ptr[0] == ':') {
            walk = str_sub(walk, 1, walk.len);
            is_good = take_seq_number(&walk);
        }
        is_more = is_good && walk.len && walk.ptr[0] == ',';
        if (!is_good || (walk.len && !is_more)) {
            p->rest = before;
            return parse_fail(p, "a set of numbers like 1,3:5,9:*");
        }
        if (is_more)
            walk = str_sub(walk, 1, walk.len);
    }
    *ret = text;
    return 0;
}

int parse_flag(struct parse *p, struct str *ret)
{
    static const char *const known[] = {"Answered", "Flagged", "Deleted", "Seen", "Draft"};
    struct str before = p->rest, name;
    bool is_system = parse_accept(p, '\\');
    int r = parse_atom(p, "a flag", &name);

    if (r < 0)
        return r;
    if (name.len > LIMIT_KEYWORD) {
        p->rest = before;
        return parse_fail(p, "a shorter keyword");
    }
    *ret = str_sub(before, 0, name.len + (is_system ? 1 : 0));
    if (!is_system)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (str_ieq(name, str_from(known[i])))
            return 0;
    p->rest = before;
    return parse_fail(p, "\\Answered, \\Flagged, \\Deleted, \\Seen, \\Draft or a keyword");
}

int parse_date(struct parse *p, int32_t *ret)
{
    struct str before = p->rest, text;
    bool is_quoted = parse_accept(p, '"');

    text = take_while(p, parse_is_atom_char);
    if (date_parse_imap_day(text, ret) < 0 || (is_quoted && !parse_accept(p, '"'))) {
        p->rest = before;
        return parse_fail(p, "a date like 1-Feb-1994");
    }
    return 0;
}

int parse_date_time(struct parse *p, int64_t *ret_when, int16_t *ret_offset)
{
    struct str before = p->rest, text;
    int r = parse_string(p, "a date and time", &text);

    if (r < 0)
        return r;
    if (date_parse_imap(text, ret_when, ret_offset) < 0) {
        p->rest = before;
        return parse_fail(p, "a date and time like \"17-Jul-1996 02:44:25 -0700\"");
    }
    return 0;
}
