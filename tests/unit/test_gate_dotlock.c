/*
 * shared/gate/dotlock.h: who is kept out, whose lock is broken, what is kept.
 */
#include "tests/unit/gate_place.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "shared/base/maker.h"
#include "shared/gate/dotlock.h"

/* In front of the next renameat2() somebody takes the lock for stale and makes one of his own there. (The linker puts
 * this in the place of syscall().) */
static const struct place *taken_at;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
    const struct place *p = taken_at;
    const char *old, *new;
    unsigned flags;
    int from, to;
    va_list ap;

    assert_int_equal(number, SYS_renameat2);
    va_start(ap, number);
    from = va_arg(ap, int);
    old = va_arg(ap, const char *);
    to = va_arg(ap, int);
    new = va_arg(ap, const char *);
    flags = va_arg(ap, unsigned);
    va_end(ap);
    taken_at = NULL;
    if (p) {
        assert_int_equal(unlinkat(p->folder, "bob.lock", 0), 0);
        assert_int_equal(close(openat(p->folder, "bob.lock", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)), 0);
    }
    return __real_syscall(number, from, old, to, new, flags);
}

static void a_dotlock_keeps_others_out(void **state)
{
    struct place *p = *state;
    struct dotlock a;
    struct dotlock b;
    struct stat st;

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(dotlock_init(&b, p->folder, "bob"), 0);
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_try(&a), -EALREADY);
    assert_int_equal(dotlock_try(&b), -EAGAIN);
    assert_int_equal(fstatat(p->folder, "bob.lock", &st, 0), 0);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(dotlock_release(&b), -ESTALE);
    assert_int_equal(dotlock_touch(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    assert_int_equal(dotlock_try(&b), 0);
    assert_int_equal(dotlock_release(&b), 0);
}

static void a_stale_dotlock_is_broken_a_fresh_one_is_not(void **state)
{
    struct place *p = *state;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - MAKER_STALE / 2}};
    struct dotlock a;
    int fd = openat(p->folder, "bob.lock", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(utimensat(p->folder, "bob.lock", times, 0), 0);
    assert_int_equal(dotlock_try(&a), -EAGAIN);
    times[1].tv_sec -= MAKER_STALE;
    assert_int_equal(utimensat(p->folder, "bob.lock", times, 0), 0);
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
}

static void a_dotlock_of_a_killed_process_is_broken(void **state)
{
    struct place *p = *state;
    struct dotlock a;
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(dotlock_init(&a, p->folder, "bob") == 0 && dotlock_try(&a) == 0 ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(faccessat(p->folder, "bob.lock", F_OK, 0), 0);
    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
}

static void a_dotlock_of_another_is_never_removed(void **state)
{
    struct place *p = *state;
    struct dotlock a;

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(dotlock_try(&a), 0);
    /* Somebody broke it and took his own. */
    assert_int_equal(unlinkat(p->folder, "bob.lock", 0), 0);
    assert_int_equal(close(openat(p->folder, "bob.lock", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)), 0);
    assert_int_equal(dotlock_touch(&a), -ESTALE);
    assert_int_equal(dotlock_release(&a), -ESTALE);
    assert_int_equal(faccessat(p->folder, "bob.lock", F_OK, 0), 0);
}

static int count_spares(const struct place *p)
{
    DIR *dir = opendir(p->path);
    const struct dirent *entry;
    int n = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)))
        n += strncmp(entry->d_name, ".lk", 3) == 0;
    assert_int_equal(closedir(dir), 0);
    return n;
}

static ino_t inode_of(const struct place *p, const char *name)
{
    struct stat st;

    assert_int_equal(fstatat(p->folder, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st.st_ino;
}

/* The file of a lock that is taken often stays, and is as good a lock each time. */
static void a_dotlock_is_kept(void **state)
{
    struct place *p = *state;
    struct timespec old[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - 2 * MAKER_STALE}};
    struct dotlock a, b;
    struct stat st;
    ino_t inode;

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(dotlock_init(&b, p->folder, "bob"), 0);
    a.is_kept = true;
    assert_int_equal(dotlock_try(&a), 0);
    inode = inode_of(p, "bob.lock");
    assert_int_equal(dotlock_release(&a), 0);
    assert_int_equal(faccessat(p->folder, "bob.lock", F_OK, 0), -1);
    assert_int_equal(count_spares(p), 1);
    assert_int_equal(dotlock_try(&b), 0); /* nobody is kept out by it */
    assert_int_equal(dotlock_try(&a), -EAGAIN);
    assert_int_equal(dotlock_release(&b), 0);
    assert_int_equal(utimensat(p->folder, a.spare, old, 0), 0);
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(count_spares(p), 0);
    assert_int_equal(inode_of(p, "bob.lock"), inode);
    assert_int_equal(fstatat(p->folder, "bob.lock", &st, 0), 0);
    assert_int_equal(st.st_nlink, 1);
    assert_true(st.st_mtime > time(NULL) - MAKER_STALE); /* a fresh one for everybody */
    assert_int_equal(dotlock_try(&b), -EAGAIN);
    assert_int_equal(dotlock_release(&a), 0);
    assert_int_equal(unlinkat(p->folder, a.spare, 0), 0); /* somebody has tidied up */
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    dotlock_finish(&a);
    assert_int_equal(count_spares(p), 0);
    dotlock_finish(&a);
}

/* What a kept file was replaced by is somebody else's, and so is the lock then. */
static void a_kept_dotlock_of_another_is_not_ours(void **state)
{
    struct place *p = *state;
    struct dotlock a;
    char spare[32];

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    a.is_kept = true;
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    (void)snprintf(spare, sizeof(spare), "%s", a.spare);
    assert_int_equal(renameat(p->folder, spare, p->folder, "other.lock"), 0);
    assert_int_equal(close(openat(p->folder, spare, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)), 0);
    assert_int_equal(dotlock_try(&a), -EAGAIN);
    assert_int_equal(dotlock_release(&a), -ESTALE);
    assert_int_equal(dotlock_touch(&a), -ESTALE);
    assert_int_equal(faccessat(p->folder, "bob.lock", F_OK, 0), 0);
}

/* Nor is what replaced it in the last moment. */
static void a_dotlock_of_another_is_not_kept(void **state)
{
    struct place *p = *state;
    struct dotlock a;

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    a.is_kept = true;
    assert_int_equal(dotlock_try(&a), 0);
    taken_at = p;
    assert_int_equal(dotlock_release(&a), -ESTALE);
    assert_null(taken_at);
    assert_int_equal(faccessat(p->folder, "bob.lock", F_OK, 0), 0);
    assert_int_equal(count_spares(p), 0);
    assert_int_equal(dotlock_try(&a), -EAGAIN);
    dotlock_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_dotlock_keeps_others_out, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_stale_dotlock_is_broken_a_fresh_one_is_not, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_dotlock_of_a_killed_process_is_broken, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_dotlock_of_another_is_never_removed, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_dotlock_is_kept, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_kept_dotlock_of_another_is_not_ours, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_dotlock_of_another_is_not_kept, make_place, remove_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
