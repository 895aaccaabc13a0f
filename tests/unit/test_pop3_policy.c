/* Unit tests of what the administrator decides about POP3: UIDLs, EXPIRE, LOGIN-DELAY. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handlers/pop3/capa.h"
#include "shared/base/macros.h"
#include "tests/unit/pop3_play.h"

static void uidl_forms(void **state)
{
    static const char *const forms[][3] = {
        {"pennypost", "+OK 1 4711.101\r\n", "1 4711.101\r\n2 4711.102\r\n3 4711.103\r\n"},
        {"dovecot", "+OK 1 0000006500001267\r\n", "1 0000006500001267\r\n2 0000006600001267\r\n3 0000006700001267\r\n"},
        {"uw", "+OK 1 0000126700000065\r\n", "1 0000126700000065\r\n2 0000126700000066\r\n3 0000126700000067\r\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        _cleanup_buf_ struct buf expected = BUF_INIT(4096);
        struct run r;

        run_init(&r);
        assert_int_equal(conf_set(&r.conf, STR("pop3_uidl"), str_from(forms[i][0])), 0);
        play(&r, "UIDL 1\r\nUIDL\r\nQUIT\r\n");
        assert_int_equal(buf_printf(&expected,
                                    GREETING "%s+OK 3 messages (83 octets)\r\n%s.\r\n"
                                             "+OK Good bye, 0 deleted, 3 left\r\n",
                                    forms[i][1], forms[i][2]),
                         0);
        assert_string_equal(buf_cstr(&r.out), buf_cstr(&expected));
        run_finish(&r);
    }
}

/* Other UIDLs would make every client fetch everything again: no session before the value is right. */
static void a_wrong_policy_serves_nobody(void **state)
{
    static const char *const wrong[][2] = {{"pop3_uidl", "uidl"}, {"pop3_expire", "soon"}, {"pop3_expire", "-1"}};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        _cleanup_buf_ struct buf expected = BUF_INIT(4096);
        struct run r;

        run_init(&r);
        assert_int_equal(conf_set(&r.conf, str_from(wrong[i][0]), str_from(wrong[i][1])), 0);
        play(&r, "STAT\r\n");
        assert_int_equal(
            buf_printf(&expected, "-ERR [SYS/PERM] The server is not configured properly (%s)\r\n", wrong[i][0]), 0);
        assert_string_equal(buf_cstr(&r.out), buf_cstr(&expected));
        assert_int_equal(r.result, -EINVAL);
        run_finish(&r);
    }
}

static void play_with_expire(const char *expire, const char *input, int result)
{
    struct run r;

    run_init(&r);
    assert_int_equal(conf_set(&r.conf, STR("pop3_expire"), str_from(expire)), 0);
    play(&r, input);
    assert_int_equal(r.result, result);
    run_finish(&r);
}

/* RFC 2449 6.7: what was read long enough ago goes; what nobody has read stays for ever. */
static void expire_is_enforced(void **state)
{
    fake.flags[0] = fake.flags[1] = MBOX_SEEN;
    fake.saved[0] = 1700000000 - 30 * 86400;
    fake.saved[1] = 1700000000 - 30 * 86400 + 1;
    fake.saved[2] = 1;
    play_with_expire("never", "RETR 1\r\nQUIT\r\n", 0);
    assert_int_equal(fake.removals, 0);
    play_with_expire("30", "STAT\r\n", -ENODATA);
    assert_int_equal(fake.removals, 0);
}

static void expire_at_quit(void **state)
{
    fake.flags[0] = fake.flags[1] = MBOX_SEEN;
    fake.saved[0] = 1700000000 - 30 * 86400;
    fake.saved[1] = 1700000000 - 30 * 86400 + 1;
    fake.saved[2] = 1;
    play_with_expire("30", "QUIT\r\n", 0);
    assert_true(numset_size(&fake.removed) == 1 && numset_has(&fake.removed, 101));
}

static void expire_at_once(void **state)
{
    fake.flags[0] = MBOX_SEEN;
    play_with_expire("0", "RETR 2\r\nQUIT\r\n", 0);
    assert_true(numset_size(&fake.removed) == 1 && numset_has(&fake.removed, 102));
}

