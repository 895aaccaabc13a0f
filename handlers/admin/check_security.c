/*
 * pennypost check --security: what an attacker who took over a confined program could reach, tried and not asserted;
 * the modes of the files that matter; the exposure that systemd sees in our units. Runs as root; changes nothing. The
 * tries are made in children that confine themselves with the very functions of the real programs.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "handlers/admin/check_security.h"
#include "handlers/admin/child.h"
#include "handlers/admin/command.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/gate/keeper.h"
#include "shared/gate/priv.h"
#include "shared/gate/sandbox.h"
#include "shared/gate/throttle.h"
#include "shared/gate/tickets.h"

#define UNITS_MAX   64 /* unit files looked at */
#define FILES_MAX   64 /* files of one kind looked at */
#define MEMORY      (64u << 20)
#define FILES       16
#define TRY_HELD    0  /* exit statuses of a try: an error came back */
#define TRY_REACHED 10 /* it worked */
#define TRY_BROKEN  11 /* the confinement itself failed */

void report_say(struct report *r, bool is_fine, const char *what, const char *detail)
{
    *(is_fine ? &r->passed : &r->failed) += 1;
    (void)printf("%s  %s%s%s\n", is_fine ? "ok  " : "BAD ", what, detail[0] ? ": " : "", detail);
}

void report_skip(struct report *r, const char *what, const char *why)
{
    r->skipped++;
    (void)printf("--    %s: %s\n", what, why);
}

/* ---- inside the sandbox ---- */

static bool open_passwd(pid_t other)
{
    (void)other;
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0;
}

static bool open_here(pid_t other)
{
    (void)other;
    return open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) >= 0;
}

