/*
 * `pennypost queue list|show|retry|hold|release|remove|bounce`: the admin's hand on the queue. Runs as root; who is not
 * root sees his own messages with mailq.
 */
#include "handlers/admin/queue.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "handlers/admin/command.h"
#include "shared/base/macros.h"
#include "shared/gate/chain.h"

#define QUEUE_USAGE                                                                                                    \
    "usage: pennypost queue list|show|retry|hold|release|remove|bounce\n"                                              \
    "           [--json] [--message] [--reason TEXT] [--sender PATTERN] [--recipient PATTERN] [--held] [--deferred]\n" \
    "           [all | ID...]\n"

static const struct verb {
    const char *name;
    queue_action act;
    bool is_looking; /* without ids and filters it means all; the others must be told */
    const char *past;
} VERBS[] = {
    {"list", queue_act_list, true, ""},
    {"show", queue_act_show, true, ""},
    {"retry", queue_act_retry, false, "due now"},
    {"hold", queue_act_hold, false, "held"},
    {"release", queue_act_release, false, "released"},
    {"remove", queue_act_remove, false, "removed"},
    {"bounce", queue_act_bounce, false, "returned to their senders"},
};

static int usage(void)
{
    (void)fputs(QUEUE_USAGE, stderr);
    return EX_USAGE;
}

static int parse(struct queue_job *j, int argc, char **argv)
{
    int i = 0;

    for (; i < argc && argv[i][0] == '-'; i++) {
        const char **value = strcmp(argv[i], "--sender") == 0      ? &j->filter.sender
                             : strcmp(argv[i], "--recipient") == 0 ? &j->filter.recipient
                             : strcmp(argv[i], "--reason") == 0    ? &j->reason
                                                                   : NULL;

        if (value && i + 1 < argc)
            *value = argv[++i];
        else if (strcmp(argv[i], "--json") == 0)
            j->is_json = true;
        else if (strcmp(argv[i], "--message") == 0)
            j->with_message = true;
        else if (strcmp(argv[i], "--held") == 0)
            j->filter.is_held = true;
        else if (strcmp(argv[i], "--deferred") == 0)
            j->filter.is_deferred = true;
        else
            return -EINVAL;
    }
    j->ids = argv + i;
    j->id_count = (size_t)(argc - i);
    if (j->id_count == 1 && strcmp(j->ids[0], "all") == 0) {
        j->is_all = true;
        j->id_count = 0;
    }
    j->is_all |=
        j->id_count == 0 && (j->filter.sender || j->filter.recipient || j->filter.is_held || j->filter.is_deferred);
    return 0;
}

static bool is_meant(const struct queue_job *j, const char *id)
{
    if (j->id_count == 0)
        return true;
    for (size_t i = 0; i < j->id_count; i++)
        if (fnmatch(j->ids[i], id, FNM_NOESCAPE) == 0)
            return true;
    return false;
}

static const char *explain(int e)
{
    if (e == -EAGAIN)
        return "is being worked on just now, try again";
    if (e == -EBADMSG)
        return "is damaged; see the folder corrupt of the queue";
    if (e == -EPROTONOSUPPORT)
        return "was written by another version";
    return strerror(-e);
}

/* One entry of the walk: looked at, and acted upon if the filter takes it. */
static void visit(struct queue_job *j, const struct verb *v, const char *id)
{
    struct queue_envelope envelope = QUEUE_ENVELOPE_INIT;
    int e = queue_peek(&j->queue, id, &envelope);
    bool is_wanted = e == 0 && queue_filter_matches(&j->filter, &envelope);

    queue_envelope_finish(&envelope);
    if (is_wanted)
        e = v->act(j, id);
    if (e == -ENOENT) /* gone meanwhile: what was to be done is done */
        return;
    if (e < 0) {
        (void)fprintf(stderr, "pennypost: %s %s\n", id, explain(e));
        j->failed++;
        j->busy += e == -EAGAIN;
    } else if (is_wanted) {
        j->done++;
    }
}

/* Ids first, then their entries: acting moves entries between the folders that are being walked. */
static int collect(struct queue_job *j, struct buf *ids)
{
    _cleanup_queue_walk_ struct queue_walk walk;
    char id[QUEUE_ID + 1];
    int e = queue_walk_begin(&j->queue, &walk);

    while (e >= 0 && (e = queue_walk_next(&walk, id)) > 0)
        if (is_meant(j, id)) {
            e = buf_add(ids, id, strlen(id) + 1);
            if (e < 0)
                return e;
        }
    return e;
}

static int visit_all(struct queue_job *j, const struct verb *v)
{
    _cleanup_buf_ struct buf ids = BUF_INIT(256u << 20); /* four million entries */
    int e = collect(j, &ids);
    const char *last = "";

    for (size_t at = 0; e == 0 && at < ids.len; at += strlen(ids.data + at) + 1) {
        if (strcmp(ids.data + at, last) != 0) /* a walk may see one twice that is being moved */
            visit(j, v, ids.data + at);
        last = ids.data + at;
    }
    return e;
}

/* Starts relay for what has become due; it goes on by itself and tells the log. */
static void run_relay(const struct queue_job *j)
{
    struct chain_spec spec = {CHAIN_SPEC("relay"), .conf = j->conf};
    struct chain_child child = CHAIN_CHILD_NONE;
    int e;

    spec.fds[2] = CHAIN_NULL;
    e = chain_spawn(&spec, &child);
    if (e < 0)
        (void)fprintf(stderr, "pennypost: relay does not start (%s); the next run of the queue does it\n",
                      strerror(-e));
}

static int finish(struct queue_job *j, const struct verb *v)
{
    if (v->is_looking) {
        if (j->is_json)
            (void)printf("%s]\n", j->done > 0 ? "\n" : "");
        else if (v->act == queue_act_list)
            (void)printf(j->done > 0 ? "%zu in the queue\n" : "The queue is empty\n", j->done);
    } else {
        (void)printf("%zu %s\n", j->done, v->past);
    }
    if (j->wants_run)
        run_relay(j);
    if (j->failed > 0)
        return j->busy == j->failed ? EX_TEMPFAIL : EX_IOERR;
    if (j->done == 0 && (j->id_count > 0 || !v->is_looking)) {
        (void)fprintf(stderr, "pennypost: there is no such message in the queue\n");
        return EX_NOINPUT;
    }
    return 0;
}

int queue_main(struct conf *conf, int argc, char **argv)
{
    struct queue_job j = {.conf = conf, .queue = QUEUE_INIT};
    const struct verb *v = NULL;
    int e;

    for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(VERBS); i++)
        if (strcmp(argv[1], VERBS[i].name) == 0)
            v = &VERBS[i];
    if (!v || parse(&j, argc - 2, argv + 2) < 0 || (!v->is_looking && !j.is_all && j.id_count == 0) ||
        (v->act == queue_act_show && !j.is_all && j.id_count == 0))
        return usage();
    e = queue_open(conf->queue, &j.queue);
    if (e < 0) {
        (void)fprintf(stderr, "pennypost: %s: %s%s\n", conf->queue, strerror(-e),
                      e == -EACCES || e == -EPERM ? " (mailq shows everybody his own messages)" : "");
        return e == -EACCES || e == -EPERM ? EX_NOPERM : EX_NOINPUT;
    }
    if (v->is_looking && j.is_json)
        (void)printf("[");
    e = visit_all(&j, v);
    if (e < 0)
        (void)fprintf(stderr, "pennypost: %s: %s\n", conf->queue, strerror(-e));
    e = e < 0 ? EX_IOERR : finish(&j, v);
    queue_close(&j.queue);
    return e;
}
