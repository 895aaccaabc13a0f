/*
 * What POP3 says of itself: see capa.h. Runs in pop3-login and in pop3-session; touches their connection only.
 */
#include "handlers/pop3/capa.h"

void pop3_capa_common(struct writer *out, const struct pop3_policy *policy)
{
    (void)writer_text(out, "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\nLANG\r\n");
    if (policy->login_delay)
        (void)writer_printf(out, "LOGIN-DELAY %u\r\n", policy->login_delay);
    if (policy->expire == POP3_EXPIRE_NEVER)
        (void)writer_text(out, "EXPIRE NEVER\r\n");
    else
        (void)writer_printf(out, "EXPIRE %u\r\n", policy->expire);
}

void pop3_add_words(struct buf *out, struct str words)
{
    int r = 0;

    for (size_t i = 0; i < words.len && r >= 0; i++) {
        char c = words.ptr[i];

        r = buf_add_byte(out, c == '[' ? '(' : c == ']' ? ')' : c < ' ' || c > '~' ? '?' : c);
    }
}

static bool is_range(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_alpha(text.ptr[i]) && !ascii_is_digit(text.ptr[i]) && text.ptr[i] != '-')
            return false;
    return text.ptr[text.len - 1] != '-';
}

bool pop3_lang(struct writer *out, struct str arguments)
{
    struct str range = str_trim(arguments); /* RFC 4647 2.1: "*", "en", "en-US" */
    bool is_english = str_eq(range, STR("*")) || str_ieq(range, STR("en")) ||
                      (str_istarts(range, STR("en-")) && range.len > 3 && is_range(range));

    if (!range.len)
        (void)writer_text(out, "+OK Languages follow\r\nen English\r\n.\r\n");
    else if (is_english)
        (void)writer_text(out, "+OK en English it is\r\n");
    else
        (void)writer_text(out, "-ERR There is no such language, LANG alone lists them\r\n");
    return !range.len || is_english;
}
