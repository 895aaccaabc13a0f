#include "shared/base/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/base/limits.h"

#define CONF_MAIL_NAME "/etc/mailname" /* Debian's name of the mail domain */
#define CONF_LINE      198             /* inih's line buffer: longer lines would be taken apart */
#define CONF_OVERRIDES (64u << 10)
#define CONF_ERROR     2048

enum conf_kind { CONF_STRING, CONF_BOOL, CONF_U32, CONF_SIZE, CONF_TIME, CONF_PLAINTEXT };

struct conf_key {
    const char *name;
    enum conf_kind kind;
    size_t offset;
    const char *value; /* default */
    const char *words; /* of a CONF_STRING, all that it may say; NULL: anything */
    bool is_list;      /* any number of these words, not just one */
};

#define KEY(field, kind, value)                                                                                        \
    {                                                                                                                  \
#field, kind, offsetof(struct conf, field), value, NULL, false                                                 \
    }
#define WORDS(field, value, words, is_list)                                                                            \
    {                                                                                                                  \
#field, CONF_STRING, offsetof(struct conf, field), value, words, is_list                                       \
    }

static const struct conf_key KEYS[] = {
    KEY(hostname, CONF_STRING, ""),
    KEY(domains, CONF_STRING, ""),
    KEY(networks, CONF_STRING, ""),
    KEY(networks_proxy, CONF_STRING, ""),
    KEY(networks_xclient, CONF_STRING, ""),
    KEY(dns_servers, CONF_STRING, ""),
    KEY(mta_sts, CONF_BOOL, "yes"),
    KEY(sts_cache, CONF_STRING, "/var/lib/pennypost/sts"),
    KEY(tls_ca, CONF_STRING, "/etc/ssl/certs/ca-certificates.crt"),
    KEY(dnsbl, CONF_STRING, ""),
    KEY(dnsbl_threshold, CONF_U32, "1"),
    WORDS(reverse_dns, "no", "no log name match", true),
    WORDS(helo_checks, "", "own fqdn literal dns", true),
    KEY(sender_dns, CONF_BOOL, "no"),
    KEY(connection_rate, CONF_U32, "0"),
    KEY(policy_exempt, CONF_STRING, ""),
    KEY(spool, CONF_STRING, "/var/mail"),
    KEY(folders, CONF_STRING, "%h/mail"),
    KEY(state, CONF_STRING, "%h/.local/state/pennypost"),
    KEY(aliases, CONF_STRING, "/etc/aliases"),
    KEY(alias_user, CONF_STRING, "nobody"),
    KEY(forward, CONF_STRING, "%h/.forward"),
    KEY(catch_all, CONF_STRING, ""),
    KEY(root_mail_to, CONF_STRING, ""),
    KEY(recipient_delimiter, CONF_STRING, "+"),
    KEY(tls_certificate, CONF_STRING, PENNYPOST_SYSCONFDIR "/certificate.pem"),
    KEY(tls_key, CONF_STRING, PENNYPOST_SYSCONFDIR "/key.pem"),
    KEY(tls_client_ca, CONF_STRING, ""),
    KEY(plaintext_auth, CONF_PLAINTEXT, "local"),
    KEY(external_auth, CONF_BOOL, "no"),
    KEY(challenge_auth, CONF_BOOL, "yes"),
    KEY(devices, CONF_STRING, "/var/lib/pennypost/devices"),
    KEY(runtime, CONF_STRING, "/run/pennypost"),
    KEY(pam_session, CONF_BOOL, "no"),
    KEY(mailbox_size, CONF_SIZE, "0"),
    KEY(queue, CONF_STRING, "/var/spool/pennypost"),
    WORDS(submission_senders, "own", "own any", false),
    KEY(submit_socket, CONF_STRING, "/run/pennypost/submit.sock"),
    KEY(dkim_keys, CONF_STRING, PENNYPOST_SYSCONFDIR "/dkim"),
    KEY(srs, CONF_BOOL, "yes"),
    KEY(srs_domain, CONF_STRING, ""),
    KEY(srs_secret, CONF_STRING, "/var/lib/pennypost/srs-secret"),
    KEY(trusted_users, CONF_STRING, "root daemon uucp www-data"),
    KEY(send_to_terminal, CONF_BOOL, "no"),
    WORDS(smtp_bare_newline, "reject", "reject normalize", false),
    KEY(queue_lifetime, CONF_TIME, "5d"),
    KEY(delay_warning, CONF_TIME, "4h"),
    KEY(retry_min, CONF_TIME, "5m"),
    KEY(retry_max, CONF_TIME, "4h"),
    KEY(relayhost, CONF_STRING, ""),
    KEY(relay_credentials, CONF_STRING, PENNYPOST_SYSCONFDIR "/relay_credentials"),
    KEY(atrn_customers, CONF_STRING, PENNYPOST_SYSCONFDIR "/atrn_customers"),
    KEY(atrn_provider, CONF_STRING, ""),
    KEY(relay_routes, CONF_STRING, PENNYPOST_SYSCONFDIR "/relay_routes"),
    KEY(relay_connections, CONF_U32, "20"),
    KEY(relay_connections_per_destination, CONF_U32, "2"),
    KEY(relay_timeouts, CONF_U32, "100"),
    KEY(tls_policy, CONF_STRING, PENNYPOST_SYSCONFDIR "/tls_policy"),
    KEY(message_size, CONF_SIZE, "100M"),
    KEY(timeout_imap, CONF_U32, "1800"),
    KEY(timeout_pop3, CONF_U32, "600"),
    KEY(pop3_uidl, CONF_STRING, "pennypost"),
    KEY(pop3_login_delay, CONF_U32, "0"),
    KEY(pop3_expire, CONF_STRING, "never"),
    KEY(timeout_smtp, CONF_U32, "300"),
    KEY(min_uid, CONF_U32, "1000"),
};