/* RFC 2449 6.5 */
static void login_delay(void **state)
{
    char folder[] = "/tmp/test_pop3.XXXXXX", path[64];
    struct pop3_policy p = {.login_delay = 60};
    struct clock clock = {.is_frozen = true, .epoch = 1700000000};
    uint32_t wait = 0;

    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/pop3-login", folder);
    assert_int_equal(pop3_policy_login(&p, folder, &clock, false, &wait), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(pop3_policy_login(&p, folder, &clock, true, &wait), 0);
    clock.epoch += 59;
    assert_int_equal(pop3_policy_login(&p, folder, &clock, true, &wait), -EBUSY);
    assert_int_equal(wait, 1);
    assert_int_equal(pop3_policy_login(&p, folder, &clock, false, &wait), -EBUSY);
    clock.epoch++; /* the refused one does not count, nor does one that only asks */
    assert_int_equal(pop3_policy_login(&p, folder, &clock, false, &wait), 0);
    assert_int_equal(pop3_policy_login(&p, folder, &clock, true, &wait), 0);
    clock.epoch -= 1000; /* the clock was set back */
    assert_int_equal(pop3_policy_login(&p, folder, &clock, true, &wait), 0);
    p.login_delay = 0;
    assert_int_equal(pop3_policy_login(&p, folder, &clock, true, &wait), 0);
    p.login_delay = 60;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(pop3_policy_login(&p, folder, &clock, true, &wait), -ELOOP);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(pop3_policy_login(&p, folder, &clock, true, &wait), -ENOENT);
}

/* RFC 2449 6.5: the seconds count from the +OK; a session that was refused is none. */
static void login_delay_of_a_session(void **state)
{
    static const struct {
        int open_error;
        int64_t later;
        int result;
        const char *answer;
    } logins[] = {
        {-EBUSY, 0, -EBUSY, "-ERR [IN-USE] Another POP3 session has this mailbox open\r\n"},
        {0, 0, 0, GREETING "+OK Good bye, 0 deleted, 3 left\r\n"},
        {0, 10, -EBUSY, "-ERR [LOGIN-DELAY] Please wait 50 more seconds between two sessions\r\n"},
        {0, 60, 0, GREETING "+OK Good bye, 0 deleted, 3 left\r\n"},
    };
    char folder[] = "/tmp/test_pop3.XXXXXX", path[64];

    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/pop3-login", folder);
    for (size_t i = 0; i < ARRAY_SIZE(logins); i++) {
        struct run r;

        run_init(&r);
        r.who.is_preauth = false;
        r.who.state = str_dup(str_from(folder));
        r.conf.clock.epoch += logins[i].later;
        fake.open_error = logins[i].open_error;
        assert_int_equal(conf_set(&r.conf, STR("pop3_login_delay"), STR("60")), 0);
        play(&r, "QUIT\r\n");
        assert_string_equal(buf_cstr(&r.out), logins[i].answer);
        assert_int_equal(r.result, logins[i].result);
        run_finish(&r);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

#define POP3_COMMON "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\nLANG\r\n"

static void pop3_policy_is_announced(void **state)
{
    static const struct {
        struct pop3_policy policy;
        const char *text;
    } rows[] = {
        {{.login_delay = 120, .expire = 30}, "LOGIN-DELAY 120\r\nEXPIRE 30\r\n"},
        {{.expire = POP3_EXPIRE_NEVER}, "EXPIRE NEVER\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        _cleanup_buf_ struct buf text = BUF_INIT(512);

        assert_int_equal(pop3_add_capabilities(&rows[i].policy, &text), 0);
        assert_true(str_starts(buf_str(&text), STR(POP3_COMMON)));
        assert_string_equal(buf_cstr(&text) + sizeof(POP3_COMMON) - 1, rows[i].text);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, pop3_play_setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(uidl_forms),         TEST(pop3_policy_is_announced), TEST(a_wrong_policy_serves_nobody),
        TEST(expire_is_enforced), TEST(expire_at_quit),           TEST(expire_at_once),
        TEST(login_delay),        TEST(login_delay_of_a_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
