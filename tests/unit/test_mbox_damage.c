/*
 * An index that somebody cut, or that the disk damaged: no other bytes are ever served, no process dies, and the next
 * opening is whole.
 */
#include "tests/unit/mbox_util.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#include "shared/base/macros.h"
#include "shared/mbox/box.h"
#include "shared/mbox/hash.h"

#define COUNT 300u /* more records than a page holds */

static int text_of(char *out, size_t size, uint32_t n)
{
    return snprintf(out, size, "Subject: number %u\n\nbody of %u, %.*s\n", n, n, (int)(n % 50),
                    "..................................................");
}

static void fill(struct scratch *s)
{
    char text[256];

    scratch_open(s);
    for (uint32_t n = 1; n <= COUNT; n++)
        assert_int_equal(append_text(s->store, "INBOX", text, (size_t)text_of(text, sizeof(text), n)), n);
}

/* Whatever is served is what was appended. 0, or the error that there is. */
static int look_at(struct mbox *v, uint32_t seq)
{
    char text[256], wire[300];
    struct buf all = BUF_INIT(1u << 20);
    struct mbox_stream *m = NULL;
    struct mbox_info info;
    struct str piece;
    size_t len = 0;
    int r = mbox_info(v, seq, &info);

    if (r < 0)
        return r;
    r = mbox_stream_new(v, seq, &m);
    while (r == 0 && (r = mbox_stream_next(m, &piece)) == 0 && piece.len > 0)
        assert_int_equal(buf_add_str(&all, piece), 0);
    mbox_stream_free(m);
    (void)text_of(text, sizeof(text), info.uid);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\n')
            wire[len++] = '\r';
        wire[len++] = *p;
    }
    assert_true(r < 0 || all.len == len);
    assert_true(all.len <= len);
    assert_true(all.len == 0 || memcmp(all.data, wire, all.len) == 0);
    buf_finish(&all);
    return r;
}

static void assert_whole(struct scratch *s)
{
    struct mbox_info info;
    struct mbox *v;

    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), COUNT);
    for (uint32_t seq = 1; seq <= COUNT; seq++) {
        assert_int_equal(mbox_info(v, seq, &info), 0);
        assert_int_equal(info.uid, seq);
        assert_int_equal(look_at(v, seq), 0);
    }
    assert_int_equal(mbox_close(v), 0);
}

/* ---- cut while it is mapped ---- */

static void use_info(struct mbox *v)
{
    for (uint32_t seq = 1; seq <= mbox_count(v); seq++)
        (void)look_at(v, seq);
}

static void use_numbers(struct mbox *v)
{
    struct mbox_status status;

    for (uint32_t uid = 1; uid <= COUNT; uid += 7) {
        uint32_t seq = mbox_seq(v, uid);

        assert_true(seq == 0 || seq == uid);
        (void)mbox_seq_from(v, uid);
    }
    if (mbox_view_status(v, &status) == 0)
        assert_int_equal(status.uidnext, COUNT + 1);
    for (unsigned n = 0; n < 64; n++)
        (void)mbox_keyword(v, n);
}

static void use_flags(struct mbox *v)
{
    _cleanup_numset_ struct numset all = NUMSET_INIT;
    struct mbox_flags flags = {.system = MBOX_FLAGGED};
    unsigned n;

    assert_int_equal(numset_add(&all, 1, UINT32_MAX), 0);
    (void)mbox_set_flags(v, &all, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL);
    (void)mbox_keyword_number(v, STR("word"), true, &n);
    (void)mbox_flush(v);
}

static void use_cache(struct mbox *v)
{
    struct str got;

    for (uint32_t seq = 1; seq <= mbox_count(v); seq += 50) {
        (void)mbox_cache_get(v, seq, MBOX_CACHE_ENVELOPE, &got);
        (void)mbox_cache_put(v, seq, MBOX_CACHE_ENVELOPE, STR("(envelope)"));
    }
}

