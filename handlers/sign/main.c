/*
 * sign: reads a message (LF line ends) from fd 0 and writes its DKIM-Signature fields to fd 1; nothing if no key is for
 * the domain of its From. Started by relay as root: reads the keys, then gives everything up (own uid, empty root,
 * seccomp) before it reads the message.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/sign/keys.h"
#include "shared/base/conf.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/crypto/dkim.h"
#include "shared/gate/priv.h"
#include "shared/gate/sandbox.h"
#include "shared/mime/addr.h"
#include "shared/mime/header.h"
#include "shared/route/idna.h"

#define SIGN_MEMORY (64u << 20)
#define SIGN_FDS    8
#define SIGN_OUT    (4 * (size_t)DKIM_FIELD_MAX)

struct message {
    struct buf header; /* with its line ends, without the empty line */
    uint8_t body[32];  /* hash */
};

/* OpenSSL finds its algorithms at the first use, which must be before the sandbox. */
static int give_up_everything(void)
{
    const struct priv_confinement confinement = {
        .account = PRIV_USER_SMTP, .open_files = SIGN_FDS, .file_size = 0, .memory = SIGN_MEMORY};
    struct dkim_body *warm = NULL;
    const char *what = "hash";
    int e = dkim_body_new(&warm);

    dkim_body_free(warm);
    if (e == 0)
        e = priv_confine(&confinement, &what);
    if (e == 0) {
        what = "seccomp";
        e = sandbox_enter(SANDBOX_TLS);
    }
    if (e < 0)
        LOG_ERROR(LOG_ERR, "sandbox-failed", e, LOG_FC("step", what));
    return e;
}

/* ---- the message ---- */

/* Where the header ends in the text collected so far, with its empty line; 0: not yet. */
static size_t header_end(struct str text, size_t from)
{
    ptrdiff_t at;

    if (text.len > 0 && text.ptr[0] == '\n')
        return 1;
    at = str_find(str_sub(text, from, text.len), STR("\n\n"));
    return at < 0 ? 0 : from + (size_t)at + 2;
}

static int collect(struct message *m, struct dkim_body *body, struct str bytes, bool *is_body)
{
    size_t from = m->header.len > 0 ? m->header.len - 1 : 0, end;
    struct str rest = bytes;
    int e = 0;

    if (!*is_body) {
        /* Only what the header may still have: a body goes past in constant memory. */
        e = buf_add_str(&m->header, bytes);
        if (e < 0)
            return e == -ENOBUFS ? -EFBIG : e;
        end = header_end(buf_str(&m->header), from);
        if (end == 0)
            return 0;
        rest = str_sub(bytes, bytes.len - (m->header.len - end), bytes.len);
        buf_truncate(&m->header, end - 1);
        *is_body = true;
    }
    return dkim_body_feed(body, rest);
}

static int read_message(struct message *m)
{
    struct dkim_body *body = NULL;
    bool is_body = false;
    int e = dkim_body_new(&body);

    while (e == 0) {
        char bytes[32u << 10];
        ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            e = -errno;
        if (n <= 0)
            break;
        e = collect(m, body, (struct str){bytes, (size_t)n}, &is_body);
    }
    if (e == 0)
        e = dkim_body_end(body, m->body);
    dkim_body_free(body);
    return e;
}

/* The domain of the author's address, in its A-label form. -ENOENT: there is none. */
static int author_domain(struct str header, struct buf *out)
{
    _cleanup_addr_list_ struct addr_list list = {0};
    struct header_field from;
    int e;

    addr_list_init(&list);
    if (!header_find(header, STR("From"), &from))
        return -ENOENT;
    e = addr_parse(from.body, &list);
    for (size_t i = 0; i < list.count && e == 0; i++)
        if (list.items[i].host.len > 0)
            return idna_to_ascii(list.items[i].host, out) < 0 ? -ENOENT : 0;
    return e < 0 ? e : -ENOENT;
}

/* ---- signing ---- */

static int sign_with(const struct key_file *f, const struct message *m, int64_t now, struct buf *out)
{
    struct dkim_wish w = {.domain = f->domain, .selector = f->selector, .when = now};
    struct dkim_key *key = NULL;
    int e = dkim_key_parse(buf_str(&f->pem), &key);

    if (e == 0)
        e = dkim_sign(&w, key, buf_str(&m->header), m->body, out);
    dkim_key_free(key);
    if (e < 0)
        LOG_ERROR(LOG_ERR, "dkim-failed", e, LOG_FC("key", f->name));
    return e;
}

static int sign_all(const struct key_files *keys, const struct message *m, int64_t now, struct buf *out)
{
    _cleanup_buf_ struct buf domain = BUF_INIT(4 * LIMIT_DOMAIN);
    struct str chosen;
    int e = author_domain(buf_str(&m->header), &domain);

    if (e < 0)
        return e == -ENOENT ? 0 : e;
    chosen = keys_domain(keys, buf_str(&domain));
    for (size_t i = 0; i < keys->count && e == 0; i++)
        if (chosen.len > 0 && str_ieq(keys->items[i].domain, chosen))
            e = sign_with(&keys->items[i], m, now, out);
    return e;
}

static int write_all(struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes.ptr, bytes.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            bytes = str_sub(bytes, (size_t)n, bytes.len);
    }
    return 0;
}

static int run(const struct conf *conf)
{
    _cleanup_buf_ struct buf out = BUF_INIT(SIGN_OUT);
    struct message m = {.header = BUF_INIT(LIMIT_HEADER + (64u << 10))};
    int64_t now = clock_now(&conf->clock);
    struct key_files keys = {0};
    char name[256];
    int e = keys_load(conf->dkim_keys, &keys, name);

    if (e < 0)
        LOG_ERROR(LOG_ERR, "dkim-key-failed", e, LOG_FC("folder", conf->dkim_keys), LOG_FC("key", name));
    if (e == 0 && keys.count > 0) {
        e = give_up_everything();
        if (e == 0)
            e = read_message(&m);
        if (e == 0)
            e = sign_all(&keys, &m, now, &out);
        if (e == 0)
            e = write_all(buf_str(&out));
    }
    keys_finish(&keys);
    buf_finish(&m.header);
    return e;
}

int main(int argc, char **argv)
{
    _cleanup_conf_ struct conf conf = {0};
    int e = conf_init(&conf);

    log_open("sign", true);
    if (e == 0)
        e = conf_args(&conf, &argc, argv);
    if (e < 0 || argc != 1) {
        (void)fprintf(stderr, "sign: %s\n",
                      e == 0               ? "usage: sign [-c FILE] [-o key=value]... <MESSAGE"
                      : conf.error.len > 0 ? buf_cstr(&conf.error)
                                           : strerror(-e));
        return e == 0 ? EX_USAGE : EX_CONFIG;
    }
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    e = run(&conf);
    return e == 0 ? EX_OK : e == -EFBIG ? EX_DATAERR : EX_TEMPFAIL;
}
