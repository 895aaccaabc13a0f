/*
 * Programs that do not know the locks we hold, or know only the one that we could not get, write in the middle of what
 * we do: what they append stays, once, and so does everything else.
 */
#include <time.h>

#include "tests/unit/mbox_disk.h"
#include "tests/unit/mbox_other.h"
#include "tests/unit/mbox_util.h"

#include "shared/base/macros.h"
#include "shared/mbox/box.h"

/* ---- what we do ---- */

static void uids_of(struct numset *uids, uint32_t uid)
{
    *uids = NUMSET_INIT;
    assert_int_equal(numset_add(uids, uid, uid), 0);
}

static int remove_one(struct mbox *v, uint32_t uid)
{
    struct numset uids;
    int r;

    uids_of(&uids, uid);
    r = mbox_remove(v, &uids, NULL);
    numset_finish(&uids);
    return r;
}

static int do_remove_first(struct scratch *s, struct mbox *v)
{
    return remove_one(v, 1);
}

static int do_remove_last(struct scratch *s, struct mbox *v)
{
    return remove_one(v, 4);
}

static int do_flush(struct scratch *s, struct mbox *v)
{
    struct mbox_flags flags = {.system = MBOX_FLAGGED};
    struct numset uids;
    int r;

    uids_of(&uids, 2);
    r = mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL);
    numset_finish(&uids);
    return r == 0 ? mbox_flush(v) : r;
}

/* One with a block of ours, one without: in place, and behind it the file grows. */
static int do_flush_both(struct scratch *s, struct mbox *v)
{
    struct mbox_flags flags = {0};
    struct numset uids;
    unsigned keyword;
    int r;

    assert_int_equal(mbox_keyword_number(v, STR("Keyword"), true, &keyword), 0);
    flags.keywords = 1ull << keyword;
    uids_of(&uids, 2);
    assert_int_equal(numset_add(&uids, 3, 3), 0);
    r = mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL);
    numset_finish(&uids);
    return r == 0 ? mbox_flush(v) : r;
}

static int do_append(struct scratch *s, struct mbox *v)
{
    struct mbox_append_options options = {.sender = STR("a@b")};
    uint32_t uidvalidity, uid;
    struct mbox_append *a;
    int r;

    assert_int_equal(mbox_append_new(s->store, STR("INBOX"), &a), 0);
    assert_int_equal(mbox_append_message(a, &options), 0);
    assert_int_equal(mbox_append_write(a, "Subject: ours\n\nx\n", 17), 0);
    r = mbox_append_commit(a, &uidvalidity, &uid);
    mbox_append_free(a);
    return r;
}

static const struct {
    int (*run)(struct scratch *s, struct mbox *v);
    bool is_foreign;    /* the mailbox was written by somebody else */
    bool is_collapse;   /* large messages, whole blocks are given back */
    bool is_padding;    /* but the first, which becomes padding: the last one is made longer */
    uint32_t gone;      /* UID that is removed, 0: none */
    const char *gained; /* subject */
    bool is_mixed;      /* the first two are ours, the others somebody else's */
} tasks[] = {
    {do_remove_first, false, false, false, 1, NULL}, {do_remove_last, false, false, false, 4, NULL},
    {do_remove_first, true, false, false, 1, NULL},  {do_remove_first, false, true, false, 1, NULL},
    {do_remove_first, false, true, true, 1, NULL},   {do_flush, false, false, false, 0, NULL},
    {do_flush, true, false, false, 0, NULL},         {do_append, false, false, false, 0, "ours"},
    {do_append, true, false, false, 0, "ours"},
    {.run = do_flush_both, .is_mixed = true},
};

/* ---- what is there then ---- */

static size_t body(char *out, size_t size, uint32_t n, bool is_large)
{
    size_t len = (size_t)snprintf(out, size, "Subject: number %u\n\n", n);

    do
        len += (size_t)snprintf(out + len, size - len, "line at %zu of %u\n", len, n);
    while (is_large && len < size - 64);
    return len;
}

static void append_file(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "a");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void fill(struct scratch *s, size_t task)
{
    char text[32768], all[8192];
    size_t len = 0;

    scratch_open(s);
    for (uint32_t n = 1; n <= 4; n++) {
        bool is_large = tasks[task].is_collapse && !(tasks[task].is_padding && n == 1);
        size_t one = body(text, sizeof(text), n, is_large);

        if (!tasks[task].is_foreign && !(tasks[task].is_mixed && n > 2))
            append_text(s->store, "INBOX", text, one);
        else
            len += (size_t)snprintf(all + len, sizeof(all) - len, "From a@b Thu Jan  1 00:00:0%u 2015\n%.*s\n", n,
                                    (int)one, text);
    }
    if (tasks[task].is_foreign)
        write_file(s->inbox, all, len);
    else if (tasks[task].is_mixed)
        append_file(s->inbox, all, len);
}

