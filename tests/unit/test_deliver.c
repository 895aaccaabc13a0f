/*
 * What deliver finds in front of a message that another delivery program hands to it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>

#include "handlers/deliver/prologue.h"

static const struct {
    const char *front;
    const char *sender; /* NULL: not told */
    const char *fields; /* that stay */
    const char *rest;
    bool is_known;
} CASES[] = {
    {"Subject: x\n\nbody\n", NULL, "", "Subject: x\n\nbody\n", false},
    {"", NULL, "", "", false},
    {"\nbody\n", NULL, "", "\nbody\n", false},
    {"From a@b Sun Nov 29 12:00:00 2026\nSubject: x\n", "a@b", "", "Subject: x\n", false},
    {"From MAILER-DAEMON Sun Nov 29 12:00:00 2026\nSubject: x\n", "", "", "Subject: x\n", false},
    {"Return-Path: <a@b>\nSubject: x\n", "a@b", "", "Subject: x\n", false},
    {"Return-Path: <>\r\nSubject: x\r\n", "", "", "Subject: x\r\n", false},
    {"return-path:\n <a@b>\nSubject: x\n", "a@b", "", "Subject: x\n", false},
    /* The From_ line is of who called us; a Return-Path behind it is dropped all the same. */
    {"From a@b Sun Nov 29 12:00:00 2026\nReturn-Path: <c@d>\nDelivered-To: me@here\nReceived: y\n", "a@b",
     "Delivered-To: me@here\n", "Received: y\n", true},
    {"X-Original-To: you@here\nDelivered-To: you@here\nReturn-Path: <>\nSubject: x\n", "",
     "X-Original-To: you@here\nDelivered-To: you@here\n", "Subject: x\n", false},
    {"Delivered-To: ME@HERE\nDelivered-To: other@here\nx: y\n", NULL,
     "Delivered-To: ME@HERE\nDelivered-To: other@here\n", "x: y\n", true},
    /* Only on top: what is further down is the sender's. */
    {"Subject: x\nReturn-Path: <a@b>\nDelivered-To: me@here\n", NULL, "",
     "Subject: x\nReturn-Path: <a@b>\nDelivered-To: me@here\n", false},
    {"Subject: x\n\nFrom a@b Sun Nov 29 12:00:00 2026\n", NULL, "", "Subject: x\n\nFrom a@b Sun Nov 29 12:00:00 2026\n",
     false},
    {"Return-Path: <a@b>\nFrom c@d Sun Nov 29 12:00:00 2026\n", "a@b", "", "From c@d Sun Nov 29 12:00:00 2026\n",
     false},
    /* A field that is not whole in the front stays as it is. */
    {"Return-Path: <a@b>\nDelivered-To: me@he", "a@b", "", "Delivered-To: me@he", false},
    {"From a@b", NULL, "", "From a@b", false},
    {"From \nSubject: x\n", NULL, "", "From \nSubject: x\n", false},
};

static void test_prologue(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(CASES); i++) {
        struct prologue p = PROLOGUE_INIT;
        struct str front = str_from(CASES[i].front);

        assert_int_equal(prologue_read(&p, front, STR("me@here")), 0);
        assert_true(str_eq(str_sub(front, p.size, front.len), str_from(CASES[i].rest)));
        assert_string_equal(buf_cstr(&p.fields), CASES[i].fields);
        assert_int_equal(p.is_known, CASES[i].is_known);
        assert_int_equal(p.sender.ptr != NULL, CASES[i].sender != NULL);
        if (CASES[i].sender)
            assert_true(str_eq(p.sender, str_from(CASES[i].sender)));
        prologue_finish(&p);
    }
}

/* Cut anywhere, it takes no more than whole fields. */
static void test_cut(void **state)
{
    static const char text[] = "From a@b Sun Nov 29 12:00:00 2026\nReturn-Path: <c@d>\nX-Original-To: you@here\n"
                               "Delivered-To: me@here\nSubject: x\n\nbody\n";

    (void)state;
    for (size_t len = 0; len < sizeof(text); len++) {
        struct prologue p = PROLOGUE_INIT;

        assert_int_equal(prologue_read(&p, (struct str){text, len}, STR("me@here")), 0);
        assert_true(p.size <= len && (p.size == 0 || text[p.size - 1] == '\n'));
        prologue_finish(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prologue),
        cmocka_unit_test(test_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
