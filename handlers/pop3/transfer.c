/*
 * RETR and TOP: a message streamed to the client in constant memory (see session.h; RFC 1939 3, 5, 7). Runs in
 * pop3-session as the user. The store holds no lock while we write.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/pop3/session.h"
#include "shared/base/limits.h"
#include "shared/mime/downgrade.h"
#include "shared/mime/header.h"

/* What has been sent of a multi-line response. */
struct transfer {
    struct writer *out;
    bool is_line_start;
    bool is_header;     /* TOP: before the empty line */
    bool is_line_empty; /* TOP: nothing but perhaps a CR on the current header line */
    uint64_t lines;     /* TOP: body lines still to send */
    bool is_done;       /* TOP: enough */
};

static void put(struct transfer *t, const char *from, const char *to)
{
    (void)writer_add(t->out, from, (size_t)(to - from));
}

/* Sends bytes, with a dot doubled where it begins a line (RFC 1939 3). Dots are looked for and not lines, which are
 * more by far: in what is encoded there are none. */
static void send_stuffed(struct transfer *t, struct str bytes)
{
    static const char dot[] = "."; /* RFC 1939 3: a line that begins with one gets another */
    const char *from = bytes.ptr, *at = bytes.ptr, *end = bytes.ptr + bytes.len;

    while (at < end && (at = memchr(at, '.', (size_t)(end - at))) != NULL) {
        if (at == bytes.ptr ? t->is_line_start : at[-1] == '\n') {
            put(t, from, at);
            put(t, dot, dot + 1);
            from = at;
        }
        at++;
    }
    put(t, from, end);
    if (bytes.len)
        t->is_line_start = end[-1] == '\n';
}

/* How much of `bytes` belongs to the header and the first lines of the body. */
static size_t top_length(struct transfer *t, struct str bytes)
{
    const char *at = bytes.ptr, *end = bytes.ptr + bytes.len;

    while (at < end && !t->is_done) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));

        if (t->is_header && !(nl == at || (*at == '\r' && (at + 1 == nl || at + 1 == end))))
            t->is_line_empty = false;
        if (!nl)
            return bytes.len;
        if (!t->is_header)
            t->lines--;
        else
            t->is_header = !t->is_line_empty;
        t->is_line_empty = true;
        t->is_done = !t->is_header && t->lines == 0;
        at = nl + 1;
    }
    return (size_t)(at - bytes.ptr);
}

/* Streams from where `piece`, the first one, begins. -ESTALE in the middle: the connection has to be closed. */
static int send_pieces(struct pop3 *s, struct mbox_stream *stream, struct str piece, struct transfer *t, bool is_top)
{
    int r = 0;

    while (r >= 0 && piece.len && !t->is_done) {
        send_stuffed(t, is_top ? str_sub(piece, 0, top_length(t, piece)) : piece);
        r = s->out.error;
        if (r >= 0 && !t->is_done)
            r = mbox_stream_next(stream, &piece);
    }
    if (r < 0)
        return r;
    if (!t->is_line_start)
        (void)writer_add(&s->out, "\r\n", 2);
    return writer_text(&s->out, ".\r\n");
}

/* The beginning of a message as it is to be sent: its first pieces, up to the end of the header at least. */
struct beginning {
    struct str bytes;    /* what to send first */
    struct buf joined;   /* owns them when one piece was not enough */
    struct buf replaced; /* RFC 6858: the header that an old client gets instead */
    uint64_t removed;    /* octets of the original that it replaces */
};

#define BEGINNING_INIT                                                                                                 \
    ((struct beginning){.joined = BUF_INIT(4 * LIMIT_HEADER), .replaced = BUF_INIT(16 * LIMIT_HEADER)})

/* RFC 6856 2.1: without UTF8 an internationalized message is shown by a surrogate. -ENOBUFS: it cannot be made. */
static int replace_header(struct beginning *b, size_t header_size, bool is_whole)
{
    struct str header = str_sub(b->bytes, 0, header_size);
    int r;

    if (!downgrade_is_needed(header))
        return 0;
    if (!is_whole)
        return -ENOBUFS;
    r = downgrade_header(header, &b->replaced);
    if (r >= 0)
        r = buf_add_str(&b->replaced, str_sub(b->bytes, header_size, b->bytes.len));
    if (r < 0)
        return r;
    b->removed = b->bytes.len;
    b->bytes = buf_str(&b->replaced);
    return 0;
}

