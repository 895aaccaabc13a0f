/*
 * Kept policies. Runs in trusted processes; touches the files of one folder.
 */
#include "shared/sts/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/macros.h"

#define FIRST_LINE "pennypost-sts 1"
#define LAST_LINE  "end"
#define FILE_MAX   (64u << 10)
#define TEMPORARY  ".new-" /* no domain begins with a dot */
#define HALF_AGE   3600    /* seconds: nobody takes so long to write one */

/* ---- the text ---- */

static int take_time(struct str value, int64_t *ret)
{
    uint64_t n = 0;

    if (str_to_u64(value, &n) < 0 || n > INT64_MAX)
        return -EINVAL;
    *ret = (int64_t)n;
    return 0;
}

static int take_id(struct str value, char to[static STS_ID + 1])
{
    if (value.len == 0 || value.len > STS_ID)
        return -EINVAL;
    for (size_t i = 0; i < value.len; i++)
        if (!ascii_is_alpha(value.ptr[i]) && !ascii_is_digit(value.ptr[i]))
            return -EINVAL;
    memcpy(to, value.ptr, value.len);
    to[value.len] = '\0';
    return 0;
}

static int take_mx(struct sts_policy *p, struct str pattern)
{
    if (p->mx_count == STS_MX || !sts_pattern_is_valid(pattern))
        return -EINVAL;
    memcpy(p->mx[p->mx_count], pattern.ptr, pattern.len);
    p->mx[p->mx_count++][pattern.len] = '\0';
    return 0;
}

static int take_line(struct sts_entry *e, struct str line)
{
    struct str key;

    if (!str_cut(&line, ' ', &key))
        return -EINVAL;
    if (str_eq(key, STR("fetched")))
        return take_time(line, &e->fetched);
    if (str_eq(key, STR("failed")))
        return take_time(line, &e->failed);
    if (str_eq(key, STR("id")))
        return take_id(line, e->id);
    if (str_eq(key, STR("failed_id")))
        return take_id(line, e->failed_id);
    if (str_eq(key, STR("mode")))
        return sts_mode_parse(line, &e->policy.mode);
    if (str_eq(key, STR("max_age")))
        return str_to_u32(line, &e->policy.max_age);
    return str_eq(key, STR("mx")) ? take_mx(&e->policy, line) : -EINVAL;
}

static int parse(struct str text, struct sts_entry *e)
{
    struct str line;
    int r = 0;

    if (text.len > FILE_MAX || !str_ends(text, STR("\n" LAST_LINE "\n")))
        return -EINVAL; /* cut off: fewer hosts than the domain has would be refused mail */
    text.len -= sizeof(LAST_LINE);
    (void)str_cut(&text, '\n', &line);
    if (!str_eq(line, STR(FIRST_LINE)))
        return -EINVAL;
    while (text.len > 0 && r == 0) {
        (void)str_cut(&text, '\n', &line);
        r = take_line(e, line);
    }
    if (r == 0 && (e->policy.max_age > STS_MAX_AGE || (e->policy.mode != STS_NONE && e->policy.mx_count == 0) ||
                   (e->fetched > 0) != (e->id[0] != '\0') || (e->failed > 0) != (e->failed_id[0] != '\0')))
        r = -EINVAL;
    return r;
}

int sts_entry_parse(struct str text, struct sts_entry *ret)
{
    _cleanup_free_ struct sts_entry *e = calloc(1, sizeof(*e));
    int r = e ? parse(text, e) : -ENOMEM;

    if (r == 0)
        *ret = *e;
    return r;
}

int sts_entry_format(const struct sts_entry *e, struct buf *out)
{
    int r = buf_printf(out, FIRST_LINE "\n");

    if (r == 0 && e->fetched > 0)
        r = buf_printf(out, "fetched %" PRId64 "\nid %s\nmode %s\nmax_age %" PRIu32 "\n", e->fetched, e->id,
                       sts_mode_name(e->policy.mode), e->policy.max_age);
    for (size_t i = 0; i < e->policy.mx_count && r == 0 && e->fetched > 0; i++)
        r = buf_printf(out, "mx %s\n", e->policy.mx[i]);
    if (r == 0 && e->failed > 0)
        r = buf_printf(out, "failed %" PRId64 "\nfailed_id %s\n", e->failed, e->failed_id);
    return r < 0 ? r : buf_printf(out, LAST_LINE "\n");
}

/* ---- the file ---- */

static int open_folder(const struct conf *conf)
{
    struct stat st;
    int fd = -1;

    if (mkdir(conf->sts_cache, 0700) < 0 && errno != EEXIST)
        return -errno;
    fd = open(conf->sts_cache, O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 022) != 0) {
        (void)close(fd);
        return -EPERM; /* a policy that others can write is none */
    }
    return fd;
}

static int read_all(int fd, struct buf *out)
{
    int r = buf_reserve(out, FILE_MAX);

    while (r == 0) {
        ssize_t n = read(fd, out->data + out->len, FILE_MAX - out->len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        if (n > 0)
            out->len += (size_t)n;
    }
    return r;
}

int sts_cache_read(const struct conf *conf, const char *domain, struct sts_entry *ret)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    _cleanup_close_ int folder = open_folder(conf);
    _cleanup_close_ int fd = folder < 0 ? -1 : openat(folder, domain, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int r;

    if (folder < 0)
        return folder;
    if (fd < 0)
        return -errno;
    r = read_all(fd, &text);
    return r < 0 ? r : sts_entry_parse(buf_str(&text), ret);
}

static int write_all(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.ptr, text.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            text = str_sub(text, (size_t)n, text.len);
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* What was half written when its writer was killed. */
static void sweep(int folder)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    struct stat st;

    if (!dir && fd >= 0)
        (void)close(fd);
    while (dir && (entry = readdir(dir)))
        if (str_starts(str_from(entry->d_name), STR(TEMPORARY)) &&
            fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_mtime < time(NULL) - HALF_AGE)
            (void)unlinkat(folder, entry->d_name, 0);
    if (dir)
        (void)closedir(dir);
}

int sts_cache_write(const struct conf *conf, const char *domain, const struct sts_entry *e)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    _cleanup_close_ int folder = open_folder(conf);
    _cleanup_close_ int fd = -1;
    char temporary[64];
    int r = folder < 0 ? folder : sts_entry_format(e, &text);

    if (r < 0)
        return r;
    sweep(folder);
    (void)snprintf(temporary, sizeof(temporary), TEMPORARY "%ld", (long)getpid());
    fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = write_all(fd, buf_str(&text));
    if (r == 0 && renameat(folder, temporary, folder, domain) < 0)
        r = -errno;
    if (r < 0)
        (void)unlinkat(folder, temporary, 0);
    return r;
}
