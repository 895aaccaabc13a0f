/*
 * Evaluation of search keys (RFC 9051 6.4.4). Runs in imap-session as the user; reads messages through shared/mbox,
 * one piece at a time.
 */
#include "handlers/imap/search.h"

#include <errno.h>

#include "handlers/imap/respond.h"
#include "shared/base/limits.h"
#include "shared/mime/date.h"
#include "shared/mime/header.h"
#include "shared/mime/rfc2047.h"

void search_init(struct search *q, struct imap *s)
{
    *q = (struct search){.s = s,
                         .charset = STR(""),
                         .text = BUF_INIT((size_t)LIMIT_HEADER_FIELD * 4),
                         .progress = {.s = s, .doing = "searching"}};
    message_init(&q->message, s);
}

void search_finish(struct search *q)
{
    for (struct search_key *key = q->newest; key; key = key->older) {
        numset_finish(&key->set);
        fold_search_free(key->header_search);
        mime_search_free(key->body_search);
    }
    q->newest = q->root = NULL;
    message_finish(&q->message);
    buf_finish(&q->text);
}

/* What a key costs: nothing, the header, the whole message. */
static unsigned key_cost(const struct search_key *key)
{
    unsigned cost = 0;

    if (key->kind >= SEARCH_SENTBEFORE)
        cost = key->kind >= SEARCH_BODY ? 2 : 1;
    for (const struct search_key *child = key->child; child; child = child->next) {
        unsigned of_child = key_cost(child); /* once: keys are nested deep */

        cost = of_child > cost ? of_child : cost;
    }
    return cost;
}

void search_order(struct search_key *key)
{
    struct search_key *by_cost[3] = {NULL}, **tails[3] = {&by_cost[0], &by_cost[1], &by_cost[2]}, *next;

    for (struct search_key *child = key->child; child; child = next) {
        unsigned cost;

        next = child->next;
        search_order(child);
        cost = key_cost(child);
        *tails[cost] = child;
        tails[cost] = &child->next;
    }
    *tails[2] = NULL;
    *tails[1] = by_cost[2];
    *tails[0] = by_cost[1] ? by_cost[1] : by_cost[2];
    key->child = by_cost[0] ? by_cost[0] : *tails[0];
}

/* The day of the Date: field (RFC 9051 6.4.4: time and zone do not count). */
static int match_sent(struct search *q, const struct search_key *key, bool *ret)
{
    struct header_field field;
    struct str header;
    int64_t when;
    int16_t offset;
    int32_t day;
    int r = message_fields(&q->message, STR("Date"), &header);

    *ret = false;
    if (r < 0)
        return r;
    if (!header_find(header, STR("Date"), &field) || date_parse(field.body, &when, &offset) < 0)
        return 0;
    day = date_day(when, offset);
    *ret = key->kind == SEARCH_SENTBEFORE ? day < key->day
           : key->kind == SEARCH_SENTON   ? day == key->day
                                          : day >= key->day;
    return 0;
}

static int field_contains(struct search *q, struct search_key *key, struct str body, bool *ret)
{
    int r;

    if (!key->text.len) {
        *ret = true;
        return 0;
    }
    buf_clear(&q->text);
    r = rfc2047_decode(body, &q->text);
    if (r == -ENOBUFS)
        r = 0; /* what fits is looked at */
    if (r >= 0 && !key->header_search)
        r = fold_search_new(key->text, &key->header_search);
    if (r < 0)
        return r;
    return fold_search_text(key->header_search, buf_str(&q->text), ret);
}

/* Any field of that name; an empty string asks only whether there is one. */
static int match_header(struct search *q, struct search_key *key, bool *ret)
{
    struct header_field field;
    struct header_iter i;
    struct str header;
    int r = message_fields(&q->message, key->field, &header);

    *ret = false;
    if (r < 0)
        return r;
    i = header_iterate(header);
    while (r >= 0 && !*ret && header_next(&i, &field))
        if (str_ieq(field.name, key->field))
            r = field_contains(q, key, field.body, ret);
    return r;
}

struct body_match {
    struct search *query;
    struct mime_search *search;
    bool is_found;
};

static int feed_body(void *context, struct str piece)
{
    struct body_match *b = context;
    int r = progress_go_on(&b->query->progress, b->query->message.seq - 1);

    if (r >= 0)
        r = mime_search_feed(b->search, piece, &b->is_found);
    return r < 0 ? r : b->is_found ? 1 : 0;
}

