/*
 * Canonical forms. Runs in sign, in a sandbox; pure.
 */
#include "shared/crypto/dkim_canon.h"

#include <errno.h>

static bool is_wsp(char c)
{
    return c == ' ' || c == '\t';
}

bool dkim_canon_next(struct str *header, struct str *ret_field)
{
    struct str whole = *header, line;

    if (whole.len == 0 || whole.ptr[0] == '\n' || (whole.ptr[0] == '\r' && whole.len > 1 && whole.ptr[1] == '\n'))
        return false;
    do
        (void)str_cut(header, '\n', &line);
    while (header->len > 0 && is_wsp(header->ptr[0]));
    *ret_field = str_sub(whole, 0, whole.len - header->len);
    return true;
}

struct str dkim_canon_name(struct str field)
{
    ptrdiff_t colon = str_chr(field, ':');

    return colon < 0 ? STR("") : str_trim(str_sub(field, 0, (size_t)colon));
}

/* RFC 6376 3.4.2: lower case, unfolded, runs of blanks are one, none at either end of the value. */
int dkim_canon_field(struct str field, struct buf *out)
{
    struct str name = dkim_canon_name(field);
    ptrdiff_t colon = str_chr(field, ':');
    struct str value = str_sub(field, (size_t)(colon + 1), field.len);
    bool is_blank = false, is_begun = false;
    int e = 0;

    for (size_t i = 0; i < name.len && e == 0; i++)
        e = buf_add_byte(out, ascii_lower(name.ptr[i]));
    if (e == 0)
        e = buf_add_byte(out, ':');
    for (size_t i = 0; i < value.len && e == 0; i++) {
        char c = value.ptr[i];

        if (c == '\n' || (c == '\r' && i + 1 < value.len && value.ptr[i + 1] == '\n'))
            continue;
        if (is_wsp(c)) {
            is_blank = is_begun;
            continue;
        }
        if (is_blank)
            e = buf_add_byte(out, ' ');
        if (e == 0)
            e = buf_add_byte(out, c);
        is_blank = false;
        is_begun = true;
    }
    return e;
}

/* ---- bodies ---- */

void dkim_canon_init(struct dkim_canon *c, int (*write)(void *, struct str), void *context)
{
    *c = (struct dkim_canon){.write = write, .context = context};
}

/* What waited for text: there is some. */
static int write_waiting(struct dkim_canon *c)
{
    int e = 0;

    for (; c->empty > 0 && e == 0; c->empty--)
        e = c->write(c->context, STR("\r\n"));
    if (e == 0 && c->is_blank)
        e = c->write(c->context, STR(" "));
    c->is_blank = false;
    c->is_begun = true;
    return e;
}

static void end_line(struct dkim_canon *c)
{
    c->empty++;
    c->is_blank = false; /* blanks at the end of a line count for nothing */
    c->is_cr = false;
}

/* A CR that was no part of a line end is text. */
static int write_cr(struct dkim_canon *c)
{
    int e = write_waiting(c);

    c->is_cr = false;
    return e < 0 ? e : c->write(c->context, STR("\r"));
}

static size_t text_span(struct str s)
{
    size_t i = 0;

    while (i < s.len && s.ptr[i] != '\n' && s.ptr[i] != '\r' && !is_wsp(s.ptr[i]))
        i++;
    return i;
}

int dkim_canon_feed(struct dkim_canon *c, struct str bytes)
{
    int e = 0;

    for (size_t i = 0; i < bytes.len && e == 0;) {
        struct str rest = str_sub(bytes, i, bytes.len);
        size_t span = text_span(rest);

        if (c->is_cr && rest.ptr[0] != '\n')
            e = write_cr(c);
        if (e == 0 && span > 0) {
            e = write_waiting(c);
            if (e == 0)
                e = c->write(c->context, str_sub(rest, 0, span));
            i += span;
            continue;
        }
        if (rest.ptr[0] == '\n')
            end_line(c);
        else if (rest.ptr[0] == '\r')
            c->is_cr = true;
        else
            c->is_blank = true;
        i++;
    }
    return e;
}

int dkim_canon_end(struct dkim_canon *c)
{
    int e = 0;

    if (c->is_cr)
        e = write_cr(c);
    /* One line end behind the last text, whatever there was; a body without text is nothing at all (3.4.4). */
    if (e == 0 && c->is_begun)
        e = c->write(c->context, STR("\r\n"));
    return e;
}