static void *field_of(struct conf *c, const struct conf_key *key)
{
    return (char *)c + key->offset;
}

static const struct conf_key *find_key(struct str name)
{
    for (size_t i = 0; i < ARRAY_SIZE(KEYS); i++)
        if (str_eq(name, str_from(KEYS[i].name)))
            return &KEYS[i];
    return NULL;
}

/* Edit distance, for naming the nearest key; names are short. */
static size_t distance(struct str a, struct str b)
{
    size_t row[64];

    a = str_sub(a, 0, ARRAY_SIZE(row) - 1);
    b = str_sub(b, 0, ARRAY_SIZE(row) - 1);
    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t corner = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t replace = corner + (a.ptr[i - 1] != b.ptr[j - 1]);
            size_t best = row[j] + 1 < row[j - 1] + 1 ? row[j] + 1 : row[j - 1] + 1;

            corner = row[j];
            row[j] = replace < best ? replace : best;
        }
    }
    return row[b.len];
}

static const char *nearest_key(struct str name)
{
    const char *nearest = KEYS[0].name;

    for (size_t i = 1; i < ARRAY_SIZE(KEYS); i++)
        if (distance(name, str_from(KEYS[i].name)) < distance(name, str_from(nearest)))
            nearest = KEYS[i].name;
    return nearest;
}

static int set_bool(bool *to, struct str value)
{
    if (str_ieq(value, STR("yes")) || str_ieq(value, STR("true")) || str_eq(value, STR("1")))
        *to = true;
    else if (str_ieq(value, STR("no")) || str_ieq(value, STR("false")) || str_eq(value, STR("0")))
        *to = false;
    else
        return -EINVAL;
    return 0;
}

/* Bytes, with K, M or G behind. */
static int set_size(uint64_t *to, struct str value)
{
    uint64_t n, factor = 1;

    if (value.len > 0) {
        char unit = ascii_upper(value.ptr[value.len - 1]);

        factor = unit == 'K'   ? UINT64_C(1) << 10
                 : unit == 'M' ? UINT64_C(1) << 20
                 : unit == 'G' ? UINT64_C(1) << 30
                               : 1;
        if (factor > 1)
            value.len--;
    }
    if (str_to_u64(value, &n) < 0 || __builtin_mul_overflow(n, factor, &n))
        return -EINVAL;
    *to = n;
    return 0;
}

/* Seconds, with s, m, h or d behind. */
static int set_time(uint32_t *to, struct str value)
{
    uint32_t n, factor = 1;

    if (value.len > 0 && ascii_is_alpha(value.ptr[value.len - 1])) {
        char unit = ascii_lower(value.ptr[value.len - 1]);

        factor = unit == 's' ? 1 : unit == 'm' ? 60 : unit == 'h' ? 3600 : unit == 'd' ? 86400 : 0;
        value.len--;
    }
    if (factor == 0 || str_to_u32(value, &n) < 0 || __builtin_mul_overflow(n, factor, &n))
        return -EINVAL;
    *to = n;
    return 0;
}

