/*
 * The header fields in which mbox programs keep flags and UIDs (Status, X-Status, X-Keywords, X-UID, X-IMAPbase, and
 * X-IMAP of the "FOLDER INTERNAL DATA" pseudo message), our own marker, and the quoting that keeps the same fields of
 * incoming mail from being taken for ours.
 *
 * A message that we wrote begins with a block of such fields straight behind its From_ line. Its first line is the
 * marker; the block has a fixed length for ever, so that flags and UID change by writing equally many bytes:
 *
 *     X-Pennypost: 1 000000001234 000000005678 000000006912 0123456789abcdef 1700000000 +0100
 *     X-IMAPbase: 1700000000 0000000017 $Forwarded          (the first message only)
 *     X-UID: 17
 *     Status: RO
 *     X-Status: AF
 *     X-Keywords: $Forwarded                                (padded with blanks)
 *     X-Pennypost-Pad:                                      (where a hole in the file had to be absorbed)
 *
 * Marker: how the body is stored (0 a foreign message that got a block, 1 with LF, 2 with CRLF, both mboxrd-quoted, 3
 * not at all: it is to go), the file offset at which it was appended, the length from the From_ line to the separating
 * empty line inclusive, the offset at which that append (of one or more messages) ends, a checksum of what stands
 * between block and separator, the time it came into the mailbox, the zone of its date; for all but the first message
 * of an append also the offset at which the append begins. A message that still is where it was appended, in a file
 * that is shorter than the append, was cut off by a crash.
 *
 * Quoting, undone when such a message is read: '>' before lines that match ^>*From_, "X-Original-" before header lines
 * that match ^(X-Original-)*NAME:, NAME being one of the fields above, Content-Length or Lines (mutt adds these two
 * when it rewrites a mailbox; hidden as well, so that a message stays the same bytes). The first INTEROP_WINDOW bytes
 * of a line decide.
 */
#ifndef MBOX_INTEROP_H
#define MBOX_INTEROP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/str.h"

#define INTEROP_WINDOW      512       /* bytes of a line that decide about it */
#define INTEROP_BLOCK       208       /* block of an ordinary append: room for X-IMAPbase and some keywords */
#define INTEROP_BLOCK_FIRST 512       /* of the first message: its X-IMAPbase lists the keywords of all */
#define INTEROP_OLD         (1u << 5) /* Status: O, beside enum mbox_flag: a program has seen that it is there */

enum interop_field {
    INTEROP_NONE,
    INTEROP_STATUS,
    INTEROP_X_STATUS,
    INTEROP_X_KEYWORDS,
    INTEROP_X_UID,
    INTEROP_X_IMAP,
    INTEROP_X_IMAPBASE,
    INTEROP_MARKER,
    INTEROP_PAD,
    INTEROP_CONTENT_LENGTH, /* mutt and others add and remove it when they rewrite a mailbox */
    INTEROP_LINES,          /* the same */
};

enum interop_form {
    INTEROP_FOREIGN = 0, /* stored by somebody else: LF becomes CRLF, CRLF stays, nothing is unquoted */
    INTEROP_OWN_LF = 1,  /* every LF becomes CRLF */
    INTEROP_OWN_CRLF = 2,
    INTEROP_VOID = 3, /* what is left of an append of ours that came to nothing, see excise.c */
};

struct interop_marker {
    enum interop_form form;
    uint64_t offset;
    uint64_t length;
    uint64_t end;
    uint64_t begin; /* of the append; as offset for its first message */
    uint64_t sum;
    int64_t savedate;
    int16_t zone; /* minutes */
};

struct interop_block {
    struct interop_marker marker;
    uint32_t uid;         /* 0: not yet given */
    uint32_t flags;       /* enum mbox_flag, INTEROP_OLD */
    struct str keywords;  /* names with blanks between */
    uint32_t uidvalidity; /* 0: no X-IMAPbase line */
    uint32_t uidlast;
    struct str base_keywords;
};

/* Can a header line that begins so be one of these fields, quoted or not? */
static inline bool interop_may_begin(char first)
{
    switch (first) {
    case 'S':
    case 's':
    case 'X':
    case 'x':
    case 'C':
    case 'c':
    case 'L':
    case 'l':
        return true;
    default:
        return false;
    }
}

/* Which field a header line is. */
enum interop_field interop_field(struct str line);

/* Is it one that clients never see? (The marker fields only in a message whose first header line is the marker.) */
bool interop_is_hidden(enum interop_field field);

/* The value of a header line, trimmed. */
struct str interop_value(struct str line);

/* Must this line be quoted when it is stored, and with what? Null view: no. */
struct str interop_quote(struct str line, bool is_header);

/* How many bytes of quoting a stored line of ours begins with. */
size_t interop_quoted(struct str line, bool is_header);

/* Reads a marker line. False: it is none. */
bool interop_marker_parse(struct str line, struct interop_marker *ret);

/* Flags of a Status or X-Status value. */
uint32_t interop_flags(enum interop_field field, struct str value);

/* Renders the block with exactly `length` bytes. -ENOBUFS: it does not fit. */
int interop_block_write(const struct interop_block *block, size_t length, struct buf *out);

/* The least length that fits. */
size_t interop_block_min(const struct interop_block *block);

#endif
