/*
 * Interop fields: recognised, parsed, rendered, quoted. Part of the library: no process of its own.
 */
#include "shared/mbox/interop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "shared/base/macros.h"
#include "shared/mbox/mbox.h"

#define PAD_LINE 512 /* one X-Pennypost-Pad line: well under the 998 of RFC 5322 2.1.1 */
#define PAD_KEEP 960 /* what the X-Keywords line pads by itself */

/* All of these looked through take less than INTEROP_WINDOW bytes. */
#define RUN_MAX    500 /* '>' before From_ */
#define DEPTH_MAX  40  /* X-Original- before a name */
#define BLANKS_MAX 16  /* between a name and its colon */
#define MARKER_MAX 160 /* numbers of 64 bits */

static const struct {
    struct str name;
    enum interop_field field;
} interop_names[] = {
    {STR("Status"), INTEROP_STATUS},
    {STR("X-Status"), INTEROP_X_STATUS},
    {STR("X-Keywords"), INTEROP_X_KEYWORDS},
    {STR("X-UID"), INTEROP_X_UID},
    {STR("X-IMAP"), INTEROP_X_IMAP},
    {STR("X-IMAPbase"), INTEROP_X_IMAPBASE},
    {STR("X-Pennypost"), INTEROP_MARKER},
    {STR("X-Pennypost-Pad"), INTEROP_PAD},
    {STR("Content-Length"), INTEROP_CONTENT_LENGTH},
    {STR("Lines"), INTEROP_LINES},
};

static const struct str interop_original = STR("X-Original-");

/* A field name may be followed by a few blanks before its colon (RFC 5322 4.5.8, obs-optional). */
static bool is_named(struct str line, struct str name)
{
    size_t i = name.len;

    if (!str_istarts(line, name))
        return false;
    while (i < line.len && i < name.len + BLANKS_MAX && (line.ptr[i] == ' ' || line.ptr[i] == '\t'))
        i++;
    return i < line.len && line.ptr[i] == ':';
}

enum interop_field interop_field(struct str line)
{
    if (line.len == 0 || !interop_may_begin(line.ptr[0]))
        return INTEROP_NONE;
    for (size_t i = 0; i < ARRAY_SIZE(interop_names); i++) {
        struct str name = interop_names[i].name;

        if (ascii_lower(name.ptr[0]) == ascii_lower(line.ptr[0]) && is_named(line, name))
            return interop_names[i].field;
    }
    return INTEROP_NONE;
}

bool interop_is_hidden(enum interop_field field)
{
    return field != INTEROP_NONE;
}

struct str interop_value(struct str line)
{
    ptrdiff_t colon = str_chr(line, ':');

    return colon < 0 ? STR_NULL : str_trim(str_sub(line, (size_t)colon + 1, line.len));
}

/*
 * The lines that are quoted. A run longer than can be looked through counts as one of them whatever follows: so a
 * quoted line is always again one that would be quoted, and unquoting gives back exactly what was there.
 */
static bool is_from_like(struct str line)
{
    size_t i = 0;

    while (i < line.len && i <= RUN_MAX && line.ptr[i] == '>')
        i++;
    return i > RUN_MAX || str_starts(str_sub(line, i, 5), STR("From "));
}

static bool is_interop_like(struct str line)
{
    enum interop_field field;
    size_t depth = 0;

    while (depth <= DEPTH_MAX && str_istarts(line, interop_original)) {
        line = str_sub(line, interop_original.len, line.len);
        depth++;
    }
    field = interop_field(line);
    return depth > DEPTH_MAX || field != INTEROP_NONE;
}

struct str interop_quote(struct str line, bool is_header)
{
    if (line.len == 0)
        return STR_NULL;
    if ((line.ptr[0] == '>' || line.ptr[0] == 'F') && is_from_like(line))
        return STR(">");
    return is_header && is_interop_like(line) ? interop_original : STR_NULL;
}

size_t interop_quoted(struct str line, bool is_header)
{
    if (line.len == 0)
        return 0;
    if (line.ptr[0] == '>')
        return is_from_like(str_sub(line, 1, line.len)) ? 1 : 0;
    if (is_header && str_istarts(line, interop_original))
        return is_interop_like(str_sub(line, interop_original.len, line.len)) ? interop_original.len : 0;
    return 0;
}

