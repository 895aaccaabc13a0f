/* Canonical forms of DKIM: pieces do not matter, and what comes out is canonical already. */
#include <stdint.h>
#include <stdlib.h>

#include "shared/crypto/dkim_canon.h"

#define OUT (1u << 20)

static int collect(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

static void canon(struct str text, size_t piece, struct buf *out)
{
    struct dkim_canon c;

    dkim_canon_init(&c, collect, out);
    for (size_t at = 0; at < text.len; at += piece)
        if (dkim_canon_feed(&c, str_sub(text, at, piece)) < 0)
            abort();
    if (dkim_canon_end(&c) < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size}, field;
    _cleanup_buf_ struct buf whole = BUF_INIT(OUT), pieces = BUF_INIT(OUT), again = BUF_INIT(OUT);

    if (size == 0 || size > OUT / 4)
        return 0;
    canon(text, size, &whole);
    canon(text, data[0] % 7 + 1, &pieces);
    canon(buf_str(&whole), 3, &again);
    if (!str_eq(buf_str(&whole), buf_str(&pieces)) || !str_eq(buf_str(&whole), buf_str(&again)))
        abort();
    while (dkim_canon_next(&text, &field)) {
        buf_clear(&pieces);
        if (field.len == 0 || dkim_canon_field(field, &pieces) < 0)
            abort();
    }
    return 0;
}
