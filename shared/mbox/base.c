/*
 * Keeping X-IMAPbase true. Runs as the user under BOX_WRITE and BOX_STATE; touches the first header of the mbox file.
 */
#include "shared/mbox/base.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/flush.h"

#define LAST_DIGITS 10u          /* as we, Dovecot and UW-IMAP write it */
#define HEADER_MOST (64u << 10u) /* X-IMAPbase is looked for in so much of a header */

#define UID_MOST      0x7fffffffu
#define VALIDITY_MOST 0xefffffffu /* a later one must be greater */

bool base_is_in(const struct box *b, const struct index_record *rec)
{
    return !(rec->bits & (INDEX_EXPUNGED | INDEX_HAS_STRAY)) && rec->block > 0 && rec->offset == b->ix.head->prefix;
}

bool base_wants_room(const struct box *b, const struct index_record *rec)
{
    struct interop_marker marker = {.form = (enum interop_form)rec->form};
    const struct index_header *h = b->ix.head;
    size_t least;

    if (rec->block == 0)
        return !(rec->bits & (INDEX_EXPUNGED | INDEX_LACKS_NEWLINE)) && rec->offset == h->prefix &&
               h->base_validity != h->uidvalidity;
    return base_is_in(b, rec) && flush_least(h, rec, &marker, true, &least) == 0 && least > rec->block;
}

bool base_is_sane(uint32_t validity, uint32_t last)
{
    return validity != 0 && validity <= VALIDITY_MOST && last <= UID_MOST;
}

/* As the scanner takes it: the last such field of the first header of the file. */
static void find_base(struct str text, uint32_t *ret_validity, uint32_t *ret_last)
{
    bool is_from = true;

    while (text.len > 0 && (text.ptr[0] == '\n' || text.ptr[0] == '\r'))
        text = str_sub(text, 1, text.len);
    while (text.len > 0) {
        const char *lf = memchr(text.ptr, '\n', text.len);
        struct str line = str_sub(text, 0, lf == NULL ? text.len : (size_t)(lf - text.ptr) + 1);
        enum interop_field field = is_from ? INTEROP_NONE : interop_field(line);
        struct str value = interop_value(line), word;
        uint32_t validity, last;

        text = str_sub(text, line.len, text.len);
        if (str_trim(line).len == 0 || lf == NULL)
            return;
        is_from = false;
        if ((field == INTEROP_X_IMAPBASE || field == INTEROP_X_IMAP) && str_word(&value, &word) &&
            str_to_u32(word, &validity) == 0 && str_word(&value, &word) && str_to_u32(word, &last) == 0 &&
            base_is_sane(validity, last)) {
            *ret_validity = validity;
            *ret_last = last;
        }
    }
}

int base_read(struct box *b, uint32_t *ret_validity, uint32_t *ret_last)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    size_t len = size < HEADER_MOST ? (size_t)size : HEADER_MOST;
    _cleanup_free_ char *text = malloc(len + 1);
    uint32_t validity = 0, last = 0;
    int r = text == NULL ? -ENOMEM : file_read(b->fd, text, len, 0);

    if (r < 0)
        return r;
    find_base((struct str){text, len}, &validity, &last);
    *ret_validity = validity;
    *ret_last = last;
    return 0;
}

/* The record of the first message of the file. False: there is none that can be trusted. */
static bool first_record(struct box *b, struct index_record *ret)
{
    const struct index *ix = &b->ix;
    struct box_first *f = &b->first;

    if (f->ino != ix->ino || f->generation != ix->head->generation)
        *f = (struct box_first){.ino = ix->ino, .generation = ix->head->generation};
    for (; ix->head->is_ordered && f->at < ix->head->count; f->at++) {
        if (index_brief(ix, f->at)->bits & INDEX_EXPUNGED)
            continue;
        *ret = index_load(ix, f->at);
        return ret->offset == ix->head->prefix && index_is_valid(ret);
    }
    return false;
}

/* Where the number stands in a header. */
static bool find_last(struct str header, uint32_t uidvalidity, size_t *ret)
{
    const char *start = header.ptr;

    while (header.len > 0) {
        const char *lf = memchr(header.ptr, '\n', header.len);
        struct str line = str_sub(header, 0, lf == NULL ? header.len : (size_t)(lf - header.ptr) + 1);
        struct str value, word;
        uint32_t n;

        header = str_sub(header, line.len, header.len);
        if (interop_field(line) != INTEROP_X_IMAPBASE)
            continue;
        value = interop_value(line);
        if (!str_word(&value, &word) || str_to_u32(word, &n) < 0 || n != uidvalidity || !str_word(&value, &word) ||
            word.len != LAST_DIGITS || str_to_u32(word, &n) < 0)
            return false;
        *ret = (size_t)(word.ptr - start);
        return true;
    }
    return false;
}

int base_put_last(struct box *b, uint32_t uidlast)
{
    struct index_record rec;
    _cleanup_free_ char *header = NULL;
    char digits[LAST_DIGITS + 1];
    size_t len, at;
    int r;

    if (!first_record(b, &rec) || !(rec.bits & INDEX_HAS_BASE))
        return 0;
    len = rec.header < HEADER_MOST ? rec.header : HEADER_MOST;
    header = malloc(len + 1);
    if (header == NULL)
        return -ENOMEM;
    if ((r = file_read(b->fd, header, len, rec.offset + rec.from_length)) < 0)
        return r;
    if (!find_last((struct str){header, len}, b->ix.head->uidvalidity, &at))
        return 0;
    (void)snprintf(digits, sizeof(digits), "%010" PRIu32, uidlast);
    if (memcmp(header + at, digits, LAST_DIGITS) == 0)
        return 0;
    return file_write(b->fd, digits, LAST_DIGITS, rec.offset + rec.from_length + at);
}

unsigned base_count_keywords(const struct box *b)
{
    unsigned n = 0;

    for (unsigned i = 0; i < LIMIT_KEYWORDS; i++)
        n += b->ix.head->keywords[i][0] != '\0';
    return n;
}

int base_put_keywords(struct box *b)
{
    struct index_record rec;
    _cleanup_buf_ struct buf fresh = BUF_INIT(UINT16_MAX + 1);
    _cleanup_free_ char *old = NULL;
    struct interop_marker marker;
    const char *lf;
    int r;

    if (!first_record(b, &rec) || !base_is_in(b, &rec) || index_is_unwritten(&rec.brief)) /* the next flush does it */
        return 0;
    old = malloc(rec.block);
    if (old == NULL)
        return -ENOMEM;
    if ((r = file_read(b->fd, old, rec.block, rec.offset + rec.from_length)) < 0)
        return r;
    lf = memchr(old, '\n', rec.block);
    if (lf == NULL || !interop_marker_parse(str_trim((struct str){old, (size_t)(lf - old)}), &marker))
        return 0;
    r = flush_render(b->ix.head, &rec, &marker, true, rec.block, &fresh);
    if (r < 0 || !flush_has_same_lines(old, fresh.data, rec.block))
        return r == -ENOBUFS ? 0 : r;
    return file_write(b->fd, fresh.data, fresh.len, rec.offset + rec.from_length);
}
