/*
 * The state machine behind DATA. Runs in smtp-session: own uid, sandboxed, nothing to touch.
 */
#include "handlers/smtp/data.h"

#include <string.h>

enum state {
    LINE_START,      /* behind CRLF (or a line end of this mode that counts as one) */
    LINE_START_BARE, /* DATA_NORMALIZE: behind a bare LF, where no end of the data can begin */
    IN_LINE,
    AFTER_CR,
    AFTER_DOT,      /* "." at a LINE_START */
    AFTER_DOT_CR,   /* ".\r" there */
    AFTER_DOT_BARE, /* "." at a LINE_START_BARE */
    AFTER_DOT_BARE_CR,
};

void data_init(struct data_reader *d, enum data_mode mode, int (*write)(void *, struct str), void *context)
{
    *d = (struct data_reader){.mode = mode, .write = write, .context = context, .state = LINE_START};
}

static void emit(struct data_reader *d, const char *bytes, size_t len)
{
    d->size += len;
    d->has_8bit = d->has_8bit || !str_is_ascii((struct str){bytes, len});
    if (len > 0 && d->error == 0 && d->faults == 0)
        d->error = d->write(d->context, (struct str){bytes, len});
}

static void end_line(struct data_reader *d, enum state next)
{
    emit(d, "\n", 1);
    d->size++; /* it was CRLF on the wire */
    d->state = next;
}

/* A LF that no CR came before. Returns whether it ends a line in this mode. */
static bool bare_lf(struct data_reader *d)
{
    bool is_end = d->mode == DATA_NORMALIZE || d->mode == DATA_LENIENT;

    if (!is_end)
        d->faults |= DATA_BARE_LF;
    return is_end;
}

static enum state behind_bare_lf(const struct data_reader *d)
{
    return d->mode == DATA_LENIENT ? LINE_START : LINE_START_BARE;
}

/* One byte that is inside a line, whatever came before. */
static void step_in_line(struct data_reader *d, char c)
{
    d->state = IN_LINE;
    if (c == '\r')
        d->state = AFTER_CR;
    else if (c == '\n' && bare_lf(d))
        end_line(d, behind_bare_lf(d));
    else if (c == '\0')
        d->faults |= DATA_NUL;
    else
        emit(d, &c, 1);
}

static void step_after_cr(struct data_reader *d, char c)
{
    if (c == '\n') {
        d->is_raw = d->mode == DATA_BINARY && d->is_empty_line;
        end_line(d, LINE_START);
        return;
    }
    d->faults |= DATA_BARE_CR;
    step_in_line(d, c);
}

/* Behind the dot at a line start: the end of the data, or stuffing that is dropped (RFC 5321 4.5.2). */
static void step_after_dot(struct data_reader *d, char c)
{
    if (c == '\r')
        d->state = AFTER_DOT_CR;
    else if (c == '\n' && d->mode == DATA_LENIENT)
        d->is_end = true;
    else
        step_in_line(d, c);
}

static void step_after_dot_cr(struct data_reader *d, char c)
{
    if (c == '\n') {
        d->is_end = true;
        return;
    }
    d->faults |= DATA_BARE_CR;
    step_in_line(d, c);
}

/* A line that is a lone dot but cannot be the end is kept as it is; in other lines the dot was stuffing. */
static void step_after_dot_bare(struct data_reader *d, char c)
{
    if (c == '\r') {
        d->state = AFTER_DOT_BARE_CR;
        return;
    }
    if (c == '\n')
        emit(d, ".", 1);
    step_in_line(d, c);
}

static void step_after_dot_bare_cr(struct data_reader *d, char c)
{
    if (c == '\n')
        emit(d, ".", 1);
    step_after_cr(d, c);
}

static void step(struct data_reader *d, char c)
{
    if (d->state != AFTER_CR)
        d->is_empty_line = d->state == LINE_START;
    switch ((enum state)d->state) {
    case LINE_START:
    case LINE_START_BARE:
        if (c == '.' && !d->is_counted)
            d->state = d->state == LINE_START ? AFTER_DOT : AFTER_DOT_BARE;
        else
            step_in_line(d, c);
        break;
    case IN_LINE:
        step_in_line(d, c);
        break;
    case AFTER_CR:
        step_after_cr(d, c);
        break;
    case AFTER_DOT:
        step_after_dot(d, c);
        break;
    case AFTER_DOT_CR:
        step_after_dot_cr(d, c);
        break;
    case AFTER_DOT_BARE:
        step_after_dot_bare(d, c);
        break;
    case AFTER_DOT_BARE_CR:
        step_after_dot_bare_cr(d, c);
        break;
    }
}

/* How many bytes at the front are plain text: the fast path for nearly everything. */
static size_t plain_span(struct str s)
{
    const char *end = s.ptr + s.len;
    const char *p = s.ptr;

    while (p < end && *p != '\r' && *p != '\n' && *p != '\0')
        p++;
    return (size_t)(p - s.ptr);
}

size_t data_feed(struct data_reader *d, struct str bytes)
{
    size_t i = 0;

    while (i < bytes.len && !d->is_end) {
        struct str rest = str_sub(bytes, i, bytes.len);
        size_t span;

        if (d->is_raw) {
            emit(d, rest.ptr, rest.len);
            i = bytes.len;
        } else if (d->state == IN_LINE && (span = plain_span(rest)) > 0) {
            emit(d, rest.ptr, span);
            i += span;
        } else if (d->mode != DATA_BINARY && d->state == AFTER_CR && rest.len > 1 && rest.ptr[0] == '\n' &&
                   rest.ptr[1] != '.' && (span = plain_span(str_sub(rest, 1, rest.len))) > 0) {
            /* A whole line at once: its predecessor's end and its text. */
            emit(d, rest.ptr, span + 1);
            d->size++;
            d->state = IN_LINE;
            i += span + 1;
        } else {
            step(d, rest.ptr[0]);
            i++;
        }
    }
    return i;
}

void data_end_counted(struct data_reader *d)
{
    if (d->state == AFTER_CR)
        d->faults |= DATA_BARE_CR;
    else if (d->state == IN_LINE)
        end_line(d, LINE_START);
    d->is_end = true;
}
