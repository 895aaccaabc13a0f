/*
 * The message itself: its text or file, and what becomes of it when it is complete. Runs with agent.c.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "handlers/smtp/dispatch.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/route/recode.h"
#include "shared/route/scratch.h"

static void refuse_file(const struct smtp_agent *a, int e, struct smtp_answer *ret)
{
    bool is_full = e == -ENOSPC || e == -EDQUOT;

    LOG_ERROR(LOG_ERR, "spool-failed", e, LOG_FC("queue_id", a->id));
    answer_set(ret, is_full ? 452 : 451, is_full ? "4.3.1" : "4.3.0", "No room for a message now, try again later");
}

int agent_need_file(struct smtp_agent *a)
{
    return a->file >= 0 ? 0 : scratch_text(a->conf, a->text, &a->file);
}

int agent_larger(struct smtp_agent *a, struct smtp_answer *ret, int *ret_fd)
{
    int e;

    if (a->file >= 0 || a->count == 0)
        return -EBADMSG;
    e = scratch_open(a->conf, &a->file);
    if (e < 0) {
        refuse_file(a, e, ret);
        return 0;
    }
    *ret_fd = a->file;
    answer_set(ret, 250, "", "For a larger message");
    return 0;
}

/* A hostile session may have written more than it was asked to. 0, -EFBIG, or another errno. */
static int check_size(const struct smtp_agent *a)
{
    struct stat facts = {.st_size = (off_t)a->text.len};

    if (a->file >= 0 && fstat(a->file, &facts) < 0)
        return -errno;
    return (uint64_t)facts.st_size <= a->conf->message_size + LIMIT_HEADER ? 0 : -EFBIG;
}

static void refuse_all(const struct smtp_answer *answer, struct smtp_answer *ret, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ret[i] = *answer;
}

/* A binary message (RFC 3030) is kept with lines. */
static int put_into_lines(struct smtp_agent *a, struct smtp_answer *ret)
{
    int lines = -1, e = agent_need_file(a);

    if (e < 0)
        refuse_file(a, e, ret);
    else
        e = recode_copy(a->conf, a->file, &lines, ret);
    if (e < 0) {
        LOG_EVENT(LOG_NOTICE, "message-refused", LOG_FC("queue_id", a->id), LOG_FC("reply", ret->text));
        return e;
    }
    close_fd(&a->file);
    a->file = lines;
    a->text = STR_NULL;
    return 0;
}

/* Why the message is not delivered to anybody. False: it may be. */
static bool refuse_message(struct smtp_agent *a, struct smtp_answer *ret)
{
    int e = check_size(a);

    if (e == -EFBIG)
        answer_set(ret, 552, "5.3.4", "The message is too big");
    else if (e < 0)
        refuse_file(a, e, ret);
    else if (a->params.by == QUEUE_BY_RETURN && a->by_deadline <= clock_now(&a->conf->clock)) /* RFC 2852 4.1.3 */
        answer_set(ret, 554, "5.4.7", "The time in which it was to be delivered is over");
    else
        return a->params.body == QUEUE_BODY_BINARYMIME && put_into_lines(a, ret) < 0;
    return true;
}

int agent_commit(struct smtp_agent *a, const struct smtp_content *content, struct smtp_answer *ret, size_t count)
{
    struct smtp_answer refusal;

    if ((a->file < 0) != (content->text.len > 0) || count != a->count)
        return -EBADMSG;
    a->text = content->text;
    memset(ret, 0, count * sizeof(*ret));
    if (refuse_message(a, &refusal))
        refuse_all(&refusal, ret, count);
    else
        dispatch_message(a, content->traits, ret);
    agent_reset(a);
    return 0;
}
