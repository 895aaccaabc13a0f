/*
 * A store in memory with the interface of shared/mbox/mbox.h, for the unit tests of imap-session: what other programs
 * do to a mailbox happens exactly when a test says so (see imap_store.h). It keeps no locks and no files.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/unit/imap_store.h"
#include "tests/unit/imap_store_parts.h"

struct mbox_store *imap_store_only;
static uint32_t cut_after;

int mbox_store_new(const struct mbox_store_options *options, struct mbox_store **ret)
{
    struct mbox_store *s = calloc(1, sizeof(*s));

    if (!s)
        return -ENOMEM;
    s->clock = options->clock;
    imap_store_only = s;
    (void)mbox_create(s, STR("INBOX"));
    *ret = s;
    return 0;
}

void imap_store_free_message(struct message_data *m)
{
    for (unsigned k = 0; k < MBOX_CACHE_KINDS; k++)
        free(m->cache[k]);
    free(m->bytes);
    free(m);
}

void imap_store_clear(struct box_data *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        imap_store_free_message(b->messages[i]);
    for (unsigned i = 0; i < 64; i++)
        free(b->keywords[i]);
    numset_finish(&b->gone);
    free(b->name);
    *b = (struct box_data){.name = NULL};
}

void mbox_store_free(struct mbox_store *s)
{
    for (unsigned i = 0; i < BOXES; i++)
        imap_store_clear(&s->boxes[i]);
    free(s);
    imap_store_only = NULL;
}

/* Nothing is offered here: the tests make what they need. */
void mbox_store_offer(struct mbox_store *s, bool (*is_offered)(void *context, struct str name), void *context)
{
}

int mbox_store_notices(struct mbox_store *s, struct buf *out)
{
    return 0;
}

struct box_data *imap_store_find(struct mbox_store *s, struct str name)
{
    for (unsigned i = 0; i < BOXES; i++)
        if (s->boxes[i].name && str_eq(name, str_from(s->boxes[i].name)))
            return &s->boxes[i];
    return NULL;
}

static void view_add(struct mbox *v, struct message_data *m)
{
    v->rows[v->count++] = (struct shown){.message = m, .uid = m->info.uid, .modseq = m->info.modseq};
}

int mbox_open(struct mbox_store *s, struct str name, unsigned flags, struct mbox **ret)
{
    struct box_data *data = imap_store_find(s, name);
    struct mbox *v;

    if (!data || data->is_directory)
        return -ENOENT;
    v = calloc(1, sizeof(*v));
    if (!v)
        return -ENOMEM;
    v->store = s;
    v->data = data;
    v->is_readonly = flags & MBOX_OPEN_READONLY;
    for (uint32_t i = 0; i < data->count; i++)
        view_add(v, data->messages[i]);
    v->next = s->views;
    s->views = v;
    *ret = v;
    return 0;
}

int mbox_close(struct mbox *b)
{
    if (!b)
        return 0;
    for (struct mbox **at = &b->store->views; *at; at = &(*at)->next) {
        if (*at == b) {
            *at = b->next;
            break;
        }
    }
    free(b);
    return 0;
}

int mbox_flush(struct mbox *b)
{
    return 0;
}

bool mbox_uids_last(const struct mbox *b)
{
    return b != NULL;
}

bool mbox_is_readonly(const struct mbox *b)
{
    return b->is_readonly;
}

struct str mbox_name(const struct mbox *b)
{
    return str_from(b->data->name);
}

uint32_t mbox_count(const struct mbox *b)
{
    return b->count;
}

static void fill_status(const struct box_data *d, struct mbox_status *ret)
{
    *ret = (struct mbox_status){.uidvalidity = d->uidvalidity, .uidnext = d->uidnext, .highestmodseq = d->modseq};
    ret->mailboxid[15] = (uint8_t)d->number;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct mbox_info *info = &d->messages[i]->info;

        ret->messages++;
        ret->unseen += !(info->flags.system & MBOX_SEEN);
        ret->deleted += (info->flags.system & MBOX_DELETED) != 0;
        ret->size += info->size;
        if (!(info->flags.system & MBOX_SEEN) && !ret->first_unseen)
            ret->first_unseen = i + 1;
    }
}

int mbox_view_status(struct mbox *b, struct mbox_status *ret)
{
    fill_status(b->data, ret);
    ret->messages = b->count;
    return 0;
}

int mbox_status(struct mbox_store *s, struct str name, struct mbox_status *ret)
{
    struct box_data *d = imap_store_find(s, name);

    if (!d || d->is_directory)
        return -ENOENT;
    fill_status(d, ret);
    return 0;
}

bool mbox_holds_expunged(const struct mbox *b)
{
    bool is_gone = false;

    for (uint32_t i = 0; i < b->count; i++)
        is_gone |= b->rows[i].is_gone;
    return is_gone;
}

int mbox_info(struct mbox *b, uint32_t seq, struct mbox_info *ret)
{
    if (seq == 0 || seq > b->count)
        return -EINVAL;
    *ret = (struct mbox_info){.uid = b->rows[seq - 1].uid, .is_expunged = true};
    if (!b->rows[seq - 1].is_gone)
        *ret = b->rows[seq - 1].message->info;
    return 0;
}

