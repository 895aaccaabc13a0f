/*
 * What the administrator decides about POP3: see policy.h. Runs in pop3-session as the user; touches one file in the
 * user's state folder.
 */
#include "handlers/pop3/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "shared/base/macros.h"

#define LOGIN_FILE "pop3-login" /* its modification time is that of the last login */
#define DAY        86400

int pop3_policy_read(const struct conf *conf, struct pop3_policy *ret, const char **ret_key)
{
    static const struct {
        const char *name;
        enum pop3_uidl_form form;
    } forms[] = {
        {"pennypost", POP3_UIDL_PENNYPOST},
        {"dovecot", POP3_UIDL_DOVECOT},
        {"uw", POP3_UIDL_UW},
    };
    struct pop3_policy p = {.login_delay = conf->pop3_login_delay, .expire = POP3_EXPIRE_NEVER};
    struct str expire = str_from(conf->pop3_expire);
    size_t i = 0;

    while (i < ARRAY_SIZE(forms) && !str_eq(str_from(conf->pop3_uidl), str_from(forms[i].name)))
        i++;
    if (i == ARRAY_SIZE(forms)) {
        *ret_key = "pop3_uidl";
        return -EINVAL;
    }
    p.uidl = forms[i].form;
    if (!str_ieq(expire, STR("never")) && (str_to_u32(expire, &p.expire) < 0 || p.expire == POP3_EXPIRE_NEVER)) {
        *ret_key = "pop3_expire";
        return -EINVAL;
    }
    *ret = p;
    return 0;
}

int pop3_policy_uidl(const struct pop3_policy *p, uint32_t uidvalidity, uint32_t uid, struct buf *out)
{
    int r;

    switch (p->uidl) {
    case POP3_UIDL_DOVECOT:
        return buf_printf(out, "%08x%08x", uid, uidvalidity);
    case POP3_UIDL_UW:
        return buf_printf(out, "%08x%08x", uidvalidity, uid);
    case POP3_UIDL_PENNYPOST:
        break;
    }
    r = buf_add_u64(out, uidvalidity); /* of every message in every session: worth more than a format */
    if (r == 0)
        r = buf_add_byte(out, '.');
    return r < 0 ? r : buf_add_u64(out, uid);
}

/* The file, made when there is none and `is_in`. Its fd or a negative errno. */
static int open_last_login(const char *state, bool is_in, bool *ret_is_new)
{
    _cleanup_close_ int folder = open(state, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = -1;

    if (folder < 0)
        return -errno;
    if (is_in)
        fd = openat(folder, LOGIN_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    *ret_is_new = fd >= 0;
    if (fd < 0)
        fd = openat(folder, LOGIN_FILE, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int pop3_policy_login(const struct pop3_policy *p, const char *state, struct clock *clock, bool is_in,
                      uint32_t *ret_wait)
{
    _cleanup_close_ int fd = -1;
    int64_t now = clock_now(clock);
    bool is_new = false;
    struct stat st;

    if (!p->login_delay)
        return 0;
    fd = open_last_login(state, is_in, &is_new);
    if (fd == -ENOENT && !is_in)
        return 0;
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    /* A time in the future is a clock that was set back: it counts for nothing. */
    if (!is_new && st.st_mtime <= now && now - st.st_mtime < p->login_delay) {
        *ret_wait = p->login_delay - (uint32_t)(now - st.st_mtime);
        return -EBUSY;
    }
    if (!is_in)
        return 0;
    return futimens(fd, (const struct timespec[]){{.tv_sec = now}, {.tv_sec = now}}) < 0 ? -errno : 0;
}

bool pop3_policy_is_expired(const struct pop3_policy *p, const struct mbox_info *info, bool is_retrieved, int64_t now)
{
    int64_t arrived = info->savedate ? info->savedate : info->internaldate;

    if (p->expire == POP3_EXPIRE_NEVER || (!is_retrieved && !(info->flags.system & MBOX_SEEN)))
        return false;
    /* RFC 2449 6.7: with 0 what was downloaded now does not stay. */
    return p->expire == 0 ? is_retrieved : now - arrived >= (int64_t)p->expire * DAY;
}
