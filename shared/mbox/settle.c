/*
 * May the index be believed? It is written without syncs, so after a power cut some of its pages can be newer than
 * others and still look whole. What this boot of the machine wrote is in the page cache as it was written; what an
 * earlier one wrote counts only if it was made durable afterwards ("settled"), which the end of a view does. Runs as
 * the user under BOX_STATE; reads /proc/sys/kernel/random/boot_id.
 */
#include "shared/mbox/settle.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/hash.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

/* Without /proc it stays 0: then only a settled index is believed. */
uint64_t store_boot(struct mbox_store *s)
{
    _cleanup_close_ int fd = -1;
    char text[64];
    ssize_t n;

    if (s->has_boot)
        return s->boot;
    s->has_boot = true;
    fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
    if (n >= 32)
        s->boot = mhash64(text, (size_t)n);
    return s->boot;
}

bool index_is_believable(const struct box *b)
{
    const struct index_header *h = b->ix.head;

    return h->is_settled || (h->boot != 0 && h->boot == store_boot(b->store));
}

int index_settle(struct box *b)
{
    struct index_header h;

    if (b->ix.head == NULL || b->ix.head->is_settled || b->ix.head->is_dirty || b->ix.head->is_superseded ||
        !index_is_believable(b))
        return 0;
    if (fdatasync(b->ix.fd) < 0)
        return -errno;
    h = *b->ix.head;
    h.is_settled = 1;
    return index_write_header(b->ix.fd, &h);
}
