/*
 * From fd 0 through the store into the mailbox. Part of deliver.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "handlers/deliver/deliver.h"
#include "handlers/deliver/loop.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/mbox/mbox.h"

#define DELIVER_BLOCK (64u << 10)

/* RFC 5321 4.4: the final delivery puts the reverse-path on top. Delivered-To is what finds loops. */
static int write_trace(const struct deliver_options *o, const char *address, struct mbox_append *a)
{
    _cleanup_buf_ struct buf trace = BUF_INIT(4096);
    int e = buf_printf(&trace, "Return-Path: <%s>\n", o->sender);

    if (e == 0)
        e = buf_printf(&trace, "Delivered-To: %s\n", address);
    return e < 0 ? e : mbox_append_write(a, trace.data, trace.len);
}

static int copy_input(struct mbox_append *a, const char *address)
{
    struct loop_watch loop = {.address = str_from(address)};
    char block[DELIVER_BLOCK];

    for (;;) {
        ssize_t n = read(STDIN_FILENO, block, sizeof(block));
        int e;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return loop.is_found ? -ELOOP : 0;
        loop_watch(&loop, (struct str){block, (size_t)n});
        e = loop.is_found ? -ELOOP : mbox_append_write(a, block, (size_t)n);
        if (e < 0)
            return e;
    }
}

/* Control characters in an argument would break out of the header. */
static bool is_clean(const char *text)
{
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            return false;
    return true;
}

static void log_notices(struct mbox_store *store)
{
    _cleanup_buf_ struct buf lines = BUF_INIT(16u << 10);
    struct str rest, line;

    if (mbox_store_notices(store, &lines) < 0)
        return;
    rest = buf_str(&lines);
    while (rest.len > 0) {
        (void)str_cut(&rest, '\n', &line);
        if (line.len > 0)
            LOG_EVENT(LOG_NOTICE, "mailbox", {"notice", line});
    }
}

static int append(struct conf *conf, struct mbox_store *store, const struct deliver_options *o, const char *address)
{
    struct mbox_append *a = NULL;
    uint32_t uidvalidity, uid;
    int64_t now = clock_now(&conf->clock);
    const struct mbox_append_options options = {.sender = str_from(o->sender),
                                                .internaldate = now,
                                                .internaldate_offset = (int16_t)clock_utc_offset(&conf->clock, now)};
    int e = mbox_append_new(store, str_from(o->mailbox), &a);

    if (e == 0)
        e = mbox_append_message(a, &options);
    if (e == 0)
        e = write_trace(o, address, a);
    if (e == 0)
        e = copy_input(a, address);
    if (e == 0)
        e = mbox_append_commit(a, &uidvalidity, &uid);
    mbox_append_free(a);
    return e;
}

int deliver_message(struct conf *conf, const struct session *s, const struct deliver_options *o)
{
    const struct mbox_store_options options = {.inbox = s->inbox,
                                               .folders = s->folders,
                                               .state = s->state,
                                               .owner = s->uid,
                                               .clock = &conf->clock,
                                               .keeper = s->control};
    _cleanup_buf_ struct buf address = BUF_INIT(1024);
    struct mbox_store *store = NULL;
    int e;

    if (!is_clean(o->sender) || !is_clean(o->address))
        return -EINVAL;
    if (*o->address)
        e = buf_printf(&address, "%s", o->address);
    else
        e = buf_printf(&address, "%s@%s", s->user, conf->hostname);
    if (e == 0)
        e = mbox_store_new(&options, &store);
    if (e < 0)
        return e;
    e = append(conf, store, o, buf_cstr(&address));
    log_notices(store);
    mbox_store_free(store);
    return e;
}
