/*
 * Sets of messages (see seqset.h). Runs in imap-session as the user.
 */
#include "handlers/imap/seqset.h"

#include <errno.h>

#include "handlers/imap/respond.h"
#include "shared/base/macros.h"

/* seq-number off the front; `*` is `star`. The text has been checked by parse_sequence(). */
static uint32_t take_number(struct str *text, uint32_t star)
{
    uint32_t n = star;
    size_t len = 0;

    if (text->len && text->ptr[0] == '*') {
        *text = str_sub(*text, 1, text->len);
        return n;
    }
    while (len < text->len && ascii_is_digit(text->ptr[len]))
        len++;
    if (str_to_u32(str_sub(*text, 0, len), &n) < 0)
        n = 0;
    *text = str_sub(*text, len, text->len);
    return n;
}

static int add_uid_range(struct imap *s, uint32_t first, uint32_t last, struct numset *ret)
{
    uint32_t from = mbox_seq_from(s->box, first);
    uint32_t to = last == UINT32_MAX ? mbox_count(s->box) + 1 : mbox_seq_from(s->box, last + 1);

    return from < to ? numset_add(ret, from, to - 1) : 0;
}

/* The next seq-number or seq-range of *text in ascending order; *ret_has_star tells whether `*` is in it. */
static struct numrange take_range(struct str *text, uint32_t star, bool *ret_has_star)
{
    struct numrange range;
    struct str piece;
    uint32_t swap;

    (void)str_cut(text, ',', &piece);
    *ret_has_star = str_chr(piece, '*') >= 0;
    range.first = range.last = take_number(&piece, star);
    if (str_starts(piece, STR(":"))) {
        piece = str_sub(piece, 1, piece.len);
        range.last = take_number(&piece, star);
    }
    if (range.first > range.last) {
        swap = range.first;
        range.first = range.last;
        range.last = swap;
    }
    return range;
}

/* The largest UID there is, 0: no message. */
static uint32_t last_uid(struct imap *s)
{
    struct mbox_info last;
    uint32_t count = mbox_count(s->box);

    return count > 0 && mbox_info(s->box, count, &last) >= 0 ? last.uid : 0;
}

int seqset_named_uids(struct imap *s, struct str text, struct numset *ret)
{
    struct mbox_status status;
    int e = mbox_view_status(s->box, &status);
    uint32_t star = status.uidnext - 1;

    if (e < 0)
        return e;
    while (text.len) {
        bool has_star;
        struct numrange range = take_range(&text, star, &has_star);
        int r = range.last == 0 ? 0 : numset_add(ret, range.first ? range.first : 1, range.last);

        if (r < 0)
            return r;
    }
    return 0;
}

int seqset_resolve(struct imap *s, struct str text, bool is_uid, struct numset *ret)
{
    uint32_t count = mbox_count(s->box), star = is_uid ? last_uid(s) : count;

    if (is_uid && count == 0)
        return 0;
    while (text.len) {
        bool has_star;
        struct numrange range = take_range(&text, star, &has_star);
        uint32_t a = range.first, b = range.last;
        int r;

        /* "1:*" of an empty mailbox means nothing, and clients ask for it. */
        if (!is_uid && count == 0 && has_star)
            continue;
        if (!is_uid && (a == 0 || b > count))
            return -EINVAL;
        r = is_uid ? add_uid_range(s, a, b, ret) : numset_add(ret, a, b);
        if (r < 0)
            return r;
    }
    return 0;
}

int seqset_refuse(struct imap *s)
{
    respond_code(s, "CLIENTBUG");
    return parse_fail(&s->parse, "numbers of messages that exist");
}

int seqset_parse(struct imap *s, struct numset *ret)
{
    struct parse *p = &s->parse;
    struct str before = p->rest, text;
    int r;

    /* RFC 5182 2.1: the result that SEARCH RETURN (SAVE) kept. */
    if (parse_accept(p, '$'))
        return seqset_from_uids(s, &s->saved, ret);
    r = parse_sequence(p, &text);
    if (r < 0)
        return r;
    r = seqset_resolve(s, text, s->is_uid, ret);
    if (r == -EINVAL) {
        p->rest = before;
        return seqset_refuse(s);
    }
    return r == -ENOBUFS ? -EMSGSIZE : r;
}

int seqset_uids(struct imap *s, const struct numset *seqs, struct numset *ret)
{
    int r = 0;

    for (size_t i = 0; r >= 0 && i < seqs->count; i++)
        r = mbox_uids(s->box, seqs->ranges[i].first, seqs->ranges[i].last, ret);
    return r;
}

int seqset_from_uids(struct imap *s, const struct numset *uids, struct numset *ret)
{
    for (size_t i = 0; i < uids->count; i++) {
        int r = add_uid_range(s, uids->ranges[i].first, uids->ranges[i].last, ret);

        if (r < 0)
            return r;
    }
    return 0;
}

int seqset_parse_known(struct imap *s, const char *expected, struct numset *ret)
{
    struct str before = s->parse.rest, text;
    int r = parse_sequence(&s->parse, &text);

    if (r < 0)
        return r;
    if (numset_parse(text, ret) < 0) {
        s->parse.rest = before;
        return parse_fail(&s->parse, expected);
    }
    return 0;
}
