/*
 * Flags are changed by runs of messages that are alike: over the borders of batches and groups, around what is gone,
 * and with damage or somebody else's change in the midst of one.
 */
#include "mbox_util.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "shared/base/macros.h"
#include "shared/mbox/view.h"

#define COUNT (2 * INDEX_GROUP + 600)
#define LAST  "4294967295" /* the highest UID that there can be */

static const uint32_t borders[] = {1, 2, 511, 512, 513, 4095, 4096, 4097, 8193, COUNT - 1, COUNT};

static const char *to_be_cut; /* an index that loses most of its records when the log has become durable */

/* In the place of libc's. */
int fdatasync(int fd)
{
    struct stat st;

    if (to_be_cut != NULL) {
        assert_int_equal(stat(to_be_cut, &st), 0);
        assert_int_equal(truncate(to_be_cut, INDEX_HEADER_SIZE + 100 * (off_t)INDEX_BRIEF_SIZE), 0);
        assert_int_equal(truncate(to_be_cut, st.st_size), 0);
        to_be_cut = NULL;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* Messages that are alike. */
static void fill(struct scratch *s, struct mbox **ret)
{
    FILE *f;

    scratch_open(s);
    f = fopen(s->inbox, "w");
    assert_non_null(f);
    for (unsigned uid = 1; uid <= COUNT; uid++)
        fprintf(f, "From a@example.org Sat Nov 14 12:00:00 2026\nSubject: %u\n\nbody\n\n", uid);
    fclose(f);
    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, ret), 0);
}

static int set_flags(struct mbox *v, const char *set, enum mbox_flags_mode mode, uint32_t flags)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;

    assert_int_equal(numset_parse(str_from(set), &uids), 0);
    return mbox_set_flags(v, &uids, mode, (struct mbox_flags){.system = flags}, UINT64_MAX, NULL);
}

static bool is_pending(const struct index_record *rec)
{
    return rec->flags != (rec->file_flags & ~INTEROP_OLD) || rec->keywords != rec->file_keywords;
}

/* Every record, and the sums over them. `model`: flags by UID, those of what is gone do not count. */
static void assert_index(const struct index *ix, const uint8_t *model)
{
    const struct index_header *h = ix->head;
    uint32_t unwritten = 0, logged = 0, unseen = 0;

    for (uint64_t i = 0; i < h->count; i++) {
        struct index_record rec = index_load(ix, i);

        assert_true(index_is_valid(&rec));
        assert_int_equal(rec.uid, i + 1);
        unwritten += index_is_unwritten(&rec.brief);
        logged += index_is_logged(&rec.brief);
        if (rec.bits & INDEX_EXPUNGED)
            continue;
        assert_int_equal(rec.flags, model[rec.uid]);
        assert_int_equal((rec.bits & INDEX_PENDING) != 0, is_pending(&rec));
        unseen += !(rec.flags & MBOX_SEEN);
        assert_true((rec.flags & MBOX_SEEN) || i >= h->first_unseen);
    }
    assert_int_equal(h->unwritten, unwritten);
    assert_int_equal(h->logged, logged);
    assert_int_equal(h->unseen, unseen);
}

static void change(struct scratch *s, struct mbox *v, uint8_t *model, const char *set, enum mbox_flags_mode mode,
                   uint8_t flags)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;

    assert_int_equal(numset_parse(str_from(set), &uids), 0);
    for (uint32_t uid = 1; uid <= COUNT; uid++)
        if (numset_has(&uids, uid))
            model[uid] = mode == MBOX_FLAGS_SET   ? flags
                         : mode == MBOX_FLAGS_ADD ? model[uid] | flags
                                                  : model[uid] & (uint8_t)~flags;
    assert_int_equal(set_flags(v, set, mode, flags), 0);
    assert_index(&v->ix, model);
    assert_status(s->store, v);
}

