/*
 * The whole path through the facade of the mbox store, on files in a scratch folder.
 */
#include "tests/unit/mbox_util.h"

static const char two[] = "From a@example.org Sat Nov 14 12:00:00 2026\n"
                          "Subject: one\n"
                          "Status: RO\n"
                          "\n"
                          "first\n"
                          ">From quoted by somebody else\n"
                          "\n"
                          "From b@example.org Sat Nov 14 13:00:00 2026 +0100\n"
                          "Subject: two\n"
                          "\n"
                          "second\n";

static void test_foreign(void **state)
{
    struct scratch s;
    struct mbox *v;
    struct mbox_info info;
    struct mbox_status status;

    (void)state;
    scratch_open(&s);
    write_file(s.inbox, two, sizeof(two) - 1);
    assert_int_equal(mbox_open(s.store, STR("inbox"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 2);
    assert_message(v, 1, "Subject: one\r\n\r\nfirst\r\n>From quoted by somebody else\r\n");
    assert_message(v, 2, "Subject: two\r\n\r\nsecond\r\n");
    assert_int_equal(mbox_info(v, 1, &info), 0);
    assert_int_equal(info.uid, 1);
    assert_int_equal(info.flags.system, MBOX_SEEN);
    assert_int_equal(mbox_info(v, 2, &info), 0);
    assert_int_equal(info.internaldate, 1794657600);
    assert_int_equal(info.internaldate_offset, 60);
    assert_true(info.is_recent);
    assert_int_equal(mbox_info(v, 3, &info), -EINVAL);
    assert_int_equal(mbox_view_status(v, &status), 0);
    assert_int_equal(status.uidnext, 3);
    assert_int_equal(status.unseen, 1);
    assert_int_equal(status.first_unseen, 2);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

static void test_append(void **state)
{
    static const char mail[] = "Subject: x\r\nStatus: RO\r\nX-UID: 999\r\n\r\nFrom here\r\n>From there\r\n.\r\n\r\n";
    struct scratch s;
    struct mbox *v;
    size_t len;
    char *text;

    (void)state;
    scratch_open(&s);
    assert_int_equal(append_text(s.store, "INBOX", mail, sizeof(mail) - 1), 1);
    assert_int_equal(append_text(s.store, "INBOX", "Subject: y\n\nbare", 16), 2);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 2);
    assert_message(v, 1, mail);
    assert_message(v, 2, "Subject: y\r\n\r\nbare\r\n");
    text = read_file(s.inbox, &len);
    assert_non_null(strstr(text, "\n>From here\n>>From there\n"));
    assert_non_null(strstr(text, "\nX-Original-Status: RO\nX-Original-X-UID: 999\n"));
    assert_non_null(strstr(text, "\nX-IMAPbase: 1700000000 0000000002\nX-UID: 1 "));
    free(text);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

/* Fed in pieces of every size, a message is stored the same. */
static void test_append_pieces(void **state)
{
    char mail[3000], want[3000];
    size_t n = 0;

    (void)state;
    n += (size_t)snprintf(mail, sizeof(mail), "Subject: pieces\r\nX-Status: x\r\n y\r\n\r\nFrom a\r\n>>From b\r\n");
    memset(mail + n, '>', 900);
    n += 900;
    n += (size_t)snprintf(mail + n, sizeof(mail) - n, "From c\r\n");
    memset(mail + n, 'x', 600);
    n += 600;
    n += (size_t)snprintf(mail + n, sizeof(mail) - n, "\r\r\nend\r\n");
    memcpy(want, mail, n + 1);
    for (size_t step = 1; step < 40; step++) {
        struct mbox_append_options options = {.sender = STR("a b")};
        struct scratch s;
        struct mbox_append *a;
        struct mbox *v;
        uint32_t validity, uid;

        scratch_open(&s);
        assert_int_equal(mbox_append_new(s.store, STR("INBOX"), &a), 0);
        assert_int_equal(mbox_append_message(a, &options), 0);
        for (size_t at = 0; at < n; at += step)
            assert_int_equal(mbox_append_write(a, mail + at, n - at < step ? n - at : step), 0);
        assert_int_equal(mbox_append_commit(a, &validity, &uid), 0);
        mbox_append_free(a);
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_message(v, 1, want);
        assert_int_equal(mbox_close(v), 0);
        scratch_close(&s);
    }
}

static void test_flags(void **state)
{
    struct scratch s;
    struct mbox *v, *w;
    struct mbox_info info;
    struct numset uids = NUMSET_INIT;
    struct mbox_flags flags = {.system = MBOX_FLAGGED | MBOX_SEEN};
    unsigned n;
    char *text;

    (void)state;
    scratch_open(&s);
    for (int i = 0; i < 5; i++)
        append_text(s.store, "INBOX", "Subject: z\n\nz\n", 14);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &w), 0);
    assert_int_equal(mbox_keyword_number(v, STR("$Forwarded"), true, &n), 0);
    flags.keywords = 1ull << n;
    assert_int_equal(numset_add(&uids, 2, 3), 0);
    assert_int_equal(mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), 0);
    assert_int_equal(mbox_info(v, 2, &info), 0);
    assert_int_equal(info.flags.system, MBOX_FLAGGED | MBOX_SEEN);
    assert_int_equal(mbox_poll(w, false, NULL), 0);
    assert_int_equal(mbox_info(w, 3, &info), 0);
    assert_int_equal(info.flags.keywords, flags.keywords);
    assert_true(str_eq(mbox_keyword(w, n), STR("$Forwarded")));
    assert_int_equal(mbox_close(w), 0);
    assert_int_equal(mbox_close(v), 0);
    text = read_file(s.inbox, NULL);
    assert_non_null(strstr(text, "Status: RO\nX-Status: F   \nX-Keywords: $Forwarded"));
    free(text);
    /* All sidecars gone: the file alone knows. */
    remove_tree(s.state);
    mbox_store_free(s.store);
    scratch_store(&s);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_info(v, 3, &info), 0);
    assert_int_equal(info.uid, 3);
    assert_int_equal(info.flags.system, MBOX_FLAGGED | MBOX_SEEN);
    assert_int_equal(mbox_close(v), 0);
    numset_finish(&uids);
    scratch_close(&s);
}

