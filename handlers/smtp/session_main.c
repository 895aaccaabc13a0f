/*
 * smtp-session: start-up. With -bs it serves the invoking user on fd 0 and 1 (pipe, terminal), with that user's rights
 * and its own agent; started by the monitor it gives up everything and asks the monitor's agent.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "handlers/smtp/local.h"
#include "handlers/smtp/remote.h"
#include "handlers/smtp/session.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/gate/priv.h"
#include "shared/gate/sandbox.h"
#include "shared/gate/session.h"
#include "shared/gate/start.h"

#define FACTS_TIMEOUT  300000 /* ms for a proxy's header and a TLS handshake; the monitor has shorter ones */
#define SESSION_FDS    32
#define SESSION_MEMORY (16u << 20)

struct options {
    bool is_scripted; /* -bs */
    enum smtp_kind kind;
};

static int usage(void)
{
    (void)fprintf(stderr, "usage: smtp-session -bs [--lmtp | --local] [-c FILE] [-o key=value]... [--epoch=SECONDS]\n");
    return EX_USAGE;
}

static int parse_arguments(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-bs") == 0)
            o->is_scripted = true;
        else if (strcmp(argv[i], "--lmtp") == 0)
            o->kind = SMTP_KIND_LMTP;
        else if (strcmp(argv[i], "--submission") == 0)
            o->kind = SMTP_KIND_SUBMISSION;
        else if (strcmp(argv[i], "--local") == 0)
            o->kind = SMTP_KIND_LOCAL;
        else
            return -EINVAL;
    }
    return 0;
}