static bool parse_hex(struct str word, uint64_t *ret)
{
    uint64_t n = 0;

    if (word.len != 16)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        char c = ascii_lower(word.ptr[i]);

        if (!ascii_is_digit(c) && (c < 'a' || c > 'f'))
            return false;
        n = n << 4 | (uint64_t)(ascii_is_digit(c) ? c - '0' : c - 'a' + 10);
    }
    *ret = n;
    return true;
}

static bool parse_zone(struct str word, int16_t *ret)
{
    uint32_t n;

    if (word.len != 5 || (word.ptr[0] != '+' && word.ptr[0] != '-') || str_to_u32(str_sub(word, 1, 4), &n) < 0)
        return false;
    n = n / 100 * 60 + n % 100;
    *ret = (int16_t)(word.ptr[0] == '-' ? -(int)n : (int)n);
    return true;
}

bool interop_marker_parse(struct str line, struct interop_marker *ret)
{
    struct interop_marker m = {0};
    struct str rest, word;
    uint32_t form;
    uint64_t savedate;

    if (interop_field(line) != INTEROP_MARKER)
        return false;
    rest = interop_value(line);
    if (!str_word(&rest, &word) || str_to_u32(word, &form) < 0 || form > INTEROP_VOID)
        return false;
    m.form = (enum interop_form)form;
    if (!str_word(&rest, &word) || str_to_u64(word, &m.offset) < 0)
        return false;
    if (!str_word(&rest, &word) || str_to_u64(word, &m.length) < 0)
        return false;
    if (!str_word(&rest, &word) || str_to_u64(word, &m.end) < 0)
        return false;
    if (!str_word(&rest, &word) || !parse_hex(word, &m.sum))
        return false;
    if (!str_word(&rest, &word) || str_to_u64(word, &savedate) < 0 || savedate > INT64_MAX)
        return false;
    m.savedate = (int64_t)savedate;
    if (!str_word(&rest, &word) || !parse_zone(word, &m.zone))
        return false;
    m.begin = m.offset;
    if (str_word(&rest, &word) && (str_to_u64(word, &m.begin) < 0 || m.begin > m.offset))
        return false;
    *ret = m;
    return true;
}

uint32_t interop_flags(enum interop_field field, struct str value)
{
    uint32_t flags = 0;

    for (size_t i = 0; i < value.len; i++) {
        switch (value.ptr[i]) {
        case 'R':
            flags |= field == INTEROP_STATUS ? MBOX_SEEN : 0;
            break;
        case 'O':
            flags |= field == INTEROP_STATUS ? INTEROP_OLD : 0;
            break;
        case 'A':
            flags |= MBOX_ANSWERED;
            break;
        case 'F':
            flags |= MBOX_FLAGGED;
            break;
        case 'D':
            flags |= MBOX_DELETED;
            break;
        case 'T':
            flags |= MBOX_DRAFT;
            break;
        default:
            break;
        }
    }
    return flags;
}

static size_t eol_length(const struct interop_block *block)
{
    return block->marker.form == INTEROP_OWN_CRLF ? 2 : 1;
}

static int add_eol(const struct interop_block *block, struct buf *out)
{
    return buf_add(out, block->marker.form == INTEROP_OWN_CRLF ? "\r\n" : "\n", eol_length(block));
}

static int add_blanks(struct buf *out, size_t n)
{
    static const char blanks[] = "                                                                ";
    int r = 0;

    for (size_t some; r == 0 && n > 0; n -= some) {
        some = n < sizeof(blanks) - 1 ? n : sizeof(blanks) - 1;
        r = buf_add(out, blanks, some);
    }
    return r;
}

/* Text, blanks up to `width`, line end. */
static int add_padded(const struct interop_block *block, struct buf *out, struct str text, size_t width)
{
    int r = buf_add_str(out, text);

    if (r == 0 && text.len < width)
        r = add_blanks(out, width - text.len);
    return r == 0 ? add_eol(block, out) : r;
}

/* A blank and a number with `width` digits at least, backwards from `end`: printf() would be a good part of what it
 * takes to deliver a message. Returns where it begins. */
static char *put_number(char *end, uint64_t n, unsigned base, unsigned width)
{
    char *p = end;

    while (n > 0 || end - p < (ptrdiff_t)width) {
        *--p = "0123456789abcdef"[n % base];
        n /= base;
    }
    *--p = ' ';
    return p;
}

