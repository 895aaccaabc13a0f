/* shared/queue: which entries are meant, and how they are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "shared/queue/select.h"

static void test_pattern(void **state)
{
    assert_true(queue_pattern_matches("Bob@Example.org", "bob@example.ORG"));
    assert_true(queue_pattern_matches("example.org", "bob@example.org"));
    assert_true(queue_pattern_matches("@example.org", "bob@example.org"));
    assert_true(queue_pattern_matches("*@example.*", "bob@example.org"));
    assert_true(queue_pattern_matches("b?b@*", "bob@x"));
    assert_true(queue_pattern_matches("<>", ""));
    assert_false(queue_pattern_matches("example.org", "bob@sub.example.org"));
    assert_false(queue_pattern_matches("bob", "bob@example.org"));
    assert_false(queue_pattern_matches("<>", "bob@example.org"));
    assert_false(queue_pattern_matches("", "bob@example.org"));
}

static void fill(struct queue_envelope *e)
{
    struct queue_recipient *r;

    *e = QUEUE_ENVELOPE_INIT;
    e->created = 1000;
    assert_int_equal(queue_envelope_set(&e->sender, STR("alice@here")), 0);
    assert_int_equal(queue_envelope_set(&e->user, STR("alice")), 0);
    assert_int_equal(queue_envelope_add(e, STR("bob@there"), &r), 0);
    r->state = QUEUE_DEFERRED;
    r->next_attempt = 5000;
    assert_int_equal(queue_envelope_set(&r->reply, STR("450 4.2.0 \"later\"\x1b[2J\xff")), 0);
    assert_int_equal(queue_envelope_set(&r->host, STR("mx.there")), 0);
    assert_int_equal(queue_envelope_add(e, STR("done@there"), &r), 0);
    r->state = QUEUE_RELAYED;
    for (int i = 0; i < 3; i++)
        assert_int_equal(queue_envelope_add(e, STR("more@else"), &r), 0);
}

static void test_filter(void **state)
{
    _cleanup_queue_envelope_ struct queue_envelope e;

    fill(&e);
    assert_true(queue_filter_matches(&(struct queue_filter){0}, &e));
    assert_true(
        queue_filter_matches(&(struct queue_filter){.user = "alice", .sender = "here", .is_deferred = true}, &e));
    assert_true(queue_filter_matches(&(struct queue_filter){.recipient = "else"}, &e));
    assert_false(queue_filter_matches(&(struct queue_filter){.user = "bob"}, &e));
    assert_false(queue_filter_matches(&(struct queue_filter){.is_held = true}, &e));
    assert_false(queue_filter_matches(&(struct queue_filter){.recipient = "done@there"}, &e)); /* it has gone */
    assert_false(queue_filter_matches(&(struct queue_filter){.sender = "there"}, &e));
    free(steal_ptr(e.user)); /* nobody of this machine */
    assert_false(queue_filter_matches(&(struct queue_filter){.user = "alice"}, &e));
}

static void test_print(void **state)
{
    _cleanup_queue_envelope_ struct queue_envelope e;
    _cleanup_buf_ struct buf out = BUF_INIT(4096);

    fill(&e);
    assert_int_equal(queue_print_brief("ID1", 99, &e, 1300, 2, &out), 0);
    assert_string_equal(buf_cstr(&out),
                        "ID1  99 bytes, 5m old, from <alice@here>\n"
                        "    <bob@there> deferred, again in 61m: 450 4.2.0 \"later\"?[2J\xff (said mx.there)\n"
                        "    <more@else> pending\n    and 2 more\n");
    buf_clear(&out);
    assert_int_equal(queue_print_json("ID1", 99, &e, &out), 0);
    assert_non_null(strstr(buf_cstr(&out), "\"reply\":\"450 4.2.0 \\\"later\\\"\\u001b[2J\xef\xbf\xbd\""));
    assert_non_null(strstr(buf_cstr(&out), "\"state\":\"relayed\""));
    assert_int_equal(out.data[out.len - 1], '}');
}

static void test_list(void **state)
{
    _cleanup_queue_ struct queue q = QUEUE_INIT;
    _cleanup_queue_envelope_ struct queue_envelope e;
    _cleanup_buf_ struct buf out = BUF_INIT(4096);
    char folder[] = "/tmp/pennypost-queue-XXXXXX", command[128];
    struct clock clock = {.is_frozen = true, .epoch = 1300};
    FILE *message = tmpfile();
    size_t count, unreadable;

    fill(&e);
    assert_non_null(message);
    assert_true(fputs("Subject: x\n\nx\n", message) >= 0 && fflush(message) == 0);
    assert_non_null(mkdtemp(folder));
    assert_int_equal(queue_open(folder, &q), 0);
    assert_int_equal(queue_create(&q, &clock, fileno(message), &e, STR("ONE"), NULL), 0);
    assert_int_equal(queue_create(&q, &clock, fileno(message), &e, STR("TWO"), NULL), 0);
    assert_int_equal(queue_list(&q, &(struct queue_filter){.user = "alice"}, 1300, &out, &count, &unreadable), 0);
    assert_int_equal(count, 2);
    assert_int_equal(unreadable, 0);
    assert_non_null(strstr(buf_cstr(&out), "ONE  14 bytes, 5m old"));
    assert_int_equal(queue_list(&q, &(struct queue_filter){.user = "bob"}, 1300, &out, &count, &unreadable), 0);
    assert_int_equal(count, 0);
    (void)fclose(message);
    (void)snprintf(command, sizeof(command), "%s/new/ONE", folder);
    assert_int_equal(truncate(command, 20), 0); /* damaged */
    assert_int_equal(queue_list(&q, &(struct queue_filter){0}, 1300, &out, &count, &unreadable), 0);
    assert_int_equal(count, 1);
    assert_int_equal(unreadable, 1);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(command, sizeof(command), "%s/new/%s", folder, i ? "ONE" : "TWO");
        assert_int_equal(unlink(command), 0);
        (void)snprintf(command, sizeof(command), "%s/msg/%s", folder, i ? "ONE" : "TWO");
        assert_int_equal(unlink(command), 0);
    }
    queue_close(&q);
    q = QUEUE_INIT;
    for (const char *const *name = (const char *const[]){"new", "cur", "msg", "corrupt", ".", NULL}; *name; name++) {
        (void)snprintf(command, sizeof(command), "%s/%s", folder, strcmp(*name, ".") == 0 ? "" : *name);
        assert_int_equal(rmdir(command), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pattern), cmocka_unit_test(test_filter),
                                       cmocka_unit_test(test_print), cmocka_unit_test(test_list)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
