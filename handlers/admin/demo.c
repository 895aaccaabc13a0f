/*
 * pennypost demo: the handlers on free loopback ports with a throw-away mailbox, as the invoking user, without root and
 * without installation. Everything lies in one scratch folder that is removed at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>

#include "handlers/admin/child.h"
#include "handlers/admin/command.h"
#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/gate/chain.h"
#include "shared/gate/priv.h"

#define DEMO_ACCOUNT   "nobody" /* what root becomes */
#define DEMO_PATH      256
#define DEMO_DEVICE    "demo"
#define DEVICES_OPTION 6 /* of demo.options: where make_folder() puts it */

static const char *const services[][4] = {
    {"SMTP", "smtp", NULL}, {"submission", "smtp", "--submission", NULL},
    {"POP3", "pop3", NULL}, {"POP3 over TLS", "pop3", "--tls", NULL},
    {"IMAP", "imap", NULL}, {"IMAP over TLS", "imap", "--tls", NULL},
};

#define SERVICES ARRAY_SIZE(services)

struct demo {
    const char *program; /* pennypost itself */
    char folder[DEMO_PATH];
    char user[LIMIT_USER + 1];
    char password[LIMIT_PASSWORD + 1];
    char address[SERVICES][64];
    pid_t listeners[SERVICES];
    char options[8][DEMO_PATH + 32]; /* key=value for every program */
    size_t option_count;
    int signals; /* signalfd of what ends the demo, and of SIGCHLD: all of them are blocked */
    bool is_interrupted;
};

