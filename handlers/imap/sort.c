/*
 * Ordering messages (see sort.h). Runs in imap-session as the user. Only the keys that are asked for are held, while
 * the command lasts.
 */
#include "handlers/imap/sort.h"

#include <errno.h>

#include "handlers/imap/digest.h"
#include "handlers/imap/progress.h"
#include "shared/base/macros.h"

#define KEYS_MAX ((size_t)1 << 30) /* bytes of keys of one SORT */

/* One message with its keys: a number or a text for each criterion. */
struct sort_key {
    uint64_t number;
    struct {
        size_t at;
        size_t len;
    } text;
};

struct sorter {
    struct imap *s;
    const struct sort_program *program;
    struct sort_key *keys; /* count rows of program->count */
    uint32_t *seqs;        /* of each row */
    size_t count;
    struct buf texts;
};

static const struct {
    const char *name;
    enum sort_by by;
    int text; /* enum digest_text, -1: a number */
} names[] = {
    {"ARRIVAL", SORT_ARRIVAL, -1},
    {"CC", SORT_CC, DIGEST_CC},
    {"DATE", SORT_DATE, -1},
    {"FROM", SORT_FROM, DIGEST_FROM},
    {"SIZE", SORT_SIZE, -1},
    {"SUBJECT", SORT_SUBJECT, DIGEST_SUBJECT},
    {"TO", SORT_TO, DIGEST_TO},
    {"DISPLAYFROM", SORT_DISPLAYFROM, DIGEST_DISPLAY_FROM},
    {"DISPLAYTO", SORT_DISPLAYTO, DIGEST_DISPLAY_TO},
};

int sort_parse(struct imap *s, struct sort_program *ret)
{
    struct parse *p = &s->parse;
    int r = parse_char(p, '(', "sort criteria in parentheses");

    *ret = (struct sort_program){.count = 0};
    do {
        struct sort_criterion *c = &ret->items[ret->count];
        size_t i = 0;

        if (r < 0)
            return r;
        if (ret->count == SORT_CRITERIA)
            return parse_fail(p, "fewer sort criteria");
        c->is_reverse = parse_accept_word(p, STR("REVERSE"));
        if (c->is_reverse)
            r = parse_space(p);
        while (i < ARRAY_SIZE(names) && !parse_accept_word(p, str_from(names[i].name)))
            i++;
        if (i == ARRAY_SIZE(names))
            return parse_fail(p, "ARRIVAL, CC, DATE, FROM, SIZE, SUBJECT, TO, DISPLAYFROM or DISPLAYTO");
        c->by = names[i].by;
        ret->count++;
    } while (r < 0 || parse_accept(p, ' '));
    return parse_char(p, ')', "a space or a closing parenthesis");
}

static bool needs_digest(const struct sort_program *program)
{
    for (size_t i = 0; i < program->count; i++)
        if (program->items[i].by != SORT_ARRIVAL && program->items[i].by != SORT_SIZE)
            return true;
    return false;
}

/* Numbers are compared unsigned: times are shifted so that those before 1970 come first. */
static uint64_t time_key(int64_t when)
{
    return (uint64_t)when ^ (UINT64_C(1) << 63);
}

static int fill_row(struct sorter *o, const struct message *m, const struct digest *d, struct sort_key *row)
{
    for (size_t i = 0; i < o->program->count; i++) {
        enum sort_by by = o->program->items[i].by;
        int r;

        if (by == SORT_ARRIVAL) {
            row[i].number = time_key(m->info.internaldate);
        } else if (by == SORT_SIZE) {
            row[i].number = m->info.size;
        } else if (by == SORT_DATE) {
            row[i].number = time_key(d->date);
        } else {
            struct str text = d->texts[names[by].text];

            row[i].text.at = o->texts.len;
            row[i].text.len = text.len;
            r = buf_add_str(&o->texts, text);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int load(struct sorter *o, const struct numset *found)
{
    bool has_digest = needs_digest(o->program);
    struct progress progress = {.s = o->s, .doing = "sorting"};
    struct message m;
    struct digest d;
    size_t n = 0;
    int r = 0;

    message_init(&m, o->s);
    digest_init(&d);
    for (size_t i = 0; i < found->count && r >= 0; i++) {
        for (uint32_t seq = found->ranges[i].first; seq <= found->ranges[i].last && r >= 0; seq++) {
            r = progress_go_on(&progress, n);
            if (r >= 0)
                r = message_begin(&m, seq);
            if (r >= 0 && has_digest) {
                r = digest_get(&d, &m);
                if (r == -ESTALE) { /* gone meanwhile: it sorts as an empty message */
                    d = (struct digest){.bytes = d.bytes, .date = m.info.internaldate};
                    r = 0;
                }
            }
            o->seqs[n] = seq;
            if (r >= 0)
                r = fill_row(o, &m, &d, &o->keys[n * o->program->count]);
            n++;
        }
    }
    digest_finish(&d);
    message_finish(&m);
    return r;
}

static int compare_rows(const void *a, const void *b, void *context)
{
    const struct sorter *o = context;
    size_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const struct sort_key *p = &o->keys[x * o->program->count], *q = &o->keys[y * o->program->count];

    for (size_t i = 0; i < o->program->count; i++) {
        int c;

        if (names[o->program->items[i].by].text < 0)
            c = p[i].number < q[i].number ? -1 : p[i].number > q[i].number;
        else
            c = str_cmp(str_sub(buf_str(&o->texts), p[i].text.at, p[i].text.len),
                        str_sub(buf_str(&o->texts), q[i].text.at, q[i].text.len));
        if (c != 0)
            return o->program->items[i].is_reverse ? -c : c;
    }
    /* RFC 5256 3: the last resort is the sequence number, never reversed. */
    return x < y ? -1 : x > y;
}

int sort_messages(struct imap *s, const struct sort_program *program, const struct numset *found, uint32_t **ret)
{
    struct sorter o = {.s = s, .program = program, .count = (size_t)numset_size(found), .texts = BUF_INIT(KEYS_MAX)};
    uint32_t *order = calloc(o.count + 1, sizeof(*order));
    int r = -ENOMEM;

    o.keys = calloc(o.count * program->count + 1, sizeof(*o.keys));
    o.seqs = calloc(o.count + 1, sizeof(*o.seqs));
    if (order && o.keys && o.seqs)
        r = load(&o, found);
    if (r >= 0) {
        for (size_t i = 0; i < o.count; i++)
            order[i] = (uint32_t)i;
        qsort_r(order, o.count, sizeof(*order), compare_rows, &o);
        for (size_t i = 0; i < o.count; i++)
            order[i] = o.seqs[order[i]];
        *ret = steal_ptr(order);
    }
    free(order);
    free(o.keys);
    free(o.seqs);
    buf_finish(&o.texts);
    return r;
}
