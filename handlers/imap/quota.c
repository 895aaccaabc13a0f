/*
 * The limit of an INBOX (see quota.h). Runs in imap-session as the user; looks at the size of the spool file.
 */
#include "handlers/imap/quota.h"

#include <errno.h>
#include <sys/stat.h>

int quota_check(struct imap *s, struct str mailbox, uint64_t more)
{
    uint64_t limit = s->conf->mailbox_size;
    struct stat st;

    if (limit == 0 || !str_eq(mailbox, STR("INBOX")))
        return 0;
    if (stat(s->who->inbox, &st) < 0)
        st.st_size = 0; /* not there yet */
    return (uint64_t)st.st_size >= limit || more > limit - (uint64_t)st.st_size ? -EDQUOT : 0;
}
