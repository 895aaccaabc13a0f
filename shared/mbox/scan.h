/*
 * The scanner: finds the messages of an mbox file and everything that the index keeps of them, in one pass, in constant
 * memory, whatever the length of lines, messages or the file. It reads by pread and takes no lock.
 *
 * A message begins with a valid From_ line at the start of the file or behind an empty line, and reaches to the next
 * one or to the end of the file. Its last empty line is the separator and not part of it.
 */
#ifndef MBOX_SCAN_H
#define MBOX_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/str.h"
#include "shared/mbox/interop.h"

#define SCAN_BUFFER (256u << 10)

struct scan_message {
    uint64_t offset;      /* of its From_ line */
    uint64_t length;      /* up to the next From_ line or the end */
    uint64_t size;        /* octets in wire form */
    uint64_t header;      /* stored header bytes behind the From_ line, without the empty line; all, if there is none */
    uint32_t from_length; /* From_ line with its line end */
    uint32_t block;       /* bytes of the flag block behind it, 0: none */
    bool has_marker;
    struct interop_marker marker; /* form INTEROP_FOREIGN without one */
    uint8_t separator;            /* bytes of the empty line at the end: 0 to 2 */
    bool lacks_newline;           /* the file ends in the middle of its last line: the wire form has it completed */
    bool has_stray;               /* interop fields outside the block */
    bool has_interop;             /* any of them at all */
    bool has_8bit;                /* bytes above 127 in the header that is shown */
    bool has_base;                /* an X-IMAPbase or X-IMAP field; the three below come from it */
    bool is_pseudo;               /* "FOLDER INTERNAL DATA" of UW-IMAP */
    uint32_t uidvalidity;
    uint32_t uidlast;
    struct str base_keywords; /* views: good during the visit */
    uint32_t uid;             /* X-UID, 0: none */
    uint32_t flags;           /* enum mbox_flag, INTEROP_OLD */
    struct str keywords;
    int64_t date;
    int16_t date_offset;
    uint8_t hash[16]; /* of the wire form with LF */
};

struct scan_result {
    uint64_t prefix; /* empty lines before the first From_ line */
    uint64_t end;    /* where the scan stopped: the file's end as it was found */
};

/* Scans from `offset`, which is 0 or that of a known From_ line, to the end of the file; calls visit for each message.
 * 0; -EBADMSG: there is no From_ line at the beginning; what visit returned, when not 0; a read error. */
int scan_file(int fd, uint64_t offset, const uint64_t key[2], int (*visit)(void *context, const struct scan_message *m),
              void *context, struct scan_result *ret);

/* The same, for who knows that the first message should be `length` bytes long, and looks at no more than that one: not
 * much more is read. */
int scan_message(int fd, uint64_t offset, uint64_t length, const uint64_t key[2],
                 int (*visit)(void *context, const struct scan_message *m), void *context);

#endif
