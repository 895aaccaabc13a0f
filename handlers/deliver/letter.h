/*
 * One letter that waits for its verdict (shared/route/postman.h). Private to deliver.
 */
#ifndef DELIVER_LETTER_H
#define DELIVER_LETTER_H

#include "handlers/deliver/deliver.h"
#include "shared/io/frame.h"

struct letter {
    struct frame frame; /* as it came, with the message, or with */
    struct str text;    /* all of it, inside */
    char *sender;       /* owned, as is: */
    char *address;
    bool is_again; /* an earlier attempt may have put it there */
    int from;      /* whom to tell, borrowed */
    bool is_told;
    int error; /* of telling */
};

/* Takes the next one that is there; *ret must be finished or fresh (zeros). 0; -ETIMEDOUT: there is none; -ENODATA: the
 * other end is gone; -EPROTO: that is no letter; another errno. */
int letter_take(struct letter *ret, int from);
void letter_finish(struct letter *l);

/* Is somebody waiting for the verdict? Whoever has gone counts it as not delivered. */
bool letter_is_awaited(const struct letter *l);

/* Says what became of it; what is wrong with that is in l->error. */
void letter_answer(struct letter *l, int error);
void letter_answer_line(struct letter *l, struct str line);

/* Makes it the message of the options, from its first byte on. */
int letter_choose(const struct letter *l, struct deliver_options *o);

#endif
