/*
 * MIME structure, the push parser: see structure.h. It works line by line, but looks at no more of a body line than its
 * first byte unless that is a dash and a boundary is awaited; the rest is a search for line ends, many bytes at a time.
 */
#include "shared/mime/structure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/lanes.h"
#include "shared/base/limits.h"
#include "shared/mime/arena.h"
#include "shared/mime/header.h"
#include "shared/mime/part.h"

enum line_state {
    LINE_START, /* nothing of the line has come */
    LINE_KEEP,  /* it may be a delimiter: what has come is in p->line */
    LINE_PASS,  /* it is none */
};

enum place {
    PLACE_HEADER,
    PLACE_BODY,
    PLACE_DELIMITER, /* in the rest of a delimiter line: nothing is collected */
};

/* A part that has begun and not ended. */
struct level {
    struct mime_part *part;
    struct mime_part *last_child;
    struct str boundary; /* null: none is awaited */
    uint64_t lines;      /* line ends before its body */
};

struct mime_parser {
    struct mime_arena *arena;
    struct mime_part *root;
    uint32_t part_count;

    struct level levels[LIMIT_MIME_DEPTH];
    unsigned depth;      /* levels in use */
    unsigned boundaries; /* of them await a boundary */

    uint64_t offset; /* bytes consumed */
    uint64_t lines;  /* line ends consumed */
    enum place place;
    enum line_state line_state;
    unsigned last_end;    /* length of the line end before this line: 0 to 2 */
    bool is_cr;           /* the last byte was a CR */
    struct buf line;      /* of LINE_KEEP */
    uint64_t line_offset; /* where it began */
    struct header_collector header;
    struct mime_sink sink; /* functions NULL: none */
};

#define LINE_MAX_KEPT (LIMIT_BOUNDARY + 64) /* with the dashes and trailing blanks */
#define BLOCK         (4 * LANES)           /* bytes of a body looked at together */

int mime_parser_new(struct mime_parser **ret)
{
    struct mime_parser *p = calloc(1, sizeof(*p));

    if (!p)
        return -ENOMEM;
    p->line = BUF_INIT(LINE_MAX_KEPT);
    header_collector_init(&p->header);
    *ret = p;
    return 0;
}

void mime_parser_free(struct mime_parser *p)
{
    if (!p)
        return;
    mime_arena_free(p->arena);
    buf_finish(&p->line);
    header_collector_finish(&p->header);
    free(p);
}

void mime_parser_set_sink(struct mime_parser *p, const struct mime_sink *sink)
{
    p->sink = *sink;
}

static struct level *top(struct mime_parser *p)
{
    return &p->levels[p->depth - 1];
}

/* Begins a part whose header starts at p->offset, below the top level. The caller knows that a level is free. */
static int open_part(struct mime_parser *p)
{
    struct mime_part *part = mime_arena_alloc(p->arena, sizeof(*part));
    struct level *parent = p->depth ? top(p) : NULL;

    if (!part)
        return -ENOMEM;
    part->header = p->offset;
    part->number = 1;
    if (parent) {
        mime_part_link(parent->part, parent->last_child, part);
        parent->last_child = part;
    } else {
        p->root = part;
    }
    p->part_count++;
    p->levels[p->depth++] = (struct level){.part = part};
    p->place = PLACE_HEADER;
    header_collector_clear(&p->header);
    return 0;
}

/* The header of the top part is complete (or cut off): its body begins at p->offset. */
static int end_header(struct mime_parser *p)
{
    struct level *level = top(p);
    struct mime_part *part = level->part;
    int r = mime_part_fill(part, buf_str(&p->header.bytes), p->arena);

    if (!r && p->sink.header)
        r = p->sink.header(p->sink.context, part, buf_str(&p->header.bytes));
    if (r)
        return r;
    part->body = p->offset;
    level->lines = p->lines;
    p->place = PLACE_BODY;
    if (part->kind == MIME_MULTIPART && p->depth < LIMIT_MIME_DEPTH) {
        struct str boundary = mime_param_get(&part->params, STR("boundary"));

        /* RFC 2046 5.1.1: it does not end with blanks, and those behind a delimiter do not count. */
        while (boundary.len && (boundary.ptr[boundary.len - 1] == ' ' || boundary.ptr[boundary.len - 1] == '\t'))
            boundary.len--;
        if (boundary.len && boundary.len <= LIMIT_BOUNDARY) {
            level->boundary = boundary;
            p->boundaries++;
        }
    }
    if (part->kind == MIME_MESSAGE && part->encoding_kind == MIME_ENCODING_NONE && p->depth < LIMIT_MIME_DEPTH &&
        p->part_count < LIMIT_MIME_PARTS)
        return open_part(p);
    return 0;
}

