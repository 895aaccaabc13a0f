/*
 * The permit table's driver. Runs in the monitor, on frames from processes it does not trust.
 */
#include "shared/gate/permit.h"

#include <errno.h>

int permit_run(const struct permit *table, size_t rows, struct permit_use *use, uint32_t phase, void *context,
               struct frame *f)
{
    for (size_t i = 0; i < rows && i < PERMIT_ROWS; i++) {
        const struct permit *p = &table[i];
        struct frame_reader in = frame_read(f);

        if (p->type != f->type)
            continue;
        if (!(p->phases & (1u << phase)) || (p->max > 0 && use->count[i] >= p->max))
            return -EPERM;
        if (p->max > 0)
            use->count[i]++;
        return p->run(context, f, &in);
    }
    return -ENOENT;
}
