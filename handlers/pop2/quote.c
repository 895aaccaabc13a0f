/*
 * Arguments of POP2 commands: see quote.h.
 */
#include "handlers/pop2/quote.h"

#include <errno.h>

int quote_take(struct str *arguments, bool is_last, struct buf *out)
{
    struct str s = *arguments;
    size_t at = 0;
    int r = 0;

    while (at < s.len && (is_last || s.ptr[at] != ' ') && r == 0) {
        if (s.ptr[at] == '\\' && ++at == s.len)
            return -EINVAL;
        r = buf_add_byte(out, s.ptr[at++]);
    }
    if (r < 0)
        return r;
    if (at == 0)
        return -EINVAL;
    if (at < s.len)
        at++;
    *arguments = str_sub(s, at, s.len);
    return 0;
}
