/*
 * PAM. Runs in auth and auth-sasl, as root; the only file that includes PAM headers. What modules touch is theirs.
 */
#include "handlers/auth/pam.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "handlers/auth/account.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"

#define PROMPTS_MAX 32  /* of one conversation call: PAM_MAX_NUM_MSG */
#define PROMPTS_ALL 64  /* of one attempt: a stack that asks for ever is ended */
#define MESSAGE_MAX 256 /* bytes of one message to the user */

#define TOO_MUCH "This login asks for more than a password, which only SASL LOGIN can pass on; use a device password"

/* What a module wants the user to know: printable UTF-8 on one line, or nothing. */
static void collect(struct auth *a, const char *text)
{
    struct str s = str_sub(str_trim(str_from(text)), 0, MESSAGE_MAX);
    struct buf *out = &a->messages;
    size_t before = out->len;

    if (s.len == 0)
        return;
    while (s.len > 0 && !utf8_valid(s))
        s.len--; /* cut in the middle of a character, or not UTF-8 at all */
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (buf_add_byte(out, c < ' ' || c == 127 ? ' ' : (char)c) < 0)
            break;
    }
    if (out->len > before && buf_add_byte(out, '\n') < 0)
        buf_truncate(out, before);
}

/* Is this hidden prompt the one for the password? The first is, and so is one in the same words: stacks whose modules
 * each ask for themselves want the same password again. */
static bool is_password_prompt(struct auth *a, const char *text)
{
    if (a->prompt[0] != '\0')
        return strncmp(a->prompt, text, sizeof(a->prompt) - 1) == 0;
    (void)snprintf(a->prompt, sizeof(a->prompt), "%s", text);
    return true;
}

/* A module without a name asks for it in the words of PAM_USER_PROMPT, mostly "login:". */
static bool is_name_prompt(const char *text)
{
    return str_istarts(str_trim(str_from(text)), STR("login")) || str_istarts(str_trim(str_from(text)), STR("user"));
}

/* A second factor and the like: the client is asked in the module's words. */
static char *ask_client(struct auth *a, const char *text)
{
    struct buf prompt = BUF_INIT(MESSAGE_MAX);
    struct str response;
    char *copy = NULL;

    if (a->can_ask && buf_add_str(&prompt, str_sub(str_trim(str_from(text)), 0, MESSAGE_MAX)) == 0 &&
        auth_challenge(a, buf_str(&prompt), &response) == 0 && !str_has_nul(response))
        copy = str_dup(response);
    else
        a->has_asked_much = true;
    buf_finish(&prompt);
    return copy;
}

static char *answer(struct auth *a, int style, const char *text)
{
    if (!a->secret.ptr || ++a->prompts > PROMPTS_ALL)
        return NULL;
    if (style == PAM_PROMPT_ECHO_OFF && is_password_prompt(a, text))
        return str_dup(a->secret);
    if (style == PAM_PROMPT_ECHO_ON && is_name_prompt(text))
        return strdup(a->user);
    return style == PAM_PROMPT_ECHO_OFF || style == PAM_PROMPT_ECHO_ON ? ask_client(a, text) : NULL;
}

static void free_answers(struct pam_response *list, int count)
{
    for (int i = 0; i < count; i++)
        if (list[i].resp) {
            secret_wipe(list[i].resp, strlen(list[i].resp));
            free(list[i].resp);
        }
    free(list);
}

/* The prompt for the password gets the secret, one for the name the name; what else is asked goes to the client where
 * the mechanism can carry it; texts are kept for the client. */
static int converse(int count, const struct pam_message **messages, struct pam_response **ret, void *data)
{
    struct auth *a = data;
    struct pam_response *list;

    if (count <= 0 || count > PROMPTS_MAX)
        return PAM_CONV_ERR;
    list = calloc((size_t)count, sizeof(*list));
    if (!list)
        return PAM_BUF_ERR;
    for (int i = 0; i < count; i++) {
        int style = messages[i]->msg_style;

        if (style == PAM_TEXT_INFO || style == PAM_ERROR_MSG) {
            collect(a, messages[i]->msg);
            continue;
        }
        list[i].resp = answer(a, style, messages[i]->msg ? messages[i]->msg : "");
        if (!list[i].resp) {
            free_answers(list, count);
            return PAM_CONV_ERR;
        }
    }
    *ret = list;
    return PAM_SUCCESS;
}

