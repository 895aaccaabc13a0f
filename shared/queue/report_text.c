/*
 * Reports in plain language. Runs where report.c runs; pure.
 */
#include <stdio.h>

#include "shared/queue/report.h"

#define REPLY_SHOWN 600 /* bytes of a remote reply in the text */

const char *report_action_name(const struct report *r, const struct queue_recipient *q)
{
    if (r->action == REPORT_FAILED)
        return "failed";
    if (r->action == REPORT_DELAYED)
        return "delayed";
    return q->state == QUEUE_RELAYED ? "relayed" : q->state == QUEUE_EXPANDED ? "expanded" : "delivered";
}

/* class "." subject "." detail */
static bool is_status(struct str s)
{
    struct str part;
    uint32_t n;
    int parts = 0;

    while (s.len > 0) {
        (void)str_cut(&s, '.', &part);
        if (part.len == 0 || part.len > 3 || str_to_u32(part, &n) < 0 || ++parts > 3)
            return false;
    }
    return parts == 3;
}

/* The enhanced code of the reply "450 4.2.0 text" if it has one, else the most general code of its class. A failure
 * keeps the 4.x.x that it failed with in the end (RFC 3464 2.3.4). */
void report_status(const struct report *r, const struct queue_recipient *q, char out[static 16])
{
    const struct queue_envelope *e = &r->entry->envelope;
    struct str reply = str_from(q->reply), word;
    char class = r->action == REPORT_SUCCESS ? '2' : r->action == REPORT_DELAYED ? '4' : '5';

    /* RFC 2852 4.1.3 */
    if (r->action == REPORT_DELAYED && e->by == QUEUE_BY_NOTIFY && queue_envelope_is_late(e, clock_now(r->clock))) {
        (void)snprintf(out, 16, "4.4.7");
        return;
    }
    if (r->action != REPORT_SUCCESS && str_word(&reply, &word) && word.len == 3) {
        if (word.ptr[0] == '4' || word.ptr[0] == '5')
            class = word.ptr[0];
        if (str_word(&reply, &word) && is_status(word) && word.ptr[0] == class && word.len < 16) {
            (void)snprintf(out, 16, "%.*s", STR_ARG(word));
            return;
        }
    }
    (void)snprintf(out, 16, "%c.0.0", class);
}

/* What a person can do, by the status: the first row whose beginning fits. Without the class. */
static const struct {
    const char *status;
    const char *advice;
} ADVICE[] = {
    {"1.1", "There is no such address there. Please check the spelling of the address."},
    {"1.2", "There is no such mail domain. Please check what stands behind the @."},
    {"1.10", "That domain takes no mail. Please check what stands behind the @."},
    {"1.", "The address is not valid. Please check its spelling."},
    {"2.1", "The mailbox is closed. Please reach the recipient in another way."},
    {"2.2", "The mailbox is full. Please try again later, or tell the recipient in another way."},
    {"2.3", "The message is too big for that mailbox. Please send it with smaller attachments, or a link to them."},
    {"3.4", "The message is too big for that server. Please send it with smaller attachments, or a link to them."},
    {"4.1", "The server of that domain did not answer. Please try again later."},
    {"4.4", "No server for that domain could be found. Please check what stands behind the @."},
    {"4.6", "The message went in circles: two servers forward it to each other. Please tell your postmaster."},
    {"4.7", "It could not be delivered in time, although it was tried again and again. Please try again later."},
    {"4.", "The server of that domain could not be reached. Please try again later."},
    {"6.7", "The server there does not support international addresses. Please ask for another address."},
    {"6.", "The server there does not take messages of this form. Please tell your postmaster."},
    {"7.", "The server there refuses the message by its rules. Its answer may tell why; else ask your postmaster."},
    {"", "Please read the answer of the server above, and ask your postmaster if it does not help."},
};

