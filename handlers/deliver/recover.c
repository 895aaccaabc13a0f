/*
 * deliver --recover: as the user, started by a keeper whose session died while it held the lock, or by `pennypost
 * recover` at boot. Touches the INBOX and its sidecars in the state folder.
 */
#include "handlers/deliver/deliver.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/mbox/recover.h"

#define NOTICES 8192

static void log_notices(struct mbox_store *store, const struct session *s)
{
    _cleanup_buf_ struct buf notices = BUF_INIT(NOTICES);
    struct str rest;
    struct str line;

    (void)mbox_store_notices(store, &notices);
    rest = buf_str(&notices);
    while (rest.len > 0) {
        (void)str_cut(&rest, '\n', &line);
        if (line.len > 0)
            LOG_EVENT(LOG_NOTICE, "store", LOG_FC("user", s->user), LOG_F("notice", line));
    }
}

int deliver_recover(struct conf *conf, const struct session *s)
{
    struct mbox_store_options options = {.inbox = s->inbox,
                                         .folders = s->folders,
                                         .state = s->state,
                                         .owner = s->uid,
                                         .clock = &conf->clock,
                                         .keeper = -1,
                                         .is_locked = true};
    struct mbox_store *store = NULL;
    int r = mbox_store_new(&options, &store);

    if (r < 0)
        return r;
    r = mbox_recover(store);
    log_notices(store, s);
    mbox_store_free(store);
    if (r < 0)
        LOG_ERROR(LOG_ERR, "recovery failed", r, LOG_FC("user", s->user));
    return r;
}