/* Modules ask for a delay after a failure; theirs would tell an unknown user from a wrong password. The monitor's delay
 * is the same for every kind of failure, and this process need not stay in memory for it. */
static void no_delay(int status, unsigned usec, void *data)
{
    (void)status;
    (void)usec;
    (void)data;
}

/* Modules write this name bare into log lines ("ruser=x rhost=..."), and other programs block addresses for what they
 * read there: a name that could pass for a second field is not told. */
static bool is_one_word(const char *name)
{
    return name[strcspn(name, " =")] == '\0';
}

static int set_items(pam_handle_t *h, const struct auth *a)
{
    union {
        void (*function)(int, unsigned, void *);
        const void *item;
    } delay = {.function = no_delay};
    unsigned char address[sizeof(struct in6_addr)];
    int r = pam_set_item(h, PAM_TTY, a->service);

    if (r == PAM_SUCCESS && is_one_word(a->user))
        r = pam_set_item(h, PAM_RUSER, a->user);
    if (r == PAM_SUCCESS && (inet_pton(AF_INET, a->peer, address) == 1 || inet_pton(AF_INET6, a->peer, address) == 1))
        r = pam_set_item(h, PAM_RHOST, a->peer);
    if (r == PAM_SUCCESS)
        r = pam_set_item(h, PAM_FAIL_DELAY, delay.item);
    return r;
}

static int after_authenticate(struct auth *a, int status)
{
    switch (status) {
    case PAM_SUCCESS:
        return 0;
    case PAM_AUTH_ERR:
    case PAM_USER_UNKNOWN:
    case PAM_CRED_INSUFFICIENT:
    case PAM_MAXTRIES:
    case PAM_PERM_DENIED: /* nobody has proved anything yet: it must look like a wrong password */
    case PAM_ACCT_EXPIRED:
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, pam_strerror(NULL, status));
    default:
        return auth_fail(a, AUTH_CLASS_TEMPORARY, pam_strerror(NULL, status));
    }
}

/* Nobody's mistake, and the password may have been right or wrong: the words are the same, and tell what to do. */
static int refuse_to_ask(struct auth *a)
{
    buf_clear(&a->messages);
    collect(a, TOO_MUCH);
    return auth_fail(a, AUTH_CLASS_DENIED, "PAM asks for more than a password");
}

static bool is_nologin(void)
{
    return access("/run/nologin", F_OK) == 0 || access("/var/run/nologin", F_OK) == 0 ||
           access("/etc/nologin", F_OK) == 0;
}

static int after_account(struct auth *a, int status)
{
    switch (status) {
    case PAM_SUCCESS:
        return 0;
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_AUTHTOK_EXPIRED:
        return auth_fail(a, AUTH_CLASS_EXPIRED, "password expired");
    case PAM_ACCT_EXPIRED:
        return auth_fail(a, AUTH_CLASS_EXPIRED, "account expired");
    case PAM_AUTH_ERR:
    case PAM_PERM_DENIED:
    case PAM_USER_UNKNOWN:
        if (account_is_expired(a))
            return auth_fail(a, AUTH_CLASS_EXPIRED, "account or password expired");
        /* pam_nologin answers PAM_AUTH_ERR; the file goes away again */
        return is_nologin() ? auth_fail(a, AUTH_CLASS_TEMPORARY, "nologin")
                            : auth_fail(a, AUTH_CLASS_DENIED, pam_strerror(NULL, status));
    default:
        return auth_fail(a, AUTH_CLASS_TEMPORARY, pam_strerror(NULL, status));
    }
}

/* The name may have been changed by a module (domains cut off, case folded): what PAM says now is who it is. */
static int final_user(struct auth *a, pam_handle_t *h)
{
    const void *item = NULL;
    char claimed[sizeof(a->user)];
    int r;

    if (pam_get_item(h, PAM_USER, &item) != PAM_SUCCESS || !item)
        return auth_fail(a, AUTH_CLASS_TEMPORARY, "PAM names no user");
    memcpy(claimed, a->user, sizeof(claimed));
    if (!auth_claim(a, str_from(item))) {
        memcpy(a->user, claimed, sizeof(claimed));
        return auth_fail(a, AUTH_CLASS_DENIED, "PAM names an impossible user");
    }
    r = account_find(a);
    if (r == -ENOENT)
        return auth_fail(a, AUTH_CLASS_DENIED, "user has no account");
    if (r == -EPERM)
        return auth_fail(a, AUTH_CLASS_DENIED, "root or uid below min_uid");
    return r < 0 ? auth_fail(a, AUTH_CLASS_TEMPORARY, "user database unavailable") : 0;
}

