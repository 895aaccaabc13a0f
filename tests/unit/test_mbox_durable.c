/*
 * What a journal says is durable before it goes, and one of which the disk kept only a part is none.
 */
#include "tests/unit/mbox_disk.h"
#include "tests/unit/mbox_util.h"

#include <sys/mman.h>
#include <sys/uio.h>

#include "shared/mbox/journal_file.h"

#define BLOCK 512u
#define PIECE (64u << 10)

/* Shared with the processes that die. */
static struct watch {
    bool is_unsynced; /* the mailbox file has what may not be durable */
    unsigned early;   /* so often a journal went all the same */
} * watch;

static const char *inbox, *journal; /* NULL: nobody looks */
static unsigned dies_at;   /* in front of so many writes to the mailbox while such a journal is there, 0: never */
static uint32_t dies_kind; /* 0: any */

/* Room for two of the smallest windows at a time. */
#define TIGHT 140000
static bool is_tight;

static bool is_file(int fd, const char *path)
{
    struct stat there, named;

    return path != NULL && fstat(fd, &there) == 0 && stat(path, &named) == 0 && there.st_ino == named.st_ino;
}

static uint32_t kind_of_journal(void)
{
    struct journal_head head = {0};
    int fd = open(journal, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (read(fd, &head, sizeof(head)) != sizeof(head) || head.magic != JOURNAL_MAGIC)
        head.kind = 0;
    assert_int_equal(close(fd), 0);
    return head.kind;
}

static void before_change(int fd)
{
    uint32_t kind;

    if (!is_file(fd, inbox))
        return;
    kind = dies_at > 0 ? kind_of_journal() : 0;
    if (kind != 0 && (dies_kind == 0 || dies_kind == kind) && --dies_at == 0)
        _exit(0);
    watch->is_unsynced = true;
}

/* Who looks on cannot tell whether it is made. */
static int sync_of(int fd)
{
    if (is_file(fd, inbox))
        watch->is_unsynced = false;
    return 0;
}

static void journal_goes(void)
{
    watch->early += watch->is_unsynced;
}

static bool is_journal(const char *path)
{
    return journal != NULL && strcmp(path, journal) == 0;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    static const uint64_t nothing;

    before_change(fd);
    if (offset == 0 && len >= sizeof(nothing) && memcmp(data, &nothing, sizeof(nothing)) == 0 && is_file(fd, journal))
        journal_goes(); /* it is made void */
    return syscall(SYS_pwrite64, fd, data, len, offset);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    before_change(fd);
    return syscall(SYS_pwritev2, fd, iov, count, offset, 0, flags);
}

int posix_fallocate(int fd, off_t offset, off_t len)
{
    before_change(fd);
    if (is_tight && len > TIGHT)
        return ENOSPC;
    return syscall(SYS_fallocate, fd, 0, offset, len) < 0 ? errno : 0;
}

int ftruncate(int fd, off_t size)
{
    before_change(fd);
    return (int)syscall(SYS_ftruncate, fd, size);
}

int fsync(int fd)
{
    return sync_of(fd);
}

int fdatasync(int fd)
{
    return sync_of(fd);
}

int rename(const char *from, const char *to)
{
    if (is_journal(to))
        journal_goes();
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int unlink(const char *path)
{
    if (is_journal(path))
        journal_goes();
    return unlinkat(AT_FDCWD, path, 0);
}

/* ---- mailboxes, and what is done to them ---- */

static const struct task {
    const char *name;
    uint32_t kind;
    size_t size;     /* of a message: from 64 KB on blocks are given back */
    bool refuses;    /* but the disk does not */
    bool is_tight;   /* a move goes in many steps */
    bool is_small;   /* the first message, which goes */
    bool is_flagged; /* the first message gets a keyword instead of going */
} tasks[] = {
    {"move", JOURNAL_MOVE, 9000, false, false, false, false},
    {"refused collapse", JOURNAL_COLLAPSE, 40000, true, true, false, false},
    {"collapse", JOURNAL_COLLAPSE, 20000, false, false, false, false},
    {"grow", JOURNAL_GROW, 20000, false, false, true, false},
    {"patch", JOURNAL_PATCH, 9000, false, false, true, true},
};

#define MESSAGES 5u
#define LONG     40000u

static void append_number(struct mbox_store *store, uint32_t n, size_t size)
{
    char text[LONG];
    size_t len = (size_t)snprintf(text, sizeof(text), "Subject: %u\n\n", n);

    do
        len += (size_t)snprintf(text + len, sizeof(text) - len, "line at %zu of message %u\n", len, n);
    while (len + 64 < size);
    append_text(store, "INBOX", text, len);
}

static void begin(struct scratch *s, const struct task *task)
{
    scratch_open(s);
    for (uint32_t n = 1; n <= MESSAGES; n++)
        append_number(s->store, n, task->is_small && n == 1 ? 0 : task->size);
    inbox = s->inbox;
    journal = path_of(s, "state/INBOX.journal");
    *watch = (struct watch){0};
}

static void end(struct scratch *s)
{
    inbox = NULL;
    free((char *)(uintptr_t)journal);
    journal = NULL;
    scratch_close(s);
}

static void change(struct scratch *s, const struct task *task)
{
    struct numset uids = NUMSET_INIT;
    struct mbox *v;

    disk_refuses = task->refuses;
    is_tight = task->is_tight;
    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(numset_add(&uids, 1, 1), 0);
    if (task->is_flagged) {
        struct mbox_flags flags = {.system = 0};
        unsigned n;

        assert_int_equal(mbox_keyword_number(v, STR("word"), true, &n), 0);
        flags.keywords = UINT64_C(1) << n;
        assert_int_equal(mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), 0);
        assert_int_equal(mbox_flush(v), 0);
    } else {
        assert_int_equal(mbox_remove(v, &uids, NULL), 0);
    }
    assert_int_equal(mbox_close(v), 0);
    numset_finish(&uids);
    disk_refuses = is_tight = false;
}

/* In a process that dies in front of write `at`. False: there are not so many. */
static bool change_and_die(struct scratch *s, const struct task *task, unsigned at, uint32_t kind)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        dies_at = at;
        dies_kind = kind;
        change(s, task);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return status == 0;
}