/* Foreign messages get a block when a flag has to be written; what is read stays the same. */
static void test_foreign_flags(void **state)
{
    static const char third[] = "From c@example.org Sat Nov 14 14:00:00 2026\n"
                                "Subject: three\n"
                                "Status: O\n"
                                "X-Keywords:                                                                      \n"
                                "X-UID: 9                                                                         \n"
                                "X-Status:                                                                        \n"
                                "\n"
                                "third\n\n";
    struct scratch s;
    struct mbox *v;
    struct mbox_info info;
    struct numset uids = NUMSET_INIT;
    struct mbox_flags flags = {.system = MBOX_ANSWERED};
    char all[2000], *text;
    size_t len, before;

    (void)state;
    scratch_open(&s);
    snprintf(all, sizeof(all), "%s\n%s", two, third);
    write_file(s.inbox, all, strlen(all));
    before = strlen(all);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(numset_add(&uids, 3, 3), 0);
    assert_int_equal(mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), 0);
    assert_int_equal(mbox_flush(v), 0);
    text = read_file(s.inbox, &len);
    assert_true(len > before + 200); /* the first message gets X-IMAPbase, without which nobody believes the others */
    assert_non_null(strstr(text, "X-IMAPbase: 1700000000 0000000003"));
    assert_non_null(strstr(text, "X-UID: 3         \nStatus: O \nX-Status: A   \n"));
    free(text);
    assert_message(v, 3, "Subject: three\r\n\r\nthird\r\n");
    assert_int_equal(numset_add(&uids, 1, 1), 0);
    assert_int_equal(mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, flags, UINT64_MAX, NULL), 0);
    assert_int_equal(mbox_close(v), 0);
    text = read_file(s.inbox, &len);
    assert_non_null(strstr(text, "X-UID: 1         \nStatus: RO\nX-Status: A   \n"));
    free(text);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
        assert_int_equal(mbox_count(v), 3);
        assert_message(v, 1, "Subject: one\r\n\r\nfirst\r\n>From quoted by somebody else\r\n");
        assert_message(v, 2, "Subject: two\r\n\r\nsecond\r\n");
        assert_message(v, 3, "Subject: three\r\n\r\nthird\r\n");
        for (uint32_t i = 1; i <= 3; i++) {
            assert_int_equal(mbox_info(v, i, &info), 0);
            assert_int_equal(info.uid, i);
            assert_int_equal(info.flags.system, i == 1 ? MBOX_ANSWERED | MBOX_SEEN : i == 3 ? MBOX_ANSWERED : 0);
        }
        assert_int_equal(mbox_close(v), 0);
        remove_tree(s.state); /* now with what the file says alone */
        mbox_store_free(s.store);
        scratch_store(&s);
    }
    numset_finish(&uids);
    scratch_close(&s);
}

