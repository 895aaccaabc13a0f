/*
 * What SORT and THREAD need to know of a message (RFC 5256), worked out once from its header and kept in the store's
 * cache.
 */
#ifndef IMAP_DIGEST_H
#define IMAP_DIGEST_H

#include "handlers/imap/message.h"

enum digest_text {
    DIGEST_SUBJECT, /* base subject */
    DIGEST_FROM,    /* mailbox of the first address */
    DIGEST_TO,
    DIGEST_CC,
    DIGEST_DISPLAY_FROM, /* RFC 5957: display name, else address */
    DIGEST_DISPLAY_TO,
    DIGEST_TEXTS,
};

#define DIGEST_REFERENCES 512u /* of one message: the newest ones count */

/* Views point into the digest's own bytes. Texts are case-folded: equal texts are equal bytes, memcmp() sorts. */
struct digest {
    int64_t date;  /* sent date in UTC, INTERNALDATE when there is none (RFC 5256 2.2) */
    bool is_reply; /* the subject says reply or forward */
    uint64_t id;   /* hash of the Message-ID, 0: none */
    struct str texts[DIGEST_TEXTS];
    struct str references; /* 8 bytes each: hashes of References, or of the first In-Reply-To */
    struct buf bytes;
};

void digest_init(struct digest *d);
void digest_finish(struct digest *d);

/* Fills it for the message that `m` stands on. 0, -ESTALE, -ENOMEM, ... */
int digest_get(struct digest *d, struct message *m);

/* Only puts it into the cache. For whoever has the header at hand. */
void digest_keep(struct message *m);

size_t digest_reference_count(const struct digest *d);
uint64_t digest_reference(const struct digest *d, size_t i);

#endif
