/*
 * One SMTP reply: code, enhanced code (RFC 3463), text. What the trusted half of SMTP decides, what deliver says and
 * what another host answered travels in this form and is checked at every border.
 */
#ifndef ROUTE_ANSWER_H
#define ROUTE_ANSWER_H

#include <stdarg.h>
#include <stdbool.h>

#include "shared/base/macros.h"
#include "shared/base/str.h"

#define ANSWER_TEXT 400 /* RFC 5321 4.5.3.1.5: a reply line has 512 octets at most */

struct smtp_answer {
    unsigned code;     /* 200 to 599 */
    char enhanced[12]; /* "5.1.1"; "" where RFC 2034 has none (3xx, greetings) */
    char text[ANSWER_TEXT];
};

/* Fills an answer; the text is cut at ANSWER_TEXT and made printable. */
void answer_set(struct smtp_answer *a, unsigned code, const char *enhanced, const char *format, ...) _printf_(4, 5);
void answer_vset(struct smtp_answer *a, unsigned code, const char *enhanced, const char *format, va_list ap)
    _printf_(4, 0);

/* Fills an answer from outside. -EBADMSG: not a code, an enhanced code of another class, or not printable. */
int answer_from(unsigned code, struct str enhanced, struct str text, struct smtp_answer *ret);

/* Fills an answer from one line "450 4.2.0 text"; checks as answer_from(). */
int answer_parse(struct str line, struct smtp_answer *ret);

/* One answer for several of which none is kept: a temporary failure before a permanent one, so that whoever asked tries
 * again; if there is no failure, the first. */
void answer_combine(const struct smtp_answer *answers, size_t count, struct smtp_answer *ret);

static inline bool answer_is_ok(const struct smtp_answer *a)
{
    return a->code >= 200 && a->code < 400;
}

static inline bool answer_is_temporary(const struct smtp_answer *a)
{
    return a->code >= 400 && a->code < 500;
}

#endif
