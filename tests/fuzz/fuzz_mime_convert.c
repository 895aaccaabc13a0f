/*
 * Messages put into lines and into seven bits: refused, or with the same parts that decode to the same.
 */
#include "tests/unit/convert_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf lines = BUF_INIT(CHECK_MAX), seven = BUF_INIT(CHECK_MAX);
    struct str message = {(const char *)data, size};

    (void)check_message(message, &lines);
    (void)check_for_7bit(message, &seven);
    check_for_global(message);
    return 0;
}
