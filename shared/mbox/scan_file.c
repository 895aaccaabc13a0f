/*
 * Scanning a file: message by message, and with a second processor where it is large. Part of the library: no process
 * of its own, but a thread now and then, which scans and nothing else: it takes no lock, no signal and no memory, and
 * what it leaves behind is taken or not.
 *
 * While the scanner is at work in one stretch of the file the thread is in the next one, from the first message that
 * begins there. When the scanner comes to that very message, what the thread found is visited and the scanner goes on
 * behind it. What was found does not depend on who found it, since a message begins wherever a separator and a From_
 * line stand, and nothing is known of it but its own bytes.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mbox/scan_part.h"

#define STRETCH  (16u << 20)  /* what one of the two scans at a time */
#define MESSAGES 8192         /* most that the thread finds in it */
#define WORDS    (64u << 10)  /* and of their keywords */
#define KEYWORDS 4096         /* those of one message */
#define STACK    (256u << 10) /* most of it is never touched */
#define BEHIND   1024u        /* bytes behind a message that are read with it: it ends where another begins */

struct helper {
    struct scanner s;
    pthread_t thread;
    bool is_at_work;
    atomic_bool is_over; /* nobody needs what it still finds */
    uint64_t file_size;
    uint64_t stretch; /* how far the scanner goes before the helper begins */
    uint64_t begin;   /* of the helper's */
    uint64_t first;   /* where the first of the messages that it found begins, if there is one */
    bool has_more;    /* behind the last of them */
    size_t count;
    size_t words_len;
    struct scan_message messages[MESSAGES];
    char words[WORDS];
    _Alignas(4096) uint8_t stack[STACK]; /* here, so that none stays in the process */
};

/* ---- in the thread ---- */

static void keep(struct helper *h, const struct scan_message *m)
{
    struct scan_message *to = &h->messages[h->count++];

    *to = *m;
    to->keywords.ptr = h->words + h->words_len;
    if (m->keywords.len > 0)
        memcpy(h->words + h->words_len, m->keywords.ptr, m->keywords.len);
    h->words_len += m->keywords.len;
}

static void *help(void *helper)
{
    struct helper *h = helper;
    bool has_more;
    int r = scan_search(&h->s, &has_more);

    h->first = scan_offset(&h->s);
    while (r == 0 && has_more && scan_offset(&h->s) < h->begin + STRETCH && h->count < MESSAGES &&
           WORDS - h->words_len >= KEYWORDS && !atomic_load(&h->is_over)) {
        r = scan_one(&h->s, &has_more);
        if (r == 0)
            keep(h, &h->s.m);
    }
    h->has_more = has_more;
    if (r < 0 || h->s.lacks_room)
        h->count = 0; /* what goes wrong here does not there, or goes wrong once more where it can be told */
    return NULL;
}

/* ---- beside it ---- */

static void helper_free(struct helper *h)
{
    if (h == NULL)
        return;
    atomic_store(&h->is_over, true);
    if (h->is_at_work)
        (void)pthread_join(h->thread, NULL);
    scan_finish(&h->s);
    (void)munmap(h, sizeof(*h));
}

/* NULL: it would not pay, or there cannot be one. */
static struct helper *helper_create(int fd, uint64_t offset, const uint64_t *key)
{
    struct helper *h;
    struct stat st;
    cpu_set_t set;

    if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < offset + 2 * STRETCH ||
        sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) < 2)
        return NULL;
    h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (h == MAP_FAILED)
        return NULL;
    h->file_size = (uint64_t)st.st_size;
    h->stretch = STRETCH;
    if (scan_begin(&h->s, fd, key) == 0) {
        h->s.keywords.max = KEYWORDS; /* all that it may have, so that the thread never asks for memory */
        if (buf_reserve(&h->s.keywords, KEYWORDS) == 0 && scan_enlarge(&h->s) == 0)
            return h;
    }
    helper_free(h);
    return NULL;
}

