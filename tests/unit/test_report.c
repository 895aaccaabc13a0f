/*
 * shared/queue/report: what reports say, to whom they go, and when there is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/queue/file.h"
#include "shared/queue/inherit.h"
#include "shared/queue/report.h"

static const char MESSAGE[] = "Received: from x\n\tby y\nSubject: Three\tpigs\nX: 1\n\nThe body.\n";

struct place {
    char folder[64];
    struct queue queue;
    struct clock clock;
    struct queue_entry entry;
};

static int set_up(void **state)
{
    static struct place p;

    p = (struct place){
        .queue = QUEUE_INIT, .entry = QUEUE_ENTRY_INIT, .clock = {.is_frozen = true, .epoch = 1700000000}};
    (void)snprintf(p.folder, sizeof(p.folder), "/tmp/test_report-XXXXXX");
    assert_non_null(mkdtemp(p.folder));
    assert_int_equal(queue_open(p.folder, &p.queue), 0);
    *state = &p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    pid_t pid = fork();

    queue_release(&p->entry);
    queue_close(&p->queue);
    if (pid == 0) {
        (void)execlp("rm", "rm", "-rf", p->folder, (char *)NULL);
        _exit(127);
    }
    return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

/* An entry in hand, as if taken, with that message. */
static void begin(struct place *p, const char *sender, const char *message)
{
    queue_release(&p->entry);
    assert_int_equal(queue_file_unnamed(p->queue.msg, &p->entry.file), 0);
    assert_int_equal(queue_file_write(p->entry.file, str_from(message)), 0);
    p->entry.envelope.created = 1699990000;
    assert_int_equal(queue_envelope_set(&p->entry.envelope.sender, str_from(sender)), 0);
}

static struct queue_recipient *add(struct place *p, const char *address, enum queue_state state, unsigned notify,
                                   const char *reply)
{
    struct queue_recipient *q;

    assert_int_equal(queue_envelope_add(&p->entry.envelope, str_from(address), &q), 0);
    q->state = state;
    q->notify = notify;
    if (reply)
        assert_int_equal(queue_envelope_set(&q->reply, str_from(reply)), 0);
    return q;
}

static unsigned report(struct place *p)
{
    struct report_counts counts;

    assert_int_equal(queue_report(&p->queue, &p->clock, "mail.test", &p->entry, &counts), 0);
    return counts.queued;
}

/* The one entry that there is; *text is its message. */
static void take_only(struct place *p, struct buf *text, struct queue_envelope *envelope)
{
    _cleanup_queue_walk_ struct queue_walk w = {0};
    struct queue_entry t = QUEUE_ENTRY_INIT;
    char id[QUEUE_ID + 1], block[4096];
    ssize_t n;

    assert_int_equal(queue_walk_begin(&p->queue, &w), 0);
    assert_int_equal(queue_walk_next(&w, id), 1);
    assert_int_equal(queue_take(&p->queue, id, &t), 0);
    while ((n = read(t.file, block, sizeof(block))) > 0)
        assert_int_equal(buf_add(text, block, (size_t)n), 0);
    *envelope = t.envelope;
    t.envelope = QUEUE_ENVELOPE_INIT;
    assert_int_equal(queue_remove(&p->queue, &t), 0);
    queue_release(&t);
    assert_int_equal(queue_walk_next(&w, id), 0);
}