/* Reads it. What can go wrong goes wrong now, while there is still a way to say so. */
static int begin(struct pop3 *s, struct mbox_stream *stream, const struct mbox_info *info, struct beginning *b)
{
    struct str piece;
    bool is_whole;
    size_t length;
    int r = mbox_stream_next(stream, &b->bytes);

    if (r < 0 || s->is_utf8 || !info->has_8bit)
        return r;
    length = header_length(b->bytes, &is_whole);
    while (!is_whole && b->bytes.len && b->bytes.len < LIMIT_HEADER) {
        if (!b->joined.len)
            r = buf_add_str(&b->joined, b->bytes);
        if (r >= 0)
            r = mbox_stream_next(stream, &piece);
        if (r >= 0)
            r = buf_add_str(&b->joined, piece);
        if (r < 0)
            return r;
        b->bytes = buf_str(&b->joined);
        length = header_length(b->bytes, &is_whole);
        is_whole |= !piece.len; /* there is no body */
    }
    return replace_header(b, length, is_whole);
}

/* Of the whole message: octets that RETR sends. */
static uint64_t shown_size(const struct beginning *b, const struct mbox_info *info)
{
    return b->removed ? info->size - b->removed + b->bytes.len : info->size;
}

static void beginning_finish(struct beginning *b)
{
    buf_finish(&b->joined);
    buf_finish(&b->replaced);
}

/* Of a message that cannot be had, the original's. */
static int measure(struct pop3 *s, uint32_t seq, const struct mbox_info *info, uint64_t *ret)
{
    struct beginning b = BEGINNING_INIT;
    struct mbox_stream *stream = NULL;
    int r = mbox_stream_new(s->box, seq, &stream);

    if (r >= 0)
        r = begin(s, stream, info, &b);
    if (r >= 0)
        *ret = shown_size(&b, info);
    else if (r == -ENOBUFS || r == -ESTALE || r == -ENOENT)
        *ret = info->size;
    else
        *ret = 0;
    mbox_stream_free(stream);
    beginning_finish(&b);
    return *ret > 0 ? 0 : r;
}

int pop3_size(struct pop3 *s, uint32_t seq, const struct mbox_info *info, uint64_t *ret)
{
    int r = 0;

    if (s->is_utf8 || !info->has_8bit) {
        *ret = info->size;
        return 0;
    }
    if (!s->sizes)
        s->sizes = calloc(mbox_count(s->box), sizeof(*s->sizes));
    if (!s->sizes)
        return -ENOMEM;
    if (!s->sizes[seq - 1])
        r = measure(s, seq, info, &s->sizes[seq - 1]);
    if (r >= 0)
        *ret = s->sizes[seq - 1];
    return r;
}

static int send_message(struct pop3 *s, uint32_t seq, const struct mbox_info *info, bool is_top, uint32_t lines)
{
    struct transfer t = {
        .out = &s->out, .is_line_start = true, .is_header = true, .is_line_empty = true, .lines = lines};
    struct beginning b = BEGINNING_INIT;
    struct mbox_stream *stream;
    int r = mbox_stream_new(s->box, seq, &stream);

    if (r < 0)
        return pop3_store_err(s, r);
    r = begin(s, stream, info, &b);
    if (r == -ENOBUFS) {
        r = pop3_err(s, "UTF8", "This message can be had after UTF8 only, a command for the time before login");
    } else if (r < 0) {
        r = pop3_store_err(s, r);
    } else {
        if (is_top)
            (void)pop3_ok(s, "Header and %u lines of message %u", lines, seq);
        else
            (void)pop3_ok_number(s, "", shown_size(&b, info), " octets");
        r = send_pieces(s, stream, b.bytes, &t, is_top);
    }
    mbox_stream_free(stream);
    beginning_finish(&b);
    return r;
}

int pop3_retr(void *session, struct str arguments)
{
    struct pop3 *s = session;
    struct mbox_info info;
    uint32_t seq;
    int r = pop3_take_message(s, &arguments, &seq, &info);

    if (!r)
        r = pop3_no_more(s, arguments, "RETR number");
    if (!r)
        r = send_message(s, seq, &info, false, 0);
    else
        return r;
    if (r == POP3_OK) {
        s->marks[seq - 1] |= POP3_RETRIEVED;
        s->count.retr++;
        s->count.retr_bytes += info.size;
        if (seq > s->last)
            s->last = seq;
    }
    return r;
}

int pop3_top(void *session, struct str arguments)
{
    struct pop3 *s = session;
    struct mbox_info info;
    uint32_t seq, lines;
    struct str word;
    int r = pop3_take_message(s, &arguments, &seq, &info);

    if (r)
        return r;
    if (!str_word(&arguments, &word) || (r = str_to_u32(word, &lines)) == -EINVAL)
        return pop3_err(s, NULL, "A number of lines is missing, the form is: TOP number lines");
    if (r == -ERANGE)
        lines = UINT32_MAX; /* more than there can be: the whole message (RFC 1939 7) */
    r = pop3_no_more(s, arguments, "TOP number lines");
    if (r)
        return r;
    s->count.top++;
    return send_message(s, seq, &info, true, lines);
}
