/*
 * Random sequences of operations on a mailbox, by several views and by foreign programs, against a list in memory.
 * PENNYPOST_TEST_SEED and PENNYPOST_TEST_ROUNDS choose another walk.
 */
#include "tests/unit/mbox_disk.h"
#include "tests/unit/mbox_util.h"

#include "shared/base/limits.h"
#include "shared/mbox/scan.h"

#define VIEWS    3
#define MESSAGES 4000
#define TEXT_MAX (1u << 20)

struct model_message {
    uint32_t uid;
    uint32_t flags;
    bool has_keyword;
    bool is_there;
    char *text; /* wire form */
    size_t len;
};

struct model {
    struct scratch s;
    struct mbox *views[VIEWS];
    struct model_message messages[MESSAGES];
    size_t count;
    uint32_t uidnext;
    uint32_t uidvalidity;
    uint64_t random;
    unsigned serial;
};

static bool is_sorted; /* nobody sorts it: in a mailbox out of order everything is moved */

static uint32_t chance(struct model *m, uint32_t below)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m->random >> 33) % below;
}

static size_t alive(const struct model *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->count; i++)
        n += m->messages[i].is_there;
    return n;
}

/* Any message that is there, or NULL. */
static struct model_message *any(struct model *m)
{
    size_t n = alive(m), pick;

    if (n == 0)
        return NULL;
    pick = chance(m, (uint32_t)n);
    for (size_t i = 0; i < m->count; i++)
        if (m->messages[i].is_there && pick-- == 0)
            return &m->messages[i];
    return NULL;
}

/* A message of random lines, some of them nasty, in wire form. */
static char *make_text(struct model *m, size_t *ret_len)
{
    static const char *const nasty[] = {"From here and there\r\n",
                                        ">From quoted\r\n",
                                        "From x@y Sat Nov 14 12:00:00 2026\r\n",
                                        "Status: RO\r\n",
                                        "\r\n",
                                        "\r\n\r\n",
                                        ".\r\n",
                                        "a\rb\r\n",
                                        "X-Pennypost: 1 0 0\r\n"};
    static const char *const headers[] = {"X-UID: 77\r\n",           "Status: RO\r\n",        "X-Keywords: a b\r\n",
                                          "X-Original-X-UID: 3\r\n", "Content-Length: 5\r\n", "X-IMAPbase: 1 2\r\n",
                                          ">From header\r\n",        "Lines: 3\r\n"};
    char *text = malloc(TEXT_MAX);
    size_t n = (size_t)snprintf(text, TEXT_MAX, "Subject: %u\r\n", ++m->serial);
    bool is_large = chance(m, 2) == 0; /* of many blocks, so that whole ones can be given back */
    uint32_t lines = chance(m, is_large ? 60 : 12);

    for (uint32_t i = chance(m, 3); i > 0; i--)
        n += (size_t)snprintf(text + n, (TEXT_MAX)-n, "%s", headers[chance(m, 8)]);
    n += (size_t)snprintf(text + n, (TEXT_MAX)-n, "\r\n");
    while (lines-- > 0) {
        if (chance(m, 3) == 0) {
            n += (size_t)snprintf(text + n, (TEXT_MAX)-n, "%s", nasty[chance(m, 9)]);
        } else {
            uint32_t width = chance(m, chance(m, 10) < (is_large ? 4 : 1) ? is_large ? 9000 : 3000 : 80);

            memset(text + n, 'a' + (int)chance(m, 26), width);
            n += width;
            n += (size_t)snprintf(text + n, (TEXT_MAX)-n, "\r\n");
        }
    }
    *ret_len = n;
    return text;
}

static struct model_message *add(struct model *m, char *text, size_t len)
{
    struct model_message *mm = &m->messages[m->count++];

    assert_true(m->count < MESSAGES);
    *mm = (struct model_message){.uid = m->uidnext++, .is_there = true, .text = text, .len = len};
    return mm;
}

/* ---- what views do ---- */

static struct mbox *view(struct model *m)
{
    struct mbox **v = &m->views[chance(m, VIEWS)];

    if (*v == NULL)
        assert_int_equal(mbox_open(m->s.store, STR("INBOX"), 0, v), 0);
    return *v;
}