/* Ends the top part at offset `end`, behind which `excluded` line ends do not belong to it. */
static int close_part(struct mime_parser *p, uint64_t end, uint64_t excluded)
{
    struct level *level = top(p);
    struct mime_part *part = level->part;
    bool is_empty = end <= part->body;

    part->end = is_empty ? part->body : end;
    part->lines = is_empty || p->lines < level->lines + excluded ? 0 : p->lines - level->lines - excluded;
    if (level->boundary.ptr)
        p->boundaries--;
    p->depth--;
    /* Whoever shows this part must have something to show: see structure.h. */
    if (part->kind != MIME_LEAF && !part->child)
        return mime_part_add_text_child(part, p->arena, &p->part_count);
    return 0;
}

/* ---- delimiters ---- */

enum delimiter { DELIMITER_NONE, DELIMITER_OPEN, DELIMITER_CLOSE };

/* Is the line "--boundary", perhaps "--" behind it, perhaps blanks and what follows them? */
static enum delimiter delimiter_kind(struct str line, struct str boundary)
{
    struct str rest;

    if (!boundary.ptr || line.len < boundary.len + 2 || line.ptr[0] != '-' || line.ptr[1] != '-' ||
        memcmp(line.ptr + 2, boundary.ptr, boundary.len) != 0)
        return DELIMITER_NONE;
    rest = str_sub(line, boundary.len + 2, line.len);
    if (!rest.len || rest.ptr[0] == ' ' || rest.ptr[0] == '\t' || rest.ptr[0] == '\r' || rest.ptr[0] == '\n')
        return DELIMITER_OPEN;
    return rest.len >= 2 && rest.ptr[0] == '-' && rest.ptr[1] == '-' ? DELIMITER_CLOSE : DELIMITER_NONE;
}

/* Which level the kept line delimits: the one with the longest boundary, the innermost of equals. 0: none. */
static unsigned find_delimiter(const struct mime_parser *p, enum delimiter *ret_kind)
{
    struct str line = buf_str(&p->line);
    unsigned found = 0;

    for (unsigned n = p->depth; n > 0; n--) {
        struct str boundary = p->levels[n - 1].boundary;
        enum delimiter kind = delimiter_kind(line, boundary);

        if (kind != DELIMITER_NONE && (!found || boundary.len > p->levels[found - 1].boundary.len)) {
            found = n;
            *ret_kind = kind;
        }
    }
    /* Too many parts: the last one takes the rest. */
    return found && *ret_kind == DELIMITER_OPEN && p->part_count >= LIMIT_MIME_PARTS ? 0 : found;
}

static int sink_body(struct mime_parser *p, struct str bytes)
{
    return p->sink.body ? p->sink.body(p->sink.context, top(p)->part, bytes) : 0;
}

/* Gives bytes of a header line that is no delimiter to the collector. */
static int add_header_bytes(struct mime_parser *p, struct str bytes)
{
    size_t used;

    return header_collect(&p->header, bytes, &used);
}

/* Ends the top part, and perhaps its parent, before the delimiter line: the line end before that belongs to it. A part
 * without body bytes keeps its header whole, unless its parent ends before that line end. */
static int close_before_line(struct mime_parser *p, unsigned outermost)
{
    struct mime_part *part = top(p)->part;
    uint64_t end = p->line_offset - p->last_end;

    if (part->body < p->line_offset)
        return close_part(p, end, 1);
    if (p->depth > outermost && part->parent->body < p->line_offset) {
        part->body = end;
        if (part->header > end)
            part->header = end;
    }
    return close_part(p, part->body, 0);
}

