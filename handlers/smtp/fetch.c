/*
 * Who fetches his mail. Runs in the monitor of smtp, as root; reads `atrn_customers` and the queue.
 */
#include "handlers/smtp/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/queue/flush.h"
#include "shared/route/customers.h"
#include "shared/route/path.h"

bool fetch_is_offered(const struct conf *conf)
{
    return access(conf->atrn_customers, F_OK) == 0;
}

int fetch_takes(const struct conf *conf, struct str domain)
{
    _cleanup_buf_ struct buf text = BUF_INIT(CUSTOMERS_FILE);
    int e = customers_load(conf->atrn_customers, &text);

    if (e < 0)
        LOG_ERROR(LOG_ERR, "file-unusable", e, LOG_FC("file", conf->atrn_customers));
    return e < 0 ? e : customers_have(buf_str(&text), domain);
}

/* RFC 2645 5.2.1: all of the domains, or nothing. 0, -EACCES, -EBADMSG. */
static int check_domains(struct str text, struct str user, struct str list)
{
    struct str domain;

    while (list.len > 0) {
        (void)str_cut(&list, ',', &domain);
        if (!path_is_domain(domain, false))
            return -EBADMSG;
        if (!customers_owns(text, user, domain))
            return -EACCES;
    }
    return 0;
}

/* Does anything wait for one of them? 1, 0, or a negative errno. */
static int has_mail(struct smtp_agent *a, struct str domains)
{
    int64_t now = clock_now(&a->conf->clock);
    struct str domain;
    int e = agent_open_queue(a);

    while (e == 0 && domains.len > 0) {
        (void)str_cut(&domains, ',', &domain);
        e = queue_has(&a->queue, domain, now);
    }
    return e;
}

static int choose(struct smtp_agent *a, struct str list, struct buf *domains)
{
    _cleanup_buf_ struct buf text = BUF_INIT(CUSTOMERS_FILE);
    int e = customers_load(a->conf->atrn_customers, &text);

    if (e < 0)
        return e;
    buf_clear(domains);
    e = list.len > 0 ? check_domains(buf_str(&text), str_from(a->user), list)
                     : customers_domains(buf_str(&text), str_from(a->user), domains);
    if (e == 0 && list.len > 0)
        e = buf_add_str(domains, list);
    return e == 0 && domains->len == 0 ? -EACCES : e;
}

int fetch_ask(struct smtp_agent *a, struct str list, struct buf *domains, struct smtp_answer *ret)
{
    int e = choose(a, list, domains);

    if (e == -EBADMSG)
        return e;
    if (e == 0)
        e = has_mail(a, buf_str(domains));
    if (e > 0)
        answer_set(ret, 250, "2.0.0", "Your turn");
    else if (e == 0)
        answer_set(ret, 453, "4.3.0", "You have no mail");
    else if (e == -EACCES)
        answer_set(ret, 450, "4.7.1", "That is not yours to fetch");
    else
        answer_set(ret, 451, "4.3.0", "Cannot find out now what is yours");
    if (e < 0 && e != -EACCES)
        LOG_ERROR(LOG_ERR, "atrn-failed", e, LOG_FC("user", a->user));
    LOG_EVENT(LOG_INFO, "atrn", LOG_FC("user", a->user), LOG_F("domains", e < 0 ? list : buf_str(domains)),
              LOG_FC("result", ret->text));
    return 0;
}

int fetch_run(const struct conf *conf, const char *domains, int connection)
{
    struct chain_spec spec = {CHAIN_SPEC("relay"), .arguments = {"--turn", domains}, .conf = conf};
    struct chain_child child = CHAIN_CHILD_NONE;
    int e, status;

    spec.fds[0] = connection;
    e = chain_spawn(&spec, &child);
    if (e < 0)
        return e;
    status = chain_end(&child, FETCH_MS);
    return status < 0 ? status : 0; /* what relay found wrong it has logged */
}
