/*
 * The words of address lists, for addr.c: tokens (RFC 5322 3.2 with the obsolete syntax of 4.4), the text that tokens
 * make together, and a short way for the form that most addresses have.
 */
#ifndef MIME_ADDR_SCAN_H
#define MIME_ADDR_SCAN_H

#include <stdbool.h>

#include "shared/base/buf.h"
#include "shared/mime/addr.h"

#define ADDR_TOKENS_MAX 2048 /* of one address; what is over is dropped */

/* Sets of marks are masks of these. */
enum addr_class {
    ADDR_CLASS_COLON = 1,
    ADDR_CLASS_ANGLE = 2, /* < and > */
    ADDR_CLASS_COMMA = 4,
    ADDR_CLASS_SEMICOLON = 8,
    ADDR_CLASS_AT = 16,
    ADDR_CLASS_DOT = 32,
    ADDR_CLASS_SPACE = 64,
    ADDR_CLASS_PARENTHESIS = 128,
    ADDR_CLASS_QUOTE = 256,
};

enum addr_token_kind {
    ADDR_TOKEN_ATOM,
    ADDR_TOKEN_QUOTED,  /* text is what stands between the quotes */
    ADDR_TOKEN_LITERAL, /* domain literal with its brackets */
    ADDR_TOKEN_MARK,    /* one of . @ < > , ; : */
    ADDR_TOKEN_END,
};

struct addr_token {
    enum addr_token_kind kind;
    bool is_spaced; /* blanks or a comment before it */
    struct str text;
};

struct addr_scanner {
    struct str rest;
    struct str comment;   /* the last one skipped, null: none since it was reset */
    bool is_after_at;     /* the last token was an @ */
    bool is_quote_open;   /* a quote without its end was met: quotes are junk from there on */
    bool is_comment_open; /* the same of comments and of domain literals: so no input is scanned twice in vain */
    bool is_literal_open;
};

/* Reads a token; returns the class of a mark, 0 for all others. */
unsigned addr_scan_token(struct addr_scanner *s, struct addr_token *ret);

/* Is the next token an @? */
bool addr_scan_is_at(const struct addr_scanner *s);

/* Most addresses are `Name <local@domain>` or `local@domain` up to a comma or the end, without anything to resolve or
 * to remove: takes such a one, and the comma, as views of the input (no name: null). What the tokens would give is the
 * same. False: something else is next, nothing was taken. */
bool addr_scan_usual(struct addr_scanner *s, struct addr *ret);

/* Appends the text of a quoted string or comment: quoted pairs resolved, line ends removed. */
int addr_scan_add_quoted(struct buf *text, struct str quoted);

/* Appends the tokens as one text; blanks between them become one or none. *ret views it. */
int addr_scan_join(const struct addr_token *t, size_t count, bool is_keeping_blanks, struct buf *text, struct str *ret);

#endif