static void do_append(struct model *m)
{
    struct mbox_append_options options = {.sender = STR("me@example.org"), .flags = {.system = chance(m, 4)}};
    uint32_t n = 1 + chance(m, 3), first = m->uidnext, validity, uid;
    struct mbox_append *a;

    assert_int_equal(mbox_append_new(m->s.store, STR("INBOX"), &a), 0);
    while (n-- > 0) {
        size_t len;
        char *text = make_text(m, &len);

        assert_int_equal(mbox_append_message(a, &options), 0);
        assert_int_equal(mbox_append_write(a, text, len), 0);
        add(m, text, len)->flags = options.flags.system;
    }
    assert_int_equal(mbox_append_commit(a, &validity, &uid), 0);
    mbox_append_free(a);
    assert_int_equal(uid, first);
    m->uidvalidity = m->uidvalidity == 0 ? validity : m->uidvalidity;
    assert_int_equal(validity, m->uidvalidity);
}

/* The deliver program without a state folder. */
static void do_deliver(struct model *m)
{
    struct mbox_store_options options = {
        .inbox = m->s.inbox, .owner = getuid(), .clock = &m->s.clock, .keeper = -1, .lock_timeout = 5};
    struct mbox_store *store;
    size_t len;
    char *text = make_text(m, &len);

    assert_int_equal(mbox_store_new(&options, &store), 0);
    assert_int_equal(append_text(store, "INBOX", text, len), 0);
    mbox_store_free(store);
    add(m, text, len);
}

static void do_flags(struct model *m)
{
    struct mbox *v = view(m);
    struct mbox_flags flags = {.system = 1u << chance(m, 5)};
    enum mbox_flags_mode mode = (enum mbox_flags_mode)chance(m, 3);
    struct numset uids = NUMSET_INIT;
    bool has_keyword = chance(m, 4) == 0;
    unsigned n;

    if (has_keyword) {
        assert_int_equal(mbox_keyword_number(v, STR("$Test"), true, &n), 0);
        flags.keywords = 1ull << n;
    }
    for (uint32_t i = chance(m, 8); i > 0; i--) {
        struct model_message *mm = any(m);

        if (mm == NULL || numset_has(&uids, mm->uid))
            continue;
        assert_int_equal(numset_add(&uids, mm->uid, mm->uid), 0);
        if (mode == MBOX_FLAGS_SET) {
            mm->flags = flags.system;
            mm->has_keyword = has_keyword;
        } else if (mode == MBOX_FLAGS_ADD) {
            mm->flags |= flags.system;
            mm->has_keyword |= has_keyword;
        } else {
            mm->flags &= ~flags.system;
            mm->has_keyword &= !has_keyword;
        }
    }
    assert_int_equal(mbox_set_flags(v, &uids, mode, flags, UINT64_MAX, NULL), 0);
    numset_finish(&uids);
}

static void do_expunge(struct model *m)
{
    struct numset gone = NUMSET_INIT;
    struct mbox *v = view(m);

    assert_int_equal(mbox_expunge(v, NULL, &gone), 0);
    for (size_t i = 0; i < m->count; i++) {
        struct model_message *mm = &m->messages[i];

        if (!mm->is_there)
            continue;
        assert_int_equal(numset_has(&gone, mm->uid), (mm->flags & MBOX_DELETED) != 0);
        if (mm->flags & MBOX_DELETED)
            mm->is_there = false;
    }
    numset_finish(&gone);
}

static void do_remove(struct model *m)
{
    struct model_message *mm = any(m);
    struct numset uids = NUMSET_INIT;

    if (mm == NULL)
        return;
    assert_int_equal(numset_add(&uids, mm->uid, mm->uid), 0);
    assert_int_equal(mbox_remove(view(m), &uids, NULL), 0);
    mm->is_there = false;
    numset_finish(&uids);
}

/* To itself: copies come in at the end, with the flags. */
static void do_copy(struct model *m)
{
    struct model_message *mm = any(m);
    struct numset uids = NUMSET_INIT, to = NUMSET_INIT;
    struct model_message *copy;
    struct mbox *v = view(m);
    uint32_t validity;
    bool is_move = chance(m, 3) == 0;
    char *text;

    if (mm == NULL)
        return;
    assert_int_equal(mbox_poll(v, false, NULL), 0);
    assert_int_equal(numset_add(&uids, mm->uid, mm->uid), 0);
    assert_int_equal(mbox_copy(v, &uids, STR("INBOX"), is_move, NULL, &to, &validity), 0);
    text = malloc(mm->len + 1);
    memcpy(text, mm->text, mm->len);
    copy = add(m, text, mm->len);
    copy->flags = mm->flags;
    copy->has_keyword = mm->has_keyword;
    assert_true(numset_has(&to, copy->uid));
    if (is_move)
        mm->is_there = false;
    numset_finish(&uids);
    numset_finish(&to);
}

