/*
 * What a reader of the store's code found: several processes on the same sidecars, mail made by strangers, sidecars
 * that are not what they should be. Each was a failure first.
 */
#include "tests/unit/mbox_util.h"

#include <fcntl.h>

#include "shared/mbox/box.h"

#define STRANGER "From a@example.org Sat Nov 14 12:00:00 2026\n"

/* The first mail of a fresh spool says what UIDs are to come: the last ones there are. */
static void test_stranger_base(void **state)
{
    static const char *const bases[] = {"X-IMAPbase: 1 4294967295\nX-UID: 4294967295\n",
                                        "X-IMAPbase: 4294967295 4294967294\nX-UID: 4294967294\n",
                                        "X-IMAPbase: 1700000000 4294967290\n"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct scratch s;
        struct mbox *v;
        struct mbox_info info;
        char text[512];
        int n = snprintf(text, sizeof(text), STRANGER "%sSubject: x\n\nbody\n\n", bases[i]);

        scratch_open(&s);
        write_file(s.inbox, text, (size_t)n);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_count(v), 1);
        assert_int_equal(mbox_info(v, 1, &info), 0);
        assert_true(info.uid > 0 && info.uid < 0x80000000u);
        for (int k = 0; k < 20; k++)
            assert_true(append_text(s.store, "INBOX", "Subject: y\n\nz\n", 14) < 0x80000000u);
        poll_ok(v);
        assert_int_equal(mbox_count(v), 21);
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

/* Keywords in mail of strangers must leave room for the user's own. */
static void test_stranger_keywords(void **state)
{
    struct scratch s;
    struct mbox *v;
    unsigned n;
    char text[2048] = STRANGER "X-Keywords:";

    (void)state;
    scratch_open(&s);
    for (int i = 0; i < 100; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), " k%d", i);
    snprintf(text + strlen(text), sizeof(text) - strlen(text), "\nSubject: x\n\nbody\n\n");
    write_file(s.inbox, text, strlen(text));
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_keyword_number(v, STR("$Forwarded"), true, &n), 0);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* Thousands of messages come while one is being read. */
static void test_stream_while_growing(void **state)
{
    struct scratch s;
    struct mbox *v;
    FILE *f;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    f = fopen(s.inbox, "a");
    for (int i = 0; i < 12000; i++)
        fprintf(f, STRANGER "Subject: %d\n\nx\n\n", i);
    fclose(f);
    append_text(s.store, "INBOX", "Subject: last\n\nx\n", 17); /* brings the index up to date */
    assert_message(v, 1, "Subject: one\r\n\r\nfirst\r\n");
    poll_ok(v);
    assert_int_equal(mbox_count(v), 12002);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* A journal is left, and the user removed the spool file. */
static void test_journal_without_file(void **state)
{
    struct scratch s;
    struct mbox *v;
    char *journal;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    assert_int_equal(unlink(s.inbox), 0);
    journal = path_of(&s, "state/INBOX.journal");
    write_file(journal, "garbage", 7);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 0);
    assert_int_equal(mbox_close(v), 0);
    free(journal);
    scratch_close(&s);
}

static bool has_side(const struct scratch *s, const char *name)
{
    char *path = path_of(s, name);
    bool has = access(path, F_OK) == 0;

    free(path);
    return has;
}

/* A mailbox that is deleted or renamed while somebody has it open leaves no sidecars of its old name behind. */
static void test_deleted_under_view(void **state)
{
    struct scratch s;
    struct mbox *v;

    (void)state;
    for (int rename = 0; rename < 2; rename++) {
        scratch_open(&s);
        assert_int_equal(mbox_create(s.store, STR("Work")), 0);
        append_text(s.store, "Work", "Subject: one\n\nfirst\n", 20);
        assert_int_equal(mbox_open(s.store, STR("Work"), 0, &v), 0);
        if (rename)
            assert_int_equal(mbox_rename(s.store, STR("Work"), STR("Job")), 0);
        else
            assert_int_equal(mbox_delete(s.store, STR("Work")), 0);
        assert_int_equal(mbox_poll(v, false, NULL), -ESTALE);
        (void)mbox_close(v);
        assert_false(has_side(&s, "state/Work.state"));
        assert_false(has_side(&s, "state/Work.index"));
        scratch_close(&s);
    }
}

