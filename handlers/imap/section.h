/*
 * Sections: the part of a message that BODY[...] and BINARY[...] name (RFC 9051 6.4.5.1).
 */
#ifndef IMAP_SECTION_H
#define IMAP_SECTION_H

#include "handlers/imap/imap.h"
#include "shared/base/limits.h"
#include "shared/mime/structure.h"

enum section_text {
    SECTION_ALL, /* [] or [1.2] */
    SECTION_HEADER,
    SECTION_FIELDS,     /* HEADER.FIELDS (...) */
    SECTION_FIELDS_NOT, /* HEADER.FIELDS.NOT (...) */
    SECTION_TEXT,
    SECTION_MIME, /* of a part: its own MIME header */
};

struct section {
    uint32_t *numbers; /* "1.2.3"; these and the names live in the parser's arena */
    size_t depth;
    enum section_text text;
    struct str *names; /* header fields */
    size_t name_count;
    bool is_partial; /* <first.count> */
    uint64_t first;
    uint64_t count;
};

/* Parses "[...]"; is_binary: part numbers only, as BINARY wants (RFC 3516 4.2). */
int section_parse(struct imap *s, bool is_binary, struct section *ret);

/* Parses a partial, if one is next. BINARY.SIZE takes none (RFC 9051 9, fetch-att). */
int section_parse_partial(struct imap *s, struct section *section);

/* Writes it as a response names it: "[HEADER.FIELDS (DATE)]<0>" (RFC 9051 7.5.2); the count is not repeated. */
void section_write(struct imap *s, const struct section *section, bool has_partial);

/* Bytes [*ret_start, *ret_end) of the wire form that a section (not SECTION_FIELDS and SECTION_FIELDS_NOT: their
 * header) means. -ENOENT: the message has no such section. */
int section_locate(const struct section *section, const struct mime_part *root, uint64_t *ret_start, uint64_t *ret_end);

/* Clips [*start, *end) to the partial. */
void section_clip(const struct section *section, uint64_t *start, uint64_t *end);

#endif