/* All are there once, byte for byte, but for the first, which may be gone; and `others` of other programs. */
static void assert_messages(struct scratch *s, size_t size, unsigned others)
{
    struct mbox *v;
    uint32_t count;

    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    count = mbox_count(v) - others;
    assert_true(count == MESSAGES || count == MESSAGES - 1);
    for (uint32_t seq = 1; seq <= count; seq++) {
        uint32_t n = seq + MESSAGES - count, at = 0;
        char line[64];
        size_t len, done;
        char *text = read_message(v, seq, &len);

        done = (size_t)snprintf(line, sizeof(line), "Subject: %u\r\n\r\n", n);
        assert_memory_equal(text, line, done);
        for (at = (uint32_t)done - 2; done < len; done += strlen(line)) {
            snprintf(line, sizeof(line), "line at %u of message %u\r\n", at, n);
            assert_true(len - done >= strlen(line));
            assert_memory_equal(text + done, line, strlen(line));
            at += (uint32_t)strlen(line) - 1;
        }
        assert_true(len + 100 > size || n == 1);
        free(text);
    }
    if (others > 0)
        assert_message(v, count + 1, "Subject: other\r\n\r\nother\r\n");
    assert_int_equal(mbox_close(v), 0);
}

static void append_other(struct scratch *s)
{
    FILE *f = fopen(s->inbox, "a");

    assert_non_null(f);
    fprintf(f, "From x@y Thu Jan  1 00:00:00 2015\nSubject: other\n\nother\n\n");
    assert_int_equal(fclose(f), 0);
}

/* Killed at every write to the mailbox, finished by another process, with mail that came in between and without: a
 * power cut behind the end of a journal finds everything. */
static void test_durable_first(void **state)
{
    unsigned points = 0;
    struct scratch s;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
        for (unsigned others = 0; others <= 1; others++) {
            bool dies = true;

            for (unsigned at = 1; dies; at++) {
                begin(&s, &tasks[i]);
                dies = change_and_die(&s, &tasks[i], at, 0);
                if (others > 0)
                    append_other(&s);
                disk_refuses = tasks[i].refuses;
                is_tight = tasks[i].is_tight;
                assert_messages(&s, tasks[i].size, others);
                disk_refuses = is_tight = false;
                if (watch->early > 0)
                    print_message("%s, killed at write %u, %u others\n", tasks[i].name, at, others);
                assert_int_equal(watch->early, 0);
                end(&s);
                points++;
            }
        }
    }
    print_message("%u points\n", points);
    assert_true(points > 2 * ARRAY_SIZE(tasks) * 2);
}

static bool is_zero(const char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Without emptying the file first: ext4 would write it to the disk at once. A journal is new, and room for windows is
 * left out. */
static void put_back(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    for (size_t at = 0, n; at < len; at += n) {
        n = len - at < PIECE ? len - at : PIECE;
        if (!is_zero(text + at, n))
            assert_int_equal(syscall(SYS_pwrite64, fd, text + at, n, (off_t)at), n);
    }
    assert_int_equal(syscall(SYS_ftruncate, fd, (off_t)len), 0);
    assert_int_equal(close(fd), 0);
}

/* Of a journal that a power cut left as long as it was to be any block may hold zeros, or what stood on the disk
 * before. Each part carries its checksum: nothing of it is believed. */
static void damage(struct scratch *s, const struct task *task, int with)
{
    size_t box_len, len;
    char *box, *text, block[BLOCK];
    unsigned points = 0;

    begin(s, task);
    assert_true(change_and_die(s, task, 1, task->kind));
    box = read_file(s->inbox, &box_len);
    text = read_file(journal, &len);
    inbox = NULL;
    for (size_t at = 0; at < len; at += BLOCK) {
        size_t n = len - at < BLOCK ? len - at : BLOCK;
        char *state;

        if (is_zero(text + at, n))
            continue;
        state = path_of(s, "state");
        memcpy(block, text + at, n);
        memset(text + at, with, n);
        mbox_store_free(s->store);
        remove_tree(state);
        assert_int_equal(mkdir(state, 0700), 0);
        put_back(journal, text, len);
        put_back(s->inbox, box, box_len);
        scratch_store(s);
        assert_messages(s, task->size, 0);
        memcpy(text + at, block, n);
        free(state);
        points++;
    }
    print_message("%s: %u blocks\n", task->name, points);
    assert_true(points > 2);
    free(box);
    free(text);
    end(s);
}

static void test_damaged_journal(void **state)
{
    struct scratch s;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
        bool can;

        scratch_open(&s);
        can = disk_can_collapse(s.dir) || tasks[i].kind == JOURNAL_MOVE || tasks[i].kind == JOURNAL_PATCH;
        scratch_close(&s);
        if (!can)
            continue;
        damage(&s, &tasks[i], 0);
        damage(&s, &tasks[i], 'x');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_durable_first), cmocka_unit_test(test_damaged_journal)};

    watch = mmap(NULL, sizeof(*watch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(watch != MAP_FAILED);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
