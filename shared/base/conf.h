/*
 * Configuration: one optional file of `key = value` lines, command-line overrides, a working default for every key.
 * An unknown key is a warning that names the nearest known one, a bad value is an error. The table of keys in conf.c is
 * the only list of them; a new key is a row there, a field here and a paragraph in pennypost.conf(5).
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/clock.h"

enum conf_plaintext {
    CONF_PLAINTEXT_NO,    /* passwords only inside TLS */
    CONF_PLAINTEXT_LOCAL, /* also from loopback, a pipe or a unix socket */
    CONF_PLAINTEXT_YES,
};

struct conf {
    /* Values; strings are owned by the conf and never NULL. */
    char *hostname;            /* our name in greetings and trace fields; default: /etc/mailname, or the host's name */
    char *domains;             /* blank-separated domains that are ours, besides hostname and localhost */
    char *networks;            /* clients that may send anywhere without logging in */
    char *networks_proxy;      /* peers whose PROXY address is believed */
    char *networks_xclient;    /* peers whose XCLIENT address is believed */
    char *dns_servers;         /* DNS servers to ask, "127.0.0.1 [::1]:5353"; empty: those of /etc/resolv.conf */
    bool mta_sts;              /* ask for and obey MTA-STS policies of domains that mail goes to */
    char *sts_cache;           /* folder of such policies */
    char *tls_ca;              /* PEM authorities that are trusted to certify other machines */
    char *dnsbl;               /* block lists, "zone[=127.0.0.4[-11]][*weight] ..."; empty: none */
    uint32_t dnsbl_threshold;  /* sum of weights that refuses */
    char *reverse_dns;         /* the client's address must have a name: "no", "log", "name", "match" */
    char *helo_checks;         /* words: "own", "fqdn", "literal", "dns" */
    bool sender_dns;           /* the sender's domain must be able to take mail */
    uint32_t connection_rate;  /* SMTP connections a minute from one address, 0: any number */
    char *policy_exempt;       /* networks that none of these checks are made for */
    char *spool;               /* folder of INBOX files named after users, or one mbox file */
    char *folders;             /* folder of the other mailboxes; %h home, %u user */
    char *state;               /* folder of the state logs and indexes; %h, %u */
    char *aliases;             /* aliases(5) file */
    char *alias_user;          /* who runs commands and writes files of the aliases file */
    char *forward;             /* file of a user that says where his mail goes; %h, %u; empty: none */
    char *catch_all;           /* user or address that gets mail for unknown users; empty: nobody */
    char *root_mail_to;        /* user or address that gets root's mail; empty: root's mailbox */
    char *recipient_delimiter; /* of user+detail; empty: none */
    char *tls_certificate;     /* PEM chain; empty or missing file: no TLS is offered */
    char *tls_key;
    char *tls_client_ca; /* PEM authorities of client certificates; empty: clients are not asked for one */
    enum conf_plaintext plaintext_auth;
    bool external_auth;       /* SASL EXTERNAL: the common name of a client certificate is the user */
    bool challenge_auth;      /* SCRAM, CRAM-MD5, APOP are announced when there are device passwords for them */
    char *devices;            /* file of device passwords */
    char *runtime;            /* folder of what is gone after a reboot: ticket keys, counters of failed logins */
    bool pam_session;         /* open and close a PAM session around the mail session */
    uint64_t mailbox_size;    /* bytes of an INBOX above which it takes no more mail; 0: no limit */
    char *queue;              /* folder of messages on their way */
    char *submission_senders; /* who a logged-in user may send as: "own" addresses, or "any" */
    char *submit_socket;      /* unix socket on which sendmail(8) hands mail over */
    char *dkim_keys;          /* folder of DKIM keys, DOMAIN.SELECTOR.key */
    bool srs;                 /* rewrite the sender of mail that aliases and .forward files send to other machines */
    char *srs_domain;         /* of such senders; empty: hostname */
    char *srs_secret;         /* file of the key that they are made with */
    char *trusted_users;      /* local users who may send as anybody, blank-separated */
    bool send_to_terminal;    /* SEND, SOML, SAML write to the terminals of users */
    char *smtp_bare_newline;  /* a bare LF in a message: "reject", or "normalize" for old devices */
    uint32_t queue_lifetime;   /* seconds after which what could not be delivered is returned */
    uint32_t delay_warning;    /* seconds after which the sender hears of a delay; 0: never */
    uint32_t retry_min;        /* seconds to the next try, at first */
    uint32_t retry_max;        /* and in the end */
    char *relayhost;           /* where all mail for others goes: HOST, HOST:PORT; empty: by MX */
    char *relay_credentials;   /* file of logins at next hops; $CREDENTIALS_DIRECTORY/relay_credentials counts first */
    char *atrn_customers;      /* file: who fetches mail of which domains here by ATRN */
    char *atrn_provider;       /* where `relay --pull` fetches ours: HOST, HOST:PORT */
    char *relay_routes;        /* file of next hops for some domains and senders */
    uint32_t relay_connections; /* to all other servers at a time */
    uint32_t relay_connections_per_destination;
    uint32_t relay_timeouts;   /* percent of the time-outs of RFC 5321 */
    char *tls_policy;          /* file: what TLS some destinations must have */
    uint64_t message_size;    /* largest message taken, bytes */
    uint32_t timeout_imap;    /* idle seconds */
    uint32_t timeout_pop3;
    char *pop3_uidl;           /* how UIDL writes identities: "pennypost", or as "dovecot" or "uw" imapd did */
    uint32_t pop3_login_delay; /* seconds a user must wait between two POP3 sessions */
    char *pop3_expire;         /* days after which POP3 removes mail that was read, or "never" */
    uint32_t timeout_smtp;
    uint32_t min_uid; /* smallest uid that may log in */