static int set_plaintext(enum conf_plaintext *to, struct str value)
{
    static const char *const names[] = {
        [CONF_PLAINTEXT_NO] = "no", [CONF_PLAINTEXT_LOCAL] = "local", [CONF_PLAINTEXT_YES] = "yes"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (str_ieq(value, str_from(names[i]))) {
            *to = (enum conf_plaintext)i;
            return 0;
        }
    return -EINVAL;
}

static int set_string(char **to, struct str value)
{
    char *copy;

    if (value.len > LIMIT_CONF_VALUE || str_has_nul(value))
        return -EINVAL;
    copy = str_dup(value);
    if (!copy)
        return -ENOMEM;
    free(*to);
    *to = copy;
    return 0;
}

/* A word that nobody knows would switch off what it was meant to switch on. */
static bool is_known(const struct conf_key *key, struct str value)
{
    struct str word, known, list;
    size_t count = 0;

    while (str_word(&value, &word)) {
        bool is_found = false;

        list = str_from(key->words);
        while (!is_found && str_word(&list, &known))
            is_found = str_ieq(word, known);
        if (!is_found)
            return false;
        count++;
    }
    return key->is_list || count <= 1;
}

static int set_value(struct conf *c, const struct conf_key *key, struct str value)
{
    void *to = field_of(c, key);

    switch (key->kind) {
    case CONF_STRING:
        return key->words && !is_known(key, value) ? -EINVAL : set_string(to, value);
    case CONF_BOOL:
        return set_bool(to, value);
    case CONF_U32:
        return str_to_u32(value, to) < 0 ? -EINVAL : 0;
    case CONF_SIZE:
        return set_size(to, value);
    case CONF_TIME:
        return set_time(to, value);
    case CONF_PLAINTEXT:
        return set_plaintext(to, value);
    }
    return -EINVAL;
}

/* More words behind those that a list has. */
static int add_value(struct conf *c, const struct conf_key *key, struct str value)
{
    _cleanup_buf_ struct buf all = BUF_INIT(LIMIT_CONF_VALUE + 1);
    char **now = field_of(c, key);

    if (key->kind != CONF_STRING || buf_printf(&all, "%s %.*s", *now, STR_ARG(value)) < 0)
        return -EINVAL;
    return set_value(c, key, str_trim(buf_str(&all)));
}

int conf_set(struct conf *c, struct str name, struct str value)
{
    bool is_more = str_ends(name, STR("+"));
    const struct conf_key *key = NULL;
    int r;

    if (is_more)
        name = str_trim(str_sub(name, 0, name.len - 1));
    key = find_key(name);
    buf_clear(&c->error);
    if (!key) {
        (void)buf_printf(&c->error, "unknown key %.*s: nearest is %s", STR_ARG(name), nearest_key(name));
        return -ENOENT;
    }
    r = is_more ? add_value(c, key, value) : set_value(c, key, value);
    if (r < 0)
        (void)buf_printf(&c->error, "bad value for %s: %.*s%s%s", key->name, STR_ARG(value),
                         key->words ? "; known are " : "", key->words ? key->words : "");
    return r;
}

/* The name in Debian's file or the kernel's; no look-up over the network, since every connection comes through here. */
static int set_default_hostname(struct conf *c)
{
    char name[256] = "";
    FILE *f = fopen(CONF_MAIL_NAME, "re");

    if (f) {
        size_t n = fread(name, 1, sizeof(name) - 1, f);

        name[n] = '\0';
        (void)fclose(f);
        name[strcspn(name, "\r\n \t")] = '\0';
    }
    if (name[0] == '\0' && gethostname(name, sizeof(name) - 1) < 0)
        return -errno;
    return set_string(&c->hostname, str_from(name[0] ? name : "localhost"));
}

int conf_init(struct conf *c)
{
    *c = (struct conf){
        .warnings = BUF_INIT(CONF_ERROR), .error = BUF_INIT(CONF_ERROR), .overrides = BUF_INIT(CONF_OVERRIDES)};
    for (size_t i = 0; i < ARRAY_SIZE(KEYS); i++) {
        int r = set_value(c, &KEYS[i], str_from(KEYS[i].value));

        if (r < 0)
            return r;
    }
    return set_default_hostname(c);
}

void conf_finish(struct conf *c)
{
    for (size_t i = 0; i < ARRAY_SIZE(KEYS); i++)
        if (KEYS[i].kind == CONF_STRING) {
            char **value = field_of(c, &KEYS[i]);

            free(steal_ptr(*value));
        }
    buf_finish(&c->warnings);
    buf_finish(&c->error);
    buf_finish(&c->overrides);
}

struct load {
    struct conf *conf;
    int error;
};

static int take_pair(void *context, const char *section, const char *name, const char *value)
{
    struct load *l = context;
    int r;

    (void)section;
    if (l->error < 0)
        return 0;
    r = conf_set(l->conf, str_from(name), str_from(value));
    if (r == -ENOENT) {
        (void)buf_printf(&l->conf->warnings, "%s\n", buf_cstr(&l->conf->error));
        buf_clear(&l->conf->error);
        r = 0;
    }
    l->error = r;
    return r == 0;
}

static int read_file(const char *path, struct buf *out)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISCHR(st.st_mode)) /* /dev/null: no file */
        return 0;
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t)LIMIT_CONF_FILE)
        return -EFBIG;

    int r = buf_reserve(out, LIMIT_CONF_FILE);

    if (r < 0)
        return r;
    for (;;) {
        ssize_t n = read(fd, out->data + out->len, LIMIT_CONF_FILE - out->len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        out->len += n > 0 ? (size_t)n : 0;
    }
    out->data[out->len] = '\0';
    return 0;
}

