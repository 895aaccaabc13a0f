/*
 * Journals that do not fit any more: another program was there first, or the journal could not be removed.
 */
#include "tests/unit/mbox_disk.h"
#include "tests/unit/mbox_util.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_foreign_hole), cmocka_unit_test(test_stuck_journal)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
