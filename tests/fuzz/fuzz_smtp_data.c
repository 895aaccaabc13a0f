/*
 * Message data: fed whole, byte by byte and in odd pieces it must come out the same; a strict reader ends exactly
 * behind the first CRLF.CRLF; the header watch never counts more than there is.
 */
#include <stdint.h>
#include <stdlib.h>

#include "handlers/smtp/data.h"
#include "handlers/smtp/header.h"
#include "shared/base/buf.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

struct result {
    struct buf out;
    struct data_reader d;
    size_t used;
};

static int collect(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

static void feed(struct str input, enum data_mode mode, size_t step, struct result *r)
{
    *r = (struct result){.out = BUF_INIT(1u << 20)};
    data_init(&r->d, mode, collect, &r->out);
    r->d.is_counted = mode == DATA_BINARY;
    while (r->used < input.len && !r->d.is_end)
        r->used += data_feed(&r->d, str_sub(input, r->used, step));
}

static void check_same(struct str input, enum data_mode mode, const struct result *a, size_t step)
{
    struct result b;

    feed(input, mode, step, &b);
    CHECK(a->used == b.used && a->d.is_end == b.d.is_end && a->d.faults == b.d.faults && a->d.size == b.d.size);
    CHECK(str_eq(buf_str(&a->out), buf_str(&b.out)));
    buf_finish(&b.out);
}

static void check_header(struct str message)
{
    struct header_watch whole = {0}, bytes = {0};

    (void)header_watch(&whole, message);
    for (size_t i = 0; i < message.len; i++)
        (void)header_watch(&bytes, str_sub(message, i, 1));
    CHECK(whole.is_ended == bytes.is_ended && whole.fields == bytes.fields && whole.received == bytes.received);
}

static size_t strict_end(struct str input)
{
    ptrdiff_t at;

    if (str_starts(input, STR(".\r\n")))
        return 3;
    at = str_find(input, STR("\r\n.\r\n"));
    return at < 0 ? input.len : (size_t)at + 5;
}

/* The header in lines, then the bytes as they came. */
static void check_binary(struct str input)
{
    ptrdiff_t end = str_starts(input, STR("\r\n")) ? 0 : str_find(input, STR("\r\n\r\n"));
    struct result whole;

    feed(input, DATA_BINARY, input.len + 1, &whole);
    check_same(input, DATA_BINARY, &whole, 1);
    if (end >= 0 && whole.d.faults == 0)
        CHECK(str_ends(buf_str(&whole.out), str_sub(input, (size_t)end + (end == 0 ? 2 : 4), input.len)));
    buf_finish(&whole.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};

    for (int mode = DATA_STRICT; mode <= DATA_LENIENT; mode++) {
        struct result whole;

        feed(input, (enum data_mode)mode, size + 1, &whole);
        check_same(input, (enum data_mode)mode, &whole, 1);
        check_same(input, (enum data_mode)mode, &whole, 3);
        if (mode != DATA_LENIENT)
            CHECK(whole.used == strict_end(input));
        check_header(buf_str(&whole.out));
        buf_finish(&whole.out);
    }
    check_binary(input);
    return 0;
}