static void test_borders(void **state)
{
    _cleanup_free_ uint8_t *model = calloc(COUNT + 1, 1);
    _cleanup_numset_ struct numset gone = NUMSET_INIT;
    struct scratch s;
    struct mbox *v;
    char set[64];

    (void)state;
    fill(&s, &v);
    change(&s, v, model, "1:" LAST, MBOX_FLAGS_ADD, MBOX_FLAGGED);
    change(&s, v, model, "1:" LAST, MBOX_FLAGS_ADD, MBOX_SEEN);
    change(&s, v, model, "4097:8192", MBOX_FLAGS_REMOVE, MBOX_SEEN);
    for (size_t i = 0; i < ARRAY_SIZE(borders); i++) {
        snprintf(set, sizeof(set), "%u:%u", borders[i], borders[i] + (uint32_t)i * 300);
        change(&s, v, model, set, i % 2 ? MBOX_FLAGS_REMOVE : MBOX_FLAGS_ADD, MBOX_ANSWERED | MBOX_SEEN);
    }
    change(&s, v, model, "6000:7000", MBOX_FLAGS_SET, 0);
    /* Now the file knows the flags and UIDs of some; and some go. */
    assert_int_equal(mbox_flush(v), 0);
    assert_index(&v->ix, model);
    assert_int_equal(numset_parse(STR("1,300:310,511,513,4096,5001,7500:8193"), &gone), 0);
    assert_int_equal(mbox_remove(v, &gone, NULL), 0);
    poll_ok(v);
    change(&s, v, model, "1:" LAST, MBOX_FLAGS_REMOVE, MBOX_FLAGGED);
    change(&s, v, model, "3:5000,5002:" LAST, MBOX_FLAGS_SET, MBOX_SEEN | MBOX_DRAFT);
    change(&s, v, model, "1:" LAST, MBOX_FLAGS_ADD, MBOX_FLAGGED | MBOX_SEEN);
    change(&s, v, model, "500:" LAST, MBOX_FLAGS_REMOVE, MBOX_SEEN);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

static off_t size_of_log(const struct scratch *s)
{
    char path[128];
    struct stat facts;

    snprintf(path, sizeof(path), "%s/INBOX.state", s->state);
    assert_int_equal(stat(path, &facts), 0);
    return facts.st_size;
}

static void flip(const struct scratch *s, off_t place)
{
    char path[128], byte;
    int fd;

    snprintf(path, sizeof(path), "%s/INBOX.index", s->state);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, place), 1);
    byte ^= 8;
    assert_int_equal(pwrite(fd, &byte, 1, place), 1);
    close(fd);
}

/* Nothing of a change that meets damage gets into the log, whatever it went over before. */
static void test_damage(void **state)
{
    static const size_t fields[] = {offsetof(struct index_brief, modseq), offsetof(struct index_brief, flags),
                                    offsetof(struct index_brief, bits), offsetof(struct index_brief, form),
                                    offsetof(struct index_brief, check)};
    _cleanup_free_ uint8_t *model = calloc(COUNT + 1, 1);
    struct scratch s;
    struct mbox *v;
    off_t size;

    (void)state;
    fill(&s, &v);
    change(&s, v, model, "1:" LAST, MBOX_FLAGS_ADD, MBOX_FLAGGED);
    for (size_t i = 0; i < ARRAY_SIZE(borders); i++) {
        uint64_t place = index_brief_place(borders[i] - 1) + fields[i % ARRAY_SIZE(fields)];

        size = size_of_log(&s);
        flip(&s, (off_t)place);
        assert_true(set_flags(v, "1:" LAST, MBOX_FLAGS_ADD, MBOX_SEEN) < 0);
        assert_int_equal(size_of_log(&s), size);
        (void)mbox_close(v);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_count(v), COUNT);
        assert_index(&v->ix, model);
    }
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

static void begin(struct scratch *s, struct box **ret)
{
    assert_int_equal(box_open(s->store, STR("INBOX"), false, ret), 0);
    assert_int_equal(box_lock_synced(*ret, 0), 0);
    assert_int_equal(index_begin(*ret), 0);
}

static void end(struct box *b)
{
    box_unlock(b);
    box_free(b);
}

/* Messages of which the file knows all sorts of things. */
static void test_sums(void **state)
{
    _cleanup_free_ uint8_t *model = calloc(COUNT + 1, 1);
    struct index_run run = {.at = 3, .count = COUNT - 8, .uid = 4};
    struct scratch s;
    struct mbox *v;
    struct box *b;

    (void)state;
    fill(&s, &v);
    begin(&s, &b);
    for (uint64_t i = 0; i < COUNT; i++) {
        struct index_record rec = index_load(&b->ix, i);

        rec.bits = i & 1 ? INDEX_UID_IN_FILE : 0;
        rec.block = i & 2 ? 40 : 0;
        rec.file_flags = (uint8_t)((i & 4 ? MBOX_FLAGGED : 0) | (i & 8 ? INTEROP_OLD : 0));
        rec.file_keywords = i & 16 ? 1 : 0;
        rec.bits |= is_pending(&rec) ? INDEX_PENDING : 0;
        assert_int_equal(index_put(b, i, &rec), 0);
    }
    assert_int_equal(index_end(b), 0);
    assert_index(&b->ix, model);
    for (unsigned turn = 0; turn < 4; turn++) {
        run.before = run.after;
        run.after.flags = turn % 2 ? MBOX_FLAGGED : MBOX_SEEN;
        memset(model + run.uid, run.after.flags, run.count);
        assert_int_equal(index_begin(b), 0);
        assert_int_equal(index_put_flags(b, &b->ix, &run, 9), 0);
        assert_int_equal(index_end(b), 0);
        assert_index(&b->ix, model);
    }
    end(b);
    (void)mbox_close(v); /* which finds out that the file knows nothing of the kind */
    scratch_close(&s);
}

