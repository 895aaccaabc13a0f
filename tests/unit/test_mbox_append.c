/*
 * An append that is kept for one message after another, as deliver does for the messages of one connection.
 */
#include "tests/unit/mbox_util.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "shared/mbox/box.h"

/* Stands in front of libc's: how often a folder was made durable. */
static const char *watched;
static unsigned folder_syncs;

int fsync(int fd)
{
    struct stat there, named;

    if (watched != NULL && fstat(fd, &there) == 0 && stat(watched, &named) == 0 && there.st_ino == named.st_ino)
        folder_syncs++;
    return (int)syscall(SYS_fsync, fd);
}

/* One more message through an append that stays; nothing is locked afterwards. */
static int append_next(struct mbox_append *a, const struct scratch *s, const char *mail)
{
    struct mbox_append_options options = {.sender = STR("a@b")};
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    uint32_t validity, uid;
    char dotlock[128];
    int r, fd;

    assert_int_equal(mbox_append_message(a, &options), 0);
    assert_int_equal(mbox_append_write(a, mail, strlen(mail)), 0);
    r = mbox_append_commit(a, &validity, &uid);
    fd = open(s->inbox, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_int_equal(close(fd), 0);
    snprintf(dotlock, sizeof(dotlock), "%s.lock", s->inbox);
    assert_int_equal(access(dotlock, F_OK), -1);
    return r;
}

static void assert_last(const struct scratch *s, uint32_t count, const char *text)
{
    struct mbox *v;

    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), count);
    assert_message(v, count, text);
    assert_int_equal(mbox_close(v), 0);
}

static void expunge_first(const struct scratch *s)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    struct mbox *v;

    assert_int_equal(numset_add(&uids, 1, 1), 0);
    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_remove(v, &uids, NULL), 0);
    assert_int_equal(mbox_close(v), 0);
}

