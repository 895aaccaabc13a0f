/*
 * Journals that do not fit any more: another program was there first, or the journal could not be removed.
 */
#include "tests/unit/mbox_disk.h"
#include "tests/unit/mbox_util.h"

#include "shared/mbox/journal_file.h"

#define BLOCK 4096u

/* Stands in front of libc's: a file that cannot be removed. */
static const char *stuck; /* suffix */

int unlink(const char *path)
{
    size_t len = strlen(path);

    if (stuck != NULL && len > strlen(stuck) && strcmp(path + len - strlen(stuck), stuck) == 0) {
        errno = EIO;
        return -1;
    }
    return unlinkat(AT_FDCWD, path, 0);
}

/* Another one: whoever writes to the first file while the second, a journal, is there dies. What only makes room at the
 * end of the file is not meant: nothing is removed yet. */
static const char *killed_at;
static const char *killed_while;
static bool is_refused; /* whatever the journal is for, half of it is written, once, and nobody dies */

static bool is_removing(const char *journal)
{
    struct journal_head head = {0};
    int fd = open(journal, O_RDONLY);
    bool is = fd >= 0 && read(fd, &head, sizeof(head)) == sizeof(head) && head.kind != JOURNAL_GROW;

    if (fd >= 0)
        assert_int_equal(close(fd), 0);
    return is;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    struct stat there, named;

    if (killed_at != NULL && (is_refused ? access(killed_while, F_OK) == 0 : is_removing(killed_while)) &&
        fstat(fd, &there) == 0 && stat(killed_at, &named) == 0 && there.st_ino == named.st_ino) {
        if (!is_refused)
            _exit(0);
        killed_at = NULL;
        (void)syscall(SYS_pwrite64, fd, data, len / 2, offset);
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, len, offset);
}

/* Messages of five blocks and more. */
static void append_large(struct mbox_store *store, int count)
{
    char *text = malloc(6 * BLOCK);
    size_t n;

    for (int i = 1; i <= count; i++) {
        n = (size_t)snprintf(text, 6 * BLOCK, "Subject: %d\n\n", i);
        while (n < 5 * BLOCK)
            n += (size_t)snprintf(text + n, 6 * BLOCK - n, "line at %zu of message %d\n", n, i);
        append_text(store, "INBOX", text, n);
    }
    free(text);
}

static void remove_uid(struct mbox *v, uint32_t uid)
{
    struct numset uids = NUMSET_INIT;

    assert_int_equal(numset_add(&uids, uid, uid), 0);
    assert_int_equal(mbox_remove(v, &uids, NULL), 0);
    numset_finish(&uids);
}

