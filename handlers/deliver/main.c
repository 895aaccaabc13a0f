/*
 * deliver: one message from fd 0 into one user's mailbox, as that user. Started by smtp's monitor (which keeps the
 * locks on its control socket), by `smtp-session -bs`, by a person, Postfix's mailbox_command, fetchmail or a .forward
 * pipe. Touches the spool file, that user's state folder, and nothing else. Exit status as in sysexits.h; when it is
 * not 0, one line "CODE ENHANCED TEXT" on fd 1 says why.
 */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/deliver/command.h"
#include "handlers/deliver/deliver.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/gate/session.h"

/* What a failure of the store means: the first row that fits. Whatever may pass is EX_TEMPFAIL: other mailers return
 * mail for EX_CANTCREAT and EX_IOERR. */
static const struct verdict {
    int error;
    int status;
    const char *reply;
} VERDICTS[] = {
    {0, EX_OK, "250 2.1.5 Delivered"},
    {-EAGAIN, EX_TEMPFAIL, "450 4.2.0 The mailbox is locked by another program"},
    {-EBADMSG, EX_TEMPFAIL, "451 4.3.0 The mailbox file is damaged, its owner must mend it"},
    {-EDQUOT, EX_TEMPFAIL, "452 4.2.2 The mailbox is full"},
    {-ENOSPC, EX_TEMPFAIL, "452 4.3.1 The disk is full"},
    {-EFBIG, EX_DATAERR, "552 5.3.4 The message is too big for the mailbox"},
    {-EMULTIHOP, EX_DATAERR, "554 5.4.6 The message has been delivered to this address before"},
    {-EPERM, EX_TEMPFAIL, "451 4.3.0 The mailbox is no plain file of its owner"},
    {-ELOOP, EX_TEMPFAIL, "451 4.3.0 The mailbox is no plain file of its owner"}, /* a symbolic link */
    {-EACCES, EX_TEMPFAIL, "451 4.3.0 The mailbox may not be written"},
    {-EROFS, EX_TEMPFAIL, "451 4.3.0 The mailbox is on a read-only file system"},
    {-ENOENT, EX_TEMPFAIL, "451 4.3.0 The mailbox cannot be created"},
    {-ENODEV, EX_TEMPFAIL, "451 4.3.0 The folder of the mailbox is not there"},
    {-EIO, EX_TEMPFAIL, "451 4.3.0 The disk reports an error"},
};

/* `says_all`: behind a keeper the exit status does not reach the monitor, so success is said too. */
static int leave(int error, bool says_all)
{
    const struct verdict *v = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(VERDICTS) && !v; i++)
        if (VERDICTS[i].error == error)
            v = &VERDICTS[i];
    if (!v) {
        (void)printf("451 4.3.0 %s\n", strerror(-error));
        return EX_TEMPFAIL;
    }
    if (v->status != EX_OK || says_all)
        (void)printf("%s\n", v->reply);
    return v->status;
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: deliver [-LR] [-d user] [-f sender] [-a recipient] [-m mailbox | -F file |\n"
                          "               -C command] [-c FILE] [-o key=value]...\n"
                          "       deliver --recover\n");
    return EX_USAGE;
}

static int parse_arguments(int argc, char **argv, struct deliver_options *o)
{
    int c;

    opterr = 0;
    while ((c = getopt(argc, argv, "d:f:r:a:m:C:F:eLR")) != -1) {
        if (c == 'd')
            o->user = optarg;
        else if (c == 'f' || c == 'r') { /* -r: the historic spelling of mail.local */
            o->sender = optarg;
            o->has_sender = true;
        } else if (c == 'a')
            o->address = optarg;
        else if (c == 'm')
            o->mailbox = optarg;
        else if (c == 'C')
            o->command = optarg;
        else if (c == 'F')
            o->file = optarg;
        else if (c == 'R')
            o->is_again = true;
        else if (c == 'L')
            o->finds_loops = true;
        else if (c != 'e') /* -e of other delivery agents: our exit statuses are always meaningful */
            return -EINVAL;
    }
    if (optind < argc && !o->user)
        o->user = argv[optind++];
    return optind == argc ? 0 : -EINVAL;
}

/* What a command's exit status means, in the words of sysexits.h; 111 and 100 are qmail's. A command that is missing or
 * was killed may work again later. */
