/*
 * What changes with flags stands apart from the rest of the records: over the borders of batches and groups, told to
 * others, after a loss of the index, in one of an earlier version, and while somebody writes.
 */
#include "mbox_util.h"

#include <fcntl.h>
#include <time.h>

#include "shared/base/macros.h"
#include "shared/mbox/view.h"

#define COUNT (2 * INDEX_GROUP + 700)

struct model {
    uint32_t flags;
    uint64_t keywords;
    uint64_t modseq;
};

static struct model model[COUNT + 1];

/* Every fifth was read already by another program, every seventh has one of its keywords. */
static void fill(struct scratch *s)
{
    FILE *f;

    scratch_open(s);
    f = fopen(s->inbox, "w");
    assert_non_null(f);
    for (unsigned uid = 1; uid <= COUNT; uid++) {
        fprintf(f, "From a@example.org Sat Nov 14 12:00:00 2026\n%s%sSubject: %u\n\nbody %u\n\n",
                uid % 5 == 0 ? "Status: RO\n" : "", uid % 7 == 0 ? "X-Keywords: theirs\n" : "", uid, uid);
        model[uid] = (struct model){.flags = uid % 5 == 0 ? MBOX_SEEN : 0, .keywords = uid % 7 == 0};
    }
    fclose(f);
}

static bool is_moved(enum mbox_flags_mode mode, const struct mbox_flags *flags, struct model *m)
{
    struct model before = *m;

    if (mode == MBOX_FLAGS_SET)
        *m = (struct model){.flags = flags->system, .keywords = flags->keywords, .modseq = m->modseq};
    else if (mode == MBOX_FLAGS_ADD)
        *m = (struct model){before.flags | flags->system, before.keywords | flags->keywords, before.modseq};
    else
        *m = (struct model){before.flags & ~flags->system, before.keywords & ~flags->keywords, before.modseq};
    return before.flags != m->flags || before.keywords != m->keywords;
}

/* The sums of the header, and the bits, against what the records say. */
static void assert_index(const struct mbox *v)
{
    const struct index_header *h = v->ix.head;
    uint32_t unwritten = 0, logged = 0;

    for (uint64_t i = 0; i < h->count; i++) {
        struct index_record rec = index_load(&v->ix, i);
        bool is_own = rec.keywords != rec.file_keywords;

        assert_true(index_is_valid(&rec));
        assert_int_equal((rec.bits & INDEX_OWN_KEYWORDS) != 0, is_own);
        assert_int_equal((rec.bits & INDEX_PENDING) != 0, is_own || rec.flags != (rec.file_flags & ~INTEROP_OLD));
        unwritten += index_is_unwritten(&rec.brief);
        logged += index_is_logged(&rec.brief);
    }
    assert_int_equal(h->unwritten, unwritten);
    assert_int_equal(h->logged, logged);
}

static void assert_model(struct scratch *s, struct mbox *v)
{
    assert_int_equal(mbox_count(v), COUNT);
    for (uint32_t seq = 1; seq <= COUNT; seq++) {
        struct mbox_info info;

        assert_int_equal(mbox_info(v, seq, &info), 0);
        assert_int_equal(info.uid, seq);
        assert_int_equal(info.flags.system, model[seq].flags);
        assert_int_equal(info.flags.keywords, model[seq].keywords);
        if (model[seq].modseq != 0)
            assert_int_equal(info.modseq, model[seq].modseq);
    }
    assert_status(s->store, v);
}

static int count_flags(void *context, uint32_t seq)
{
    uint8_t *told = context;

    told[seq]++;
    return 0;
}

/* One change in `v`, as it is seen there and by another. */
static void change(struct scratch *s, struct mbox *v, struct mbox *other, enum mbox_flags_mode mode,
                   struct mbox_flags flags, const char *set)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    _cleanup_free_ uint8_t *told = calloc(COUNT + 1, 1);
    _cleanup_free_ bool *moved = calloc(COUNT + 1, 1);
    struct mbox_changes changes = {.flags = count_flags, .context = told};
    uint64_t modseq = v->ix.head->modseq + 1;

    assert_int_equal(numset_parse(str_from(set), &uids), 0);
    for (uint32_t uid = 1; uid <= COUNT; uid++) {
        moved[uid] = numset_has(&uids, uid) && is_moved(mode, &flags, &model[uid]);
        model[uid].modseq = moved[uid] ? modseq : model[uid].modseq;
    }
    assert_int_equal(mbox_set_flags(v, &uids, mode, flags, UINT64_MAX, NULL), 0);
    assert_model(s, v);
    assert_index(v);
    assert_int_equal(mbox_poll(other, false, &changes), 0);
    for (uint32_t uid = 1; uid <= COUNT; uid++)
        assert_int_equal(told[uid], moved[uid]);
    assert_model(s, other);
    poll_ok(v);
}

