/*
 * Opening a mailbox with its sidecars. Runs as the user.
 */
#include "shared/mbox/box.h"

#include <errno.h>
#include <stdlib.h>

#include "shared/base/macros.h"

int box_open(struct mbox_store *s, struct str name, bool create, struct box **ret)
{
    struct box *b = calloc(1, sizeof(*b));
    int r;

    if (b == NULL)
        return -ENOMEM;
    b->store = s;
    b->fd = b->lock_fd = b->dotlock_fd = b->log_fd = b->ix.fd = -1;
    r = name_resolve(s, name, &b->name, &b->path, &b->side);
    if (r == 0) {
        b->is_inbox = str_eq(str_from(b->name), STR("INBOX"));
        r = create ? box_create(b) : box_reopen(b);
    }
    if (r == 0 && b->fd < 0) {
        b->may_be_missing = store_may_be_missing(s, str_from(b->name));
        r = b->may_be_missing ? 0 : -ENOENT;
    }
    if (r < 0) {
        box_free(b);
        return r;
    }
    *ret = b;
    return 0;
}

int box_side(const struct box *b, const char *suffix, struct buf *out)
{
    int r = buf_add_str(out, str_from(b->side));

    return r < 0 ? r : buf_add_str(out, str_from(suffix));
}

void box_free(struct box *b)
{
    if (b == NULL)
        return;
    box_unlock(b);
    index_close(b);
    close_fd(&b->fd);
    close_fd(&b->lock_fd);
    close_fd(&b->log_fd);
    free(b->name);
    free(b->path);
    free(b->side);
    free(b);
}
