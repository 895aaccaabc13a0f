/*
 * shared/queue: entries in folders, locks, what a crash leaves behind. The linker puts __wrap_fsync() in the place of
 * fsync(), for a disk that fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/queue/file.h"
#include "shared/queue/flush.h"
#include "shared/queue/queue.h"
#include "tests/unit/queue_sample.h"

static const char MESSAGE[] = "Subject: hi\n\nhi\n";

static int failing = -1; /* the folder whose fsync() fails */

int __wrap_fsync(int fd);
int __real_fsync(int fd);

int __wrap_fsync(int fd)
{
    if (fd != failing)
        return __real_fsync(fd);
    errno = EIO;
    return -1;
}

struct place {
    char folder[64];
    struct queue queue;
    struct clock clock;
};

static int set_up(void **state)
{
    static struct place p;

    p = (struct place){.queue = QUEUE_INIT};
    failing = -1;
    (void)snprintf(p.folder, sizeof(p.folder), "/tmp/test_queue-XXXXXX");
    assert_non_null(mkdtemp(p.folder));
    assert_int_equal(queue_open(p.folder, &p.queue), 0);
    *state = &p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    pid_t pid = fork();

    queue_close(&p->queue);
    if (pid == 0) {
        (void)execlp("rm", "rm", "-rf", p->folder, (char *)NULL);
        _exit(127);
    }
    return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

/* `kind`: 't' without a name, 'n' with one, 'm' in memory. */
static int make_message(const struct place *p, char kind)
{
    char path[128];
    int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/message-XXXXXX", p->folder);
    if (kind == 't')
        fd = open(p->folder, O_TMPFILE | O_RDWR, 0600);
    if (kind == 'm')
        fd = memfd_create("message", 0);
    if (fd < 0)
        fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, MESSAGE, sizeof(MESSAGE) - 1), sizeof(MESSAGE) - 1);
    return fd;
}

static void make_entry(struct place *p, char kind, char id[QUEUE_ID + 1])
{
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_close_ int fd = make_message(p, kind);

    fill(&e);
    assert_int_equal(queue_create(&p->queue, &p->clock, fd, &e, STR(""), id), 0);
}

static void test_life(void **state)
{
    struct place *p = *state;
    static const char kinds[] = "tnm";

    for (size_t i = 0; kinds[i]; i++) {
        _cleanup_queue_entry_ struct queue_entry t = QUEUE_ENTRY_INIT, other = QUEUE_ENTRY_INIT;
        _cleanup_queue_envelope_ struct queue_envelope seen = QUEUE_ENVELOPE_INIT;
        char id[QUEUE_ID + 1], bytes[64] = "";

        make_entry(p, kinds[i], id);
        assert_int_equal(queue_take(&p->queue, id, &t), 0);
        assert_true(t.is_new);
        assert_int_equal(read(t.file, bytes, sizeof(bytes) - 1), sizeof(MESSAGE) - 1);
        assert_string_equal(bytes, MESSAGE);
        assert_int_equal(queue_take(&p->queue, id, &other), -EAGAIN);
        t.envelope.recipients[0].state = QUEUE_RELAYED;
        assert_int_equal(queue_update(&p->queue, &t), 0);
        assert_int_equal(queue_settle(&p->queue, &t), 0);
        assert_int_equal(queue_settle(&p->queue, &t), 0);
        t.envelope.attempts = 4;
        assert_int_equal(queue_update(&p->queue, &t), 0);
        queue_release(&t);
        assert_int_equal(queue_peek(&p->queue, id, &seen), 0);
        assert_int_equal(seen.attempts, 4);
        assert_int_equal(seen.recipients[0].state, QUEUE_RELAYED);
        assert_int_equal(queue_take(&p->queue, id, &other), 0);
        assert_false(other.is_new);
        assert_int_equal(queue_remove(&p->queue, &other), 0);
        assert_int_equal(queue_take(&p->queue, id, &t), -ENOENT);
        queue_release(&other);
        assert_int_equal(queue_take(&p->queue, id, &t), -ENOENT);
        assert_int_equal(queue_peek_message(&p->queue, id, &t.file), -ENOENT);
    }
}

