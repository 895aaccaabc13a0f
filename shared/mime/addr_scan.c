/*
 * Tokens of address lists: see addr_scan.h.
 */
#include "shared/mime/addr_scan.h"

#define CLASS_MARK                                                                                                     \
    (ADDR_CLASS_COLON | ADDR_CLASS_ANGLE | ADDR_CLASS_COMMA | ADDR_CLASS_SEMICOLON | ADDR_CLASS_AT | ADDR_CLASS_DOT)

/* Of all other bytes 0. */
static const uint16_t classes[256] = {
    [' '] = ADDR_CLASS_SPACE,       ['\t'] = ADDR_CLASS_SPACE,      ['\r'] = ADDR_CLASS_SPACE,
    ['\n'] = ADDR_CLASS_SPACE,      ['\0'] = ADDR_CLASS_SPACE,      ['"'] = ADDR_CLASS_QUOTE,
    ['('] = ADDR_CLASS_PARENTHESIS, [')'] = ADDR_CLASS_PARENTHESIS, ['.'] = ADDR_CLASS_DOT,
    ['@'] = ADDR_CLASS_AT,          [':'] = ADDR_CLASS_COLON,       ['<'] = ADDR_CLASS_ANGLE,
    ['>'] = ADDR_CLASS_ANGLE,       [','] = ADDR_CLASS_COMMA,       [';'] = ADDR_CLASS_SEMICOLON,
};

static unsigned class_of(char c)
{
    return classes[(unsigned char)c];
}

/* Bytes up to the `close` that ends the quoted string or comment whose opening byte is s[0]; 0: it has no end. */
static size_t enclosed_length(struct str s, char open, char close)
{
    unsigned depth = 1;

    for (size_t i = 1; i < s.len; i++) {
        if (s.ptr[i] == '\\')
            i++;
        else if (s.ptr[i] == close && --depth == 0)
            return i + 1;
        else if (s.ptr[i] == open && open != close)
            depth++;
    }
    return 0;
}

/* Skips blanks, comments and stray bytes; true if there was anything. */
static bool skip_blanks(struct addr_scanner *s)
{
    const char *start = s->rest.ptr;

    while (s->rest.len && (class_of(s->rest.ptr[0]) & (ADDR_CLASS_SPACE | ADDR_CLASS_PARENTHESIS))) {
        size_t n = 1;

        if (s->rest.ptr[0] == '(' && !s->is_comment_open) {
            n = enclosed_length(s->rest, '(', ')');
            s->is_comment_open = n == 0;
            if (n)
                s->comment = str_sub(s->rest, 1, n - 2);
            else
                n = 1;
        }
        s->rest = str_sub(s->rest, n, s->rest.len);
    }
    return s->rest.ptr != start;
}

static size_t atom_length(struct str s, bool is_quote_open)
{
    unsigned ends = ADDR_CLASS_SPACE | ADDR_CLASS_PARENTHESIS | CLASS_MARK | (is_quote_open ? 0u : ADDR_CLASS_QUOTE);
    size_t n = 1;

    while (n < s.len && !(class_of(s.ptr[n]) & ends))
        n++;
    return n;
}

unsigned addr_scan_token(struct addr_scanner *s, struct addr_token *ret)
{
    size_t n = 1;
    unsigned class;
    char c;

    ret->is_spaced = skip_blanks(s);
    ret->kind = ADDR_TOKEN_END;
    ret->text = STR_NULL;
    if (!s->rest.len)
        return 0;
    c = s->rest.ptr[0];
    class = class_of(c) & CLASS_MARK;
    if (class) {
        ret->kind = ADDR_TOKEN_MARK;
        ret->text = str_sub(s->rest, 0, 1);
    } else if (c == '"' && !s->is_quote_open && (n = enclosed_length(s->rest, '"', '"')) != 0) {
        ret->kind = ADDR_TOKEN_QUOTED;
        ret->text = str_sub(s->rest, 1, n - 2);
    } else if (c == '[' && s->is_after_at && !s->is_literal_open && (n = enclosed_length(s->rest, '[', ']')) != 0) {
        ret->kind = ADDR_TOKEN_LITERAL;
        ret->text = str_sub(s->rest, 0, n);
    } else {
        s->is_quote_open |= c == '"';
        s->is_literal_open |= c == '[' && s->is_after_at;
        n = atom_length(s->rest, s->is_quote_open);
        ret->kind = ADDR_TOKEN_ATOM;
        ret->text = str_sub(s->rest, c == '"', n - (c == '"'));
    }
    s->rest = str_sub(s->rest, n, s->rest.len);
    s->is_after_at = c == '@';
    return class;
}

