/*
 * handlers/auth/numeric.c: for an address in digits libc is not to look at the machine's own; everything else is asked
 * as it was.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <setjmp.h> /* cmocka */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

void *__real_dlsym(void *handle, const char *symbol);
void *__wrap_dlsym(void *handle, const char *symbol);

static const struct addrinfo *asked_with; /* the hints that libc got */
static int asked_flags;

static int observed(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
    const union {
        void *symbol;
        lookup *function;
    } libc = {__real_dlsym(RTLD_NEXT, "getaddrinfo")};

    asked_with = hints;
    asked_flags = hints ? hints->ai_flags : AI_V4MAPPED | AI_ADDRCONFIG; /* what none means, getaddrinfo(3) */
    return libc.function(node, service, hints, res);
}

void *__wrap_dlsym(void *handle, const char *symbol)
{
    const union {
        lookup *function;
        void *symbol;
    } ours = {observed};

    return strcmp(symbol, "getaddrinfo") == 0 ? ours.symbol : __real_dlsym(handle, symbol);
}

static const struct addrinfo AUDIT = {.ai_flags = AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM}; /* libaudit's */

static void check(const char *node, int family, const struct addrinfo *hints)
{
    struct addrinfo *list = NULL;
    char text[NI_MAXHOST];

    assert_int_equal(getaddrinfo(node, NULL, hints, &list), 0);
    assert_int_equal(asked_flags & (AI_ADDRCONFIG | AI_NUMERICHOST), AI_NUMERICHOST);
    assert_int_equal(list->ai_family, family);
    assert_int_equal(getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST), 0);
    assert_string_equal(text, node);
    freeaddrinfo(list);
}

static void digits(void **state)
{
    (void)state;
    check("192.0.2.1", AF_INET, &AUDIT);
    check("192.0.2.1", AF_INET, NULL);
    check("2001:db8::1", AF_INET6, &AUDIT);
    check("2001:db8::1", AF_INET6, NULL);
}

/* What the caller wants besides stays as it is. */
static void hints_count(void **state)
{
    const struct addrinfo v6_only = {.ai_family = AF_INET6}, mapped = {.ai_family = AF_INET6, .ai_flags = AI_V4MAPPED};
    struct addrinfo *list = NULL;

    (void)state;
    assert_int_not_equal(getaddrinfo("192.0.2.1", NULL, &v6_only, &list), 0);
    assert_null(list);
    assert_int_equal(getaddrinfo("192.0.2.1", "25", &mapped, &list), 0);
    assert_int_equal(list->ai_family, AF_INET6);
    assert_int_equal(((const struct sockaddr_in6 *)(const void *)list->ai_addr)->sin6_port, htons(25));
    freeaddrinfo(list);
}

static void names(void **state)
{
    static const char *const no_digits[] = {"192.0.2.256", "192.0.2.1 ", "::1%", ""};
    struct addrinfo *list = NULL;

    (void)state;
    assert_int_equal(getaddrinfo("localhost", NULL, NULL, &list), 0);
    assert_null(asked_with);
    freeaddrinfo(list);
    assert_int_equal(getaddrinfo(NULL, "25", &AUDIT, &list), 0);
    assert_ptr_equal(asked_with, &AUDIT);
    freeaddrinfo(list);
    for (size_t i = 0; i < sizeof(no_digits) / sizeof(*no_digits); i++) {
        const struct addrinfo no_lookup = {.ai_flags = AI_NUMERICHOST};

        list = NULL;
        assert_int_not_equal(getaddrinfo(no_digits[i], NULL, &no_lookup, &list), 0);
        assert_ptr_equal(asked_with, &no_lookup);
        assert_null(list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(digits), cmocka_unit_test(hints_count),
                                       cmocka_unit_test(names)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
