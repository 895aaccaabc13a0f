/*
 * From the standard input into header and body. Runs as the invoking user; pure.
 *
 * NUL bytes are dropped and a bare CR is a line end: RFC 5321 4.5.2, 2.3.8 allow neither in a message, and the output
 * of a cron job with a progress bar must not be lost for that.
 */
#include "handlers/sendmail/input.h"

#include <errno.h>

#include "shared/base/limits.h"

enum column { AT_START, BEHIND_DOT, INSIDE };

void input_init(struct input *in, bool ignores_dots, int (*write)(void *, struct str), void *context)
{
    *in = (struct input){.ignores_dots = ignores_dots,
                         .write = write,
                         .context = context,
                         .header = BUF_INIT(LIMIT_HEADER),
                         .out = BUF_INIT(INPUT_OUT)};
}

void input_finish(struct input *in)
{
    buf_finish(&in->header);
    buf_finish(&in->out);
}

static int flush(struct input *in)
{
    int e = in->out.len > 0 ? in->write(in->context, buf_str(&in->out)) : 0;

    buf_clear(&in->out);
    return e;
}

static int emit(struct input *in, char c)
{
    int e = in->out.len == INPUT_OUT ? flush(in) : 0;

    in->size += c == '\n' ? 2 : 1;
    return e < 0 ? e : buf_add_byte(&in->out, c);
}

/* One byte of the body. A dot at the start of a line waits until it is known not to be the end. */
static int step_body(struct input *in, char c)
{
    int e = 0;

    if (in->column == AT_START && c == '.' && !in->ignores_dots) {
        in->column = BEHIND_DOT;
        return 0;
    }
    if (in->column == BEHIND_DOT && c == '\n') {
        in->is_end = true;
        return 0;
    }
    if (in->column == BEHIND_DOT)
        e = emit(in, '.');
    in->column = c == '\n' ? AT_START : INSIDE;
    return e < 0 ? e : emit(in, c);
}

static int replay(struct input *in, struct str line)
{
    int e = 0;

    for (size_t i = 0; i < line.len && e == 0 && !in->is_end; i++)
        e = step_body(in, line.ptr[i]);
    return e;
}

/* RFC 5322 2.2, 3.6.8: printable characters but the colon, blanks before it by 4.5. */
static bool is_field(struct str line)
{
    size_t i = 0;

    while (i < line.len && line.ptr[i] > 32 && line.ptr[i] < 127 && line.ptr[i] != ':')
        i++;
    if (i == 0)
        return false;
    while (i < line.len && (line.ptr[i] == ' ' || line.ptr[i] == '\t'))
        i++;
    return i < line.len && line.ptr[i] == ':';
}

/* The From_ line of a mailbox, which programs that forward put on top; no field. */
static bool is_envelope(struct str line)
{
    return str_starts(line, STR("From ")) || str_starts(line, STR(">From "));
}

/* A line of the header has come, with its line end. */
static int end_header_line(struct input *in)
{
    struct str line = str_sub(buf_str(&in->header), in->line, in->header.len);
    int e = 0;

    if (in->line == 0 && is_envelope(line)) {
        buf_clear(&in->header);
        return 0;
    }
    if (is_field(line) || (in->line > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))) {
        in->size += line.len + 1;
        in->line = in->header.len;
        return 0;
    }
    in->is_body = true;
    if (line.len > 1) /* the text begins without an empty line */
        e = replay(in, line);
    buf_truncate(&in->header, in->line);
    return e;
}

static int step(struct input *in, char c)
{
    int e;

    if (c & '\x80')
        in->is_8bit = true;
    if (in->is_body)
        return step_body(in, c);
    e = buf_add_byte(&in->header, c);
    if (e < 0)
        return e == -ENOBUFS ? -E2BIG : e;
    return c == '\n' ? end_header_line(in) : 0;
}

/* How many bytes at the front are text that needs no looking at. */
static size_t plain_span(const struct input *in, struct str s)
{
    size_t i = 0;

    if (!in->is_body || in->column != INSIDE)
        return 0;
    while (i < s.len && s.ptr[i] != '\n' && s.ptr[i] != '\r' && s.ptr[i] != '\0' && !(s.ptr[i] & '\x80'))
        i++;
    return i < INPUT_OUT ? i : INPUT_OUT;
}

static int emit_span(struct input *in, struct str span)
{
    int e = span.len > INPUT_OUT - in->out.len ? flush(in) : 0;

    in->size += span.len;
    return e < 0 ? e : buf_add_str(&in->out, span);
}

int input_feed(struct input *in, struct str bytes)
{
    int e = 0;

    for (size_t i = 0; i < bytes.len && e == 0 && !in->is_end;) {
        size_t span = plain_span(in, str_sub(bytes, i, bytes.len));
        char c = bytes.ptr[i];
        bool was_cr = in->is_cr;

        in->is_cr = false;
        if (span > 0) {
            e = emit_span(in, str_sub(bytes, i, span));
            i += span;
            continue;
        }
        i++;
        if (c == '\0' || (c == '\n' && was_cr))
            continue;
        in->is_cr = c == '\r';
        e = step(in, c == '\r' ? '\n' : c);
    }
    return e;
}

int input_end(struct input *in)
{
    int e = 0;

    if (!in->is_end && !in->is_body && in->header.len > in->line)
        e = step(in, '\n');
    if (e == 0 && !in->is_end && in->is_body && in->column == BEHIND_DOT) {
        in->column = AT_START; /* a lone dot without its line end ends the message as well */
        in->is_end = true;
    }
    if (e == 0 && !in->is_end && in->column == INSIDE)
        e = step_body(in, '\n');
    return e < 0 ? e : flush(in);
}
