/*
 * The texts of MTA-STS. The policy file is parsed in `sts`, which is confined; the record, a line that `resolve` has
 * made of an answer, in the process that asks. Pure.
 */
#include "shared/sts/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"

#define KEY_MAX 32 /* bytes of a field's name (RFC 8461 3.1, 3.2) */

static struct str trim_blanks(struct str s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = str_sub(s, 1, s.len);
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

static bool is_alphanumeric(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c);
}

/* sts-ext-name, sts-policy-ext-name */
static bool is_key(struct str key)
{
    if (key.len == 0 || key.len > KEY_MAX || !is_alphanumeric(key.ptr[0]))
        return false;
    for (size_t i = 1; i < key.len; i++)
        if (!is_alphanumeric(key.ptr[i]) && key.ptr[i] != '_' && key.ptr[i] != '-' && key.ptr[i] != '.')
            return false;
    return true;
}

/* ---- the record ---- */

bool sts_record_is_ours(struct str text)
{
    struct str version;

    (void)str_cut(&text, ';', &version);
    return str_starts(version, STR("v=STSv1")) && trim_blanks(str_sub(version, 7, version.len)).len == 0;
}

static bool is_id(struct str id)
{
    if (id.len == 0 || id.len > STS_ID)
        return false;
    for (size_t i = 0; i < id.len; i++)
        if (!is_alphanumeric(id.ptr[i]))
            return false;
    return true;
}

/* sts-ext-value: visible ASCII. The grammar excludes "=" in its comment and not in its rule; the rule counts. */
static bool is_record_value(struct str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] <= ' ' || value.ptr[i] > '~')
            return false;
    return value.len > 0;
}

int sts_record_parse(struct str text, char ret_id[static STS_ID + 1])
{
    struct str id = STR_NULL, field, key;
    bool is_more = true;

    if (!sts_record_is_ours(text))
        return -EINVAL;
    is_more = str_cut(&text, ';', &field);
    while (is_more) {
        is_more = str_cut(&text, ';', &field);
        field = trim_blanks(field);
        if (!is_more && field.len == 0)
            break; /* the delimiter at the end */
        if (!str_cut(&field, '=', &key) || !is_key(key) || !is_record_value(field))
            return -EINVAL;
        if (!str_eq(key, STR("id")) || id.len > 0)
            continue; /* extensions; of what stands twice the first counts */
        if (!is_id(field))
            return -EINVAL;
        id = field;
    }
    if (id.len == 0)
        return -EINVAL;
    memcpy(ret_id, id.ptr, id.len);
    ret_id[id.len] = '\0';
    return 0;
}

/* ---- the policy ---- */

static const char *const MODES[] = {[STS_NONE] = "none", [STS_TESTING] = "testing", [STS_ENFORCE] = "enforce"};

const char *sts_mode_name(enum sts_mode mode)
{
    return MODES[mode];
}

int sts_mode_parse(struct str name, enum sts_mode *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(MODES); i++)
        if (str_eq(name, str_from(MODES[i]))) {
            *ret = (enum sts_mode)i;
            return 0;
        }
    return -EINVAL;
}

bool sts_pattern_is_valid(struct str pattern)
{
    return dns_name_is_host(str_starts(pattern, STR("*.")) ? str_sub(pattern, 2, pattern.len) : pattern);
}

static int add_pattern(struct sts_policy *p, struct str pattern)
{
    pattern = dns_name_trim(pattern);
    if (!sts_pattern_is_valid(pattern))
        return -EINVAL;
    if (p->mx_count == STS_MX)
        return -E2BIG; /* half a list would refuse hosts that are allowed */
    for (size_t i = 0; i < pattern.len; i++)
        p->mx[p->mx_count][i] = ascii_lower(pattern.ptr[i]);
    p->mx[p->mx_count++][pattern.len] = '\0';
    return 0;
}

enum seen { SEEN_VERSION = 1, SEEN_MODE = 2, SEEN_MAX_AGE = 4, SEEN_ALL = 7 };

static int set_version(struct sts_policy *p, struct str value)
{
    return str_eq(value, STR("STSv1")) ? 0 : -EINVAL;
}

static int set_mode(struct sts_policy *p, struct str value)
{
    return sts_mode_parse(value, &p->mode);
}

