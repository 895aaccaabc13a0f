/*
 * The state log: what the mbox file itself does not say, or not yet. Append-only, every entry with a checksum, made
 * durable before anybody is told. Runs as the user under BOX_STATE; touches NAME.state in the state folder.
 *
 * Layout: a head, then entries {type, length, checksum, payload padded to 8 bytes}. An entry that does not check ends
 * the log: it is what a crash left, and is overwritten by the next one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/mbox/box.h"
#include "shared/mbox/folders.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/log_read.h"

static int put_entry(struct buf *out, enum log_type type, const void *payload, size_t len)
{
    struct log_entry entry = {.type = (uint32_t)type, .len = (uint32_t)len, .check = log_check(type, payload, len)};
    static const char zeros[8];
    int r;

    if (len > LOG_ENTRY_MAX)
        return -EMSGSIZE;
    if ((r = buf_reserve(out, sizeof(entry) + len + 8)) < 0)
        return r;
    r = buf_add(out, &entry, sizeof(entry));
    if (r == 0)
        r = buf_add(out, payload, len);
    if (r == 0)
        r = buf_add(out, zeros, log_padding(len));
    return r;
}

int log_put_raw(struct buf *out, const struct log_reader *r)
{
    return put_entry(out, (enum log_type)r->type, r->data.data, r->data.len);
}

int log_put_base(struct buf *out, const struct index_header *h, uint64_t floor)
{
    struct log_base base = {
        .uidvalidity = h->uidvalidity, .uidnext = h->uidnext, .modseq = h->modseq, .floor = floor, .recent = h->recent};

    memcpy(base.mailboxid, h->mailboxid, sizeof(base.mailboxid));
    return put_entry(out, LOG_BASE, &base, sizeof(base));
}

int log_put_keyword(struct buf *out, unsigned n, const char *name)
{
    struct log_keyword keyword = {.number = n};

    if (strlen(name) > LIMIT_KEYWORD)
        return -EINVAL;
    memcpy(keyword.name, name, strlen(name) + 1);
    return put_entry(out, LOG_KEYWORD, &keyword, sizeof(keyword));
}

int log_put_next(struct buf *out, uint32_t uidnext, uint64_t modseq)
{
    struct log_next next = {.uidnext = uidnext, .modseq = modseq};

    return put_entry(out, LOG_NEXT, &next, sizeof(next));
}

int log_put_message(struct buf *out, const struct index_record *rec)
{
    struct log_uid uid = {.uid = rec->uid,
                          .flags = rec->flags,
                          .has_flags = (rec->bits & INDEX_PENDING) != 0,
                          .keywords = rec->keywords,
                          .modseq = rec->modseq,
                          .savedate = rec->savedate};

    memcpy(uid.hash, rec->hash, sizeof(uid.hash));
    return put_entry(out, LOG_MESSAGE, &uid, sizeof(uid));
}

/* A set of UIDs may be too large for one entry: it is cut. */
static int put_ranges(struct buf *out, enum log_type type, const struct log_ranges *head, const struct numset *uids)
{
    const size_t most = (LOG_ENTRY_MAX - sizeof(*head)) / sizeof(struct numrange);
    int r = 0;

    for (size_t at = 0; r == 0 && at < uids->count; at += most) {
        size_t n = uids->count - at < most ? uids->count - at : most;
        _cleanup_buf_ struct buf payload = BUF_INIT(LOG_ENTRY_MAX);

        r = buf_add(&payload, head, sizeof(*head));
        if (r == 0)
            r = buf_add(&payload, uids->ranges + at, n * sizeof(*uids->ranges));
        if (r == 0)
            r = put_entry(out, type, payload.data, payload.len);
    }
    return r;
}

int log_put_flags(struct buf *out, uint64_t modseq, const struct log_flags *flags, const struct numset *uids)
{
    struct log_ranges head = {
        .modseq = modseq, .flags = flags->system, .keywords = flags->keywords, .changed = flags->changed};

    return put_ranges(out, LOG_FLAGS, &head, uids);
}

int log_put_expunged(struct buf *out, uint64_t modseq, const struct numset *uids)
{
    struct log_ranges head = {.modseq = modseq};

    return put_ranges(out, LOG_EXPUNGED, &head, uids);
}

int log_put_flushed(struct buf *out, const struct numset *uids)
{
    struct log_ranges head = {0};

    return put_ranges(out, LOG_FLUSHED, &head, uids);
}

