/*
 * One login attempt, as the parts of `auth` share it.
 */
#ifndef AUTH_AUTH_H
#define AUTH_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/conf.h"
#include "shared/base/limits.h"
#include "shared/gate/priv.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

#define AUTH_CONTROL   3    /* fd of the monitor */
#define AUTH_MESSAGES  2048 /* bytes of PAM's messages that are handed on */
#define AUTH_SERVICE   16   /* bytes of a service name */
#define AUTH_MECHANISM 32   /* bytes of a mechanism name (RFC 4422 3.1: 20) */

struct auth {
    struct conf *conf;
    struct frame request; /* the views below point into it */
    uint32_t attempt;
    char service[AUTH_SERVICE + 1]; /* "imap", "pop3", "smtp" */
    char mechanism[AUTH_MECHANISM + 1];
    struct str initial;
    bool has_initial;
    char peer[LIMIT_ADDRESS + 1];
    struct str apop; /* APOP challenge */
    bool is_tls;
    struct str exporter;  /* tls-exporter channel binding (RFC 9266) */
    struct str end_point; /* tls-server-end-point channel binding (RFC 5929 4) */
    struct str subject;   /* of the client certificate, or empty */

    struct frame response; /* the last one from the client */

    char user[LIMIT_USER + 1]; /* as claimed; after success as PAM names it */
    struct priv_user account;  /* who he is, when everything else is settled: account_find() */
    bool is_for_another;       /* claims the right to act for somebody else, which nobody has here */
    const char *reason;        /* of a failure, for the log; static text */
    struct buf messages;       /* PAM's words to the user, a line each */
    struct buf final;          /* SASL data that goes with success */

    /* For pam.c. */
    void *ready; /* handle that pam_prepare() made, until somebody uses it */
    void *pam;   /* handle, from success on */
    bool has_credentials; /* of his, made by modules: ticket files and the like */
    bool has_pam_session;
    struct str secret;   /* what the prompt for the password is answered with */
    bool can_ask;        /* the mechanism lets the client be asked for more */
    bool has_asked_much; /* PAM asked for what nobody can answer */
    char prompt[64];     /* the text of the first hidden prompt: the password's */
    unsigned prompts;    /* answered so far */
};

/* A mechanism: one row of a table, one function. `form` tells apart those that share it. run() returns 0 when the user
 * is who he says and PAM lets him in, a (positive) enum auth_class when not, a negative errno when the monitor is gone
 * or speaks nonsense. */
struct mechanism {
    const char *name;
    int (*run)(struct auth *a, unsigned form);
    unsigned form;
};

/* Of this program: auth knows those that hand a secret to PAM, auth-sasl all. */
extern const struct mechanism AUTH_MECHANISMS[];
extern const size_t AUTH_MECHANISMS_COUNT;

/* Must another program do this attempt? auth: the name of the program beside it, for challenge mechanisms and for users
 * that have device passwords; auth-sasl: never (NULL). It looks at the request only. */
const char *auth_other_program(const struct auth *a);

/* Reads the request from the control socket without taking it off, or by taking it off. 0 or a negative errno. */
int auth_request(struct auth *a, int control, bool is_peek);

/* Sends a challenge and waits for the client's response (a view until the next call). 0, or a negative errno. */
int auth_challenge(struct auth *a, struct str challenge, struct str *ret_response);

/* The initial response, or what an empty challenge brings (RFC 4422 3: mechanisms where the client speaks first). */
int auth_initial(struct auth *a, struct str *ret_response);

/* Remembers who is claimed. false: no possible login name (empty, too long, control characters, not UTF-8). */
bool auth_claim(struct auth *a, struct str user);

/* May he act for whom he claims to act for? 0 or, with the reason noted, the class. For those who have proved who they
 * are: to others the answer is about that. */
int auth_check_authorization(struct auth *a);

/* Notes why, and returns the class: `return auth_fail(a, AUTH_CLASS_DENIED, "uid below min_uid");` */
int auth_fail(struct auth *a, enum auth_class class, const char *reason);

#endif