bool addr_scan_is_at(const struct addr_scanner *s)
{
    struct addr_scanner ahead = *s;

    (void)skip_blanks(&ahead);
    return ahead.rest.len && ahead.rest.ptr[0] == '@';
}

/* ---- the usual form ---- */

static struct str skip_space(struct str s)
{
    while (s.len && class_of(s.ptr[0]) == ADDR_CLASS_SPACE)
        s = str_sub(s, 1, s.len);
    return s;
}

static bool take_byte(struct str *s, char c)
{
    if (!s->len || s->ptr[0] != c)
        return false;
    *s = str_sub(*s, 1, s->len);
    return true;
}

/* Atoms and dots. */
static struct str take_dot_atom(struct str *s)
{
    struct str all = *s;
    size_t n = 0;

    while (n < all.len && !(class_of(all.ptr[n]) & ~(unsigned)ADDR_CLASS_DOT))
        n++;
    *s = str_sub(all, n, all.len);
    return str_sub(all, 0, n);
}

/* Atoms and dots with single blanks between them, and the blank behind them. */
static struct str take_words(struct str *s)
{
    struct str all = *s;
    size_t n = 0;

    while (n < all.len &&
           (!(class_of(all.ptr[n]) & ~(unsigned)ADDR_CLASS_DOT) || (all.ptr[n] == ' ' && n && all.ptr[n - 1] != ' ')))
        n++;
    *s = str_sub(all, n, all.len);
    return str_sub(all, 0, n && all.ptr[n - 1] == ' ' ? n - 1 : n);
}

/* Behind the quote: up to the one that ends it, nothing in it but what stays as it is. */
static bool take_quoted(struct str *s, struct str *ret)
{
    size_t n = 0;

    while (n < s->len && s->ptr[n] != '"' && s->ptr[n] != '\\' && s->ptr[n] != '\r' && s->ptr[n] != '\n' &&
           s->ptr[n] != '\0')
        n++;
    *ret = str_sub(*s, 0, n);
    *s = str_sub(*s, n, s->len);
    return take_byte(s, '"');
}

bool addr_scan_usual(struct addr_scanner *s, struct addr *ret)
{
    struct str rest = skip_space(s->rest), name;
    struct addr a = {0};
    bool is_quoted = !s->is_quote_open && take_byte(&rest, '"'), is_angle;

    if (is_quoted && !take_quoted(&rest, &name))
        return false;
    if (!is_quoted)
        name = take_words(&rest);
    rest = skip_space(rest);
    is_angle = take_byte(&rest, '<');
    if (is_angle) {
        a.name = name.len ? name : STR_NULL;
        a.mailbox = take_dot_atom(&rest);
    } else if (!is_quoted && str_chr(name, ' ') < 0) {
        a.mailbox = name;
    }
    if (!a.mailbox.len || !take_byte(&rest, '@') || (rest.len && rest.ptr[0] == '['))
        return false;
    a.host = take_dot_atom(&rest);
    if (!a.host.len || (is_angle && !take_byte(&rest, '>')))
        return false;
    rest = skip_space(rest);
    if ((!take_byte(&rest, ',') && rest.len) || s->rest.len - rest.len > ADDR_TOKENS_MAX)
        return false;
    s->rest = rest;
    *ret = a;
    return true;
}

/* ---- text ---- */

/* Appends with line ends removed and, in quoted strings and comments, quoted pairs resolved. */
static int add_text(struct buf *text, struct str s, bool is_quoted)
{
    int r = 0;

    for (size_t i = 0; i < s.len && !r; i++) {
        char c = s.ptr[i];

        if (is_quoted && c == '\\' && i + 1 < s.len)
            c = s.ptr[++i];
        if (c != '\r' && c != '\n' && c != '\0')
            r = buf_add_byte(text, c);
    }
    return r;
}

int addr_scan_add_quoted(struct buf *text, struct str quoted)
{
    return add_text(text, quoted, true);
}

int addr_scan_join(const struct addr_token *t, size_t count, bool is_keeping_blanks, struct buf *text, struct str *ret)
{
    size_t start = text->len;
    int r = 0;

    for (size_t i = 0; i < count && !r; i++) {
        if (i && t[i].is_spaced && is_keeping_blanks)
            r = buf_add_byte(text, ' ');
        if (!r && (t[i].kind == ADDR_TOKEN_QUOTED || t[i].kind == ADDR_TOKEN_LITERAL))
            r = add_text(text, t[i].text, t[i].kind == ADDR_TOKEN_QUOTED);
        else if (!r)
            r = buf_add_str(text, t[i].text); /* atoms and marks have no line ends in them */
    }
    if (r)
        return r;
    *ret = str_sub(buf_str(text), start, text->len - start);
    if (!ret->ptr)
        *ret = STR("");
    return 0;
}
