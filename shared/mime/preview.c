/*
 * Preview text: see preview.h.
 */
#include "shared/mime/preview.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/mime/charset.h"
#include "shared/mime/decode.h"
#include "shared/mime/html.h"

#define TEXT_BYTES (PREVIEW_CHARACTERS * 4)

/* Text on one line, runs of blanks made one. */
struct line {
    char bytes[TEXT_BYTES];
    size_t len;
    unsigned characters;
    bool is_blank_due; /* a blank stands between what is there and what comes */
};

struct preview {
    struct decoder decoder;
    struct charset *charset;
    struct html_text *html; /* NULL: plain text */
    struct buf decoded;
    struct buf utf8;
    struct buf text;
    struct line own;    /* what the sender wrote */
    struct line quoted; /* lines that begin with > : shown only if there is nothing else */
    uint64_t seen;
    bool is_line_start;
    bool is_quoted;
};

static const struct mime_part *find_text(const struct mime_part *part, const char *subtype)
{
    if (part->kind == MIME_LEAF)
        return mime_part_is(part, "text", subtype) && !str_ieq(part->disposition, STR("attachment")) ? part : NULL;
    /* What is encrypted has nothing to show. */
    if (mime_part_is(part, "multipart", "encrypted"))
        return NULL;
    for (const struct mime_part *c = part->child; c; c = c->next) {
        const struct mime_part *found = find_text(c, subtype);

        if (found)
            return found;
    }
    return NULL;
}

const struct mime_part *preview_part(const struct mime_part *root)
{
    const struct mime_part *part = find_text(root, "plain");

    if (!part)
        part = find_text(root, "html");
    return part ? part : find_text(root, "*");
}

int preview_new(const struct mime_part *part, struct preview **ret)
{
    struct preview *p = calloc(1, sizeof(*p));
    int r;

    if (!p)
        return -ENOMEM;
    decoder_init(&p->decoder, part->encoding_kind);
    p->decoded = BUF_INIT(2 * PREVIEW_BYTES);
    p->utf8 = BUF_INIT(16 * PREVIEW_BYTES);
    p->text = BUF_INIT(16 * PREVIEW_BYTES);
    p->is_line_start = true;
    r = charset_new(mime_param_get(&part->params, STR("charset")), &p->charset, NULL);
    if (!r && mime_part_is(part, "text", "html"))
        r = html_text_new(&p->html);
    if (r) {
        preview_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void preview_free(struct preview *p)
{
    if (!p)
        return;
    decoder_finish(&p->decoder);
    charset_free(p->charset);
    html_text_free(p->html);
    buf_finish(&p->decoded);
    buf_finish(&p->utf8);
    buf_finish(&p->text);
    free(p);
}

/* Characters that show nothing, with which senders pad their previews: soft hyphen, combining grapheme joiner, zero
 * width space to right-to-left mark, word joiner, byte order mark. */
static bool is_invisible(struct str c)
{
    return str_eq(c, STR("\xc2\xad")) || str_eq(c, STR("\xcd\x8f")) || str_eq(c, STR("\xe2\x81\xa0")) ||
           str_eq(c, STR("\xef\xbb\xbf")) ||
           (c.len == 3 && memcmp(c.ptr, "\xe2\x80", 2) == 0 && (uint8_t)c.ptr[2] >= 0x8b && (uint8_t)c.ptr[2] <= 0x8f);
}

static void line_add(struct line *l, struct str c)
{
    bool is_control = c.len == 1 && ((unsigned char)c.ptr[0] <= ' ' || c.ptr[0] == 0x7f);

    if (is_control || str_eq(c, STR("\xc2\xa0"))) {
        l->is_blank_due = l->len > 0;
        return;
    }
    if (is_invisible(c) || l->characters + l->is_blank_due >= PREVIEW_CHARACTERS)
        return;
    if (l->is_blank_due) {
        l->bytes[l->len++] = ' ';
        l->characters++;
        l->is_blank_due = false;
    }
    memcpy(l->bytes + l->len, c.ptr, c.len);
    l->len += c.len;
    l->characters++;
}

static bool line_is_full(const struct line *l)
{
    return l->characters + l->is_blank_due >= PREVIEW_CHARACTERS;
}

static void take_text(struct preview *p, struct str s)
{
    while (s.len && !line_is_full(&p->own)) {
        size_t len = utf8_sequence(str_sub(s, 0, 4));
        struct str c = str_sub(s, 0, len ? len : 1);

        if (p->is_line_start && !p->html)
            p->is_quoted = c.ptr[0] == '>';
        p->is_line_start = c.ptr[0] == '\n';
        line_add(p->is_quoted ? &p->quoted : &p->own, c);
        s = str_sub(s, c.len, s.len);
    }
}

static int take_utf8(struct preview *p)
{
    int r;

    if (!p->html) {
        take_text(p, buf_str(&p->utf8));
        return 0;
    }
    buf_clear(&p->text);
    r = html_text_feed(p->html, buf_str(&p->utf8), &p->text);
    if (!r)
        take_text(p, buf_str(&p->text));
    return r;
}

int preview_feed(struct preview *p, struct str piece, bool *ret_is_full)
{
    int r;

    piece = str_sub(piece, 0, PREVIEW_BYTES - (size_t)p->seen);
    p->seen += piece.len;
    buf_clear(&p->decoded);
    buf_clear(&p->utf8);
    r = decoder_feed(&p->decoder, piece, &p->decoded);
    if (!r)
        r = charset_feed(p->charset, buf_str(&p->decoded), &p->utf8);
    if (!r)
        r = take_utf8(p);
    *ret_is_full = line_is_full(&p->own) || p->seen >= PREVIEW_BYTES;
    return r;
}

int preview_end(struct preview *p, struct buf *out)
{
    const struct line *l;
    int r;

    buf_clear(&p->decoded);
    buf_clear(&p->utf8);
    r = decoder_end(&p->decoder, &p->decoded);
    if (!r)
        r = charset_feed(p->charset, buf_str(&p->decoded), &p->utf8);
    if (!r && p->seen < PREVIEW_BYTES) /* else the last character was cut by us */
        r = charset_end(p->charset, &p->utf8);
    if (!r)
        r = take_utf8(p);
    l = p->own.len ? &p->own : &p->quoted;
    return r ? r : buf_add(out, l->bytes, l->len);
}
