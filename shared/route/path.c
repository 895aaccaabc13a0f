/*
 * The grammar of RFC 5321 4.1.2 as a recursive-descent parser over a view. Runs in smtp-session (sandboxed, before any
 * trust) and in the monitor.
 */
#include "shared/route/path.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define ROUTE_MAX 64 /* At-domains in a source route; LIMIT_PATH leaves room for fewer */

static int front(const struct str *s)
{
    return s->len > 0 ? (unsigned char)s->ptr[0] : -1;
}

static void skip(struct str *s, size_t n)
{
    *s = str_sub(*s, n, s->len - n);
}

static bool take(struct str *s, char c)
{
    if (front(s) != (unsigned char)c)
        return false;
    skip(s, 1);
    return true;
}

/* Length of the valid UTF-8 non-ASCII sequence at the front, 0: none or not allowed. */
static size_t utf8_nonascii(const struct str *s, unsigned flags)
{
    if (!(flags & PATH_UTF8) || front(s) < 0x80)
        return 0;
    return utf8_sequence(*s);
}

static bool is_let_dig(int c)
{
    return c > 0 && c < 0x80 && (ascii_is_alpha((char)c) || ascii_is_digit((char)c));
}

/* RFC 5322 3.2.3 atext. */
static bool is_atext(int c)
{
    return is_let_dig(c) || (c > 0 && c < 0x80 && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static int local_add(struct smtp_path *p, const char *bytes, size_t len)
{
    if (len > sizeof(p->local) - p->local_len)
        return -ENAMETOOLONG;
    memcpy(p->local + p->local_len, bytes, len);
    p->local_len += len;
    return 0;
}

/* Atom of a Dot-string: 1*atext. */
static int take_atom(struct str *s, unsigned flags, struct smtp_path *p)
{
    struct str start = *s;

    for (;;) {
        size_t n = is_atext(front(s)) ? 1 : utf8_nonascii(s, flags);

        if (n == 0)
            break;
        skip(s, n);
    }
    if (s->len == start.len)
        return -EINVAL;
    return local_add(p, start.ptr, start.len - s->len);
}

/* Quoted-string behind its opening quote. */
static int take_quoted(struct str *s, unsigned flags, struct smtp_path *p)
{
    for (;;) {
        int c = front(s);
        size_t n = 1;
        int r;

        if (c == '"') {
            skip(s, 1);
            return 0;
        }
        if (c == '\\') {
            skip(s, 1);
            c = front(s);
            if (c < 32 || c > 126)
                return -EINVAL;
        } else if (c < 32 || c > 126) {
            n = utf8_nonascii(s, flags);
            if (n == 0)
                return -EINVAL;
        }
        r = local_add(p, s->ptr, n);
        if (r < 0)
            return r;
        skip(s, n);
    }
}

static int take_local(struct str *s, unsigned flags, struct smtp_path *p)
{
    int r;

    p->local_len = 0;
    if (take(s, '"'))
        return take_quoted(s, flags, p);
    for (;;) {
        r = take_atom(s, flags, p);
        if (r < 0 || !take(s, '.'))
            return r;
        r = local_add(p, ".", 1);
        if (r < 0)
            return r;
    }
}

/* sub-domain: Let-dig [Ldh-str]; it ends with a letter or digit. */
static bool take_label(struct str *s, unsigned flags)
{
    bool ends_well = false;
    size_t total = 0;

    for (;;) {
        int c = front(s);
        size_t n = utf8_nonascii(s, flags);

        if (n == 0 && !is_let_dig(c) && !(c == '-' && total > 0))
            break;
        ends_well = c != '-';
        n = n > 0 ? n : 1;
        total += n;
        skip(s, n);
    }
    /* RFC 1035 2.3.4; a U-label may be longer in octets than its 63-octet A-label. */
    return ends_well && total <= (flags & PATH_UTF8 ? 252u : 63u);
}

static int take_domain(struct str *s, unsigned flags, struct str *ret)
{
    struct str start = *s;

    do {
        if (!take_label(s, flags))
            return -EINVAL;
    } while (take(s, '.'));
    *ret = str_sub(start, 0, start.len - s->len);
    return ret->len > LIMIT_DOMAIN ? -ENAMETOOLONG : 0;
}

/* The inside of an address literal of a family that the C library reads; a scope or an embedded NUL is not one. */
static bool is_address(int family, struct str s)
{
    char text[INET6_ADDRSTRLEN + 1];
    unsigned char address[sizeof(struct in6_addr)];

    if (s.len == 0 || s.len >= sizeof(text) || str_has_nul(s))
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = 0;
    return inet_pton(family, text, address) == 1;
}

/* General-address-literal: Standardized-tag ":" 1*dcontent. */
static bool is_general_literal(struct str s)
{
    struct str tag;

    if (!str_cut(&s, ':', &tag) || tag.len == 0 || s.len == 0 || !is_let_dig((unsigned char)tag.ptr[tag.len - 1]))
        return false;
    for (size_t i = 0; i < tag.len; i++)
        if (!is_let_dig((unsigned char)tag.ptr[i]) && tag.ptr[i] != '-')
            return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < 33 || s.ptr[i] > 126 || strchr("[\\]", s.ptr[i]))
            return false;
    return true;
}

bool path_is_literal(struct str s)
{
    if (s.len < 3 || s.ptr[0] != '[' || s.ptr[s.len - 1] != ']')
        return false;
    s = str_sub(s, 1, s.len - 2);
    if (str_istarts(s, STR("IPv6:")))
        return is_address(AF_INET6, str_sub(s, 5, s.len));
    return is_address(AF_INET, s) || is_general_literal(s);
}

static int take_literal(struct str *s, struct str *ret)
{
    ptrdiff_t end = str_chr(*s, ']');

    if (end < 0 || !path_is_literal(str_sub(*s, 0, (size_t)end + 1)))
        return -EINVAL;
    *ret = str_sub(*s, 0, (size_t)end + 1);
    skip(s, (size_t)end + 1);
    return ret->len > LIMIT_DOMAIN ? -ENAMETOOLONG : 0;
}

static bool has_nonascii(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] >= 0x80)
            return true;
    return false;
}

