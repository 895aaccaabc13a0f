/*
 * shared/queue: envelopes as text, entries in folders, locks, what a crash leaves behind.
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

static const char MESSAGE[] = "Subject: hi\n\nhi\n";

/* ---- envelopes ---- */

static void fill(struct queue_envelope *e)
{
    struct queue_recipient *r;

    e->created = 1795900000;
    assert_int_equal(queue_envelope_set(&e->sender, STR("a%b@example.org")), 0);
    assert_int_equal(queue_envelope_set(&e->envid, STR("QQ+3D")), 0);
    e->body = QUEUE_BODY_8BITMIME;
    e->ret = QUEUE_RET_HDRS;
    e->is_utf8 = e->requires_tls = e->is_held = true;
    e->priority = -4;
    e->by = QUEUE_BY_NOTIFY;
    e->by_deadline = 1795900600;
    e->is_by_told = true;
    e->attempts = 3;
    assert_int_equal(queue_envelope_add(e, STR("bob@example.net"), &r), 0);
    r->state = QUEUE_DEFERRED;
    r->notify = QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_FAILURE;
    assert_int_equal(queue_envelope_set(&r->reply, STR("450 4.2.0 two\nlines")), 0);
    assert_int_equal(queue_envelope_set(&r->host, STR("mx.example.net [192.0.2.1]")), 0);
    assert_int_equal(queue_envelope_set(&r->sender, STR("")), 0);
    assert_int_equal(queue_envelope_add(e, STR("carol"), &r), 0);
    r->kind = QUEUE_COMMAND;
    assert_int_equal(queue_envelope_set(&r->user, STR("carol")), 0);
    assert_int_equal(queue_envelope_set(&r->argument, STR("cat >/dev/null; echo 100%")), 0);
}

static const char TEXT[] = "pennypost-envelope 1\n"
                           "created 1795900000\n"
                           "sender a%25b@example.org\n"
                           "body 8bitmime\n"
                           "smtputf8 yes\n"
                           "ret hdrs\n"
                           "envid QQ+3D\n"
                           "requiretls yes\n"
                           "priority -4\n"
                           "deliverby notify\n"
                           "deliverby-deadline 1795900600\n"
                           "held yes\n"
                           "deliverby-told yes\n"
                           "attempts 3\n"
                           "to bob@example.net\n"
                           "to-sender \n"
                           "to-notify 6\n"
                           "to-state deferred\n"
                           "to-reply 450 4.2.0 two%0Alines\n"
                           "to-host mx.example.net [192.0.2.1]\n"
                           "to carol\n"
                           "to-kind command\n"
                           "to-user carol\n"
                           "to-argument cat >/dev/null; echo 100%25\n"
                           "end\n";

static void test_format(void **state)
{
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT, back = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(4096), again = BUF_INIT(4096);

    fill(&e);
    assert_int_equal(queue_envelope_format(&e, &text), 0);
    assert_string_equal(buf_cstr(&text), TEXT);
    assert_int_equal(queue_envelope_parse(buf_str(&text), &back), 0);
    assert_int_equal(back.count, 2);
    assert_string_equal(back.sender, "a%b@example.org");
    assert_string_equal(back.recipients[0].reply, "450 4.2.0 two\nlines");
    assert_string_equal(queue_recipient_sender(&back, &back.recipients[0]), "");
    assert_string_equal(queue_recipient_sender(&back, &back.recipients[1]), "a%b@example.org");
    assert_int_equal(back.priority, -4);
    assert_int_equal(queue_envelope_format(&back, &again), 0);
    assert_string_equal(buf_cstr(&again), TEXT);
}

/* Cut anywhere it is damaged, never something else; the byte that is missing last is a line end. */
static void test_truncated(void **state)
{
    for (size_t len = 0; len < sizeof(TEXT) - 1; len++) {
        struct queue_envelope e = QUEUE_ENVELOPE_INIT;
        int r = queue_envelope_parse((struct str){TEXT, len}, &e);

        assert_int_equal(r, -EBADMSG);
        assert_null(e.recipients);
    }
}

static void test_damaged(void **state)
{
    static const struct {
        const char *text;
        int error;
    } cases[] = {
        {"", -EBADMSG},
        {"pennypost-envelope 2\nend\n", -EPROTONOSUPPORT},
        {"pennypost-envelope 1\nsender \nend\n", -EBADMSG},                                /* no recipient */
        {"pennypost-envelope 1\nto a\nend\n", -EBADMSG},                                   /* no sender */
        {"pennypost-envelope 1\nsender \nto \nend\n", -EBADMSG},                           /* nobody */
        {"pennypost-envelope 1\nsender \nto a\nend\n", 0},                                 /* the least */
        {"pennypost-envelope 1\nsender \nto a\nend\nx", -EBADMSG},                         /* more */
        {"pennypost-envelope 1\nsender \nfuture thing\nto a\nto-future x\nend\n", 0},      /* a newer version's */
        {"pennypost-envelope 1\nsender \nto-state failed\nto a\nend\n", -EBADMSG},         /* of nobody */
        {"pennypost-envelope 1\nsender \nto a\nto-state lost\nend\n", -EBADMSG},           /* no such state */
        {"pennypost-envelope 1\nsender \nto a\nto-kind mailbox\nend\n", -EBADMSG},         /* whose? */
        {"pennypost-envelope 1\nsender a%2\nto a\nend\n", -EBADMSG},                       /* half an escape */
        {"pennypost-envelope 1\nsender a%00\nto a\nend\n", -EBADMSG},                      /* NUL */
        {"pennypost-envelope 1\nsender %41%\nto a\nend\n", -EBADMSG},
        {"pennypost-envelope 1\ncreated x\nsender \nto a\nend\n", -EBADMSG},
        {"pennypost-envelope 1\ncreated -1\nsender \nto a\nend\n", -EBADMSG},
        {"pennypost-envelope 1\ncreated 99999999999999999999\nsender \nto a\nend\n", -EBADMSG},
        {"pennypost-envelope 1\nheld maybe\nsender \nto a\nend\n", -EBADMSG},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;

        assert_int_equal(queue_envelope_parse(str_from(cases[i].text), &e), cases[i].error);
    }
}

static void test_limits(void **state)
{
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    struct queue_recipient *r;

    for (size_t i = 0; i < QUEUE_RECIPIENTS; i++)
        assert_int_equal(queue_envelope_add(&e, STR("a"), &r), 0);
    assert_int_equal(queue_envelope_add(&e, STR("a"), &r), -E2BIG);
    assert_false(queue_envelope_is_done(&e));
    for (size_t i = 0; i < e.count; i++)
        e.recipients[i].state = i % 2 ? QUEUE_FAILED : QUEUE_RELAYED;
    assert_true(queue_envelope_is_done(&e));
}

/* ---- folders ---- */

struct place {
    char folder[64];
    struct queue queue;
    struct clock clock;
};

static int set_up(void **state)
{
    static struct place p;

    p = (struct place){.queue = QUEUE_INIT};
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
    assert_int_equal(queue_sweep(&p->queue, now + QUEUE_ORPHAN + 10), 2);
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
    assert_int_equal(queue_flush(&p->queue, STR(""), 1, &counts), 0);
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
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_limits),
        cmocka_unit_test_setup_teardown(test_life, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_create_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_walk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_corrupt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sweep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flush, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parallel, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
