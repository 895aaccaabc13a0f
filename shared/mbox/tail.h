/*
 * The end of an mbox file: how it must be continued, and whether the last append of ours was cut off by a crash.
 * Internal to shared/mbox.
 */
#ifndef MBOX_TAIL_H
#define MBOX_TAIL_H

#include "shared/mbox/box.h"

/* With BOX_WRITE: the line ends of the file, and what has to be written first so that a From_ line can follow.
 * -EBADMSG: it does not begin like an mbox. */
int tail_look(struct box *b, bool *ret_crlf, struct str *ret_repair);

/* Is the message whose header begins here one of an append of ours that begins at or before `begin`? offset: of its
 * From_ line in the file. */
bool tail_is_of_append(const char *header, size_t n, uint64_t offset, uint64_t begin);

/* Is all of the message that this marker stands in as it was appended? Then it was finished, whatever its text looks
 * like and whatever follows. */
bool tail_is_whole(struct box *b, const struct interop_marker *m);

/* Is this message one that a crash cut off? *ret: where to cut, which is where its append begins. is_unseen: nobody was
 * told of it; then it also is when it is whole, but not all that was appended together with it is there. Where that is
 * not known a whole one stays: the others may have been removed. */
bool tail_is_torn(struct box *b, const struct index_record *rec, bool is_unseen, uint64_t *ret);

/* Does the file, which is not what the index (may be NULL) describes, end in NULs that a power cut left, or in the
 * beginning of a From_ line? -EUCLEAN: so it does, from b->torn on. */
int tail_look_torn(struct box *b, const struct index_header *known);

/* Are there zeros where a power cut kept blocks of an append from the disk? Without an index the last `most` bytes are
 * looked through. -EUCLEAN: there are, from b->torn on. */
int tail_look_holes(struct box *b, const struct index *known, uint64_t most);
#define TAIL_ALL  (16u << 20) /* when there is time */
#define TAIL_NEAR (64u << 10) /* in front of every append */

/* With BOX_WRITE: cuts the file there, durably; keeps what is cut in the state folder if it can. What other programs
 * have appended behind it stays. -ENOBUFS: there is such, and what was to go could only be made void (excise.h). */
int tail_cut(struct box *b, uint64_t from);

/* With BOX_WRITE, without an index: cuts off an append of ours that was never finished, if it shows in the last `most`
 * bytes. */
int tail_recover(struct box *b, uint64_t most);

#endif
