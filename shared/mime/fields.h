/*
 * The fields that are asked for of every message: what ENVELOPE is made of, what SORT and THREAD need, what SEARCH
 * looks for by a name of its own. One walk over a header finds them all.
 */
#ifndef MIME_FIELDS_H
#define MIME_FIELDS_H

#include "shared/base/buf.h"

/* Those of ENVELOPE first, in its order (RFC 9051 7.5.2). */
enum field_name {
    FIELD_DATE,
    FIELD_SUBJECT,
    FIELD_FROM,
    FIELD_SENDER,
    FIELD_REPLY_TO,
    FIELD_TO,
    FIELD_CC,
    FIELD_BCC,
    FIELD_IN_REPLY_TO,
    FIELD_MESSAGE_ID,
    FIELD_ENVELOPE, /* how many ENVELOPE is made of */
    FIELD_REFERENCES = FIELD_ENVELOPE,
    FIELD_NAMES,
};
#define FIELD_BIT(name) (1u << (name)) /* for sets of them */

/* FIELD_NAMES: it is none of them. */
enum field_name field_name_find(struct str name);

/* Of a header that is walked once. Views point into the header. */
struct header_fields {
    struct str header;
    struct str body[FIELD_NAMES];       /* of the first field of each name, as in header_field; null: there is none */
    struct str raw[FIELD_NAMES];        /* the same fields whole */
    enum field_name order[FIELD_NAMES]; /* the names that are there, as their first fields follow one another */
    size_t count;                       /* of `order` */
    unsigned repeated;                  /* a set: names that come more than once */
};

/* Fills it in one walk. */
void header_fields_find(struct str header, struct header_fields *ret);

/* Appends all fields of a set of names as header_select() does. 0, -ENOBUFS, -ENOMEM. */
int header_fields_select(const struct header_fields *f, unsigned set, struct buf *out);

#endif
