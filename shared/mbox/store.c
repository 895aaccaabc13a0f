/*
 * The store: one user's mailboxes, and what they share in the state folder (the key of the content hash, the counter of
 * UIDVALIDITY). Runs as the user; touches the state folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/mbox/box.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/names.h"

#define NOTICES_MAX (64u << 10)

static char *dup_or_null(const char *c, bool *ret_failed)
{
    char *copy = c == NULL ? NULL : str_dup(str_from(c));

    *ret_failed |= c != NULL && copy == NULL;
    return copy;
}

int mbox_store_new(const struct mbox_store_options *options, struct mbox_store **ret)
{
    struct mbox_store *s;
    bool is_failed = false;

    if (options->inbox == NULL || options->clock == NULL)
        return -EINVAL;
    s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->inbox = dup_or_null(options->inbox, &is_failed);
    s->folders = dup_or_null(options->folders, &is_failed);
    s->state = dup_or_null(options->state, &is_failed);
    s->owner = options->owner;
    s->clock = options->clock;
    s->keeper = options->keeper;
    s->held_state = -1;
    s->is_locked = options->is_locked;
    s->is_delivery = options->is_delivery;
    s->lock_timeout = options->lock_timeout > 0 ? options->lock_timeout : TIMEOUT_LOCK;
    s->notices = BUF_INIT(NOTICES_MAX);
    if (is_failed) {
        mbox_store_free(s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

void mbox_store_free(struct mbox_store *s)
{
    if (s == NULL)
        return;
    mbox_store_free(s->shadow);
    if (s->parent != NULL)
        store_remove_shadow(s);
    free(s->inbox);
    free(s->folders);
    free(s->state);
    buf_finish(&s->notices);
    free(s);
}

int mbox_store_notices(struct mbox_store *s, struct buf *out)
{
    int r = buf_add_str(out, buf_str(&s->notices));

    if (r == 0)
        buf_clear(&s->notices);
    return r < 0 || s->shadow == NULL ? r : mbox_store_notices(s->shadow, out);
}

int store_notice(struct mbox_store *s, const char *format, ...)
{
    size_t before = s->notices.len;
    va_list ap;
    int r;

    va_start(ap, format);
    r = buf_vprintf(&s->notices, format, ap);
    va_end(ap);
    if (r == 0)
        r = buf_add_byte(&s->notices, '\n');
    if (r < 0)
        buf_truncate(&s->notices, before);
    return r;
}

/* mkdir -p, each level 0700. */
static int make_folder(const char *path)
{
    _cleanup_free_ char *copy = str_dup(str_from(path));

    if (copy == NULL)
        return -ENOMEM;
    for (char *p = copy + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(copy, 0700) < 0 && errno != EEXIST && errno != EACCES && errno != EROFS)
            return -errno;
        *p = '/';
    }
    return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Creates a small file with this content, or leaves the one that is there. */
static int make_once(const char *path, const void *data, size_t len)
{
    _cleanup_buf_ struct buf temp = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    int r;

    if ((r = buf_printf(&temp, "%s.new.%d", path, (int)getpid())) < 0)
        return r;
    fd = open(buf_cstr(&temp), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = file_write(fd, data, len, 0);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (r == 0 && link(buf_cstr(&temp), path) < 0 && errno != EEXIST)
        r = -errno;
    (void)unlink(buf_cstr(&temp));
    return r == 0 ? file_sync_folder(path) : r;
}

static int load_key(struct mbox_store *s)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    uint64_t key[2] = {0};
    int r;

    if ((r = buf_printf(&path, "%s/key", s->state)) < 0)
        return r;
    fd = open(buf_cstr(&path), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        if (!s->clock->is_frozen && (r = secret_random(key, sizeof(key))) < 0)
            return r;
        if ((r = make_once(buf_cstr(&path), key, sizeof(key))) < 0)
            return r;
        fd = open(buf_cstr(&path), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd < 0)
        return -errno;
    r = file_read(fd, s->key, sizeof(s->key), 0);
    if (r == -ENODATA) { /* damaged: without it contents are only not recognised */
        s->key[0] = s->key[1] = 0;
        r = 0;
    }
    s->has_key = r == 0;
    return r;
}

int store_prepare(struct mbox_store *s)
{
    int r;

    if (s->state == NULL || s->has_key)
        return 0;
    r = load_key(s);
    if (r == -ENOENT && (r = make_folder(s->state)) == 0)
        r = load_key(s);
    if (r == 0)
        store_keep_reserve(s);
    return r;
}

void mbox_store_offer(struct mbox_store *s, bool (*is_offered)(void *context, struct str name), void *context)
{
    s->is_offered = is_offered;
    s->context = context;
}

bool store_may_be_missing(const struct mbox_store *s, struct str name)
{
    return name_is_inbox(name) || (s->is_offered != NULL && s->is_offered(s->context, name));
}

/* The counter file holds the last UIDVALIDITY given; a new one is above it and not below the clock. */
int store_uidvalidity(struct mbox_store *s, uint32_t *ret)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    uint32_t last = 0, next;
    int64_t now = clock_now(s->clock);
    int r;

    if (s->parent != NULL)
        return store_shadow_validity(ret);
    if ((r = buf_printf(&path, "%s/uidvalidity", s->state)) < 0)
        return r;
    fd = open(buf_cstr(&path), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return -errno;
    r = file_read(fd, &last, sizeof(last), 0);
    if (r < 0 && r != -ENODATA)
        return r;
    next = now > 0 && now < UINT32_MAX ? (uint32_t)now : 1;
    if (next <= last && last < UINT32_MAX) /* else the counter was damaged */
        next = last + 1;
    if ((r = file_write(fd, &next, sizeof(next), 0)) < 0)
        return r;
    if (fdatasync(fd) < 0)
        return -errno;
    *ret = next;
    return 0;
}

/* Frozen clocks make the same identifier every time: then the name tells mailboxes apart. */
int store_mailboxid(struct mbox_store *s, const char *name, uint8_t ret[16])
{
    _cleanup_buf_ struct buf text = BUF_INIT(256);
    struct mhash h;
    int r;

    if (!s->clock->is_frozen)
        return secret_random(ret, 16);
    if ((r = clock_unique(s->clock, &text)) < 0)
        return r;
    mhash_init(&h, s->key);
    mhash_add(&h, text.data, text.len);
    mhash_add(&h, name, strlen(name));
    mhash_done(&h, ret);
    return 0;
}
