/*
 * shared/gate, what it does with files: the path of the spool file, the counters of failed logins.
 */
#include "tests/unit/gate_place.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "shared/gate/keeper_parts.h"
#include "shared/gate/priv.h"
#include "shared/gate/session.h"
#include "shared/gate/throttle.h"
#include "shared/gate/tickets.h"
#include "shared/gate/tls.h"

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

/* ---- the keeper's folder ---- */

/* The group of the files that a keeper makes for uid and gid 60001 with this `spool`; or a negative errno. */
static int group_of_files(const char *spool, char *home)
{
    struct conf conf;
    struct keeper k = {
        .conf = &conf, .folder = -1, .user = {.name = (char[]){"bob"}, .home = home, .uid = 60001, .gid = 60001}};
    int r = 0;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("spool"), str_from(spool)), 0);
    r = keeper_open_folder(&k);
    if (k.folder >= 0)
        (void)close(k.folder);
    conf_finish(&conf);
    return r < 0 ? r : (int)k.group;
}

/* A link in a home leads to where another group may write, or nobody: that is no way to its rights. */
static void a_home_lends_no_rights(void **state)
{
    struct place *p = *state;
    char folder[128], home[128], link[192];

    if (!priv_is_root())
        skip();
    (void)snprintf(folder, sizeof(folder), "%s/mail", p->path);
    (void)snprintf(home, sizeof(home), "%s/home", p->path);
    (void)snprintf(link, sizeof(link), "%s/in", home);
    assert_int_equal(chmod(p->path, 0755), 0);
    assert_int_equal(mkdir(folder, 0755), 0);
    assert_int_equal(mkdir(home, 0755), 0);
    assert_int_equal(symlink(folder, link), 0);
    assert_int_equal(chown(folder, 0, 8), 0);
    assert_int_equal(chmod(folder, 02775), 0);
    assert_int_equal(group_of_files(folder, home), 8);
    assert_int_equal(group_of_files("%h/in/box", home), 60001);
    assert_int_equal(chmod(folder, 02770), 0);
    assert_int_equal(group_of_files(folder, home), 8);
    assert_int_equal(group_of_files("%h/in/box", home), -EACCES);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(rmdir(home), 0);
    assert_int_equal(rmdir(folder), 0);
}

/* ---- failed logins ---- */

static void guessing_gets_slower(void **state)
{
    struct place *p = *state;
    struct conf conf;
    int fd;
    int64_t now = 1000000;
    int other, none = -1;
    unsigned last = 0;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    fd = throttle_open(&conf);
    assert_true(fd >= 0);
    for (int i = 0; i < THROTTLE_FREE_ADDRESS; i++)
        assert_int_equal(throttle_delay(&fd, "192.0.2.1", STR("bob"), true, now), 0);
    for (int i = 0; i < 30; i++) {
        unsigned delay = throttle_delay(&fd, "192.0.2.1", STR("bob"), true, now);

        assert_true(delay >= last && delay <= THROTTLE_MAX);
        last = delay;
    }
    assert_int_equal(last, THROTTLE_MAX);
    /* The address, whoever is tried; the user, whoever tries; nobody else. */
    assert_int_equal(throttle_delay(&fd, "192.0.2.1", STR("eve"), false, now), THROTTLE_MAX);
    assert_int_equal(throttle_delay(&fd, "192.0.2.2", STR("bob"), false, now), THROTTLE_MAX);
    assert_int_equal(throttle_delay(&fd, "192.0.2.2", STR("eve"), false, now), 0);
    assert_int_equal(throttle_delay(&fd, "", STR(""), false, now), 0);
    /* So for another who looks at it meanwhile, who need not wait. */
    other = throttle_open(&conf);
    assert_true(other >= 0);
    assert_int_equal(throttle_delay(&other, "192.0.2.1", STR("eve"), false, now), THROTTLE_MAX);
    (void)close(other);
    assert_int_equal(throttle_delay(&none, "192.0.2.1", STR("eve"), false, now), 0);
    /* It is forgotten. */
    assert_true(throttle_delay(&fd, "192.0.2.1", STR("bob"), false, now + 2 * THROTTLE_HALF) < THROTTLE_MAX);
    assert_int_equal(throttle_delay(&fd, "192.0.2.1", STR("bob"), false, now + 10 * THROTTLE_HALF), 0);
    (void)close(fd);
    conf_finish(&conf);
    (void)unlinkat(p->folder, THROTTLE_FILE, 0);
}

static void addresses_of_one_ipv6_network_count_as_one(void **state)
{
    struct place *p = *state;
    struct conf conf;
    int fd;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    fd = throttle_open(&conf);
    assert_true(fd >= 0);
    for (int i = 0; i < 8; i++) {
        char address[64];

        (void)snprintf(address, sizeof(address), "2001:db8:0:1::%x", i + 1);
        (void)throttle_delay(&fd, address, STR(""), true, 5);
    }
    assert_int_equal(throttle_delay(&fd, "2001:db8:0:1:ffff::1", STR(""), false, 5), 8 - THROTTLE_FREE_ADDRESS);
    assert_int_equal(throttle_delay(&fd, "2001:db8:0:2::1", STR(""), false, 5), 0);
    (void)close(fd);
    conf_finish(&conf);
    (void)unlinkat(p->folder, THROTTLE_FILE, 0);
}

