/*
 * From and Sender of submissions. Part of smtp-session: text of strangers is parsed here, whose addresses are whose the
 * monitor knows.
 */
#include "handlers/smtp/author.h"

#include <errno.h>

#include "shared/base/macros.h"
#include "shared/mime/addr.h"

#define AUTHORS_ASKED 10 /* addresses of one field that the monitor is asked about */

/* 1: it is the user's, 0: it is not. */
static int is_own(struct smtp_session *s, struct str address)
{
    struct smtp_answer answer;
    int e;

    if (!s->backend.own || str_ieq(address, buf_str(&s->txn.sender))) /* that was judged at MAIL */
        return 1;
    e = s->backend.own(s->backend.context, address, &answer);
    return e < 0 ? e : answer_is_ok(&answer);
}

/* Is one of these addresses the user's? *ret_count: how many addresses there are. */
static int has_own(struct smtp_session *s, struct str body, size_t *ret_count)
{
    _cleanup_addr_list_ struct addr_list list = {0};
    int e;

    *ret_count = 0;
    addr_list_init(&list);
    e = addr_parse(body, &list);
    for (size_t i = 0; i < list.count && e == 0; i++) {
        _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_PATH);
        const struct addr *a = &list.items[i];

        if (addr_is_group_start(a) || addr_is_group_end(a) || a->mailbox.len == 0)
            continue;
        if (++*ret_count > AUTHORS_ASKED)
            break;
        if (a->host.len == 0)
            e = buf_add_str(&text, a->mailbox);
        else
            e = addr_print(a, &text);
        e = e == -ENOBUFS ? 0 : e < 0 ? e : is_own(s, buf_str(&text));
    }
    return e;
}

/* The address that the client sends as; a report has none, its user has. */
static int add_field(const struct smtp_session *s, const char *name, struct buf *out)
{
    if (s->txn.sender.len > 0)
        return buf_printf(out, "%s: <%s>\n", name, buf_cstr(&s->txn.sender));
    return buf_printf(out, "%s: <%s@%s>\n", name, s->user, s->conf->hostname);
}

int author_judge(void *session, const struct header_watch *header, struct buf *add)
{
    struct smtp_session *s = session;
    size_t count = 0, senders = 0;
    int e;

    if (header->from == 0)
        return add_field(s, "From", add);
    if (header->from > 1 || header->sender > 1)
        return -EPROTO;
    e = has_own(s, buf_str(header->from_text), &count);
    if (e == 0 && count == 0)
        e = -EPROTO;
    if (e != 0 || str_ieq(str_from(s->conf->submission_senders), STR("any")))
        return e < 0 ? e : 0;
    if (header->sender == 0)
        return add_field(s, "Sender", add);
    e = has_own(s, buf_str(header->sender_text), &senders);
    return e < 0 ? e : e > 0 ? 0 : -EKEYREJECTED;
}
