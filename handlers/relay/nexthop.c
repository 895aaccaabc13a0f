/*
 * Next hops. Runs in relay, as root; reads the admin's files only.
 */
#include "handlers/relay/nexthop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/route/customers.h"
#include "shared/route/idna.h"
#include "shared/route/listfile.h"

#define PORT_SMTP        25
#define PORT_SUBMISSION  587
#define PORT_SUBMISSIONS 465

/* ---- files ---- */

static int read_file(const char *path, struct buf *out)
{
    int r = listfile_read(path, NULL, out, NULL);

    return r == -ENOENT ? 0 : r;
}

static int read_secret(const char *path, struct buf *out)
{
    struct stat st;
    int r = buf_reserve(out, NEXTHOP_FILE); /* so that it never moves */

    if (r == 0)
        r = listfile_read(path, NULL, out, &st);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    return (st.st_mode & 077) != 0 || (st.st_uid != 0 && st.st_uid != geteuid()) ? -EPERM : 0;
}

/* systemd's LoadCredential= has precedence. */
static int read_credentials(const struct conf *conf, struct buf *out)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    char path[4096];
    int n = folder ? snprintf(path, sizeof(path), "%s/relay_credentials", folder) : -1;

    if (n > 0 && (size_t)n < sizeof(path) && access(path, F_OK) == 0)
        return read_secret(path, out);
    return read_secret(conf->relay_credentials, out);
}

int nexthop_load(const struct conf *conf, struct nexthop_files *ret, const char **ret_path)
{
    int r;

    *ret = (struct nexthop_files){.conf = conf,
                                  .routes = BUF_INIT(NEXTHOP_FILE + 1),
                                  .policies = BUF_INIT(NEXTHOP_FILE + 1),
                                  .credentials = BUF_INIT(NEXTHOP_FILE + 1),
                                  .customers = BUF_INIT(CUSTOMERS_FILE)};
    *ret_path = conf->relay_routes;
    r = read_file(conf->relay_routes, &ret->routes);
    if (r == 0) {
        *ret_path = conf->tls_policy;
        r = read_file(conf->tls_policy, &ret->policies);
    }
    if (r == 0) {
        *ret_path = conf->relay_credentials;
        r = read_credentials(conf, &ret->credentials);
    }
    if (r == 0) {
        *ret_path = conf->atrn_customers;
        r = customers_load(conf->atrn_customers, &ret->customers);
    }
    if (r < 0)
        nexthop_finish(ret);
    return r;
}

void nexthop_finish(struct nexthop_files *f)
{
    buf_finish(&f->routes);
    buf_finish(&f->policies);
    buf_wipe_finish(&f->credentials);
    buf_finish(&f->customers);
}

/* The next line that is not empty or a comment: its first word and the rest. */
static bool next_line(struct str *text, struct str *ret_word, struct str *ret_rest)
{
    while (text->len > 0) {
        struct str line;

        (void)str_cut(text, '\n', &line);
        if (!str_word(&line, ret_word) || ret_word->ptr[0] == '#')
            continue;
        *ret_rest = str_trim(line);
        return true;
    }
    return false;
}

/* "example.org" or ".example.org", which also stands for all below it. */
static bool domain_matches(struct str pattern, struct str domain)
{
    if (pattern.len == 0)
        return false;
    if (pattern.ptr[0] != '.')
        return str_ieq(pattern, domain);
    return str_ieq(str_sub(pattern, 1, pattern.len), domain) ||
           (domain.len > pattern.len && str_ieq(str_sub(domain, domain.len - pattern.len, pattern.len), pattern));
}

/* ---- one spec ---- */

