/*
 * "You have new mail": shells, biff, finger and mutt say so of a mailbox whose mtime is later than its atime. It stays
 * true or untrue over whatever the store writes, but for what adds mail; and the index knows the file afterwards.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/unit/mbox_util.h"

#include "shared/base/macros.h"

#define TEXT "Subject: one\n\nbody\n"

#define HOUR 3600

static bool has_new(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_mtim.tv_sec > st.st_atim.tv_sec ||
           (st.st_mtim.tv_sec == st.st_atim.tv_sec && st.st_mtim.tv_nsec > st.st_atim.tv_nsec);
}

static struct stat facts_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st;
}

/* Nobody has read it since mail came, or somebody has. */
static void set_times(const char *path, bool is_new)
{
    time_t now = time(NULL);
    struct timespec times[2] = {{.tv_sec = is_new ? now - 2 * HOUR : now - HOUR / 2}, {.tv_sec = now - HOUR}};

    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(has_new(path), is_new);
}

/* The next opening reads nothing of it. */
static void assert_current(struct scratch *s)
{
    struct mbox_inspection found;

    assert_int_equal(mbox_inspect(s->store, STR("INBOX"), &found), 0);
    assert_true(found.is_index_whole);
    assert_true(found.is_index_current);
}

static struct mbox *open_inbox(struct scratch *s)
{
    struct mbox *v;

    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    return v;
}

static void start(struct scratch *s, unsigned count)
{
    scratch_open(s);
    for (unsigned i = 0; i < count; i++)
        append_text(s->store, "INBOX", TEXT, strlen(TEXT));
}

/* What a program without our sidecars delivers. */
static void append_foreign(const char *path, const char *text)
{
    FILE *f = fopen(path, "a");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void add_flags(struct mbox *v, uint32_t uid, struct mbox_flags flags)
{
    struct numset uids = NUMSET_INIT;

    assert_int_equal(numset_add(&uids, uid, uid), 0);
    assert_int_equal(mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), 0);
    numset_finish(&uids);
}

static uint64_t keyword(struct mbox *v, const char *name)
{
    unsigned n;

    assert_int_equal(mbox_keyword_number(v, str_from(name), true, &n), 0);
    return 1ull << n;
}

/* ---- flags ---- */

static void run_flush(bool is_new, bool is_polled)
{
    struct scratch s;
    struct mbox *v;
    struct stat before, after;

    start(&s, 3);
    v = open_inbox(&s);
    set_times(s.inbox, is_new);
    if (is_polled)
        poll_ok(v);
    assert_int_equal(has_new(s.inbox), is_new);
    before = facts_of(s.inbox);
    add_flags(v, 2, (struct mbox_flags){.system = MBOX_SEEN});
    assert_int_equal(mbox_close(v), 0);
    after = facts_of(s.inbox);
    assert_int_equal(after.st_size, before.st_size);
    assert_true(after.st_mtim.tv_sec > before.st_mtim.tv_sec);
    if (is_new)
        assert_memory_equal(&after.st_atim, &before.st_atim, sizeof(after.st_atim));
    assert_int_equal(has_new(s.inbox), is_new);
    assert_current(&s);
    scratch_close(&s);
}

static void test_flush(void **state)
{
    (void)state;
    run_flush(false, false);
    run_flush(false, true);
    run_flush(true, false);
    run_flush(true, true);
}

/* Within the second in which it was written before, the mtime goes ahead of the clock. */
static void test_same_second(void **state)
{
    struct stat before, after;
    struct scratch s;
    struct mbox *v;
    unsigned tries = 0;

    (void)state;
    start(&s, 2);
    if (!has_relatime(&s)) {
        scratch_close(&s);
        skip();
    }
    v = open_inbox(&s);
    do {
        assert_true(tries++ < 10);
        assert_int_equal(utimensat(AT_FDCWD, s.inbox, NULL, 0), 0);
        before = facts_of(s.inbox);
        add_flags(v, 1, (struct mbox_flags){.keywords = keyword(v, tries % 2 ? "Odd" : "Even")});
        assert_int_equal(mbox_flush(v), 0);
        after = facts_of(s.inbox);
        assert_int_equal(after.st_size, before.st_size);
        assert_false(has_new(s.inbox));
        assert_current(&s);
        /* Whoever reads it now does not put the atime back. */
        free(read_file(s.inbox, NULL));
        assert_false(has_new(s.inbox));
    } while (after.st_mtim.tv_sec != before.st_mtim.tv_sec + 1 || time(NULL) != before.st_mtim.tv_sec);
    append_text(s.store, "INBOX", TEXT, strlen(TEXT));
    assert_true(has_new(s.inbox));
    assert_current(&s);
    add_flags(v, 2, (struct mbox_flags){.system = MBOX_ANSWERED}); /* the clock is behind the times of the file */
    assert_int_equal(mbox_flush(v), 0);
    assert_true(has_new(s.inbox));
    assert_current(&s);
    assert_int_equal(mbox_close(v), 0);
    assert_true(has_new(s.inbox));
    scratch_close(&s);
}

