/*
 * Dotlocks beside a box: whose they are, and what becomes of those whose makers died.
 */
#include "tests/unit/mbox_util.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "shared/base/macros.h"
#include "shared/base/maker.h"
#include "shared/mbox/box.h"

/* Stand in front of libc's: a clock that is wrong, or runs fast; a file system without unnamed files; how old a
 * dotlock is. */
static time_t clock_is_off;
static bool clock_runs;
static bool has_no_tmpfile;
static const char *watched; /* a dotlock */
static bool is_refreshed;

time_t time(time_t *ret)
{
    struct timespec now;

    (void)syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    now.tv_sec += clock_is_off;
    if (ret != NULL)
        *ret = now.tv_sec;
    return now.tv_sec;
}

int clock_gettime(clockid_t id, struct timespec *ret)
{
    static time_t passed;
    int r = (int)syscall(SYS_clock_gettime, id, ret);

    if (id == CLOCK_MONOTONIC && clock_runs)
        passed++;
    if (id == CLOCK_MONOTONIC)
        ret->tv_sec += passed;
    return r;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode;

    va_start(ap, flags);
    mode = va_arg(ap, mode_t);
    va_end(ap);
    if (has_no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* When it is there: once as if nobody had touched it for long, then looks whether somebody does. */
static void watch(void)
{
    const struct timespec past[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    static bool is_aged;
    struct stat st;

    if (watched == NULL || lstat(watched, &st) < 0)
        return;
    is_refreshed = is_aged && st.st_mtime > past[0].tv_sec;
    if (!is_aged)
        is_aged = utimensat(AT_FDCWD, watched, past, 0) == 0;
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    watch();
    return syscall(SYS_pread64, fd, data, len, offset);
}

/* A dotlock that another program has put in the place of ours is not ours to remove. */
static void test_foreign_dotlock_stays(void **state)
{
    struct scratch s;
    struct box *b;
    char *lock;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    lock = path_of(&s, "inbox.lock");
    for (int is_taken = 0; is_taken < 2; is_taken++) {
        assert_int_equal(box_open(s.store, STR("INBOX"), false, &b), 0);
        assert_int_equal(box_lock(b, BOX_WRITE), 0);
        assert_int_equal(access(lock, F_OK), 0);
        if (is_taken) {
            char *fresh = path_of(&s, "fresh");

            write_file(fresh, "1\n", 2);
            assert_int_equal(rename(fresh, lock), 0);
            free(fresh);
        }
        box_unlock(b);
        box_free(b);
        assert_int_equal(access(lock, F_OK), is_taken ? 0 : -1);
    }
    free(lock);
    scratch_close(&s);
}

/* A process that died with a dotlock keeps nobody out: we hold the kernel lock and it is gone. A dotlock that tells of
 * no process, of another host's or of a living one is left to its age. */
static void test_dotlock_of_dead_process(void **state)
{
    static const char *const alive[] = {
        "0\n",
        "0\npennypost 00000000-0000-0000-0000-000000000001 999999999\n",
        "0\npennypost 00000000-0000-0000-0000-000000000001 999999999 another.host.example\n",
        "0\npennypost 00000000-0000-0000-0000-000000000001 0 another.host.example\n",
        "0\npennypost 00000000-0000-0000-0000-000000000001",
        "0\npennypost ",
        "999999999\n",
    };
    _cleanup_free_ char *lock = NULL;
    struct scratch s;
    struct box *b;
    char living[MAKER_TEXT];
    size_t len;
    int status;
    pid_t pid;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    lock = path_of(&s, "inbox.lock");
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(box_open(s.store, STR("INBOX"), false, &b) == 0 && box_lock(b, BOX_WRITE) == 0 ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(access(lock, F_OK), 0);
    s.store->lock_timeout = 0;
    assert_int_equal(box_open(s.store, STR("INBOX"), false, &b), 0);
    assert_int_equal(box_lock(b, BOX_WRITE), 0);
    box_unlock(b);
    assert_int_equal(access(lock, F_OK), -1);

    assert_int_equal(maker_text(living, &len), 0);
    for (size_t i = 0; i <= ARRAY_SIZE(alive); i++) {
        const char *text = i < ARRAY_SIZE(alive) ? alive[i] : living;

        write_file(lock, text, strlen(text));
        assert_int_equal(box_lock(b, BOX_WRITE), -EAGAIN);
        assert_int_equal(access(lock, F_OK), 0);
    }
    box_free(b);
    scratch_close(&s);
}

/* What an earlier boot of this host left is broken at once: nothing of it runs any more. */
static void test_dotlock_of_earlier_boot(void **state)
{
    _cleanup_free_ char *lock = NULL;
    char text[MAKER_TEXT], *boot;
    struct scratch s;
    struct box *b;
    size_t len;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    lock = path_of(&s, "inbox.lock");
    assert_int_equal(maker_text(text, &len), 0);
    boot = strchr(text, ' ') + 1;
    memcpy(boot, "00000000-0000-0000-0000-000000000001", 36);
    s.store->lock_timeout = 0;
    assert_int_equal(box_open(s.store, STR("INBOX"), false, &b), 0);
    write_file(lock, text, len);
    assert_int_equal(box_lock(b, BOX_WRITE), 0);
    box_unlock(b);
    assert_int_equal(access(lock, F_OK), -1);
    write_file(lock, text, len - 1); /* torn by a power cut */
    assert_int_equal(box_lock(b, BOX_WRITE), -EAGAIN);
    box_free(b);
    scratch_close(&s);
}

/* One that cannot be opened, as mutt's cannot, for its mode, is judged by its age too. */
static void test_stale_dotlock_that_cannot_be_read(void **state)
{
    const struct timespec past = {.tv_sec = time(NULL) - MAKER_STALE - 10}, old[2] = {past, past};
    _cleanup_free_ char *lock = NULL;
    struct scratch s;
    struct box *b;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    lock = path_of(&s, "inbox.lock");
    s.store->lock_timeout = 0;
    assert_int_equal(box_open(s.store, STR("INBOX"), false, &b), 0);
    assert_int_equal(symlink("nowhere", lock), 0); /* nor can this, by root either */
    assert_int_equal(box_lock(b, BOX_WRITE), -EAGAIN);
    assert_int_equal(utimensat(AT_FDCWD, lock, old, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(box_lock(b, BOX_WRITE), 0);
    box_unlock(b);
    box_free(b);
    scratch_close(&s);
}

/* Whether it is old the clock of the file server says, not ours. */
static void test_wrong_clock(void **state)
{
    const struct timespec past[2] = {{.tv_sec = time(NULL) - MAKER_STALE - 10},
                                     {.tv_sec = time(NULL) - MAKER_STALE - 10}};
    _cleanup_free_ char *lock = NULL;
    struct scratch s;
    struct box *b;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    lock = path_of(&s, "inbox.lock");
    s.store->lock_timeout = 0;
    assert_int_equal(box_open(s.store, STR("INBOX"), false, &b), 0);
    for (int is_named = 0; is_named < 2; is_named++) {
        has_no_tmpfile = is_named;
        clock_is_off = 2 * MAKER_STALE;
        write_file(lock, "0\n", 2);
        assert_int_equal(box_lock(b, BOX_WRITE), -EAGAIN);
        assert_int_equal(utimensat(AT_FDCWD, lock, past, 0), 0);
        assert_int_equal(box_lock(b, BOX_WRITE), 0);
        box_unlock(b);
        clock_is_off = 0;
    }
    has_no_tmpfile = false;
    box_free(b);
    scratch_close(&s);
}

/* A mailbox that takes long to be read for the first time keeps its dotlock fresh. */
static void test_refreshed_by_rebuild(void **state)
{
    _cleanup_free_ char *lock = NULL, *all = malloc(2u << 20);
    struct scratch s;
    size_t len = 0;

    (void)state;
    scratch_open(&s);
    for (unsigned n = 0; n < 2000; n++)
        len += (size_t)snprintf(all + len, (2u << 20) - len,
                                "From a@b Thu Jan  1 00:00:00 2015\nSubject: %u\n\n%0500u\n\n", n, n);
    write_file(s.inbox, all, len);
    watched = lock = path_of(&s, "inbox.lock");
    clock_runs = true;
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    clock_runs = false;
    watched = NULL;
    assert_true(is_refreshed);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_dotlock_stays),
        cmocka_unit_test(test_dotlock_of_dead_process),
        cmocka_unit_test(test_dotlock_of_earlier_boot),
        cmocka_unit_test(test_stale_dotlock_that_cannot_be_read),
        cmocka_unit_test(test_wrong_clock),
        cmocka_unit_test(test_refreshed_by_rebuild),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