/* DELETE and CREATE while a session has it open: both sides must still agree on one lock. */
static void test_lock_is_the_same(void **state)
{
    struct scratch s;
    struct mbox *v, *w;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    char *path;
    int fd;

    (void)state;
    scratch_open(&s);
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    append_text(s.store, "Work", "Subject: one\n\nfirst\n", 20);
    assert_int_equal(mbox_open(s.store, STR("Work"), 0, &v), 0);
    assert_int_equal(mbox_delete(s.store, STR("Work")), 0);
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    append_text(s.store, "Work", "Subject: two\n\nsecond\n", 21);
    assert_int_equal(mbox_open(s.store, STR("Work"), 0, &w), 0);
    /* Somebody else holds the lock of the sidecars that are there now. */
    path = path_of(&s, "state/Work.lock");
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_int_equal(mbox_poll(v, false, NULL), -EAGAIN);
    close(fd);
    assert_int_equal(mbox_poll(v, false, NULL), -ESTALE);
    poll_ok(w);
    assert_int_equal(mbox_count(w), 1);
    (void)mbox_close(v);
    assert_int_equal(mbox_close(w), 0);
    free(path);
    scratch_close(&s);
}

/* INBOX as the first level of a name is INBOX however it is written. */
static void test_rename_inbox_child(void **state)
{
    struct scratch s;
    struct mbox_status before, after;

    (void)state;
    scratch_open(&s);
    assert_int_equal(mbox_create(s.store, STR("INBOX/kid")), 0);
    append_text(s.store, "INBOX/kid", "Subject: one\n\nfirst\n", 20);
    assert_int_equal(mbox_status(s.store, STR("INBOX/kid"), &before), 0);
    assert_int_equal(mbox_rename(s.store, STR("inbox/kid"), STR("Inbox/child")), 0);
    assert_int_equal(mbox_status(s.store, STR("inbox/child"), &after), 0);
    assert_int_equal(before.uidvalidity, after.uidvalidity);
    assert_memory_equal(before.mailboxid, after.mailboxid, 16);
    scratch_close(&s);
}

/* The cache file cannot be made: that is no reason to read everything again. */
static void test_cache_fails(void **state)
{
    struct scratch s;
    struct mbox *v;
    struct stat before, after;
    char *cache, *index;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    cache = path_of(&s, "state/INBOX.cache");
    index = path_of(&s, "state/INBOX.index");
    assert_int_equal(mkdir(cache, 0700), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_cache_put(v, 1, MBOX_CACHE_ENVELOPE, STR("(NIL)")), 0);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(stat(index, &before), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(stat(index, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* not made anew */
    free(cache);
    free(index);
    scratch_close(&s);
}

/* `echo > mbox` is how people empty a mailbox. */
static void test_only_newlines(void **state)
{
    struct scratch s;
    struct mbox *v;

    (void)state;
    scratch_open(&s);
    write_file(s.inbox, "\n", 1);
    assert_int_equal(append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20), 1);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 1);
    assert_message(v, 1, "Subject: one\r\n\r\nfirst\r\n");
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* Mail that comes and goes does not make the index grow for ever. */
static void test_index_stays_small(void **state)
{
    struct scratch s;
    struct mbox *v, *other;
    struct stat st;
    struct numset all = NUMSET_INIT;
    struct mbox_status before, after;
    char *index;
    uint32_t kept;

    (void)state;
    scratch_open(&s);
    index = path_of(&s, "state/INBOX.index");
    kept = append_text(s.store, "INBOX", "Subject: stays\n\nfirst\n", 22);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &other), 0);
    assert_int_equal(numset_add(&all, kept + 1, UINT32_MAX), 0);
    for (int round = 0; round < 6; round++) {
        FILE *f = fopen(s.inbox, "a");

        for (int i = 0; i < 4000; i++)
            fprintf(f, STRANGER "Subject: %d %d\n\nx\n\n", round, i);
        fclose(f);
        poll_ok(v);
        assert_int_equal(mbox_count(v), 4001);
        assert_int_equal(mbox_remove(v, &all, NULL), 0);
        poll_ok(v);
        assert_int_equal(mbox_count(v), 1);
        if (round == 0)
            poll_ok(other);
    }
    assert_int_equal(stat(index, &st), 0);
    assert_true(st.st_size < 16384 + 10000 * 128);
    assert_int_equal(mbox_view_status(v, &before), 0);
    poll_ok(other);
    assert_int_equal(mbox_view_status(other, &after), 0);
    assert_int_equal(after.messages, 1);
    assert_int_equal(before.uidnext, after.uidnext);
    assert_int_equal(before.uidnext, kept + 1 + 6 * 4000);
    assert_message(other, 1, "Subject: stays\r\n\r\nfirst\r\n");
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_close(other), 0);
    numset_finish(&all);
    free(index);
    scratch_close(&s);
}

