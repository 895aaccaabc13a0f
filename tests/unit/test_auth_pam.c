/*
 * handlers/auth/pam.c: what PAM is asked, in which order, and what is taken back. PAM's answers are made up here (the
 * linker puts __wrap_ functions in their places).
 */
#include <errno.h>
#include <security/pam_appl.h>
#include <setjmp.h> /* cmocka */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "handlers/auth/account.h"
#include "handlers/auth/pam.h"

static char calls[256];     /* their first letters, in order */
static const char *failing; /* the one that fails */
static struct conf conf;

static int note(const char *name)
{
    (void)snprintf(calls + strlen(calls), sizeof(calls) - strlen(calls), "%s ", name);
    return failing && strcmp(failing, name) == 0 ? PAM_SYSTEM_ERR : PAM_SUCCESS;
}

int __wrap_pam_start(const char *stack, const char *user, const struct pam_conv *conv, pam_handle_t **ret);
int __wrap_pam_set_item(pam_handle_t *h, int item, const void *value);
int __wrap_pam_get_item(const pam_handle_t *h, int item, const void **ret);
int __wrap_pam_authenticate(pam_handle_t *h, int flags);
int __wrap_pam_acct_mgmt(pam_handle_t *h, int flags);
int __wrap_pam_setcred(pam_handle_t *h, int flags);
int __wrap_pam_open_session(pam_handle_t *h, int flags);
int __wrap_pam_close_session(pam_handle_t *h, int flags);
int __wrap_pam_end(pam_handle_t *h, int status);
int __wrap_account_find(struct auth *a);

int __wrap_pam_start(const char *stack, const char *user, const struct pam_conv *conv, pam_handle_t **ret)
{
    assert_string_equal(stack, "pennypost-pop3");
    assert_string_equal(user, "alice");
    assert_non_null(conv);
    *ret = (pam_handle_t *)(void *)calls;
    return note("start");
}

int __wrap_pam_set_item(pam_handle_t *h, int item, const void *value)
{
    (void)h;
    (void)item;
    (void)value;
    return PAM_SUCCESS;
}

int __wrap_pam_get_item(const pam_handle_t *h, int item, const void **ret)
{
    (void)h;
    assert_int_equal(item, PAM_USER);
    *ret = "alice";
    return PAM_SUCCESS;
}

int __wrap_pam_authenticate(pam_handle_t *h, int flags)
{
    (void)h;
    (void)flags;
    return note("authenticate");
}

int __wrap_pam_acct_mgmt(pam_handle_t *h, int flags)
{
    (void)h;
    (void)flags;
    return note("account");
}

int __wrap_pam_setcred(pam_handle_t *h, int flags)
{
    (void)h;
    return note(flags == PAM_ESTABLISH_CRED ? "establish" : flags == PAM_DELETE_CRED ? "delete" : "?");
}

int __wrap_pam_open_session(pam_handle_t *h, int flags)
{
    (void)h;
    (void)flags;
    return note("open");
}

int __wrap_pam_close_session(pam_handle_t *h, int flags)
{
    (void)h;
    (void)flags;
    return note("close");
}

int __wrap_pam_end(pam_handle_t *h, int status)
{
    (void)h;
    (void)status;
    return note("end");
}

int __wrap_account_find(struct auth *a)
{
    (void)a;
    return 0;
}

static void check(const char *what_fails, bool has_session, int expected, const char *expected_calls)
{
    struct auth a = {.conf = &conf, .user = "alice", .messages = BUF_INIT(AUTH_MESSAGES)};
    int r;

    calls[0] = '\0';
    failing = what_fails;
    conf.pam_session = has_session;
    r = pam_admit(&a, "pennypost-pop3", STR("wonderland"));
    pam_leave(&a);
    assert_int_equal(r, expected);
    assert_string_equal(calls, expected_calls);
    buf_finish(&a.messages);
}

static void without_a_session(void **state)
{
    (void)state;
    check(NULL, false, 0, "start authenticate account establish delete end ");
}

static void with_a_session(void **state)
{
    (void)state;
    check(NULL, true, 0, "start authenticate account establish open close delete end ");
}

static void failures(void **state)
{
    (void)state;
    check("start", false, AUTH_CLASS_TEMPORARY, "start ");
    check("authenticate", false, AUTH_CLASS_TEMPORARY, "start authenticate end ");
    check("account", false, AUTH_CLASS_TEMPORARY, "start authenticate account end ");
    check("establish", true, AUTH_CLASS_TEMPORARY, "start authenticate account establish end ");
    check("open", true, AUTH_CLASS_TEMPORARY, "start authenticate account establish open delete end ");
    check("close", true, 0, "start authenticate account establish open close delete end ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(without_a_session), cmocka_unit_test(with_a_session),
                                       cmocka_unit_test(failures)};
    int r;

    if (conf_init(&conf) < 0)
        return 1;
    r = cmocka_run_group_tests(tests, NULL, NULL);
    conf_finish(&conf);
    return r;
}
