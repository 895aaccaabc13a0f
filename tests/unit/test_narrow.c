/*
 * The provider that stands for OpenSSL's own: only what it should have is there, and a configuration that chooses its
 * providers itself is left alone. Each case is a process, since OpenSSL is initialised once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/crypto/narrow.h"

enum fact { HAS_DEFAULT = 1, HAS_OURS = 2, HAS_GCM = 4, HAS_CAMELLIA = 8, HAS_RANDOM = 16, HAS_CONTEXT = 32 };

static int facts_here(void)
{
    unsigned char some[8];
    SSL_CTX *ctx;
    int facts = 0;

    if (narrow_init(OPENSSL_INIT_LOAD_CONFIG) < 0)
        return 0xff;
    ctx = SSL_CTX_new(TLS_server_method());
    if (ctx)
        facts |= HAS_CONTEXT;
    if (RAND_bytes(some, sizeof(some)) == 1)
        facts |= HAS_RANDOM;
    if (EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL))
        facts |= HAS_GCM;
    if (EVP_CIPHER_fetch(NULL, "CAMELLIA-128-CBC", NULL))
        facts |= HAS_CAMELLIA;
    if (OSSL_PROVIDER_available(NULL, "pennypost") == 1)
        facts |= HAS_OURS;
    if (OSSL_PROVIDER_available(NULL, "default") == 1)
        facts |= HAS_DEFAULT;
    SSL_CTX_free(ctx);
    return facts;
}

static int facts_with(const char *configuration)
{
    char path[] = "/tmp/pennypost-narrow.XXXXXX";
    int fd = mkstemp(path), status = 0;
    pid_t pid;

    assert_true(fd >= 0);
    assert_true(dprintf(fd, "%s", configuration) >= 0);
    (void)close(fd);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setenv("OPENSSL_CONF", path, 1);
        _exit(facts_here());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)unlink(path);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_only_what_is_needed(void **state)
{
    int expected = HAS_OURS | HAS_GCM | HAS_RANDOM | HAS_CONTEXT;

    assert_int_equal(facts_with(""), expected);
    /* As Debian's is: a section for the default provider that does not say that it is active. */
    assert_int_equal(facts_with("openssl_conf = i\n[i]\nproviders = p\n[p]\ndefault = d\n[d]\n# activate = 1\n"),
                     expected);
}

static void test_chosen_providers_stay(void **state)
{
    static const char *const configurations[] = {
        "openssl_conf = i\n[i]\nproviders = p\n[p]\ndefault = d\n[d]\nactivate = 1\n",
        "openssl_conf = i\n[i]\nproviders = p\n[p]\ndefault = d\nbase = d\n[d]\nactivate = 1\n",
    };

    for (size_t i = 0; i < ARRAY_SIZE(configurations); i++)
        assert_int_equal(facts_with(configurations[i]),
                         HAS_DEFAULT | HAS_GCM | HAS_CAMELLIA | HAS_RANDOM | HAS_CONTEXT);
}

/* A certified module that has been chosen gets nothing of the default provider beside it; "base" has no ciphers. */
static void test_nothing_is_added(void **state)
{
    assert_int_equal(facts_with("openssl_conf = i\n[i]\nproviders = p\n[p]\nbase = d\n[d]\nactivate = 1\n"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_is_needed),
        cmocka_unit_test(test_chosen_providers_stay),
        cmocka_unit_test(test_nothing_is_added),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
