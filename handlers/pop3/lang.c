/*
 * LANG: see lang.h. All our texts are in English, which is what the list says.
 */
#include "handlers/pop3/lang.h"

/* A basic language range (RFC 4647 2.1) that English matches: "*", "en", "en-US". */
static bool is_english(struct str range)
{
    return str_eq(range, STR("*")) || str_ieq(range, STR("en")) || str_istarts(range, STR("en-")) ||
           str_ieq(range, STR("i-default"));
}

int pop3_lang(struct writer *out, struct str arguments)
{
    struct str range = str_trim(arguments);

    if (!range.len) {
        (void)writer_text(out, "+OK Languages follow\r\nen English\r\n.\r\n");
        return 0;
    }
    if (!is_english(range)) {
        (void)writer_text(out, "-ERR There is no such language, LANG alone lists them\r\n");
        return 1;
    }
    (void)writer_text(out, "+OK en English it is\r\n");
    return 0;
}
