/*
 * The POP3 commands that answer in lines or only mark (see session.h; RFC 1939 5, 7, RFC 1081, RFC 2449). Runs in
 * pop3-session as the user.
 */
#include <errno.h>

#include "handlers/pop3/capa.h"
#include "handlers/pop3/login.h"
#include "handlers/pop3/session.h"
#include "shared/base/limits.h"

#define UIDL_LINE 128 /* RFC 1939 7: a number and at most 70 characters */

static bool is_deleted(const struct pop3 *s, uint32_t seq)
{
    return s->marks[seq - 1] & POP3_DELETED;
}

int pop3_stat(void *session, struct str arguments)
{
    struct pop3 *s = session;
    int r = pop3_no_more(s, arguments, "STAT");

    return r ? r
             : pop3_ok(s, "%u %llu", mbox_count(s->box) - s->deleted,
                       (unsigned long long)(s->status.size - s->deleted_size));
}

/* Calls `print` for every message that is not marked as deleted, between "+OK text" and the lone dot. */
static int print_all(struct pop3 *s, int (*print)(struct pop3 *s, uint32_t seq, const struct mbox_info *info))
{
    uint32_t count = mbox_count(s->box);
    struct mbox_info info;
    int r = 0;

    (void)pop3_ok(s, "%u message%s (%llu octets)", count - s->deleted, count - s->deleted == 1 ? "" : "s",
                  (unsigned long long)(s->status.size - s->deleted_size));
    for (uint32_t seq = 1; seq <= count && r >= 0; seq++) {
        if (is_deleted(s, seq))
            continue;
        r = mbox_info(s->box, seq, &info);
        if (r >= 0)
            r = print(s, seq, &info);
    }
    /* In the middle of a list there is no way to say that it cannot go on. */
    return r < 0 ? r : writer_text(&s->out, ".\r\n");
}

static int print_size(struct pop3 *s, uint32_t seq, const struct mbox_info *info)
{
    uint64_t size;
    int r = pop3_size(s, seq, info, &size);

    if (r < 0)
        return r;
    (void)writer_u64(&s->out, seq);
    (void)writer_add(&s->out, " ", 1);
    (void)writer_u64(&s->out, size);
    return writer_add(&s->out, "\r\n", 2);
}

/* Sizes that take a look into the message are known before the list begins: in the middle it cannot be taken back. */
static int measure_all(struct pop3 *s)
{
    uint32_t count = mbox_count(s->box);
    struct mbox_info info;
    uint64_t size;
    int r = 0;

    for (uint32_t seq = 1; seq <= count && r >= 0 && !s->is_utf8; seq++) {
        if (is_deleted(s, seq))
            continue;
        r = mbox_info(s->box, seq, &info);
        if (r >= 0)
            r = pop3_size(s, seq, &info, &size);
    }
    return r;
}

int pop3_list(void *session, struct str arguments)
{
    struct pop3 *s = session;
    struct mbox_info info;
    uint64_t size;
    uint32_t seq;
    int r;

    if (!str_trim(arguments).len) {
        r = measure_all(s);
        return r < 0 ? pop3_store_err(s, r) : print_all(s, print_size);
    }
    r = pop3_take_message(s, &arguments, &seq, &info);
    if (!r)
        r = pop3_no_more(s, arguments, "LIST or LIST number");
    if (r)
        return r;
    r = pop3_size(s, seq, &info, &size);
    return r < 0 ? pop3_store_err(s, r) : pop3_ok(s, "%u %llu", seq, (unsigned long long)size);
}

static int print_uid(struct pop3 *s, uint32_t seq, const struct mbox_info *info)
{
    _cleanup_buf_ struct buf line = BUF_INIT(UIDL_LINE);
    int r = buf_add_u64(&line, seq);

    if (r >= 0)
        r = buf_add_byte(&line, ' ');
    if (r >= 0)
        r = pop3_policy_uidl(&s->policy, s->status.uidvalidity, info->uid, &line);
    if (r >= 0)
        r = buf_add(&line, "\r\n", 2);
    return r < 0 ? r : writer_str(&s->out, buf_str(&line));
}

