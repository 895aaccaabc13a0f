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
#include "shared/mime/addr_scan.h"

#define TOKENS_FEW 32 /* enough for most: no memory is asked for */
#define CLASS_END  (ADDR_CLASS_ANGLE | ADDR_CLASS_COMMA | ADDR_CLASS_SEMICOLON) /* may end an address */

struct parser {
    struct addr_scanner scan;
    struct addr_list *list;
    struct addr_token *tokens; /* on the stack, or `many` */
    size_t count;
    size_t cap; /* there is room for one more, that is read before it is known whether it is kept */
    struct addr_token *many;
    bool is_in_group;
    bool is_without_memory;
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

static bool token_is(const struct addr_token *t, char mark)
{
    return t->kind == ADDR_TOKEN_MARK && t->text.ptr[0] == mark;
}

/* ---- text ---- */

static int comment_text(struct buf *text, struct str comment, struct str *ret)
{
    size_t start = text->len;
    int r = addr_scan_add_quoted(text, comment);

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
static size_t find_at(const struct addr_token *t, size_t count)
{
    for (size_t i = count; i > 0; i--) {
        if (token_is(&t[i - 1], '@'))
            return i - 1;
    }
    return count;
}

/* local@domain from all the tokens of an angle address. */
static int spec_from_angle(struct buf *text, const struct addr_token *t, size_t count, struct addr *a)
{
    size_t at = find_at(t, count);
    int r = addr_scan_join(t, at, true, text, &a->mailbox);

    a->host = STR("");
    if (!r && at < count)
        r = addr_scan_join(t + at + 1, count - at - 1, false, text, &a->host);
    return r;
}

/* An address without angle brackets: what stands around the last @ is the address, words before it are its name. */
static int spec_from_tokens(struct buf *text, const struct addr_token *t, size_t count, struct addr *a)
{
    size_t at = find_at(t, count), local = at, end = at + 1;
    int r;

    a->host = a->mailbox = STR("");
    if (at == count) { /* no @: one word is a local user, several are a name only */
        for (size_t i = 1; i < count; i++) {
            if (!token_is(&t[i], '.') && !token_is(&t[i - 1], '.'))
                return addr_scan_join(t, count, true, text, &a->name);
        }
        return addr_scan_join(t, count, false, text, &a->mailbox);
    }
    if (local > 0)
        local--;
    while (local > 0 && (token_is(&t[local], '.') || token_is(&t[local - 1], '.') || !t[local].is_spaced))
        local--;
    while (end < count && (end == at + 1 || token_is(&t[end], '.') || token_is(&t[end - 1], '.')))
        end++;
    r = local ? addr_scan_join(t, local, true, text, &a->name) : 0;
    if (!r)
        r = addr_scan_join(t + local, at - local, false, text, &a->mailbox);
    if (!r)
        r = addr_scan_join(t + at + 1, end - at - 1, false, text, &a->host);
    return r;
}

/* Room for ADDR_TOKENS_MAX instead of TOKENS_FEW. */
static bool grow_tokens(struct parser *p)
{
    p->many = malloc((ADDR_TOKENS_MAX + 1) * sizeof(*p->many)); /* written before it is read */
    if (!p->many)
        return false;
    memcpy(p->many, p->tokens, (p->count + 1) * sizeof(*p->many));
    p->tokens = p->many;
    p->cap = ADDR_TOKENS_MAX;
    return true;
}

/* Reads tokens up to a mark of the classes `ends`; returns that mark, '\0' at the end of the input. */
static char collect_tokens(struct parser *p, unsigned ends)
{
    p->count = 0;
    for (;;) {
        struct addr_token *t = &p->tokens[p->count];

        if (addr_scan_token(&p->scan, t) & ends)
            return t->text.ptr[0];
        if (t->kind == ADDR_TOKEN_END)
            return '\0';
        /* An atom without text is a stray quote. */
        if (t->kind == ADDR_TOKEN_ATOM && !t->text.len)
            continue;
        if (p->count == TOKENS_FEW && !p->many && !grow_tokens(p)) {
            p->is_without_memory = true;
            return '\0';
        }
        if (p->count < p->cap)
            p->count++;
    }
}

/* Behind `<`: an optional route and the address up to `>`. Returns in *ret_end what ended it when that was no `>`. */
static int parse_angle(struct parser *p, struct addr *a, char *ret_end)
{
    struct addr_scanner before = p->scan;
    char end;
    int r = 0;

    /* RFC 5322 4.4 obs-route: "@a,@b:" stands in front. */
    if (addr_scan_is_at(&p->scan)) {
        if (collect_tokens(p, ADDR_CLASS_COLON | ADDR_CLASS_ANGLE | ADDR_CLASS_SEMICOLON) == ':')
            r = addr_scan_join(p->tokens, p->count, false, &p->list->text, &a->adl);
        else
            p->scan = before;
    }
    do {
        end = collect_tokens(p, CLASS_END); /* "<<a@b>": the innermost counts */
    } while (end == '<');
    if (!r)
        r = spec_from_angle(&p->list->text, p->tokens, p->count, a);
    *ret_end = end;
    return r;
}

/* The address whose name has been collected and whose `<` has been read. Ends behind the comma or semicolon. */
static int parse_named(struct parser *p, char *ret_end)
{
    struct addr a = {0};
    int r = p->count ? addr_scan_join(p->tokens, p->count, true, &p->list->text, &a.name) : 0;

    if (!r)
        r = parse_angle(p, &a, ret_end);
    /* What stands between > and the comma is only looked at for a comment. */
    if (!r && *ret_end == '>')
        *ret_end = collect_tokens(p, ADDR_CLASS_COMMA | ADDR_CLASS_SEMICOLON);
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
    r = addr_scan_join(p->tokens, p->count, true, &p->list->text, &a.mailbox);
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

/* An address whose texts are views of the input. */
static int add_usual(struct addr_list *l, struct addr *a)
{
    struct str *views[] = {&a->name, &a->mailbox, &a->host};

    for (size_t v = 0; v < ARRAY_SIZE(views); v++) {
        size_t start = l->text.len;
        int r = buf_add_str(&l->text, *views[v]);

        if (r)
            return r;
        if (views[v]->len)
            views[v]->ptr = l->text.data + start;
    }
    return add_address(l, a, LIMIT_ADDRESSES);
}

/* The next address, the beginning or the end of a group. */
static int parse_next(struct parser *p)
{
    struct addr usual;
    char end;
    int r;

    if (addr_scan_usual(&p->scan, &usual))
        return add_usual(p->list, &usual);
    p->scan.comment = STR_NULL;
    end = collect_tokens(p, ADDR_CLASS_COLON | CLASS_END);
    if (end == ':')
        r = begin_group(p);
    else
        r = end == '<' ? parse_named(p, &end) : parse_plain(p);
    if (!r && end == ';')
        r = end_group(p);
    return !r && p->is_without_memory ? -ENOMEM : r;
}

static int parse_limited(struct str body, struct addr_list *list, size_t limit)
{
    _uninitialized_ struct addr_token few[TOKENS_FEW + 1]; /* written before it is read */
    struct parser p = {.scan = {.rest = str_sub(body, 0, LIMIT_HEADER_FIELD)}, .list = list};
    int r = reserve_text(list, p.scan.rest.len);

    if (r)
        return r == -ENOBUFS ? 0 : r;
    p.tokens = few;
    p.cap = TOKENS_FEW;
    while (!r && p.scan.rest.len && list->count < limit)
        r = parse_next(&p);
    free(p.many);
    return r ? r : end_group(&p);
}

int addr_parse(struct str body, struct addr_list *list)
{
    return parse_limited(body, list, LIMIT_ADDRESSES);
}

int addr_parse_first(struct str body, struct addr_list *list)
{
    return parse_limited(body, list, list->count + 1);
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