int nexthop_parse(struct str spec, struct str *ret_host, uint32_t *ret_port, bool *ret_is_implicit)
{
    bool is_implicit = str_istarts(spec, STR("smtps://"));
    ptrdiff_t end;
    struct str host;

    if (is_implicit)
        spec = str_sub(spec, 8, spec.len);
    if (spec.len > 0 && spec.ptr[0] == '[') {
        end = str_chr(spec, ']');
        if (end < 2)
            return -EINVAL;
        host = str_sub(spec, 1, (size_t)end - 1);
        if (str_istarts(host, STR("IPv6:")))
            host = str_sub(host, 5, host.len);
        spec = str_sub(spec, (size_t)end + 1, spec.len);
    } else {
        end = str_chr(spec, ':');
        host = str_sub(spec, 0, end < 0 ? spec.len : (size_t)end);
        spec = str_sub(spec, host.len, spec.len);
    }
    *ret_port = 0;
    if (spec.len > 0 && (spec.ptr[0] != ':' || str_to_u32(str_sub(spec, 1, spec.len), ret_port) < 0 || *ret_port == 0 ||
                         *ret_port > UINT16_MAX))
        return -EINVAL;
    if (host.len == 0 || host.len > LIMIT_DOMAIN)
        return -EINVAL;
    *ret_host = host;
    *ret_is_implicit = is_implicit || *ret_port == PORT_SUBMISSIONS;
    return 0;
}

/* ---- finding ---- */

static struct str domain_of(struct str address)
{
    for (size_t i = address.len; i > 0; i--)
        if (address.ptr[i - 1] == '@')
            return str_sub(address, i, address.len);
    return STR_NULL;
}

/* The spec of the route, "mx" or a host; the first line that fits counts, senders before domains. */
static struct str find_route(const struct nexthop_files *f, struct str sender, struct str domain)
{
    struct str text = buf_str(&f->routes), word, rest, found = STR_NULL;

    while (next_line(&text, &word, &rest)) {
        struct str who = str_istarts(word, STR("from:")) ? str_sub(word, 5, word.len) : STR_NULL;

        if (who.len > 0 && (str_ieq(who, sender) ||
                            (who.ptr[0] == '@' && domain_matches(str_sub(who, 1, who.len), domain_of(sender)))))
            return rest;
        if (who.len == 0 && found.len == 0 && domain_matches(word, domain))
            found = rest;
    }
    return found.len > 0 ? found : str_from(f->conf->relayhost);
}

/* A policy for the next hop's name, or for the domain that the mail is for. */
static int find_policy(const struct nexthop_files *f, struct str hop, struct str domain, struct job *job)
{
    static const char *const names[] = {
        [JOB_TLS_AUTO] = "auto",       [JOB_TLS_NONE] = "none",     [JOB_TLS_MAY] = "may",
        [JOB_TLS_ENCRYPT] = "encrypt", [JOB_TLS_VERIFY] = "verify", [JOB_TLS_DANE] = "dane"};
    struct str text = buf_str(&f->policies), word, rest, level;

    while (next_line(&text, &word, &rest)) {
        if (!domain_matches(word, hop) && !domain_matches(word, domain))
            continue;
        if (!str_word(&rest, &level))
            return -EINVAL;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            if (str_ieq(level, str_from(names[i]))) {
                job->tls = (enum job_tls)i;
                job->names = str_trim(rest);
                return 0;
            }
        return -EINVAL;
    }
    return 0;
}

static void find_login(const struct nexthop_files *f, struct str spec, struct job *job)
{
    struct str text = buf_str(&f->credentials), word, rest, host;
    uint32_t port;
    bool is_implicit;

    while (next_line(&text, &word, &rest)) {
        bool is_same =
            str_ieq(word, spec) || (nexthop_parse(word, &host, &port, &is_implicit) == 0 && str_ieq(host, job->hop) &&
                                    (port == 0 || job->port == 0 || port == job->port));

        if (!is_same || !str_word(&rest, &job->user))
            continue;
        job->secret = str_trim(rest);
        job->login = TALK_LOGIN_PASSWORD;
        if (str_starts(job->secret, STR("bearer:"))) {
            job->secret = str_sub(job->secret, 7, job->secret.len);
            job->login = TALK_LOGIN_TOKEN;
        }
        return;
    }
}