/* From here on nothing ends us before the folder is removed. SIGPIPE: whoever read what tell() says is gone. */
static int take_signals(struct demo *d)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGCHLD};
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        (void)sigaddset(&set, numbers[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return d->signals < 0 ? -errno : 0;
}

/* Has a signal to end come? Reads all that are pending: SIGCHLD only wakes us up, see has_lost_listener(). */
static bool is_interrupted(struct demo *d)
{
    struct signalfd_siginfo info;

    while (read(d->signals, &info, sizeof(info)) == sizeof(info))
        d->is_interrupted |= info.ssi_signo != SIGCHLD;
    return d->is_interrupted;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int write_file(const struct demo *d, const char *name, const char *text)
{
    char path[2 * DEMO_PATH + 128];
    _cleanup_close_ int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/%s", d->folder, name);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -EIO;
}

static void add_option(struct demo *d, const char *key, const char *name)
{
    (void)snprintf(d->options[d->option_count++], sizeof(d->options[0]), "%s=%s/%s", key, d->folder, name);
}

static int make_folder(struct demo *d)
{
    const char *base = getenv("TMPDIR");
    char path[DEMO_PATH + 64];
    char welcome[1024];

    if (snprintf(d->folder, sizeof(d->folder), "%s/pennypost-demo.XXXXXX", base ? base : "/tmp") >=
        (int)sizeof(d->folder))
        return -ENAMETOOLONG;
    if (!mkdtemp(d->folder)) {
        d->folder[0] = '\0';
        return -errno;
    }
    for (size_t i = 0; i < 4; i++) {
        static const char *const names[] = {"spool", "mail", "state", "queue"};

        (void)snprintf(path, sizeof(path), "%s/%s", d->folder, names[i]);
        if (mkdir(path, 0700) < 0)
            return -errno;
        add_option(d, i == 1 ? "folders" : names[i], names[i]);
    }
    add_option(d, "tls_certificate", "certificate.pem");
    add_option(d, "tls_key", "key.pem");
    add_option(d, "devices", "devices");
    (void)snprintf(d->options[d->option_count++], sizeof(d->options[0]), "min_uid=1");
    (void)snprintf(path, sizeof(path), "spool/%s", d->user);
    (void)snprintf(welcome, sizeof(welcome),
                   "From pennypost@localhost Thu Jan  1 00:00:00 1970\nFrom: Pennypost <pennypost@localhost>\n"
                   "To: %s@localhost\nSubject: Welcome to the demo\nDate: Thu, 01 Jan 1970 00:00:00 +0000\n"
                   "Message-ID: <welcome@pennypost.invalid>\n\nOne penny carries any letter.\n\n",
                   d->user);
    return write_file(d, path, welcome);
}

static int make_certificate(struct demo *d)
{
    char key[DEMO_PATH + 32];
    char certificate[DEMO_PATH + 32];
    const char *const argv[] = {"openssl",
                                "req",
                                "-x509",
                                "-newkey",
                                "ec",
                                "-pkeyopt",
                                "ec_paramgen_curve:P-256",
                                "-nodes",
                                "-days",
                                "7",
                                "-subj",
                                "/CN=localhost",
                                "-addext",
                                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                                "-keyout",
                                key,
                                "-out",
                                certificate,
                                NULL};
    int status;

    (void)snprintf(key, sizeof(key), "%s/key.pem", d->folder);
    (void)snprintf(certificate, sizeof(certificate), "%s/certificate.pem", d->folder);
    status = child_run(argv, STR_NULL, NULL);
    if (status != 0 && !is_interrupted(d))
        (void)fprintf(stderr, "pennypost demo: openssl makes no certificate, so there is no TLS\n");
    return 0;
}

/* The demo's password is a device password in a file of the demo: no login of this machine is tried. */
static int make_password(struct demo *d)
{
    const char *const argv[] = {d->program, "-c",        "/dev/null", "-o", d->options[DEVICES_OPTION], "device", "add",
                                "--name",   DEMO_DEVICE, d->user,     NULL};
    _cleanup_(buf_wipe_finish) struct buf output = BUF_INIT(4096);
    int status = child_run(argv, STR_NULL, &output);
    struct str line = str_trim(buf_str(&output));

    if (status != 0 || line.len == 0 || line.len > LIMIT_PASSWORD) {
        if (!is_interrupted(d))
            (void)fprintf(stderr, "pennypost demo: no password: %.*s\n", STR_ARG(line));
        return status < 0 ? status : -EIO;
    }
    (void)snprintf(d->password, sizeof(d->password), "%.*s", STR_ARG(line));
    return 0;
}

/* Starts `listen` for one service and reads the address that the kernel chose. */
static int start_service(struct demo *d, size_t i)
{
    char listen_path[DEMO_PATH];
    char handler[DEMO_PATH];
    const char *argv[32] = {listen_path, "--bind", "127.0.0.1:0", "--print-address", "--", handler};
    size_t n = 6;
    int fd = -1;
    int r = chain_locate("listen", listen_path, sizeof(listen_path));

    if (r == 0)
        r = chain_locate(services[i][1], handler, sizeof(handler));
    if (r < 0)
        return r;
    for (size_t k = 2; k < ARRAY_SIZE(services[i]) && services[i][k]; k++)
        argv[n++] = services[i][k];
    argv[n++] = "-c";
    argv[n++] = "/dev/null";
    for (size_t k = 0; k < d->option_count; k++) {
        argv[n++] = "-o";
        argv[n++] = d->options[k];
    }
    argv[n] = NULL;
    r = child_start(argv, STDERR_FILENO, &d->listeners[i], &fd);
    if (r < 0)
        return r;
    size_t have = 0;

    while (have + 1 < sizeof(d->address[i]) && !memchr(d->address[i], '\n', have)) {
        ssize_t got = read(fd, d->address[i] + have, sizeof(d->address[i]) - 1 - have);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    (void)close(fd);
    d->address[i][have] = '\0';
    d->address[i][strcspn(d->address[i], "\n")] = '\0';
    return d->address[i][0] ? 0 : -EIO;
}

static void tell(const struct demo *d)
{
    (void)printf("A mailbox to play with, in %s, for user %s with password %s\n\n", d->folder, d->user, d->password);
    for (size_t i = 0; i < SERVICES; i++)
        (void)printf("  %-14s %s\n", services[i][0], d->address[i]);
    (void)printf(
        "\nTry:\n"
        "  printf 'Subject: hello\\r\\n\\r\\nhi\\r\\n' | curl smtp://%s --mail-from you@example.org --mail-rcpt "
        "%s@localhost -T -\n",
        d->address[0], d->user);
    (void)printf("  curl --insecure --ssl-reqd pop3://%s/1 --user %s:%s\n", d->address[2], d->user, d->password);
    (void)printf("  curl --insecure 'imaps://%s/INBOX;MAILINDEX=1' --user %s:%s\n", d->address[5], d->user,
                 d->password);
    (void)printf("  openssl s_client -quiet -connect %s            then: a LOGIN %s %s\n", d->address[5], d->user,
                 d->password);
    (void)printf("  mutt -f imap://%s@%s/\n", d->user, d->address[4]);
    (void)printf("\nThe mail is the plain mbox file %s/spool/%s: look at it while you play.\n"
                 "It all ends, and nothing is left, with Ctrl-C.\n",
                 d->folder, d->user);
    (void)fflush(stdout);
}

/* Orphans of sessions are our children as well (PR_SET_CHILD_SUBREAPER): they are reaped. Asks the kernel and not the
 * SIGCHLD, as one of these can stand for several children. */
static bool has_lost_listener(const struct demo *d)
{
    for (;;) {
        siginfo_t info = {0};

        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return false;
        for (size_t i = 0; i < SERVICES; i++) {
            if (d->listeners[i] == info.si_pid)
                return true;
        }
        (void)waitpid(info.si_pid, NULL, 0);
    }
}

/* Until a signal to end, the time, or the death of a listener. */
static int wait_for_end(struct demo *d, int seconds)
{
    struct pollfd p = {.fd = d->signals, .events = POLLIN};
    int64_t end = clock_monotonic_ms() + (int64_t)seconds * 1000;

    for (;;) {
        int64_t left = end - clock_monotonic_ms();

        if (is_interrupted(d) || (seconds > 0 && left <= 0))
            return 0;
        if (has_lost_listener(d))
            return -ECHILD;
        if (poll(&p, 1, seconds > 0 ? (int)left : -1) < 0 && errno != EINTR)
            return -errno;
    }
}

static int serve(struct demo *d, int seconds)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < SERVICES; i++) {
        r = start_service(d, i);
        if (is_interrupted(d))
            return 0;
        if (r < 0)
            (void)fprintf(stderr, "pennypost demo: %s does not start: %s\n", services[i][0], strerror(-r));
    }
    if (r < 0)
        return r;
    tell(d);
    r = wait_for_end(d, seconds);
    if (r == -ECHILD)
        (void)fprintf(stderr, "pennypost demo: one of the servers ended by itself\n");
    return r;
}

/* Who serves: the invoking user, or an account without rights when that is root. */
static int choose_user(struct demo *d)
{
    const struct passwd *pw;

    if (priv_is_root()) {
        _cleanup_priv_user_ struct priv_user user = {0};
        int r = priv_user_find(STR(DEMO_ACCOUNT), &user);

        if (r == 0)
            r = priv_become(&user);
        if (r < 0)
            return r;
    }
    pw = getpwuid(getuid());
    if (!pw || strlen(pw->pw_name) >= sizeof(d->user))
        return -ENOENT;
    (void)snprintf(d->user, sizeof(d->user), "%s", pw->pw_name);
    return 0;
}

/* 0 also when a signal to end came meanwhile: see is_interrupted. */
static int prepare(struct demo *d)
{
    static int (*const steps[])(struct demo *) = {take_signals, make_folder, make_certificate, make_password};
    int r = choose_user(d);

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(steps); i++) {
        r = steps[i](d);
        if (d->signals >= 0 && is_interrupted(d))
            return 0;
    }
    return r;
}

