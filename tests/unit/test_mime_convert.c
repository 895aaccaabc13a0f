/*
 * Binary messages (RFC 3030) put into lines, reports for servers that take less (RFC 6533 4.5): what becomes of each
 * kind of part, what is refused, and that whatever is converted decodes to what it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>
#include <errno.h>

#include "tests/unit/convert_check.h"

#define B(text)                                                                                                        \
    {                                                                                                                  \
        (text), sizeof(text) - 1                                                                                       \
    }
#define MIXED "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"

static const struct {
    struct str message;
    int error;
    const char *lines; /* NULL: as it was */
} CASES[] = {
    /* Nothing binary in it. */
    {B("Subject: x\r\n\r\ntext\r\n"), 0, NULL},
    {B("Subject: x\r\n"), 0, NULL},
    {B(""), 0, NULL},
    {B("MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\ncaf\xe9\r\nlast line"), 0, NULL},
    /* A label that is not true any more. */
    {B("MIME-Version: 1.0\r\nContent-Transfer-Encoding: binary\r\n\r\ncaf\xe9\r\n"), 0,
     "MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\ncaf\xe9\r\n"},
    /* Each kind of octet that a line cannot have. */
    {B("MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\na\0b\r\n"), 0,
     "MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nYQBiDQo=\r\n"},
    {B("MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\na\nb"), 0,
     "MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nYQpi\r\n"},
    {B("MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\nab\r"), 0,
     "MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nYWIN\r\n"},
    /* Text for people; its last line ends, or base64 is what keeps it. */
    {B("MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\nhello\rworld=\r\n"),
     0,
     "MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
     "hello=0Dworld=3D\r\n"},
    {B("MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\nhello\nworld"), 0,
     "MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8Kd29ybGQ=\r\n"},
    /* Not labelled, or labelled wrongly: what it is counts. */
    {B("MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\0\r\n"), 0,
     "MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nAA0K\r\n"},
    {B("Subject: x\r\n\r\n\0abcdef\r\n"), 0,
     "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\n=00abcdef\r\n"},
    /* Parts: the line end before a delimiter is not theirs, whatever comes before it. */
    {B(MIXED "pre\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\nContent-Type: image/png\r\n"
             "Content-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\x1a\n\0\r\r\n--b--\r\npost\r\n"),
     0,
     MIXED "pre\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\nContent-Type: image/png\r\n"
           "Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgoADQ==\r\n\r\n--b--\r\npost\r\n"},
    /* A multipart in binary is in 8 bits afterwards; a message in a message has its own parts. */
    {B("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n"
       "--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: BINARY\r\n\r\n"
       "Subject: in\r\nContent-Type: application/x\r\n\r\n\0\r\n--b--\r\n"),
     0,
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
     "--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
     "Subject: in\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nAA==\r\n\r\n--b--\r\n"},
    /* A soft line break must not make a delimiter. */
    {B(MIXED "--b\r\nContent-Type: text/plain\r\n\r\n\r123456789012345678901234567890123456789012345678901234567890"
             "123456789012--b\r\n\r\n--b--\r\n"),
     0,
     MIXED "--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
           "=0D123456789012345678901234567890123456789012345678901234567890123456789012=\r\n=2D-b\r\n\r\n--b--\r\n"},
    /* A seal whose content need not change. */
    {B("Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Transfer-Encoding: binary\r\n\r\nx\r\n--s\r\n"
       "Content-Type: application/pgp-signature\r\n\r\nsig\r\n--s--\r\n"),
     0, NULL},
    {B("Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: application/x\r\n\r\n\0\r\n--s\r\n"
       "Content-Type: application/pgp-signature\r\n\r\nsig\r\n--s--\r\n"),
     -EPERM, NULL},
    /* Not canonical: the header, a delimiter, what is between parts, what is encoded. */
    {B("Subject: x\ny: z\r\n\r\ntext\r\n"), -EBADMSG, NULL},
    {B("Subject: x\ry\r\n\r\ntext\r\n"), -EBADMSG, NULL},
    {B("Subject: x\0y\r\n\r\ntext\r\n"), -EBADMSG, NULL},
    {B(MIXED "--b\r\nContent-Type: application/x\r\n\r\n\0\n--b--\r\n"), -EBADMSG, NULL},
    {B(MIXED "--b\nContent-Type: application/x\r\n\r\nx\r\n--b--\r\n"), -EBADMSG, NULL},
    {B(MIXED "pre\namble\r\n--b\r\n\r\nx\r\n--b--\r\n"), -EBADMSG, NULL},
    {B(MIXED "--b\r\n\r\nx\r\n--b--\r\nepi\0logue\r\n"), -EBADMSG, NULL},
    {B(MIXED "--b\r\n\r\nx\r\n--b--\r\nepilogue\r"), -EBADMSG, NULL},
    {B("Content-Transfer-Encoding: base64\r\n\r\nAAAA\nAAAA\r\n"), -EBADMSG, NULL},
    {B("Content-Transfer-Encoding: quoted-printable\r\n\r\nab=\ncd\r\n"), -EBADMSG, NULL},
    /* What has no encoding, or no header to say it in. */
    {B("Content-Type: message/partial; id=x; number=1\r\n\r\n\0\r\n"), -ENOTSUP, NULL},
    {B("Content-Type: message/delivery-status\r\n\r\na: \0\r\n"), -ENOTSUP, NULL},
    {B("Content-Type: application/x\r\nContent-Transfer-Encoding: x-zip\r\n\r\n\0\r\n"), -ENOTSUP, NULL},
    {B("Content-Type: multipart/mixed\r\n\r\n\0\r\n"), -ENOTSUP, NULL},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(CASES); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(CHECK_MAX);
        int r = check_message(CASES[i].message, &out);
        struct str expected = CASES[i].lines ? str_from(CASES[i].lines) : CASES[i].message;

        if (r != CASES[i].error || (r == 0 && !str_eq(buf_str(&out), expected)))
            print_error("case %zu: %d\n%.*s", i, r, STR_ARG(buf_str(&out)));
        assert_int_equal(r, CASES[i].error);
        if (r == 0)
            assert_true(str_eq(buf_str(&out), expected));
    }
}

