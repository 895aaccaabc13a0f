/*
 * Builds reports and queues them. Runs in relay and smtp as root; touches the queue folder.
 */
#include "shared/queue/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/base/limits.h"
#include "shared/queue/file.h"
#include "shared/queue/xtext.h"

#define VALUE_MAX 900        /* bytes of one field: lines have 998 at most */
#define FRONT_MAX (4u << 20) /* bytes of a report in front of the message: REPORT_RECIPIENTS with long replies */

/* ---- the part for programs ---- */

/* A value of one line (RFC 5322 2.1.1): what came from other hosts may have any bytes, and any number of them. */
static int add_clean(struct buf *out, struct str value, bool is_utf8)
{
    int e = 0;

    for (size_t i = 0; i < value.len && i < VALUE_MAX && e == 0; i++) {
        unsigned char c = (unsigned char)value.ptr[i];

        e = buf_add_byte(out, c < 32 || c == 127 ? ' ' : c > 127 && !is_utf8 ? '?' : (char)c);
    }
    return e;
}

static int add_field(struct buf *out, const char *name, struct str value, bool is_utf8)
{
    int e = buf_printf(out, "%s ", name);

    if (e == 0)
        e = add_clean(out, value, is_utf8);
    return e < 0 ? e : buf_add_byte(out, '\n');
}

static int add_date(const struct report *r, const char *name, int64_t when, struct buf *out)
{
    int e = when == 0 ? 0 : buf_printf(out, "%s ", name);

    if (e == 0 && when != 0)
        e = clock_rfc5322(r->clock, when, out);
    return e < 0 || when == 0 ? e : buf_add_byte(out, '\n');
}

/* RFC 3464 2.2 */
static int add_message_fields(const struct report *r, struct buf *out)
{
    const struct queue_envelope *e = &r->entry->envelope;
    _cleanup_buf_ struct buf envid = BUF_INIT(QUEUE_VALUE);
    int error = buf_printf(out, "Reporting-MTA: dns; %s\n", r->hostname);

    /* RFC 3461 5.2.7.1 (b), 6.3 (a): what a list sends out is another message, of which nobody gave an envelope id. */
    if (error == 0 && e->envid && !r->is_list && xtext_decode(str_from(e->envid), &envid) == 0)
        error = add_field(out, "Original-Envelope-Id:", buf_str(&envid), r->is_utf8);
    if (error == 0)
        error = add_date(r, "Arrival-Date:", e->created, out);
    if (error == 0)
        error = add_date(r, "Deliver-By-Date:", e->by_deadline, out); /* RFC 2852 5 */
    return error;
}

/* "rfc822;xtext" as the sender gave it, decoded (RFC 3461 6.3). What RFC 6533 3 encodes stays so in an ASCII report,
 * and is decoded in one of UTF-8 (4.1 there). */
static int add_original(const struct report *r, const struct queue_recipient *q, struct buf *out)
{
    _cleanup_buf_ struct buf plain = BUF_INIT(QUEUE_VALUE);
    struct str rest = str_from(q->orcpt), type;
    bool is_utf8;

    if (!q->orcpt || q->is_orcpt_ours || !str_cut(&rest, ';', &type))
        return 0;
    is_utf8 = str_ieq(type, STR("utf-8"));
    if (is_utf8 ? r->is_utf8 && utf8_xtext_decode(rest, &plain) == 0 : xtext_decode(rest, &plain) == 0)
        rest = buf_str(&plain);
    if (buf_printf(out, "Original-Recipient: %.*s;", STR_ARG(type)) < 0)
        return -ENOBUFS;
    return add_field(out, "", rest, r->is_utf8);
}

/* RFC 3464 2.3.2; in an ASCII report a UTF-8 address is written in the xtext form of RFC 6533 3: is_utf8 is true for
 * every report that has one, so that it need not be. */
