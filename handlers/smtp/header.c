/*
 * Counts header fields. Runs in smtp-session and in deliver's tests; pure.
 */
#include "handlers/smtp/header.h"

#include "shared/base/macros.h"

enum state {
    LINE_START,
    IN_NAME,
    IN_BODY, /* behind the colon, or in a folded line */
};

static const struct {
    struct str name;
    unsigned field;
} known_fields[] = {
    {{"date", 4}, HEADER_DATE},
    {{"from", 4}, HEADER_FROM},
    {{"message-id", 10}, HEADER_MESSAGE_ID},
};

static void count_field(struct header_watch *h)
{
    struct str name = {h->name, h->name_len};

    if (str_eq(name, STR("received")))
        h->received++;
    if (str_eq(name, STR("from"))) {
        h->from++;
        h->gathered = h->from_text;
    } else if (str_eq(name, STR("sender"))) {
        h->sender++;
        h->gathered = h->sender_text;
    }
    for (size_t i = 0; i < ARRAY_SIZE(known_fields); i++)
        if (str_eq(name, known_fields[i].name))
            h->fields |= known_fields[i].field;
}

/* The only field whose text matters. */
static bool is_tls_required(const struct header_watch *h)
{
    return str_eq((struct str){h->name, h->name_len}, STR("tls-required"));
}

static void step_body(struct header_watch *h, char c)
{
    if (h->gathered)
        (void)buf_add_byte(h->gathered, c);
    if (c == '\n') {
        if (is_tls_required(h) && str_eq((struct str){h->value, h->value_len}, STR("no")))
            h->fields |= HEADER_TLS_OPTIONAL;
        h->state = LINE_START;
    } else if (h->value_len < sizeof(h->value) && c != ' ' && c != '\t' && is_tls_required(h)) {
        h->value[h->value_len++] = ascii_lower(c);
    }
}

static void end_header(struct header_watch *h, bool is_malformed)
{
    h->is_ended = true;
    h->is_malformed = is_malformed;
}

/* One byte of a field name. RFC 5322 4.5: blanks may stand between the name and the colon. */
static void step_name(struct header_watch *h, char c)
{
    if (c == ':') {
        count_field(h);
        h->state = IN_BODY;
    } else if (c == '\n') {
        end_header(h, true);
    } else if (c != ' ' && c != '\t') {
        if (h->name_len < sizeof(h->name))
            h->name[h->name_len++] = ascii_lower(c);
    }
}

static void step(struct header_watch *h, char c)
{
    switch ((enum state)h->state) {
    case LINE_START:
        h->name_len = h->value_len = 0;
        h->state = c == ' ' || c == '\t' ? IN_BODY : IN_NAME;
        if (h->state == IN_NAME)
            h->gathered = NULL;
        if (c == '\n')
            end_header(h, false);
        else if (h->state == IN_NAME)
            step_name(h, c);
        break;
    case IN_NAME:
        step_name(h, c);
        break;
    case IN_BODY:
        step_body(h, c);
        break;
    }
}

size_t header_watch(struct header_watch *h, struct str bytes)
{
    size_t line = 0; /* where the current line began in this piece */

    if (h->is_ended)
        return 0;
    for (size_t i = 0; i < bytes.len; i++) {
        if (h->state == LINE_START)
            line = i;
        step(h, bytes.ptr[i]);
        if (h->is_ended) {
            h->size += line;
            return line;
        }
    }
    h->size += bytes.len;
    return bytes.len;
}
