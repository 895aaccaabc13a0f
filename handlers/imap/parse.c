/*
 * The reading half of the IMAP argument parser: lines, literals and the arena that holds them. Runs in imap-session as
 * the user; touches the client's connection only.
 */
#include "handlers/imap/parse.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define CHUNK_SIZE 4096u

/* A non-synchronising literal up to this size is read and dropped when its command is refused; above it the connection
 * ends, as RFC 7888 4 allows. */
#define SKIP_MAX (8 * LIMIT_MESSAGE_SIZE)

struct parse_chunk {
    struct parse_chunk *next;
    size_t used;
    size_t size;
    max_align_t data[];
};

void parse_init(struct parse *p, struct line_reader *in, struct writer *out)
{
    *p = (struct parse){.in = in, .out = out, .line = STR(""), .rest = STR("")};
}

static void parse_reset(struct parse *p)
{
    while (p->chunks) {
        struct parse_chunk *c = p->chunks;

        p->chunks = c->next;
        free(c);
    }
    p->held = 0;
    p->line = p->rest = STR("");
    p->expected = NULL;
    p->spelled = STR_NULL;
    p->is_taken = false;
}

void parse_finish(struct parse *p)
{
    parse_reset(p);
}

void *parse_alloc(struct parse *p, size_t size)
{
    struct parse_chunk *c = p->chunks;
    size_t need = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    void *r;

    if (size > LIMIT_COMMAND || p->held + need > LIMIT_COMMAND)
        return NULL;
    if (!c || c->size - c->used < need) {
        size_t room = need > CHUNK_SIZE ? need : CHUNK_SIZE;

        c = calloc(1, sizeof(*c) + room);
        if (!c)
            return NULL;
        c->size = room;
        c->next = p->chunks;
        p->chunks = c;
    }
    r = (char *)c->data + c->used;
    c->used += need;
    p->held += need;
    return r;
}

/* Reads a line into the arena and makes it the current one. */
static int parse_read_line(struct parse *p)
{
    struct str line;
    char *copy;
    int r = line_read(p->in, &line);

    p->is_taken = false;
    if (r == -ENOBUFS || r == -EBADMSG)
        p->line = line_tail(p->in); /* for parse_skip() */
    if (r < 0)
        return r;
    p->line = line;
    copy = parse_alloc(p, line.len + 1);
    if (!copy)
        return -EMSGSIZE;
    if (line.len)
        memcpy(copy, line.ptr, line.len);
    p->line = p->rest = (struct str){copy, line.len};
    return 0;
}

int parse_begin(struct parse *p)
{
    parse_reset(p);
    return parse_read_line(p);
}

int parse_continue(struct parse *p)
{
    p->line = p->rest = STR("");
    return parse_read_line(p);
}

int parse_fail(struct parse *p, const char *expected)
{
    p->expected = expected;
    return -EINVAL;
}

int parse_literal_drop(struct parse *p, uint64_t size)
{
    while (size > 0) {
        struct str bytes;
        size_t n;
        int r = line_peek(p->in, &bytes);

        if (r < 0)
            return r;
        n = bytes.len < size ? bytes.len : (size_t)size;
        line_consume(p->in, n);
        size -= n;
    }
    return 0;
}

/* Reads "{n}", "{n+}" or "~{n}" from the front of `text`, which must end with it. The number of bytes it takes, or 0.
 */
static size_t literal_marker(struct str text, struct parse_literal *ret)
{
    struct parse_literal l = {.is_sync = true};
    struct str digits;
    size_t at = 0;

    if (at < text.len && text.ptr[at] == '~') {
        l.is_literal8 = true;
        at++;
    }
    if (at >= text.len || text.ptr[at] != '{' || text.ptr[text.len - 1] != '}')
        return 0;
    digits = str_sub(text, at + 1, text.len - at - 2);
    if (digits.len && digits.ptr[digits.len - 1] == '+') {
        l.is_sync = false;
        digits.len--;
    }
    if (str_to_u64(digits, &l.size) < 0 || l.size > INT64_MAX)
        return 0;
    *ret = l;
    return text.len;
}

/* Does the line end with the head of a non-synchronising literal? Whatever stands in front of it, the octets behind the
 * line belong to this command (RFC 7888 4). */
static bool line_ends_in_literal(struct str line, uint64_t *ret_size)
{
    size_t end = line.len, at;

    if (!str_ends(line, STR("+}")))
        return false;
    end -= 2;
    at = end;
    while (at > 0 && ascii_is_digit(line.ptr[at - 1]))
        at--;
    if (at == end || at == 0 || line.ptr[at - 1] != '{')
        return false;
    if (str_to_u64(str_sub(line, at, end - at), ret_size) < 0)
        *ret_size = UINT64_MAX; /* more digits than there are octets in the world */
    return true;
}