/* 998 octets are a line of 8bit data (RFC 2045 2.8), one more are not. */
static void test_long_lines(void **state)
{
    (void)state;
    for (size_t len = 997; len <= 1000; len++) {
        _cleanup_buf_ struct buf in = BUF_INIT(4096), out = BUF_INIT(CHECK_MAX);

        assert_int_equal(buf_add_str(&in, STR("Content-Type: text/plain\r\n\r\n")), 0);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(buf_add_byte(&in, 'x'), 0);
        assert_int_equal(buf_add_str(&in, STR("\r\n")), 0);
        assert_int_equal(check_message(buf_str(&in), &out), 0);
        assert_true((str_find(buf_str(&out), STR("quoted-printable")) > 0) == (len > 998));
    }
}

/* More parts than the parser follows: the last one may be several for others, and is not encoded. */
static void test_too_many(void **state)
{
    _cleanup_buf_ struct buf in = BUF_INIT(CHECK_MAX), out = BUF_INIT(CHECK_MAX);

    (void)state;
    assert_int_equal(buf_add_str(&in, STR(MIXED)), 0);
    for (unsigned i = 0; i < LIMIT_MIME_PARTS + 10; i++)
        assert_int_equal(buf_add_str(&in, STR("--b\r\nContent-Type: application/x\r\n\r\nx\r\n")), 0);
    assert_int_equal(check_message(buf_str(&in), &out), 0);
    assert_true(str_eq(buf_str(&in), buf_str(&out)));
    assert_int_equal(buf_add(&in, "--b\r\n\r\n\0\r\n--b--\r\n", 16), 0);
    buf_clear(&out);
    assert_int_equal(check_message(buf_str(&in), &out), -ENOTSUP);
}

#define REPORT      "Content-Type: multipart/report; report-type=global-delivery-status; boundary=b\n\n"
#define REPORT_WIRE "Content-Type: multipart/report; report-type=global-delivery-status; boundary=b\r\n\r\n"