/* RFC 1939 7. UIDVALIDITY and UID together are never used again for another message of this mailbox. */
int pop3_uidl(void *session, struct str arguments)
{
    struct pop3 *s = session;
    struct mbox_info info;
    uint32_t seq;
    int r;

    if (!str_trim(arguments).len)
        return print_all(s, print_uid);
    r = pop3_take_message(s, &arguments, &seq, &info);
    if (!r)
        r = pop3_no_more(s, arguments, "UIDL or UIDL number");
    if (r)
        return r;
    (void)writer_text(&s->out, "+OK ");
    return print_uid(s, seq, &info);
}

int pop3_dele(void *session, struct str arguments)
{
    struct pop3 *s = session;
    struct mbox_info info;
    uint32_t seq;
    int r = pop3_take_message(s, &arguments, &seq, &info);

    if (!r)
        r = pop3_no_more(s, arguments, "DELE number");
    if (r)
        return r;
    s->marks[seq - 1] |= POP3_DELETED;
    s->deleted++;
    s->deleted_size += info.size;
    if (seq > s->last)
        s->last = seq;
    return pop3_ok_number(s, "Message ", seq, " will be deleted at QUIT");
}

int pop3_rset(void *session, struct str arguments)
{
    struct pop3 *s = session;
    uint32_t count = mbox_count(s->box);
    int r = pop3_no_more(s, arguments, "RSET");

    if (r)
        return r;
    for (uint32_t seq = 1; seq <= count; seq++)
        s->marks[seq - 1] &= (uint8_t)~POP3_DELETED;
    s->deleted = 0;
    s->deleted_size = 0;
    s->last = s->first_last; /* RFC 1081 */
    return pop3_ok(s, "No message is marked as deleted");
}

int pop3_last(void *session, struct str arguments)
{
    struct pop3 *s = session;
    int r = pop3_no_more(s, arguments, "LAST");

    return r ? r : pop3_ok(s, "%u", s->last);
}

int pop3_noop(void *session, struct str arguments)
{
    struct pop3 *s = session;
    int r = pop3_no_more(s, arguments, "NOOP");

    return r ? r : pop3_ok(s, "Still here");
}

int pop3_language(void *session, struct str arguments)
{
    struct pop3 *s = session;

    return pop3_lang(&s->out, arguments) ? POP3_OK : POP3_ERR;
}

/* RFC 6856 2.1 has it before login only; on a pipe there is no such time. */
int pop3_utf8(void *session, struct str arguments)
{
    struct pop3 *s = session;
    int r = pop3_no_more(s, arguments, "UTF8");

    if (r)
        return r;
    if (!s->who->is_preauth)
        return pop3_err(s, NULL, "UTF8 is for the time before login");
    s->is_utf8 = true;
    return pop3_ok(s, "UTF-8 it is");
}

/* RFC 2449 5: what there was before login is named here too; the login stage has left it to us, a line each. */
int pop3_capa(void *session, struct str arguments)
{
    struct pop3 *s = session;
    _cleanup_buf_ struct buf common = BUF_INIT(LIMIT_LINE_PREAUTH);
    struct str rest = buf_str(&s->who->protocol), line;
    int r = pop3_no_more(s, arguments, "CAPA");

    if (r)
        return r;
    (void)pop3_ok(s, "What there is");
    (void)pop3_add_capabilities(&s->policy, &common);
    (void)writer_str(&s->out, buf_str(&common));
    while (rest.len) {
        (void)str_cut(&rest, '\n', &line);
        if (line.len && !str_eq(line, STR(POP3_DATA_UTF8)))
            (void)writer_printf(&s->out, "%.*s\r\n", STR_ARG(line));
    }
    return writer_text(&s->out, "IMPLEMENTATION Pennypost-" PENNYPOST_VERSION "\r\n.\r\n");
}
