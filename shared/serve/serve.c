/*
 * The frame of the session programs: see serve.h. Runs as the user, never as root.
 */
#include "shared/serve/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/gate/start.h"

#define SUMMARY_FIELDS 16

/* ---- main() ---- */

static int usage(const struct serve_program *p, const char *what)
{
    fprintf(stderr, "%s: %s\nusage: %s [-c FILE] [-o key=value]... [--epoch=SECONDS]\n", p->name, what, p->name);
    return EX_USAGE;
}

/* A client that goes away is an error of a write, not the end of the process. */
static void ignore_sigpipe(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};

    (void)sigaction(SIGPIPE, &action, NULL);
}

/* Answers what went wrong before there was a session to answer for. */
static int refuse(const struct serve_program *p, const struct session *who, int error)
{
    const char *text =
        error == -EPERM ? "Mail is not served to root: run this as the user whose mail it is" : strerror(-error);

    fprintf(stdout, "%s%s\r\n", p->refusal, text);
    LOG_ERROR(LOG_ERR, "session_start", error, LOG_FC("user", who->user ? who->user : ""));
    return error == -EPERM ? EX_NOPERM : error == -ENOENT ? EX_NOUSER : error == -EBADMSG ? EX_PROTOCOL : EX_OSERR;
}

static int serve(const struct serve_program *p, struct conf *conf)
{
    _cleanup_session_ struct session who = {.control = -1};
    int r = session_start(conf, &who);

    if (r == -ECANCELED)
        return EX_OK;
    if (r < 0)
        return refuse(p, &who, r);
    log_context("user", str_from(who.user));
    log_context("peer", str_from(who.peer));
    return p->run(conf, &who) < 0 ? 1 : 0;
}

int serve_main(const struct serve_program *p, int argc, char **argv)
{
    _cleanup_conf_ struct conf conf;
    int r = conf_init(&conf);

    if (r < 0)
        return EX_OSERR;
    r = conf_args(&conf, &argc, argv);
    if (r < 0)
        return usage(p, buf_cstr(&conf.error));
    if (argc > 1)
        return usage(p, "unknown argument");
    ignore_sigpipe();
    if ((r = mbox_guard()) < 0)
        return EX_OSERR;
    log_open(p->name, isatty(STDERR_FILENO));
    if (!getenv(GATE_CONTROL_ENV)) /* else the monitor has said so */
        start_warn(p->name, &conf, true);
    return serve(p, &conf);
}

/* ---- beginning ---- */

int serve_connect(const struct serve_connection *c, struct conf *conf, const struct session *who,
                  struct mbox_store **ret_store)
{
    struct mbox_store_options options = {
        .inbox = who->inbox,
        .folders = who->folders,
        .state = who->state,
        .owner = who->uid,
        .clock = &conf->clock,
        .keeper = who->control,
    };
    int r = 0;

    transport_init(c->transport, c->rfd, c->wfd, (int)c->timeout, TIMEOUT_WRITE);
    writer_init(c->out, c->transport);
    line_reader_init(c->in, c->transport, c->out, LINE_LENIENT, c->line_max);
    if (who->unread.len)
        r = line_unread(c->in, buf_str(&who->unread));
    return r < 0 ? r : mbox_store_new(&options, ret_store);
}

/* ---- end of a maildrop ---- */

/* After an error: is the removal done all the same? Once its journal is durable it cannot be taken back, and looking at
 * the mailbox finishes it (mbox_poll() replays the journal). */
static bool are_gone(struct mbox *box, const struct numset *uids)
{
    const struct mbox_changes nobody = {0};
    struct mbox_info info;

    if (mbox_poll(box, true, &nobody) < 0)
        return false;
    for (uint32_t seq = 1; seq <= mbox_count(box); seq++) {
        if (mbox_info(box, seq, &info) < 0 || (!info.is_expunged && numset_has(uids, info.uid)))
            return false;
    }
    return true;
}

int serve_update(struct mbox *box, const struct numset *remove, const struct numset *seen, uint64_t *ret_removed)
{
    const struct mbox_flags flag = {.system = MBOX_SEEN};
    _cleanup_numset_ struct numset removed = NUMSET_INIT;
    int r = 0;

    if (seen->count)
        r = mbox_set_flags(box, seen, MBOX_FLAGS_ADD, flag, UINT64_MAX, NULL);
    if (r < 0)
        LOG_ERROR(LOG_WARNING, "flags", r);
    r = remove->count ? mbox_remove(box, remove, &removed) : 0;
    if (r >= 0) {
        *ret_removed = numset_size(&removed);
    } else if (are_gone(box, remove)) {
        LOG_ERROR(LOG_WARNING, "expunge", r);
        *ret_removed = numset_size(remove);
        r = 0;
    }
    return r;
}

/* ---- log ---- */

void serve_log_notices(struct mbox_store *store)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_FRAME);
    struct str rest, line;

    if (!store || mbox_store_notices(store, &text) < 0)
        return;
    rest = buf_str(&text);
    while (rest.len) {
        (void)str_cut(&rest, '\n', &line);
        LOG_EVENT(LOG_NOTICE, "mailbox", LOG_F("notice", line));
    }
}

int serve_end(struct writer *out)
{
    int r = writer_flush(out);

    (void)shutdown(out->transport->wfd, SHUT_WR); /* a pipe ends with us */
    return r;
}

void serve_log_summary(const char *event, const char *end, const struct session *who, const struct serve_count *counts)
{
    struct log_field fields[SUMMARY_FIELDS] = {LOG_FC("end", end)};
    char text[SUMMARY_FIELDS][24];
    size_t n = 1;

    while (counts[n - 1].name && n < SUMMARY_FIELDS - 1) {
        (void)snprintf(text[n], sizeof(text[n]), "%" PRIu64, counts[n - 1].value);
        fields[n] = LOG_FC(counts[n - 1].name, text[n]);
        n++;
    }
    fields[n++] = LOG_FC("tls", who->is_tls ? who->tls : "no");
    log_event(LOG_INFO, event, fields, n);
}
