/* shared/queue: envelopes as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "shared/base/macros.h"
#include "tests/unit/queue_sample.h"

static void test_format(void **state)
{
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT, back = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(4096), again = BUF_INIT(4096);

    fill(&e);
    assert_int_equal(queue_envelope_format(&e, &text), 0);
    assert_string_equal(buf_cstr(&text), TEXT);
    assert_int_equal(queue_envelope_parse(buf_str(&text), &back), 0);
    assert_int_equal(back.count, 2);
    assert_string_equal(back.sender, "a%b@example.org");
    assert_string_equal(back.recipients[0].reply, "450 4.2.0 two\nlines");
    assert_string_equal(queue_recipient_sender(&back, &back.recipients[0]), "");
    assert_string_equal(queue_recipient_sender(&back, &back.recipients[1]), "a%b@example.org");
    assert_int_equal(back.priority, -4);
    assert_int_equal(queue_envelope_format(&back, &again), 0);
    assert_string_equal(buf_cstr(&again), TEXT);
}

/* Cut anywhere it is damaged, never something else; the byte that is missing last is a line end. */
static void test_truncated(void **state)
{
    for (size_t len = 0; len < sizeof(TEXT) - 1; len++) {
        struct queue_envelope e = QUEUE_ENVELOPE_INIT;
        int r = queue_envelope_parse((struct str){TEXT, len}, &e);

        assert_int_equal(r, -EBADMSG);
        assert_null(e.recipients);
    }
}

static void test_damaged(void **state)
{
    static const struct {
        const char *text;
        int error;
    } cases[] = {
        {"", -EBADMSG},
        {"pennypost-envelope 2\nend\n", -EPROTONOSUPPORT},
        {"pennypost-envelope 1\nsender \nend\n", -EBADMSG},                           /* no recipient */
        {"pennypost-envelope 1\nto a\nend\n", -EBADMSG},                              /* no sender */
        {"pennypost-envelope 1\nsender \nto \nend\n", -EBADMSG},                      /* nobody */
        {"pennypost-envelope 1\nsender \nto a\nend\n", 0},                            /* the least */
        {"pennypost-envelope 1\nsender \nto a\nend\nx", -EBADMSG},                    /* more */
        {"pennypost-envelope 1\nsender \nfuture thing\nto a\nto-future x\nend\n", 0}, /* a newer version's */
        {"pennypost-envelope 1\nsender \nto-state failed\nto a\nend\n", -EBADMSG},    /* of nobody */
        {"pennypost-envelope 1\nsender \nto a\nto-state lost\nend\n", -EBADMSG},      /* no such state */
        {"pennypost-envelope 1\nsender \nto a\nto-kind mailbox\nend\n", -EBADMSG},    /* whose? */
        {"pennypost-envelope 1\nsender a%2\nto a\nend\n", -EBADMSG},                  /* half an escape */
        {"pennypost-envelope 1\nsender a%00\nto a\nend\n", -EBADMSG},                 /* NUL */
        {"pennypost-envelope 1\nsender %41%\nto a\nend\n", -EBADMSG},
        {"pennypost-envelope 1\ncreated x\nsender \nto a\nend\n", -EBADMSG},
        {"pennypost-envelope 1\ncreated -1\nsender \nto a\nend\n", -EBADMSG},
        {"pennypost-envelope 1\ncreated 99999999999999999999\nsender \nto a\nend\n", -EBADMSG},
        {"pennypost-envelope 1\nheld maybe\nsender \nto a\nend\n", -EBADMSG},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;

        assert_int_equal(queue_envelope_parse(str_from(cases[i].text), &e), cases[i].error);
    }
}

static void test_limits(void **state)
{
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    struct queue_recipient *r;

    for (size_t i = 0; i < QUEUE_RECIPIENTS; i++)
        assert_int_equal(queue_envelope_add(&e, STR("a"), &r), 0);
    assert_int_equal(queue_envelope_add(&e, STR("a"), &r), -E2BIG);
    assert_false(queue_envelope_is_done(&e));
    for (size_t i = 0; i < e.count; i++)
        e.recipients[i].state = i % 2 ? QUEUE_FAILED : QUEUE_RELAYED;
    assert_true(queue_envelope_is_done(&e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