static void use_expunge(struct mbox *v)
{
    _cleanup_numset_ struct numset none = NUMSET_INIT;
    _cleanup_numset_ struct numset gone = NUMSET_INIT;
    bool is_complete;

    assert_int_equal(numset_add(&none, COUNT + 5, COUNT + 9), 0);
    (void)mbox_remove(v, &none, NULL);
    (void)mbox_expunge(v, NULL, NULL);
    (void)mbox_vanished(v, 0, &gone, &is_complete);
}

static void use_poll(struct mbox *v)
{
    (void)mbox_poll(v, true, NULL);
    (void)mbox_poll(v, false, NULL);
}

static void (*const uses[])(struct mbox *v) = {use_info, use_numbers, use_flags, use_cache, use_expunge, use_poll};

/* In a process of its own, which must not die of it. cmocka's handlers stand aside for the store's. */
static void use_cut(struct scratch *s, void (*use)(struct mbox *v), off_t size, bool comes_back)
{
    _cleanup_free_ char *index = path_of(s, "state/INBOX.index");
    int status;
    pid_t child = fork();

    if (child == 0) {
        size_t len;
        char *text = read_file(index, &len);
        struct mbox *v;

        assert_int_equal(mbox_guard(), 0);
        assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(truncate(index, size), 0);
        use(v);
        if (comes_back) /* as cp(1) or rsync --inplace write it */
            write_file(index, text, len);
        use(v);
        (void)mbox_poll(v, false, NULL);
        use(v);
        (void)mbox_close(v);
        free(text);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_cut_index(void **state)
{
    const off_t sizes[] = {0, 100, INDEX_HEADER_SIZE, INDEX_HEADER_SIZE + 100 * (off_t)INDEX_BRIEF_SIZE + 7,
                           (off_t)index_rest_place(100) + 7};
    struct scratch s;

    (void)state;
    fill(&s);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (size_t n = 0; n < ARRAY_SIZE(uses); n++) {
            use_cut(&s, uses[n], sizes[i], false);
            assert_whole(&s);
            use_cut(&s, uses[n], sizes[i], true);
            assert_whole(&s);
        }
    }
    scratch_close(&s);
}

/* ---- damaged on the disk ---- */

static void flip(const struct scratch *s, off_t at)
{
    _cleanup_free_ char *index = path_of(s, "state/INBOX.index");
    int fd = open(index, O_RDWR);
    unsigned char byte;

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x15;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Where a byte of a record stands: in its brief or in its rest. */
static off_t place_of(uint32_t seq, size_t byte)
{
    return (off_t)(byte < INDEX_BRIEF_SIZE ? index_brief_place(seq - 1) + byte
                                           : index_rest_place(seq - 1) + byte - INDEX_BRIEF_SIZE);
}

/* A record of which one byte is another: its message is refused in this view, and there in the next. */
static void test_damaged_record(void **state)
{
    struct scratch s;
    struct mbox *v;

    (void)state;
    fill(&s);
    for (size_t byte = 0; byte < sizeof(struct index_record); byte += 3) {
        uint32_t seq = 1 + (uint32_t)byte * 2;

        flip(&s, place_of(seq, byte));
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(look_at(v, COUNT), seq == COUNT ? -EIO : 0);
        assert_int_equal(look_at(v, seq), -EIO);
        assert_int_equal(mbox_poll(v, false, NULL), -ESTALE);
        assert_int_equal(mbox_close(v), 0);
        assert_whole(&s);
    }
    scratch_close(&s);
}

/* A change must not make a damaged record look whole. What finds it may fail; the next try does not. */
static void change_damaged(struct scratch *s, struct mbox *v, int kind)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    struct mbox_flags flags = {.system = MBOX_SEEN};

    if (kind == 0) {
        assert_int_equal(numset_add(&uids, 1, COUNT), 0);
        (void)mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL);
        assert_int_equal(mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), 0);
    } else { /* what stands in front of the damaged one, or behind it */
        uint32_t uid = kind == 1 ? 1 : append_text(s->store, "INBOX", "Subject: last\n\nlast\n", 20);

        assert_int_equal(numset_add(&uids, uid, uid), 0);
        (void)mbox_remove(v, &uids, NULL);
        assert_int_equal(mbox_remove(v, &uids, NULL), 0);
    }
    (void)mbox_flush(v);
}

