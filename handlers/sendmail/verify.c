/*
 * sendmail -bv: where would mail to these addresses go? Runs as the invoking user; the server knows.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "handlers/sendmail/client.h"
#include "handlers/sendmail/compose.h"
#include "handlers/sendmail/letter.h"
#include "handlers/sendmail/modes.h"

static void print_line(void *context, struct str line)
{
    const char *address = context;
    struct str code;

    (void)str_word(&line, &code); /* the enhanced one */
    (void)printf("%s... %.*s\n", address, STR_ARG(str_trim(line)));
}

/* VRFY says whether it is one, EXPN where it leads (RFC 5321 3.5). The exit status. */
static int verify(struct client *c, char *address, int *ret_error)
{
    struct outcome o = {0};
    struct client_reply r;
    int e = client_command(c, &r, "VRFY %s", address);

    if (e == 0 && client_is_ok(&r)) {
        c->on_line = print_line;
        c->context = address;
        e = client_command(c, &r, "EXPN %s", address);
        c->on_line = NULL;
    } else if (e == 0) {
        (void)printf("%s... %u %s\n", address, r.code, r.text);
    }
    *ret_error = e;
    o.code = r.code;
    memcpy(o.text, r.text, sizeof(o.text));
    return e < 0 ? EX_TEMPFAIL : letter_status(&o);
}

int mode_verify(const struct sendmail_options *o, const struct conf *conf)
{
    struct recipients all = {0};
    struct client_reply r = {0};
    struct client c;
    int status = EX_OK, e = 0;

    for (size_t i = 0; i < o->recipient_count && e == 0; i++)
        e = recipients_add(&all, str_from(o->recipients[i]), str_from(conf->hostname));
    if (e < 0) {
        (void)fprintf(stderr, "sendmail: that is no address\n");
        recipients_finish(&all);
        return EX_USAGE;
    }
    e = client_open(&c, conf, NULL, &r);
    for (size_t i = 0; i < all.count && e == 0; i++) {
        int one = verify(&c, all.items[i], &e);

        status = one == EX_OK ? status : one;
    }
    if (e < 0)
        (void)fprintf(stderr, "sendmail: %s: %s\n", conf->submit_socket, e == -EPROTO ? r.text : strerror(-e));
    client_close(&c);
    recipients_finish(&all);
    return e < 0 ? EX_TEMPFAIL : status;
}
