/*
 * Configuration: the options that every program takes (see conf.h).
 */
#include "shared/base/conf.h"

#include <errno.h>
#include <string.h>

#define CONF_FILE PENNYPOST_SYSCONFDIR "/pennypost.conf"

/* Remembers an option for the programs that we start. */
static int remember(struct conf *c, const char *option, const char *value)
{
    int r = buf_add(&c->overrides, option, strlen(option) + 1);

    return r < 0 ? r : buf_add(&c->overrides, value, strlen(value) + 1);
}

int conf_pass_on(const struct conf *c, char **argv, int *argc, int max)
{
    for (size_t at = 0; at < c->overrides.len; at += strlen(c->overrides.data + at) + 1) {
        if (*argc + 1 >= max)
            return -E2BIG;
        argv[(*argc)++] = c->overrides.data + at;
    }
    argv[*argc] = NULL;
    return 0;
}

static int freeze(struct conf *c, const char *seconds)
{
    uint64_t epoch;

    if (str_to_u64(str_from(seconds), &epoch) < 0 || epoch > INT64_MAX / 1000000) {
        (void)buf_printf(&c->error, "--epoch takes seconds since 1970");
        return -EINVAL;
    }
    c->clock.is_frozen = true;
    c->clock.epoch = (int64_t)epoch;
    return 0;
}

/* The value of option `name` at argv[i], in the same word or the next; NULL: another option. *ret_words: words used. */
static const char *option_value(char **argv, int i, const char *name, int *ret_words)
{
    size_t len = strlen(name);

    if (strncmp(argv[i], name, len) != 0)
        return NULL;
    *ret_words = 1;
    if (name[1] == '-')
        return argv[i][len] == '=' ? argv[i] + len + 1 : NULL;
    if (argv[i][len] != '\0')
        return argv[i] + len;
    *ret_words = 2;
    return argv[i + 1] ? argv[i + 1] : "";
}

static int set_override(struct conf *c, const char *pair)
{
    struct str value = str_from(pair), key;

    if (!str_cut(&value, '=', &key)) {
        buf_clear(&c->error);
        (void)buf_printf(&c->error, "-o takes key=value");
        return -EINVAL;
    }

    int r = conf_set(c, str_trim(key), str_trim(value));

    return r == -ENOENT ? -EINVAL : r;
}

/* Takes the common options out of argv and remembers them in c->overrides. */
static int collect(struct conf *c, int *argc, char **argv)
{
    static const char *const options[] = {"-c", "-o", "--epoch"};
    int kept = 1;

    for (int i = 1; i < *argc;) {
        const char *value = NULL;
        int words = 1, r = 0;

        if (strcmp(argv[i], "--") == 0) {
            while (i < *argc)
                argv[kept++] = argv[i++];
            break;
        }
        for (size_t k = 0; k < ARRAY_SIZE(options) && !value; k++) {
            value = option_value(argv, i, options[k], &words);
            if (value && strcmp(options[k], "--epoch") == 0) {
                r = freeze(c, value);
                if (r >= 0)
                    r = buf_add(&c->overrides, argv[i], strlen(argv[i]) + 1);
            } else if (value) {
                r = remember(c, options[k], value);
            }
        }
        if (r < 0)
            return r;
        if (!value)
            argv[kept++] = argv[i];
        i += words;
    }
    *argc = kept;
    argv[kept] = NULL;
    return 0;
}

int conf_args(struct conf *c, int *argc, char **argv)
{
    const char *file = NULL;
    int r = collect(c, argc, argv);

    if (r < 0)
        return r;

    /* The file first, whatever the order on the command line: overrides win. */
    const char *end = c->overrides.data + c->overrides.len;

    for (const char *at = c->overrides.data; at < end; at += strlen(at) + 1)
        if (strcmp(at, "-c") == 0)
            file = at = at + 3;
        else if (strcmp(at, "-o") == 0)
            at += 3;
    r = conf_load(c, file ? file : CONF_FILE);
    if (r == -ENOENT && !file) {
        buf_clear(&c->error);
        r = 0;
    }
    for (const char *at = c->overrides.data; at < end && r >= 0; at += strlen(at) + 1)
        if (strcmp(at, "-o") == 0) {
            at += 3;
            r = set_override(c, at);
        } else if (strcmp(at, "-c") == 0) {
            at += 3;
        }
    return r;
}
