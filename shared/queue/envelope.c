/*
 * Envelope and text. Runs in smtp and relay as root, in sendmail and `smtp-session -bs` as the user; pure.
 */
#include "shared/queue/envelope.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC   "pennypost-envelope "
#define VERSION "1"

enum type { STRING, NUMBER, WORD32, BOOL, CHOICE };

static const char *const BODIES[] = {"7bit", "8bitmime", "binarymime", NULL};
static const char *const RETS[] = {"", "full", "hdrs", NULL};
static const char *const BYS[] = {"", "return", "notify", NULL};
static const char *const KINDS[] = {"remote", "mailbox", "command", "file", NULL};
static const char *const STATES[] = {"pending", "deferred", "delivered", "relayed", "failed", "expanded", NULL};

struct key {
    const char *name;
    enum type type;
    size_t offset;
    const char *const *choices;
};

#define KEY(structure, key_name, key_type, field)                                                                      \
    {                                                                                                                  \
        (key_name), (key_type), offsetof(struct structure, field), NULL                                                \
    }
#define PICK(structure, key_name, field, names)                                                                        \
    {                                                                                                                  \
        (key_name), CHOICE, offsetof(struct structure, field), (names)                                                 \
    }

static const struct key KEYS[] = {
    KEY(queue_envelope, "created", NUMBER, created),
    KEY(queue_envelope, "sender", STRING, sender),
    KEY(queue_envelope, "user", STRING, user),
    KEY(queue_envelope, "peer", STRING, peer),
    PICK(queue_envelope, "body", body, BODIES),
    KEY(queue_envelope, "smtputf8", BOOL, is_utf8),
    PICK(queue_envelope, "ret", ret, RETS),
    KEY(queue_envelope, "envid", STRING, envid),
    KEY(queue_envelope, "requiretls", BOOL, requires_tls),
    KEY(queue_envelope, "tls-optional", BOOL, tls_optional),
    KEY(queue_envelope, "priority", WORD32, priority),
    PICK(queue_envelope, "deliverby", by, BYS),
    KEY(queue_envelope, "deliverby-trace", BOOL, by_trace),
    KEY(queue_envelope, "deliverby-deadline", NUMBER, by_deadline),
    KEY(queue_envelope, "hold-until", NUMBER, hold_until),
    KEY(queue_envelope, "held", BOOL, is_held),
    KEY(queue_envelope, "delay-warned", BOOL, is_delay_warned),
    KEY(queue_envelope, "deliverby-told", BOOL, is_by_told),
    KEY(queue_envelope, "next-attempt", NUMBER, next_attempt),
    KEY(queue_envelope, "attempts", WORD32, attempts),
};

static const struct key RECIPIENT_KEYS[] = {
    KEY(queue_recipient, "to", STRING, address),
    KEY(queue_recipient, "to-sender", STRING, sender),
    PICK(queue_recipient, "to-kind", kind, KINDS),
    KEY(queue_recipient, "to-user", STRING, user),
    KEY(queue_recipient, "to-argument", STRING, argument),
    KEY(queue_recipient, "to-notify", WORD32, notify),
    KEY(queue_recipient, "to-orcpt", STRING, orcpt),
    KEY(queue_recipient, "to-orcpt-ours", BOOL, is_orcpt_ours),
    KEY(queue_recipient, "to-list", BOOL, is_list),
    PICK(queue_recipient, "to-state", state, STATES),
    KEY(queue_recipient, "to-reported", BOOL, is_reported),
    KEY(queue_recipient, "to-next-attempt", NUMBER, next_attempt),
    KEY(queue_recipient, "to-last-attempt", NUMBER, last_attempt),
    KEY(queue_recipient, "to-reply", STRING, reply),
    KEY(queue_recipient, "to-host", STRING, host),
};

/* The fields of type CHOICE and WORD32 are all of this size. */
_Static_assert(sizeof(enum queue_body) == sizeof(uint32_t) && sizeof(enum queue_state) == sizeof(uint32_t) &&
                   sizeof(unsigned) == sizeof(uint32_t),
               "enumerations are 32 bits");

/* ---- values ---- */

static void recipient_finish(struct queue_recipient *r)
{
    free(r->address);
    free(r->sender);
    free(r->user);
    free(r->argument);
    free(r->orcpt);
    free(r->reply);
    free(r->host);
}

void queue_envelope_finish(struct queue_envelope *e)
{
    for (size_t i = 0; i < e->count; i++)
        recipient_finish(&e->recipients[i]);
    free(e->recipients);
    free(e->sender);
    free(e->user);
    free(e->peer);
    free(e->envid);
    *e = QUEUE_ENVELOPE_INIT;
}

