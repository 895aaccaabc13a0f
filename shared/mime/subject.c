/*
 * Base subject: see subject.h. The steps are numbered as in RFC 5256 2.1; the syntax is in its section 5.
 */
#include "shared/mime/subject.h"

#include <errno.h>

#include "shared/base/limits.h"
#include "shared/mime/rfc2047.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct str skip_blanks(struct str s)
{
    while (s.len && is_blank(s.ptr[0]))
        s = str_sub(s, 1, s.len);
    return s;
}

/* (1) Runs of blanks become one space. */
static int squeeze(struct str s, struct buf *out)
{
    int r = 0;

    for (size_t i = 0; i < s.len && !r; i++) {
        if (!is_blank(s.ptr[i]))
            r = buf_add_byte(out, s.ptr[i]);
        else if (!i || !is_blank(s.ptr[i - 1]))
            r = buf_add_byte(out, ' ');
    }
    return r;
}

/* Would squeeze() leave it as it is? All of it is looked at: so the compiler can take many bytes at once. */
static bool is_squeezed(struct str s)
{
    bool is_odd = s.len && s.ptr[0] == '\t';

    for (size_t i = 1; i < s.len; i++)
        is_odd |= (s.ptr[i] == '\t') | ((s.ptr[i] == ' ') & (s.ptr[i - 1] == ' '));
    return !is_odd;
}

/* (2) "(fwd)" and blanks at the end. */
static void remove_trailers(struct str *s, bool *is_reply)
{
    for (;;) {
        if (s->len && is_blank(s->ptr[s->len - 1])) {
            s->len--;
        } else if (s->len >= 5 && str_ieq(str_sub(*s, s->len - 5, 5), STR("(fwd)"))) {
            s->len -= 5;
            *is_reply = true;
        } else {
            return;
        }
    }
}

/* subj-blob = "[" *BLOBCHAR "]" *WSP; consumed if it is there. */
static bool take_blob(struct str *s)
{
    size_t n = 1;

    if (!s->len || s->ptr[0] != '[')
        return false;
    while (n < s->len && s->ptr[n] != '[' && s->ptr[n] != ']')
        n++;
    if (n == s->len || s->ptr[n] != ']')
        return false;
    *s = skip_blanks(str_sub(*s, n + 1, s->len));
    return true;
}

/* subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":" */
static bool take_refwd(struct str *s)
{
    char first = s->len ? ascii_lower(s->ptr[0]) : '\0';
    struct str rest;

    if (first != 'r' && first != 'f')
        return false;
    if (str_istarts(*s, STR("re")))
        rest = str_sub(*s, 2, s->len);
    else if (str_istarts(*s, STR("fwd")))
        rest = str_sub(*s, 3, s->len);
    else if (str_istarts(*s, STR("fw")))
        rest = str_sub(*s, 2, s->len);
    else
        return false;
    rest = skip_blanks(rest);
    (void)take_blob(&rest);
    if (!rest.len || rest.ptr[0] != ':')
        return false;
    *s = str_sub(rest, 1, rest.len);
    return true;
}

/* (3) subj-leader = (*subj-blob subj-refwd) / WSP */
static bool take_leader(struct str *s, bool *is_reply)
{
    struct str rest = *s;

    if (s->len && is_blank(s->ptr[0])) {
        *s = skip_blanks(*s);
        return true;
    }
    while (take_blob(&rest))
        ;
    if (!take_refwd(&rest))
        return false;
    *is_reply = true;
    *s = rest;
    return true;
}

/* (3) to (5): leaders, and blobs in front of something. A run of blobs is looked through once per blob: capped. */
static void remove_leaders(struct str *s, bool *is_reply)
{
    for (unsigned i = 0; i < LIMIT_PARAMETERS; i++) {
        struct str rest = *s;

        if (take_leader(s, is_reply))
            continue;
        if (!take_blob(&rest) || !rest.len)
            return;
        *s = rest;
    }
}

int subject_base(struct str body, struct buf *out, bool *ret_is_reply)
{
    _cleanup_buf_ struct buf decoded = BUF_INIT(4 * LIMIT_HEADER_FIELD);
    _cleanup_buf_ struct buf line = BUF_INIT(4 * LIMIT_HEADER_FIELD);
    bool is_reply = false, is_forward = true;
    struct str s;
    int r = 0;

    if (!rfc2047_is_plain(body, &s)) {
        r = rfc2047_decode(body, &decoded);
        s = buf_str(&decoded);
    }
    if (!r && !is_squeezed(s)) {
        r = squeeze(s, &line);
        s = buf_str(&line);
    }
    if (r)
        return r;
    while (is_forward) {
        remove_trailers(&s, &is_reply);
        remove_leaders(&s, &is_reply);
        /* (6) */
        is_forward = s.len > 5 && str_istarts(s, STR("[fwd:")) && s.ptr[s.len - 1] == ']';
        if (is_forward) {
            s = str_sub(s, 5, s.len - 6);
            is_reply = true;
        }
    }
    r = buf_add_str(out, s);
    if (!r && ret_is_reply)
        *ret_is_reply = is_reply;
    return r;
}
