/*
 * A strict reader of the IMAP response syntax that shared/mime prints (RFC 9051 9): envelope, body. It is written from
 * the grammar, not from the printer, for unit tests and fuzz targets.
 */
#ifndef TESTS_IMAP_SYNTAX_H
#define TESTS_IMAP_SYNTAX_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/str.h"

struct syntax {
    struct str rest;
    bool is_utf8; /* quoted strings may hold UTF-8 */
    unsigned depth;
};

static inline bool syntax_byte(struct syntax *s, char c)
{
    if (!s->rest.len || s->rest.ptr[0] != c)
        return false;
    s->rest = str_sub(s->rest, 1, s->rest.len);
    return true;
}

static inline bool syntax_text(struct syntax *s, const char *text)
{
    struct str t = str_from(text);

    if (!str_istarts(s->rest, t))
        return false;
    s->rest = str_sub(s->rest, t.len, s->rest.len);
    return true;
}

static inline bool syntax_number(struct syntax *s, uint64_t *ret)
{
    uint64_t n = 0;
    size_t digits = 0;

    while (s->rest.len && ascii_is_digit(s->rest.ptr[0]) && digits < 19) {
        n = n * 10 + (uint64_t)(s->rest.ptr[0] - '0');
        s->rest = str_sub(s->rest, 1, s->rest.len);
        digits++;
    }
    *ret = n;
    return digits > 0;
}

static inline bool syntax_literal(struct syntax *s)
{
    uint64_t n;

    if (!syntax_number(s, &n) || !syntax_text(s, "}\r\n") || n > s->rest.len)
        return false;
    for (uint64_t i = 0; i < n; i++) {
        if (s->rest.ptr[i] == '\0')
            return false;
    }
    s->rest = str_sub(s->rest, (size_t)n, s->rest.len);
    return true;
}

static inline bool syntax_string(struct syntax *s)
{
    if (syntax_byte(s, '{'))
        return syntax_literal(s);
    if (!syntax_byte(s, '"'))
        return false;
    while (s->rest.len && s->rest.ptr[0] != '"') {
        size_t n = 1;
        unsigned char c = (unsigned char)s->rest.ptr[0];

        if (c == '\\') {
            if (s->rest.len < 2 || (s->rest.ptr[1] != '"' && s->rest.ptr[1] != '\\'))
                return false;
            n = 2;
        } else if (c >= 0x80) {
            n = s->is_utf8 ? utf8_sequence(str_sub(s->rest, 0, 4)) : 0;
        } else if (c == '\r' || c == '\n' || c == '\0') {
            n = 0;
        }
        if (!n)
            return false;
        s->rest = str_sub(s->rest, n, s->rest.len);
    }
    return syntax_byte(s, '"');
}

static inline bool syntax_nstring(struct syntax *s)
{
    return syntax_text(s, "NIL") || syntax_string(s);
}

static inline bool syntax_address(struct syntax *s)
{
    return syntax_byte(s, '(') && syntax_nstring(s) && syntax_byte(s, ' ') && syntax_nstring(s) &&
           syntax_byte(s, ' ') && syntax_nstring(s) && syntax_byte(s, ' ') && syntax_nstring(s) && syntax_byte(s, ')');
}

static inline bool syntax_addresses(struct syntax *s)
{
    if (syntax_text(s, "NIL"))
        return true;
    if (!syntax_byte(s, '(') || !syntax_address(s))
        return false;
    while (s->rest.len && s->rest.ptr[0] == '(') {
        if (!syntax_address(s))
            return false;
    }
    return syntax_byte(s, ')');
}

static inline bool syntax_envelope(struct syntax *s)
{
    if (!syntax_byte(s, '(') || !syntax_nstring(s) || !syntax_byte(s, ' ') || !syntax_nstring(s))
        return false;
    for (int i = 0; i < 6; i++) {
        if (!syntax_byte(s, ' ') || !syntax_addresses(s))
            return false;
    }
    return syntax_byte(s, ' ') && syntax_nstring(s) && syntax_byte(s, ' ') && syntax_nstring(s) && syntax_byte(s, ')');
}