/* An append that is kept for one message after another believes nothing that was true of the mailbox before. */
static void test_append_kept(void **state)
{
    struct scratch s;
    struct mbox_append *a;
    char away[128];
    FILE *f;

    (void)state;
    scratch_open(&s);
    assert_int_equal(mbox_append_new(s.store, STR("INBOX"), &a), 0);
    assert_int_equal(append_next(a, &s, "Subject: 1\n\none\n"), 0);
    assert_int_equal(append_next(a, &s, "Subject: 2\n\ntwo\n"), 0);
    assert_last(&s, 2, "Subject: 2\r\n\r\ntwo\r\n");
    f = fopen(s.inbox, "a"); /* another program */
    assert_non_null(f);
    assert_true(fputs("From x@y Thu Jan  1 00:00:00 2015\nSubject: x\n\nforeign", f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(append_next(a, &s, "Subject: 3\n\nthree\n"), 0);
    assert_last(&s, 4, "Subject: 3\r\n\r\nthree\r\n");
    expunge_first(&s);
    assert_int_equal(append_next(a, &s, "Subject: 4\n\nfour\n"), 0);
    assert_last(&s, 4, "Subject: 4\r\n\r\nfour\r\n");
    remove_tree(s.state);
    assert_int_equal(append_next(a, &s, "Subject: 5\n\nfive\n"), 0);
    assert_last(&s, 5, "Subject: 5\r\n\r\nfive\r\n");
    snprintf(away, sizeof(away), "%s/away", s.dir);
    assert_int_equal(rename(s.inbox, away), 0);
    write_file(s.inbox, "hello\nworld\n", 12);
    assert_int_equal(append_next(a, &s, "Subject: 6\n\nsix\n"), -EBADMSG);
    write_file(s.inbox, "", 0);
    assert_int_equal(append_next(a, &s, "Subject: 7\n\nseven\n"), 0);
    assert_last(&s, 1, "Subject: 7\r\n\r\nseven\r\n");
    assert_int_equal(unlink(s.inbox), 0);
    assert_int_equal(append_next(a, &s, "Subject: 8\n\neight\n"), 0);
    assert_last(&s, 1, "Subject: 8\r\n\r\neight\r\n");
    mbox_append_free(a);
    scratch_close(&s);
}

/* ---- deliveries ---- */

struct told {
    const struct scratch *s;
    int refusal; /* what it says before anything is written */
    int asked;
    int count;
    off_t size;   /* of the mailbox when it was told */
    int pause_us; /* what the rest of the commit takes */
    int until;    /* goes on with the end of this pipe, or 0 */
    int fd;       /* where to say so, or -1 */
};

static void note(void *context)
{
    struct told *t = context;
    struct stat st;

    assert_int_equal(stat(t->s->inbox, &st), 0);
    t->size = st.st_size;
    t->count++;
    if (t->fd >= 0)
        assert_int_equal(write(t->fd, "x", 1), 1);
    if (t->pause_us > 0)
        assert_int_equal(usleep((useconds_t)t->pause_us), 0);
    if (t->until > 0)
        assert_int_equal(read(t->until, &(char){0}, 1), 0);
}

static int ask(void *context)
{
    struct told *t = context;

    t->asked++;
    return t->refusal;
}

static int deliver_next(struct mbox_append *a)
{
    static const char mail[] = "Subject: x\n\nbody\n";
    const struct mbox_append_options options = {.sender = STR("a@b")};
    uint32_t validity, uid;

    assert_int_equal(mbox_append_message(a, &options), 0);
    assert_int_equal(mbox_append_write(a, mail, strlen(mail)), 0);
    return mbox_append_commit(a, &validity, &uid);
}

/* Who waits for a delivery hears of it when the message is there, not when all the rest is done; and never of one that
 * fails. */
static void test_delivery_is_told(void **state)
{
    struct told t = {.fd = -1};
    struct mbox_store *store;
    struct mbox_append *a;
    struct scratch s;
    struct stat st;

    (void)state;
    scratch_open(&s);
    t.s = &s;
    a = open_delivery(&s, 5, &store);
    mbox_append_hook(a, &(struct mbox_append_hooks){.tell = note, .context = &t});
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(deliver_next(a), 0);
        assert_int_equal(t.count, i);
        assert_int_equal(stat(s.inbox, &st), 0);
        assert_int_equal(t.size, st.st_size);
    }
    remove_tree(s.state);
    write_file(s.state, "", 0); /* no folder: it works without */
    assert_int_equal(deliver_next(a), 0);
    assert_int_equal(t.count, 4);
    write_file(s.inbox, "no mbox\n", 8);
    assert_int_equal(deliver_next(a), -EBADMSG);
    assert_int_equal(t.count, 4);
    mbox_append_free(a);
    mbox_store_free(store);
    assert_int_equal(unlink(s.state), 0);
    scratch_close(&s);
}

/* A mailbox that its owner's program removed between two messages is made anew, with the sidecars and without. */
static void test_removed_meanwhile(void **state)
{
    struct mbox_store *store;
    struct mbox_append *a;
    struct scratch s;
    struct stat st;

    (void)state;
    scratch_open(&s);
    a = open_delivery(&s, 5, &store);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(deliver_next(a), 0);
        assert_int_equal(unlink(s.inbox), 0);
        assert_int_equal(deliver_next(a), 0);
        assert_int_equal(stat(s.inbox, &st), 0);
        if (i != 1)
            continue;
        remove_tree(s.state);
        write_file(s.state, "", 0);
    }
    mbox_append_free(a);
    mbox_store_free(store);
    assert_int_equal(unlink(s.state), 0);
    scratch_close(&s);
}

