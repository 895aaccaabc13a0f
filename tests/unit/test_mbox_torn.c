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

/* Without a state a whole message stays even if it was appended together with one that is not there: somebody may have
 * removed that one. */
static bool may_stay(const char *text, size_t old_len, size_t cut, enum how how)
{
    const char *from = strstr(text + old_len + 5, "\n\nFrom x ") + 2, *marker = strchr(from, '\n');

    return (how == STATE_LOST || how == BY_DELIVER) && cut >= (size_t)(from - text) - old_len &&
           cut <= (size_t)(strchr(marker + 1, '\n') - text) - old_len;
}

static void try_cut(bool is_foreign, enum how how, size_t cut, bool has_nuls)
{
    struct scratch s;
    size_t old_len, new_len;
    struct mbox *v;
    char *text;
    uint32_t stays;

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
    stays = may_stay(text, old_len, cut, how);
    if (has_nuls)
        memset(text + old_len + cut, 0, new_len - old_len - cut);
    write_file(s.inbox, text, has_nuls ? new_len : old_len + cut);
    reopen(&s, how);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    if (mbox_count(v) != stays + (how == BY_DELIVER ? 2 : 1))
        print_message("foreign %d how %d cut %zu nuls %d\n", is_foreign, how, cut, has_nuls);
    assert_int_equal(mbox_count(v), stays + (how == BY_DELIVER ? 2 : 1));
    assert_message(v, 1, is_foreign ? "Subject: acknowledged\r\n\r\nFrom the beginning\r\n" : first);
    if (stays)
        assert_message(v, 2, second);
    if (how == BY_DELIVER)
        assert_message(v, 2 + stays, "Subject: later\r\n\r\nl\r\n");
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

/* The last of two that were appended together is removed, by us or by another program: the other one is no torn append
 * for those who do not know the state. */
static void try_shortened(enum how how, bool is_foreign)
{
    struct numset uids = NUMSET_INIT;
    struct scratch s;
    size_t old_len, new_len;
    struct mbox *v;
    char *text;

    scratch_open(&s);
    text = make_file(&s, false, &old_len, &new_len);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 3);
    assert_int_equal(numset_add(&uids, 3, 3), 0);
    if (!is_foreign)
        assert_int_equal(mbox_remove(v, &uids, NULL), 0);
    assert_int_equal(mbox_close(v), 0);
    if (is_foreign)
        write_file(s.inbox, text, (size_t)(strstr(text + old_len + 5, "\n\nFrom x ") + 2 - text));
    reopen(&s, how);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), how == BY_DELIVER ? 3 : 2);
    assert_message(v, 2, second);
    assert_int_equal(mbox_close(v), 0);
    numset_finish(&uids);
    free(text);
    scratch_close(&s);
}

static void test_batch_shortened(void **state)
{
    (void)state;
    for (int how = 0; how < HOWS; how++) {
        try_shortened((enum how)how, false);
        try_shortened((enum how)how, true);
    }
}

/* A program that writes its own flags, as mutt does, makes the last message shorter than its marker says. */
static void try_edited(enum how how)
{
    struct scratch s;
    struct mbox *v;
    size_t len;
    char *text, *block, *end;

    scratch_open(&s);
    append_text(s.store, "INBOX", first, sizeof(first) - 1);
    remove_tree(s.state);
    mbox_store_free(s.store);
    scratch_store(&s);
    text = read_file(s.inbox, &len);
    block = strstr(text, "X-UID:");
    end = strstr(text, "Subject:");
    memmove(block, end, strlen(end) + 1);
    end = strstr(text, "\n\n") + 1;
    memmove(end + 20, end, strlen(end) + 1);
    memcpy(end, "Status: RO\nLines: 3\n", 20);
    assert_true(strlen(text) < len);
    write_file(s.inbox, text, strlen(text));
    reopen(&s, how);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), how == BY_DELIVER ? 2 : 1);
    assert_message(v, 1, first);
    assert_int_equal(mbox_close(v), 0);
    free(text);
    scratch_close(&s);
}

static void test_edited_is_kept(void **state)
{
    (void)state;
    for (int how = 0; how < HOWS; how++)
        try_edited((enum how)how);
}

