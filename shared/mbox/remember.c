/*
 * Sizes that somebody may remember (see remember.h). Runs as the user under BOX_WRITE and BOX_STATE; touches the index.
 */
#include "shared/mbox/remember.h"

#include "shared/base/macros.h"
#include "shared/mbox/box.h"

bool remember_has(const struct index_header *h, uint64_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(h->sizes); i++)
        if (h->sizes[i] == size)
            return size != 0;
    return false;
}

uint64_t remember_least(const struct index_header *h)
{
    uint64_t least = UINT64_MAX;

    for (size_t i = 0; i < ARRAY_SIZE(h->sizes); i++)
        if (h->sizes[i] != 0 && h->sizes[i] < least)
            least = h->sizes[i];
    return least;
}

/* Each of those that are kept is met once at most. */
size_t remember_room(const struct index_header *h, uint64_t size)
{
    size_t room = 0;

    while (remember_has(h, size + room))
        room += REMEMBER_STEP;
    return room;
}

static void add(struct index_header *h, uint64_t size)
{
    if (remember_has(h, size))
        return;
    h->sizes[h->sizes_next % ARRAY_SIZE(h->sizes)] = size;
    h->sizes_next = (h->sizes_next + 1) % ARRAY_SIZE(h->sizes);
}

/* As long as it is now, and as it was before each of the last messages came. */
int remember_sizes(struct box *b, uint64_t from)
{
    uint64_t i = b->ix.head->count;
    struct index_header *h;
    int r = index_begin(b);

    if (r < 0)
        return r;
    h = b->ix.next;
    add(h, (uint64_t)b->facts.st_size);
    for (unsigned n = 1; h->is_ordered && i > 0 && n < REMEMBER_SIZES; i--) {
        uint64_t offset = index_offset(&b->ix, i - 1);

        if (index_brief(&b->ix, i - 1)->bits & INDEX_EXPUNGED)
            continue;
        if (offset <= from)
            break;
        add(h, offset);
        n++;
    }
    return index_end(b);
}