static void do_close(struct model *m)
{
    uint32_t i = chance(m, VIEWS);

    assert_int_equal(mbox_close(m->views[i]), 0);
    m->views[i] = NULL;
}

static void do_flush(struct model *m)
{
    assert_int_equal(mbox_flush(view(m)), 0);
}

/* ---- what others do ---- */

static void do_foreign_append(struct model *m)
{
    char text[200], stored[300];
    size_t n, k = 0;
    FILE *f;

    n = (size_t)snprintf(text, sizeof(text), "Subject: foreign %u\r\nTo: x\r\n\r\nbody\r\n>From y\r\n", ++m->serial);
    for (size_t i = 0; i < n; i++)
        if (text[i] != '\r')
            stored[k++] = text[i];
    f = fopen(m->s.inbox, "a");
    assert_non_null(f);
    fprintf(f, "From other@example.org Sat Nov 14 12:00:00 2026\n%.*s\n", (int)k, stored);
    assert_int_equal(fclose(f), 0);
    add(m, strdup(text), n);
}

struct pieces {
    struct scan_message found[MESSAGES];
    size_t count;
};

static int note_piece(void *context, const struct scan_message *found)
{
    struct pieces *p = context;

    p->found[p->count++] = *found;
    return 0;
}

/* Where a stored message of the file is in the model: by its place in the order of UIDs is of no use here, so by bytes.
 * Equal ones (copies) are told apart by their X-UID. */
static void shuffle(struct model *m, bool is_new_inode)
{
    static const uint64_t key[2];
    struct pieces *p = calloc(1, sizeof(*p));
    struct scan_result result;
    size_t len;
    char *text = read_file(m->s.inbox, &len);
    char other[128];
    int fd = open(m->s.inbox, O_RDONLY);
    FILE *f;

    assert_int_equal(scan_file(fd, 0, key, note_piece, p, &result), 0);
    close(fd);
    for (size_t i = p->count; i > 1; i--) {
        size_t k = chance(m, (uint32_t)i);
        struct scan_message swap = p->found[i - 1];

        p->found[i - 1] = p->found[k];
        p->found[k] = swap;
    }
    snprintf(other, sizeof(other), "%s/rewritten", m->s.dir);
    f = fopen(is_new_inode ? other : m->s.inbox, is_new_inode ? "w" : "r+");
    assert_non_null(f);
    for (size_t i = 0; i < p->count; i++) {
        assert_int_equal(fwrite(text + p->found[i].offset, 1, p->found[i].length, f), p->found[i].length);
        if (p->found[i].separator == 0)
            fprintf(f, p->found[i].lacks_newline ? "\n\n" : "\n");
    }
    assert_int_equal(fclose(f), 0);
    if (is_new_inode)
        assert_int_equal(rename(other, m->s.inbox), 0);
    free(text);
    free(p);
}

/* A program that sorts the mailbox. Everything must have been seen before: new messages have no identity yet. */
static void do_shuffle(struct model *m)
{
    struct mbox *v = view(m);

    if (m->count == 0)
        return;
    assert_int_equal(mbox_poll(v, false, NULL), 0);
    if (!is_sorted && access(m->s.inbox, F_OK) == 0 && alive(m) > 0)
        shuffle(m, chance(m, 2) == 0);
}

static void remove_side(struct model *m, const char *name)
{
    char path[160];

    snprintf(path, sizeof(path), "%s/%s", m->s.state, name);
    (void)unlink(path);
}

/* The index is a cache only. While views have it mapped, another file takes its place. */
static void do_lose_index(struct model *m)
{
    assert_int_equal(mbox_poll(view(m), false, NULL), 0);
    remove_side(m, "INBOX.index");
    remove_side(m, "INBOX.cache");
}

static void do_damage_index(struct model *m)
{
    char path[160], junk[40];
    int fd;

    assert_int_equal(mbox_poll(view(m), false, NULL), 0);
    snprintf(path, sizeof(path), "%s/INBOX.index", m->s.state);
    fd = open(path, O_WRONLY);
    memset(junk, 'x', sizeof(junk));
    assert_int_equal(pwrite(fd, junk, sizeof(junk), chance(m, 200)), sizeof(junk));
    close(fd);
}