static const char FAILED[] = "From: Mail delivery <MAILER-DAEMON@mail.test>\n"
                             "To: <me@example.org>\n"
                             "Subject: Your message could not be delivered\n"
                             "Date: Tue, 14 Nov 2023 22:13:20 +0000\n"
                             "Message-ID: <60A24181E4000P0N1R0@mail.test>\n"
                             "Auto-Submitted: auto-replied\n"
                             "MIME-Version: 1.0\n"
                             "Content-Type: multipart/report; report-type=delivery-status;\n"
                             "\tboundary=\"60A24181E4000P0N1R0\"\n"
                             "\n"
                             "This is a report in the form of RFC 3464.\n"
                             "\n"
                             "--60A24181E4000P0N1R0\n"
                             "Content-Type: text/plain; charset=us-ascii\n"
                             "Content-Transfer-Encoding: 7bit\n"
                             "Content-Description: What happened\n"
                             "\n"
                             "Your message \"Three pigs\" of Tue, 14 Nov 2023 19:26:40 +0000\n"
                             "could not be delivered to:\n"
                             "\n"
                             "  a@example.net\n"
                             "    mx.example.net answered:\n"
                             "    550 5.1.1 No such ?user\n"
                             "    There is no such address there. Please check the spelling of the address.\n"
                             "\n"
                             "  bob\n"
                             "    452 4.2.2 The mailbox is full\n"
                             "    The mailbox is full. Please try again later, or tell the recipient in another way.\n"
                             "\n"
                             "Nobody will try again. What you sent, or its beginning, is attached.\n"
                             "\n"
                             "This message was written by the mail server mail.test.\n"
                             "\n"
                             "--60A24181E4000P0N1R0\n"
                             "Content-Type: message/delivery-status\n"
                             "Content-Transfer-Encoding: 7bit\n"
                             "\n"
                             "Reporting-MTA: dns; mail.test\n"
                             "Original-Envelope-Id: a=b\n"
                             "Arrival-Date: Tue, 14 Nov 2023 19:26:40 +0000\n"
                             "\n"
                             "Original-Recipient: rfc822; a+x@example.net\n"
                             "Final-Recipient: rfc822; a@example.net\n"
                             "Action: failed\n"
                             "Status: 5.1.1\n"
                             "Remote-MTA: dns; mx.example.net\n"
                             "Diagnostic-Code: smtp; 550 5.1.1 No such ?user\n"
                             "Last-Attempt-Date: Tue, 14 Nov 2023 22:13:20 +0000\n"
                             "\n"
                             "Final-Recipient: rfc822; bob@mail.test\n"
                             "Action: failed\n"
                             "Status: 4.2.2\n"
                             "Diagnostic-Code: x-pennypost; 452 4.2.2 The mailbox is full\n"
                             "\n"
                             "--60A24181E4000P0N1R0\n"
                             "Content-Type: message/rfc822\n"
                             "Content-Transfer-Encoding: 7bit\n"
                             "\n"
                             "Received: from x\n"
                             "\tby y\n"
                             "Subject: Three\tpigs\n"
                             "X: 1\n"
                             "\n"
                             "The body.\n"
                             "\n"
                             "--60A24181E4000P0N1R0--\n";

static void test_failed(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    struct queue_recipient *q;

    begin(p, "me@example.org", MESSAGE);
    assert_int_equal(queue_envelope_set(&p->entry.envelope.envid, STR("a+3Db")), 0);
    q = add(p, "a@example.net", QUEUE_FAILED, QUEUE_NOTIFY_FAILURE, "550 5.1.1 No such \xfcuser");
    assert_int_equal(queue_envelope_set(&q->host, STR("mx.example.net")), 0);
    assert_int_equal(queue_envelope_set(&q->orcpt, STR("rfc822;a+2Bx@example.net")), 0);
    q->last_attempt = 1700000000;
    (void)add(p, "c@example.net", QUEUE_DELIVERED, 0, NULL);
    (void)add(p, "d@example.net", QUEUE_FAILED, QUEUE_NOTIFY_NEVER, "550 5.1.1 No");
    (void)add(p, "e@example.net", QUEUE_FAILED, QUEUE_NOTIFY_DELAY, "550 5.1.1 No");
    (void)add(p, "f@example.net", QUEUE_DEFERRED, 0, "450 4.2.0 Later");
    (void)add(p, "bob", QUEUE_FAILED, 0, "452 4.2.2 The mailbox is full");
    assert_int_equal(report(p), 1);
    take_only(p, &text, &e);
    assert_string_equal(buf_cstr(&text), FAILED);
    assert_string_equal(e.sender, "");
    assert_int_equal(e.count, 1);
    assert_string_equal(e.recipients[0].address, "me@example.org");
    assert_int_equal(e.recipients[0].notify, QUEUE_NOTIFY_NEVER);
    /* Told once. */
    assert_false(p->entry.envelope.recipients[4].is_reported);
    assert_int_equal(report(p), 0);
}

static void test_success(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);

    begin(p, "me@example.org", MESSAGE);
    p->entry.envelope.ret = QUEUE_RET_FULL;
    (void)add(p, "a@example.net", QUEUE_DELIVERED, QUEUE_NOTIFY_SUCCESS, "250 2.1.5 Fine");
    (void)add(p, "b@example.net", QUEUE_RELAYED, QUEUE_NOTIFY_SUCCESS, NULL);
    (void)add(p, "c@example.net", QUEUE_EXPANDED, QUEUE_NOTIFY_SUCCESS, NULL);
    add(p, "d@example.net", QUEUE_RELAYED, QUEUE_NOTIFY_SUCCESS, NULL)->is_reported = true;
    assert_int_equal(report(p), 1);
    take_only(p, &text, &e);
    assert_true(str_find(buf_str(&text), STR("Action: delivered\nStatus: 2.0.0\n")) > 0);
    assert_true(str_find(buf_str(&text), STR("Action: relayed\n")) > 0);
    assert_true(str_find(buf_str(&text), STR("Action: expanded\n")) > 0);
    assert_true(str_find(buf_str(&text), STR("d@example.net")) < 0);
    /* RFC 3461 6.2: no failure, so the header only. */
    assert_true(str_find(buf_str(&text), STR("text/rfc822-headers")) > 0);
    assert_true(str_find(buf_str(&text), STR("The body.")) < 0);
}