static int note_expunged(void *context, uint32_t seq, uint32_t uid)
{
    struct buf *out = context;

    return buf_printf(out, "-%u(%u)", seq, uid);
}

static int note_flags(void *context, uint32_t seq)
{
    return buf_printf(context, "f%u", seq);
}

static int note_arrived(void *context, uint32_t count)
{
    return buf_printf(context, "+%u", count);
}

static void test_expunge(void **state)
{
    struct scratch s;
    struct mbox *v, *w;
    struct numset uids = NUMSET_INIT, gone = NUMSET_INIT;
    struct mbox_flags deleted = {.system = MBOX_DELETED};
    struct buf told = BUF_INIT(4096);
    struct mbox_changes changes = {&told, note_expunged, note_flags, note_arrived};
    struct mbox_info info;
    struct stat before, after;
    char text[64];
    bool is_complete;

    (void)state;
    scratch_open(&s);
    for (int i = 1; i <= 9; i++) {
        snprintf(text, sizeof(text), "Subject: %d\r\n\r\nbody %d\r\n", i, i);
        append_text(s.store, "INBOX", text, strlen(text));
    }
    assert_int_equal(stat(s.inbox, &before), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &w), 0);
    assert_int_equal(numset_add(&uids, 1, 1), 0);
    assert_int_equal(numset_add(&uids, 4, 5), 0);
    assert_int_equal(mbox_set_flags(v, &uids, MBOX_FLAGS_ADD, deleted, UINT64_MAX, NULL), 0);
    assert_int_equal(mbox_expunge(v, NULL, &gone), 0);
    assert_int_equal(numset_size(&gone), 3);
    assert_int_equal(mbox_count(v), 9);
    assert_int_equal(mbox_info(v, 4, &info), 0);
    assert_true(info.is_expunged);
    assert_true(mbox_holds_expunged(v));
    append_text(s.store, "INBOX", "Subject: 10\n\nbody 10\n", 21);
    assert_int_equal(mbox_poll(v, false, &changes), 0);
    assert_string_equal(buf_cstr(&told), "-1(1)-3(4)-3(5)+7");
    buf_clear(&told);
    assert_message(v, 2, "Subject: 3\r\n\r\nbody 3\r\n");
    assert_message(v, 3, "Subject: 6\r\n\r\nbody 6\r\n");
    assert_message(v, 7, "Subject: 10\r\n\r\nbody 10\r\n");
    assert_int_equal(mbox_seq(v, 6), 3);
    assert_int_equal(mbox_seq(v, 5), 0);
    assert_int_equal(mbox_seq_from(v, 5), 3);
    assert_false(mbox_holds_expunged(v));
    assert_true(mbox_holds_expunged(w)); /* a message came that it does not count yet */
    /* The other view keeps its numbers as long as it wants. */
    assert_int_equal(mbox_poll(w, true, &changes), 0);
    assert_string_equal(buf_cstr(&told), "+10");
    buf_clear(&told);
    assert_message(w, 9, "Subject: 9\r\n\r\nbody 9\r\n");
    assert_true(mbox_holds_expunged(w));
    assert_int_equal(mbox_poll(w, false, &changes), 0);
    assert_string_equal(buf_cstr(&told), "-1(1)-3(4)-3(5)");
    assert_false(mbox_holds_expunged(w));
    numset_clear(&gone);
    assert_int_equal(mbox_vanished(w, 1, &gone, &is_complete), 0);
    assert_int_equal(numset_size(&gone), 3);
    assert_true(is_complete);
    assert_int_equal(stat(s.inbox, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_close(w), 0);
    numset_finish(&uids);
    numset_finish(&gone);
    buf_finish(&told);
    scratch_close(&s);
}

