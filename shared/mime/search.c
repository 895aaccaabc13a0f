/*
 * SEARCH BODY and TEXT: see search.h.
 */
#include "shared/mime/search.h"

#include <errno.h>
#include <stdlib.h>

#include "shared/base/limits.h"
#include "shared/mime/caseless.h"
#include "shared/mime/charset.h"
#include "shared/mime/decode.h"
#include "shared/mime/fold.h"
#include "shared/mime/header.h"
#include "shared/mime/rfc2047.h"
#include "shared/mime/structure.h"

#define PIECE_MAX (64u << 10) /* bytes of a body worked on at a time */

struct mime_search {
    struct mime_parser *parser;
    struct fold_search *text;
    struct buf word; /* the longest of the string that no blank and no colon breaks, folded; may be empty */
    bool has_lf;     /* the string */
    bool is_text;
    bool is_found;

    const struct mime_part *part; /* whose body is being searched; only its address is used */
    bool is_searched;             /* it is a text */
    struct decoder decoder;
    struct charset *charset;
    struct buf decoded;
    struct buf utf8;
};

/* Looks for the string in text that goes on from the last call. */
static int look_at(struct mime_search *s, struct str utf8)
{
    return fold_search_feed(s->text, utf8, &s->is_found);
}

/* Looks for the string in whole fields, which are lines. */
static int look_at_fields(struct mime_search *s)
{
    int r;

    fold_search_reset(s->text);
    r = look_at(s, buf_str(&s->utf8));
    buf_clear(&s->utf8);
    return r;
}

static int add_field(struct mime_search *s, const struct header_field *field)
{
    int r = buf_add_str(&s->utf8, field->name);

    if (!r)
        r = buf_add(&s->utf8, ": ", field->name.len ? 2 : 0);
    if (!r)
        r = rfc2047_decode(field->body, &s->utf8);
    return r ? r : buf_add_byte(&s->utf8, '\n');
}

/* Is the string certainly not in the fields? In ASCII without encoded words they are what they stand for, but for folds
 * and what is around the name: a word of the string would stand there as it is. */
static bool is_ruled_out(const struct mime_search *s, struct str header)
{
    return s->word.len > 0 && !caseless_may_contain(header, STR("=?")) &&
           !caseless_may_contain(header, buf_str(&s->word));
}

/* What the decoders still hold back at the end of a part. */
static int end_part(struct mime_search *s)
{
    int r = 0;

    if (s->is_searched && !s->is_found) {
        buf_clear(&s->decoded);
        buf_clear(&s->utf8);
        r = decoder_end(&s->decoder, &s->decoded);
        if (!r)
            r = charset_feed(s->charset, buf_str(&s->decoded), &s->utf8);
        if (!r)
            r = charset_end(s->charset, &s->utf8);
        if (!r)
            r = look_at(s, buf_str(&s->utf8));
    }
    s->is_searched = false;
    s->part = NULL;
    return r;
}

static int search_header(void *context, const struct mime_part *part, struct str header)
{
    struct mime_search *s = context;
    bool is_nested = part->parent && part->parent->kind == MIME_MESSAGE;
    struct header_iter i = header_iterate(header);
    struct header_field field;
    int r = end_part(s);

    /* The header of a message inside is body of the one around it; MIME headers of parts are not. And no field has a
     * line end in it. */
    if (r || s->is_found)
        return r;
    if ((!s->is_text && !is_nested) || s->has_lf || is_ruled_out(s, header))
        return 0;
    buf_clear(&s->utf8);
    while (!r && !s->is_found && header_next(&i, &field)) {
        r = add_field(s, &field);
        if (!r && s->utf8.len >= PIECE_MAX)
            r = look_at_fields(s);
    }
    return r || s->is_found ? r : look_at_fields(s);
}

/* Text parts; and what the parser shows as text since it could not be taken apart. */
static bool is_searchable(const struct mime_part *part)
{
    if (part->kind == MIME_LEAF)
        return mime_part_is(part, "text", "*");
    return !part->child && (part->kind == MIME_MESSAGE || !mime_param_get(&part->params, STR("boundary")).len);
}