static void test_create_refused(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_close_ int fd = make_message(p, 'n');
    char id[QUEUE_ID + 1];

    assert_int_equal(queue_create(&p->queue, &p->clock, fd, &e, STR(""), id), -EINVAL);
    fill(&e);
    assert_int_equal(queue_create(&p->queue, &p->clock, fd, &e, STR("../x"), id), -EINVAL);
    assert_int_equal(queue_create(&p->queue, &p->clock, fd, &e, STR("abc"), id), 0);
    assert_string_equal(id, "abc");
    assert_int_equal(queue_create(&p->queue, &p->clock, fd, &e, STR("abc"), id), -EEXIST);
    assert_int_equal(faccessat(p->queue.new, "abc", F_OK, 0), 0);
    assert_int_equal(faccessat(p->queue.msg, "abc", F_OK, 0), 0);
    assert_int_not_equal(faccessat(p->queue.msg, "abc.tmp", F_OK, 0), 0);
}

static void test_open_refused(void **state)
{
    struct place *p = *state;
    struct queue q = QUEUE_INIT;

    assert_int_equal(queue_open("/nonexistent/queue", &q), -ENOENT);
    assert_int_equal(chmod(p->folder, 0777), 0);
    assert_int_equal(queue_open(p->folder, &q), -EPERM);
}

static unsigned count(struct place *p, bool only_new)
{
    _cleanup_queue_walk_ struct queue_walk w = {0};
    char id[QUEUE_ID + 1];
    unsigned n = 0;
    int e;

    assert_int_equal(queue_walk_begin(&p->queue, &w), 0);
    w.only_new = only_new;
    while ((e = queue_walk_next(&w, id)) > 0)
        n++;
    assert_int_equal(e, 0);
    return n;
}

/* Several entries, one sync: until then their messages are there. */
static void test_remove_in_steps(void **state)
{
    struct place *p = *state;
    struct queue_entry t[3] = {QUEUE_ENTRY_INIT, QUEUE_ENTRY_INIT, QUEUE_ENTRY_INIT}, other = QUEUE_ENTRY_INIT;
    char id[3][QUEUE_ID + 1];
    int file = -1;

    for (size_t i = 0; i < 3; i++) {
        make_entry(p, 'n', id[i]);
        assert_int_equal(queue_take(&p->queue, id[i], &t[i]), 0);
    }
    assert_int_equal(queue_settle(&p->queue, &t[1]), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(queue_unlink(&p->queue, &t[i]), 0);
        assert_int_equal(queue_peek_message(&p->queue, id[i], &file), 0);
        assert_int_equal(close(file), 0);
        assert_int_equal(queue_take(&p->queue, id[i], &other), -EAGAIN);
    }
    assert_true(p->queue.is_new_behind && p->queue.is_cur_behind);
    assert_int_equal(queue_sync(&p->queue), 0);
    assert_false(p->queue.is_new_behind || p->queue.is_cur_behind);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(queue_forget(&p->queue, &t[i]), 0);
        queue_release(&t[i]);
        assert_int_equal(queue_take(&p->queue, id[i], &other), -ENOENT);
    }
    queue_release(&t[2]);
    assert_int_equal(count(p, false), 1);
}

/* A run has tried it: its envelope is in cur/, at the end of one step. */
static void test_put_off(void **state)
{
    struct place *p = *state;
    struct queue_entry t = QUEUE_ENTRY_INIT;
    char id[QUEUE_ID + 1];

    make_entry(p, 't', id);
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    for (uint32_t i = 1; i <= 2; i++) { /* the second time it is there already */
        t.envelope.attempts = i;
        assert_int_equal(queue_put_off(&p->queue, &t), 0);
        assert_false(t.is_new);
        assert_int_equal(count(p, true), 0);
        assert_int_equal(count(p, false), 1);
    }
    assert_true(p->queue.is_new_behind && !p->queue.is_cur_behind);
    queue_release(&t);
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    assert_int_equal(t.envelope.attempts, 2);
    queue_release(&t);
}

/* The envelope is in cur/, but the disk does not say so: what it tells of is not forgotten, and the name in new/ is not
 * given up before the disk does. */
