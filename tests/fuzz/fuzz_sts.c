/*
 * MTA-STS: records, policy files, kept entries. What is accepted can be written and read again with the same result.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/io/frame_types.h"
#include "shared/sts/cache.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static void check_policy(const struct sts_policy *p)
{
    static struct sts_policy again;
    struct frame f = FRAME_INIT;
    struct frame_reader in;

    CHECK(p->mode <= STS_ENFORCE && p->max_age <= STS_MAX_AGE && p->mx_count <= STS_MX);
    CHECK(p->mode == STS_NONE || p->mx_count > 0);
    for (size_t i = 0; i < p->mx_count; i++) {
        CHECK(sts_pattern_is_valid(str_from(p->mx[i])));
        CHECK(p->mx[i][0] == '*' || sts_policy_allows(p, str_from(p->mx[i])));
    }
    frame_begin(&f, FRAME_STS_POLICY);
    CHECK(sts_policy_put(&f, p) == 0);
    in = frame_read(&f);
    CHECK(sts_policy_get(&in, &again) == 0 && again.mx_count == p->mx_count && again.max_age == p->max_age);
    frame_finish(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sts_policy p;
    static struct sts_entry e, again;
    struct str input = {(const char *)data, size};
    struct buf text = BUF_INIT(1u << 17);
    char id[STS_ID + 1];

    if (sts_record_parse(input, id) == 0)
        CHECK(id[0] != '\0' && strlen(id) <= STS_ID);
    if (sts_policy_parse(input, &p) == 0)
        check_policy(&p);
    (void)sts_policy_allows(&p, input);
    if (sts_entry_parse(input, &e) == 0) {
        CHECK(sts_entry_format(&e, &text) == 0);
        CHECK(sts_entry_parse(buf_str(&text), &again) == 0 && again.fetched == e.fetched && again.failed == e.failed);
    }
    buf_finish(&text);
    return 0;
}