/* Changes between the last poll and the beginning of the watch are told too. */
static void test_watch_from_the_beginning(void **state)
{
    struct scratch s;
    struct mbox *v;
    int fd;
    struct timespec now = {0};
    fd_set set;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    poll_ok(v);
    append_text(s.store, "INBOX", "Subject: two\n\nsecond\n", 21);
    fd = mbox_watch_fd(v);
    assert_true(fd >= 0);
    FD_ZERO(&set);
    FD_SET(fd, &set);
    assert_int_equal(pselect(fd + 1, &set, NULL, NULL, &now, NULL), 1);
    poll_ok(v);
    assert_int_equal(mbox_count(v), 2);
    poll_ok(v); /* what the poll itself wrote */
    FD_ZERO(&set);
    FD_SET(fd, &set);
    assert_int_equal(pselect(fd + 1, &set, NULL, NULL, &now, NULL), 0); /* and then it is quiet */
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* An index that cannot be read costs time only. */
static void test_odd_index(void **state)
{
    struct scratch s;
    struct mbox *v;
    char *index;

    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        scratch_open(&s);
        index = path_of(&s, "state/INBOX.index");
        append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        if (kind == 0) {
            assert_int_equal(truncate(index, 0), 0); /* under a view */
        } else {
            assert_int_equal(unlink(index), 0);
            if (kind == 1)
                assert_int_equal(symlink("/dev/zero", index), 0);
            else if (kind == 2)
                assert_int_equal(mkfifo(index, 0600), 0);
            else if (kind == 3)
                write_file(index, "random", 6);
            else /* as one that another user owns */
                write_file(index, "", 0);
        }
        if (kind == 0) { /* the view's numbers are lost with it */
            assert_int_equal(mbox_poll(v, false, NULL), -ESTALE);
        } else {
            poll_ok(v);
            assert_int_equal(mbox_count(v), 1);
            assert_message(v, 1, "Subject: one\r\n\r\nfirst\r\n");
        }
        assert_int_equal(mbox_close(v), 0);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_count(v), 1);
        assert_int_equal(mbox_close(v), 0);
        free(index);
        scratch_close(&s);
    }
}

/* A state folder that cannot be used: the mailbox is shown, nothing is changed, and no UID is told twice. */
static void test_no_state(void **state)
{
    static const char mail[] = "Subject: shown\r\n\r\nx\r\n";
    _cleanup_numset_ struct numset all = NUMSET_INIT;
    struct mbox_flags flags = {.system = MBOX_FLAGGED};
    struct buf notices = BUF_INIT(1u << 16);
    struct mbox_status real, first, second;
    struct scratch s;
    struct mbox *v;

    (void)state;
    scratch_open(&s);
    assert_int_equal(append_text(s.store, "INBOX", mail, sizeof(mail) - 1), 1);
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    assert_int_equal(mbox_status(s.store, STR("INBOX"), &real), 0);
    mbox_store_free(s.store);
    remove_tree(s.state);
    write_file(s.state, "no folder", 9);
    for (int i = 0; i < 2; i++) {
        scratch_store(&s);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_true(mbox_is_readonly(v));
        assert_int_equal(mbox_count(v), i + 1);
        assert_message(v, 1, mail);
        assert_int_equal(mbox_view_status(v, i == 0 ? &first : &second), 0);
        assert_int_equal(numset_add(&all, 1, UINT32_MAX), 0);
        assert_int_equal(mbox_set_flags(v, &all, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), -EROFS);
        assert_int_equal(mbox_remove(v, &all, NULL), -EROFS);
        append_text(s.store, "INBOX", mail, sizeof(mail) - 1); /* taken all the same */
        assert_int_equal(mbox_poll(v, false, NULL), 0);
        assert_int_equal(mbox_count(v), i + 2);
        assert_int_equal(mbox_copy(v, &all, STR("Work"), false, NULL, NULL, NULL), 0);
        assert_int_equal(mbox_close(v), 0);
        assert_int_equal(mbox_store_notices(s.store, &notices), 0);
        assert_non_null(strstr(buf_cstr(&notices), "cannot be used"));
        mbox_store_free(s.store);
    }
    buf_finish(&notices);
    assert_true(first.uidvalidity != real.uidvalidity && first.uidvalidity != second.uidvalidity);
    assert_int_equal(unlink(s.state), 0);
    scratch_store(&s);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_false(mbox_is_readonly(v));
    assert_int_equal(mbox_count(v), 3);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_status(s.store, STR("Work"), &first), 0);
    assert_int_equal(first.messages, 2 + 3);
    scratch_close(&s);
}

