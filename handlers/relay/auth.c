/*
 * Logging in at the next hop (RFC 4954 on the client's side). Runs in relay-session. Nothing that could be heard by
 * others is ever said: without TLS there is no login at all, except by SCRAM, which tells nothing.
 */
#include <errno.h>
#include <string.h>

#include "handlers/relay/hello.h"
#include "handlers/relay/prepare.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/crypto/scram.h"
#include "shared/mime/decode.h"

#define NONCE_BYTES 18

struct login {
    struct wire *wire;
    const struct talk_host *host;
    struct talk_reply reply;
    struct buf text;    /* what is said next, not encoded; wiped */
    enum digest digest; /* SCRAM's */
    const char *gs2;    /* SCRAM's header: how the channel is bound */
    uint8_t exporter[CLIENT_EXPORTER];
    size_t exporter_len; /* 0: this connection has nothing to bind to */
};

/* Says "AUTH mechanism initial" or a bare response, and hears the answer. The wire's errno, or 0 with l->reply. */
static int say(struct login *l, const char *mechanism, struct str bytes)
{
    _cleanup_(buf_wipe_finish) struct buf base64 = BUF_INIT(2 * LIMIT_SASL);
    int r = base64_encode(bytes, &base64);

    if (r < 0)
        return r;
    if (mechanism)
        wire_command(l->wire, "AUTH %s %s", mechanism, base64.len ? buf_cstr(&base64) : "=");
    else
        wire_command(l->wire, "%s", buf_cstr(&base64));
    return wire_reply(l->wire, TALK_AUTH, &l->reply);
}

/* The 334's text, decoded. -EBADMSG: it is none. */
static int challenge(const struct login *l, struct buf *out)
{
    return l->reply.code == 334 && base64_decode(str_from(l->reply.text), out) == 0 ? 0 : -EBADMSG;
}

static int plain(struct login *l)
{
    int r = buf_add_byte(&l->text, '\0');

    if (r == 0)
        r = buf_add_str(&l->text, l->host->user);
    if (r == 0)
        r = buf_add_byte(&l->text, '\0');
    if (r == 0)
        r = buf_add_str(&l->text, l->host->secret);
    return r < 0 ? r : say(l, "PLAIN", buf_str(&l->text));
}

static int login(struct login *l)
{
    int r;

    wire_command(l->wire, "AUTH LOGIN");
    r = wire_reply(l->wire, TALK_AUTH, &l->reply);
    if (r == 0 && l->reply.code == 334)
        r = say(l, NULL, l->host->user);
    return r < 0 || l->reply.code != 334 ? r : say(l, NULL, l->host->secret);
}

/* RFC 2195: the user and the challenge's hash, keyed with the secret. */
static int cram(struct login *l)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_SASL);
    uint8_t hash[DIGEST_MAX];
    int r;

    wire_command(l->wire, "AUTH CRAM-MD5");
    r = wire_reply(l->wire, TALK_AUTH, &l->reply);
    if (r < 0 || l->reply.code != 334)
        return r;
    r = challenge(l, &text);
    if (r == 0)
        r = digest_hmac(DIGEST_MD5, l->host->secret, buf_str(&text), hash);
    if (r == 0)
        r = buf_printf(&l->text, "%.*s ", STR_ARG(l->host->user));
    for (size_t i = 0; r == 0 && i < digest_size(DIGEST_MD5); i++)
        r = buf_printf(&l->text, "%02x", hash[i]);
    return r < 0 ? r : say(l, NULL, buf_str(&l->text));
}

/* "=" and "," cannot stand in a name (saslname of RFC 5801 4 and RFC 5802 5.1). */
static int add_name(struct buf *out, struct str name)
{
    int r = 0;

    for (size_t i = 0; i < name.len && r == 0; i++)
        r = name.ptr[i] == '='   ? buf_add(out, "=3D", 3)
            : name.ptr[i] == ',' ? buf_add(out, "=2C", 3)
                                 : buf_add_byte(out, name.ptr[i]);
    return r;
}

