/*
 * Threads from references (RFC 5256 3, REFERENCES steps 1 to 4 and 6, ORDEREDSUBJECT). Runs in imap-session as the
 * user.
 */
#include "handlers/imap/thread.h"

#include <errno.h>

#include "handlers/imap/digest.h"
#include "handlers/imap/progress.h"
#include "shared/base/macros.h"

#define NODES_MAX    (1u << 24)
#define SUBJECTS_MAX ((size_t)1 << 30)
#define WALK_MAX     4096u /* a parent further up than this is not looked at: the link is not made */

void thread_init(struct thread_forest *f)
{
    *f = (struct thread_forest){.subjects = BUF_INIT(SUBJECTS_MAX)};
}

void thread_finish(struct thread_forest *f)
{
    free(f->nodes);
    free(f->table);
    buf_finish(&f->subjects);
    thread_init(f);
}

struct str thread_subject(const struct thread_forest *f, const struct thread_node *node)
{
    return str_sub(buf_str(&f->subjects), node->subject_at, node->subject_len);
}

uint32_t thread_add(struct thread_forest *f)
{
    if (f->count >= f->max)
        return 0;
    if (f->count == f->cap) {
        uint32_t cap = f->cap ? f->cap * 2 : 256;
        struct thread_node *more = realloc(f->nodes, cap * sizeof(*more));

        if (!more)
            return 0;
        f->nodes = more;
        f->cap = cap;
    }
    f->nodes[f->count] = (struct thread_node){.seq = 0};
    return f->count++;
}

static uint32_t *table_slot(const struct thread_forest *f, uint64_t id)
{
    uint32_t at = (uint32_t)(id ^ id >> 32) & (f->table_size - 1);

    while (f->table[at] && f->nodes[f->table[at]].id != id)
        at = (at + 1) & (f->table_size - 1);
    return &f->table[at];
}

/* Keeps the table at most half full. */
static int table_reserve(struct thread_forest *f)
{
    uint32_t size = f->table_size ? f->table_size * 2 : 1024, *old = f->table;
    uint32_t old_size = f->table_size;

    if (f->count * 2 < f->table_size)
        return 0;
    f->table = calloc(size, sizeof(*f->table));
    if (!f->table) {
        f->table = old;
        return -ENOMEM;
    }
    f->table_size = size;
    for (uint32_t i = 0; i < old_size; i++)
        if (old[i])
            *table_slot(f, f->nodes[old[i]].id) = old[i];
    free(old);
    return 0;
}

/* The node of a message id, made as a dummy if there is none. 0: no room for it. */
static uint32_t node_of(struct thread_forest *f, uint64_t id)
{
    uint32_t *slot, node;

    if (table_reserve(f) < 0)
        return 0;
    slot = table_slot(f, id);
    if (*slot)
        return *slot;
    node = thread_add(f);
    if (node) {
        f->nodes[node].id = id;
        *slot = node;
    }
    return node;
}

/* Would `child` under `parent` make a loop? A child without children cannot; the walk up is bounded. */
static bool makes_loop(const struct thread_forest *f, uint32_t parent, uint32_t child)
{
    uint32_t at = parent;

    if (parent == child)
        return true;
    if (f->nodes[child].children == 0)
        return false;
    for (unsigned n = 0; at; n++) {
        if (at == child || n >= WALK_MAX)
            return true;
        at = f->nodes[at].parent;
    }
    return false;
}

static void set_parent(struct thread_forest *f, uint32_t child, uint32_t parent)
{
    if (f->nodes[child].parent)
        f->nodes[f->nodes[child].parent].children--;
    f->nodes[child].parent = parent;
    if (parent)
        f->nodes[parent].children++;
}

