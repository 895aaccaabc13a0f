/*
 * The text of an HTML document: see html.h.
 */
#include "shared/mime/html.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define NAME_MAX_LENGTH 16 /* tag names and references that mean something to us are shorter */

enum html_state {
    HTML_TEXT,
    HTML_REFERENCE, /* behind & */
    HTML_TAG_NAME,  /* behind < */
    HTML_TAG,       /* in a tag, behind its name */
    HTML_QUOTED,    /* in an attribute's value */
    HTML_COMMENT,   /* <!-- */
};

struct html_text {
    enum html_state state;
    char name[NAME_MAX_LENGTH];
    size_t name_len;
    char quote;
    unsigned dashes;              /* at the end of what has come of a comment */
    char hidden[NAME_MAX_LENGTH]; /* element whose content is left out */
    size_t hidden_len;
};

static const struct {
    struct str name;
    struct str text;
} references[] = {
    {{"amp", 3}, {"&", 1}},
    {{"lt", 2}, {"<", 1}},
    {{"gt", 2}, {">", 1}},
    {{"quot", 4}, {"\"", 1}},
    {{"apos", 4}, {"'", 1}},
    {{"nbsp", 4}, {" ", 1}},
    {{"ensp", 4}, {" ", 1}},
    {{"emsp", 4}, {" ", 1}},
    {{"zwnj", 4}, {"", 0}},
    {{"zwj", 3}, {"", 0}},
    {{"shy", 3}, {"", 0}},
    {{"ndash", 5}, {"\xe2\x80\x93", 3}},
    {{"mdash", 5}, {"\xe2\x80\x94", 3}},
    {{"hellip", 6}, {"\xe2\x80\xa6", 3}},
    {{"lsquo", 5}, {"\xe2\x80\x98", 3}},
    {{"rsquo", 5}, {"\xe2\x80\x99", 3}},
    {{"ldquo", 5}, {"\xe2\x80\x9c", 3}},
    {{"rdquo", 5}, {"\xe2\x80\x9d", 3}},
    {{"laquo", 5}, {"\xc2\xab", 2}},
    {{"raquo", 5}, {"\xc2\xbb", 2}},
    {{"euro", 4}, {"\xe2\x82\xac", 3}},
    {{"copy", 4}, {"\xc2\xa9", 2}},
    {{"auml", 4}, {"\xc3\xa4", 2}},
    {{"ouml", 4}, {"\xc3\xb6", 2}},
    {{"uuml", 4}, {"\xc3\xbc", 2}},
    {{"Auml", 4}, {"\xc3\x84", 2}},
    {{"Ouml", 4}, {"\xc3\x96", 2}},
    {{"Uuml", 4}, {"\xc3\x9c", 2}},
    {{"szlig", 5}, {"\xc3\x9f", 2}},
    {{"eacute", 6}, {"\xc3\xa9", 2}},
    {{"egrave", 6}, {"\xc3\xa8", 2}},
    {{"agrave", 6}, {"\xc3\xa0", 2}},
    {{"ccedil", 6}, {"\xc3\xa7", 2}},
    {{"middot", 6}, {"\xc2\xb7", 2}},
    {{"bull", 4}, {"\xe2\x80\xa2", 3}},
};

/* Tags that do not separate words. */
static const struct str inline_tags[] = {
    {"a", 1},    {"b", 1},    {"i", 1},   {"u", 1},   {"em", 2},    {"strong", 6},
    {"span", 4}, {"font", 4}, {"sub", 3}, {"sup", 3}, {"small", 5},
};

static const struct str hidden_tags[] = {{"head", 4}, {"style", 5}, {"script", 6}, {"title", 5}, {"noscript", 8}};

int html_text_new(struct html_text **ret)
{
    struct html_text *h = calloc(1, sizeof(*h));

    if (!h)
        return -ENOMEM;
    *ret = h;
    return 0;
}

void html_text_free(struct html_text *h)
{
    free(h);
}

static bool is_among(struct str name, const struct str *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (str_ieq(name, list[i]))
            return true;
    }
    return false;
}

static struct str name_of(const struct html_text *h)
{
    return (struct str){h->name, h->name_len};
}

static void name_begin(struct html_text *h, enum html_state state)
{
    h->state = state;
    h->name_len = 0;
}

/* Keeps one more byte; false when the name is full. */
static bool name_add(struct html_text *h, char c)
{
    if (h->name_len == NAME_MAX_LENGTH)
        return false;
    h->name[h->name_len++] = c;
    return true;
}

static int add_code_point(struct buf *out, uint32_t u)
{
    char b[4] = {(char)(0xf0 | u >> 18), (char)(0x80 | (u >> 12 & 63)), (char)(0x80 | (u >> 6 & 63)),
                 (char)(0x80 | (u & 63))};

    if (u < 0x20 || u > 0x10ffff || (u >= 0xd800 && u < 0xe000))
        return buf_add_byte(out, ' ');
    if (u < 0x80)
        return buf_add_byte(out, (char)u);
    if (u < 0x800) {
        b[2] = (char)(0xc0 | u >> 6);
        return buf_add(out, b + 2, 2);
    }
    if (u < 0x10000) {
        b[1] = (char)(0xe0 | u >> 12);
        return buf_add(out, b + 1, 3);
    }
    return buf_add(out, b, 4);
}

