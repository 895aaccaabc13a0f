/*
 * The syntax of aliases(5), .forward and :include: files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>
#include <errno.h>

#include "shared/route/alias.h"
#include "shared/route/customers.h"
#include "shared/base/macros.h"

static const char ALIASES[] = "# comment: nobody\n"
                              "postmaster: root\n"
                              "Root:\talice,\n"
                              "  bob,\n"
                              "\tcarol\n"
                              "\n"
                              "\"quoted: name\": dave\n"
                              "list: :include:/etc/list\n"
                              "root: second\n"
                              "nocolon\n"
                              ": noname\n"
                              "owner-list: alice\r\n"
                              "last: \"|/usr/bin/prog -x \\\"a, b\\\"\", /var/mail/archive, \\bob, eve@example.com";

static void test_find(void **state)
{
    static const struct {
        const char *name, *list;
    } cases[] = {{"postmaster", "root"},
                 {"ROOT", "alice,\n  bob,\n\tcarol"},
                 {"quoted: name", "dave"},
                 {"list", ":include:/etc/list"},
                 {"owner-list", "alice"},
                 {"# comment", NULL},
                 {"nocolon", NULL},
                 {"", NULL},
                 {"bob", NULL}};
    struct str list;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        bool is_found = alias_find(str_from(ALIASES), str_from(cases[i].name), &list);

        if (is_found != (cases[i].list != NULL) || (is_found && !str_eq(str_trim(list), str_from(cases[i].list))))
            fail_msg("%s", cases[i].name);
    }
}

static void test_list(void **state)
{
    static const struct {
        enum alias_kind kind;
        const char *text;
    } want[] = {{ALIAS_COMMAND, "/usr/bin/prog -x \"a, b\""},
                {ALIAS_FILE, "/var/mail/archive"},
                {ALIAS_FINAL, "bob"},
                {ALIAS_ADDRESS, "eve@example.com"}};
    struct alias_item item;
    struct str list;

    assert_true(alias_find(str_from(ALIASES), STR("last"), &list));
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        assert_int_equal(alias_next(&list, &item), 0);
        assert_int_equal(item.kind, want[i].kind);
        assert_string_equal(item.text, want[i].text);
    }
    assert_int_equal(alias_next(&list, &item), -ENODATA);
}

static void test_forward_file(void **state)
{
    struct str list =
        STR("# my mail\n\n\\alice\n  , \n\"|procmail -a x\", bob # not a comment\n#end\n|vacation alice\n");
    struct alias_item item;

    assert_int_equal(alias_next(&list, &item), 0);
    assert_int_equal(item.kind, ALIAS_FINAL);
    assert_string_equal(item.text, "alice");
    assert_int_equal(alias_next(&list, &item), 0);
    assert_string_equal(item.text, "procmail -a x");
    assert_int_equal(alias_next(&list, &item), 0);
    assert_string_equal(item.text, "bob # not a comment");
    assert_int_equal(alias_next(&list, &item), 0);
    assert_int_equal(item.kind, ALIAS_COMMAND);
    assert_string_equal(item.text, "vacation alice");
    assert_int_equal(alias_next(&list, &item), -ENODATA);
}

static void test_bad_items(void **state)
{
    static const char *const bad[] = {"\"\"", "|", "\\", ":include:", "\"|\""};
    struct alias_item item;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct str list = str_from(bad[i]);

        assert_int_equal(alias_next(&list, &item), -EINVAL);
        assert_int_equal(alias_next(&list, &item), -ENODATA);
    }
}

static void test_long_item(void **state)
{
    static char text[ALIAS_ITEM + 10];
    struct alias_item item;
    struct str list = {text, sizeof(text)};

    memset(text, 'a', sizeof(text));
    text[ALIAS_ITEM + 2] = ',';
    assert_int_equal(alias_next(&list, &item), -EINVAL);
    assert_int_equal(alias_next(&list, &item), 0);
    assert_string_equal(item.text, "aaaaaaa");
    list = (struct str){text, ALIAS_ITEM - 1};
    assert_int_equal(alias_next(&list, &item), 0);
    assert_int_equal(strlen(item.text), ALIAS_ITEM - 1);
}

/* The file of those who fetch their mail: users, domains, and what is none of both. */
static void test_customers(void **state)
{
    const struct str text =
        STR("# user domains\n\nalice  home.example\tcottage.example  \n#bob x.example\nbob barn.example\n"
            "lonely\nalice garden.example");
    _cleanup_buf_ struct buf out = BUF_INIT(100);

    (void)state;
    assert_true(customers_have(text, STR("COTTAGE.example")) && customers_have(text, STR("garden.example")));
    assert_false(customers_have(text, STR("x.example")) || customers_have(text, STR("domains")) ||
                 customers_have(text, STR("alice")) || customers_have(text, STR("")) ||
                 customers_have(text, STR("sub.home.example")));
    assert_true(customers_owns(text, STR("alice"), STR("Garden.Example")));
    assert_false(customers_owns(text, STR("bob"), STR("home.example")) ||
                 customers_owns(text, STR("Alice"), STR("home.example")) ||
                 customers_owns(text, STR(""), STR("x.example")));
    assert_int_equal(customers_domains(text, STR("alice"), &out), 0);
    assert_string_equal(buf_cstr(&out), "home.example,cottage.example,garden.example");
    buf_clear(&out);
    assert_int_equal(customers_domains(text, STR("lonely"), &out), 0);
    assert_int_equal(out.len, 0);
    assert_false(customers_have(STR(""), STR("x")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),      cmocka_unit_test(test_list),      cmocka_unit_test(test_forward_file),
        cmocka_unit_test(test_bad_items), cmocka_unit_test(test_long_item), cmocka_unit_test(test_customers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
