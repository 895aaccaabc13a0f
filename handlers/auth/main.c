/*
 * auth and auth-sasl, program A of the chain: decide one login attempt. Started by the monitor as root with its control
 * socket on fd 3 and nothing else; the answer is one frame. auth links libpam only and is enough for passwords that PAM
 * checks; what needs OpenSSL (device passwords, challenge mechanisms) it leaves to auth-sasl, by becoming it: the two
 * differ in their mechanism table only. Without root there is no PAM, only the device-password file of the
 * configuration, and its users are the user who runs us.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>

#include "handlers/auth/auth.h"
#include "handlers/auth/pam.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/gate/chain.h"

#define PATH_FOR_MODULES "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define EXCHANGE_MAX     (TIMEOUT_PREAUTH + TIMEOUT_AUTH) /* seconds after which a hanging module is ended by SIGALRM */

/* No core file and no ptrace: this process holds a password. */
static int protect_memory(void)
{
    struct rlimit none = {0, 0};

    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

/* Modules run programs and read variables; they get a known environment. */
static int clean_environment(void)
{
    if (clearenv() != 0 || setenv("PATH", PATH_FOR_MODULES, 1) < 0)
        return -ENOMEM;
    return 0;
}

/* Becomes the other program. Returns only when that failed. */
static int become(const char *program, char **argv)
{
    char path[LIMIT_PATHNAME];
    int r = chain_locate(program, path, sizeof(path));

    if (r < 0)
        return r;
    (void)execv(path, argv);
    return -errno;
}

static int run(struct auth *a)
{
    for (size_t i = 0; i < AUTH_MECHANISMS_COUNT; i++)
        if (strcmp(a->mechanism, AUTH_MECHANISMS[i].name) == 0)
            return AUTH_MECHANISMS[i].run(a);
    return auth_fail(a, AUTH_CLASS_MECHANISM, "unknown mechanism");
}

/* What the client is told besides the class: only after the right password, PAM's own words. */
static struct str failure_text(struct auth *a, int class)
{
    struct str all = buf_str(&a->messages), line = STR("");

    if (class == AUTH_CLASS_EXPIRED || class == AUTH_CLASS_DENIED)
        (void)str_cut(&all, '\n', &line);
    return line;
}

static int send_failure(struct auth *a, int class)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_AUTH_FAILED);
    if (frame_put_u32(&f, a->attempt) < 0 || frame_put_u32(&f, (uint32_t) class) < 0 ||
        frame_put_str(&f, failure_text(a, class)) < 0 || frame_put_str(&f, str_from(a->user)) < 0 ||
        frame_put_str(&f, str_from(a->reason ? a->reason : "")) < 0)
        return -ENOMEM;
    return frame_send(AUTH_CONTROL, &f, -1);
}

static int send_success(struct auth *a)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_AUTH_DONE);
    if (frame_put_u32(&f, a->attempt) < 0 || frame_put_str(&f, str_from(a->user)) < 0 ||
        frame_put_str(&f, buf_str(&a->messages)) < 0 || frame_put_str(&f, buf_str(&a->final)) < 0)
        return -ENOMEM;
    return frame_send(AUTH_CONTROL, &f, -1);
}

/* Nothing of the secret stays for the life of the session, in which only the end of the control socket matters. */
static void wait_for_end(struct auth *a)
{
    struct pollfd p = {.fd = AUTH_CONTROL, .events = 0};

    frame_finish(&a->request);
    frame_finish(&a->response);
    (void)alarm(0);
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
}

static int answer(struct auth *a)
{
    int r = run(a);

    if (r < 0)
        return r;
    if (r > 0)
        return send_failure(a, r);
    r = send_success(a);
    if (r == 0 && a->has_pam_session)
        wait_for_end(a);
    pam_leave(a);
    return r;
}

static int attempt(struct conf *conf, char **argv)
{
    struct auth a = {.conf = conf,
                     .request = FRAME_INIT,
                     .response = FRAME_INIT,
                     .started = clock_monotonic_ms(),
                     .messages = BUF_INIT(AUTH_MESSAGES),
                     .final = BUF_INIT(LIMIT_SASL)};
    const char *other;
    int r = auth_request(&a, AUTH_CONTROL, true);

    other = r == 0 ? auth_other_program(&a) : NULL;
    if (other) {
        r = become(other, argv);
        LOG_ERROR(LOG_ERR, "auth-exec-failed", r, LOG_FC("program", other));
    }
    if (r == 0)
        r = auth_request(&a, AUTH_CONTROL, false);
    if (r == 0)
        r = clean_environment();
    if (r == 0)
        r = answer(&a);
    frame_finish(&a.request);
    frame_finish(&a.response);
    buf_wipe_finish(&a.messages);
    buf_wipe_finish(&a.final);
    return r;
}

int main(int argc, char **argv)
{
    _cleanup_conf_ struct conf conf;
    char **original = calloc((size_t)argc + 1, sizeof(*original)); /* for the other program: conf_args() takes apart */
    int r = protect_memory();

    if (!original || r < 0 || conf_init(&conf) < 0)
        return EX_OSERR;
    memcpy(original, argv, (size_t)argc * sizeof(*argv));
    (void)setsid(); /* the monitor ends the whole group when a module hangs; fails where we lead one already */
    (void)alarm(EXCHANGE_MAX);
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    log_open("auth", true);
    r = conf_args(&conf, &argc, argv);
    if (r < 0) {
        LOG_EVENT(LOG_ERR, "configuration-error", LOG_F("reason", buf_str(&conf.error)));
        return EX_CONFIG;
    }
    if (argc > 1 || fcntl(AUTH_CONTROL, F_GETFD) < 0) {
        (void)fputs("auth: imap(8), pop3(8) and smtp(8) start this; it is of no use by hand\n", stderr);
        return EX_USAGE;
    }
    r = attempt(&conf, original);
    free(original);
    /* -ENODATA and -EPIPE: the connection ended before the attempt did. */
    if (r < 0 && r != -ENODATA && r != -EPIPE)
        LOG_ERROR(LOG_ERR, "auth-failed-to-answer", r);
    return r < 0 ? EX_TEMPFAIL : EX_OK;
}
