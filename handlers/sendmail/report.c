/*
 * A multipart/report (RFC 6522, 3464) about a message that sendmail could not submit. Runs as the invoking user.
 */
#include "handlers/sendmail/report.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#include "shared/base/limits.h"

#define REPORT_TEXT (1u << 20) /* all but the message itself */

static int add_header(const struct letter *l, struct str boundary, struct buf *out)
{
    return buf_printf(out,
                      "From: Mail Delivery System <MAILER-DAEMON@%s>\n"
                      "To: %s\n"
                      "Subject: Your message could not be sent\n"
                      "Auto-Submitted: auto-replied\n"
                      "MIME-Version: 1.0\n"
                      "Content-Type: multipart/report; report-type=delivery-status;\n boundary=\"%.*s\"\n",
                      l->conf->hostname, buf_cstr(&l->sender), STR_ARG(boundary));
}

/* The enhanced code at the front of an outcome, else the class alone (RFC 3463 2). */
static struct str status_of(const struct outcome *o)
{
    struct str rest = str_from(o->text), word;

    if (str_word(&rest, &word) && word.len >= 5 && word.ptr[1] == '.' && (word.ptr[0] == '4' || word.ptr[0] == '5'))
        return word;
    return o->code >= 500 ? STR("5.0.0") : STR("4.0.0");
}

static int add_words(const struct letter *l, struct buf *out)
{
    int e = buf_printf(out,
                       "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
                       "This is the mail system of %s.\n\n"
                       "Your message was not taken for the addresses below. It is attached; when the reason is gone,\n"
                       "send it again.\n\n",
                       l->conf->hostname);

    for (size_t i = 0; i < l->to.count && e == 0; i++)
        if (letter_status(&l->outcomes[i]) != EX_OK)
            e = buf_printf(out, "<%s>\n    %s\n\n", l->to.items[i], l->outcomes[i].text);
    return e;
}

static int add_status(const struct letter *l, struct buf *out)
{
    int e = buf_printf(out, "Content-Type: message/delivery-status\n\nReporting-MTA: dns; %s\n", l->conf->hostname);

    for (size_t i = 0; i < l->to.count && e == 0; i++) {
        const struct outcome *o = &l->outcomes[i];
        struct str status = status_of(o);

        if (letter_status(o) == EX_OK)
            continue;
        e = buf_printf(out, "\nFinal-Recipient: rfc822; %s\nAction: failed\nStatus: %.*s\n", l->to.items[i],
                       STR_ARG(status));
        if (e == 0 && o->code != 0)
            e = buf_printf(out, "Diagnostic-Code: smtp; %u %s\n", o->code, o->text);
    }
    return e;
}

static int write_text(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.ptr, text.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            text = str_sub(text, (size_t)n, text.len);
    }
    return 0;
}

static int copy_body(int from, int to)
{
    off_t at = 0;

    for (;;) {
        char bytes[32u << 10];
        ssize_t n = pread(from, bytes, sizeof(bytes), at);
        int e;

        if (n <= 0)
            return n < 0 ? -errno : 0;
        e = write_text(to, (struct str){bytes, (size_t)n});
        if (e < 0)
            return e;
        at += n;
    }
}

/* All parts, behind the header. */
static int write_parts(const struct letter *l, struct str boundary, int fd)
{
    _cleanup_buf_ struct buf text = BUF_INIT(REPORT_TEXT + 2 * LIMIT_HEADER);
    int e = buf_printf(&text, "--%.*s\n", STR_ARG(boundary));

    if (e == 0)
        e = add_words(l, &text);
    if (e == 0)
        e = buf_printf(&text, "\n--%.*s\n", STR_ARG(boundary));
    if (e == 0)
        e = add_status(l, &text);
    if (e == 0)
        e = buf_printf(&text, "\n--%.*s\nContent-Type: message/rfc822\n%s\n", STR_ARG(boundary),
                       l->is_8bit ? "Content-Transfer-Encoding: 8bit\n" : "");
    if (e == 0)
        e = buf_add_str(&text, buf_str(&l->header));
    if (e == 0)
        e = buf_add_byte(&text, '\n');
    if (e == 0)
        e = write_text(fd, buf_str(&text));
    if (e == 0)
        e = copy_body(l->body, fd);
    buf_clear(&text);
    if (e == 0)
        e = buf_printf(&text, "\n--%.*s--\n", STR_ARG(boundary));
    return e < 0 ? e : write_text(fd, buf_str(&text));
}

int report_send(const struct letter *l)
{
    const struct sendmail_options options = {.mode = SENDMAIL_DELIVER, .errors = SENDMAIL_QUIET, .sender = ""};
    _cleanup_buf_ struct buf boundary = BUF_INIT(128);
    struct letter report;
    int e = letter_init(&report, &options, l->conf);

    if (e == 0)
        e = clock_unique(&l->conf->clock, &boundary);
    if (e == 0)
        e = add_header(l, buf_str(&boundary), &report.header);
    if (e == 0)
        e = recipients_add(&report.to, buf_str(&l->sender), str_from(l->conf->hostname));
    if (e == 0) {
        report.outcomes = calloc(report.to.count, sizeof(*report.outcomes));
        report.body = letter_open_temporary();
        e = !report.outcomes ? -ENOMEM : report.body < 0 ? -errno : 0;
    }
    if (e == 0)
        e = write_parts(l, buf_str(&boundary), report.body);
    report.size = l->size + REPORT_TEXT / 16;
    report.is_8bit = true;
    if (e == 0 && letter_submit(&report) != EX_OK)
        e = -EREMOTEIO;
    letter_finish(&report);
    return e;
}