/* l->text has begun with who asks. A token that is refused comes back as a challenge that wants an answer, which says
 * nothing (RFC 7628 3.2.3, XOAUTH2). */
static int bearer(struct login *l, const char *mechanism, struct str nothing)
{
    int r = buf_add_str(&l->text, STR("\001auth=Bearer "));

    if (r == 0)
        r = buf_add_str(&l->text, l->host->secret);
    if (r == 0)
        r = buf_add(&l->text, "\001\001", 2);
    if (r == 0)
        r = say(l, mechanism, buf_str(&l->text));
    return r < 0 || l->reply.code != 334 ? r : say(l, NULL, nothing);
}

static int xoauth2(struct login *l)
{
    int r = buf_add_str(&l->text, STR("user="));

    if (r == 0)
        r = buf_add_str(&l->text, l->host->user);
    return r < 0 ? r : bearer(l, "XOAUTH2", STR(""));
}

/* RFC 7628 3.1: the header of GS2 has the name. */
static int oauthbearer(struct login *l)
{
    int r = buf_add_str(&l->text, STR("n,a="));

    if (r == 0)
        r = add_name(&l->text, l->host->user);
    if (r == 0)
        r = buf_add_byte(&l->text, ',');
    return r < 0 ? r : bearer(l, "OAUTHBEARER", STR("\001"));
}

/* ---- SCRAM (RFC 5802, RFC 7677) ---- */

struct scram_challenge {
    struct str nonce;
    struct str salt; /* base64 */
    uint32_t rounds;
};

static int parse_challenge(struct str s, struct str own_nonce, struct scram_challenge *ret)
{
    struct str r, salt, rounds;

    (void)str_cut(&s, ',', &r);
    (void)str_cut(&s, ',', &salt);
    (void)str_cut(&s, ',', &rounds);
    if (!str_starts(r, STR("r=")) || !str_starts(salt, STR("s=")) || !str_starts(rounds, STR("i=")))
        return -EBADMSG;
    ret->nonce = str_sub(r, 2, r.len);
    ret->salt = str_sub(salt, 2, salt.len);
    if (!str_starts(ret->nonce, own_nonce) || ret->nonce.len == own_nonce.len ||
        str_to_u32(str_sub(rounds, 2, rounds.len), &ret->rounds) < 0 || ret->rounds == 0 ||
        ret->rounds > LIMIT_SCRAM_ROUNDS)
        return -EBADMSG;
    return 0;
}

/* RFC 5802 7: the header, and the binding itself where the header says "p". */
static int encode_binding(const struct login *l, struct buf *out)
{
    _cleanup_buf_ struct buf plain = BUF_INIT(64);
    int r = buf_add_str(&plain, str_from(l->gs2));

    if (r == 0 && l->gs2[0] == 'p')
        r = buf_add(&plain, l->exporter, l->exporter_len);
    return r < 0 ? r : base64_encode(buf_str(&plain), out);
}

/* Answers the challenge and makes the signature that the server has to show. */
static int prove(struct login *l, struct str client_first, struct str server_first, struct str own_nonce,
                 uint8_t ret_server[static DIGEST_MAX])
{
    _cleanup_buf_ struct buf salt = BUF_INIT(LIMIT_SASL), message = BUF_INIT(2 * LIMIT_SASL), binding = BUF_INIT(128);
    _cleanup_(buf_wipe_finish) struct buf secret = BUF_INIT(3 * LIMIT_SASL);
    struct scram_challenge c;
    uint8_t proof[DIGEST_MAX];
    int r = parse_challenge(server_first, own_nonce, &c);

    if (r == 0 && base64_decode(c.salt, &salt) < 0)
        r = -EBADMSG;
    if (r == 0)
        r = encode_binding(l, &binding);
    /* AuthMessage: client-first-bare "," server-first "," client-final-without-proof. */
    if (r == 0)
        r = buf_printf(&message, "%.*s,%.*s,c=%s,r=%.*s", STR_ARG(client_first), STR_ARG(server_first),
                       buf_cstr(&binding), STR_ARG(c.nonce));
    if (r == 0)
        r = prepare_sasl(l->host->secret, &secret);
    if (r == 0)
        r = scram_prove(l->digest, buf_str(&secret), buf_str(&salt), c.rounds, buf_str(&message), proof, ret_server);
    buf_clear(&l->text);
    if (r == 0)
        r = buf_printf(&l->text, "c=%s,r=%.*s,p=", buf_cstr(&binding), STR_ARG(c.nonce));
    return r < 0 ? r : base64_encode((struct str){(char *)proof, digest_size(l->digest)}, &l->text);
}

