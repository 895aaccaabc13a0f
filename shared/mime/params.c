/*
 * Parameters of Content-Type and Content-Disposition (RFC 2045 5.1, RFC 2231): declared in structure.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/mime/charset.h"
#include "shared/mime/structure.h"

#define SECTION_NONE UINT32_MAX

/* One "name*N*=value" as it stands. */
struct segment {
    struct str name;  /* without the marks */
    uint32_t section; /* N, or SECTION_NONE */
    bool is_extended; /* percent-encoded */
    bool is_quoted;
    bool is_taken;
    struct str value; /* without the quotes, quoted pairs still in it */
};

/* A stretch of the text buffer: the buffer moves while it grows. */
struct span {
    size_t at;
    size_t len;
    bool is_there;
};

struct result {
    struct span name, value, extended;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\0';
}

/* Skips blanks and comments. An unclosed comment is skipped to the end. */
static struct str skip_blanks(struct str s)
{
    unsigned depth = 0;

    while (s.len && (depth || is_space(s.ptr[0]) || s.ptr[0] == '(')) {
        if (s.ptr[0] == '(')
            depth++;
        else if (s.ptr[0] == ')')
            depth--;
        s = str_sub(s, s.ptr[0] == '\\' ? 2 : 1, s.len);
    }
    return s;
}

/* Takes an unquoted value up to the semicolon; blanks inside are kept (file names), a comment behind it is not. */
static struct str take_plain(struct str *s)
{
    struct str value;
    size_t n = 0;

    while (n < s->len && s->ptr[n] != ';' && !(s->ptr[n] == '(' && n && is_space(s->ptr[n - 1])))
        n++;
    value = str_trim(str_sub(*s, 0, n));
    *s = str_sub(*s, n, s->len);
    return value;
}

/* Takes a quoted string whose quote is s->ptr[0]; without an end it goes to the end of the field. */
static struct str take_quoted(struct str *s)
{
    size_t n = 1;
    struct str value;

    while (n < s->len && s->ptr[n] != '"')
        n += s->ptr[n] == '\\' ? 2 : 1;
    value = str_sub(*s, 1, n > s->len ? s->len : n - 1);
    *s = str_sub(*s, n + 1, s->len);
    return value;
}

/* "filename*0*" -> name, section, is_extended. */
static void split_name(struct str name, struct segment *seg)
{
    ptrdiff_t star;
    uint32_t n;

    seg->section = SECTION_NONE;
    if (name.len > 1 && name.ptr[name.len - 1] == '*') {
        seg->is_extended = true;
        name.len--;
    }
    star = str_chr(name, '*');
    if (star > 0 && str_to_u32(str_sub(name, (size_t)star + 1, name.len), &n) == 0 && n < LIMIT_PARAMETERS) {
        seg->section = n;
        name.len = (size_t)star;
    }
    seg->name = name;
}

/* Reads the next segment off *s. False: there is no more. */
static bool next_segment(struct str *s, struct segment *ret)
{
    while (s->len) {
        size_t n = 0;
        struct str name;

        *s = skip_blanks(*s);
        while (n < s->len && s->ptr[n] != '=' && s->ptr[n] != ';')
            n++;
        name = str_sub(*s, 0, n);
        if (str_chr(name, '(') > 0) /* a comment behind the name */
            name.len = (size_t)str_chr(name, '(');
        name = str_trim(name);
        if (n >= s->len || s->ptr[n] == ';' || !name.len) {
            *s = str_sub(*s, n + 1, s->len);
            continue;
        }
        *ret = (struct segment){0};
        split_name(name, ret);
        *s = skip_blanks(str_sub(*s, n + 1, s->len));
        if (s->len && s->ptr[0] == '"') {
            ret->is_quoted = true;
            ret->value = take_quoted(s);
        } else {
            ret->value = take_plain(s);
        }
        while (s->len && s->ptr[0] != ';')
            *s = str_sub(*s, 1, s->len);
        return true;
    }
    return false;
}

