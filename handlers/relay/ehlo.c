/*
 * EHLO keywords. Runs in relay-session; pure.
 */
#include "handlers/relay/ehlo.h"

#include "shared/base/macros.h"

static const struct {
    struct str keyword;
    uint32_t bit;
} KEYWORDS[] = {
    {{"PIPELINING", 10}, TALK_PIPELINING},
    {{"SIZE", 4}, TALK_SIZE},
    {{"8BITMIME", 8}, TALK_8BITMIME},
    {{"BINARYMIME", 10}, TALK_BINARYMIME},
    {{"CHUNKING", 8}, TALK_CHUNKING},
    {{"SMTPUTF8", 8}, TALK_SMTPUTF8},
    {{"DSN", 3}, TALK_DSN},
    {{"STARTTLS", 8}, TALK_STARTTLS_OFFERED},
    {{"AUTH", 4}, TALK_AUTH_OFFERED},
    {{"REQUIRETLS", 10}, TALK_REQUIRETLS},
    {{"ENHANCEDSTATUSCODES", 19}, TALK_ENHANCED},
    {{"DELIVERBY", 9}, TALK_DELIVERBY},
};

static const struct {
    struct str name;
    uint32_t bit;
} MECHANISMS[] = {
    {{"PLAIN", 5}, EHLO_PLAIN},
    {{"LOGIN", 5}, EHLO_LOGIN},
    {{"SCRAM-SHA-256", 13}, EHLO_SCRAM_SHA_256},
    {{"SCRAM-SHA-1", 11}, EHLO_SCRAM_SHA_1},
    {{"SCRAM-SHA-256-PLUS", 18}, EHLO_SCRAM_SHA_256_PLUS},
    {{"SCRAM-SHA-1-PLUS", 16}, EHLO_SCRAM_SHA_1_PLUS},
    {{"CRAM-MD5", 8}, EHLO_CRAM_MD5},
    {{"XOAUTH2", 7}, EHLO_XOAUTH2},
    {{"OAUTHBEARER", 11}, EHLO_OAUTHBEARER},
};

static void take_mechanisms(struct ehlo *e, struct str rest)
{
    struct str word;

    while (str_word(&rest, &word))
        for (size_t i = 0; i < ARRAY_SIZE(MECHANISMS); i++)
            if (str_ieq(word, MECHANISMS[i].name))
                e->mechanisms |= MECHANISMS[i].bit;
}

/* RFC 2852 2: min-by-time *( "," extension-token ), of which the first may be empty. */
static void take_least(struct ehlo *e, struct str rest)
{
    struct str least;

    (void)str_cut(&rest, ',', &least);
    (void)str_to_u32(str_trim(least), &e->by_least);
}

void ehlo_line(void *context, struct str text, unsigned number)
{
    struct ehlo *e = context;
    struct str word, rest = text;

    if (number == 0) {
        *e = (struct ehlo){.extensions = TALK_EXTENDED};
        return;
    }
    if (!str_word(&rest, &word))
        return;
    /* "AUTH=PLAIN": how Outlook's and Exchange's ancestors wrote it before RFC 2554. */
    if (str_istarts(word, STR("AUTH="))) {
        rest = str_sub(text, 5, text.len);
        word = STR("AUTH");
    }
    for (size_t i = 0; i < ARRAY_SIZE(KEYWORDS); i++)
        if (str_ieq(word, KEYWORDS[i].keyword))
            e->extensions |= KEYWORDS[i].bit;
    if (str_ieq(word, STR("AUTH")))
        take_mechanisms(e, rest);
    /* RFC 1870 3: a server may announce no number, or 0. */
    if (str_ieq(word, STR("SIZE")))
        (void)str_to_u64(str_trim(rest), &e->size);
    if (str_ieq(word, STR("DELIVERBY")))
        take_least(e, rest);
}