/* What is not wanted any more when its turn comes is not written; what is there already is not asked for. */
static void test_delivery_is_asked(void **state)
{
    static const struct mbox_append_options again = {.sender = STR("a@b"), .is_again = true};
    uint32_t validity, uid;
    struct mbox_store *store;
    struct mbox_append *a;
    struct scratch s;
    struct told t = {.s = &s, .fd = -1};
    struct stat st;
    off_t size;

    (void)state;
    scratch_open(&s);
    a = open_delivery(&s, 5, &store);
    mbox_append_hook(a, &(struct mbox_append_hooks){.may = ask, .tell = note, .context = &t});
    for (int i = 0; i < 2; i++) {
        t.refusal = 0;
        assert_int_equal(deliver_next(a), 0);
        assert_int_equal(stat(s.inbox, &st), 0);
        size = st.st_size;
        t.refusal = -EPIPE;
        assert_int_equal(deliver_next(a), -EPIPE);
        assert_int_equal(stat(s.inbox, &st), 0);
        assert_int_equal(st.st_size, size);
        assert_int_equal(t.asked, 2 * (i + 1));
        assert_int_equal(t.count, 2 * i + 1);
        assert_int_equal(mbox_append_message(a, &again), 0);
        assert_int_equal(mbox_append_write(a, "Subject: x\n\nbody\n", 17), 0);
        assert_int_equal(mbox_append_commit(a, &validity, &uid), 0);
        assert_int_equal(t.asked, 2 * (i + 1));
        assert_int_equal(t.count, 2 * i + 2);
        remove_tree(s.state);
        write_file(s.state, "", 0); /* the same without */
    }
    mbox_append_free(a);
    mbox_store_free(store);
    assert_int_equal(unlink(s.state), 0);
    scratch_close(&s);
}

/* In a child: delivers, says when the message is there, and holds all locks for so long; 0: until *ret_release is
 * closed. */
static pid_t hold_in_child(struct scratch *s, int pause_us, int *ret_release)
{
    int ends[2], until[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe(ends) | pipe(until), 0);
    pid = fork();
    if (pid == 0) {
        struct told t = {.s = s, .fd = -1};
        struct mbox_store *store;
        struct mbox_append *a = open_delivery(s, 5, &store);

        mbox_append_hook(a, &(struct mbox_append_hooks){.tell = note, .context = &t});
        if (deliver_next(a) < 0)
            _exit(1);
        (void)close(until[1]);
        t.fd = ends[1];
        t.pause_us = pause_us;
        t.until = pause_us == 0 ? until[0] : 0;
        _exit(deliver_next(a) < 0 ? 1 : 0);
    }
    assert_true(pid > 0);
    assert_int_equal(close(ends[1]) | close(until[0]), 0); /* so that a child that dies is no wait without end */
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(close(ends[0]), 0);
    *ret_release = until[1];
    return pid;
}

/* One waits for the other, but no longer than it may. */
static void test_deliveries_in_line(void **state)
{
    struct mbox_store *patient, *hasty;
    struct mbox_append *a, *b;
    struct scratch s;
    int status, release;
    pid_t pid;

    (void)state;
    scratch_open(&s);
    a = open_delivery(&s, 60, &patient);
    b = open_delivery(&s, 1, &hasty);
    assert_int_equal(deliver_next(a), 0);
    assert_int_equal(deliver_next(b), 0);
    pid = hold_in_child(&s, 300000, &release);
    assert_int_equal(deliver_next(a), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(close(release), 0);
    pid = hold_in_child(&s, 0, &release);
    assert_int_equal(deliver_next(b), -EAGAIN);
    assert_int_equal(close(release), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(deliver_next(b), 0);
    assert_last(&s, 8, "Subject: x\r\n\r\nbody\r\n");
    mbox_append_free(a);
    mbox_append_free(b);
    mbox_store_free(patient);
    mbox_store_free(hasty);
    scratch_close(&s);
}

/* It is no more than an order: whose turn does not come tries once when its time is over. */
static void test_no_turn(void **state)
{
    struct flock turns = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = BOX_BYTE_TURN, .l_len = 8};
    struct mbox_store *store;
    struct mbox_append *a;
    struct scratch s;
    char *path;
    int fd;

    (void)state;
    scratch_open(&s);
    a = open_delivery(&s, 1, &store);
    assert_int_equal(deliver_next(a), 0);
    path = path_of(&s, "state/INBOX.lock");
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &turns), 0);
    assert_int_equal(deliver_next(a), 0);
    assert_int_equal(close(fd), 0);
    assert_last(&s, 2, "Subject: x\r\n\r\nbody\r\n");
    free(path);
    mbox_append_free(a);
    mbox_store_free(store);
    scratch_close(&s);
}

