#include "shared/base/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"

#define MAGIC      "pennypost-devices 1 key="
#define USED_LEN   10
#define PATH_BYTES 4096

/* ---- reading ---- */

static int open_ours(const char *path, int flags, struct stat *ret_st)
{
    _cleanup_close_ int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 || fstat(fd, ret_st) < 0)
        return -errno;
    if (!S_ISREG(ret_st->st_mode) || ret_st->st_uid != geteuid() || (ret_st->st_mode & 077) != 0)
        return -EPERM;
    if (ret_st->st_size > DEVICES_FILE_MAX)
        return -EFBIG;
    return steal_fd(&fd);
}

/* Takes the next line off, without its LF. A last line without one was not written whole and is left out. */
static bool next_line(struct devices *d, struct str *ret)
{
    struct str rest = str_sub(buf_str(&d->text), d->pos, SIZE_MAX);
    ptrdiff_t end = str_chr(rest, '\n');

    if (end < 0)
        return false;
    *ret = str_sub(rest, 0, (size_t)end);
    d->pos += (size_t)end + 1;
    return true;
}

static int read_text(int fd, size_t size, struct buf *out)
{
    int r = buf_reserve(out, size);

    while (r == 0 && out->len < size) {
        char piece[4096];
        ssize_t n = read(fd, piece, sizeof(piece));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        r = buf_add(out, piece, (size_t)n);
        secret_wipe(piece, sizeof(piece));
    }
    return r;
}

int devices_load(const char *path, struct devices *ret)
{
    struct stat st;
    _cleanup_close_ int fd = open_ours(path, O_RDONLY, &st);
    struct devices d = {.text = BUF_INIT(DEVICES_FILE_MAX + 1)};
    struct str line;
    int r = fd < 0 ? fd : read_text(fd, (size_t)st.st_size, &d.text);

    if (r == 0 && (!next_line(&d, &line) || !str_starts(line, STR(MAGIC))))
        r = -EBADMSG;
    if (r < 0) {
        devices_finish(&d);
        return r;
    }
    d.key = str_sub(line, sizeof(MAGIC) - 1, SIZE_MAX);
    *ret = d;
    return 0;
}

void devices_finish(struct devices *d)
{
    buf_wipe_finish(&d->text);
    *d = (struct devices){0};
}

void devices_rewind(struct devices *d)
{
    struct str line;

    d->pos = 0;
    (void)next_line(d, &line);
}

/* "4096:SALT:STOREDKEY:SERVERKEY" */
static int parse_scram(struct str s, struct device_scram *out)
{
    struct str iterations;

    if (!str_cut(&s, ':', &iterations) || !str_cut(&s, ':', &out->salt) || !str_cut(&s, ':', &out->stored))
        return -EBADMSG;
    out->server = s;
    return str_to_u32(iterations, &out->iterations);
}

static int parse_word(struct str key, struct str value, struct device *d)
{
    if (str_eq(key, STR("id")))
        return str_to_u32(value, &d->id);
    if (str_eq(key, STR("created")))
        return str_to_u64(value, &d->created);
    if (str_eq(key, STR("expires")))
        return str_to_u64(value, &d->expires);
    if (str_eq(key, STR("sha256")))
        return parse_scram(value, &d->sha256);
    if (str_eq(key, STR("sha1")))
        return parse_scram(value, &d->sha1);
    if (str_eq(key, STR("name")))
        d->name = value;
    else if (str_eq(key, STR("used")))
        d->used = value;
    else if (str_eq(key, STR("protocols")))
        d->protocols = value;
    else if (str_eq(key, STR("cram")))
        d->cram = value;
    return 0; /* a word of a later version is no reason to lock everybody out */
}

static int parse_row(struct str line, struct device *ret)
{
    struct device d = {0};
    struct str word, key;
    bool has_more = str_cut(&line, '\t', &d.user);

    while (has_more) {
        has_more = str_cut(&line, '\t', &word);
        if (!str_cut(&word, '=', &key) || parse_word(key, word, &d) < 0)
            return -EBADMSG;
    }
    if (d.user.len == 0 || d.id == 0 || d.sha256.iterations == 0 || d.used.len != USED_LEN)
        return -EBADMSG;
    *ret = d;
    return 0;
}

int devices_next(struct devices *d, struct device *ret)
{
    struct str line;

    while (next_line(d, &line))
        if (line.len <= DEVICES_LINE_MAX && parse_row(line, ret) == 0)
            return 1;
    return 0;
}

static bool is_listed(struct str list, struct str word)
{
    struct str item;
    bool has_more = list.len > 0;

    while (has_more) {
        has_more = str_cut(&list, ',', &item);
        if (str_eq(item, word))
            return true;
    }
    return false;
}

int devices_next_for(struct devices *d, struct str user, struct str service, uint64_t now, struct device *ret)
{
    while (devices_next(d, ret) > 0)
        if ((!user.ptr || str_eq(ret->user, user)) && (ret->expires == 0 || now < ret->expires) &&
            (!service.ptr || ret->protocols.len == 0 || is_listed(ret->protocols, service)))
            return 1;
    return 0;
}

