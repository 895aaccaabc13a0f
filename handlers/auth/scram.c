/*
 * SCRAM. Runs in auth-sasl, as root. Nonces are made and proofs are checked here; nobody between here and the client
 * has to be believed. A user without a device password goes through the same steps with a salt that is always the same
 * for his name, and fails at the end.
 */
#include "handlers/auth/scram.h"

#include <errno.h>

#include "handlers/auth/device.h"
#include "handlers/auth/sasl.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/login/base64.h"

#define NONCE_BYTES 18
#define SALT_BYTES  16

struct exchange {
    struct auth *auth;
    enum digest digest;
    bool is_plus;
    struct devices devices;
    struct buf first;        /* the client's first message, which the views of `parsed` look into */
    struct buf nonce;        /* client's and ours */
    struct buf server_first; /* our answer */
    struct sasl_scram_first parsed;
};

/* The channel-binding data for a type, or the null view. */
static struct str binding_data(const struct auth *a, struct str type)
{
    if (str_eq(type, STR("tls-exporter")) && a->exporter.len > 0)
        return a->exporter;
    if (str_eq(type, STR("tls-server-end-point")) && a->end_point.len > 0)
        return a->end_point;
    return STR_NULL;
}

static int check_binding_flag(const struct exchange *x)
{
    struct auth *a = x->auth;
    bool has_binding = a->is_tls && (a->exporter.len > 0 || a->end_point.len > 0);

    if (x->is_plus) {
        if (x->parsed.binding != 'p')
            return auth_fail(a, AUTH_CLASS_MECHANISM, "SCRAM-PLUS without channel binding");
        if (!binding_data(a, x->parsed.cb_name).ptr)
            return auth_fail(a, AUTH_CLASS_MECHANISM, "channel binding type not available");
        return 0;
    }
    if (x->parsed.binding == 'p')
        return auth_fail(a, AUTH_CLASS_MECHANISM, "channel binding without SCRAM-PLUS");
    /* RFC 5802 6: the client could bind and thinks we cannot, though we offered it: somebody cut it out. */
    if (x->parsed.binding == 'y' && has_binding)
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "channel binding was hidden from the client");
    return 0;
}

/* Reads the first message; a->user is then the claimed name. */
static int take_first(struct exchange *x)
{
    _cleanup_buf_ struct buf user = BUF_INIT(LIMIT_USER * 3);
    _cleanup_buf_ struct buf authzid = BUF_INIT(LIMIT_USER * 3);
    struct auth *a = x->auth;
    struct str message;
    int r = auth_initial(a, &message);

    if (r < 0)
        return r;
    r = buf_add_str(&x->first, message);
    if (r < 0)
        return r;
    if (sasl_parse_scram_first(buf_str(&x->first), &x->parsed) < 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "malformed SCRAM");
    if (sasl_unescape(x->parsed.user, &user) < 0 || sasl_unescape(x->parsed.authzid, &authzid) < 0 ||
        !auth_claim(a, buf_str(&user)))
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "not a possible user name");
    a->is_for_another = authzid.len > 0 && !str_eq(buf_str(&authzid), buf_str(&user));
    return check_binding_flag(x);
}

/* A salt for a user who has none: from a secret of the file, so that it stays the same. */
static int invent_salt(const struct exchange *x, struct buf *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_USER + 32);
    uint8_t hash[DIGEST_MAX];
    int r = buf_printf(&text, "%zu:%s", digest_size(x->digest), x->auth->user);

    if (r == 0)
        r = digest_hmac(DIGEST_SHA256, x->devices.key, buf_str(&text), hash);
    return r < 0 ? r : base64_encode((struct str){(const char *)hash, SALT_BYTES}, out);
}

static int make_nonce(struct exchange *x)
{
    char random[NONCE_BYTES];
    int r = secret_random(random, sizeof(random));

    if (r == 0)
        r = buf_add_str(&x->nonce, x->parsed.nonce);
    return r < 0 ? r : base64_encode((struct str){random, sizeof(random)}, &x->nonce);
}

