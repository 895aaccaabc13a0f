/*
 * RENAME and DELETE of mailboxes that others hold, and of those where a change was interrupted.
 */
#include "tests/unit/mbox_util.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "shared/mbox/box.h"

#define BIG  200000 /* bytes of the first message */
#define TEXT 3000

/* Stand in front of libc's: a file system that cannot rename without replacing, and somebody who makes a mailbox just
 * when we have seen that there is none. */
static bool cannot;
static struct scratch *racing; /* to mail/Play */

static void append_text_to_new(struct scratch *s)
{
    char *path = path_of(s, "mail/Play");
    int fd = openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0600);

    free(path);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    append_text(s->store, "Play", "Subject: new\n\nnew\n", 18);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    if (cannot && flags != 0) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

int access(const char *path, int mode)
{
    int r = faccessat(AT_FDCWD, path, mode, 0);
    struct scratch *s = racing;

    if (r == 0 || s == NULL || strlen(path) < 10 || strcmp(path + strlen(path) - 10, "/mail/Play") != 0)
        return r;
    racing = NULL;
    append_text_to_new(s);
    errno = ENOENT;
    return -1;
}

static char *text_of(char c, size_t len)
{
    char *text = malloc(len + 1);

    assert_non_null(text);
    memset(text, c, len);
    for (size_t i = 70; i < len; i += 71)
        text[i] = '\n';
    memcpy(text, "Subject: x\n\n", 12);
    text[len - 1] = '\n';
    text[len] = '\0';
    return text;
}

static bool exists(const struct scratch *s, const char *name)
{
    char *path = path_of(s, name);
    bool has = access(path, F_OK) == 0;

    free(path);
    return has;
}

