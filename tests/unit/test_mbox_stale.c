/*
 * What is known is older than the box: a state that came back from a backup or lost its end, a file that changed in
 * front of the mail that came.
 */
#include "tests/unit/mbox_util.h"

#include "shared/base/macros.h"

static const char first[] = "From a Sat Nov 14 12:00:00 2026\nSubject: one\nStatus: O \n\none\n\n";
static const char second[] = "From a Sat Nov 14 12:00:00 2026\nSubject: two\nStatus: O \n\ntwo\n\n";
static const char third[] = "From a Sat Nov 14 12:00:00 2026\nSubject: three\n\nthree\n\n";

static void write_three(const struct scratch *s, const char *a, const char *b, const char *c, const char *d)
{
    char text[512];

    write_file(s->inbox, text, (size_t)snprintf(text, sizeof(text), "%s%s%s%s", a, b, c, d));
}

/* ---- a state that is damaged, or older than the box ---- */

static void copy_side(const struct scratch *s, const char *from, const char *to)
{
    _cleanup_free_ char *source = path_of(s, from), *target = path_of(s, to);
    size_t len;
    char *text = read_file(source, &len);

    write_file(target, text, len);
    free(text);
}

static void remove_uids(struct mbox *v, uint32_t first_uid, uint32_t last_uid)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;

    assert_int_equal(numset_add(&uids, first_uid, last_uid), 0);
    assert_int_equal(mbox_remove(v, &uids, NULL), 0);
}

/* The homes came back from a backup, the spool did not need to: what was given since is neither given again nor
 * forgotten. kind 0: the whole state folder; 1: without its index; 2: with somebody who looked in between. */
static void test_state_from_backup(void **state)
{
    static const char foreign[] = "From a Sat Nov 14 12:00:00 2026\nSubject: foreign\n\nforeign\n\n";
    static const uint32_t uids[] = {1, 2, 3, 4, 7};
    struct mbox_status status;
    struct mbox_info info;
    struct scratch s;
    struct mbox *v;
    FILE *f;

    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        char *index;

        scratch_open(&s);
        index = path_of(&s, "state/INBOX.index");
        for (int i = 0; i < 3; i++)
            append_text(s.store, "INBOX", "Subject: first ones\n\nx\n", 23);
        copy_side(&s, "state/INBOX.state", "old.state");
        copy_side(&s, "state/INBOX.index", "old.index");
        for (int i = 0; i < 3; i++)
            append_text(s.store, "INBOX", "Subject: later ones\n\nx\n", 23);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        remove_uids(v, 5, 6);
        assert_int_equal(mbox_close(v), 0);
        f = fopen(s.inbox, "a");
        assert_true(fputs(foreign, f) >= 0);
        assert_int_equal(fclose(f), 0);
        copy_side(&s, "old.state", "state/INBOX.state");
        copy_side(&s, "old.index", "state/INBOX.index");
        if (kind == 1)
            assert_int_equal(unlink(index), 0);
        if (kind == 2)
            assert_int_equal(mbox_status(s.store, STR("INBOX"), &status), 0);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_count(v), ARRAY_SIZE(uids));
        for (uint32_t seq = 1; seq <= mbox_count(v); seq++) {
            assert_int_equal(mbox_info(v, seq, &info), 0);
            assert_int_equal(info.uid, uids[seq - 1]);
        }
        assert_int_equal(mbox_close(v), 0);
        assert_int_equal(append_text(s.store, "INBOX", "Subject: last\n\nx\n", 17), 8);
        free(index);
        scratch_close(&s);
    }
}

/* Dovecot gives UIDs too, and says so in X-IMAPbase: those of its new mail are taken over, and none is given twice,
 * also where new mail is told before the rest of the file is looked at. */
