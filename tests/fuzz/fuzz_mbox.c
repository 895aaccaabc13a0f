/*
 * Mbox files: the scanner against a splitter that knows nothing but the rule (a valid From_ line at the beginning or
 * behind an empty line), from the beginning and from every message on.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/mbox/fromline.h"
#include "shared/mbox/scan.h"

#define MOST 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_so)
{
    if (!is_so)
        abort();
}

struct found {
    struct scan_message messages[MOST];
    size_t count;
};

static int note(void *context, const struct scan_message *m)
{
    struct found *f = context;

    f->messages[f->count++] = *m;
    return f->count == MOST ? 1 : 0;
}

/* The line that begins at `at`, without its end; *ret_next behind it. */
static struct str line_at(struct str text, size_t at, size_t *ret_next)
{
    struct str rest = str_sub(text, at, text.len), line = rest;
    ptrdiff_t lf = str_chr(rest, '\n');

    *ret_next = text.len;
    if (lf >= 0) {
        line = str_sub(rest, 0, (size_t)lf);
        *ret_next = at + (size_t)lf + 1;
    }
    return line.len > 0 && line.ptr[line.len - 1] == '\r' ? str_sub(line, 0, line.len - 1) : line;
}

/* Where messages begin; false: it is no mbox. Line ends in front of the first are no matter. */
static bool split(struct str text, uint64_t *ret_starts, size_t *ret_count)
{
    bool is_behind_empty = true;
    struct fromline from;
    size_t at = 0, next;

    *ret_count = 0;
    while (at < text.len && (text.ptr[at] == '\n' || text.ptr[at] == '\r'))
        at++;
    for (; at < text.len && *ret_count < MOST; at = next) {
        struct str line = line_at(text, at, &next);

        if (is_behind_empty && fromline_parse(line, &from))
            ret_starts[(*ret_count)++] = at;
        else if (*ret_count == 0)
            return false;
        is_behind_empty = line.len == 0;
    }
    return true;
}

static void check_message(const struct scan_message *m, size_t size)
{
    must(m->length >= m->from_length && m->offset + m->length <= size);
    must(m->from_length + m->header <= m->length);
    must(m->block <= m->header && m->separator <= 2 && m->separator <= m->length);
    must(m->size <= 2 * m->length + 2);
}

/* Alone it is the same, with this length expected. */
static void check_alone(int fd, const struct scan_message *m, uint64_t length)
{
    static const uint64_t key[2];
    static struct found alone;

    alone.count = 0;
    must(scan_message(fd, m->offset, length, key, note, &alone) == 0 && alone.count == 1);
    must(alone.messages[0].offset == m->offset && alone.messages[0].length == m->length);
    must(alone.messages[0].size == m->size && memcmp(alone.messages[0].hash, m->hash, sizeof(m->hash)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t key[2];
    static struct found all, rest;
    static uint64_t starts[MOST];
    struct scan_result result;
    size_t count;
    int fd = memfd_create("mbox", MFD_CLOEXEC), r;

    must(fd >= 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    all.count = 0;
    r = scan_file(fd, 0, key, note, &all, &result);
    if (!split((struct str){(const char *)data, size}, starts, &count)) {
        must(r == -EBADMSG);
    } else {
        must(r == 0 || r == 1);
        must(all.count == count);
    }
    for (size_t i = 0; r >= 0 && i < all.count; i++) {
        must(all.messages[i].offset == starts[i]);
        check_message(&all.messages[i], size);
        if (r != 0 || i > 3)
            continue;
        rest.count = 0;
        must(scan_file(fd, all.messages[i].offset, key, note, &rest, &result) == 0);
        must(rest.count == all.count - i);
        must(memcmp(rest.messages[0].hash, all.messages[i].hash, sizeof(rest.messages[0].hash)) == 0);
        must(rest.messages[0].size == all.messages[i].size && rest.messages[0].uid == all.messages[i].uid);
        check_alone(fd, &all.messages[i], i % 2 == 0 ? all.messages[i].length : i);
    }
    (void)close(fd);
    return 0;
}