static int use_host(const struct nexthop_files *f, struct str spec, struct job *job)
{
    int r = nexthop_parse(spec, &job->hop, &job->port, &job->is_implicit);

    if (r < 0)
        return r;
    job->kind = JOB_HOST;
    find_login(f, spec, job);
    if (job->port == 0)
        job->port = job->is_implicit ? PORT_SUBMISSIONS : job->login == TALK_LOGIN_NONE ? PORT_SMTP : PORT_SUBMISSION;
    return 0;
}

/* The domain as DNS knows it. */
static int use_mx(struct str domain, struct nexthop *n)
{
    struct buf ascii = BUF_INIT(sizeof(n->host) - 1);
    int r = domain.len > 0 && domain.ptr[0] == '[' ? buf_add_str(&ascii, domain) : idna_to_ascii(domain, &ascii);

    if (r == 0 && ascii.len > 0)
        memcpy(n->host, ascii.data, ascii.len + 1);
    if (r == 0 && ascii.len == 0)
        r = -EINVAL;
    buf_finish(&ascii);
    n->job.kind = JOB_MX;
    n->job.hop = str_from(n->host);
    n->job.port = PORT_SMTP;
    return r == -ENOBUFS ? -EINVAL : r;
}

int nexthop_host(const struct nexthop_files *f, struct str spec, uint32_t port, struct job *ret)
{
    struct job job = {.tls = JOB_TLS_AUTO, .percent = f->conf->relay_timeouts};
    struct str host;
    uint32_t given;
    bool is_implicit;
    int r = nexthop_parse(spec, &host, &given, &is_implicit);

    if (r == 0)
        r = use_host(f, spec, &job);
    if (r == 0 && given == 0)
        job.port = port;
    if (r == 0)
        r = find_policy(f, job.hop, STR(""), &job);
    if (r == 0)
        *ret = job;
    return r;
}

int nexthop_find(const struct nexthop_files *f, struct str sender, struct str recipient, bool is_requiretls,
                 bool is_tls_optional, struct nexthop *ret, const char **ret_why)
{
    struct str domain = domain_of(recipient), spec;
    int r;

    *ret = (struct nexthop){
        .job = {.tls = JOB_TLS_AUTO, .is_requiretls = is_requiretls, .percent = f->conf->relay_timeouts}};
    if (conf_domain_is_ours(f->conf, domain) || domain.len == 0) {
        ret->job.kind = JOB_LOCAL;
        (void)snprintf(ret->key, sizeof(ret->key), "local");
        return 0;
    }
    if (customers_have(buf_str(&f->customers), domain)) {
        ret->job.kind = JOB_TURN;
        ret->job.hop = domain;
        (void)snprintf(ret->key, sizeof(ret->key), "turn%s", is_requiretls ? " requiretls" : "");
        return 0;
    }
    spec = find_route(f, sender, domain);
    *ret_why = "the address has no domain that mail could be sent to";
    if (spec.len > 0 && !str_ieq(spec, STR("mx"))) {
        *ret_why = "a line of relay_routes, or relayhost, names no host";
        r = use_host(f, spec, &ret->job);
    } else {
        r = use_mx(domain, ret);
    }
    if (r == 0) {
        *ret_why = "a line of tls_policy names no policy";
        r = find_policy(f, ret->job.hop, domain, &ret->job);
    }
    /* RFC 8689 4.2.2: "TLS-Required: No" is stronger than all policies but a password's. */
    if (r == 0 && is_tls_optional && ret->job.login == TALK_LOGIN_NONE)
        ret->job.tls = JOB_TLS_MAY;
    if (r == 0)
        (void)snprintf(ret->key, sizeof(ret->key), "%s%.*s:%u%s%s%s", ret->job.kind == JOB_MX ? "" : "host ",
                       STR_ARG(ret->job.hop), ret->job.port, ret->job.is_implicit ? " tls" : "",
                       is_requiretls ? " requiretls" : "", is_tls_optional ? " tls-optional" : "");
    for (char *c = ret->key; *c; c++)
        *c = ascii_lower(*c);
    return r;
}
