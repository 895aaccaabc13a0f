/*
 * Looking at the sidecars of a mailbox without touching anything: `pennypost mbox check`. Runs as whoever calls it;
 * reads the state folder, takes no lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/box.h"
#include "shared/mbox/journal.h"
#include "shared/mbox/settle.h"

static bool has_side(const struct box *b, const char *suffix)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);

    return buf_printf(&path, "%s%s", b->side, suffix) == 0 && access(buf_cstr(&path), F_OK) == 0;
}

static int look_at_state(struct box *b, struct mbox_inspection *ret)
{
    struct log_truth truth = {0};
    int r;

    if (!has_side(b, ".state"))
        return 0;
    ret->has_state = true;
    if ((r = log_attach(b)) < 0)
        return r;
    r = log_read(b, &truth);
    if (r == 0) {
        ret->is_state_damaged = truth.is_damaged || !truth.is_found;
        ret->uidvalidity = truth.uidvalidity;
        ret->uidnext = truth.uidnext;
        ret->highestmodseq = truth.modseq;
    }
    log_truth_finish(&truth);
    return r;
}

static int look_at_index(struct box *b, struct mbox_inspection *ret)
{
    int r;

    if (!has_side(b, ".index"))
        return 0;
    ret->has_index = true;
    if ((r = index_open(b)) < 0)
        return r;
    ret->is_index_whole = b->ix.head != NULL && !b->ix.head->is_dirty && index_is_believable(b) && b->log_id != 0 &&
                          b->ix.head->log_id == b->log_id;
    ret->is_index_current = ret->is_index_whole && index_describes(b->ix.head, &b->facts);
    ret->messages = ret->is_index_whole ? b->ix.head->live : 0;
    return 0;
}

int mbox_inspect(struct mbox_store *s, struct str name, struct mbox_inspection *ret)
{
    struct mbox_inspection found = {0};
    struct box *b;
    int r;

    if ((r = box_open(s, name, false, &b)) < 0)
        return r;
    if (b->side != NULL) {
        found.has_journal = journal_exists(b);
        found.has_odd_journal = has_side(b, ".journal.odd");
        found.has_torn = has_side(b, ".torn");
        if ((r = look_at_state(b, &found)) == 0)
            r = look_at_index(b, &found);
    }
    box_free(b);
    if (r == 0)
        *ret = found;
    return r;
}

/* The name whose path this is: levels lose their ".sbd". */
int mbox_name_of(struct mbox_store *s, const char *path, struct buf *out)
{
    _cleanup_free_ char *wanted = realpath(path, NULL);
    _cleanup_free_ char *inbox = realpath(s->inbox, NULL);
    _cleanup_free_ char *folders = s->folders == NULL ? NULL : realpath(s->folders, NULL);
    struct str rest, level;
    bool has_more = true;
    int r = 0;

    if (wanted == NULL)
        return -errno;
    if (inbox != NULL && str_eq(str_from(wanted), str_from(inbox)))
        return buf_add_str(out, STR("INBOX"));
    rest = str_from(wanted);
    if (folders == NULL || !str_starts(rest, str_from(folders)) || rest.len <= str_from(folders).len ||
        rest.ptr[str_from(folders).len] != '/')
        return -ENOENT;
    rest = str_sub(rest, str_from(folders).len + 1, rest.len);
    while (r == 0 && has_more) {
        has_more = str_cut(&rest, '/', &level);
        if (has_more && str_ends(level, STR(".sbd")))
            level = str_sub(level, 0, level.len - 4);
        r = buf_add_str(out, level);
        if (r == 0 && has_more)
            r = buf_add_byte(out, '/');
    }
    return r;
}
