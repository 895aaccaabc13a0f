/*
 * i;unicode-casemap: see fold.h. Each character is folded by itself (RFC 5051 2: title case, then full decomposition
 * without reordering), so texts can be folded in pieces.
 */
#include "shared/mime/fold.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unicase.h>
#include <uninorm.h>
#include <unistr.h>

#include "shared/mime/caseless.h"

#define FOLD_PIECE 16384 /* bytes folded at a time: what a search works on stays in the cache */
#define FOLD_DEPTH 8     /* decompositions of decompositions; Unicode has 3 */

/* Upper case of eight ASCII bytes at once: bit 5 goes where a byte is from 'a' to 'z'. */
static uint64_t upper_word(uint64_t w)
{
    uint64_t low = w & 0x7f7f7f7f7f7f7f7fu;
    uint64_t from_a = low + 0x1f1f1f1f1f1f1f1fu;   /* bit 7: >= 'a' */
    uint64_t beyond_z = low + 0x0505050505050505u; /* bit 7: > 'z' */

    return w ^ ((from_a & ~beyond_z & 0x8080808080808080u) >> 2);
}

/* Folds the ASCII run at the front; returns its length. The room is there. */
static size_t fold_ascii(struct str s, char *out)
{
    size_t n = 0;

    for (; n + 8 <= s.len; n += 8) {
        uint64_t word;

        memcpy(&word, s.ptr + n, 8);
        if (word & 0x8080808080808080u)
            break;
        word = upper_word(word);
        memcpy(out + n, &word, 8);
    }
    for (; n < s.len && (unsigned char)s.ptr[n] < 0x80; n++)
        out[n] = ascii_upper(s.ptr[n]);
    return n;
}

bool fold_is_nfc(struct str utf8)
{
    size_t len = 0;
    uint8_t *nfc;
    bool is_same;

    if (!utf8.len)
        return true;
    nfc = u8_normalize(UNINORM_NFC, (const uint8_t *)utf8.ptr, utf8.len, NULL, &len);
    is_same = nfc && len == utf8.len && memcmp(nfc, utf8.ptr, len) == 0;
    free(nfc);
    return is_same;
}

static int add_decomposed(ucs4_t c, unsigned depth, struct buf *out)
{
    ucs4_t parts[UC_DECOMPOSITION_MAX_LENGTH];
    int tag, count = depth < FOLD_DEPTH ? uc_decomposition(c, &tag, parts) : -1;
    int r = 0;

    if (count < 0) {
        uint8_t bytes[6];
        int len = u8_uctomb(bytes, c, sizeof(bytes));

        return len > 0 ? buf_add(out, bytes, (size_t)len) : 0;
    }
    for (int i = 0; i < count && !r; i++)
        r = add_decomposed(parts[i], depth + 1, out);
    return r;
}

int fold_text(struct str utf8, struct buf *out)
{
    size_t start = out->len;
    struct str s = utf8;
    int r = 0;

    while (s.len && !r) {
        size_t n, len;
        ucs4_t c;

        r = buf_reserve(out, s.len);
        if (r)
            break;
        n = fold_ascii(s, out->data + out->len);
        out->len += n;
        out->data[out->len] = '\0';
        s = str_sub(s, n, s.len);
        if (!s.len)
            break;
        len = utf8_sequence(str_sub(s, 0, 4));
        if (len && u8_mbtouc(&c, (const uint8_t *)s.ptr, len) > 0)
            r = add_decomposed(uc_totitle(c), 0, out);
        else
            r = buf_add_byte(out, s.ptr[0]); /* not UTF-8: as it is */
        s = str_sub(s, len ? len : 1, s.len);
    }
    if (r)
        buf_truncate(out, start);
    return r;
}

struct fold_search {
    struct buf needle;
    struct buf window; /* folded text that may still be the beginning of a match */
    char cut[4];       /* a character that the end of a piece has cut */
    size_t cut_len;
    bool is_found;
};