static bool is_signed(const struct login *l, struct str server_final, const uint8_t *signature)
{
    _cleanup_buf_ struct buf got = BUF_INIT(DIGEST_MAX);

    if (!str_starts(server_final, STR("v=")) || base64_decode(str_sub(server_final, 2, server_final.len), &got) < 0)
        return false;
    return secret_equal(buf_str(&got), (struct str){(const char *)signature, digest_size(l->digest)});
}

/* The header and "n=user,r=nonce". */
static int scram_first(struct login *l, struct buf *nonce)
{
    _cleanup_buf_ struct buf user = BUF_INIT(3 * LIMIT_SASL);
    uint8_t random[NONCE_BYTES];
    int r = secret_random(random, sizeof(random));

    if (r == 0)
        r = base64_encode((struct str){(char *)random, sizeof(random)}, nonce);
    if (r == 0)
        r = buf_printf(&l->text, "%sn=", l->gs2);
    if (r == 0)
        r = prepare_sasl(l->host->user, &user);
    if (r == 0)
        r = add_name(&l->text, buf_str(&user));
    return r < 0 ? r : buf_printf(&l->text, ",r=%s", buf_cstr(nonce));
}

static int scram(struct login *l, enum digest digest, const char *mechanism)
{
    _cleanup_buf_ struct buf nonce = BUF_INIT(64), first = BUF_INIT(LIMIT_SASL), answer = BUF_INIT(LIMIT_SASL);
    uint8_t signature[DIGEST_MAX];
    int r = scram_first(l, &nonce);

    l->digest = digest;
    if (r == 0)
        r = buf_add_str(&first, str_sub(buf_str(&l->text), strlen(l->gs2), l->text.len));
    if (r == 0)
        r = say(l, mechanism, buf_str(&l->text));
    if (r < 0 || l->reply.code != 334)
        return r;
    r = challenge(l, &answer);
    if (r == 0)
        r = prove(l, buf_str(&first), buf_str(&answer), buf_str(&nonce), signature);
    if (r == 0)
        r = say(l, NULL, buf_str(&l->text));
    if (r < 0 || l->reply.code != 334)
        return r < 0 || l->reply.code != 235 ? r : -EKEYREJECTED; /* 235 without a signature: somebody else's server */
    buf_clear(&answer);
    r = challenge(l, &answer);
    if (r == 0 && !is_signed(l, buf_str(&answer), signature))
        r = -EKEYREJECTED;
    return r < 0 ? r : say(l, NULL, STR(""));
}

static int scram_plus(struct login *l, enum digest digest, const char *mechanism)
{
    l->gs2 = "p=tls-exporter,,";
    return scram(l, digest, mechanism);
}

/* RFC 5802 6: "y" says that we would have bound the channel, had it been offered: where it was, and somebody cut it out
 * of what we heard, the server refuses. */
static int scram_bare(struct login *l, enum digest digest, const char *mechanism)
{
    l->gs2 = l->exporter_len > 0 ? "y,," : "n,,";
    return scram(l, digest, mechanism);
}

static int scram_sha_256_plus(struct login *l)
{
    return scram_plus(l, DIGEST_SHA256, "SCRAM-SHA-256-PLUS");
}

static int scram_sha_1_plus(struct login *l)
{
    return scram_plus(l, DIGEST_SHA1, "SCRAM-SHA-1-PLUS");
}

static int scram_sha_256(struct login *l)
{
    return scram_bare(l, DIGEST_SHA256, "SCRAM-SHA-256");
}