static void test_put_off_fails(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope seen = QUEUE_ENVELOPE_INIT;
    struct queue_entry t = QUEUE_ENTRY_INIT;
    char id[QUEUE_ID + 1], temporary[QUEUE_ID + 8];

    make_entry(p, 't', id);
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    t.envelope.recipients[0].state = QUEUE_RELAYED;
    failing = p->queue.cur;
    assert_int_equal(queue_put_off(&p->queue, &t), -EIO);
    assert_false(t.is_new);
    assert_int_equal(queue_settle(&p->queue, &t), 0); /* as relay does */
    queue_release(&t);
    assert_int_equal(queue_peek(&p->queue, id, &seen), 0);
    assert_int_equal(seen.recipients[0].state, QUEUE_RELAYED);
    assert_int_equal(queue_take(&p->queue, id, &t), -EIO);
    assert_int_equal(count(p, true), 1);
    failing = -1;
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    assert_int_equal(t.envelope.recipients[0].state, QUEUE_RELAYED);
    assert_int_equal(count(p, true), 0);
    queue_release(&t);

    /* It did not come to cur/: nothing has changed. */
    make_entry(p, 't', id);
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    (void)snprintf(temporary, sizeof(temporary), "%s.tmp", id);
    assert_int_equal(mkdirat(p->queue.msg, temporary, 0700), 0); /* in the way */
    assert_int_equal(queue_put_off(&p->queue, &t), -EISDIR);
    assert_true(t.is_new);
    assert_int_equal(count(p, true), 1);
    queue_release(&t);
}

/* A crash has left both names: the envelope in cur/ is the newer one, and the other one does not come back. */
static void test_in_both(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope seen = QUEUE_ENVELOPE_INIT;
    struct queue_entry t = QUEUE_ENTRY_INIT;
    char id[QUEUE_ID + 1];

    make_entry(p, 't', id);
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    assert_int_equal(linkat(p->queue.new, id, p->queue.new, "kept", 0), 0);
    t.envelope.attempts = 7;
    assert_int_equal(queue_put_off(&p->queue, &t), 0);
    queue_release(&t);
    assert_int_equal(renameat(p->queue.new, "kept", p->queue.new, id), 0);

    assert_int_equal(queue_peek(&p->queue, id, &seen), 0);
    assert_int_equal(seen.attempts, 7);
    assert_int_equal(count(p, true), 1);
    assert_int_equal(queue_sync(&p->queue), 0);
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    assert_int_equal(t.envelope.attempts, 7);
    assert_false(t.is_new);
    assert_int_equal(count(p, true), 0);
    assert_int_equal(queue_renew(&p->queue, &t), 0);
    assert_int_equal(count(p, true), 1);
    assert_int_equal(count(p, false), 1);
    assert_int_equal(queue_remove(&p->queue, &t), 0);
    assert_int_equal(count(p, false), 0);
    queue_release(&t);

    /* One that left new/ in another process, which did not wait for the disk: a removal does, in both folders. */
    make_entry(p, 't', id);
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    assert_int_equal(queue_put_off(&p->queue, &t), 0);
    p->queue.is_new_behind = false;
    assert_int_equal(queue_unlink(&p->queue, &t), 0);
    assert_true(p->queue.is_new_behind && p->queue.is_cur_behind);
    queue_release(&t);
}

static void test_walk(void **state)
{
    struct place *p = *state;
    char id[QUEUE_ID + 1];

    assert_int_equal(count(p, false), 0);
    for (unsigned i = 0; i < 5; i++) {
        _cleanup_queue_entry_ struct queue_entry t = QUEUE_ENTRY_INIT;

        make_entry(p, 't', id);
        if (i % 2 == 0)
            continue;
        assert_int_equal(queue_take(&p->queue, id, &t), 0);
        assert_int_equal(queue_settle(&p->queue, &t), 0);
    }
    assert_int_equal(count(p, false), 5);
    assert_int_equal(count(p, true), 3);
}

static void damage(const struct place *p, int folder, const char *id)
{
    int fd = openat(folder, id, O_WRONLY | O_TRUNC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, TEXT, 30), 30);
    (void)close(fd);
}

static void test_corrupt(void **state)
{
    struct place *p = *state;
    _cleanup_queue_entry_ struct queue_entry t = QUEUE_ENTRY_INIT;
    char id[QUEUE_ID + 1], message[QUEUE_ID + 8];

    make_entry(p, 't', id);
    damage(p, p->queue.new, id);
    assert_int_equal(queue_take(&p->queue, id, &t), -EBADMSG);
    assert_int_equal(queue_take(&p->queue, id, &t), -ENOENT);
    (void)snprintf(message, sizeof(message), "%s.msg", id);
    assert_int_equal(faccessat(p->queue.corrupt, id, F_OK, 0), 0);
    assert_int_equal(faccessat(p->queue.corrupt, message, F_OK, 0), 0);

    /* An envelope without its message. */
    make_entry(p, 't', id);
    assert_int_equal(unlinkat(p->queue.msg, id, 0), 0);
    assert_int_equal(queue_take(&p->queue, id, &t), -EBADMSG);
    assert_int_equal(queue_take(&p->queue, id, &t), -ENOENT);
    assert_int_equal(faccessat(p->queue.corrupt, id, F_OK, 0), 0);
}

