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

static void print_line(void *context, struct str line)
{
    (void)printf("%.*s\n", STR_ARG(line));
}

/* One command to the server; its reply line by line on the standard output, a refusal on the other. */
static int ask(const struct conf *conf, const char *command, const char *text)
{
    struct client_reply r = {0};
    struct outcome o = {0};
    struct client c;
    int e = client_open(&c, conf, false, NULL);

    if (e == 0)
        e = client_greet(&c, &r);
    if (e == 0) {
        c.on_line = print_line;
        e = client_command(&c, &r, "%s%s%s", command, *text ? " " : "", text);
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
    char what[1024] = "";

    if (o->queue_key && snprintf(what, sizeof(what), "%c %s", o->queue_key, o->queue_text) >= (int)sizeof(what))
        return EX_USAGE;
    return ask(conf, "XRUN", what);
}
