/*
 * What other people's servers and messages can do to relay-session. First byte: which parser. Replies: whole, byte by
 * byte and in pieces the same, and what comes out is fit for a frame. Messages: converted they have no 8-bit byte
 * outside of headers, and everything that comes out ends with a line end.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "handlers/relay/ehlo.h"
#include "handlers/relay/reply.h"
#include "shared/base/macros.h"
#include "shared/mime/convert.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static void parse(struct str input, size_t step, struct reply_parser *p, struct ehlo *e, size_t *ret_used)
{
    *p = (struct reply_parser){.line = ehlo_line, .context = e};
    *e = (struct ehlo){0};
    *ret_used = 0;
    reply_next(p);
    while (*ret_used < input.len && !p->is_done && p->fault == REPLY_OK)
        *ret_used += reply_feed(p, str_sub(input, *ret_used, step));
}

static void check_frame(const struct talk_reply *reply)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct talk_reply got;
    struct frame_reader in;

    frame_begin(&f, FRAME_RELAY_RESULT);
    CHECK(talk_put_reply(&f, reply) == 0);
    in = frame_read(&f);
    CHECK((talk_get_reply(&in, &got) == 0) == (reply->code / 100 != 3));
}

static void fuzz_reply(struct str input)
{
    struct reply_parser whole, pieces;
    struct ehlo e, f;
    size_t used, again;

    parse(input, input.len + 1, &whole, &e, &used);
    for (size_t step = 1; step < 4; step += 2) {
        parse(input, step, &pieces, &f, &again);
        CHECK(used == again && whole.is_done == pieces.is_done && whole.fault == pieces.fault);
        CHECK(memcmp(&whole.reply, &pieces.reply, sizeof(whole.reply)) == 0);
        CHECK(e.extensions == f.extensions && e.size == f.size && e.mechanisms == f.mechanisms);
    }
    if (whole.is_done)
        check_frame(&whole.reply);
}

static int collect(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

static void fuzz_message(struct str input)
{
    _cleanup_close_ int fd = memfd_create("fuzz", MFD_CLOEXEC);
    _cleanup_convert_ struct convert c = {0};
    _cleanup_buf_ struct buf out = BUF_INIT(64u << 20);
    struct content_facts facts;

    CHECK(fd >= 0 && write(fd, input.ptr, input.len) == (ssize_t)input.len);
    CHECK(content_scan(fd, &facts) == 0);
    CHECK(content_read(fd, collect, &out) == 0);
    CHECK(facts.size == out.len && (out.len == 0 || str_ends(buf_str(&out), STR("\r\n"))));
    buf_clear(&out);
    if (convert_plan(fd, CONVERT_7BIT, &c) < 0)
        return;
    CHECK(convert_read(fd, &c, collect, &out) == 0);
    if (facts.has_8bit_header)
        return;
    /* 8-bit headers of parts stay; without any above 127 in a header line nothing may be left. */
    for (size_t i = 0; i < c.count; i++)
        CHECK(c.edits[i].from < c.edits[i].to && (i == 0 || c.edits[i - 1].to <= c.edits[i].from));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};

    if (size == 0)
        return 0;
    if (data[0] & 1)
        fuzz_reply(str_sub(input, 1, size));
    else
        fuzz_message(str_sub(input, 1, size));
    return 0;
}
