/*
 * One message and what was worked out about it (see message.h). Runs in imap-session as the user; reads through
 * shared/mbox.
 */
#include "handlers/imap/message.h"

#include <errno.h>
#include <string.h>

#include "handlers/imap/digest.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mime/bodystructure.h"

#define SCRATCH_MAX  (16u << 20) /* a printed structure of LIMIT_MIME_PARTS parts, an envelope of LIMIT_ADDRESSES */
#define SCRATCH_KEEP (64u << 10)
#define CACHED_MAX   (128u << 10) /* a digest while a text of it is folded */
#define TEXT_MAX     (4u * LIMIT_HEADER_FIELD)
#define FIELDS_MAX   (4u << 10) /* fields of one message that are worth keeping */

void message_init(struct message *m, struct imap *s)
{
    *m = (struct message){
        .s = s, .scratch = BUF_INIT(SCRATCH_MAX), .cached = BUF_INIT(CACHED_MAX), .text = BUF_INIT(TEXT_MAX)};
    header_collector_init(&m->header);
    envelope_init(&m->envelope);
}

static void drop_large(struct buf *b)
{
    if (b->cap > SCRATCH_KEEP)
        buf_finish(b);
}

/* Forgets the current message. */
static void message_drop(struct message *m)
{
    mbox_stream_free(m->stream);
    m->stream = NULL;
    if (m->has_tree)
        mime_tree_finish(&m->tree);
    m->has_tree = false;
    header_collector_clear(&m->header);
    m->has_header = m->has_known_fields = false;
    drop_large(&m->scratch);
    drop_large(&m->cached);
    drop_large(&m->text);
}

void message_finish(struct message *m)
{
    message_drop(m);
    mime_parser_free(m->parser);
    header_collector_finish(&m->header);
    envelope_finish(&m->envelope);
    buf_finish(&m->scratch);
    buf_finish(&m->cached);
    buf_finish(&m->text);
}

void message_email_id(const struct mbox_info *info, uint8_t ret[16])
{
    /* There is no time before 1970 in an mbox file: a copy would have 0. */
    uint64_t date = info->internaldate > 0 ? (uint64_t)info->internaldate * UINT64_C(0x9e3779b97f4a7c15) : 0;

    memcpy(ret, info->hash, sizeof(info->hash));
    for (size_t i = 0; i < sizeof(date); i++)
        ret[i] ^= (uint8_t)(date >> (8 * i));
}

int message_begin(struct message *m, uint32_t seq)
{
    message_drop(m);
    m->seq = seq;
    return mbox_info(m->s->box, seq, &m->info);
}

/* Has the stream at a byte of the wire form. */
static int message_seek(struct message *m, uint64_t start)
{
    int r = 0;

    if (!m->stream) {
        r = mbox_stream_new(m->s->box, m->seq, &m->stream);
        m->position = 0;
    }
    if (r >= 0 && m->position != start)
        r = mbox_stream_seek(m->stream, start);
    if (r >= 0)
        m->position = start;
    return r;
}

int message_read(struct message *m, uint64_t start, uint64_t end, int (*sink)(void *context, struct str piece),
                 void *context)
{
    int r;

    if (start >= end)
        return 0;
    r = message_seek(m, start);
    if (r < 0)
        return r;
    while (start < end) {
        struct str piece;

        r = mbox_stream_next(m->stream, &piece);
        if (r < 0)
            return r;
        if (!piece.len)
            return -ESTALE;
        m->position += piece.len;
        piece = str_sub(piece, 0, end - start);
        start += piece.len;
        r = sink(context, piece);
        if (r != 0)
            return r;
    }
    return 0;
}

static int feed_header(void *context, struct str piece)
{
    struct message *m = context;
    size_t used;
    int r = header_collect(&m->header, piece, &used);

    return r < 0 ? r : m->header.is_whole ? 1 : 0;
}

int message_header(struct message *m)
{
    int r;

    if (m->has_header)
        return 0;
    if (m->info.size > 0) {
        r = message_seek(m, 0);
        if (r < 0)
            return r;
        mbox_stream_want_header(m->stream);
    }
    r = message_read(m, 0, m->info.size, feed_header, m);
    if (r < 0)
        return r;
    m->has_header = true;
    return 0;
}

int message_known_fields(struct message *m)
{
    int r = message_header(m);

    if (r < 0 || m->has_known_fields)
        return r;
    envelope_read(&m->envelope, buf_str(&m->header.bytes));
    m->has_known_fields = true;
    return 0;
}

/* What the keys of RFC 9051 6.4.4 look for by name, and the field by which clients find a message that they know. */
#define KEPT_FIELDS                                                                                                    \
    (FIELD_BIT(FIELD_SUBJECT) | FIELD_BIT(FIELD_FROM) | FIELD_BIT(FIELD_TO) | FIELD_BIT(FIELD_CC) |                    \
     FIELD_BIT(FIELD_BCC) | FIELD_BIT(FIELD_DATE) | FIELD_BIT(FIELD_MESSAGE_ID))

static bool is_kept(struct str name)
{
    return (FIELD_BIT(field_name_find(name)) & KEPT_FIELDS) != 0;
}

/* The cached bytes: this, then the kept fields as a header of their own. As they stand: what is made of them when they
 * are searched may change with the program and its libraries. */
#define FIELDS_FORMAT 1u

static int fields_read(struct message *m, struct str *ret)
{
    struct str cached;
    uint32_t format;
    int r = mbox_cache_get(m->s->box, m->seq, MBOX_CACHE_HEADERS, &cached);

    if (r < 0)
        return r;
    if (cached.len < sizeof(format))
        return -EBADMSG;
    memcpy(&format, cached.ptr, sizeof(format));
    if (format != FIELDS_FORMAT)
        return -EBADMSG;
    *ret = str_sub(cached, sizeof(format), cached.len);
    return 0;
}

