/*
 * The monitor against a front that has been taken over: this program is its own hostile front. Whatever such a front
 * sends, nobody is logged in, no session starts, and the monitor ends the connection.
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
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/base/macros.h"
#include "shared/gate/monitor.h"
#include "shared/io/frame_types.h"

#define CONTROL   3
#define WAIT_MS   30000
#define LOGGED_IN 1
#define HANDED    2
#define POLITE    4

/* ---- the hostile front ---- */

static void put(struct frame *f, uint16_t type, uint32_t number, const char *a, const char *b, uint32_t last)
{
    frame_begin(f, type);
    (void)frame_put_u32(f, number);
    if (a)
        (void)frame_put_str(f, str_from(a));
    if (b)
        (void)frame_put_str(f, str_from(b));
    if (last != UINT32_MAX)
        (void)frame_put_u32(f, last);
}

static void send_type(uint16_t type)
{
    struct frame f = FRAME_INIT;

    frame_begin(&f, type);
    (void)frame_send(CONTROL, &f, -1);
}

static void attempt_with(uint32_t number, const char *mechanism, struct str unread)
{
    struct frame f = FRAME_INIT;

    put(&f, FRAME_AUTH_START, number, mechanism, "\0bob\0secret", 1);
    (void)frame_put_u32(&f, 1);
    (void)frame_put_str(&f, unread);
    (void)frame_put_str(&f, STR("a"));
    (void)frame_send(CONTROL, &f, -1);
    frame_finish(&f);
}

static void attempt(uint32_t number, const char *mechanism)
{
    attempt_with(number, mechanism, STR("a SELECT INBOX\r\n"));
}

/* More than the frame to the session could take along. */
static void hostile_unread(void)
{
    static char input[LIMIT_UNREAD + 1];

    attempt_with(1, "PLAIN", (struct str){input, sizeof(input)});
}

static void hostile_handover(void)
{
    struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_HANDOVER);
    (void)frame_put_str(&f, STR("a SELECT INBOX\r\n"));
    (void)frame_put_str(&f, STR("a"));
    (void)frame_send(CONTROL, &f, -1);
}

static void hostile_done(void)
{
    struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_AUTH_DONE);
    (void)frame_put_u32(&f, 1);
    (void)frame_put_str(&f, STR("root"));
    (void)frame_put_str(&f, STR(""));
    (void)frame_put_str(&f, STR(""));
    (void)frame_send(CONTROL, &f, -1);
    hostile_handover();
}

static void hostile_attempts(void)
{
    for (uint32_t i = 1; i < 40; i++)
        attempt(i, "PLAIN");
}

static void hostile_numbers(void)
{
    attempt(0, "PLAIN");
}

static void hostile_mechanism(void)
{
    attempt(1, "PLAIN\r\nX");
}

static void hostile_response(void)
{
    struct frame f = FRAME_INIT;

    put(&f, FRAME_AUTH_RESPONSE, 1, "x", NULL, UINT32_MAX);
    (void)frame_send(CONTROL, &f, -1);
}

static void hostile_tls(void)
{
    struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_TLS_FACTS);
    for (int i = 0; i < 6; i++)
        (void)frame_put_str(&f, STR("TLSv1.3"));
    (void)frame_put_u32(&f, 0);
    (void)frame_send(CONTROL, &f, -1);
}

static void hostile_keeper(void)
{
    struct frame f = FRAME_INIT;

    put(&f, FRAME_KEEPER_LOCK, 1, NULL, NULL, UINT32_MAX);
    (void)frame_send(CONTROL, &f, -1);
}

static void hostile_proxy(void)
{
    struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_PROXY);
    (void)frame_put_str(&f, STR("127.0.0.1"));
    (void)frame_put_u32(&f, 1);
    (void)frame_put_str(&f, STR("127.0.0.1"));
    (void)frame_put_u32(&f, 1);
    (void)frame_send(CONTROL, &f, -1);
}

static void hostile_notes(void)
{
    struct frame f = FRAME_INIT;

    for (int i = 0; i < 100; i++) {
        put(&f, FRAME_NOTE, NOTE_INJECTION, "x\nLogin user=root", NULL, UINT32_MAX);
        (void)frame_send(CONTROL, &f, -1);
    }
}

static void hostile_fd(void)
{
    struct frame f = FRAME_INIT;

    put(&f, FRAME_NOTE, NOTE_INJECTION, "x", NULL, UINT32_MAX);
    (void)frame_send(CONTROL, &f, CONTROL);
}