static void test_ranges(void **state)
{
    struct scratch s;
    struct mbox *v, *other;
    unsigned theirs, mine;
    char *index;

    (void)state;
    fill(&s);
    index = path_of(&s, "state/INBOX.index");
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &other), 0);
    assert_int_equal(mbox_keyword_number(v, STR("theirs"), false, &theirs), 0);
    assert_int_equal(theirs, 0);
    assert_model(&s, v);
    assert_index(v);
    change(&s, v, other, MBOX_FLAGS_ADD, (struct mbox_flags){.system = MBOX_FLAGGED}, "1:8892");
    change(&s, v, other, MBOX_FLAGS_ADD, (struct mbox_flags){.system = MBOX_SEEN}, "2:4096,4098:8191,8193");
    change(&s, v, other, MBOX_FLAGS_ADD, (struct mbox_flags){.system = MBOX_DELETED}, "1:7,511:514,4095:4099,8892");
    /* Some of them change their part in what \Deleted messages hold, some do not. */
    change(&s, v, other, MBOX_FLAGS_ADD, (struct mbox_flags){.system = MBOX_DELETED | MBOX_ANSWERED},
           "3:600,4000:4200");
    change(&s, v, other, MBOX_FLAGS_REMOVE, (struct mbox_flags){.system = MBOX_DELETED | MBOX_SEEN}, "1:8892");
    assert_int_equal(mbox_keyword_number(v, STR("mine"), true, &mine), 0);
    change(&s, v, other, MBOX_FLAGS_ADD, (struct mbox_flags){.keywords = UINT64_C(1) << mine}, "500:5000");
    change(&s, v, other, MBOX_FLAGS_ADD, (struct mbox_flags){.system = MBOX_DRAFT}, "400:5100");
    change(&s, v, other, MBOX_FLAGS_REMOVE, (struct mbox_flags){.keywords = UINT64_C(1) << mine | 1}, "1:4500");
    change(&s, v, other, MBOX_FLAGS_SET, (struct mbox_flags){.system = MBOX_SEEN}, "4090:4110,8000:8892");
    change(&s, v, other, MBOX_FLAGS_SET, (struct mbox_flags){.system = MBOX_SEEN}, "4000:8892");
    assert_int_equal(unlink(index), 0); /* from the log alone */
    assert_int_equal(mbox_close(other), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &other), 0);
    assert_model(&s, other);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_close(other), 0);
    free(index);
    scratch_close(&s);
}

/* An index of the time when records stood in one piece is made anew, whatever is in it. */
static void test_earlier_version(void **state)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    struct index_header h;
    struct scratch s;
    struct mbox *v;
    char *index;
    ino_t ino;
    int fd;

    (void)state;
    fill(&s);
    index = path_of(&s, "state/INBOX.index");
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(numset_add(&uids, 100, 5000), 0);
    for (uint32_t uid = 100; uid <= 5000; uid++)
        model[uid].flags |= MBOX_FLAGGED;
    assert_int_equal(
        mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, (struct mbox_flags){.system = MBOX_FLAGGED}, UINT64_MAX, NULL), 0);
    assert_int_equal(mbox_close(v), 0);
    fd = open(index, O_RDWR);
    assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
    h.version = 6;
    assert_int_equal(index_write_header(fd, &h), 0);
    close(fd);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(v->ix.head->version, INDEX_VERSION);
    ino = (ino_t)v->ix.ino;
    assert_model(&s, v);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(v->ix.ino, ino); /* once */
    assert_int_equal(mbox_close(v), 0);
    free(index);
    scratch_close(&s);
}

