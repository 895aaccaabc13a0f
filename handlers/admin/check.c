/*
 * pennypost check: sends a message to a user over every SMTP port, sees it over POP3 and IMAP, in the clear and inside
 * TLS, removes it, and prints a line for each step with a hint where one fails. Runs as the user with his password, or
 * as root; touches nothing but that mailbox, through the ports like any client.
 */
#include "handlers/admin/check.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "handlers/admin/child.h"
#include "handlers/admin/command.h"
#include "shared/base/macros.h"
#include "shared/gate/session.h"

static const struct check_step steps[] = {
    {CHECK_SMTP, 25, PROBE_PLAIN, "SMTP: a message from a stranger", check_smtp_send},
    {CHECK_SMTP, 25, PROBE_STARTTLS, "SMTP, STARTTLS: a message", check_smtp_send},
    {CHECK_SUBMISSION, 587, PROBE_STARTTLS, "submission, STARTTLS: login and a message", check_smtp_send},
    {CHECK_SUBMISSIONS, 465, PROBE_TLS, "submission over TLS: login and a message", check_smtp_send},
    {CHECK_POP3, 110, PROBE_PLAIN, "POP3: login, the messages are there", check_pop3_see},
    {CHECK_POP3, 110, PROBE_STARTTLS, "POP3, STLS: login, the messages are there", check_pop3_see},
    {CHECK_POP3S, 995, PROBE_TLS, "POP3 over TLS: login, the messages are there", check_pop3_see},
    {CHECK_IMAP, 143, PROBE_PLAIN, "IMAP: login, the messages are there", check_imap_see},
    {CHECK_IMAP, 143, PROBE_STARTTLS, "IMAP, STARTTLS: login, the messages are there", check_imap_see},
    {CHECK_IMAPS, 993, PROBE_TLS, "IMAP over TLS: login, the messages are there", check_imap_see},
};

/* Tried in this order until one has removed the messages. */
static const struct check_step removals[] = {
    {CHECK_POP3, 110, PROBE_PLAIN, "POP3: remove the messages", check_pop3_remove},
    {CHECK_POP3, 110, PROBE_STARTTLS, "POP3, STLS: remove the messages", check_pop3_remove},
    {CHECK_POP3S, 995, PROBE_TLS, "POP3 over TLS: remove the messages", check_pop3_remove},
    {CHECK_IMAP, 143, PROBE_PLAIN, "IMAP: remove the messages", check_imap_remove},
    {CHECK_IMAP, 143, PROBE_STARTTLS, "IMAP, STARTTLS: remove the messages", check_imap_remove},
    {CHECK_IMAPS, 993, PROBE_TLS, "IMAP over TLS: remove the messages", check_imap_remove},
};

/* The first that can be tried. */
static const struct check_step proofs[] = {
    {CHECK_IMAP, 143, PROBE_PLAIN, "IMAP: they are gone", check_imap_gone},
    {CHECK_IMAP, 143, PROBE_STARTTLS, "IMAP, STARTTLS: they are gone", check_imap_gone},
    {CHECK_IMAPS, 993, PROBE_TLS, "IMAP over TLS: they are gone", check_imap_gone},
};

static const struct {
    const char *name;
    enum check_service service;
} services[] = {
    {"smtp", CHECK_SMTP},   {"submission", CHECK_SUBMISSION}, {"submissions", CHECK_SUBMISSIONS},
    {"pop3", CHECK_POP3},   {"pop3s", CHECK_POP3S},           {"imap", CHECK_IMAP},
    {"imaps", CHECK_IMAPS},
};

static const char *service_name(enum check_service service)
{
    for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
        if (services[i].service == service)
            return services[i].name;
    }
    return "?";
}

/* ---- what the conversations share ---- */

int check_fail(struct check *c, int error, const char *hint, const char *format, ...)
{
    va_list ap;

    buf_clear(&c->reason);
    va_start(ap, format);
    (void)buf_vprintf(&c->reason, format, ap);
    va_end(ap);
    if (hint)
        c->hint = hint;
    return error;
}

int check_broken(struct check *c, struct probe *p, int error, const char *doing)
{
    if (error == -ENODATA && p->child > 0 && p->last[0] == '\0')
        return check_fail(c, error,
                          "if the TLS handshake failed, the log (journalctl -g tls) says why, and "
                          "openssl s_client -connect HOST:PORT shows the client's side",
                          "%s: the connection was closed", doing);
    if (error == -ENODATA || error == -EPIPE || error == -ECONNRESET)
        return check_fail(c, error, "the server ended the connection: its log line says why",
                          "%s: the connection was closed%s%s", doing, p->last[0] ? " after: " : "", p->last);
    return check_fail(c, error,
                      error == -ETIMEDOUT ? "a handler hangs: a lock, PAM or a name service; see the log" : NULL,
                      "%s: %s", doing, strerror(-error));
}

