/*
 * relay-session's parsers and its view of a message: replies, EHLO, line ends, dot stuffing, down-conversion, frames.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "handlers/relay/ehlo.h"
#include "handlers/relay/prepare.h"
#include "handlers/relay/reply.h"
#include "shared/base/macros.h"
#include "shared/mime/convert.h"

/* ---- replies ---- */

struct reply_case {
    const char *input;
    unsigned code; /* 0: fault */
    const char *enhanced;
    const char *text;
    int fault;
    int left; /* bytes behind the reply */
};

static const struct reply_case REPLIES[] = {
    {"250 ok\r\n", 250, "2.0.0", "ok", 0, 0},
    {"250\r\n", 250, "2.0.0", "", 0, 0},
    {"250 \r\nx", 250, "2.0.0", "", 0, 1},
    {"250 ok\n", 250, "2.0.0", "ok", 0, 0},
    {"550-5.1.1 no such user\r\n550 5.1.1 here\r\n", 550, "5.1.1", "no such user here", 0, 0},
    {"550-first\r\n550-\r\n550 last\r\n250 next\r\n", 550, "5.0.0", "first last", 0, 10},
    {"550 2.1.1 wrong class\r\n", 550, "5.0.0", "2.1.1 wrong class", 0, 0},
    {"550 5.1.1000 long\r\n", 550, "5.0.0", "5.1.1000 long", 0, 0},
    {"452 4.5.3\r\n", 452, "4.5.3", "", 0, 0},
    {"354 go on\r\n", 354, "3.0.0", "go on", 0, 0},
    {"550 caf\xc3\xa9 \x01\ttab\r\n", 550, "5.0.0", "caf?? ? tab", 0, 0},
    {"250-a\r\n251 b\r\n", 0, "", "", REPLY_NOT_SMTP, 0},
    {"199 no\r\n", 0, "", "", REPLY_NOT_SMTP, 0},
    {"600 no\r\n", 0, "", "", REPLY_NOT_SMTP, 0},
    {"2500 no\r\n", 0, "", "", REPLY_NOT_SMTP, 0},
    {"25\r\n", 0, "", "", REPLY_NOT_SMTP, 0},
    {"\r\n", 0, "", "", REPLY_NOT_SMTP, 0},
    {"HTTP/1.1 400 Bad Request\r\n", 0, "", "", REPLY_NOT_SMTP, 0},
    {"250-\xff\xfe\r\n\x80\x81\r\n", 0, "", "", REPLY_NOT_SMTP, 0},
};

static void feed_reply(struct reply_parser *p, struct str s, size_t step, size_t *ret_used)
{
    size_t used = 0;

    reply_next(p);
    while (used < s.len && !p->is_done && p->fault == REPLY_OK)
        used += reply_feed(p, str_sub(s, used, step));
    *ret_used = used;
}

static void test_replies(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(REPLIES); i++)
        for (size_t step = 1; step < 60; step += step < 4 ? 1 : 27) {
            const struct reply_case *c = &REPLIES[i];
            struct str s = str_from(c->input);
            struct reply_parser p = {0};
            size_t used;

            feed_reply(&p, s, step, &used);
            assert_int_equal(p.is_done, c->code != 0);
            assert_int_equal(p.fault, c->fault);
            if (c->code == 0)
                continue;
            assert_int_equal(p.reply.code, c->code);
            assert_string_equal(p.reply.enhanced, c->enhanced);
            assert_string_equal(p.reply.text, c->text);
            assert_int_equal(s.len - used, c->left);
        }
}

