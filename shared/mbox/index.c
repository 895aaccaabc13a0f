/*
 * The index: a cache of everything that is known about the messages, in fixed-size records behind a header. Mapped
 * read-only by every session, written by pwrite under BOX_STATE. Runs as the user; touches NAME.index and its temporary
 * sibling in the state folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/box.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/index_put.h"
#include "shared/mbox/settle.h"

#define HEADER_FRONT offsetof(struct index_header, keywords) /* what its check covers */

#define GROWTH (512u << 10) /* mapped behind the end, so that new mail seldom needs a new mapping */

uint64_t index_find(const struct index *ix, uint64_t from, uint32_t uid)
{
    uint64_t low = from, high = ix->head->count;

    while (low < high) {
        uint64_t mid = low + (high - low) / 2;

        if (index_brief(ix, mid)->uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void index_describe(struct index_header *h, const struct stat *st)
{
    h->dev = st->st_dev;
    h->ino = st->st_ino;
    h->size = (uint64_t)st->st_size;
    h->mtime = st->st_mtim.tv_sec;
    h->mtime_ns = (uint32_t)st->st_mtim.tv_nsec;
    h->ctime = st->st_ctim.tv_sec;
    h->ctime_ns = (uint32_t)st->st_ctim.tv_nsec;
}

bool index_describes(const struct index_header *h, const struct stat *st)
{
    return h->dev == st->st_dev && h->ino == st->st_ino && h->size == (uint64_t)st->st_size &&
           h->mtime == st->st_mtim.tv_sec && h->mtime_ns == (uint32_t)st->st_mtim.tv_nsec &&
           h->ctime == st->st_ctim.tv_sec && h->ctime_ns == (uint32_t)st->st_ctim.tv_nsec; /* mutt puts mtime back */
}

static uint64_t header_check(const struct index_header *h)
{
    return mhash64(h, offsetof(struct index_header, check));
}

bool index_look(const struct index *ix, struct index_header *ret)
{
    memcpy(ret, ix->head, HEADER_FRONT);
    return ret->check == header_check(ret) && !ret->is_dirty && !ret->is_superseded;
}

static void index_unmap(struct index *ix)
{
    if (ix->head != NULL)
        (void)munmap((void *)(uintptr_t)ix->head, ix->mapped);
    ix->head = NULL;
    ix->mapped = 0;
}

void index_finish(struct index *ix)
{
    index_unmap(ix);
    close_fd(&ix->fd);
    free(ix->next);
    free(ix->batch);
    *ix = (struct index){.fd = -1};
}

void index_close(struct box *b)
{
    index_finish(&b->ix);
}

static int map_bytes(struct index *ix, size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, ix->fd, 0);

    if (p == MAP_FAILED)
        return -errno;
    index_unmap(ix);
    ix->head = p;
    ix->mapped = bytes;
    return 0;
}

int index_map(struct box *b, uint64_t n)
{
    uint64_t bytes = index_bytes(n);

    if (n >= UINT32_MAX) /* of a header that was damaged since it was checked */
        return -EIO;
    if (b->ix.mapped >= bytes)
        return 0;
    return map_bytes(&b->ix, (size_t)((bytes + GROWTH + 4095) & ~4095ull));
}

/* A file that is really as long as it says, so that reading the mapping cannot fault. */
static bool is_whole(const struct index_header *h, uint64_t file_size)
{
    return h != NULL && h->magic == INDEX_MAGIC && h->version == INDEX_VERSION && h->check == header_check(h) &&
           h->live <= h->count && h->count < UINT32_MAX && file_size >= index_bytes(h->count);
}

int index_open(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    struct index fresh = {.fd = -1};
    struct stat st;
    int r;

    if ((r = box_side(b, ".index", &path)) < 0)
        return r;
    if (b->ix.head != NULL && stat(buf_cstr(&path), &st) == 0 && st.st_ino == b->ix.ino &&
        st.st_size >= INDEX_HEADER_SIZE && !b->ix.head->is_superseded && is_whole(b->ix.head, (uint64_t)st.st_size))
        return index_map(b, b->ix.head->count);
    fresh.fd = open(buf_cstr(&path), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fresh.fd < 0) {
        r = -errno; /* one that cannot be read is made anew, but not for want of file descriptors or memory */
        index_close(b);
        return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EIO ? r : 0;
    }
    if (fstat(fresh.fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < INDEX_HEADER_SIZE ||
        map_bytes(&fresh, INDEX_HEADER_SIZE) < 0 || !is_whole(fresh.head, (uint64_t)st.st_size)) {
        index_finish(&fresh);
        index_close(b);
        return 0;
    }
    fresh.ino = st.st_ino;
    index_close(b);
    b->ix = fresh;
    r = index_map(b, b->ix.head->count);
    if (r < 0)
        index_close(b);
    return r;
}

int index_write_header(int fd, struct index_header *h)
{
    h->check = header_check(h);
    return file_write(fd, h, HEADER_FRONT, 0);
}

/* The rest of it, two pages that change with keywords and remembered sizes only. */
static int write_rest(int fd, const struct index_header *h, const struct index_header *before)
{
    const char *rest = (const char *)h + HEADER_FRONT;
    size_t len = sizeof(*h) - HEADER_FRONT;

    if (before != NULL && memcmp(rest, (const char *)before + HEADER_FRONT, len) == 0)
        return 0;
    return file_write(fd, rest, len, HEADER_FRONT);
}

/* What only those need who change something. */
static int make_room(struct index *ix)
{
    if (ix->next == NULL)
        ix->next = calloc(2, sizeof(*ix->next));
    if (ix->batch == NULL)
        ix->batch = malloc(sizeof(*ix->batch));
    if (ix->next == NULL || ix->batch == NULL)
        return -ENOMEM;
    ix->batch->count = 0;
    ix->before = ix->next + 1;
    return 0;
}

int index_begin(struct box *b)
{
    int r = make_room(&b->ix);

    if (r < 0)
        return r;
    b->ix.is_changed = false;
    *b->ix.before = *b->ix.head;
    *b->ix.next = *b->ix.head;
    b->ix.next->is_dirty = 1;
    b->ix.next->is_settled = 0;
    b->ix.next->boot = store_boot(b->store);
    r = index_write_header(b->ix.fd, b->ix.next);
    /* Durably, before a record changes: else a power cut may leave records that a settled header does not know. */
    return r == 0 && b->ix.before->is_settled && fdatasync(b->ix.fd) < 0 ? -errno : r;
}

int index_end(struct box *b)
{
    int r;

    if ((r = index_flush_batch(&b->ix)) < 0 || (r = index_find_unseen(&b->ix)) < 0)
        return r;
    b->ix.next->is_dirty = 0;
    b->ix.next->log_id = b->log_id;
    b->ix.next->log_size = b->log_size;
    b->ix.next->is_log_lazy = b->is_log_lazy;
    if ((r = write_rest(b->ix.fd, b->ix.next, b->ix.before)) < 0 || (r = index_write_header(b->ix.fd, b->ix.next)) < 0)
        return r;
    return index_map(b, b->ix.next->count);
}

int index_spoil(struct box *b)
{
    int r = index_begin(b); /* and no end */

    return r < 0 ? r : -EIO;
}

void index_abort(struct box *b)
{
    b->ix.batch->count = 0;
    if (b->ix.is_changed)
        return;
    *b->ix.next = *b->ix.before; /* nothing was written over: it is as good as it was */
    (void)index_write_header(b->ix.fd, b->ix.next);
}

int index_new(struct box *b, struct index *ret)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    struct index fresh = {.fd = -1};
    struct stat st;
    int r;

    if ((r = box_side(b, ".index.new", &path)) < 0)
        return r;
    if (unlink(buf_cstr(&path)) < 0 && errno != ENOENT)
        return -errno;
    fresh.fd = open(buf_cstr(&path), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fresh.fd < 0)
        return -errno;
    r = make_room(&fresh);
    if (r == 0 && fstat(fresh.fd, &st) < 0)
        r = -errno;
    if (r == 0 && ftruncate(fresh.fd, INDEX_HEADER_SIZE) < 0)
        r = -errno;
    if (r < 0) {
        index_finish(&fresh);
        return r;
    }
    fresh.ino = st.st_ino;
    *fresh.next = (struct index_header){.magic = INDEX_MAGIC, .version = INDEX_VERSION, .is_ordered = 1};
    *ret = fresh;
    return 0;
}

int index_again(struct box *b, const struct index_header *h, struct index *ret)
{
    int r = index_new(b, ret);

    if (r < 0)
        return r;
    *ret->next = *h;
    ret->next->count = ret->next->bytes = ret->next->deleted_bytes = ret->next->first_unseen = 0;
    ret->next->unseen = ret->next->deleted = ret->next->unwritten = ret->next->logged = 0;
    ret->next->is_settled = 0;
    return 0;
}

int index_add(struct index *ix, const struct index_record *rec)
{
    return index_put_record(ix, ix->next->count, rec);
}

int index_rewrite(struct index *fresh, uint64_t at, const struct index_record *rec)
{
    return index_put_record(fresh, at, rec);
}

int index_map_fresh(struct index *fresh)
{
    int r = index_flush_batch(fresh);

    return r < 0 ? r : map_bytes(fresh, index_bytes(fresh->next->count));
}

/* Tells those who have the old file mapped that it is history. */
static void supersede(struct box *b)
{
    struct index_header last;

    if (b->ix.head == NULL)
        return;
    last = *b->ix.head;
    last.is_superseded = 1;
    (void)index_write_header(b->ix.fd, &last);
}

int index_install(struct box *b, struct index *fresh)
{
    _cleanup_buf_ struct buf from = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_buf_ struct buf to = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    fresh->next->boot = store_boot(b->store);
    fresh->next->log_id = b->log_id;
    fresh->next->log_size = b->log_size;
    fresh->next->is_log_lazy = b->is_log_lazy;
    if ((r = box_side(b, ".index.new", &from)) == 0 && (r = box_side(b, ".index", &to)) == 0 &&
        (r = index_flush_batch(fresh)) == 0 && (r = index_find_unseen(fresh)) == 0 &&
        (r = write_rest(fresh->fd, fresh->next, NULL)) == 0 && (r = index_write_header(fresh->fd, fresh->next)) == 0 &&
        rename(buf_cstr(&from), buf_cstr(&to)) < 0)
        r = -errno;
    if (r < 0) {
        index_finish(fresh);
        return r;
    }
    supersede(b);
    index_close(b);
    b->ix = *fresh;
    *fresh = (struct index){.fd = -1};
    r = map_bytes(&b->ix, INDEX_HEADER_SIZE);
    return r < 0 ? r : index_map(b, b->ix.head->count);
}
