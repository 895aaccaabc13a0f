/*
 * Aliases, users and their .forward. Runs in the monitor as root, or in `smtp-session -bs` as the invoking user; reads
 * the aliases file and the files that it includes, users' files with their rights, asks NSS.
 */
#include "shared/route/expand.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/route/alias.h"
#include "shared/route/forward.h"
#include "shared/route/listfile.h"
#include "shared/route/srs.h"
#include "shared/route/srs_run.h"

#define ALIASES_MAX (16u << 20) /* bytes of the aliases file, and of all that one recipient includes */

/* Of the list at hand. */
struct rights {
    char runner[LIMIT_USER + 1];    /* of commands: alias_user, an included file's owner, the user of a .forward */
    const struct priv_user *reader; /* of files; NULL: we, with our own rights */
};

struct expander {
    const struct conf *conf;
    const char *local_address;
    struct buf aliases; /* text of the aliases file */
    struct expansion *result;
    size_t items;                   /* of lists that were looked at */
    size_t includes, included;      /* files, and their bytes */
    size_t found;                   /* targets that lists named, also those that were there already */
    struct str chain[EXPAND_DEPTH]; /* the names that are being expanded; empty where a level has none */
    unsigned depth;
    uid_t forwards[EXPAND_DEPTH]; /* users whose .forward is being expanded */
    unsigned forward_depth;
    struct rights rights;
};

static int expand_local(struct expander *x, struct str local);

void expansion_finish(struct expansion *e)
{
    for (size_t i = 0; i < e->count; i++)
        rcpt_target_finish(&e->targets[i]);
    free(e->targets);
    free(e->owner);
    *e = (struct expansion){0};
}

int expand_remote(struct str address, struct expansion *ret)
{
    struct rcpt_target *targets = calloc(1, sizeof(*targets));

    if (!targets || rcpt_remote(address, targets) < 0) {
        free(targets);
        return -ENOMEM;
    }
    *ret = (struct expansion){.targets = targets, .count = 1};
    return 0;
}

/* ---- targets ---- */

static bool is_same(const struct rcpt_target *a, const struct rcpt_target *b)
{
    return a->kind == b->kind && strcmp(a->user, b->user) == 0 && strcmp(a->argument, b->argument) == 0;
}

