/*
 * smtp-session on a pipe talks to its own agent. Runs as the invoking user.
 */
#include "handlers/smtp/local.h"

#include <errno.h>
#include <fcntl.h>

#include "handlers/smtp/listing.h"
#include "shared/gate/peer.h"

static int local_mail(void *context, const struct smtp_envelope *envelope, struct smtp_answer *ret)
{
    return agent_mail(context, envelope, ret);
}

/* The agent closes its own. */
static int duplicate(int fd, int *ret_fd)
{
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

static int local_rcpt(void *context, struct str mailbox, const struct rcpt_params *params, struct smtp_answer *ret)
{
    return agent_rcpt(context, mailbox, params, ret);
}

static int local_larger(void *context, struct smtp_answer *ret, int *ret_fd)
{
    int fd = -1;
    int e = agent_larger(context, ret, &fd);

    return e < 0 || fd < 0 ? e : duplicate(fd, ret_fd);
}

static int local_vrfy(void *context, struct str mailbox, struct smtp_answer *ret)
{
    return agent_vrfy(context, mailbox, ret);
}

static int local_expn(void *context, struct str mailbox, struct smtp_answer *ret, size_t *count)
{
    return agent_expn(context, mailbox, ret, count);
}

static int local_etrn(void *context, struct str node, struct smtp_answer *ret)
{
    return agent_etrn(context, node, ret);
}

static int local_commit(void *context, const struct smtp_content *content, struct smtp_answer *ret, size_t count)
{
    return agent_commit(context, content, ret, count);
}

/* Whoever has our fd 0 is the user; the address is for the trace field and for trying policy out: from now on he is
 * treated as that client would be. */
static int local_xclient(void *context, struct str address, uint16_t port, struct smtp_answer *ret)
{
    struct smtp_agent *a = context;
    struct peer peer;

    if (peer_from_text(address, port, STR(""), 0, &peer) < 0) {
        answer_set(ret, 501, "5.5.4", "That is not an address");
        return 0;
    }
    a->tells_truth = false;
    a->may_relay = peer_in_networks(peer.address, str_from(a->conf->networks));
    answer_set(ret, 220, "", "%s ESMTP Pennypost", a->conf->hostname);
    return 0;
}

static int local_queue(void *context, struct smtp_answer *ret, int *ret_fd)
{
    return listing_make(context, ret, ret_fd);
}

static int local_reset(void *context)
{
    agent_reset(context);
    return 0;
}

struct smtp_backend local_backend(struct smtp_agent *a)
{
    return (struct smtp_backend){.context = a,
                                 .mail = local_mail,
                                 .rcpt = local_rcpt,
                                 .vrfy = local_vrfy,
                                 .expn = local_expn,
                                 .etrn = local_etrn,
                                 .larger = local_larger,
                                 .commit = local_commit,
                                 .xclient = local_xclient,
                                 .queue = local_queue,
                                 .reset = local_reset};
}