/* How often a message with this subject is there. */
static unsigned count_of(struct mbox *v, const char *subject)
{
    char line[64];
    unsigned n = 0;

    snprintf(line, sizeof(line), "Subject: %s\r\n", subject);
    for (uint32_t seq = 1; seq <= mbox_count(v); seq++) {
        size_t len;
        char *text = read_message(v, seq, &len);

        n += len > strlen(line) && memcmp(text, line, strlen(line)) == 0;
        free(text);
    }
    return n;
}

static void assert_all(struct mbox *v, size_t task, int r)
{
    uint32_t expected = 0;
    char subject[32];

    for (uint32_t n = 1; n <= 4; n++) {
        bool is_there = tasks[task].gone != n || r != 0;

        snprintf(subject, sizeof(subject), "number %u", n);
        assert_int_equal(count_of(v, subject), is_there);
        expected += is_there;
    }
    if (tasks[task].gained != NULL) {
        assert_int_equal(count_of(v, tasks[task].gained), r == 0);
        expected += r == 0;
    }
    assert_int_equal(count_of(v, "meanwhile"), other.is_done);
    assert_int_equal(mbox_count(v), expected + other.is_done);
}

/* The other program comes in front of the `at`-th call. False: there are not so many. */
static bool try_at(size_t task, unsigned at)
{
    struct scratch s;
    struct mbox *v;
    int r;

    fill(&s, task);
    disk_refuses = !tasks[task].is_collapse;
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    other.at = at;
    other.calls = 0;
    other.in_writes = true;
    other.is_done = false;
    other.path = s.inbox;
    r = tasks[task].run(&s, v);
    other.path = NULL;
    assert_true(r == 0 || r == -EAGAIN);
    poll_ok(v);
    assert_all(v, task, r);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_all(v, task, r);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
    return other.is_done;
}

static void test_appended_meanwhile(void **state)
{
    unsigned points = 0;

    (void)state;
    for (size_t task = 0; task < ARRAY_SIZE(tasks); task++) {
        unsigned at = 1;

        while (try_at(task, at))
            at++;
        assert_true(at > 2);
        points += at - 1;
    }
    print_message("%u points\n", points);
}

static void deliver_later(void)
{
    FILE *f;

    assert_int_equal(usleep(10000), 0); /* clocks of file systems are coarse */
    f = fopen(other.path, "a");
    assert_non_null(f);
    assert_int_equal(fwrite(foreign, 1, sizeof(foreign) - 1, f), sizeof(foreign) - 1);
    assert_int_equal(fclose(f), 0);
}

/* What we write is no new mail for a shell, but what comes meanwhile is. */
static bool try_new_at(size_t task, unsigned at)
{
    struct timespec read[2] = {{.tv_sec = time(NULL) - 60}, {.tv_sec = time(NULL) - 60}};
    struct scratch s;
    struct stat st;
    struct mbox *v;
    bool has_new;

    fill(&s, task);
    disk_refuses = !tasks[task].is_collapse;
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(utimensat(AT_FDCWD, s.inbox, read, 0), 0);
    other.at = at;
    other.calls = 0;
    other.in_writes = true;
    other.is_done = false;
    other.does = deliver_later;
    other.path = s.inbox;
    (void)tasks[task].run(&s, v);
    other.path = NULL;
    other.does = NULL;
    assert_int_equal(stat(s.inbox, &st), 0);
    has_new = file_is_before(&st.st_atim, &st.st_mtim);
    assert_int_equal(has_new, other.is_done || tasks[task].gained != NULL);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
    return other.is_done;
}

static void test_new_meanwhile(void **state)
{
    (void)state;
    for (size_t task = 0; task < ARRAY_SIZE(tasks); task++)
        for (unsigned at = 1; try_new_at(task, at); at++)
            ;
}

