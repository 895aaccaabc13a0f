/*
 * The parsers of SASL client messages, which run as root on what strangers send: every view that comes back must lie
 * inside the message.
 */
#include <stdint.h>
#include <stdlib.h>

#include "handlers/auth/sasl.h"

static void inside(struct str whole, struct str part)
{
    if (part.len > 0 && (part.ptr < whole.ptr || part.ptr + part.len > whole.ptr + whole.len))
        abort();
}

static void fuzz_scram(struct str m)
{
    struct buf name = BUF_INIT(4096);
    struct sasl_scram_first first;
    struct sasl_scram_final final;

    if (sasl_parse_scram_first(m, &first) == 0) {
        inside(m, first.header);
        inside(m, first.bare);
        inside(first.bare, first.user);
        inside(first.bare, first.nonce);
        inside(first.header, first.cb_name);
        inside(first.header, first.authzid);
        if (first.header.len + first.bare.len != m.len || first.nonce.len == 0 || first.user.len == 0)
            abort();
        if (sasl_unescape(first.user, &name) == 0 && name.len > first.user.len)
            abort();
    }
    if (sasl_parse_scram_final(m, &final) == 0) {
        inside(m, final.binding);
        inside(final.without_proof, final.nonce);
        inside(m, final.proof);
        if (final.proof.len == 0 || final.nonce.len == 0)
            abort();
    }
    buf_finish(&name);
}

static void fuzz_others(struct str m)
{
    struct sasl_plain plain;
    struct sasl_digest digest;
    struct sasl_oauth oauth;

    if (sasl_parse_plain(m, &plain) == 0) {
        inside(m, plain.authzid);
        inside(m, plain.authcid);
        inside(m, plain.password);
        if (plain.authzid.len + plain.authcid.len + plain.password.len + 2 != m.len)
            abort();
    }
    if (sasl_parse_digest(m, &digest) == 0) {
        inside(m, digest.user);
        if (digest.hex.len != 32 || digest.user.len + 33 != m.len)
            abort();
    }
    if (sasl_parse_oauthbearer(m, &oauth) == 0 || sasl_parse_xoauth2(m, &oauth) == 0) {
        inside(m, oauth.user);
        inside(m, oauth.token);
        if (oauth.token.len == 0)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str m = {(const char *)data, size};

    fuzz_scram(m);
    fuzz_others(m);
    return 0;
}
