/*
 * CONDSTORE and QRESYNC (see qresync.h). Runs in imap-session as the user.
 */
#include "handlers/imap/qresync.h"

#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/respond.h"
#include "handlers/imap/seqset.h"
#include "handlers/imap/update.h"

bool condstore_is_kept(const struct imap *s)
{
    return !s->box || mbox_uids_last(s->box);
}

void condstore_enable(struct imap *s)
{
    struct mbox_status status;

    if (s->enabled & IMAP_CONDSTORE)
        return;
    s->enabled |= IMAP_CONDSTORE;
    if (s->box && condstore_is_kept(s) && mbox_view_status(s->box, &status) >= 0)
        (void)writer_printf(&s->out, "* OK [HIGHESTMODSEQ %" PRIu64 "] Highest\r\n", status.highestmodseq);
}

static int parse_modseq(struct imap *s, uint64_t *ret)
{
    return parse_number64(&s->parse, "a mod-sequence of at most 63 bits", ret);
}

int condstore_parse_modseq(struct imap *s, uint64_t *ret)
{
    if (!condstore_is_kept(s))
        return parse_fail(&s->parse, "no mod-sequence: this mailbox keeps none");
    return parse_modseq(s, ret);
}

/* A set in ascending order, as a walk over its numbers. */
struct walk {
    struct str rest;
    uint32_t next;
    uint32_t last;
};

static bool walk_next(struct walk *w, uint32_t *ret)
{
    struct str piece, first;

    if (w->next > w->last || w->last == 0) {
        if (!w->rest.len)
            return false;
        (void)str_cut(&w->rest, ',', &piece);
        (void)str_cut(&piece, ':', &first);
        if (str_to_u32(first, &w->next) < 0 || str_to_u32(piece.len ? piece : first, &w->last) < 0 || w->last == 0)
            return false;
    }
    *ret = w->next++;
    return true;
}

/* How many numbers a set names; false when it is not in ascending order (RFC 7162 3.2.5.2). */
static bool count_ascending(struct str text, uint64_t *ret)
{
    uint64_t count = 0;
    uint32_t before = 0;

    while (text.len) {
        struct str piece, head;
        uint32_t first, last;

        (void)str_cut(&text, ',', &piece);
        (void)str_cut(&piece, ':', &head);
        if (str_to_u32(head, &first) < 0 || str_to_u32(piece.len ? piece : head, &last) < 0 || first <= before ||
            last < first)
            return false;
        before = last;
        count += (uint64_t)last - first + 1;
    }
    *ret = count;
    return true;
}

/* "(" known-sequence-set SP known-uid-set ")" */
static int parse_match(struct imap *s, struct qresync *q)
{
    struct parse *p = &s->parse;
    uint64_t seqs, uids;
    int r;

    if (s->enabled & IMAP_UIDONLY) {
        respond_code(s, "UIDREQUIRED"); /* RFC 9586 3.7 */
        return parse_fail(p, "no message numbers after ENABLE UIDONLY");
    }
    r = parse_char(p, '(', "sequence match data in parentheses");
    q->has_match = true;
    if (r >= 0)
        r = parse_sequence(p, &q->match_seqs);
    if (r >= 0)
        r = parse_space(p);
    if (r >= 0)
        r = parse_sequence(p, &q->match_uids);
    if (r >= 0)
        r = parse_char(p, ')', "a closing parenthesis");
    if (r >= 0 && (!count_ascending(q->match_seqs, &seqs) || !count_ascending(q->match_uids, &uids) || seqs != uids))
        r = parse_fail(p, "two ascending sets of the same size");
    return r;
}

int qresync_parse(struct imap *s, struct qresync *q)
{
    struct parse *p = &s->parse;
    int r = parse_char(p, '(', "the QRESYNC values in parentheses");

    if (r >= 0)
        r = parse_nz_number(p, "a UIDVALIDITY", &q->uidvalidity);
    if (r >= 0)
        r = parse_space(p);
    if (r >= 0)
        r = parse_modseq(s, &q->modseq);
    if (r >= 0 && parse_accept(p, ' ')) {
        if (parse_peek(p) != '(') {
            q->has_known = true;
            r = seqset_parse_known(s, "a set of known UIDs", &q->known);
            if (r >= 0 && parse_accept(p, ' '))
                r = parse_match(s, q);
        } else {
            r = parse_match(s, q);
        }
    }
    return r < 0 ? r : parse_char(p, ')', "a closing parenthesis");
}

