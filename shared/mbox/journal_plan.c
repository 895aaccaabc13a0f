/*
 * Plans of a journal: what is to stand where. Runs as the user; touches memory only.
 */
#include <errno.h>
#include <stdlib.h>

#include "shared/mbox/journal_file.h"

void journal_plan_init(struct journal_plan *plan, uint64_t start, uint64_t old_size)
{
    *plan = (struct journal_plan){.start = start, .old_size = old_size, .literals = BUF_INIT(LIMIT_JOURNAL_LITERALS)};
}

void journal_plan_finish(struct journal_plan *plan)
{
    free(plan->pieces);
    buf_finish(&plan->literals);
    *plan = (struct journal_plan){0};
}

uint64_t journal_plan_end(const struct journal_plan *plan)
{
    return plan->count == 0 ? plan->start : plan->pieces[plan->count - 1].to + plan->pieces[plan->count - 1].len;
}

static int plan_add(struct journal_plan *plan, uint64_t to, uint64_t from, uint64_t len)
{
    if (plan->count == plan->cap) {
        size_t cap = plan->cap == 0 ? 64 : plan->cap * 2;
        struct journal_piece *more = realloc(plan->pieces, cap * sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        plan->pieces = more;
        plan->cap = cap;
    }
    plan->pieces[plan->count++] = (struct journal_piece){to, from, len, 0};
    return 0;
}

int journal_plan_copy(struct journal_plan *plan, uint64_t from, uint64_t len)
{
    struct journal_piece *last = plan->count > 0 ? &plan->pieces[plan->count - 1] : NULL;

    if (len == 0)
        return 0;
    if (last != NULL && last->from < JOURNAL_LITERAL && last->from + last->len == from) {
        last->len += len;
        return 0;
    }
    return plan_add(plan, journal_plan_end(plan), from, len);
}

int journal_plan_literal(struct journal_plan *plan, const void *data, size_t len)
{
    uint64_t at = plan->literals.len;
    int r = buf_add(&plan->literals, data, len);

    return r < 0 ? r : plan_add(plan, journal_plan_end(plan), JOURNAL_LITERAL + at, len);
}

size_t journal_piece_at(const struct journal_plan *plan, uint64_t at)
{
    size_t low = 0, high = plan->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (plan->pieces[mid].to + plan->pieces[mid].len <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

uint64_t journal_source(const struct journal_plan *plan, uint64_t at)
{
    size_t i = journal_piece_at(plan, at);

    if (i < plan->count && plan->pieces[i].from < JOURNAL_LITERAL && plan->pieces[i].to < at)
        return plan->pieces[i].from + (at - plan->pieces[i].to);
    for (; i < plan->count; i++)
        if (plan->pieces[i].from < JOURNAL_LITERAL)
            return plan->pieces[i].from;
    return plan->old_size;
}

uint64_t journal_least_gap(const struct journal_plan *plan, uint64_t at)
{
    for (size_t i = journal_piece_at(plan, at); i < plan->count; i++)
        if (plan->pieces[i].from < JOURNAL_LITERAL)
            return plan->pieces[i].from - plan->pieces[i].to;
    return plan->old_size - journal_plan_end(plan);
}