static int scram_sha_1(struct login *l)
{
    return scram_bare(l, DIGEST_SHA1, "SCRAM-SHA-1");
}

enum need {
    NEED_NOTHING,
    NEED_TLS,     /* it tells the secret */
    NEED_BINDING, /* RFC 9266 */
};

/* The best one first. */
static const struct {
    uint32_t bit;
    enum talk_login kind;
    enum need need;
    int (*run)(struct login *l);
} MECHANISMS[] = {
    {EHLO_SCRAM_SHA_256_PLUS, TALK_LOGIN_PASSWORD, NEED_BINDING, scram_sha_256_plus},
    {EHLO_SCRAM_SHA_1_PLUS, TALK_LOGIN_PASSWORD, NEED_BINDING, scram_sha_1_plus},
    {EHLO_SCRAM_SHA_256, TALK_LOGIN_PASSWORD, NEED_NOTHING, scram_sha_256},
    {EHLO_SCRAM_SHA_1, TALK_LOGIN_PASSWORD, NEED_NOTHING, scram_sha_1},
    {EHLO_PLAIN, TALK_LOGIN_PASSWORD, NEED_TLS, plain},
    {EHLO_LOGIN, TALK_LOGIN_PASSWORD, NEED_TLS, login},
    {EHLO_CRAM_MD5, TALK_LOGIN_PASSWORD, NEED_NOTHING, cram}, /* RFC 2645 5.1.2: what every provider has */
    {EHLO_OAUTHBEARER, TALK_LOGIN_TOKEN, NEED_TLS, oauthbearer},
    {EHLO_XOAUTH2, TALK_LOGIN_TOKEN, NEED_TLS, xoauth2},
};

static bool is_possible(const struct login *l, enum need need)
{
    return need == NEED_NOTHING || (need == NEED_TLS ? l->wire->tls != NULL : l->exporter_len > 0);
}

static int run_best(struct login *l)
{
    const struct wire *w = l->wire;

    for (size_t i = 0; i < ARRAY_SIZE(MECHANISMS); i++)
        if ((w->ehlo.mechanisms & MECHANISMS[i].bit) && MECHANISMS[i].kind == l->host->login &&
            is_possible(l, MECHANISMS[i].need))
            return MECHANISMS[i].run(l);
    talk_reply_set(&l->reply, TALK_AUTH, 454, "4.7.4", "the server offers no way to log in that can be used%s",
                   w->tls ? "" : " without TLS");
    return 0;
}

int auth_run(struct wire *w, const struct talk_host *host, struct talk_ready *ret)
{
    struct login l = {.wire = w, .host = host, .text = BUF_INIT(2 * LIMIT_SASL)};
    int r;

    if (w->tls)
        l.exporter_len = client_exporter(w->tls, l.exporter);
    r = run_best(&l);
    buf_wipe_finish(&l.text);
    if (r == 0 && l.reply.code / 100 == 2)
        return 0;
    if (r == -ENOMEM)
        return r;
    if (r == -EKEYREJECTED)
        talk_reply_set(&l.reply, TALK_AUTH, 454, "4.7.8", "the server does not know the password: its proof is wrong");
    else if (r == -EINVAL && !w->is_gone)
        talk_reply_set(&l.reply, TALK_AUTH, 454, "4.7.8",
                       "the name or the password has characters that SCRAM does not allow (SASLprep, RFC 4013)");
    else if (r == -EBADMSG && !w->is_gone)
        talk_reply_set(&l.reply, TALK_AUTH, 454, "4.7.0", "the server's challenge makes no sense");
    else if (r < 0 && !w->is_gone)
        talk_reply_set(&l.reply, TALK_AUTH, 454, "4.3.0", "login failed: %s", strerror(-r));
    else if (l.reply.code / 100 == 3)
        talk_reply_set(&l.reply, TALK_AUTH, 454, "4.7.0", "the server asks for more than the mechanism has");
    ret->status = w->is_gone ? TALK_LOST : TALK_NO_LOGIN;
    ret->reply = l.reply;
    return -ECANCELED;
}
