/*
 * shared/login: base64 and PROXY headers.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"
#include "shared/login/base64.h"
#include "shared/login/proxy.h"

/* ---- base64 ---- */

static void base64_goes_both_ways(void **state)
{
    static const struct {
        const char *plain, *text;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"}}; /* RFC 4648 10 */

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(64);

        assert_int_equal(base64_encode(str_from(cases[i].plain), &out), 0);
        assert_string_equal(buf_cstr(&out), cases[i].text);
        buf_clear(&out);
        assert_int_equal(base64_decode(str_from(cases[i].text), &out), 0);
        assert_string_equal(buf_cstr(&out), cases[i].plain);
    }
}

static void base64_is_strict(void **state)
{
    static const char *const wrong[] = {"Z",        "Zg",     "Zg=",   "Zg===", "====", "Zh==", "Zm9=",
                                        "Zg==Zg==", "Zm9v\n", "Zm 9v", "Zm9v=", "=m9v", "Z===", "Zm-_"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(64);

        assert_int_equal(buf_add_byte(&out, 'x'), 0);
        if (base64_decode(str_from(wrong[i]), &out) != -EINVAL)
            fail_msg("%s", wrong[i]);
        assert_string_equal(buf_cstr(&out), "x");
    }
}

/* ---- PROXY ---- */

#define V2 "\r\n\r\n\0\r\nQUIT\n"

static const struct {
    struct str bytes;
    int result; /* 0: the whole; else */
    const char *client, *local;
    uint16_t client_port;
} HEADERS[] = {
    {STR("PROXY TCP4 192.0.2.1 192.0.2.2 1234 143\r\n"), 0, "192.0.2.1", "192.0.2.2", 1234},
    {STR("PROXY TCP6 2001:db8::1 ::1 65535 143\r\n"), 0, "2001:db8::1", "::1", 65535},
    {STR("PROXY UNKNOWN\r\n"), 0, "", "", 0},
    {STR("PROXY UNKNOWN what ever\r\n"), 0, "", "", 0},
    {STR("PROXY TCP4 192.0.2.1 192.0.2.2 1234 4294967296\r\n"), -EBADMSG, "", "", 0},
    {STR("PROXY TCP4  192.0.2.2 1234 143\r\n"), -EBADMSG, "", "", 0},
    {STR("PROXY TCP4 192.0.2.1  192.0.2.2 1234 143\r\n"), -EBADMSG, "", "", 0},
    {STR("PROXY TCP4 192.0.2.1 192.0.2.2 1234 143 5\r\n"), -EBADMSG, "", "", 0},
    {STR("PROXY UDP4 192.0.2.1 192.0.2.2 1234 143\r\n"), -EBADMSG, "", "", 0},
    {STR("a LOGIN bob secret\r\n"), -EBADMSG, "", "", 0},
    {STR(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x04\xd2\0\x8f"), 0, "192.0.2.1", "192.0.2.2", 1234},
    {STR(V2 "\x21\x11\0\x0e\xc0\0\2\1\xc0\0\2\2\x04\xd2\0\x8fxy"), 0, "192.0.2.1", "192.0.2.2", 1234},
    {STR(V2 "\x20\0\0\0"), 0, "", "", 0},
    {STR(V2 "\x21\0\0\0"), 0, "", "", 0},
    {STR(V2 "\x11\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x04\xd2\0\x8f"), -EBADMSG, "", "", 0},
    {STR(V2 "\x22\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x04\xd2\0\x8f"), -EBADMSG, "", "", 0},
    {STR(V2 "\x21\x12\0\x0c\xc0\0\2\1\xc0\0\2\2\x04\xd2\0\x8f"), -EBADMSG, "", "", 0},
    {STR(V2 "\x21\x11\0\x0b\xc0\0\2\1\xc0\0\2\2\x04\xd2\0"), -EBADMSG, "", "", 0},
    {STR(V2 "\x21\x11\xff\xff"), -EBADMSG, "", "", 0},
};

/* Every header, whole and cut at every byte: before the end it is "more" or refused, never accepted. */
static void proxy_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(HEADERS); i++) {
        struct proxy_header h = {0};
        int wanted = HEADERS[i].result < 0 ? HEADERS[i].result : (int)HEADERS[i].bytes.len;

        if (proxy_parse(HEADERS[i].bytes, &h) != wanted)
            fail_msg("header %zu", i);
        assert_string_equal(h.client, HEADERS[i].client);
        assert_string_equal(h.local, HEADERS[i].local);
        assert_int_equal(h.client_port, HEADERS[i].client_port);
        for (size_t n = 0; n < HEADERS[i].bytes.len; n++) {
            int r = proxy_parse(str_sub(HEADERS[i].bytes, 0, n), &h);

            assert_true(r == 0 || (r == -EBADMSG && wanted < 0));
        }
    }
}

static void proxy_takes_nothing_behind_the_header(void **state)
{
    static const char bytes[] = "PROXY TCP4 192.0.2.1 192.0.2.2 1234 143\r\na NOOP\r\n";
    _cleanup_frame_ struct frame f = FRAME_INIT;
    char rest[64] = {0};
    int client[2];
    int control[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
    assert_int_equal(frame_pair(control), 0);
    assert_int_equal(write(client[1], bytes, sizeof(bytes) - 1), sizeof(bytes) - 1);
    assert_int_equal(proxy_serve(client[0], control[0], 1000), 0);
    assert_int_equal(frame_recv(control[1], &f, 0), 0);
    assert_int_equal(f.type, FRAME_PROXY);
    assert_int_equal(read(client[0], rest, sizeof(rest)), 8);
    assert_string_equal(rest, "a NOOP\r\n");
    for (int i = 0; i < 2; i++) {
        (void)close(client[i]);
        (void)close(control[i]);
    }
}

/* A proxy that has hung up in the middle of its header says no more. */
static void proxy_gives_up_on_half_a_header(void **state)
{
    static const char *const halves[] = {"PROXY TCP4 192.0", "\r\n\r\n", ""};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(halves); i++) {
        int client[2], control[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
        assert_int_equal(frame_pair(control), 0);
        assert_int_equal(write(client[1], halves[i], strlen(halves[i])), strlen(halves[i]));
        assert_int_equal(shutdown(client[1], SHUT_WR), 0);
        assert_int_equal(proxy_serve(client[0], control[0], 3000), -ENODATA);
        for (int side = 0; side < 2; side++) {
            (void)close(client[side]);
            (void)close(control[side]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_goes_both_ways),
        cmocka_unit_test(base64_is_strict),
        cmocka_unit_test(proxy_headers),
        cmocka_unit_test(proxy_takes_nothing_behind_the_header),
        cmocka_unit_test(proxy_gives_up_on_half_a_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