/* RFC 6533 4.5, 6: what a report returns, for servers with 8BITMIME and for those without. */
static const struct {
    const char *file, *global, *seven; /* NULL: as it is */
} REPORTS[] = {
    {REPORT "--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nd\xc3\xbc is told\n--b\n"
            "Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n\nFinal-Recipient: utf-8; "
            "d\xc3\xbc@x\n--b\nContent-Type: message/global\nContent-Transfer-Encoding: 8bit\n\nSubject: gr\xc3\xbcn "
            "is the subject\nMIME-Version: 1.0\n\nonly ASCII =\n--b--\n",
     REPORT_WIRE
     "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nd\xc3\xbc is told\r\n"
     "--b\r\nContent-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
     "Final-Recipient: utf-8; d\xc3\xbc@x\r\n--b\r\nContent-Type: message/global\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\nSubject: gr=C3=BCn is the subject\r\n"
     "MIME-Version: 1.0\r\n\r\nonly ASCII =3D\r\n--b--\r\n",
     REPORT_WIRE
     "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nd=C3=BC is "
     "told\r\n"
     "--b\r\nContent-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: quoted-printable\r\n"
     "\r\nFinal-Recipient: utf-8; d=C3=BC@x\r\n--b\r\nContent-Type: message/global\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\nSubject: gr=C3=BCn is the subject\r\n"
     "MIME-Version: 1.0\r\n\r\nonly ASCII =3D\r\n--b--\r\n"},
    {REPORT
     "--b\nContent-Type: message/global-headers\nContent-Transfer-Encoding: 8bit\n\nSubject: gr\xc3\xbcn\n--b--\n",
     REPORT_WIRE "--b\r\nContent-Type: message/global-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
                 "Subject: gr=C3=BCn\r\n--b--\r\n",
     REPORT_WIRE "--b\r\nContent-Type: message/global-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
                 "Subject: gr=C3=BCn\r\n--b--\r\n"},
    /* Deeper inside: one encoding for all of it, since an encoded part can have none in it. */
    {REPORT "--b\nContent-Type: message/global\n\nSubject: x\nContent-Type: multipart/mixed; boundary=c\n\n--c\n"
            "Content-Type: message/global\n\nSubject: gr\xc3\xbcn\n\nx\n--c--\n--b--\n",
     REPORT_WIRE
     "--b\r\nContent-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSubject: x\r\n"
     "Content-Type: multipart/mixed; boundary=3Dc\r\n\r\n--c\r\nContent-Type: message/global\r\n\r\n"
     "Subject: gr=C3=BCn\r\n\r\nx\r\n--c--\r\n--b--\r\n",
     REPORT_WIRE
     "--b\r\nContent-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSubject: x\r\n"
     "Content-Type: multipart/mixed; boundary=3Dc\r\n\r\n--c\r\nContent-Type: message/global\r\n\r\n"
     "Subject: gr=C3=BCn\r\n\r\nx\r\n--c--\r\n--b--\r\n"},
    /* Nothing in it that needs it; no report; encoded already. */
    {REPORT "--b\nContent-Type: message/global\n\nSubject: x\n\nx\n--b--\n", NULL, NULL},
    {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/global\n\nSubject: "
     "gr\xc3\xbcn\n\nx\n--b--\n",
     NULL,
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/global\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\nSubject: gr=C3=BCn\r\n\r\nx\r\n--b--\r\n"},
    {REPORT "--b\nContent-Type: message/global\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeAo=\n--b--\n", NULL,
     NULL},
};

static void test_reports(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_SIZE(REPORTS); i++) {
        const char *wire = i % 2 ? REPORTS[i / 2].seven : REPORTS[i / 2].global;
        _cleanup_close_ int fd = check_file(str_from(REPORTS[i / 2].file));
        _cleanup_convert_ struct convert c = {0};
        _cleanup_buf_ struct buf out = BUF_INIT(10000), same = BUF_INIT(10000);

        assert_int_equal(content_read(fd, check_collect, &same), 0);
        assert_int_equal(convert_plan(fd, i % 2 ? CONVERT_7BIT : CONVERT_GLOBAL, &c), 0);
        assert_int_equal(convert_read(fd, &c, check_collect, &out), 0);
        assert_string_equal(buf_cstr(&out), wire ? wire : buf_cstr(&same));
    }
}