/* Takes the target over, unless it is there already. */
static int add_target(struct expander *x, struct rcpt_target *t)
{
    struct expansion *r = x->result;
    struct rcpt_target *more;

    x->found++;
    for (size_t i = 0; i < r->count; i++)
        if (is_same(&r->targets[i], t)) {
            rcpt_target_finish(t);
            return 0;
        }
    if (r->count == EXPAND_TARGETS)
        return -E2BIG;
    more = reallocarray(r->targets, r->count + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    r->targets = more;
    r->targets[r->count++] = *t;
    *t = (struct rcpt_target){0};
    return 0;
}

static int set_argument(struct rcpt_target *t, struct str argument)
{
    free(t->argument);
    t->argument = str_dup(argument);
    return t->argument ? 0 : -ENOMEM;
}

/* Whoever it is, his mailbox. */
static int add_mailbox(struct expander *x, struct rcpt_target *t, struct str detail)
{
    int e = set_argument(t, detail);

    return e < 0 ? e : add_target(x, t);
}

static int add_final(struct expander *x, struct str name)
{
    struct rcpt_target t = {0};
    int e = rcpt_find_user(name, &t);

    if (e == 0)
        e = add_mailbox(x, &t, STR(""));
    rcpt_target_finish(&t);
    return e;
}

/* A command or a file: never as root. */
static int add_action(struct expander *x, enum rcpt_kind kind, const char *argument)
{
    struct rcpt_target t = {0};
    int e = x->rights.runner[0] ? rcpt_find_user(str_from(x->rights.runner), &t) : -EPERM;

    if (e == 0 && (t.uid == 0 || t.gid == 0))
        e = -EPERM;
    t.kind = kind;
    if (e == 0)
        e = set_argument(&t, str_from(argument));
    if (e == 0)
        e = add_target(x, &t);
    rcpt_target_finish(&t);
    e = e == -ENOENT ? -EPERM : e;
    if (e == -EPERM)
        LOG_EVENT(LOG_WARNING, "nobody may run this, or write there", LOG_FC("command", argument),
                  LOG_FC("user", x->rights.runner));
    return e;
}

/* ---- lists ---- */

static int expand_list(struct expander *x, struct str list);

/* 0 and the account of a uid, for as long as *ret lives; -ENOENT: there is none; -EAGAIN: it cannot be told now. */
static int find_owner(uid_t uid, struct priv_user *ret)
{
    char memory[4096];
    struct passwd entry, *found = NULL;
    int e = getpwuid_r(uid, &entry, memory, sizeof(memory), &found);

    if (!found)
        return e == 0 || e == ENOENT || e == ESRCH ? -ENOENT : -EAGAIN;
    e = priv_user_find(str_from(entry.pw_name), ret);
    return e == 0 || e == -ENOENT ? e : -EAGAIN;
}

/* Commands in an included file run as its owner, in root's as before; what others can write, or put another file in
 * the place of, has none to run, and is nobody's: alias_user reads what it includes. What a user's list or .forward
 * includes is his, whoever wrote it, and read with his rights: he must not choose which files of others are lists. */
static int find_rights(struct expander *x, const char *path, const struct stat *facts, struct priv_user *ret_reader)
{
    struct rights *r = &x->rights;
    bool is_owners = (facts->st_mode & (S_IWGRP | S_IWOTH)) == 0 &&
                     (r->reader || listfile_is_kept(path, facts->st_uid));
    int e = -ENOENT;

    if (is_owners && (r->reader || facts->st_uid == 0))
        return 0;
    r->runner[0] = '\0';
    if (is_owners)
        e = find_owner(facts->st_uid, ret_reader);
    if (e == 0)
        (void)snprintf(r->runner, sizeof(r->runner), "%s", ret_reader->name);
    if (e == -ENOENT)
        e = r->reader ? 0 : priv_user_find(str_from(x->conf->alias_user), ret_reader);
    if (!r->reader)
        r->reader = ret_reader;
    return e < 0 ? -EAGAIN : 0;
}

static int expand_include(struct expander *x, const char *path)
{
    _cleanup_buf_ struct buf text = BUF_INIT(ALIASES_MAX - x->included);
    _cleanup_priv_user_ struct priv_user reader = {0};
    const struct rights outer = x->rights;
    struct stat facts;
    int e = ++x->includes > EXPAND_INCLUDES ? -E2BIG
            : path[0] == '/'                ? listfile_read(path, outer.reader, &text, &facts)
                                            : -EINVAL;

    x->included += text.len;
    if (e == -E2BIG)
        return e;
    if (e == 0)
        e = find_rights(x, path, &facts, &reader);
    if (e < 0) {
        x->rights = outer;
        LOG_ERROR(LOG_WARNING, "include-failed", e, LOG_FC("file", path));
        return -EAGAIN;
    }
    x->chain[x->depth] = STR_NULL;
    e = expand_list(x, buf_str(&text));
    x->rights = outer;
    return e;
}

static int add_remote(struct expander *x, struct str address)
{
    struct rcpt_target t = {0};
    int e = rcpt_remote(address, &t);

    if (e == 0)
        e = add_target(x, &t);
    rcpt_target_finish(&t);
    return e;
}

/* An address in a list: local names and our domains go on. */
static int expand_address(struct expander *x, const char *text)
{
    struct smtp_path path;

    if (path_parse_mailbox(str_from(text), PATH_BARE_OK | PATH_UTF8, &path) < 0)
        return -EINVAL;
    if (!rcpt_is_ours(x->conf, &path, x->local_address))
        return add_remote(x, path.text);
    return expand_local(x, path_local(&path));
}

static int expand_item(struct expander *x, const struct alias_item *item)
{
    switch (item->kind) {
    case ALIAS_ADDRESS:
        return expand_address(x, item->text);
    case ALIAS_FINAL:
        return add_final(x, str_from(item->text));
    case ALIAS_COMMAND:
        return add_action(x, RCPT_COMMAND, item->text);
    case ALIAS_FILE:
        return add_action(x, RCPT_FILE, item->text);
    case ALIAS_INCLUDE:
        return x->depth < EXPAND_DEPTH ? expand_include(x, item->text) : -ELOOP;
    }
    return -EINVAL;
}

static int expand_list(struct expander *x, struct str list)
{
    struct alias_item item;
    int e;

    x->depth++;
    while ((e = alias_next(&list, &item)) != -ENODATA) {
        if (e == 0)
            e = ++x->items > EXPAND_ITEMS ? -E2BIG : expand_item(x, &item);
        if (e == -ENOENT) /* one member that has left must not stop the list */
            LOG_EVENT(LOG_WARNING, "alias-member-unknown", LOG_FC("to", item.text));
        else if (e < 0)
            break;
    }
    x->depth--;
    return e == -ENODATA ? 0 : e;
}

/* ---- .forward ---- */

static int expand_forward_list(struct expander *x, const struct priv_user *user, struct str list)
{
    const struct rights outer = x->rights;
    int e;

    x->rights = (struct rights){.reader = user};
    (void)snprintf(x->rights.runner, sizeof(x->rights.runner), "%s", user->name);
    x->forwards[x->forward_depth++] = user->uid;
    x->chain[x->depth] = STR_NULL;
    e = expand_list(x, list);
    x->forward_depth--;
    x->rights = outer;
    return e;
}

static bool is_forwarding(const struct expander *x, uid_t uid)
{
    for (unsigned i = 0; i < x->forward_depth; i++)
        if (x->forwards[i] == uid)
            return true;
    return false;
}

/* Root's mail goes where the admin says, and nothing runs for it. */
static int forward_root(struct expander *x)
{
    int e;

    if (x->conf->root_mail_to[0] == '\0')
        return -ENOENT;
    if (x->depth >= EXPAND_DEPTH || x->forward_depth >= EXPAND_DEPTH)
        return -ELOOP;
    x->forwards[x->forward_depth++] = 0;
    x->chain[x->depth++] = STR_NULL;
    e = expand_address(x, x->conf->root_mail_to);
    x->depth--;
    x->forward_depth--;
    if (e == -ENOENT || e == -EINVAL)
        LOG_ERROR(LOG_ERR, "root-mail-failed", e, LOG_FC("root_mail_to", x->conf->root_mail_to));
    return e == -EINVAL ? -ENOENT : e;
}

/* Where a user forwards his mail. 0; -ENOENT: nowhere, it is for his mailbox. What is wrong with his file is not the
 * sender's fault: the mail waits until he has mended it (-EAGAIN). */
static int expand_forward(struct expander *x, const struct rcpt_target *t, struct str detail)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FORWARD_MAX);
    _cleanup_priv_user_ struct priv_user user = {0};
    size_t before = x->found;
    int e;

    /* A name within its own .forward is the mailbox of that name, as in an alias. */
    if (is_forwarding(x, t->uid))
        return -ENOENT;
    if (t->uid == 0)
        return forward_root(x);
    if (x->conf->forward[0] == '\0' || (!priv_is_root() && t->uid != geteuid()))
        return -ENOENT;
    if (x->depth >= EXPAND_DEPTH || x->forward_depth >= EXPAND_DEPTH)
        return -ELOOP;
    e = forward_read(x->conf, t, detail, &text, &user);
    if (e == -ENOENT)
        return e;
    if (e == 0)
        e = expand_forward_list(x, &user, buf_str(&text));
    if (e < 0 && e != -E2BIG && e != -ENOMEM) {
        LOG_ERROR(LOG_WARNING, "forward-failed", e, LOG_FC("user", t->user), LOG_FC("file", x->conf->forward));
        return -EAGAIN;
    }
    return e == 0 && x->found == before ? -ENOENT : e;
}

