/*
 * Holes: a power cut can leave a file as long as an append made it, with zeros where blocks of the append never reached
 * the disk. Mail programs do not write NULs, so nearly always there is nothing to look at. Runs as the user under
 * BOX_READ; reads the mbox file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/scan.h"
#include "shared/mbox/tail.h"

#define HOLES_PIECE (64u << 10)
#define HOLES_ALIGN 512u /* blocks are lost whole */

struct holes {
    struct box *b;
    uint64_t limit; /* bytes in front of it were seen, and are none of this */
    uint64_t size;
    uint64_t cut; /* UINT64_MAX: nothing yet */
};

/* The first NUL in [from, to), or `to`. */
static int find_nul(struct box *b, uint64_t from, uint64_t to, uint64_t *ret)
{
    _cleanup_free_ char *piece = malloc(HOLES_PIECE);
    int r;

    if (piece == NULL)
        return -ENOMEM;
    for (uint64_t at = from; at < to;) {
        size_t n = to - at < HOLES_PIECE ? (size_t)(to - at) : HOLES_PIECE;
        const char *nul;

        if ((r = file_read(b->fd, piece, n, at)) < 0)
            return r;
        if ((nul = memchr(piece, '\0', n)) != NULL) {
            *ret = at + (uint64_t)(nul - piece);
            return 0;
        }
        at += n;
    }
    *ret = to;
    return 0;
}

/* The first byte in [from, to) that is no NUL, or `to`. */
static uint64_t end_of_nuls(struct box *b, uint64_t from, uint64_t to)
{
    char piece[4096];

    while (from < to) {
        size_t n = to - from < sizeof(piece) ? (size_t)(to - from) : sizeof(piece);

        if (file_read(b->fd, piece, n, from) < 0)
            return from;
        for (size_t i = 0; i < n; i++)
            if (piece[i] != '\0')
                return from + i;
        from += n;
    }
    return to;
}

static bool is_own_in_place(const struct scan_message *m)
{
    return m->has_marker && m->marker.form != INTEROP_FOREIGN && m->marker.offset == m->offset;
}

/* A message of ours: what follows its end in NULs is a hole, and so is one in it when the checksum says so. */
static int look_at_own(struct holes *h, const struct scan_message *m)
{
    uint64_t end = m->offset + m->marker.length, nul;
    int r = find_nul(h->b, m->offset, m->offset + m->length, &nul);

    if (r < 0 || nul == m->offset + m->length)
        return r;
    if (nul == end && end >= h->limit)
        h->cut = end;
    else if (m->offset >= h->limit && m->marker.form == INTEROP_OWN_LF && !tail_is_whole(h->b, &m->marker))
        h->cut = m->offset;
    return 0;
}

/* Somebody else's: NULs that begin with a line and end with a block. */
static int look_at_foreign(struct holes *h, const struct scan_message *m)
{
    uint64_t end = m->offset + m->length, nul = m->offset > h->limit ? m->offset : h->limit, behind;
    char before;
    int r;

    while ((r = find_nul(h->b, nul, end, &nul)) == 0 && nul < end) {
        behind = end_of_nuls(h->b, nul, end);
        if ((r = file_read(h->b->fd, &before, 1, nul - 1)) < 0)
            return r;
        if ((before == '\n' || nul == h->limit) && (behind % HOLES_ALIGN == 0 || behind == h->size)) {
            h->cut = nul;
            return 0;
        }
        nul = behind;
    }
    return r;
}

static int holes_visit(void *context, const struct scan_message *m)
{
    struct holes *h = context;

    box_touch(h->b);
    if (h->cut != UINT64_MAX && !(is_own_in_place(m) && m->marker.begin <= h->cut))
        h->cut = UINT64_MAX; /* mail that came later: nothing may be cut in front of it */
    if (h->cut != UINT64_MAX || m->offset + m->length <= h->limit)
        return 0;
    return is_own_in_place(m) ? look_at_own(h, m) : look_at_foreign(h, m);
}

int tail_look_holes(struct box *b, const struct index *known, uint64_t most)
{
    static const uint64_t no_key[2];
    struct holes h = {.b = b, .size = (uint64_t)b->facts.st_size, .cut = UINT64_MAX};
    struct scan_result result;
    uint64_t from = 0, start, nul;
    int r;

    if (b->fd < 0 || h.size == 0 || b->takes_torn)
        return 0;
    if (known != NULL && known->head->dev == b->facts.st_dev && known->head->ino == b->facts.st_ino) {
        h.limit = known->head->size;
        if (known->head->live > 0)
            from = index_offset(known, known->head->last);
    }
    if (h.limit >= h.size)
        return 0;
    start = h.limit > 0 || h.size < most ? h.limit : h.size - most;
    if ((r = find_nul(b, start, h.size, &nul)) < 0 || nul == h.size)
        return r;
    r = scan_file(b->fd, from, no_key, holes_visit, &h, &result);
    if (r == -EBADMSG) /* rewritten: another matter */
        return 0;
    if (r < 0 || h.cut == UINT64_MAX)
        return r;
    b->torn = h.cut;
    return -EUCLEAN;
}
