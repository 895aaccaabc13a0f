#include "shared/crypto/narrow.h"

#include <errno.h>
#include <openssl/core_dispatch.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "shared/base/macros.h"

#define KEPT_MAX 96 /* algorithms, and an empty one behind each kind */

/* The first names of the algorithms, as provider-default(7) lists them. */
static const char *const needed[OSSL_OP__HIGHEST + 1] = {
    /* Records, session tickets, the random generator. */
    [OSSL_OP_CIPHER] = "AES-128-GCM:AES-256-GCM:ChaCha20-Poly1305:AES-128-CCM:AES-256-CBC:AES-256-CTR:AES-256-ECB",
    [OSSL_OP_DIGEST] = "SHA1:SHA2-224:SHA2-256:SHA2-384:SHA2-512:SHA3-256:SHA3-384:SHA3-512:SHAKE-256",
    [OSSL_OP_MAC] = "HMAC",
    [OSSL_OP_KDF] = "HKDF:TLS13-KDF:TLS1-PRF",
    [OSSL_OP_RAND] = "CTR-DRBG:SEED-SRC",
    [OSSL_OP_KEYMGMT] = "RSA:RSA-PSS:EC:X25519:X448:ED25519:ED448:HMAC",
    [OSSL_OP_KEYEXCH] = "ECDH:X25519:X448",
    [OSSL_OP_SIGNATURE] = "RSA:ECDSA:ED25519:ED448:HMAC",
    [OSSL_OP_DECODER] = "RSA:RSA-PSS:EC:ED25519:ED448:DER",
};

/* What the provider answers with. OpenSSL hands a provider nothing of its own but the context that the default
 * provider's functions want, so this cannot be anywhere else. */
static struct {
    OSSL_PROVIDER *whole;
    OSSL_ALGORITHM kept[KEPT_MAX];
    const OSSL_ALGORITHM *kinds[OSSL_OP__HIGHEST + 1]; /* by operation */
} narrow;

static bool is_among(const char *first, const char *names)
{
    size_t len = strcspn(first, ":");

    for (const char *p = names; *p; p += strspn(p, ":")) {
        size_t n = strcspn(p, ":");

        if (n == len && strncasecmp(p, first, n) == 0)
            return true;
        p += n;
    }
    return false;
}

/* false: there is nothing by these names, or too much. */
static bool keep(int operation, size_t *count)
{
    int no_cache = 0;
    const OSSL_ALGORITHM *a = OSSL_PROVIDER_query_operation(narrow.whole, operation, &no_cache);
    size_t first = *count;

    for (; a && a->algorithm_names && *count < KEPT_MAX; a++)
        if (is_among(a->algorithm_names, needed[operation]))
            narrow.kept[(*count)++] = *a;
    if (no_cache || *count == first || *count == KEPT_MAX)
        return false;
    narrow.kept[(*count)++] = (OSSL_ALGORITHM){0};
    narrow.kinds[operation] = &narrow.kept[first];
    return true;
}

static const OSSL_ALGORITHM *query(void *context, int operation, int *ret_no_cache)
{
    *ret_no_cache = 0;
    return operation > 0 && operation <= OSSL_OP__HIGHEST ? narrow.kinds[operation] : NULL;
}

/* Groups of TLS; OpenSSL leaves out those whose algorithms are not there. */
static int capabilities(void *context, const char *capability, OSSL_CALLBACK *callback, void *data)
{
    return OSSL_PROVIDER_get_capabilities(narrow.whole, capability, callback, data);
}

static int start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **ret_out,
                 void **ret_context)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities},
        {0, NULL},
    };

    *ret_out = functions;
    *ret_context = OSSL_PROVIDER_get0_provider_ctx(narrow.whole);
    return *ret_context != NULL;
}

static int count_active(OSSL_PROVIDER *provider, void *data)
{
    ++*(size_t *)data;
    return 1;
}

/* The default provider is loaded, which keeps OpenSSL from doing so itself, and made inactive again: what it does goes
 * on, but only the other one is asked. */
static bool replace_default(void)
{
    OSSL_PROVIDER *ours = NULL;
    size_t active = 0, count = 0;
    bool is_kept = true;

    narrow.whole = OSSL_PROVIDER_load(NULL, "default");
    if (!narrow.whole)
        return false;
    (void)OSSL_PROVIDER_do_all(NULL, count_active, &active);
    for (int i = 1; i <= OSSL_OP__HIGHEST; i++)
        is_kept = is_kept && (!needed[i] || keep(i, &count));
    if (active == 1 && is_kept && OSSL_PROVIDER_add_builtin(NULL, "pennypost", start) == 1)
        ours = OSSL_PROVIDER_load(NULL, "pennypost");
    (void)OSSL_PROVIDER_unload(narrow.whole);
    if (!ours)
        return active > 1 || OSSL_PROVIDER_load(NULL, "default");
    /* Still there: the configuration has chosen it. */
    if (OSSL_PROVIDER_available(NULL, "default") == 1)
        return OSSL_PROVIDER_unload(ours) == 1;
    return true;
}

int narrow_init(uint64_t options)
{
    /* Names of hashes and ciphers by the hundred are not wanted either, but for the hashes of certificates. */
    const EVP_MD *const hashes[] = {EVP_sha1(),   EVP_sha224(),   EVP_sha256(),   EVP_sha384(),
                                    EVP_sha512(), EVP_sha3_256(), EVP_sha3_384(), EVP_sha3_512()};

    if (OPENSSL_init_crypto(OPENSSL_INIT_NO_ADD_ALL_CIPHERS | OPENSSL_INIT_NO_ADD_ALL_DIGESTS, NULL) != 1 ||
        OPENSSL_init_ssl(options, NULL) != 1)
        return -ENOMEM;
    for (size_t i = 0; i < ARRAY_SIZE(hashes); i++)
        if (EVP_add_digest(hashes[i]) != 1)
            return -ENOMEM;
    return replace_default() ? 0 : -ENOMEM;
}
