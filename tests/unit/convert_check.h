/*
 * What must hold of a message before and after convert_plan() and convert_read(), for both targets: for the unit test
 * and the fuzz target.
 */
#ifndef TESTS_CONVERT_CHECK_H
#define TESTS_CONVERT_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mime/convert.h"
#include "shared/mime/decode.h"

#define CHECK_MAX (256u << 20)

#define MUST(what)                                                                                                     \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                                           \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static inline int check_collect(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

static inline int check_file(struct str s)
{
    int fd = memfd_create("convert", MFD_CLOEXEC);

    MUST(fd >= 0 && write(fd, s.ptr, s.len) == (ssize_t)s.len);
    return fd;
}

/* 0, or what refused it; -EPERM: it would break a seal. */
static inline int check_convert(struct str message, struct buf *out)
{
    _cleanup_close_ int fd = check_file(message);
    _cleanup_convert_ struct convert c = {0};
    int r = convert_plan(fd, CONVERT_LINES, &c);

    for (size_t i = 0; i < c.count; i++)
        MUST(c.edits[i].from < c.edits[i].to && (i == 0 || c.edits[i - 1].to <= c.edits[i].from));
    if (r == 0 && c.breaks_seal)
        return -EPERM;
    return r < 0 ? r : convert_read(fd, &c, check_collect, out);
}

static inline void check_parse(struct str message, struct mime_tree *ret)
{
    struct mime_parser *p;

    MUST(mime_parser_new(&p) == 0 && mime_parser_feed(p, message) == 0 && mime_parser_end(p, ret) == 0);
    mime_parser_free(p);
}

static inline void check_decode(struct str message, const struct mime_part *p, struct buf *out)
{
    struct decoder d;

    decoder_init(&d, p->encoding_kind);
    MUST(decoder_feed(&d, str_sub(message, (size_t)p->body, (size_t)(p->end - p->body)), out) == 0);
    MUST(decoder_end(&d, out) == 0);
    decoder_finish(&d);
}

/* The same parts with the same content. */
static inline void check_same(struct str a, const struct mime_part *x, struct str b, const struct mime_part *y)
{
    for (; x && y; x = x->next, y = y->next) {
        _cleanup_buf_ struct buf one = BUF_INIT(CHECK_MAX), two = BUF_INIT(CHECK_MAX);

        MUST(x->kind == y->kind && str_eq(x->type, y->type) && str_eq(x->subtype, y->subtype));
        if (x->encoding_kind != y->encoding_kind && mime_part_is(x, "message", "global")) { /* as a whole */
            check_decode(a, x, &one);
            check_decode(b, y, &two);
            MUST(str_eq(buf_str(&one), buf_str(&two)));
            continue;
        }
        check_same(a, x->child, b, y->child);
        if (x->kind != MIME_LEAF)
            continue;
        check_decode(a, x, &one);
        check_decode(b, y, &two);
        MUST(str_eq(buf_str(&one), buf_str(&two)));
    }
    MUST(!x && !y);
}

/* All of it is lines; a last one may lack its end. */
static inline void check_lines(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        MUST(s.ptr[i] != '\0');
        MUST(s.ptr[i] != '\r' || (i + 1 < s.len && s.ptr[i + 1] == '\n'));
        MUST(s.ptr[i] != '\n' || (i > 0 && s.ptr[i - 1] == '\r'));
    }
}

/* Converts it and checks all that must hold; the result, as check_convert(). */
static inline int check_message(struct str message, struct buf *out)
{
    _cleanup_mime_tree_ struct mime_tree before = {0}, after = {0};
    _cleanup_buf_ struct buf again = BUF_INIT(CHECK_MAX);
    int r = check_convert(message, out);

    if (r < 0)
        return r;
    check_lines(buf_str(out));
    check_parse(message, &before);
    check_parse(buf_str(out), &after);
    check_same(message, before.root, buf_str(out), after.root);
    MUST(check_convert(buf_str(out), &again) == 0 && str_eq(buf_str(out), buf_str(&again)));
    return 0;
}

/* No part has 8-bit content any more, a message/global not even in the header of its message. */
static inline void check_7bit(struct str s, const struct mime_part *p)
{
    for (; p; p = p->next) {
        bool is_leaf = p->kind == MIME_LEAF || mime_part_is(p, "message", "global");

        check_7bit(s, p->child);
        for (uint64_t i = p->body; is_leaf && i < p->end; i++)
            MUST((unsigned char)s.ptr[i] < 128);
    }
}

/* A file in LF form as a report for a server without SMTPUTF8: the same parts with the same content. */
static inline void check_for_global(struct str file)
{
    _cleanup_mime_tree_ struct mime_tree before = {0}, after = {0};
    _cleanup_buf_ struct buf wire = BUF_INIT(CHECK_MAX), out = BUF_INIT(CHECK_MAX);
    _cleanup_close_ int fd = check_file(file);
    _cleanup_convert_ struct convert c = {0};

    if (str_has_nul(file) || convert_plan(fd, CONVERT_GLOBAL, &c) < 0)
        return;
    MUST(convert_read(fd, &c, check_collect, &out) == 0 && content_read(fd, check_collect, &wire) == 0);
    MUST(c.count > 0 || str_eq(buf_str(&out), buf_str(&wire)));
    check_parse(buf_str(&wire), &before);
    check_parse(buf_str(&out), &after);
    check_same(buf_str(&wire), before.root, buf_str(&out), after.root);
}

/* A file in LF form for a server without 8BITMIME; *out is its wire form. 0, or what refused it. */
static inline int check_for_7bit(struct str file, struct buf *out)
{
    _cleanup_mime_tree_ struct mime_tree before = {0}, after = {0};
    _cleanup_buf_ struct buf wire = BUF_INIT(CHECK_MAX), again = BUF_INIT(CHECK_MAX);
    _cleanup_close_ int fd = check_file(file), second = -1;
    _cleanup_convert_ struct convert c = {0}, more = {0};
    int r = str_has_nul(file) ? -EINVAL : convert_plan(fd, CONVERT_7BIT, &c); /* the queue has none */

    if (r < 0)
        return r;
    for (size_t i = 0; i < c.count; i++)
        MUST(c.edits[i].from < c.edits[i].to && (i == 0 || c.edits[i - 1].to <= c.edits[i].from));
    MUST(convert_read(fd, &c, check_collect, out) == 0);
    MUST(content_read(fd, check_collect, &wire) == 0);
    check_lines(buf_str(out));
    check_parse(buf_str(&wire), &before);
    check_parse(buf_str(out), &after);
    check_same(buf_str(&wire), before.root, buf_str(out), after.root);
    check_7bit(buf_str(out), after.root);
    /* What was converted needs no conversion. */
    second = check_file(buf_str(out));
    MUST(convert_plan(second, CONVERT_7BIT, &more) == 0);
    MUST(convert_read(second, &more, check_collect, &again) == 0 && str_eq(buf_str(out), buf_str(&again)));
    return 0;
}

#endif