static int add_final(const struct report *r, const struct queue_recipient *q, struct buf *out)
{
    bool is_ascii = str_is_ascii(str_from(q->address));
    bool is_bare = strchr(q->address, '@') == NULL;
    int e = buf_printf(out, "Final-Recipient: %s; ", is_ascii ? "rfc822" : "utf-8");

    if (e == 0)
        e = add_clean(out, str_from(q->address), true);
    return e < 0 ? e : buf_printf(out, "%s%s\n", is_bare ? "@" : "", is_bare ? r->hostname : "");
}

/* RFC 3464 2.3 */
static int add_recipient_fields(const struct report *r, const struct queue_recipient *q, struct buf *out)
{
    char status[16];
    int e = buf_add_byte(out, '\n');

    report_status(r, q, status);
    if (e == 0)
        e = add_original(r, q, out);
    if (e == 0)
        e = add_final(r, q, out);
    if (e == 0)
        e = buf_printf(out, "Action: %s\nStatus: %s\n", report_action_name(r, q), status);
    if (e == 0 && q->host)
        e = add_field(out, "Remote-MTA: dns;", str_from(q->host), r->is_utf8);
    if (e == 0 && q->reply)
        e = add_field(out, q->host ? "Diagnostic-Code: smtp;" : "Diagnostic-Code: x-pennypost;", str_from(q->reply),
                      r->is_utf8);
    if (e == 0)
        e = add_date(r, "Last-Attempt-Date:", q->last_attempt, out);
    if (e == 0 && r->action == REPORT_DELAYED)
        e = add_date(r, "Will-Retry-Until:", r->until, out);
    return e;
}

/* ---- the message ---- */

/* How much of it comes back: all, or up to the empty line behind the header. */
struct extent {
    uint64_t size;
    bool is_header;
    bool is_utf8; /* bytes above 127 in the header */
    bool is_8bit; /* or in what follows */
};

