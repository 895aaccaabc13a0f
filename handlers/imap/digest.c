/*
 * What SORT and THREAD need to know of a message (see digest.h). Runs in imap-session as the user.
 */
#include "handlers/imap/digest.h"

#include <errno.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mime/addr.h"
#include "shared/mime/date.h"
#include "shared/mime/fields.h"
#include "shared/mime/fold.h"
#include "shared/mime/rfc2047.h"
#include "shared/mime/subject.h"

#define DIGEST_MAX (128u << 10)   /* much more than it is: a text grows up to 12 times while it is folded */
#define TEXT_MAX   1024u          /* of a text: enough to sort by */
#define TEXT_READ  (TEXT_MAX * 4) /* that much of it is folded */
#define FORMAT     2              /* of the cached bytes */

void digest_init(struct digest *d)
{
    *d = (struct digest){.bytes = BUF_INIT(DIGEST_MAX)};
}

void digest_finish(struct digest *d)
{
    buf_finish(&d->bytes);
}

/* FNV-1a, never 0. Two message ids that collide would share a thread; nothing else depends on it. */
static uint64_t hash_byte(uint64_t hash, char c)
{
    hash ^= (unsigned char)c;
    return hash ? hash * UINT64_C(0x100000001b3) : 1; /* by an odd number: 0 comes of 0 only */
}

/* Of a msg-id without quoting, so that <"a"@b> is <a@b> (RFC 5256 3). 0: it is none. */
static uint64_t hash_id(struct str id)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    bool has_at = false;

    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];

        if (c == '"' || c == '\\' || c == ' ' || c == '\t' || c == '\r' || c == '\n')
            continue;
        has_at |= c == '@';
        hash = hash_byte(hash, c);
    }
    return has_at ? hash : 0;
}

/* Takes the next msg-id off *text: its hash. 0: none left. */
static uint64_t take_id(struct str *text)
{
    for (size_t n = 0; n < LIMIT_HEADER_FIELD; n++) {
        ptrdiff_t open = str_chr(*text, '<'), close;
        uint64_t hash;

        if (open < 0)
            return 0;
        *text = str_sub(*text, (size_t)open + 1, text->len);
        close = str_chr(*text, '>');
        if (close < 0)
            return 0;
        hash = hash_id(str_sub(*text, 0, (size_t)close));
        *text = str_sub(*text, (size_t)close + 1, text->len);
        if (hash)
            return hash;
    }
    return 0;
}

static int put(struct buf *out, const void *data, size_t len)
{
    return buf_add(out, data, len);
}

/* A text, folded, as u16 length and bytes. */
static int put_folded(struct buf *out, struct str text)
{
    uint16_t len = 0;
    size_t start = out->len + sizeof(len);
    int r = put(out, &len, sizeof(len));

    if (r >= 0)
        r = fold_text(str_sub(text, 0, TEXT_READ), out);
    if (r < 0)
        return r;
    buf_truncate(out, start + TEXT_MAX);
    len = (uint16_t)(out->len - start);
    memcpy(out->data + start - sizeof(len), &len, sizeof(len));
    return 0;
}

static int put_subject(struct buf *out, struct str body, struct buf *base, bool *ret_is_reply)
{
    int r;

    buf_clear(base);
    r = body.ptr ? subject_base(body, base, ret_is_reply) : 0;
    return r < 0 && r != -ENOBUFS ? r : put_folded(out, buf_str(base));
}

/* What a reader sees of an address (RFC 5957 3). */
static int put_display(struct buf *out, const struct addr *a, struct buf *text)
{
    int r = 0;

    buf_clear(text);
    if (a && addr_is_group_start(a)) {
        r = buf_add_str(text, a->mailbox);
    } else if (a) {
        if (a->name.len)
            r = rfc2047_decode(a->name, text);
        if (r >= 0 && text->len == 0)
            r = buf_printf(text, a->host.len ? "%.*s@%.*s" : "%.*s", STR_ARG(a->mailbox), STR_ARG(a->host));
    }
    return r < 0 && r != -ENOBUFS ? r : put_folded(out, buf_str(text));
}

/* Of the first address of each field its mailbox name, then how it is shown: in the order of enum digest_text. */
static int put_addresses(struct message *m, struct buf *out)
{
    static const enum field_name names[] = {FIELD_FROM, FIELD_TO, FIELD_CC};
    const struct addr *first[ARRAY_SIZE(names)] = {NULL};
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(names) && r >= 0; i++)
        r = envelope_first_address(&m->envelope, names[i], &first[i]);
    for (size_t i = 0; i < ARRAY_SIZE(names) && r >= 0; i++)
        r = put_folded(out, first[i] ? first[i]->mailbox : STR_NULL);
    for (size_t i = 0; i < 2 && r >= 0; i++)
        r = put_display(out, first[i], &m->text);
    return r;
}