int parse_skip(struct parse *p)
{
    uint64_t size;
    int r;

    for (unsigned n = 0; n < LIMIT_ARGUMENTS; n++) {
        struct str line;

        if (p->is_taken || !line_ends_in_literal(p->line, &size))
            return 0;
        if (size > SKIP_MAX)
            return -EMSGSIZE;
        p->line = p->rest = STR("");
        r = parse_literal_drop(p, size);
        if (r < 0)
            return r;
        r = line_read(p->in, &line);
        if (r == -ENOBUFS || r == -EBADMSG)
            line = line_tail(p->in);
        else if (r < 0)
            return r;
        /* Good until the next read: the loop looks at it before that. */
        p->line = line;
    }
    return -EMSGSIZE;
}

int parse_literal_head(struct parse *p, struct parse_literal *ret)
{
    size_t n = literal_marker(p->rest, ret);

    if (!n)
        return parse_fail(p, "a literal");
    return 0;
}

int parse_literal_accept(struct parse *p, const struct parse_literal *literal)
{
    p->is_taken = true;
    p->rest = STR("");
    if (literal->is_sync)
        return writer_text(p->out, "+ Ready for literal data\r\n");
    return 0;
}

/* A literal that stands for a string: read into the arena, with the line behind it. */
static int parse_literal_string(struct parse *p, const char *expected, struct str *ret)
{
    struct parse_literal l;
    size_t got = 0;
    char *data;
    int r;

    if (!literal_marker(p->rest, &l) || l.is_literal8)
        return parse_fail(p, expected);
    if (l.size > LIMIT_LITERAL)
        return -EMSGSIZE;
    data = parse_alloc(p, (size_t)l.size + 1);
    if (!data)
        return -EMSGSIZE;
    r = parse_literal_accept(p, &l);
    if (r < 0)
        return r;
    while (got < l.size) {
        struct str bytes;
        size_t n;

        r = line_peek(p->in, &bytes);
        if (r < 0)
            return r;
        n = bytes.len < l.size - got ? bytes.len : (size_t)l.size - got;
        memcpy(data + got, bytes.ptr, n);
        line_consume(p->in, n);
        got += n;
    }
    r = parse_continue(p);
    if (r < 0)
        return r;
    *ret = (struct str){data, got};
    return str_has_nul(*ret) ? parse_fail(p, "a literal without NUL") : 0;
}

/* quoted = DQUOTE *QUOTED-CHAR DQUOTE. 8-bit bytes are taken: clients send them. Where they have to be UTF-8
 * (RFC 6855 3, RFC 9051 4.3), what is none is refused. */
static int parse_quoted(struct parse *p, struct str *ret)
{
    struct str text = str_sub(p->rest, 1, p->rest.len);
    size_t end = 0, escapes = 0, len = 0;
    char *copy;

    while (end < text.len && text.ptr[end] != '"') {
        if (text.ptr[end] == '\\') {
            end++;
            escapes++;
            if (end >= text.len || (text.ptr[end] != '"' && text.ptr[end] != '\\'))
                return parse_fail(p, "\\\" or \\\\ in a quoted string");
        } else if (text.ptr[end] == '\r' || text.ptr[end] == '\n') {
            return parse_fail(p, "a quoted string without CR and LF");
        }
        end++;
    }
    if (end >= text.len)
        return parse_fail(p, "the closing quote of a string");
    if (p->is_utf8 && !utf8_valid(str_sub(text, 0, end)))
        return parse_fail(p, "UTF-8 in a quoted string");
    if (escapes == 0) {
        *ret = str_sub(text, 0, end);
    } else {
        copy = parse_alloc(p, end);
        if (!copy)
            return -EMSGSIZE;
        for (size_t i = 0; i < end; i++) {
            if (text.ptr[i] == '\\')
                i++;
            copy[len++] = text.ptr[i];
        }
        *ret = (struct str){copy, len};
    }
    p->rest = str_sub(text, end + 1, text.len);
    return 0;
}

int parse_string(struct parse *p, const char *expected, struct str *ret)
{
    switch (parse_peek(p)) {
    case '"':
        return parse_quoted(p, ret);
    case '{':
        return parse_literal_string(p, expected, ret);
    default:
        return parse_fail(p, expected);
    }
}
