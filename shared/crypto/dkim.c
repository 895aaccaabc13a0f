/*
 * The DKIM-Signature field. Runs in sign, in a sandbox.
 */
#include "shared/crypto/dkim.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "shared/base/macros.h"
#include "shared/crypto/dkim_canon.h"
#include "shared/crypto/dkim_parts.h"

#define SIGNED_FIELDS 512 /* of one message: more of them are not signed, those nearest to the body come first */
#define LINE          76  /* RFC 5322 2.1.1: columns of the field's lines */

/* What a reader sees or his program acts on (RFC 6376 5.4.1); trace fields and those that others rewrite are left out.
 */
static const char *const FIELDS[] = {
    "From",         "Reply-To",     "Subject",        "Date",
    "To",           "Cc",           "Message-ID",     "In-Reply-To",
    "References",   "MIME-Version", "Content-Type",   "Content-Transfer-Encoding",
    "Sender",       "Resent-Date",  "Resent-From",    "Resent-To",
    "Resent-Cc",    "List-Id",      "List-Help",      "List-Unsubscribe",
    "List-Post",    "List-Owner",   "List-Subscribe", "List-Unsubscribe-Post",
    "List-Archive",
};

/* Named once more than they are there, so that nobody adds one behind our back (RFC 6376 5.4.2, 8.15): a second Subject
 * that is shown instead, a Reply-To of somebody else, a Content-Type that makes the text another one. Those that a
 * server on the way may have to add are sealed only where they are there (RFC 6409 8). From ends the list. */
static const struct {
    const char *name;
    bool is_always;
} SEALED[] = {
    {"Subject", true},      {"Reply-To", true},     {"Cc", true},
    {"MIME-Version", true}, {"Content-Type", true}, {"Content-Transfer-Encoding", true},
    {"Date", false},        {"To", false},          {"Message-ID", false},
};

/* ---- bodies ---- */

struct dkim_body {
    EVP_MD_CTX *hash;
    struct dkim_canon canon;
};

static int hash_bytes(void *context, struct str bytes)
{
    return EVP_DigestUpdate(context, bytes.ptr, bytes.len) == 1 ? 0 : -ENOMEM;
}

int dkim_body_new(struct dkim_body **ret)
{
    struct dkim_body *b = calloc(1, sizeof(*b));

    if (!b)
        return -ENOMEM;
    b->hash = EVP_MD_CTX_new();
    if (!b->hash || EVP_DigestInit_ex(b->hash, EVP_sha256(), NULL) != 1) {
        dkim_body_free(b);
        return -ENOMEM;
    }
    dkim_canon_init(&b->canon, hash_bytes, b->hash);
    *ret = b;
    return 0;
}

int dkim_body_feed(struct dkim_body *b, struct str bytes)
{
    return dkim_canon_feed(&b->canon, bytes);
}

int dkim_body_end(struct dkim_body *b, uint8_t ret_hash[32])
{
    int e = dkim_canon_end(&b->canon);

    return e < 0 ? e : EVP_DigestFinal_ex(b->hash, ret_hash, NULL) == 1 ? 0 : -ENOMEM;
}

void dkim_body_free(struct dkim_body *b)
{
    if (b)
        EVP_MD_CTX_free(b->hash);
    free(b);
}

/* ---- the header ---- */

struct selection {
    struct str fields[SIGNED_FIELDS]; /* in the order of h= */
    size_t count;
    bool has_from;
};

static bool is_signed(struct str name)
{
    for (size_t i = 0; i < ARRAY_SIZE(FIELDS); i++)
        if (str_ieq(name, str_from(FIELDS[i])))
            return true;
    return false;
}

static size_t count_signed(struct str header)
{
    struct str field;
    size_t n = 0;

    while (dkim_canon_next(&header, &field))
        n += is_signed(dkim_canon_name(field));
    return n;
}

/* RFC 6376 5.4.2: of fields that are there several times the last one comes first, so all are taken backwards. */
static void choose(struct str header, struct selection *s)
{
    size_t all = count_signed(header), skip = all > SIGNED_FIELDS ? all - SIGNED_FIELDS : 0;
    struct str field;

    *s = (struct selection){.count = all - skip};
    for (size_t at = s->count; at > 0 && dkim_canon_next(&header, &field);) {
        if (!is_signed(dkim_canon_name(field)))
            continue;
        if (skip > 0) {
            skip--;
            continue;
        }
        s->has_from |= str_ieq(dkim_canon_name(field), STR("From"));
        s->fields[--at] = field;
    }
}