static int helper_start(struct helper *h, uint64_t begin)
{
    pthread_attr_t attr;
    sigset_t all, old;

    h->begin = begin;
    h->count = h->words_len = 0;
    scan_at(&h->s, begin);
    if (pthread_attr_init(&attr) != 0)
        return -ENOMEM;
    (void)sigfillset(&all);
    if (pthread_attr_setstack(&attr, h->stack, STACK) == 0 && pthread_sigmask(SIG_SETMASK, &all, &old) == 0) {
        h->is_at_work = pthread_create(&h->thread, &attr, help, h) == 0;
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    (void)pthread_attr_destroy(&attr);
    return h->is_at_work ? 0 : -EAGAIN;
}

/* ---- both ---- */

struct scan {
    struct scanner s;
    struct helper *helper;
    int (*visit)(void *context, const struct scan_message *m);
    void *context;
};

/* Visits what the helper has found, if that begins just here, and goes on with its scanner: what has been read is not
 * read again, so nothing is seen in two states. */
static int take_over(struct scan *scan, bool *has_more)
{
    struct helper *h = scan->helper;
    struct scanner mine = scan->s;
    int r = 0;

    (void)pthread_join(h->thread, NULL);
    h->is_at_work = false;
    if (h->count == 0 || h->first != scan_offset(&scan->s))
        return 0;
    for (size_t i = 0; r == 0 && i < h->count; i++)
        r = scan->visit(scan->context, &h->messages[i]);
    scan->s = h->s;
    h->s = mine;
    h->s.keywords = scan->s.keywords; /* but for these: see helper_create() */
    scan->s.keywords = mine.keywords;
    h->s.base_keywords = scan->s.base_keywords;
    scan->s.base_keywords = mine.base_keywords;
    h->stretch = h->count == MESSAGES ? scan_offset(&scan->s) - h->first : STRETCH;
    *has_more = h->has_more;
    return r;
}

static int scan_next(struct scan *scan, bool *has_more)
{
    struct helper *h = scan->helper;
    uint64_t at = scan_offset(&scan->s);
    int r;

    if (h != NULL && h->is_at_work && at >= h->begin)
        return take_over(scan, has_more);
    if (h != NULL && !h->is_at_work && at + h->stretch < h->file_size && helper_start(h, at + h->stretch) < 0) {
        helper_free(h); /* all goes on without */
        scan->helper = NULL;
    }
    r = scan_one(&scan->s, has_more);
    scan->s.is_first = false;
    return r < 0 ? r : scan->visit(scan->context, &scan->s.m);
}

/* The helper may come to work with either of the two buffers. Who cannot have this one could not go on without. */
static int get_help(struct scan *scan, const uint64_t *key)
{
    scan->helper = helper_create(scan->s.fd, scan_offset(&scan->s), key);
    return scan->helper != NULL ? scan_enlarge(&scan->s) : 0;
}

int scan_file(int fd, uint64_t offset, const uint64_t key[2], int (*visit)(void *context, const struct scan_message *m),
              void *context, struct scan_result *ret)
{
    struct scan scan = {.visit = visit, .context = context};
    struct scan_result result = {0};
    int r = scan_begin(&scan.s, fd, key);

    scan_at(&scan.s, offset);
    if (r == 0)
        r = scan_prefix(&scan.s);
    result.prefix = scan_offset(&scan.s);
    if (r == 0) {
        bool has_more = scan.s.pos < scan.s.len;

        if (has_more) /* alone: many a caller looks at one message only */
            r = scan_next(&scan, &has_more);
        if (r == 0 && has_more)
            r = get_help(&scan, key);
        while (r == 0 && has_more)
            r = scan_next(&scan, &has_more);
    }
    result.end = scan_offset(&scan.s);
    helper_free(scan.helper);
    scan_finish(&scan.s);
    if (r == 0)
        *ret = result;
    return r;
}

int scan_message(int fd, uint64_t offset, uint64_t length, const uint64_t key[2],
                 int (*visit)(void *context, const struct scan_message *m), void *context)
{
    struct scanner s;
    bool has_more;
    int r = scan_begin(&s, fd, key);

    if (length < SCAN_FIRST - BEHIND)
        s.first = (size_t)length + BEHIND;
    scan_at(&s, offset);
    if (r == 0)
        r = scan_prefix(&s);
    if (r == 0 && s.pos < s.len && (r = scan_one(&s, &has_more)) == 0)
        r = visit(context, &s.m);
    scan_finish(&s);
    return r;
}
