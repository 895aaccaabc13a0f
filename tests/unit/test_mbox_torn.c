/*
 * Appends that a crash cut off after every possible byte: what was acknowledged stays as it was, what was not is gone.
 */
#include "tests/unit/mbox_util.h"

#include "shared/mbox/recover.h"

static const char first[] = "Subject: acknowledged\r\n\r\nFrom the beginning\r\n\r\n";
static const char second[] = "Subject: not\r\n\r\nany more\r\n";

/* Makes the file with the first message, *ret_old long, and with two more behind it that were appended together. */
static char *make_file(struct scratch *s, bool is_foreign, size_t *ret_old, size_t *ret_new)
{
    struct mbox_append_options options = {.sender = STR("x")};
    struct mbox_append *a;
    uint32_t validity, uid;
    char *old;

    if (is_foreign)
        write_file(s->inbox, "From a Sat Nov 14 12:00:00 2026\nSubject: acknowledged\n\nFrom the beginning\n\n", 76);
    else
        append_text(s->store, "INBOX", first, sizeof(first) - 1);
    old = read_file(s->inbox, ret_old);
    free(old);
    assert_int_equal(mbox_append_new(s->store, STR("INBOX"), &a), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mbox_append_message(a, &options), 0);
        assert_int_equal(mbox_append_write(a, second, sizeof(second) - 1), 0);
    }
    assert_int_equal(mbox_append_commit(a, &validity, &uid), 0);
    mbox_append_free(a);
    return read_file(s->inbox, ret_new);
}

enum how { WITH_STATE, STATE_LOST, BY_DELIVER, BY_RECOVERY, HOWS };

static void reopen(struct scratch *s, enum how how)
{
    struct mbox_store_options plain = {
        .inbox = s->inbox, .owner = getuid(), .clock = &s->clock, .keeper = -1, .lock_timeout = 5};
    struct mbox_store *store;

    if (how == BY_DELIVER) {
        assert_int_equal(mbox_store_new(&plain, &store), 0);
        append_text(store, "INBOX", "Subject: later\n\nl\n", 18);
        mbox_store_free(store);
    } else if (how == BY_RECOVERY) {
        assert_int_equal(mbox_recover(s->store), 0);
    } else if (how == STATE_LOST) {
        remove_tree(s->state);
        mbox_store_free(s->store);
        scratch_store(s);
    }
}

static void try_cut(bool is_foreign, enum how how, size_t cut, bool has_nuls)
{
    struct scratch s;
    size_t old_len, new_len;
    struct mbox *v;
    char *text;

    scratch_open(&s);
    text = make_file(&s, is_foreign, &old_len, &new_len);
    /* As if the state had never heard of the second: the one that knew the first only. */
    remove_tree(s.state);
    mbox_store_free(s.store);
    write_file(s.inbox, text, old_len);
    scratch_store(&s);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 1);
    assert_int_equal(mbox_close(v), 0);
    if (has_nuls)
        memset(text + old_len + cut, 0, new_len - old_len - cut);
    write_file(s.inbox, text, has_nuls ? new_len : old_len + cut);
    reopen(&s, how);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    if (mbox_count(v) != (how == BY_DELIVER ? 2 : 1))
        print_message("foreign %d how %d cut %zu nuls %d\n", is_foreign, how, cut, has_nuls);
    assert_int_equal(mbox_count(v), how == BY_DELIVER ? 2 : 1);
    assert_message(v, 1, is_foreign ? "Subject: acknowledged\r\n\r\nFrom the beginning\r\n" : first);
    if (how == BY_DELIVER)
        assert_message(v, 2, "Subject: later\r\n\r\nl\r\n");
    assert_int_equal(mbox_close(v), 0);
    free(text);
    scratch_close(&s);
}

static void try_all(bool is_foreign, enum how how, bool has_nuls)
{
    struct scratch s;
    size_t old_len, new_len;

    scratch_open(&s);
    free(make_file(&s, is_foreign, &old_len, &new_len));
    scratch_close(&s);
    for (size_t cut = 0; cut < new_len - old_len; cut += cut < 40 || new_len - old_len - cut < 4 ? 1 : 13)
        try_cut(is_foreign, how, cut, has_nuls);
}

static void test_torn(void **state)
{
    (void)state;
    for (int how = 0; how < HOWS; how++) {
        try_all(false, (enum how)how, false);
        try_all(true, (enum how)how, false);
    }
}

static void test_nuls(void **state)
{
    (void)state;
    try_all(false, WITH_STATE, true);
    try_all(true, WITH_STATE, true);
}

/* What somebody has seen is never cut, whatever an editor did to it. */
static void test_seen_is_kept(void **state)
{
    struct scratch s;
    struct mbox *v;
    size_t len;
    char *text;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", first, sizeof(first) - 1);
    append_text(s.store, "INBOX", second, sizeof(second) - 1);
    text = read_file(s.inbox, &len);
    write_file(s.inbox, text, len - 6);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 2);
    assert_message(v, 2, "Subject: not\r\n\r\nany \r\n");
    assert_int_equal(mbox_close(v), 0);
    free(text);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torn),
        cmocka_unit_test(test_nuls),
        cmocka_unit_test(test_seen_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
