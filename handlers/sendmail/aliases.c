/*
 * newaliases: looks the aliases file through as a delivery would read it. Runs as the invoking user; reads that file,
 * asks NSS.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "handlers/sendmail/modes.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/route/alias.h"
#include "shared/route/listfile.h"
#include "shared/route/path.h"
#include "shared/route/rcpt.h"

#define ALIASES_MAX (16u << 20) /* bytes, as for a delivery */

struct check {
    const struct conf *conf;
    struct buf text;
    unsigned line; /* of the entry at hand */
    unsigned errors, entries;
};

/* Line number of a view into the text. */
static unsigned line_of(const struct check *c, const char *at)
{
    unsigned line = 1;

    for (const char *p = c->text.data; p < at; p++)
        line += *p == '\n';
    return line;
}

static void complain(struct check *c, bool is_error, struct str name, const char *item, const char *why)
{
    (void)fprintf(stderr, "%s:%u: %s%.*s%s%s%s%s\n", c->conf->aliases, c->line,
                  is_error ? "" : "warning: ", STR_ARG(str_sub(str_trim(name), 0, 200)), *item ? ": " : "", item,
                  *why ? ": " : "", why);
    c->errors += is_error;
}

/* A name without a domain, or with one of ours, should be an alias or a user. */
static void check_address(struct check *c, struct str name, const char *text)
{
    struct rcpt_target user = {0};
    struct str unused, base, detail;
    struct smtp_path path;

    if (path_parse_mailbox(str_from(text), PATH_BARE_OK | PATH_UTF8, &path) < 0) {
        complain(c, true, name, text, "is no address");
        return;
    }
    if (!rcpt_is_ours(c->conf, &path, ""))
        return;
    (void)rcpt_split_detail(c->conf, path_local(&path), &base, &detail);
    if ((!str_ieq(path_local(&path), name) && alias_find(buf_str(&c->text), path_local(&path), &unused)) ||
        (!str_ieq(base, name) && alias_find(buf_str(&c->text), base, &unused)))
        return;
    if (rcpt_find_user(path_local(&path), &user) == -ENOENT && rcpt_find_user(base, &user) == -ENOENT)
        complain(c, false, name, text, "there is no such user or alias");
    rcpt_target_finish(&user);
}

static void check_item(struct check *c, struct str name, const struct alias_item *item)
{
    switch (item->kind) {
    case ALIAS_ADDRESS:
    case ALIAS_FINAL:
        check_address(c, name, item->text);
        break;
    case ALIAS_COMMAND:
        if (str_trim(str_from(item->text)).len == 0)
            complain(c, true, name, "|", "no command");
        break;
    case ALIAS_INCLUDE:
        if (item->text[0] != '/')
            complain(c, true, name, item->text, "an included file needs a path from the root");
        else if (access(item->text, R_OK) < 0 && errno != EACCES)
            complain(c, false, name, item->text, strerror(errno));
        break;
    case ALIAS_FILE:
        break;
    }
}

static void check_entry(struct check *c, struct str name, struct str list)
{
    struct str first, rest = list;
    struct alias_item item;
    size_t count = 0;
    int e;

    c->entries++;
    if (alias_find(buf_str(&c->text), name, &first) && first.ptr != list.ptr)
        complain(c, false, name, "", "is there twice, the first one counts");
    for (; (e = alias_next(&rest, &item)) != -ENODATA; count++)
        if (e < 0)
            complain(c, true, name, "", "an item makes no sense or is too long");
        else
            check_item(c, name, &item);
    if (count == 0)
        complain(c, true, name, "", "leads nowhere");
}

int mode_aliases(const struct conf *conf)
{
    struct check c = {.conf = conf, .text = BUF_INIT(ALIASES_MAX)};
    struct str rest, name, list;
    int e = conf->aliases[0] ? listfile_read(conf->aliases, NULL, &c.text, NULL) : 0;

    if (e < 0 && e != -ENOENT) {
        (void)fprintf(stderr, "newaliases: %s: %s\n", conf->aliases, strerror(-e));
        buf_finish(&c.text);
        return e == -EACCES ? EX_NOPERM : EX_NOINPUT;
    }
    rest = buf_str(&c.text);
    while ((e = alias_entry(&rest, &name, &list)) != -ENODATA) {
        c.line = line_of(&c, name.ptr);
        if (e < 0)
            complain(&c, true, name, "", "is no alias: a name, a colon, recipients");
        else
            check_entry(&c, name, list);
    }
    (void)printf("%s: %u aliases, %zu bytes, read as it is by every delivery\n", conf->aliases, c.entries, c.text.len);
    buf_finish(&c.text);
    return c.errors > 0 ? EX_DATAERR : EX_OK;
}
