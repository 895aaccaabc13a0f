/*
 * What SORT and THREAD need to know of a message (see digest.h). Runs in imap-session as the user.
 */
#include "handlers/imap/digest.h"

#include <errno.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mime/addr.h"
#include "shared/mime/date.h"
#include "shared/mime/fold.h"
#include "shared/mime/rfc2047.h"
#include "shared/mime/subject.h"

#define DIGEST_MAX (64u << 10)
#define TEXT_MAX   1024u /* of a text: enough to sort by */
#define FORMAT     2     /* of the cached bytes */

void digest_init(struct digest *d)
{
    *d = (struct digest){.bytes = BUF_INIT(DIGEST_MAX)};
}

void digest_finish(struct digest *d)
{
    buf_finish(&d->bytes);
}

/* FNV-1a, never 0. Two message ids that collide would share a thread; nothing else depends on it. */
static uint64_t hash_bytes(uint64_t hash, struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ (unsigned char)s.ptr[i]) * UINT64_C(0x100000001b3);
    return hash ? hash : 1;
}

/* Takes the next msg-id off *text: its hash without quoting, so that <"a"@b> is <a@b> (RFC 5256 3). 0: none left. */
static uint64_t take_id(struct str *text)
{
    for (size_t n = 0; n < LIMIT_HEADER_FIELD; n++) {
        ptrdiff_t open = str_chr(*text, '<'), close;
        uint64_t hash = UINT64_C(0xcbf29ce484222325);
        struct str id;
        bool has_at = false;

        if (open < 0)
            return 0;
        *text = str_sub(*text, (size_t)open + 1, text->len);
        close = str_chr(*text, '>');
        if (close < 0)
            return 0;
        id = str_sub(*text, 0, (size_t)close);
        *text = str_sub(*text, (size_t)close + 1, text->len);
        for (size_t i = 0; i < id.len; i++) {
            char c = id.ptr[i];

            if (c == '"' || c == '\\' || c == ' ' || c == '\t' || c == '\r' || c == '\n')
                continue;
            has_at = has_at || c == '@';
            hash = hash_bytes(hash, str_sub(id, i, 1));
        }
        if (has_at)
            return hash;
    }
    return 0;
}

static int put(struct buf *out, const void *data, size_t len)
{
    return buf_add(out, data, len);
}

/* A text as u16 length and bytes. */
static int put_text(struct buf *out, struct str text)
{
    uint16_t len = (uint16_t)(text.len < TEXT_MAX ? text.len : TEXT_MAX);
    int r = put(out, &len, sizeof(len));

    return r < 0 ? r : put(out, text.ptr, len);
}

static int put_folded(struct buf *out, struct str text)
{
    _cleanup_buf_ struct buf folded = BUF_INIT((size_t)LIMIT_HEADER_FIELD * 8);
    int r = fold_text(str_sub(text, 0, TEXT_MAX * 4), &folded);

    return r < 0 ? r : put_text(out, buf_str(&folded));
}

/* Bodies of the fields that matter, the first of each name; null: none. */
enum field { DATE, MESSAGE_ID, SUBJECT, FROM, TO, CC, REFERENCES, IN_REPLY_TO, FIELDS };

static void find_fields(struct str header, struct str body[FIELDS])
{
    static const struct str wanted[FIELDS] = {
        [DATE] = {"Date", 4},
        [MESSAGE_ID] = {"Message-ID", 10},
        [SUBJECT] = {"Subject", 7},
        [FROM] = {"From", 4},
        [TO] = {"To", 2},
        [CC] = {"Cc", 2},
        [REFERENCES] = {"References", 10},
        [IN_REPLY_TO] = {"In-Reply-To", 11},
    };
    struct header_iter i = header_iterate(header);
    struct header_field field;

    while (header_next(&i, &field))
        for (size_t f = 0; f < FIELDS; f++)
            if (!body[f].ptr && str_ieq(field.name, wanted[f]))
                body[f] = field.body;
}

static int put_subject(struct buf *out, struct str body, bool *ret_is_reply)
{
    _cleanup_buf_ struct buf base = BUF_INIT((size_t)LIMIT_HEADER_FIELD * 4);
    int r = body.ptr ? subject_base(body, &base, ret_is_reply) : 0;

    return r < 0 && r != -ENOBUFS ? r : put_folded(out, buf_str(&base));
}