static int make_server_first(struct exchange *x)
{
    _cleanup_buf_ struct buf salt = BUF_INIT(DIGEST_MAX * 2);
    const struct device_scram *s;
    uint32_t iterations = SCRAM_ITERATIONS;
    struct device row;
    int r = make_nonce(x);

    if (r == 0 && device_next(x->auth, &x->devices, &row) > 0 && (s = device_scram(&row, x->digest))->iterations > 0) {
        iterations = s->iterations;
        r = buf_add_str(&salt, s->salt);
    } else if (r == 0) {
        r = invent_salt(x, &salt);
    }
    devices_rewind(&x->devices);
    return r < 0 ? r : buf_printf(&x->server_first, "r=%s,s=%s,i=%u", buf_cstr(&x->nonce), buf_cstr(&salt), iterations);
}

/* RFC 5802 5.1, "c": what the client bound must be its header and our channel's data. */
static bool is_bound(const struct exchange *x, struct str binding)
{
    _cleanup_buf_ struct buf raw = BUF_INIT(LIMIT_SASL);
    struct str header = x->parsed.header, data = STR("");

    if (base64_decode(binding, &raw) < 0 || !str_starts(buf_str(&raw), header))
        return false;
    if (x->is_plus)
        data = binding_data(x->auth, x->parsed.cb_name);
    return secret_equal(str_sub(buf_str(&raw), header.len, SIZE_MAX), data);
}

/* The device whose password the proof shows, and our signature for it. 1 found, 0 not, or a negative errno. */
static int check_proof(struct exchange *x, const struct sasl_scram_final *f, uint32_t *ret_id)
{
    _cleanup_buf_ struct buf message = BUF_INIT(LIMIT_SASL * 3);
    _cleanup_buf_ struct buf proof = BUF_INIT(DIGEST_MAX);
    struct auth *a = x->auth;
    struct device row;
    int r;

    if (base64_decode(f->proof, &proof) < 0)
        return 0;
    r = buf_printf(&message, "%.*s,%s,%.*s", STR_ARG(x->parsed.bare), buf_cstr(&x->server_first),
                   STR_ARG(f->without_proof));
    while (r == 0 && device_next(a, &x->devices, &row) > 0) {
        struct scram_keys keys;
        uint8_t signature[DIGEST_MAX];

        if (device_keys(&row, x->digest, &keys) < 0)
            continue;
        r = scram_check(x->digest, &keys, buf_str(&message), buf_str(&proof));
        if (r == -EACCES) {
            r = 0;
            continue;
        }
        if (r == 0)
            r = scram_sign(x->digest, &keys, buf_str(&message), signature);
        if (r == 0)
            r = buf_add_str(&a->final, STR("v="));
        if (r == 0)
            r = base64_encode((struct str){(const char *)signature, digest_size(x->digest)}, &a->final);
        *ret_id = row.id;
        return r < 0 ? r : 1;
    }
    return r;
}

static int run(struct exchange *x)
{
    struct auth *a = x->auth;
    struct sasl_scram_final final;
    struct str message;
    uint32_t id = 0;
    int r = device_load(a, &x->devices);

    if (r < 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "no device passwords");
    r = take_first(x);
    if (r != 0)
        return r;
    r = make_server_first(x);
    if (r == 0)
        r = auth_challenge(a, buf_str(&x->server_first), &message);
    if (r < 0)
        return r;
    if (sasl_parse_scram_final(message, &final) < 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "malformed SCRAM");
    if (!str_eq(final.nonce, buf_str(&x->nonce)))
        return auth_fail(a, AUTH_CLASS_MECHANISM, "wrong nonce");
    if (!is_bound(x, final.binding))
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "channel bindings do not match");
    r = check_proof(x, &final, &id);
    if (r < 0)
        return auth_fail(a, AUTH_CLASS_TEMPORARY, "SCRAM cannot be computed");
    return r == 0 ? auth_fail(a, AUTH_CLASS_CREDENTIALS, "wrong proof") : device_admit(a, id);
}

int scram_run(struct auth *a, unsigned form)
{
    struct exchange x = {.auth = a,
                         .digest = form & SCRAM_SHA1 ? DIGEST_SHA1 : DIGEST_SHA256,
                         .is_plus = form & SCRAM_PLUS,
                         .first = BUF_INIT(LIMIT_SASL),
                         .nonce = BUF_INIT(LIMIT_SASL),
                         .server_first = BUF_INIT(LIMIT_SASL)};
    int r = run(&x);

    if (r != 0)
        buf_clear(&a->final); /* a signature is for those who come in */
    devices_finish(&x.devices);
    buf_finish(&x.first);
    buf_finish(&x.nonce);
    buf_finish(&x.server_first);
    return r;
}
