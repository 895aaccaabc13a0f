/*
 * A large append that fails, or dies, after another program, which knows none of our locks, has appended behind a part
 * of it: the other's message stays, whole and alone, and nothing is left of ours.
 */
#include "tests/unit/mbox_disk.h"
#include "tests/unit/mbox_other.h"
#include "tests/unit/mbox_util.h"

#include "shared/base/macros.h"
#include "shared/mbox/mbox.h"

#define PAGE  4096u
#define LARGE 600000u

static const char first[] = "Subject: first\n\none\n";

enum how {
    WITH_STATE,
    STATE_FULL, /* no room for a journal */
    NO_STATE,
    HOWS
};

static struct mbox_store *plain_store(struct scratch *s)
{
    struct mbox_store_options options = {
        .inbox = s->inbox, .owner = getuid(), .clock = &s->clock, .keeper = -1, .lock_timeout = 5};
    struct mbox_store *store;

    assert_int_equal(mbox_store_new(&options, &store), 0);
    return store;
}

/* `count` messages of LARGE bytes together. */
static int append_large(struct mbox_store *store, unsigned count)
{
    struct mbox_append_options options = {.sender = STR("a@b")};
    char *text = malloc(LARGE);
    uint32_t uidvalidity, uid;
    struct mbox_append *a;
    size_t n = 0;
    int r;

    assert_non_null(text);
    n = (size_t)snprintf(text, LARGE, "Subject: ours\n\n");
    while (n < LARGE - 100)
        n += (size_t)snprintf(text + n, LARGE - n, "From line to line at %zu\n", n);
    assert_int_equal(mbox_append_new(store, STR("INBOX"), &a), 0);
    while (count-- > 0) {
        assert_int_equal(mbox_append_message(a, &options), 0);
        assert_int_equal(mbox_append_write(a, text, n), 0);
    }
    free(text);
    r = mbox_append_commit(a, &uidvalidity, &uid);
    mbox_append_free(a);
    return r;
}

/* The first message and that of the other program, nothing else, unless ours were acknowledged. */
static void assert_box(struct scratch *s, unsigned ours)
{
    static const char wire[] = "Subject: meanwhile\r\n\r\nmeanwhile\r\n";
    struct mbox *v;
    unsigned found = 0;

    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 2 + ours);
    assert_message(v, 1, "Subject: first\r\n\r\none\r\n");
    for (uint32_t seq = 2; seq <= 2 + ours; seq++) {
        size_t len;
        char *text = read_message(v, seq, &len);

        found += len == sizeof(wire) - 1 && memcmp(text, wire, len) == 0;
        free(text);
    }
    assert_int_equal(found, 1);
    assert_int_equal(mbox_close(v), 0);
}

static void begin(struct scratch *s, unsigned at, bool is_behind)
{
    memset(&other, 0, sizeof(other));
    scratch_open(s);
    append_text(s->store, "INBOX", first, sizeof(first) - 1);
    other.at = at;
    other.in_writes = true;
    other.is_behind = is_behind;
    other.path = s->inbox;
}

static int append_how(struct scratch *s, enum how how, unsigned count)
{
    struct mbox_store *store = how == NO_STATE ? plain_store(s) : s->store;
    int r;

    other.has_no_room = how == STATE_FULL;
    r = append_large(store, count);
    other.has_no_room = false;
    other.path = NULL;
    if (how == NO_STATE)
        mbox_store_free(store);
    return r;
}

/* What other programs see: one empty message at most besides the two. */
static void assert_separate(struct scratch *s)
{
    char *text = read_file(s->inbox, NULL), *place = strstr(text, foreign);

    assert_non_null(place);
    assert_true(place > text + 2 && place[-1] == '\n' && place[-2] == '\n');
    assert_null(strstr(text, "Subject: ours"));
    free(text);
}

/* False: there is no such call. */
static bool try_failed(enum how how, unsigned at, bool is_behind, bool fills_disk, unsigned count)
{
    struct scratch s;
    bool is_done;
    int r;

    begin(&s, at, is_behind);
    other.fills_disk = fills_disk;
    r = append_how(&s, how, count);
    is_done = other.is_done;
    if (is_done) {
        assert_true(r == 0 || r == -EAGAIN || (fills_disk && r == -ENOSPC));
        if (r < 0)
            assert_separate(&s);
        assert_box(&s, r == 0 ? count : 0);
    }
    scratch_close(&s);
    return is_done;
}

static void test_failed(void **state)
{
    unsigned points = 0;

    (void)state;
    for (int how = 0; how < HOWS; how++)
        for (unsigned kind = 0; kind < 4; kind++)
            for (unsigned at = 1; try_failed((enum how)how, at, kind & 1, kind & 2, 1 + (kind == 3)); at++)
                points++;
    print_message("%u points\n", points);
    assert_true(points > 30);
}

