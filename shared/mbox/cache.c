/*
 * Blobs that a protocol computed from messages, beside the index: NAME.cache, append-only, each blob with a checksum
 * and the UID it belongs to. Never synced; whatever does not check is not there. Runs as the user, written under
 * BOX_STATE.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/view.h"

#define CACHE_MAGIC    0x3143434153434550u
#define CACHE_UNIT     16u
#define CACHE_WINDOW   (64u << 10) /* read at once: blobs of neighbours lie together */
#define CACHE_BATCH    (128u << 10)
#define CACHE_SIZE_MIN (8u << 20) /* never thrown away below this */
#define CACHE_PER_MAIL 16384u     /* bytes per message beyond which most of it must be of expunged ones */

struct cache_head {
    uint64_t magic;
    uint64_t id;
};

struct cache_blob {
    uint32_t uid;
    uint32_t kind;
    uint32_t len;
    uint32_t check;
};
_Static_assert(sizeof(struct cache_head) == CACHE_UNIT && sizeof(struct cache_blob) == CACHE_UNIT,
               "blobs start at whole units");

static uint32_t blob_check(const struct cache_blob *blob, const char *data)
{
    return (uint32_t)(mhash64(data, blob->len) + blob->uid * 0x9e3779b9u + blob->kind);
}

static size_t blob_room(size_t len)
{
    return (sizeof(struct cache_blob) + len + CACHE_UNIT - 1) / CACHE_UNIT * CACHE_UNIT;
}

/* Opens the cache file that the index speaks of. -ENOENT: there is none. */
static int cache_open(struct mbox *v, uint64_t id)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    struct cache_head head;
    int r;

    if (id == 0)
        return -ENOENT;
    if (v->cache_fd >= 0 && v->cache_id == id)
        return 0;
    if ((r = buf_printf(&path, "%s.cache", v->b->side)) < 0)
        return r;
    fd = open(buf_cstr(&path), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (file_read(fd, &head, sizeof(head), 0) < 0 || head.magic != CACHE_MAGIC || head.id != id)
        return -ENOENT;
    close_fd(&v->cache_fd);
    v->cache_fd = steal_fd(&fd);
    v->cache_id = id;
    buf_clear(&v->cache);
    return 0;
}

/* Bytes of the file as a view into the window, which moves when it has to. */
static int cache_bytes(struct mbox *v, uint64_t at, size_t len, const char **ret)
{
    ssize_t n;
    int r;

    if (at < v->cache_at || at + len > v->cache_at + v->cache.len) {
        buf_clear(&v->cache);
        if ((r = buf_reserve(&v->cache, len > CACHE_WINDOW ? len : CACHE_WINDOW)) < 0)
            return r;
        n = pread(v->cache_fd, v->cache.data, len > CACHE_WINDOW ? len : CACHE_WINDOW, (off_t)at);
        if (n < 0)
            return -errno;
        v->cache.len = (size_t)n;
        v->cache_at = at;
        if ((size_t)n < len)
            return -ENOENT;
    }
    *ret = v->cache.data + (at - v->cache_at);
    return 0;
}

int mbox_cache_get(struct mbox *v, uint32_t seq, enum mbox_cache_kind kind, struct str *ret)
{
    struct index_record rec;
    struct cache_blob blob;
    const char *p;
    uint64_t at;
    int r;

    if (kind >= MBOX_CACHE_KINDS)
        return -EINVAL;
    if ((r = view_record(v, seq, &rec)) < 0)
        return r;
    at = (uint64_t)rec.cache[kind] * CACHE_UNIT;
    if (at == 0 || cache_open(v, v->ix.head->cache_id) < 0 || cache_bytes(v, at, sizeof(blob), &p) < 0)
        return -ENOENT;
    memcpy(&blob, p, sizeof(blob));
    if (blob.uid != rec.uid || blob.kind != (uint32_t)kind || blob.len > LIMIT_CACHE_BLOB)
        return -ENOENT;
    if (cache_bytes(v, at, sizeof(blob) + blob.len, &p) < 0)
        return -ENOENT;
    p += sizeof(blob);
    if (blob.check != blob_check(&blob, p))
        return -ENOENT;
    *ret = (struct str){p, blob.len};
    return 0;
}

int mbox_cache_put(struct mbox *v, uint32_t seq, enum mbox_cache_kind kind, struct str bytes)
{
    static const char zeros[CACHE_UNIT];
    struct cache_blob blob = {.kind = (uint32_t)kind, .len = (uint32_t)bytes.len};
    int r;

    if (kind >= MBOX_CACHE_KINDS)
        return -EINVAL;
    if (bytes.len > LIMIT_CACHE_BLOB)
        return -EFBIG;
    if ((r = view_uid(v, seq, &blob.uid)) < 0)
        return r;
    blob.check = blob_check(&blob, bytes.ptr);
    if ((r = buf_reserve(&v->cache_put, blob_room(bytes.len))) < 0)
        return r;
    r = buf_add(&v->cache_put, &blob, sizeof(blob));
    if (r == 0)
        r = buf_add_str(&v->cache_put, bytes);
    if (r == 0)
        r = buf_add(&v->cache_put, zeros, blob_room(bytes.len) - sizeof(blob) - bytes.len);
    return r == 0 && v->cache_put.len >= CACHE_BATCH ? cache_write(v) : r;
}