static void test_change_of_damaged(void **state)
{
    struct mbox_info info;
    struct scratch s;
    struct mbox *v;

    (void)state;
    for (int n = 0; n < 6; n++) {
        int kind = n % 3;
        uint32_t gone = kind == 1 ? 1 : 0;

        fill(&s);
        flip(&s, place_of(41, n < 3 ? offsetof(struct index_record, offset) : offsetof(struct index_record, flags)));
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        change_damaged(&s, v, kind);
        (void)mbox_close(v);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        for (uint32_t seq = 1; seq <= COUNT - gone; seq++)
            (void)look_at(v, seq); /* what nobody had to touch is found by now */
        (void)mbox_close(v);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_count(v), COUNT - gone);
        for (uint32_t seq = 1; seq <= COUNT - gone; seq++) {
            assert_int_equal(mbox_info(v, seq, &info), 0);
            assert_int_equal(info.uid, seq + gone);
            assert_int_equal(info.flags.system, kind == 0 ? MBOX_SEEN : 0);
            assert_int_equal(look_at(v, seq), 0);
        }
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

static void assert_deleted(const struct scratch *s, uint32_t first, uint32_t last)
{
    struct mbox_info info;
    struct mbox *v;

    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), COUNT);
    for (uint32_t seq = 1; seq <= COUNT; seq++) {
        assert_int_equal(mbox_info(v, seq, &info), 0);
        assert_int_equal(info.flags.system, seq >= first && seq <= last ? MBOX_DELETED : 0);
    }
    assert_int_equal(mbox_close(v), 0);
}

static int delete_some(struct mbox *v, uint32_t first, uint32_t last)
{
    struct mbox_flags flags = {.system = MBOX_DELETED};
    struct numset uids = NUMSET_INIT;
    int r;

    assert_int_equal(numset_add(&uids, first, last), 0);
    r = mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL);
    numset_finish(&uids);
    return r;
}

/* Flags that need the rest of a record do not get into the log when that rest is damaged. */
static void test_flags_of_damaged(void **state)
{
    struct scratch s;
    struct mbox *v;

    (void)state;
    fill(&s);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    flip(&s, place_of(41, offsetof(struct index_record, size)));
    assert_true(delete_some(v, 30, 50) < 0);
    (void)mbox_close(v);
    assert_deleted(&s, 0, 0);
    scratch_close(&s);
}

/* A UID that is not what it was misleads the search for a range, and ends it too early: all of the range, or none. */
static void test_uid_of_damaged(void **state)
{
    static const struct {
        uint32_t seq, first, last;
        size_t byte;
    } cases[] = {{41, 1, COUNT, 3}, {150, 150, 160, 3}, {151, 140, 160, 0}, {151, 120, 130, 3}, {151, 140, 170, 1},
                 {226, 200, 220, 0}, {76, 76, 76, 2}};
    struct scratch s;
    struct mbox *v;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        bool is_done;

        fill(&s);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        flip(&s, place_of(cases[i].seq, offsetof(struct index_record, uid) + cases[i].byte));
        is_done = delete_some(v, cases[i].first, cases[i].last) == 0;
        use_info(v); /* what nobody had to touch is found by now */
        (void)mbox_close(v);
        if (is_done)
            assert_deleted(&s, cases[i].first, cases[i].last);
        else
            assert_deleted(&s, 0, 0);
        scratch_close(&s);
    }
}