static int match_body(struct search *q, struct search_key *key, bool *ret)
{
    struct body_match b = {.query = q};
    bool is_found = false;
    int r, e;

    if (!key->body_search) {
        r = mime_search_new(key->text, key->kind == SEARCH_TEXT, &key->body_search);
        if (r < 0)
            return r;
    }
    b.search = key->body_search;
    r = message_read(&q->message, 0, q->message.info.size, feed_body, &b);
    /* Also after a hit or an error: it makes the searcher ready for the next message. */
    e = mime_search_end(key->body_search, &is_found);
    *ret = r >= 0 && (b.is_found || (e >= 0 && (is_found || key->text.len == 0)));
    return r < 0 ? r : e;
}

/* An EMAILID as FETCH prints it: "M" and its bytes in hexadecimal. */
static bool match_email_id(struct str id, const struct mbox_info *info)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    uint8_t bytes[16];

    message_email_id(info, bytes);
    return respond_object_id_text(&text, 'M', bytes) >= 0 && str_eq(id, buf_str(&text));
}

static bool match_saved(struct search *q, const struct search_key *key, int64_t savedate)
{
    int32_t day;

    if (savedate == 0)
        return false;
    day = date_day(savedate, (int16_t)clock_utc_offset(&q->s->conf->clock, savedate));
    return key->kind == SEARCH_SAVEDBEFORE ? day < key->day
           : key->kind == SEARCH_SAVEDON   ? day == key->day
                                           : day >= key->day;
}

static bool match_info(struct search *q, const struct search_key *key)
{
    const struct mbox_info *info = &q->message.info;
    int32_t day;

    switch (key->kind) {
    case SEARCH_ALL:
        return true;
    case SEARCH_FLAG:
        return (info->flags.system & key->flag) != 0;
    case SEARCH_KEYWORD:
        return (info->flags.system & key->flag) || (info->flags.keywords & key->number);
    case SEARCH_RECENT:
        return info->is_recent;
    case SEARCH_SEQUENCE:
        return numset_has(&key->set, q->message.seq);
    case SEARCH_SMALLER:
        return info->size < key->number;
    case SEARCH_LARGER:
        return info->size > key->number;
    case SEARCH_YOUNGER:
        return info->internaldate >= clock_now(&q->s->conf->clock) - (int64_t)key->number;
    case SEARCH_OLDER:
        return info->internaldate <= clock_now(&q->s->conf->clock) - (int64_t)key->number;
    case SEARCH_MODSEQ:
        return info->modseq >= key->number;
    case SEARCH_SAVEDBEFORE:
    case SEARCH_SAVEDON:
    case SEARCH_SAVEDSINCE:
        return match_saved(q, key, info->savedate);
    case SEARCH_EMAILID:
        return match_email_id(key->text, info);
    case SEARCH_NOTHING:
        return false;
    default:
        break;
    }
    day = date_day(info->internaldate, info->internaldate_offset);
    return key->kind == SEARCH_BEFORE ? day < key->day : key->kind == SEARCH_ON ? day == key->day : day >= key->day;
}

static int match_key(struct search *q, struct search_key *key, bool *ret)
{
    int r = 0;

    switch (key->kind) {
    case SEARCH_AND:
        *ret = true;
        for (struct search_key *child = key->child; child && *ret && r >= 0; child = child->next)
            r = match_key(q, child, ret);
        return r;
    case SEARCH_OR:
        *ret = false;
        for (struct search_key *child = key->child; child && !*ret && r >= 0; child = child->next)
            r = match_key(q, child, ret);
        return r;
    case SEARCH_NOT:
        r = match_key(q, key->child, ret);
        *ret = !*ret;
        return r;
    case SEARCH_SENTBEFORE:
    case SEARCH_SENTON:
    case SEARCH_SENTSINCE:
        return match_sent(q, key, ret);
    case SEARCH_HEADER:
        return match_header(q, key, ret);
    case SEARCH_BODY:
    case SEARCH_TEXT:
        return match_body(q, key, ret);
    default:
        *ret = match_info(q, key);
        return 0;
    }
}

int search_match(struct search *q, uint32_t seq, bool *ret_is_match)
{
    bool is_match = false;
    int r = message_begin(&q->message, seq);

    if (r >= 0)
        r = match_key(q, q->root, &is_match);
    if (r == -ESTALE) {
        r = 0;
        is_match = false;
    }
    if (r < 0)
        return r;
    *ret_is_match = is_match;
    return 0;
}
