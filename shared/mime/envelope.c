/*
 * ENVELOPE: see envelope.h.
 */
#include "shared/mime/envelope.h"

#include <errno.h>

#include "shared/base/limits.h"
#include "shared/mime/addr.h"
#include "shared/mime/header.h"
#include "shared/mime/nstring.h"

/* In the order of RFC 9051 7.5.2. */
enum envelope_field { DATE, SUBJECT, FROM, SENDER, REPLY_TO, TO, CC, BCC, IN_REPLY_TO, MESSAGE_ID, FIELDS };

static const struct str names[FIELDS] = {
    [DATE] = {"Date", 4},
    [SUBJECT] = {"Subject", 7},
    [FROM] = {"From", 4},
    [SENDER] = {"Sender", 6},
    [REPLY_TO] = {"Reply-To", 8},
    [TO] = {"To", 2},
    [CC] = {"Cc", 2},
    [BCC] = {"Bcc", 3},
    [IN_REPLY_TO] = {"In-Reply-To", 11},
    [MESSAGE_ID] = {"Message-ID", 10},
};

struct envelope {
    bool is_utf8;
    struct str body[FIELDS]; /* of the first field of each name; null: none */
    struct addr_list list;   /* reused for each address field */
    struct buf line;         /* an unfolded field */
    size_t from;             /* where the From was printed, and how long that is */
    size_t from_len;
};

static enum envelope_field field_number(struct str name)
{
    enum envelope_field f = DATE;

    while (f < FIELDS && !str_ieq(name, names[f]))
        f++;
    return f;
}

bool envelope_needs(struct str field_name)
{
    return field_number(field_name) < FIELDS;
}

static int print_text(struct envelope *e, enum envelope_field f, struct buf *out)
{
    int r;

    if (!e->body[f].ptr)
        return nstring_add_nil(out, STR_NULL, e->is_utf8);
    buf_clear(&e->line);
    r = header_unfold(e->body[f], &e->line);
    return r ? r : nstring_add(out, buf_str(&e->line), e->is_utf8);
}

static int print_address(const struct addr *a, bool is_utf8, struct buf *out)
{
    const struct str parts[] = {a->name, a->adl, a->mailbox, a->host};
    int r = buf_add_byte(out, '(');

    for (size_t i = 0; i < ARRAY_SIZE(parts) && !r; i++) {
        if (i)
            r = buf_add_byte(out, ' ');
        if (!r)
            r = nstring_add_nil(out, parts[i], is_utf8);
    }
    return r ? r : buf_add_byte(out, ')');
}

/* To, Cc and Bcc that come more than once (against RFC 5322 3.6) are one list: no recipient is hidden. */
static int parse_all(struct envelope *e, struct str header, enum envelope_field f)
{
    struct header_iter i = header_iterate(header);
    struct header_field field;
    int r = 0;

    while (!r && header_next(&i, &field)) {
        if (str_ieq(field.name, names[f]))
            r = addr_parse(field.body, &e->list);
    }
    return r;
}

/* RFC 9051 7.5.2: an absent or empty Sender or Reply-To is the From, which has been printed already. */
static int print_from(const struct envelope *e, struct buf *out)
{
    int r = buf_reserve(out, e->from_len);

    return r ? r : buf_add(out, out->data + e->from, e->from_len);
}

static int print_addresses(struct envelope *e, struct str header, enum envelope_field f, struct buf *out)
{
    size_t start = out->len;
    int r = 0;

    addr_list_clear(&e->list);
    if (e->body[f].ptr)
        r = f >= TO ? parse_all(e, header, f) : addr_parse(e->body[f], &e->list);
    if (r)
        return r;
    if (!e->list.count && (f == SENDER || f == REPLY_TO))
        return print_from(e, out);
    r = e->list.count ? buf_add_byte(out, '(') : buf_add(out, "NIL", 3);
    for (size_t i = 0; i < e->list.count && !r; i++)
        r = print_address(&e->list.items[i], e->is_utf8, out);
    if (!r && e->list.count)
        r = buf_add_byte(out, ')');
    if (f == FROM) {
        e->from = start;
        e->from_len = out->len - start;
    }
    return r;
}

static int print_fields(struct envelope *e, struct str header, struct buf *out)
{
    int r = buf_add_byte(out, '(');

    for (enum envelope_field f = DATE; f < FIELDS && !r; f++) {
        if (f)
            r = buf_add_byte(out, ' ');
        if (!r)
            r = f >= FROM && f <= BCC ? print_addresses(e, header, f, out) : print_text(e, f, out);
    }
    return r ? r : buf_add_byte(out, ')');
}

int envelope_print(struct str header, bool is_utf8, struct buf *out)
{
    struct envelope e = {.is_utf8 = is_utf8, .line = BUF_INIT(LIMIT_HEADER_FIELD)};
    struct header_iter i = header_iterate(header);
    struct header_field field;
    size_t start = out->len;
    int r;

    while (header_next(&i, &field)) {
        enum envelope_field f = field_number(field.name);

        if (f < FIELDS && !e.body[f].ptr)
            e.body[f] = field.body;
    }
    addr_list_init(&e.list);
    r = print_fields(&e, header, out);
    addr_list_finish(&e.list);
    buf_finish(&e.line);
    if (r)
        buf_truncate(out, start);
    return r;
}
