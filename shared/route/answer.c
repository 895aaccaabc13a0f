/*
 * Replies as values. Runs in smtp-session and in the monitor; pure.
 */
#include "shared/route/answer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What there is room for. */
static void copy(char *to, size_t size, struct str from)
{
    from = str_sub(from, 0, size - 1);
    if (from.len > 0)
        memcpy(to, from.ptr, from.len);
    to[from.len] = '\0';
}

void answer_vset(struct smtp_answer *a, unsigned code, const char *enhanced, const char *format, va_list ap)
{
    a->code = code;
    copy(a->enhanced, sizeof(a->enhanced), str_from(enhanced));
    (void)vsnprintf(a->text, sizeof(a->text), format, ap);
    for (char *c = a->text; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
}

void answer_set(struct smtp_answer *a, unsigned code, const char *enhanced, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    answer_vset(a, code, enhanced, format, ap);
    va_end(ap);
}

/* class "." subject "." detail, RFC 3463 2: one digit, then one to three each. */
static bool is_enhanced(struct str s, unsigned code)
{
    struct str part;
    uint32_t n;

    if (!str_cut(&s, '.', &part) || part.len != 1 || (unsigned)(part.ptr[0] - '0') != code / 100)
        return false;
    if (!str_cut(&s, '.', &part) || part.len > 3 || str_to_u32(part, &n) < 0)
        return false;
    return s.len <= 3 && str_to_u32(s, &n) == 0;
}

int answer_from(unsigned code, struct str enhanced, struct str text, struct smtp_answer *ret)
{
    if (code < 200 || code > 599 || text.len >= sizeof(ret->text))
        return -EBADMSG;
    if (enhanced.len > 0 && !is_enhanced(enhanced, code))
        return -EBADMSG;
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < 32 || text.ptr[i] == 127)
            return -EBADMSG;
    ret->code = code;
    copy(ret->enhanced, sizeof(ret->enhanced), enhanced);
    copy(ret->text, sizeof(ret->text), text);
    return 0;
}

int answer_parse(struct str line, struct smtp_answer *ret)
{
    struct str word, enhanced;
    uint32_t code;

    if (!str_word(&line, &word) || str_to_u32(word, &code) < 0 || !str_word(&line, &enhanced))
        return -EBADMSG;
    return answer_from(code, enhanced, str_trim(line), ret);
}

void answer_combine(const struct smtp_answer *answers, size_t count, struct smtp_answer *ret)
{
    size_t worst = 0;

    for (size_t i = 0; i < count && !answer_is_temporary(&answers[worst]); i++)
        if (answer_is_temporary(&answers[i]) || answer_is_ok(&answers[worst]))
            worst = i;
    *ret = answers[worst];
}
