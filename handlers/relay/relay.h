/*
 * relay, the queue manager: which messages are due, who carries them, and what becomes of them. One process, one poll
 * loop; it never reads the network and never waits for it. Only it writes envelopes. Several may run at the same time:
 * an entry belongs to whoever holds its lock.
 *
 * A `message` is an entry that this run has seen; a `dest` is a next hop with the messages that go there; a `slot` is a
 * courier under way with one message at a time; an `open` is an entry whose lock we hold, since slots work on it.
 */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include "handlers/relay/nexthop.h"
#include "shared/gate/chain.h"
#include "shared/queue/queue.h"

#define RELAY_BUCKETS 4096
#define RELAY_SLOTS   500
#define RELAY_RCPTS   100 /* of one transaction: what every server must take (RFC 5321 4.5.3.1.8) */
#define RELAY_AGAINS  2   /* further connections for a message whose connection broke */
#define RELAY_BROKEN  3   /* messages in a row with which the connections of a dest broke, and it is down */
#define RELAY_REMOVED 64  /* entries that wait for one sync; each holds a file open */

struct message {
    struct message *next; /* in its bucket */
    char id[QUEUE_ID + 1];
    unsigned places; /* dests and slots where it stands */
    int32_t priority;
    int64_t created;
};

struct dest {
    struct dest *next_in_bucket;
    struct dest *next; /* all, in the order in which they came up */
    char key[NEXTHOP_KEY];
    char hop[LIMIT_DOMAIN + 3];
    struct job job;            /* `hop` above; names, user and secret in the files */
    struct message **messages; /* those before `at` have been taken */
    size_t count, cap, at;
    unsigned slots;    /* couriers at work for it */
    unsigned ups;      /* of these: those that have a connection */
    unsigned broken;   /* messages in a row with which connections broke before anything was settled */
    int64_t worked_at; /* clock_monotonic_ms() of the last sign that its server does work */
    bool is_asked_for; /* somebody made a message due at once (ETRN, retry): whatever the memory says */
    bool is_down;      /* the rest is settled with this, without trying */
    struct talk_reply down;
    char down_host[LIMIT_DOMAIN + 1];
};

struct open {
    struct open *next;
    struct message *message;
    struct queue_entry entry;
    unsigned slots;
    bool is_changed; /* since the last queue_update() */
    bool is_removed; /* and not synced yet: nobody's any more */
    bool is_signed;  /* signing_prepare() was here */
    int signed_file; /* the message with its signatures; -1: it has none */
};

enum slot_state {
    SLOT_FREE,
    SLOT_STARTING, /* waits for UP or DOWN */
    SLOT_BUSY,     /* a message is under way */
    SLOT_SETTLED,  /* one is done with; the next one goes when that is on the disk */
    SLOT_LEAVING,  /* nothing more to do there: waits for IDLE, or for the courier's end */
    SLOT_IDLE,     /* the courier can have another dest */
};

struct slot {
    enum slot_state state;
    struct chain_child child;
    struct dest *dest;
    struct open *open;
    uint32_t rcpts[RELAY_RCPTS]; /* indexes into the envelope */
    struct talk_reply replies[RELAY_RCPTS];
    uint32_t count, sent, heard;
    unsigned agains;
    bool is_v4_only;
    bool is_up;
    bool is_proven; /* something was settled there, not only greeted */
    char host[LIMIT_DOMAIN + 1];
    char address[LIMIT_ADDRESS];
    struct talk_ready ready;
    int64_t deadline; /* clock_monotonic_ms() after which the courier is killed */
    int64_t heard_at; /* of its last word, or ours */
    int64_t begun_at; /* the message under way */
};

struct memory; /* memory.c */

/* Which entries a run is for. */
struct relay_filter {
    bool is_forced;     /* also those whose time has not come */
    const char *domain; /* only recipients of that domain, or NULL */
    const char *match;  /* only entries with this in a recipient's address, or NULL */
    const char *turn;   /* only these domains, separated by commas, over the connection that we have; or NULL */
};

struct relay {
    struct conf *conf;
    struct queue queue;
    struct nexthop_files files;
    struct relay_filter filter;
    struct message *messages[RELAY_BUCKETS];
    struct dest *dests[RELAY_BUCKETS];
    struct dest *first_dest, *last_dest;
    struct open *opens;
    struct slot *slots;
    size_t slot_count;
    struct memory *memory;
    bool is_memory_changed;
    unsigned removed; /* opens that settle_sync() has to see */
    int turn;         /* the connection of filter.turn until a courier has it, then -1 */
    size_t message_count;
    uint64_t sent, deferred, failed;
    int problem; /* the first negative errno of the disk */
};

/* plan.c: looks at the queue, only at new entries or at all, and gives each due recipient to its dest. 0 or a negative
 * errno of walking. */
