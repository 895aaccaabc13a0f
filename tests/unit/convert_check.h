/*
 * What must hold of a message before and after convert_plan(CONVERT_LINES) and convert_read(): for the unit test and
 * the fuzz target.
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

#endif