static void test_delayed(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    struct report_counts counts;

    begin(p, "me@example.org", MESSAGE);
    (void)add(p, "a@example.net", QUEUE_DEFERRED, 0, "450 4.7.1 Greylisted");
    (void)add(p, "b@example.net", QUEUE_DEFERRED, QUEUE_NOTIFY_FAILURE, NULL);
    assert_int_equal(queue_report_delay(&p->queue, &p->clock, "mail.test", &p->entry, 1700400000, &counts), 0);
    assert_int_equal(counts.queued, 1);
    take_only(p, &text, &e);
    assert_true(str_find(buf_str(&text), STR("Subject: Your message is late\n")) > 0);
    assert_true(str_find(buf_str(&text), STR("Action: delayed\nStatus: 4.7.1\n")) > 0);
    assert_true(str_find(buf_str(&text), STR("Will-Retry-Until: Sun, 19 Nov 2023 13:20:00 +0000\n")) > 0);
    assert_true(str_find(buf_str(&text), STR("b@example.net")) < 0);
}

/* RFC 5321 6.1: no bounce of a bounce; postmaster hears of it, and if he cannot, nobody does. */
static void test_null_sender(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    struct report_counts counts;

    begin(p, "", MESSAGE);
    (void)add(p, "a@example.net", QUEUE_FAILED, 0, "550 5.1.1 No");
    (void)add(p, "b@example.net", QUEUE_DELIVERED, QUEUE_NOTIFY_SUCCESS, NULL);
    assert_int_equal(report(p), 1);
    take_only(p, &text, &e);
    assert_string_equal(e.recipients[0].address, "postmaster@mail.test");
    assert_true(str_find(buf_str(&text), STR("Subject: Undeliverable report\n")) > 0);

    begin(p, "", MESSAGE);
    (void)add(p, "postmaster@mail.test", QUEUE_FAILED, 0, "550 5.1.1 No");
    assert_int_equal(queue_report(&p->queue, &p->clock, "mail.test", &p->entry, &counts), 0);
    assert_int_equal(counts.queued, 0);
    assert_int_equal(counts.dropped, 1);
}

/* RFC 6533: a report that has UTF-8 addresses. */
static void test_utf8(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    struct queue_recipient *q;

    begin(p, "ich@\xc3\xa4.example", "Subject: \xc3\xa4\n\n\xc3\xa4\n");
    p->entry.envelope.body = QUEUE_BODY_8BITMIME;
    q = add(p, "du@\xc3\xbc.example", QUEUE_FAILED, 0, "550 5.6.7 No");
    assert_int_equal(queue_envelope_set(&q->orcpt, STR("utf-8;d\\x{E4}\\x{5C}\\x{1F416}@x.example")), 0);
    assert_int_equal(report(p), 1);
    take_only(p, &text, &e);
    assert_true(e.is_utf8);
    assert_int_equal(e.body, QUEUE_BODY_8BITMIME);
    assert_true(str_find(buf_str(&text), STR("report-type=global-delivery-status")) > 0);
    assert_true(str_find(buf_str(&text), STR("Content-Type: message/global-delivery-status\n")) > 0);
    assert_true(str_find(buf_str(&text), STR("Final-Recipient: utf-8; du@\xc3\xbc.example\n")) > 0);
    assert_true(str_find(buf_str(&text), STR("Content-Type: message/global\n")) > 0);
    /* RFC 2045 6.4: a multipart is labelled as the worst of its parts; RFC 6533 4.1: addresses are written out. */
    assert_true(str_find(buf_str(&text), STR("Content-Transfer-Encoding: 8bit\n\nThis is a report")) > 0);
    assert_true(str_find(buf_str(&text), STR("Original-Recipient: utf-8; d\xc3\xa4\\\xf0\x9f\x90\x96@x.example\n")) >
                0);
}

/* The same address in a report that is ASCII otherwise. */
static void test_utf8_original(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    struct queue_recipient *q;

    begin(p, "me@example.org", MESSAGE);
    q = add(p, "a@example.net", QUEUE_FAILED, 0, "550 5.1.1 No");
    assert_int_equal(queue_envelope_set(&q->orcpt, STR("utf-8;d\\x{E4}@x.example")), 0);
    assert_int_equal(report(p), 1);
    take_only(p, &text, &e);
    assert_true(str_find(buf_str(&text), STR("Original-Recipient: utf-8; d\\x{E4}@x.example\n")) > 0);
    assert_true(str_find(buf_str(&text), STR("report-type=delivery-status;")) > 0);
}