static int read_header(int file, struct buf *out)
{
    int e = buf_reserve(out, REPORT_HEADER);

    while (e == 0 && out->len < REPORT_HEADER) {
        ssize_t n = pread(file, out->data + out->len, REPORT_HEADER - out->len, (off_t)out->len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        out->len += (size_t)n;
    }
    return e;
}

/* Cut behind the last whole line of the header. */
static size_t header_size(struct str front)
{
    size_t size = 0;

    while (front.len > 0) {
        struct str line;
        bool is_whole = str_cut(&front, '\n', &line);

        if (!is_whole || line.len == 0)
            break;
        size += line.len + 1;
    }
    return size;
}

/* The subject, if a person can read it as it stands. */
static void find_subject(struct str header, struct report *r)
{
    struct str line, text;

    while (str_cut(&header, '\n', &line)) {
        text = str_trim(str_sub(line, 8, line.len));
        if (!str_istarts(line, STR("Subject:")))
            continue;
        if (text.len == 0 || text.len >= sizeof(r->subject) || !str_is_ascii(text) || str_find(text, STR("=?")) >= 0)
            return;
        for (size_t i = 0; i < text.len; i++)
            r->subject[i] = (unsigned char)text.ptr[i] < 32 || text.ptr[i] == 127 ? ' ' : text.ptr[i];
        r->subject[text.len] = '\0';
        return;
    }
}

static int measure(struct report *r, struct extent *ret)
{
    const struct queue_envelope *e = &r->entry->envelope;
    _cleanup_buf_ struct buf front = BUF_INIT(REPORT_HEADER);
    enum queue_ret ret_wish = r->is_list ? QUEUE_RET_UNSET : e->ret; /* RFC 3461 5.2.7.1 (b) */
    uint64_t most = ret_wish == QUEUE_RET_FULL ? REPORT_FULL_MAX : REPORT_FULL;
    struct stat facts;
    int error;

    if (fstat(r->entry->file, &facts) < 0)
        return -errno;
    error = read_header(r->entry->file, &front);
    if (error < 0)
        return error;
    ret->size = header_size(buf_str(&front));
    ret->is_utf8 = !str_is_ascii(str_sub(buf_str(&front), 0, (size_t)ret->size));
    find_subject(str_sub(buf_str(&front), 0, (size_t)ret->size), r);
    /* RFC 8689 5: what had to be encrypted does not come back whole. */
    ret->is_header =
        r->action != REPORT_FAILED || ret_wish == QUEUE_RET_HDRS || e->requires_tls || (uint64_t)facts.st_size > most;
    if (!ret->is_header)
        ret->size = (uint64_t)facts.st_size;
    ret->is_8bit = ret->is_utf8 || (!ret->is_header && e->body != QUEUE_BODY_7BIT);
    return 0;
}

/* ---- the whole ---- */

static const char *subject_of(const struct report *r)
{
    if (r->is_postmaster)
        return "Undeliverable report";
    return r->action == REPORT_FAILED    ? "Your message could not be delivered"
           : r->action == REPORT_DELAYED ? "Your message is late"
                                         : "Your message has arrived";
}

static int add_front(const struct report *r, const char *mark, bool is_8bit, struct buf *out)
{
    int e = add_field(out, "From:", STR("Mail delivery <MAILER-DAEMON@"), true);

    if (e == 0) { /* on the same line */
        buf_truncate(out, out->len - 1);
        e = buf_printf(out, "%s>\nTo: <%s>\nSubject: %s\nDate: ", r->hostname, r->to, subject_of(r));
    }
    if (e == 0)
        e = clock_rfc5322(r->clock, clock_now(r->clock), out);
    if (e == 0)
        e = buf_printf(out,
                       "\nMessage-ID: <%s@%s>\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n"
                       "Content-Type: multipart/report; report-type=%s;\n\tboundary=\"%s\"\n%s\n"
                       "This is a report in the form of RFC 3464.\n\n",
                       mark, r->hostname, r->is_utf8 ? "global-delivery-status" : "delivery-status", mark,
                       is_8bit ? "Content-Transfer-Encoding: 8bit\n" : ""); /* RFC 2045 6.4: as any part of it */
    if (e == 0)
        e = buf_printf(out,
                       "--%s\nContent-Type: text/plain; charset=%s\nContent-Transfer-Encoding: %s\n"
                       "Content-Description: What happened\n\n",
                       mark, r->is_utf8 ? "utf-8" : "us-ascii", r->is_utf8 ? "8bit" : "7bit");
    return e;
}

static int add_text(const struct report *r, struct buf *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FRONT_MAX);
    int e = report_text(r, &text);

    for (size_t i = 0; i < text.len && e == 0; i++)
        e = buf_add_byte(out, (unsigned char)text.data[i] > 126 && !r->is_utf8 ? '?' : text.data[i]);
    return e;
}

static int add_middle(const struct report *r, const char *mark, const struct extent *x, struct buf *out)
{
    const char *type = r->is_utf8 || x->is_utf8 ? (x->is_header ? "message/global-headers" : "message/global")
                                                : (x->is_header ? "text/rfc822-headers" : "message/rfc822");
    int e = buf_printf(out, "\n--%s\nContent-Type: message/%s\nContent-Transfer-Encoding: %s\n\n", mark,
                       r->is_utf8 ? "global-delivery-status" : "delivery-status", r->is_utf8 ? "8bit" : "7bit");

    if (e == 0)
        e = add_message_fields(r, out);
    for (size_t i = 0; i < r->count && e == 0; i++)
        e = add_recipient_fields(r, r->recipients[i], out);
    return e < 0 ? e
                 : buf_printf(out, "\n--%s\nContent-Type: %s\nContent-Transfer-Encoding: %s\n\n", mark, type,
                              x->is_8bit ? "8bit" : "7bit");
}

