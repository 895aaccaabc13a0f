/*
 * Binary messages put into lines: refused, or lines with the same parts that decode to the same.
 */
#include "tests/unit/convert_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf out = BUF_INIT(CHECK_MAX);

    (void)check_message((struct str){(const char *)data, size}, &out);
    return 0;
}
