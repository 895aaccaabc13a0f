/*
 * Field bodies and texts: addresses, dates, parameters, encoded words, subjects, charsets, transfer encodings, modified
 * UTF-7. The first byte chooses among charsets and the size of pieces; what must hold for any bytes is checked.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "shared/base/limits.h"
#include "shared/mime/addr.h"
#include "shared/mime/charset.h"
#include "shared/mime/date.h"
#include "shared/mime/decode.h"
#include "shared/mime/downgrade.h"
#include "shared/mime/envelope.h"
#include "shared/mime/fold.h"
#include "shared/mime/header.h"
#include "shared/mime/rfc2047.h"
#include "shared/mime/search.h"
#include "shared/mime/subject.h"
#include "shared/mime/utf7.h"
#include "tests/unit/imap_syntax.h"

#define MAX (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_so)
{
    if (!is_so)
        abort();
}

static void field_bodies(struct str s)
{
    _cleanup_buf_ struct buf line = BUF_INIT(MAX), decoded = BUF_INIT(MAX), base = BUF_INIT(MAX), text = BUF_INIT(MAX);
    _cleanup_buf_ struct buf encoded = BUF_INIT(MAX), header = BUF_INIT(MAX), envelope = BUF_INIT(MAX);
    _cleanup_buf_ struct buf downgraded = BUF_INIT(MAX);
    _cleanup_addr_list_ struct addr_list list, first;
    struct mime_params params = {0};
    struct str value;
    int16_t offset = 0;
    int64_t time = 0;

    addr_list_init(&list);
    addr_list_init(&first);
    must(addr_parse(s, &list) == 0 && list.count <= LIMIT_ADDRESSES + 1);
    must(addr_parse_first(s, &first) == 0 && (first.count > 0) == (list.count > 0));
    must(!first.count || str_eq(first.items[0].mailbox, list.items[0].mailbox));
    for (size_t i = 0; i < list.count; i++)
        must(addr_print(&list.items[i], &text) == 0);
    buf_clear(&text);
    if (date_parse(s, &time, &offset) == 0) {
        must(date_print_imap(time, offset, &text) == 0 && text.len == 26);
        buf_clear(&text);
    }
    must(mime_params_parse(s, &text, &value, &params) == 0);
    free(params.items);
    must(header_unfold(s, &line) == 0 && str_chr(buf_str(&line), '\n') < 0 && !str_has_nul(buf_str(&line)));
    must(rfc2047_decode(s, &decoded) == 0 && utf8_valid(buf_str(&decoded)) && str_chr(buf_str(&decoded), '\n') < 0);
    must(rfc2047_encode(buf_str(&decoded), &encoded) == 0);
    must(subject_base(s, &base, NULL) == 0 && utf8_valid(buf_str(&base)));
    must(buf_add(&header, "From:", 5) == 0 && buf_add_str(&header, s) == 0);
    must(downgrade_header(s, &downgraded) == 0 && downgrade_header(buf_str(&header), &downgraded) == 0);
    for (size_t i = 0; i < downgraded.len; i++)
        must((unsigned char)downgraded.data[i] < 0x80);
    must(envelope_print(buf_str(&header), false, &envelope) == 0 && is_envelope(buf_str(&envelope), false));
}

static void whole_and_in_pieces(struct str s, size_t piece, const char *name)
{
    _cleanup_buf_ struct buf whole = BUF_INIT(MAX), pieces = BUF_INIT(MAX);
    struct charset *c;

    must(charset_new(str_from(name), &c, NULL) == 0);
    must(charset_feed(c, s, &whole) == 0 && charset_end(c, &whole) == 0 && utf8_valid(buf_str(&whole)));
    charset_reset(c);
    for (size_t at = 0; at < s.len; at += piece)
        must(charset_feed(c, str_sub(s, at, piece), &pieces) == 0);
    must(charset_end(c, &pieces) == 0 && str_eq(buf_str(&whole), buf_str(&pieces)));
    charset_free(c);
}

static void encodings(struct str s, size_t piece)
{
    for (int kind = MIME_ENCODING_NONE; kind <= MIME_ENCODING_UNKNOWN; kind++) {
        _cleanup_buf_ struct buf whole = BUF_INIT(MAX), pieces = BUF_INIT(MAX);
        struct decoder d;

        decoder_init(&d, (enum mime_encoding)kind);
        must(decoder_feed(&d, s, &whole) == 0 && decoder_end(&d, &whole) == 0);
        decoder_reset(&d);
        for (size_t at = 0; at < s.len; at += piece)
            must(decoder_feed(&d, str_sub(s, at, piece), &pieces) == 0);
        must(decoder_end(&d, &pieces) == 0 && str_eq(buf_str(&whole), buf_str(&pieces)));
        decoder_finish(&d);
    }
    for (int kind = MIME_ENCODING_QUOTED_PRINTABLE; kind <= MIME_ENCODING_BASE64; kind++) {
        _cleanup_buf_ struct buf encoded = BUF_INIT(MAX), decoded = BUF_INIT(MAX);
        struct decoder d;
        struct encoder e;

        encoder_init(&e, (enum mime_encoding)kind, piece & 1);
        must(encoder_feed(&e, s, &encoded) == 0 && encoder_end(&e, &encoded) == 0);
        decoder_init(&d, (enum mime_encoding)kind);
        must(decoder_feed(&d, buf_str(&encoded), &decoded) == 0 && decoder_end(&d, &decoded) == 0);
        must(str_eq(buf_str(&decoded), s));
        decoder_finish(&d);
    }
}

static void mailbox_names(struct str s)
{
    _cleanup_buf_ struct buf utf8 = BUF_INIT(MAX), back = BUF_INIT(MAX), utf7 = BUF_INIT(MAX), again = BUF_INIT(MAX);

    if (utf7_decode(s, &utf8) == 0)
        must(utf8_valid(buf_str(&utf8)) && utf7_encode(buf_str(&utf8), &back) == 0 && str_eq(buf_str(&back), s));
    if (utf7_encode(s, &utf7) == 0)
        must(utf7_decode(buf_str(&utf7), &again) == 0 && str_eq(buf_str(&again), s));
}

static void searches(struct str s, size_t piece)
{
    struct str needle = str_sub(s, s.len / 3, 5);
    struct fold_search *f;
    struct mime_search *m;
    bool is_found = false, is_in_whole = false;

    must(fold_search_new(needle, &f) == 0);
    for (size_t at = 0; at < s.len; at += piece)
        must(fold_search_feed(f, str_sub(s, at, piece), &is_found) == 0);
    must(fold_search_end(f, &is_found) == 0 && fold_search_text(f, s, &is_in_whole) == 0);
    must(is_found == is_in_whole || !utf8_valid(s));
    must(is_found || !utf8_valid(s) || !utf8_valid(needle) || (needle.len == 0 && !s.len));
    fold_search_free(f);
    must(mime_search_new(needle, piece & 1, &m) == 0);
    must(mime_search_feed(m, s, &is_found) == 0 && mime_search_end(m, &is_found) == 0);
    mime_search_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"utf-8",       "us-ascii", "iso-8859-1", "x-unknown",
                                        "iso-2022-jp", "gb18030",  "utf-16",     "big5"};
    struct str s = {(const char *)data + 1, size - 1};
    size_t piece;

    if (!size || size > 65536)
        return 0;
    piece = data[0] / 8 % 16 + 1;
    field_bodies(s);
    whole_and_in_pieces(s, piece, names[data[0] % 8]);
    encodings(s, piece);
    mailbox_names(s);
    searches(s, piece);
    return 0;
}
