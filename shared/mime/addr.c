/*
 * Address lists: see addr.h. An address is first cut into tokens up to its end, then the tokens are told apart; that
 * way the many wrong forms of real mail (no angle brackets, blanks in local parts, unclosed quotes) still give an
 * address.
 */
#include "shared/mime/addr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/limits.h"

#define TOKENS_MAX 2048 /* of one address; what is over is dropped */

enum token_kind {
    TOKEN_ATOM,
    TOKEN_QUOTED,  /* text is what stands between the quotes */
    TOKEN_LITERAL, /* domain literal with its brackets */
    TOKEN_MARK,    /* one of . @ < > , ; : */
    TOKEN_END,
};

struct token {
    enum token_kind kind;
    char mark;
    bool is_spaced; /* blanks or a comment before it */
    struct str text;
};

struct scanner {
    struct str rest;
    struct str comment;   /* the last one skipped, null: none since it was reset */
    bool is_after_at;     /* the last token was an @ */
    bool is_quote_open;   /* a quote without its end was met: quotes are junk from there on */
    bool is_comment_open; /* the same of comments and of domain literals: so no input is scanned twice in vain */
    bool is_literal_open;
};

struct parser {
    struct scanner scan;
    struct addr_list *list;
    struct token *tokens;
    size_t count;
    bool is_in_group;
};

void addr_list_init(struct addr_list *l)
{
    *l = (struct addr_list){.text = BUF_INIT(4 * LIMIT_HEADER)};
}

void addr_list_finish(struct addr_list *l)
{
    free(l->items);
    buf_finish(&l->text);
    *l = (struct addr_list){.text = BUF_INIT(l->text.max)};
}

void addr_list_clear(struct addr_list *l)
{
    l->count = 0;
    buf_clear(&l->text);
}

bool addr_is_group_start(const struct addr *a)
{
    return a->mailbox.ptr && !a->host.ptr;
}

bool addr_is_group_end(const struct addr *a)
{
    return !a->mailbox.ptr && !a->host.ptr;
}

/* ---- tokens ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\0';
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
static bool skip_blanks(struct scanner *s)
{
    const char *start = s->rest.ptr;

    while (s->rest.len) {
        char c = s->rest.ptr[0];
        size_t n = 1;

        if (c == '(' && !s->is_comment_open) {
            n = enclosed_length(s->rest, '(', ')');
            s->is_comment_open = n == 0;
            if (n)
                s->comment = str_sub(s->rest, 1, n - 2);
            else
                n = 1;
        } else if (!is_space(c) && c != '(' && c != ')') {
            break;
        }
        s->rest = str_sub(s->rest, n, s->rest.len);
    }
    return s->rest.ptr != start;
}

static bool is_mark(char c)
{
    return c == '.' || c == '@' || c == '<' || c == '>' || c == ',' || c == ';' || c == ':';
}

static size_t atom_length(struct str s, bool is_quote_open)
{
    size_t n = 1;

    while (n < s.len && !is_space(s.ptr[n]) && !is_mark(s.ptr[n]) && s.ptr[n] != '(' && s.ptr[n] != ')' &&
           (s.ptr[n] != '"' || is_quote_open))
        n++;
    return n;
}

static struct token token_next(struct scanner *s)
{
    struct token t = {.kind = TOKEN_END};
    size_t n = 1;
    char c;

    t.is_spaced = skip_blanks(s);
    if (!s->rest.len)
        return t;
    c = s->rest.ptr[0];
    if (is_mark(c)) {
        t.kind = TOKEN_MARK;
        t.mark = c;
        t.text = str_sub(s->rest, 0, 1);
    } else if (c == '"' && !s->is_quote_open && (n = enclosed_length(s->rest, '"', '"')) != 0) {
        t.kind = TOKEN_QUOTED;
        t.text = str_sub(s->rest, 1, n - 2);
    } else if (c == '[' && s->is_after_at && !s->is_literal_open && (n = enclosed_length(s->rest, '[', ']')) != 0) {
        t.kind = TOKEN_LITERAL;
        t.text = str_sub(s->rest, 0, n);
    } else {
        s->is_quote_open |= c == '"';
        s->is_literal_open |= c == '[' && s->is_after_at;
        n = atom_length(s->rest, s->is_quote_open);
        t.kind = TOKEN_ATOM;
        t.text = str_sub(s->rest, 0, n);
        if (c == '"')
            t.text = str_sub(t.text, 1, n);
    }
    s->rest = str_sub(s->rest, n, s->rest.len);
    s->is_after_at = t.kind == TOKEN_MARK && t.mark == '@';
    return t;
}

static bool token_is(const struct token *t, char mark)
{
    return t->kind == TOKEN_MARK && t->mark == mark;
}

/* ---- text ---- */

/* Appends with line ends removed and, in quoted strings and comments, quoted pairs resolved. The room was reserved. */
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