int queue_envelope_set(char **field, struct str value)
{
    char *copy;

    if (value.len > QUEUE_VALUE || str_has_nul(value))
        return -EINVAL;
    copy = str_dup(value);
    if (!copy)
        return -ENOMEM;
    free(*field);
    *field = copy;
    return 0;
}

/* Room grows by doubling: at every power of two there is none left. */
int queue_envelope_add(struct queue_envelope *e, struct str address, struct queue_recipient **ret)
{
    struct queue_recipient r = {0};
    int error;

    if (e->count == QUEUE_RECIPIENTS)
        return -E2BIG;
    if ((e->count & (e->count - 1)) == 0) {
        struct queue_recipient *more =
            reallocarray(e->recipients, e->count == 0 ? 1 : 2 * e->count, sizeof(*e->recipients));

        if (!more)
            return -ENOMEM;
        e->recipients = more;
    }
    error = queue_envelope_set(&r.address, address);
    if (error < 0)
        return error;
    e->recipients[e->count] = r;
    *ret = &e->recipients[e->count++];
    return 0;
}

bool queue_envelope_is_late(const struct queue_envelope *e, int64_t now)
{
    return e->by != QUEUE_BY_NONE && e->by_deadline <= now;
}

bool queue_recipient_is_done(const struct queue_recipient *r)
{
    return r->state != QUEUE_PENDING && r->state != QUEUE_DEFERRED;
}

bool queue_envelope_is_done(const struct queue_envelope *e)
{
    for (size_t i = 0; i < e->count; i++)
        if (!queue_recipient_is_done(&e->recipients[i]))
            return false;
    return true;
}

const char *queue_recipient_sender(const struct queue_envelope *e, const struct queue_recipient *r)
{
    if (r->sender)
        return r->sender;
    return e->sender ? e->sender : "";
}

/* ---- writing ---- */

static int put_line(struct buf *out, const char *name, struct str value)
{
    int e = buf_printf(out, "%s ", name);

    for (size_t i = 0; i < value.len && e == 0; i++) {
        unsigned char c = (unsigned char)value.ptr[i];

        if (c < 32 || c == 127 || c == '%')
            e = buf_printf(out, "%%%02X", (unsigned)c);
        else
            e = buf_add_byte(out, (char)c);
    }
    return e < 0 ? e : buf_add_byte(out, '\n');
}

static int put_key(struct buf *out, const struct key *k, const void *structure)
{
    const char *field = (const char *)structure + k->offset;
    const char *text;
    int64_t number;
    int32_t word;

    switch (k->type) {
    case STRING:
        memcpy(&text, field, sizeof(text));
        return text ? put_line(out, k->name, str_from(text)) : 0;
    case NUMBER:
        memcpy(&number, field, sizeof(number));
        return number == 0 ? 0 : buf_printf(out, "%s %" PRId64 "\n", k->name, number);
    case WORD32:
        memcpy(&word, field, sizeof(word));
        return word == 0 ? 0 : buf_printf(out, "%s %" PRId32 "\n", k->name, word);
    case BOOL:
        return *(const bool *)field ? buf_printf(out, "%s yes\n", k->name) : 0;
    case CHOICE:
        memcpy(&word, field, sizeof(word));
        return word == 0 ? 0 : buf_printf(out, "%s %s\n", k->name, k->choices[word]);
    }
    return -EINVAL;
}

int queue_envelope_format(const struct queue_envelope *e, struct buf *out)
{
    int error = buf_add_str(out, STR(MAGIC VERSION "\n"));

    for (size_t i = 0; i < ARRAY_SIZE(KEYS) && error == 0; i++)
        error = put_key(out, &KEYS[i], e);
    for (size_t n = 0; n < e->count; n++)
        for (size_t i = 0; i < ARRAY_SIZE(RECIPIENT_KEYS) && error == 0; i++)
            error = put_key(out, &RECIPIENT_KEYS[i], &e->recipients[n]);
    return error < 0 ? error : buf_add_str(out, STR("end\n"));
}

