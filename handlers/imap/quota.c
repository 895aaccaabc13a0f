/*
 * Quotas (see quota.h). Runs in imap-session as the user; looks at the size of the spool file and asks the kernel.
 */
#include "handlers/imap/quota.h"

#include <errno.h>
#include <sys/stat.h>

#include "shared/base/fsquota.h"
#include "shared/base/macros.h"

const char *quota_name(enum quota_root root)
{
    static const char *const names[QUOTA_ROOTS] = {
        [QUOTA_INBOX] = "INBOX", [QUOTA_SPOOL] = "spool", [QUOTA_HOME] = "home"};

    return names[root];
}

int quota_find(struct str name, enum quota_root *ret)
{
    for (unsigned i = 0; i < QUOTA_ROOTS; i++) {
        if (str_eq(name, str_from(quota_name(i)))) {
            *ret = i;
            return 0;
        }
    }
    return -ENOENT;
}

static uint64_t inbox_size(struct imap *s)
{
    struct stat st;

    return stat(s->who->inbox, &st) < 0 ? 0 : (uint64_t)st.st_size; /* 0: not there yet */
}

/* An fd of the file system of a root, and which one that is. */
static int open_place(struct imap *s, enum quota_root root, dev_t *ret)
{
    const char *path = root == QUOTA_SPOOL ? s->who->inbox : s->who->folders;
    struct stat st;
    int fd = path ? fsquota_open(path) : -ENOENT;

    if (fd >= 0 && fstat(fd, &st) == 0) {
        *ret = st.st_dev;
        return fd;
    }
    if (fd >= 0)
        (void)close(fd);
    return fd < 0 ? fd : -EIO;
}

/* Is the spool on a file system of its own? */
static bool is_apart(struct imap *s)
{
    dev_t spool = 0, home = 0;
    _cleanup_close_ int a = open_place(s, QUOTA_SPOOL, &spool), b = open_place(s, QUOTA_HOME, &home);

    return b < 0 || (a >= 0 && spool != home);
}

int quota_look(struct imap *s, enum quota_root root, struct quota *ret)
{
    struct fsquota q;
    dev_t device;

    if (root == QUOTA_INBOX) {
        if (s->conf->mailbox_size == 0)
            return -ENOENT;
        *ret = (struct quota){.used = inbox_size(s), .limit = s->conf->mailbox_size};
        return 0;
    }
    if (root == QUOTA_SPOOL && !is_apart(s))
        return -ENOENT;
    _cleanup_close_ int fd = open_place(s, root, &device);

    if (fd < 0 || fsquota_ask(fd, s->who->uid, &q) < 0)
        return -ENOENT;
    *ret = (struct quota){.used = q.used, .limit = q.hard ? q.hard : q.soft};
    return 0;
}

bool quota_holds(struct imap *s, enum quota_root root, struct str mailbox)
{
    bool is_inbox = str_eq(mailbox, STR("INBOX"));

    switch (root) {
    case QUOTA_INBOX:
        return is_inbox;
    case QUOTA_SPOOL:
        return is_inbox && is_apart(s);
    default:
        return !is_inbox || !is_apart(s);
    }
}

bool quota_is_any(struct imap *s)
{
    struct quota q;

    for (unsigned i = 0; i < QUOTA_ROOTS; i++)
        if (quota_look(s, i, &q) >= 0)
            return true;
    return false;
}

int quota_check(struct imap *s, struct str mailbox, uint64_t more)
{
    struct quota q;

    if (!str_eq(mailbox, STR("INBOX")) || quota_look(s, QUOTA_INBOX, &q) < 0)
        return 0;
    return q.used >= q.limit || more > q.limit - q.used ? -EDQUOT : 0;
}
