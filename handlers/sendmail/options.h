/*
 * The command line of sendmail(8): every flag that sendmail, Postfix and Exim know and callers use, old spellings and
 * all. What has no meaning here is taken and ignored; the manual page lists it. Pure.
 */
#ifndef SENDMAIL_OPTIONS_H
#define SENDMAIL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define OPTIONS_CONF 32 /* words for conf_args() */

enum sendmail_mode {
    SENDMAIL_DELIVER = 'm',   /* a message from the standard input */
    SENDMAIL_SMTP = 's',      /* SMTP on standard input and output */
    SENDMAIL_BATCH = 'S',     /* SMTP commands on the standard input, nobody reads the replies */
    SENDMAIL_LIST = 'p',      /* mailq */
    SENDMAIL_ALIASES = 'i',   /* newaliases */
    SENDMAIL_VERIFY = 'v',    /* where do these addresses lead? */
    SENDMAIL_QUEUE_RUN = 'q', /* -q */
    SENDMAIL_DAEMON = 'd',    /* -bd, -bD, -bl, -q30m: nothing of ours stays resident */
};

enum sendmail_errors {
    SENDMAIL_PRINT = 'p',   /* on the standard error output */
    SENDMAIL_QUIET = 'q',   /* by the exit status alone */
    SENDMAIL_MAIL = 'm',    /* by a message to the sender */
    SENDMAIL_WRITE = 'w',   /* on the terminal, by a message where there is none */
    SENDMAIL_BERKNET = 'e', /* by a message, and the exit status is 0 */
};

struct sendmail_options {
    enum sendmail_mode mode;
    enum sendmail_errors errors;
    bool ignores_dots; /* -i: a lone dot is text */
    bool reads_recipients;
    bool is_gateway; /* -G: nothing is added to the header */
    bool is_verbose;
    bool is_queue_only;     /* -odq, -odd */
    const char *sender;     /* -f, -r; "" and "<>": null; NULL: the user */
    const char *full_name;  /* -F */
    const char *body;       /* -B: "8BITMIME", "7BIT", or NULL */
    const char *notify;     /* -N, as NOTIFY wants it (RFC 3461 4.1), or NULL */
    const char *returns;    /* -R: "FULL", "HDRS" (RFC 3461 4.3), or NULL */
    const char *envelope;   /* -V: envelope identifier, or NULL */
    const char *transcript; /* -X: file, or NULL */
    char queue_key;         /* -qR, -qS, -qI: 'R', 'S', 'I'; 0: all */
    const char *queue_text; /* what to look for in recipients, senders, identifiers */
    const char *tag;        /* -L: name in the log, or NULL */
    char **recipients;      /* the rest of argv */
    size_t recipient_count;
    const char *conf[OPTIONS_CONF + 1]; /* "-o", "key=value", "-c", "FILE", "--epoch=N" for conf_args() */
    size_t conf_count;
};

/* Fills *ret from argv; views into it. argv[0] chooses the mode as links do: mailq, newaliases, rsmtp, bsmtp.
 * -EINVAL: wrong, and *ret_wrong is the word (NULL: something is missing). -E2BIG: over OPTIONS_CONF. */
int options_parse(int argc, char **argv, struct sendmail_options *ret, const char **ret_wrong);

#endif