/* Replies that never end are given up, in constant memory. */
static void test_endless(void **state)
{
    struct reply_parser p = {0};
    size_t fed = 0;

    (void)state;
    reply_next(&p);
    while (p.fault == REPLY_OK && !p.is_done && fed < 1000000)
        fed += reply_feed(&p, STR("250-more and more and more\r\n"));
    assert_int_equal(p.fault, REPLY_LINES_MANY);
    assert_true(fed < 10000);
    assert_true(strlen(p.reply.text) < TALK_TEXT);
    reply_next(&p);
    for (fed = 0; p.fault == REPLY_OK && fed < 1000000;)
        fed += reply_feed(&p, STR("250 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
    assert_int_equal(p.fault, REPLY_LINE_LONG);
    assert_true(fed < 5000);
}

static void test_ehlo(void **state)
{
    struct ehlo e;
    struct reply_parser p = {.line = ehlo_line, .context = &e};
    size_t used;

    (void)state;
    feed_reply(&p,
               STR("250-mx.example SIZE is no keyword here\r\n250-size 1000000\r\n250-PipeLining\r\n250-8BITMIME\r\n"
                   "250-AUTH PLAIN scram-sha-256 SCRAM-SHA-256-PLUS SCRAM-SHA-1 CRAM-MD5 "
                   "GSSAPI\r\n250-AUTH=LOGIN\r\n250-STARTTLS\r\n250-X-NEW "
                   "thing\r\n250 DSN\r\n"),
               1, &used);
    assert_true(p.is_done);
    assert_int_equal(e.size, 1000000);
    assert_int_equal(e.extensions, TALK_EXTENDED | TALK_SIZE | TALK_PIPELINING | TALK_8BITMIME | TALK_AUTH_OFFERED |
                                       TALK_STARTTLS_OFFERED | TALK_DSN);
    assert_int_equal(e.mechanisms, EHLO_PLAIN | EHLO_SCRAM_SHA_256 | EHLO_SCRAM_SHA_256_PLUS | EHLO_SCRAM_SHA_1 |
                                       EHLO_CRAM_MD5 | EHLO_LOGIN);
    feed_reply(&p, STR("250-mx.example\r\n250 SIZE garbage\r\n"), 5, &used);
    assert_int_equal(e.size, 0);
    assert_int_equal(e.extensions, TALK_EXTENDED | TALK_SIZE);
}

/* RFC 4013 3, and what else there is to prepare. */
static void test_prepare(void **state)
{
    static const struct {
        struct str in;
        const char *out; /* NULL: refused */
    } cases[] = {
        {{"I\xc2\xadX", 4}, "IX"},
        {{"user", 4}, "user"},
        {{"USER", 4}, "USER"},
        {{"\xc2\xaa", 2}, "a"},
        {{"\xe2\x85\xa8", 3}, "IX"},
        {{"\a", 1}, NULL},
        {{"\xd8\xa7\x31", 3}, NULL},
        {{"", 0}, ""},
        {{"e\xcc\x81", 3}, "\xc3\xa9"}, /* NFKC */
        {{"a\xc2\xa0\xe3\x80\x80"
          "b",
          7},
         "a  b"},                                              /* other spaces */
        {{"\xd8\xa7\xd8\xa8", 4}, "\xd8\xa7\xd8\xa8"},         /* all of it to the left */
        {{"\xd8\xa7\x31\xd8\xa8", 5}, "\xd8\xa7\x31\xd8\xa8"}, /* a digit in between */
        {{"\xd8\xa7"
          "a\xd8\xa8",
          5},
         NULL}, /* both ways */
        {{"\x31\xd8\xa7", 3}, NULL},
        {{"a\0b", 3}, NULL},
        {{"a\xc3", 2}, NULL}, /* no UTF-8 */
        {{"a\xed\xa0\x80", 4}, NULL},
        {{"a\xef\xbf\xbf", 4}, NULL}, /* no character */
        {{"a\xf0\x9f\xbf\xbf", 5}, NULL},
        {{"\xe2\x80\x8e"
          "a",
          4},
         NULL},
        {{"\xf0\x9f\x90\xb3", 4}, "\xf0\x9f\x90\xb3"}, /* younger than RFC 3454 */
        {{"\xc2\xad", 2}, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(100);

        assert_int_equal(prepare_sasl(cases[i].in, &out), cases[i].out ? 0 : -EINVAL);
        if (cases[i].out)
            assert_string_equal(buf_cstr(&out), cases[i].out);
    }
}

/* ---- message bytes ---- */

static int collect(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

static int file_of(struct str s)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, s.ptr, s.len), (ssize_t)s.len);
    return fd;
}

static void test_line_ends(void **state)
{
    static const struct {
        const char *file, *wire, *stuffed;
    } cases[] = {
        {"a\nb\n", "a\r\nb\r\n", "a\r\nb\r\n"},
        {"a\nb", "a\r\nb\r\n", "a\r\nb\r\n"},
        {"", "", ""},
        {"\n\n", "\r\n\r\n", "\r\n\r\n"},
        {".\n..\na.b\n", ".\r\n..\r\na.b\r\n", "..\r\n...\r\na.b\r\n"},
        {"a\n.\nQUIT\n", "a\r\n.\r\nQUIT\r\n", "a\r\n..\r\nQUIT\r\n"},
        {"a\r\n.\r\nb\n", "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n"},
        {"a\r.\rb\n", "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n"}, /* a bare CR must hide no end of data */
        {"a\r\r\n.\n", "a\r\n\r\n.\r\n", "a\r\n\r\n..\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_close_ int fd = file_of(str_from(cases[i].file));
        _cleanup_buf_ struct buf wire = BUF_INIT(1000), stuffed = BUF_INIT(1000);
        struct content_stuffer s = {.sink = collect, .context = &stuffed}, t = s;
        struct content_facts facts;

        assert_int_equal(content_read(fd, collect, &wire), 0);
        assert_string_equal(buf_cstr(&wire), cases[i].wire);
        assert_int_equal(content_read(fd, content_stuff, &s), 0);
        assert_string_equal(buf_cstr(&stuffed), cases[i].stuffed);
        buf_clear(&stuffed);
        for (size_t k = 0; k < wire.len; k++)
            assert_int_equal(content_stuff(&t, str_sub(buf_str(&wire), k, 1)), 0);
        assert_string_equal(buf_cstr(&stuffed), cases[i].stuffed);
        assert_int_equal(content_scan(fd, &facts), 0);
        assert_int_equal(facts.size, wire.len);
    }
}

static void test_facts(void **state)
{
    _cleanup_close_ int fd = file_of(STR("Subject: x\n\ncaf\xe9\n"));
    _cleanup_close_ int header = file_of(STR("Subject: \xc3\xa9\n\nplain\n"));
    _cleanup_close_ int empty = file_of(STR("\n\xe9\n"));
    struct content_facts f;

    (void)state;
    assert_int_equal(content_scan(fd, &f), 0);
    assert_true(f.has_8bit_body && !f.has_8bit_header);
    assert_int_equal(f.header_size, 14);
    assert_int_equal(content_scan(header, &f), 0);
    assert_true(!f.has_8bit_body && f.has_8bit_header);
    assert_int_equal(content_scan(empty, &f), 0);
    assert_true(f.has_8bit_body && !f.has_8bit_header);
    assert_int_equal(f.header_size, 2);
}

/* ---- conversion ---- */

static const struct {
    const char *file, *wire; /* NULL: cannot be */
} CONVERSIONS[] = {
    {"Subject: x\n\ncaf\xe9=\n", "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
                                 "Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=E9=3D\r\n"},
    {"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nSubject: "
     "\xc3\xa9\n\n"
     "caf\xc3\xa9 \n",
     "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nSubject: \xc3\xa9\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9=20\r\n"},
    {"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: "
     "quoted-printable\n\n=41\xe9\n",
     "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\n=41=E9\r\n"},
    {"MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: x-own\n\n\xe9\n", NULL},
    {"Content-Type: multipart/mixed\n\nno boundary, \xe9\n", NULL},
    {"Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable\n\nSubject: x\n\n\xe9\n", NULL},
    {"MIME-Version: 1.0\nContent-Type: image/x\nContent-Transfer-Encoding: binary\n\n\xff\xfe\n",
     "MIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\n//4NCg==\r\n"},
    /* Only the part that needs it; the signed one beside it stays byte for byte. */
    {"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\npre\xe9\n--b\n"
     "Content-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: text/plain\n\nsigned = as it is \n--s\n"
     "Content-Type: application/pgp-signature\n\nsig\n--s--\n--b\nContent-Type: text/plain; "
     "charset=latin1\n\n\xe9t\xe9 =\n"
     "--b--\n",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n\r\npre?\r\n"
     "--b\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: text/plain\r\n\r\n"
     "signed = as it is \r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\nsig\r\n--s--\r\n--b\r\n"
     "Content-Type: text/plain; charset=latin1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=E9t=E9 =3D\r\n"
     "--b--\r\n"},
    /* What is signed stays even where its label is wrong. */
    {"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
     "Content-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\n"
     "only ASCII\n--s\nContent-Type: application/pgp-signature\n\nsig\n--s--\n--b\nContent-Type: text/plain; "
     "charset=latin1\n\n\xe9t\xe9\n\n--b--\n",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
     "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: text/plain\r\n"
     "Content-Transfer-Encoding: 8bit\r\n\r\nonly ASCII\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n"
     "sig\r\n--s--\r\n--b\r\nContent-Type: text/plain; charset=latin1\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E9t=E9\r\n\r\n--b--\r\n"},
    /* A message in a message. */
    {"MIME-Version: 1.0\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: in\n"
     "Content-Type: text/plain; charset=latin1\n\n\xe9 and more letters\n",
     "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: in\r\n"
     "Content-Type: text/plain; charset=latin1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
     "=E9 and more letters\r\n"},
};

static void test_conversion(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(CONVERSIONS); i++) {
        _cleanup_close_ int fd = file_of(str_from(CONVERSIONS[i].file));
        _cleanup_convert_ struct convert c = {0};
        _cleanup_buf_ struct buf out = BUF_INIT(10000);
        int r = convert_plan(fd, CONVERT_7BIT, &c);

        assert_int_equal(r, CONVERSIONS[i].wire ? 0 : -ENOTSUP);
        if (r < 0)
            continue;
        assert_int_equal(convert_read(fd, &c, collect, &out), 0);
        assert_string_equal(buf_cstr(&out), CONVERSIONS[i].wire);
    }
}

/* What was converted for a signature passes a server without 8BITMIME as it is. */
static void test_conversion_twice(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(CONVERSIONS); i++) {
        _cleanup_close_ int fd = CONVERSIONS[i].wire ? file_of(str_from(CONVERSIONS[i].wire)) : -1;
        _cleanup_convert_ struct convert c = {0};
        _cleanup_buf_ struct buf out = BUF_INIT(10000);

        if (fd < 0)
            continue;
        assert_int_equal(convert_plan(fd, CONVERT_7BIT, &c), 0);
        assert_int_equal(convert_read(fd, &c, collect, &out), 0);
        assert_string_equal(buf_cstr(&out), CONVERSIONS[i].wire);
    }
}