/* A mailbox that cannot be opened is named itself, and its state is not blamed for it. */
static void test_no_mailbox(void **state)
{
    struct buf notices = BUF_INIT(1u << 16);
    struct scratch s;
    struct mbox *v;

    (void)state;
    scratch_open(&s);
    assert_int_equal(symlink("elsewhere", s.inbox), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), -ELOOP);
    assert_int_equal(mbox_store_notices(s.store, &notices), 0);
    assert_null(strstr(buf_cstr(&notices), "state folder"));
    assert_non_null(strstr(buf_cstr(&notices), s.inbox));
    assert_non_null(strstr(buf_cstr(&notices), strerror(ELOOP)));
    buf_finish(&notices);
    scratch_close(&s);
}

/* The spool is not mounted for a while: that is not a mailbox without messages. */
static void test_spool_gone(void **state)
{
    struct mbox_append *a;
    struct mbox_info info;
    struct scratch s;
    struct mbox *v, *w;
    uint32_t validity, uid;
    char *spool, *away;

    (void)state;
    scratch_open(&s);
    spool = path_of(&s, "spool");
    away = path_of(&s, "away");
    assert_int_equal(mkdir(spool, 0700), 0);
    mbox_store_free(s.store);
    snprintf(s.inbox, sizeof(s.inbox), "%s/me", spool);
    scratch_store(&s);
    append_text(s.store, "INBOX", "Subject: a\n\n", 12);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(rename(spool, away), 0);
    assert_int_equal(mbox_poll(v, false, NULL), -ENODEV);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &w), -ENODEV);
    assert_int_equal(mbox_append_new(s.store, STR("INBOX"), &a), 0);
    assert_int_equal(mbox_append_message(a, &(struct mbox_append_options){0}), 0);
    assert_int_equal(mbox_append_write(a, "Subject: b\n\n", 12), 0);
    assert_int_equal(mbox_append_commit(a, &validity, &uid), -ENODEV);
    mbox_append_free(a);
    assert_int_equal(rename(away, spool), 0);
    poll_ok(v);
    assert_int_equal(mbox_count(v), 1);
    assert_int_equal(mbox_info(v, 1, &info), 0);
    assert_int_equal(info.uid, 1);
    assert_false(info.is_expunged);
    assert_int_equal(mbox_close(v), 0);
    free(spool);
    free(away);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stranger_base),
        cmocka_unit_test(test_stranger_keywords),
        cmocka_unit_test(test_stream_while_growing),
        cmocka_unit_test(test_journal_without_file),
        cmocka_unit_test(test_deleted_under_view),
        cmocka_unit_test(test_lock_is_the_same),
        cmocka_unit_test(test_rename_inbox_child),
        cmocka_unit_test(test_cache_fails),
        cmocka_unit_test(test_only_newlines),
        cmocka_unit_test(test_index_stays_small),
        cmocka_unit_test(test_watch_from_the_beginning),
        cmocka_unit_test(test_odd_index),
        cmocka_unit_test(test_no_state),
        cmocka_unit_test(test_no_mailbox),
        cmocka_unit_test(test_spool_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
