/*
 * Envelopes of the queue: what parses can be written, and what was written parses to the same text again.
 */
#include <stdint.h>
#include <stdlib.h>

#include "shared/queue/envelope.h"

static void check(struct str text)
{
    struct queue_envelope e = QUEUE_ENVELOPE_INIT, back = QUEUE_ENVELOPE_INIT;
    struct buf first = BUF_INIT(QUEUE_ENVELOPE_MAX), second = BUF_INIT(QUEUE_ENVELOPE_MAX);

    if (queue_envelope_parse(text, &e) == 0) {
        if (queue_envelope_format(&e, &first) < 0 || queue_envelope_parse(buf_str(&first), &back) < 0 ||
            queue_envelope_format(&back, &second) < 0 || !str_eq(buf_str(&first), buf_str(&second)))
            abort();
        (void)queue_envelope_is_done(&e);
    }
    queue_envelope_finish(&e);
    queue_envelope_finish(&back);
    buf_finish(&first);
    buf_finish(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = BUF_INIT(2u << 20);

    check((struct str){(const char *)data, size});
    /* Most inputs lack the first and last line. */
    if (buf_add_str(&whole, STR("pennypost-envelope 1\nsender a\n")) == 0 && buf_add(&whole, data, size) == 0 &&
        buf_add_str(&whole, STR("\nend\n")) == 0)
        check(buf_str(&whole));
    buf_finish(&whole);
    return 0;
}