    struct clock clock;   /* --epoch freezes it */
    struct buf warnings;  /* lines for the caller to log: unknown keys */
    struct buf error;     /* what is wrong, when a function fails */
    struct buf overrides; /* "-o\0key=value\0-c\0FILE\0": to hand on to a program that we start, see conf_pass_on() */
};

#define _cleanup_conf_ _cleanup_(conf_finish)

/* The defaults. 0 or -ENOMEM. */
int conf_init(struct conf *c);
void conf_finish(struct conf *c);

/* Takes `-c FILE`, `-o key=value`, `--epoch=SECONDS` (each also as one word, -oKEY=VALUE) out of argv, wherever they
 * stand before a `--`, and loads the file (PENNYPOST_SYSCONFDIR/pennypost.conf if none is named; that one may be
 * missing). Then the overrides. *argc shrinks; argv stays NULL-terminated. 0, or -EINVAL, -ENOENT, ... with the reason
 * in c->error. */
int conf_args(struct conf *c, int *argc, char **argv);

/* Reads a file. -EINVAL: a bad value, named in c->error. Missing: -ENOENT. */
int conf_load(struct conf *c, const char *path);

/* Sets one key, or with a `+` behind its name adds words to a list. -ENOENT unknown key (c->error names the nearest
 * one), -EINVAL bad value, -ENOMEM. */
int conf_set(struct conf *c, struct str key, struct str value);

/* Appends to argv (room for max entries, *argc used) the options that give a started program this configuration.
 * The strings belong to c. -E2BIG when they do not fit. */
int conf_pass_on(const struct conf *c, char **argv, int *argc, int max);

/* Replaces %u, %h and %% in a value. 0, -EINVAL on another %, -ENOBUFS. */
int conf_expand(struct str value, struct str user, struct str home, struct buf *out);

/* Is this domain ours: hostname, localhost, one of `domains`, case-insensitively? */
bool conf_domain_is_ours(const struct conf *c, struct str domain);

#endif
