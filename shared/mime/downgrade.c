/*
 * Internationalized messages for old clients: see downgrade.h.
 */
#include "shared/mime/downgrade.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/mime/addr.h"
#include "shared/mime/header.h"
#include "shared/mime/rfc2047.h"
#include "shared/mime/structure.h"

#define INVALID_ADDRESS "<invalid@internationalized-address.invalid>" /* RFC 6858 2.1, RFC 2606 */

static bool is_ascii(struct str s)
{
    size_t i = 0;

    for (; i + 8 <= s.len; i += 8) {
        uint64_t word;

        memcpy(&word, s.ptr + i, 8);
        if (word & 0x8080808080808080u)
            return false;
    }
    while (i < s.len && (unsigned char)s.ptr[i] < 0x80)
        i++;
    return i == s.len;
}

/* "with UTF8SMTP", "with UTF8SMTPSA", "with UTF8LMTP" (RFC 6531 4.3). */
static bool is_received_by_smtputf8(const struct header_field *field)
{
    struct str rest = field->body, word;

    while (str_word(&rest, &word)) {
        if (str_ieq(word, STR("with")) && str_word(&rest, &word) &&
            (str_istarts(word, STR("UTF8SMTP")) || str_istarts(word, STR("UTF8LMTP"))))
            return true;
    }
    return false;
}

bool downgrade_is_needed(struct str header)
{
    struct header_iter i = header_iterate(header);
    bool is_utf8 = false, is_smtputf8 = false;
    struct header_field field;

    if (is_ascii(header))
        return false;
    while (header_next(&i, &field) && !(is_utf8 && is_smtputf8)) {
        is_utf8 |= !is_ascii(field.raw) && utf8_valid(field.raw);
        is_smtputf8 |= str_ieq(field.name, STR("Received")) && is_received_by_smtputf8(&field);
    }
    return is_utf8 && is_smtputf8;
}

/* Appends a text as encoded words where it has to be, one a line. */
static int add_text(struct buf *out, struct str text)
{
    _cleanup_buf_ struct buf words = BUF_INIT(4 * LIMIT_HEADER_FIELD);
    bool is_encoded = !is_ascii(text);
    struct str rest, word;
    int r = rfc2047_encode(text, &words);

    if (r || !is_encoded)
        return r ? r : buf_add_str(out, text);
    rest = buf_str(&words);
    while (!r && str_word(&rest, &word)) {
        r = buf_add_str(out, word);
        if (!r && str_trim(rest).len)
            r = buf_add(out, "\r\n ", 3);
    }
    return r;
}

/* A display name in ASCII as a quoted string: specials in it need no care then. */
static int add_phrase(struct buf *out, struct str name)
{
    int r = 0;

    if (!is_ascii(name))
        return add_text(out, name);
    r = buf_add_byte(out, '"');
    for (size_t i = 0; i < name.len && !r; i++) {
        if (name.ptr[i] == '"' || name.ptr[i] == '\\')
            r = buf_add_byte(out, '\\');
        if (!r)
            r = buf_add_byte(out, name.ptr[i]);
    }
    return r ? r : buf_add_byte(out, '"');
}

static int add_address(struct buf *out, const struct addr *a)
{
    _cleanup_buf_ struct buf shown = BUF_INIT(LIMIT_HEADER_FIELD);
    bool is_plain = is_ascii(a->mailbox) && is_ascii(a->host);
    int r = 0;

    if (is_plain && !a->name.len)
        return addr_print(a, out);
    if (!a->name.len)
        r = addr_print(a, &shown);
    if (!r)
        r = add_phrase(out, a->name.len ? a->name : buf_str(&shown));
    if (!r && !is_plain)
        return buf_add_str(out, STR(" " INVALID_ADDRESS));
    if (!r)
        r = buf_add(out, " <", 2);
    if (!r)
        r = addr_print(a, out);
    return r ? r : buf_add_byte(out, '>');
}

