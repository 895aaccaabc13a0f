/*
 * SORT and THREAD with their UID forms (RFC 5256), extended SORT (RFC 5267). Runs in imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/search_result.h"
#include "handlers/imap/seqset.h"
#include "handlers/imap/sort.h"
#include "handlers/imap/thread.h"
#include "shared/base/macros.h"

/* SP charset SP search-key ... 0, a negative errno, or OUTCOME_NO with [BADCHARSET]. */
static int parse_rest(struct imap *s, struct search *q)
{
    struct str name;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_astring(&s->parse, "the name of a character set", &name);
    if (r >= 0)
        r = parse_space(&s->parse);
    if (r >= 0)
        r = search_set_charset(q, name);
    return r == 0 ? search_parse(q) : r;
}

/* From sequence numbers to UIDs, in place. */
static void to_uids(struct imap *s, uint32_t *numbers, size_t count)
{
    for (size_t i = 0; i < count && s->is_uid; i++) {
        struct mbox_info info;

        if (mbox_info(s->box, numbers[i], &info) >= 0)
            numbers[i] = info.uid;
    }
}

/* RFC 5267 3.2: ALL in the sorted order, MIN and MAX are the first and the last of it. */
static void write_extended(struct imap *s, const struct search_result *result, const uint32_t *numbers, size_t count)
{
    uint64_t from, end;

    search_write_esearch(s);
    if (count > 0 && (result->returns & RETURN_MIN))
        (void)writer_printf(&s->out, " MIN %" PRIu32, numbers[0]);
    if (count > 0 && (result->returns & RETURN_MAX))
        (void)writer_printf(&s->out, " MAX %" PRIu32, numbers[count - 1]);
    for (size_t i = 0; i < count && (result->returns & RETURN_ALL); i++)
        (void)writer_printf(&s->out, "%s%" PRIu32, i ? "," : " ALL ", numbers[i]);
    if (result->returns & RETURN_PARTIAL) {
        partial_bounds(&result->partial, count, &from, &end);
        (void)writer_printf(&s->out, " PARTIAL (%.*s%s", STR_ARG(result->partial.text), from < end ? "" : " NIL");
        for (uint64_t i = from; i < end; i++)
            (void)writer_printf(&s->out, "%s%" PRIu32, i > from ? "," : " ", numbers[i]);
        (void)writer_text(&s->out, ")");
    }
    if (result->returns & RETURN_COUNT)
        (void)writer_printf(&s->out, " COUNT %zu", count);
    if (result->has_modseq && count > 0)
        (void)writer_printf(&s->out, " MODSEQ %" PRIu64, result->modseq);
    (void)writer_text(&s->out, "\r\n");
}

static void write_plain(struct imap *s, const struct search_result *result, const uint32_t *numbers, size_t count)
{
    (void)writer_text(&s->out, "* SORT");
    for (size_t i = 0; i < count; i++) {
        (void)writer_add(&s->out, " ", 1);
        (void)writer_u64(&s->out, numbers[i]);
    }
    if (result->has_modseq && count > 0)
        (void)writer_printf(&s->out, " (MODSEQ %" PRIu64 ")", result->modseq);
    (void)writer_text(&s->out, "\r\n");
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* What PARTIAL names of the sorted messages, as a set. */
static int take_page(struct search_result *result, const uint32_t *numbers, size_t count)
{
    _cleanup_free_ uint32_t *page = NULL;
    uint64_t from, end;
    int r = 0;

    if (!result->partial.is_wanted)
        return 0;
    partial_bounds(&result->partial, count, &from, &end);
    page = calloc(end - from + 1, sizeof(*page));
    if (!page)
        return -ENOMEM;
    for (uint64_t i = from; i < end; i++)
        page[i - from] = numbers[i];
    qsort(page, end - from, sizeof(*page), compare_numbers);
    for (uint64_t i = from; i < end && r >= 0; i++)
        r = numset_add(&result->page, page[i - from], page[i - from]);
    return r;
}

static int save(struct imap *s, const struct search_result *result, const uint32_t *numbers, size_t count)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    struct mbox_info first = {.uid = 0}, last = {.uid = 0};
    int r = seqset_uids(s, &result->found, &uids);

    if (r >= 0 && count > 0)
        r = mbox_info(s->box, numbers[0], &first);
    if (r >= 0 && count > 0)
        r = mbox_info(s->box, numbers[count - 1], &last);
    return r < 0 ? r : search_save(s, result, &uids, first.uid, last.uid);
}