/* The end of our append that a crash cut off goes; what another program has just put behind it does not. */
static void test_torn_and_appended(void **state)
{
    struct scratch s;
    struct mbox *v;
    struct stat st;
    char *text;

    (void)state;
    for (unsigned at = 1; at < 100; at++) {
        scratch_open(&s);
        append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
        append_text(s.store, "INBOX", "Subject: two\n\nsecond\nlast line\n", 31);
        assert_int_equal(stat(s.inbox, &st), 0);
        assert_int_equal(truncate(s.inbox, st.st_size - 13), 0);
        remove_tree(s.state);
        other.at = at;
        other.calls = 0;
        other.in_writes = true;
        other.is_done = false;
        other.path = s.inbox;
        if (mbox_open(s.store, STR("INBOX"), 0, &v) == 0)
            assert_int_equal(mbox_close(v), 0);
        other.path = NULL;
        text = read_file(s.inbox, NULL);
        if (other.is_done)
            assert_non_null(strstr(text, foreign));
        free(text);
        scratch_close(&s);
        if (!other.is_done)
            break;
    }
    assert_false(other.is_done);
}

static void write_anew(void)
{
    write_file(other.path, foreign, sizeof(foreign) - 1);
}

/* Who wrote the mailbox anew in the middle of an append of ours finds it as it left it. */
static void test_written_anew(void **state)
{
    struct mbox_append_options options = {.sender = STR("a@b")};
    static char text[600000];
    uint32_t uidvalidity, uid;
    struct mbox_append *a;
    struct scratch s;
    size_t len;
    char *now;

    (void)state;
    memset(text, 'x', sizeof(text));
    memcpy(text, "a: b\n\n", 6);
    scratch_open(&s);
    append_text(s.store, "INBOX", text, 1000);
    assert_int_equal(mbox_append_new(s.store, STR("INBOX"), &a), 0);
    assert_int_equal(mbox_append_message(a, &options), 0);
    assert_int_equal(mbox_append_write(a, text, sizeof(text)), 0);
    other.at = 1;
    other.calls = 0;
    other.in_writes = other.is_behind = true;
    other.is_done = false;
    other.does = write_anew;
    other.path = s.inbox;
    assert_int_equal(mbox_append_commit(a, &uidvalidity, &uid), -EAGAIN);
    other.path = NULL;
    other.does = NULL;
    other.is_behind = false;
    assert_true(other.is_done);
    now = read_file(s.inbox, &len);
    assert_int_equal(len, sizeof(foreign) - 1);
    assert_memory_equal(now, foreign, len);
    free(now);
    mbox_append_free(a);
    scratch_close(&s);
}

/* ---- another session of ours ---- */

static struct scratch *moving;

static void set_flags_there(void)
{
    struct mbox_flags flags = {.system = MBOX_FLAGGED};
    struct scratch s = *moving;
    struct numset uids;
    struct mbox *v;
    unsigned n;

    scratch_store(&s);
    uids_of(&uids, 1);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_keyword_number(v, STR("urgent"), true, &n), 0);
    flags.keywords = UINT64_C(1) << n;
    assert_int_equal(mbox_set_flags(v, &uids, MBOX_FLAGS_SET, flags, UINT64_MAX, NULL), 0);
    assert_int_equal(mbox_close(v), 0);
    numset_finish(&uids);
    mbox_store_free(s.store);
}

/* Flags that another session set, and was told that they are, while the message was being moved go with it. */
static void test_flagged_while_moved(void **state)
{
    struct numset uids;
    struct mbox_info info;
    struct scratch s;
    struct mbox *v;
    char *there;
    unsigned n;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    append_text(s.store, "INBOX", "Subject: two\n\nsecond\n", 21);
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    append_text(s.store, "Work", "Subject: here\n\nx\n", 17);
    assert_int_equal(mbox_open(s.store, STR("Work"), 0, &v), 0);
    assert_int_equal(mbox_keyword_number(v, STR("other"), true, &n), 0); /* numbers differ */
    assert_int_equal(mbox_close(v), 0);
    there = path_of(&s, "mail/Work");
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    uids_of(&uids, 1);
    moving = &s;
    other.at = 1;
    other.calls = 0;
    other.in_writes = other.is_done = false;
    other.does = set_flags_there;
    other.path = there;
    assert_int_equal(mbox_copy(v, &uids, STR("Work"), true, NULL, NULL, NULL), 0);
    other.path = NULL;
    other.does = NULL;
    assert_true(other.is_done);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_open(s.store, STR("Work"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 2);
    assert_int_equal(mbox_info(v, 2, &info), 0);
    assert_int_equal(info.flags.system, MBOX_FLAGGED);
    assert_int_equal(mbox_keyword_number(v, STR("urgent"), false, &n), 0);
    assert_true(info.flags.keywords == UINT64_C(1) << n);
    assert_int_equal(mbox_close(v), 0);
    numset_finish(&uids);
    free(there);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appended_meanwhile),  cmocka_unit_test(test_new_meanwhile),
        cmocka_unit_test(test_torn_and_appended),   cmocka_unit_test(test_written_anew),
        cmocka_unit_test(test_flagged_while_moved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
