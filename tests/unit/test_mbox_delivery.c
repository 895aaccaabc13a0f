/*
 * What deliveries leave in the mailbox besides the message: X-IMAPbase, and the times by which others find new mail.
 */
#include "tests/unit/mbox_util.h"

#include <fcntl.h>
#include <time.h>

static void deliver_next(struct mbox_append *a)
{
    static const char mail[] = "Subject: x\n\nbody\n";
    const struct mbox_append_options options = {.sender = STR("a@b")};
    uint32_t validity, uid;

    assert_int_equal(mbox_append_message(a, &options), 0);
    assert_int_equal(mbox_append_write(a, mail, strlen(mail)), 0);
    assert_int_equal(mbox_append_commit(a, &validity, &uid), 0);
}

static void expunge_first(const struct scratch *s)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    struct mbox_info info;
    struct mbox *v;

    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_info(v, 1, &info), 0);
    assert_int_equal(numset_add(&uids, info.uid, info.uid), 0);
    assert_int_equal(mbox_remove(v, &uids, NULL), 0);
    assert_int_equal(mbox_close(v), 0);
}

/* Shells, biff and mutt call mail new while the file was changed after it was read. */
static void test_no_reader(void **state)
{
    static const char old[] = "From x@y Thu Jan  1 00:00:00 2015\nSubject: x\n\nold\n\n";
    const struct timespec times[2] = {{.tv_sec = 1500000000}, {.tv_sec = 1500000000}};
    struct mbox_store *store;
    struct mbox_append *a;
    struct scratch s;
    struct stat st;

    (void)state;
    scratch_open(&s);
    if (!has_relatime(&s)) {
        scratch_close(&s);
        skip();
    }
    write_file(s.inbox, old, strlen(old));
    assert_int_equal(utimensat(AT_FDCWD, s.inbox, times, 0), 0);
    a = open_delivery(&s, 5, &store);
    for (int i = 0; i < 3; i++) {
        deliver_next(a);
        assert_int_equal(stat(s.inbox, &st), 0);
        assert_int_equal(st.st_atim.tv_sec, times[0].tv_sec);
        assert_true(st.st_mtim.tv_sec > times[1].tv_sec);
    }
    mbox_append_free(a);
    mbox_store_free(store);
    scratch_close(&s);
}

/* X-IMAPbase of the first message that is there, whichever that is now, names the last UID. */
static void test_base_moves_on(void **state)
{
    struct mbox_store *store;
    struct mbox_append *a;
    struct scratch s;

    (void)state;
    scratch_open(&s);
    a = open_delivery(&s, 5, &store);
    for (unsigned last = 1; last < 16; last++) {
        _cleanup_free_ char *text = NULL;
        char *base, *end;
        size_t len;

        deliver_next(a);
        text = read_file(s.inbox, &len);
        base = memmem(text, len, "X-IMAPbase: ", 12);
        assert_non_null(base);
        (void)strtoul(base + 12, &end, 10);
        assert_int_equal(strtoul(end, NULL, 10), last);
        if (last % 3 != 1)
            expunge_first(&s);
    }
    mbox_append_free(a);
    mbox_store_free(store);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_reader),
        cmocka_unit_test(test_base_moves_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
