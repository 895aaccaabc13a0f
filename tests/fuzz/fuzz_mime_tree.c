/* Trees from a cache that cannot be trusted: refused, or sound enough to print and to be written again. */
#include <stdint.h>
#include <stdlib.h>

#include "shared/mime/bodystructure.h"
#include "shared/mime/structure.h"

#define MAX (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MAX), bytes = BUF_INIT(MAX);
    _cleanup_mime_tree_ struct mime_tree t = {0}, again = {0};
    uint64_t message_size = size ? (uint64_t)data[0] << (data[0] % 56) : 0;

    if (!size || mime_tree_read((struct str){(const char *)data + 1, size - 1}, message_size, &t) != 0)
        return 0;
    if (bodystructure_print(t.root, true, false, &text) != 0 || mime_tree_write(&t, &bytes) != 0 ||
        mime_tree_read(buf_str(&bytes), message_size, &again) != 0)
        abort();
    return 0;
}
