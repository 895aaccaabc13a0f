/*
 * DKIM signatures on what leaves the machine for somebody here. Runs in relay, as root, which sees nothing of the
 * message: the program sign makes them.
 */
#include <errno.h>

#include "handlers/relay/relay.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/route/sign.h"

/* What others sent and we only pass on is theirs to sign: a user of ours submitted it, or it was made here. */
static bool is_ours(const struct queue_envelope *e)
{
    return e->user || !e->peer;
}

int signing_prepare(const struct relay *r, struct open *o)
{
    int x;

    if (o->is_signed || !is_ours(&o->entry.envelope))
        return 0;
    x = sign_copy(r->conf, o->entry.file, &o->signed_file);
    if (x < 0)
        LOG_ERROR(LOG_ERR, "sign-failed", x, LOG_FC("queue_id", o->entry.id));
    o->is_signed = x == 0;
    return x;
}

int signing_file(const struct open *o, bool is_local)
{
    return !is_local && o->signed_file >= 0 ? o->signed_file : o->entry.file;
}