/* Keywords for which a block has no room, or a message that has none: the file gets longer. */
static void run_longer(bool is_new, bool is_foreign)
{
    static const char *const from = "From a@example.org Tue Nov 14 22:13:20 2023\n" TEXT "\n";
    struct stat before, after;
    struct scratch s;
    struct mbox *v;
    char name[64];

    start(&s, is_foreign ? 0 : 2);
    if (is_foreign) {
        append_foreign(s.inbox, from);
        append_foreign(s.inbox, from);
    }
    v = open_inbox(&s);
    for (unsigned i = 0; i < 12; i++) {
        snprintf(name, sizeof(name), "Keyword-of-some-length-%u", i);
        add_flags(v, 2, (struct mbox_flags){.keywords = keyword(v, name)});
    }
    set_times(s.inbox, is_new);
    before = facts_of(s.inbox);
    assert_int_equal(mbox_close(v), 0);
    after = facts_of(s.inbox);
    assert_true(after.st_size > before.st_size);
    assert_int_equal(has_new(s.inbox), is_new);
    assert_current(&s);
    scratch_close(&s);
}

static void test_longer(void **state)
{
    (void)state;
    run_longer(false, false);
    run_longer(true, false);
    run_longer(false, true);
    run_longer(true, true);
}

/* ---- expunging ---- */

static void run_expunge(bool is_new, uint32_t uid, unsigned count)
{
    struct stat before, after;
    struct scratch s;
    struct mbox *v;

    start(&s, count);
    v = open_inbox(&s);
    add_flags(v, uid, (struct mbox_flags){.system = MBOX_DELETED});
    set_times(s.inbox, is_new);
    before = facts_of(s.inbox);
    assert_int_equal(mbox_expunge(v, NULL, NULL), 0);
    after = facts_of(s.inbox);
    assert_true(after.st_size != before.st_size);
    assert_int_equal(has_new(s.inbox), is_new);
    assert_current(&s);
    poll_ok(v);
    assert_int_equal(mbox_count(v), count - 1);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(has_new(s.inbox), is_new);
    assert_current(&s);
    scratch_close(&s);
}

static void test_expunge(void **state)
{
    (void)state;
    for (unsigned is_new = 0; is_new < 2; is_new++) {
        run_expunge(is_new, 3, 3);
        run_expunge(is_new, 1, 3);
        run_expunge(is_new, 2, 2000); /* whole blocks go, where the file system can */
    }
}

