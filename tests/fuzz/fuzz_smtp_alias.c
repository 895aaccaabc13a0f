/*
 * aliases(5): every list comes to its end, every item is a non-empty string.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "shared/route/alias.h"
#include "shared/route/idna.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size}, list;
    struct buf out = BUF_INIT(2000);
    struct alias_item item;
    size_t before;
    int e;

    if (alias_find(text, STR("a"), &list) && (list.ptr < text.ptr || list.ptr + list.len > text.ptr + text.len))
        abort();
    do {
        before = text.len;
        e = alias_next(&text, &item);
        if ((e == 0 && item.text[0] == '\0') || (e != -ENODATA && text.len >= before))
            abort();
    } while (e != -ENODATA);
    (void)idna_to_ascii((struct str){(const char *)data, size < 300 ? size : 300}, &out);
    buf_finish(&out);
    return 0;
}
