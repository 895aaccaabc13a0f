/*
 * shared/gate, what it does with files: dotlocks, the path of the spool file, the counters of failed logins.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/gate/dotlock.h"
#include "shared/gate/priv.h"
#include "shared/gate/session.h"
#include "shared/gate/throttle.h"

/* ---- dotlocks ---- */

struct place {
    char path[64];
    int folder;
};

static int make_place(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    if (!p)
        return -1;
    (void)snprintf(p->path, sizeof(p->path), "/tmp/test_gate.XXXXXX");
    if (!mkdtemp(p->path))
        return -1;
    p->folder = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = p;
    return p->folder < 0 ? -1 : 0;
}

static int remove_place(void **state)
{
    struct place *p = *state;

    (void)unlinkat(p->folder, "bob.lock", 0);
    (void)unlinkat(p->folder, "other.lock", 0);
    (void)unlinkat(p->folder, "bob", 0);
    (void)close(p->folder);
    (void)rmdir(p->path);
    free(p);
    return 0;
}

static void a_dotlock_keeps_others_out(void **state)
{
    struct place *p = *state;
    struct dotlock a;
    struct dotlock b;
    struct stat st;

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(dotlock_init(&b, p->folder, "bob"), 0);
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_try(&a), -EALREADY);
    assert_int_equal(dotlock_try(&b), -EAGAIN);
    assert_int_equal(fstatat(p->folder, "bob.lock", &st, 0), 0);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(dotlock_release(&b), -ESTALE);
    assert_int_equal(dotlock_touch(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
    assert_int_equal(dotlock_try(&b), 0);
    assert_int_equal(dotlock_release(&b), 0);
}

static void a_stale_dotlock_is_broken_a_fresh_one_is_not(void **state)
{
    struct place *p = *state;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - DOTLOCK_STALE + 30}};
    struct dotlock a;
    int fd = openat(p->folder, "bob.lock", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(utimensat(p->folder, "bob.lock", times, 0), 0);
    assert_int_equal(dotlock_try(&a), -EAGAIN);
    times[1].tv_sec -= 60;
    assert_int_equal(utimensat(p->folder, "bob.lock", times, 0), 0);
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
}

static void a_dotlock_of_a_killed_process_is_broken(void **state)
{
    struct place *p = *state;
    struct dotlock a;
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(dotlock_init(&a, p->folder, "bob") == 0 && dotlock_try(&a) == 0 ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(faccessat(p->folder, "bob.lock", F_OK, 0), 0);
    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(dotlock_try(&a), 0);
    assert_int_equal(dotlock_release(&a), 0);
}

static void a_dotlock_of_another_is_never_removed(void **state)
{
    struct place *p = *state;
    struct dotlock a;

    assert_int_equal(dotlock_init(&a, p->folder, "bob"), 0);
    assert_int_equal(dotlock_try(&a), 0);
    /* Somebody broke it and took his own. */
    assert_int_equal(unlinkat(p->folder, "bob.lock", 0), 0);
    assert_int_equal(close(openat(p->folder, "bob.lock", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)), 0);
    assert_int_equal(dotlock_touch(&a), -ESTALE);
    assert_int_equal(dotlock_release(&a), -ESTALE);
    assert_int_equal(faccessat(p->folder, "bob.lock", F_OK, 0), 0);
}

/* ---- sessions ---- */

static void the_spool_is_a_folder_or_the_box(void **state)
{
    struct place *p = *state;
    char box[128];
    char *path = NULL;

    assert_int_equal(session_spool_path(p->path, STR("bob"), &path), 0);
    (void)snprintf(box, sizeof(box), "%s/bob", p->path);
    assert_string_equal(path, box);
    free(path);
    assert_int_equal(session_spool_path(box, STR("bob"), &path), 0);
    assert_string_equal(path, box);
    free(path);
    assert_int_equal(session_spool_path("/nowhere/", STR("bob"), &path), 0);
    assert_string_equal(path, "/nowhere/bob");
    free(path);
    path = NULL;
    assert_int_equal(session_spool_path(p->path, STR("../root"), &path), -EINVAL);
    assert_int_equal(session_spool_path(p->path, STR(".hidden"), &path), -EINVAL);
    assert_int_equal(session_spool_path(p->path, STR(""), &path), -EINVAL);
    assert_int_equal(session_spool_path(p->path, (struct str){"a\0b", 3}, &path), -EINVAL);
    assert_null(path);
}

static void a_missing_spool_is_no_mailbox(void **state)
{
    struct conf conf;
    char *path = NULL;
    char *argv[] = {(char[]){"x"}, (char[]){"-c"}, (char[]){"/dev/null"}, (char[]){"-ospool=/nowhere/box"}, NULL};
    int argc = 4;

    (void)state;
    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("spool"), STR("/nowhere/mail")), 0);
    assert_int_equal(session_inbox(&conf, STR("bob"), STR("/home/bob"), &path), 0);
    assert_string_equal(path, "/nowhere/mail/bob");
    free(path);
    assert_int_equal(conf_set(&conf, STR("spool"), STR("%h/nowhere")), 0);
    assert_int_equal(session_inbox(&conf, STR("bob"), STR("/home/bob"), &path), 0);
    assert_string_equal(path, "/home/bob/nowhere");
    free(path);
    assert_int_equal(conf_args(&conf, &argc, argv), 0);
    assert_int_equal(session_inbox(&conf, STR("bob"), STR("/home/bob"), &path), 0);
    assert_string_equal(path, "/nowhere/box");
    free(path);
    conf_finish(&conf);
}

