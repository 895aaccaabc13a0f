/*
 * SMTP replies, byte by byte. Runs in relay-session; pure.
 */
#include "handlers/relay/reply.h"

#include <string.h>

void reply_next(struct reply_parser *p)
{
    p->is_done = false;
    p->fault = REPLY_OK;
    p->reply = (struct talk_reply){0};
    p->lines = p->length = 0;
    p->text_len = 0;
}

const char *reply_fault_text(enum reply_fault fault)
{
    switch (fault) {
    case REPLY_NOT_SMTP:
        return "what came is no SMTP reply";
    case REPLY_LINE_LONG:
        return "a reply line that does not end";
    case REPLY_LINES_MANY:
        return "a reply that does not end";
    case REPLY_OK:
        break;
    }
    return "no fault";
}

/* The code at the front of a line: 200 to 599, and what may stand behind it. 0: none. */
static unsigned line_code(struct str line)
{
    if (line.len < 3 || line.ptr[0] < '2' || line.ptr[0] > '5' || !ascii_is_digit(line.ptr[1]) ||
        !ascii_is_digit(line.ptr[2]))
        return 0;
    if (line.len > 3 && line.ptr[3] != ' ' && line.ptr[3] != '-')
        return 0;
    return (unsigned)(line.ptr[0] - '0') * 100 + (unsigned)(line.ptr[1] - '0') * 10 + (unsigned)(line.ptr[2] - '0');
}

/* Takes an enhanced code (RFC 2034 4) off the front of the text. It must be of the reply's class, else it is text. */
static bool take_enhanced(struct str *text, unsigned code, char out[static 12])
{
    struct str rest = *text, word, part;
    uint32_t n;

    if (!str_word(&rest, &word) || word.len >= 12 || word.ptr != text->ptr)
        return false;

    struct str s = word;

    if (!str_cut(&s, '.', &part) || part.len != 1 || (unsigned)(part.ptr[0] - '0') != code / 100)
        return false;
    if (!str_cut(&s, '.', &part) || part.len > 3 || str_to_u32(part, &n) < 0 || s.len > 3 || str_to_u32(s, &n) < 0)
        return false;
    memcpy(out, word.ptr, word.len);
    out[word.len] = '\0';
    *text = str_trim(rest);
    return true;
}

/* Keeps as much of the text as there is room for, printable. */
static void keep_text(struct reply_parser *p, struct str text)
{
    char *out = p->reply.text;

    if (p->text_len > 0 && text.len > 0 && p->text_len < TALK_TEXT - 1)
        out[p->text_len++] = ' ';
    for (size_t i = 0; i < text.len && p->text_len < TALK_TEXT - 1; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        out[p->text_len++] = c == '\t' ? ' ' : c < 32 || c > 126 ? '?' : (char)c;
    }
    out[p->text_len] = '\0';
}

/* RFC 3463 3.1: X.0.0 where the server has none. */
static void set_default_enhanced(struct talk_reply *r)
{
    if (r->enhanced[0] != '\0')
        return;
    memcpy(r->enhanced, "0.0.0", 6);
    r->enhanced[0] = (char)('0' + r->code / 100);
}

static void end_line(struct reply_parser *p)
{
    struct str line = {p->held, p->length};
    char again[12];
    unsigned code;

    if (line.len > 0 && line.ptr[line.len - 1] == '\r')
        line.len--;
    code = line_code(line);
    if (code == 0 || (p->lines > 0 && code != p->reply.code)) {
        p->fault = REPLY_NOT_SMTP;
        return;
    }
    p->reply.code = code;

    struct str text = str_sub(line, 4, line.len);

    if (p->line)
        p->line(p->context, text, p->lines);
    /* RFC 2034 4: every line of a reply carries the same enhanced code. */
    (void)take_enhanced(&text, code, p->lines == 0 ? p->reply.enhanced : again);
    keep_text(p, str_trim(text));
    p->lines++;
    p->length = 0;
    if (line.len <= 3 || line.ptr[3] == ' ') {
        set_default_enhanced(&p->reply);
        p->is_done = true;
    } else if (p->lines >= LIMIT_REPLY_LINES) {
        p->fault = REPLY_LINES_MANY;
    }
}

size_t reply_feed(struct reply_parser *p, struct str bytes)
{
    size_t i = 0;

    while (i < bytes.len && !p->is_done && p->fault == REPLY_OK) {
        char c = bytes.ptr[i++];

        if (c == '\n')
            end_line(p);
        else if (p->length >= sizeof(p->held))
            p->fault = REPLY_LINE_LONG;
        else
            p->held[p->length++] = c;
    }
    return i;
}