/* The undoing itself dies behind each of its writes. */
static bool try_undo_killed(enum how how, unsigned dies_at)
{
    struct scratch s;
    int status;
    pid_t child;

    begin(&s, 1, true);
    child = fork();
    if (child == 0) {
        other.dies_at = dies_at;
        _exit(append_how(&s, how, 1) == -EAGAIN ? 1 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    other.path = NULL;
    assert_box(&s, 0);
    scratch_close(&s);
    return status == 0;
}

static void test_undo_killed(void **state)
{
    (void)state;
    for (int how = 0; how < HOWS; how++) {
        unsigned at = 1;

        while (try_undo_killed((enum how)how, at))
            at++;
        assert_true(at > 1);
    }
}

/* ---- we die in the middle, and the other one comes then ---- */

static size_t die_after; /* bytes of the file */

static void cut_and_die(void)
{
    assert_int_equal(truncate(other.path, (off_t)die_after), 0); /* as if the write had got no further */
    _exit(0);
}

enum after { ONE, TWO, LARGER, DELIVERY };

static void append_foreign(struct scratch *s, enum after after)
{
    FILE *f = fopen(s->inbox, "a");

    assert_non_null(f);
    if (after == LARGER) { /* than what is missing of ours */
        fprintf(f, "From z@y Thu Jan  1 00:00:00 2015\nSubject: larger\n\n");
        for (unsigned i = 0; i < LARGE / 4; i++)
            fprintf(f, "%06u\n", i);
        fprintf(f, "\n");
    }
    for (unsigned n = after == TWO ? 2 : 1; after != LARGER && n > 0; n--)
        assert_int_equal(fwrite(foreign, 1, sizeof(foreign) - 1, f), sizeof(foreign) - 1);
    assert_int_equal(fclose(f), 0);
}

static void assert_others(struct scratch *s, enum after after)
{
    static const char *const subjects[] = {"Subject: meanwhile\r\n", "Subject: meanwhile\r\n", "Subject: larger\r\n",
                                           "Subject: meanwhile\r\n"};
    uint32_t count = after == TWO || after == DELIVERY ? 3 : 2;
    struct mbox *v;
    size_t len;
    char *text;

    assert_int_equal(mbox_open(s->store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), count);
    assert_message(v, 1, "Subject: first\r\n\r\none\r\n");
    text = read_message(v, 2, &len);
    assert_memory_equal(text, subjects[after], strlen(subjects[after]));
    assert_int_equal(len, after == LARGER ? 19 + LARGE / 4 * 8 : 33);
    free(text);
    if (count == 3)
        assert_message(v, 3, after == TWO ? "Subject: meanwhile\r\n\r\nmeanwhile\r\n" : "Subject: later\r\n\r\nl\r\n");
    assert_int_equal(mbox_close(v), 0);
}

static void try_killed(size_t pages, enum after after, bool has_state)
{
    struct scratch s;
    int status;
    pid_t child;

    begin(&s, 1, true);
    die_after = pages * PAGE;
    other.does = cut_and_die;
    child = fork();
    if (child == 0) {
        (void)append_large(s.store, 1);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    other.path = NULL;
    append_foreign(&s, after);
    if (after == DELIVERY) {
        struct mbox_store *store = plain_store(&s);

        append_text(store, "INBOX", "Subject: later\n\nl\n", 18);
        mbox_store_free(store);
        assert_separate(&s);
    }
    if (!has_state) {
        remove_tree(s.state);
        mbox_store_free(s.store);
        scratch_store(&s);
    }
    assert_others(&s, after);
    scratch_close(&s);
}

static void test_killed(void **state)
{
    (void)state;
    for (size_t pages = 1; pages < 60; pages += pages < 4 ? 1 : 17)
        for (int after = ONE; after <= LARGER; after++)
            for (int has_state = 0; has_state <= 1; has_state++)
                try_killed(pages, (enum after)after, has_state);
    for (size_t pages = 1; pages < 12; pages += 5)
        try_killed(pages, DELIVERY, true);
}

/* ---- a message that is whole ---- */

/* Somewhere one of its lines has what may be a From_ line behind the beginning of a block. */
static size_t make_deceptive(char *text, size_t room)
{
    size_t n = (size_t)snprintf(text, room, "Subject: ours\n\n");

    while (n < 30000)
        n += (size_t)snprintf(text + n, room - n, "to\r you: From x@y Thu Jan  1 00:00:00 2015\r\r\n");
    assert_true(n < room);
    return n;
}

/* Another program puts something behind it that is no message, before anybody has looked at the mailbox. */
static void try_whole(bool is_delivery, bool is_crlf, const char *behind, size_t behind_len)
{
    static const char lf[] = "From x@y Thu Jan  1 00:00:00 2015\nSubject: first\n\none\n\n";
    static const char crlf[] = "From x@y Thu Jan  1 00:00:00 2015\r\nSubject: first\r\n\r\none\r\n\r\n";
    struct scratch s;
    struct mbox_store *store;
    static char text[LARGE];
    size_t len = make_deceptive(text, sizeof(text)), found;
    struct mbox *v;
    FILE *f;

    scratch_open(&s);
    write_file(s.inbox, is_crlf ? crlf : lf, is_crlf ? sizeof(crlf) - 1 : sizeof(lf) - 1);
    store = plain_store(&s);
    append_text(store, "INBOX", text, len);
    f = fopen(s.inbox, "a");
    assert_non_null(f);
    assert_int_equal(fwrite(behind, 1, behind_len, f), behind_len);
    assert_int_equal(fclose(f), 0);
    if (is_delivery)
        append_text(store, "INBOX", "Subject: later\n\nl\n", 18);
    mbox_store_free(store);
    assert_int_equal(mbox_open(s.store, STR("INBOX"), 0, &v), 0);
    assert_int_equal(mbox_count(v), 2 + is_delivery);
    free(read_message(v, 2, &found));
    assert_true(found > len);
    assert_int_equal(mbox_close(v), 0);
    scratch_close(&s);
}

static void test_whole(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        try_whole(how & 1, how & 2, "\r\n", 2);
        try_whole(how & 1, how & 2, "\na\0b\n\n", 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_failed), cmocka_unit_test(test_undo_killed),
                                       cmocka_unit_test(test_killed), cmocka_unit_test(test_whole)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
