/*
 * The message itself: its file, and what becomes of it when it is complete. Runs with agent.c.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "handlers/smtp/dispatch.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/route/recode.h"
#include "shared/route/scratch.h"

int agent_data(struct smtp_agent *a, struct smtp_answer *ret, int *ret_fd)
{
    int e;

    if (a->count == 0 || a->file >= 0)
        return -EBADMSG;
    e = scratch_open(a->conf, &a->file);
    if (e < 0) {
        LOG_ERROR(LOG_ERR, "spool-failed", e, LOG_FC("queue_id", a->id));
        answer_set(ret, e == -ENOSPC || e == -EDQUOT ? 452 : 451, e == -ENOSPC || e == -EDQUOT ? "4.3.1" : "4.3.0",
                   "No room for a message now, try again later");
        return 0;
    }
    answer_set(ret, 354, "", "Go ahead, end with a lone dot");
    *ret_fd = a->file;
    return 0;
}

/* A hostile session may have written more than it was asked to. */
static bool is_size_fine(const struct smtp_agent *a)
{
    struct stat facts;

    return fstat(a->file, &facts) == 0 && (uint64_t)facts.st_size <= a->conf->message_size + LIMIT_HEADER;
}

static void refuse_all(const struct smtp_answer *answer, struct smtp_answer *ret, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ret[i] = *answer;
}

/* A binary message (RFC 3030) is kept with lines. */
static int put_into_lines(struct smtp_agent *a, struct smtp_answer *ret)
{
    int lines = -1, e = recode_copy(a->conf, a->file, &lines, ret);

    if (e < 0) {
        LOG_EVENT(LOG_NOTICE, "message-refused", LOG_FC("queue_id", a->id), LOG_FC("reply", ret->text));
        return e;
    }
    close_fd(&a->file);
    a->file = lines;
    return 0;
}

/* Why the message is not delivered to anybody. False: it may be. */
static bool refuse_message(struct smtp_agent *a, struct smtp_answer *ret)
{
    if (!is_size_fine(a))
        answer_set(ret, 552, "5.3.4", "The message is too big");
    else if (a->params.by == QUEUE_BY_RETURN && a->by_deadline <= clock_now(&a->conf->clock)) /* RFC 2852 4.1.3 */
        answer_set(ret, 554, "5.4.7", "The time in which it was to be delivered is over");
    else
        return a->params.body == QUEUE_BODY_BINARYMIME && put_into_lines(a, ret) < 0;
    return true;
}

int agent_commit(struct smtp_agent *a, unsigned content, struct smtp_answer *ret, size_t count)
{
    struct smtp_answer refusal;

    if (a->file < 0 || count != a->count)
        return -EBADMSG;
    memset(ret, 0, count * sizeof(*ret));
    if (refuse_message(a, &refusal))
        refuse_all(&refusal, ret, count);
    else
        dispatch_message(a, content, ret);
    agent_reset(a);
    return 0;
}