/* So that writing behind this place fails: the journal can be made, but not carried out. */
static void limit_files(rlim_t size)
{
    struct sigaction ignored = {.sa_handler = SIG_IGN};
    struct rlimit limit;

    assert_int_equal(sigaction(SIGXFSZ, &ignored, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Three messages, of which the second is half out: a journal says what is left to do. */
static void make_unfinished(struct scratch *s, const char *name)
{
    struct mbox *v;
    struct numset uids = NUMSET_INIT;
    char journal[64];

    for (int i = 0; i < 3; i++) {
        size_t len = i == 0 ? BIG : TEXT;
        char *text = text_of((char)('a' + i), len);

        append_text(s->store, name, text, len);
        free(text);
    }
    assert_int_equal(mbox_open(s->store, str_from(name), 0, &v), 0);
    assert_int_equal(numset_add(&uids, 2, 2), 0);
    limit_files(BIG - BIG / 4);
    assert_int_equal(mbox_remove(v, &uids, NULL), -EFBIG);
    (void)mbox_close(v);
    limit_files(RLIM_INFINITY);
    numset_finish(&uids);
    snprintf(journal, sizeof(journal), "state/%s.journal", name);
    assert_true(exists(s, journal));
}

static void test_rename_unfinished(void **state)
{
    struct scratch s;
    struct mbox *v;
    char *text = text_of('c', TEXT);
    char wire[TEXT * 2];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (text[i] == '\n')
            wire[n++] = '\r';
        wire[n++] = text[i];
    }
    wire[n] = '\0';
    scratch_open(&s);
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    make_unfinished(&s, "Work");
    assert_int_equal(mbox_rename(s.store, STR("Work"), STR("Play")), 0);
    assert_false(exists(&s, "state/Work.journal"));
    assert_false(exists(&s, "state/Work.journal.odd"));
    assert_int_equal(mbox_open(s.store, STR("Play"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 2);
    assert_message(v, 2, wire);
    assert_int_equal(mbox_close(v), 0);
    free(text);
    scratch_close(&s);
}

static void test_delete_unfinished(void **state)
{
    struct scratch s;

    (void)state;
    scratch_open(&s);
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    make_unfinished(&s, "Work");
    assert_int_equal(mbox_delete(s.store, STR("Work")), 0);
    assert_false(exists(&s, "mail/Work"));
    assert_false(exists(&s, "state/Work.journal"));
    assert_false(exists(&s, "state/Work.state"));
    scratch_close(&s);
}

/* Somebody writes to a child: nothing moves until he has done, and nothing stays locked. */
static void test_rename_waits_for_children(void **state)
{
    struct scratch s;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char *path;
    int fd;

    (void)state;
    scratch_open(&s);
    s.store->lock_timeout = 1;
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    assert_int_equal(mbox_create(s.store, STR("Work/kid")), 0);
    append_text(s.store, "Work/kid", "Subject: one\n\nfirst\n", 20);
    path = path_of(&s, "mail/Work.sbd/kid");
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_int_equal(mbox_rename(s.store, STR("Work"), STR("Play")), -EAGAIN);
    assert_true(exists(&s, "mail/Work"));
    assert_true(exists(&s, "mail/Work.sbd/kid"));
    assert_false(exists(&s, "mail/Work.lock"));
    append_text(s.store, "Work", "Subject: two\n\nsecond\n", 21);
    close(fd);
    assert_int_equal(mbox_rename(s.store, STR("Work"), STR("Play")), 0);
    assert_false(exists(&s, "mail/Play.sbd/kid.lock"));
    assert_false(exists(&s, "mail/Work.lock"));
    assert_true(append_text(s.store, "Play/kid", "Subject: two\n\nsecond\n", 21) == 2);
    assert_true(append_text(s.store, "Play", "Subject: two\n\nsecond\n", 21) == 2);
    free(path);
    scratch_close(&s);
}

/* What was meant to hold other children is in the way: nothing moves. */
static void test_rename_into_children(void **state)
{
    struct scratch s;

    (void)state;
    scratch_open(&s);
    assert_int_equal(mbox_create(s.store, STR("Work/kid")), 0);
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    assert_int_equal(mbox_create(s.store, STR("Play/other")), 0);
    assert_int_equal(mbox_rename(s.store, STR("Work"), STR("Play")), -EEXIST);
    assert_true(exists(&s, "mail/Work"));
    assert_true(exists(&s, "mail/Work.sbd/kid"));
    assert_false(exists(&s, "mail/Play"));
    scratch_close(&s);
}

/* Where the file system does not see to it: no mail is replaced. */
static void test_rename_replaces_nothing(void **state)
{
    struct scratch s;
    struct mbox *v;
    int r;

    (void)state;
    for (int is_racing = 0; is_racing < 2; is_racing++) {
        scratch_open(&s);
        cannot = true;
        assert_int_equal(mbox_create(s.store, STR("Work/kid")), 0);
        assert_int_equal(mbox_create(s.store, STR("Work")), 0);
        append_text(s.store, "Work", "Subject: old\n\nold\n", 18);
        racing = is_racing ? &s : NULL;
        r = mbox_rename(s.store, STR("Work"), STR("Play"));
        assert_int_equal(r, is_racing && racing == NULL ? -EEXIST : 0);
        racing = NULL;
        assert_int_equal(mbox_open(s.store, STR("Play"), 0, &v), 0);
        assert_int_equal(mbox_count(v), 1);
        assert_message(v, 1, r == 0 ? "Subject: old\r\n\r\nold\r\n" : "Subject: new\r\n\r\nnew\r\n");
        assert_int_equal(mbox_close(v), 0);
        assert_int_equal(exists(&s, "mail/Work"), r != 0);
        assert_int_equal(exists(&s, "mail/Play.sbd/kid"), r == 0);
        assert_int_equal(mbox_rename(s.store, STR("Play"), STR("Other")), 0);
        assert_int_equal(mbox_create(s.store, STR("Play")), 0);
        assert_int_equal(mbox_rename(s.store, STR("Other"), STR("Play")), -EEXIST);
        cannot = false;
        scratch_close(&s);
    }
}

static bool is_play(void *context, struct str name)
{
    return str_eq(name, STR("Play"));
}

static struct mbox_status status_of(struct scratch *s, const char *name)
{
    struct mbox_status status;

    assert_int_equal(mbox_status(s->store, str_from(name), &status), 0);
    return status;
}

/* The new name is one that opens without a file: nobody looks at its state meanwhile. */
static void test_rename_to_offered(void **state)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct scratch s;
    char *path;
    int fd;

    (void)state;
    scratch_open(&s);
    s.store->lock_timeout = 1;
    mbox_store_offer(s.store, is_play, NULL);
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    append_text(s.store, "Work", "Subject: one\n\nfirst\n", 20);
    assert_int_equal(status_of(&s, "Play").messages, 0);
    path = path_of(&s, "state/Play.lock");
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_int_equal(mbox_rename(s.store, STR("Work"), STR("Play")), -EAGAIN);
    close(fd);
    assert_int_equal(mbox_rename(s.store, STR("Work"), STR("Play")), 0);
    assert_int_equal(status_of(&s, "Play").messages, 1);
    free(path);
    scratch_close(&s);
}

/* A RENAME that was cut short leaves both names to the sidecars, and only one of them is a mailbox. */
static void cut_short(bool appends)
{
    static const char *const suffixes[] = {"state", "index"};
    struct mbox_status before, other, after;
    struct scratch s;
    struct mbox *v;
    struct mbox_info info;

    scratch_open(&s);
    mbox_store_offer(s.store, is_play, NULL);
    assert_int_equal(mbox_create(s.store, STR("Work")), 0);
    append_text(s.store, "Work", "Subject: one\n\nfirst\n", 20);
    before = status_of(&s, "Work");
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        char from[64], to[64];
        char *path, *second;

        snprintf(from, sizeof(from), "state/Work.%s", suffixes[i]);
        snprintf(to, sizeof(to), "state/Play.%s", suffixes[i]);
        path = path_of(&s, from);
        second = path_of(&s, to);
        assert_int_equal(link(path, second), 0);
        free(path);
        free(second);
    }
    if (appends)
        append_text(s.store, "Play", "Subject: two\n\nsecond\n", 21);
    other = status_of(&s, "Play");
    assert_int_equal(other.messages, appends ? 1 : 0);
    assert_memory_not_equal(other.mailboxid, before.mailboxid, sizeof(before.mailboxid));
    after = status_of(&s, "Work");
    assert_int_equal(after.uidvalidity, before.uidvalidity);
    assert_int_equal(after.highestmodseq, before.highestmodseq);
    assert_int_equal(mbox_open(s.store, STR("Work"), 0, &v), 0);
    assert_int_equal(mbox_info(v, 1, &info), 0);
    assert_int_equal(info.uid, 1);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

static void test_rename_cut_short(void **state)
{
    (void)state;
    cut_short(false);
    cut_short(true);
}

/* What is refused has not touched what is kept about others. */
static void test_rename_refused(void **state)
{
    struct mbox_status before, after;
    struct scratch s;

    (void)state;
    scratch_open(&s);
    assert_int_equal(mbox_create(s.store, STR("Work/kid")), 0);
    assert_int_equal(mbox_create(s.store, STR("Play/kid")), 0);
    append_text(s.store, "Work/kid", "Subject: one\n\nfirst\n", 20);
    append_text(s.store, "Play/kid", "Subject: two\n\nsecond\n", 21);
    before = status_of(&s, "Play/kid");
    assert_int_equal(mbox_rename(s.store, STR("Work"), STR("Play")), -EEXIST);
    after = status_of(&s, "Play/kid");
    assert_int_equal(after.uidvalidity, before.uidvalidity);
    assert_int_equal(after.uidnext, before.uidnext);
    assert_memory_equal(after.mailboxid, before.mailboxid, sizeof(before.mailboxid));
    assert_int_equal(mbox_rename(s.store, STR("Nowhere"), STR("New/kid")), -ENOENT);
    assert_false(exists(&s, "mail/New.sbd"));
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rename_unfinished),         cmocka_unit_test(test_delete_unfinished),
        cmocka_unit_test(test_rename_waits_for_children), cmocka_unit_test(test_rename_into_children),
        cmocka_unit_test(test_rename_replaces_nothing),   cmocka_unit_test(test_rename_to_offered),
        cmocka_unit_test(test_rename_cut_short),          cmocka_unit_test(test_rename_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