static void on_stop(int signal)
{
    (void)signal;
}

/* Whoever stops a service sends SIGTERM to all of it. What is opened here is closed all the same: when the connection
 * has ended, as it then does. A handler, since what is ignored or blocked would stay so in programs that modules run.
 */
static void outlast_stop(void)
{
    (void)sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_stop, .sa_flags = SA_RESTART}, NULL);
}

/* pam_setcred(3): when the session has ended. Where there is none, they were of use to modules only. */
static void delete_credentials(struct auth *a, pam_handle_t *h)
{
    if (a->has_credentials)
        (void)pam_setcred(h, PAM_DELETE_CRED);
    a->has_credentials = false;
}

static int establish(struct auth *a, pam_handle_t *h)
{
    int r = auth_check_authorization(a);

    if (r != 0)
        return r;
    /* Group membership first, as pam_setcred(3) wants it; it is this process's own, and ends with it. */
    (void)setgroups((size_t)a->account.group_count, a->account.groups);
    r = pam_setcred(h, PAM_ESTABLISH_CRED);
    if (r != PAM_SUCCESS)
        return auth_fail(a, AUTH_CLASS_TEMPORARY, pam_strerror(h, r));
    a->has_credentials = true;
    if (!a->conf->pam_session)
        return 0;
    outlast_stop();
    r = pam_open_session(h, 0);
    if (r != PAM_SUCCESS) {
        delete_credentials(a, h);
        return auth_fail(a, AUTH_CLASS_TEMPORARY, pam_strerror(h, r));
    }
    a->has_pam_session = true;
    return 0;
}

static int start(struct auth *a, const char *stack, const char *user, pam_handle_t **ret)
{
    struct pam_conv conv = {.conv = converse, .appdata_ptr = a};

    return pam_start(stack, user, &conv, ret);
}

void pam_prepare(struct auth *a, const char *stack)
{
    pam_handle_t *h = NULL;

    if (start(a, stack, NULL, &h) == PAM_SUCCESS)
        a->ready = h;
}

/* The handle that is ready, if it is for this service, or a new one. */
static int begin(struct auth *a, const char *stack, pam_handle_t **ret)
{
    pam_handle_t *h = a->ready;
    const void *service = NULL;

    if (!h || pam_get_item(h, PAM_SERVICE, &service) != PAM_SUCCESS || !service || strcmp(service, stack) != 0)
        return start(a, stack, a->user, ret);
    a->ready = NULL;
    *ret = h;
    return pam_set_item(h, PAM_USER, a->user);
}

int pam_admit(struct auth *a, const char *stack, struct str secret)
{
    pam_handle_t *h = NULL;
    int status, r;

    if (str_has_nul(secret))
        return auth_fail(a, AUTH_CLASS_MECHANISM, "NUL in the password");
    status = begin(a, stack, &h);
    if (status != PAM_SUCCESS)
        return auth_fail(a, AUTH_CLASS_TEMPORARY, "pam_start failed");
    a->secret = secret;
    status = set_items(h, a);
    r = status == PAM_SUCCESS ? 0 : auth_fail(a, AUTH_CLASS_TEMPORARY, "pam_set_item failed");
    if (r == 0 && secret.ptr) {
        status = pam_authenticate(h, PAM_DISALLOW_NULL_AUTHTOK);
        r = status != PAM_SUCCESS && a->has_asked_much ? refuse_to_ask(a) : after_authenticate(a, status);
    }
    if (r == 0) {
        status = pam_acct_mgmt(h, PAM_DISALLOW_NULL_AUTHTOK);
        r = after_account(a, status);
    }
    if (r == 0)
        r = final_user(a, h);
    if (r == 0)
        r = establish(a, h);
    a->secret = STR_NULL; /* closing the session has no secret to give */
    if (r == 0)
        a->pam = h; /* its end unloads modules: the answer need not wait for that */
    else
        (void)pam_end(h, status);
    return r;
}

void pam_leave(struct auth *a)
{
    int r = PAM_SUCCESS;

    if (a->ready)
        (void)pam_end(a->ready, PAM_SUCCESS);
    a->ready = NULL;
    if (!a->pam)
        return;
    if (a->has_pam_session)
        r = pam_close_session(a->pam, 0);
    delete_credentials(a, a->pam);
    (void)pam_end(a->pam, r);
    a->pam = NULL;
    a->has_pam_session = false;
}