uint32_t mbox_seq_from(struct mbox *b, uint32_t uid)
{
    uint32_t seq = 1;

    while (seq <= b->count && b->rows[seq - 1].uid < uid)
        seq++;
    return seq;
}

int mbox_uids(struct mbox *b, uint32_t first, uint32_t last, struct numset *ret)
{
    int r = 0;

    for (uint32_t seq = first; r == 0 && seq <= last; seq++)
        r = numset_add(ret, b->rows[seq - 1].uid, b->rows[seq - 1].uid);
    return r;
}

uint32_t mbox_seq(struct mbox *b, uint32_t uid)
{
    uint32_t seq = mbox_seq_from(b, uid);

    return seq <= b->count && b->rows[seq - 1].uid == uid ? seq : 0;
}

struct str mbox_keyword(struct mbox *b, unsigned n)
{
    return str_from(b->data->keywords[n]);
}

int imap_store_keyword(struct box_data *d, struct str name, bool create, unsigned *ret)
{
    for (unsigned n = 0; n < 64; n++) {
        if (d->keywords[n] && str_ieq(str_from(d->keywords[n]), name)) {
            *ret = n;
            return 0;
        }
    }
    for (unsigned n = 0; n < 64 && create; n++) {
        if (d->keywords[n])
            continue;
        d->keywords[n] = str_dup(name);
        *ret = n;
        return 0;
    }
    return create ? -ENOSPC : -ENOENT;
}

int mbox_keyword_number(struct mbox *b, struct str name, bool create, unsigned *ret)
{
    return imap_store_keyword(b->data, name, create, ret);
}

int imap_store_poll(struct mbox *b, bool keep_expunged, const struct mbox_changes *changes)
{
    uint32_t before = b->count;
    uint32_t last = b->count > 0 ? b->rows[b->count - 1].uid : 0;
    int r = 0;

    if (!b->data->name)
        return -ESTALE;
    for (uint32_t seq = 1; seq <= b->count && !keep_expunged && r == 0;) {
        if (!b->rows[seq - 1].is_gone) {
            seq++;
            continue;
        }
        uint32_t uid = b->rows[seq - 1].uid;

        memmove(&b->rows[seq - 1], &b->rows[seq], (b->count - seq) * sizeof(b->rows[0]));
        b->count--;
        before--;
        if (changes && changes->expunged)
            r = changes->expunged(changes->context, seq, uid);
    }
    for (uint32_t seq = 1; seq <= b->count && r == 0; seq++) {
        struct shown *row = &b->rows[seq - 1];

        if (row->is_gone || row->modseq == row->message->info.modseq)
            continue;
        row->modseq = row->message->info.modseq;
        if (changes && changes->flags)
            r = changes->flags(changes->context, seq);
    }
    for (uint32_t i = 0; i < b->data->count; i++)
        if (b->data->messages[i]->info.uid > last)
            view_add(b, b->data->messages[i]);
    if (r == 0 && b->count > before && changes && changes->arrived)
        r = changes->arrived(changes->context, b->count);
    return r;
}

int mbox_watch_fd(struct mbox *b)
{
    return -1;
}

int mbox_watch_interval(struct mbox *b)
{
    return 20;
}

int mbox_vanished(struct mbox *b, uint64_t since_modseq, struct numset *ret_uids, bool *ret_complete)
{
    *ret_complete = since_modseq >= 5; /* what is older has been forgotten */
    return numset_add_set(ret_uids, &b->data->gone);
}

int mbox_stream_new(struct mbox *b, uint32_t seq, struct mbox_stream **ret)
{
    if (seq == 0 || seq > b->count)
        return -EINVAL;
    if (b->rows[seq - 1].is_gone)
        return -ESTALE;
    *ret = calloc(1, sizeof(**ret));
    if (!*ret)
        return -ENOMEM;
    (*ret)->message = b->rows[seq - 1].message;
    return 0;
}

void mbox_stream_free(struct mbox_stream *m)
{
    free(m);
}

void mbox_stream_want_header(struct mbox_stream *m)
{
}

/* Odd sizes, so that every boundary falls somewhere. */
int mbox_stream_next(struct mbox_stream *m, struct str *ret_bytes)
{
    size_t left = m->message->len - m->at, n = left < 7 ? left : 7;

    if (cut_after && ++m->pieces > cut_after)
        return -ESTALE;
    *ret_bytes = (struct str){m->message->bytes + m->at, n};
    m->at += n;
    return 0;
}

int mbox_stream_seek(struct mbox_stream *m, uint64_t offset)
{
    m->at = offset;
    return 0;
}

int mbox_cache_get(struct mbox *b, uint32_t seq, enum mbox_cache_kind kind, struct str *ret)
{
    struct shown *row = &b->rows[seq - 1];

    if (row->is_gone || !row->message->cache[kind])
        return -ENOENT;
    *ret = (struct str){row->message->cache[kind], row->message->cache_len[kind]};
    return 0;
}