/* Step 1 for one message: its references in a row, then itself under the last of them. */
static void link_references(struct thread_forest *f, uint32_t message, const struct digest *d)
{
    uint32_t last = 0;

    for (size_t i = 0, count = digest_reference_count(d); i < count; i++) {
        uint32_t node = node_of(f, digest_reference(d, i));

        if (!node)
            continue;
        if (last && !f->nodes[node].parent && !makes_loop(f, last, node))
            set_parent(f, node, last);
        last = node;
    }
    set_parent(f, message, 0);
    if (last && !makes_loop(f, last, message))
        set_parent(f, message, last);
}

/* The node for a message: that of its id, unless another message has it already. */
static uint32_t message_node(struct thread_forest *f, const struct digest *d)
{
    uint32_t node = d->id ? node_of(f, d->id) : 0;

    if (node && !f->nodes[node].seq)
        return node;
    return thread_add(f);
}

static int add_message(struct thread_forest *f, const struct message *m, const struct digest *d, bool has_references)
{
    uint32_t node = has_references ? message_node(f, d) : thread_add(f);
    struct str subject = d->texts[DIGEST_SUBJECT];

    if (!node)
        return -ENOMEM;
    f->nodes[node].seq = m->seq;
    f->nodes[node].date = d->date;
    f->nodes[node].arrival = m->info.internaldate;
    f->nodes[node].is_reply = d->is_reply;
    f->nodes[node].subject_at = f->subjects.len;
    f->nodes[node].subject_len = (uint32_t)subject.len;
    if (has_references)
        link_references(f, node, d);
    return buf_add_str(&f->subjects, subject);
}

static int load(struct imap *s, const struct numset *found, bool has_references, struct thread_forest *f)
{
    uint64_t count = numset_size(found);
    struct progress progress = {.s = s, .doing = "threading"};
    struct message m;
    struct digest d;
    int r = 0;

    f->max = count > NODES_MAX / 16 ? NODES_MAX : (uint32_t)count * 8 + 1024;
    if (thread_add(f) != 0 || f->count != 1) /* node 0 is nobody */
        return -ENOMEM;
    message_init(&m, s);
    digest_init(&d);
    for (size_t i = 0; i < found->count && r >= 0; i++) {
        for (uint32_t seq = found->ranges[i].first; seq <= found->ranges[i].last && r >= 0; seq++) {
            r = progress_go_on(&progress, 0);
            if (r >= 0)
                r = message_begin(&m, seq);
            if (r >= 0)
                r = digest_get(&d, &m);
            if (r == -ESTALE) { /* gone meanwhile: a message without a header */
                d = (struct digest){.bytes = d.bytes, .date = m.info.internaldate};
                r = 0;
            }
            if (r >= 0)
                r = add_message(f, &m, &d, has_references);
        }
    }
    digest_finish(&d);
    message_finish(&m);
    return r;
}

/* The nearest ancestor that is a message, or the dummy at the top; every dummy on the way remembers it. */
static uint32_t real_parent(struct thread_forest *f, uint32_t node)
{
    uint32_t top = f->nodes[node].parent, at = top, next;

    while (top && !f->nodes[top].seq && f->nodes[top].parent)
        top = f->nodes[top].parent;
    while (at && at != top && !f->nodes[at].seq) {
        next = f->nodes[at].parent;
        f->nodes[at].parent = top;
        at = next;
    }
    return top;
}

/* Step 3: dummies go, their children move up; a dummy at the top stays when it holds several together. */
static void prune(struct thread_forest *f)
{
    for (uint32_t i = 1; i < f->count; i++)
        if (f->nodes[i].seq)
            f->nodes[i].parent = real_parent(f, i);
    for (uint32_t i = 1; i < f->count; i++)
        f->nodes[i].children = 0;
    for (uint32_t i = 1; i < f->count; i++)
        if (f->nodes[i].seq && f->nodes[i].parent)
            f->nodes[f->nodes[i].parent].children++;
    for (uint32_t i = 1; i < f->count; i++) {
        uint32_t parent = f->nodes[i].parent;

        if (f->nodes[i].seq && parent && !f->nodes[parent].seq && f->nodes[parent].children == 1) {
            f->nodes[i].parent = 0;
            f->nodes[parent].children = 0;
        }
    }
}

