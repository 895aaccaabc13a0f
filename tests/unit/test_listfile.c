/*
 * Files of users that a privileged process reads: which of them, and that its rights are whole afterwards.
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
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/base/macros.h"
#include "shared/route/listfile.h"

#define SOMEBODY 61234

static char folder[] = "/tmp/pennypost-listfile-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text, mode_t mode)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    (void)close(fd);
}

static int read_as(const char *path, const struct priv_user *user, struct buf *out)
{
    struct stat facts;

    buf_clear(out);
    return listfile_read(path, user, out, &facts);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && chmod(folder, 0755) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"list", "link", "pipe", "secret", "magic"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        (void)unlink(path_of(names[i]));
    return rmdir(folder);
}

static void only_regular_files(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(16);

    (void)state;
    put("list", "bob\n", 0644);
    assert_int_equal(read_as(path_of("list"), NULL, &text), 0);
    assert_string_equal(buf_cstr(&text), "bob\n");
    assert_int_equal(symlink("list", path_of("link")), 0);
    assert_int_equal(read_as(path_of("link"), NULL, &text), 0);
    assert_int_equal(mkfifo(path_of("pipe"), 0644), 0);
    assert_int_equal(read_as(path_of("pipe"), NULL, &text), -EINVAL);
    assert_int_equal(read_as(folder, NULL, &text), -EINVAL);
    assert_int_equal(read_as(path_of("nothing"), NULL, &text), -ENOENT);
    put("list", "more than sixteen bytes\n", 0644);
    assert_int_equal(read_as(path_of("list"), NULL, &text), -E2BIG);
}

/* What the reader has open is not in the user's reach: not by its number below /proc, nor by a link to that. */
static void no_file_that_the_reader_has_open(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1024);
    char number[64];
    int fd;

    (void)state;
    put("secret", "the spool's\n", 0644);
    fd = open(path_of("secret"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path_of("secret")), 0); /* no other name leads there */
    (void)snprintf(number, sizeof(number), "/proc/self/fd/%d", fd);
    assert_int_equal(read_as(number, NULL, &text), -ELOOP);
    assert_int_equal(symlink(number, path_of("magic")), 0);
    assert_int_equal(read_as(path_of("magic"), NULL, &text), -ELOOP);
    assert_int_equal(text.len, 0);
    (void)close(fd);
}

static void rights_of_the_user_and_then_our_own(void **state)
{
    const struct priv_user user = {.uid = SOMEBODY, .gid = SOMEBODY, .groups = {SOMEBODY}, .group_count = 1};
    _cleanup_buf_ struct buf text = BUF_INIT(1024);
    gid_t before[PRIV_GROUPS_MAX], after[PRIV_GROUPS_MAX];
    int count = getgroups(PRIV_GROUPS_MAX, before);

    (void)state;
    if (geteuid() != 0)
        skip();
    put("secret", "root's\n", 0600);
    assert_int_equal(read_as(path_of("secret"), &user, &text), -EACCES);
    put("list", "bob\n", 0640);
    assert_int_equal(chown(path_of("list"), 0, SOMEBODY), 0);
    assert_int_equal(read_as(path_of("list"), &user, &text), 0);
    assert_int_equal(setfsuid((uid_t)-1), geteuid());
    assert_int_equal(setfsgid((gid_t)-1), getegid());
    assert_int_equal(getgroups(PRIV_GROUPS_MAX, after), count);
    assert_memory_equal(before, after, (size_t)count * sizeof(gid_t));
    assert_int_equal(read_as(path_of("secret"), NULL, &text), 0);
}

static void absent_where_the_user_could_see_so(void **state)
{
    const struct priv_user me = {.uid = geteuid()}, other = {.uid = SOMEBODY};

    (void)state;
    put("list", "a\n", 0600);
    assert_int_equal(mkdir(path_of("closed"), 0700), 0);
    assert_int_equal(symlink("nowhere", path_of("dangling")), 0);
    assert_int_equal(symlink(".", path_of("around")), 0);
    assert_false(listfile_is_absent(path_of("list"), &other));
    assert_true(listfile_is_absent(path_of("none"), &other));
    assert_true(listfile_is_absent(path_of("none/.forward"), &other));
    assert_true(listfile_is_absent(path_of("no/folder/at/all"), &other));
    assert_true(listfile_is_absent("/no-such-folder-here/.forward", &other));
    assert_true(listfile_is_absent(path_of("closed/none"), &me));
    /* What is in doubt is not absent. */
    assert_false(listfile_is_absent(path_of("closed/none"), &other));
    assert_false(listfile_is_absent(path_of("closed/no/folder"), &other));
    assert_false(listfile_is_absent(path_of("dangling"), &other));
    assert_false(listfile_is_absent(path_of("dangling/none"), &other));
    assert_false(listfile_is_absent(path_of("around/none"), &other));
    assert_false(listfile_is_absent(path_of("list/none"), &other));
    assert_false(listfile_is_absent(path_of("none/"), &other));
    assert_false(listfile_is_absent(path_of(""), &other));
    assert_false(listfile_is_absent("/", &other));
    assert_false(listfile_is_absent("none", &other));
    assert_false(listfile_is_absent("", &other));
    assert_int_equal(chmod(path_of("closed"), 0600), 0);
    assert_false(listfile_is_absent(path_of("closed/none"), &me));
    (void)rmdir(path_of("closed"));
    (void)unlink(path_of("dangling"));
    (void)unlink(path_of("around"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_regular_files),
        cmocka_unit_test(no_file_that_the_reader_has_open),
        cmocka_unit_test(rights_of_the_user_and_then_our_own),
        cmocka_unit_test(absent_where_the_user_could_see_so),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