static int add_user(struct expander *x, struct str name, struct str detail)
{
    struct rcpt_target t = {0};
    int e = rcpt_find_user(name, &t);

    if (e == 0) {
        e = expand_forward(x, &t, detail);
        if (e == -ENOENT)
            e = add_mailbox(x, &t, detail);
    }
    rcpt_target_finish(&t);
    return e;
}

/* ---- names ---- */

static bool is_in_chain(const struct expander *x, struct str name)
{
    for (unsigned i = 0; i < x->depth; i++)
        if (str_ieq(x->chain[i], name))
            return true;
    return false;
}

/* RFC 5321 3.9.2: what goes through a list has the list's owner as its sender. */
static int note_owner(struct expander *x, struct str name)
{
    _cleanup_buf_ struct buf owner = BUF_INIT(LIMIT_PATH);
    struct str unused;

    if (x->depth > 0 || buf_printf(&owner, "owner-%.*s", STR_ARG(name)) < 0 ||
        !alias_find(buf_str(&x->aliases), buf_str(&owner), &unused))
        return 0;
    x->result->owner = strdup(buf_cstr(&owner));
    return x->result->owner ? 0 : -ENOMEM;
}

/* The aliases file is the admin's, in whose list ever the name of an alias stands. */
static void set_admins_rights(struct expander *x)
{
    x->rights = (struct rights){.reader = NULL};
    (void)snprintf(x->rights.runner, sizeof(x->rights.runner), "%s", x->conf->alias_user);
}