static void hostile_bytes(void)
{
    static const char noise[] = "\x04\0\0\0\xff\xff\xff\xff noise";

    (void)send(CONTROL, noise, sizeof(noise), MSG_NOSIGNAL);
}

static void hostile_size(void)
{
    static char large[128 << 10];

    (void)send(CONTROL, large, sizeof(large), MSG_NOSIGNAL);
}

static void hostile_types(void)
{
    for (uint16_t i = 0; i < 60; i++)
        send_type(i);
}

static void hostile_flood(void)
{
    for (int i = 0; i < 2000; i++)
        hostile_response();
}

static void hostile_crash(void)
{
    (void)raise(SIGKILL);
}

static void hostile_silence(void)
{
}

static const struct {
    const char *name;
    void (*run)(void);
} FRONTS[] = {
    {"handover", hostile_handover}, {"done", hostile_done},       {"attempts", hostile_attempts},
    {"numbers", hostile_numbers},   {"mech", hostile_mechanism},  {"response", hostile_response},
    {"tls", hostile_tls},           {"keeper", hostile_keeper},   {"proxy", hostile_proxy},
    {"notes", hostile_notes},       {"fd", hostile_fd},           {"bytes", hostile_bytes},
    {"size", hostile_size},         {"types", hostile_types},     {"flood", hostile_flood},
    {"crash", hostile_crash},       {"silence", hostile_silence}, {"unread", hostile_unread},
};

/* Does its worst, then waits for the monitor to close. Where that goes on all the same we leave politely, which it
 * would call no failure either. */
static int be_hostile(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(FRONTS); i++) {
        struct pollfd p = {.fd = CONTROL};

        if (strcmp(FRONTS[i].name, name) != 0)
            continue;
        FRONTS[i].run();
        if (strcmp(name, "silence") != 0)
            (void)poll(&p, 1, WAIT_MS); /* POLLHUP */
        return 0;
    }
    return 64;
}

/* ---- the monitor around it ---- */

static int note_handover(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    int *seen = m->own;

    (void)f;
    (void)in;
    *seen |= HANDED;
    m->phase = MONITOR_END;
    return 0;
}

/* Runs in a process of its own: the monitor takes fd 0 and 1. */
static int run_monitor(const char *front)
{
    static const struct permit rows[] = {{FRAME_HANDOVER, 1, MONITOR_IN(MONITOR_DONE), note_handover}};
    const struct monitor_protocol protocol = {.service = "imap",
                                              .ident = "imapd",
                                              .front = "test_gate_monitor",
                                              .front_arguments = {front},
                                              .alpn = "imap",
                                              .rows = rows,
                                              .row_count = ARRAY_SIZE(rows)};
    struct start start = {.is_connection = true,
                          .peer = {.kind = PEER_INET, .address = "192.0.2.1", .local = "192.0.2.2"}};
    struct monitor m;
    struct conf conf;
    int fds[2];
    int seen = 0;
    int r = 0;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 || dup2(fds[0], 0) < 0 || dup2(fds[0], 1) < 0 ||
        conf_init(&conf) < 0)
        return 99;
    (void)close(fds[0]);
    monitor_init(&m, &protocol, &conf, &start, false);
    m.own = &seen;
    r = monitor_run(&m);
    if (m.user)
        seen |= LOGGED_IN;
    if (r == 0)
        seen |= POLITE;
    if (m.front.pid || m.auth.pid || m.tls_child.pid || waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
        seen |= 8; /* somebody is left */
    monitor_finish(&m);
    conf_finish(&conf);
    return seen;
}

/* Exit status of the monitor's process; it must come in time. */
static int outcome(const char *front)
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(run_monitor(front));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status))
        fail_msg("%s: the monitor died of signal %d", front, WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void a_hostile_front_gets_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(FRONTS); i++) {
        int seen = 0;

        if (FRONTS[i].run == hostile_silence)
            continue;
        seen = outcome(FRONTS[i].name);
        if (seen != 0)
            fail_msg("%s: %s%s%s%s", FRONTS[i].name, seen & LOGGED_IN ? "logged in " : "",
                     seen & HANDED ? "handed over " : "", seen & POLITE ? "not noticed " : "",
                     seen & 8 ? "processes left" : "");
    }
}

static void a_front_that_leaves_is_no_failure(void **state)
{
    (void)state;
    assert_int_equal(outcome("silence"), POLITE);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hostile_front_gets_nothing),
        cmocka_unit_test(a_front_that_leaves_is_no_failure),
    };

    if (argc > 1)
        return be_hostile(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