/* Messages of one size: the end would come to where it was before, so the one behind gets longer. */
static void test_lengthen(void **state)
{
    (void)state;
    for (unsigned is_new = 0; is_new < 2; is_new++) {
        struct stat two, after;
        struct scratch s;
        struct mbox *v;

        start(&s, 2);
        append_text(s.store, "INBOX", TEXT, strlen(TEXT));
        v = open_inbox(&s);
        add_flags(v, 3, (struct mbox_flags){.system = MBOX_DELETED});
        assert_int_equal(mbox_expunge(v, NULL, NULL), 0);
        two = facts_of(s.inbox);
        append_text(s.store, "INBOX", TEXT, strlen(TEXT));
        poll_ok(v);
        add_flags(v, 2, (struct mbox_flags){.system = MBOX_DELETED});
        set_times(s.inbox, is_new);
        assert_int_equal(mbox_expunge(v, NULL, NULL), 0);
        after = facts_of(s.inbox);
        assert_true(after.st_size != two.st_size);
        assert_int_equal(has_new(s.inbox), is_new);
        assert_current(&s);
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

/* ---- mail that comes ---- */

/* Another program delivers while a session has the mailbox open, which then changes old mail. */
static void test_foreign_mail(void **state)
{
    static const char *const mail = "From a@example.org Tue Nov 14 22:13:20 2023\nSubject: new\n\nnew\n\n";

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct scratch s;
        struct mbox *v;

        start(&s, 3);
        if (!has_relatime(&s)) {
            scratch_close(&s);
            skip();
        }
        v = open_inbox(&s);
        set_times(s.inbox, false);
        if (i == 0)
            append_foreign(s.inbox, mail);
        add_flags(v, 1, (struct mbox_flags){.system = MBOX_SEEN | MBOX_DELETED});
        assert_int_equal(has_new(s.inbox), i == 0);
        if (i == 1)
            append_foreign(s.inbox, mail);
        if (i < 2)
            assert_int_equal(mbox_flush(v), 0);
        else
            append_foreign(s.inbox, mail);
        assert_true(has_new(s.inbox));
        assert_int_equal(mbox_expunge(v, NULL, NULL), 0);
        poll_ok(v);
        assert_true(has_new(s.inbox));
        assert_current(&s);
        assert_message(v, 3, "Subject: new\r\n\r\nnew\r\n"); /* now it is read */
        assert_false(has_new(s.inbox));
        add_flags(v, 4, (struct mbox_flags){.system = MBOX_SEEN});
        assert_int_equal(mbox_close(v), 0);
        assert_false(has_new(s.inbox));
        assert_current(&s);
        scratch_close(&s);
    }
}

static void test_append(void **state)
{
    struct numset all = NUMSET_INIT;
    struct scratch s;
    struct mbox *v;
    uint32_t validity;

    (void)state;
    start(&s, 2);
    set_times(s.inbox, false);
    append_text(s.store, "INBOX", TEXT, strlen(TEXT));
    assert_true(has_new(s.inbox));
    assert_current(&s);
    set_times(s.inbox, true);
    append_text(s.store, "INBOX", TEXT, strlen(TEXT));
    assert_true(has_new(s.inbox));
    assert_current(&s);
    v = open_inbox(&s);
    assert_int_equal(numset_add(&all, 1, 2), 0);
    set_times(s.inbox, false);
    assert_int_equal(mbox_copy(v, &all, STR("INBOX"), false, NULL, NULL, &validity), 0);
    assert_true(has_new(s.inbox));
    assert_current(&s);
    assert_int_equal(mbox_close(v), 0);
    numset_finish(&all);
    scratch_close(&s);
}

/* What could not be appended is no new mail. */
static void test_failed_append(void **state)
{
    struct mbox_append_options options = {.sender = STR("tester@example.org")};
    static char text[100000];
    struct stat before, after;
    struct rlimit limit, old;
    struct mbox_append *a;
    struct scratch s;
    uint32_t validity, uid;

    (void)state;
    memset(text, 'x', sizeof(text));
    memcpy(text, "Subject: one\n\n", 14);
    scratch_open(&s);
    append_text(s.store, "INBOX", text, sizeof(text));
    set_times(s.inbox, false);
    before = facts_of(s.inbox);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = (struct rlimit){(rlim_t)before.st_size + 100, old.rlim_max};
    assert_int_equal(sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL), 0);
    assert_int_equal(mbox_append_new(s.store, STR("INBOX"), &a), 0);
    assert_int_equal(mbox_append_message(a, &options), 0);
    assert_int_equal(mbox_append_write(a, text, 5000), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(mbox_append_commit(a, &validity, &uid), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    mbox_append_free(a);
    after = facts_of(s.inbox);
    assert_int_equal(after.st_size, before.st_size);
    assert_true(after.st_mtim.tv_sec > before.st_mtim.tv_sec); /* something was written */
    assert_false(has_new(s.inbox));
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_flush),    cmocka_unit_test(test_same_second),
                                       cmocka_unit_test(test_longer),   cmocka_unit_test(test_expunge),
                                       cmocka_unit_test(test_lengthen), cmocka_unit_test(test_foreign_mail),
                                       cmocka_unit_test(test_append),   cmocka_unit_test(test_failed_append)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
