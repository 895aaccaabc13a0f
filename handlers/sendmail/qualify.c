/*
 * Domains for bare names. Runs as the invoking user; pure.
 */
#include "handlers/sendmail/qualify.h"

#include <errno.h>

/* What the text between two commas has shown so far. */
struct scan {
    struct str body;
    size_t at;
    size_t words;    /* atoms and quoted strings outside of angle brackets */
    size_t word_end; /* behind the last of them */
    bool is_whole;   /* nothing else than one word: no "@", no "<", no ":" */
};

/* Behind a quoted string or a comment (which nest) that begins at `at` (RFC 5322 3.2.2, 3.2.4). */
static size_t skip_quoted(struct str s, size_t at)
{
    char open = s.ptr[at], close = open == '(' ? ')' : '"';
    unsigned depth = 0;

    for (; at < s.len; at++) {
        if (s.ptr[at] == '\\')
            at++;
        else if (s.ptr[at] == close && depth == 1)
            return at + 1;
        else if (s.ptr[at] == open)
            depth++;
        else if (s.ptr[at] == close)
            depth--;
    }
    return s.len;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_special(char c)
{
    return c == ',' || c == ';' || c == ':' || c == '<' || c == '>' || c == '(' || c == ')' || c == '"';
}

static size_t skip_word(struct str s, size_t at)
{
    while (at < s.len && !is_blank(s.ptr[at]) && !is_special(s.ptr[at]))
        at += s.ptr[at] == '\\' && at + 1 < s.len ? 2 : 1;
    return at < s.len ? at : s.len;
}

static void begin(struct scan *s)
{
    s->words = 0;
    s->is_whole = true;
}

static int add_domain(struct str domain, struct buf *out)
{
    int e = buf_add_byte(out, '@');

    return e < 0 ? e : buf_add_str(out, domain);
}

/* A name that could get a domain: no "@", and no "!" of UUCP, whose paths have their own. */
static bool is_bare(struct str name)
{
    return name.len > 0 && str_chr(name, '@') < 0 && str_chr(name, '!') < 0;
}

/* Copies "<...>" from s->at; a bare name in it gets the domain. */
static int copy_angle(struct scan *s, struct str domain, struct buf *out)
{
    size_t end = s->at + 1;
    struct str inside, rest;
    int e;

    while (end < s->body.len && s->body.ptr[end] != '>')
        end = s->body.ptr[end] == '"' || s->body.ptr[end] == '(' ? skip_quoted(s->body, end) : end + 1;
    inside = str_trim(str_sub(s->body, s->at + 1, end - s->at - 1));
    e = buf_add_str(out, str_sub(s->body, s->at, end - s->at));
    /* A blank in it is no name: "< >", "<alice (comment)>" */
    rest = inside;
    if (e == 0 && end < s->body.len && is_bare(inside) && skip_word(rest, 0) == rest.len &&
        inside.ptr + inside.len == s->body.ptr + end)
        e = add_domain(domain, out);
    s->at = end;
    s->is_whole = false;
    return e;
}

/* Copies a word, a blank or a mark at s->at; `out` then ends where the next one begins. */
static int copy_next(struct scan *s, struct buf *out, size_t *ret_insert)
{
    char c = s->body.ptr[s->at];
    size_t end = s->at + 1;
    int e;

    if (c == '(' || c == '"')
        end = skip_quoted(s->body, s->at);
    else if (!is_blank(c) && !is_special(c))
        end = skip_word(s->body, s->at);
    e = buf_add_str(out, str_sub(s->body, s->at, end - s->at));
    if (c == '"' || (!is_blank(c) && !is_special(c))) {
        s->words++;
        if (!is_bare(str_sub(s->body, s->at, end - s->at)) && c != '"')
            s->is_whole = false;
        if (end < s->body.len && s->body.ptr[end] == '@') /* "a b"@example.org */
            s->is_whole = false;
        *ret_insert = out->len;
    }
    s->at = end;
    return e;
}

/* The text up to a comma is over: was it a bare name? Then the domain goes where the name ended. */
static int end_address(struct scan *s, struct str domain, size_t insert, struct buf *out)
{
    _cleanup_buf_ struct buf tail = BUF_INIT(out->max);
    int e;

    if (!s->is_whole || s->words != 1)
        return 0;
    e = buf_add_str(&tail, str_sub(buf_str(out), insert, out->len));
    buf_truncate(out, insert);
    if (e == 0)
        e = add_domain(domain, out);
    return e < 0 ? e : buf_add_str(out, buf_str(&tail));
}

int qualify_body(struct str body, struct str domain, struct buf *out)
{
    struct scan s = {.body = body};
    size_t insert = out->len;
    int e = 0;

    begin(&s);
    while (s.at < body.len && e == 0) {
        char c = body.ptr[s.at];

        if (c == '<') {
            e = copy_angle(&s, domain, out);
        } else if (c == ',' || c == ';' || c == ':') {
            if (c != ':') /* "group:" names no address */
                e = end_address(&s, domain, insert, out);
            begin(&s);
            if (e == 0)
                e = copy_next(&s, out, &insert);
        } else {
            e = copy_next(&s, out, &insert);
        }
    }
    return e < 0 ? e : end_address(&s, domain, insert, out);
}
