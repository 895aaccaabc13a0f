/*
 * sign: reads a message (LF line ends) from the file on fd 0 and writes it with its DKIM-Signature fields on top to
 * fd 1; nothing if no key is for the domain of its From. Started by relay as root: reads the keys, then gives
 * everything up (own uid, empty root, seccomp) before it reads the message.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/sign/keys.h"
#include "handlers/sign/message.h"
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

#define MEMORY     (96u << 20) /* the structure of a message to convert, OpenSSL */
#define FDS        8
#define FIELDS_MAX (4 * (size_t)DKIM_FIELD_MAX)

/* OpenSSL finds its algorithms at the first use, which must be before the sandbox. */
static int give_up_everything(void)
{
    const struct priv_confinement confinement = {.account = PRIV_USER_SMTP,
                                                 .find = priv_account_named,
                                                 .open_files = FDS,
                                                 .file_size = RLIM_INFINITY,
                                                 .memory = MEMORY};
    struct dkim_body *warm = NULL;
    const char *what = "hash";
    int e = dkim_body_new(&warm);

    dkim_body_free(warm);
    if (e == 0)
        e = priv_confine(&confinement, &what);
    if (e == 0) {
        what = "seccomp";
        e = sandbox_enter(SANDBOX_RELAY);
    }
    if (e < 0)
        LOG_ERROR(LOG_ERR, "sandbox-failed", e, LOG_FC("step", what));
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
        e = dkim_sign(&w, key, buf_str(&m->header), m->body_hash, out);
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

/* With its fields on top, if there are any. */
static int serve_message(const struct key_files *keys, const struct message *m, int64_t now)
{
    _cleanup_buf_ struct buf fields = BUF_INIT(FIELDS_MAX);
    int e = sign_all(keys, m, now, &fields);

    if (e < 0 || fields.len == 0)
        return e;
    e = content_write_bytes(STDOUT_FILENO, buf_str(&fields));
    return e < 0 ? e : message_write(m, STDOUT_FILENO);
}

static int run(const struct conf *conf)
{
    int64_t now = clock_now(&conf->clock);
    struct key_files keys = {0};
    struct message m = {0};
    char name[256];
    int e = keys_load(conf->dkim_keys, &keys, name);

    if (e < 0)
        LOG_ERROR(LOG_ERR, "dkim-key-failed", e, LOG_FC("folder", conf->dkim_keys), LOG_FC("key", name));
    if (e == 0 && keys.count > 0) {
        e = give_up_everything();
        if (e == 0)
            e = message_load(STDIN_FILENO, &m);
        if (e == 0)
            e = serve_message(&keys, &m, now);
        message_finish(&m);
    }
    keys_finish(&keys);
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
                      e == 0               ? "usage: sign [-c FILE] [-o key=value]... <FILE"
                      : conf.error.len > 0 ? buf_cstr(&conf.error)
                                           : strerror(-e));
        return e == 0 ? EX_USAGE : EX_CONFIG;
    }
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    e = run(&conf);
    return e == 0 ? EX_OK : e == -EFBIG ? EX_DATAERR : EX_TEMPFAIL;
}
