/*
 * Flags of sendmail(8), one row each. Runs as the invoking user; pure.
 */
#include "handlers/sendmail/options.h"

#include <errno.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/base/str.h"

enum arity {
    ALONE,    /* "-i" */
    VALUE,    /* "-fX" or "-f X" */
    ATTACHED, /* "-qX", or "-q" without a value */
};

struct flag {
    char letter;
    enum arity arity;
    int (*take)(struct sendmail_options *o, const char *value); /* NULL: taken and ignored */
};

static int take_conf(struct sendmail_options *o, const char *option, const char *value)
{
    if (o->conf_count + 2 > OPTIONS_CONF)
        return -E2BIG;
    o->conf[o->conf_count++] = option;
    if (value)
        o->conf[o->conf_count++] = value;
    return 0;
}

static int take_mode(struct sendmail_options *o, const char *value)
{
    static const struct {
        const char *word;
        enum sendmail_mode mode;
    } modes[] = {
        {"m", SENDMAIL_DELIVER}, {"s", SENDMAIL_SMTP},    {"S", SENDMAIL_BATCH},   {"p", SENDMAIL_LIST},
        {"P", SENDMAIL_LIST},    {"i", SENDMAIL_ALIASES}, {"v", SENDMAIL_VERIFY},  {"d", SENDMAIL_DAEMON},
        {"D", SENDMAIL_DAEMON},  {"l", SENDMAIL_DAEMON},  {"a", SENDMAIL_DELIVER},
    };

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
        if (strcmp(value, modes[i].word) == 0) {
            o->mode = modes[i].mode;
            return 0;
        }
    return -EINVAL;
}

static int take_errors(struct sendmail_options *o, const char *value)
{
    static const char known[] = "pqmwe";

    if (value[0] == '\0' || !strchr(known, value[0])) /* more letters were seen behind it: "-oem", "-oemail" */
        return -EINVAL;
    o->errors = (enum sendmail_errors)value[0];
    return 0;
}

/* "-oi", "-oitrue", "-oifalse" */
static bool is_true(const char *value)
{
    return value[0] != 'f' && value[0] != 'F' && value[0] != 'n' && value[0] != 'N';
}

/* "-oK", "-oKvalue", or our own "-o key=value", which no old option looks like. */
static int take_option(struct sendmail_options *o, const char *value)
{
    struct str rest = str_from(value), key;

    if (str_cut(&rest, '=', &key) && key.len > 1)
        return take_conf(o, "-o", value);
    switch (value[0]) {
    case '\0':
        return -EINVAL;
    case 'e':
        return take_errors(o, value + 1);
    case 'i':
        o->ignores_dots = is_true(value + 1);
        return 0;
    case 'v':
        o->is_verbose = is_true(value + 1);
        return 0;
    case 'd':
        o->is_queue_only = value[1] == 'q' || value[1] == 'd';
        return 0;
    default: /* the others tune a daemon that is not there, "-oA" and "-oQ" name files that are in the configuration */
        return 0;
    }
}

/* "-O Name=value": of the long names these mean something here. */
static int take_long_option(struct sendmail_options *o, const char *value)
{
    struct str rest = str_from(value), key;
    char letter;

    if (!str_cut(&rest, '=', &key) || rest.len == 0)
        return 0;
    letter = ascii_lower(rest.ptr[0]);
    if (str_ieq(key, STR("ErrorMode")))
        return take_errors(o, rest.ptr);
    if (str_ieq(key, STR("IgnoreDots")))
        o->ignores_dots = letter == 't';
    if (str_ieq(key, STR("Verbose")))
        o->is_verbose = letter == 't';
    if (str_ieq(key, STR("DeliveryMode")))
        o->is_queue_only = letter == 'q' || letter == 'd';
    return 0;
}

static int take_queue(struct sendmail_options *o, const char *value)
{
    o->mode = SENDMAIL_QUEUE_RUN;
    if (value[0] == 'f') /* "-qf": in the foreground, as here always */
        value++;
    if (value[0] == '\0')
        return 0;
    if (ascii_is_digit(value[0]) || value[0] == 'p') {
        o->mode = SENDMAIL_DAEMON;
        return 0;
    }
    if (!strchr("RSI", value[0]) || value[1] == '\0')
        return -EINVAL;
    o->queue_key = value[0];
    o->queue_text = value + 1;
    return 0;
}

static int take_body(struct sendmail_options *o, const char *value)
{
    if (str_ieq(str_from(value), STR("8BITMIME")))
        o->body = "8BITMIME";
    else if (str_ieq(str_from(value), STR("7BIT")))
        o->body = "7BIT";
    else
        return -EINVAL;
    return 0;
}

static int take_notify(struct sendmail_options *o, const char *value)
{
    struct str rest = str_from(value), word;
    bool is_never = str_ieq(rest, STR("never"));

    for (bool more = true; more && !is_never;) {
        more = str_cut(&rest, ',', &word);
        if (!str_ieq(word, STR("success")) && !str_ieq(word, STR("failure")) && !str_ieq(word, STR("delay")))
            return -EINVAL;
    }
    o->notify = value;
    return 0;
}

static int take_returns(struct sendmail_options *o, const char *value)
{
    if (str_ieq(str_from(value), STR("full")))
        o->returns = "FULL";
    else if (str_ieq(str_from(value), STR("hdrs")))
        o->returns = "HDRS";
    else
        return -EINVAL;
    return 0;
}