/* In a process of its own, which dies in the middle. */
static void remove_and_die(struct scratch *s, uint32_t uid)
{
    struct mbox *v;
    pid_t child = fork();
    int status;

    if (child == 0) {
        disk_dies = true;
        assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
        remove_uid(v, uid);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static bool exists(const struct scratch *s, const char *name)
{
    char *path = path_of(s, name);
    bool is = access(path, F_OK) == 0;

    free(path);
    return is;
}

/* While blocks were being given back the process died, and another program wrote the mailbox anew, with a hole of just
 * that length: it is not the one that an interrupted collapse of XFS leaves. */
static void test_foreign_hole(void **state)
{
    static const char foreign[] = "From a Sat Nov 14 12:00:00 2026\nSubject: a\n\nb\n\n";
    struct scratch s;
    struct mbox *v;
    size_t len, cut;
    char *text, *second, *now;
    int fd;

    (void)state;
    scratch_open(&s);
    if (!disk_can_collapse(s.dir)) {
        scratch_close(&s);
        skip();
    }
    append_large(s.store, 12);
    remove_and_die(&s, 1);
    assert_true(exists(&s, "state/INBOX.journal"));
    text = read_file(s.inbox, &len);
    second = memmem(text, len, "\nSubject: 2\n", 12); /* the nonce before it may hold a NUL */
    assert_non_null(second);
    while (strncmp(second, "From ", 5) != 0)
        second--;
    cut = ((size_t)(second - text) - 4) / BLOCK * BLOCK - BLOCK;
    memset(text, '\n', len);
    memcpy(text, foreign, sizeof(foreign) - 1);
    fd = open(s.inbox, O_WRONLY | O_TRUNC);
    assert_int_equal(pwrite(fd, text, 4 * BLOCK, 0), 4 * BLOCK);
    assert_int_equal(pwrite(fd, text, len - 4 * BLOCK - cut, (off_t)(4 * BLOCK + cut)), len - 4 * BLOCK - cut);
    free(text);
    close(fd);
    text = read_file(s.inbox, &len);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_close(v), 0);
    assert_true(exists(&s, "state/INBOX.journal.odd"));
    now = read_file(s.inbox, &cut);
    assert_true(cut >= len); /* a flag block may have been added by now, but nothing was taken out */
    assert_memory_equal(now + cut - BLOCK, text + len - BLOCK, BLOCK);
    free(text);
    free(now);
    scratch_close(&s);
}

/* The journal of an expunge that is done cannot be removed. What another program changes later stays changed. */
static void test_stuck_journal(void **state)
{
    struct mbox_info info;
    struct scratch s;
    struct mbox *v;
    size_t len;
    char *text;

    (void)state;
    scratch_open(&s);
    append_large(s.store, 12);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    stuck = ".journal";
    remove_uid(v, 1);
    assert_true(exists(&s, "state/INBOX.journal"));
    stuck = NULL;
    assert_int_equal(mbox_close(v), 0);
    text = read_file(s.inbox, &len);
    memcpy(strstr(text, "\nX-Status:"), "\nX-Status: F", 12);
    write_file(s.inbox, text, len);
    free(text);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_false(exists(&s, "state/INBOX.journal"));
    assert_false(exists(&s, "state/INBOX.journal.odd"));
    assert_int_equal(mbox_count(v), 11);
    assert_int_equal(mbox_info(v, 1, &info), 0);
    assert_int_equal(info.uid, 2);
    assert_int_equal(info.flags.system, MBOX_FLAGGED);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* The lines of the first header are about to change places (X-IMAPbase gets a keyword), under a journal, and the
 * process dies. Another program flags that message, at equal length, before anybody looks: its flag stays. */
static void test_flagged_in_between(void **state)
{
    _cleanup_numset_ struct numset all = NUMSET_INIT;
    struct mbox_info info;
    struct scratch s;
    struct mbox *v;
    size_t len;
    char *text, *place, *journal;
    int status;
    pid_t child;

    (void)state;
    scratch_open(&s);
    journal = path_of(&s, "state/INBOX.journal");
    append_text(s.store, "INBOX", "Subject: one\n\none\n", 18);
    append_text(s.store, "INBOX", "Subject: two\n\ntwo\n", 18);
    assert_int_equal(numset_add(&all, 1, 2), 0);
    child = fork();
    if (child == 0) {
        struct mbox_flags flags = {.system = 0};
        unsigned n;

        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_keyword_number(v, STR("word"), true, &n), 0);
        flags.keywords = UINT64_C(1) << n;
        assert_int_equal(mbox_set_flags(v, &all, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), 0);
        killed_at = s.inbox;
        killed_while = journal;
        (void)mbox_flush(v);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(exists(&s, "state/INBOX.journal"));
    text = read_file(s.inbox, &len);
    place = strstr(text, "\nX-Status:");
    assert_non_null(place);
    memcpy(place, "\nX-Status: F", 12);
    write_file(s.inbox, text, len);
    free(text);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    for (uint32_t seq = 1; seq <= 2; seq++) {
        assert_int_equal(mbox_info(v, seq, &info), 0);
        assert_int_equal(info.flags.system, seq == 1 ? MBOX_FLAGGED : 0);
        assert_true(str_eq(mbox_keyword(v, (unsigned)__builtin_ctzll(info.flags.keywords)), STR("word")));
    }
    assert_false(exists(&s, "state/INBOX.journal"));
    assert_false(exists(&s, "state/INBOX.journal.odd"));
    text = read_file(s.inbox, &len);
    assert_non_null(strstr(text, "\nX-Keywords: word"));
    free(text);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_info(v, 1, &info), 0);
    assert_int_equal(info.flags.system, MBOX_FLAGGED);
    assert_int_equal(mbox_close(v), 0);
    free(journal);
    scratch_close(&s);
}

/* A process of its own, which dies in the middle of a move. */
static void move_and_die(struct scratch *s, const char *journal)
{
    struct mbox *v;
    int status;
    pid_t child = fork();

    if (child == 0) {
        disk_refuses = true;
        assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
        killed_at = s->inbox;
        killed_while = journal;
        remove_uid(v, 1);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(exists(s, "state/INBOX.journal"));
}

static void assert_finished(struct scratch *s)
{
    struct mbox *v;

    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_false(exists(s, "state/INBOX.journal"));
    assert_false(exists(s, "state/INBOX.journal.odd"));
    assert_int_equal(mbox_count(v), 3);
    for (uint32_t seq = 1; seq <= 3; seq++) {
        size_t len, want = strlen("Subject: 2\r\n");
        char *text = read_message(v, seq, &len), subject[32];

        snprintf(subject, sizeof(subject), "Subject: %u\r\n", seq + 1);
        assert_true(len > 5 * BLOCK);
        assert_memory_equal(text, subject, want);
        free(text);
    }
    assert_int_equal(mbox_close(v), 0);
}

/* The machine was started again, and the disk has another number: what was interrupted is finished all the same. */
static void test_other_device(void **state)
{
    struct journal_head head;
    struct scratch s;
    char *journal;
    int fd;

    (void)state;
    scratch_open(&s);
    journal = path_of(&s, "state/INBOX.journal");
    append_large(s.store, 4);
    move_and_die(&s, journal);
    fd = open(journal, O_RDWR);
    assert_int_equal(read(fd, &head, sizeof(head)), sizeof(head));
    head.dev++;
    head.check = journal_head_check(&head);
    assert_int_equal(pwrite(fd, &head, sizeof(head), 0), sizeof(head));
    assert_int_equal(close(fd), 0);
    assert_finished(&s);
    free(journal);
    scratch_close(&s);
}

/* A spool that is not mounted yet: the journal waits for its file. */
static void test_file_comes_back(void **state)
{
    char *journal, *away;
    struct scratch s;
    struct mbox *v;

    (void)state;
    scratch_open(&s);
    journal = path_of(&s, "state/INBOX.journal");
    away = path_of(&s, "away");
    append_large(s.store, 4);
    move_and_die(&s, journal);
    assert_int_equal(rename(s.inbox, away), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 0);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(rename(away, s.inbox), 0);
    assert_finished(&s);
    free(journal);
    free(away);
    scratch_close(&s);
}

static off_t size_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* mutt takes a file that is as long as it was for the one that it has read, and writes by the places that it remembers:
 * whatever goes, the size changes. The messages here are shorter than a block, so that all of one becomes padding. */
static void test_size_changes(void **state)
{
    static const uint32_t gone[] = {7, 1, 2, 9};
    struct scratch s;
    struct mbox *v;

    (void)state;
    scratch_open(&s);
    for (int i = 0; i < 10; i++)
        append_text(s.store, "INBOX", "Subject: small\n\nbody\n", 21);
    append_large(s.store, 12);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
        off_t size = size_of(s.inbox);

        remove_uid(v, gone[i]);
        assert_int_not_equal(size_of(s.inbox), size);
    }
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 18);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* In between the file is longer than it will be in the end: what mutt reads then without a lock, it reads again. */
static void test_size_in_between(void **state)
{
    struct scratch s;
    struct mbox *v;

    (void)state;
    scratch_open(&s);
    if (!disk_can_collapse(s.dir)) {
        scratch_close(&s);
        skip();
    }
    append_large(s.store, 12);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    disk_collapsed = 0;
    remove_uid(v, 2);
    assert_int_equal(disk_collapsed, size_of(s.inbox) + 1);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* The disk fails while the file is being made longer: its journal is finished before anything else is done. */
static void test_lengthening_fails(void **state)
{
    struct numset uids = NUMSET_INIT;
    struct scratch s;
    char *journal;
    struct mbox *v;

    (void)state;
    scratch_open(&s);
    for (int i = 0; i < 10; i++)
        append_text(s.store, "INBOX", "Subject: small\n\nbody\n", 21);
    append_large(s.store, 12);
    journal = path_of(&s, "state/INBOX.journal");
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(numset_add(&uids, 2, 2), 0);
    killed_while = journal;
    killed_at = s.inbox;
    is_refused = true;
    assert_int_equal(mbox_remove(v, &uids, NULL), -EIO);
    assert_null(killed_at);
    is_refused = false;
    assert_int_equal(access(journal, F_OK), 0);
    poll_ok(v);
    assert_int_equal(mbox_count(v), 22);
    remove_uid(v, 2);
    poll_ok(v);
    assert_int_equal(mbox_count(v), 21);
    for (int i = 1; i <= 12; i++) {
        char subject[32];
        size_t len;
        char *text = read_message(v, (uint32_t)(9 + i), &len);

        snprintf(subject, sizeof(subject), "Subject: %d\r\n", i);
        assert_memory_equal(text, subject, strlen(subject));
        assert_true(len > 5 * BLOCK && len < 6 * BLOCK);
        free(text);
    }
    assert_int_equal(mbox_close(v), 0);
    numset_finish(&uids);
    free(journal);
    scratch_close(&s);
}

/* Where it cannot be made longer at once, because the last message is large, only little is moved instead. */
static void test_large_end(void **state)
{
    static const size_t sizes[] = {5u << 20, 70u << 20};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char *text = malloc(sizes[i]);
        struct scratch s;
        struct mbox *v;
        off_t size;

        assert_non_null(text);
        memset(text, '\n', sizes[i]);
        memcpy(text, "Subject: large\n", 15);
        scratch_open(&s);
        append_text(s.store, "INBOX", "Subject: small\n\nbody\n", 21);
        append_text(s.store, "INBOX", "Subject: small\n\nbody\n", 21);
        append_text(s.store, "INBOX", text, sizes[i]);
        free(text);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        size = size_of(s.inbox);
        remove_uid(v, 2);
        assert_int_equal(size_of(s.inbox) == size, i > 0);
        poll_ok(v);
        assert_int_equal(mbox_count(v), 2);
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_hole),       cmocka_unit_test(test_stuck_journal),
        cmocka_unit_test(test_flagged_in_between), cmocka_unit_test(test_other_device),
        cmocka_unit_test(test_file_comes_back),    cmocka_unit_test(test_size_changes),
        cmocka_unit_test(test_size_in_between),    cmocka_unit_test(test_lengthening_fails),
        cmocka_unit_test(test_large_end)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
