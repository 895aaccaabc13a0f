/*
 * The store in memory, second half: appending and folders, and what others do.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/imap_store.h"
#include "tests/unit/imap_store_parts.h"

int mbox_append_new(struct mbox_store *s, struct str name, struct mbox_append **ret)
{
    struct box_data *to = imap_store_find(s, name);

    if (!to)
        return -ENOENT;
    *ret = calloc(1, sizeof(**ret));
    assert(*ret);
    (*ret)->store = s;
    (*ret)->to = to;
    return 0;
}

void mbox_append_free(struct mbox_append *a)
{
    if (!a)
        return;
    for (unsigned i = 0; i < a->count; i++) {
        if (a->messages[i])
            imap_store_free_message(a->messages[i]);
        for (size_t k = 0; k < a->keywords[i].count; k++)
            free(a->keywords[i].names[k]);
    }
    free(a);
}

int mbox_append_message(struct mbox_append *a, const struct mbox_append_options *options)
{
    struct message_data *m = calloc(1, sizeof(*m));

    assert(m);
    m->info.flags = options->flags;
    m->info.internaldate = options->internaldate;
    m->info.internaldate_offset = options->internaldate_offset;
    for (size_t k = 0; k < options->keyword_count; k++)
        a->keywords[a->count].names[a->keywords[a->count].count++] = str_dup(options->keywords[k]);
    a->messages[a->count++] = m;
    return 0;
}

int mbox_append_write(struct mbox_append *a, const void *data, size_t len)
{
    struct message_data *m = a->messages[a->count - 1];

    m->bytes = realloc(m->bytes, m->len + len);
    assert(m->bytes);
    memcpy(m->bytes + m->len, data, len);
    m->len += len;
    return memmem(m->bytes, m->len, "NOSPACE", 7) ? -ENOSPC : 0;
}

int mbox_append_commit(struct mbox_append *a, uint32_t *ret_uidvalidity, uint32_t *ret_first_uid)
{
    *ret_uidvalidity = a->to->uidvalidity;
    *ret_first_uid = a->to->uidnext;
    for (unsigned i = 0; i < a->count; i++) {
        struct message_data *m = imap_store_put(a->store, a->to, a->messages[i]->bytes, a->messages[i]->len);

        m->info.flags = a->messages[i]->info.flags;
        if (a->messages[i]->info.internaldate)
            m->info.internaldate = a->messages[i]->info.internaldate;
        m->info.internaldate_offset = a->messages[i]->info.internaldate_offset;
        for (size_t k = 0; k < a->keywords[i].count; k++) {
            unsigned n;

            if (imap_store_keyword(a->to, str_from(a->keywords[i].names[k]), true, &n) >= 0)
                m->info.flags.keywords |= UINT64_C(1) << n;
        }
    }
    return 0;
}

static bool has_children(struct mbox_store *s, const char *name)
{
    size_t len = strlen(name);

    for (unsigned i = 0; i < BOXES; i++)
        if (s->boxes[i].name && strncmp(s->boxes[i].name, name, len) == 0 && s->boxes[i].name[len] == '/')
            return true;
    return false;
}

static int compare_names(const void *a, const void *b)
{
    const struct box_data *x = *(struct box_data *const *)a, *y = *(struct box_data *const *)b;

    return strcmp(x->name, "INBOX") == 0 ? -1 : strcmp(y->name, "INBOX") == 0 ? 1 : strcmp(x->name, y->name);
}

int mbox_list(struct mbox_store *s, int (*visit)(void *context, struct str name, unsigned flags), void *context)
{
    struct box_data *all[BOXES];
    unsigned count = 0;
    int r = 0;

    for (unsigned i = 0; i < BOXES; i++)
        if (s->boxes[i].name)
            all[count++] = &s->boxes[i];
    qsort(all, count, sizeof(all[0]), compare_names);
    for (unsigned i = 0; i < count && r == 0; i++)
        r = visit(context, str_from(all[i]->name),
                  (all[i]->is_directory ? MBOX_ENTRY_NOSELECT : 0u) |
                      (all[i]->is_subscribed ? MBOX_ENTRY_SUBSCRIBED : 0u) |
                      (has_children(s, all[i]->name) ? MBOX_ENTRY_HAS_CHILDREN : 0u));
    return r;
}

int mbox_name_check(struct str name)
{
    return name.len == 0 || name.len > 200 || str_find(name, STR("..")) >= 0 || str_find(name, STR("//")) >= 0 ||
                   name.ptr[0] == '/'
               ? -EINVAL
               : 0;
}

static int next_error;

void store_fail(int error)
{
    next_error = error;
}

int mbox_create(struct mbox_store *s, struct str name)
{
    int error = next_error;

    next_error = 0;
    if (error < 0)
        return error;
    if (mbox_name_check(name) < 0)
        return -EINVAL;
    if (imap_store_find(s, name))
        return -EEXIST;
    for (unsigned i = 0; i < BOXES; i++) {
        struct box_data *d = &s->boxes[i];

        if (d->name)
            continue;
        *d = (struct box_data){.name = str_dup(name), .uidvalidity = 1000 + ++s->serial, .uidnext = 1, .modseq = 1};
        d->number = s->serial;
        return 0;
    }
    return -ENOSPC;
}

int mbox_delete(struct mbox_store *s, struct str name)
{
    struct box_data *d = imap_store_find(s, name);

    if (!d)
        return -ENOENT;
    if (d->is_directory)
        return -ENOTEMPTY;
    if (has_children(s, d->name))
        d->is_directory = true;
    else
        imap_store_clear(d);
    return 0;
}

int mbox_rename(struct mbox_store *s, struct str from, struct str to)
{
    struct box_data *d = imap_store_find(s, from);

    if (!d)
        return -ENOENT;
    if (mbox_name_check(to) < 0)
        return -EINVAL;
    if (imap_store_find(s, to))
        return -EEXIST;
    free(d->name);
    d->name = str_dup(to);
    return str_eq(from, STR("INBOX")) ? mbox_create(s, from) : 0;
}

int mbox_subscribe(struct mbox_store *s, struct str name, bool subscribed)
{
    struct box_data *d = imap_store_find(s, name);

    if (d)
        d->is_subscribed = subscribed;
    return mbox_name_check(name);
}

/* ---- what others do, and the session's look at it ---- */