static int take_sender(struct sendmail_options *o, const char *value)
{
    o->sender = value;
    return 0;
}

static int take_full_name(struct sendmail_options *o, const char *value)
{
    o->full_name = value;
    return 0;
}

static int take_envelope(struct sendmail_options *o, const char *value)
{
    o->envelope = value;
    return 0;
}

static int take_transcript(struct sendmail_options *o, const char *value)
{
    o->transcript = value;
    return 0;
}

static int take_tag(struct sendmail_options *o, const char *value)
{
    o->tag = value;
    return 0;
}

static int take_file(struct sendmail_options *o, const char *value)
{
    return take_conf(o, "-c", value);
}

static int take_dots(struct sendmail_options *o, const char *value)
{
    o->ignores_dots = true;
    return 0;
}

static int take_recipients(struct sendmail_options *o, const char *value)
{
    o->reads_recipients = true;
    return 0;
}

static int take_gateway(struct sendmail_options *o, const char *value)
{
    o->is_gateway = true;
    return 0;
}

static int take_verbose(struct sendmail_options *o, const char *value)
{
    o->is_verbose = true;
    return 0;
}

static int take_aliases(struct sendmail_options *o, const char *value)
{
    o->mode = SENDMAIL_ALIASES;
    return 0;
}

static int take_seven(struct sendmail_options *o, const char *value)
{
    return take_body(o, "7BIT");
}

static const struct flag FLAGS[] = {
    {'A', VALUE, NULL}, /* -Ac, -Am: which sendmail.cf */
    {'B', VALUE, take_body},
    {'b', VALUE, take_mode},
    {'C', VALUE, take_file},
    {'c', VALUE, take_file},
    {'D', VALUE, NULL},    /* debugging output */
    {'d', ATTACHED, NULL}, /* debugging levels */
    {'e', VALUE, take_errors},
    {'F', VALUE, take_full_name},
    {'f', VALUE, take_sender},
    {'G', ALONE, take_gateway},
    {'h', VALUE, NULL}, /* hops: Received fields count them */
    {'I', ALONE, take_aliases},
    {'i', ALONE, take_dots},
    {'L', VALUE, take_tag},
    {'m', ALONE, NULL}, /* me too: a sender is never left out of a list */
    {'N', VALUE, take_notify},
    {'n', ALONE, NULL}, /* no aliases: they are resolved by the server */
    {'O', VALUE, take_long_option},
    {'o', VALUE, take_option},
    {'p', VALUE, NULL},    /* protocol for the trace field, which says what is true */
    {'Q', ATTACHED, NULL}, /* quarantine */
    {'q', ATTACHED, take_queue},
    {'R', VALUE, take_returns},
    {'r', VALUE, take_sender},
    {'s', ALONE, NULL}, /* keep From_ lines */
    {'T', VALUE, NULL}, /* queue time-out */
    {'t', ALONE, take_recipients},
    {'U', ALONE, NULL}, /* initial submission, as everything here */
    {'V', VALUE, take_envelope},
    {'v', ALONE, take_verbose},
    {'X', VALUE, take_transcript},
    {'x', ALONE, NULL}, /* of AIX and others */
    {'7', ALONE, take_seven},
};

static const struct flag *find_flag(char letter)
{
    for (size_t i = 0; i < ARRAY_SIZE(FLAGS); i++)
        if (FLAGS[i].letter == letter)
            return &FLAGS[i];
    return NULL;
}

/* One word that begins with a dash: a flag with its value, or several flags that take none. *ret_words: words used. */
static int take_word(struct sendmail_options *o, char **argv, int *ret_words)
{
    const char *at = argv[0] + 1;

    *ret_words = 1;
    while (*at) {
        const struct flag *f = find_flag(*at++);
        const char *value = "";

        if (!f)
            return -EINVAL;
        if (f->arity == VALUE && *at == '\0') {
            if (!argv[1])
                return -EINVAL;
            value = argv[1];
            *ret_words = 2;
        } else if (f->arity != ALONE) {
            value = at;
        }
        if (f->take) {
            int e = f->take(o, value);

            if (e < 0)
                return e;
        }
        if (f->arity != ALONE)
            return 0;
    }
    return 0;
}

static enum sendmail_mode mode_of_name(const char *name)
{
    const char *slash = strrchr(name, '/');

    name = slash ? slash + 1 : name;
    if (strcmp(name, "mailq") == 0)
        return SENDMAIL_LIST;
    if (strcmp(name, "newaliases") == 0)
        return SENDMAIL_ALIASES;
    if (strcmp(name, "rsmtp") == 0 || strcmp(name, "bsmtp") == 0)
        return SENDMAIL_BATCH;
    return SENDMAIL_DELIVER;
}

int options_parse(int argc, char **argv, struct sendmail_options *ret, const char **ret_wrong)
{
    struct sendmail_options o = {.mode = mode_of_name(argc > 0 ? argv[0] : ""), .errors = SENDMAIL_PRINT};
    int i = 1;

    while (i < argc && argv[i][0] == '-' && argv[i][1] != '\0') {
        int words = 1, e;

        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strncmp(argv[i], "--epoch=", 8) == 0)
            e = take_conf(&o, argv[i], NULL);
        else
            e = take_word(&o, argv + i, &words);
        if (e < 0) {
            *ret_wrong = argv[i];
            return e;
        }
        i += words;
    }
    o.recipients = argv + i;
    o.recipient_count = (size_t)(argc - i);
    *ret = o;
    return 0;
}
