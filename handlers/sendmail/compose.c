/*
 * Headers of submitted messages. Runs as the invoking user; pure.
 */
#include "handlers/sendmail/compose.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/sendmail/qualify.h"
#include "shared/base/limits.h"
#include "shared/mime/addr.h"
#include "shared/mime/header.h"
#include "shared/mime/rfc2047.h"

/* What we do to fields that we know. */
enum treatment {
    FIELD_QUALIFY = 1u << 0,   /* has addresses */
    FIELD_RECIPIENT = 1u << 1, /* they are recipients */
    FIELD_DROP = 1u << 2,      /* not for others' eyes, or only true in a mailbox */
    FIELD_RESENT = 1u << 3,
    FIELD_SHOWN = 1u << 4, /* RFC 5322 3.6.3: tells to whom the message is */
    FIELD_FROM = 1u << 5,
};

static const struct {
    struct str name;
    unsigned treatment;
} FIELDS[] = {
    {{"From", 4}, FIELD_QUALIFY | FIELD_FROM},
    {{"Sender", 6}, FIELD_QUALIFY},
    {{"Reply-To", 8}, FIELD_QUALIFY},
    {{"Errors-To", 9}, FIELD_QUALIFY},
    {{"To", 2}, FIELD_QUALIFY | FIELD_RECIPIENT | FIELD_SHOWN},
    {{"Apparently-To", 13}, FIELD_QUALIFY | FIELD_RECIPIENT | FIELD_SHOWN},
    {{"Cc", 2}, FIELD_QUALIFY | FIELD_RECIPIENT | FIELD_SHOWN},
    {{"Bcc", 3}, FIELD_DROP | FIELD_RECIPIENT},
    {{"Resent-From", 11}, FIELD_QUALIFY | FIELD_RESENT},
    {{"Resent-Sender", 13}, FIELD_QUALIFY | FIELD_RESENT},
    {{"Resent-To", 9}, FIELD_QUALIFY | FIELD_RECIPIENT | FIELD_RESENT},
    {{"Resent-Cc", 9}, FIELD_QUALIFY | FIELD_RECIPIENT | FIELD_RESENT},
    {{"Resent-Bcc", 10}, FIELD_DROP | FIELD_RECIPIENT | FIELD_RESENT},
    {{"Return-Path", 11}, FIELD_DROP},    /* RFC 5321 4.4: the final delivery's */
    {{"Content-Length", 14}, FIELD_DROP}, /* of a mailbox; others would believe it */
};

static unsigned treatment_of(struct str name)
{
    for (size_t i = 0; i < sizeof(FIELDS) / sizeof(FIELDS[0]); i++)
        if (str_ieq(name, FIELDS[i].name))
            return FIELDS[i].treatment;
    return 0;
}

/* ---- addresses ---- */

void recipients_finish(struct recipients *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->items[i]);
    free(r->items);
    *r = (struct recipients){0};
}

static int add_recipient(struct recipients *r, struct str address)
{
    char **more;

    for (size_t i = 0; i < r->count; i++)
        if (str_eq(str_from(r->items[i]), address))
            return 0;
    if (r->count == COMPOSE_RECIPIENTS)
        return -E2BIG;
    more = reallocarray(r->items, r->count + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    r->items = more;
    r->items[r->count] = str_dup(address);
    if (!r->items[r->count])
        return -ENOMEM;
    r->count++;
    return 0;
}

/* The address as the envelope has it. -ENOENT: a mark of a group, or nothing. */
static int print_address(const struct addr *a, struct str domain, struct buf *out)
{
    int e;

    if (addr_is_group_start(a) || addr_is_group_end(a) || a->mailbox.len == 0)
        return -ENOENT;
    if (a->host.len > 0)
        return addr_print(a, out);
    e = addr_print(&(struct addr){.mailbox = a->mailbox, .host = domain}, out);
    return e;
}

int recipients_add(struct recipients *r, struct str list, struct str domain)
{
    _cleanup_addr_list_ struct addr_list parsed = {0};
    bool is_found = false;
    int e;

    addr_list_init(&parsed);
    e = addr_parse(list, &parsed);
    for (size_t i = 0; i < parsed.count && e == 0; i++) {
        _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_HEADER_FIELD);

        e = print_address(&parsed.items[i], domain, &text);
        if (e == -ENOENT) {
            e = 0;
            continue;
        }
        if (e == 0)
            e = add_recipient(r, buf_str(&text));
        is_found = true;
    }
    return e < 0 ? e : is_found ? 0 : -EINVAL;
}