/* RFC 3461 6.3 (d): what an alias adds for the next hop (5.2.1 (d)) is no ORCPT that the sender gave. */
static void test_alias_original(void **state)
{
    struct place *p = *state;
    struct queue_origin from = {.address = "bob@mail.test", .places = 1};

    for (unsigned i = 0; i < 3; i++) { /* without one, at an alias of an alias, with one */
        _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
        _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
        struct queue_recipient *q;

        begin(p, "me@example.org", MESSAGE);
        q = add(p, "bob@gmail.example", QUEUE_FAILED, 0, "550 5.1.1 No");
        from.orcpt = i == 0 ? NULL : "rfc822;bob@mail.test";
        from.is_orcpt_ours = i == 1;
        assert_int_equal(queue_inherit(q, &from), 0);
        assert_string_equal(q->orcpt, "rfc822;bob@mail.test");
        assert_int_equal(q->is_orcpt_ours, i < 2);
        assert_int_equal(report(p), 1);
        take_only(p, &text, &e);
        assert_int_equal(str_find(buf_str(&text), STR("Original-Recipient: rfc822; bob@mail.test\n")) > 0, i == 2);
        assert_int_equal(str_find(buf_str(&text), STR("Original-Recipient")) > 0, i == 2);
    }
}

static void test_senders(void **state)
{
    struct place *p = *state;

    begin(p, "me@example.org", MESSAGE);
    (void)add(p, "a@example.net", QUEUE_FAILED, 0, "550 5.1.1 No");
    for (unsigned i = 0; i < 2; i++) {
        struct queue_recipient *q = add(p, "b@example.net", QUEUE_FAILED, 0, "550 5.1.1 No");

        assert_int_equal(queue_envelope_set(&q->sender, STR("owner-list@mail.test")), 0);
    }
    assert_int_equal(report(p), 2);
}

/* RFC 3461 5.2.7.1 (b): what a list sends out has neither the envelope id nor the wishes of what came to it. */
static void test_list(void **state)
{
    struct place *p = *state;

    for (unsigned i = 0; i < 2; i++) { /* by itself; beside a recipient of the same sender */
        _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
        _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);

        begin(p, "me@example.org", MESSAGE);
        assert_int_equal(queue_envelope_set(&p->entry.envelope.envid, STR("x1")), 0);
        p->entry.envelope.ret = QUEUE_RET_HDRS;
        add(p, "member@example.net", QUEUE_FAILED, 0, "550 5.1.1 No")->is_list = true;
        if (i == 1)
            (void)add(p, "other@example.net", QUEUE_FAILED, 0, "550 5.1.1 No");
        assert_int_equal(report(p), 1 + i);
        if (i == 1)
            continue;
        take_only(p, &text, &e);
        assert_true(str_find(buf_str(&text), STR("Original-Envelope-Id")) < 0);
        assert_true(str_find(buf_str(&text), STR("message/rfc822")) > 0);
    }
}

/* However big the message is and whatever it was asked for, a report stays small. */
static void test_bounded(void **state)
{
    struct place *p = *state;
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(32u << 20);

    begin(p, "me@example.org", "Subject: x\nLong: ");
    for (unsigned i = 0; i < 70; i++) {
        static char block[65536];

        memset(block, 'a', sizeof(block));
        assert_int_equal(queue_file_write(p->entry.file, (struct str){block, sizeof(block)}), 0);
    }
    p->entry.envelope.ret = QUEUE_RET_FULL;
    for (unsigned i = 0; i < REPORT_RECIPIENTS; i++) {
        char reply[5000] = "550 ";

        memset(reply + 4, 'x', sizeof(reply) - 5);
        reply[sizeof(reply) - 1] = '\0';
        (void)add(p, "a@example.net", QUEUE_FAILED, 0, reply);
    }
    assert_int_equal(report(p), 1);
    take_only(p, &text, &e);
    assert_true(text.len < 2u << 20);
    for (struct str rest = buf_str(&text), line; str_cut(&rest, '\n', &line);)
        assert_true(line.len <= 998);
    begin(p, "me@example.org", MESSAGE);
    for (unsigned i = 0; i < REPORT_RECIPIENTS + 1; i++)
        (void)add(p, "a@example.net", QUEUE_FAILED, 0, NULL);
    assert_int_equal(report(p), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_failed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_success, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_delayed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_null_sender, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_utf8, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_utf8_original, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_alias_original, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_senders, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounded, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
