/*
 * The same for journal and state log: messages of any size, entries in any order.
 */
#include "tests/unit/mbox_util.h"

#include "shared/mbox/box.h"

#include <fcntl.h>

#define STRANGER "From a@example.org Sat Nov 14 12:00:00 2026\n"

/* Messages of a line or none, shorter than anything that a journal would like to write over them. */
static void test_tiny_messages(void **state)
{
    static const char tiny[] = "From Sat Nov 1 1:01 70\n\n";
    static const uint32_t order[] = {2, 4, 1, 3};

    (void)state;
    for (int all = 0; all < 2; all++) {
        struct scratch s;
        struct mbox *v;
        char text[256] = "";

        scratch_open(&s);
        for (int i = 0; i < 4; i++)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s", tiny);
        write_file(s.inbox, text, strlen(text));
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_count(v), 4);
        for (uint32_t i = 0; i < 4; i++) {
            struct numset uids = NUMSET_INIT;

            assert_int_equal(numset_add(&uids, all ? 1 : order[i], all ? 4 : order[i]), 0);
            assert_int_equal(mbox_remove(v, &uids, NULL), 0);
            numset_finish(&uids);
            poll_ok(v);
            assert_int_equal(mbox_count(v), all ? 0 : 3 - i);
        }
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

/* Flags that another program changed last are right even if the index is lost. */
static void test_foreign_flags_last(void **state)
{
    static const char *const status[] = {"", "Status: RO\n", "Status: O\n"};
    struct scratch s;
    struct numset one = NUMSET_INIT;
    struct mbox *views[4], *v;
    char *index;

    (void)state;
    scratch_open(&s);
    index = path_of(&s, "state/INBOX.index");
    assert_int_equal(numset_add(&one, 1, 1), 0);
    for (int i = 0; i < 4; i++) {
        struct mbox_info info;
        char text[256];

        snprintf(text, sizeof(text), STRANGER "Subject: x\n%s\nbody\n\n", status[i < 3 ? i : 2]);
        if (i < 3)
            write_file(s.inbox, text, strlen(text));
        else
            assert_int_equal(unlink(index), 0);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &views[i]), 0);
        v = views[i];
        if (i == 0)
            assert_int_equal(
                mbox_set_flags(v, &one, MBOX_FLAGS_ADD, (struct mbox_flags){.system = MBOX_SEEN}, UINT64_MAX, NULL), 0);
        assert_int_equal(mbox_info(v, 1, &info), 0);
        assert_int_equal(info.uid, 1);
        assert_int_equal(info.flags.system, i < 2 ? MBOX_SEEN : 0);
    }
    for (int i = 0; i < 4; i++) /* not before: that writes flags into the file */
        assert_int_equal(mbox_close(views[i]), 0);
    numset_finish(&one);
    free(index);
    scratch_close(&s);
}

