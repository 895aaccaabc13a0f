/*
 * What other delivery programs put in front of a message that they hand to us: a From_ line, Return-Path, Delivered-To
 * and their like. Pure.
 */
#ifndef DELIVER_PROLOGUE_H
#define DELIVER_PROLOGUE_H

#include <stdbool.h>

#include "shared/base/buf.h"

#define PROLOGUE_MAX (16u << 10) /* bytes of a message that are looked at */

struct prologue {
    struct str sender; /* of the From_ line or of Return-Path, "" null path; null: neither is there. A view. */
    size_t size;       /* bytes of the front that it takes */
    struct buf fields; /* of these what is to stay: all but From_ and Return-Path, which are ours to write */
    bool is_known;     /* among them is Delivered-To with the address */
};

#define PROLOGUE_INIT ((struct prologue){.fields = BUF_INIT(PROLOGUE_MAX)})

/* Looks at the front of a message, its first PROLOGUE_MAX bytes or all of it; LF or CRLF. 0, -ENOMEM. */
int prologue_read(struct prologue *p, struct str front, struct str address);
void prologue_finish(struct prologue *p);

#endif