/* Ends all levels above `n` before the delimiter line. */
static int close_above(struct mime_parser *p, unsigned n)
{
    int r = 0;

    if (p->depth > n && p->place == PLACE_HEADER) {
        /* A part without an empty line: all of it is header. */
        uint64_t here = p->offset;

        p->offset = p->line_offset;
        while (!r && p->place == PLACE_HEADER)
            r = end_header(p);
        p->offset = here;
    }
    while (!r && p->depth > n)
        r = close_before_line(p, n + 1);
    return r;
}

/* The kept line is complete. Its bytes have been counted in p->offset. */
static int judge_line(struct mime_parser *p, bool is_final)
{
    enum delimiter kind = DELIMITER_NONE;
    unsigned n = find_delimiter(p, &kind);
    int r;

    if (!n) {
        p->line_state = LINE_PASS;
        return p->place == PLACE_HEADER ? add_header_bytes(p, buf_str(&p->line)) : sink_body(p, buf_str(&p->line));
    }
    r = close_above(p, n);
    if (r)
        return r;
    p->line_state = LINE_PASS;
    p->place = PLACE_BODY;
    if (kind == DELIMITER_CLOSE) {
        p->levels[n - 1].boundary = STR_NULL;
        p->boundaries--;
    } else if (!is_final) {
        p->place = PLACE_DELIMITER;
    }
    return 0;
}

/* ---- lines ---- */

/* A line end of the given length (CRLF 2, LF 1) has been consumed. */
static int end_line(struct mime_parser *p, unsigned length)
{
    p->lines++;
    p->last_end = length;
    p->line_state = LINE_START;
    if (p->place == PLACE_DELIMITER)
        return open_part(p);
    return 0;
}

/* Collects a possible delimiter line. Returns how many bytes of `s` were taken, or an error. */
static int keep_line(struct mime_parser *p, struct str s, size_t *ret_used)
{
    const char *nl = memchr(s.ptr, '\n', s.len);
    size_t n = nl ? (size_t)(nl - s.ptr) + 1 : s.len, room = LINE_MAX_KEPT - p->line.len;
    struct str kept = str_sub(s, 0, n < room ? n : room);
    bool is_whole = nl && kept.len == n;
    unsigned end_length = 1;
    int r = buf_add_str(&p->line, kept);

    if (r)
        return r;
    *ret_used = kept.len;
    p->offset += kept.len;
    if (!is_whole && p->line.len < LINE_MAX_KEPT &&
        (p->line.len < 2 || (p->line.data[0] == '-' && p->line.data[1] == '-')))
        return 0; /* more is needed */
    if (!is_whole) {
        p->line_state = LINE_PASS;
        p->is_cr = p->line.data[p->line.len - 1] == '\r';
        return p->place == PLACE_HEADER ? add_header_bytes(p, buf_str(&p->line)) : sink_body(p, buf_str(&p->line));
    }
    if (p->line.len > 1 && p->line.data[p->line.len - 2] == '\r')
        end_length = 2;
    p->is_cr = false;
    r = judge_line(p, false);
    return r ? r : end_line(p, end_length);
}

/* Consumes header bytes that begin no delimiter, at most to the end of the line. */
static int pass_header(struct mime_parser *p, struct str s, size_t *ret_used)
{
    const char *nl = memchr(s.ptr, '\n', s.len);
    struct str line = str_sub(s, 0, nl ? (size_t)(nl - s.ptr) + 1 : s.len);
    bool is_crlf = line.len > 1 ? line.ptr[line.len - 2] == '\r' : p->is_cr;
    int r = add_header_bytes(p, line);

    if (r)
        return r;
    *ret_used = line.len;
    p->offset += line.len;
    p->line_state = LINE_PASS;
    p->is_cr = line.ptr[line.len - 1] == '\r';
    if (!nl)
        return 0;
    r = end_line(p, is_crlf ? 2 : 1);
    return !r && p->header.is_whole ? end_header(p) : r;
}

/* The length of the whole blocks at the front in which there is no line end with a dash behind it; if none is sought,
 * of all that there are. Adds the line ends in them to *lines. */
