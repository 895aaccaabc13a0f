/*
 * Encoded words: see rfc2047.h.
 */
#include "shared/mime/rfc2047.h"

#include <errno.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/mime/charset.h"
#include "shared/mime/decode.h"
#include "shared/mime/header.h"

#define WORD_READ   8192 /* longest word that is read: the end of one is not looked for in vain further than that */
#define CHARSET_MAX 64
#define ENCODED_SIZE                                                                                                   \
    45 /* bytes of text in one word that we write: 60 letters and 12 around them are within RFC 2047 2's 75 */

struct word {
    struct str charset;
    bool is_base64;
    struct str text;
    size_t len; /* of the whole word */
};

/* Is there "=?charset*language?encoding?text?=" at the front? */
static bool word_parse(struct str s, struct word *ret)
{
    struct str rest = str_sub(s, 2, s.len), charset, encoding, text;
    ptrdiff_t end;

    if (!str_starts(s, STR("=?")) || !str_cut(&rest, '?', &charset) || !str_cut(&rest, '?', &encoding))
        return false;
    if (encoding.len != 1 || !charset.len || charset.len > CHARSET_MAX)
        return false;
    end = str_find(str_sub(rest, 0, WORD_READ), STR("?="));
    if (end < 0)
        return false;
    text = str_sub(rest, 0, (size_t)end);
    /* "=?utf-8?Q?=41?=" : the first ?= may belong to the text's first character. */
    if (!text.len && rest.len > 2 && str_starts(rest, STR("?=")))
        text.len = 0;
    if (str_chr(charset, ' ') >= 0 || str_chr(text, '?') >= 0)
        return false;
    (void)str_cut(&charset, '*', &ret->charset); /* RFC 2231 5: the language behind the star is not needed */
    ret->is_base64 = ascii_lower(encoding.ptr[0]) == 'b';
    ret->text = text;
    ret->len = (size_t)(text.ptr + text.len + 2 - s.ptr);
    return ret->is_base64 || ascii_lower(encoding.ptr[0]) == 'q';
}

