/*
 * What the state log tells of flags one by one, for conditional changes (RFC 7162 3.1.12): the index keeps one MODSEQ
 * for a message, the log says what each change was about. Runs as the user under BOX_STATE.
 */
#include <errno.h>
#include <string.h>

#include "shared/mbox/box.h"
#include "shared/mbox/log_read.h"

#define SYSTEM_FLAGS  5u
#define IS_KNOWN      (1u << SYSTEM_FLAGS)
#define KEYWORD_FIRST (SYSTEM_FLAGS + 1)
#define KEYWORD_BITS  (32u - KEYWORD_FIRST) /* keyword n has bit n % 26: a false alarm is no harm */

uint32_t log_changed(uint32_t system, uint64_t keywords)
{
    uint32_t r = IS_KNOWN | (system & (IS_KNOWN - 1));

    for (uint64_t left = keywords; left != 0; left &= left - 1)
        r |= 1u << (KEYWORD_FIRST + (unsigned)__builtin_ctzll(left) % KEYWORD_BITS);
    return r;
}

struct touch {
    uint64_t since;
    uint32_t mask;
    const struct numset *uids;
    struct numset seen; /* of which the log has a change since */
    struct numset *touched;
    uint32_t uidnext; /* messages below were there at that time */
    uint64_t base;    /* MODSEQ at which the log begins */
};

/* Adds what the ranges of an entry and the UIDs have in common. */
static int add_common(const struct numset *uids, const char *ranges, size_t count, struct numset *ret)
{
    int r = 0;

    for (size_t i = 0, j = 0; r >= 0 && i < count && j < uids->count;) {
        struct numrange a;
        const struct numrange *b = &uids->ranges[j];

        memcpy(&a, ranges + i * sizeof(a), sizeof(a));
        if (a.first <= b->last && b->first <= a.last)
            r = numset_add(ret, a.first > b->first ? a.first : b->first, a.last < b->last ? a.last : b->last);
        if (a.last < b->last)
            i++;
        else
            j++;
    }
    return r;
}

static int on_flags(struct touch *t, const struct log_reader *reader)
{
    struct log_ranges head;
    const char *ranges;
    size_t count;
    int r;

    if (!log_ranges(reader, &head, &ranges, &count))
        return -EBADMSG;
    if (head.modseq <= t->since)
        return 0;
    r = add_common(t->uids, ranges, count, &t->seen);
    if (r >= 0 && (!(head.changed & IS_KNOWN) || (head.changed & t->mask)))
        r = add_common(t->uids, ranges, count, t->touched);
    return r;
}

/* Written for flags that another program changed in the file: which, it does not say. */
static int on_message(struct touch *t, const struct log_reader *reader)
{
    struct log_uid uid;

    if (reader->data.len != sizeof(uid))
        return -EBADMSG;
    memcpy(&uid, reader->data.data, sizeof(uid));
    return uid.modseq > t->since && numset_has(t->uids, uid.uid) ? numset_add(t->touched, uid.uid, uid.uid) : 0;
}

static int on_entry(struct touch *t, const struct log_reader *reader)
{
    struct log_base base;
    struct log_next next;

    switch (reader->type) {
    case LOG_FLAGS:
        return on_flags(t, reader);
    case LOG_MESSAGE:
        return on_message(t, reader);
    case LOG_BASE:
        if (reader->data.len != sizeof(base))
            return -EBADMSG;
        memcpy(&base, reader->data.data, sizeof(base));
        t->base = base.modseq;
        t->uidnext = base.uidnext;
        return 0;
    case LOG_NEXT:
        if (reader->data.len != sizeof(next))
            return -EBADMSG;
        memcpy(&next, reader->data.data, sizeof(next));
        if (next.modseq <= t->since && next.uidnext > t->uidnext)
            t->uidnext = next.uidnext;
        return 0;
    default:
        return 0;
    }
}

/* What the log had nothing about, and what came later than that, is taken for touched. */
static int add_unknown(struct touch *t)
{
    int r = 0;

    for (size_t i = 0; r >= 0 && i < t->uids->count; i++)
        for (uint64_t uid = t->uids->ranges[i].first; r >= 0 && uid <= t->uids->ranges[i].last; uid++)
            if (uid >= t->uidnext || !numset_has(&t->seen, (uint32_t)uid))
                r = numset_add(t->touched, (uint32_t)uid, (uint32_t)uid);
    return r;
}

int log_touched(struct box *b, uint64_t since, uint32_t system, uint64_t keywords, const struct numset *uids,
                struct numset *ret_touched)
{
    struct touch t = {.since = since,
                      .mask = log_changed(system, keywords) & ~IS_KNOWN,
                      .uids = uids,
                      .seen = NUMSET_INIT,
                      .touched = ret_touched};
    struct log_reader reader;
    int r = log_reader_init(&reader, b->log_fd, sizeof(struct log_head));

    if (r < 0)
        return r;
    while ((r = log_next(&reader)) > 0)
        if ((r = on_entry(&t, &reader)) < 0)
            break;
    log_reader_finish(&reader);
    if (r >= 0)
        r = t.base > since ? numset_add_set(ret_touched, uids) : add_unknown(&t);
    numset_finish(&t.seen);
    return r < 0 ? r : 0;
}