static int hex_value(char c)
{
    c = ascii_lower(c);
    return ascii_is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Appends a value without line ends, quoted pairs resolved in quoted strings. */
static int add_unquoted(struct buf *out, const struct segment *seg)
{
    int r = 0;

    for (size_t i = 0; i < seg->value.len && !r; i++) {
        char c = seg->value.ptr[i];

        if (seg->is_quoted && c == '\\' && i + 1 < seg->value.len)
            c = seg->value.ptr[++i];
        if (c != '\r' && c != '\n' && c != '\0')
            r = buf_add_byte(out, c);
    }
    return r;
}

static int add_percent_decoded(struct buf *out, struct str s)
{
    int r = 0;

    for (size_t i = 0; i < s.len && !r; i++) {
        int high = s.ptr[i] == '%' && i + 2 < s.len ? hex_value(s.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_value(s.ptr[i + 2]) : -1;

        if (low >= 0) {
            r = buf_add_byte(out, (char)(high * 16 + low));
            i += 2;
        } else {
            r = buf_add_byte(out, s.ptr[i]);
        }
    }
    return r;
}

/* Appends what RFC 2231 4 allows in an extended value; a % passes if it is one already. */
static int add_percent_encoded(struct buf *out, struct str s, bool is_encoded)
{
    static const char digits[] = "0123456789ABCDEF";
    int r = 0;

    for (size_t i = 0; i < s.len && !r; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        bool is_plain = c > 0x20 && c < 0x7f && !strchr("*'%()<>@,;:\\\"/[]?=", c);

        if (is_plain || (is_encoded && (c == '%' || c == '\'')))
            r = buf_add_byte(out, (char)c);
        else if (c != '\r' && c != '\n' && c != '\0')
            r = buf_add(out, (char[]){'%', digits[c >> 4], digits[c & 15]}, 3);
    }
    return r;
}

struct parse {
    struct segment *segments;
    size_t count;
    struct buf *text;
    struct buf bytes; /* a joined value before its charset is converted */
};

/* The segment of that name and section; an extended one is preferred. NULL: none. */
static struct segment *find_segment(struct parse *p, struct str name, uint32_t section)
{
    struct segment *found = NULL;

    for (size_t i = 0; i < p->count; i++) {
        struct segment *seg = &p->segments[i];

        if (seg->section == section && str_ieq(seg->name, name) &&
            (!found || (seg->is_extended && !found->is_extended)))
            found = seg;
    }
    return found;
}

/* One part of an extended value into `bytes`, and into the text in its encoded form. */
static int add_piece(struct parse *p, const struct segment *seg, struct str value)
{
    size_t start = p->bytes.len;
    int r;

    if (seg->is_extended) {
        r = add_percent_decoded(&p->bytes, value);
        return r ? r : add_percent_encoded(p->text, value, true);
    }
    r = add_unquoted(&p->bytes, seg);
    return r ? r : add_percent_encoded(p->text, str_sub(buf_str(&p->bytes), start, p->bytes.len), false);
}

/* charset'language'text, perhaps over several sections. */
static int join_extended(struct parse *p, struct segment *first, struct result *ret)
{
    struct str value = first->value, charset, language;
    struct segment *seg = first;
    size_t at = p->text->len;
    int r = 0;

    if (!str_cut(&value, '\'', &charset) || !str_cut(&value, '\'', &language)) {
        value = first->value; /* no charset: some senders leave the quotes out */
        charset = STR("utf-8");
        r = buf_add(p->text, "utf-8''", 7);
    } else {
        r = buf_add(p->text, first->value.ptr, (size_t)(value.ptr - first->value.ptr));
    }
    buf_clear(&p->bytes);
    for (uint32_t section = 1; !r && seg; section++) {
        r = add_piece(p, seg, seg == first ? value : seg->value);
        seg = first->section == SECTION_NONE ? NULL : find_segment(p, first->name, section);
    }
    ret->extended = (struct span){at, p->text->len - at, true};
    ret->value = (struct span){p->text->len, 0, true};
    if (!r)
        r = charset_to_utf8(charset, buf_str(&p->bytes), false, p->text);
    ret->value.len = p->text->len - ret->value.at;
    return r;
}

/* The parameter that begins with this segment: alone, or the first of a continued one. */
static int join(struct parse *p, struct segment *first, struct result *ret)
{
    struct segment *seg = first;
    int r = 0;

    ret->name = (struct span){p->text->len, 0, true};
    r = buf_add_str(p->text, first->name);
    ret->name.len = p->text->len - ret->name.at;
    if (r)
        return r;
    if (first->is_extended)
        return join_extended(p, first, ret);
    ret->value = (struct span){p->text->len, 0, true};
    for (uint32_t section = 1; !r && seg; section++) {
        if (seg->is_extended)
            r = add_percent_decoded(p->text, seg->value);
        else
            r = add_unquoted(p->text, seg);
        seg = first->section == SECTION_NONE ? NULL : find_segment(p, first->name, section);
    }
    ret->value.len = p->text->len - ret->value.at;
    return r;
}

static struct str span_view(const struct buf *text, struct span s)
{
    if (!s.is_there)
        return STR_NULL;
    return s.len ? str_sub(buf_str(text), s.at, s.len) : STR("");
}

/* Joins all segments, each name once: extended before continued before plain (RFC 6266's rule, and the one of mail). */
static int join_all(struct parse *p, struct result *results, size_t *ret_count)
{
    size_t count = 0;
    int r = 0;

    for (size_t i = 0; i < p->count && !r; i++) {
        struct str name = p->segments[i].name;
        struct segment *plain, *first;

        if (p->segments[i].is_taken)
            continue;
        for (size_t k = i; k < p->count; k++)
            p->segments[k].is_taken |= str_ieq(p->segments[k].name, name);
        first = find_segment(p, name, 0);
        plain = find_segment(p, name, SECTION_NONE);
        if (plain && (!first || plain->is_extended))
            first = plain;
        if (first)
            r = join(p, first, &results[count++]);
    }
    *ret_count = count;
    return r;
}

static int finish(struct buf *text, struct span value, const struct result *results, size_t count,
                  struct str *ret_value, struct mime_params *ret)
{
    struct mime_param *items = NULL;

    if (count) {
        items = calloc(count, sizeof(*items));
        if (!items)
            return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        items[i].name = span_view(text, results[i].name);
        items[i].value = span_view(text, results[i].value);
        items[i].extended = span_view(text, results[i].extended);
    }
    *ret_value = span_view(text, value);
    *ret = (struct mime_params){items, count};
    return 0;
}

/* Does the field begin with a quoted string? By the texts no value is one, but some senders quote "attachment" or
 * "base64". */
static bool is_quoted_value(struct str s)
{
    struct str first;

    (void)str_cut(&s, ';', &first);
    return str_starts(first, STR("\"")) && str_chr(str_sub(first, 1, first.len), '"') >= 0;
}

/* How many segments there can be: each has its equals sign. */
static size_t most_segments(struct str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        n += s.ptr[i] == '=';
    return n < LIMIT_PARAMETERS ? n : LIMIT_PARAMETERS;
}

int mime_params_parse(struct str field_body, struct buf *text, struct str *ret_value, struct mime_params *ret)
{
    struct str s = skip_blanks(str_sub(field_body, 0, LIMIT_HEADER_FIELD));
    struct segment value = {.is_quoted = is_quoted_value(s)};
    _cleanup_free_ struct segment *segments = NULL;
    _cleanup_free_ struct result *results = NULL;
    struct parse p = {.text = text, .bytes = BUF_INIT(LIMIT_HEADER_FIELD)};
    size_t most, count = 0;
    int r;

    value.value = value.is_quoted ? take_quoted(&s) : take_plain(&s);
    r = add_unquoted(text, &value);
    if (r)
        return r;
    value.value.len = text->len; /* without line ends */
    most = most_segments(s);
    if (most > 0) {
        segments = calloc(most, sizeof(*segments));
        results = calloc(most, sizeof(*results));
        if (!segments || !results)
            return -ENOMEM;
        while (p.count < most && next_segment(&s, &segments[p.count]))
            p.count++;
        p.segments = segments;
        r = join_all(&p, results, &count);
        buf_finish(&p.bytes);
    }
    return r ? r : finish(text, (struct span){0, value.value.len, true}, results, count, ret_value, ret);
}