static const struct {
    int status;
    int ours;
    const char *reply;
} STATUSES[] = {
    {EX_OK, EX_OK, "250 2.1.5"},
    {EX_TEMPFAIL, EX_TEMPFAIL, "451 4.3.0"},
    {111, EX_TEMPFAIL, "451 4.3.0"},
    {EX_OSERR, EX_TEMPFAIL, "451 4.3.0"},
    {EX_IOERR, EX_TEMPFAIL, "451 4.3.0"},
    {126, EX_TEMPFAIL, "451 4.3.5"},
    {EX_CANTCREAT, EX_TEMPFAIL, "451 4.3.0"},
    {127, EX_TEMPFAIL, "451 4.3.5"},
    {EX_NOUSER, EX_NOUSER, "550 5.1.1"},
    {EX_NOPERM, EX_NOPERM, "550 5.7.1"},
    {EX_DATAERR, EX_DATAERR, "550 5.6.0"},
    {-1, EX_UNAVAILABLE, "550 5.3.0"},
};

static int run_command(const struct conf *conf, const struct session *s, const struct deliver_options *o)
{
    struct command_result result = {.output = BUF_INIT(COMMAND_OUTPUT)};
    _cleanup_buf_ struct buf head = BUF_INIT(8192);
    size_t i = 0;
    int e = buf_printf(&head, "From %s ", *o->sender ? o->sender : "MAILER-DAEMON");

    if (e == 0)
        e = clock_asctime(clock_now(&conf->clock), &head);
    if (e == 0)
        e = buf_add_byte(&head, '\n');
    if (e == 0)
        e = deliver_head(conf, s, o, false, &head);
    if (e == 0)
        e = command_run(s, o, buf_str(&head), &result);
    if (e < 0)
        result.status = EX_TEMPFAIL;
    while (STATUSES[i].status != result.status && STATUSES[i].status != -1)
        i++;
    if (STATUSES[i].ours != EX_OK)
        (void)printf("%s %s\n", STATUSES[i].reply,
                     result.output.len > 0 ? buf_cstr(&result.output) : "The command of the address failed");
    buf_finish(&result.output);
    return STATUSES[i].ours;
}

static bool is_control_given(void)
{
    const char *text = getenv(GATE_CONTROL_ENV);

    return text && strcmp(text, "3") == 0;
}

/* Who: the user named, who must be the one this process runs as. */
static int find_user(const struct deliver_options *o, struct session *ret)
{
    const struct passwd *pw;

    errno = 0;
    pw = o->user ? getpwnam(o->user) : getpwuid(geteuid());
    if (!pw) {
        (void)printf("550 5.1.1 There is no such user here\n");
        return errno == 0 ? EX_NOUSER : EX_TEMPFAIL;
    }
    if (pw->pw_uid != geteuid()) {
        (void)printf("550 5.7.1 Only the user, or root's smtp, delivers to that mailbox\n");
        return EX_NOPERM;
    }
    ret->user = strdup(pw->pw_name);
    ret->home = strdup(pw->pw_dir);
    ret->uid = pw->pw_uid;
    ret->control = is_control_given() ? GATE_CONTROL_FD : -1;
    return ret->user && ret->home ? 0 : EX_TEMPFAIL;
}

static void log_outcome(const struct deliver_options *o, const struct session *s, int error)
{
    struct log_field fields[] = {LOG_FC("mailbox", s->user), LOG_FC("folder", o->mailbox), LOG_FC("from", o->sender),
                                 LOG_FC("status", error == 0 ? "delivered" : strerror(-error))};

    /* Under a monitor the monitor tells the story, with the queue id. */
    if (s->control < 0 || error < 0)
        log_event(error == 0 ? LOG_INFO : LOG_WARNING, "deliver", fields, ARRAY_SIZE(fields));
}

int main(int argc, char **argv)
{
    struct deliver_options o = {.sender = "", .address = "", .mailbox = "INBOX"};
    _cleanup_conf_ struct conf conf = {0};
    _cleanup_session_ struct session s = {.control = -1};
    sigset_t stop;
    int e = conf_init(&conf);

    if (e == 0)
        e = conf_args(&conf, &argc, argv);
    if (e < 0) {
        (void)fprintf(stderr, "deliver: %s\n", conf.error.len > 0 ? buf_cstr(&conf.error) : strerror(-e));
        return EX_CONFIG;
    }
    bool is_recovering = argc == 2 && strcmp(argv[1], "--recover") == 0;

    if (!is_recovering && parse_arguments(argc, argv, &o) < 0)
        return usage();
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    (void)sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    /* The time is bounded; a message half written would have to be mended by somebody else. */
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &stop, NULL);
    log_open("deliver", true);
    e = find_user(&o, &s);
    if (e != 0)
        return e;
    if (o.command)
        return run_command(&conf, &s, &o);
    if (o.file && strcmp(o.file, "/dev/null") == 0)
        return EX_OK; /* aliases(5): thrown away */
    e = session_paths(&conf, &s);
    if (is_recovering)
        return e == 0 && deliver_recover(&conf, &s) == 0 ? EX_OK : EX_IOERR;
    if (e == 0)
        e = deliver_message(&conf, &s, &o);
    log_outcome(&o, &s, e);
    free(o.found_sender);
    return leave(e, s.control >= 0);
}
