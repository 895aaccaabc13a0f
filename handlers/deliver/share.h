/*
 * Several delivers for one mailbox. Each connection has a deliver of its own, and each message would cost it the locks,
 * a sync and an update of the index. So the first of them takes the letters of the others too, and writes what has come
 * while it was busy in one append. Where that cannot be arranged everybody delivers what he has himself.
 *
 * They meet at an abstract socket named after the user and the folder and file of the mailbox, those with a keeper at
 * another one than those without. The kernel says which process of which user is at the other end: only the user's own
 * are talked to. That is not enough for whoever takes letters: a container or a sandbox may keep a process of the same
 * user away from all of his files, but not from such a socket. So the first one holds a lock in the state folder, and
 * the kernel says which process does. Who only brings letters may be anybody of the user's: he could bring them to port
 * 25. Private to deliver.
 */
#ifndef DELIVER_SHARE_H
#define DELIVER_SHARE_H

#include "shared/gate/session.h"
#include "shared/io/frame.h"

#define SHARE_GUESTS 32 /* letters of as many others are taken; more deliver themselves */

struct share {
    int listener; /* we are the first; or -1 */
    int lock;     /* as long as we are; or -1 */
    int link;     /* to the first; or -1 */
    int guests[SHARE_GUESTS];
    size_t count;
};

void share_init(struct share *h);

/* Whose letters were not taken yet sees that, and goes to another one. */
void share_finish(struct share *h);

/* Becomes the first one, or finds who is; neither, where that cannot be. Needs s->inbox and s->state. */
void share_meet(struct share *h, const struct session *s);

/* Of the first: lets those in who wait at the door. */
void share_let_in(struct share *h);
void share_send_away(struct share *h, size_t guest);

/* Of the others: hands a letter over and waits for the verdict, which is appended to *ret_line. 0; -EAGAIN: nothing
 * became of it, it is ours to deliver; -ECONNRESET: the same, he has left and has not seen it; -EPIPE: nobody waits on
 * fd 0 any more; any other errno: the first one may have delivered it, before he died mostly. */
int share_hand_over(struct share *h, const struct frame *letter, struct buf *ret_line);

#endif
