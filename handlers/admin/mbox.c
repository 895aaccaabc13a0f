/*
 * `pennypost mbox check FILE` and `pennypost mbox repair FILE`. Run as whoever calls them: the owner of the mailbox, or
 * root. The file itself is never written: the repair makes FILE.repaired beside it, a new file of the same owner and
 * mode, and says what is different there.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/admin/command.h"
#include "handlers/admin/mbox_look.h"
#include "handlers/admin/mbox_state.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define LIMIT_SHOWN 100 /* findings that are printed one by one */

static int complain(const char *path, const char *doing, int error)
{
    (void)fprintf(stderr, "pennypost: %s: cannot %s: %s\n", path, doing, strerror(-error));
    return error == -ENOENT ? EX_NOINPUT : error == -EACCES || error == -EPERM ? EX_NOPERM : EX_IOERR;
}

/* Opens the file and holds it still: other programs may read it meanwhile, but not write. */
static int open_still(const char *path, int *ret)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES))
        return -EAGAIN;
    *ret = steal_fd(&fd);
    return 0;
}

static void print_facts(const struct mbox_look *look)
{
    (void)printf("%s: %" PRIu32 " messages, %" PRIu64 " bytes", look->path, look->messages - look->pseudo,
                 (uint64_t)look->st.st_size);
    if (look->messages > 0)
        (void)printf(", %s line ends, %" PRIu32 " written by Pennypost",
                     look->crlf_lines == 0 ? "LF"
                     : look->lf_lines == 0 ? "CRLF"
                                           : "mixed",
                     look->own);
    (void)printf("\n");
    if (look->uidvalidity > 0)
        (void)printf("  UIDVALIDITY %" PRIu32 ", last UID %" PRIu32 " (X-IMAPbase)\n", look->uidvalidity,
                     look->uidlast);
    if (look->pseudo > 0)
        (void)printf("  carries the \"FOLDER INTERNAL DATA\" message of UW-IMAP, which no client is shown\n");
    if (look->st.st_nlink > 1)
        (void)printf("  problem: the file has %ju names (hard links): it is not opened as a mailbox\n",
                     (uintmax_t)look->st.st_nlink);
}

static void print_finding(const struct mbox_finding *f, bool with_fix)
{
    (void)printf("  problem: at byte %" PRIu64, f->offset);
    if (f->message > 0)
        (void)printf(", message %" PRIu32, f->message);
    (void)printf(": %s\n", f->text);
    if (with_fix && f->is_fixable)
        (void)printf("    repaired: %s\n", f->fix);
}

static void print_findings(const struct mbox_look *look, bool with_fix)
{
    for (size_t i = 0; i < look->count && i < LIMIT_SHOWN; i++)
        print_finding(&look->findings[i], with_fix);
    if (look->count > LIMIT_SHOWN)
        (void)printf("  and %zu more\n", look->count - LIMIT_SHOWN);
    if (look->is_full)
        (void)printf("  there are more problems than are counted: is this a mailbox?\n");
}

static size_t fixable(const struct mbox_look *look)
{
    size_t n = 0;

    for (size_t i = 0; i < look->count; i++)
        n += look->findings[i].is_fixable ? 1 : 0;
    return n;
}

static int check(struct conf *conf, const char *path, const struct mbox_look *look)
{
    unsigned problems;

    print_facts(look);
    print_findings(look, false);
    problems = mbox_state_print(conf, path, look->st.st_uid);
    if (look->count == 0 && look->st.st_nlink == 1 && problems == 0) {
        (void)printf("  no problem found\n");
        return 0;
    }
    if (fixable(look) > 0)
        (void)printf("  `pennypost mbox repair %s` writes a repaired copy\n", path);
    return 1;
}

/* Puts the copy into place under a name that did not exist. */
static int write_copy(const struct mbox_look *look, const char *copy)
{
    _cleanup_close_ int fd = open(copy, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r;

    if (fd < 0)
        return -errno;
    r = mbox_look_copy(look, fd);
    if (r == 0 && geteuid() == 0 && fchown(fd, look->st.st_uid, look->st.st_gid) < 0)
        r = -errno;
    if (r == 0 && fchmod(fd, look->st.st_mode & 0777) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(copy);
    return r;
}

static int repair(struct conf *conf, const char *path, const struct mbox_look *look)
{
    _cleanup_buf_ struct buf copy = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    print_facts(look);
    if (fixable(look) == 0) {
        print_findings(look, false);
        (void)printf("  nothing to repair: no copy was written\n");
        return 0;
    }
    if (look->is_full) {
        print_findings(look, false);
        (void)printf("  too much is wrong: no copy was written\n");
        return 1;
    }
    r = buf_printf(&copy, "%s.repaired", path);
    if (r == 0)
        r = write_copy(look, buf_cstr(&copy));
    if (r < 0)
        return complain(buf_cstr(&copy), "write the repaired copy", r);
    print_findings(look, true);
    (void)printf("  %s is the repaired copy; %s is as it was.\n"
                 "  Look at it, then put it in place while no mail program uses the mailbox:\n"
                 "    dotlockfile -l %s.lock && cp -p %s %s.damaged && cat %s > %s; dotlockfile -u %s.lock\n",
                 buf_cstr(&copy), path, path, path, path, buf_cstr(&copy), path, path);
    return 0;
}

int mbox_main(struct conf *conf, int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct conf *conf, const char *path, const struct mbox_look *look);
    } verbs[] = {{"check", check}, {"repair", repair}};
    _cleanup_close_ int fd = -1;
    struct mbox_look look;
    int r;

    for (size_t i = 0; argc == 3 && i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name) != 0)
            continue;
        r = open_still(argv[2], &fd);
        if (r < 0)
            return complain(argv[2], "open it", r);
        r = mbox_look(fd, argv[2], &look);
        if (r < 0)
            return complain(argv[2], "read it", r);
        r = verbs[i].run(conf, argv[2], &look);
        mbox_look_finish(&look);
        return r;
    }
    (void)fprintf(stderr, "usage: pennypost mbox check FILE\n       pennypost mbox repair FILE\n");
    return EX_USAGE;
}
