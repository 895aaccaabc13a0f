/*
 * shared/base/fsquota.c. The kernel's answer is made up here (the linker puts __wrap_syscall() in the place of
 * syscall()): few machines keep quotas.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/base/fsquota.h"
#include "shared/base/macros.h"

static struct {
    int error; /* 0: the quota is told */
    struct dqblk quota;
    int asked_fd;
    uid_t asked_uid;
} kernel;

long __wrap_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
    struct dqblk *quota;
    va_list ap;
    int command;

    va_start(ap, number);
    kernel.asked_fd = va_arg(ap, int);
    command = va_arg(ap, int);
    kernel.asked_uid = va_arg(ap, uid_t);
    quota = va_arg(ap, struct dqblk *);
    va_end(ap);
    assert_int_equal(number, SYS_quotactl_fd);
    assert_int_equal(command, QCMD(Q_GETQUOTA, USRQUOTA));
    if (kernel.error) {
        errno = kernel.error;
        return -1;
    }
    *quota = kernel.quota;
    return 0;
}

static void limits(void **state)
{
    struct fsquota q = {.used = 7};

    kernel.error = ESRCH;
    assert_int_equal(fsquota_ask(5, 1000, &q), -ENOENT);
    kernel.error = EPERM;
    assert_int_equal(fsquota_ask(5, 1000, &q), -ENOENT);
    kernel.error = 0;
    kernel.quota = (struct dqblk){.dqb_curspace = 4096, .dqb_ihardlimit = 10};
    assert_int_equal(fsquota_ask(5, 1000, &q), -ENOENT);
    assert_int_equal(q.used, 7);
    kernel.quota = (struct dqblk){.dqb_curspace = 4097, .dqb_bhardlimit = 10, .dqb_bsoftlimit = 8};
    assert_int_equal(fsquota_ask(6, 1001, &q), 0);
    assert_int_equal(kernel.asked_fd, 6);
    assert_int_equal(kernel.asked_uid, 1001);
    assert_int_equal(q.used, 4097);
    assert_int_equal(q.hard, 10240);
    assert_int_equal(q.soft, 8192);
    kernel.quota.dqb_bhardlimit = 0;
    assert_int_equal(fsquota_ask(6, 1001, &q), 0);
    assert_int_equal(q.hard, 0);
}

static void check_place(const char *path, const char *expected)
{
    _cleanup_close_ int fd = fsquota_open(path);
    struct stat a, b;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &a), 0);
    assert_int_equal(stat(expected, &b), 0);
    assert_true(a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

static void nearest_folder(void **state)
{
    char folder[] = "/tmp/fsquota-XXXXXX", path[64];
    int fd;

    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/file", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    check_place(folder, folder);
    check_place(path, folder);
    (void)snprintf(path, sizeof(path), "%s//a/b/c", folder);
    check_place(path, folder);
    check_place("/not-there", "/");
    check_place("/", "/");
    assert_int_equal(fsquota_open("not-there/x"), -ENOENT);
    assert_int_equal(fsquota_open(""), -ENOENT);
    (void)snprintf(path, sizeof(path), "%s/file", folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(limits), cmocka_unit_test(nearest_folder)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
