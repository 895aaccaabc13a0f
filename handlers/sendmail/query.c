/*
 * mailq and sendmail -q. Runs as the invoking user; who sees what, and who may start a run, the server decides.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "handlers/sendmail/client.h"
#include "handlers/sendmail/letter.h"
#include "handlers/sendmail/modes.h"
#include "shared/base/limits.h"
#include "shared/gate/priv.h"
#include "shared/gate/start.h"

/* The last line of a reply has the enhanced code (RFC 2034), which says nothing to people. */
static void print_line(void *context, struct str line)
{
    if (str_starts(line, STR("2.0.0 ")))
        line = str_sub(line, 6, line.len);
    (void)printf("%.*s\n", STR_ARG(line));
}

/* One command to the server; its reply line by line on the standard output, a refusal on the other. */
static int ask(const struct conf *conf, const char *command, const char *argument)
{
    struct client_reply r = {0};
    struct outcome o = {0};
    struct client c;
    int e = client_open(&c, conf, NULL, &r);

    if (e == 0) {
        c.on_line = print_line;
        e = client_command(&c, &r, "%s%s", command, argument);
        c.on_line = NULL;
    }
    client_close(&c);
    if (e < 0) {
        (void)fprintf(stderr, "sendmail: %s: %s\n", conf->submit_socket, e == -EPROTO ? r.text : strerror(-e));
        return EX_TEMPFAIL;
    }
    o.code = r.code;
    memcpy(o.text, r.text, sizeof(o.text));
    return letter_status(&o);
}

int mode_list(const struct sendmail_options *o, const struct conf *conf)
{
    return ask(conf, "XQUEUE", "");
}

int mode_queue_run(const struct sendmail_options *o, const struct conf *conf)
{
    char *all[] = {(char[]){"sendmail"}, (char[]){"--all"}, NULL};
    char *some[] = {(char[]){"sendmail"}, (char[]){"--match"}, (char *)(uintptr_t)o->queue_text, NULL};
    char domain[LIMIT_DOMAIN + 3];

    if (o->queue_key == 'S' || o->queue_key == 'I') {
        (void)fprintf(stderr, "sendmail: -q%c: see pennypost queue retry, which chooses by sender and by identifier\n",
                      o->queue_key);
        return EX_USAGE;
    }
    if (priv_is_root())
        return o->queue_key ? start_exec_session("relay", conf, 3, some) : start_exec_session("relay", conf, 2, all);
    /* Anybody of this machine may ask for a domain (RFC 1985). */
    if (!o->queue_key ||
        snprintf(domain, sizeof(domain), " @%s", o->queue_text + (o->queue_text[0] == '@')) >= (int)sizeof(domain)) {
        (void)fprintf(stderr, "sendmail: only root starts a run of the whole queue; -qR takes a domain\n");
        return EX_NOPERM;
    }
    return ask(conf, "ETRN", domain);
}
