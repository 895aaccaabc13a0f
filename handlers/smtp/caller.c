/*
 * The program of a user of this machine that connected to a unix socket of ours, that of sendmail(8) or of LMTP. Runs
 * in the monitor of smtp, as root.
 */
#include "handlers/smtp/caller.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/gate/peer.h"
#include "shared/gate/place.h"

/* One user shall not take all connections that the socket has. Uids without an account (a user can have many of them in
 * a name space of his own) have the places of one. Where nobody can tell, he is served. */
static void take_place(const struct smtp_agent *a, uid_t owner, int *ret_place, const char **ret_unwelcome)
{
    int e = owner != 0 ? place_take(a->conf, owner, LIMIT_LOCAL_PLACES, ret_place) : 0;

    if (e == -EAGAIN)
        *ret_unwelcome = "Too many connections of yours, try again later";
    else if (e < 0)
        LOG_ERROR(LOG_WARNING, "no-places", e, LOG_FC("user", a->local_user));
}

static bool is_trusted(const struct conf *conf, uid_t uid, const struct passwd *entry)
{
    struct str rest = str_from(conf->trusted_users), word;
    bool is_listed = false;

    while (entry && str_word(&rest, &word))
        is_listed |= str_eq(word, str_from(entry->pw_name));
    return uid == 0 || is_listed;
}

int caller_check_server(const struct conf *conf, const char **ret_unwelcome)
{
    char text[16];
    uid_t uid = 0;
    int e = peer_credentials(STDIN_FILENO, &uid);

    if (e == -EPROTOTYPE)
        return 0;
    if (e < 0)
        return e;
    if (uid < conf->min_uid || is_trusted(conf, uid, getpwuid(uid)))
        return 0;
    (void)snprintf(text, sizeof(text), "%u", (unsigned)uid);
    LOG_EVENT(LOG_NOTICE, "lmtp-refused", LOG_FC("uid", text));
    *ret_unwelcome = "LMTP is for the mail servers of this machine";
    return 0;
}

/* Whose process connected? A socket that cannot tell (TCP above all) serves nobody here: who is taken for a local user
 * may send anywhere. */
int caller_find(struct smtp_agent *a, int *ret_place, const char **ret_unwelcome)
{
    struct passwd *entry;
    uid_t uid;
    int e = peer_credentials(STDIN_FILENO, &uid);

    if (e < 0)
        return e;
    entry = getpwuid(uid);
    /* Users without an entry (of a container, of a service without libnss-systemd) have no address to send from. */
    a->local_user = strdup(entry ? entry->pw_name : "nobody");
    a->local_uid = uid;
    a->is_trusted = is_trusted(a->conf, uid, entry);
    if (!a->local_user)
        return -ENOMEM;
    take_place(a, entry ? uid : (uid_t)-1, ret_place, ret_unwelcome);
    return 0;
}