/* Appends a word of a tag list, on a new line where it does not fit. `column` is that of the current line. */
static int add_word(struct str word, size_t *column, struct buf *out)
{
    int e = 0;

    if (*column + word.len > LINE) {
        e = buf_add_str(out, STR("\n\t"));
        *column = 8;
    }
    *column += word.len;
    return e < 0 ? e : buf_add_str(out, word);
}

static bool is_chosen(const struct selection *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (str_ieq(dkim_canon_name(s->fields[i]), str_from(name)))
            return true;
    return false;
}

static int add_name(struct str name, size_t *column, struct buf *out)
{
    _cleanup_buf_ struct buf word = BUF_INIT(64);
    int e = buf_printf(&word, "%.*s:", STR_ARG(name));

    return e < 0 ? e : add_word(buf_str(&word), column, out);
}

/* h=: the names, and those that are sealed once more. */
static int add_names(const struct selection *s, struct buf *out)
{
    size_t column = 8 + 2;
    int e = buf_add_str(out, STR("\n\th="));

    for (size_t i = 0; i < s->count && e == 0; i++)
        e = add_name(dkim_canon_name(s->fields[i]), &column, out);
    for (size_t i = 0; i < ARRAY_SIZE(SEALED) && e == 0; i++)
        if (SEALED[i].is_always || is_chosen(s, SEALED[i].name))
            e = add_name(str_from(SEALED[i].name), &column, out);
    return e < 0 ? e : add_word(STR("From;"), &column, out);
}

static int add_base64(const uint8_t *bytes, size_t len, size_t column, struct buf *out)
{
    uint8_t text[4];
    int e = 0;

    for (size_t i = 0; i < len && e == 0; i += 3) {
        int n = EVP_EncodeBlock(text, bytes + i, (int)(len - i < 3 ? len - i : 3));

        e = add_word((struct str){(const char *)text, (size_t)n}, &column, out);
    }
    return e;
}

/* All of the field up to "b=". */
static int add_unsigned(const struct dkim_wish *w, const struct dkim_key *k, const struct selection *s,
                        const uint8_t hash[32], struct buf *out)
{
    int e = buf_printf(out, "DKIM-Signature: v=1; a=%s; c=relaxed/relaxed;\n\td=%.*s; s=%.*s;\n\tt=%" PRId64 ";",
                       dkim_key_type(k) == DKIM_RSA ? "rsa-sha256" : "ed25519-sha256", STR_ARG(w->domain),
                       STR_ARG(w->selector), w->when);

    if (e == 0)
        e = add_names(s, out);
    if (e == 0)
        e = buf_add_str(out, STR("\n\tbh="));
    if (e == 0)
        e = add_base64(hash, 32, 8 + 3, out);
    return e < 0 ? e : buf_add_str(out, STR(";\n\tb="));
}

/* RFC 6376 3.7: the fields of h= with their line ends, then this one without "b=" and without a line end. */
static int hash_header(const struct selection *s, struct str field, uint8_t ret_hash[32])
{
    _cleanup_buf_ struct buf text = BUF_INIT(4u << 20);
    unsigned len = 32;
    int e = 0;

    for (size_t i = 0; i < s->count && e == 0; i++) {
        e = dkim_canon_field(s->fields[i], &text);
        if (e == 0)
            e = buf_add_str(&text, STR("\r\n"));
    }
    if (e == 0)
        e = dkim_canon_field(field, &text);
    if (e == 0 && EVP_Digest(text.data, text.len, ret_hash, &len, EVP_sha256(), NULL) != 1)
        e = -ENOMEM;
    return e;
}

int dkim_sign(const struct dkim_wish *w, const struct dkim_key *k, struct str header, const uint8_t body_hash[32],
              struct buf *out)
{
    _cleanup_free_ struct selection *s = malloc(sizeof(*s));
    uint8_t hash[32], signature[DKIM_SIGNATURE_MAX];
    size_t start = out->len, len = 0;
    int e;

    if (!s)
        return -ENOMEM;
    choose(header, s);
    if (!s->has_from)
        return -EBADMSG;
    e = add_unsigned(w, k, s, body_hash, out);
    if (e == 0)
        e = hash_header(s, str_sub(buf_str(out), start, out->len), hash);
    if (e == 0)
        e = dkim_key_sign(k, hash, signature, &len);
    if (e == 0)
        e = add_base64(signature, len, 8 + 2, out);
    if (e == 0)
        e = buf_add_byte(out, '\n');
    if (e < 0)
        buf_truncate(out, start);
    return e;
}