/* A multipart/signed with 8-bit text in it: converting it breaks what its signature says. */
static void test_conversion_sealed(void **state)
{
    static const struct {
        const char *file;
        bool breaks;
    } cases[] = {
        {"Content-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: text/plain\n\n\xe9\n--s\n"
         "Content-Type: application/pgp-signature\n\nsig\n--s--\n",
         true},
        {"Content-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: text/plain\n"
         "Content-Transfer-Encoding: quoted-printable\n\n\xe9\n--s\n"
         "Content-Type: application/pgp-signature\n\nsig\n--s--\n",
         true},
        {"Content-Type: multipart/mixed; boundary=s\n\n--s\nContent-Type: text/plain\n\n\xe9\n--s--\n", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_close_ int fd = file_of(str_from(cases[i].file));
        _cleanup_convert_ struct convert c = {0};

        assert_int_equal(convert_plan(fd, CONVERT_7BIT, &c), 0);
        assert_int_equal(c.breaks_seal, cases[i].breaks);
    }
}

/* Text that is mostly not ASCII becomes base64, and a long text keeps its length in lines that fit. */
static void test_conversion_choice(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20), out = BUF_INIT(1u << 22);
    _cleanup_convert_ struct convert c = {0};
    size_t column = 0;

    (void)state;
    assert_int_equal(buf_add_str(&text, STR("Content-Type: text/plain; charset=gb2312\n\n")), 0);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(buf_add_str(&text, i % 40 == 39 ? STR("\n") : STR("\xb0\xa1")), 0);

    _cleanup_close_ int fd = file_of(buf_str(&text));

    assert_int_equal(convert_plan(fd, CONVERT_7BIT, &c), 0);
    assert_int_equal(convert_read(fd, &c, collect, &out), 0);
    assert_true(str_find(buf_str(&out), STR("Content-Transfer-Encoding: base64\r\n")) > 0);
    for (size_t i = 0; i < out.len; i++) {
        column = out.data[i] == '\n' ? 0 : column + 1;
        assert_true((unsigned char)out.data[i] < 128 && column < 80);
    }
}

