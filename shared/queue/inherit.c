/*
 * DSN parameters of aliases and lists. Runs where recipients are expanded: smtp, relay. Pure.
 */
#include "shared/queue/inherit.h"

#include <string.h>

#include "shared/queue/xtext.h"

#define ORCPT_MAX 500 /* RFC 3461 4.2 */

/* RFC 3461 5.2.7.3 (c): of several members none tells of success. */
static unsigned notify_for(const struct queue_origin *from)
{
    if (from->is_list)
        return 0;
    if (from->places == 1 || !(from->notify & QUEUE_NOTIFY_SUCCESS))
        return from->notify;
    return from->notify == QUEUE_NOTIFY_SUCCESS ? QUEUE_NOTIFY_NEVER : from->notify & ~(unsigned)QUEUE_NOTIFY_SUCCESS;
}

/* RFC 3461 5.2.1 lets us say whom the sender meant, when the address that goes on is another one. */
static int set_orcpt(struct queue_recipient *to, const struct queue_origin *from)
{
    _cleanup_buf_ struct buf text = BUF_INIT(ORCPT_MAX);

    to->is_orcpt_ours = from->is_orcpt_ours;
    if (from->orcpt)
        return queue_envelope_set(&to->orcpt, str_from(from->orcpt));
    if (strcmp(to->address, from->address) == 0 || !str_is_ascii(str_from(from->address)))
        return 0;
    if (buf_add_str(&text, STR("rfc822;")) < 0 || xtext_encode(str_from(from->address), &text) < 0)
        return 0; /* too long for an ORCPT: it may be left out */
    to->is_orcpt_ours = true;
    return queue_envelope_set(&to->orcpt, buf_str(&text));
}

int queue_inherit(struct queue_recipient *to, const struct queue_origin *from)
{
    to->notify = notify_for(from);
    to->is_list = from->is_list;
    return from->is_list ? 0 : set_orcpt(to, from);
}

bool queue_origin_is_told(const struct queue_origin *from, enum queue_state *ret)
{
    *ret = from->is_list ? QUEUE_DELIVERED : QUEUE_EXPANDED;
    return from->is_list || from->places > 1;
}
