/* shared/crypto: canonical forms (the examples of RFC 6376 3.4.5), keys, signatures (the key of RFC 8463 A.2). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "shared/base/macros.h"
#include "shared/crypto/dkim.h"
#include "shared/crypto/dkim_canon.h"

static int collect(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

static void check_body(struct str text, const char *want)
{
    for (size_t piece = 1; piece <= text.len + 1; piece++) {
        _cleanup_buf_ struct buf out = BUF_INIT(4096);
        struct dkim_canon c;

        dkim_canon_init(&c, collect, &out);
        for (size_t at = 0; at < text.len; at += piece)
            assert_int_equal(dkim_canon_feed(&c, str_sub(text, at, piece)), 0);
        assert_int_equal(dkim_canon_end(&c), 0);
        assert_string_equal(buf_cstr(&out), want);
    }
}

static void test_body(void **state)
{
    check_body(STR(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n"); /* RFC 6376 3.4.5 */
    check_body(STR(" C \nD \t E\n\n\n"), " C\r\nD E\r\n");
    check_body(STR(""), "");
    check_body(STR("\n\n\n"), "");
    check_body(STR(" \n\t\n"), "");
    check_body(STR("\n\nx"), "\r\n\r\nx\r\n");
    check_body(STR("x\n \n\ty\n"), "x\r\n\r\n y\r\n");
    check_body(STR("a\rb\r"), "a\rb\r\r\n");
    check_body(STR("a \r b"), "a \r b\r\n");
    check_body(STR("a\r\r\nb"), "a\r\r\nb\r\n");
}

static void check_field(struct str field, const char *want)
{
    _cleanup_buf_ struct buf out = BUF_INIT(4096);

    assert_int_equal(dkim_canon_field(field, &out), 0);
    assert_string_equal(buf_cstr(&out), want);
}

static void test_field(void **state)
{
    struct str header = STR("A: X\r\nB : Y\t\r\n\tZ  \r\n\r\nC: body"), field;

    assert_true(dkim_canon_next(&header, &field));
    check_field(field, "a:X"); /* RFC 6376 3.4.5 */
    assert_true(dkim_canon_next(&header, &field));
    check_field(field, "b:Y Z");
    assert_false(dkim_canon_next(&header, &field));
    check_field(STR("Subject: \n \n x \n"), "subject:x");
    check_field(STR("Subject:"), "subject:");
    header = STR("A: b\n c\nD");
    assert_true(dkim_canon_next(&header, &field) && str_eq(field, STR("A: b\n c\n")));
    assert_true(dkim_canon_next(&header, &field) && str_eq(field, STR("D")));
    assert_false(dkim_canon_next(&header, &field));
}

static void test_body_hash(void **state)
{
    static const char *const want = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="; /* bh= of RFC 8463 A.3 */
    struct dkim_body *b = NULL;
    uint8_t hash[32];
    char text[64];

    assert_int_equal(dkim_body_new(&b), 0);
    assert_int_equal(dkim_body_feed(b, STR("Hi.\n\nWe lost the game.  Are you hungry yet?\n\nJoe.\n\n")), 0);
    assert_int_equal(dkim_body_end(b, hash), 0);
    dkim_body_free(b);
    (void)EVP_EncodeBlock((unsigned char *)text, hash, 32);
    assert_string_equal(text, want);
}

static void test_keys(void **state)
{
    _cleanup_buf_ struct buf pem = BUF_INIT(DKIM_KEY_MAX), record = BUF_INIT(4096);
    struct dkim_key *k = NULL;

    /* RFC 8463 A.2: the secret key in PKCS #8, and its public one */
    assert_int_equal(dkim_key_parse(STR("-----BEGIN PRIVATE KEY-----\n"
                                        "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
                                        "-----END PRIVATE KEY-----\n"),
                                    &k),
                     0);
    assert_int_equal(dkim_key_type(k), DKIM_ED25519);
    assert_int_equal(dkim_key_record(k, &record), 0);
    assert_string_equal(buf_cstr(&record), "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    dkim_key_free(k);
    k = NULL;
    assert_int_equal(dkim_key_make(DKIM_RSA, 2048, &pem), 0);
    assert_int_equal(dkim_key_parse(buf_str(&pem), &k), 0);
    assert_int_equal(dkim_key_type(k), DKIM_RSA);
    buf_clear(&record);
    assert_int_equal(dkim_key_record(k, &record), 0);
    assert_true(str_starts(buf_str(&record), STR("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A")));
    dkim_key_free(k);
    k = NULL;
    assert_int_equal(dkim_key_parse(STR(""), &k), -EBADMSG);
    assert_int_equal(dkim_key_parse(STR("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n"), &k),
                     -EBADMSG);
    assert_int_equal(dkim_key_make(DKIM_RSA, 512, &pem), -ENOMEM);
    assert_null(k);
}

static void test_sign(void **state)
{
    /* The message of RFC 8463 A.3; Ed25519 is deterministic, so the same key gives the same field each time. */
    static const char header[] = "From: Joe SixPack <joe@football.example.com>\n"
                                 "To: Suzie Q <suzie@shopping.example.net>\n"
                                 "Subject: Is dinner ready?\n"
                                 "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\n"
                                 "Received: not signed\n"
                                 "Message-ID: <20030712040037.46341.5F8J@football.example.com>\n";
    struct dkim_wish w = {.domain = STR("football.example.com"), .selector = STR("brisbane"), .when = 1528637909};
    _cleanup_buf_ struct buf pem = BUF_INIT(DKIM_KEY_MAX), one = BUF_INIT(DKIM_FIELD_MAX),
                             two = BUF_INIT(DKIM_FIELD_MAX);
    uint8_t hash[32] = {1};
    struct dkim_key *k = NULL;

    assert_int_equal(dkim_key_make(DKIM_ED25519, 2048, &pem), 0);
    assert_int_equal(dkim_key_parse(buf_str(&pem), &k), 0);
    assert_int_equal(dkim_sign(&w, k, str_from(header), hash, &one), 0);
    assert_int_equal(dkim_sign(&w, k, str_from(header), hash, &two), 0);
    assert_string_equal(buf_cstr(&one), buf_cstr(&two));
    /* RFC 6376 5.4.2: what is there from below, then once more what nobody may add, also where it is not there. */
    assert_non_null(strstr(buf_cstr(&one), "\n\th=Message-ID:Date:Subject:To:From:Subject:Reply-To:Cc:MIME-Version:\n"
                                           "\tContent-Type:Content-Transfer-Encoding:Date:To:Message-ID:From;\n"));
    for (struct str rest = buf_str(&one), line; str_cut(&rest, '\n', &line);)
        assert_true(line.len <= 78);
    assert_int_equal(dkim_sign(&w, k, STR("To: x\n"), hash, &one), -EBADMSG);
    assert_string_equal(buf_cstr(&one), buf_cstr(&two));
    dkim_key_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body), cmocka_unit_test(test_field), cmocka_unit_test(test_body_hash),
        cmocka_unit_test(test_keys), cmocka_unit_test(test_sign),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