/* The tokens as one text; blanks between them become one. */
static int join_tokens(struct buf *text, const struct token *t, size_t count, bool is_keeping_blanks, struct str *ret)
{
    size_t start = text->len;

    for (size_t i = 0; i < count; i++) {
        int r = i && t[i].is_spaced && is_keeping_blanks ? buf_add_byte(text, ' ') : 0;

        if (!r)
            r = add_text(text, t[i].text, t[i].kind == TOKEN_QUOTED);
        if (r)
            return r;
    }
    *ret = str_sub(buf_str(text), start, text->len - start);
    if (!ret->ptr)
        *ret = STR("");
    return 0;
}

static int comment_text(struct buf *text, struct str comment, struct str *ret)
{
    size_t start = text->len;
    int r = add_text(text, comment, true);

    if (!r && text->len > start)
        *ret = str_trim(str_sub(buf_str(text), start, text->len - start));
    return r;
}

/* Makes room for all that `input` can add, and moves the views of what is there already along. */
static int reserve_text(struct addr_list *l, size_t input)
{
    const char *old = l->text.data;
    int r = buf_reserve(&l->text, 2 * input + 16);

    if (r || !old || old == l->text.data)
        return r;
    for (size_t i = 0; i < l->count; i++) {
        struct str *views[] = {&l->items[i].name, &l->items[i].adl, &l->items[i].mailbox, &l->items[i].host};

        for (size_t v = 0; v < ARRAY_SIZE(views); v++) {
            if (views[v]->len)
                views[v]->ptr = l->text.data + (views[v]->ptr - old);
        }
    }
    return 0;
}

static int add_address(struct addr_list *l, const struct addr *a, size_t limit)
{
    if (l->count >= limit)
        return 0;
    if (l->count == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 8;
        struct addr *items = reallocarray(l->items, cap, sizeof(*items));

        if (!items)
            return -ENOMEM;
        l->items = items;
        l->cap = cap;
    }
    l->items[l->count++] = *a;
    return 0;
}

/* ---- addresses ---- */

/* Index of the last @ among the tokens, `count` if there is none. */
static size_t find_at(const struct token *t, size_t count)
{
    for (size_t i = count; i > 0; i--) {
        if (token_is(&t[i - 1], '@'))
            return i - 1;
    }
    return count;
}

/* local@domain from all the tokens of an angle address. */
static int spec_from_angle(struct buf *text, const struct token *t, size_t count, struct addr *a)
{
    size_t at = find_at(t, count);
    int r = join_tokens(text, t, at, true, &a->mailbox);

    a->host = STR("");
    if (!r && at < count)
        r = join_tokens(text, t + at + 1, count - at - 1, false, &a->host);
    return r;
}

/* An address without angle brackets: what stands around the last @ is the address, words before it are its name. */
static int spec_from_tokens(struct buf *text, const struct token *t, size_t count, struct addr *a)
{
    size_t at = find_at(t, count), local = at, end = at + 1;
    int r;

    a->host = a->mailbox = STR("");
    if (at == count) { /* no @: one word is a local user, several are a name only */
        for (size_t i = 1; i < count; i++) {
            if (!token_is(&t[i], '.') && !token_is(&t[i - 1], '.'))
                return join_tokens(text, t, count, true, &a->name);
        }
        return join_tokens(text, t, count, false, &a->mailbox);
    }
    if (local > 0)
        local--;
    while (local > 0 && (token_is(&t[local], '.') || token_is(&t[local - 1], '.') || !t[local].is_spaced))
        local--;
    while (end < count && (end == at + 1 || token_is(&t[end], '.') || token_is(&t[end - 1], '.')))
        end++;
    r = local ? join_tokens(text, t, local, true, &a->name) : 0;
    if (!r)
        r = join_tokens(text, t + local, at - local, false, &a->mailbox);
    if (!r)
        r = join_tokens(text, t + at + 1, end - at - 1, false, &a->host);
    return r;
}

/* Reads tokens up to one of the marks in `ends` or the end; returns that one. */
static struct token collect_tokens(struct parser *p, const char *ends)
{
    p->count = 0;
    for (;;) {
        struct token t = token_next(&p->scan);

        if (t.kind == TOKEN_END || (t.kind == TOKEN_MARK && strchr(ends, t.mark)))
            return t;
        /* An atom without text is a stray quote. */
        if (p->count < TOKENS_MAX && (t.kind != TOKEN_ATOM || t.text.len))
            p->tokens[p->count++] = t;
    }
}

/* Behind `<`: an optional route and the address up to `>`. Returns in *ret_end what ended it when that was no `>`. */
static int parse_angle(struct parser *p, struct addr *a, struct token *ret_end)
{
    struct scanner before = p->scan;
    struct token first = token_next(&p->scan), end;
    int r = 0;

    p->scan = before;
    /* RFC 5322 4.4 obs-route: "@a,@b:" stands in front. */
    if (token_is(&first, '@')) {
        end = collect_tokens(p, ":<>;");
        if (token_is(&end, ':'))
            r = join_tokens(&p->list->text, p->tokens, p->count, false, &a->adl);
        else
            p->scan = before;
    }
    do {
        end = collect_tokens(p, "<>,;"); /* "<<a@b>": the innermost counts */
    } while (token_is(&end, '<'));
    if (!r)
        r = spec_from_angle(&p->list->text, p->tokens, p->count, a);
    *ret_end = end;
    return r;
}