/* For whoever has the header at hand. Where they are too large for the cache, or the disk is full, it is read each
 * time. 0: *ret is what fields_read() would give. */
static int fields_keep(struct message *m, struct str *ret)
{
    static const uint32_t format = FIELDS_FORMAT;
    int r = message_known_fields(m);

    buf_clear(&m->cached);
    if (r >= 0)
        r = buf_add(&m->cached, &format, sizeof(format));
    if (r >= 0)
        r = header_fields_select(&m->envelope.fields, KEPT_FIELDS, &m->cached);
    if (r < 0)
        return r;
    if (m->cached.len <= FIELDS_MAX)
        (void)mbox_cache_put(m->s->box, m->seq, MBOX_CACHE_HEADERS, buf_str(&m->cached));
    *ret = str_sub(buf_str(&m->cached), sizeof(format), m->cached.len);
    return 0;
}

int message_fields(struct message *m, struct str name, struct str *ret)
{
    bool may_be_cached = !m->has_header && is_kept(name);
    int r;

    /* Of a message that is gone nothing is found, whether it is in the cache or not. */
    if (may_be_cached && m->info.is_expunged)
        return -ESTALE;
    if (may_be_cached && fields_read(m, ret) >= 0)
        return 0;
    r = message_header(m);
    if (r < 0)
        return r;
    if (!may_be_cached || fields_keep(m, ret) < 0)
        *ret = buf_str(&m->header.bytes);
    return 0;
}

static int feed_parser(void *context, struct str piece)
{
    struct message *m = context;

    return mime_parser_feed(m->parser, piece);
}

/* The cached bytes: this, BODYSTRUCTURE as it is printed, the tree. */
struct structure {
    uint32_t format;
    uint32_t is_followed;
    uint64_t printed;
};
#define STRUCTURE_FORMAT 2u

static int structure_read(struct message *m, struct structure *ret, struct str *ret_printed, struct str *ret_tree)
{
    struct str cached;
    int r = mbox_cache_get(m->s->box, m->seq, MBOX_CACHE_STRUCTURE, &cached);

    if (r < 0)
        return r;
    if (cached.len < sizeof(*ret))
        return -EBADMSG;
    memcpy(ret, cached.ptr, sizeof(*ret));
    cached = str_sub(cached, sizeof(*ret), cached.len);
    if (ret->format != STRUCTURE_FORMAT || ret->printed > cached.len)
        return -EBADMSG;
    *ret_printed = str_sub(cached, 0, ret->printed);
    *ret_tree = str_sub(cached, ret->printed, cached.len);
    return 0;
}

/* Puts the tree into the cache; what is too large for it is worked out each time. */
static void structure_keep(struct message *m)
{
    struct structure head = {.format = STRUCTURE_FORMAT, .is_followed = mime_tree_is_followed(&m->tree)};
    int r;

    buf_clear(&m->scratch);
    r = buf_add(&m->scratch, &head, sizeof(head));
    if (r >= 0)
        r = bodystructure_print(m->tree.root, true, false, &m->scratch);
    if (r < 0)
        return;
    head.printed = m->scratch.len - sizeof(head);
    memcpy(m->scratch.data, &head, sizeof(head));
    if (mime_tree_write(&m->tree, &m->scratch) >= 0)
        (void)mbox_cache_put(m->s->box, m->seq, MBOX_CACHE_STRUCTURE, buf_str(&m->scratch));
}

int message_tree(struct message *m)
{
    struct str printed, tree;
    struct structure head;
    int r;

    if (m->has_tree)
        return 0;
    if (structure_read(m, &head, &printed, &tree) >= 0 && mime_tree_read(tree, m->info.size, &m->tree) >= 0) {
        m->has_tree = true;
        return 0;
    }
    /* A parser that was stopped in the middle of a message is of no use for the next one. */
    mime_parser_free(m->parser);
    m->parser = NULL;
    r = mime_parser_new(&m->parser);
    if (r >= 0)
        r = message_read(m, 0, m->info.size, feed_parser, m);
    if (r >= 0)
        r = mime_parser_end(m->parser, &m->tree);
    if (r < 0)
        return r;
    m->has_tree = true;
    structure_keep(m);
    return 0;
}

int message_structure(struct message *m, bool *ret_is_followed)
{
    struct str printed, tree;
    struct structure head;
    int r;

    if (!m->has_tree && structure_read(m, &head, &printed, &tree) >= 0) {
        buf_clear(&m->scratch);
        *ret_is_followed = head.is_followed != 0;
        return buf_add_str(&m->scratch, printed);
    }
    r = message_tree(m);
    if (r < 0)
        return r;
    *ret_is_followed = mime_tree_is_followed(&m->tree);
    buf_clear(&m->scratch);
    return bodystructure_print(m->tree.root, true, false, &m->scratch);
}

int message_envelope(struct message *m)
{
    struct str cached;
    int r;

    buf_clear(&m->scratch);
    if (mbox_cache_get(m->s->box, m->seq, MBOX_CACHE_ENVELOPE, &cached) >= 0 && cached.len)
        return buf_add_str(&m->scratch, cached);
    r = message_known_fields(m);
    if (r >= 0)
        r = envelope_add(&m->envelope, false, &m->scratch);
    if (r < 0)
        return r;
    (void)mbox_cache_put(m->s->box, m->seq, MBOX_CACHE_ENVELOPE, buf_str(&m->scratch));
    digest_keep(m); /* a list that is shown is sorted or searched next: the header is not read again for it */
    (void)fields_keep(m, &cached);
    return 0;
}