static int hex_value(char c)
{
    c = ascii_lower(c);
    return ascii_is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 2047 4.2. */
static int decode_q(struct str s, struct buf *out)
{
    int r = 0;

    for (size_t i = 0; i < s.len && !r; i++) {
        int high = s.ptr[i] == '=' && i + 2 < s.len ? hex_value(s.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_value(s.ptr[i + 2]) : -1;

        if (low >= 0) {
            r = buf_add_byte(out, (char)(high * 16 + low));
            i += 2;
        } else {
            r = buf_add_byte(out, s.ptr[i] == '_' ? ' ' : s.ptr[i]);
        }
    }
    return r;
}

static int decode_text(const struct word *w, struct buf *out)
{
    struct decoder d;
    int r;

    if (!w->is_base64)
        return decode_q(w->text, out);
    decoder_init(&d, MIME_ENCODING_BASE64);
    r = decoder_feed(&d, w->text, out);
    if (!r)
        r = decoder_end(&d, out);
    decoder_finish(&d);
    return r;
}

/* What a decoded word must not bring into one line: line ends and NULs become blanks. */
static void make_one_line(struct buf *out, size_t from)
{
    for (size_t i = from; i < out->len; i++) {
        if (out->data[i] == '\r' || out->data[i] == '\n' || out->data[i] == '\0')
            out->data[i] = ' ';
    }
}

static size_t blanks_length(struct str s)
{
    size_t n = 0;

    while (n < s.len && (s.ptr[n] == ' ' || s.ptr[n] == '\t'))
        n++;
    return n;
}

/* Decodes the word at the front and all that follow it with only blanks between, of the same charset: one text, since
 * senders split characters. *ret_used: bytes of `s` they take. */
static int decode_words(struct str s, struct buf *bytes, struct buf *out, size_t *ret_used)
{
    struct word first, w;
    size_t used = 0, start = out->len, blanks = 0;
    int r = 0;

    (void)word_parse(s, &first);
    buf_clear(bytes);
    while (!r && word_parse(str_sub(s, used + blanks, s.len), &w) && (!used || str_ieq(w.charset, first.charset))) {
        r = decode_text(&w, bytes);
        used += blanks + w.len;
        blanks = blanks_length(str_sub(s, used, s.len));
    }
    if (!r)
        r = charset_to_utf8(first.charset, buf_str(bytes), false, out);
    make_one_line(out, start);
    *ret_used = used;
    return r;
}

/* Length of the text up to the next "=?". */
static size_t plain_length(struct str s)
{
    ptrdiff_t at = s.len > 1 ? str_find(str_sub(s, 1, s.len), STR("=?")) : -1;

    return at < 0 ? s.len : (size_t)at + 1;
}

/* What is no encoded word: most often ASCII, sometimes 8-bit text of a charset that nobody tells. */
static int add_plain(struct str s, struct buf *out)
{
    return str_is_ascii(s) ? buf_add_str(out, s) : charset_to_utf8(STR(""), s, false, out);
}

static int decode_line(struct str s, struct buf *bytes, struct buf *out)
{
    bool is_after_word = false;
    struct word w;
    int r = 0;

    while (s.len && !r) {
        size_t blanks = blanks_length(s), n;

        /* RFC 2047 6.2: blanks between adjacent words, also of different charsets, do not count. */
        if (is_after_word && blanks && word_parse(str_sub(s, blanks, s.len), &w))
            s = str_sub(s, blanks, s.len);
        is_after_word = word_parse(s, &w);
        if (is_after_word) {
            r = decode_words(s, bytes, out, &n);
        } else {
            n = plain_length(s);
            r = add_plain(str_sub(s, 0, n), out);
        }
        s = str_sub(s, n, s.len);
    }
    return r;
}

static int decode_body(struct str body, struct buf *out)
{
    _cleanup_buf_ struct buf line = BUF_INIT(LIMIT_HEADER_FIELD);
    _cleanup_buf_ struct buf bytes = BUF_INIT(LIMIT_HEADER_FIELD);
    size_t start = out->len;
    int r = header_unfold(body, &line);

    if (!r && !memmem(buf_cstr(&line), line.len, "=?", 2))
        r = add_plain(buf_str(&line), out);
    else if (!r)
        r = decode_line(buf_str(&line), &bytes, out);
    if (r)
        buf_truncate(out, start);
    return r;
}

/* Is there no "=?"? Most texts have not even the first of the two: that is looked for without the other. */
static bool is_without_words(struct str s)
{
    ptrdiff_t at;

    while ((at = str_chr(s, '=')) >= 0) {
        s = str_sub(s, (size_t)at + 1, s.len);
        if (s.len && s.ptr[0] == '?')
            return false;
    }
    return true;
}

bool rfc2047_is_plain(struct str body, struct str *ret_text)
{
    struct str trimmed = str_trim(body);

    if (body.len > LIMIT_HEADER_FIELD || !str_is_printable(trimmed) || !is_without_words(trimmed))
        return false;
    *ret_text = trimmed;
    return true;
}

int rfc2047_decode(struct str body, struct buf *out)
{
    struct str text;

    return rfc2047_is_plain(body, &text) ? buf_add_str(out, text) : decode_body(body, out);
}

int rfc2047_encode(struct str text, struct buf *out)
{
    bool is_plain = str_find(text, STR("=?")) < 0;
    size_t start = out->len;
    int r = 0;

    for (size_t i = 0; i < text.len && is_plain; i++)
        is_plain = (unsigned char)text.ptr[i] >= ' ' && (unsigned char)text.ptr[i] <= '~';
    if (is_plain)
        return buf_add_str(out, text);
    while (text.len && !r) {
        size_t n = 0, len;

        /* No character is split over two words (RFC 2047 5). */
        while ((len = utf8_sequence(str_sub(text, n, 4))) != 0 && n + len <= ENCODED_SIZE)
            n += len;
        if (!n)
            n = 1;
        r = buf_add_str(out, out->len > start ? STR(" =?utf-8?B?") : STR("=?utf-8?B?"));
        if (!r)
            r = base64_encode(str_sub(text, 0, n), out);
        if (!r)
            r = buf_add(out, "?=", 2);
        text = str_sub(text, n, text.len);
    }
    if (r)
        buf_truncate(out, start);
    return r;
}