static size_t blocks_without_dash(struct str s, bool is_sought, uint64_t *lines)
{
    const uint8_t *p = (const uint8_t *)s.ptr;
    lanes_bytes sought = lanes_splat(is_sought ? 0xff : 0);
    size_t n = 0;
    bool is_there = false;

    /* The byte behind a block is looked at too. */
    while (!is_there && s.len - n > BLOCK) {
        lanes_bytes counts = {0}; /* of what was compared: line ends in each lane, at most 255 */

        for (unsigned i = 0; i < 255 / (BLOCK / LANES) && s.len - n > BLOCK; i++, n += BLOCK) {
            lanes_bytes here = counts, dashes = {0};

            for (size_t at = n; at < n + BLOCK; at += LANES) {
                lanes_bytes is_lf = (lanes_bytes)(lanes_load(p + at) == '\n');

                here -= is_lf; /* all ones are -1 */
                dashes |= is_lf & (lanes_bytes)(lanes_load(p + at + 1) == '-');
            }
            is_there = lanes_any(dashes & sought);
            if (is_there)
                break;
            counts = here;
        }
        *lines += lanes_sum(counts);
    }
    return n;
}

/* Consumes body bytes up to the next line that begins with a dash while a boundary is awaited, or all. This sees nearly
 * every byte of a mailbox. */
static int pass_body(struct mime_parser *p, struct str s, size_t *ret_used)
{
    bool is_searching = p->boundaries > 0;
    const char *at = s.ptr + blocks_without_dash(s, is_searching, &p->lines), *end = s.ptr + s.len, *nl;

    while ((nl = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        p->lines++;
        at = nl + 1;
        if (at == end || (is_searching && *at == '-'))
            break;
    }
    *ret_used = nl ? (size_t)(at - s.ptr) : s.len;
    if (nl) {
        bool is_crlf = nl > s.ptr ? nl[-1] == '\r' : p->is_cr;

        p->last_end = is_crlf ? 2 : 1;
        p->line_state = LINE_START;
    } else {
        p->line_state = LINE_PASS;
    }
    p->is_cr = s.ptr[*ret_used - 1] == '\r';
    p->offset += *ret_used;
    return sink_body(p, str_sub(s, 0, *ret_used));
}

/* The rest of a delimiter line was consumed with it: nothing else is passed in this place. */
static int feed_some(struct mime_parser *p, struct str s, size_t *ret_used)
{
    if (p->line_state == LINE_START && p->boundaries && s.ptr[0] == '-') {
        p->line_state = LINE_KEEP;
        p->line_offset = p->offset;
        buf_clear(&p->line);
    }
    if (p->line_state == LINE_KEEP)
        return keep_line(p, s, ret_used);
    if (p->place == PLACE_HEADER)
        return pass_header(p, s, ret_used);
    return pass_body(p, s, ret_used);
}

static int begin(struct mime_parser *p)
{
    p->arena = mime_arena_new();
    return p->arena ? open_part(p) : -ENOMEM;
}

int mime_parser_feed(struct mime_parser *p, struct str piece)
{
    int r = p->arena ? 0 : begin(p);

    while (!r && piece.len) {
        size_t used = 0;

        r = feed_some(p, piece, &used);
        piece = str_sub(piece, used, piece.len);
    }
    return r;
}

void mime_parser_reset(struct mime_parser *p)
{
    mime_arena_free(p->arena);
    p->arena = NULL;
    p->root = NULL;
    p->part_count = p->depth = p->boundaries = 0;
    p->offset = p->lines = 0;
    p->place = PLACE_HEADER;
    p->line_state = LINE_START;
    p->last_end = 0;
    p->is_cr = false;
    header_collector_clear(&p->header);
    buf_clear(&p->line);
}

int mime_parser_end(struct mime_parser *p, struct mime_tree *ret)
{
    int r = p->arena ? 0 : begin(p);

    /* The last line may be a delimiter without a line end. */
    if (!r && p->line_state == LINE_KEEP)
        r = judge_line(p, true);
    while (!r && p->place == PLACE_HEADER)
        r = end_header(p);
    while (!r && p->depth)
        r = close_part(p, p->offset, 0);
    if (!r) {
        *ret = (struct mime_tree){.root = p->root, .part_count = p->part_count, .arena = p->arena};
        p->arena = NULL;
    }
    mime_parser_reset(p);
    return r;
}

void mime_tree_finish(struct mime_tree *t)
{
    mime_arena_free(t->arena);
    *t = (struct mime_tree){0};
}
