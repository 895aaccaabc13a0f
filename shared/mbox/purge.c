/*
 * Records of messages that are gone stay in the index, so that views can tell: until there are too many of them. Runs
 * as the user under BOX_STATE; touches NAME.index and its temporary sibling in the state folder.
 */
#include <errno.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/box.h"

#define GONE_MIN 4096u /* so many are always kept */

void index_discard(struct box *b, struct index *fresh)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);

    if (fresh->fd >= 0 && buf_printf(&path, "%s.index.new", b->side) == 0)
        (void)unlink(buf_cstr(&path));
    index_finish(fresh);
}

int index_purge(struct box *b)
{
    const struct index_header *head = b->ix.head;
    struct index fresh = {.fd = -1};
    int r;

    if (head->count - head->live <= head->live + GONE_MIN)
        return 0;
    if ((r = index_again(b, head, &fresh)) < 0)
        return r;
    for (uint64_t i = 0; r == 0 && i < head->count; i++) {
        struct index_record rec = index_load(&b->ix, i);
        if ((rec.bits & INDEX_EXPUNGED) && index_brief_is_valid(&rec.brief))
            continue;
        if (i == head->last)
            fresh.next->last = fresh.next->count;
        r = index_is_valid(&rec) ? index_add(&fresh, &rec) : -EIO;
    }
    if (r == 0)
        r = index_install(b, &fresh);
    if (r < 0)
        index_discard(b, &fresh);
    return r == -EIO ? index_spoil(b) : r;
}
