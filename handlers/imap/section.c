/*
 * Sections of a message (see section.h). Runs in imap-session as the user.
 */
#include "handlers/imap/section.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "handlers/imap/respond.h"
#include "shared/base/macros.h"

/* Part numbers up to the text specifier or the bracket: "1.2.3" or "1.2.". */
static int parse_numbers(struct imap *s, struct section *section, bool *ret_is_more)
{
    struct parse *p = &s->parse;
    uint32_t numbers[LIMIT_MIME_DEPTH + 1];
    size_t depth = 0;

    *ret_is_more = true;
    while (ascii_is_digit(parse_peek(p))) {
        int r;

        if (depth >= ARRAY_SIZE(numbers))
            return parse_fail(p, "fewer part numbers");
        r = parse_nz_number(p, "a part number", &numbers[depth++]);
        if (r < 0)
            return r;
        *ret_is_more = parse_accept(p, '.');
        if (!*ret_is_more)
            break;
        if (!ascii_is_digit(parse_peek(p)) && !ascii_is_alpha(parse_peek(p)))
            return parse_fail(p, "a part number or HEADER, TEXT, MIME");
    }
    if (depth == 0)
        return 0;
    section->numbers = parse_alloc(p, depth * sizeof(numbers[0]));
    if (!section->numbers)
        return -EMSGSIZE;
    memcpy(section->numbers, numbers, depth * sizeof(numbers[0]));
    section->depth = depth;
    return 0;
}

/* header-list = "(" header-fld-name *(SP header-fld-name) ")" */
static int parse_names(struct imap *s, struct section *section)
{
    struct parse *p = &s->parse;
    size_t cap = 0;
    int r = parse_space(p);

    if (r >= 0)
        r = parse_char(p, '(', "a parenthesised list of header fields");
    do {
        if (r < 0)
            return r;
        if (section->name_count == cap) {
            struct str *more;

            cap = cap ? cap * 2 : 16;
            more = cap > LIMIT_ARGUMENTS ? NULL : parse_alloc(p, cap * sizeof(*more));
            if (!more)
                return -EMSGSIZE;
            if (section->name_count)
                memcpy(more, section->names, section->name_count * sizeof(*more));
            section->names = more;
        }
        r = parse_astring(p, "the name of a header field", &section->names[section->name_count]);
        section->name_count++;
    } while (r < 0 || parse_accept(p, ' '));
    return parse_char(p, ')', "a space or a closing parenthesis");
}

static int parse_text(struct imap *s, struct section *section)
{
    struct parse *p = &s->parse;

    if (parse_accept_word(p, STR("HEADER.FIELDS.NOT"))) {
        section->text = SECTION_FIELDS_NOT;
        return parse_names(s, section);
    }
    if (parse_accept_word(p, STR("HEADER.FIELDS"))) {
        section->text = SECTION_FIELDS;
        return parse_names(s, section);
    }
    if (parse_accept_word(p, STR("HEADER")))
        section->text = SECTION_HEADER;
    else if (parse_accept_word(p, STR("TEXT")))
        section->text = SECTION_TEXT;
    else if (section->depth > 0 && parse_accept_word(p, STR("MIME")))
        section->text = SECTION_MIME;
    else
        return parse_fail(p, section->depth > 0 ? "HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME"
                                                : "a part number, HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT or TEXT");
    return 0;
}

/* partial = "<" number64 "." nz-number64 ">" */
int section_parse_partial(struct imap *s, struct section *section)
{
    struct parse *p = &s->parse;
    int r;

    if (!parse_accept(p, '<'))
        return 0;
    section->is_partial = true;
    r = parse_number64(p, "an octet number", &section->first);
    if (r >= 0)
        r = parse_char(p, '.', "a dot and the number of octets");
    if (r >= 0)
        r = parse_number64(p, "the number of octets", &section->count);
    if (r >= 0 && section->count == 0)
        r = parse_fail(p, "a number of octets above 0");
    return r < 0 ? r : parse_char(p, '>', "a closing >");
}

int section_parse(struct imap *s, bool is_binary, struct section *ret)
{
    struct parse *p = &s->parse;
    bool is_more = true;
    int r = parse_char(p, '[', "a section in brackets");

    *ret = (struct section){.text = SECTION_ALL};
    if (r >= 0)
        r = parse_numbers(s, ret, &is_more);
    if (r >= 0 && parse_peek(p) != ']' && is_more && !is_binary)
        r = parse_text(s, ret);
    if (r >= 0)
        r = parse_char(p, ']', is_binary ? "part numbers and a closing bracket" : "a closing bracket");
    return r;
}

void section_write(struct imap *s, const struct section *section, bool has_partial)
{
    static const char *const words[] = {
        [SECTION_ALL] = "",
        [SECTION_HEADER] = "HEADER",
        [SECTION_FIELDS] = "HEADER.FIELDS",
        [SECTION_FIELDS_NOT] = "HEADER.FIELDS.NOT",
        [SECTION_TEXT] = "TEXT",
        [SECTION_MIME] = "MIME",
    };

    (void)writer_add(&s->out, "[", 1);
    for (size_t i = 0; i < section->depth; i++) {
        if (i)
            (void)writer_add(&s->out, ".", 1);
        (void)writer_u64(&s->out, section->numbers[i]);
    }
    if (section->depth && section->text != SECTION_ALL)
        (void)writer_add(&s->out, ".", 1);
    (void)writer_text(&s->out, words[section->text]);
    for (size_t i = 0; i < section->name_count; i++) {
        (void)writer_text(&s->out, i ? " " : " (");
        respond_astring(s, section->names[i]);
    }
    (void)writer_text(&s->out, section->name_count ? ")]" : "]");
    if (has_partial && section->is_partial)
        (void)writer_printf(&s->out, "<%" PRIu64 ">", section->first);
}

int section_locate(const struct section *section, const struct mime_part *root, uint64_t *ret_start, uint64_t *ret_end)
{
    const struct mime_part *part = root;

    if (section->depth > 0) {
        part = mime_part_find(root, section->numbers, section->depth);
        if (!part)
            return -ENOENT;
        if (section->text == SECTION_ALL || section->text == SECTION_MIME) {
            /* "1" of a message that is no multipart is its body; its MIME header is the message's own. */
            *ret_start = section->text == SECTION_MIME ? part->header : part->body;
            *ret_end = section->text == SECTION_MIME ? part->body : part->end;
            return 0;
        }
        if (part->kind != MIME_MESSAGE || !part->child)
            return -ENOENT;
        part = part->child;
    }
    *ret_start = section->text == SECTION_TEXT ? part->body : part->header;
    *ret_end = section->text == SECTION_ALL || section->text == SECTION_TEXT ? part->end : part->body;
    return 0;
}

void section_clip(const struct section *section, uint64_t *start, uint64_t *end)
{
    if (!section->is_partial)
        return;
    *start = section->first < *end - *start ? *start + section->first : *end;
    if (section->count < *end - *start)
        *end = *start + section->count;
}