static int add_addresses(struct buf *out, struct str body)
{
    _cleanup_addr_list_ struct addr_list list;
    int r;

    addr_list_init(&list);
    r = addr_parse(body, &list);
    for (size_t i = 0; i < list.count && !r; i++) {
        const struct addr *a = &list.items[i];
        bool is_first = i == 0 || addr_is_group_start(&list.items[i - 1]);

        if (addr_is_group_end(a)) {
            r = buf_add_byte(out, ';');
            continue;
        }
        if (!is_first)
            r = buf_add(out, ",\r\n", 3);
        if (!r)
            r = buf_add_byte(out, ' ');
        if (!r)
            r = addr_is_group_start(a) ? add_phrase(out, a->mailbox) : add_address(out, a);
        if (!r && addr_is_group_start(a))
            r = buf_add_byte(out, ':');
    }
    return r;
}

/* RFC 6858 2.2: the value and its parameters, those that are not ASCII left out. */
static int add_params(struct buf *out, struct str body)
{
    _cleanup_buf_ struct buf text = BUF_INIT(8 * LIMIT_HEADER_FIELD);
    struct mime_params params = {0};
    struct str value;
    int r = mime_params_parse(body, &text, &value, &params);

    if (!r)
        r = buf_add_byte(out, ' ');
    if (!r && is_ascii(value))
        r = buf_add_str(out, value);
    for (size_t i = 0; i < params.count && !r; i++) {
        const struct mime_param *p = &params.items[i];

        if (!is_ascii(p->name) || !is_ascii(p->extended) || (!p->extended.ptr && !is_ascii(p->value)))
            continue;
        r = buf_add(out, ";\r\n ", 4);
        if (!r)
            r = buf_add_str(out, p->name);
        if (!r)
            r = buf_add_str(out, p->extended.ptr ? STR("*=") : STR("="));
        if (!r)
            r = p->extended.ptr ? buf_add_str(out, p->extended) : add_phrase(out, p->value);
    }
    free(params.items);
    return r;
}

static int add_subject(struct buf *out, struct str body)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4 * LIMIT_HEADER_FIELD);
    int r = rfc2047_decode(body, &text);

    if (!r)
        r = buf_add_byte(out, ' ');
    return r ? r : add_text(out, buf_str(&text));
}

/* What becomes of a field with UTF-8 in it; those not listed are left out (RFC 6858 2.4). */
static const struct {
    struct str name;
    int (*add)(struct buf *out, struct str body);
} fields[] = {
    {{"From", 4}, add_addresses},
    {{"Sender", 6}, add_addresses},
    {{"Reply-To", 8}, add_addresses},
    {{"To", 2}, add_addresses},
    {{"Cc", 2}, add_addresses},
    {{"Bcc", 3}, add_addresses},
    {{"Return-Path", 11}, add_addresses},
    {{"Resent-From", 11}, add_addresses},
    {{"Resent-Sender", 13}, add_addresses},
    {{"Resent-To", 9}, add_addresses},
    {{"Resent-Cc", 9}, add_addresses},
    {{"Resent-Bcc", 10}, add_addresses},
    {{"Subject", 7}, add_subject},
    {{"Content-Type", 12}, add_params},
    {{"Content-Disposition", 19}, add_params},
};

static int add_field(const struct header_field *field, struct buf *out)
{
    if (is_ascii(field->raw))
        return buf_add_str(out, field->raw);
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        int r;

        if (!str_ieq(field->name, fields[i].name))
            continue;
        r = buf_add_str(out, fields[i].name);
        if (!r)
            r = buf_add_byte(out, ':');
        if (!r)
            r = fields[i].add(out, field->body);
        return r ? r : buf_add(out, "\r\n", 2);
    }
    return 0;
}

int downgrade_header(struct str header, struct buf *out)
{
    struct header_iter i = header_iterate(header);
    struct header_field field;
    size_t start = out->len;
    int r = 0;

    while (!r && header_next(&i, &field))
        r = add_field(&field, out);
    if (!r)
        r = buf_add(out, "\r\n", 2);
    if (r)
        buf_truncate(out, start);
    return r;
}