static int write_report(struct report *r, int fd, const char *mark, bool *ret_is_8bit)
{
    _cleanup_buf_ struct buf front = BUF_INIT(FRONT_MAX), end = BUF_INIT(256);
    struct extent x = {0};
    int e = measure(r, &x);

    if (e == 0)
        e = add_front(r, mark, r->is_utf8 || x.is_8bit, &front);
    if (e == 0)
        e = add_text(r, &front);
    if (e == 0)
        e = add_middle(r, mark, &x, &front);
    if (e == 0)
        e = buf_printf(&end, "\n--%s--\n", mark);
    if (e == 0)
        e = queue_file_write(fd, buf_str(&front));
    if (e == 0)
        e = queue_file_copy(r->entry->file, fd, x.size);
    if (e == 0)
        e = queue_file_write(fd, buf_str(&end));
    *ret_is_8bit = r->is_utf8 || x.is_8bit;
    return e;
}

static int fill_envelope(const struct report *r, bool is_8bit, struct queue_envelope *e)
{
    struct queue_recipient *q;
    int error = queue_envelope_set(&e->sender, STR(""));

    e->created = clock_now(r->clock);
    e->body = is_8bit ? QUEUE_BODY_8BITMIME : QUEUE_BODY_7BIT;
    e->is_utf8 = r->is_utf8;
    e->requires_tls = r->entry->envelope.requires_tls; /* RFC 8689 5 */
    if (error == 0)
        error = queue_envelope_add(e, str_from(r->to), &q);
    if (error == 0)
        q->notify = QUEUE_NOTIFY_NEVER; /* RFC 3461 6.1 */
    return error;
}

/* Queues the report if it tells of anybody, and empties it. */
static int send_report(struct queue *q, struct report *r, struct report_counts *counts)
{
    _cleanup_queue_envelope_ struct queue_envelope envelope = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf mark = BUF_INIT(QUEUE_ID + 1);
    _cleanup_close_ int fd = -1;
    bool is_8bit = false;
    int e;

    if (r->count == 0)
        return 0;
    e = clock_unique(r->clock, &mark);
    if (e == 0)
        e = queue_file_unnamed(q->msg, &fd);
    if (e == 0)
        e = write_report(r, fd, buf_cstr(&mark), &is_8bit);
    if (e == 0)
        e = fill_envelope(r, is_8bit, &envelope);
    if (e == 0)
        e = queue_create(q, r->clock, fd, &envelope, buf_str(&mark), NULL);
    if (e < 0)
        return e;
    counts->queued++;
    r->count = 0;
    r->is_utf8 = !str_is_ascii(str_from(r->to));
    return 0;
}

static int add_recipient(struct queue *q, struct report *r, const struct queue_recipient *recipient,
                         struct report_counts *counts)
{
    int e = r->count == REPORT_RECIPIENTS ? send_report(q, r, counts) : 0;

    if (e < 0)
        return e;
    r->recipients[r->count++] = recipient;
    r->is_utf8 |=
        !str_is_ascii(str_from(recipient->address)) || (recipient->orcpt && !str_is_ascii(str_from(recipient->orcpt)));
    return 0;
}

/* ---- who is told what ---- */

/* Does that recipient belong into a report of this kind? */
static bool is_told(const struct queue_recipient *q, enum report_action action)
{
    if (q->notify & QUEUE_NOTIFY_NEVER)
        return false;
    switch (action) {
    case REPORT_FAILED:
        return q->state == QUEUE_FAILED && !q->is_reported && (q->notify == 0 || q->notify & QUEUE_NOTIFY_FAILURE);
    case REPORT_DELAYED:
        return !queue_recipient_is_done(q) && (q->notify == 0 || q->notify & QUEUE_NOTIFY_DELAY);
    case REPORT_SUCCESS:
        return queue_recipient_is_done(q) && q->state != QUEUE_FAILED && !q->is_reported &&
               (q->notify & QUEUE_NOTIFY_SUCCESS) != 0;
    }
    return false;
}

/* Is this the mailbox where double bounces end? */
static bool is_postmaster(const struct queue_recipient *q)
{
    struct str domain = str_from(q->address), local;

    (void)str_cut(&domain, '@', &local);
    return str_ieq(local, STR("postmaster"));
}