/* ---- failed logins ---- */

static void guessing_gets_slower(void **state)
{
    struct place *p = *state;
    struct conf conf;
    int64_t now = 1000000;
    unsigned last = 0;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    for (int i = 0; i < THROTTLE_FREE_ADDRESS; i++)
        assert_int_equal(throttle_delay(&conf, "192.0.2.1", STR("bob"), true, now), 0);
    for (int i = 0; i < 30; i++) {
        unsigned delay = throttle_delay(&conf, "192.0.2.1", STR("bob"), true, now);

        assert_true(delay >= last && delay <= THROTTLE_MAX);
        last = delay;
    }
    assert_int_equal(last, THROTTLE_MAX);
    /* The address, whoever is tried; the user, whoever tries; nobody else. */
    assert_int_equal(throttle_delay(&conf, "192.0.2.1", STR("eve"), false, now), THROTTLE_MAX);
    assert_int_equal(throttle_delay(&conf, "192.0.2.2", STR("bob"), false, now), THROTTLE_MAX);
    assert_int_equal(throttle_delay(&conf, "192.0.2.2", STR("eve"), false, now), 0);
    assert_int_equal(throttle_delay(&conf, "", STR(""), false, now), 0);
    /* It is forgotten. */
    assert_true(throttle_delay(&conf, "192.0.2.1", STR("bob"), false, now + 2 * THROTTLE_HALF) < THROTTLE_MAX);
    assert_int_equal(throttle_delay(&conf, "192.0.2.1", STR("bob"), false, now + 10 * THROTTLE_HALF), 0);
    conf_finish(&conf);
    (void)unlinkat(p->folder, THROTTLE_FILE, 0);
}

static void addresses_of_one_ipv6_network_count_as_one(void **state)
{
    struct place *p = *state;
    struct conf conf;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    for (int i = 0; i < 8; i++) {
        char address[64];

        (void)snprintf(address, sizeof(address), "2001:db8:0:1::%x", i + 1);
        (void)throttle_delay(&conf, address, STR(""), true, 5);
    }
    assert_int_equal(throttle_delay(&conf, "2001:db8:0:1:ffff::1", STR(""), false, 5), 8 - THROTTLE_FREE_ADDRESS);
    assert_int_equal(throttle_delay(&conf, "2001:db8:0:2::1", STR(""), false, 5), 0);
    conf_finish(&conf);
    (void)unlinkat(p->folder, THROTTLE_FILE, 0);
}

static void connections_of_a_minute_are_counted(void **state)
{
    struct place *p = *state;
    struct conf conf;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    for (uint64_t i = 1; i <= 20; i++)
        assert_int_equal(throttle_connections(&conf, "192.0.2.1", 1000 + (int64_t)i), i);
    assert_int_equal(throttle_connections(&conf, "192.0.2.2", 1020), 1);
    assert_int_equal(throttle_connections(&conf, "2001:db8::1", 1020), 1);
    assert_int_equal(throttle_connections(&conf, "2001:db8::2", 1020), 2);
    assert_int_equal(throttle_connections(&conf, "192.0.2.1", 1001 + THROTTLE_WINDOW), 1);
    assert_int_equal(throttle_connections(&conf, "192.0.2.1", 900), 1); /* a clock that was set back */
    assert_int_equal(throttle_delay(&conf, "192.0.2.1", STR("bob"), false, 1000), 0);
    conf_finish(&conf);
    (void)unlinkat(p->folder, THROTTLE_FILE, 0);
    (void)unlinkat(p->folder, THROTTLE_RATES, 0);
}