/* Ends sessions that outlived their listener: as the reaper of our descendants we are their parent now. */
static void end_sessions(void)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    for (int round = 0; round < 100; round++) {
        FILE *f = fopen(path, "re");
        int pid = 0;
        unsigned found = 0;

        while (f && fscanf(f, "%d", &pid) == 1) {
            found++;
            (void)kill(pid, round < 20 ? SIGTERM : SIGKILL);
        }
        if (f)
            (void)fclose(f);
        if (found == 0)
            return;
        (void)nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

int demo_main(struct conf *conf, int argc, char **argv)
{
    static const struct option table[] = {{"seconds", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    struct demo d = {.folder = "", .signals = -1};
    char program[DEMO_PATH];
    uint32_t seconds = 0;
    ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);
    int option;
    int r;

    (void)conf; /* the demo has its own settings: what is configured on this machine is left alone */
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option != 's' || str_to_u32(str_from(optarg), &seconds) < 0 || seconds > 86400) {
            (void)fputs("usage: pennypost demo [--seconds N]\n", stderr);
            return EX_USAGE;
        }
    }
    if (len < 0)
        return EX_OSERR;
    program[len] = '\0';
    d.program = program;
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    r = prepare(&d);
    if (r < 0)
        (void)fprintf(stderr, "pennypost demo: %s\n", strerror(-r));
    else if (!d.is_interrupted)
        r = serve(&d, (int)seconds);
    for (size_t i = 0; i < SERVICES; i++) {
        if (d.listeners[i] > 0)
            (void)kill(d.listeners[i], SIGTERM);
        child_stop(d.listeners[i]);
    }
    end_sessions();
    if (d.folder[0])
        (void)nftw(d.folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    secret_wipe(d.password, sizeof(d.password));
    close_fd(&d.signals);
    return r < 0 ? EX_OSERR : 0;
}
