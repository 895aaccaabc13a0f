/*
 * Parsers of SASL client messages. Run in auth and auth-sasl, as root, on what strangers sent: views only, no
 * allocation, no copying.
 */
#include "handlers/auth/sasl.h"

#include <errno.h>

#define DIGEST_HEX 32 /* of MD5 */

int sasl_parse_plain(struct str message, struct sasl_plain *ret)
{
    bool is_whole = str_cut(&message, '\0', &ret->authzid) && str_cut(&message, '\0', &ret->authcid);

    ret->password = message;
    /* RFC 4616 2: authcid and passwd have at least one character, none is NUL, all is UTF-8. */
    return is_whole && ret->authcid.len > 0 && message.len > 0 && !str_has_nul(message) && utf8_valid(ret->authzid) &&
                   utf8_valid(ret->authcid)
               ? 0
               : -EBADMSG;
}

int sasl_parse_digest(struct str message, struct sasl_digest *ret)
{
    /* The user name may hold blanks (RFC 2195 2 has no other separator): the last one counts. */
    if (message.len < DIGEST_HEX + 2 || message.ptr[message.len - DIGEST_HEX - 1] != ' ')
        return -EBADMSG;
    ret->user = str_sub(message, 0, message.len - DIGEST_HEX - 1);
    ret->hex = str_sub(message, message.len - DIGEST_HEX, DIGEST_HEX);
    for (size_t i = 0; i < DIGEST_HEX; i++)
        if (!ascii_is_digit(ret->hex.ptr[i]) && !(ret->hex.ptr[i] >= 'a' && ret->hex.ptr[i] <= 'f'))
            return -EBADMSG;
    return str_has_nul(ret->user) ? -EBADMSG : 0;
}

/* Printable US-ASCII without blanks, at least one character: tokens (RFC 6750 2.1) and, without commas, nonces (RFC
 * 5802 7).
 */
static bool is_printable(struct str s, bool may_have_commas)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] >= 127 || (s.ptr[i] == ',' && !may_have_commas))
            return false;
    return s.len > 0;
}

/* "key=value ^A" pairs up to the empty one that ends them. */
static int parse_pairs(struct str rest, struct sasl_oauth *ret)
{
    struct str pair, key;

    while (str_cut(&rest, '\001', &pair)) {
        if (pair.len == 0)
            return rest.len == 0 && ret->token.ptr ? 0 : -EBADMSG;
        if (!str_cut(&pair, '=', &key))
            return -EBADMSG;
        if (str_eq(key, STR("auth"))) {
            if (!str_istarts(pair, STR("bearer ")))
                return -EBADMSG;
            ret->token = str_trim(str_sub(pair, 7, SIZE_MAX));
            if (!is_printable(ret->token, true))
                return -EBADMSG;
        } else if (str_eq(key, STR("user"))) {
            ret->user = pair;
        }
    }
    return -EBADMSG;
}

int sasl_parse_xoauth2(struct str message, struct sasl_oauth *ret)
{
    struct sasl_oauth o = {0};

    if (!str_starts(message, STR("user=")) || parse_pairs(message, &o) < 0 || o.user.len == 0)
        return -EBADMSG;
    *ret = o;
    return 0;
}

/* gs2-header (RFC 5801 4, RFC 5802 7): ("p=" name / "n" / "y") "," ["a=" authzid] "," */
struct gs2 {
    char binding;
    struct str cb_name;
    struct str authzid;
};

static int cut_gs2(struct str *message, struct gs2 *ret)
{
    struct gs2 g = {0};
    struct str flag, authzid;

    if (!str_cut(message, ',', &flag) || !str_cut(message, ',', &authzid) || flag.len == 0)
        return -EBADMSG;
    g.binding = flag.ptr[0];
    if (g.binding == 'p') {
        if (!str_starts(flag, STR("p=")) || flag.len == 2)
            return -EBADMSG;
        g.cb_name = str_sub(flag, 2, SIZE_MAX);
    } else if ((g.binding != 'n' && g.binding != 'y') || flag.len != 1) {
        return -EBADMSG;
    }
    if (authzid.len > 0) {
        if (!str_starts(authzid, STR("a=")) || authzid.len == 2)
            return -EBADMSG;
        g.authzid = str_sub(authzid, 2, SIZE_MAX);
    }
    *ret = g;
    return 0;
}

int sasl_parse_oauthbearer(struct str message, struct sasl_oauth *ret)
{
    struct sasl_oauth o = {0};
    struct str separator;
    struct gs2 g;

    /* No channel binding is defined with it. */
    if (cut_gs2(&message, &g) < 0 || g.binding == 'p')
        return -EBADMSG;
    if (!str_cut(&message, '\001', &separator) || separator.len != 0 || parse_pairs(message, &o) < 0)
        return -EBADMSG;
    o.user = g.authzid;
    *ret = o;
    return 0;
}

/* "x=value": the next attribute, which must have this name. */
static int cut_attribute(struct str *message, char name, struct str *ret_value)
{
    struct str attribute;

    (void)str_cut(message, ',', &attribute);
    if (attribute.len < 3 || attribute.ptr[0] != name || attribute.ptr[1] != '=')
        return -EBADMSG;
    *ret_value = str_sub(attribute, 2, SIZE_MAX);
    return 0;
}

int sasl_parse_scram_first(struct str message, struct sasl_scram_first *ret)
{
    struct sasl_scram_first f = {0};
    struct str rest = message;
    struct gs2 g;

    if (str_has_nul(message) || cut_gs2(&rest, &g) < 0)
        return -EBADMSG;
    f.binding = g.binding;
    f.cb_name = g.cb_name;
    f.authzid = g.authzid;
    f.header = str_sub(message, 0, message.len - rest.len);
    f.bare = rest;
    if (cut_attribute(&rest, 'n', &f.user) < 0 || cut_attribute(&rest, 'r', &f.nonce) < 0)
        return -EBADMSG; /* "m=" comes first, so this refuses mandatory extensions too */
    if (!is_printable(f.nonce, false) || !utf8_valid(f.user) || !utf8_valid(f.authzid))
        return -EBADMSG;
    *ret = f;
    return 0;
}

int sasl_parse_scram_final(struct str message, struct sasl_scram_final *ret)
{
    struct sasl_scram_final f = {0};
    struct str rest = message;
    size_t at = message.len;

    if (str_has_nul(message) || cut_attribute(&rest, 'c', &f.binding) < 0 || cut_attribute(&rest, 'r', &f.nonce) < 0)
        return -EBADMSG;
    /* The proof is the last attribute; extensions may stand before it. */
    while (at > 0 && message.ptr[at - 1] != ',')
        at--;
    if (at == 0)
        return -EBADMSG;
    f.without_proof = str_sub(message, 0, at - 1);
    f.proof = str_sub(message, at, SIZE_MAX);
    if (cut_attribute(&f.proof, 'p', &rest) < 0 || !is_printable(f.nonce, false))
        return -EBADMSG;
    f.proof = rest;
    *ret = f;
    return 0;
}

int sasl_unescape(struct str name, struct buf *out)
{
    int r = 0;

    while (r == 0 && name.len > 0) {
        bool is_comma = str_starts(name, STR("=2C")), is_escape = is_comma || str_starts(name, STR("=3D"));

        if (name.ptr[0] == '=' && !is_escape)
            return -EBADMSG;
        r = buf_add_byte(out, is_comma ? ',' : name.ptr[0]);
        name = str_sub(name, is_escape ? 3 : 1, SIZE_MAX);
    }
    return r;
}