int check_refused(struct check *c, struct probe *p, const char *doing)
{
    static const struct {
        const char *word;
        const char *hint;
    } hints[] = {
        /* Also what POP3 says, which has no code for it. */
        {"use TLS before", "plaintext_auth in pennypost.conf forbids a password in the clear: clients must use TLS"},
        {"[IN-USE]", "another POP3 session has the mailbox: it must end first"},
        {"[INUSE]", "another session or program holds the mailbox: try again, fuser FILE shows who it is"},
        {"[LOGIN-DELAY]", "the last login is too short a time ago (key pop3_login_delay): try again later"},
        {"[EXPIRED]", "the password or the account has expired: chage -l USER"},
        {"[CONTACTADMIN]", "PAM refuses this account: is it locked or expired? The 'login' line in the log says why"},
        {"[UNAVAILABLE]", "a temporary failure: PAM, a lock, the disk; the log says which"},
        {"[SYS/TEMP]", "a temporary failure: PAM, a lock, the disk; the log says which"},
    };
    const char *hint = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(hints) && !hint; i++) {
        if (str_ifind(str_from(p->last), str_from(hints[i].word)) >= 0)
            hint = hints[i].hint;
    }
    return check_fail(c, -EPROTO, hint, "%s: answered '%s'", doing, p->last);
}

static const char *hint_of_connect(int error)
{
    switch (error) {
    case -ECONNREFUSED:
        return "nothing listens there: systemctl status pennypost-NAME.socket, or the lines of inetd.conf";
    case -ETIMEDOUT:
        return "a firewall drops what goes there, or nothing takes the connections: nft list ruleset, ss -ltn";
    case -EHOSTUNREACH:
    case -ENETUNREACH:
        return "no way leads to this address: ip route get ADDRESS, or a firewall rejects it";
    case -EACCES:
    case -EPERM:
        return "a firewall of this machine forbids it: nft list ruleset";
    case -EADDRNOTAVAIL:
    case -EAFNOSUPPORT:
        return "this machine cannot use such an address: ip address, and give --host another one";
    default:
        return "the connection could not be made from here, the server is not to blame: ulimit -n, free memory";
    }
}

int check_open(struct check *c, const struct check_step *s, const char *protocol, const char *greeting, struct probe *p)
{
    struct str line;
    int r = probe_open(p, c->addresses, s->port, s->tls, protocol);

    if (r < 0)
        return check_fail(c, r, hint_of_connect(r), "port %u of %s: %s", (unsigned)s->port, c->host, strerror(-r));
    if (s->tls == PROBE_STARTTLS)
        return 0;
    r = probe_line(p, &line);
    if (r < 0)
        return check_broken(c, p, r, "the greeting");
    if (str_starts(line, STR("421")) || str_starts(line, STR("554")) || str_starts(line, STR("* BYE")) ||
        str_starts(line, STR("-ERR")))
        return check_fail(c, -EPROTO,
                          "the server turns us away: too many connections, a block list, or it cannot start a session; "
                          "its log line says which",
                          "greeted with '%s'", p->last);
    if (!str_starts(line, str_from(greeting)))
        return check_fail(c, -EPROTO, "does another server hold the port? ss -ltnp shows it", "greeted with '%s'",
                          p->last);
    /* The rest of a greeting of several lines. */
    while (str_starts(line, STR("220-"))) {
        r = probe_line(p, &line);
        if (r < 0)
            return check_broken(c, p, r, "the greeting");
    }
    return 0;
}

/* ---- the report ---- */

static void report(struct check *c, const char *verdict, const char *name, int64_t began)
{
    (void)printf("%-4s  %s", verdict, name);
    if (strcmp(verdict, "ok") == 0)
        (void)printf(" (%lld ms)%s%s\n", (long long)(clock_monotonic_ms() - began), c->detail.len > 0 ? ": " : "",
                     buf_cstr(&c->detail));
    else
        (void)printf(": %s\n", buf_cstr(&c->reason));
    if (c->hint)
        (void)printf("      hint: %s\n", c->hint);
    (void)fflush(stdout);
}

/* A failure whose step knows no better one: the server says there what it did. */
static const char *hint_of_log(enum check_service service)
{
    switch (service) {
    case CHECK_POP3:
    case CHECK_POP3S:
        return "the log of this session says why: journalctl -t ipop3d -t pop3-session (or the mail log)";
    case CHECK_IMAP:
    case CHECK_IMAPS:
        return "the log of this session says why: journalctl -t imapd -t imap-session (or the mail log)";
    default:
        return "the log of this session says why: journalctl -t smtpd -t smtp-session -t deliver (or the mail log)";
    }
}

