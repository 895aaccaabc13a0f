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

#include "handlers/auth/admit.h"
#include "handlers/auth/auth.h"
#include "handlers/auth/pam.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/gate/chain.h"

#define PATH_FOR_MODULES "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define EXCHANGE_MAX     (TIMEOUT_PREAUTH + TIMEOUT_AUTH) /* seconds after which a hanging module is ended by SIGALRM */
#define PAUSE_MS         10                               /* between the answer and packing up, at most */
#define CLOSING_MAX      TIMEOUT_AUTH                     /* the same when the PAM session is closed */

/* How we were started: argv is taken apart, and the environment is emptied for the modules. */
struct invocation {
    char **argv, **envp;
};

/* No core file and no ptrace: this process holds a password. */
static int protect_memory(void)
{
    struct rlimit none = {0, 0};

    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

/* The monitor ends the whole group when a module hangs. Where there may be a terminal, modules must not find it; where
 * the kernel says that there is none, a session of its own would only make it set up another group of its scheduler. */
static void lead_group(void)
{
    _cleanup_close_ int terminal = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

    (void)(terminal < 0 && errno == ENXIO ? setpgid(0, 0) : setsid()); /* fails where we lead one already */
}

/* Modules run programs and read variables; they get a known environment. */
static int clean_environment(void)
{
    if (clearenv() != 0 || setenv("PATH", PATH_FOR_MODULES, 1) < 0)
        return -ENOMEM;
    return 0;
}

/* Becomes the other program, as if that had been started. Returns only when that failed. */
static int become(const char *program, const struct invocation *own)
{
    char path[LIMIT_PATHNAME];
    int r = chain_locate(program, path, sizeof(path));

    if (r < 0)
        return r;
    (void)execve(path, own->argv, own->envp);
    return -errno;
}

static int run(struct auth *a)
{
    for (size_t i = 0; i < AUTH_MECHANISMS_COUNT; i++)
        if (strcasecmp(a->mechanism, AUTH_MECHANISMS[i].name) == 0) /* RFC 4422 3.1 has upper case only */
            return AUTH_MECHANISMS[i].run(a, AUTH_MECHANISMS[i].form);
    return auth_fail(a, AUTH_CLASS_MECHANISM, "unknown mechanism");
}

/* What the client is told besides the class: only after the right password, PAM's own words. */
static struct str failure_text(struct auth *a, int class)
{
    struct str all = buf_str(&a->messages), line = STR("");

    if (class == AUTH_CLASS_EXPIRED || class == AUTH_CLASS_DENIED)
        (void)str_cut(&all, '\n', &line);
    if (class == AUTH_CLASS_AUTHORIZATION)
        line = STR("Nobody can act for another user here");
    return line;
}

static int send_failure(struct auth *a, int class)
{
    return frame_say(AUTH_CONTROL, FRAME_AUTH_FAILED, -1, FRAME_U32(a->attempt), FRAME_U32((uint32_t) class),
                     FRAME_STR(failure_text(a, class)), FRAME_STR(str_from(a->user)), FRAME_STR(str_from(a->reason)));
}

static int send_success(struct auth *a)
{
    const struct priv_user *u = &a->account;

    return frame_say(AUTH_CONTROL, FRAME_AUTH_DONE, -1, FRAME_U32(a->attempt), FRAME_STR(str_from(u->name)),
                     FRAME_STR(buf_str(&a->messages)), FRAME_STR(buf_str(&a->final)), FRAME_U32(u->uid),
                     FRAME_U32(u->gid), FRAME_STR(priv_user_groups(u)), FRAME_STR(str_from(u->home)));
}

/* Nothing of the secret stays for the life of the session, in which only the end of the control socket matters. Without
 * a PAM session: those who answer the client now have the processors to themselves for a moment. */
static void wait_for_end(struct auth *a)
{
    struct pollfd p = {.fd = AUTH_CONTROL, .events = POLLRDHUP};

    frame_finish(&a->request);
    frame_finish(&a->response);
    (void)alarm(0);
    while (poll(&p, 1, a->has_pam_session ? -1 : PAUSE_MS) < 0 && errno == EINTR)
        ;
    (void)alarm(CLOSING_MAX);
}

static int answer(struct auth *a)
{
    int r = run(a);

    if (r < 0)
        return r;
    if (r > 0)
        return send_failure(a, r);
    r = send_success(a);
    if (r == 0)
        wait_for_end(a);
    pam_leave(a);
    return r;
}

/* `service`: of the attempt that will come, when we were started ahead of it; NULL: it is there. */
static int attempt(struct conf *conf, const struct invocation *own, const char *service)
{
    struct auth a = {.conf = conf,
                     .request = FRAME_INIT,
                     .response = FRAME_INIT,
                     .messages = BUF_INIT(AUTH_MESSAGES),
                     .final = BUF_INIT(LIMIT_SASL)};
    const char *other;
    int r = clean_environment();

    if (r == 0 && service && snprintf(a.service, sizeof(a.service), "%s", service) < (int)sizeof(a.service))
        admit_prepare(&a);
    if (r == 0)
        r = auth_request(&a, AUTH_CONTROL, true);
    other = r == 0 ? auth_other_program(&a) : NULL;
    if (other) {
        r = become(other, own);
        LOG_ERROR(LOG_ERR, "auth-exec-failed", r, LOG_FC("program", other));
    }
    if (r == 0)
        r = auth_request(&a, AUTH_CONTROL, false);
    if (r == 0)
        r = answer(&a);
    frame_finish(&a.request);
    frame_finish(&a.response);
    buf_wipe_finish(&a.messages);
    buf_wipe_finish(&a.final);
    priv_user_finish(&a.account);
    return r;
}

/* The ids of a service account, for a monitor that has no name service. */
static int tell_account(const char *name)
{
    uid_t uid = 0;
    gid_t gid = 0;
    int r = priv_account_named(name, &uid, &gid);

    return r < 0 ? r : frame_say(AUTH_CONTROL, FRAME_ACCOUNT, -1, FRAME_U32(uid), FRAME_U32(gid));
}

int main(int argc, char **argv)
{
    _cleanup_conf_ struct conf conf;
    struct invocation own = {calloc((size_t)argc + 1, sizeof(*own.argv)), environ};
    const char *service = NULL, *account = NULL;
    int r = protect_memory();

    if (!own.argv || r < 0 || conf_init(&conf) < 0)
        return EX_OSERR;
    memcpy(own.argv, argv, (size_t)argc * sizeof(*argv));
    lead_group();
    (void)alarm(EXCHANGE_MAX);
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    log_open("auth", true);
    r = conf_args(&conf, &argc, argv);
    if (r < 0) {
        LOG_EVENT(LOG_ERR, "configuration-error", LOG_F("reason", buf_str(&conf.error)));
        return EX_CONFIG;
    }
    if (argc == 3 && strcmp(argv[1], "--ahead") == 0) {
        service = argv[2];
        argc = 1;
    } else if (argc == 3 && strcmp(argv[1], "--account") == 0) {
        account = argv[2];
        argc = 1;
    }
    if (argc > 1 || fcntl(AUTH_CONTROL, F_GETFD) < 0) {
        (void)fputs("auth: imap(8), pop3(8) and smtp(8) start this; it is of no use by hand\n", stderr);
        return EX_USAGE;
    }
    r = account ? tell_account(account) : attempt(&conf, &own, service);
    free(own.argv);
    /* -ENODATA and -EPIPE: the connection ended before the attempt did. */
    if (r < 0 && r != -ENODATA && r != -EPIPE)
        LOG_ERROR(LOG_ERR, "auth-failed-to-answer", r);
    return r < 0 ? EX_TEMPFAIL : EX_OK;
}