static bool make_file(pid_t other)
{
    (void)other;
    return open("left-behind", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
}

static bool make_socket(pid_t other)
{
    (void)other;
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0;
}

static bool make_unix_socket(pid_t other)
{
    (void)other;
    return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0;
}

static bool send_signal(pid_t other)
{
    return kill(other, 0) == 0;
}

/* The kernel sends signals for files that were told to: to any process of the same account. */
static bool signal_by_file(pid_t other)
{
    return fcntl(STDOUT_FILENO, F_SETOWN, other) == 0;
}

/* Local sockets that can be connected to others. */
static bool make_socket_pair(pid_t other)
{
    int pair[2];

    (void)other;
    return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0;
}

/* System calls that no filter sees. */
static bool make_ring(pid_t other)
{
    struct io_uring_params parameters = {0};

    (void)other;
    return syscall(SYS_io_uring_setup, 1, &parameters) >= 0;
}

static bool make_name_space(pid_t other)
{
    (void)other;
    return unshare(CLONE_NEWUSER) == 0;
}

static bool trace(pid_t other)
{
    return ptrace(PTRACE_SEIZE, other, NULL, NULL) == 0;
}

static bool read_memory(pid_t other)
{
    char byte;
    struct iovec to = {&byte, 1}, from = {&byte, 1}; /* mapped in the parent as well: we are its fork */

    return process_vm_readv(other, &to, 1, &from, 1, 0) == 1;
}

static bool start_program(pid_t other)
{
    char *const argv[] = {(char[]){"true"}, NULL};

    (void)other;
    return execv("/bin/true", argv) == 0;
}

static bool start_process(pid_t other)
{
    pid_t pid = fork();

    (void)other;
    if (pid == 0)
        _exit(0);
    return pid > 0;
}

static bool become_root(pid_t other)
{
    (void)other;
    return setuid(0) == 0;
}

static bool leave_root_folder(pid_t other)
{
    (void)other;
    return chroot(".") == 0;
}

static bool run_made_code(pid_t other)
{
    (void)other;
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static const struct {
    const char *name;
    bool (*reaches)(pid_t other);
} tries[] = {
    {"open /etc/passwd", open_passwd},
    {"open its own folder", open_here},
    {"make a file", make_file},
    {"make a network socket", make_socket},
    {"make a local socket", make_unix_socket},
    {"make a pair of local sockets", make_socket_pair},
    {"signal another process", send_signal},
    {"have a file signal another process", signal_by_file},
    {"trace another process", trace},
    {"read another process's memory", read_memory},
    {"start a program", start_program},
    {"start a process", start_process},
    {"become root", become_root},
    {"change its root folder", leave_root_folder},
    {"run code that it made", run_made_code},
    {"make a name space", make_name_space},
    {"make an io_uring", make_ring},
};

static const struct {
    const char *name;
    const char *account;
    enum sandbox_role role;
    bool has_sockets; /* it asks servers of the internet: that is its job */
} roles[] = {
    {"login stage", PRIV_USER_LOGIN, SANDBOX_LOGIN, false}, {"tls", PRIV_USER_TLS, SANDBOX_TLS, false},
    {"smtp-session", PRIV_USER_SMTP, SANDBOX_LOGIN, false}, {"relay-session", PRIV_USER_RELAY, SANDBOX_RELAY, false},
    {"resolve", PRIV_USER_RESOLVE, SANDBOX_RESOLVE, true},  {"sts", PRIV_USER_STS, SANDBOX_FETCH, true},
};

/* In a child: confined like the real thing, one try. */
static int try_it(size_t role, bool (*reaches)(pid_t), pid_t other)
{
    struct priv_confinement confinement = {
        .account = roles[role].account, .find = priv_account_named, .open_files = FILES, .memory = MEMORY};
    const char *what = "";

    if (priv_confine(&confinement, &what) < 0 || sandbox_enter(roles[role].role) < 0)
        return TRY_BROKEN;
    return reaches(other) ? TRY_REACHED : TRY_HELD;
}

static void report_try(struct report *r, size_t role, size_t i)
{
    char name[96];
    pid_t self = getpid();
    pid_t pid = fork();
    int status = 0;

    (void)snprintf(name, sizeof(name), "%s cannot %s", roles[role].name, tries[i].name);
    if (pid == 0)
        _exit(try_it(role, tries[i].reaches, self));
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        report_say(r, false, name, "could not be tried");
    else if (WIFSIGNALED(status))
        report_say(r, WTERMSIG(status) == SIGSYS, name,
                   WTERMSIG(status) == SIGSYS ? "killed for trying" : "died of something else");
    else if (WEXITSTATUS(status) == TRY_HELD)
        report_say(r, true, name, "refused");
    else
        report_say(r, false, name, WEXITSTATUS(status) == TRY_BROKEN ? "it could not be confined" : "it can");
}

static void check_sandbox(struct report *r, const struct conf *conf)
{
    if (!priv_is_root()) {
        report_skip(r, "what the confined programs can reach", "needs root");
        return;
    }
    if (!sandbox_is_built()) {
        report_skip(r, "what the confined programs can reach", "built with sanitizers, so without filters");
        return;
    }
    (void)fflush(stdout);
    for (size_t role = 0; role < ARRAY_SIZE(roles); role++)
        for (size_t i = 0; i < ARRAY_SIZE(tries); i++)
            if (!roles[role].has_sockets || tries[i].reaches != make_socket)
                report_try(r, role, i);
    check_running(r, conf);
}

/* ---- files ---- */

enum secrecy { SECRET, UNCHANGEABLE };

/* Root's, and nobody else may read (SECRET) or write it. A file that is not there is not wrong. */
static void check_file(struct report *r, const char *path, enum secrecy secrecy)
{
    mode_t forbidden = secrecy == SECRET ? 077 : 022;
    char detail[64];
    struct stat st;

    if (stat(path, &st) < 0) {
        report_skip(r, path, strerror(errno));
        return;
    }
    (void)snprintf(detail, sizeof(detail), "uid %u, mode %04o", (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
    report_say(r, st.st_uid == 0 && (st.st_mode & forbidden) == 0, path, detail);
}

static void check_words(struct report *r, const char *words, enum secrecy secrecy)
{
    struct str rest = str_from(words), word;

    while (str_word(&rest, &word)) {
        _cleanup_free_ char *path = str_dup(word);
        if (path)
            check_file(r, path, secrecy);
    }
}

/* The folder of mailboxes: nobody but root and its group writes there, or it is sticky. */
static void check_spool(struct report *r, const char *path)
{
    char detail[64];
    struct stat st;

    if (stat(path, &st) < 0) {
        report_skip(r, path, strerror(errno));
        return;
    }
    (void)snprintf(detail, sizeof(detail), "uid %u, gid %u, mode %04o", (unsigned)st.st_uid, (unsigned)st.st_gid,
                   (unsigned)st.st_mode & 07777);
    report_say(r, st.st_uid == 0 && ((st.st_mode & 02) == 0 || (st.st_mode & S_ISVTX) != 0), path, detail);
}

/* The mailboxes in it: a line for each that others than its owner and its group can read or write, or one for all. */
static void check_boxes(struct report *r, const char *folder)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_PATHNAME);
    glob_t found = {0};
    size_t count = 0, open = 0;
    struct stat st;

    if (buf_printf(&text, "%s/*", folder) < 0)
        return;
    if (glob(buf_cstr(&text), GLOB_NOSORT, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && open < FILES_MAX; i++) {
            if (lstat(found.gl_pathv[i], &st) < 0 || !S_ISREG(st.st_mode))
                continue;
            count++;
            if ((st.st_mode & 07) == 0)
                continue;
            open++;
            buf_clear(&text);
            (void)buf_printf(&text, "uid %u, mode %04o", (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
            report_say(r, false, found.gl_pathv[i], buf_cstr(&text));
        }
    globfree(&found);
    buf_clear(&text);
    (void)buf_printf(&text, "%zu files in %s", count, folder);
    if (count > 0 && open == 0)
        report_say(r, true, "mailboxes are for their owners and their group", buf_cstr(&text));
}

/* Those files in a folder that match. */
static void check_below(struct report *r, const char *folder, const char *pattern, enum secrecy secrecy)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_PATHNAME);
    glob_t found = {0};

    if (buf_printf(&path, "%s/%s", folder, pattern) < 0)
        return;
    if (glob(buf_cstr(&path), GLOB_NOSORT, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && i < FILES_MAX; i++)
            check_file(r, found.gl_pathv[i], secrecy);
    globfree(&found);
}

static void check_files(struct report *r, const struct conf *conf)
{
    const char *const secrets[] = {conf->devices, conf->relay_credentials, conf->srs_secret, KEEPER_LOCKS_DIR,
                                   conf->queue,   conf->sts_cache};
    const char *const others[] = {conf->runtime,        PENNYPOST_SYSCONFDIR, PENNYPOST_SYSCONFDIR "/pennypost.conf",
                                  PRIV_EMPTY_DIR,       conf->dkim_keys,      conf->aliases,
                                  conf->atrn_customers, conf->relay_routes,   conf->tls_policy};

    check_words(r, conf->tls_key, SECRET);
    check_words(r, conf->tls_certificate, UNCHANGEABLE);
    check_words(r, conf->tls_client_ca, UNCHANGEABLE);
    check_below(r, conf->dkim_keys, "*.key", SECRET);
    check_below(r, conf->runtime, TICKETS_FILE, SECRET);
    check_below(r, conf->runtime, THROTTLE_FILE, SECRET);
    for (size_t i = 0; i < ARRAY_SIZE(secrets); i++)
        check_file(r, secrets[i], SECRET);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        check_file(r, others[i], UNCHANGEABLE);
    check_spool(r, conf->spool);
    check_boxes(r, conf->spool);
    check_below(r, PENNYPOST_LIBEXECDIR, "*", UNCHANGEABLE);
    check_below(r, "/etc/pam.d", "pennypost-*", UNCHANGEABLE);
    check_below(r, "/usr/lib/pam.d", "pennypost-*", UNCHANGEABLE);
}

/* ---- units ---- */

/* systemd's own opinion: its last line, "Overall exposure level for X: 4.9 OK". What the units of one connection leave
 * out on purpose, the processes do to themselves; so the number is told and not judged. */
static void check_unit(struct report *r, const char *path)
{
    const char *const argv[] = {"systemd-analyze", "--no-pager", "security", "--offline=true", path, NULL};
    _cleanup_buf_ struct buf output = BUF_INIT(64u << 10);
    static const char words[] = "exposure level for ";
    int status = child_run(argv, STR(""), &output);
    ptrdiff_t at = str_find(buf_str(&output), STR("exposure level for "));
    struct str rest = str_sub(buf_str(&output), at < 0 ? 0 : (size_t)at + sizeof(words) - 1, SIZE_MAX), line;

    (void)str_cut(&rest, '\n', &line);
    if (status != 0 || at < 0) {
        report_skip(r, path, "systemd-analyze says nothing");
        return;
    }
    r->passed++;
    (void)printf("ok    exposure of %.*s\n", STR_ARG(line));
}

static void check_units(struct report *r)
{
    static const char *const folders[] = {"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"};
    size_t seen = 0;

    for (size_t f = 0; f < ARRAY_SIZE(folders) && seen == 0; f++) {
        char pattern[64];
        glob_t found = {0};

        (void)snprintf(pattern, sizeof(pattern), "%s/pennypost-*.service", folders[f]);
        if (glob(pattern, 0, NULL, &found) == 0)
            for (; seen < found.gl_pathc && seen < UNITS_MAX; seen++)
                check_unit(r, found.gl_pathv[seen]);
        globfree(&found);
    }
    if (seen == 0)
        report_skip(r, "units", "none installed");
}

int check_security(struct conf *conf)
{
    struct report r = {0};

    check_files(&r, conf); /* first: what runs below mends some of them */
    check_sandbox(&r, conf);
    check_units(&r);
    (void)printf("%u ok, %u failed, %u skipped\n", r.passed, r.failed, r.skipped);
    return r.failed > 0 || r.passed == 0 ? 1 : 0;
}
