/*
 * Whole messages: the structure is the same however the bytes are fed (the first byte of the input is the size of the
 * pieces), survives the cache, and prints as well-formed BODYSTRUCTURE and ENVELOPE.
 */
#include <stdint.h>
#include <stdlib.h>

#include "shared/mime/bodystructure.h"
#include "shared/mime/envelope.h"
#include "shared/mime/fields.h"
#include "shared/mime/header.h"
#include "shared/mime/preview.h"
#include "shared/mime/structure.h"
#include "tests/unit/imap_syntax.h"

#define MAX (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_so)
{
    if (!is_so)
        abort();
}

static void parse(struct str message, size_t piece, struct mime_tree *ret, struct buf *printed)
{
    struct mime_parser *p;

    must(mime_parser_new(&p) == 0);
    for (size_t at = 0; at < message.len; at += piece)
        must(mime_parser_feed(p, str_sub(message, at, piece)) == 0);
    must(mime_parser_end(p, ret) == 0);
    mime_parser_free(p);
    must(bodystructure_print(ret->root, true, false, printed) == 0);
}

static void check_ranges(const struct mime_part *part, uint64_t from, uint64_t to)
{
    uint64_t last = part->body;

    must(part->header >= from && part->body >= part->header && part->end >= part->body && part->end <= to);
    for (const struct mime_part *c = part->child; c; c = c->next) {
        must(c->header >= last);
        check_ranges(c, part->body, part->end);
        last = c->end;
    }
}

static void show_preview(struct str message, const struct mime_tree *t)
{
    const struct mime_part *part = preview_part(t->root);
    _cleanup_buf_ struct buf text = BUF_INIT(MAX);
    struct preview *p;
    bool is_full;

    if (!part)
        return;
    must(preview_new(part, &p) == 0);
    must(preview_feed(p, str_sub(message, (size_t)part->body, (size_t)(part->end - part->body)), &is_full) == 0);
    must(preview_end(p, &text) == 0);
    must(utf8_valid(buf_str(&text)) && text.len <= 4 * PREVIEW_CHARACTERS);
    preview_free(p);
}

/* What one walk over the header picks out is what a look for the names picks out. */
static void pick_fields(struct str message)
{
    static const struct str names[] = {{"Date", 4}, {"Cc", 2}, {"References", 10}};
    _cleanup_buf_ struct buf a = BUF_INIT(MAX), b = BUF_INIT(MAX);
    struct header_fields fields;

    header_fields_find(message, &fields);
    must(header_fields_select(&fields, FIELD_BIT(FIELD_DATE) | FIELD_BIT(FIELD_CC) | FIELD_BIT(FIELD_REFERENCES), &a) ==
         0);
    must(header_select(message, names, ARRAY_SIZE(names), false, &b) == 0 && str_eq(buf_str(&a), buf_str(&b)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str message = {(const char *)data + 1, size - 1};
    _cleanup_mime_tree_ struct mime_tree whole = {0}, pieces = {0}, copy = {0};
    _cleanup_buf_ struct buf a = BUF_INIT(MAX), b = BUF_INIT(MAX), c = BUF_INIT(MAX), bytes = BUF_INIT(MAX);
    _cleanup_buf_ struct buf short_form = BUF_INIT(MAX), utf8_form = BUF_INIT(MAX), envelope = BUF_INIT(MAX);

    if (!size)
        return 0;
    parse(message, message.len + 1, &whole, &a);
    parse(message, data[0] % 32 + 1, &pieces, &b);
    must(str_eq(buf_str(&a), buf_str(&b)));
    must(is_body(buf_str(&a), true, false));
    must(bodystructure_print(whole.root, false, false, &short_form) == 0 &&
         is_body(buf_str(&short_form), false, false));
    must(bodystructure_print(whole.root, true, true, &utf8_form) == 0 && is_body(buf_str(&utf8_form), true, true));
    check_ranges(whole.root, 0, message.len);
    must(whole.root->end == message.len);
    must(mime_tree_write(&whole, &bytes) == 0);
    must(mime_tree_read(buf_str(&bytes), message.len, &copy) == 0);
    must(bodystructure_print(copy.root, true, false, &c) == 0 && str_eq(buf_str(&a), buf_str(&c)));
    must(envelope_print(message, data[0] & 1, &envelope) == 0 && is_envelope(buf_str(&envelope), data[0] & 1));
    pick_fields(message);
    show_preview(message, &whole);
    return 0;
}
