/*
 * Appending: gathered first, then locked, written, synced, and only then acknowledged. Works without a state folder.
 * Runs as the user; touches the mbox file and its sidecars.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/again.h"
#include "shared/mbox/base.h"
#include "shared/mbox/excise.h"
#include "shared/mbox/flush.h"
#include "shared/mbox/fromline.h"
#include "shared/mbox/journal.h"
#include "shared/mbox/names.h"
#include "shared/mbox/remember.h"
#include "shared/mbox/spool.h"
#include "shared/mbox/tail.h"

#define APPEND_BUFFER (256u << 10)
#define HEAD_MAX      (64u << 10)
#define FIRST_BYTES   64u            /* tell our append from other mail: sender, time, marker */
#define DATE_MAX      253402300799ll /* the end of year 9999 */

struct mbox_append {
    struct mbox_store *store;
    char *name;
    struct spool spool;
    bool is_again;
    struct box *box; /* open since the last commit, nothing of it locked, or NULL */
    struct mbox_append_hooks hooks;
};

struct append_writer {
    struct box *b;
    struct buf out;
    uint64_t at;    /* where out goes: the end of the file, and of what we wrote */
    uint64_t begin; /* where the whole append begins and ends; UINT64_MAX: not known yet */
    uint64_t end;
    char first[FIRST_BYTES];   /* that stand there */
    struct excise_range stray; /* what we wrote behind mail that came in that moment */
    uint32_t first_uid;
    uint32_t uidlast;
    bool is_crlf;
};

