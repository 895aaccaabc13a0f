/*
 * Patterns, filters and the list. Runs in `pennypost queue` and in the monitor of smtp, as root; reads the queue.
 */
#include "shared/queue/select.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"

#define BRIEF_RECIPIENTS 5 /* of an entry that the list shows */

static bool has_wildcard(const char *pattern)
{
    return strpbrk(pattern, "*?[") != NULL;
}

bool queue_pattern_matches(const char *pattern, const char *address)
{
    const char *at = strrchr(address, '@');

    if (strcmp(pattern, "<>") == 0)
        return address[0] == '\0';
    if (has_wildcard(pattern))
        return fnmatch(pattern, address, FNM_CASEFOLD | FNM_NOESCAPE) == 0;
    if (str_ieq(str_from(pattern), str_from(address)))
        return true;
    if (pattern[0] == '@')
        pattern++;
    return at && !strchr(pattern, '@') && str_ieq(str_from(at + 1), str_from(pattern));
}

bool queue_filter_matches(const struct queue_filter *f, const struct queue_envelope *e)
{
    bool is_for = !f->recipient, is_deferred = !f->is_deferred;

    if (f->user && (!e->user || strcmp(f->user, e->user) != 0))
        return false;
    if (f->is_held && !e->is_held)
        return false;
    if (f->sender && !queue_pattern_matches(f->sender, e->sender ? e->sender : ""))
        return false;
    for (size_t i = 0; i < e->count; i++) {
        const struct queue_recipient *r = &e->recipients[i];

        is_for |= !queue_recipient_is_done(r) && f->recipient && queue_pattern_matches(f->recipient, r->address);
        is_deferred |= r->state == QUEUE_DEFERRED;
    }
    return is_for && is_deferred;
}

uint64_t queue_message_size(const struct queue *q, const char *id)
{
    _cleanup_close_ int fd = -1;
    struct stat facts;

    if (queue_peek_message(q, id, &fd) < 0 || fstat(fd, &facts) < 0)
        return 0;
    return (uint64_t)facts.st_size;
}

/* One entry, if it is there and meant. 1: printed. */
static int list_one(const struct queue *q, const char *id, const struct queue_filter *f, int64_t now, struct buf *out)
{
    _cleanup_queue_envelope_ struct queue_envelope envelope = QUEUE_ENVELOPE_INIT;
    size_t before = out->len;
    int e = queue_peek(q, id, &envelope);

    if (e < 0 || !queue_filter_matches(f, &envelope))
        return e;
    e = queue_print_brief(id, queue_message_size(q, id), &envelope, now, BRIEF_RECIPIENTS, out);
    if (e < 0)
        buf_truncate(out, before);
    return e < 0 ? e : 1;
}

int queue_list(const struct queue *q, const struct queue_filter *f, int64_t now, struct buf *out, size_t *ret_count,
               size_t *ret_unreadable)
{
    _cleanup_queue_walk_ struct queue_walk walk;
    char id[QUEUE_ID + 1];
    int e = queue_walk_begin(q, &walk);

    *ret_count = *ret_unreadable = 0;
    while (e >= 0 && (e = queue_walk_next(&walk, id)) > 0) {
        e = list_one(q, id, f, now, out);
        if (e == 1)
            ++*ret_count;
        else if (e < 0 && e != -ENOBUFS && e != -ENOMEM) {
            *ret_unreadable += e != -ENOENT; /* gone meanwhile */
            e = 0;
        }
    }
    return e;
}
