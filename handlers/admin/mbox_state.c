/*
 * What is kept about a mailbox beside its file: state log, index, journal. Part of `pennypost mbox check`; runs as
 * whoever calls it and only reads.
 */
#include "handlers/admin/mbox_state.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/gate/session.h"
#include "shared/mbox/mbox.h"

/* The store of whoever owns the file. */
static int open_store(struct conf *conf, uid_t owner, struct session *s, struct mbox_store **ret)
{
    const struct passwd *pw = getpwuid(owner);
    struct mbox_store_options options = {.owner = owner, .clock = &conf->clock, .keeper = -1};
    int r;

    if (pw == NULL)
        return -ENOENT;
    s->user = str_dup(str_from(pw->pw_name));
    s->home = str_dup(str_from(pw->pw_dir));
    if (s->user == NULL || s->home == NULL)
        return -ENOMEM;
    if ((r = session_paths(conf, s)) < 0)
        return r;
    options.inbox = s->inbox;
    options.folders = s->folders;
    options.state = s->state;
    return mbox_store_new(&options, ret);
}

static unsigned print_state(const struct mbox_inspection *in)
{
    if (!in->has_state) {
        (void)printf("  no state: it has not been opened yet\n");
        return 0;
    }
    if (in->is_state_damaged) {
        (void)printf(
            "  problem: the state log is damaged: UIDs are taken from the mailbox itself, or given anew, when it"
            " is opened\n");
        return 1;
    }
    (void)printf("  state: UIDVALIDITY %" PRIu32 ", next UID %" PRIu32 ", HIGHESTMODSEQ %" PRIu64 "\n", in->uidvalidity,
                 in->uidnext, in->highestmodseq);
    return 0;
}

static unsigned print_rest(const struct mbox_inspection *in, const char *state)
{
    unsigned problems = 0;

    if (in->has_index)
        (void)printf("  index: %s\n", in->is_index_current ? "up to date"
                                      : in->is_index_whole ? "behind the file, read on when it is opened"
                                                           : "made anew when it is opened");
    if (in->has_journal) {
        (void)printf("  problem: a journal is pending: an interrupted change, finished when the mailbox is opened\n");
        problems++;
    }
    if (in->has_odd_journal) {
        (void)printf("  problem: a journal did not fit the file any more and was kept in %s (.journal.odd)\n", state);
        problems++;
    }
    if (in->has_torn)
        (void)printf("  the unfinished end of an interrupted append is kept in %s (.torn)\n", state);
    return problems;
}

unsigned mbox_state_print(struct conf *conf, const char *path, uid_t owner)
{
    _cleanup_session_ struct session s = {.control = -1};
    _cleanup_buf_ struct buf name = BUF_INIT(LIMIT_PATHNAME);
    struct mbox_store *store = NULL;
    struct mbox_inspection in;
    unsigned problems = 0;
    int r = open_store(conf, owner, &s, &store);

    if (r == 0)
        r = mbox_name_of(store, path, &name);
    if (r == 0)
        r = mbox_inspect(store, buf_str(&name), &in);
    if (r == 0) {
        problems = print_state(&in) + print_rest(&in, s.state);
    } else if (r != -ENOENT && r != -EINVAL) {
        (void)printf("  problem: its state cannot be read: %s\n", strerror(-r));
        problems = 1;
    }
    mbox_store_free(store);
    return problems;
}