static int run_step(struct check *c, const struct check_step *s)
{
    int64_t began = clock_monotonic_ms();
    int r;

    buf_clear(&c->reason);
    buf_clear(&c->detail);
    c->hint = NULL;
    r = s->run(c, s);
    if (r < 0 && c->reason.len == 0)
        (void)check_fail(c, r, NULL, "%s", strerror(-r));
    if (r < 0 && !c->hint)
        c->hint = hint_of_log(s->service);
    if (r < 0)
        c->failed++;
    else
        c->passed++;
    report(c, r < 0 ? "FAIL" : "ok", s->name, began);
    return r;
}

static void skip_step(struct check *c, const char *name, const char *why, const char *hint)
{
    buf_clear(&c->reason);
    (void)buf_printf(&c->reason, "%s", why);
    c->hint = hint;
    c->skipped++;
    report(c, "skip", name, 0);
}

/* What is wrong with a certificate and its key, into reason and hint; -ENODATA: nothing. *output gets openssl's words.
 */
static int find_fault(struct check *c, const char *certificate, const char *key, struct buf *output)
{
    const char *const argv[] = {"openssl", "x509", "-noout", "-enddate", "-checkend", "0", "-in", certificate, NULL};
    const char *missing = access(certificate, F_OK) < 0 && errno == ENOENT ? certificate
                          : access(key, F_OK) < 0 && errno == ENOENT       ? key
                                                                           : NULL;
    struct str text, line;
    int status;

    if (missing)
        return check_fail(c, -ENOENT, "without any file that tls_certificate and tls_key name no TLS session begins",
                          "%s: %s", missing, strerror(ENOENT));
    status = child_run(argv, STR_NULL, output);
    if (status == 0)
        return -ENODATA;
    if (status < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 127)) {
        c->no_tls = "no openssl";
        return check_fail(c, -EIO, "openssl is needed for the checks of TLS: apt-get install openssl",
                          "the program openssl does not run");
    }
    text = str_trim(buf_str(output));
    (void)str_cut(&text, '\n', &line);
    if (str_starts(line, STR("notAfter=")))
        return check_fail(c, -EIO, "a new certificate is taken by the next connection, nothing has to be restarted",
                          "%s has expired: %.*s", certificate, STR_ARG(line));
    return check_fail(c, -EIO, "it must be a file in PEM that openssl x509 -in FILE can show", "%s: %.*s", certificate,
                      STR_ARG(line));
}

static void check_pair(struct check *c, const char *certificate, const char *key)
{
    static const char name[] = "the certificate is there and valid";
    _cleanup_buf_ struct buf output = BUF_INIT(1024);
    int64_t began = clock_monotonic_ms();
    struct str text, line;
    struct stat st;

    c->hint = NULL;
    buf_clear(&c->detail);
    if (find_fault(c, certificate, key, &output) != -ENODATA) {
        c->failed++;
        report(c, "FAIL", name, began);
        return; /* the steps show what a client sees */
    }
    if (stat(key, &st) == 0 && (st.st_mode & 077) != 0)
        c->hint = "others than root can read the key: chmod 600";
    text = buf_str(&output);
    (void)str_cut(&text, '\n', &line);
    (void)buf_printf(&c->detail, "%s, %.*s", certificate, STR_ARG(line));
    c->passed++;
    report(c, "ok", name, began);
}

/* TLS needs a certificate and its key, and a client has to accept it at least in time. Several are paired as in
 * shared/gate/tls.h; without the first file no TLS is offered. */
static void check_certificates(struct check *c)
{
    struct str certificates = str_from(c->conf->tls_certificate), keys = str_from(c->conf->tls_key);
    struct str certificate, next_key, key = STR_NULL;
    bool has_one = false;

    while (!c->no_tls && str_word(&certificates, &certificate)) {
        _cleanup_free_ char *path = str_dup(certificate);
        _cleanup_free_ char *key_path = NULL;

        if (str_word(&keys, &next_key))
            key = next_key;
        key_path = str_dup(key.len > 0 ? key : certificate);
        if (!path || !key_path || (!has_one && access(path, R_OK) < 0 && errno == ENOENT))
            break;
        has_one = true;
        check_pair(c, path, key_path);
    }
    if (has_one)
        return;
    c->no_tls = "no certificate";
    skip_step(c, "the certificate is there and valid", "there is none, so TLS is not offered and not checked",
              "units/install makes one; keys tls_certificate and tls_key name another");
}

/* ---- order of events ---- */

/* Why a step cannot be tried, or NULL. */
static const char *obstacle(const struct check *c, const struct check_step *s)
{
    if (s->tls != PROBE_PLAIN && c->no_tls)
        return c->no_tls;
    if (s->tls == PROBE_PLAIN && s->run != check_smtp_send && c->conf->plaintext_auth == CONF_PLAINTEXT_NO)
        return "plaintext_auth = no";
    return NULL;
}

