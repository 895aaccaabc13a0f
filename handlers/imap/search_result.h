/*
 * What SEARCH, SORT and THREAD have in common around the search keys: result options (RFC 4731), character set, the
 * search itself, the ESEARCH response.
 */
#ifndef IMAP_SEARCH_RESULT_H
#define IMAP_SEARCH_RESULT_H

#include "handlers/imap/partial.h"
#include "handlers/imap/search.h"

enum search_return {
    RETURN_MIN = 1u << 0,
    RETURN_MAX = 1u << 1,
    RETURN_ALL = 1u << 2,
    RETURN_COUNT = 1u << 3,
    RETURN_SAVE = 1u << 4,
    RETURN_PARTIAL = 1u << 5,
};

struct search_result {
    bool is_extended;
    unsigned returns;    /* bits of enum search_return */
    struct numset found; /* sequence numbers */
    struct partial partial;
    struct numset page; /* of those found, what PARTIAL names */
    bool has_modseq;
    uint64_t modseq; /* the highest of what is returned */
};

/* Frees what it holds; it begins as all zero. */
void search_finish_result(struct search_result *result);

/* SP "(" [option *(SP option)] ")" SP, behind "RETURN". */
int search_parse_return(struct imap *s, struct search_result *result);

/* Takes the name of a character set for the strings of the keys. 0, or OUTCOME_NO with [BADCHARSET]. */
int search_set_charset(struct search *q, struct str name);

/* Runs the search over the whole mailbox. */
int search_run(struct search *q, struct search_result *result);

/* The highest mod-sequence of what is returned; with MIN, MAX or PARTIAL but without ALL and COUNT, of those
 * (RFC 4731 3.2). `first` and `last` are
 * the messages that MIN and MAX name. */
int search_highest_modseq(struct imap *s, struct search_result *result, uint32_t first, uint32_t last);

/* `$` (RFC 5182 2.1, RFC 9394 3.2): all of them, or what MIN, MAX and PARTIAL name when there is neither ALL nor COUNT.
 * Does nothing without SAVE. */
int search_save(struct imap *s, const struct search_result *result, const struct numset *uids, uint32_t min,
                uint32_t max);

/* A search with SAVE that is answered with NO, by the command or by the driver, empties the saved result
 * (RFC 5182 2.1); `outcome` is what the command comes to. */
void search_unsave(struct imap *s, const struct search_result *result, int outcome);

/* "* ESEARCH (TAG "a") UID": how the response begins. */
void search_write_esearch(struct imap *s);

#endif