/* "(" string SP string *(SP string SP string) ")" / nil */
static inline bool syntax_params(struct syntax *s)
{
    if (syntax_text(s, "NIL"))
        return true;
    if (!syntax_byte(s, '('))
        return false;
    do {
        if (!syntax_string(s) || !syntax_byte(s, ' ') || !syntax_string(s))
            return false;
    } while (syntax_byte(s, ' '));
    return syntax_byte(s, ')');
}

static inline bool syntax_disposition(struct syntax *s)
{
    if (syntax_text(s, "NIL"))
        return true;
    return syntax_byte(s, '(') && syntax_string(s) && syntax_byte(s, ' ') && syntax_params(s) && syntax_byte(s, ')');
}

static inline bool syntax_language(struct syntax *s)
{
    if (!syntax_byte(s, '('))
        return syntax_nstring(s);
    do {
        if (!syntax_string(s))
            return false;
    } while (syntax_byte(s, ' '));
    return syntax_byte(s, ')');
}

static inline bool syntax_extension(struct syntax *s)
{
    return syntax_byte(s, ' ') && syntax_disposition(s) && syntax_byte(s, ' ') && syntax_language(s) &&
           syntax_byte(s, ' ') && syntax_nstring(s);
}

static inline bool syntax_body(struct syntax *s, bool is_extended);

/* Behind the size: what depends on the type. */
static inline bool syntax_type_fields(struct syntax *s, struct str media, bool is_extended)
{
    uint64_t n;

    if (str_istarts(media, STR("\"message\" \"rfc822\"")) || str_istarts(media, STR("\"message\" \"global\" ")))
        return syntax_byte(s, ' ') && syntax_envelope(s) && syntax_byte(s, ' ') && syntax_body(s, is_extended) &&
               syntax_byte(s, ' ') && syntax_number(s, &n);
    if (str_istarts(media, STR("\"text\" ")))
        return syntax_byte(s, ' ') && syntax_number(s, &n);
    return true;
}

static inline bool syntax_body(struct syntax *s, bool is_extended)
{
    struct str media;
    bool is_right;
    uint64_t n;

    if (++s->depth > 200 || !syntax_byte(s, '('))
        return false;
    if (s->rest.len && s->rest.ptr[0] == '(') {
        is_right = true;
        while (is_right && s->rest.len && s->rest.ptr[0] == '(')
            is_right = syntax_body(s, is_extended);
        is_right = is_right && syntax_byte(s, ' ') && syntax_string(s);
        if (is_right && is_extended)
            is_right = syntax_byte(s, ' ') && syntax_params(s) && syntax_extension(s);
    } else {
        media = s->rest;
        is_right = syntax_string(s) && syntax_byte(s, ' ') && syntax_string(s) && syntax_byte(s, ' ') &&
                   syntax_params(s) && syntax_byte(s, ' ') && syntax_nstring(s) && syntax_byte(s, ' ') &&
                   syntax_nstring(s) && syntax_byte(s, ' ') && syntax_string(s) && syntax_byte(s, ' ') &&
                   syntax_number(s, &n) && syntax_type_fields(s, media, is_extended);
        if (is_right && is_extended)
            is_right = syntax_byte(s, ' ') && syntax_nstring(s) && syntax_extension(s);
    }
    s->depth--;
    return is_right && syntax_byte(s, ')');
}

static inline bool is_envelope(struct str text, bool is_utf8)
{
    struct syntax s = {.rest = text, .is_utf8 = is_utf8};

    return syntax_envelope(&s) && !s.rest.len;
}

static inline bool is_body(struct str text, bool is_extended, bool is_utf8)
{
    struct syntax s = {.rest = text, .is_utf8 = is_utf8};

    return syntax_body(&s, is_extended) && !s.rest.len;
}

#endif