int fold_search_new(struct str utf8_needle, struct fold_search **ret)
{
    struct fold_search *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return -ENOMEM;
    s->needle = BUF_INIT(SIZE_MAX / 2);
    s->window = BUF_INIT(SIZE_MAX / 2);
    r = fold_text(utf8_needle, &s->needle);
    if (r) {
        fold_search_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

void fold_search_free(struct fold_search *s)
{
    if (!s)
        return;
    buf_finish(&s->needle);
    buf_finish(&s->window);
    free(s);
}

void fold_search_reset(struct fold_search *s)
{
    buf_clear(&s->window);
    s->cut_len = 0;
    s->is_found = false;
}

/* How many bytes at the end of `s` are the beginning of a character that is not complete. */
static size_t cut_length(struct str s)
{
    for (size_t n = 1; n <= 3 && n <= s.len; n++) {
        unsigned char c = (unsigned char)s.ptr[s.len - n];

        if ((c & 0xc0) == 0x80)
            continue;
        return (c >= 0xc2 && n < 2) || (c >= 0xe0 && n < 3) || (c >= 0xf0 && c < 0xf5 && n < 4) ? n : 0;
    }
    return 0;
}

/* Adds to the window, and looks there. */
static int look_at_window(struct fold_search *s, struct str utf8)
{
    size_t keep = s->needle.len - 1;
    int r = fold_text(utf8, &s->window);

    if (r)
        return r;
    s->is_found = s->window.len > keep && memmem(s->window.data, s->window.len, s->needle.data, s->needle.len);
    if (s->window.len > keep)
        buf_consume(&s->window, s->window.len - keep);
    return 0;
}

static int look_at(struct fold_search *s, struct str utf8)
{
    size_t keep = s->needle.len - 1;
    int r;

    if (utf8.len < 2 * keep || caseless_may_contain(utf8, buf_str(&s->needle)))
        return look_at_window(s, utf8);
    /* Then only what came before can have the beginning of a match, and only what comes next can end one. */
    r = look_at_window(s, str_sub(utf8, 0, keep));
    if (r || s->is_found)
        return r;
    buf_clear(&s->window);
    return fold_text(str_sub(utf8, utf8.len - keep, utf8.len), &s->window);
}

/* Completes the character that the last piece has cut with bytes from the front of *piece. */
static int complete_cut(struct fold_search *s, struct str *piece)
{
    size_t len;

    while (s->cut_len && s->cut_len < sizeof(s->cut) && piece->len && ((unsigned char)piece->ptr[0] & 0xc0) == 0x80 &&
           cut_length((struct str){s->cut, s->cut_len})) {
        s->cut[s->cut_len++] = piece->ptr[0];
        *piece = str_sub(*piece, 1, piece->len);
    }
    if (!s->cut_len || (!piece->len && cut_length((struct str){s->cut, s->cut_len})))
        return 0;
    len = s->cut_len;
    s->cut_len = 0;
    return look_at(s, (struct str){s->cut, len});
}

int fold_search_feed(struct fold_search *s, struct str utf8, bool *ret_is_found)
{
    int r = 0;

    s->is_found |= s->needle.len == 0;
    if (!s->is_found)
        r = complete_cut(s, &utf8);
    while (!r && utf8.len && !s->is_found) {
        struct str piece = str_sub(utf8, 0, FOLD_PIECE);

        utf8 = str_sub(utf8, piece.len, utf8.len);
        s->cut_len = cut_length(piece);
        piece.len -= s->cut_len;
        memcpy(s->cut, piece.ptr + piece.len, s->cut_len);
        r = look_at(s, piece);
        if (!r && !s->is_found)
            r = complete_cut(s, &utf8);
    }
    if (!r)
        *ret_is_found = s->is_found;
    return r;
}

int fold_search_end(struct fold_search *s, bool *ret_is_found)
{
    size_t len = s->cut_len;
    int r;

    s->cut_len = 0;
    s->is_found |= s->needle.len == 0;
    r = s->is_found || !len ? 0 : look_at(s, (struct str){s->cut, len});
    if (!r)
        *ret_is_found = s->is_found;
    return r;
}

int fold_search_text(struct fold_search *s, struct str utf8, bool *ret_is_found)
{
    int r;

    fold_search_reset(s);
    if (utf8.len > FOLD_PIECE) {
        r = fold_search_feed(s, utf8, ret_is_found);
        return r || *ret_is_found ? r : fold_search_end(s, ret_is_found);
    }
    /* In one piece nothing is cut but the end, which folding takes as it is. */
    r = fold_text(utf8, &s->window);
    if (r)
        return r;
    s->is_found = s->needle.len == 0 || (s->window.len >= s->needle.len &&
                                         memmem(s->window.data, s->window.len, s->needle.data, s->needle.len));
    *ret_is_found = s->is_found;
    return 0;
}