static int sort_found(struct imap *s, const struct sort_program *program, struct search_result *result)
{
    _cleanup_free_ uint32_t *numbers = NULL;
    size_t count = (size_t)numset_size(&result->found);
    int r = sort_messages(s, program, &result->found, &numbers);

    if (r >= 0)
        r = take_page(result, numbers, count);
    if (r >= 0 && count > 0)
        r = search_highest_modseq(s, result, numbers[0], numbers[count - 1]);
    if (r < 0)
        return r;
    if (result->returns & RETURN_SAVE)
        r = save(s, result, numbers, count);
    if (r < 0)
        return r;
    to_uids(s, numbers, count);
    if (result->returns == RETURN_SAVE)
        return OUTCOME_OK;
    if (result->is_extended)
        write_extended(s, result, numbers, count);
    else
        write_plain(s, result, numbers, count);
    return OUTCOME_OK;
}

static int sort_command(struct imap *s, struct search *q, struct search_result *result)
{
    struct sort_program program;
    int r = parse_space(&s->parse);

    if (r >= 0 && parse_accept_word(&s->parse, STR("RETURN")))
        r = search_parse_return(s, result);
    if (r >= 0)
        r = sort_parse(s, &program);
    if (r >= 0)
        r = parse_rest(s, q);
    if (r == 0) {
        r = search_run(q, result);
        if (r >= 0)
            r = sort_found(s, &program, result);
        if (r < 0)
            r = respond_error(s, r, "Cannot sort");
    }
    search_unsave(s, result, r); /* as a SEARCH that fails */
    return r;
}

int cmd_sort(void *session, struct str arguments)
{
    struct imap *s = session;
    struct search_result result = {.is_extended = false};
    struct search q;
    int r;

    search_init(&q, s);
    r = sort_command(s, &q, &result);
    search_finish(&q);
    search_finish_result(&result);
    return r;
}

static int parse_algorithm(struct imap *s, enum thread_algorithm *ret)
{
    static const struct {
        const char *name;
        enum thread_algorithm algorithm;
    } names[] = {
        {"ORDEREDSUBJECT", THREAD_ORDEREDSUBJECT},
        {"REFERENCES", THREAD_REFERENCES},
        {"REFS", THREAD_REFS},
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!parse_accept_word(&s->parse, str_from(names[i].name)))
            continue;
        *ret = names[i].algorithm;
        return 0;
    }
    return parse_fail(&s->parse, "ORDEREDSUBJECT, REFERENCES or REFS");
}

static int thread_found(struct imap *s, enum thread_algorithm algorithm, const struct numset *found)
{
    struct thread_forest forest;
    int r;

    thread_init(&forest);
    r = thread_build(s, algorithm, found, &forest);
    if (r >= 0) {
        (void)writer_text(&s->out, "* THREAD");
        r = thread_write(s, &forest);
        (void)writer_text(&s->out, "\r\n");
    }
    thread_finish(&forest);
    return r;
}

static int thread_command(struct imap *s, struct search *q, struct search_result *result)
{
    enum thread_algorithm algorithm;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_algorithm(s, &algorithm);
    if (r >= 0)
        r = parse_rest(s, q);
    if (r != 0)
        return r;
    r = search_run(q, result);
    if (r >= 0)
        r = thread_found(s, algorithm, &result->found);
    return r < 0 ? respond_error(s, r, "Cannot thread") : OUTCOME_OK;
}

int cmd_thread(void *session, struct str arguments)
{
    struct imap *s = session;
    struct search_result result = {.is_extended = false};
    struct search q;
    int r;

    search_init(&q, s);
    r = thread_command(s, &q, &result);
    search_finish(&q);
    search_finish_result(&result);
    return r;
}