/* Number of the first line that inih could not take whole, 0: none. */
static unsigned long_line(struct str text)
{
    unsigned number = 0;

    for (bool more = true; more;) {
        struct str line;

        number++;
        more = str_cut(&text, '\n', &line);
        if (line.len > CONF_LINE || str_has_nul(line))
            return number;
    }
    return 0;
}

/* inih takes an indented line for more of the line before, as which it would replace that one's value: here every line
 * stands for itself. */
static void take_indents_off(struct buf *text)
{
    bool is_begin = true;
    size_t to = 0;

    for (size_t i = 0; i < text->len; i++) {
        char c = text->data[i];

        if (is_begin && strchr(" \t\v\f\r", c))
            continue;
        is_begin = c == '\n';
        text->data[to++] = c;
    }
    buf_truncate(text, to);
}

int conf_load(struct conf *c, const char *path)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_CONF_FILE + 1);
    struct load l = {.conf = c};
    int r = read_file(path, &text);

    if (r < 0) {
        buf_clear(&c->error);
        (void)buf_printf(&c->error, "%s: %s", path, strerror(-r));
        return r;
    }

    unsigned line = long_line(buf_str(&text));
    int bad = 0;

    take_indents_off(&text);
    if (line == 0)
        bad = ini_parse_string(buf_cstr(&text), take_pair, &l);
    if (l.error == 0 && line == 0 && bad == 0)
        return 0;

    _cleanup_buf_ struct buf reason = BUF_INIT(CONF_ERROR);

    if (l.error < 0)
        (void)buf_add_str(&reason, buf_str(&c->error));
    else if (line > 0)
        (void)buf_printf(&reason, "longer than %d bytes; a list goes on with `key += value`", CONF_LINE);
    else
        (void)buf_add_str(&reason, STR("not `key = value`"));
    buf_clear(&c->error);
    (void)buf_printf(&c->error, "%s line %u: %s", path, line > 0 ? line : (unsigned)bad, buf_cstr(&reason));
    return l.error < 0 ? l.error : -EINVAL;
}

int conf_expand(struct str value, struct str user, struct str home, struct buf *out)
{
    for (size_t i = 0; i < value.len; i++) {
        int r;

        if (value.ptr[i] != '%') {
            r = buf_add_byte(out, value.ptr[i]);
        } else {
            char what = ++i < value.len ? value.ptr[i] : '\0';

            r = what == 'h'   ? buf_add_str(out, home)
                : what == 'u' ? buf_add_str(out, user)
                : what == '%' ? buf_add_byte(out, '%')
                              : -EINVAL;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

bool conf_domain_is_ours(const struct conf *c, struct str domain)
{
    struct str rest = str_from(c->domains), word;

    if (str_ieq(domain, STR("localhost")) || str_ieq(domain, str_from(c->hostname)))
        return true;
    while (str_word(&rest, &word))
        if (str_ieq(domain, word))
            return true;
    return false;
}