/* UIDs by ranges of numbers, with gaps between them of all kinds. */
static void test_uids(void **state)
{
    _cleanup_numset_ struct numset gone = NUMSET_INIT;
    struct scratch s;
    struct mbox *v;
    uint32_t count;

    (void)state;
    fill(&s);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    for (uint32_t uid = 1; uid <= COUNT; uid++)
        if ((uid < 300 && uid % 2 == 0) || (uid > 1000 && uid % 97 == 0) || (uid > 3000 && uid < 3200))
            assert_int_equal(numset_add(&gone, uid, uid), 0);
    assert_int_equal(mbox_remove(v, &gone, NULL), 0);
    for (int polled = 0; polled < 2; polled++) {
        count = mbox_count(v);
        for (uint32_t from = 1; from <= count; from += 1 + from * 7 % 131) {
            uint32_t to = from + from * 31 % 4099 < count ? from + from * 31 % 4099 : count;
            _cleanup_numset_ struct numset found = NUMSET_INIT, expected = NUMSET_INIT;
            struct mbox_info info;

            for (uint32_t seq = from; seq <= to; seq++) {
                assert_int_equal(mbox_info(v, seq, &info), 0);
                assert_int_equal(numset_add(&expected, info.uid, info.uid), 0);
            }
            assert_int_equal(mbox_uids(v, from, to, &found), 0);
            assert_int_equal(found.count, expected.count);
            assert_memory_equal(found.ranges, expected.ranges, found.count * sizeof(*found.ranges));
        }
        poll_ok(v);
    }
    {
        _cleanup_numset_ struct numset none = NUMSET_INIT;

        assert_int_equal(mbox_uids(v, 0, 1, &none), -EINVAL);
        assert_int_equal(mbox_uids(v, 2, 1, &none), -EINVAL);
        assert_int_equal(mbox_uids(v, 1, count + 1, &none), -EINVAL);
        assert_int_equal(none.count, 0);
    }
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* The parts of a record may be of two moments while somebody moves the message: it is read as it is afterwards. */
static void test_parts_of_two_moments(void **state)
{
    struct scratch s;
    struct mbox *v;
    int ready[2], status;
    pid_t child;
    char byte;

    (void)state;
    fill(&s);
    s.store->lock_timeout = 60;
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        struct index_brief whole, brief;
        struct box *b;

        assert_int_equal(box_open(s.store, STR("INBOX"), false, &b), 0);
        assert_int_equal(box_lock_synced(b, 0), 0);
        assert_int_equal(index_begin(b), 0);
        whole = brief = *index_brief(&b->ix, 7);
        brief.block = 60000;
        brief.check = index_brief_check(&brief);
        assert_int_equal(file_write(b->ix.fd, &brief, sizeof(brief), index_brief_place(7)), 0);
        assert_int_equal(write(ready[1], "r", 1), 1);
        (void)usleep(200000);
        assert_int_equal(file_write(b->ix.fd, &whole, sizeof(whole), index_brief_place(7)), 0);
        assert_int_equal(index_end(b), 0);
        box_unlock(b);
        _exit(0);
    }
    assert_int_equal(close(ready[1]), 0);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_message(v, 8, "Subject: 8\r\n\r\nbody 8\r\n");
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(close(ready[0]), 0);
    scratch_close(&s);
}

/* Nothing but zeros, as a file that was cut reads, is no record; parts of two records are none either. */
static void test_checks(void **state)
{
    static const struct index_record zeros;
    struct index_record a = {.uid = 7, .modseq = 9, .offset = 100, .length = 50, .size = 40}, b;

    (void)state;
    assert_false(index_brief_is_valid(&zeros.brief));
    assert_false(index_is_valid(&zeros));
    a.check = index_brief_check(&a.brief);
    a.rest_check = index_rest_check(&a);
    assert_true(index_is_valid(&a));
    b = a;
    b.uid = 8;
    b.check = index_brief_check(&b.brief);
    assert_true(index_brief_is_valid(&b.brief));
    assert_false(index_is_valid(&b));
    for (size_t bit = 0; bit < 8 * sizeof(a); bit++) {
        b = a;
        ((uint8_t *)&b)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(index_is_valid(&b));
    }
    if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) { /* files of today check tomorrow */
        assert_int_equal(a.check, 0xf302b96c);
        assert_int_equal(a.rest_check, 0x16d66b18);
    }
}