static void test_copy_move(void **state)
{
    struct scratch s;
    struct mbox *v, *w;
    struct numset uids = NUMSET_INIT, from = NUMSET_INIT, to = NUMSET_INIT;
    uint32_t validity = 0;

    (void)state;
    scratch_open(&s);
    write_file(s.inbox, two, sizeof(two) - 1);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(numset_add(&uids, 1, 9), 0);
    assert_int_equal(mbox_copy(v, &uids, STR("Work/Old"), false, &from, &to, &validity), -ENOENT);
    assert_int_equal(mbox_create(s.store, STR("Work/Old")), 0);
    assert_int_equal(mbox_create(s.store, STR("Work/Old")), -EEXIST);
    assert_int_equal(mbox_copy(v, &uids, STR("Work/Old"), false, &from, &to, &validity), 0);
    assert_int_equal(numset_size(&from), 2);
    assert_int_equal(numset_size(&to), 2);
    assert_true(validity != 0);
    assert_int_equal(mbox_copy(v, &uids, STR("Work/Old"), true, NULL, NULL, NULL), 0);
    assert_int_equal(mbox_poll(v, false, NULL), 0);
    assert_int_equal(mbox_count(v), 0);
    assert_int_equal(mbox_open(s.store, STR("Work/Old"), 0, &w), 0);
    assert_int_equal(mbox_count(w), 4);
    assert_message(w, 3, "Subject: one\r\n\r\nfirst\r\n>From quoted by somebody else\r\n");
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_close(w), 0);
    numset_finish(&uids);
    numset_finish(&from);
    numset_finish(&to);
    scratch_close(&s);
}

static int note_entry(void *context, struct str name, unsigned flags)
{
    return buf_printf(context, "%.*s:%x ", STR_ARG(name), flags);
}

static void test_folders(void **state)
{
    struct scratch s;
    struct buf seen = BUF_INIT(4096);
    struct mbox_status before, after;

    (void)state;
    scratch_open(&s);
    assert_int_equal(mbox_create(s.store, STR("a b/\xc3\xa9%*")), 0);
    assert_int_equal(mbox_create(s.store, STR("../x")), -EINVAL);
    assert_int_equal(mbox_create(s.store, STR("x.lock")), -EINVAL);
    assert_int_equal(mbox_subscribe(s.store, STR("gone"), true), 0);
    assert_int_equal(mbox_subscribe(s.store, STR("INBOX"), true), 0);
    assert_int_equal(mbox_list(s.store, note_entry, &seen), 0);
    assert_string_equal(buf_cstr(&seen), "INBOX:4 a b:3 a b/\xc3\xa9%*:0 gone:d ");
    buf_clear(&seen);
    append_text(s.store, "a b/\xc3\xa9%*", "Subject: 1\n\n1\n", 14);
    assert_int_equal(mbox_status(s.store, STR("a b/\xc3\xa9%*"), &before), 0);
    assert_int_equal(mbox_rename(s.store, STR("a b"), STR("c")), 0);
    assert_int_equal(mbox_status(s.store, STR("c/\xc3\xa9%*"), &after), 0);
    assert_int_equal(before.uidvalidity, after.uidvalidity);
    assert_memory_equal(before.mailboxid, after.mailboxid, 16);
    assert_int_equal(after.messages, 1);
    assert_int_equal(mbox_delete(s.store, STR("c/\xc3\xa9%*")), 0);
    assert_int_equal(mbox_delete(s.store, STR("c")), 0);
    assert_int_equal(mbox_delete(s.store, STR("c")), -ENOENT);
    assert_int_equal(mbox_create(s.store, STR("c/\xc3\xa9%*")), 0);
    assert_int_equal(mbox_status(s.store, STR("c/\xc3\xa9%*"), &before), 0);
    assert_true(before.uidvalidity > after.uidvalidity);
    buf_finish(&seen);
    scratch_close(&s);
}