/* The largest UID of the front of the match data that still holds: up to there the client knows of every expunge. */
static uint32_t matched_up_to(struct imap *s, const struct qresync *q)
{
    struct walk seqs = {.rest = q->match_seqs}, uids = {.rest = q->match_uids};
    uint32_t seq, uid, matched = 0;
    struct mbox_info info;

    while (q->has_match && walk_next(&seqs, &seq) && walk_next(&uids, &uid)) {
        if (mbox_info(s->box, seq, &info) < 0 || info.uid != uid)
            break;
        matched = uid;
    }
    return matched;
}

/* Adds what both sets have, above a limit. */
static int add_common(const struct numset *a, const struct numset *b, uint32_t above, struct numset *ret)
{
    size_t i = 0, j = 0;

    while (i < a->count && j < b->count) {
        uint32_t first = a->ranges[i].first > b->ranges[j].first ? a->ranges[i].first : b->ranges[j].first;
        uint32_t last = a->ranges[i].last < b->ranges[j].last ? a->ranges[i].last : b->ranges[j].last;
        int r;

        if (first <= above)
            first = above + 1;
        r = first <= last && first ? numset_add(ret, first, last) : 0;
        if (r < 0)
            return r;
        if (a->ranges[i].last < b->ranges[j].last)
            i++;
        else
            j++;
    }
    return 0;
}

/* The UIDs below UIDNEXT that the view does not have: what is gone, when the history does not reach back. */
static int all_missing(struct imap *s, uint32_t uidnext, struct numset *ret)
{
    uint32_t next = 1;

    for (uint32_t seq = 1, count = mbox_count(s->box); seq <= count; seq++) {
        struct mbox_info info;
        int r = mbox_info(s->box, seq, &info);

        if (r >= 0 && info.uid > next)
            r = numset_add(ret, next, info.uid - 1);
        if (r < 0)
            return r;
        next = info.uid + 1;
    }
    return next < uidnext ? numset_add(ret, next, uidnext - 1) : 0;
}

/* Takes out what the client still sees: that it is gone is told by a VANISHED without EARLIER, which moves message
 * numbers (RFC 7162 3.2.10). */
static int drop_visible(struct imap *s, struct numset *told)
{
    _cleanup_numset_ struct numset visible = NUMSET_INIT;
    int r = 0;

    for (size_t i = 0; i < told->count; i++) {
        uint32_t seq = mbox_seq_from(s->box, told->ranges[i].first);
        struct mbox_info info;

        for (; r >= 0 && mbox_info(s->box, seq, &info) >= 0 && info.uid <= told->ranges[i].last; seq++)
            r = numset_add(&visible, info.uid, info.uid);
    }
    for (size_t i = 0; r >= 0 && i < visible.count; i++)
        r = numset_remove(told, visible.ranges[i].first, visible.ranges[i].last);
    return r;
}

int qresync_vanished(struct imap *s, uint64_t modseq, const struct numset *known, uint32_t above)
{
    _cleanup_numset_ struct numset gone = NUMSET_INIT, told = NUMSET_INIT;
    bool is_complete = false;
    struct mbox_status status;
    int r = mbox_vanished(s->box, modseq, &gone, &is_complete);

    if (r >= 0 && !is_complete) {
        numset_clear(&gone);
        r = mbox_view_status(s->box, &status);
        if (r >= 0)
            r = all_missing(s, status.uidnext, &gone);
    }
    if (r >= 0)
        r = add_common(&gone, known, above, &told);
    if (r >= 0)
        r = drop_visible(s, &told);
    if (r < 0)
        return r;
    if (told.count > 0) {
        (void)writer_text(&s->out, "* VANISHED (EARLIER) ");
        respond_numset(s, &told);
        (void)writer_text(&s->out, "\r\n");
    }
    return 0;
}

int qresync_respond(struct imap *s, const struct qresync *q)
{
    _cleanup_numset_ struct numset known = NUMSET_INIT;
    struct mbox_status status;
    int r = mbox_view_status(s->box, &status);

    if (r < 0 || status.uidvalidity != q->uidvalidity || !condstore_is_kept(s))
        return r;
    /* RFC 7162 3.2.5.1: no list of known UIDs stands for all there ever were. */
    if (q->has_known)
        r = numset_add_set(&known, &q->known);
    else if (status.uidnext > 1)
        r = numset_add(&known, 1, status.uidnext - 1);
    if (r >= 0)
        r = qresync_vanished(s, q->modseq, &known, matched_up_to(s, q));
    for (uint32_t seq = 1, count = mbox_count(s->box); seq <= count && r >= 0; seq++) {
        struct mbox_info info;

        r = mbox_info(s->box, seq, &info);
        if (r >= 0 && info.modseq > q->modseq && numset_has(&known, info.uid))
            update_fetch_flags(s, seq, true, true);
    }
    return r;
}
