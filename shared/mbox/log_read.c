/*
 * Reading the state log: as a whole when the index is rebuilt, its new end when a process died between log and index,
 * its history for QRESYNC. Runs as the user under BOX_STATE.
 */
#include "shared/mbox/log_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/base/macros.h"
#include "shared/mbox/box.h"
#include "shared/mbox/hash.h"

#define UNSORTED_MAX 512

uint64_t log_check(enum log_type type, const void *payload, size_t len)
{
    return mhash64(payload, len) ^ ((uint64_t)type * 0x9e3779b97f4a7c15u + len);
}

uint64_t log_head_check(const struct log_head *head)
{
    return mhash64(head, offsetof(struct log_head, check));
}

bool log_head_is_valid(const struct log_head *head)
{
    return head->magic == LOG_MAGIC && head->check == log_head_check(head);
}

size_t log_padding(size_t len)
{
    return (8 - len % 8) % 8;
}

int log_reader_init(struct log_reader *r, int fd, uint64_t at)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    *r = (struct log_reader){.fd = fd, .at = at, .size = (uint64_t)st.st_size, .data = BUF_INIT(LOG_ENTRY_MAX + 16)};
    return 0;
}

void log_reader_finish(struct log_reader *r)
{
    buf_finish(&r->data);
}

int log_next(struct log_reader *r)
{
    struct log_entry entry;
    int e;

    buf_clear(&r->data);
    if (r->size - r->at < sizeof(entry))
        return 0;
    if ((e = file_read(r->fd, &entry, sizeof(entry), r->at)) < 0)
        return e == -ENODATA ? 0 : e;
    if (entry.len > LOG_ENTRY_MAX || r->size - r->at - sizeof(entry) < entry.len)
        return 0;
    if ((e = buf_reserve(&r->data, entry.len)) < 0)
        return e;
    if ((e = file_read(r->fd, r->data.data, entry.len, r->at + sizeof(entry))) < 0)
        return e == -ENODATA ? 0 : e;
    r->data.len = entry.len;
    if (entry.check != log_check((enum log_type)entry.type, r->data.data, entry.len))
        return 0;
    r->type = entry.type;
    r->at += sizeof(entry) + entry.len + log_padding(entry.len);
    if (r->at > r->size)
        r->at = r->size; /* the padding of the last entry may be missing */
    return 1;
}

bool log_goes_on(struct log_reader *r)
{
    uint64_t stopped = r->at;
    bool is_found = false;

    for (uint64_t at = stopped + 8; !is_found && at + sizeof(struct log_entry) < r->size; at += 8) {
        r->at = at;
        is_found = log_next(r) == 1;
    }
    r->at = stopped;
    return is_found;
}

bool log_ranges(const struct log_reader *r, struct log_ranges *ret_head, const char **ret_ranges, size_t *ret_count)
{
    if (r->data.len < sizeof(*ret_head))
        return false;
    memcpy(ret_head, r->data.data, sizeof(*ret_head));
    *ret_ranges = r->data.data + sizeof(*ret_head);
    *ret_count = (r->data.len - sizeof(*ret_head)) / sizeof(struct numrange);
    return true;
}

/* ---- the whole truth ---- */

void log_truth_finish(struct log_truth *t)
{
    free(t->messages);
    *t = (struct log_truth){0};
}

