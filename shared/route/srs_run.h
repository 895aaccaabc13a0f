/*
 * SRS by the program `srs`, for programs that must have neither its secret nor OpenSSL in them.
 */
#ifndef ROUTE_SRS_RUN_H
#define ROUTE_SRS_RUN_H

#include "shared/route/expand.h"

/* Does `srs` of the configuration ask for a rewritten sender when mail from `sender` goes to another machine? Not for
 * the null sender, nor for an address of ours. */
bool srs_is_wanted(const struct conf *conf, struct str sender);

/* Appends what to send as instead of `sender`. 0, or a negative errno: try later. */
int srs_run_forward(const struct conf *conf, const char *sender, struct buf *out);

/* The expansion of an address of ours with srs_is_one(): the address that it stands for. 0, or a negative errno with
 * the refusal, as expand_path(). */
int srs_expand(const struct conf *conf, const struct smtp_path *path, struct expansion *ret,
               struct smtp_answer *ret_answer);

/* Appends what an address of ours with srs_is_one() stands for. -EINVAL, -EKEYREJECTED, -EKEYEXPIRED as srs_reverse();
 * others: try later. */
int srs_run_reverse(const struct conf *conf, const char *address, struct buf *out);

#endif
