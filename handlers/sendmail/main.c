/*
 * sendmail(8), mailq(1), newaliases(1): the mail system as other programs know it. Runs as whoever calls it, without
 * any set-id bit: who it is, the server on the unix socket learns from the kernel.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "handlers/sendmail/letter.h"
#include "handlers/sendmail/modes.h"
#include "handlers/sendmail/options.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/start.h"

static int usage(const char *wrong)
{
    if (wrong)
        (void)fprintf(stderr, "sendmail: what does %s mean?\n", wrong);
    (void)fprintf(stderr, "usage: sendmail [-itvGU] [-f sender] [-F name] [-B body] [-N notify] [-R return] [-V id]\n"
                          "                [-oe mode] [-X file] [--] recipient...\n"
                          "       sendmail -bs | -bS | -bp | -bi | -bv address... | -q[R|S|I text]\n");
    return EX_USAGE;
}

/* The options that all programs have, as conf_args() wants them. */
static int load_conf(const struct sendmail_options *o, struct conf *conf)
{
    char *words[OPTIONS_CONF + 2] = {(char[]){"sendmail"}};
    int count = 1, e;

    for (size_t i = 0; i < o->conf_count; i++)
        words[count++] = (char *)(uintptr_t)o->conf[i];
    e = conf_init(conf);
    if (e == 0)
        e = conf_args(conf, &count, words);
    if (e < 0)
        (void)fprintf(stderr, "sendmail: %s\n", conf->error.len > 0 ? buf_cstr(&conf->error) : strerror(-e));
    return e;
}

static int fail_start(const struct letter *l, int e)
{
    if (e == -EINVAL) {
        (void)fprintf(stderr, "sendmail: -f %s: not an address\n", l->options->sender);
        return EX_USAGE;
    }
    (void)fprintf(stderr, "sendmail: %s\n", strerror(-e));
    return EX_OSERR;
}

/* Refused before the server was asked. What was read of the message is not thrown away where -oe promises that. */
static int fail_early(struct letter *l, int status, const struct outcome *why)
{
    if (l->options->errors != SENDMAIL_QUIET)
        (void)fprintf(stderr, "sendmail: %s\n", why->text);
    return status;
}

static int deliver(const struct sendmail_options *o, struct conf *conf)
{
    struct outcome why = {0};
    struct letter l;
    int status = 0, e = letter_init(&l, o, conf);

    if (e < 0)
        status = fail_start(&l, e);
    else if ((status = letter_read(&l, STDIN_FILENO, &why)) != 0)
        status = fail_early(&l, status, &why);
    else if ((status = letter_submit(&l)) != EX_OK)
        status = letter_fail(&l, status);
    letter_finish(&l);
    return status;
}

static int refuse_daemon(void)
{
    (void)fprintf(stderr,
                  "sendmail: no daemon is needed: systemd or inetd starts smtp for a connection and relay for the "
                  "queue\n");
    return EX_UNAVAILABLE;
}

static int run(const struct sendmail_options *o, struct conf *conf)
{
    switch (o->mode) {
    case SENDMAIL_DELIVER:
        if (o->recipient_count == 0 && !o->reads_recipients) {
            (void)fprintf(stderr, "sendmail: recipients must be named, or -t takes them from the header\n");
            return EX_USAGE;
        }
        return deliver(o, conf);
    case SENDMAIL_SMTP:
        return mode_smtp(conf);
    case SENDMAIL_BATCH:
        return mode_batch(conf);
    case SENDMAIL_VERIFY:
        return o->recipient_count > 0 ? mode_verify(o, conf) : usage(NULL);
    case SENDMAIL_LIST:
        return mode_list(o, conf);
    case SENDMAIL_QUEUE_RUN:
        return mode_queue_run(o, conf);
    case SENDMAIL_ALIASES:
        return mode_aliases(conf);
    case SENDMAIL_DAEMON:
        return refuse_daemon();
    }
    return EX_SOFTWARE;
}

int main(int argc, char **argv)
{
    _cleanup_conf_ struct conf conf = {0};
    struct sendmail_options o;
    const char *wrong = NULL;

    if (options_parse(argc, argv, &o, &wrong) < 0)
        return usage(wrong);
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    log_open("sendmail", true);
    if (load_conf(&o, &conf) < 0)
        return EX_CONFIG;
    return run(&o, &conf);
}