/* Does one report tell of both? Those of a list are a message of their own, also where nobody is its owner. */
static bool go_together(const struct queue_envelope *e, const struct queue_recipient *a,
                        const struct queue_recipient *b)
{
    return a->is_list == b->is_list && strcmp(queue_recipient_sender(e, a), queue_recipient_sender(e, b)) == 0;
}

/* One report for all recipients with the same sender. Those before `from` have had theirs. */
static int report_from(struct queue *q, struct report *r, size_t from, struct report_counts *counts)
{
    _cleanup_buf_ struct buf postmaster = BUF_INIT(LIMIT_PATH);
    const struct queue_envelope *e = &r->entry->envelope;
    const char *sender = queue_recipient_sender(e, &e->recipients[from]);
    int error = 0;

    r->to = sender;
    r->count = 0;
    r->is_list = e->recipients[from].is_list;
    r->is_postmaster = sender[0] == '\0';
    if (r->is_postmaster) {
        /* RFC 5321 6.1: the null path is never answered; an admin should know. */
        if (r->action != REPORT_FAILED)
            return 0;
        error = buf_printf(&postmaster, "postmaster@%s", r->hostname);
        r->to = buf_cstr(&postmaster);
    }
    r->is_utf8 = !str_is_ascii(str_from(r->to));
    for (size_t i = from; i < e->count && error == 0; i++) {
        if (!is_told(&e->recipients[i], r->action) || !go_together(e, &e->recipients[from], &e->recipients[i]))
            continue;
        if (r->is_postmaster && is_postmaster(&e->recipients[i]))
            counts->dropped++;
        else
            error = add_recipient(q, r, &e->recipients[i], counts);
    }
    return error < 0 ? error : send_report(q, r, counts);
}

/* Is it the first recipient of its report? */
static bool is_first(const struct queue_envelope *e, size_t at, enum report_action action)
{
    for (size_t i = 0; i < at; i++)
        if (is_told(&e->recipients[i], action) && go_together(e, &e->recipients[i], &e->recipients[at]))
            return false;
    return true;
}

static int report_all(struct queue *q, struct report *r, struct report_counts *counts)
{
    const struct queue_envelope *e = &r->entry->envelope;
    int error = 0;

    for (size_t i = 0; i < e->count && error == 0; i++)
        if (is_told(&e->recipients[i], r->action) && is_first(e, i, r->action))
            error = report_from(q, r, i, counts);
    return error;
}

static void mark(struct queue_envelope *e, bool is_failed)
{
    for (size_t i = 0; i < e->count; i++)
        if (queue_recipient_is_done(&e->recipients[i]) && (e->recipients[i].state == QUEUE_FAILED) == is_failed)
            e->recipients[i].is_reported = true;
}

int queue_report(struct queue *q, struct clock *clock, const char *hostname, struct queue_entry *t,
                 struct report_counts *ret)
{
    _cleanup_free_ struct report *r = calloc(1, sizeof(*r));
    struct report_counts counts = {0};
    int e = r ? 0 : -ENOMEM;

    if (e == 0) {
        *r = (struct report){.hostname = hostname, .clock = clock, .entry = t, .action = REPORT_FAILED};
        e = report_all(q, r, &counts);
    }
    if (e == 0) {
        mark(&t->envelope, true);
        r->action = REPORT_SUCCESS;
        e = report_all(q, r, &counts);
    }
    if (e == 0)
        mark(&t->envelope, false);
    *ret = counts;
    return e;
}

int queue_report_delay(struct queue *q, struct clock *clock, const char *hostname, const struct queue_entry *t,
                       int64_t until, struct report_counts *ret)
{
    _cleanup_free_ struct report *r = calloc(1, sizeof(*r));
    struct report_counts counts = {0};
    int e = r ? 0 : -ENOMEM;

    if (e == 0) {
        *r =
            (struct report){.hostname = hostname, .clock = clock, .entry = t, .action = REPORT_DELAYED, .until = until};
        e = report_all(q, r, &counts);
    }
    *ret = counts;
    return e;
}
