/*
 * deliver: a message from fd 0 into one user's mailbox, as that user. Started by smtp's monitor (which keeps the locks
 * on its control socket) for one letter after another, by a person, Postfix's mailbox_command, fetchmail or a .forward
 * pipe for one message. Touches the spool file, that user's state folder, and nothing else. Exit status as in
 * sysexits.h; when it is not 0, one line "CODE ENHANCED TEXT" on fd 1 says why.
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
#include "shared/mbox/mbox.h"

static int usage(void)
{
    (void)fprintf(stderr, "usage: deliver [-LRS] [-d user] [-f sender] [-a recipient] [-m mailbox | -F file |\n"
                          "               -C command] [-c FILE] [-o key=value]...\n"
                          "       deliver --recover\n");
    return EX_USAGE;
}

static int parse_arguments(int argc, char **argv, struct deliver_options *o)
{
    int c;

    opterr = 0;
    while ((c = getopt(argc, argv, "d:f:r:a:m:C:F:eLRS")) != -1) {
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
        else if (c == 'S')
            o->serves = true;
        else if (c != 'e') /* -e of other delivery agents: our exit statuses are always meaningful */
            return -EINVAL;
    }
    if (optind < argc && !o->user)
        o->user = argv[optind++];
    return optind == argc ? 0 : -EINVAL;
}

/* "-f X" becomes "-fX": a sender may look like an option, and those that all programs have are looked for everywhere.
 * An empty value, which does not, stays a word. */
static int join_values(int *argc, char **argv)
{
    int kept = 1;

    for (int i = 1; i < *argc; i++) {
        size_t flags = argv[i][0] == '-' ? 1 + strspn(argv[i] + 1, "eLRS") : 0;
        bool takes = flags > 0 && argv[i][flags] && strchr("dframCF", argv[i][flags]) && !argv[i][flags + 1];

        if (!takes || i + 1 == *argc || !argv[i + 1][0])
            argv[kept++] = argv[i];
        else if (asprintf(&argv[kept++], "%s%s", argv[i], argv[i + 1]) < 0)
            return -ENOMEM;
        else
            i++;
    }
    argv[kept] = NULL;
    *argc = kept;
    return 0;
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

/* Who: the user named, who must be the one this process runs as. 0, -ESRCH, -EKEYREJECTED, others. */
static int find_user(const struct deliver_options *o, struct session *ret)
{
    const struct passwd *pw;

    errno = 0;
    pw = o->user ? getpwnam(o->user) : getpwuid(geteuid());
    if (!pw && o->serves && (errno == 0 || errno == ENOENT))
        return -ENXIO; /* he was there at RCPT */
    if (!pw)
        return errno == 0 ? -ESRCH : -errno;
    if (pw->pw_uid != geteuid())
        return -EKEYREJECTED;
    ret->user = strdup(pw->pw_name);
    ret->home = strdup(pw->pw_dir);
    ret->uid = pw->pw_uid;
    ret->control = is_control_given() ? GATE_CONTROL_FD : -1;
    return ret->user && ret->home ? 0 : -ENOMEM;
}

static int leave(int error)
{
    _cleanup_buf_ struct buf line = BUF_INIT(VERDICT_MAX);
    int status = deliver_verdict(error, &line);

    if (status != EX_OK)
        (void)printf("%s\n", buf_cstr(&line));
    return status;
}

static int deliver_one(struct conf *conf, const struct session *s, struct deliver_options *o)
{
    struct deliver_box box = {0};
    int e = deliver_open(conf, s, o, &box);

    if (e == 0)
        e = deliver_message(&box, conf, s, o);
    deliver_close(&box);
    deliver_log(s, o, e);
    free(o->found_sender);
    return e;
}

/* The time is bounded; a message half written would have to be mended by somebody else. */
static void hold_signals(void)
{
    sigset_t stop;

    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    (void)sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &stop, NULL);
}

int main(int argc, char **argv)
{
    struct deliver_options o = {.input = STDIN_FILENO, .sender = "", .address = "", .mailbox = "INBOX"};
    _cleanup_conf_ struct conf conf = {0};
    _cleanup_session_ struct session s = {.control = -1};
    int e = conf_init(&conf);

    if (e == 0)
        e = join_values(&argc, argv);
    if (e == 0)
        e = conf_args(&conf, &argc, argv);
    if (e < 0) {
        (void)fprintf(stderr, "deliver: %s\n", conf.error.len > 0 ? buf_cstr(&conf.error) : strerror(-e));
        return EX_CONFIG;
    }
    bool is_recovering = argc == 2 && strcmp(argv[1], "--recover") == 0;

    if (!is_recovering && parse_arguments(argc, argv, &o) < 0)
        return usage();
    hold_signals();
    (void)mbox_guard();
    log_open("deliver", true);
    e = find_user(&o, &s);
    if (e == 0 && o.command)
        return run_command(&conf, &s, &o);
    if (e == 0)
        e = session_paths(&conf, &s);
    if (is_recovering)
        return e == 0 && deliver_recover(&conf, &s) == 0 ? EX_OK : EX_IOERR;
    if (o.serves)
        return deliver_serve(&conf, &s, &o, e);
    return leave(e == 0 ? deliver_one(&conf, &s, &o) : e);
}
