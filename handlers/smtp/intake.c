/*
 * From the data reader into memory, and into a file when it is more. Part of smtp-session; touches the one fd that the
 * trusted half hands over for that.
 */
#include "handlers/smtp/intake.h"

#include <errno.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"

void intake_init(struct intake *i)
{
    *i = (struct intake){
        .fd = -1, .out = BUF_INIT(INTAKE_BUFFER), .missing = BUF_INIT(1024), .missing_id = BUF_INIT(1024)};
}

void intake_finish(struct intake *i)
{
    close_fd(&i->fd);
    buf_finish(&i->out);
    buf_finish(&i->missing);
    buf_finish(&i->missing_id);
}

static int write_all(struct intake *i, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(i->fd, bytes.ptr, bytes.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes = str_sub(bytes, (size_t)n, bytes.len);
    }
    return 0;
}

static int flush(struct intake *i)
{
    int e = write_all(i, buf_str(&i->out));

    buf_clear(&i->out);
    return e;
}

static int put(struct intake *i, struct str bytes)
{
    int e = 0;

    if (bytes.len > i->out.max - i->out.len && i->fd < 0)
        e = i->enlarge(i->context, &i->fd);
    if (e == 0 && bytes.len > i->out.max - i->out.len)
        e = flush(i);
    if (e == 0 && bytes.len > i->out.max)
        return write_all(i, bytes);
    return e < 0 ? e : buf_add_str(&i->out, bytes);
}

/* Text with LF line ends. */
static int put_text(struct intake *i, struct str text)
{
    int e = 0;

    while (i->is_binary && text.len > 0 && e == 0) {
        struct str line;
        bool is_whole = str_cut(&text, '\n', &line);

        e = put(i, line);
        if (e == 0 && is_whole)
            e = put(i, STR("\r\n"));
    }
    return e < 0 ? e : put(i, text);
}

int intake_prepend(struct intake *i, struct str text)
{
    return put_text(i, text);
}

static int judge(struct intake *i, struct buf *add)
{
    return i->judge ? i->judge(i->context, &i->header, add) : 0;
}

static int add_missing(struct intake *i)
{
    _cleanup_buf_ struct buf text = BUF_INIT(INTAKE_FIELDS);
    int e = judge(i, &text);

    if (e == 0)
        e = put_text(i, buf_str(&text));
    if (e < 0 || !i->adds_fields)
        return e;
    if (!(i->header.fields & HEADER_DATE))
        e = put_text(i, buf_str(&i->missing));
    if (e == 0 && !(i->header.fields & HEADER_MESSAGE_ID))
        e = put_text(i, buf_str(&i->missing_id));
    return e;
}

int intake_write(void *intake, struct str bytes)
{
    struct intake *i = intake;
    size_t in_header;
    int e;

    if (i->header.is_ended)
        return put(i, bytes);
    in_header = header_watch(&i->header, bytes);
    if (i->header.received > LIMIT_RECEIVED)
        return -ELOOP;
    if (i->is_binary && i->header.is_malformed)
        return -EBADMSG;
    e = put_text(i, str_sub(bytes, 0, in_header));
    if (e == 0 && i->header.is_ended && !i->header.is_malformed)
        e = add_missing(i);
    return e < 0 ? e : put_text(i, str_sub(bytes, in_header, bytes.len));
}

/* A header that ended by a line that is no field has no place where something could be added. */
static int check_malformed(struct intake *i)
{
    const unsigned needed = HEADER_DATE | HEADER_MESSAGE_ID;
    _cleanup_buf_ struct buf text = BUF_INIT(INTAKE_FIELDS);
    int e;

    if (!i->adds_fields || !i->header.is_malformed)
        return 0;
    e = judge(i, &text);
    return e == 0 && (text.len > 0 || (i->header.fields & needed) != needed) ? -EBADMSG : e;
}

int intake_end(struct intake *i)
{
    int e = check_malformed(i);

    if (e < 0)
        return e;
    if (!i->header.is_ended)
        e = add_missing(i); /* a message that is a header only */
    return e < 0 || i->fd < 0 ? e : flush(i);
}
