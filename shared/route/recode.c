/*
 * Starts `recode`. Runs in the monitor of smtp, as root, or as the user who tries it.
 */
#include "shared/route/recode.h"

#include <errno.h>
#include <sysexits.h>

#include "shared/base/macros.h"
#include "shared/route/rewrite.h"

/* RFC 3463 3.7: what about the message stands in the way. */
static const struct {
    int status;
    unsigned code;
    const char *enhanced;
    const char *text;
} REFUSALS[] = {
    {EX_DATAERR, 554, "5.6.0", "The message is not in the canonical form of MIME: line ends are CRLF"},
    {EX_UNAVAILABLE, 554, "5.6.3", "The message has a binary part that cannot be encoded"},
    {EX_NOPERM, 554, "5.6.2", "A signed part of the message is binary, and encoding it would break the signature"},
    {EX_CANTCREAT, 452, "4.3.1", "No room for the message now"},
};

int recode_copy(const struct conf *conf, int message, int *ret_fd, struct smtp_answer *ret)
{
    int e = rewrite_run(conf, "recode", false, message, ret_fd);

    if (e == 0)
        return 0;
    answer_set(ret, 451, "4.3.0", "The message could not be put into lines");
    if (e == -ENOSPC || e == -EDQUOT)
        e = EX_CANTCREAT;
    for (size_t i = 0; i < ARRAY_SIZE(REFUSALS); i++)
        if (REFUSALS[i].status == e)
            answer_set(ret, REFUSALS[i].code, REFUSALS[i].enhanced, "%s", REFUSALS[i].text);
    return e < 0 ? e : -EIO;
}