/* A session in IDLE looks by itself, in a thread of its own, while the test does something. */
static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER;

int mbox_poll(struct mbox *b, bool keep_expunged, const struct mbox_changes *changes)
{
    int r;

    (void)pthread_mutex_lock(&looking);
    r = imap_store_poll(b, keep_expunged, changes);
    (void)pthread_mutex_unlock(&looking);
    return r;
}

/* The box, at which nobody looks until end(). */
static struct box_data *begin(const char *box)
{
    struct box_data *d;

    (void)pthread_mutex_lock(&looking);
    d = imap_store_find(imap_store_only, str_from(box));
    assert(d);
    return d;
}

static void end(void)
{
    (void)pthread_mutex_unlock(&looking);
}

void store_deliver(const char *box, const char *text)
{
    (void)imap_store_put(imap_store_only, begin(box), text, strlen(text));
    end();
}

void store_expunge(const char *box, uint32_t uid)
{
    imap_store_take_out(imap_store_only, begin(box), uid);
    end();
}

void store_flag(const char *box, uint32_t uid, uint32_t system)
{
    struct box_data *d = begin(box);

    for (uint32_t i = 0; i < d->count; i++) {
        if (d->messages[i]->info.uid != uid)
            continue;
        d->messages[i]->info.flags.system |= system;
        d->messages[i]->info.modseq = ++d->modseq;
    }
    end();
}
