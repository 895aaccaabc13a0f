/*
 * Keywords of a mailbox: numbers and names. Runs as the user; a new one goes into the state log and the index.
 */
#include <errno.h>
#include <string.h>

#include "shared/mbox/view.h"

struct str mbox_keyword(struct mbox *v, unsigned n)
{
    if (n >= LIMIT_KEYWORDS)
        return STR_NULL;
    memcpy(v->keyword, v->ix.head->keywords[n], INDEX_KEYWORD_SIZE);
    v->keyword[LIMIT_KEYWORD] = '\0';
    return str_from(v->keyword);
}

static int keyword_make(struct mbox *v, struct str name, unsigned *ret)
{
    _cleanup_buf_ struct buf log = BUF_INIT(4096);
    struct box *b = v->b;
    uint64_t bits;
    int r;

    if ((r = box_lock_synced(b, 0)) < 0)
        return r;
    if ((r = index_begin(b)) == 0 && (r = keyword_bits(b->ix.next->keywords, LIMIT_KEYWORDS, name, &log, &bits)) == 0) {
        r = bits == 0 ? -ENOSPC : log_commit(b, &log, true);
        if (r == 0)
            r = index_end(b);
        else if (bits == 0)
            (void)index_end(b);
    }
    box_unlock(b);
    if (r < 0)
        return r;
    view_follow(v);
    *ret = (unsigned)__builtin_ctzll(bits);
    return 0;
}

int mbox_keyword_number(struct mbox *v, struct str name, bool create, unsigned *ret)
{
    if (name.len == 0 || name.len > LIMIT_KEYWORD)
        return -EINVAL;
    for (size_t i = 0; i < name.len; i++) /* an IMAP atom at most: it stands in header fields between blanks */
        if ((unsigned char)name.ptr[i] <= ' ' || (unsigned char)name.ptr[i] == 0x7f)
            return -EINVAL;
    for (unsigned n = 0; n < LIMIT_KEYWORDS; n++) {
        if (str_ieq(mbox_keyword(v, n), name)) {
            *ret = n;
            return 0;
        }
    }
    if (!create)
        return -ENOENT;
    return mbox_is_readonly(v) ? -EROFS : keyword_make(v, name, ret);
}
