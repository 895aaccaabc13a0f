/* An envelope with something of every kind in it, and its text: for the tests of shared/queue. */
#ifndef TESTS_QUEUE_SAMPLE_H
#define TESTS_QUEUE_SAMPLE_H

#include "shared/queue/envelope.h"

static inline void fill(struct queue_envelope *e)
{
    struct queue_recipient *r;

    e->created = 1795900000;
    assert_int_equal(queue_envelope_set(&e->sender, STR("a%b@example.org")), 0);
    assert_int_equal(queue_envelope_set(&e->envid, STR("QQ+3D")), 0);
    e->body = QUEUE_BODY_8BITMIME;
    e->ret = QUEUE_RET_HDRS;
    e->is_utf8 = e->requires_tls = e->is_held = true;
    e->priority = -4;
    e->by = QUEUE_BY_NOTIFY;
    e->by_deadline = 1795900600;
    e->is_by_told = true;
    e->attempts = 3;
    assert_int_equal(queue_envelope_add(e, STR("bob@example.net"), &r), 0);
    r->state = QUEUE_DEFERRED;
    r->notify = QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_FAILURE;
    assert_int_equal(queue_envelope_set(&r->reply, STR("450 4.2.0 two\nlines")), 0);
    assert_int_equal(queue_envelope_set(&r->host, STR("mx.example.net [192.0.2.1]")), 0);
    assert_int_equal(queue_envelope_set(&r->sender, STR("")), 0);
    assert_int_equal(queue_envelope_add(e, STR("carol"), &r), 0);
    r->kind = QUEUE_COMMAND;
    assert_int_equal(queue_envelope_set(&r->user, STR("carol")), 0);
    assert_int_equal(queue_envelope_set(&r->argument, STR("cat >/dev/null; echo 100%")), 0);
}

static const char TEXT[] = "pennypost-envelope 1\n"
                           "created 1795900000\n"
                           "sender a%25b@example.org\n"
                           "body 8bitmime\n"
                           "smtputf8 yes\n"
                           "ret hdrs\n"
                           "envid QQ+3D\n"
                           "requiretls yes\n"
                           "priority -4\n"
                           "deliverby notify\n"
                           "deliverby-deadline 1795900600\n"
                           "held yes\n"
                           "deliverby-told yes\n"
                           "attempts 3\n"
                           "to bob@example.net\n"
                           "to-sender \n"
                           "to-notify 6\n"
                           "to-state deferred\n"
                           "to-reply 450 4.2.0 two%0Alines\n"
                           "to-host mx.example.net [192.0.2.1]\n"
                           "to carol\n"
                           "to-kind command\n"
                           "to-user carol\n"
                           "to-argument cat >/dev/null; echo 100%25\n"
                           "end\n";

#endif