/* A view that fills its mapping to the last byte, with more behind it by now, which is not mapped. */
static void test_full_mapping(void **state)
{
    struct scratch s;
    struct mbox_status status;
    struct mbox *v;
    FILE *f;

    (void)state;
    scratch_open(&s);
    for (unsigned half = 0; half < 2; half++) {
        f = fopen(s.inbox, "a");
        assert_non_null(f);
        for (unsigned i = 0; i < INDEX_GROUP; i++)
            fprintf(f, "From a@example.org Sat Nov 14 12:00:00 2026\nSubject: %u\n\nbody\n\n", half * INDEX_GROUP + i);
        fclose(f);
        if (half == 0)
            assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        else
            poll_ok(v);
    }
    assert_int_equal(mbox_count(v), 2 * INDEX_GROUP);
    assert_true(append_text(s.store, "INBOX", "Subject: one more\n\nbody\n", 24) > 0);
    assert_int_equal(v->ix.head->count, 2 * INDEX_GROUP + 1);
    assert_int_equal(mbox_view_status(v, &status), 0);
    assert_int_equal(status.uidnext, 2 * INDEX_GROUP + 1);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

static void flip_bits(const struct scratch *s, uint64_t at, uint16_t bits)
{
    char *index = path_of(s, "state/INBOX.index");
    struct index_brief brief;
    int fd = open(index, O_RDWR | O_CLOEXEC);

    assert_int_equal(pread(fd, &brief, sizeof(brief), (off_t)index_brief_place(at)), sizeof(brief));
    brief.bits ^= bits;
    assert_int_equal(pwrite(fd, &brief, sizeof(brief), (off_t)index_brief_place(at)), sizeof(brief));
    close(fd);
    free(index);
}

static void remove_uid(struct mbox *v, uint32_t uid)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;

    assert_int_equal(numset_add(&uids, uid, uid), 0);
    assert_int_equal(mbox_remove(v, &uids, NULL), 0);
}

static void open_forty(struct scratch *s, struct mbox **ret)
{
    FILE *f;

    scratch_open(s);
    f = fopen(s->inbox, "w");
    assert_non_null(f);
    for (unsigned i = 0; i < 40; i++)
        fprintf(f, "From a@example.org Sat Nov 14 12:00:00 2026\nSubject: %u\n\nbody\n\n", i);
    fclose(f);
    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, ret), 0);
}

/* One flipped bit of damage must not make a message look gone: holes are believed only where their checksums hold. That
 * of one that is gone must not make the mailbox look like another. */
static void test_damaged_expunged(void **state)
{
    static const uint16_t damage[][2] = {{10, INDEX_EXPUNGED}, {39, INDEX_EXPUNGED}, {39, INDEX_HAS_8BIT}};
    struct mbox_status status;
    struct scratch s;
    struct mbox *v;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(damage); i++) {
        uint32_t uidvalidity;

        open_forty(&s, &v);
        uidvalidity = v->uidvalidity;
        remove_uid(v, 40); /* so that the index has a hole, and is looked through for them */
        assert_int_equal(mbox_close(v), 0);
        flip_bits(&s, damage[i][0], damage[i][1]);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_count(v), 39);
        assert_false(mbox_is_readonly(v));
        assert_int_equal(mbox_view_status(v, &status), 0);
        assert_int_equal(status.uidvalidity, uidvalidity);
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

/* A view in which half of what is new has come to be has no number in it any more. */
static void test_damaged_under_view(void **state)
{
    struct mbox *v, *other;
    struct scratch s;

    (void)state;
    open_forty(&s, &v);
    remove_uid(v, 5);
    assert_int_equal(mbox_poll(v, false, NULL), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &other), 0);
    remove_uid(other, 30);
    assert_int_equal(mbox_close(other), 0);
    flip_bits(&s, 4, INDEX_HAS_8BIT);
    assert_int_equal(mbox_poll(v, false, NULL), -ESTALE);
    (void)mbox_close(v);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 38);
    assert_false(mbox_is_readonly(v));
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges), cmocka_unit_test(test_earlier_version),
        cmocka_unit_test(test_uids),   cmocka_unit_test(test_parts_of_two_moments),
        cmocka_unit_test(test_checks), cmocka_unit_test(test_full_mapping), cmocka_unit_test(test_damaged_expunged),
        cmocka_unit_test(test_damaged_under_view),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
