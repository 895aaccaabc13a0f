/*
 * The memory of next hops that could not be reached: one line each, "UNTIL FAILURES CODE ENHANCED KEY<TAB>TEXT". Runs
 * in relay.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/relay/relay.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"

#define MEMORY_FILE  "destinations"
#define MEMORY_LINES 10000
#define MEMORY_BYTES (8u << 20)
#define WAIT_MAX     3600 /* seconds: a host that is back gets its mail within an hour */

struct memory {
    struct memory *next;
    char key[NEXTHOP_KEY];
    int64_t until;
    uint32_t failures;
    struct talk_reply reply;
};

static struct memory **find(struct relay *r, const char *key)
{
    struct memory **at = &r->memory;

    while (*at && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    return at;
}

bool memory_find(const struct relay *r, const struct dest *d, struct talk_reply *ret)
{
    for (const struct memory *m = r->memory; m; m = m->next)
        if (strcmp(m->key, d->key) == 0 && m->until > relay_now(r) && m->until - relay_now(r) <= WAIT_MAX) {
            *ret = m->reply;
            return true;
        }
    return false;
}

void memory_clear(struct relay *r, const struct dest *d)
{
    struct memory **at = find(r, d->key), *m = *at;

    if (!m)
        return;
    *at = m->next;
    free(m);
    r->is_memory_changed = true;
}

void memory_set(struct relay *r, const struct dest *d, const struct talk_reply *reply)
{
    struct memory **at = find(r, d->key);
    int64_t wait;

    if (!*at) {
        *at = calloc(1, sizeof(**at));
        if (!*at)
            return; /* a try more */
        memcpy((*at)->key, d->key, sizeof(d->key));
    }
    wait = (int64_t)r->conf->retry_min << ((*at)->failures < 8 ? (*at)->failures : 8);
    (*at)->until = relay_now(r) + (wait < WAIT_MAX ? wait : WAIT_MAX);
    (*at)->failures++;
    (*at)->reply = *reply;
    r->is_memory_changed = true;
}

static int folder_path(const struct relay *r, const char *suffix, char *out, size_t size)
{
    int n = snprintf(out, size, "%s/" MEMORY_FILE "%s", r->conf->queue, suffix);

    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* A line of ours; anything else is forgotten. */
static void load_line(struct relay *r, struct str line)
{
    struct str until, failures, code, enhanced, key;
    struct memory *m = calloc(1, sizeof(*m));
    uint64_t when = 0;
    uint32_t number = 0;

    if (!m)
        return;
    if (str_word(&line, &until) && str_to_u64(until, &when) == 0 && str_word(&line, &failures) &&
        str_to_u32(failures, &m->failures) == 0 && str_word(&line, &code) && str_to_u32(code, &number) == 0 &&
        number >= 400 && number <= 499 && str_word(&line, &enhanced) && enhanced.len < sizeof(m->reply.enhanced) &&
        str_cut(&line, '\t', &key) && str_trim(key).len < sizeof(m->key)) {
        key = str_trim(key);
        m->until = (int64_t)when;
        memcpy(m->key, key.ptr, key.len);
        talk_reply_set(&m->reply, TALK_GREETING, number, "", "%.*s", STR_ARG(line));
        memcpy(m->reply.enhanced, enhanced.ptr, enhanced.len);
        m->next = r->memory;
        r->memory = m;
        return;
    }
    free(m);
}

void memory_load(struct relay *r)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MEMORY_BYTES);
    char path[4096], piece[8192];
    _cleanup_close_ int fd = -1;
    struct str rest, line;
    ssize_t n = 0;

    if (folder_path(r, "", path, sizeof(path)) == 0)
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    while (fd >= 0 && (n = read(fd, piece, sizeof(piece))) > 0)
        if (buf_add(&text, piece, (size_t)n) < 0)
            return;
    rest = buf_str(&text);
    for (unsigned i = 0; i < MEMORY_LINES && rest.len > 0; i++)
        if (str_cut(&rest, '\n', &line))
            load_line(r, line);
}

/* Without what is long over: a day after its time nobody remembers. */
static int print(const struct relay *r, struct buf *out)
{
    int x = 0;

    for (const struct memory *m = r->memory; m && x == 0; m = m->next)
        if (m->until + 86400 > relay_now(r))
            x = buf_printf(out, "%lld %u %u %s %s\t%s\n", (long long)m->until, m->failures, m->reply.code,
                           m->reply.enhanced, m->key, m->reply.text);
    return x;
}

void memory_save(struct relay *r)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MEMORY_BYTES);
    char path[4096], scratch[4096];
    _cleanup_close_ int fd = -1;
    int x;

    if (!r->is_memory_changed)
        return;
    r->is_memory_changed = false;
    x = print(r, &text);
    if (x == 0)
        x = folder_path(r, "", path, sizeof(path));
    if (x == 0)
        x = folder_path(r, ".new", scratch, sizeof(scratch));
    if (x == 0) {
        fd = open(scratch, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        x = fd < 0 || (text.len > 0 && write(fd, text.data, text.len) != (ssize_t)text.len) || rename(scratch, path) < 0
                ? -errno
                : 0;
    }
    if (x < 0)
        LOG_ERROR(LOG_WARNING, "destinations-not-written", x);
}

void memory_finish(struct relay *r)
{
    while (r->memory) {
        struct memory *m = r->memory;

        r->memory = m->next;
        free(m);
    }
}
