/*
 * shared/gate/dotlock.h: who is kept out, whose lock is broken, what is kept.
 */
#include "tests/unit/gate_place.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "shared/base/maker.h"
#include "shared/gate/dotlock.h"

/* Straight behind the next linkat() somebody takes the lock away and makes one of his own. (The linker puts this in the
 * place of linkat().) */
static const struct place *taken_at;

int __real_linkat(int from, const char *old, int to, const char *new, int flags);
int __wrap_linkat(int from, const char *old, int to, const char *new, int flags);

int __wrap_linkat(int from, const char *old, int to, const char *new, int flags)
{
    const struct place *p = taken_at;
    int r = __real_linkat(from, old, to, new, flags);

    taken_at = NULL;
    if (p) {
        assert_int_equal(unlinkat(p->folder, "bob.lock", 0), 0);
        assert_int_equal(close(openat(p->folder, "bob.lock", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)), 0);
    }
    return r;
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
    assert_int_equal(count_spares(p), 1);
    assert_int_equal(inode_of(p, "bob.lock"), inode);
    assert_int_equal(fstatat(p->folder, "bob.lock", &st, 0), 0);
    assert_int_equal(st.st_nlink, 2);
    assert_true(st.st_mtime > time(NULL) - MAKER_STALE); /* a fresh one for everybody */
    assert_int_equal(dotlock_try(&b), -EAGAIN);
    assert_int_equal(dotlock_release(&a), 0);
    assert_int_equal(unlinkat(p->folder, a.spare, 0), 0); /* somebody has tidied up */
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    for (int i = 0; i < 3; i++) { /* nor is it lost by who lets go what he does not hold */
        assert_int_equal(dotlock_release(&a), -ESTALE);
        assert_true(a.spare_fd >= 0);
    }
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    dotlock_finish(&a);
    assert_int_equal(count_spares(p), 0);
    dotlock_finish(&a);
}

/* What a kept file was replaced by is somebody else's, and no lock. */
static void a_kept_file_of_another_is_not_ours(void **state)
{
    struct place *p = *state;
    struct dotlock a;
    char spare[32];
    ino_t other;

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    a.is_kept = true;
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    (void)snprintf(spare, sizeof(spare), "%s", a.spare);
    assert_int_equal(renameat(p->folder, spare, p->folder, "other.lock"), 0);
    assert_int_equal(close(openat(p->folder, spare, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)), 0);
    other = inode_of(p, spare);
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_not_equal(inode_of(p, "bob.lock"), other);
    assert_int_equal(dotlock_touch(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    dotlock_finish(&a);
    assert_int_equal(inode_of(p, spare), other);
    assert_int_equal(unlinkat(p->folder, spare, 0), 0);
    assert_int_equal(count_spares(p), 0);
}

/* Who took it for stale has it, and the file of ours is as good as before. */
static void a_kept_dotlock_that_was_broken(void **state)
{
    struct place *p = *state;
    struct dotlock a, b;

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(dotlock_init(&b, p->folder, "bob"), 0);
    a.is_kept = true;
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(unlinkat(p->folder, "bob.lock", 0), 0);
    assert_int_equal(dotlock_try(&b), 0);
    assert_int_equal(dotlock_touch(&a), -ESTALE);
    assert_int_equal(dotlock_release(&a), -ESTALE);
    assert_int_equal(dotlock_try(&a), -EAGAIN);
    assert_int_equal(dotlock_touch(&b), 0);
    assert_int_equal(dotlock_release(&b), 0);
    assert_int_equal(dotlock_try(&a), 0);
    dotlock_finish(&a); /* a lock that is held stays */
    assert_int_equal(faccessat(p->folder, "bob.lock", F_OK, 0), 0);
    assert_int_equal(count_spares(p), 0);
    assert_int_equal(dotlock_release(&a), 0);
}

/* That is his, then, and ours stays as good as it was. */
static void a_lock_that_is_taken_away_at_once(void **state)
{
    struct place *p = *state;
    struct dotlock a;
    char spare[32];

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    a.is_kept = true;
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    (void)snprintf(spare, sizeof(spare), "%s", a.spare);
    taken_at = p;
    assert_int_equal(dotlock_try(&a), -EAGAIN);
    assert_null(taken_at);
    assert_int_equal(faccessat(p->folder, "bob.lock", F_OK, 0), 0);
    assert_int_equal(dotlock_try(&a), -EAGAIN);
    assert_string_equal(a.spare, spare);
    assert_int_equal(unlinkat(p->folder, "bob.lock", 0), 0);
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    dotlock_finish(&a);
    assert_int_equal(count_spares(p), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_dotlock_keeps_others_out, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_stale_dotlock_is_broken_a_fresh_one_is_not, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_dotlock_of_a_killed_process_is_broken, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_dotlock_of_another_is_never_removed, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_dotlock_is_kept, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_kept_file_of_another_is_not_ours, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_kept_dotlock_that_was_broken, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_lock_that_is_taken_away_at_once, make_place, remove_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