/* ---- frames ---- */

static void test_frames(void **state)
{
    static const struct {
        struct str address;
        bool is_utf8, is_good;
    } cases[] = {
        {{"a@b", 3}, false, true},          {{"a b@c", 5}, false, false},        {{"\"a b\"@c", 7}, false, true},
        {{"a@b>\r\nX", 7}, false, false},   {{"a@b> SIZE=1", 11}, false, false}, {{"\"a\\\"@c", 6}, false, false},
        {{"\xc3\xa9@b", 4}, false, false},  {{"\xc3\xa9@b", 4}, true, true},     {{"\xc3@b", 3}, true, false},
        {{"\"a\r\n\"@c", 7}, false, false}, {{"\"a\\\n\"@c", 7}, false, false},  {{"", 0}, false, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_frame_ struct frame f = FRAME_INIT;
        struct talk_rcpt r = {.address = cases[i].address, .notify = 4, .orcpt = STR("rfc822;a@b")}, got;
        struct frame_reader in;

        frame_begin(&f, FRAME_RELAY_RCPT);
        assert_int_equal(talk_put_rcpt(&f, &r), 0);
        in = frame_read(&f);
        assert_int_equal(talk_get_rcpt(&in, cases[i].is_utf8, &got), cases[i].is_good ? 0 : -EBADMSG);
    }
}

static void test_reply_frames(void **state)
{
    struct talk_reply r, got;

    (void)state;
    talk_reply_set(&r, TALK_END, 421, "4.4.2", "it\r\nbroke");
    assert_string_equal(r.text, "it??broke");
    for (int i = 0; i < 4; i++) {
        _cleanup_frame_ struct frame f = FRAME_INIT;
        struct talk_reply bad = r;
        struct frame_reader in;

        bad.code = i == 1 ? 354 : i == 2 ? 550 : bad.code; /* no final reply; class differs from the enhanced code */
        bad.text[0] = i == 3 ? '\n' : bad.text[0];
        frame_begin(&f, FRAME_RELAY_RESULT);
        assert_int_equal(talk_put_reply(&f, &bad), 0);
        in = frame_read(&f);
        assert_int_equal(talk_get_reply(&in, &got), i == 0 ? 0 : -EBADMSG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_endless),
        cmocka_unit_test(test_ehlo),
        cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_conversion),
        cmocka_unit_test(test_conversion_twice),
        cmocka_unit_test(test_conversion_sealed),
        cmocka_unit_test(test_conversion_choice),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_reply_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
