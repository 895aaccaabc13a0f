/*
 * handlers/auth/hash_once.c: crypt_r() as ever, but the same arguments straight after one another are computed once.
 */
#include <crypt.h>
#include <setjmp.h> /* cmocka */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SALT  "$5$rounds=1000$salt$"
#define OTHER "$5$rounds=1000$tlas$"

char *__real_crypt_rn(const char *phrase, const char *setting, void *data, int size);
char *__wrap_crypt_rn(const char *phrase, const char *setting, void *data, int size);

static unsigned computed;

char *__wrap_crypt_rn(const char *phrase, const char *setting, void *data, int size)
{
    computed++;
    return __real_crypt_rn(phrase, setting, data, size);
}

/* As pam_unix makes it: nothing but `initialized` is set. */
static struct crypt_data *fresh(void)
{
    struct crypt_data *data = malloc(sizeof(*data));

    assert_non_null(data);
    memset(data, 0xa5, sizeof(*data));
    data->initialized = 0;
    computed = 0;
    return data;
}

/* Is the answer libcrypt's own? */
static void check(const char *phrase, const char *setting, struct crypt_data *data)
{
    static struct crypt_data own;
    const char *hash = crypt_r(phrase, setting, data);
    const char *wanted = __real_crypt_rn(phrase, setting, &own, (int)sizeof(own));

    assert_ptr_equal(hash, data->output);
    if (wanted)
        assert_string_equal(hash, wanted);
    else
        assert_true(hash[0] == '*' && (!setting || strcmp(hash, setting) != 0));
}

static bool holds(const struct crypt_data *data, const char *phrase)
{
    return memmem(data, sizeof(*data), phrase, strlen(phrase)) != NULL;
}

static void twice(void **state)
{
    struct crypt_data *data = fresh();

    (void)state;
    check("sesame open", SALT, data);
    check("sesame open", SALT, data);
    assert_int_equal(computed, 1);
    assert_false(holds(data, "sesame open")); /* a password does not stay */
    check("sesame open", SALT, data);
    assert_int_equal(computed, 2);
    free(data);
}

static void others(void **state)
{
    static const char *const pairs[][2] = {{"a", SALT}, {"b", SALT}, {"b", OTHER},     {"", OTHER}, {"a", SALT},
                                           {"a", "$"},  {"a", "$"},  {"a", "*0"},      {"a", SALT}, {"a ", SALT},
                                           {"A ", SALT}, {"", ""},   {"a", "$y$j9T$x"}};
    struct crypt_data *data = fresh();

    (void)state;
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
        check(pairs[i][0], pairs[i][1], data);
        assert_int_equal(computed, i + 1);
    }
    free(data);
}

/* Where the computing failed the next one does not meet an older result. */
static void failure_between(void **state)
{
    struct crypt_data *data = fresh();

    (void)state;
    check("a", SALT, data);
    check("a", "no setting", data);
    check("a", SALT, data);
    assert_int_equal(computed, 3);
    check("a", NULL, data);
    check(NULL, SALT, data);
    assert_int_equal(computed, 5);
    free(data);
}

/* crypt(3) lets callers keep their arguments in the crypt_data. */
static void within(void **state)
{
    struct crypt_data *data = fresh();

    (void)state;
    memset(data, 0, sizeof(*data));
    memcpy(data->input, "first", sizeof("first"));
    memcpy(data->setting, SALT, sizeof(SALT));
    check(data->input, data->setting, data);
    memcpy(data->input, "second", sizeof("second"));
    check(data->input, data->setting, data);
    check("second", data->setting, data);
    check(data->input, SALT, data);
    assert_int_equal(computed, 4);
    free(data);
}

/* Whoever wipes the result does not get it again. */
static void wiped_between(void **state)
{
    struct crypt_data *data = fresh();

    (void)state;
    check("a", SALT, data);
    memset(data->output, 0, strlen(data->output));
    check("a", SALT, data);
    assert_int_equal(computed, 2);
    free(data);
}

static void long_phrases(void **state)
{
    struct crypt_data *data = fresh();
    char phrase[CRYPT_MAX_PASSPHRASE_SIZE + 2];

    (void)state;
    memset(phrase, 'x', sizeof(phrase));
    phrase[sizeof(phrase) - 1] = '\0'; /* too long for libcrypt */
    check(phrase, SALT, data);
    check(phrase, SALT, data);
    phrase[CRYPT_MAX_PASSPHRASE_SIZE - 1] = '\0'; /* the longest */
    check(phrase, SALT, data);
    check(phrase, SALT, data);
    assert_int_equal(computed, 3);
    phrase[CRYPT_MAX_PASSPHRASE_SIZE - 2] = '\0';
    check(phrase, SALT, data);
    assert_int_equal(computed, 4);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(twice), cmocka_unit_test(others),
                                       cmocka_unit_test(failure_between), cmocka_unit_test(within),
                                       cmocka_unit_test(wiped_between), cmocka_unit_test(long_phrases)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