/* Mailbox: Local-part "@" ( Domain / address-literal ). */
static int take_mailbox(struct str *s, unsigned flags, struct smtp_path *p)
{
    struct str start = *s;
    int r;

    r = take_local(s, flags, p);
    if (r < 0)
        return r;
    p->domain = STR_NULL;
    p->is_literal = false;
    if (!take(s, '@')) {
        if (!(flags & PATH_BARE_OK) && !(flags & PATH_POSTMASTER_OK && str_ieq(path_local(p), STR("postmaster"))))
            return -EINVAL;
    } else if (front(s) == '[') {
        p->is_literal = true;
        r = take_literal(s, &p->domain);
    } else {
        r = take_domain(s, flags, &p->domain);
    }
    if (r < 0)
        return r;
    p->text = str_sub(start, 0, start.len - s->len);
    p->is_utf8 = has_nonascii(p->text);
    p->is_null = false;
    return 0;
}

/* A-d-l ":": parsed, then ignored, as RFC 5321 4.1.2 and its appendix C ask. */
static int take_route(struct str *s, unsigned flags)
{
    struct str domain;
    int r;

    if (front(s) != '@')
        return 0;
    for (int i = 0; i < ROUTE_MAX; i++) {
        if (!take(s, '@'))
            return -EINVAL;
        r = front(s) == '[' ? take_literal(s, &domain) : take_domain(s, flags, &domain);
        if (r < 0)
            return r;
        if (take(s, ':'))
            return 0;
        if (!take(s, ','))
            return -EINVAL;
    }
    return -EINVAL;
}

int path_parse(struct str *s, unsigned flags, struct smtp_path *ret)
{
    struct smtp_path p = {0};
    struct str rest = *s;
    int r;

    if (!take(&rest, '<'))
        return -EINVAL;
    if (flags & PATH_NULL_OK && take(&rest, '>')) {
        p.is_null = true;
    } else {
        r = take_route(&rest, flags);
        if (r == 0)
            r = take_mailbox(&rest, flags, &p);
        if (r < 0)
            return r;
        if (!take(&rest, '>'))
            return -EINVAL;
    }
    if (s->len - rest.len > LIMIT_PATH)
        return -ENAMETOOLONG;
    *s = rest;
    *ret = p;
    return 0;
}

int path_parse_mailbox(struct str s, unsigned flags, struct smtp_path *ret)
{
    struct smtp_path p = {0};
    int r;

    if (flags & PATH_NULL_OK && s.len == 0) {
        p.is_null = true;
        *ret = p;
        return 0;
    }
    if (s.len + 2 > LIMIT_PATH)
        return -ENAMETOOLONG;
    r = take_mailbox(&s, flags, &p);
    if (r < 0)
        return r;
    if (s.len > 0)
        return -EINVAL;
    *ret = p;
    return 0;
}

struct str path_local(const struct smtp_path *p)
{
    return (struct str){p->local, p->local_len};
}

bool path_is_domain(struct str s, bool utf8)
{
    struct str domain;

    return take_domain(&s, utf8 ? PATH_UTF8 : 0, &domain) == 0 && s.len == 0;
}

bool path_is_helo(struct str s)
{
    if (s.len == 0 || s.len > LIMIT_DOMAIN)
        return false;
    if (path_is_literal(s))
        return true;
    for (size_t i = 0; i < s.len; i++)
        if (!is_let_dig((unsigned char)s.ptr[i]) && !strchr("-._:[]", s.ptr[i] ? s.ptr[i] : ' '))
            return false;
    return true;
}