/* A view that saw the index while it was cut has zeros for it ever after: who puts the file back, in place, does not
 * make another message of the one that is meant. */
static void test_put_back(void **state)
{
    struct mbox_status status;
    struct scratch s;
    struct stat st;
    struct mbox *v;
    char path[128];
    void *copy;
    int fd;

    (void)state;
    fill(&s);
    assert_int_equal(mbox_guard(), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    (void)snprintf(path, sizeof(path), "%s/INBOX.index", s.state);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    copy = malloc((size_t)st.st_size);
    assert_non_null(copy);
    assert_int_equal(pread(fd, copy, (size_t)st.st_size, 0), st.st_size);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(mbox_view_status(v, &status), -EIO);
    assert_int_equal(pwrite(fd, copy, (size_t)st.st_size, 0), st.st_size);
    close(fd);
    free(copy);
    assert_int_equal(delete_some(v, 50, 60), 0);
    (void)mbox_close(v);
    assert_deleted(&s, 50, 60);
    scratch_close(&s);
}

/* A record that is being written at this moment is read again when it is whole. */
static void test_written_while_read(void **state)
{
    const off_t at = place_of(8, offsetof(struct index_record, check));
    struct mbox_stream *m;
    struct str piece;
    struct scratch s;
    struct mbox *v;
    struct box *b;
    int ready[2], status;
    pid_t child;
    char byte;

    (void)state;
    fill(&s);
    s.store->lock_timeout = 60; /* who reads waits as long as the other one takes */
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_stream_new(v, 8, &m), 0);
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        assert_int_equal(box_open(s.store, STR("INBOX"), false, &b), 0);
        assert_int_equal(box_lock(b, BOX_STATE), 0);
        flip(&s, at);
        assert_int_equal(write(ready[1], "r", 1), 1);
        (void)usleep(200000);
        flip(&s, at);
        box_unlock(b);
        _exit(0);
    }
    assert_int_equal(close(ready[1]), 0);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(mbox_stream_next(m, &piece), 0);
    assert_true(piece.len > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    mbox_stream_free(m);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(close(ready[0]), 0);
    scratch_close(&s);
}

/* Somebody else's mapping that is cut is not the store's to mend. */
static void test_other_mappings(void **state)
{
    struct scratch s;
    int status;
    pid_t child;

    (void)state;
    scratch_open(&s);
    child = fork();
    if (child == 0) {
        _cleanup_free_ char *path = path_of(&s, "other");
        volatile const char *p;
        int fd;

        assert_int_equal(mbox_guard(), 0);
        write_file(path, "abc", 3);
        fd = open(path, O_RDWR);
        p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        assert_true(p != MAP_FAILED);
        assert_int_equal(ftruncate(fd, 0), 0);
        _exit(p[1] == 'b');
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    scratch_close(&s);
}

/* The checksum of a record is the hash of its bytes, however it is worked out: files of yesterday check tomorrow. */
static void test_checksum(void **state)
{
    static const uint64_t no_key[2];
    uint8_t bytes[3 * MHASH_BLOCK + 1], sum[16];
    struct mhash h;
    uint64_t low;

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 37 + 11);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        mhash_init(&h, no_key);
        mhash_add(&h, bytes, len);
        mhash_done(&h, sum);
        memcpy(&low, sum, sizeof(low));
        assert_int_equal(mhash64(bytes, len), low);
    }
    if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
        assert_int_equal(mhash64(bytes, sizeof(bytes)), UINT64_C(0x4d8407dfeab78925));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_index),         cmocka_unit_test(test_damaged_record),
        cmocka_unit_test(test_change_of_damaged), cmocka_unit_test(test_written_while_read),
        cmocka_unit_test(test_flags_of_damaged),  cmocka_unit_test(test_put_back),
        cmocka_unit_test(test_uid_of_damaged),
        cmocka_unit_test(test_other_mappings),    cmocka_unit_test(test_checksum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
