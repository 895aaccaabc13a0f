/*
 * Messages on their way in. Runs as whoever appends; touches an unnamed file in the state folder or /tmp.
 */
#include "shared/mbox/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mbox/box.h"

#define SPOOL_MEMORY (1u << 20)
#define SENDER_MAX   LIMIT_PATH

void spool_init(struct spool *s, const char *folder)
{
    *s = (struct spool){.folder = folder, .mem = BUF_INIT(SPOOL_MEMORY + 4096), .fd = -1};
}

void spool_finish(struct spool *s)
{
    for (size_t i = 0; i < s->count; i++) {
        buf_finish(&s->messages[i].sender);
        buf_finish(&s->messages[i].keywords);
    }
    free(s->messages);
    buf_finish(&s->mem);
    close_fd(&s->fd);
    s->messages = NULL;
    s->count = 0;
}

void spool_drop(struct spool *s)
{
    struct spool_message *m;

    if (s->count == 0)
        return;
    m = &s->messages[--s->count];
    if (m->offset < s->in_file) {
        s->in_file = m->offset;
        buf_clear(&s->mem);
    }
    buf_truncate(&s->mem, (size_t)(m->offset - s->in_file));
    buf_finish(&m->sender);
    buf_finish(&m->keywords);
    s->is_open = false;
}

