/* shared/route: the addresses of SRS. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/base/macros.h"
#include "shared/route/srs.h"

#define DAY 86400

/* Not keyed, but every byte of the text counts. */
static int hash(void *context, struct str text, char out[static SRS_HASH])
{
    uint64_t h = *(const uint64_t *)context;

    for (size_t i = 0; i < text.len; i++)
        h = (h ^ (unsigned char)text.ptr[i]) * UINT64_C(1099511628211);
    for (size_t i = 0; i < SRS_HASH; i++)
        out[i] = "abcdefghijklmnopqrstuvwxyz234567"[h >> (5 * i + 20) & 31];
    return 0;
}

static uint64_t KEY = 7;

static struct srs at(int64_t day, const char *domain)
{
    return (struct srs){.domain = str_from(domain), .now = day * DAY, .hash = hash, .context = &KEY};
}

static void forward(const struct srs *s, struct str local, const char *domain, struct buf *out)
{
    buf_clear(out);
    assert_int_equal(srs_forward(s, local, str_from(domain), out), 0);
}

static struct str local_of(const struct buf *address)
{
    struct str all = buf_str(address), local;

    (void)str_cut(&all, '@', &local);
    return local;
}

static void check_back(const struct srs *s, struct str local, int error, const char *want)
{
    _cleanup_buf_ struct buf out = BUF_INIT(SRS_ADDRESS);

    assert_int_equal(srs_reverse(s, local, &out), error);
    assert_string_equal(buf_cstr(&out), want);
}

static void test_there_and_back(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(SRS_ADDRESS);
    struct srs s = at(20000, "us.example");

    forward(&s, STR("alice"), "example.org", &out);
    assert_true(str_starts(buf_str(&out), STR("SRS0=")) &&
                str_ends(buf_str(&out), STR("=example.org=alice@us.example")));
    check_back(&s, local_of(&out), 0, "alice@example.org");
    forward(&s, STR("a=b=c+d"), "example.org", &out);
    check_back(&s, local_of(&out), 0, "a=b=c+d@example.org");
    for (size_t i = 0; i < out.len; i++) /* mail systems that fold case */
        out.data[i] = ascii_lower(out.data[i]);
    check_back(&s, local_of(&out), 0, "a=b=c+d@example.org");
    assert_int_equal(srs_forward(&s, STR(""), STR("x"), &out), -EINVAL);
    assert_int_equal(srs_forward(&s, STR("a b"), STR("x"), &out), -EINVAL);
}

static void test_chain(void **state)
{
    _cleanup_buf_ struct buf first = BUF_INIT(SRS_ADDRESS), second = BUF_INIT(SRS_ADDRESS),
                             third = BUF_INIT(SRS_ADDRESS), back = BUF_INIT(SRS_ADDRESS);
    struct srs a = at(20000, "one.example"), b = at(20001, "two.example"), c = at(20002, "three.example");

    forward(&a, STR("alice"), "example.org", &first);
    forward(&b, local_of(&first), "one.example", &second);
    assert_true(str_starts(buf_str(&second), STR("SRS1=")));
    forward(&c, local_of(&second), "two.example", &third);
    assert_true(str_starts(buf_str(&third), STR("SRS1=")));
    assert_true(third.len < second.len + 4);                       /* it does not grow with the chain */
    assert_int_equal(srs_reverse(&c, local_of(&third), &back), 0); /* straight to the first */
    assert_string_equal(buf_cstr(&back), buf_cstr(&first));
    buf_clear(&back);
    assert_int_equal(srs_reverse(&a, local_of(&first), &back), 0);
    assert_string_equal(buf_cstr(&back), "alice@example.org");
    /* Another scheme's separator behind SRS0 is kept. */
    forward(&b, STR("SRS0+abcd=xx=d.example=bob"), "one.example", &second);
    check_back(&b, local_of(&second), 0, "SRS0+abcd=xx=d.example=bob@one.example");
}

static void test_refused(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(SRS_ADDRESS);
    struct srs s = at(20000, "us.example"), later;

    forward(&s, STR("alice"), "example.org", &out);
    for (int64_t day = 0; day <= SRS_DAYS; day++) {
        later = at(20000 + day, "us.example");
        check_back(&later, local_of(&out), 0, "alice@example.org");
    }
    later = at(20000 + SRS_DAYS + 1, "us.example");
    check_back(&later, local_of(&out), -EKEYEXPIRED, "");
    later = at(19999, "us.example"); /* from tomorrow */
    check_back(&later, local_of(&out), -EKEYEXPIRED, "");
    for (size_t i = 5; i < local_of(&out).len; i++) { /* every letter counts */
        _cleanup_free_ char *copy = str_dup(local_of(&out));

        assert_non_null(copy);
        copy[i] = copy[i] == 'x' ? 'y' : 'x';
        assert_int_not_equal(srs_reverse(&s, str_from(copy), &out), 0);
    }
    KEY = 8;
    check_back(&s, local_of(&out), -EKEYREJECTED, "");
    KEY = 7;
    static const char *const wrong[] = {"SRS0",        "SRS0=",        "SRS0=a",    "SRS0=a=b=c",
                                        "SRS0=a=b==d", "SRS1=a=b",     "SRS1=a==x", "SRS1=a=b=c=d",
                                        "SRS1=a=b==",  "SRS2=a=b=c=d", "alice",     "SRS0=a=b=c="};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        int e = srs_reverse(&s, str_from(wrong[i]), &out);

        assert_true(e == -EINVAL || e == -EKEYREJECTED);
    }
    assert_true(srs_is_one(STR("srs0=x")) && srs_is_one(STR("SRS1+x")) && !srs_is_one(STR("SRS0")) &&
                !srs_is_one(STR("srs0x=")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_chain),
                                       cmocka_unit_test(test_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
