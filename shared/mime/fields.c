/*
 * Fields by well-known names: see fields.h. Pure functions over bytes; any process.
 */
#include "shared/mime/fields.h"

#include "shared/mime/header.h"

static const struct str names[FIELD_NAMES] = {
    [FIELD_DATE] = {"Date", 4},
    [FIELD_SUBJECT] = {"Subject", 7},
    [FIELD_FROM] = {"From", 4},
    [FIELD_SENDER] = {"Sender", 6},
    [FIELD_REPLY_TO] = {"Reply-To", 8},
    [FIELD_TO] = {"To", 2},
    [FIELD_CC] = {"Cc", 2},
    [FIELD_BCC] = {"Bcc", 3},
    [FIELD_IN_REPLY_TO] = {"In-Reply-To", 11},
    [FIELD_MESSAGE_ID] = {"Message-ID", 10},
    [FIELD_REFERENCES] = {"References", 10},
};

/* The only one that it can be, by its length and first letter. */
static enum field_name candidate(struct str name)
{
    char first = name.len ? ascii_lower(name.ptr[0]) : '\0';

    switch (name.len) {
    case 2:
        return first == 't' ? FIELD_TO : FIELD_CC;
    case 3:
        return FIELD_BCC;
    case 4:
        return first == 'd' ? FIELD_DATE : FIELD_FROM;
    case 6:
        return FIELD_SENDER;
    case 7:
        return FIELD_SUBJECT;
    case 8:
        return FIELD_REPLY_TO;
    case 10:
        return first == 'm' ? FIELD_MESSAGE_ID : FIELD_REFERENCES;
    case 11:
        return FIELD_IN_REPLY_TO;
    default:
        return FIELD_NAMES;
    }
}

enum field_name field_name_find(struct str name)
{
    enum field_name n = candidate(name);

    return n < FIELD_NAMES && str_ieq(name, names[n]) ? n : FIELD_NAMES;
}

void header_fields_find(struct str header, struct header_fields *ret)
{
    struct header_iter i = header_iterate(header);
    struct header_field field;

    *ret = (struct header_fields){.header = header};
    while (header_next(&i, &field)) {
        enum field_name n = field_name_find(field.name);

        if (n == FIELD_NAMES)
            continue;
        if (ret->body[n].ptr) {
            ret->repeated |= FIELD_BIT(n);
            continue;
        }
        ret->body[n] = field.body;
        ret->raw[n] = field.raw;
        ret->order[ret->count++] = n;
    }
}

/* The first of each name is at hand; where others follow, the header is walked again. */
int header_fields_select(const struct header_fields *f, unsigned set, struct buf *out)
{
    struct str chosen[FIELD_NAMES];
    size_t count = 0, start = out->len;
    int r = 0;

    if (f->repeated & set) {
        for (enum field_name n = 0; n < FIELD_NAMES; n++)
            if (set & FIELD_BIT(n))
                chosen[count++] = names[n];
        return header_select(f->header, chosen, count, false, out);
    }
    for (size_t i = 0; i < f->count && !r; i++)
        if (set & FIELD_BIT(f->order[i]))
            r = header_add_field(f->raw[f->order[i]], out);
    if (!r)
        r = buf_add(out, "\r\n", 2);
    if (r)
        buf_truncate(out, start);
    return r;
}
