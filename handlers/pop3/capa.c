/*
 * What POP3 says of itself: see capa.h. Runs in pop3, pop3-login and pop3-session; touches their connection only.
 */
#include "handlers/pop3/capa.h"

int pop3_add_capabilities(const struct pop3_policy *policy, struct buf *out)
{
    int r = buf_add_str(out, STR("TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\nLANG\r\n"));

    if (r == 0 && policy->login_delay)
        r = buf_printf(out, "LOGIN-DELAY %u\r\n", policy->login_delay);
    if (r < 0)
        return r;
    return policy->expire == POP3_EXPIRE_NEVER ? buf_add_str(out, STR("EXPIRE NEVER\r\n"))
                                               : buf_printf(out, "EXPIRE %u\r\n", policy->expire);
}

void pop3_add_words(struct buf *out, struct str words)
{
    int r = 0;

    for (size_t i = 0; i < words.len && r >= 0; i++) {
        char c = words.ptr[i];

        r = buf_add_byte(out, c == '[' ? '(' : c == ']' ? ')' : c < ' ' || c > '~' ? '?' : c);
    }
}

bool pop3_lang(struct writer *out, struct str arguments)
{
    struct str range = str_trim(arguments); /* RFC 4647 2.1: "*", "en", "en-US" */
    bool is_english = str_eq(range, STR("*")) || str_ieq(range, STR("en")) ||
                      (str_istarts(range, STR("en-")) && range.len > 3 && str_chr(range, ' ') < 0);

    if (!range.len)
        (void)writer_text(out, "+OK Languages follow\r\nen English\r\n.\r\n");
    else if (is_english)
        (void)writer_text(out, "+OK en English it is\r\n");
    else
        (void)writer_text(out, "-ERR There is no such language, LANG alone lists them\r\n");
    return !range.len || is_english;
}
