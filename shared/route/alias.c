/*
 * The syntax of aliases(5). Runs in the monitor (root's own file) and, as the user, in deliver for .forward; pure.
 */
#include "shared/route/alias.h"

#include <errno.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Takes a logical line: with those behind it that begin with a blank. */
static struct str take_line(struct str *text)
{
    struct str whole = *text;
    struct str line;

    do
        (void)str_cut(text, '\n', &line);
    while (text->len > 0 && is_blank(text->ptr[0]));
    return str_sub(whole, 0, (size_t)(line.ptr + line.len - whole.ptr));
}

/* The name in front of the colon, perhaps in quotes (which protect a colon). */
static bool take_name(struct str *line, struct str *ret)
{
    struct str rest = str_trim(*line);
    ptrdiff_t end;

    if (rest.len > 0 && rest.ptr[0] == '"') {
        rest = str_sub(rest, 1, rest.len);
        if (!str_cut(&rest, '"', ret))
            return false;
        rest = str_trim(rest);
        if (rest.len == 0 || rest.ptr[0] != ':')
            return false;
        *line = str_sub(rest, 1, rest.len);
        return true;
    }
    end = str_chr(rest, ':');
    if (end <= 0)
        return false;
    *ret = str_trim(str_sub(rest, 0, (size_t)end));
    *line = str_sub(rest, (size_t)end + 1, rest.len);
    return ret->len > 0;
}

int alias_entry(struct str *text, struct str *ret_name, struct str *ret_list)
{
    while (text->len > 0) {
        struct str line = take_line(text), whole = line;

        if (str_trim(line).len == 0 || line.ptr[0] == '#')
            continue;
        if (!take_name(&line, ret_name)) {
            *ret_name = whole;
            return -EINVAL;
        }
        *ret_list = line;
        return 0;
    }
    return -ENODATA;
}

bool alias_find(struct str text, struct str name, struct str *ret)
{
    struct str found, list;
    int e;

    while ((e = alias_entry(&text, &found, &list)) != -ENODATA) {
        if (e < 0 || !str_ieq(found, name))
            continue;
        *ret = list;
        return true;
    }
    return false;
}

/* ---- lists ---- */

struct token {
    char text[ALIAS_ITEM];
    size_t len;
    bool is_too_long;
};

static void add(struct token *t, char c)
{
    if (t->len + 1 < sizeof(t->text) && c != '\0')
        t->text[t->len++] = c;
    else
        t->is_too_long = true;
}

/* Blanks, empty items and lines of comment before an item. */
static void skip_separators(struct str *s)
{
    bool is_line_start = true;

    while (s->len > 0) {
        char c = s->ptr[0];

        if (c == '#' && is_line_start) {
            struct str comment;

            (void)str_cut(s, '\n', &comment);
            continue;
        }
        if (c != '\n' && c != ',' && !is_blank(c))
            return;
        is_line_start = c == '\n' || (is_line_start && is_blank(c));
        *s = str_sub(*s, 1, s->len);
    }
}

/* One item: up to a comma or the line's end outside of quotes. */
static void take_item(struct str *s, struct token *t)
{
    bool is_quoted = false;
    size_t i = 0;

    for (; i < s->len; i++) {
        char c = s->ptr[i];

        if (c == '"') {
            is_quoted = !is_quoted;
        } else if (c == '\\' && is_quoted && i + 1 < s->len) {
            add(t, s->ptr[++i]);
        } else if (c == '\n' || (c == ',' && !is_quoted)) {
            break;
        } else {
            add(t, c);
        }
    }
    *s = str_sub(*s, i, s->len);
    while (t->len > 0 && is_blank(t->text[t->len - 1]))
        t->len--;
    t->text[t->len] = '\0';
}

static int classify(const struct token *t, struct alias_item *ret)
{
    static const struct {
        const char *mark;
        enum alias_kind kind;
        size_t skip; /* bytes of the mark that are not part of the text */
    } marks[] = {{"|", ALIAS_COMMAND, 1},
                 {"/", ALIAS_FILE, 0},
                 {":include:", ALIAS_INCLUDE, 9},
                 {"\\", ALIAS_FINAL, 1},
                 {"", ALIAS_ADDRESS, 0}};
    size_t i = 0;

    if (t->len == 0 || t->is_too_long)
        return -EINVAL;
    while (strncasecmp(t->text, marks[i].mark, strlen(marks[i].mark)) != 0)
        i++;
    ret->kind = marks[i].kind;
    memcpy(ret->text, t->text + marks[i].skip, t->len - marks[i].skip + 1);
    return ret->text[0] == '\0' ? -EINVAL : 0;
}

int alias_next(struct str *list, struct alias_item *ret)
{
    struct token t = {0};

    skip_separators(list);
    if (list->len == 0)
        return -ENODATA;
    take_item(list, &t);
    return classify(&t, ret);
}
