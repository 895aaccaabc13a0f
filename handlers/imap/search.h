/*
 * SEARCH: the tree of search keys and its evaluation for one message (RFC 9051 6.4.4). Also the searching half of SORT
 * and THREAD.
 */
#ifndef IMAP_SEARCH_H
#define IMAP_SEARCH_H

#include "handlers/imap/message.h"
#include "handlers/imap/progress.h"
#include "shared/mime/fold.h"
#include "shared/mime/search.h"

enum search_kind {
    SEARCH_ALL,
    SEARCH_AND, /* all children; what a parenthesised list of keys is */
    SEARCH_OR,  /* two children */
    SEARCH_NOT, /* one child */
    SEARCH_FLAG,
    SEARCH_KEYWORD,
    SEARCH_RECENT,
    SEARCH_SEQUENCE, /* sequence numbers */
    SEARCH_SMALLER,
    SEARCH_LARGER,
    SEARCH_BEFORE, /* of INTERNALDATE, days */
    SEARCH_ON,
    SEARCH_SINCE,
    SEARCH_YOUNGER, /* RFC 5032, seconds */
    SEARCH_OLDER,
    SEARCH_MODSEQ,      /* RFC 7162 3.1.5 */
    SEARCH_SAVEDBEFORE, /* RFC 8514 */
    SEARCH_SAVEDON,
    SEARCH_SAVEDSINCE,
    SEARCH_EMAILID,    /* RFC 8474 */
    SEARCH_NOTHING,    /* THREADID: no message has one */
    SEARCH_SENTBEFORE, /* of the Date: field */
    SEARCH_SENTON,
    SEARCH_SENTSINCE,
    SEARCH_HEADER, /* a field contains a string */
    SEARCH_BODY,
    SEARCH_TEXT,
};

struct search_key {
    enum search_kind kind;
    struct search_key *child; /* first */
    struct search_key *next;  /* sibling */
    struct search_key *older; /* every key of this search, for search_finish() */
    uint32_t flag;
    struct str field; /* of SEARCH_HEADER */
    struct str text;  /* in UTF-8 */
    uint64_t number;
    int32_t day;
    struct numset set;
    struct fold_search *header_search; /* made at the first use */
    struct mime_search *body_search;
};

struct search {
    struct imap *s;
    struct search_key *root; /* in the parser's arena; what the keys own is freed by search_finish() */
    struct search_key *newest;
    unsigned count;
    bool has_modseq;    /* a MODSEQ key: the highest one is part of the answer */
    struct str charset; /* of the strings; "": US-ASCII or UTF-8 */
    bool has_charset;   /* the client named it: what is not valid in it is an error */
    struct message message;
    struct buf text; /* a header field, decoded */
    struct progress progress;
};

void search_init(struct search *q, struct imap *s);
void search_finish(struct search *q);

/* Parses search keys up to the end of the command. */
int search_parse(struct search *q);

/* Puts the cheap keys in front, so that a message is read only if they leave it open. */
void search_order(struct search_key *key);

/* Does message `seq` match? 0 or a negative errno; a message that is gone does not match. */
int search_match(struct search *q, uint32_t seq, bool *ret_is_match);

#endif