static void connections_of_a_minute_are_counted(void **state)
{
    struct place *p = *state;
    struct conf conf;
    int fd;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    fd = throttle_open(&conf);
    assert_true(fd >= 0);
    for (uint64_t i = 1; i <= 20; i++)
        assert_int_equal(throttle_connections(&conf, "192.0.2.1", 1000 + (int64_t)i), i);
    assert_int_equal(throttle_connections(&conf, "192.0.2.2", 1020), 1);
    assert_int_equal(throttle_connections(&conf, "2001:db8::1", 1020), 1);
    assert_int_equal(throttle_connections(&conf, "2001:db8::2", 1020), 2);
    assert_int_equal(throttle_connections(&conf, "192.0.2.1", 1001 + THROTTLE_WINDOW), 1);
    assert_int_equal(throttle_connections(&conf, "192.0.2.1", 900), 1); /* a clock that was set back */
    assert_int_equal(throttle_delay(&fd, "192.0.2.1", STR("bob"), false, 1000), 0);
    (void)close(fd);
    conf_finish(&conf);
    (void)unlinkat(p->folder, THROTTLE_FILE, 0);
    (void)unlinkat(p->folder, THROTTLE_RATES, 0);
}

/* Names nobody has chosen well must not push out the one that is under attack. */
static void many_names_do_not_hide_one(void **state)
{
    struct place *p = *state;
    struct conf conf;
    int fd;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    fd = throttle_open(&conf);
    assert_true(fd >= 0);
    for (int i = 0; i < 40; i++)
        (void)throttle_delay(&fd, "192.0.2.1", STR("bob"), true, 5);
    for (int i = 0; i < 20000; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "user%d", i);
        (void)throttle_delay(&fd, "", str_from(name), true, 5);
    }
    assert_int_equal(throttle_delay(&fd, "", STR("bob"), false, 5), THROTTLE_MAX);
    (void)close(fd);
    conf_finish(&conf);
    (void)unlinkat(p->folder, THROTTLE_FILE, 0);
}

/* ---- keys of session tickets ---- */

#define TICKETS_ROOM (TICKETS_KEYS * TICKETS_KEY + 1) /* one byte more than there may be */

/* Opens the file and reads all of it; the number of keys. */
static size_t read_tickets(const struct conf *conf, unsigned char out[static TICKETS_ROOM])
{
    ssize_t n;
    int fd = -1;

    assert_int_equal(tickets_open(conf, &fd), 0);
    n = read(fd, out, TICKETS_ROOM);
    (void)close(fd);
    assert_true(n > 0 && n % TICKETS_KEY == 0);
    return (size_t)n / TICKETS_KEY;
}

static void set_age(const struct place *p, time_t age)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - age}};

    assert_int_equal(utimensat(p->folder, TICKETS_FILE, times, 0), 0);
}

static void ticket_keys_are_shared_and_rotate(void **state)
{
    struct place *p = *state;
    struct conf conf;
    struct stat st;
    unsigned char first[TICKETS_ROOM], now[TICKETS_ROOM];

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    assert_int_equal(read_tickets(&conf, first), 1);
    assert_int_equal(fstatat(p->folder, TICKETS_FILE, &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    set_age(p, TICKETS_LIFETIME - 3600);
    assert_int_equal(read_tickets(&conf, now), 1);
    assert_memory_equal(now, first, TICKETS_KEY);
    for (size_t i = 1; i < 6; i++) {
        memcpy(first, now, sizeof(first));
        set_age(p, i % 2 == 0 ? TICKETS_LIFETIME + 1 : -3600); /* old, or from the future */
        assert_int_equal(read_tickets(&conf, now), i < TICKETS_KEYS ? i + 1 : TICKETS_KEYS);
        assert_memory_not_equal(now, first, TICKETS_KEY);
        assert_memory_equal(now + TICKETS_KEY, first, (i < TICKETS_KEYS ? i : TICKETS_KEYS - 1) * TICKETS_KEY);
    }
    conf_finish(&conf);
    assert_int_equal(unlinkat(p->folder, TICKETS_FILE, 0), 0); /* and nothing else is left in the folder */
}

/* Keys that somebody else can read, or has written, are none. */
static void ticket_keys_of_others_are_not_used(void **state)
{
    struct place *p = *state;
    struct conf conf;
    unsigned char mine[TICKETS_ROOM] = {0}, now[TICKETS_ROOM];
    int fd;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("runtime"), str_from(p->path)), 0);
    for (int kind = 0; kind < 4; kind++) {
        fd = openat(p->folder, kind == 1 ? "bob" : TICKETS_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, mine, kind == 2 ? 79 : TICKETS_KEY), kind == 2 ? 79 : TICKETS_KEY);
        if (kind == 0)
            assert_int_equal(fchmod(fd, 0640), 0);
        if (kind == 1)
            assert_int_equal(symlinkat("bob", p->folder, TICKETS_FILE), 0);
        if (kind == 3 && fchown(fd, 12345, 12345) < 0) /* not root */
            assert_int_equal(unlinkat(p->folder, TICKETS_FILE, 0), 0);
        (void)close(fd);
        assert_true(read_tickets(&conf, now) >= 1);
        assert_memory_not_equal(now, mine, TICKETS_KEY);
        assert_int_equal(unlinkat(p->folder, TICKETS_FILE, 0), 0);
    }
    conf_finish(&conf);
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