static void test_uids_of_others(void **state)
{
    static const char mail[] = "From a Sat Nov 14 12:00:00 2026\nSubject: four\n%s\nfour\n\n";

    (void)state;
    for (int has_uid = 0; has_uid < 2; has_uid++) {
        char *text, *base;
        struct mbox_info info;
        struct scratch s;
        struct mbox *v;
        FILE *f;

        scratch_open(&s);
        for (int i = 0; i < 3; i++)
            append_text(s.store, "INBOX", "Subject: first ones\n\nx\n", 23);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        text = read_file(s.inbox, NULL);
        base = strstr(text, " 0000000003");
        assert_non_null(base);
        f = fopen(s.inbox, "r+");
        assert_non_null(f);
        assert_int_equal(fseek(f, base - text, SEEK_SET), 0);
        assert_true(fputs(" 0000000008", f) >= 0);
        assert_int_equal(fseek(f, 0, SEEK_END), 0);
        assert_true(fprintf(f, mail, has_uid ? "X-UID: 8\n" : "") > 0);
        assert_int_equal(fclose(f), 0);
        free(text);
        poll_ok(v);
        assert_int_equal(mbox_count(v), 4);
        assert_int_equal(mbox_info(v, 4, &info), 0);
        assert_int_equal(info.uid, has_uid ? 8 : 9);
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

/* A byte of the log damaged, or the log cut there: a UID that was told is never another message's. */
static void damage_state(struct scratch *s, const char *text, size_t len, size_t at, bool is_cut, uint32_t validity)
{
    _cleanup_free_ char *log = path_of(s, "state/INBOX.state"), *index = path_of(s, "state/INBOX.index");
    char *copy = malloc(len);
    struct mbox_status status;
    struct mbox_info info;
    struct mbox *v;

    memcpy(copy, text, len);
    copy[at] ^= 0x21;
    write_file(log, copy, is_cut ? at : len);
    free(copy);
    (void)unlink(index);
    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_view_status(v, &status), 0);
    assert_int_equal(mbox_count(v), 5);
    assert_true(status.uidvalidity >= validity);
    for (uint32_t seq = 1; seq <= 5; seq++) {
        assert_int_equal(mbox_info(v, seq, &info), 0);
        assert_true(status.uidvalidity != validity || info.uid == seq || info.uid > 5);
    }
    assert_int_equal(mbox_close(v), 0);
}

static void test_damaged_state(void **state)
{
    struct mbox_flags flags = {.system = MBOX_FLAGGED};
    _cleanup_numset_ struct numset odd = NUMSET_INIT;
    struct mbox_status status;
    struct scratch s;
    struct mbox *v;
    char *text, *box, *log;
    size_t len, box_len;

    (void)state;
    scratch_open(&s);
    write_three(&s, first, second, third, "");
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    append_text(s.store, "INBOX", "Subject: four\n\nx\n", 17);
    append_text(s.store, "INBOX", "Subject: five\n\nx\n", 17);
    poll_ok(v);
    for (uint32_t uid = 1; uid <= 5; uid += 2) {
        assert_int_equal(numset_add(&odd, uid, uid), 0);
        assert_int_equal(mbox_set_flags(v, &odd, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), 0);
    }
    assert_int_equal(mbox_view_status(v, &status), 0);
    log = path_of(&s, "state/INBOX.state");
    text = read_file(log, &len);
    box = read_file(s.inbox, &box_len);
    assert_int_equal(mbox_close(v), 0);
    for (size_t at = 0; at < len; at += 3) {
        for (int is_cut = 0; is_cut < 2; is_cut++) {
            write_file(s.inbox, box, box_len);
            damage_state(&s, text, len, at, is_cut, status.uidvalidity);
        }
    }
    free(log);
    free(text);
    free(box);
    scratch_close(&s);
}

/* ---- new mail is told before the rest is looked at ---- */

struct told {
    uint32_t count;
    uint32_t flags;
};

static int on_arrived(void *context, uint32_t count)
{
    ((struct told *)context)->count = count;
    return 0;
}

static int on_flags(void *context, uint32_t seq)
{
    ((struct told *)context)->flags |= 1u << seq;
    return 0;
}

/* Messages that were exchanged, at equal length, and mail behind them: it is told, and nobody gets the bytes of another
 * message. */
static void test_grown_and_changed(void **state)
{
    struct told told;
    const struct mbox_changes changes = {.context = &told, .arrived = on_arrived, .flags = on_flags};
    struct mbox_info info;
    struct scratch s;
    struct mbox *v;

    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        told = (struct told){0};
        scratch_open(&s);
        write_three(&s, first, second, third, "");
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_true(mbox_watch_interval(v) > 300);
        write_three(&s, second, first, third, third);
        assert_int_equal(mbox_poll(v, false, &changes), 0);
        assert_int_equal(told.count, 4);
        assert_true(mbox_watch_interval(v) <= 300);
        if (kind == 0) {
            assert_message(v, 1, "Subject: one\r\n\r\none\r\n");
            assert_message(v, 2, "Subject: two\r\n\r\ntwo\r\n");
        } else if (kind == 1) { /* as one that waits does */
            poll_ok(v);
            assert_true(mbox_watch_interval(v) > 300);
            assert_int_equal(mbox_info(v, 1, &info), 0);
            assert_int_equal(info.uid, 1);
            assert_message(v, 1, "Subject: one\r\n\r\none\r\n");
        } else { /* more mail, still unproven; then a flag is changed in front of more */
            write_three(&s, second, first, third, third);
            append_text(s.store, "INBOX", "Subject: five\n\nfive\n", 20);
            assert_message(v, 2, "Subject: two\r\n\r\ntwo\r\n");
            poll_ok(v);
            assert_int_equal(mbox_count(v), 5);
        }
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

/* A flag that was changed in front of new mail is told with the next poll. */
static void test_grown_and_flagged(void **state)
{
    struct told told = {0};
    const struct mbox_changes changes = {.context = &told, .arrived = on_arrived, .flags = on_flags};
    struct mbox_info info;
    struct scratch s;
    struct mbox *v;
    char *text, *place;
    size_t len;

    (void)state;
    scratch_open(&s);
    write_three(&s, first, second, third, "");
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    text = read_file(s.inbox, &len);
    text = realloc(text, len + sizeof(third));
    place = strstr(text, "Status: O ");
    assert_non_null(place);
    memcpy(place, "Status: RO", 10);
    memcpy(text + len, third, sizeof(third) - 1);
    write_file(s.inbox, text, len + sizeof(third) - 1);
    free(text);
    assert_int_equal(mbox_poll(v, false, &changes), 0);
    assert_int_equal(told.count, 4);
    assert_int_equal(told.flags, 0);
    assert_int_equal(mbox_poll(v, false, &changes), 0);
    assert_int_equal(told.flags, 1u << 1);
    assert_int_equal(mbox_info(v, 1, &info), 0);
    assert_int_equal(info.flags.system, MBOX_SEEN);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* ---- a box that is cut under a reader ---- */

/* By another program, which heeds no lock: no other bytes are sent, and what is left is told. */
static void test_cut_while_read(void **state)
{
    static const off_t sizes[] = {100000, 1000, 0};
    struct told told = {0};
    const struct mbox_changes changes = {.context = &told, .arrived = on_arrived};
    struct mbox_stream *m;
    struct scratch s;
    struct str piece;
    struct mbox *v;
    char *text = malloc(300000);
    uint64_t got;
    int r;

    (void)state;
    memset(text, 'a', 300000);
    memcpy(text, "Subject: long\n\n", 15);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        scratch_open(&s);
        append_text(s.store, "INBOX", text, 300000);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_stream_new(v, 1, &m), 0);
        assert_int_equal(mbox_stream_next(m, &piece), 0);
        got = piece.len;
        assert_int_equal(truncate(s.inbox, sizes[i]), 0);
        while ((r = mbox_stream_next(m, &piece)) == 0 && piece.len > 0) {
            for (size_t k = 0; k < piece.len; k++)
                assert_int_equal(piece.ptr[k], 'a');
            got += piece.len;
        }
        assert_int_equal(r, -ESTALE);
        assert_true(got < 300000);
        mbox_stream_free(m);
        assert_int_equal(mbox_poll(v, false, &changes), 0);
        assert_int_equal(mbox_count(v), sizes[i] > 0);
        assert_int_equal(mbox_close(v), 0);
        assert_int_equal(append_text(s.store, "INBOX", "Subject: next\n\nx\n", 17), sizes[i] > 0 ? 3 : 2);
        scratch_close(&s);
    }
    free(text);
}

/* ---- files that are too large to be read again whenever mail arrives ---- */

#define LARGE_COUNT 800u
#define LARGE_SIZE  (90u << 10) /* of each message: 70 MB */

static size_t large_place(uint32_t uid)
{
    return (size_t)(uid - 1) * LARGE_SIZE;
}

/* Another program's, all of the same length. */
static void write_large(const struct scratch *s)
{
    char *all = malloc(LARGE_COUNT * LARGE_SIZE);

    assert_non_null(all);
    memset(all, 'x', LARGE_COUNT * LARGE_SIZE);
    for (uint32_t uid = 1; uid <= LARGE_COUNT; uid++) {
        char *p = all + large_place(uid);
        int n = snprintf(p, 200, "From a Sat Nov 14 12:00:00 2026\nSubject: number %03u\nStatus:   \n\n", uid);

        p[n] = 'x';
        for (size_t at = 1000; at < LARGE_SIZE; at += 1000)
            p[at] = '\n';
        memcpy(p + LARGE_SIZE - 2, "\n\n", 2);
    }
    write_file(s->inbox, all, LARGE_COUNT * LARGE_SIZE);
    free(all);
}

static void write_at(const struct scratch *s, size_t offset, const void *data, size_t len)
{
    FILE *f = fopen(s->inbox, "r+");

    assert_non_null(f);
    assert_int_equal(fseek(f, (long)offset, SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void mail_arrives(const struct scratch *s)
{
    FILE *f = fopen(s->inbox, "a");

    assert_non_null(f);
    assert_true(fputs(third, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* Two messages of the same length changed places just before mail arrived, where nobody looks: the right one goes. */
static void test_large_exchanged(void **state)
{
    const uint32_t one = 508, two = 509;
    char *all, subject[32];
    struct mbox_info info;
    struct scratch s;
    struct mbox *v;
    size_t len;

    (void)state;
    scratch_open(&s);
    write_large(&s);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    all = read_file(s.inbox, &len);
    write_at(&s, large_place(one), all + large_place(two), LARGE_SIZE);
    write_at(&s, large_place(two), all + large_place(one), LARGE_SIZE);
    free(all);
    mail_arrives(&s);
    poll_ok(v);
    remove_uids(v, one, one);
    poll_ok(v);
    assert_int_equal(mbox_count(v), LARGE_COUNT);
    all = read_file(s.inbox, &len);
    snprintf(subject, sizeof(subject), "Subject: number %u\n", one);
    assert_null(memmem(all, len, subject, strlen(subject)));
    snprintf(subject, sizeof(subject), "Subject: number %u\n", two);
    assert_non_null(memmem(all, len, subject, strlen(subject)));
    free(all);
    assert_int_equal(mbox_info(v, mbox_seq(v, two), &info), 0);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* A flag that changed so is seen some mails later, wherever it is. */
static void test_large_flagged(void **state)
{
    const uint32_t uid = 508;
    struct mbox_info info;
    struct scratch s;
    struct mbox *v;
    char *all;

    (void)state;
    scratch_open(&s);
    write_large(&s);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    all = read_file(s.inbox, NULL);
    write_at(&s, (size_t)(strstr(all + large_place(uid), "Status: ") + 8 - all), "R", 1);
    free(all);
    for (int i = 0; i < 6; i++) {
        mail_arrives(&s);
        poll_ok(v);
        poll_ok(v); /* tells first, and looks then */
    }
    assert_int_equal(mbox_info(v, mbox_seq(v, uid), &info), 0);
    assert_int_equal(info.flags.system, MBOX_SEEN);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_from_backup), cmocka_unit_test(test_uids_of_others),
        cmocka_unit_test(test_damaged_state),     cmocka_unit_test(test_grown_and_changed),
        cmocka_unit_test(test_grown_and_flagged), cmocka_unit_test(test_cut_while_read),
        cmocka_unit_test(test_large_exchanged),   cmocka_unit_test(test_large_flagged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