/* POP3's exclusive maildrop is one among POP3 sessions (RFC 1939 3): mail comes in meanwhile, and a delivery under way
 * is no other POP3 session. */
static void test_delivery_beside_pop3(void **state)
{
    struct mbox_store *store;
    struct mbox_append *a;
    struct scratch s;
    struct mbox *v;
    int status, release;
    pid_t pid;

    (void)state;
    scratch_open(&s);
    a = open_delivery(&s, 1, &store);
    assert_int_equal(deliver_next(a), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), MBOX_OPEN_POP3, &v), 0);
    assert_int_equal(deliver_next(a), 0);
    assert_int_equal(deliver_next(a), 0);
    assert_int_equal(mbox_close(v), 0);
    s.store->lock_timeout = 60; /* it waits as long as the other one takes */
    pid = hold_in_child(&s, 300000, &release);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), MBOX_OPEN_POP3, &v), 0);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(close(release), 0);
    mbox_append_free(a);
    mbox_store_free(store);
    scratch_close(&s);
}

/* Whoever made the file, an attempt of ours that failed or somebody else, may not have made its name durable. */
static void test_name_is_durable(void **state)
{
    struct scratch s;

    (void)state;
    scratch_open(&s);
    write_file(s.inbox, "", 0);
    watched = s.dir;
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    assert_int_equal(folder_syncs, 1);
    append_text(s.store, "INBOX", "Subject: two\n\nsecond\n", 21);
    assert_int_equal(folder_syncs, 1);
    watched = NULL;
    scratch_close(&s);
}

/* What is too much for memory cannot go to the disk when a message without an end of line gets its end: the messages
 * behind it are refused, and so is it. */
static void test_end_without_room(void **state)
{
    struct mbox_append_options options = {.sender = STR("a@b")};
    const struct rlimit before = {RLIM_INFINITY, RLIM_INFINITY}, none = {0, RLIM_INFINITY};
    const size_t size = (1u << 20) - 2;
    char *text = malloc(size);
    struct mbox_append *a;
    uint32_t validity, uid;
    struct scratch s;

    assert_non_null(text);
    memset(text, 'x', size);
    for (size_t i = 63; i < size; i += 64)
        text[i] = '\n';
    memcpy(text, "A: b\n\n", 6);
    text[size - 1] = '\n';
    scratch_open(&s);
    assert_int_equal(sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL), 0);
    assert_int_equal(mbox_append_new(s.store, STR("INBOX"), &a), 0);
    assert_int_equal(mbox_append_message(a, &options), 0);
    assert_int_equal(mbox_append_write(a, text, size), 0);
    assert_int_equal(mbox_append_write(a, "the end", 7), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    assert_int_equal(mbox_append_message(a, &options), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(mbox_append_message(a, &options), -EFBIG);
    assert_int_equal(mbox_append_commit(a, &validity, &uid), -EFBIG);
    assert_int_equal(append_next(a, &s, "Subject: next\n\nhere\n"), 0);
    mbox_append_free(a);
    assert_last(&s, 1, "Subject: next\r\n\r\nhere\r\n");
    scratch_close(&s);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_kept),          cmocka_unit_test(test_removed_meanwhile),
        cmocka_unit_test(test_delivery_is_told),     cmocka_unit_test(test_deliveries_in_line),
        cmocka_unit_test(test_delivery_beside_pop3), cmocka_unit_test(test_name_is_durable),
        cmocka_unit_test(test_delivery_is_asked),    cmocka_unit_test(test_no_turn),
        cmocka_unit_test(test_end_without_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
