#include "shared/crypto/digest.h"

#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

static const EVP_MD *algorithm(enum digest d)
{
    return d == DIGEST_MD5 ? EVP_md5() : d == DIGEST_SHA1 ? EVP_sha1() : EVP_sha256();
}

/* OpenSSL wants a pointer even for nothing. */
static const unsigned char *bytes(struct str s)
{
    return (const unsigned char *)(s.ptr ? s.ptr : "");
}

size_t digest_size(enum digest d)
{
    return (size_t)EVP_MD_get_size(algorithm(d));
}

int digest_of_two(enum digest d, struct str first, struct str second, uint8_t out[static DIGEST_MAX])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool is_done = ctx && EVP_DigestInit_ex(ctx, algorithm(d), NULL) == 1 &&
                   EVP_DigestUpdate(ctx, bytes(first), first.len) == 1 &&
                   EVP_DigestUpdate(ctx, bytes(second), second.len) == 1 && EVP_DigestFinal_ex(ctx, out, NULL) == 1;

    EVP_MD_CTX_free(ctx);
    return is_done ? 0 : -ENOMEM;
}

int digest_of(enum digest d, struct str data, uint8_t out[static DIGEST_MAX])
{
    return digest_of_two(d, data, STR(""), out);
}

int digest_hmac(enum digest d, struct str key, struct str data, uint8_t out[static DIGEST_MAX])
{
    if (key.len > INT_MAX)
        return -EINVAL;
    return HMAC(algorithm(d), bytes(key), (int)key.len, bytes(data), data.len, out, NULL) ? 0 : -ENOMEM;
}

int digest_pbkdf2(enum digest d, struct str password, struct str salt, uint32_t iterations,
                  uint8_t out[static DIGEST_MAX])
{
    if (password.len > INT_MAX || salt.len > INT_MAX || iterations == 0 || iterations > INT_MAX)
        return -EINVAL;
    return PKCS5_PBKDF2_HMAC((const char *)bytes(password), (int)password.len, bytes(salt), (int)salt.len,
                             (int)iterations, algorithm(d), (int)digest_size(d), out) == 1
               ? 0
               : -ENOMEM;
}