/* Appends `count` messages of `lines` lines each together. */
static void append_many(struct mbox_store *store, int count, int lines)
{
    struct mbox_append_options options = {.sender = STR("x")};
    struct mbox_append *a;
    uint32_t validity, uid;

    assert_int_equal(mbox_append_new(store, STR("INBOX"), &a), 0);
    for (int i = 0; i < count; i++) {
        assert_int_equal(mbox_append_message(a, &options), 0);
        assert_int_equal(mbox_append_write(a, "Subject: torn\n\n", 15), 0);
        for (int k = 0; k < lines; k++)
            assert_int_equal(mbox_append_write(a, "From whom comes this line\n", 26), 0);
    }
    assert_int_equal(mbox_append_commit(a, &validity, &uid), 0);
    mbox_append_free(a);
}

#define BLOCK 4096u

/* A power cut keeps block `lost` of an append (from 0) from the disk; the first message ends `gap` bytes before the end
 * of a block, so that the From_ line may be torn at every byte. */
static void try_hole(enum how how, size_t gap, int count, size_t lost)
{
    struct scratch s;
    size_t old_len, new_len, from, to;
    struct mbox *v;
    char *text;

    scratch_open(&s);
    memset(text = malloc(2 * BLOCK), 'x', 2 * BLOCK);
    memcpy(text, "From a Sat Nov 14 12:00:00 2026\nSubject: a\n\n", 45);
    memcpy(text + BLOCK - gap - 2, "\n\n", 2);
    write_file(s.inbox, text, BLOCK - gap);
    free(text);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_close(v), 0);
    free(read_file(s.inbox, &old_len));
    append_many(s.store, count, 700);
    text = read_file(s.inbox, &new_len);
    from = (old_len / BLOCK + lost) * BLOCK;
    to = from + BLOCK;
    from = from < old_len ? old_len : from;
    memset(text + from, 0, to - from);
    write_file(s.inbox, text, new_len);
    free(text);
    remove_tree(s.state);
    mbox_store_free(s.store);
    scratch_store(&s);
    reopen(&s, how);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    if (mbox_count(v) != (how == BY_DELIVER ? 2 : 1))
        print_message("how %d gap %zu count %d lost %zu\n", how, gap, count, lost);
    assert_int_equal(mbox_count(v), how == BY_DELIVER ? 2 : 1);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* The block in which an append begins is lost: of one message, and of the first of several. */
static void test_first_block_lost(void **state)
{
    (void)state;
    for (size_t gap = 0; gap <= 150; gap += gap < 50 ? 3 : 17)
        for (int count = 1; count <= 2; count++)
            for (size_t lost = 0; lost <= 1; lost++)
                try_hole(gap % 2 ? WITH_STATE : BY_RECOVERY, gap, count, lost);
    try_hole(BY_DELIVER, 20, 2, 1);
}

/* An append that somebody else acknowledged behind a torn one, which it could not see: it stays. */
static void test_later_is_kept(void **state)
{
    struct mbox_store_options plain;
    struct mbox_store *store;
    struct scratch s;
    struct mbox *v;
    size_t len;
    char *text;

    (void)state;
    scratch_open(&s);
    plain = (struct mbox_store_options){
        .inbox = s.inbox, .owner = getuid(), .clock = &s.clock, .keeper = -1, .lock_timeout = 5};
    append_text(s.store, "INBOX", first, sizeof(first) - 1);
    append_many(s.store, 1, 8000);
    text = read_file(s.inbox, &len);
    memset(text + BLOCK, 0, BLOCK);
    write_file(s.inbox, text, len);
    free(text);
    remove_tree(s.state);
    mbox_store_free(s.store);
    assert_int_equal(mbox_store_new(&plain, &store), 0);
    append_text(store, "INBOX", "Subject: later\n\nl\n", 18);
    mbox_store_free(store);
    scratch_store(&s);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 3);
    assert_message(v, 1, first);
    assert_message(v, 3, "Subject: later\r\n\r\nl\r\n");
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* Zeros behind a last line that had no end: the message is as it was. */
static void test_unended(void **state)
{
    static const char text[] = "From a Sat Nov 14 12:00:00 2026\nSubject: a\n\nno end\0\0";
    struct scratch s;
    struct mbox *v;

    (void)state;
    scratch_open(&s);
    write_file(s.inbox, text, sizeof(text) - 1);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_message(v, 1, "Subject: a\r\n\r\nno end\r\n");
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torn),           cmocka_unit_test(test_nuls),
        cmocka_unit_test(test_seen_is_kept),   cmocka_unit_test(test_batch_shortened),
        cmocka_unit_test(test_edited_is_kept), cmocka_unit_test(test_first_block_lost),
        cmocka_unit_test(test_later_is_kept),  cmocka_unit_test(test_unended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
