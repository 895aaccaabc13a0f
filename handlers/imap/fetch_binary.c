/*
 * FETCH items that look through the content transfer encoding: BINARY, BINARY.SIZE (RFC 3516), PREVIEW (RFC 8970). Runs
 * in imap-session as the user. A decoded part is never held: it is decoded once to know its size and once to send it.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/fetch.h"
#include "handlers/imap/respond.h"
#include "shared/base/macros.h"
#include "shared/mime/charset.h"
#include "shared/mime/decode.h"
#include "shared/mime/preview.h"

#define DECODED_MAX (256u << 10) /* of one piece */

struct binary {
    struct imap *s;
    struct decoder decoder;
    struct buf decoded;
    struct buf lines; /* the same with CRLF */
    uint64_t size;    /* so far */
    uint64_t bare;    /* line ends that are a LF only */
    char last;
    bool is_text;
    bool is_binary; /* there is a NUL somewhere: it is no text of lines, whatever its type says */
    bool has_nul;   /* in what is wanted */
    bool makes_lines;
    bool is_sending;
    uint64_t first; /* what of it to send */
    uint64_t end;
};

/* Looks at what is in b->decoded; with makes_lines it goes to b->lines. */
static int make_lines(struct binary *b)
{
    int r = 0;

    buf_clear(&b->lines);
    for (size_t i = 0; i < b->decoded.len && r >= 0; i++) {
        char c = b->decoded.data[i];
        bool is_bare = c == '\n' && b->last != '\r';

        b->is_binary = b->is_binary || c == '\0';
        b->bare += is_bare;
        if (b->makes_lines && is_bare)
            r = buf_add_byte(&b->lines, '\r');
        if (b->makes_lines && r >= 0)
            r = buf_add_byte(&b->lines, c);
        b->last = c;
    }
    return r;
}

/* Counts or sends what is in b->decoded. */
static int take(struct binary *b)
{
    int r = b->is_text ? make_lines(b) : 0;
    struct str bytes = buf_str(b->makes_lines ? &b->lines : &b->decoded);
    uint64_t start = b->size, from, to;

    if (r < 0)
        return r;
    b->size += bytes.len;
    from = b->first > start ? b->first : start;
    to = b->end < b->size ? b->end : b->size;
    if (from < to) {
        struct str wanted = str_sub(bytes, (size_t)(from - start), (size_t)(to - from));

        b->has_nul = b->has_nul || str_has_nul(wanted);
        if (b->is_sending)
            (void)writer_str(&b->s->out, wanted);
    }
    buf_clear(&b->decoded);
    return b->s->out.error;
}

static int decode_piece(void *context, struct str piece)
{
    struct binary *b = context;
    int r = decoder_feed(&b->decoder, piece, &b->decoded);

    return r < 0 ? r : take(b);
}

/* One pass over the part. */
static int decode(struct fetch *f, struct binary *b, uint64_t start, uint64_t end)
{
    int r;

    decoder_reset(&b->decoder);
    b->size = 0;
    b->last = '\0';
    r = message_read(&f->message, start, end, decode_piece, b);
    if (r >= 0)
        r = decoder_end(&b->decoder, &b->decoded);
    return r < 0 ? r : take(b);
}

/* RFC 9051 7.5.2: lines of text end in CRLF, whatever was encoded. But only where the octet 0x0A is known to be a line
 * end: not in UTF-16, UTF-32, EBCDIC, whose text it would change, nor in charsets that nobody knows, like the
 * unknown-8bit of what came to us as binary and without a type (RFC 3516 4.4). */
static bool is_lines(const struct mime_part *part)
{
    struct str charset = mime_param_get(&part->params, STR("charset"));
    _cleanup_buf_ struct buf line = BUF_INIT(256);

    if (!mime_part_is(part, "text", "*"))
        return false;
    /* RFC 2046 4.1.2: without one it is US-ASCII. */
    return !charset.len || (charset_to_utf8(charset, STR("\n"), true, &line) >= 0 && str_eq(buf_str(&line), STR("\n")));
}

static void finish(struct binary *b)
{
    decoder_finish(&b->decoder);
    buf_finish(&b->decoded);
    buf_finish(&b->lines);
}

