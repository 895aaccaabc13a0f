/*
 * RENAME and DELETE of mailboxes that others hold, and of those where a change was interrupted.
 */
#include "tests/unit/mbox_util.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "shared/mbox/box.h"

#define BIG  200000 /* bytes of the first message */
#define TEXT 3000

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rename_unfinished),
        cmocka_unit_test(test_delete_unfinished),
        cmocka_unit_test(test_rename_waits_for_children),
        cmocka_unit_test(test_rename_into_children),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