/* What reads otherwise when it is written than when it was looked at is not made whole. */
static void test_cut_meanwhile(void **state)
{
    struct scratch s;
    struct mbox *v;
    struct box *b;

    (void)state;
    fill(&s, &v);
    for (uint64_t shift = 0; shift < 2; shift++) {
        struct index_run run = {.at = 100, .count = 1000, .uid = 101 + (uint32_t)shift, .after.flags = MBOX_SEEN};

        begin(&s, &b);
        assert_int_equal(index_put_flags(b, &b->ix, &run, 9), shift == 0 ? 0 : -EIO);
        index_abort(b);
        assert_true(b->ix.head->is_dirty);
        end(b);
    }
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* What the second look does not find any more is not taken for done: the log says what was asked for. */
static void test_cut_behind_the_log(void **state)
{
    _cleanup_free_ uint8_t *model = calloc(COUNT + 1, 1);
    char path[sizeof((struct scratch){0}.state) + 16];
    struct scratch s;
    struct mbox *v;
    struct box *b;

    (void)state;
    fill(&s, &v);
    (void)snprintf(path, sizeof(path), "%s/INBOX.index", s.state);
    to_be_cut = path;
    assert_int_equal(set_flags(v, "1:" LAST, MBOX_FLAGS_ADD, MBOX_ANSWERED), -EIO);
    assert_null(to_be_cut);
    (void)mbox_close(v);
    memset(model, MBOX_ANSWERED, COUNT + 1);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    begin(&s, &b);
    assert_index(&b->ix, model);
    index_abort(b);
    end(b);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

static int note(void *context, uint32_t seq)
{
    struct numset *told = context;

    return numset_add(told, seq, seq);
}

/* What somebody else changed in the midst of a run is told afterwards, and nothing else. */
static void test_untold(void **state)
{
    _cleanup_numset_ struct numset told = NUMSET_INIT;
    struct mbox_changes changes = {.flags = note, .context = &told};
    struct mbox *v, *other;
    struct scratch s;

    (void)state;
    fill(&s, &v);
    assert_int_equal(set_flags(v, "1:" LAST, MBOX_FLAGS_ADD, MBOX_ANSWERED), 0);
    poll_ok(v);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &other), 0);
    assert_int_equal(set_flags(other, "700,5000:5001,8192:8193", MBOX_FLAGS_ADD, MBOX_FLAGGED), 0);
    assert_int_equal(set_flags(other, "700,5000:5001,8192:8193", MBOX_FLAGS_REMOVE, MBOX_FLAGGED), 0);
    assert_int_equal(set_flags(v, "1:" LAST, MBOX_FLAGS_ADD, MBOX_SEEN), 0);
    assert_int_equal(mbox_poll(v, false, &changes), 0);
    assert_int_equal(told.count, 3);
    assert_true(numset_has(&told, 700) && numset_has(&told, 5000) && numset_has(&told, 5001));
    assert_true(numset_has(&told, 8192) && numset_has(&told, 8193));
    assert_int_equal(mbox_close(other), 0);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* Those that changed since are left alone, in the midst of others. */
static void test_unchanged_since(void **state)
{
    _cleanup_numset_ struct numset all = NUMSET_INIT, modified = NUMSET_INIT;
    _cleanup_free_ uint8_t *model = calloc(COUNT + 1, 1);
    struct mbox_flags seen = {.system = MBOX_SEEN};
    struct scratch s;
    struct mbox *v;
    uint64_t modseq;

    (void)state;
    fill(&s, &v);
    modseq = v->ix.head->modseq;
    change(&s, v, model, "512,4096:4097", MBOX_FLAGS_ADD, MBOX_SEEN);
    change(&s, v, model, "512,4096:4097", MBOX_FLAGS_REMOVE, MBOX_SEEN);
    assert_int_equal(numset_add(&all, 1, COUNT), 0);
    assert_int_equal(mbox_set_flags(v, &all, MBOX_FLAGS_ADD, seen, modseq, &modified), 0);
    for (uint32_t uid = 1; uid <= COUNT; uid++)
        model[uid] = numset_has(&modified, uid) ? 0 : MBOX_SEEN;
    assert_int_equal(modified.count, 2);
    assert_true(numset_has(&modified, 512) && numset_has(&modified, 4096) && numset_has(&modified, 4097));
    assert_index(&v->ix, model);
    assert_status(s.store, v);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_borders),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_cut_meanwhile),
        cmocka_unit_test(test_cut_behind_the_log),
        cmocka_unit_test(test_untold),
        cmocka_unit_test(test_unchanged_since),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