/* The address whose name has been collected and whose `<` has been read. Ends behind the comma or semicolon. */
static int parse_named(struct parser *p, struct token *ret_end)
{
    struct addr a = {0};
    int r = p->count ? join_tokens(&p->list->text, p->tokens, p->count, true, &a.name) : 0;

    if (!r)
        r = parse_angle(p, &a, ret_end);
    /* What stands between > and the comma is only looked at for a comment. */
    if (!r && token_is(ret_end, '>'))
        *ret_end = collect_tokens(p, ",;");
    if (!r && !a.name.len && p->scan.comment.ptr)
        r = comment_text(&p->list->text, p->scan.comment, &a.name);
    if (!a.name.len)
        a.name = STR_NULL;
    return r ? r : add_address(p->list, &a, LIMIT_ADDRESSES);
}

static int parse_plain(struct parser *p)
{
    struct addr a = {0};
    int r;

    if (!p->count)
        return 0;
    r = spec_from_tokens(&p->list->text, p->tokens, p->count, &a);
    if (!r && !a.name.len && p->scan.comment.ptr)
        r = comment_text(&p->list->text, p->scan.comment, &a.name);
    if (!a.name.len)
        a.name = STR_NULL;
    return r ? r : add_address(p->list, &a, LIMIT_ADDRESSES);
}

static int begin_group(struct parser *p)
{
    struct addr a = {0};
    int r;

    if (p->is_in_group || p->list->count >= LIMIT_ADDRESSES)
        return 0;
    r = join_tokens(&p->list->text, p->tokens, p->count, true, &a.mailbox);
    p->is_in_group = true;
    return r ? r : add_address(p->list, &a, LIMIT_ADDRESSES);
}

/* Every group that was begun is ended, even over the limit of addresses. */
static int end_group(struct parser *p)
{
    struct addr a = {0};

    if (!p->is_in_group)
        return 0;
    p->is_in_group = false;
    return add_address(p->list, &a, LIMIT_ADDRESSES + 1);
}

int addr_parse(struct str body, struct addr_list *list)
{
    struct parser p = {.scan = {.rest = str_sub(body, 0, LIMIT_HEADER_FIELD)}, .list = list};
    _cleanup_free_ struct token *tokens = NULL;
    struct token end = {.kind = TOKEN_MARK};
    int r = reserve_text(list, p.scan.rest.len);

    if (r)
        return r == -ENOBUFS ? 0 : r;
    tokens = malloc(TOKENS_MAX * sizeof(*tokens)); /* written before it is read */
    if (!tokens)
        return -ENOMEM;
    p.tokens = tokens;
    while (!r && end.kind != TOKEN_END) {
        p.scan.comment = STR_NULL;
        end = collect_tokens(&p, ":<>,;");
        if (token_is(&end, ':')) {
            r = begin_group(&p);
            continue;
        }
        r = token_is(&end, '<') ? parse_named(&p, &end) : parse_plain(&p);
        if (!r && token_is(&end, ';'))
            r = end_group(&p);
    }
    return r ? r : end_group(&p);
}

int addr_print(const struct addr *a, struct buf *out)
{
    size_t start = out->len;
    bool is_dot_atom = a->mailbox.len && a->mailbox.ptr[0] != '.' && a->mailbox.ptr[a->mailbox.len - 1] != '.';
    int r = 0;

    if (!a->host.ptr)
        return 0;
    for (size_t i = 0; i < a->mailbox.len && is_dot_atom; i++) {
        unsigned char c = (unsigned char)a->mailbox.ptr[i];

        is_dot_atom = c >= 0x80 || (c > 0x20 && c != 0x7f && !strchr("()<>[]:;@\\,\"", c));
        if (c == '.' && a->mailbox.ptr[i - 1] == '.')
            is_dot_atom = false;
    }
    if (!is_dot_atom)
        r = buf_add_byte(out, '"');
    for (size_t i = 0; i < a->mailbox.len && !r; i++) {
        char c = a->mailbox.ptr[i];

        if (!is_dot_atom && (c == '"' || c == '\\'))
            r = buf_add_byte(out, '\\');
        if (!r)
            r = buf_add_byte(out, c);
    }
    if (!r && !is_dot_atom)
        r = buf_add_byte(out, '"');
    if (!r && a->host.len)
        r = buf_add_byte(out, '@');
    if (!r)
        r = buf_add_str(out, a->host);
    if (r)
        buf_truncate(out, start);
    return r;
}
