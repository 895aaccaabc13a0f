/*
 * Addresses of SRS. Runs in the program srs; pure.
 */
#include "shared/route/srs.h"

#include <errno.h>

#define DAY    86400
#define STAMPS 1024 /* days after which the two letters repeat */

static const char BASE32[] = "abcdefghijklmnopqrstuvwxyz234567"; /* RFC 4648 6, in lower case */

static bool is_separator(char c)
{
    return c == '=' || c == '+' || c == '-';
}

static bool has_prefix(struct str local, struct str prefix)
{
    return local.len > prefix.len && str_istarts(local, prefix) && is_separator(local.ptr[prefix.len]);
}

bool srs_is_one(struct str local)
{
    return has_prefix(local, STR("SRS0")) || has_prefix(local, STR("SRS1"));
}

static void write_stamp(int64_t now, char out[static 2])
{
    unsigned day = (unsigned)(now / DAY % STAMPS);

    out[0] = BASE32[day >> 5];
    out[1] = BASE32[day & 31];
}

/* Days since the stamp, or -EINVAL. */
static int stamp_age(struct str stamp, int64_t now)
{
    unsigned today = (unsigned)(now / DAY % STAMPS), day = 0;

    if (stamp.len != 2)
        return -EINVAL;
    for (size_t i = 0; i < 2; i++) {
        ptrdiff_t at = str_chr(STR("abcdefghijklmnopqrstuvwxyz234567"), ascii_lower(stamp.ptr[i]));

        if (at < 0)
            return -EINVAL;
        day = day << 5 | (unsigned)at;
    }
    return (int)((today + STAMPS - day) % STAMPS);
}

/* The hash of some pieces, in lower case with a mark between them: mail systems may change the case of a local part. */
static int hash_pieces(const struct srs *s, const struct str *pieces, size_t count, char out[static SRS_HASH])
{
    _cleanup_buf_ struct buf text = BUF_INIT(2 * SRS_ADDRESS);
    int e = 0;

    for (size_t i = 0; i < count && e == 0; i++) {
        for (size_t k = 0; k < pieces[i].len && e == 0; k++)
            e = buf_add_byte(&text, ascii_lower(pieces[i].ptr[k]));
        if (e == 0)
            e = buf_add_byte(&text, '\n');
    }
    return e < 0 ? e : s->hash(s->context, buf_str(&text), out);
}

/* In a time that does not depend on how much is right. */
static bool is_same_hash(struct str said, const char right[static SRS_HASH])
{
    unsigned difference = said.len != SRS_HASH;

    for (size_t i = 0; i < SRS_HASH && i < said.len; i++)
        difference |= (unsigned char)ascii_lower(said.ptr[i]) ^ (unsigned char)right[i];
    return difference == 0;
}

static int add_domain(const struct srs *s, struct buf *out)
{
    return buf_printf(out, "@%.*s", STR_ARG(s->domain));
}

static bool is_fine(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] <= 32 || text.ptr[i] == 127)
            return false;
    return text.len > 0;
}

/* ---- forward ---- */

static int forward_first(const struct srs *s, struct str local, struct str domain, struct buf *out)
{
    char stamp[2], hash[SRS_HASH];
    const struct str pieces[] = {STR("srs0"), {stamp, 2}, domain, local};
    int e;

    write_stamp(s->now, stamp);
    e = hash_pieces(s, pieces, 4, hash);
    if (e == 0)
        e = buf_printf(out, "SRS0=%.*s=%.*s=%.*s=%.*s", SRS_HASH, hash, 2, stamp, STR_ARG(domain), STR_ARG(local));
    return e < 0 ? e : add_domain(s, out);
}

/* `rest` is what the first forwarder wrote behind "SRS0", its separator with it. */
static int forward_again(const struct srs *s, struct str host, struct str rest, struct buf *out)
{
    char hash[SRS_HASH];
    const struct str pieces[] = {STR("srs1"), host, rest};
    int e = hash_pieces(s, pieces, 3, hash);

    if (e == 0)
        e = buf_printf(out, "SRS1=%.*s=%.*s=%.*s", SRS_HASH, hash, STR_ARG(host), STR_ARG(rest));
    return e < 0 ? e : add_domain(s, out);
}

/* Of an SRS1 local part: its host, and what stood behind SRS0 there. */
static int split_again(struct str local, struct str *ret_hash, struct str *ret_host, struct str *ret_rest)
{
    struct str rest = str_sub(local, 5, local.len);

    if (!str_cut(&rest, '=', ret_hash) || !str_cut(&rest, '=', ret_host) || ret_host->len == 0 || rest.len < 2 ||
        !is_separator(rest.ptr[0]))
        return -EINVAL;
    *ret_rest = rest;
    return 0;
}

int srs_forward(const struct srs *s, struct str local, struct str domain, struct buf *out)
{
    struct str hash, host, rest;

    if (!is_fine(local) || !is_fine(domain) || local.len + domain.len > SRS_ADDRESS / 2)
        return -EINVAL;
    if (has_prefix(local, STR("SRS0")))
        return forward_again(s, domain, str_sub(local, 4, local.len), out);
    /* A third forwarder sends bounces to the first one, as the second did. */
    if (has_prefix(local, STR("SRS1")) && split_again(local, &hash, &host, &rest) == 0)
        return forward_again(s, host, rest, out);
    return forward_first(s, local, domain, out);
}

/* ---- back ---- */

static int check_hash(const struct srs *s, struct str said, const struct str *pieces, size_t count)
{
    char right[SRS_HASH];
    int e = hash_pieces(s, pieces, count, right);

    return e < 0 ? e : is_same_hash(said, right) ? 0 : -EKEYREJECTED;
}

static int reverse_first(const struct srs *s, struct str rest, struct buf *out)
{
    struct str hash, stamp, domain;
    int age, e;

    if (!str_cut(&rest, '=', &hash) || !str_cut(&rest, '=', &stamp) || !str_cut(&rest, '=', &domain) ||
        !is_fine(domain) || !is_fine(rest))
        return -EINVAL;
    e = check_hash(s, hash, (const struct str[]){STR("srs0"), stamp, domain, rest}, 4);
    if (e < 0)
        return e;
    age = stamp_age(stamp, s->now);
    if (age < 0 || age > SRS_DAYS)
        return age < 0 ? age : -EKEYEXPIRED;
    return buf_printf(out, "%.*s@%.*s", STR_ARG(rest), STR_ARG(domain));
}

int srs_reverse(const struct srs *s, struct str local, struct buf *out)
{
    struct str hash, host, rest;
    int e;

    if (!srs_is_one(local) || !is_fine(local))
        return -EINVAL;
    if (has_prefix(local, STR("SRS0")))
        return reverse_first(s, str_sub(local, 5, local.len), out);
    e = split_again(local, &hash, &host, &rest);
    if (e == 0)
        e = check_hash(s, hash, (const struct str[]){STR("srs1"), host, rest}, 3);
    return e < 0 ? e : buf_printf(out, "SRS0%.*s@%.*s", STR_ARG(rest), STR_ARG(host));
}
