/* Local parts of SRS from strangers: what a reverse takes for good must come from a forward. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/route/srs.h"

/* A hash that no input can contain: capital letters are folded before they are compared. */
static int hash(void *context, struct str text, char out[static SRS_HASH])
{
    memset(out, 'A', SRS_HASH);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size}, local;
    struct srs s = {.domain = STR("us"), .now = INT64_C(1795000000), .hash = hash};
    _cleanup_buf_ struct buf out = BUF_INIT(4 * SRS_ADDRESS);

    if (srs_reverse(&s, text, &out) == 0)
        abort();
    (void)str_cut(&text, '@', &local);
    (void)srs_forward(&s, local, text, &out);
    return 0;
}