/* Names nobody has chosen well must not push out the one that is under attack. */
static void many_names_do_not_hide_one(void **state)
{
    struct place *p = *state;
    struct conf conf;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    for (int i = 0; i < 40; i++)
        (void)throttle_delay(&conf, "192.0.2.1", STR("bob"), true, 5);
    for (int i = 0; i < 20000; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "user%d", i);
        (void)throttle_delay(&conf, "", str_from(name), true, 5);
    }
    assert_int_equal(throttle_delay(&conf, "", STR("bob"), false, 5), THROTTLE_MAX);
    conf_finish(&conf);
    (void)unlinkat(p->folder, THROTTLE_FILE, 0);
}

/* The state folder of a session that was given these overrides. */
static char *state_with(const char *overrides, size_t len, const char *spool)
{
    struct session s = {.user = strdup("alice"), .home = strdup("/home/alice"), .control = -1};
    struct conf c;
    char *state;

    assert_int_equal(conf_init(&c), 0);
    assert_int_equal(conf_set(&c, STR("spool"), str_from(spool)), 0);
    assert_int_equal(buf_add(&c.overrides, overrides, len), 0);
    assert_int_equal(session_paths(&c, &s), 0);
    state = strdup(s.state);
    session_finish(&s);
    conf_finish(&c);
    return state;
}

/* Mail that is not the configured has a state of its own, unless one is named. */
static void other_mail_has_a_state_of_its_own(void **state)
{
    static const char own[] = "-o\0timeout_imap=60\0", tried[] = "-o\0spool = x\0",
                      named[] = "-o\0spool=x\0-o\0state=y\0";
    char *real = state_with(own, sizeof(own) - 1, "/var/mail");
    char *same = state_with(named, sizeof(named) - 1, "/tmp/pennypost-a");
    char *a = state_with(tried, sizeof(tried) - 1, "/tmp/pennypost-a");
    char *again = state_with(tried, sizeof(tried) - 1, "/tmp/./pennypost-a");
    char *b = state_with(tried, sizeof(tried) - 1, "/tmp/pennypost-b");

    (void)state;
    assert_string_equal(real, "/home/alice/.local/state/pennypost");
    assert_int_equal(strncmp(a, "/home/alice/.local/state/pennypost/at-", 38), 0);
    assert_string_equal(a, again);
    assert_string_not_equal(a, b);
    assert_null(strstr(same, "/at-"));
    free(real);
    free(same);
    free(a);
    free(again);
    free(b);
}

/* ---- accounts ---- */

static void a_told_account_is_believed_for_its_name_only(void **state)
{
    static const char *const wrong[] = {"pennypost-login",
                                        "pennypost-login:1",
                                        "pennypost-login:1:",
                                        "pennypost-login:-1:2",
                                        "pennypost-login:1:2:3",
                                        "pennypost-tls:1:2",
                                        ""};
    uid_t uid = 7;
    gid_t gid = 8;

    (void)state;
    (void)unsetenv(PRIV_ACCOUNT_ENV);
    assert_int_equal(priv_account_given(PRIV_USER_LOGIN, &uid, &gid), -ENOENT);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        (void)setenv(PRIV_ACCOUNT_ENV, wrong[i], 1);
        assert_int_equal(priv_account_given(PRIV_USER_LOGIN, &uid, &gid), -ENOENT);
    }
    assert_int_equal(uid, 7);
    assert_int_equal(gid, 8);
    (void)setenv(PRIV_ACCOUNT_ENV, "pennypost-login:904:905", 1);
    assert_int_equal(priv_account_given(PRIV_USER_LOGIN, &uid, &gid), 0);
    assert_int_equal(uid, 904);
    assert_int_equal(gid, 905);
    (void)unsetenv(PRIV_ACCOUNT_ENV);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_dotlock_keeps_others_out, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_stale_dotlock_is_broken_a_fresh_one_is_not, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_dotlock_of_a_killed_process_is_broken, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_dotlock_of_another_is_never_removed, make_place, remove_place),
        cmocka_unit_test(a_missing_spool_is_no_mailbox),
        cmocka_unit_test_setup_teardown(the_spool_is_a_folder_or_the_box, make_place, remove_place),
        cmocka_unit_test_setup_teardown(guessing_gets_slower, make_place, remove_place),
        cmocka_unit_test_setup_teardown(addresses_of_one_ipv6_network_count_as_one, make_place, remove_place),
        cmocka_unit_test_setup_teardown(connections_of_a_minute_are_counted, make_place, remove_place),
        cmocka_unit_test_setup_teardown(many_names_do_not_hide_one, make_place, remove_place),
        cmocka_unit_test(other_mail_has_a_state_of_its_own),
        cmocka_unit_test(a_told_account_is_believed_for_its_name_only),
    };

    (void)argc;
    (void)argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
