/* The store in memory: see pop3_store.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/pop3_store.h"

struct mbox_store {
    int unused;
};

struct mbox {
    int unused;
};

struct mbox_stream {
    struct str rest;
    uint32_t seq;
    size_t given;
};

struct pop3_fake fake;

static struct mbox_store fake_store;
static struct mbox fake_box;

int mbox_store_new(const struct mbox_store_options *options, struct mbox_store **ret)
{
    *ret = &fake_store;
    return 0;
}

void mbox_store_free(struct mbox_store *s)
{
}

int mbox_store_notices(struct mbox_store *s, struct buf *out)
{
    return 0;
}

int mbox_open(struct mbox_store *s, struct str name, unsigned flags, struct mbox **ret)
{
    assert_int_equal(flags, MBOX_OPEN_POP3);
    if (fake.open_error)
        return fake.open_error;
    *ret = &fake_box;
    return 0;
}

void mbox_leave(struct mbox *b)
{
    fake.left++;
}

int mbox_close(struct mbox *b)
{
    fake.closed += b != NULL;
    return 0;
}

bool mbox_is_readonly(const struct mbox *b)
{
    return false;
}

uint32_t mbox_count(const struct mbox *b)
{
    return fake.count;
}

int mbox_poll(struct mbox *b, bool keep_expunged, const struct mbox_changes *changes)
{
    assert_true(keep_expunged);
    fake.is_replayed = fake.has_journal;
    return 0;
}

int mbox_info(struct mbox *b, uint32_t seq, struct mbox_info *ret)
{
    if (seq == 0 || seq > fake.count)
        return -EINVAL;
    *ret = (struct mbox_info){.uid = 100 + seq,
                              .is_expunged = fake.is_replayed,
                              .has_8bit = !str_is_ascii(str_from(fake.messages[seq - 1])),
                              .size = strlen(fake.messages[seq - 1]),
                              .flags.system = fake.flags[seq - 1],
                              .savedate = fake.saved[seq - 1]};
    return 0;
}

int mbox_view_status(struct mbox *b, struct mbox_status *ret)
{
    *ret = (struct mbox_status){.uidvalidity = 4711, .messages = fake.count};
    for (uint32_t i = 0; i < fake.count; i++)
        ret->size += strlen(fake.messages[i]);
    return 0;
}

int mbox_stream_new(struct mbox *b, uint32_t seq, struct mbox_stream **ret)
{
    if (seq == fake.vanished && !fake.vanishes_at)
        return -ESTALE;
    if (fake.read_error)
        return fake.read_error;
    *ret = calloc(1, sizeof(**ret));
    assert_non_null(*ret);
    (*ret)->rest = str_from(fake.messages[seq - 1]);
    (*ret)->seq = seq;
    return 0;
}

void mbox_stream_free(struct mbox_stream *m)
{
    free(m);
}

int mbox_stream_next(struct mbox_stream *m, struct str *ret_bytes)
{
    if (m->seq == fake.vanished && m->given >= fake.vanishes_at)
        return -ESTALE;
    *ret_bytes = str_sub(m->rest, 0, fake.piece);
    m->rest = str_sub(m->rest, fake.piece, m->rest.len);
    m->given += ret_bytes->len;
    return 0;
}

int mbox_set_flags(struct mbox *b, const struct numset *uids, enum mbox_flags_mode mode, struct mbox_flags flags,
                   uint64_t unchanged_since, struct numset *ret_modified)
{
    assert_int_equal(mode, MBOX_FLAGS_ADD);
    assert_int_equal(flags.system, MBOX_SEEN);
    return numset_add_set(&fake.seen, uids);
}

int mbox_remove(struct mbox *b, const struct numset *uids, struct numset *ret_uids)
{
    fake.removals++;
    if (fake.remove_error)
        return fake.remove_error;
    assert_int_equal(numset_add_set(&fake.removed, uids), 0);
    return numset_add_set(ret_uids, uids);
}