/* What a RENAME that was cut short has left: a second name, where there is no mailbox or was none when we came, of the
 * sidecars of one. */
static bool is_of_another(const struct box *b, const struct stat *st)
{
    return st->st_nlink > 1 && !b->is_inbox && (b->is_created || (access(b->path, F_OK) < 0 && errno == ENOENT));
}

int log_attach(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    struct log_head head;
    struct stat st;
    bool is_there;
    int r;

    if ((r = box_side(b, ".state", &path)) < 0)
        return r;
    is_there = stat(buf_cstr(&path), &st) == 0;
    if (!is_there && errno != ENOENT)
        return -errno;
    if (is_there && is_of_another(b, &st)) {
        folders_forget_links(b->side);
        is_there = false;
    }
    if (!is_there) {
        close_fd(&b->log_fd);
        b->log_id = b->log_size = b->log_ino = 0;
        return 0;
    }
    if (b->log_fd >= 0 && st.st_ino == b->log_ino)
        return 0;
    fd = open(buf_cstr(&path), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    close_fd(&b->log_fd);
    b->log_id = b->log_size = 0;
    if (file_read(fd, &head, sizeof(head), 0) == 0 && log_head_is_valid(&head)) {
        b->log_id = head.id;
        b->log_size = sizeof(head);
    }
    b->log_ino = st.st_ino;
    b->log_fd = steal_fd(&fd);
    return 0;
}

/* Entries that were not written whole do not check, so a failure here loses nothing: the next commit cuts again. */
static void cut_back(struct box *b)
{
    if (ftruncate(b->log_fd, (off_t)b->log_size) < 0)
        return;
}

int log_reserve(struct box *b, const struct buf *records)
{
    struct stat st;

    if (fstat(b->log_fd, &st) < 0 ||
        ((uint64_t)st.st_size > b->log_size && ftruncate(b->log_fd, (off_t)b->log_size) < 0))
        return -errno;
    if (fallocate(b->log_fd, FALLOC_FL_KEEP_SIZE, (off_t)b->log_size, (off_t)records->len + 1) == 0)
        return 0;
    return errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO ? -errno : 0;
}

int log_commit(struct box *b, const struct buf *records, bool sync)
{
    struct stat st;
    int r;

    if (records->len > 0) {
        if (fstat(b->log_fd, &st) < 0)
            return -errno;
        if ((uint64_t)st.st_size > b->log_size && ftruncate(b->log_fd, (off_t)b->log_size) < 0)
            return -errno;
        if ((r = file_write(b->log_fd, records->data, records->len, b->log_size)) < 0) {
            cut_back(b);
            return r;
        }
    }
    if (sync && fdatasync(b->log_fd) < 0) {
        r = -errno;
        cut_back(b);
        return r;
    }
    b->log_size += records->len;
    b->is_log_lazy = !sync && (b->is_log_lazy || records->len > 0);
    return 0;
}

static int write_new(struct box *b, const char *path, const struct buf *records, struct log_head *head)
{
    _cleanup_close_ int fd = -1;
    int r;

    *head = (struct log_head){.magic = LOG_MAGIC, .compacted = sizeof(*head) + records->len};
    if ((r = secret_random(&head->id, sizeof(head->id))) < 0)
        return r;
    head->check = log_head_check(head);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = file_write(fd, head, sizeof(*head), 0);
    if (r == 0)
        r = file_write(fd, records->data, records->len, sizeof(*head));
    return r == 0 && fsync(fd) < 0 ? -errno : r;
}

int log_replace(struct box *b, const struct buf *records)
{
    _cleanup_buf_ struct buf from = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_buf_ struct buf to = BUF_INIT(LIMIT_CONF_VALUE * 8);
    struct log_head head;
    int r;

    if ((r = buf_printf(&from, "%s.state.new", b->side)) < 0 || (r = buf_printf(&to, "%s.state", b->side)) < 0)
        return r;
    if ((r = write_new(b, buf_cstr(&from), records, &head)) < 0) {
        (void)unlink(buf_cstr(&from));
        return r;
    }
    if (rename(buf_cstr(&from), buf_cstr(&to)) < 0)
        return -errno;
    if ((r = file_sync_folder(buf_cstr(&to))) < 0)
        return r;
    close_fd(&b->log_fd);
    if ((r = log_attach(b)) < 0)
        return r;
    if (b->log_id != head.id)
        return -EIO;
    b->log_size = sizeof(head) + records->len;
    return 0;
}
