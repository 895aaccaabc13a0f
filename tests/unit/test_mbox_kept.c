/*
 * Headers that are read alone, and what is kept of messages in the cache: the same bytes come back whatever way they
 * took.
 */
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/unit/mbox_util.h"

#define MESSAGES 120u
#define LARGEST  100000u

static unsigned at_once;    /* reads of what is in memory */
static unsigned to_fail;     /* the one that finds nothing there; 0: none */

/* In the place of libc's. */
ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (++at_once == to_fail) {
        errno = EAGAIN;
        return -1;
    }
    return syscall(SYS_preadv2, fd, iov, (unsigned long)count, (unsigned long)offset, 0ul, flags);
}

static uint32_t chance(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

static void add(struct buf *out, const char *text)
{
    assert_int_equal(buf_add_str(out, str_from(text)), 0);
}

/* A message with a header that may be long, hidden in part, or all there is. */
static void make_up(uint64_t *seed, const char *end, struct buf *out)
{
    static const char *const fields[] = {"Subject: x", "Status: RO", "X-UID: 7", "To: a,",
                                         "\tb",        "Lines: 1",   "X-Other:"};
    uint32_t body = chance(seed, 8);

    add(out, "From: a@example.org");
    add(out, end);
    for (uint32_t n = chance(seed, 10) == 0 ? 2000 : chance(seed, 12); n > 0; n--) {
        add(out, fields[chance(seed, 7)]);
        add(out, end);
    }
    if (body == 0)
        return;
    add(out, end);
    for (uint32_t n = body == 1 ? 9000 : body * chance(seed, 40); n > 0; n--) {
        add(out, (const char *const[]){"", "body", ">From x", "\r", "From me"}[chance(seed, 4)]);
        add(out, end);
    }
}

/* All of a message, its first piece as asked for. */
static void read_all(struct mbox *v, uint32_t seq, bool wants_header, struct buf *out)
{
    struct mbox_stream *m;
    struct str piece;

    buf_clear(out);
    assert_int_equal(mbox_stream_new(v, seq, &m), 0);
    if (wants_header)
        mbox_stream_want_header(m);
    do {
        assert_int_equal(mbox_stream_next(m, &piece), 0);
        assert_int_equal(buf_add_str(out, piece), 0);
    } while (piece.len > 0);
    mbox_stream_free(m);
}

/* The header is read, then the message once more, or from the middle. */
static void read_twice(struct mbox *v, uint32_t seq, uint64_t from, struct buf *out)
{
    struct mbox_stream *m;
    struct str piece;

    buf_clear(out);
    assert_int_equal(mbox_stream_new(v, seq, &m), 0);
    mbox_stream_want_header(m);
    assert_int_equal(mbox_stream_next(m, &piece), 0);
    assert_int_equal(mbox_stream_seek(m, from), 0);
    mbox_stream_want_header(m);
    do {
        assert_int_equal(mbox_stream_next(m, &piece), 0);
        assert_int_equal(buf_add_str(out, piece), 0);
    } while (piece.len > 0);
    mbox_stream_free(m);
}

/* The first piece alone, which has the header. Returns its length. */
static size_t check_header(struct mbox *v, uint32_t seq, const struct buf *whole)
{
    struct mbox_stream *m;
    struct str piece;

    assert_int_equal(mbox_stream_new(v, seq, &m), 0);
    mbox_stream_want_header(m);
    assert_int_equal(mbox_stream_next(m, &piece), 0);
    assert_true(piece.len > 0 && str_starts(buf_str(whole), piece));
    mbox_stream_free(m);
    return piece.len;
}

/* Headers alone in order are read without what lies between them, whether the kernel has all of it in memory or not;
 * then one message whole, and on. */
static void check_headers(struct mbox *v, uint64_t *seed, const struct buf *whole)
{
    _cleanup_buf_ struct buf got = BUF_INIT(4 * LARGEST);

    for (unsigned round = 0; round < 8; round++) {
        at_once = 0;
        to_fail = round < 2 ? round : 1 + chance(seed, 60);
        for (uint32_t seq = 1; seq <= MESSAGES; seq++) {
            (void)check_header(v, seq, &whole[seq]);
            if (round < 4 || chance(seed, 20) > 0)
                continue;
            read_all(v, seq, chance(seed, 2) == 0, &got);
            assert_true(str_eq(buf_str(&got), buf_str(&whole[seq])));
        }
#ifdef RWF_NOWAIT
        assert_true(at_once > 0);
#endif
    }
    to_fail = 0;
}

static void check_box(struct mbox *v, uint64_t *seed)
{
    static struct buf whole[MESSAGES + 1];
    _cleanup_buf_ struct buf got = BUF_INIT(4 * LARGEST);

    assert_int_equal(mbox_count(v), MESSAGES);
    for (uint32_t seq = 1; seq <= MESSAGES; seq++) {
        whole[seq] = BUF_INIT(4 * LARGEST);
        read_all(v, seq, false, &whole[seq]);
        assert_true(whole[seq].len > 0);
    }
    for (uint32_t seq = 1; seq <= MESSAGES; seq++) {
        read_all(v, seq, true, &got);
        assert_true(str_eq(buf_str(&got), buf_str(&whole[seq])));
    }
    check_headers(v, seed, whole);
    for (unsigned n = 0; n < 4 * MESSAGES; n++) {
        uint32_t seq = n < MESSAGES ? n + 1 : 1 + chance(seed, MESSAGES);
        size_t from = chance(seed, 3) == 0 ? chance(seed, (uint32_t)whole[seq].len) : 0;

        read_twice(v, seq, from, &got);
        assert_true(str_eq(buf_str(&got), str_sub(buf_str(&whole[seq]), from, SIZE_MAX)));
    }
    for (uint32_t seq = 1; seq <= MESSAGES; seq++)
        buf_finish(&whole[seq]);
}

static void test_headers(void **state)
{
    uint64_t seed = 1;

    (void)state;
    for (int form = 0; form < 3; form++) { /* others' with LF, with CRLF, our own */
        const char *end = form == 1 ? "\r\n" : "\n";
        _cleanup_buf_ struct buf file = BUF_INIT(MESSAGES * 2 * LARGEST);
        struct scratch s;
        struct mbox *v;

        scratch_open(&s);
        for (unsigned n = 0; n < MESSAGES; n++) {
            _cleanup_buf_ struct buf message = BUF_INIT(2 * LARGEST);

            make_up(&seed, end, &message);
            if (form == 2) {
                append_text(s.store, "INBOX", message.data, message.len);
                continue;
            }
            add(&file, "From a@example.org Sat Nov 14 12:00:00 2026");
            add(&file, end);
            for (struct str rest = buf_str(&message), line; rest.len > 0;) {
                (void)str_cut(&rest, '\n', &line);
                if (str_starts(line, STR("From ")))
                    add(&file, ">");
                assert_int_equal(buf_add_str(&file, line), 0);
                add(&file, "\n");
            }
            add(&file, end);
        }
        if (form != 2)
            write_file(s.inbox, file.data, file.len);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        check_box(v, &seed);
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

/* What is put for (message, kind) the given time. */
static struct str blob_of(char room[3000], uint32_t seq, unsigned kind, unsigned round)
{
    size_t len = (seq * 37 + kind * 411 + round * 5) % 2900;

    memset(room, (int)('a' + (seq + kind + round) % 26), len);
    return (struct str){room, len};
}

/* Message by message, or kind by kind; some twice. */
static void put_all(struct mbox *v, unsigned round)
{
    char room[3000];

    for (uint32_t n = 0; n < MESSAGES * MBOX_CACHE_KINDS; n++) {
        uint32_t seq = 1 + (round % 2 == 0 ? n / MBOX_CACHE_KINDS : n % MESSAGES);
        unsigned kind = round % 2 == 0 ? n % MBOX_CACHE_KINDS : n / MESSAGES;

        for (unsigned again = 0; again <= seq % 2; again++)
            assert_int_equal(
                mbox_cache_put(v, seq, kind, blob_of(room, seq, kind, again == seq % 2 ? round : round + 9)), 0);
    }
}

/* Of each kind and each message the blob that was put last comes back, in this view and the next. */
static void test_kinds(void **state)
{
    struct scratch s;
    struct mbox *v;
    char room[3000];

    (void)state;
    scratch_open(&s);
    for (unsigned n = 0; n < MESSAGES; n++)
        append_text(s.store, "INBOX", "Subject: x\n\nx\n", 14);
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        put_all(v, round);
        assert_int_equal(mbox_close(v), 0);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        for (unsigned kind = 0; kind < MBOX_CACHE_KINDS; kind++) {
            for (uint32_t seq = 1; seq <= MESSAGES; seq++) {
                struct str got;

                assert_int_equal(mbox_cache_get(v, seq, kind, &got), 0);
                assert_true(str_eq(got, blob_of(room, seq, kind, round)));
            }
        }
        assert_int_equal(mbox_close(v), 0);
    }
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_headers), cmocka_unit_test(test_kinds)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