int plan_queue(struct relay *r, bool only_new);
/* Gives a message to a dest once more, at the end. */
int plan_again(struct relay *r, struct dest *d, struct message *m);
/* The last waiting message of a dest that is not m comes to the front. */
void plan_other_first(struct dest *d, const struct message *m);
/* The dest of a recipient, made if need be. 0; -EINVAL with *ret_why. */
int plan_dest(struct relay *r, const struct queue_envelope *e, const struct queue_recipient *rcpt, struct dest **ret,
              const char **ret_why);
/* A message leaves one of its places. */
void plan_leave(struct relay *r, struct message *m);
void plan_finish(struct relay *r);
/* Is there anything to be done for this recipient now, by this run? */
bool plan_is_due(const struct relay *r, const struct queue_envelope *e, const struct queue_recipient *rcpt);
/* Has the time passed after which nothing of it may be tried (RFC 2852 4.1.3)? */
bool plan_is_to_return(const struct relay *r, const struct queue_envelope *e);

/* settle.c: holds an entry for a slot. 0; -EAGAIN somebody else has it, -ENOENT gone, other errno. */
int settle_open(struct relay *r, struct message *m, struct open **ret);
/* A slot (or nobody) is finished with it: writes what changed, reports, removes or releases. What comes too late (RFC
 * 2852, mode R) fails here, without being tried. What is removed is so for good after the next settle_sync(), before
 * which no connection gets another message. */
void settle_close(struct relay *r, struct open *o);
/* Waits for the disk, once for all entries that were removed. */
void settle_sync(struct relay *r);
/* What became of a recipient. `host` may be "". */
void settle_reply(struct relay *r, struct open *o, uint32_t index, const struct talk_reply *reply, const char *host,
                  const struct slot *s);
/* Names of ours among the recipients become places on this machine. 0 or a negative errno. */
int settle_expand(struct relay *r, struct open *o);

/* carry.c: one courier. Gives it the dest, starting it if none is idle; -EAGAIN without a free slot. */
int carry_start(struct relay *r, struct dest *d);
/* Its control socket is readable. */
void carry_event(struct relay *r, struct slot *s);
/* What SLOT_SETTLED waited for has happened. */
void carry_on(struct relay *r, struct slot *s);
/* An idle courier is told to leave. */
void carry_retire(struct slot *s);
void carry_kill(struct relay *r, struct slot *s, const char *why);

/* offer.c: opens the entry for the slot and fills in its recipients. 1: they can go; 0: there is nothing to do for the
 * slot, -ENOMEM: in both s->open may be set. */
int offer_message(struct relay *r, struct slot *s, struct message *m);
/* The frame that begins it: FRAME_RELAY_MAIL. 0, -ENOBUFS, -ENOMEM. */
int offer_mail(const struct relay *r, const struct slot *s, struct frame *f);

/* down.c: a next hop that cannot be reached, or does no work. What waits for it is settled with that reply, without
 * being tried. */
void down_set(struct dest *d, const struct talk_reply *reply, const char *host);
/* The slot's connection, if it had one, ended with a message of which nothing was settled, for that reason. With
 * RELAY_BROKEN such messages in a row the next hop is down, and remembered; one that others have seen at work since the
 * message was begun is not. Call it while the message is open. */
void down_break(struct relay *r, struct slot *s, const struct talk_reply *last);
/* Are the replies of a transaction those of a server at work? Then nothing is held against it any more. */
bool down_work(struct relay *r, struct slot *s, bool is_usable);

/* signing.c: makes the DKIM signatures of a message that leaves the machine, unless that is done. 0, or a negative
 * errno: it had better wait, which has been logged. Then the file to send. */
int signing_prepare(const struct relay *r, struct open *o);
int signing_file(const struct open *o, bool is_local);

/* run.c: until nothing is due any more. 0 or a negative errno. */
int run_queue(struct relay *r);

/* memory.c: what this and earlier runs found out about next hops, in the file `destinations` of the queue folder. A
 * next hop that cannot be reached is left alone for a while, longer each time, whatever new mail comes for it. The file
 * is a cache: lost or damaged it costs a try. */
void memory_load(struct relay *r);
void memory_save(struct relay *r); /* if anything changed */
void memory_finish(struct relay *r);
void memory_set(struct relay *r, const struct dest *d, const struct talk_reply *reply);
void memory_clear(struct relay *r, const struct dest *d);
/* Is it to be left alone? *ret says why. */
bool memory_find(const struct relay *r, const struct dest *d, struct talk_reply *ret);

/* reports.c: queues the reports that final states call for and marks them, or the warning that a message is late. The
 * caller writes the envelope. 0 or a negative errno, which has been logged. */
int reports_final(struct relay *r, struct open *o);
int reports_delay(struct relay *r, struct open *o);

static inline int64_t relay_now(const struct relay *r)
{
    return clock_now(&r->conf->clock);
}

#endif
