/*
 * One message on its way from the standard input to the server, and what became of it.
 */
#ifndef SENDMAIL_LETTER_H
#define SENDMAIL_LETTER_H

#include "handlers/sendmail/client.h"
#include "handlers/sendmail/compose.h"
#include "handlers/sendmail/options.h"

struct outcome {
    unsigned code;          /* of the reply that decided; 0: the server was not reached */
    char text[CLIENT_TEXT]; /* with its enhanced code, or what went wrong */
};

struct letter {
    const struct sendmail_options *options;
    struct conf *conf;
    char *user; /* login name */
    char *full_name;
    char *home;
    struct buf sender; /* of the envelope, "" null */
    struct recipients to;
    struct outcome *outcomes; /* one for each recipient */
    struct buf header;        /* finished, LF, without the empty line */
    int body;                 /* temporary file, -1: none yet */
    uint64_t size;            /* of all, with CRLF */
    bool is_8bit;
};

/* Finds out who we are. 0 or a negative errno. */
int letter_init(struct letter *l, const struct sendmail_options *o, struct conf *conf);
void letter_finish(struct letter *l);

/* Reads the message, makes its header, finds its recipients. 0, or an exit status of sysexits with the reason in *ret.
 */
int letter_read(struct letter *l, int fd, struct outcome *ret);

/* Submits it and fills the outcomes in. EX_OK, or the exit status that the failures ask for. */
int letter_submit(struct letter *l);

/* A temporary file without a name, or -1 with errno. */
int letter_open_temporary(void);

/* The exit status for one outcome. */
int letter_status(const struct outcome *o);

/* failure.c: tells whoever is to be told (-oe) that `status` is what came out; outcomes say why. The exit status. */
int letter_fail(struct letter *l, int status);

#endif