/* Leaves DIGEST_REFERENCES ids of those that stand from byte `start` on, the last ones. */
static void drop_first_ids(struct buf *out, size_t start)
{
    size_t most = DIGEST_REFERENCES * sizeof(uint64_t);

    if (out->len - start <= most)
        return;
    memmove(out->data + start, out->data + out->len - most, most);
    buf_truncate(out, start + most);
}

/* References, else the first id of In-Reply-To; of a very long chain its end. */
static int put_references(struct buf *out, struct str references, struct str in_reply_to)
{
    size_t start = out->len;
    uint64_t id;
    int r = 0;

    while (r >= 0 && (id = take_id(&references)) != 0) {
        r = put(out, &id, sizeof(id));
        if (out->len - start >= 2 * DIGEST_REFERENCES * sizeof(id))
            drop_first_ids(out, start);
    }
    if (r >= 0 && out->len == start && (id = take_id(&in_reply_to)) != 0)
        r = put(out, &id, sizeof(id));
    drop_first_ids(out, start);
    return r;
}

/* The fixed part in front of the texts. */
struct fixed {
    uint32_t format;
    uint32_t is_reply;
    int64_t date;
    uint64_t id;
};

/* Works it out from the header, as bytes: fixed part, texts, references to the end. */
static int make(struct message *m, struct buf *out)
{
    struct fixed fixed = {.format = FORMAT, .date = m->info.internaldate};
    const struct str *body = m->envelope.fields.body;
    bool is_reply = false;
    struct str id;
    int16_t offset;
    int r = message_known_fields(m);

    if (r < 0)
        return r;
    if (body[FIELD_DATE].ptr && date_parse(body[FIELD_DATE], &fixed.date, &offset) < 0)
        fixed.date = m->info.internaldate;
    id = body[FIELD_MESSAGE_ID];
    fixed.id = take_id(&id);
    buf_clear(out);
    r = put(out, &fixed, sizeof(fixed));
    if (r >= 0)
        r = put_subject(out, body[FIELD_SUBJECT], &m->text, &is_reply);
    if (r >= 0)
        r = put_addresses(m, out);
    if (r >= 0)
        r = put_references(out, body[FIELD_REFERENCES], body[FIELD_IN_REPLY_TO]);
    if (r < 0)
        return r;
    fixed.is_reply = is_reply;
    memcpy(out->data, &fixed, sizeof(fixed));
    return 0;
}

/* Sets the views into d->bytes. -EBADMSG: not bytes that make() made. */
static int parse(struct digest *d)
{
    struct str rest = buf_str(&d->bytes);
    struct fixed fixed;

    if (rest.len < sizeof(fixed))
        return -EBADMSG;
    memcpy(&fixed, rest.ptr, sizeof(fixed));
    rest = str_sub(rest, sizeof(fixed), rest.len);
    if (fixed.format != FORMAT)
        return -EBADMSG;
    for (unsigned i = 0; i < DIGEST_TEXTS; i++) {
        uint16_t len;

        if (rest.len < sizeof(len))
            return -EBADMSG;
        memcpy(&len, rest.ptr, sizeof(len));
        if (rest.len - sizeof(len) < len)
            return -EBADMSG;
        d->texts[i] = str_sub(rest, sizeof(len), len);
        rest = str_sub(rest, sizeof(len) + len, rest.len);
    }
    if (rest.len % sizeof(uint64_t))
        return -EBADMSG;
    d->references = rest;
    d->date = fixed.date;
    d->id = fixed.id;
    d->is_reply = fixed.is_reply != 0;
    return 0;
}

int digest_get(struct digest *d, struct message *m)
{
    struct str cached;
    int r;

    buf_clear(&d->bytes);
    if (mbox_cache_get(m->s->box, m->seq, MBOX_CACHE_THREAD, &cached) >= 0 && buf_add_str(&d->bytes, cached) >= 0 &&
        parse(d) >= 0)
        return 0;
    r = make(m, &d->bytes);
    if (r < 0)
        return r;
    (void)mbox_cache_put(m->s->box, m->seq, MBOX_CACHE_THREAD, buf_str(&d->bytes));
    return parse(d);
}

void digest_keep(struct message *m)
{
    if (make(m, &m->cached) >= 0)
        (void)mbox_cache_put(m->s->box, m->seq, MBOX_CACHE_THREAD, buf_str(&m->cached));
}

size_t digest_reference_count(const struct digest *d)
{
    return d->references.len / sizeof(uint64_t);
}

uint64_t digest_reference(const struct digest *d, size_t i)
{
    uint64_t id;

    memcpy(&id, d->references.ptr + i * sizeof(id), sizeof(id));
    return id;
}