/* ---- messages by chance ---- */

static uint64_t seed;

static unsigned dice(unsigned sides)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % sides;
}

static void add_content(struct buf *out)
{
    static const char *const words[] = {"\r\n", "\n", "\r",      "\r\r\n", "text ", "-",
                                        "--",   "=",  "caf\xe9", "\t",     ".\r\n", "From "};
    unsigned kind = dice(3), count = dice(60);

    for (unsigned i = 0; i < count; i++)
        if (kind == 0)
            (void)buf_add_byte(out, (char)dice(256));
        else
            (void)buf_add_str(out, str_from(words[kind == 1 ? dice(ARRAY_SIZE(words)) : (dice(2) ? 4 : 0)]));
}

static void add_part(struct buf *out, unsigned depth)
{
    static const char *const types[] = {"text/plain", "text/html; charset=utf-8", "image/png",
                                        "application/octet-stream"};
    static const char *const labels[] = {"", "Content-Transfer-Encoding: binary\r\n",
                                         "Content-Transfer-Encoding: 8bit\r\n"};
    const char *label = labels[dice(ARRAY_SIZE(labels))];
    unsigned kind = dice(4), parts = 1 + dice(3);

    if (depth == 0 || kind > 1) {
        (void)buf_printf(out, "Content-Type: %s\r\n%s\r\n", types[dice(ARRAY_SIZE(types))], label);
        add_content(out);
    } else if (kind == 1) {
        (void)buf_printf(out, "Content-Type: message/%s\r\n%s\r\nSubject: in%s\r\n", dice(2) ? "rfc822" : "global",
                         label, dice(2) ? "" : "\xc3\xa9");
        add_part(out, depth - 1);
    } else {
        (void)buf_printf(out, "Content-Type: multipart/mixed; boundary=\"=_%u\"\r\n%s\r\n", depth, label);
        for (unsigned i = 0; i < parts; i++) {
            (void)buf_printf(out, "%s--=_%u\r\n", i == 0 ? "" : "\r\n", depth);
            add_part(out, depth - 1);
        }
        (void)buf_printf(out, "\r\n--=_%u--\r\n", depth);
    }
}

/* Whatever is in the parts of a message in canonical form: it goes, and decodes to what it was. */
static void test_random(void **state)
{
    (void)state;
    for (seed = 1; seed < 3000; seed++) {
        _cleanup_buf_ struct buf in = BUF_INIT(CHECK_MAX), out = BUF_INIT(CHECK_MAX);
        uint64_t began = seed;
        int r;

        assert_int_equal(buf_add_str(&in, STR("MIME-Version: 1.0\r\n")), 0);
        add_part(&in, 4);
        r = check_message(buf_str(&in), &out);
        if (r < 0)
            print_error("seed %llu: %d\n%.*s\n", (unsigned long long)began, r, STR_ARG(buf_str(&in)));
        assert_int_equal(r, 0);
        seed = began;
    }
}

/* The same as a file of the queue, in reports too, for servers that take less. */
static void test_random_files(void **state)
{
    (void)state;
    for (seed = 1; seed < 3000; seed++) {
        _cleanup_buf_ struct buf in = BUF_INIT(CHECK_MAX), out = BUF_INIT(CHECK_MAX);
        uint64_t began = seed;
        int r;

        assert_int_equal(buf_add_str(&in, STR("MIME-Version: 1.0\n")), 0);
        if (dice(2))
            assert_int_equal(buf_add_str(&in, STR("Content-Type: multipart/report; boundary=r\n\n--r\n")), 0);
        add_part(&in, 3);
        check_for_global(buf_str(&in));
        r = check_for_7bit(buf_str(&in), &out);
        assert_true(r == 0 || (r == -EINVAL && str_has_nul(buf_str(&in))));
        seed = began;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),   cmocka_unit_test(test_long_lines), cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_reports), cmocka_unit_test(test_random),     cmocka_unit_test(test_random_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