/* Mail is taken without sidecars, too; UIDs are given when they can be used again. */
static void test_append_without_sidecars(void **state)
{
    static const char *const names[] = {"state/INBOX.state", "state/INBOX.index", "state/INBOX.index.new"};
    struct scratch s;
    struct mbox *v;

    (void)state;
    scratch_open(&s);
    assert_int_equal(append_text(s.store, "INBOX", "Subject: a\n\none\n", 16), 1);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char *path = path_of(&s, names[i]);

        for (int kind = 0; kind < 2; kind++) {
            remove_tree(path);
            assert_int_equal(kind == 0 ? mkfifo(path, 0600) : mkdir(path, 0700), 0);
            (void)append_text(s.store, "INBOX", "Subject: b\n\ntwo\n", 16);
        }
        remove_tree(path);
        free(path);
    }
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 1 + 2 * ARRAY_SIZE(names));
    assert_message(v, 7, "Subject: b\r\n\r\ntwo\r\n");
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

static void test_refusals(void **state)
{
    struct scratch s;
    struct mbox *v, *w;
    char other[128];

    (void)state;
    scratch_open(&s);
    write_file(s.inbox, "hello\nworld\n", 12);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), -EBADMSG);
    snprintf(other, sizeof(other), "%s/other", s.dir);
    assert_int_equal(rename(s.inbox, other), 0);
    assert_int_equal(symlink(other, s.inbox), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), -ELOOP);
    assert_int_equal(unlink(s.inbox), 0);
    assert_int_equal(link(other, s.inbox), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), -EPERM);
    assert_int_equal(unlink(s.inbox), 0);
    assert_int_equal(mkfifo(s.inbox, 0600), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), -EPERM);
    assert_int_equal(unlink(s.inbox), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), MBOX_OPEN_POP3, &v), 0);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), MBOX_OPEN_POP3, &w), -EBUSY);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &w), 0);
    assert_int_equal(mbox_close(v), 0);
    assert_int_equal(mbox_close(w), 0);
    scratch_close(&s);
}

static void append_once(struct scratch *s, const char *mail, bool is_again)
{
    struct mbox_append_options options = {.sender = STR("a@b"), .is_again = is_again};
    struct mbox_append *a;
    uint32_t validity, uid;

    assert_int_equal(mbox_append_new(s->store, STR("INBOX"), &a), 0);
    assert_int_equal(mbox_append_message(a, &options), 0);
    assert_int_equal(mbox_append_write(a, mail, strlen(mail)), 0);
    assert_int_equal(mbox_append_commit(a, &validity, &uid), 0);
    mbox_append_free(a);
}

static off_t inbox_size(const struct scratch *s)
{
    struct stat st;

    assert_int_equal(stat(s->inbox, &st), 0);
    return st.st_size;
}

static void write_inbox(const struct scratch *s, const char *text)
{
    FILE *f = fopen(s->inbox, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* A second attempt at a message finds the first: in files of either line ends, and whatever came behind it. */
static void test_append_again(void **state)
{
    static const char one[] = "Received: by x\r\n\tid one\r\n\r\nFrom a\r\nbody\r\n";
    static const char *const begins[] = {"", "From x@y Thu Jan  1 00:00:00 2015\nSubject: x\n\nb\n\n",
                                         "From x@y Thu Jan  1 00:00:00 2015\r\nSubject: x\r\n\r\nb\r\n\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
        struct scratch s;
        off_t size;

        scratch_open(&s);
        write_inbox(&s, begins[i]);
        append_once(&s, one, true);
        size = inbox_size(&s);
        append_once(&s, one, true);
        assert_int_equal(inbox_size(&s), size);
        append_once(&s, "Received: by x\r\n\tid two\r\n\r\nFrom a\r\nbody\r\n", true);
        assert_true(inbox_size(&s) > size);
        size = inbox_size(&s);
        append_once(&s, one, true);
        assert_int_equal(inbox_size(&s), size);
        append_once(&s, "Received: by x\r\n\tid one\r\n\r\nFrom a\r\nbod\r\n", true);
        assert_true(inbox_size(&s) > size);
        size = inbox_size(&s);
        append_once(&s, one, false);
        assert_true(inbox_size(&s) > size);
        scratch_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_again),  cmocka_unit_test(test_append_without_sidecars),
        cmocka_unit_test(test_foreign),       cmocka_unit_test(test_append),
        cmocka_unit_test(test_append_pieces), cmocka_unit_test(test_flags),
        cmocka_unit_test(test_foreign_flags), cmocka_unit_test(test_expunge),
        cmocka_unit_test(test_copy_move),     cmocka_unit_test(test_folders),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