int compose_address(struct str text, struct str domain, struct buf *out)
{
    _cleanup_addr_list_ struct addr_list parsed = {0};
    int e;

    text = str_trim(text);
    if (text.len == 0 || str_eq(text, STR("<>")))
        return 0;
    addr_list_init(&parsed);
    e = addr_parse(text, &parsed);
    if (e < 0)
        return e;
    e = parsed.count == 1 ? print_address(&parsed.items[0], domain, out) : -EINVAL;
    return e == -ENOENT ? -EINVAL : e;
}

/* ---- the header ---- */

/* What there is, before anything is written. */
static unsigned survey(struct str header)
{
    struct header_iter i = header_iterate(header);
    struct header_field f;
    unsigned found = 0;

    while (header_next(&i, &f)) {
        unsigned t = treatment_of(f.name);

        found |= t & (FIELD_SHOWN | FIELD_FROM);
        if (t & FIELD_RESENT)
            found |= FIELD_RESENT;
    }
    return found;
}

static int copy_field(const struct compose *c, const struct header_field *f, unsigned treatment, struct buf *out)
{
    int e;

    if (!(treatment & FIELD_QUALIFY) || c->is_gateway)
        return buf_add_str(out, f->raw);
    e = buf_add_str(out, str_sub(f->raw, 0, (size_t)(f->body.ptr - f->raw.ptr)));
    if (e == 0)
        e = qualify_body(f->body, c->domain, out);
    return e < 0 ? e : buf_add_byte(out, '\n');
}

/* A display name: an atom or a quoted string, encoded words where it is not ASCII (RFC 5322 3.4, RFC 2047 5). */
static int print_name(struct str name, struct buf *out)
{
    static const char atext[] = "!#$%&'*+-/=?^_`{|}~ ";
    bool needs_quotes = false;
    int e;

    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];

        if (c >= 127 || c < 32)
            return rfc2047_encode(name, out);
        needs_quotes |= !ascii_is_alpha((char)c) && !ascii_is_digit((char)c) && !strchr(atext, c);
    }
    if (!needs_quotes)
        return buf_add_str(out, name);
    e = buf_add_byte(out, '"');
    for (size_t i = 0; i < name.len && e == 0; i++) {
        if (name.ptr[i] == '"' || name.ptr[i] == '\\')
            e = buf_add_byte(out, '\\');
        if (e == 0)
            e = buf_add_byte(out, name.ptr[i]);
    }
    return e < 0 ? e : buf_add_byte(out, '"');
}

static int add_from(const struct compose *c, struct buf *out)
{
    struct str name = str_trim(c->full_name);
    int e = buf_add_str(out, STR("From: "));

    if (e == 0 && c->sender.len == 0)
        return buf_printf(out, "Mail Delivery System <MAILER-DAEMON@%.*s>\n", STR_ARG(c->domain));
    if (e == 0 && name.len > 0)
        e = print_name(name, out);
    if (e == 0 && name.len == 0)
        return buf_printf(out, "%.*s\n", STR_ARG(c->sender));
    return e < 0 ? e : buf_printf(out, " <%.*s>\n", STR_ARG(c->sender));
}

/* Date and Message-ID are the server's to add. RFC 5322 needs no recipient field, but old programs do. */
static int add_missing(const struct compose *c, unsigned found, struct buf *out)
{
    int e = 0;

    if (c->is_gateway)
        return 0;
    if (!(found & FIELD_FROM))
        e = add_from(c, out);
    if (e == 0 && !(found & (FIELD_SHOWN | FIELD_RESENT)))
        e = buf_add_str(out, STR("To: undisclosed-recipients:;\n"));
    return e;
}

int compose_header(const struct compose *c, struct str header, struct buf *out, struct recipients *r)
{
    struct header_iter i = header_iterate(header);
    unsigned found = survey(header);
    struct header_field f;
    int e = 0;

    while (e == 0 && header_next(&i, &f)) {
        unsigned t = treatment_of(f.name);

        if (c->takes_recipients && (t & FIELD_RECIPIENT) && (t & FIELD_RESENT) == (found & FIELD_RESENT)) {
            e = recipients_add(r, f.body, c->domain);
            if (e == -EINVAL) /* an empty field, a group without members */
                e = 0;
        }
        if (e == 0 && !(t & FIELD_DROP))
            e = copy_field(c, &f, t, out);
    }
    return e < 0 ? e : add_missing(c, found, out);
}