/* An unnamed file goes with the process, whatever happens. */
static int open_unnamed(const char *folder)
{
    int fd = -1;

    if (folder != NULL)
        fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = memfd_create("pennypost-append", MFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int spill(struct spool *s)
{
    int r;

    if (s->fd < 0) {
        if ((r = open_unnamed(s->folder)) < 0)
            return r;
        s->fd = r;
    }
    if ((r = file_write(s->fd, s->mem.data, s->mem.len, s->in_file)) < 0)
        return r;
    s->in_file += s->mem.len;
    buf_clear(&s->mem);
    return 0;
}

static int emit(struct spool *s, const void *data, size_t len)
{
    struct spool_message *m = &s->messages[s->count - 1];
    const char *p = data;
    int r;

    m->length += len;
    if (m->length > s->size_max)
        return -EFBIG;
    mhash_add(&s->hash, data, len);
    while (len > 0) {
        size_t n = SPOOL_MEMORY - s->mem.len < len ? SPOOL_MEMORY - s->mem.len : len;

        if ((r = buf_add(&s->mem, p, n)) < 0)
            return r;
        p += n;
        len -= n;
        if (s->mem.len == SPOOL_MEMORY && (r = spill(s)) < 0)
            return r;
    }
    return 0;
}

/* Stores the beginning of a line, which is all of it when `is_whole`: quoted when it must be. */
static int begin_line(struct spool *s, struct str text, bool is_whole)
{
    struct str quote = interop_quote(text, s->is_header);
    int r = 0;

    if (is_whole && text.len == 0)
        s->is_header = false;
    if (quote.len > 0)
        r = emit(s, quote.ptr, quote.len);
    return r == 0 ? emit(s, text.ptr, text.len) : r;
}

static int end_line(struct spool *s)
{
    s->messages[s->count - 1].lines++;
    s->is_inside = false;
    s->line_len = 0;
    return emit(s, "\n", 1);
}

/* How many bytes in front are whole lines that are stored as they are. */
static size_t take_plain(struct spool *s, const char *p, size_t len)
{
    const char *lf;
    size_t at = 0;

    while ((lf = memchr(p + at, '\n', len - at)) != NULL) {
        struct str text = {p + at, (size_t)(lf - (p + at))};

        if ((text.len > 0 && lf[-1] == '\r') || interop_quote(text, s->is_header).len > 0)
            break;
        s->is_header = s->is_header && text.len > 0;
        s->messages[s->count - 1].lines++;
        at += text.len + 1;
    }
    return at;
}

/* Whole lines straight from the input. Returns how many bytes were taken. */
static ssize_t take_lines(struct spool *s, const char *p, size_t len)
{
    size_t at = 0;
    int r;

    while (at < len) {
        size_t n = take_plain(s, p + at, len - at);
        const char *lf = memchr(p + at + n, '\n', len - at - n);

        if (n > 0 && (r = emit(s, p + at, n)) < 0)
            return r;
        at += n;
        if (lf == NULL)
            break;
        n = (size_t)(lf - (p + at));
        if ((r = begin_line(s, (struct str){p + at, n > 0 && lf[-1] == '\r' ? n - 1 : n}, true)) < 0 ||
            (r = end_line(s)) < 0)
            return r;
        at += n + 1;
    }
    return (ssize_t)at;
}

/* One byte of a line whose beginning is being gathered. */
static int gather(struct spool *s, char c)
{
    int r = 0;

    if (c == '\n') {
        size_t n = s->line_len;

        if (n > 0 && s->line[n - 1] == '\r')
            n--;
        r = begin_line(s, (struct str){s->line, n}, true);
        return r < 0 ? r : end_line(s);
    }
    s->line[s->line_len++] = c;
    if (s->line_len == sizeof(s->line)) {
        size_t n = s->line_len - 1;

        s->has_cr = s->line[n] == '\r';
        r = begin_line(s, (struct str){s->line, s->has_cr ? n : n + 1}, false);
        s->is_inside = true;
    }
    return r;
}

/* The rest of a long line. Returns how many bytes were taken. */
static ssize_t take_inside(struct spool *s, const char *p, size_t len)
{
    const char *lf = memchr(p, '\n', len);
    size_t n = lf == NULL ? len : (size_t)(lf - p);
    int r = 0;

    if (s->has_cr && n > 0)
        r = emit(s, "\r", 1);
    if (r == 0 && n > 0) {
        s->has_cr = p[n - 1] == '\r';
        r = emit(s, p, s->has_cr ? n - 1 : n);
    }
    if (r == 0 && lf != NULL) {
        s->has_cr = false;
        r = end_line(s);
    }
    return r < 0 ? r : (ssize_t)(lf == NULL ? n : n + 1);
}

int spool_write(struct spool *s, const void *data, size_t len)
{
    const char *p = data;

    if (!s->is_open)
        return -EINVAL;
    while (len > 0) {
        ssize_t n = 0;

        if (s->is_inside)
            n = take_inside(s, p, len);
        else if (s->line_len == 0)
            n = take_lines(s, p, len);
        if (n == 0) {
            int r = gather(s, *p);

            n = r < 0 ? r : 1;
        }
        if (n < 0)
            return (int)n;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int spool_end(struct spool *s)
{
    struct spool_message *m;
    uint8_t sum[16];
    int r = 0;

    if (!s->is_open)
        return s->error;
    m = &s->messages[s->count - 1];
    if (s->is_inside || s->line_len > 0) { /* no final newline: it gets one */
        if (s->has_cr)
            r = emit(s, "\r", 1);
        s->has_cr = false;
        if (r == 0 && !s->is_inside)
            r = begin_line(s, (struct str){s->line, s->line_len}, true);
        if (r == 0)
            r = end_line(s);
    }
    s->is_open = false;
    mhash_done(&s->hash, sum);
    memcpy(&m->sum, sum, sizeof(m->sum));
    s->error = r;
    return r;
}

static int take_keywords(struct spool_message *m, const struct mbox_append_options *options)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < options->keyword_count; i++) {
        struct str name = options->keywords[i];

        if (name.len == 0 || name.len > LIMIT_KEYWORD)
            return -EINVAL;
        for (size_t k = 0; k < name.len; k++)
            if ((unsigned char)name.ptr[k] <= ' ' || (unsigned char)name.ptr[k] == 0x7f)
                return -EINVAL;
        if (m->keywords.len > 0)
            r = buf_add_byte(&m->keywords, ' ');
        if (r == 0)
            r = buf_add_str(&m->keywords, name);
    }
    return r;
}

int spool_begin(struct spool *s, const struct mbox_append_options *options, int64_t now, int16_t zone)
{
    static const uint64_t no_key[2];
    struct spool_message *more, *m;
    int r;

    if ((r = spool_end(s)) < 0)
        return r;
    more = realloc(s->messages, (s->count + 1) * sizeof(*more));
    if (more == NULL)
        return -ENOMEM;
    s->messages = more;
    m = &s->messages[s->count++];
    *m = (struct spool_message){.sender = BUF_INIT(SENDER_MAX),
                                .keywords = BUF_INIT(LIMIT_KEYWORDS * (LIMIT_KEYWORD + 1)),
                                .flags = options->flags.system,
                                .date = options->internaldate != 0 ? options->internaldate : now,
                                .zone = options->internaldate != 0 ? options->internaldate_offset : zone,
                                .offset = s->in_file + s->mem.len};
    mhash_init(&s->hash, no_key);
    s->is_open = s->is_header = true;
    s->is_inside = s->has_cr = false;
    s->line_len = 0;
    s->size_max = options->size_max != 0 ? options->size_max : LIMIT_MESSAGE_SIZE;
    r = buf_add_str(&m->sender, str_sub(options->sender, 0, SENDER_MAX));
    if (r == 0)
        r = take_keywords(m, options);
    if (r < 0)
        spool_drop(s);
    return r;
}

int spool_read(struct spool *s, uint64_t offset, void *data, size_t len)
{
    char *p = data;
    int r;

    if (offset < s->in_file) {
        size_t n = s->in_file - offset < len ? (size_t)(s->in_file - offset) : len;

        if ((r = file_read(s->fd, p, n, offset)) < 0)
            return r;
        p += n;
        offset += n;
        len -= n;
    }
    if (len > 0) {
        if (offset - s->in_file + len > s->mem.len)
            return -ENODATA;
        memcpy(p, s->mem.data + (offset - s->in_file), len);
    }
    return 0;
}
