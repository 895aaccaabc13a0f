/*
 * The program of a user of this machine that connected to the socket of sendmail(8). Runs in the monitor of smtp, as
 * root.
 */
#include "handlers/smtp/caller.h"

#include <errno.h>
#include <pwd.h>
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
    a->is_trusted = uid == 0;
    if (!a->local_user)
        return -ENOMEM;
    for (struct str rest = str_from(a->conf->trusted_users), word; entry && str_word(&rest, &word);)
        a->is_trusted |= str_eq(word, str_from(a->local_user));
    take_place(a, entry ? uid : (uid_t)-1, ret_place, ret_unwelcome);
    return 0;
}