static int add_marker(const struct interop_block *block, struct buf *out)
{
    const struct interop_marker *m = &block->marker;
    unsigned zone = (unsigned)(m->zone < 0 ? -m->zone : m->zone);
    char text[MARKER_MAX], *end = text + sizeof(text), *p = end;
    int r = buf_add_str(out, STR("X-Pennypost:"));

    if (m->begin != m->offset)
        p = put_number(p, m->begin, 10, 12);
    p = put_number(p, zone / 60 * 100 + zone % 60, 10, 4);
    *p = m->zone < 0 ? '-' : '+';
    *--p = ' ';
    p = put_number(p, (uint64_t)(m->savedate < 0 ? 0 : m->savedate), 10, 10);
    p = put_number(p, m->sum, 16, 16);
    p = put_number(p, m->end, 10, 12);
    p = put_number(p, m->length, 10, 12);
    p = put_number(p, m->offset, 10, 12);
    p = put_number(p, (uint64_t)m->form, 10, 1);
    if (r == 0)
        r = buf_add(out, p, (size_t)(end - p));
    return r == 0 ? add_eol(block, out) : r;
}

static int add_uid(const struct interop_block *block, struct buf *out)
{
    char text[24];
    int n;

    if (block->uid == 0) /* same width, so that the UID can be written later */
        return add_padded(block, out, STR("X-Pennypost-Pad:"), 17);
    n = snprintf(text, sizeof(text), "X-UID: %" PRIu32, block->uid);
    return add_padded(block, out, (struct str){text, (size_t)n}, 17);
}

static int add_status(const struct interop_block *block, struct buf *out)
{
    char status[16] = "Status: ";
    char x_status[16] = "X-Status: ";
    size_t n = strlen(status), x = strlen(x_status);
    int r;

    if (block->flags & MBOX_SEEN)
        status[n++] = 'R';
    if (block->flags & INTEROP_OLD)
        status[n++] = 'O';
    if (block->flags & MBOX_DELETED)
        x_status[x++] = 'D';
    if (block->flags & MBOX_FLAGGED)
        x_status[x++] = 'F';
    if (block->flags & MBOX_ANSWERED)
        x_status[x++] = 'A';
    if (block->flags & MBOX_DRAFT)
        x_status[x++] = 'T';
    r = add_padded(block, out, (struct str){status, n}, 10);
    return r == 0 ? add_padded(block, out, (struct str){x_status, x}, 14) : r;
}

static int add_base(const struct interop_block *block, struct buf *out)
{
    int r;

    if (block->uidvalidity == 0)
        return 0;
    r = buf_printf(out, "X-IMAPbase: %010" PRIu32 " %010" PRIu32, block->uidvalidity, block->uidlast);
    if (r == 0 && block->base_keywords.len > 0)
        r = buf_add_byte(out, ' ');
    if (r == 0)
        r = buf_add_str(out, block->base_keywords);
    return r == 0 ? add_eol(block, out) : r;
}

/* Everything but the padding. */
static int add_fields(const struct interop_block *block, struct buf *out)
{
    int r = add_marker(block, out);

    if (r == 0) /* in front of X-UID: Dovecot believes that only when it has read what the last one is */
        r = add_base(block, out);
    if (r == 0)
        r = add_uid(block, out);
    if (r == 0)
        r = add_status(block, out);
    if (r == 0)
        r = buf_add_str(out, STR("X-Keywords: "));
    return r == 0 ? buf_add_str(out, block->keywords) : r;
}

int interop_block_write(const struct interop_block *block, size_t length, struct buf *out)
{
    size_t start = out->len;
    size_t eol = eol_length(block);
    size_t pads = 0, rest;
    int r = add_fields(block, out);

    if (r == 0 && out->len - start + eol > length)
        r = -ENOBUFS;
    if (r == 0) {
        rest = length - (out->len - start) - eol;
        if (rest > PAD_KEEP) {
            pads = (rest - PAD_KEEP + PAD_LINE - 1) / PAD_LINE;
            rest -= pads * PAD_LINE;
        }
        r = add_blanks(out, rest);
    }
    if (r == 0)
        r = add_eol(block, out);
    while (r == 0 && pads-- > 0)
        r = add_padded(block, out, STR("X-Pennypost-Pad:"), PAD_LINE - eol);
    if (r < 0)
        buf_truncate(out, start);
    return r;
}

size_t interop_block_min(const struct interop_block *block)
{
    _cleanup_buf_ struct buf out = BUF_INIT(1u << 20);

    return add_fields(block, &out) < 0 ? SIZE_MAX : out.len + eol_length(block);
}
