/*
 * COMPRESS=DEFLATE (see compress.h). Runs in imap-session as the user; the only file that uses zlib. Windows and hash
 * tables are small, since they stay for as long as a session idles: 100 KB together.
 */
#include "handlers/imap/compress.h"

#include <errno.h>
#define ZLIB_CONST
#include <zlib.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/respond.h"
#include "shared/base/macros.h"

#define BLOCK       8192u
#define WINDOW_BITS 13 /* of what we send; any decompressor takes a smaller window than its own */
#define MEM_LEVEL   6

struct compress {
    struct transport_filter filter;
    z_stream in;
    z_stream out;
    bool is_full; /* the last read filled the caller's buffer: more may come without new input */
    unsigned char held[BLOCK];
    unsigned char sent[BLOCK];
};

void compress_free(struct compress *c)
{
    if (!c)
        return;
    (void)inflateEnd(&c->in);
    (void)deflateEnd(&c->out);
    free(c);
}

static ssize_t compress_read(struct transport *t, void *data, size_t len)
{
    struct compress *c = t->filter->context;
    struct transport raw = transport_below(t);

    c->in.next_out = data;
    c->in.avail_out = (uInt)(len < BLOCK * 4 ? len : BLOCK * 4);
    size_t room = c->in.avail_out;

    for (;;) {
        int z = Z_BUF_ERROR;
        ssize_t n;

        if (c->in.avail_in > 0 || c->is_full)
            z = inflate(&c->in, Z_SYNC_FLUSH);
        c->is_full = c->in.avail_out == 0;
        if (c->in.avail_out < room)
            return (ssize_t)(room - c->in.avail_out);
        if (z == Z_STREAM_END)
            return 0;
        if (z != Z_OK && z != Z_BUF_ERROR)
            return -EPROTO;
        if (c->in.avail_in > 0)
            continue;
        n = transport_read(&raw, c->held, sizeof(c->held));
        if (n <= 0)
            return n;
        c->in.next_in = c->held;
        c->in.avail_in = (uInt)n;
    }
}

/* Everything that the session writes in one go ends with a sync flush, so that the client can read it (RFC 4978 4). */
static int compress_write(struct transport *t, const void *data, size_t len)
{
    struct compress *c = t->filter->context;
    struct transport raw = transport_below(t);

    while (len > 0) {
        size_t part = len < (1u << 20) ? len : 1u << 20;

        c->out.next_in = data;
        c->out.avail_in = (uInt)part;
        data = (const char *)data + part;
        len -= part;
        do {
            int r;

            c->out.next_out = c->sent;
            c->out.avail_out = sizeof(c->sent);
            if (deflate(&c->out, len > 0 ? Z_NO_FLUSH : Z_SYNC_FLUSH) == Z_STREAM_ERROR)
                return -EPROTO;
            r = transport_write(&raw, c->sent, sizeof(c->sent) - c->out.avail_out);
            if (r < 0)
                return r;
        } while (c->out.avail_out == 0);
    }
    return 0;
}

static bool compress_has_input(const struct transport *t)
{
    const struct compress *c = t->filter->context;

    return c->in.avail_in > 0 || c->is_full;
}

int compress_start(struct imap *s)
{
    struct str early = line_buffered(&s->in);
    struct compress *c;
    int r = writer_flush(&s->out);

    if (r < 0)
        return r;
    if (early.len > BLOCK)
        return -EPROTO; /* RFC 4978 3: the client must wait for the answer */
    c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    if (inflateInit2(&c->in, -15) != Z_OK ||
        deflateInit2(&c->out, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        compress_free(c);
        return -ENOMEM;
    }
    if (early.len)
        memcpy(c->held, early.ptr, early.len);
    c->in.next_in = c->held;
    c->in.avail_in = (uInt)early.len;
    line_discard(&s->in);
    c->filter = (struct transport_filter){
        .context = c, .read = compress_read, .write = compress_write, .has_input = compress_has_input};
    s->transport.filter = &c->filter;
    s->compress = c;
    return 0;
}

int cmd_compress(void *session, struct str arguments)
{
    struct imap *s = session;
    int r = parse_space(&s->parse);

    if (r >= 0 && !parse_accept_word(&s->parse, STR("DEFLATE")))
        r = parse_fail(&s->parse, "DEFLATE");
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    if (s->compress) {
        respond_code(s, "COMPRESSIONACTIVE");
        return respond_no(s, "Compression is active already");
    }
    s->wants_compress = true;
    return OUTCOME_OK;
}