static void test_sweep(void **state)
{
    struct place *p = *state;
    int64_t now = clock_now(&p->clock);
    char id[QUEUE_ID + 1], kept[QUEUE_ID + 1];
    int fd;

    make_entry(p, 't', kept);
    make_entry(p, 't', id);
    assert_int_equal(unlinkat(p->queue.new, id, 0), 0);
    fd = openat(p->queue.msg, "half.tmp", O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(queue_sweep(&p->queue, now), 0);
    assert_int_equal(queue_sweep(&p->queue, now + QUEUE_ORPHAN + 3600), 2);
    assert_int_not_equal(faccessat(p->queue.msg, id, F_OK, 0), 0);
    assert_int_equal(faccessat(p->queue.msg, kept, F_OK, 0), 0);
}

static void test_flush(void **state)
{
    struct place *p = *state;
    _cleanup_queue_entry_ struct queue_entry t = QUEUE_ENTRY_INIT;
    struct queue_flush counts;
    char id[QUEUE_ID + 1];

    make_entry(p, 't', id);
    assert_int_equal(queue_flush(&p->queue, STR("example.net"), 1, &counts), 0);
    assert_int_equal(counts.found, 0); /* held */
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    t.envelope.is_held = false;
    t.envelope.recipients[0].next_attempt = t.envelope.next_attempt = 1795999999;
    assert_int_equal(queue_update(&p->queue, &t), 0);
    assert_int_equal(queue_settle(&p->queue, &t), 0);
    assert_int_equal(queue_flush(&p->queue, STR("example.net"), 1, &counts), 0);
    assert_int_equal(counts.found, 1); /* and in work */
    assert_int_equal(counts.woken, 0);
    queue_release(&t);
    assert_int_equal(queue_flush(&p->queue, STR("example.org"), 1, &counts), 0);
    assert_int_equal(queue_flush(&p->queue, STR("ample.net"), 1, &counts), 0);
    assert_int_equal(counts.found, 0);
    assert_int_equal(queue_flush(&p->queue, STR("@NET"), 1, &counts), 0);
    assert_int_equal(counts.found, 1);
    assert_int_equal(counts.woken, 1);
    assert_int_equal(count(p, true), 1);
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    assert_int_equal(t.envelope.recipients[0].next_attempt, 0);
    assert_true(t.is_new);
    assert_int_equal(queue_settle(&p->queue, &t), 0);
    queue_release(&t);
    assert_int_equal(linkat(p->queue.cur, id, p->queue.new, id, 0), 0); /* as a crash may leave it */
    assert_int_equal(queue_flush(&p->queue, STR(""), 1, &counts), 0);
    assert_int_equal(counts.found, 1);
    assert_int_equal(counts.woken, 1);
}

/* Several processes at once: each entry is worked on once. */
static void test_parallel(void **state)
{
    struct place *p = *state;
    char id[QUEUE_ID + 1];
    unsigned done = 0;
    int pipes[2];

    for (unsigned i = 0; i < 20; i++)
        make_entry(p, 't', id);
    assert_int_equal(pipe(pipes), 0);
    for (unsigned i = 0; i < 4; i++) {
        if (fork() != 0)
            continue;
        struct queue_walk w = {0};

        (void)queue_walk_begin(&p->queue, &w);
        while (queue_walk_next(&w, id) > 0) {
            struct queue_entry t = QUEUE_ENTRY_INIT;

            if (queue_take(&p->queue, id, &t) == 0 && queue_remove(&p->queue, &t) == 0)
                (void)!write(pipes[1], "x", 1);
            queue_release(&t);
        }
        _exit(0);
    }
    (void)close(pipes[1]);
    for (char c; read(pipes[0], &c, 1) == 1;)
        done++;
    (void)close(pipes[0]);
    while (wait(NULL) > 0)
        continue;
    assert_int_equal(done, 20);
    assert_int_equal(count(p, false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_remove_in_steps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_create_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_off_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_both, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_walk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_corrupt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sweep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flush, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parallel, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
