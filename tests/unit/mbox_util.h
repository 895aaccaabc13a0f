/*
 * A store in a scratch folder for the mbox tests.
 */
#ifndef TEST_MBOX_UTIL_H
#define TEST_MBOX_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/mbox/mbox.h"

struct scratch {
    char dir[64];
    char inbox[96];
    char folders[96];
    char state[96];
    struct clock clock;
    struct mbox_store *store;
};

static inline void scratch_store(struct scratch *s)
{
    struct mbox_store_options options = {.inbox = s->inbox,
                                         .folders = s->folders,
                                         .state = s->state,
                                         .owner = getuid(),
                                         .clock = &s->clock,
                                         .keeper = -1,
                                         .lock_timeout = 5};

    assert_int_equal(mbox_store_new(&options, &s->store), 0);
}

static inline void scratch_open(struct scratch *s)
{
    const char *folder = getenv("SCRATCH");

    *s = (struct scratch){.clock = {.is_frozen = true, .epoch = 1700000000}};
    snprintf(s->dir, sizeof(s->dir), "%s/pennypost-test-XXXXXX", folder ? folder : "/tmp");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->inbox, sizeof(s->inbox), "%s/inbox", s->dir);
    snprintf(s->folders, sizeof(s->folders), "%s/mail", s->dir);
    snprintf(s->state, sizeof(s->state), "%s/state", s->dir);
    scratch_store(s);
}

/* A store as deliver has it. Its first message opens the sidecars. */
static inline struct mbox_append *open_delivery(struct scratch *s, int lock_timeout, struct mbox_store **ret)
{
    struct mbox_store_options options = {.inbox = s->inbox,
                                         .state = s->state,
                                         .owner = getuid(),
                                         .clock = &s->clock,
                                         .keeper = -1,
                                         .lock_timeout = lock_timeout,
                                         .is_delivery = true};
    struct mbox_append *a;

    assert_int_equal(mbox_store_new(&options, ret), 0);
    assert_int_equal(mbox_append_new(*ret, STR("INBOX"), &a), 0);
    return a;
}

static inline int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *at)
{
    (void)facts;
    (void)kind;
    (void)at;
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void scratch_close(struct scratch *s)
{
    mbox_store_free(s->store);
    remove_tree(s->dir);
}

static inline void write_file(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* Does the file system tell when a file was read, if that was not told since it was changed (relatime)? */
static inline bool has_relatime(const struct scratch *s)
{
    struct timespec times[2] = {{.tv_sec = 1500000000}, {.tv_sec = 1600000000}};
    char path[96], byte;
    struct stat st;
    bool is_told = true;
    FILE *f;

    snprintf(path, sizeof(path), "%s/probe", s->dir);
    for (int i = 0; i < 2; i++, times[0].tv_sec = 4000000000) {
        f = fopen(path, "w+");
        assert_non_null(f);
        assert_int_equal(fwrite("x", 1, 1, f), 1);
        assert_int_equal(fflush(f), 0);
        assert_int_equal(futimens(fileno(f), times), 0);
        assert_int_equal(pread(fileno(f), &byte, 1, 0), 1);
        assert_int_equal(fstat(fileno(f), &st), 0);
        is_told = is_told && (st.st_atim.tv_sec != times[0].tv_sec) == (i == 0);
        assert_int_equal(fclose(f), 0);
    }
    assert_int_equal(unlink(path), 0);
    return is_told;
}

static inline char *read_file(const char *path, size_t *ret_len)
{
    FILE *f = fopen(path, "r");
    struct stat facts;
    char *text;
    size_t n;

    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &facts), 0);
    text = malloc((size_t)facts.st_size + 1);
    assert_non_null(text);
    n = fread(text, 1, (size_t)facts.st_size, f);
    assert_int_equal(fclose(f), 0);
    text[n] = '\0';
    if (ret_len != NULL)
        *ret_len = n;
    return text;
}

/* Appends one message; returns its UID. */
static inline uint32_t append_text(struct mbox_store *store, const char *name, const char *text, size_t len)
{
    struct mbox_append_options options = {.sender = STR("tester@example.org")};
    struct mbox_append *a;
    uint32_t uidvalidity, uid = 0;

    assert_int_equal(mbox_append_new(store, str_from(name), &a), 0);
    assert_int_equal(mbox_append_message(a, &options), 0);
    assert_int_equal(mbox_append_write(a, text, len), 0);
    assert_int_equal(mbox_append_commit(a, &uidvalidity, &uid), 0);
    mbox_append_free(a);
    return uid;
}

/* The whole wire form of a message; freed by the caller. */
static inline char *read_message(struct mbox *v, uint32_t seq, size_t *ret_len)
{
    struct mbox_stream *m;
    struct buf all = BUF_INIT(64u << 20);
    struct mbox_info info;
    struct str piece;

    assert_int_equal(mbox_info(v, seq, &info), 0);
    assert_int_equal(mbox_stream_new(v, seq, &m), 0);
    do {
        assert_int_equal(mbox_stream_next(m, &piece), 0);
        assert_int_equal(buf_add_str(&all, piece), 0);
    } while (piece.len > 0);
    mbox_stream_free(m);
    assert_int_equal(all.len, info.size);
    *ret_len = all.len;
    return all.data == NULL ? strdup("") : all.data;
}

static inline void assert_message(struct mbox *v, uint32_t seq, const char *text)
{
    size_t len;
    char *got = read_message(v, seq, &len);

    assert_int_equal(len, strlen(text));
    assert_memory_equal(got, text, len);
    free(got);
}

/* The sums that are kept against those that are counted. */
static inline void assert_status(struct mbox_store *store, struct mbox *v)
{
    struct mbox_status expected = {0}, found, all;

    for (uint32_t seq = 1; seq <= mbox_count(v); seq++) {
        struct mbox_info info;

        assert_int_equal(mbox_info(v, seq, &info), 0);
        expected.size += info.size;
        expected.recent += info.is_recent;
        expected.deleted += (info.flags.system & MBOX_DELETED) != 0;
        if (info.flags.system & MBOX_SEEN)
            continue;
        expected.unseen++;
        if (expected.first_unseen == 0)
            expected.first_unseen = seq;
    }
    assert_int_equal(mbox_view_status(v, &found), 0);
    assert_int_equal(mbox_status(store, mbox_name(v), &all), 0);
    assert_int_equal(found.messages, mbox_count(v));
    assert_int_equal(all.messages, mbox_count(v));
    assert_int_equal(found.size, expected.size);
    assert_int_equal(all.size, expected.size);
    assert_int_equal(found.unseen, expected.unseen);
    assert_int_equal(all.unseen, expected.unseen);
    assert_int_equal(found.deleted, expected.deleted);
    assert_int_equal(all.deleted, expected.deleted);
    assert_int_equal(found.first_unseen, expected.first_unseen);
    assert_int_equal(all.first_unseen, expected.first_unseen);
    assert_int_equal(found.recent, expected.recent);
    assert_int_equal(found.uidnext, all.uidnext);
}

/* A name in the scratch folder; freed by the caller. */
static inline char *path_of(const struct scratch *s, const char *name)
{
    char *path = malloc(256);

    assert_non_null(path);
    snprintf(path, 256, "%s/%s", s->dir, name);
    return path;
}

static inline void poll_ok(struct mbox *v)
{
    assert_int_equal(mbox_poll(v, false, NULL), 0);
}

#endif