void devices_offer(const char *path, struct str service, uint64_t now, bool *ret_has_scram, bool *ret_has_cram)
{
    _cleanup_devices_ struct devices d = {0};
    bool has_scram = false, has_cram = false;
    struct device row;

    if (devices_load(path, &d) == 0)
        while (!(has_scram && has_cram) && devices_next_for(&d, STR_NULL, service, now, &row) > 0) {
            has_scram = true;
            has_cram |= row.cram.len > 0;
        }
    *ret_has_scram = has_scram;
    *ret_has_cram = has_cram;
}

/* ---- writing ---- */

static bool is_writable(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 127)
            return false;
    return true;
}

static int print_scram(const char *name, const struct device_scram *s, struct buf *out)
{
    return buf_printf(out, "\t%s=%u:%.*s:%.*s:%.*s", name, s->iterations, STR_ARG(s->salt), STR_ARG(s->stored),
                      STR_ARG(s->server));
}

int devices_print(const struct device *d, struct buf *out)
{
    size_t before = out->len;
    int r;

    if (d->user.len == 0 || d->id == 0 || d->used.len != USED_LEN || d->name.len > DEVICES_NAME_MAX ||
        !is_writable(d->user) || !is_writable(d->name) || !is_writable(d->protocols))
        return -EINVAL;
    r = buf_printf(out, "%.*s\tid=%u\tname=%.*s\tcreated=%llu\texpires=%llu\tused=%.*s\tprotocols=%.*s",
                   STR_ARG(d->user), d->id, STR_ARG(d->name), (unsigned long long)d->created,
                   (unsigned long long)d->expires, STR_ARG(d->used), STR_ARG(d->protocols));
    if (r == 0)
        r = print_scram("sha256", &d->sha256, out);
    if (r == 0 && d->sha1.iterations > 0)
        r = print_scram("sha1", &d->sha1, out);
    if (r == 0 && d->cram.len > 0)
        r = buf_printf(out, "\tcram=%.*s", STR_ARG(d->cram));
    if (r == 0)
        r = buf_add_byte(out, '\n');
    if (r == 0 && out->len - before > DEVICES_LINE_MAX)
        r = -EINVAL;
    if (r < 0)
        buf_truncate(out, before);
    return r;
}

int devices_print_header(struct str key, struct buf *out)
{
    return buf_printf(out, MAGIC "%.*s\n", STR_ARG(key));
}

/* fsync of the folder that holds `path`. */
static int sync_folder(const char *path)
{
    _cleanup_free_ char *folder = strdup(path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    _cleanup_close_ int fd = -1;

    if (!folder)
        return -ENOMEM;
    if (slash)
        slash[slash == folder] = '\0';
    fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int devices_replace(const char *path, struct str text)
{
    char temporary[PATH_BYTES];
    _cleanup_close_ int fd = -1;
    size_t done = 0;
    int r = 0;

    if (snprintf(temporary, sizeof(temporary), "%s.new", path) >= (int)sizeof(temporary))
        return -ENAMETOOLONG;
    (void)unlink(temporary);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    while (r == 0 && done < text.len) {
        ssize_t n = write(fd, text.ptr + done, text.len - done);

        if (n < 0 && errno != EINTR)
            r = -errno;
        else if (n > 0)
            done += (size_t)n;
    }
    if (r == 0 && (fsync(fd) < 0 || rename(temporary, path) < 0))
        r = -errno;
    if (r < 0) {
        (void)unlink(temporary);
        return r;
    }
    return sync_folder(path);
}

int devices_lock(const char *path, int *ret_fd)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char name[PATH_BYTES];
    _cleanup_close_ int fd = -1;

    /* A file of its own, since the file itself is replaced. */
    if (snprintf(name, sizeof(name), "%s.lock", path) >= (int)sizeof(name))
        return -ENAMETOOLONG;
    fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    while (fcntl(fd, F_OFD_SETLKW, &fl) < 0)
        if (errno != EINTR)
            return -errno;
    *ret_fd = steal_fd(&fd);
    return 0;
}

int devices_touch(const char *path, uint32_t id, const char day[static 10])
{
    _cleanup_devices_ struct devices d = {0};
    _cleanup_close_ int lock = -1;
    _cleanup_close_ int fd = -1;
    struct device row;
    struct stat st;
    int r = devices_lock(path, &lock);

    if (r == 0)
        r = devices_load(path, &d);
    if (r < 0)
        return r;
    while ((r = devices_next(&d, &row)) > 0 && row.id != id)
        ;
    if (r == 0 || memcmp(row.used.ptr, day, USED_LEN) == 0)
        return 0;
    fd = open_ours(path, O_WRONLY, &st);
    if (fd < 0)
        return fd;
    return pwrite(fd, day, USED_LEN, row.used.ptr - d.text.data) == USED_LEN ? 0 : -EIO;
}