/* Two texts of the first address of a field: its mailbox name, and what a reader sees of it (RFC 5957 3). */
struct address {
    struct buf mailbox;
    struct buf display;
};

static int read_address(struct str body, struct address *ret)
{
    _cleanup_addr_list_ struct addr_list list = {0};
    const struct addr *a = NULL;
    int r = 0;

    addr_list_init(&list);
    if (body.ptr)
        r = addr_parse(body, &list);
    for (size_t i = 0; i < list.count && !a; i++)
        if (!addr_is_group_end(&list.items[i]))
            a = &list.items[i];
    if (r < 0 || !a)
        return r;
    r = buf_add_str(&ret->mailbox, a->mailbox);
    if (r < 0)
        return r;
    if (addr_is_group_start(a))
        return buf_add_str(&ret->display, a->mailbox);
    if (a->name.len)
        r = rfc2047_decode(a->name, &ret->display);
    if (r >= 0 && ret->display.len == 0)
        r = buf_printf(&ret->display, a->host.len ? "%.*s@%.*s" : "%.*s", STR_ARG(a->mailbox), STR_ARG(a->host));
    return r == -ENOBUFS ? 0 : r;
}

/* In the order of enum digest_text. */
static int put_addresses(struct buf *out, const struct str body[FIELDS])
{
    struct address of[3];
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(of); i++)
        of[i] = (struct address){.mailbox = BUF_INIT((size_t)LIMIT_HEADER_FIELD * 4),
                                 .display = BUF_INIT((size_t)LIMIT_HEADER_FIELD * 4)};
    for (size_t i = 0; i < ARRAY_SIZE(of) && r >= 0; i++)
        r = read_address(body[FROM + i], &of[i]);
    for (size_t i = 0; i < ARRAY_SIZE(of) && r >= 0; i++)
        r = put_folded(out, buf_str(&of[i].mailbox));
    for (size_t i = 0; i < 2 && r >= 0; i++)
        r = put_folded(out, buf_str(&of[i].display));
    for (size_t i = 0; i < ARRAY_SIZE(of); i++) {
        buf_finish(&of[i].mailbox);
        buf_finish(&of[i].display);
    }
    return r;
}

/* References, else the first id of In-Reply-To; of a very long chain its end. */
static int put_references(struct buf *out, struct str references, struct str in_reply_to)
{
    uint64_t ring[DIGEST_REFERENCES];
    size_t count = 0, first;
    uint64_t id;
    int r = 0;

    while ((id = take_id(&references)) != 0)
        ring[count++ % DIGEST_REFERENCES] = id;
    if (count == 0 && (id = take_id(&in_reply_to)) != 0)
        ring[count++] = id;
    first = count > DIGEST_REFERENCES ? count - DIGEST_REFERENCES : 0;
    for (size_t i = first; i < count && r >= 0; i++)
        r = put(out, &ring[i % DIGEST_REFERENCES], sizeof(ring[0]));
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
    struct str body[FIELDS] = {STR_NULL};
    bool is_reply = false;
    int16_t offset;
    int r = message_header(m);

    if (r < 0)
        return r;
    find_fields(buf_str(&m->header.bytes), body);
    if (body[DATE].ptr && date_parse(body[DATE], &fixed.date, &offset) < 0)
        fixed.date = m->info.internaldate;
    fixed.id = take_id(&body[MESSAGE_ID]);
    buf_clear(out);
    r = put(out, &fixed, sizeof(fixed));
    if (r >= 0)
        r = put_subject(out, body[SUBJECT], &is_reply);
    if (r >= 0)
        r = put_addresses(out, body);
    if (r >= 0)
        r = put_references(out, body[REFERENCES], body[IN_REPLY_TO]);
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
    _cleanup_buf_ struct buf bytes = BUF_INIT(DIGEST_MAX);

    if (make(m, &bytes) >= 0)
        (void)mbox_cache_put(m->s->box, m->seq, MBOX_CACHE_THREAD, buf_str(&bytes));
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