/* ---- reading ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int get_string(struct str value, char **ret)
{
    _cleanup_buf_ struct buf plain = BUF_INIT(QUEUE_VALUE);
    int e = 0;

    for (size_t i = 0; i < value.len && e == 0; i++) {
        char c = value.ptr[i];

        if (c == '%') {
            struct str code = str_sub(value, i + 1, 2);
            int high = code.len == 2 ? hex_digit(code.ptr[0]) : -1;
            int low = code.len == 2 ? hex_digit(code.ptr[1]) : -1;

            if (high < 0 || low < 0)
                return -EBADMSG;
            c = (char)(high << 4 | low);
            i += 2;
        }
        e = c == '\0' ? -EBADMSG : buf_add_byte(&plain, c);
    }
    if (e == 0)
        e = queue_envelope_set(ret, buf_str(&plain));
    return e == -ENOMEM ? e : e < 0 ? -EBADMSG : 0;
}

static int get_number(struct str value, int64_t least, int64_t most, int64_t *ret)
{
    bool is_negative = str_starts(value, STR("-"));
    uint64_t n;

    if (str_to_u64(str_sub(value, is_negative, value.len), &n) < 0 || n > INT64_MAX)
        return -EBADMSG;
    *ret = is_negative ? -(int64_t)n : (int64_t)n;
    return *ret < least || *ret > most ? -EBADMSG : 0;
}

static int get_choice(struct str value, const char *const *choices, void *field)
{
    for (uint32_t i = 0; choices[i]; i++)
        if (str_eq(value, str_from(choices[i]))) {
            memcpy(field, &i, sizeof(i));
            return 0;
        }
    return -EBADMSG;
}

static int get_key(const struct key *k, struct str value, void *structure)
{
    char *field = (char *)structure + k->offset;
    char *text = NULL;
    int64_t number = 0;
    int32_t word;
    int e = 0;

    switch (k->type) {
    case STRING:
        memcpy(&text, field, sizeof(text));
        e = get_string(value, &text);
        memcpy(field, &text, sizeof(text));
        return e;
    case NUMBER:
        e = get_number(value, 0, INT64_MAX, &number);
        memcpy(field, &number, sizeof(number));
        return e;
    case WORD32:
        e = get_number(value, INT32_MIN, INT32_MAX, &number);
        word = (int32_t)number;
        memcpy(field, &word, sizeof(word));
        return e;
    case BOOL:
        *(bool *)field = str_eq(value, STR("yes"));
        return *(bool *)field ? 0 : -EBADMSG;
    case CHOICE:
        return get_choice(value, k->choices, field);
    }
    return -EBADMSG;
}

static const struct key *find_key(const struct key *keys, size_t count, struct str name)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(name, str_from(keys[i].name)))
            return &keys[i];
    return NULL;
}

static int get_line(struct str line, struct queue_envelope *e)
{
    struct str name;
    struct queue_recipient *r = NULL;
    const struct key *k;
    int error = 0;

    (void)str_cut(&line, ' ', &name);
    if (str_eq(name, STR("to"))) {
        error = queue_envelope_add(e, STR(""), &r);
        if (error < 0)
            return error == -ENOMEM ? error : -EBADMSG;
    }
    if ((k = find_key(KEYS, ARRAY_SIZE(KEYS), name)))
        return get_key(k, line, e);
    k = find_key(RECIPIENT_KEYS, ARRAY_SIZE(RECIPIENT_KEYS), name);
    if (!k)
        return 0;
    return e->count > 0 ? get_key(k, line, &e->recipients[e->count - 1]) : -EBADMSG;
}

/* What every entry has, whoever wrote it. */
static bool is_sound(const struct queue_envelope *e)
{
    if (!e->sender || e->count == 0)
        return false;
    for (size_t i = 0; i < e->count; i++) {
        const struct queue_recipient *r = &e->recipients[i];

        if (r->address[0] == '\0' || (r->kind != QUEUE_REMOTE && (!r->user || r->user[0] == '\0' || !r->argument)))
            return false;
    }
    return true;
}

static int parse(struct str text, struct queue_envelope *ret)
{
    bool is_ended = false;
    struct str line;
    int e = 0;

    if (!str_cut(&text, '\n', &line) || !str_starts(line, STR(MAGIC)))
        return -EBADMSG;
    if (!str_eq(str_sub(line, sizeof(MAGIC) - 1, line.len), STR(VERSION)))
        return -EPROTONOSUPPORT;
    while (e == 0 && !is_ended) {
        if (!str_cut(&text, '\n', &line))
            return -EBADMSG;
        is_ended = str_eq(line, STR("end"));
        e = is_ended ? 0 : get_line(line, ret);
    }
    if (e == 0 && (text.len > 0 || !is_sound(ret)))
        e = -EBADMSG;
    return e;
}

int queue_envelope_parse(struct str text, struct queue_envelope *ret)
{
    struct queue_envelope fresh = QUEUE_ENVELOPE_INIT;
    int e = parse(text, &fresh);

    if (e < 0)
        queue_envelope_finish(&fresh);
    else
        *ret = fresh;
    return e;
}