/* 0, -ENOENT: no such alias, others. A name within its own expansion is the user of that name (sendmail's rule). */
static int expand_alias(struct expander *x, struct str name)
{
    const struct rights outer = x->rights;
    struct str list;
    int e;

    if (is_in_chain(x, name) || !alias_find(buf_str(&x->aliases), name, &list))
        return -ENOENT;
    if (x->depth >= EXPAND_DEPTH)
        return -ELOOP;
    e = note_owner(x, name);
    x->chain[x->depth] = name;
    set_admins_rights(x);
    if (e == 0)
        e = expand_list(x, list);
    x->rights = outer;
    return e;
}

static int expand_local(struct expander *x, struct str local)
{
    struct str name, detail;
    int e = expand_alias(x, local);

    if (e == -ENOENT)
        e = add_user(x, local, STR(""));
    if (e == -ENOENT && rcpt_split_detail(x->conf, local, &name, &detail)) {
        e = expand_alias(x, name);
        if (e == -ENOENT)
            e = add_user(x, name, detail);
    }
    /* RFC 5321 4.5.1: postmaster is always there; so is who writes our reports (RFC 3464 2: a person reads the answer).
     */
    if (e == -ENOENT && str_ieq(local, STR("mailer-daemon")))
        e = expand_local(x, STR("postmaster"));
    if (e == -ENOENT && str_ieq(local, STR("postmaster")))
        e = expand_local(x, STR("root"));
    return e == -ENOENT && is_in_chain(x, local) ? -ELOOP : e;
}

/* ---- the whole ---- */

static void explain(int e, struct str address, struct smtp_answer *ret)
{
    static const struct {
        int error;
        unsigned code;
        const char *enhanced;
        const char *text;
    } reasons[] = {
        {-ENOENT, 550, "5.1.1", "there is no such user here"},
        {-ELOOP, 550, "5.4.6", "its alias goes in circles"},
        {-E2BIG, 550, "5.3.4", "its alias has too many members"},
        {-EINVAL, 550, "5.3.5", "its alias makes no sense"},
        {-EPERM, 550, "5.3.5", "its alias has a command that nobody may run"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
        if (reasons[i].error == e) {
            answer_set(ret, reasons[i].code, reasons[i].enhanced, "<%.*s>: %s", STR_ARG(address), reasons[i].text);
            return;
        }
    answer_set(ret, 451, "4.3.0", "<%.*s>: the user or alias database is not available", STR_ARG(address));
}

static int read_aliases(struct expander *x)
{
    int e = x->conf->aliases[0] ? listfile_read(x->conf->aliases, NULL, &x->aliases, NULL) : 0;

    if (e < 0 && e != -ENOENT) {
        LOG_ERROR(LOG_ERR, "aliases-failed", e, LOG_FC("file", x->conf->aliases));
        return -EAGAIN;
    }
    return 0;
}

int expand_path(const struct conf *conf, const struct smtp_path *path, const char *local_address, struct expansion *ret,
                struct smtp_answer *ret_answer)
{
    struct expander x = {.conf = conf, .local_address = local_address, .aliases = BUF_INIT(ALIASES_MAX), .result = ret};
    int e;

    if (!rcpt_is_ours(conf, path, local_address)) {
        answer_set(ret_answer, 550, "5.7.1", "<%.*s>: relaying denied", STR_ARG(path->text));
        return -EREMOTE;
    }
    if (conf->srs && srs_is_one(path_local(path)))
        return srs_expand(conf, path, ret, ret_answer);
    set_admins_rights(&x);
    e = read_aliases(&x);
    if (e == 0)
        e = expand_local(&x, path_local(path));
    if (e == -ENOENT && conf->catch_all[0] != '\0')
        e = expand_address(&x, conf->catch_all);
    if (e == 0 && ret->count == 0)
        e = -EINVAL;
    buf_finish(&x.aliases);
    if (e < 0) {
        expansion_finish(ret);
        explain(e, path->text, ret_answer);
    }
    return e;
}
