/*
 * A reader like mutt, which knows a mailbox by its size and by the From_ line just where it ended: whatever comes and
 * goes, it never takes a file in which messages have moved for the one that it has read.
 */
#include <stdio.h>

#include "tests/unit/mbox_util.h"

#include "shared/base/macros.h"

#define SEEN   5 /* so many moments are remembered */
#define STEPS  400
#define PLACES 512 /* messages at most */

/* What was there in one moment. */
struct seen {
    size_t size;
    size_t count;
    size_t places[PLACES];
};

static struct seen seen[SEEN];

static unsigned next_random(unsigned most)
{
    static uint32_t state = 12345;

    state = state * 1664525u + 1013904223u;
    return (state >> 16) % most;
}

static void look(const char *path, struct seen *ret)
{
    char *text = read_file(path, &ret->size), *at = text;

    ret->count = 0;
    while (at < text + ret->size && (at = memmem(at, ret->size - (size_t)(at - text), "From ", 5)) != NULL) {
        if (at == text || at[-1] == '\n') {
            assert_true(ret->count < PLACES);
            ret->places[ret->count++] = (size_t)(at - text);
        }
        at += 5;
    }
    free(text);
}

static void assert_not_mistaken(const struct seen *then, const struct seen *now)
{
    bool is_same = now->size == then->size;

    for (size_t i = 0; i < now->count; i++)
        is_same |= now->places[i] == then->size;
    if (!is_same)
        return;
    assert_true(now->count >= then->count);
    assert_memory_equal(now->places, then->places, then->count * sizeof(*now->places));
}

static void append_some(struct scratch *s, const char *text, size_t size)
{
    for (unsigned n = 1 + next_random(3); n > 0; n--)
        append_text(s->store, "INBOX", text, size);
}

static void remove_some(struct mbox *v)
{
    struct numset uids = NUMSET_INIT;
    struct mbox_info info;
    uint32_t count = mbox_count(v), seq = 1 + next_random(count), most = 1 + next_random(2);

    for (uint32_t i = seq; i < seq + most && i <= count; i++)
        if (mbox_info(v, i, &info) == 0)
            assert_int_equal(numset_add(&uids, info.uid, info.uid), 0);
    assert_int_equal(mbox_remove(v, &uids, NULL), 0);
    numset_finish(&uids);
}

/* Messages of one length, or few: what else would make sizes come back so often? */
static void run(const size_t *sizes, size_t size_count)
{
    static struct seen now;
    static char text[20000];
    struct scratch s;
    struct mbox *v;

    memset(text, '\n', sizeof(text));
    memcpy(text, "Subject: equal\n", 15);
    memset(seen, 0, sizeof(seen));
    scratch_open(&s);
    for (int i = 0; i < 8; i++)
        append_text(s.store, "INBOX", text, sizes[0]);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    for (unsigned step = 0; step < STEPS; step++) {
        uint32_t count = mbox_count(v);

        if (count < 6 || (count < 40 && next_random(2) == 0))
            append_some(&s, text, sizes[next_random((unsigned)size_count)]);
        else
            remove_some(v);
        poll_ok(v);
        look(s.inbox, &now);
        assert_int_equal(now.count, mbox_count(v));
        for (size_t i = 0; i < SEEN && seen[i].size > 0; i++)
            assert_not_mistaken(&seen[i], &now);
        seen[step % SEEN] = now;
    }
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

static void test_small(void **state)
{
    static const size_t sizes[] = {600};

    (void)state;
    run(sizes, ARRAY_SIZE(sizes));
}

static void test_large(void **state)
{
    static const size_t sizes[] = {8000};

    (void)state;
    run(sizes, ARRAY_SIZE(sizes));
}

static void test_mixed(void **state)
{
    static const size_t sizes[] = {600, 616, 1200, 5000, 19000};

    (void)state;
    run(sizes, ARRAY_SIZE(sizes));
}

#define FOREIGN 24u

/* A mailbox of another program's with messages of this length, before and after all of them got a block. */
static void grow(size_t length, struct seen *before, struct seen *after)
{
    static char all[FOREIGN * 2000];
    struct mbox_flags flags = {.system = MBOX_FLAGGED};
    struct numset uids = NUMSET_INIT;
    struct scratch s;
    struct mbox *v;
    char *at = all;

    for (unsigned n = 0; n < FOREIGN; n++, at += length) {
        memset(at, '\n', length);
        memcpy(at, "From a@b Thu Jan  1 00:00:00 2015\nSubject: x\n", 45);
    }
    scratch_open(&s);
    write_file(s.inbox, all, length * FOREIGN);
    look(s.inbox, before);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(numset_add(&uids, 2, FOREIGN), 0);
    assert_int_equal(mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), 0);
    assert_int_equal(mbox_flush(v), 0);
    assert_int_equal(mbox_close(v), 0);
    look(s.inbox, after);
    numset_finish(&uids);
    scratch_close(&s);
}

/* A length with which, once all have grown as they did with another one, a message begins where one of the last did. */
static size_t find_length(const struct seen *after, size_t length)
{
    for (size_t next = 60; next < 2000; next++)
        for (size_t i = 1; i < FOREIGN; i++) {
            size_t growth = after->places[i] - i * length, m = i + growth / next;

            if (growth % next == 0 && m > FOREIGN - 8 && m < FOREIGN)
                return next;
        }
    return 0;
}

static void test_growing(void **state)
{
    static struct seen before, after;
    size_t length;

    (void)state;
    grow(100, &before, &after);
    length = find_length(&after, 100);
    assert_true(length > 0);
    grow(length, &before, &after);
    assert_true(after.size > before.size);
    for (size_t i = FOREIGN - 8; i < FOREIGN; i++) {
        before.size = before.places[i];
        before.count = i;
        assert_not_mistaken(&before, &after);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small), cmocka_unit_test(test_large),
                                       cmocka_unit_test(test_mixed), cmocka_unit_test(test_growing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
