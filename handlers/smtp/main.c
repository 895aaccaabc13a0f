/*
 * smtp: the monitor of one SMTP, submission or LMTP connection (M of the design). Runs as root; never reads the
 * client's socket. It starts smtp-session on it, answers that program's questions after checking them, owns the message
 * file, and starts deliver for each recipient as that user. On a pipe or terminal it becomes `smtp-session -bs`.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sysexits.h>

#include "handlers/smtp/caller.h"
#include "handlers/smtp/fetch.h"
#include "handlers/smtp/service.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/gate/priv.h"

/* No NoNewPrivileges here: what deliver starts for users may be set-id (design, section 2). */

struct options {
    bool is_implicit_tls;
    bool is_submission;
    bool is_lmtp;
    bool is_local; /* sendmail(8) calls, on a unix socket */
};

static int parse_arguments(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--tls") == 0)
            o->is_implicit_tls = true;
        else if (strcmp(argv[i], "--submission") == 0)
            o->is_submission = true;
        else if (strcmp(argv[i], "--lmtp") == 0)
            o->is_lmtp = true;
        else if (strcmp(argv[i], "--local") == 0)
            o->is_local = true;
        else
            return -EINVAL;
    }
    if (o->is_local && o->is_implicit_tls)
        return -EINVAL;
    return o->is_submission + o->is_lmtp + o->is_local > 1 ? -EINVAL : 0;
}

#define USAGE "[--submission | --lmtp | --local] [--tls] [-c FILE] [-o key=value]... [--epoch=SECONDS]"

static int run(struct conf *conf, const struct start *start, const struct options *o)
{
    struct monitor_protocol protocol = {.service = "smtp",
                                        .ident = "smtpd",
                                        .front = "smtp-session",
                                        .front_arguments = {o->is_submission ? "--submission"
                                                            : o->is_lmtp     ? "--lmtp"
                                                            : o->is_local    ? "--local"
                                                                             : NULL},
                                        .front_takes_conf = true,
                                        .alpn = "smtp",
                                        .deadline = o->is_submission ? TIMEOUT_PREAUTH : 0};
    struct service s = {.fetched = BUF_INIT(FETCH_DOMAINS), .place = -1};
    struct monitor m;
    sigset_t stop;
    int e;

    /* The service stops: the session says 421 and ends, and until then a delivery must not be cut off between the
     * mailbox and the reply. */
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &stop, NULL);
    agent_init(&s.agent, conf, priv_is_root(), geteuid());
    s.agent.needs_auth = o->is_submission || o->is_local;
    s.agent.answers_each = o->is_lmtp;
    e = o->is_local                    ? caller_find(&s.agent, &s.place, &s.unwelcome)
        : o->is_lmtp && priv_is_root() ? caller_check_server(conf, &s.unwelcome)
                                       : 0;
    if (e < 0) {
        LOG_ERROR(LOG_ERR, "no-local-user", e, LOG_FC("host", start->peer.address));
        agent_finish(&s.agent);
        return EX_NOPERM;
    }
    policy_init(&s.policy, conf, !o->is_submission && !o->is_lmtp && !o->is_local);
    service_questions(&protocol);
    monitor_init(&m, &protocol, conf, start, o->is_implicit_tls);
    m.own = &s;
    e = monitor_run(&m);
    buf_finish(&s.fetched);
    agent_finish(&s.agent);
    policy_finish(&s.policy);
    close_fd(&s.place);
    monitor_finish(&m);
    return e < 0 ? EX_SOFTWARE : 0;
}

int main(int argc, char **argv)
{
    _cleanup_conf_ struct conf conf = {0};
    struct options o = {0};
    struct start start;
    int status = start_program("smtpd", &argc, argv, &conf, &start);

    if (status != 0)
        return status == START_GONE ? 0 : status;
    if (!start.is_connection) {
        char *scripted[] = {argv[0], (char[]){"-bs"}, NULL};

        if (argc > 1 && strcmp(argv[1], "-bs") == 0)
            return start_exec_session("smtp-session", &conf, argc, argv);
        return argc == 1 ? start_exec_session("smtp-session", &conf, 2, scripted) : start_usage("smtp", USAGE, &start);
    }
    if (parse_arguments(argc, argv, &o) < 0)
        return start_usage("smtp", USAGE, &start);
    return run(&conf, &start, &o);
}