/* SIGTERM becomes readable instead of deadly, so that the client hears 421 between two commands. */
static int open_stop_fd(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static void session_init(struct smtp_session *s, struct conf *conf, enum smtp_kind kind)
{
    *s = (struct smtp_session){
        .conf = conf,
        .kind = kind,
        .control = -1,
        .stop_fd = -1,
        .helo = BUF_INIT(LIMIT_DOMAIN),
        .txn = {.id = BUF_INIT(64), .sender = BUF_INIT(LIMIT_PATH), .recipient = BUF_INIT(LIMIT_PATH)}};
    transport_init(&s->transport, STDIN_FILENO, STDOUT_FILENO, (int)conf->timeout_smtp, TIMEOUT_WRITE);
    writer_init(&s->writer, &s->transport);
}

static void session_finish_all(struct smtp_session *s)
{
    line_reader_finish(&s->reader);
    writer_finish(&s->writer);
    buf_finish(&s->helo);
    buf_finish(&s->txn.id);
    buf_finish(&s->txn.sender);
    buf_finish(&s->txn.recipient);
    free(s->user);
    cleanup_close(&s->stop_fd);
}

static void log_summary(const struct smtp_session *s)
{
    char messages[24], commands[24], refused[24];

    (void)snprintf(messages, sizeof(messages), "%llu", (unsigned long long)s->messages);
    (void)snprintf(commands, sizeof(commands), "%llu", (unsigned long long)s->commands);
    (void)snprintf(refused, sizeof(refused), "%llu", (unsigned long long)s->refused);
    LOG_EVENT(LOG_INFO, "session",
              LOG_FC("host", s->is_pipe   ? "stdin"
                             : s->peer[0] ? s->peer
                                          : "local"),
              LOG_FC("helo", buf_cstr(&s->helo)),
              LOG_FC("end", s->has_quit                            ? "quit"
                            : s->error < 0 && s->error != -ENODATA ? strerror(-s->error)
                                                                   : "eof"),
              LOG_FC("messages", messages), LOG_FC("commands", commands), LOG_FC("refused", refused));
}

/* Bare LF is for people and their scripts; a socket may carry what a stranger sends. */
static bool is_socket(int fd)
{
    struct stat facts;

    return fstat(fd, &facts) == 0 && S_ISSOCK(facts.st_mode);
}

static int run_scripted(struct conf *conf, const struct options *o)
{
    struct smtp_agent agent;
    struct smtp_session s;
    int status;

    agent_init(&agent, conf, geteuid() == 0, geteuid());
    agent.tells_truth = true;
    agent.answers_each = o->kind == SMTP_KIND_LMTP;
    agent.may_relay = true; /* into a queue of his own: nobody else can write to the system's */
    session_init(&s, conf, o->kind);
    s.backend = local_backend(&agent);
    s.is_pipe = true;
    s.is_near = true;
    s.can_xclient = true;
    s.uid = agent.uid;
    s.is_lenient = !is_socket(STDIN_FILENO);
    line_reader_init(&s.reader, &s.transport, &s.writer, s.is_lenient ? LINE_LENIENT : LINE_CRLF, LIMIT_LINE_SMTP);
    session_run(&s);
    log_summary(&s);
    status = s.has_quit ? 0 : 1;
    session_finish_all(&s);
    agent_finish(&agent);
    return status;
}

/* ---- under a monitor ---- */

/* He is logged in from the start; there is nothing to encrypt on the way. */
static int take_local_user(struct smtp_session *s, const struct remote_facts *facts)
{
    if (facts->local_user[0] == '\0')
        return -EBADMSG;
    s->user = strdup(facts->local_user);
    if (!s->user)
        return -ENOMEM;
    s->uid = facts->local_uid;
    s->facts.can_tls = false;
    log_context("user", str_from(s->user));
    return 0;
}

static int learn_facts(struct smtp_session *s)
{
    int connection = s->transport.rfd;
    struct remote_facts facts = {0};
    int e = login_facts_receive(s->control, &connection, FACTS_TIMEOUT, &s->facts);

    if (e == 0)
        e = remote_facts(s->backend.context, &facts);
    if (e < 0)
        return e;
    if (connection != s->transport.rfd) /* TLS took the socket over, behind a proxy's header */
        (void)close(STDOUT_FILENO);
    (void)snprintf(s->cipher, sizeof(s->cipher), "%s", facts.cipher);
    s->is_near = facts.is_near;
    s->can_xclient = facts.can_xclient;
    s->wants_hello = facts.wants_hello;
    s->has_atrn = facts.has_atrn;
    (void)snprintf(s->unwelcome, sizeof(s->unwelcome), "%s", facts.unwelcome);
    s->transport.rfd = s->transport.wfd = connection;
    s->is_tls = s->facts.is_tls;
    if (s->kind == SMTP_KIND_LOCAL)
        return take_local_user(s, &facts);
    (void)snprintf(s->peer, sizeof(s->peer), "%s", s->facts.peer);
    log_context("host", str_from(s->peer));
    return 0;
}

/* Time zone and host name are needed later, when no file can be opened any more. */
static int give_up_everything(const struct conf *conf)
{
    const struct priv_confinement confinement = {.account = PRIV_USER_SMTP,
                                                 .find = priv_account_named,
                                                 .open_files = SESSION_FDS,
                                                 .file_size = conf->message_size + LIMIT_HEADER,
                                                 .memory = SESSION_MEMORY};
    const char *what = "";
    int e;

    tzset();
    e = priv_confine(&confinement, &what);
    if (e == 0) {
        what = "seccomp";
        e = sandbox_enter(SANDBOX_LOGIN);
    }
    if (e < 0)
        LOG_ERROR(LOG_ERR, "sandbox-failed", e, LOG_FC("step", what));
    return e;
}

static int run_guarded(struct conf *conf, const struct options *o)
{
    struct remote remote = REMOTE_INIT(GATE_CONTROL_FD, o->kind == SMTP_KIND_MX || o->kind == SMTP_KIND_LMTP);
    struct smtp_session s;
    int e;

    session_init(&s, conf, o->kind);
    s.control = GATE_CONTROL_FD;
    s.backend = remote_backend(&remote);
    s.learn_facts = learn_facts;
    s.stop_fd = open_stop_fd();
    line_reader_init(&s.reader, &s.transport, &s.writer, LINE_CRLF,
                     o->kind == SMTP_KIND_SUBMISSION ? LIMIT_LINE_PREAUTH : LIMIT_LINE_SMTP);
    if (o->kind == SMTP_KIND_SUBMISSION) /* to a login; the monitor has the same clock */
        s.transport.deadline = clock_monotonic_ms() + TIMEOUT_PREAUTH * 1000;
    e = give_up_everything(conf);
    if (e == 0)
        e = session_learn_facts(&s);
    if (e == 0) {
        session_run(&s);
        log_summary(&s);
    }
    session_finish_all(&s);
    remote_finish(&remote);
    return e == 0 || e == -ENODATA ? 0 : EX_SOFTWARE;
}

static bool is_guarded(void)
{
    const char *text = getenv(GATE_CONTROL_ENV);

    return text && strcmp(text, "3") == 0;
}

int main(int argc, char **argv)
{
    _cleanup_conf_ struct conf conf = {0};
    struct options o = {.kind = SMTP_KIND_MX};
    int e = conf_init(&conf);

    if (e == 0)
        e = conf_args(&conf, &argc, argv);
    if (e < 0) {
        (void)fprintf(stderr, "smtp-session: %s\n", conf.error.len > 0 ? buf_cstr(&conf.error) : strerror(-e));
        return EX_CONFIG;
    }
    if (parse_arguments(argc, argv, &o) < 0 || o.is_scripted == is_guarded())
        return usage();
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    (void)sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    log_open("smtp-session", true);
    if (o.is_scripted)
        start_warn("smtp-session", &conf, true);
    return o.is_scripted ? run_scripted(&conf, &o) : run_guarded(&conf, &o);
}
