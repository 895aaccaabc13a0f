/*
 * The name in a client's certificate. Runs in the monitor and in auth; the text is the client's own as far as its
 * certificate says so, which is why it stands apart: tests/preauth counts it.
 */
#include "shared/gate/tls.h"

struct str tls_common_name(struct str subject)
{
    struct str part;

    while (subject.len > 0 && str_chr(subject, '\\') < 0) {
        (void)str_cut(&subject, ',', &part);
        if (str_starts(part, STR("CN=")))
            return str_sub(part, 3, SIZE_MAX);
    }
    return STR_NULL;
}
