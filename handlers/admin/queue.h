/*
 * `pennypost queue`: choosing entries, and what is done to each. Private to the files queue*.c.
 */
#ifndef ADMIN_QUEUE_H
#define ADMIN_QUEUE_H

#include "shared/base/conf.h"
#include "shared/queue/select.h"

struct queue_job {
    struct conf *conf;
    struct queue queue;
    struct queue_filter filter;
    bool is_all; /* "all", or a filter chooses */
    bool is_json;
    bool with_message;  /* show --message */
    const char *reason; /* bounce --reason */
    char **ids;         /* the rest of the arguments; may have wildcards */
    size_t id_count;

    /* While it runs. */
    size_t done, failed, busy;
    bool wants_run; /* relay has something to do */
};

/* What happens to one entry; printed or changed. 0, or a negative errno, which is told with its id. */
typedef int (*queue_action)(struct queue_job *j, const char *id);

int queue_act_list(struct queue_job *j, const char *id);
int queue_act_show(struct queue_job *j, const char *id);
int queue_act_retry(struct queue_job *j, const char *id);
int queue_act_hold(struct queue_job *j, const char *id);
int queue_act_release(struct queue_job *j, const char *id);
int queue_act_remove(struct queue_job *j, const char *id);
int queue_act_bounce(struct queue_job *j, const char *id);

#endif