/* Said before a single byte is taken: IMAP refuses a message for a mailbox that is not there before it is sent. */
static int check_exists(struct mbox_store *s, struct str name)
{
    _cleanup_buf_ struct buf path = BUF_INIT(PATH_MAX);
    struct stat st;
    int r;

    if (name_is_inbox(name))
        return 0;
    if ((r = name_path(s, name, &path)) < 0)
        return r;
    r = stat(buf_cstr(&path), &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? -ENOENT : 0;
    return r == -ENOENT && store_may_be_missing(s, name) ? 0 : r;
}

int mbox_append_new(struct mbox_store *s, struct str name, struct mbox_append **ret)
{
    struct mbox_append *a;
    int r;

    if ((r = mbox_name_check(name)) < 0 || (r = check_exists(s, name)) < 0)
        return r;
    a = calloc(1, sizeof(*a));
    if (a == NULL)
        return -ENOMEM;
    spool_init(&a->spool, s->state);
    a->store = s;
    a->name = str_dup(name);
    if (a->name == NULL) {
        mbox_append_free(a);
        return -ENOMEM;
    }
    *ret = a;
    return 0;
}

void mbox_append_free(struct mbox_append *a)
{
    if (a == NULL)
        return;
    box_free(a->box);
    spool_finish(&a->spool);
    free(a->name);
    free(a);
}

void mbox_append_hook(struct mbox_append *a, const struct mbox_append_hooks *hooks)
{
    a->hooks = *hooks;
}

int mbox_append_message(struct mbox_append *a, const struct mbox_append_options *options)
{
    int64_t now = clock_now(a->store->clock);

    a->is_again = options->is_again;
    return spool_begin(&a->spool, options, now, (int16_t)clock_utc_offset(a->store->clock, now));
}

int mbox_append_write(struct mbox_append *a, const void *data, size_t len)
{
    return spool_write(&a->spool, data, len);
}

void mbox_append_drop(struct mbox_append *a)
{
    spool_drop(&a->spool);
}

/* At the end of the file. -EAGAIN: that has moved, by somebody who does not know the locks that we could get. */
static int write_end(struct append_writer *w, const char *data, size_t len)
{
    struct stat st;
    uint64_t at;
    size_t n;
    int r;

    if (fstat(w->b->fd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size != w->at)
        return -EAGAIN;
    for (; len > 0; data += n, len -= n) {
        if ((r = file_append(w->b->fd, data, len, &at, &n)) < 0)
            return r;
        if (at != w->at) {
            w->stray = (struct excise_range){at, at + n};
            return -EAGAIN;
        }
        w->at += n;
    }
    return 0;
}

/* What is written ends with a block of the file: there excise_foreign() looks for mail behind it. */
static int writer_put(struct append_writer *w, const void *data, size_t len)
{
    int r;

    if (w->out.len + len > APPEND_BUFFER) {
        size_t n = w->out.len - (size_t)((w->at + w->out.len) % EXCISE_BLOCK);

        if ((r = write_end(w, w->out.data, n)) < 0)
            return r;
        buf_consume(&w->out, n);
    }
    return len == 0 ? 0 : buf_add(&w->out, data, len);
}

/* Text with LF line ends, in the file's own. */
static int writer_text(struct append_writer *w, const char *p, size_t len)
{
    int r = 0;

    if (!w->is_crlf)
        return writer_put(w, p, len);
    while (r == 0 && len > 0) {
        const char *lf = memchr(p, '\n', len);
        size_t n = lf == NULL ? len : (size_t)(lf - p);

        r = writer_put(w, p, n);
        if (r == 0 && lf != NULL) {
            r = writer_put(w, "\r\n", 2);
            n++;
        }
        p += n;
        len -= n;
    }
    return r;
}

static uint64_t stored_length(const struct append_writer *w, const struct spool_message *m)
{
    return m->length + (w->is_crlf ? m->lines + 2 : 1);
}

/* The block that goes in front: with everything that is known about the message now. */
static int make_block(const struct append_writer *w, const struct spool_message *m, uint64_t offset, uint32_t uid,
                      struct buf *out)
{
    struct box *b = w->b;
    bool is_first = offset == 0 && uid != 0;
    struct interop_block block = {.marker = {.form = w->is_crlf ? INTEROP_OWN_CRLF : INTEROP_OWN_LF,
                                             .offset = offset,
                                             .begin = w->begin,
                                             .end = w->end,
                                             .sum = m->sum,
                                             .savedate = clock_now(b->store->clock),
                                             .zone = m->zone},
                                  .uid = uid,
                                  .flags = m->flags,
                                  .keywords = buf_str(&m->keywords),
                                  .uidvalidity = is_first ? b->ix.head->uidvalidity : 0,
                                  .uidlast = w->uidlast};
    _cleanup_buf_ struct buf all = BUF_INIT(LIMIT_KEYWORDS * (LIMIT_KEYWORD + 1));
    size_t length, least = is_first ? INTEROP_BLOCK_FIRST : INTEROP_BLOCK;
    int r;

    if (is_first && (r = flush_keywords(b->ix.head, UINT64_MAX, &all)) < 0)
        return r;
    block.base_keywords = buf_str(&all);
    if ((length = interop_block_min(&block)) == SIZE_MAX)
        return -ENOMEM;
    length = (length + 16 > least ? length + 16 : least) + m->extra;
    block.marker.length = out->len + length + stored_length(w, m);
    return interop_block_write(&block, length, out);
}

/* From_ line and block of a message that begins at `offset`. */
static int make_head(const struct append_writer *w, const struct spool_message *m, uint64_t offset, uint32_t uid,
                     struct buf *out)
{
    int64_t date = m->date < 0 ? 0 : m->date > DATE_MAX ? DATE_MAX : m->date;
    int r;

    if ((r = fromline_write(buf_str(&m->sender), date, out)) < 0)
        return r;
    if (w->is_crlf) {
        buf_truncate(out, out->len - 1);
        if ((r = buf_add(out, "\r\n", 2)) < 0)
            return r;
    }
    return make_block(w, m, offset, uid, out);
}

static uint32_t uid_of(const struct append_writer *w, size_t i)
{
    return w->first_uid == 0 ? 0 : w->first_uid + (uint32_t)i;
}

/* Where all of it will end: every marker says so. And where nobody takes the file for one that he knows. */
static int find_end(struct append_writer *w, const struct spool *s)
{
    uint64_t end = w->begin = w->at;

    for (size_t i = 0; i < s->count; i++) {
        _cleanup_buf_ struct buf head = BUF_INIT(HEAD_MAX);
        struct spool_message *m = &s->messages[i];
        int r;

        m->extra = 0;
        if ((r = make_head(w, m, end, uid_of(w, i), &head)) < 0)
            return r;
        end += head.len + stored_length(w, m);
        if (w->first_uid != 0)
            end += m->extra = remember_room(w->b->ix.head, end);
    }
    w->end = end;
    return 0;
}

static int write_message(struct append_writer *w, struct spool *s, size_t i)
{
    _cleanup_buf_ struct buf head = BUF_INIT(HEAD_MAX);
    _cleanup_free_ char *piece = malloc(APPEND_BUFFER / 4);
    const struct spool_message *m = &s->messages[i];
    int r;

    if (piece == NULL)
        return -ENOMEM;
    r = make_head(w, m, w->at + w->out.len, uid_of(w, i), &head);
    if (r == 0 && i == 0)
        memcpy(w->first, head.data, FIRST_BYTES); /* the block alone is longer */
    if (r == 0)
        r = writer_put(w, head.data, head.len);
    for (uint64_t done = 0; r == 0 && done < m->length;) {
        size_t n = m->length - done < APPEND_BUFFER / 4 ? (size_t)(m->length - done) : APPEND_BUFFER / 4;

        box_touch(w->b);
        r = spool_read(s, m->offset + done, piece, n);
        if (r == 0)
            r = writer_text(w, piece, n);
        done += n;
    }
    return r == 0 ? writer_text(w, "\n", 1) : r;
}

/* The message in front ends durably before anything follows it: what a power cut tears then is ours alone. */
static int end_last(struct append_writer *w, struct str repair)
{
    int r = write_end(w, repair.ptr, repair.len);

    return r == 0 && fdatasync(w->b->fd) < 0 ? -errno : r;
}

/* Does our append still stand where it began? Who writes the mailbox anew, without regard to locks, may have moved it.
 */
static bool still_stands(const struct append_writer *w)
{
    char bytes[FIRST_BYTES];
    size_t n = w->at - w->begin < FIRST_BYTES ? (size_t)(w->at - w->begin) : FIRST_BYTES;

    return file_read(w->b->fd, bytes, n, w->begin) == 0 && memcmp(bytes, w->first, n) == 0;
}

/* On failure the file is as it was, but for what somebody who does not know our locks has appended. */
static void take_back(const struct append_writer *w, uint64_t size)
{
    struct excise_range ours[] = {{w->begin, w->at}, w->stray};
    int fd = w->b->fd;
    struct stat st;
    uint64_t end;

    if (fstat(fd, &st) < 0 || (end = (uint64_t)st.st_size) < w->at ||
        (end > w->at && (w->begin > w->at || !still_stands(w))))
        return;
    if (w->stray.to == end && end > w->at && ftruncate(fd, (off_t)w->stray.from) == 0)
        end = ours[1].to = w->stray.from;
    if (end > w->at)
        (void)excise(w->b, ours, ARRAY_SIZE(ours));
    if (end > w->at || (end > size && ftruncate(fd, (off_t)size) == 0)) {
        (void)file_settle(w->b, size);
        (void)fdatasync(fd);
    }
}

/* Everything, durably, or nothing. */
static int write_all(struct box *b, struct mbox_append *a, uint32_t first_uid)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    struct append_writer w = {
        .b = b, .out = BUF_INIT(APPEND_BUFFER + HEAD_MAX), .at = size, .begin = UINT64_MAX, .first_uid = first_uid};
    struct str repair;
    int r;

    w.uidlast = first_uid == 0 ? 0 : first_uid + (uint32_t)a->spool.count - 1;
    if ((r = tail_look(b, &w.is_crlf, &repair)) == 0 && repair.len > 0)
        r = end_last(&w, repair);
    if (r == 0)
        r = find_end(&w, &a->spool);
    for (size_t i = 0; r == 0 && i < a->spool.count; i++)
        r = write_message(&w, &a->spool, i);
    if (r == 0 && w.at + w.out.len != w.end)
        r = -EIO;
    if (r == 0)
        r = write_end(&w, w.out.data, w.out.len);
    if (r == 0 && first_uid != 0)
        r = base_put_last(b, w.uidlast);
    if (r == 0)
        file_renew(b);
    if (r == 0 && fdatasync(b->fd) < 0)
        r = -errno;
    /* Whoever made an empty file, be it an attempt of ours that came to nothing, may not have made its name durable. */
    if (r == 0 && (b->is_created || size == 0))
        r = file_sync_folder(b->path);
    b->is_created = b->is_created && r < 0;
    b->own_from = w.begin;
    if (r < 0)
        take_back(&w, size);
    buf_finish(&w.out);
    return r;
}

/* Sidecars that cannot be used are no reason not to take mail. */
static bool has_state(struct box *b)
{
    if (b->side == NULL || b->lock_fd >= 0) /* one that is open was locked for the last message */
        return b->side != NULL;
    if (box_lock(b, BOX_STATE) == 0) {
        box_unlock(b);
        return true;
    }
    free(b->side);
    b->side = NULL;
    return false;
}

/* What reading or writing the sidecars may say. When it was the mailbox that said it, it will say it again. */
static bool is_of_sidecars(int error)
{
    static const int errors[] = {ENOSPC, EDQUOT, EFBIG,   EACCES, EPERM, EROFS,
                                 EIO,    EISDIR, ENOTDIR, ESPIPE, ELOOP, ESTALE};

    for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
        if (error == -errors[i])
            return true;
    return false;
}

static void tell(const struct mbox_append *a)
{
    if (a->hooks.tell)
        a->hooks.tell(a->hooks.context);
}

/* Whoever wrote it may have died before it was on the disk, the name of the file included. What is not there yet is
 * written only if that is still wanted. */
static int look_again(struct box *b, struct mbox_append *a, bool *ret_found)
{
    int r = a->is_again && a->spool.count == 1 ? again_find(b, &a->spool, ret_found) : 0;

    if (r == 0 && !*ret_found && a->hooks.may)
        r = a->hooks.may(a->hooks.context);
    if (r < 0 || !*ret_found)
        return r;
    return fdatasync(b->fd) < 0 ? -errno : file_sync_folder(b->path);
}

/* A mailbox that was removed since it was opened is made anew. */
static int lock_made(struct box *b, int (*lock)(struct box *b, unsigned kinds))
{
    int r = lock(b, BOX_WRITE);

    return r == -ENOENT && (r = box_create(b)) == 0 ? lock(b, BOX_WRITE) : r;
}

/* UIDs are given by whoever can use the sidecars again. */
static int commit_plain(struct box *b, struct mbox_append *a, uint32_t *ret_uidvalidity, uint32_t *ret_first_uid)
{
    bool is_there = false;
    int r = lock_made(b, box_lock);

    *ret_uidvalidity = *ret_first_uid = 0;
    if (r == 0 && (r = tail_recover(b, TAIL_NEAR)) == 0 && (r = look_again(b, a, &is_there)) == 0 && !is_there)
        r = write_all(b, a, 0);
    if (r == 0)
        tell(a);
    return r;
}

static int commit(struct box *b, struct mbox_append *a, uint32_t *ret_uidvalidity, uint32_t *ret_first_uid)
{
    unsigned keywords;
    uint32_t first = 0;
    bool is_there = false;
    int r;

    b->is_own_growth = false;
    if (b->fd < 0 && (r = box_create(b)) < 0)
        return r;
    if (!has_state(b))
        return commit_plain(b, a, ret_uidvalidity, ret_first_uid);
    if ((r = lock_made(b, box_lock_synced)) < 0)
        return is_of_sidecars(r) && !journal_exists(b) ? commit_plain(b, a, ret_uidvalidity, ret_first_uid) : r;
    *ret_uidvalidity = b->ix.head->uidvalidity;
    if ((r = look_again(b, a, &is_there)) < 0)
        return r;
    if (is_there) {
        tell(a);
        return 0;
    }
    first = b->ix.head->uidnext;
    if (a->spool.count >= UINT32_MAX - first)
        return -EOVERFLOW;
    if ((r = write_all(b, a, first)) < 0)
        return r;
    /* It is there, whatever happens now: without an index the UIDs are told by whoever makes it. */
    tell(a);
    *ret_first_uid = 0;
    b->is_own_growth = true;
    keywords = base_count_keywords(b);
    if (fstat(b->fd, &b->facts) == 0 && box_sync_own(b) == 0 && b->ix.head->uidnext == first + a->spool.count)
        *ret_first_uid = first;
    if (*ret_first_uid != 0 && base_count_keywords(b) != keywords && base_put_keywords(b) == 0) {
        file_tick(b);
        file_renew(b);
        (void)box_describe(b);
    }
    return 0;
}

/* What went wrong may lie in what was open. */
static void drop_box(struct mbox_append *a)
{
    box_free(a->box);
    a->box = NULL;
}

int mbox_append_commit(struct mbox_append *a, uint32_t *ret_uidvalidity, uint32_t *ret_first_uid)
{
    uint32_t uidvalidity = 0, first = 0;
    int r = spool_end(&a->spool);

    if (r == 0 && a->spool.count == 0)
        r = -EINVAL;
    if (r == 0 && a->box == NULL)
        r = box_open(a->store, str_from(a->name), false, &a->box);
    if (r == 0) {
        r = commit(a->box, a, &uidvalidity, &first);
        box_unlock(a->box);
    }
    if (r < 0 || a->box->side == NULL)
        drop_box(a);
    spool_finish(&a->spool);
    spool_init(&a->spool, a->store->state);
    if (r < 0)
        return r;
    *ret_uidvalidity = uidvalidity;
    *ret_first_uid = first;
    return 0;
}