void thread_link_children(struct thread_forest *f)
{
    f->root = 0;
    for (uint32_t i = 1; i < f->count; i++)
        f->nodes[i].child = f->nodes[i].next = 0;
    for (uint32_t i = f->count; i-- > 1;) {
        struct thread_node *node = &f->nodes[i];
        uint32_t *head = node->seq && node->parent ? &f->nodes[node->parent].child : &f->root;

        /* A dummy is a thread's head when it has children, and otherwise nothing. */
        if (!node->seq && node->children < 2)
            continue;
        node->next = *head;
        *head = i;
    }
}

static int build_references(struct thread_forest *f, enum thread_algorithm algorithm)
{
    int error = 0;

    prune(f);
    thread_link_children(f);
    for (uint32_t i = 1; i < f->count && error == 0; i++)
        f->nodes[i].child = thread_sort_siblings(f, f->nodes[i].child, false, &error);
    if (error == 0)
        f->root = thread_sort_siblings(f, f->root, false, &error);
    if (error == 0 && algorithm == THREAD_REFERENCES)
        error = thread_merge_subjects(f);
    return error;
}

/* REFS: each thread carries the arrival of its newest message. */
static int order_by_arrival(struct thread_forest *f)
{
    int error = 0;

    for (uint32_t i = 1; i < f->count; i++) {
        uint32_t at = i, top = i, next;

        while (f->nodes[top].seq && f->nodes[top].parent)
            top = f->nodes[top].parent;
        /* Straight to the top the next time: the parents are not needed any more. */
        while (at != top && f->nodes[at].parent != top) {
            next = f->nodes[at].parent;
            f->nodes[at].parent = top;
            at = next;
        }
        if (f->nodes[i].seq && (f->nodes[top].arrival < f->nodes[i].arrival || !f->nodes[top].arrival))
            f->nodes[top].arrival = f->nodes[i].arrival;
    }
    f->root = thread_sort_siblings(f, f->root, true, &error);
    return error;
}

static int compare_subjects(const void *a, const void *b, void *context)
{
    const struct thread_forest *f = context;
    const struct thread_node *x = &f->nodes[*(const uint32_t *)a], *y = &f->nodes[*(const uint32_t *)b];
    int c = str_cmp(thread_subject(f, x), thread_subject(f, y));

    if (c != 0)
        return c;
    if (x->date != y->date)
        return x->date < y->date ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* ORDEREDSUBJECT: by subject, then date; the first of each subject is the parent of the others. */
static int build_ordered_subject(struct thread_forest *f)
{
    uint32_t *order = calloc(f->count, sizeof(*order)), head = 0;
    int error = 0;

    if (!order)
        return -ENOMEM;
    for (uint32_t i = 1; i < f->count; i++)
        order[i] = i;
    qsort_r(order + 1, f->count - 1, sizeof(*order), compare_subjects, f);
    for (uint32_t i = 1; i < f->count; i++) {
        if (head && str_eq(thread_subject(f, &f->nodes[head]), thread_subject(f, &f->nodes[order[i]])))
            set_parent(f, order[i], head);
        else
            head = order[i];
    }
    free(order);
    thread_link_children(f);
    for (uint32_t i = 1; i < f->count && error == 0; i++)
        f->nodes[i].child = thread_sort_siblings(f, f->nodes[i].child, false, &error);
    if (error == 0)
        f->root = thread_sort_siblings(f, f->root, false, &error);
    return error;
}

int thread_build(struct imap *s, enum thread_algorithm algorithm, const struct numset *found, struct thread_forest *f)
{
    int r = load(s, found, algorithm != THREAD_ORDEREDSUBJECT, f);

    if (r >= 0)
        r = algorithm == THREAD_ORDEREDSUBJECT ? build_ordered_subject(f) : build_references(f, algorithm);
    if (r >= 0 && algorithm == THREAD_REFS)
        r = order_by_arrival(f);
    return r;
}