/* "#1234" or "#x20ac" as a number; 0: none. */
static uint32_t reference_number(struct str name)
{
    bool is_hex = name.len > 1 && ascii_lower(name.ptr[1]) == 'x';
    uint32_t n = 0;

    for (size_t i = is_hex ? 2 : 1; i < name.len; i++) {
        char c = ascii_lower(name.ptr[i]);
        uint32_t digit = ascii_is_digit(c)                ? (uint32_t)(c - '0')
                         : is_hex && c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                                                          : 99;

        if (digit == 99 || n > 0x10ffff)
            return 0;
        n = n * (is_hex ? 16 : 10) + digit;
    }
    return n;
}

/* The reference has ended with `end` (a semicolon belongs to it). */
static int end_reference(struct html_text *h, struct buf *out)
{
    struct str name = name_of(h);
    int r;

    h->state = HTML_TEXT;
    if (name.len && name.ptr[0] == '#' && reference_number(name))
        return add_code_point(out, reference_number(name));
    for (size_t i = 0; i < sizeof(references) / sizeof(references[0]); i++) {
        if (str_eq(name, references[i].name))
            return buf_add_str(out, references[i].text);
    }
    r = buf_add_byte(out, '&');
    return r ? r : buf_add_str(out, name);
}

/* The name of a tag is complete: hide what is to be hidden, until its end tag. */
static int end_tag_name(struct html_text *h, struct buf *out)
{
    struct str name = name_of(h);
    bool is_end = name.len && name.ptr[0] == '/';

    h->state = HTML_TAG;
    if (is_end)
        name = str_sub(name, 1, name.len);
    if (h->hidden_len) {
        if (is_end && str_ieq(name, (struct str){h->hidden, h->hidden_len}))
            h->hidden_len = 0;
        return 0;
    }
    if (!is_end && is_among(name, hidden_tags, sizeof(hidden_tags) / sizeof(hidden_tags[0]))) {
        for (h->hidden_len = 0; h->hidden_len < name.len; h->hidden_len++)
            h->hidden[h->hidden_len] = name.ptr[h->hidden_len];
        return 0;
    }
    return is_among(name, inline_tags, sizeof(inline_tags) / sizeof(inline_tags[0])) ? 0 : buf_add_byte(out, ' ');
}

static void take_tag_byte(struct html_text *h, char c)
{
    if (c == '>')
        h->state = HTML_TEXT;
    else if (c == '"' || c == '\'') {
        h->state = HTML_QUOTED;
        h->quote = c;
    }
}

static void take_comment_byte(struct html_text *h, char c)
{
    if (c == '>' && h->dashes >= 2)
        h->state = HTML_TEXT;
    h->dashes = c == '-' ? h->dashes + 1 : 0;
}

static int take_name_byte(struct html_text *h, char c, struct buf *out)
{
    bool is_name =
        ascii_is_alpha(c) || ascii_is_digit(c) || (!h->name_len && (c == '/' || c == '!' || c == '?')) || c == '-';
    int r;

    if (is_name) {
        (void)name_add(h, c);
        if (str_eq(name_of(h), STR("!--"))) {
            h->state = HTML_COMMENT;
            h->dashes = 0;
        }
        return 0;
    }
    if (!h->name_len) { /* a lone < is text */
        h->state = HTML_TEXT;
        return h->hidden_len ? 0 : buf_add(out, (char[]){'<', c}, 2);
    }
    r = end_tag_name(h, out);
    take_tag_byte(h, c);
    return r;
}

static int take_text_byte(struct html_text *h, char c, struct buf *out)
{
    if (c == '<') {
        name_begin(h, HTML_TAG_NAME);
        return 0;
    }
    if (h->hidden_len)
        return 0;
    if (c == '&') {
        name_begin(h, HTML_REFERENCE);
        return 0;
    }
    return buf_add_byte(out, c);
}

static int take_reference_byte(struct html_text *h, char c, struct buf *out)
{
    int r;

    if ((ascii_is_alpha(c) || ascii_is_digit(c) || (c == '#' && !h->name_len)) && name_add(h, c))
        return 0;
    r = end_reference(h, out);
    return r || c == ';' ? r : take_text_byte(h, c, out);
}

int html_text_feed(struct html_text *h, struct str piece, struct buf *out)
{
    int r = 0;

    for (size_t i = 0; i < piece.len && !r; i++) {
        char c = piece.ptr[i];

        switch (h->state) {
        case HTML_TEXT:
            r = take_text_byte(h, c, out);
            break;
        case HTML_REFERENCE:
            r = take_reference_byte(h, c, out);
            break;
        case HTML_TAG_NAME:
            r = take_name_byte(h, c, out);
            break;
        case HTML_TAG:
            take_tag_byte(h, c);
            break;
        case HTML_QUOTED:
            if (c == h->quote)
                h->state = HTML_TAG;
            break;
        case HTML_COMMENT:
            take_comment_byte(h, c);
            break;
        }
    }
    return r;
}
