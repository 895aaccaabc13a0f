/*
 * Arguments of an IMAP command, pulled one after the other from the line reader. Literals are read where they stand
 * (RFC 9051 4.3): the continuation request is sent only when the parser has come that far, so that a command whose
 * beginning is already wrong is refused before the client sends the literal.
 *
 * Everything taken is a view into the parser's arena and lives until parse_begin() of the next command.
 *
 * Functions return 0, -EINVAL (not what was expected: parse_fail() says what it should have been), -EMSGSIZE (a
 * literal over the cap; it was not read), or an error of the connection (-ENODATA, -EPIPE, -ETIMEDOUT, ...), after
 * which nothing more can be read.
 */
#ifndef IMAP_PARSE_H
#define IMAP_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/numset.h"
#include "shared/base/str.h"
#include "shared/io/line.h"

struct parse_chunk;

struct parse {
    struct line_reader *in;
    struct writer *out;         /* for continuation requests */
    struct parse_chunk *chunks; /* the arena: lines and literals of this command */
    size_t held;                /* bytes in it */
    struct str line;            /* the current line */
    struct str rest;            /* what is left of it */
    const char *expected;       /* set with -EINVAL */
    struct str spelled;         /* the mailbox name that came last, as the client spelled INBOX in it */
    bool is_utf8;               /* mailbox names are UTF-8 (RFC 9051 5.1, RFC 6855 3), not modified UTF-7 */
    bool is_taken;              /* the literal at the end of `line` has been read, or the caller reads it */
};

void parse_init(struct parse *p, struct line_reader *in, struct writer *out);
void parse_finish(struct parse *p);

/* Reads the first line of the next command; frees what the last one held. Errors as line_read(). */
int parse_begin(struct parse *p);

/* After a failure: reads and drops the rest of the command, with the non-synchronising literals in it (RFC 7888 3).
 * 0, -EMSGSIZE (a literal too large even to skip: the connection must end), or an error of the connection. */
int parse_skip(struct parse *p);

/* Remembers what should have stood here. Always -EINVAL. */
int parse_fail(struct parse *p, const char *expected);

/* Memory from the arena, or NULL: out of memory or over LIMIT_COMMAND. */
void *parse_alloc(struct parse *p, size_t size);

/* The tag and the command's name. The tag is empty when there is none to answer to. */
int parse_tag(struct parse *p, struct str *ret);
int parse_name(struct parse *p, struct str *ret);

/* One space; the end of the command; the character `c`. */
int parse_space(struct parse *p);
int parse_end(struct parse *p);
int parse_char(struct parse *p, char c, const char *expected);

/* Is `c` (or the end) next? Nothing is consumed; at the end of the line parse_peek() is 0. */
char parse_peek(const struct parse *p);
bool parse_at_end(const struct parse *p);

/* Consumes `c` if it is next. */
bool parse_accept(struct parse *p, char c);

/* Consumes the word if it is next and an atom ends with it, in any case. */
bool parse_accept_word(struct parse *p, struct str word);

/* atom, astring, string, nstring (RFC 9051 9). An astring is at most LIMIT_LITERAL long. NIL gives STR_NULL. */
int parse_atom(struct parse *p, const char *expected, struct str *ret);
int parse_astring(struct parse *p, const char *expected, struct str *ret);
int parse_string(struct parse *p, const char *expected, struct str *ret);

/* A number; nz-number refuses 0. */
int parse_number(struct parse *p, const char *expected, uint32_t *ret);
int parse_nz_number(struct parse *p, const char *expected, uint32_t *ret);
/* number64 (RFC 9051 9): 63 bits. */
int parse_number64(struct parse *p, const char *expected, uint64_t *ret);

/* A mailbox name as UTF-8: INBOX in capitals, modified UTF-7 decoded (RFC 3501 5.1.3) unless is_utf8. p->spelled is the
 * name without the capitals. */
int parse_mailbox(struct parse *p, struct str *ret);

/* The reference of LIST, and list-mailbox (RFC 9051 9), a mailbox name in which * and % may stand, both decoded
 * likewise. One that no mailbox here can have, though its syntax is right, is a null string: RFC 9051 6.3.9 wants it
 * ignored. */
int parse_reference(struct parse *p, struct str *ret);
int parse_list_mailbox(struct parse *p, struct str *ret);

/* A sequence-set without `$`, as text: digits, `:`, `,`, `*`. Resolve it with seqset.h. */
int parse_sequence(struct parse *p, struct str *ret);

/* One flag with its backslash, or a keyword. `\*` and `\Recent` are refused. */
int parse_flag(struct parse *p, struct str *ret);

/* "dd-Mon-yyyy" with or without quotes: days since 1970-01-01. */
int parse_date(struct parse *p, int32_t *ret);

/* date-time in quotes (RFC 9051 9): seconds since 1970 and the zone in minutes. */
int parse_date_time(struct parse *p, int64_t *ret_when, int16_t *ret_offset);

/* The head of a literal that the caller reads itself (APPEND): its size, whether the client waits for a go-ahead, and
 * whether it is a literal8 (RFC 9051 4.3). Nothing has been read, no go-ahead has been given. */
struct parse_literal {
    uint64_t size;
    bool is_sync;
    bool is_literal8;
};
int parse_literal_head(struct parse *p, struct parse_literal *ret);

/* Gives the go-ahead if the client waits for it; then the bytes are read with line_peek() and line_consume(). */
int parse_literal_accept(struct parse *p, const struct parse_literal *literal);

/* Drops `size` bytes of input. 0, or an error of the connection. */
int parse_literal_drop(struct parse *p, uint64_t size);

/* Reads the line behind a literal that the caller consumed. */
int parse_continue(struct parse *p);

/* Is it an atom-char, an astring-char (RFC 9051 9)? */
bool parse_is_atom_char(char c);
bool parse_is_astring_char(char c);

#endif
