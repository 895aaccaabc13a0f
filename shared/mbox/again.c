/*
 * Second attempts: the message itself, with the trace fields that are no other's, is looked for at the end of the file.
 * Runs as the user; reads the mbox file.
 */
#include "shared/mbox/again.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/tail.h"

#define PIECE (64u << 10)
#define PROBE 512u /* stored bytes that tell a place worth comparing */

struct search {
    struct box *b;
    struct spool *s;
    const struct spool_message *m;
    bool is_crlf;
    struct buf want; /* the next piece as it would stand in the file */
    char *have;
};

/* The message's next bytes with the line ends of the file. */
static int load(struct search *a, uint64_t done, size_t most, size_t *ret_taken)
{
    size_t n = a->m->length - done < most ? (size_t)(a->m->length - done) : most;
    int r = spool_read(a->s, a->m->offset + done, a->have, n);

    buf_clear(&a->want);
    *ret_taken = n;
    if (r < 0 || !a->is_crlf)
        return r < 0 ? r : buf_add(&a->want, a->have, n);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = a->have[i] == '\n' ? buf_add(&a->want, "\r\n", 2) : buf_add_byte(&a->want, a->have[i]);
    return r;
}

static int is_here(struct search *a, uint64_t at, bool *ret)
{
    uint64_t size = (uint64_t)a->b->facts.st_size;
    size_t taken;
    int r;

    for (uint64_t done = 0; done < a->m->length; done += taken) {
        if ((r = load(a, done, PIECE, &taken)) < 0)
            return r;
        if (a->want.len > size - at)
            return 0;
        if ((r = file_read(a->b->fd, a->have, a->want.len, at)) < 0)
            return r;
        if (memcmp(a->have, a->want.data, a->want.len) != 0)
            return 0;
        at += a->want.len;
    }
    *ret = true;
    return 0;
}

static int look(struct search *a, char *bytes, struct str probe, bool *ret)
{
    uint64_t size = (uint64_t)a->b->facts.st_size;
    uint64_t at = size > AGAIN_MOST ? size - AGAIN_MOST : 0;
    int r = 0;

    while (r == 0 && !*ret && size - at >= probe.len) {
        size_t n = size - at < 4 * PIECE ? (size_t)(size - at) : 4 * PIECE;
        const char *p = bytes, *hit;

        if ((r = file_read(a->b->fd, bytes, n, at)) < 0)
            return r;
        while (r == 0 && !*ret && (hit = memmem(p, n - (size_t)(p - bytes), probe.ptr, probe.len)) != NULL) {
            r = is_here(a, at + (uint64_t)(hit - bytes), ret);
            p = hit + 1;
        }
        at += n - probe.len + 1;
    }
    return r;
}

int again_find(struct box *b, struct spool *s, bool *ret_found)
{
    struct search a = {.b = b, .s = s, .m = &s->messages[0], .want = BUF_INIT(2 * PIECE)};
    _cleanup_free_ char *have = malloc(2 * PIECE), *bytes = malloc(4 * PIECE);
    _cleanup_buf_ struct buf probe = BUF_INIT(2 * PROBE);
    struct str repair;
    bool is_found = false;
    size_t taken;
    int r = have == NULL || bytes == NULL ? -ENOMEM : tail_look(b, &a.is_crlf, &repair);

    a.have = have;
    if (r == 0)
        r = load(&a, 0, PROBE, &taken);
    if (r == 0)
        r = buf_add(&probe, a.want.data, a.want.len);
    if (r == 0 && probe.len > 0)
        r = look(&a, bytes, buf_str(&probe), &is_found);
    buf_finish(&a.want);
    if (r == 0)
        *ret_found = is_found;
    return r;
}