static void do_cache(struct model *m)
{
    struct mbox *v = view(m);
    struct mbox_info info;
    struct str got;
    char blob[64];

    for (uint32_t i = 0; i < 5 && mbox_count(v) > 0; i++) {
        uint32_t seq = 1 + chance(m, mbox_count(v));
        int n;

        assert_int_equal(mbox_info(v, seq, &info), 0);
        n = snprintf(blob, sizeof(blob), "blob of %u", info.uid);
        if (mbox_cache_get(v, seq, MBOX_CACHE_PREVIEW, &got) == 0)
            assert_true(str_eq(got, (struct str){blob, (size_t)n}));
        else
            assert_int_equal(mbox_cache_put(v, seq, MBOX_CACHE_PREVIEW, (struct str){blob, (size_t)n}), 0);
    }
}

/* ---- comparing ---- */

static void compare(struct model *m, struct mbox *v)
{
    unsigned keyword = LIMIT_KEYWORDS;
    uint32_t seq = 0;

    assert_int_equal(mbox_poll(v, false, NULL), 0);
    assert_int_equal(mbox_count(v), alive(m));
    (void)mbox_keyword_number(v, STR("$Test"), false, &keyword);
    for (size_t i = 0; i < m->count; i++) {
        struct model_message *mm = &m->messages[i];
        struct mbox_info info;
        size_t len;
        char *text;

        if (!mm->is_there) {
            assert_int_equal(mbox_seq(v, mm->uid), 0);
            continue;
        }
        seq++;
        assert_int_equal(mbox_info(v, seq, &info), 0);
        assert_int_equal(info.uid, mm->uid);
        assert_int_equal(mbox_seq(v, mm->uid), seq);
        assert_int_equal(info.flags.system, mm->flags);
        assert_int_equal(keyword < LIMIT_KEYWORDS && (info.flags.keywords >> keyword & 1), mm->has_keyword);
        assert_false(info.is_expunged);
        text = read_message(v, seq, &len);
        assert_int_equal(len, mm->len);
        assert_memory_equal(text, mm->text, len);
        free(text);
    }
    assert_status(m->s.store, v);
}

static void (*const operations[])(struct model *) = {
    do_append, do_deliver,        do_flags,   do_flags,      do_expunge,      do_remove, do_copy,   do_close,
    do_flush,  do_foreign_append, do_shuffle, do_lose_index, do_damage_index, do_cache,  do_append, do_foreign_append,
};
static const char *const names[] = {
    "append", "deliver",        "flags",   "flags",      "expunge",      "remove", "copy",   "close",
    "flush",  "foreign_append", "shuffle", "lose_index", "damage_index", "cache",  "append", "foreign_append",
};

static void walk(uint64_t seed, unsigned rounds)
{
    struct model *m = calloc(1, sizeof(*m));
    const char *trace = getenv("PENNYPOST_TEST_TRACE");

    assert_non_null(m);
    m->random = seed;
    m->uidnext = 1;
    scratch_open(&m->s);
    disk_refuses = seed % 4 == 0;
    is_sorted = seed % 2 == 1;
    for (unsigned i = 0; i < rounds && m->count < MESSAGES - 10; i++) {
        uint32_t pick = chance(m, sizeof(operations) / sizeof(*operations));

        if (trace != NULL)
            fprintf(stderr, "%u %s\n", i, names[pick]);
        operations[pick](m);
        if (chance(m, 3) == 0)
            compare(m, view(m));
        if (trace != NULL && trace[0] == '2')
            compare(m, view(m));
    }
    for (int i = 0; i < VIEWS; i++)
        if (m->views[i] != NULL)
            compare(m, m->views[i]);
    for (int i = 0; i < VIEWS; i++)
        assert_int_equal(mbox_close(m->views[i]), 0);
    for (size_t i = 0; i < m->count; i++)
        free(m->messages[i].text);
    scratch_close(&m->s);
    free(m);
}

static void test_walks(void **state)
{
    const char *folder = getenv("SCRATCH");
    const char *seed = getenv("PENNYPOST_TEST_SEED");
    const char *rounds = getenv("PENNYPOST_TEST_ROUNDS");

    (void)state;
    if (seed != NULL) {
        walk(strtoull(seed, NULL, 10), rounds != NULL ? (unsigned)strtoul(rounds, NULL, 10) : 200);
        return;
    }
    for (uint64_t i = 1; i <= 15; i++) {
        print_message("walk %d\n", (int)i);
        walk(i, rounds != NULL ? (unsigned)strtoul(rounds, NULL, 10) : 120);
    }
    print_message("blocks were given back %u times\n", disk_collapses);
    if (disk_can_collapse(folder ? folder : "/tmp"))
        assert_true(disk_collapses > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walks)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
