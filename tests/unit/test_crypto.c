/*
 * Hashes and SCRAM against the examples of the RFCs, and the file of device passwords.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/devices.h"
#include "shared/base/macros.h"
#include "shared/crypto/scram.h"
#include "shared/login/base64.h"

static void assert_hex(const uint8_t *data, size_t len, const char *hex)
{
    char text[2 * DIGEST_MAX + 1];

    for (size_t i = 0; i < len; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", data[i]);
    assert_string_equal(text, hex);
}

static void test_digests(void **state)
{
    uint8_t out[DIGEST_MAX];

    /* RFC 1321 A.5, FIPS 180 "abc" */
    assert_int_equal(digest_of(DIGEST_MD5, STR("abc"), out), 0);
    assert_hex(out, digest_size(DIGEST_MD5), "900150983cd24fb0d6963f7d28e17f72");
    assert_int_equal(digest_of(DIGEST_SHA1, STR("abc"), out), 0);
    assert_hex(out, digest_size(DIGEST_SHA1), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_int_equal(digest_of(DIGEST_SHA256, STR("abc"), out), 0);
    assert_hex(out, digest_size(DIGEST_SHA256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(digest_of_two(DIGEST_SHA256, STR("a"), STR("bc"), out), 0);
    assert_hex(out, digest_size(DIGEST_SHA256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(digest_of(DIGEST_MD5, STR_NULL, out), 0);
    assert_hex(out, digest_size(DIGEST_MD5), "d41d8cd98f00b204e9800998ecf8427e");
    /* RFC 1939 7: APOP */
    assert_int_equal(digest_of_two(DIGEST_MD5, STR("<1896.697170952@dbc.mtview.ca.us>"), STR("tanstaaf"), out), 0);
    assert_hex(out, digest_size(DIGEST_MD5), "c4c9334bac560ecc979e58001b3e22fb");
    /* RFC 2195 3: CRAM-MD5 */
    assert_int_equal(
        digest_hmac(DIGEST_MD5, STR("tanstaaftanstaaf"), STR("<1896.697170952@postoffice.reston.mci.net>"), out), 0);
    assert_hex(out, digest_size(DIGEST_MD5), "b913a602c7eda7a495b4e6e7334d3890");
    /* RFC 6070: PBKDF2-HMAC-SHA1, 4096 rounds */
    assert_int_equal(digest_pbkdf2(DIGEST_SHA1, STR("password"), STR("salt"), 4096, out), 0);
    assert_hex(out, digest_size(DIGEST_SHA1), "4b007901b765489abead49d926f721d065a429c1");
    assert_int_equal(digest_pbkdf2(DIGEST_SHA1, STR("password"), STR("salt"), 0, out), -EINVAL);
}

struct example {
    enum digest digest;
    struct str salt, message, proof, signature;
};

/* The exchanges of RFC 5802 5 and RFC 7677 3, user "user", password "pencil". */
static const struct example examples[] = {
    {DIGEST_SHA1, STR("QSXCR+Q6sek8bf92"),
     STR("n=user,r=fyko+d2lbbFgONRv9qkxdawL,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,"
         "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j"),
     STR("v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="), STR("rmF9pqV8S7suAoZWja4dJRkFsKQ=")},
    {DIGEST_SHA256, STR("W22ZaJ0SNY7soEsUEjb6gQ=="),
     STR("n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
         "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
     STR("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), STR("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")},
};

static void test_scram(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
        const struct example *e = &examples[i];
        _cleanup_buf_ struct buf salt = BUF_INIT(64);
        _cleanup_buf_ struct buf proof = BUF_INIT(64);
        _cleanup_buf_ struct buf signature = BUF_INIT(64);
        uint8_t out[DIGEST_MAX];
        struct scram_keys keys;

        assert_int_equal(base64_decode(e->salt, &salt), 0);
        assert_int_equal(base64_decode(e->proof, &proof), 0);
        assert_int_equal(scram_derive(e->digest, STR("pencil"), buf_str(&salt), 4096, &keys), 0);
        assert_int_equal(scram_check(e->digest, &keys, e->message, buf_str(&proof)), 0);
        assert_int_equal(scram_sign(e->digest, &keys, e->message, out), 0);
        assert_int_equal(base64_encode((struct str){(char *)out, digest_size(e->digest)}, &signature), 0);
        assert_true(str_eq(buf_str(&signature), e->signature));

        proof.data[0] ^= 1;
        assert_int_equal(scram_check(e->digest, &keys, e->message, buf_str(&proof)), -EACCES);
        proof.data[0] ^= 1;
        assert_int_equal(scram_check(e->digest, &keys, STR("another message"), buf_str(&proof)), -EACCES);
        assert_int_equal(scram_check(e->digest, &keys, e->message, str_sub(buf_str(&proof), 1, 99)), -EACCES);
        assert_int_equal(scram_check(e->digest, &keys, e->message, STR("")), -EACCES);
    }
}

static char path[64];

static int make_path(void **state)
{
    int fd;

    (void)snprintf(path, sizeof(path), "devices-test-XXXXXX");
    fd = mkstemp(path);
    return fd < 0 || close(fd) < 0 || unlink(path) < 0 ? -1 : 0;
}

static int remove_path(void **state)
{
    char lock[80];

    (void)snprintf(lock, sizeof(lock), "%s.lock", path);
    (void)unlink(path);
    (void)unlink(lock);
    return 0;
}

static void put_row(struct buf *out, const char *user, uint32_t id, const char *protocols, uint64_t expires,
                    struct str cram)
{
    struct device d = {.user = str_from(user),
                       .id = id,
                       .name = STR("a b=c"),
                       .created = 5,
                       .expires = expires,
                       .used = STR("----------"),
                       .protocols = str_from(protocols),
                       .sha256 = {4096, STR("c2FsdA=="), STR("c3RvcmVk"), STR("c2VydmVy")},
                       .cram = cram};

    assert_int_equal(devices_print(&d, out), 0);
}

static void test_devices(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 16);
    struct devices d;
    struct device row;
    bool has_scram, has_cram;

    assert_int_equal(devices_load(path, &d), -ENOENT);
    devices_offer(path, STR("imap"), 0, &has_scram, &has_cram);
    assert_false(has_scram || has_cram);
    assert_int_equal(devices_print_header(STR("a2V5"), &text), 0);
    put_row(&text, "alice", 1, "", 0, STR_NULL);
    put_row(&text, "alice", 2, "pop3,smtp", 0, STR("Y3JhbQ=="));
    put_row(&text, "bob", 3, "", 100, STR_NULL);
    assert_int_equal(buf_add_str(&text, STR("garbage\n\n\tid=7\nalice\tid=0\nlast line, cut o")), 0);
    assert_int_equal(devices_replace(path, buf_str(&text)), 0);

    assert_int_equal(devices_load(path, &d), 0);
    assert_true(str_eq(d.key, STR("a2V5")));
    assert_int_equal(devices_next(&d, &row), 1);
    assert_true(str_eq(row.user, STR("alice")) && row.id == 1 && str_eq(row.name, STR("a b=c")) && row.created == 5);
    assert_true(row.sha256.iterations == 4096 && str_eq(row.sha256.server, STR("c2VydmVy")) &&
                row.sha1.iterations == 0);
    assert_int_equal(devices_next(&d, &row), 1);
    assert_int_equal(devices_next(&d, &row), 1);
    assert_int_equal(devices_next(&d, &row), 0);

    devices_rewind(&d);
    assert_int_equal(devices_next_for(&d, STR("alice"), STR("pop3"), 50, &row), 1);
    assert_int_equal(row.id, 1);
    assert_int_equal(devices_next_for(&d, STR("alice"), STR("pop3"), 50, &row), 1);
    assert_int_equal(row.id, 2);
    assert_int_equal(devices_next_for(&d, STR("alice"), STR("pop3"), 50, &row), 0);
    devices_rewind(&d);
    assert_int_equal(devices_next_for(&d, STR("alice"), STR("imap"), 50, &row), 1);
    assert_int_equal(devices_next_for(&d, STR("alice"), STR("imap"), 50, &row), 0);
    devices_rewind(&d);
    assert_int_equal(devices_next_for(&d, STR("bob"), STR("imap"), 99, &row), 1);
    devices_rewind(&d);
    assert_int_equal(devices_next_for(&d, STR("bob"), STR("imap"), 100, &row), 0);
    devices_finish(&d);

    devices_offer(path, STR("imap"), 50, &has_scram, &has_cram);
    assert_true(has_scram && !has_cram);
    devices_offer(path, STR("pop3"), 50, &has_scram, &has_cram);
    assert_true(has_scram && has_cram);
}

static void test_devices_touch(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 16);
    struct devices d;
    struct device row;

    assert_int_equal(devices_print_header(STR("a2V5"), &text), 0);
    put_row(&text, "alice", 1, "", 0, STR_NULL);
    put_row(&text, "alice", 2, "", 0, STR_NULL);
    assert_int_equal(devices_replace(path, buf_str(&text)), 0);
    assert_int_equal(devices_touch(path, 2, "2026-11-22"), 0);
    assert_int_equal(devices_touch(path, 3, "2026-11-23"), 0); /* revoked meanwhile */
    assert_int_equal(devices_load(path, &d), 0);
    assert_int_equal(d.text.len, text.len);
    assert_int_equal(devices_next(&d, &row), 1);
    assert_true(str_eq(row.used, STR("----------")));
    assert_int_equal(devices_next(&d, &row), 1);
    assert_true(row.id == 2 && str_eq(row.used, STR("2026-11-22")));
    devices_finish(&d);
}

static void test_devices_refused(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    struct device bad = {.user = STR("a\tb"), .id = 1, .used = STR("----------")};
    struct devices d;

    assert_int_equal(devices_print(&bad, &text), -EINVAL);
    bad.user = STR("a");
    bad.name = STR("two\nlines");
    assert_int_equal(devices_print(&bad, &text), -EINVAL);
    assert_int_equal(text.len, 0);
    assert_int_equal(devices_replace(path, STR("something else\n")), 0);
    assert_int_equal(devices_load(path, &d), -EBADMSG);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(devices_load(path, &d), -EPERM);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(devices_load(path, &d), -ELOOP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_scram),
        cmocka_unit_test_setup_teardown(test_devices, make_path, remove_path),
        cmocka_unit_test_setup_teardown(test_devices_touch, make_path, remove_path),
        cmocka_unit_test_setup_teardown(test_devices_refused, make_path, remove_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