static void check_all(struct check *c)
{
    check_certificates(c);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        const struct check_step *s = &steps[i];
        const char *why = obstacle(c, s);

        if ((c->services & s->service) == 0)
            continue;
        if (why)
            skip_step(c, s->name, why, NULL);
        else
            (void)run_step(c, s);
    }
    for (size_t i = 0; i < ARRAY_SIZE(removals) && c->sent > 0 && !c->is_removed; i++) {
        if ((c->services & removals[i].service) != 0 && !obstacle(c, &removals[i]))
            (void)run_step(c, &removals[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(proofs) && c->is_removed; i++) {
        if ((c->services & proofs[i].service) != 0 && !obstacle(c, &proofs[i])) {
            (void)run_step(c, &proofs[i]);
            break;
        }
    }
    if (c->sent > 0 && !c->is_removed && !c->account.is_throwaway)
        (void)printf("note  %u messages with '%s: %s' are left in the mailbox of %s\n", c->sent, CHECK_FIELD, c->token,
                     c->account.name);
}

static int parse_services(const char *text, unsigned *ret)
{
    struct str rest = str_from(text);
    struct str word;
    unsigned set = 0;
    bool more = true;

    while (more) {
        unsigned found = 0;

        more = str_cut(&rest, ',', &word);
        for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
            if (str_eq(word, str_from(services[i].name)))
                found = services[i].service;
        }
        if (found == 0)
            return -EINVAL;
        set |= found;
    }
    *ret = set;
    return 0;
}

static int usage(void)
{
    (void)fputs("usage: pennypost check [--services LIST] [--host HOST] [--password-file FILE] [USER]\n"
                "       pennypost check --security\n       pennypost check --dns\nservices:",
                stderr);
    for (size_t i = 0; i < ARRAY_SIZE(services); i++)
        (void)fprintf(stderr, " %s", service_name(services[i].service));
    (void)fputc('\n', stderr);
    return EX_USAGE;
}

/* --host: a name or an address. */
static int find_host(struct check *c)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int r = getaddrinfo(c->host, NULL, &hints, &c->addresses);

    if (r == 0)
        return 0;
    (void)fprintf(stderr,
                  "pennypost check: no address of --host %s: %s\n      hint: getent ahosts %s shows what "
                  "this machine finds; 127.0.0.1 is the machine itself\n",
                  c->host, r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r), c->host);
    return -ENOENT;
}

int check_main(struct conf *conf, int argc, char **argv)
{
    static const struct option table[] = {
        {"services", required_argument, NULL, 's'},
        {"host", required_argument, NULL, 'h'},
        {"password-file", required_argument, NULL, 'p'},
        {"security", no_argument, NULL, 'S'},
        {"dns", no_argument, NULL, 'D'},
        {NULL, 0, NULL, 0},
    };
    struct check c = {
        .conf = conf, .host = "127.0.0.1", .services = CHECK_ALL, .reason = BUF_INIT(4096), .detail = BUF_INIT(4096)};
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    const char *password_file = NULL;
    int option;
    int r;

    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option == 's' ? parse_services(optarg, &c.services) < 0 : option == '?')
            return usage();
        if (option == 'S')
            return check_security(conf);
        if (option == 'D')
            return check_dns(conf);
        if (option == 'h')
            c.host = optarg;
        if (option == 'p')
            password_file = optarg;
    }
    if (argc - optind > 1)
        return usage();
    if (find_host(&c) < 0)
        return EX_NOHOST;
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);

    r = account_choose(conf, argv[optind], password_file, &c.account, &text);
    if (r == 0) {
        _cleanup_buf_ struct buf token = BUF_INIT(sizeof(c.token));

        (void)clock_unique(&conf->clock, &token);
        (void)snprintf(c.token, sizeof(c.token), "%s", buf_cstr(&token));
        (void)printf("mailbox of %s%s, server %s\n", c.account.name,
                     c.account.is_throwaway ? " (an account made for this check only: root has no mail login)"
                     : c.account.is_lent    ? " (logins with a device password for this check: his own is not tried)"
                                            : "",
                     c.host);
        check_all(&c);
    } else {
        (void)fprintf(stderr, "pennypost check: %s\n", text.len > 0 ? buf_cstr(&text) : strerror(-r));
    }
    if (account_finish(conf, &c.account) < 0)
        c.failed++;
    buf_finish(&c.reason);
    buf_finish(&c.detail);
    freeaddrinfo(c.addresses);
    if (r < 0)
        return EX_NOUSER;
    (void)printf("%u ok, %u failed, %u skipped\n", c.passed, c.failed, c.skipped);
    return c.failed > 0 || c.passed == 0 ? 1 : 0;
}