int mbox_cache_put(struct mbox *b, uint32_t seq, enum mbox_cache_kind kind, struct str bytes)
{
    struct shown *row = &b->rows[seq - 1];
    char *copy = malloc(bytes.len + 1);

    if (!copy || row->is_gone) {
        free(copy);
        return -ENOMEM;
    }
    memcpy(copy, bytes.ptr ? bytes.ptr : "", bytes.len);
    free(row->message->cache[kind]);
    row->message->cache[kind] = copy;
    row->message->cache_len[kind] = bytes.len;
    return 0;
}

static void apply(struct mbox_flags *flags, enum mbox_flags_mode mode, struct mbox_flags change)
{
    if (mode == MBOX_FLAGS_SET)
        *flags = change;
    else if (mode == MBOX_FLAGS_ADD)
        *flags = (struct mbox_flags){flags->system | change.system, flags->keywords | change.keywords};
    else
        *flags = (struct mbox_flags){flags->system & ~change.system, flags->keywords & ~change.keywords};
}

int mbox_set_flags(struct mbox *b, const struct numset *uids, enum mbox_flags_mode mode, struct mbox_flags flags,
                   uint64_t unchanged_since, struct numset *ret_modified)
{
    for (uint32_t i = 0; i < b->count; i++) {
        struct shown *row = &b->rows[i];
        struct mbox_flags before;

        if (row->is_gone || !numset_has(uids, row->uid))
            continue;
        if (row->message->info.modseq > unchanged_since) {
            (void)numset_add(ret_modified, row->uid, row->uid);
            continue;
        }
        before = row->message->info.flags;
        apply(&row->message->info.flags, mode, flags);
        if (before.system != row->message->info.flags.system || before.keywords != row->message->info.flags.keywords)
            row->message->info.modseq = ++b->data->modseq;
        row->modseq = row->message->info.modseq;
    }
    return 0;
}

void imap_store_take_out(struct mbox_store *s, struct box_data *d, uint32_t uid)
{
    for (uint32_t i = 0; i < d->count; i++) {
        if (d->messages[i]->info.uid != uid)
            continue;
        for (struct mbox *v = s->views; v; v = v->next)
            for (uint32_t k = 0; k < v->count; k++)
                if (v->rows[k].message == d->messages[i])
                    v->rows[k] = (struct shown){.uid = uid, .is_gone = true};
        imap_store_free_message(d->messages[i]);
        memmove(&d->messages[i], &d->messages[i + 1], (d->count - i - 1) * sizeof(d->messages[0]));
        d->count--;
        d->modseq++;
        (void)numset_add(&d->gone, uid, uid);
        return;
    }
}

int mbox_expunge(struct mbox *b, const struct numset *uids, struct numset *ret_uids)
{
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t uid = b->rows[i].uid;

        if (b->rows[i].is_gone || !(b->rows[i].message->info.flags.system & MBOX_DELETED) ||
            (uids && !numset_has(uids, uid)))
            continue;
        imap_store_take_out(b->store, b->data, uid);
        if (ret_uids)
            (void)numset_add(ret_uids, uid, uid);
    }
    return 0;
}

int mbox_remove(struct mbox *b, const struct numset *uids, struct numset *ret_uids)
{
    return -EROFS;
}

struct message_data *imap_store_put(struct mbox_store *s, struct box_data *d, const char *bytes, size_t len)
{
    struct message_data *m = calloc(1, sizeof(*m));

    if (!m || d->count == MESSAGES)
        abort();
    m->bytes = malloc(len + 1);
    assert(m->bytes);
    memcpy(m->bytes, bytes, len);
    m->len = len;
    m->info = (struct mbox_info){.uid = d->uidnext++,
                                 .modseq = ++d->modseq,
                                 .size = len,
                                 .internaldate = clock_now(s->clock),
                                 .savedate = clock_now(s->clock)};
    m->info.hash[0] = (uint8_t)len;
    d->messages[d->count++] = m;
    return m;
}

int mbox_copy(struct mbox *b, const struct numset *uids, struct str destination, bool move, struct numset *ret_from,
              struct numset *ret_to, uint32_t *ret_uidvalidity)
{
    struct box_data *to = imap_store_find(b->store, destination);

    if (!to)
        return -ENOENT;
    for (uint32_t i = 0; i < b->count; i++) {
        struct message_data *m = b->rows[i].message, *copy;
        uint32_t uid = b->rows[i].uid;

        if (b->rows[i].is_gone || !numset_has(uids, uid))
            continue;
        copy = imap_store_put(b->store, to, m->bytes, m->len);
        copy->info.flags.system = m->info.flags.system;
        (void)numset_add(ret_from, uid, uid);
        (void)numset_add(ret_to, copy->info.uid, copy->info.uid);
        if (move)
            imap_store_take_out(b->store, b->data, uid);
    }
    *ret_uidvalidity = to->uidvalidity;
    return 0;
}

void store_cut(unsigned pieces)
{
    cut_after = pieces;
}
