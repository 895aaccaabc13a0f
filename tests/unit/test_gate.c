/*
 * shared/gate: addresses and networks, the permit table, the report of T, capabilities and system calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/base/macros.h"
#include "shared/gate/chain.h"
#include "shared/gate/confine.h"
#include "shared/gate/peer.h"
#include "shared/gate/permit.h"
#include "shared/gate/tls.h"
#include "shared/io/frame_types.h"

/* ---- peers ---- */

static void networks_match_by_prefix(void **state)
{
    static const struct {
        const char *address, *networks;
        bool is_inside;
    } cases[] = {
        {"192.0.2.1", "192.0.2.0/24", true},
        {"192.0.3.1", "192.0.2.0/24", false},
        {"192.0.2.129", "10.0.0.0/8 192.0.2.128/25", true},
        {"192.0.2.127", "192.0.2.128/25", false},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "0.0.0.0/0", true},
        {"192.0.2.1", "::ffff:192.0.2.0/120", true},
        {"2001:db8::1", "0.0.0.0/0", false},
        {"2001:db8::1", "2001:db8::/32", true},
        {"2001:db9::1", "2001:db8::/32", false},
        {"2001:db8::1", "::/0", true},
        {"fe80::1%eth0", "fe80::/10", true},
        {"192.0.2.1", "192.0.2.0/33", false},
        {"192.0.2.1", "192.0.2.0/x nonsense /", false},
        {"192.0.2.1", "", false},
        {"local", "local", true},
        {"local", "0.0.0.0/0 ::/0", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (peer_in_networks(cases[i].address, str_from(cases[i].networks)) != cases[i].is_inside)
            fail_msg("%s in \"%s\"", cases[i].address, cases[i].networks);
}

static void addresses_are_checked_and_normalised(void **state)
{
    struct peer p = {.port = 7};

    (void)state;
    assert_int_equal(peer_from_text(STR("2001:DB8:0::1"), 1, STR("2001:db8::2"), 2, &p), 0);
    assert_string_equal(p.address, "2001:db8::1");
    assert_string_equal(p.local, "2001:db8::2");
    assert_false(p.is_loopback);
    assert_int_equal(peer_from_text(STR("::ffff:127.1.2.3"), 1, STR(""), 0, &p), 0);
    assert_string_equal(p.address, "127.1.2.3");
    assert_true(p.is_loopback);
    assert_int_equal(peer_from_text(STR("mail.example"), 1, STR(""), 0, &p), -EINVAL);
    assert_int_equal(peer_from_text(STR("1.2.3.4\n"), 1, STR(""), 0, &p), -EINVAL);
    assert_int_equal(peer_from_text(STR(""), 1, STR(""), 0, &p), -EINVAL);
    assert_string_equal(p.address, "127.1.2.3");
}

static void a_pipe_is_no_peer(void **state)
{
    int fds[2];
    struct peer p;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    peer_find(fds[0], &p);
    assert_int_equal(p.kind, PEER_PIPE);
    assert_string_equal(p.address, "stdin");
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void only_unix_sockets_have_credentials(void **state)
{
    uid_t uid = 12345;
    int pair[2], ends[2], tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(tcp >= 0);
    assert_int_equal(peer_credentials(tcp, &uid), -EPROTOTYPE);
    assert_int_equal(peer_credentials(ends[0], &uid), -ENOTSOCK);
    assert_int_equal(uid, 12345);
    assert_int_equal(peer_credentials(pair[0], &uid), 0);
    assert_int_equal(uid, geteuid());
    for (size_t i = 0; i < 2; i++) {
        (void)close(pair[i]);
        (void)close(ends[i]);
    }
    (void)close(tcp);
}

static void the_environment_names_the_client_of_a_pipe(void **state)
{
    int fds[2];
    struct peer p;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    peer_find(fds[0], &p);
    assert_int_equal(p.kind, PEER_LOCAL);
    assert_true(p.is_loopback);
    assert_int_equal(setenv("TCPREMOTEIP", "192.0.2.9", 1), 0);
    assert_int_equal(setenv("TCPREMOTEPORT", "1234", 1), 0);
    peer_find(fds[0], &p);
    assert_int_equal(p.kind, PEER_INET);
    assert_string_equal(p.address, "192.0.2.9");
    assert_int_equal(p.port, 1234);
    assert_false(p.is_loopback);
    assert_int_equal(unsetenv("TCPREMOTEIP"), 0);
    assert_int_equal(unsetenv("TCPREMOTEPORT"), 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* ---- the permit table ---- */

static int count_call(void *context, struct frame *f, struct frame_reader *in)
{
    int *calls = context;

    (void)f;
    ++*calls;
    return frame_end(in);
}

static void only_what_is_permitted_runs(void **state)
{
    static const struct permit table[] = {
        {FRAME_STARTTLS, 1, 1u << 0, count_call},
        {FRAME_NOTE, 0, 1u << 0 | 1u << 1, count_call},
    };
    struct permit_use use = {0};
    struct frame f = FRAME_INIT;
    int calls = 0;

    (void)state;
    frame_begin(&f, FRAME_STARTTLS);
    assert_int_equal(permit_run(table, ARRAY_SIZE(table), &use, 1, &calls, &f), -EPERM);
    assert_int_equal(permit_run(table, ARRAY_SIZE(table), &use, 0, &calls, &f), 0);
    assert_int_equal(permit_run(table, ARRAY_SIZE(table), &use, 0, &calls, &f), -EPERM);
    assert_int_equal(calls, 1);
    frame_begin(&f, FRAME_NOTE);
    for (int i = 0; i < 5; i++)
        assert_int_equal(permit_run(table, ARRAY_SIZE(table), &use, 1, &calls, &f), 0);
    assert_int_equal(calls, 6);
    frame_begin(&f, FRAME_HANDOVER);
    assert_int_equal(permit_run(table, ARRAY_SIZE(table), &use, 0, &calls, &f), -ENOENT);
    frame_begin(&f, FRAME_NOTE);
    assert_int_equal(frame_put_u32(&f, 1), 0);
    assert_int_equal(permit_run(table, ARRAY_SIZE(table), &use, 0, &calls, &f), -EBADMSG);
    frame_finish(&f);
}

/* ---- T's report ---- */

static int put_facts(struct frame *f, const char *version, uint32_t is_resumed, struct str exporter)
{
    frame_begin(f, FRAME_TLS_FACTS);
    return frame_put_str(f, str_from(version)) < 0 || frame_put_str(f, STR("TLS_AES_256_GCM_SHA384")) < 0 ||
                   frame_put_str(f, STR("")) < 0 || frame_put_str(f, exporter) < 0 || frame_put_str(f, STR("")) < 0 ||
                   frame_put_str(f, STR("imap")) < 0 || frame_put_u32(f, is_resumed) < 0
               ? -1
               : 0;
}

static void the_report_of_tls_is_checked(void **state)
{
    struct frame f = FRAME_INIT;
    struct tls_facts t;
    char large[65] = {0};

    (void)state;
    assert_int_equal(put_facts(&f, "TLSv1.3", 1, STR("0123456789abcdef0123456789abcdef")), 0);
    assert_int_equal(tls_facts_read(&f, &t), 0);
    assert_string_equal(t.version, "TLSv1.3");
    assert_int_equal(t.exporter_len, 32);
    assert_true(t.is_resumed);
    assert_int_equal(frame_put_u32(&f, 0), 0);
    assert_int_equal(tls_facts_read(&f, &t), -EBADMSG);
    assert_int_equal(put_facts(&f, "TLSv1.3", 2, STR("")), 0);
    assert_int_equal(tls_facts_read(&f, &t), -EBADMSG);
    assert_int_equal(put_facts(&f, "", 0, STR("")), 0);
    assert_int_equal(tls_facts_read(&f, &t), -EBADMSG);
    assert_int_equal(put_facts(&f, "TLSv1.3\n", 0, STR("")), 0);
    assert_int_equal(tls_facts_read(&f, &t), -EBADMSG);
    assert_int_equal(put_facts(&f, "TLSv1.3", 0, (struct str){large, sizeof(large)}), 0);
    assert_int_equal(tls_facts_read(&f, &t), -EBADMSG);
    frame_finish(&f);
}

/* ---- giving up ---- */

/* Runs `body` in a child and returns its wait status. */
static int in_child(int (*body)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(body());
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int keep_nothing(void)
{
    char line[256];
    FILE *f = NULL;
    int found = 0;

    if (priv_keep_capabilities(0) < 0 || priv_no_new_privs() < 0)
        return 1;
    f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof(line), f)) {
        unsigned long long set = 0;

        if (sscanf(line, "CapPrm: %llx", &set) == 1 || sscanf(line, "CapEff: %llx", &set) == 1 ||
            sscanf(line, "CapInh: %llx", &set) == 1 || sscanf(line, "CapAmb: %llx", &set) == 1)
            found += set == 0 ? 1 : 100;
        if (strcmp(line, "NoNewPrivs:\t1\n") == 0)
            found++;
    }
    if (f)
        (void)fclose(f);
    return found == 5 ? 0 : 2;
}

static void capabilities_are_gone(void **state)
{
    (void)state;
    assert_int_equal(in_child(keep_nothing), 0);
}

static int open_in_sandbox(void)
{
    if (priv_no_new_privs() < 0 || sandbox_enter(SANDBOX_LOGIN) < 0)
        return 1;
    return open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0 ? 2 : 3;
}

static int socket_in_sandbox(void)
{
    if (priv_no_new_privs() < 0 || sandbox_enter(SANDBOX_TLS) < 0)
        return 1;
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 ? 2 : 3;
}

static int kill_in_sandbox(void)
{
    if (priv_no_new_privs() < 0 || sandbox_enter(SANDBOX_LOGIN) < 0)
        return 1;
    return kill(getppid(), 0) == 0 ? 2 : 3;
}

/* F_SETOWN and F_SETSIG make the kernel send signals that kill() may not. */
static int own_in_sandbox(void)
{
    pid_t parent = getppid();

    if (priv_no_new_privs() < 0 || sandbox_enter(SANDBOX_LOGIN) < 0)
        return 1;
    return fcntl(STDIN_FILENO, F_SETOWN, parent) == 0 ? 2 : 3;
}

static int async_in_sandbox(void)
{
    if (priv_no_new_privs() < 0 || sandbox_enter(SANDBOX_TLS) < 0)
        return 1;
    return fcntl(STDIN_FILENO, F_SETFL, O_ASYNC | O_NONBLOCK) == 0 ? 2 : 3;
}

static int pair_in_sandbox(void)
{
    int pair[2];

    if (priv_no_new_privs() < 0 || sandbox_enter(SANDBOX_RESOLVE) < 0)
        return 1;
    return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0 ? 2 : 3;
}

/* What relay-session is given is the queue's file, which a stranger's server must not get to shorten. */
static int cut_in_sandbox(void)
{
    int fd = memfd_create("message", MFD_CLOEXEC);

    if (fd < 0 || priv_no_new_privs() < 0 || sandbox_enter(SANDBOX_RELAY) < 0)
        return 1;
    return ftruncate(fd, 0) == 0 ? 2 : 3;
}

static int look_in_sandbox(void)
{
    int copy = -1;
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0 || priv_no_new_privs() < 0 || sandbox_enter(SANDBOX_TLS) < 0)
        return 1;
    copy = fcntl(fds[0], F_DUPFD_CLOEXEC, 5);
    return copy >= 5 && fcntl(copy, F_GETFD) == FD_CLOEXEC && fcntl(copy, F_SETFL, O_NONBLOCK) == 0 &&
                   (fcntl(copy, F_GETFL) & O_NONBLOCK)
               ? 0
               : 2;
}

static int write_in_sandbox(void)
{
    int fds[2];
    char c = 0;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 || priv_no_new_privs() < 0 ||
        sandbox_enter(SANDBOX_LOGIN) < 0)
        return 1;
    return write(fds[0], "x", 1) == 1 && read(fds[1], &c, 1) == 1 && c == 'x' ? 0 : 2;
}

static void the_sandbox_kills(void **state)
{
    (void)state;
    if (!sandbox_is_built())
        skip();
    assert_true(WIFSIGNALED(in_child(open_in_sandbox)));
    assert_true(WIFSIGNALED(in_child(socket_in_sandbox)));
    assert_true(WIFSIGNALED(in_child(kill_in_sandbox)));
    assert_true(WIFSIGNALED(in_child(own_in_sandbox)));
    assert_true(WIFSIGNALED(in_child(async_in_sandbox)));
    assert_true(WIFSIGNALED(in_child(cut_in_sandbox)));
    assert_int_equal(WEXITSTATUS(in_child(pair_in_sandbox)), 3); /* refused: libcurl goes on without */
    assert_int_equal(in_child(look_in_sandbox), 0);
    assert_int_equal(in_child(write_in_sandbox), 0);
}

static int become_root(void)
{
    struct priv_user root = {.uid = 0, .gid = 0};

    return priv_become(&root) == -EPERM ? 0 : 1;
}

static void nobody_becomes_root(void **state)
{
    (void)state;
    assert_int_equal(in_child(become_root), 0);
}

/* ---- chain ---- */

#define LIFE_MS 600000 /* of what must be ended: far longer than anybody looks for it */

static void a_missing_program_is_said(void **state)
{
    struct chain_spec spec = {CHAIN_SPEC("no-such-program"), .has_control = true};
    struct chain_child child = CHAIN_CHILD_NONE;

    (void)state;
    assert_int_equal(chain_spawn(&spec, &child), -ENOENT);
    assert_int_equal(child.pid, 0);
    assert_int_equal(child.control, -1);
}

/* What auth is where a PAM module crashes: the leader of a group in which something is left. */
static int leave_a_child(void)
{
    pid_t pid = setsid() < 0 ? -1 : fork();

    if (pid == 0)
        (void)poll(NULL, 0, LIFE_MS);
    if (pid > 0 && write(3, &pid, sizeof(pid)) == (ssize_t)sizeof(pid))
        (void)raise(SIGKILL);
    return 0;
}

/* What auth is where a PAM module's program hangs: below it is something that leads a session of its own, and something
 * whose parent has ended. */
static int breed(void)
{
    pid_t leader = fork(), parent, pids[2] = {leader, 0};
    int fds[2];

    if (leader == 0) {
        (void)setsid();
        (void)poll(NULL, 0, LIFE_MS);
    }
    if (pipe(fds) < 0 || (parent = fork()) < 0)
        return 1;
    if (parent == 0) {
        pid_t orphan = setsid() < 0 ? -1 : fork();

        if (orphan == 0)
            (void)poll(NULL, 0, LIFE_MS);
        return write(fds[1], &orphan, sizeof(orphan)) == (ssize_t)sizeof(orphan) ? 0 : 1;
    }
    if (waitpid(parent, NULL, 0) != parent || read(fds[0], &pids[1], sizeof(pids[1])) != (ssize_t)sizeof(pids[1]) ||
        write(3, pids, sizeof(pids)) != (ssize_t)sizeof(pids))
        return 1;
    (void)poll(NULL, 0, LIFE_MS);
    return 0;
}

/* Gone, or only not yet reaped by whoever has to. */
static bool is_gone(pid_t pid)
{
    char path[64], line[256] = "";
    FILE *f = NULL;
    bool is_there;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    is_there = f && fgets(line, sizeof(line), f) && !strstr(line, ") Z ");
    if (f)
        (void)fclose(f);
    return !is_there;
}

static void what_a_crashed_program_leaves_is_ended(void **state)
{
    struct chain_spec spec = {CHAIN_SPEC("test_gate"), .arguments = {"leave"}, .has_control = true};
    struct chain_child child = CHAIN_CHILD_NONE;
    pid_t left = 0;
    int status;

    (void)state;
    assert_int_equal(chain_spawn(&spec, &child), 0);
    assert_int_equal(recv(child.control, &left, sizeof(left), 0), sizeof(left));
    assert_true(left > 0);
    status = chain_end(&child, 60000);
    assert_true(status >= 0 && WIFSIGNALED(status));
    for (int i = 0; i < 3000 && !is_gone(left); i++)
        (void)poll(NULL, 0, 20);
    assert_true(is_gone(left));
}

static void what_hangs_is_ended_with_all_below_it(void **state)
{
    struct chain_spec spec = {CHAIN_SPEC("test_gate"), .arguments = {"breed"}, .has_control = true, .is_reaper = true};
    struct chain_child child = CHAIN_CHILD_NONE;
    pid_t pids[2] = {0, 0};
    int status;

    (void)state;
    assert_int_equal(chain_spawn(&spec, &child), 0);
    assert_int_equal(recv(child.control, pids, sizeof(pids), 0), sizeof(pids));
    for (int i = 0; i < 2; i++)
        assert_true(pids[i] > 0 && !is_gone(pids[i]));
    status = chain_end(&child, 0);
    assert_true(status >= 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (int i = 0; i < 2; i++)
        assert_true(is_gone(pids[i]));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_match_by_prefix),
        cmocka_unit_test(addresses_are_checked_and_normalised),
        cmocka_unit_test(only_unix_sockets_have_credentials),
        cmocka_unit_test(a_pipe_is_no_peer),
        cmocka_unit_test(the_environment_names_the_client_of_a_pipe),
        cmocka_unit_test(only_what_is_permitted_runs),
        cmocka_unit_test(the_report_of_tls_is_checked),
        cmocka_unit_test(capabilities_are_gone),
        cmocka_unit_test(the_sandbox_kills),
        cmocka_unit_test(nobody_becomes_root),
        cmocka_unit_test(a_missing_program_is_said),
        cmocka_unit_test(what_a_crashed_program_leaves_is_ended),
        cmocka_unit_test(what_hangs_is_ended_with_all_below_it),
    };

    if (argc > 1 && strcmp(argv[1], "leave") == 0)
        return leave_a_child();
    if (argc > 1 && strcmp(argv[1], "breed") == 0)
        return breed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
