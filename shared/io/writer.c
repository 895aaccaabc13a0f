#include "shared/io/writer.h"

#include <errno.h>

void writer_init(struct writer *w, struct transport *t)
{
    *w = (struct writer){.transport = t, .out = BUF_INIT(WRITER_BUFFER)};
}

void writer_finish(struct writer *w)
{
    buf_finish(&w->out);
}

int writer_flush(struct writer *w)
{
    if (w->error == 0 && w->out.len > 0) {
        w->error = transport_write(w->transport, w->out.data, w->out.len);
        buf_clear(&w->out);
    }
    return w->error;
}

int writer_add(struct writer *w, const void *data, size_t len)
{
    if (w->error < 0)
        return w->error;
    w->sent += len;
    if (len > w->out.max - w->out.len && writer_flush(w) < 0)
        return w->error;
    /* Large pieces go out as they are: message bodies are not copied once more. */
    if (len >= w->out.max)
        w->error = transport_write(w->transport, data, len);
    else
        w->error = buf_add(&w->out, data, len);
    return w->error;
}

int writer_str(struct writer *w, struct str s)
{
    return writer_add(w, s.ptr, s.len);
}

int writer_text(struct writer *w, const char *text)
{
    return writer_str(w, str_from(text));
}

int writer_texts(struct writer *w, const char *const *texts)
{
    while (*texts)
        (void)writer_text(w, *texts++);
    return w->error;
}

int writer_u64(struct writer *w, uint64_t n)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return writer_add(w, digits + at, sizeof(digits) - at);
}

int writer_printf(struct writer *w, const char *format, ...)
{
    va_list ap;

    if (w->error < 0)
        return w->error;

    size_t before = w->out.len;

    va_start(ap, format);

    int r = buf_vprintf(&w->out, format, ap);

    va_end(ap);
    if (r == -ENOBUFS && before > 0 && writer_flush(w) == 0) {
        before = 0;
        va_start(ap, format);
        r = buf_vprintf(&w->out, format, ap);
        va_end(ap);
    }
    if (r >= 0)
        w->sent += w->out.len - before;
    else if (w->error == 0)
        w->error = r;
    return w->error;
}