/* A new, empty cache file; what records say about the old one is wiped. Between index_begin() and index_end(). */
static int cache_create(struct mbox *v)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    struct cache_head head = {.magic = CACHE_MAGIC};
    struct box *b = v->b;
    int r;

    if ((r = secret_random(&head.id, sizeof(head.id))) < 0 || (r = buf_printf(&path, "%s.cache", b->side)) < 0)
        return r;
    if (unlink(buf_cstr(&path)) < 0 && errno != ENOENT)
        return -errno;
    for (uint64_t i = 0; i < b->ix.head->count; i++) {
        static const uint32_t none[MBOX_CACHE_KINDS];
        struct index_record rec = index_load(&b->ix, i);
        if (memcmp(rec.cache, none, sizeof(none)) == 0)
            continue;
        memset(rec.cache, 0, sizeof(rec.cache));
        if ((r = index_put(b, i, &rec)) < 0)
            return r;
    }
    fd = open(buf_cstr(&path), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    if ((r = file_write(fd, &head, sizeof(head), 0)) < 0)
        return r;
    b->ix.next->cache_id = head.id;
    return cache_open(v, head.id);
}

/* A copy with the blobs of one kind together: mostly a command reads one kind of many messages. ret_next: where in it
 * those of each kind begin. */
static int group_by_kind(const struct buf *blobs, struct buf *ret, uint64_t ret_next[MBOX_CACHE_KINDS])
{
    int r = buf_reserve(ret, blobs->len);

    for (uint32_t kind = 0; kind < MBOX_CACHE_KINDS && r == 0; kind++) {
        ret_next[kind] = ret->len;
        for (size_t at = 0; at < blobs->len && r == 0;) {
            struct cache_blob blob;

            memcpy(&blob, blobs->data + at, sizeof(blob));
            if (blob.kind == kind)
                r = buf_add(ret, blobs->data + at, blob_room(blob.len));
            at += blob_room(blob.len);
        }
    }
    return r;
}

/* The record of a UID: mostly the one behind the last that was asked for. */
static uint64_t find_record(const struct index *ix, uint64_t last, uint32_t uid)
{
    if (last + 1 < ix->head->count && index_brief(ix, last + 1)->uid == uid)
        return last + 1;
    return index_find(ix, 0, uid);
}

/* The records learn where their blobs are, each of them once: those of a message were put one after the other. `next`
 * is where the next blob of each kind stands in the file. */
static int point_to_blobs(struct mbox *v, uint64_t next[MBOX_CACHE_KINDS])
{
    const struct buf *blobs = &v->cache_put;
    struct box *b = v->b;
    uint64_t position = 0;
    int r = 0;

    for (size_t at = 0; at < blobs->len && r == 0;) {
        struct index_record rec;
        struct cache_blob blob;
        uint32_t uid;
        bool is_there;

        memcpy(&blob, blobs->data + at, sizeof(blob));
        uid = blob.uid;
        position = find_record(&b->ix, position, uid);
        is_there = position < b->ix.head->count && index_brief(&b->ix, position)->uid == uid;
        if (is_there)
            index_get(b, position, &rec);
        while (blob.uid == uid) {
            if (is_there)
                rec.cache[blob.kind] = (uint32_t)(next[blob.kind] / CACHE_UNIT);
            next[blob.kind] += blob_room(blob.len);
            at += blob_room(blob.len);
            if (at >= blobs->len)
                break;
            memcpy(&blob, blobs->data + at, sizeof(blob));
        }
        if (is_there)
            r = index_put(b, position, &rec);
    }
    return r;
}

static int cache_append(struct mbox *v)
{
    struct box *b = v->b;
    uint64_t most = b->ix.head->live * CACHE_PER_MAIL + CACHE_SIZE_MIN;
    _cleanup_buf_ struct buf grouped = BUF_INIT(v->cache_put.max);
    uint64_t place, next[MBOX_CACHE_KINDS];
    struct stat st;
    int r, e;

    if (most > (uint64_t)UINT32_MAX * CACHE_UNIT - CACHE_BATCH * 4)
        most = (uint64_t)UINT32_MAX * CACHE_UNIT - CACHE_BATCH * 4;
    if ((r = group_by_kind(&v->cache_put, &grouped, next)) < 0 || (r = index_begin(b)) < 0)
        return r;
    r = cache_open(v, b->ix.head->cache_id);
    if (r < 0 || fstat(v->cache_fd, &st) < 0 || (uint64_t)st.st_size > most)
        r = cache_create(v);
    if (r == 0 && fstat(v->cache_fd, &st) < 0)
        r = -errno;
    if (r == 0) {
        place = ((uint64_t)st.st_size + CACHE_UNIT - 1) / CACHE_UNIT * CACHE_UNIT;
        for (size_t kind = 0; kind < MBOX_CACHE_KINDS; kind++)
            next[kind] += place;
        r = file_write(v->cache_fd, grouped.data, grouped.len, place);
        if (r == 0)
            r = point_to_blobs(v, next);
        else if (ftruncate(v->cache_fd, st.st_size) < 0) /* what stays is never looked at */
            buf_clear(&v->cache);
    }
    /* Full, most likely. What records say of blobs is checked when they are read: the index is as good as it was. */
    e = index_end(b);
    return r < 0 ? r : e;
}

int cache_write(struct mbox *v)
{
    int r;

    if (v->cache_put.len == 0)
        return 0;
    if ((r = box_lock_synced(v->b, 0)) == 0) {
        r = v->b->ix.head->uidvalidity == v->uidvalidity ? cache_append(v) : 0;
        box_unlock(v->b);
        view_follow(v);
    }
    buf_clear(&v->cache_put);
    return r;
}