static int set_max_age(struct sts_policy *p, struct str value)
{
    uint64_t n = 0;

    if (value.len > 10 || str_to_u64(value, &n) < 0)
        return -EINVAL;
    p->max_age = n < STS_MAX_AGE ? (uint32_t)n : STS_MAX_AGE;
    return 0;
}

static int take_field(struct sts_policy *p, struct str line, unsigned *seen)
{
    static const struct {
        const char *key;
        unsigned bit; /* 0: may stand several times */
        int (*set)(struct sts_policy *p, struct str value);
    } fields[] = {{"version", SEEN_VERSION, set_version},
                  {"mode", SEEN_MODE, set_mode},
                  {"max_age", SEEN_MAX_AGE, set_max_age},
                  {"mx", 0, add_pattern}};
    struct str key;

    if (!str_cut(&line, ':', &key) || !is_key(key))
        return -EINVAL;
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (!str_eq(key, str_from(fields[i].key)))
            continue;
        if (*seen & fields[i].bit)
            return 0; /* RFC 8461 3.2: all entries except for the first are ignored */
        *seen |= fields[i].bit;
        return fields[i].set(p, trim_blanks(line));
    }
    return 0; /* an extension */
}

static int parse_body(struct str body, struct sts_policy *p)
{
    unsigned seen = 0;
    bool is_more = true;
    struct str line;
    int r = 0;

    if (body.len > STS_BODY || str_has_nul(body) || !utf8_valid(body))
        return -EINVAL;
    while (is_more && r == 0) {
        is_more = str_cut(&body, '\n', &line);
        if (line.len > 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        line = trim_blanks(line);
        if (line.len > 0) /* empty lines are common, and say nothing */
            r = take_field(p, line, &seen);
    }
    if (r < 0)
        return r;
    return seen == SEEN_ALL && (p->mx_count > 0 || p->mode == STS_NONE) ? 0 : -EINVAL;
}

int sts_policy_parse(struct str body, struct sts_policy *ret)
{
    _cleanup_free_ struct sts_policy *p = calloc(1, sizeof(*p));
    int r = p ? parse_body(body, p) : -ENOMEM;

    if (r == 0)
        *ret = *p;
    return r;
}

bool sts_policy_allows(const struct sts_policy *p, struct str host)
{
    struct str parent = dns_name_trim(host), label;
    bool has_parent = false;

    host = parent;
    has_parent = str_cut(&parent, '.', &label);
    for (size_t i = 0; i < p->mx_count; i++) {
        struct str pattern = str_from(p->mx[i]);

        if (!str_starts(pattern, STR("*."))) {
            if (str_ieq(pattern, host))
                return true;
        } else if (has_parent && label.len > 0 && str_ieq(str_sub(pattern, 2, pattern.len), parent)) {
            return true;
        }
    }
    return false;
}

/* ---- frames ---- */

int sts_policy_put(struct frame *f, const struct sts_policy *p)
{
    int r = frame_put_u32(f, p->mode);

    if (r == 0)
        r = frame_put_u32(f, p->max_age);
    if (r == 0)
        r = frame_put_u32(f, (uint32_t)p->mx_count);
    for (size_t i = 0; i < p->mx_count && r == 0; i++)
        r = frame_put_str(f, str_from(p->mx[i]));
    return r;
}

static int get_policy(struct frame_reader *in, struct sts_policy *p)
{
    uint32_t mode = 0;
    uint32_t count = 0;

    if (frame_get_u32(in, &mode) < 0 || mode > STS_ENFORCE || frame_get_u32(in, &p->max_age) < 0 ||
        p->max_age > STS_MAX_AGE || frame_get_u32(in, &count) < 0 || count > STS_MX || (count == 0 && mode != STS_NONE))
        return -EBADMSG;
    p->mode = (enum sts_mode)mode;
    for (uint32_t i = 0; i < count; i++) {
        struct str pattern;

        if (frame_get_str(in, STS_PATTERN, &pattern) < 0 || add_pattern(p, pattern) < 0)
            return -EBADMSG;
    }
    return frame_end(in);
}

int sts_policy_get(struct frame_reader *in, struct sts_policy *ret)
{
    _cleanup_free_ struct sts_policy *p = calloc(1, sizeof(*p));
    int r = p ? get_policy(in, p) : -ENOMEM;

    if (r == 0)
        *ret = *p;
    return r;
}