/* Finds the part and makes the first pass. -ENOENT: no such part. -ENOTSUP: its encoding is unknown. */
static int measure(struct fetch *f, const struct section *section, struct binary *b, uint64_t *ret_start,
                   uint64_t *ret_end)
{
    const struct mime_part *part = NULL;
    enum mime_encoding kind = MIME_ENCODING_NONE;
    int r = message_tree(&f->message);

    if (r >= 0)
        r = section_locate(section, f->message.tree.root, ret_start, ret_end);
    if (r < 0)
        return r;
    if (section->depth > 0) {
        part = mime_part_find(f->message.tree.root, section->numbers, section->depth);
        if (part && part->kind == MIME_LEAF)
            kind = part->encoding_kind;
    }
    if (kind == MIME_ENCODING_UNKNOWN)
        return -ENOTSUP;
    *b = (struct binary){
        .s = f->s, .decoded = BUF_INIT(DECODED_MAX), .lines = BUF_INIT(2 * DECODED_MAX), .end = UINT64_MAX};
    b->is_text = kind != MIME_ENCODING_NONE && is_lines(part);
    decoder_init(&b->decoder, kind);
    if (section->is_partial) {
        b->first = section->first;
        b->end = section->count < UINT64_MAX - section->first ? section->first + section->count : UINT64_MAX;
    }
    r = decode(f, b, *ret_start, *ret_end);
    b->makes_lines = b->bare > 0 && !b->is_binary;
    if (b->makes_lines)
        b->size += b->bare;
    if (r < 0)
        finish(b);
    return r;
}

/* NIL, and what the tagged reply will have to say. */
static int nothing(struct fetch *f, int error, const char *text)
{
    f->is_unknown_cte = f->is_unknown_cte || error == -ENOTSUP;
    if (error != -ENOTSUP && error != -ENOENT)
        fetch_lacks(f, error);
    return writer_text(&f->s->out, text);
}

int fetch_binary(struct fetch *f, const struct section *section)
{
    uint64_t start, end, size;
    struct binary b;
    int r = measure(f, section, &b, &start, &end);

    if (r < 0)
        return nothing(f, r, "NIL");
    size = b.end < b.size ? b.end : b.size;
    size = size > b.first ? size - b.first : 0;
    if (size == 0) {
        r = writer_text(&f->s->out, "\"\"");
    } else {
        /* RFC 3516 4.3: literal8 when there are NULs, which no other string can carry. */
        (void)writer_printf(&f->s->out, "%s{%" PRIu64 "}\r\n", b.has_nul ? "~" : "", size);
        b.is_sending = true;
        r = decode(f, &b, start, end);
        if (r < 0 && f->s->out.error == 0)
            r = -ECONNABORTED;
    }
    finish(&b);
    return r;
}

int fetch_binary_size(struct fetch *f, const struct section *section)
{
    uint64_t start, end;
    struct binary b;
    int r = measure(f, section, &b, &start, &end);

    if (r < 0)
        return nothing(f, r, "0");
    r = writer_u64(&f->s->out, b.size);
    finish(&b);
    return r;
}

struct preview_read {
    struct preview *preview;
    bool is_full;
};

static int feed_preview(void *context, struct str piece)
{
    struct preview_read *p = context;
    int r = preview_feed(p->preview, piece, &p->is_full);

    return r < 0 ? r : p->is_full ? 1 : 0;
}

/* Makes the preview of the current message in its scratch buffer. */
static int make_preview(struct message *m)
{
    struct preview_read p = {.is_full = false};
    const struct mime_part *part;
    uint64_t end;
    int r = message_tree(m);

    buf_clear(&m->scratch);
    part = r >= 0 ? preview_part(m->tree.root) : NULL;
    if (!part)
        return r;
    r = preview_new(part, &p.preview);
    if (r < 0)
        return r;
    end = part->end - part->body > PREVIEW_BYTES ? part->body + PREVIEW_BYTES : part->end;
    r = message_read(m, part->body, end, feed_preview, &p);
    if (r >= 0)
        r = preview_end(p.preview, &m->scratch);
    preview_free(p.preview);
    return r;
}

int fetch_preview(struct fetch *f, bool is_lazy)
{
    struct message *m = &f->message;
    struct imap *s = f->s;
    struct str cached;
    int r;

    if (mbox_cache_get(s->box, m->seq, MBOX_CACHE_PREVIEW, &cached) >= 0) {
        respond_string(s, cached);
        return s->out.error;
    }
    /* RFC 8970 3.1: LAZY takes only what is there already. */
    if (is_lazy)
        return writer_text(&s->out, "NIL");
    r = make_preview(m);
    if (r < 0)
        return nothing(f, r, "\"\""); /* 3.2: NIL is for LAZY only */
    (void)mbox_cache_put(s->box, m->seq, MBOX_CACHE_PREVIEW, buf_str(&m->scratch));
    respond_string(s, buf_str(&m->scratch));
    return s->out.error;
}