static int begin_part(struct mime_search *s, const struct mime_part *part)
{
    int r = end_part(s);

    s->part = part;
    s->is_searched = is_searchable(part);
    if (r || !s->is_searched)
        return r;
    fold_search_reset(s->text);
    decoder_finish(&s->decoder);
    decoder_init(&s->decoder, part->encoding_kind);
    charset_free(s->charset);
    s->charset = NULL;
    r = charset_new(mime_param_get(&part->params, STR("charset")), &s->charset, NULL);
    s->is_searched = r == 0;
    return r;
}

static int search_piece(struct mime_search *s, struct str bytes)
{
    int r = 0;

    if (s->decoder.kind != MIME_ENCODING_NONE) {
        buf_clear(&s->decoded);
        r = decoder_feed(&s->decoder, bytes, &s->decoded);
        bytes = buf_str(&s->decoded);
    }
    if (!r && charset_keeps_ascii(s->charset) && str_is_ascii(bytes))
        return look_at(s, bytes);
    buf_clear(&s->utf8);
    if (!r)
        r = charset_feed(s->charset, bytes, &s->utf8);
    return r ? r : look_at(s, buf_str(&s->utf8));
}

static int search_body(void *context, const struct mime_part *part, struct str bytes)
{
    struct mime_search *s = context;
    int r = part == s->part ? 0 : begin_part(s, part);

    while (!r && bytes.len && s->is_searched && !s->is_found) {
        r = search_piece(s, str_sub(bytes, 0, PIECE_MAX));
        bytes = str_sub(bytes, PIECE_MAX, bytes.len);
    }
    return r;
}

/* What may stand between others in the decoded fields that are not side by side in the header. */
static bool is_break(char c)
{
    return c == ' ' || c == '\t' || c == ':';
}

static int find_word(struct str needle, struct buf *word)
{
    _cleanup_buf_ struct buf folded = BUF_INIT(SIZE_MAX / 2);
    struct str rest, longest = STR("");
    int r = fold_text(needle, &folded);

    for (rest = buf_str(&folded); rest.len > 0;) {
        size_t n = 0;

        while (n < rest.len && !is_break(rest.ptr[n]))
            n++;
        if (n > longest.len)
            longest = str_sub(rest, 0, n);
        rest = str_sub(rest, n + 1, rest.len);
    }
    return r ? r : buf_add_str(word, longest);
}

int mime_search_new(struct str needle, bool is_text, struct mime_search **ret)
{
    struct mime_search *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return -ENOMEM;
    s->is_text = is_text;
    s->has_lf = str_chr(needle, '\n') >= 0;
    s->decoded = BUF_INIT(4 * PIECE_MAX);
    s->utf8 = BUF_INIT(17 * PIECE_MAX + 4 * LIMIT_HEADER_FIELD);
    decoder_init(&s->decoder, MIME_ENCODING_NONE);
    s->word = BUF_INIT(SIZE_MAX / 2);
    r = find_word(needle, &s->word);
    if (!r)
        r = fold_search_new(needle, &s->text);
    if (!r)
        r = mime_parser_new(&s->parser);
    if (r) {
        mime_search_free(s);
        return r;
    }
    mime_parser_set_sink(s->parser, &(struct mime_sink){.context = s, .header = search_header, .body = search_body});
    *ret = s;
    return 0;
}

void mime_search_free(struct mime_search *s)
{
    if (!s)
        return;
    mime_parser_free(s->parser);
    fold_search_free(s->text);
    charset_free(s->charset);
    decoder_finish(&s->decoder);
    buf_finish(&s->word);
    buf_finish(&s->decoded);
    buf_finish(&s->utf8);
    free(s);
}

int mime_search_feed(struct mime_search *s, struct str piece, bool *ret_is_found)
{
    int r = s->is_found ? 0 : mime_parser_feed(s->parser, piece);

    *ret_is_found = s->is_found;
    return r;
}

int mime_search_end(struct mime_search *s, bool *ret_is_found)
{
    struct mime_tree tree = {0};
    int r = 0;

    if (!s->is_found) {
        r = mime_parser_end(s->parser, &tree);
        if (!r)
            r = end_part(s);
        mime_tree_finish(&tree);
    }
    *ret_is_found = s->is_found;
    mime_parser_reset(s->parser);
    s->is_found = s->is_searched = false;
    s->part = NULL;
    fold_search_reset(s->text);
    return r;
}