/* RFC 4514 2.3, 2.4: nothing that had to be escaped names a user. */
static void the_common_name_is_found_in_a_subject(void **state)
{
    static const struct {
        const char *subject, *name;
    } rows[] = {{"CN=bob,O=Example", "bob"},
                {"O=Example,CN=bob", "bob"},
                {"CN=bob", "bob"},
                {"CN=a,CN=b", "a"},
                {"O=Example", ""},
                {"CN=", ""},
                {"", ""},
                {"O=CN=bob", ""},
                {"CN=bo\\,b", ""},
                {"CN=bob,O=a\\+b", ""},
                {",CN=bob", "bob"},
                {"CN=bob,", "bob"}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str name = tls_common_name(str_from(rows[i].subject));

        if (!str_eq(name, str_from(rows[i].name)))
            fail_msg("%s: \"%.*s\"", rows[i].subject, STR_ARG(name));
    }
}

/* ---- accounts ---- */

/* What one process says of an account, and another believes as far as it can be an account. */
static void accounts_in_frames_are_checked(void **state)
{
    gid_t groups[PRIV_GROUPS_MAX + 1] = {60001, 8};
    const struct str two = {(const char *)groups, 2 * sizeof(*groups)}, odd = {two.ptr, 7},
                     many = {two.ptr, sizeof(groups)};
    static char long_name[LIMIT_USER + 2], long_home[LIMIT_PATHNAME + 2];
    struct priv_user u;

    (void)state;
    memset(long_name, 'x', LIMIT_USER + 1);
    memset(long_home, 'x', LIMIT_PATHNAME + 1);
    assert_int_equal(priv_user_make(&u, STR("bob"), STR("/home/bob"), 60001, 60002, two), 0);
    assert_string_equal(u.name, "bob");
    assert_string_equal(u.home, "/home/bob");
    assert_int_equal(u.uid, 60001);
    assert_int_equal(u.gid, 60002);
    assert_int_equal(u.group_count, 2);
    assert_true(str_eq(priv_user_groups(&u), two));
    priv_user_finish(&u);
    assert_int_equal(priv_user_make(&u, STR(""), STR("/"), 60001, 60001, two), -EBADMSG);
    assert_int_equal(priv_user_make(&u, str_from(long_name), STR("/"), 60001, 60001, two), -EBADMSG);
    assert_int_equal(priv_user_make(&u, STR("b\0b"), STR("/"), 60001, 60001, two), -EBADMSG);
    assert_int_equal(priv_user_make(&u, STR("bob"), STR("/\0"), 60001, 60001, two), -EBADMSG);
    assert_int_equal(priv_user_make(&u, STR("bob"), str_from(long_home), 60001, 60001, two), -EBADMSG);
    assert_int_equal(priv_user_make(&u, STR("bob"), STR("/"), 60001, 60001, odd), -EBADMSG);
    assert_int_equal(priv_user_make(&u, STR("bob"), STR("/"), 60001, 60001, many), -EBADMSG);
}

static void service_accounts_are_listed(void **state)
{
    uid_t uid = 1;
    gid_t gid = 1;

    (void)state;
    assert_int_equal(priv_account_listed("root", &uid, &gid), 0);
    assert_int_equal(uid | gid, 0);
    assert_int_equal(priv_account_listed("no-such-account", &uid, &gid), -ENOENT);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_spool_is_no_mailbox),
        cmocka_unit_test_setup_teardown(the_spool_is_a_folder_or_the_box, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_home_lends_no_rights, make_place, remove_place),
        cmocka_unit_test_setup_teardown(guessing_gets_slower, make_place, remove_place),
        cmocka_unit_test_setup_teardown(addresses_of_one_ipv6_network_count_as_one, make_place, remove_place),
        cmocka_unit_test_setup_teardown(connections_of_a_minute_are_counted, make_place, remove_place),
        cmocka_unit_test_setup_teardown(many_names_do_not_hide_one, make_place, remove_place),
        cmocka_unit_test_setup_teardown(ticket_keys_are_shared_and_rotate, make_place, remove_place),
        cmocka_unit_test_setup_teardown(ticket_keys_of_others_are_not_used, make_place, remove_place),
        cmocka_unit_test(other_mail_has_a_state_of_its_own),
        cmocka_unit_test(a_told_account_is_believed_for_its_name_only),
        cmocka_unit_test(accounts_in_frames_are_checked),
        cmocka_unit_test(service_accounts_are_listed),
        cmocka_unit_test(the_common_name_is_found_in_a_subject),
    };

    (void)argc;
    (void)argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