/* The log tells of UIDs in any order: reading it takes no longer for that. */
static void test_log_backwards(void **state)
{
    struct scratch s;
    struct mbox *v;
    struct mbox_info info;
    char *index;
    FILE *f;

    (void)state;
    scratch_open(&s);
    index = path_of(&s, "state/INBOX.index");
    f = fopen(s.inbox, "w");
    for (unsigned i = 1; i <= 3000; i++)
        fprintf(f, STRANGER "%sX-UID: %u\nSubject: %u\n\nx\n\n", i == 1 ? "X-IMAPbase: 7 3000\n" : "", i, i);
    fclose(f);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    for (uint32_t uid = 3000; uid >= 1; uid -= 3) {
        struct numset one = NUMSET_INIT;

        assert_int_equal(numset_add(&one, uid, uid), 0);
        assert_int_equal(
            mbox_set_flags(v, &one, MBOX_FLAGS_ADD, (struct mbox_flags){.system = MBOX_FLAGGED}, UINT64_MAX, NULL), 0);
        numset_finish(&one);
        if (uid < 4)
            break;
    }
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(unlink(index), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    for (uint32_t seq = 1; seq <= 3000; seq++) {
        assert_int_equal(mbox_info(v, seq, &info), 0);
        assert_int_equal(info.uid, seq);
        assert_int_equal(info.flags.system, seq % 3 == 0 ? MBOX_FLAGGED : 0);
    }
    assert_int_equal(mbox_close(v), 0);
    free(index);
    scratch_close(&s);
}

/* A session that shows mailboxes without a state is killed: the next one removes the folder it made. */
static void test_shadow_of_the_killed(void **state)
{
    struct scratch s;
    struct mbox *v;
    char *path;
    char left[128] = "";
    int ends[2], status;
    pid_t child;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    path = path_of(&s, "inbox/state"); /* below a file */
    free(s.store->state);
    s.store->state = path;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    child = fork();
    if (child == 0) {
        if (mbox_open(s.store, STR("INBOX"), 0, &v) == 0)
            (void)!write(ends[1], s.store->shadow->state, strlen(s.store->shadow->state));
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(read(ends[0], left, sizeof(left) - 1) > 0);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(access(left, F_OK), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 1);
    assert_int_equal(access(left, F_OK), -1);
    assert_int_equal(access(s.store->shadow->state, F_OK), 0);
    snprintf(left, sizeof(left), "%s", s.store->shadow->state);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
    assert_int_equal(access(left, F_OK), -1);
}

/* A view's facts promise nothing that it has not told (RFC 7162 3.2): HIGHESTMODSEQ grows with the poll. */
static void test_view_status(void **state)
{
    static const char mail[] = "From a@example.org Sat Nov 14 12:00:00 2026\nSubject: one\n\nx\n";
    const struct mbox_flags seen = {.system = MBOX_SEEN};
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    struct mbox_status before, now;
    struct mbox *one, *other;
    struct scratch s;

    (void)state;
    scratch_open(&s);
    write_file(s.inbox, mail, sizeof(mail) - 1);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &one), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &other), 0);
    assert_int_equal(mbox_view_status(one, &before), 0);
    assert_int_equal(numset_add(&uids, 1, 1), 0);
    assert_int_equal(mbox_set_flags(other, &uids, MBOX_FLAGS_ADD, seen, UINT64_MAX, NULL), 0);
    assert_int_equal(mbox_view_status(one, &now), 0);
    assert_int_equal(now.highestmodseq, before.highestmodseq);
    poll_ok(one);
    assert_int_equal(mbox_view_status(one, &now), 0);
    assert_true(now.highestmodseq > before.highestmodseq);
    assert_int_equal(mbox_close(one), 0);
    assert_int_equal(mbox_close(other), 0);
    scratch_close(&s);
}

/* Bytes that this process has read. */
static uint64_t bytes_read(void)
{
    unsigned long long n = 0;
    FILE *f = fopen("/proc/self/io", "r");

    assert_non_null(f);
    assert_int_equal(fscanf(f, "rchar: %llu", &n), 1);
    assert_int_equal(fclose(f), 0);
    return n;
}

/* Mail that comes to a large mailbox of few messages: the old ones are not read again, let alone again and again. */
static void test_growth_of_few(void **state)
{
    static const char from[] = "From a Sat Nov 14 12:00:00 2026\nSubject: a\n\n", small[] = "x\n\n";
    const size_t large = 34u << 20;
    char *text = malloc(large);
    uint64_t before;
    struct scratch s;
    struct mbox *v;
    FILE *f;

    (void)state;
    scratch_open(&s);
    memset(text, 'x', large);
    memcpy(text, from, sizeof(from) - 1);
    for (size_t i = 100; i < large; i += 100)
        text[i] = '\n';
    memcpy(text + large - 2, "\n\n", 2);
    f = fopen(s.inbox, "w");
    assert_non_null(f);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fwrite(text, large, 1, f), 1);
    fprintf(f, "%s%s", from, small);
    assert_int_equal(fclose(f), 0);
    free(text);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    f = fopen(s.inbox, "a");
    assert_non_null(f);
    fprintf(f, "%s%s", from, small);
    assert_int_equal(fclose(f), 0);
    before = bytes_read();
    poll_ok(v);
    assert_true(bytes_read() - before < 4u << 20);
    assert_int_equal(mbox_count(v), 4);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_messages), cmocka_unit_test(test_foreign_flags_last),
        cmocka_unit_test(test_log_backwards), cmocka_unit_test(test_shadow_of_the_killed),
        cmocka_unit_test(test_growth_of_few), cmocka_unit_test(test_view_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
