#include "shared/base/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

void secret_wipe(void *p, size_t len)
{
    if (p && len > 0)
        explicit_bzero(p, len);
}

bool secret_equal(struct str a, struct str b)
{
    volatile unsigned char difference = a.len != b.len;

    for (size_t i = 0; i < a.len && i < b.len; i++)
        difference |= (unsigned char)(a.ptr[i] ^ b.ptr[i]);
    return difference == 0;
}

int secret_random(void *p, size_t len)
{
    char *at = p;

    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}