static const char *advice_for(const char *status)
{
    struct str rest = str_from(status), class;
    size_t i = 0;

    (void)str_cut(&rest, '.', &class);
    while (!str_starts(rest, str_from(ADVICE[i].status)) ||
           /* "1.1" is not the beginning of "1.10" */
           (ADVICE[i].status[0] && !str_ends(str_from(ADVICE[i].status), STR(".")) &&
            rest.len != strlen(ADVICE[i].status)))
        if (ADVICE[i++].status[0] == '\0')
            break;
    return ADVICE[i < ARRAY_SIZE(ADVICE) ? i : ARRAY_SIZE(ADVICE) - 1].advice;
}

static int add_opening(const struct report *r, struct buf *out)
{
    static const char *const openings[] = {
        [REPORT_FAILED] = "could not be delivered to:",
        [REPORT_DELAYED] = "is late. It has not been delivered yet to:",
        [REPORT_SUCCESS] = "has arrived:",
    };
    const struct queue_envelope *e = &r->entry->envelope;
    int error;

    if (r->is_postmaster)
        return buf_add_str(out,
                           STR("A report about a message that could not be delivered could itself not be delivered "
                               "to:\n"));
    error = buf_add_str(out, STR("Your message"));
    if (error == 0 && r->subject[0])
        error = buf_printf(out, " \"%s\"", r->subject);
    if (error == 0)
        error = buf_add_str(out, STR(" of "));
    if (error == 0)
        error = clock_rfc5322(r->clock, e->created, out);
    return error < 0 ? error : buf_printf(out, "\n%s\n", openings[r->action]);
}

static int add_reply(const struct queue_recipient *q, struct buf *out)
{
    int e;

    if (!q->reply)
        return 0;
    e = q->host ? buf_printf(out, "    %s answered:\n", q->host) : 0;
    if (e == 0)
        e = buf_add_str(out, STR("    "));
    for (size_t i = 0; q->reply[i] && i < REPLY_SHOWN && e == 0; i++)
        e = q->reply[i] == '\n' ? buf_add_str(out, STR("\n    "))
                                : buf_add_byte(out, (unsigned char)q->reply[i] < 32 ? ' ' : q->reply[i]);
    return e < 0 ? e : buf_add_byte(out, '\n');
}

static int add_recipient(const struct report *r, const struct queue_recipient *q, struct buf *out)
{
    static const char *const ends[] = {
        [QUEUE_DELIVERED] = "is in the mailbox",
        [QUEUE_RELAYED] = "was handed on to another server, so you may not hear more",
        [QUEUE_EXPANDED] = "was sent on to several recipients",
    };
    char status[16];
    int e = buf_printf(out, "\n  %s\n", q->address);

    if (r->action == REPORT_SUCCESS)
        return e < 0 ? e : buf_printf(out, "    %s\n", ends[q->state]);
    report_status(r, q, status);
    if (e == 0)
        e = add_reply(q, out);
    if (e == 0 && r->action == REPORT_FAILED)
        e = buf_printf(out, "    %s\n", advice_for(status));
    return e;
}

static int add_closing(const struct report *r, struct buf *out)
{
    int e = buf_add_byte(out, '\n');

    if (e < 0)
        return e;
    if (r->action == REPORT_SUCCESS)
        return buf_add_str(out, STR("You need not do anything. You asked to be told.\n"));
    if (r->action == REPORT_FAILED)
        return buf_add_str(out, STR("Nobody will try again. What you sent, or its beginning, is attached.\n"));
    e = buf_add_str(out, STR("You need not do anything, and need not send it again. It is being tried until\n"));
    if (e == 0)
        e = clock_rfc5322(r->clock, r->until, out);
    return e < 0 ? e : buf_add_str(out, STR(".\nYou will be told if it fails in the end.\n"));
}

int report_text(const struct report *r, struct buf *out)
{
    int e = add_opening(r, out);

    for (size_t i = 0; i < r->count && e == 0; i++)
        e = add_recipient(r, r->recipients[i], out);
    if (e == 0)
        e = add_closing(r, out);
    return e < 0 ? e : buf_printf(out, "\nThis message was written by the mail server %s.\n", r->hostname);
}
