/*
 * Users. Runs in the monitor as root, or in `smtp-session -bs` as the invoking user; asks NSS.
 */
#include "shared/route/rcpt.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>

#include "shared/route/idna.h"
#include "shared/base/limits.h"

#define PASSWD_BUFFER (64u << 10) /* an NSS entry larger than that is broken */

void rcpt_target_finish(struct rcpt_target *t)
{
    free(t->user);
    free(t->home);
    free(t->argument);
    *t = (struct rcpt_target){0};
}

int rcpt_remote(struct str address, struct rcpt_target *ret)
{
    struct rcpt_target t = {.kind = RCPT_REMOTE,
                            .user = strdup(""),
                            .home = strdup(""),
                            .argument = str_dup(address),
                            .uid = (uid_t)-1,
                            .gid = (gid_t)-1};

    if (!t.user || !t.home || !t.argument) {
        rcpt_target_finish(&t);
        return -ENOMEM;
    }
    *ret = t;
    return 0;
}

/* user@[192.0.2.1] and user@[IPv6:2001:db8::1] are ours if the client reached us at that address. */
static bool is_own_literal(struct str domain, const char *local_address)
{
    struct str inside = str_sub(domain, 1, domain.len - 2);

    if (str_istarts(inside, STR("IPv6:")))
        inside = str_sub(inside, 5, inside.len);
    return str_ieq(inside, str_from(local_address));
}

/* A-label and U-label of one domain are the same domain (RFC 5890 2.3.2.1), whichever the client or the admin wrote. */
static bool is_our_domain(const struct conf *conf, struct str domain)
{
    _cleanup_buf_ struct buf ascii = BUF_INIT(4 * LIMIT_DOMAIN);
    struct str words = str_from(conf->domains), word;

    if (conf_domain_is_ours(conf, domain))
        return true;
    if (idna_to_ascii(domain, &ascii) < 0)
        return false;
    if (conf_domain_is_ours(conf, buf_str(&ascii)))
        return true;
    while (str_word(&words, &word)) {
        _cleanup_buf_ struct buf known = BUF_INIT(4 * LIMIT_DOMAIN);

        if (idna_to_ascii(word, &known) == 0 && str_eq(buf_str(&known), buf_str(&ascii)))
            return true;
    }
    return false;
}

bool rcpt_is_ours(const struct conf *conf, const struct smtp_path *path, const char *local_address)
{
    if (path->domain.len == 0)
        return true;
    if (path->is_literal)
        return is_own_literal(path->domain, local_address);
    return is_our_domain(conf, path->domain);
}

/* The name will be a file name and an argument: nothing that could be a path or an option. */
static bool is_user_name(struct str name)
{
    if (name.len == 0 || name.len > LIMIT_USER || name.ptr[0] == '-' || name.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.ptr[i] <= 32 || name.ptr[i] == '/' || name.ptr[i] == 127)
            return false;
    return true;
}

/* 0, -ENOENT, -EAGAIN, -ENOMEM. */
static int find_user(const char *name, struct rcpt_target *ret)
{
    _cleanup_free_ char *memory = malloc(PASSWD_BUFFER);
    struct passwd entry, *found = NULL;
    int e;

    if (!memory)
        return -ENOMEM;
    do {
        e = getpwnam_r(name, &entry, memory, PASSWD_BUFFER, &found);
    } while (e == EINTR);
    if (!found) /* POSIX lets "no such user" be any of these, getpwnam(3) NOTES */
        return e == 0 || e == ENOENT || e == ESRCH || e == EBADF || e == EPERM ? -ENOENT : -EAGAIN;
    if (!is_user_name(str_from(entry.pw_name)))
        return -ENOENT;
    *ret = (struct rcpt_target){.user = strdup(entry.pw_name),
                                .home = strdup(entry.pw_dir),
                                .argument = strdup(""),
                                .uid = entry.pw_uid,
                                .gid = entry.pw_gid};
    if (ret->user && ret->home && ret->argument)
        return 0;
    rcpt_target_finish(ret);
    return -ENOMEM;
}

/* The name as written, then in lower case: RFC 5321 2.4 leaves it to us, and Unix names are lower case. */
int rcpt_find_user(struct str name, struct rcpt_target *ret)
{
    _cleanup_free_ char *spelling = NULL;
    int e;

    if (!is_user_name(name))
        return -ENOENT;
    spelling = str_dup(name);
    if (!spelling)
        return -ENOMEM;
    e = find_user(spelling, ret);
    if (e != -ENOENT)
        return e;
    for (char *c = spelling; *c; c++)
        *c = ascii_lower(*c);
    return find_user(spelling, ret);
}

bool rcpt_split_detail(const struct conf *conf, struct str local, struct str *ret_name, struct str *ret_detail)
{
    struct str delimiters = str_from(conf->recipient_delimiter);

    for (size_t i = 1; i < local.len; i++) {
        if (str_chr(delimiters, local.ptr[i]) < 0)
            continue;
        *ret_name = str_sub(local, 0, i);
        *ret_detail = str_sub(local, i + 1, local.len);
        return true;
    }
    *ret_name = local;
    *ret_detail = STR("");
    return false;
}
