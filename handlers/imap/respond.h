/*
 * Responses: strings in the form that fits them, tagged replies, response codes (RFC 9051 7, RFC 5530).
 * All writing goes through the session's writer, whose first error sticks; the driver looks at it after each command.
 */
#ifndef IMAP_RESPOND_H
#define IMAP_RESPOND_H

#include "handlers/imap/imap.h"

/* A string: quoted if it can be, otherwise a literal. NUL cannot be sent in either and becomes 0x80. */
void respond_string(struct imap *s, struct str value);

/* The same, STR_NULL (ptr NULL) as NIL. */
void respond_nstring(struct imap *s, struct str value);

/* The same as an atom if it is one. */
void respond_astring(struct imap *s, struct str value);

/* A mailbox name, in modified UTF-7 unless the client has enabled UTF-8 names. */
void respond_mailbox(struct imap *s, struct str name);

/* Bytes of a literal, NUL replaced: CHAR8 (RFC 9051 9). */
void respond_char8(struct imap *s, struct str bytes);

/* Text of the tagged reply, printf-like; control characters and 8-bit bytes in it become `?`. */
int respond_ok(struct imap *s, const char *format, ...) _printf_(2, 3);
int respond_no(struct imap *s, const char *format, ...) _printf_(2, 3);
int respond_bad(struct imap *s, const char *format, ...) _printf_(2, 3);

/* The response code of the tagged reply, without brackets. */
void respond_code(struct imap *s, const char *format, ...) _printf_(2, 3);

/* OUTCOME_NO with the code and the words for an error of the store (RFC 5530 3). `what` says what was not done. */
int respond_error(struct imap *s, int error, const char *what);

/* Sends the tagged reply and forgets it. */
void respond_tagged(struct imap *s, enum imap_outcome outcome);

/* " (\Seen keyword)": flag list of a message with the parentheses. */
void respond_flags(struct imap *s, const struct mbox_info *info);

/* The beginning of a FETCH response up to its parenthesis; after ENABLE UIDONLY of UIDFETCH (RFC 9586 3.3). */
void respond_fetch(struct imap *s, uint32_t seq, uint32_t uid);

/* A set as a sequence-set, range by range: it may be too long for a buffer. */
void respond_numset(struct imap *s, const struct numset *set);

/* An objectid of RFC 8474: a letter and 16 bytes in hexadecimal. */
void respond_object_id(struct imap *s, char letter, const uint8_t id[16]);
int respond_object_id_text(struct buf *out, char letter, const uint8_t id[16]);

/* A date-time with its quotes (RFC 9051 9). */
void respond_date_time(struct imap *s, int64_t when, int offset);

#endif