struct log_message *log_truth_find(const struct log_truth *t, uint32_t uid)
{
    size_t low = 0, high = t->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (t->messages[mid].uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low < t->count && t->messages[low].uid == uid ? &t->messages[low] : NULL;
}

static int by_uid(const void *a, const void *b)
{
    const struct log_message *x = a, *y = b;

    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static void truth_sort(struct log_truth *t)
{
    if (t->sorted < t->count)
        qsort(t->messages, t->count, sizeof(*t->messages), by_uid);
    t->sorted = t->count;
}

/* The entry of a UID, or a new one at the end. Entries mostly come in order; what does not is sorted in now and then.
 */
static struct log_message *truth_entry(struct log_truth *t, uint32_t uid)
{
    struct log_truth head = {.messages = t->messages, .count = t->sorted};
    struct log_message *m = log_truth_find(&head, uid);

    for (size_t i = t->sorted; m == NULL && i < t->count; i++)
        if (t->messages[i].uid == uid)
            m = &t->messages[i];
    if (m != NULL)
        return m;
    if (t->count - t->sorted >= UNSORTED_MAX)
        truth_sort(t);
    if (t->count == t->cap) {
        size_t cap = t->cap == 0 ? 256 : t->cap * 2;
        struct log_message *more = realloc(t->messages, cap * sizeof(*more));

        if (more == NULL)
            return NULL;
        t->messages = more;
        t->cap = cap;
    }
    if (t->sorted == t->count && (t->count == 0 || t->messages[t->count - 1].uid < uid))
        t->sorted++;
    t->messages[t->count] = (struct log_message){.uid = uid};
    return &t->messages[t->count++];
}

static int truth_message(struct log_truth *t, const struct log_reader *r)
{
    struct log_uid uid;
    struct log_message *m;

    if (r->data.len != sizeof(uid))
        return -EBADMSG;
    memcpy(&uid, r->data.data, sizeof(uid));
    m = truth_entry(t, uid.uid);
    if (m == NULL)
        return -ENOMEM;
    m->has_hash = true;
    m->savedate = uid.savedate;
    m->modseq = uid.modseq;
    memcpy(m->hash, uid.hash, sizeof(m->hash));
    m->has_flags = uid.has_flags != 0; /* without: from here on the file's are right */
    m->flags = uid.flags;
    m->keywords = uid.keywords;
    if (uid.uid >= t->uidnext)
        t->uidnext = uid.uid + 1;
    return 0;
}

static int truth_ranges(struct log_truth *t, const struct log_reader *r)
{
    struct log_ranges head;
    const char *ranges;
    size_t count;

    if (!log_ranges(r, &head, &ranges, &count))
        return -EBADMSG;
    for (size_t i = 0; i < count; i++) {
        struct numrange range;

        memcpy(&range, ranges + i * sizeof(range), sizeof(range));
        for (uint64_t uid = range.first; uid <= range.last; uid++) {
            struct log_message *m = truth_entry(t, (uint32_t)uid);

            if (m == NULL)
                return -ENOMEM;
            m->is_expunged |= r->type == LOG_EXPUNGED;
            m->has_flags = r->type == LOG_FLAGS;
            m->flags = (uint8_t)head.flags;
            m->keywords = head.keywords;
            m->modseq = head.modseq > m->modseq ? head.modseq : m->modseq;
        }
    }
    if (head.modseq > t->modseq)
        t->modseq = head.modseq;
    return 0;
}

static int truth_base(struct log_truth *t, const struct log_reader *r)
{
    struct log_base base;

    if (r->data.len != sizeof(base))
        return -EBADMSG;
    memcpy(&base, r->data.data, sizeof(base));
    t->is_found = true;
    t->uidvalidity = base.uidvalidity;
    t->uidnext = base.uidnext;
    t->modseq = base.modseq;
    t->floor = base.floor;
    t->recent = base.recent;
    memcpy(t->mailboxid, base.mailboxid, sizeof(t->mailboxid));
    return 0;
}

static int truth_keyword(char keywords[][INDEX_KEYWORD_SIZE], const struct log_reader *r)
{
    struct log_keyword keyword;

    if (r->data.len != sizeof(keyword))
        return -EBADMSG;
    memcpy(&keyword, r->data.data, sizeof(keyword));
    if (keyword.number >= LIMIT_KEYWORDS)
        return -EBADMSG;
    memcpy(keywords[keyword.number], keyword.name, LIMIT_KEYWORD);
    keywords[keyword.number][LIMIT_KEYWORD] = '\0';
    return 0;
}

static int truth_next(const struct log_reader *r, uint32_t *uidnext, uint64_t *modseq)
{
    struct log_next next;

    if (r->data.len != sizeof(next))
        return -EBADMSG;
    memcpy(&next, r->data.data, sizeof(next));
    *uidnext = next.uidnext > *uidnext ? next.uidnext : *uidnext;
    *modseq = next.modseq > *modseq ? next.modseq : *modseq;
    return 0;
}

static int truth_entry_read(struct log_truth *t, const struct log_reader *r)
{
    switch (r->type) {
    case LOG_BASE:
        return truth_base(t, r);
    case LOG_KEYWORD:
        return truth_keyword(t->keywords, r);
    case LOG_NEXT:
        return truth_next(r, &t->uidnext, &t->modseq);
    case LOG_MESSAGE:
        return truth_message(t, r);
    case LOG_FLAGS:
    case LOG_EXPUNGED:
    case LOG_FLUSHED:
        return truth_ranges(t, r);
    default:
        return 0; /* a later version's: what it says is not needed here */
    }
}

int log_read(struct box *b, struct log_truth *ret)
{
    struct log_truth t = {.id = b->log_id};
    struct log_reader reader;
    struct stat st;
    int r;

    if (b->log_fd < 0) {
        *ret = t;
        return 0;
    }
    if (b->log_id == 0) {
        t.is_damaged = fstat(b->log_fd, &st) == 0 && st.st_size > 0;
        *ret = t;
        return 0;
    }
    if ((r = log_reader_init(&reader, b->log_fd, sizeof(struct log_head))) < 0)
        return r;
    while ((r = log_next(&reader)) > 0)
        if ((r = truth_entry_read(&t, &reader)) < 0)
            break;
    if (r == -EBADMSG) {
        t.is_damaged = true;
        r = 0;
    }
    t.is_damaged |= !t.is_found || log_goes_on(&reader);
    t.size = reader.at;
    truth_sort(&t);
    log_reader_finish(&reader);
    if (r < 0) {
        log_truth_finish(&t);
        return r;
    }
    *ret = t;
    return 0;
}

/* ---- the new end ---- */

static int apply_flags(struct box *b, const struct log_reader *r)
{
    struct log_ranges head;
    const char *ranges;
    size_t count;
    uint64_t at = 0;
    int e;

    if (!log_ranges(r, &head, &ranges, &count))
        return -EBADMSG;
    for (size_t i = 0; i < count; i++) {
        struct numrange range;

        memcpy(&range, ranges + i * sizeof(range), sizeof(range));
        for (; at < b->ix.next->count && index_brief(&b->ix, at)->uid <= range.last; at++) {
            struct index_record rec = index_load(&b->ix, at);
            if (rec.uid < range.first || (rec.bits & INDEX_EXPUNGED))
                continue;
            if (r->type == LOG_FLAGS) {
                rec.flags = (uint8_t)head.flags;
                rec.keywords = head.keywords;
                rec.modseq = head.modseq;
                rec.bits |= INDEX_PENDING;
            }
            if ((e = index_put(b, at, &rec)) < 0)
                return e;
        }
    }
    if (head.modseq > b->ix.next->modseq)
        b->ix.next->modseq = head.modseq;
    return 0;
}

int log_apply(struct box *b, uint64_t from)
{
    struct log_reader reader;
    uint32_t uidnext = b->ix.next->uidnext;
    int r;

    if ((r = log_reader_init(&reader, b->log_fd, from)) < 0)
        return r;
    while ((r = log_next(&reader)) > 0) {
        switch (reader.type) {
        case LOG_KEYWORD:
            r = truth_keyword(b->ix.next->keywords, &reader);
            break;
        case LOG_NEXT:
            r = truth_next(&reader, &b->ix.next->uidnext, &b->ix.next->modseq);
            if (r == 0 && b->ix.next->uidnext != uidnext) /* whose these UIDs are, only the box itself says */
                r = -EBADMSG;
            break;
        case LOG_FLAGS:
            r = apply_flags(b, &reader);
            break;
        default:
            r = -EBADMSG;
            break;
        }
        if (r < 0)
            break;
    }
    b->log_size = reader.at;
    b->is_log_lazy = true; /* who wrote that may have died before it was durable */
    log_reader_finish(&reader);
    return r;
}

int log_vanished(struct box *b, uint64_t since, struct numset *ret_uids, bool *ret_complete)
{
    struct log_reader reader;
    struct log_ranges head;
    struct log_base base = {0};
    const char *ranges;
    size_t count;
    int r;

    if ((r = log_reader_init(&reader, b->log_fd, sizeof(struct log_head))) < 0)
        return r;
    while ((r = log_next(&reader)) > 0) {
        if (reader.type == LOG_BASE && reader.data.len == sizeof(base))
            memcpy(&base, reader.data.data, sizeof(base));
        if (reader.type != LOG_EXPUNGED || !log_ranges(&reader, &head, &ranges, &count) || head.modseq <= since)
            continue;
        for (size_t i = 0; r >= 0 && i < count; i++) {
            struct numrange range;

            memcpy(&range, ranges + i * sizeof(range), sizeof(range));
            r = numset_add(ret_uids, range.first, range.last);
        }
        if (r < 0)
            break;
    }
    log_reader_finish(&reader);
    if (r < 0)
        return r;
    *ret_complete = since >= base.floor;
    return 0;
}
