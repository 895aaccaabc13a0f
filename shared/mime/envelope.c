/*
 * ENVELOPE: see envelope.h.
 */
#include "shared/mime/envelope.h"

#include <errno.h>

#include "shared/base/limits.h"
#include "shared/mime/header.h"
#include "shared/mime/nstring.h"

/* More memory than that for one field's addresses is not kept for the next header. */
#define KEEP_TEXT  (16u << 10)
#define KEEP_ITEMS 128

bool envelope_needs(struct str field_name)
{
    return field_name_find(field_name) < FIELD_ENVELOPE;
}

void envelope_init(struct envelope *e)
{
    *e = (struct envelope){.line = BUF_INIT(LIMIT_HEADER_FIELD)};
    for (size_t i = 0; i < ARRAY_SIZE(e->addresses); i++)
        addr_list_init(&e->addresses[i].list);
}

void envelope_finish(struct envelope *e)
{
    for (size_t i = 0; i < ARRAY_SIZE(e->addresses); i++)
        addr_list_finish(&e->addresses[i].list);
    buf_finish(&e->line);
}

void envelope_read(struct envelope *e, struct str header)
{
    for (size_t i = 0; i < ARRAY_SIZE(e->addresses); i++) {
        struct envelope_addresses *a = &e->addresses[i];

        if (a->list.text.cap > KEEP_TEXT || a->list.cap > KEEP_ITEMS)
            addr_list_finish(&a->list);
        else if (a->is_parsed || a->is_first_parsed)
            addr_list_clear(&a->list);
        a->first = 0;
        a->is_parsed = a->is_first_parsed = false;
    }
    if (e->line.cap > KEEP_TEXT)
        buf_finish(&e->line);
    header_fields_find(header, &e->fields);
}

/* Adds what the fields of a name that come behind the first hold. */
static int parse_others(const struct header_fields *f, enum field_name name, struct addr_list *list)
{
    struct header_iter i = header_iterate(f->header);
    struct header_field field;
    int r = 0;

    while (!r && header_next(&i, &field)) {
        if (field_name_find(field.name) == name && field.body.ptr != f->body[name].ptr)
            r = addr_parse(field.body, list);
    }
    return r;
}

/* To, Cc and Bcc that come more than once (against RFC 5322 3.6) are one list: no recipient is hidden. */
static int parse(struct envelope *e, enum field_name name, struct envelope_addresses **ret)
{
    struct envelope_addresses *a = &e->addresses[name - FIELD_FROM];
    int r = 0;

    *ret = a;
    if (a->is_parsed || !e->fields.body[name].ptr)
        return 0;
    addr_list_clear(&a->list); /* of the one that envelope_first_address() asked for */
    a->is_first_parsed = false;
    r = addr_parse(e->fields.body[name], &a->list);
    a->first = a->list.count;
    if (!r && name >= FIELD_TO && (e->fields.repeated & FIELD_BIT(name)))
        r = parse_others(&e->fields, name, &a->list);
    a->is_parsed = !r;
    if (r)
        addr_list_clear(&a->list);
    return r;
}

int envelope_first_address(struct envelope *e, enum field_name name, const struct addr **ret)
{
    struct envelope_addresses *a = &e->addresses[name - FIELD_FROM];
    int r = 0;

    if (!a->is_parsed && !a->is_first_parsed && e->fields.body[name].ptr) {
        r = addr_parse_first(e->fields.body[name], &a->list);
        if (r)
            addr_list_clear(&a->list);
        a->first = a->list.count;
        a->is_first_parsed = !r;
    }
    *ret = !r && a->first && !addr_is_group_end(&a->list.items[0]) ? &a->list.items[0] : NULL;
    return r;
}

static int print_text(struct envelope *e, enum field_name name, bool is_utf8, struct buf *out)
{
    int r;

    if (!e->fields.body[name].ptr)
        return nstring_add_nil(out, STR_NULL, is_utf8);
    buf_clear(&e->line);
    r = header_unfold(e->fields.body[name], &e->line);
    return r ? r : nstring_add(out, buf_str(&e->line), is_utf8);
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

/* What was printed of the From: an absent or empty Sender or Reply-To is the same (RFC 9051 7.5.2). */
struct printed {
    size_t at;
    size_t len;
};

static int print_again(const struct printed *from, struct buf *out)
{
    int r = buf_reserve(out, from->len);

    return r ? r : buf_add(out, out->data + from->at, from->len);
}

static int print_addresses(struct envelope *e, enum field_name name, bool is_utf8, struct printed *from,
                           struct buf *out)
{
    struct envelope_addresses *a;
    size_t start = out->len;
    int r = parse(e, name, &a);

    if (r)
        return r;
    if (!a->list.count && (name == FIELD_SENDER || name == FIELD_REPLY_TO))
        return print_again(from, out);
    r = a->list.count ? buf_add_byte(out, '(') : buf_add(out, "NIL", 3);
    for (size_t i = 0; i < a->list.count && !r; i++)
        r = print_address(&a->list.items[i], is_utf8, out);
    if (!r && a->list.count)
        r = buf_add_byte(out, ')');
    if (name == FIELD_FROM)
        *from = (struct printed){start, out->len - start};
    return r;
}

int envelope_add(struct envelope *e, bool is_utf8, struct buf *out)
{
    struct printed from = {0};
    size_t start = out->len;
    int r = buf_add_byte(out, '(');

    for (enum field_name name = 0; name < FIELD_ENVELOPE && !r; name++) {
        if (name)
            r = buf_add_byte(out, ' ');
        if (!r)
            r = name >= FIELD_FROM && name <= FIELD_BCC ? print_addresses(e, name, is_utf8, &from, out)
                                                        : print_text(e, name, is_utf8, out);
    }
    if (!r)
        r = buf_add_byte(out, ')');
    if (r)
        buf_truncate(out, start);
    return r;
}

int envelope_print(struct str header, bool is_utf8, struct buf *out)
{
    struct envelope e;
    int r;

    envelope_init(&e);
    envelope_read(&e, header);
    r = envelope_add(&e, is_utf8, out);
    envelope_finish(&e);
    return r;
}
