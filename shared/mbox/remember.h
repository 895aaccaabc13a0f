/*
 * Sizes that the mbox file had before something in front of them moved. Internal to shared/mbox.
 *
 * mutt holds no lock while it shows a mailbox. A file that is as long as it was it takes for untouched, and one that is
 * longer and has a From_ line just where it ended for one that got new mail; then it writes back by the places it
 * remembers. So where messages go or move, no later size, and no later place of a From_ line, may be a size from
 * before: the index keeps the last of those, and what is written afterwards is made a few bytes longer where it would
 * meet one.
 *
 * Written before the change: if nothing comes of it, some sizes are avoided for nothing. It need not outlive a power
 * cut, which no open mutt does, and is not in the log: with the index it is lost. Without a state folder there is none,
 * and what other programs append ends where it ends.
 */
#ifndef MBOX_REMEMBER_H
#define MBOX_REMEMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct box;
struct index_header;

#define REMEMBER_STEP  16u /* by so much more something becomes longer */
#define REMEMBER_SIZES 16u /* so many of the sizes that a file of now may have had */

/* With BOX_WRITE and BOX_STATE: keeps the sizes that the file has and had, behind `from`, where something is going to
 * change. */
int remember_sizes(struct box *b, uint64_t from);

/* May somebody remember this size? */
bool remember_has(const struct index_header *h, uint64_t size);

/* The least of them. UINT64_MAX: there are none. */
uint64_t remember_least(const struct index_header *h);

/* How much longer it has to be, so that nobody does. */
size_t remember_room(const struct index_header *h, uint64_t size);

#endif
