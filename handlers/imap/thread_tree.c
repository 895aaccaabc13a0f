/*
 * Threads as trees: order of siblings, merging by subject (RFC 5256 3, REFERENCES step 5), and the THREAD response.
 * Runs in imap-session as the user.
 */
#include <errno.h>

#include "handlers/imap/thread.h"
#include "shared/base/macros.h"

struct order {
    const struct thread_forest *f;
    bool by_arrival;
};

/* The node that a node is sorted by: a dummy stands where its first child would. */
static const struct thread_node *standing_for(const struct thread_forest *f, uint32_t node)
{
    const struct thread_node *n = &f->nodes[node];

    return !n->seq && n->child ? &f->nodes[n->child] : n;
}

static int compare_nodes(const void *a, const void *b, void *context)
{
    const struct order *o = context;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    const struct thread_node *x = standing_for(o->f, i), *y = standing_for(o->f, j);
    int64_t p = o->by_arrival ? o->f->nodes[i].arrival : x->date, q = o->by_arrival ? o->f->nodes[j].arrival : y->date;

    if (p != q)
        return p < q ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

uint32_t thread_sort_siblings(struct thread_forest *f, uint32_t head, bool by_arrival, int *ret_error)
{
    struct order o = {.f = f, .by_arrival = by_arrival};
    uint32_t *list, count = 0;

    if (!head || !f->nodes[head].next)
        return head;
    for (uint32_t i = head; i; i = f->nodes[i].next)
        count++;
    list = calloc(count, sizeof(*list));
    if (!list) {
        *ret_error = -ENOMEM;
        return head;
    }
    count = 0;
    for (uint32_t i = head; i; i = f->nodes[i].next)
        list[count++] = i;
    qsort_r(list, count, sizeof(*list), compare_nodes, &o);
    for (uint32_t i = 0; i < count; i++)
        f->nodes[list[i]].next = i + 1 < count ? list[i + 1] : 0;
    head = list[0];
    free(list);
    return head;
}

/* ---- step 5 ---- */

struct subject_table {
    uint32_t *slots; /* nodes, by the hash of their subject */
    uint32_t size;
};

static uint32_t *subject_slot(const struct thread_forest *f, const struct subject_table *t, struct str subject)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    uint32_t at;

    for (size_t i = 0; i < subject.len; i++)
        hash = (hash ^ (unsigned char)subject.ptr[i]) * UINT64_C(0x100000001b3);
    at = (uint32_t)(hash ^ hash >> 32) & (t->size - 1);
    while (t->slots[at] && !str_eq(thread_subject(f, standing_for(f, t->slots[at])), subject))
        at = (at + 1) & (t->size - 1);
    return &t->slots[at];
}

/* Step 5.B: which thread stands for each subject. */
static void fill_subjects(const struct thread_forest *f, const struct subject_table *t)
{
    for (uint32_t i = f->root; i; i = f->nodes[i].next) {
        struct str subject = thread_subject(f, standing_for(f, i));
        uint32_t *slot = subject.len ? subject_slot(f, t, subject) : NULL;
        const struct thread_node *there;

        if (!slot)
            continue;
        there = &f->nodes[*slot];
        if (!*slot || (there->seq && (!f->nodes[i].seq || (there->is_reply && !f->nodes[i].is_reply))))
            *slot = i;
    }
}

/* Behind the first child: that one names the subject of a dummy's thread, for the table too. The order comes later. */
static void append_child(struct thread_forest *f, uint32_t parent, uint32_t child)
{
    uint32_t first = f->nodes[parent].child, *link = first ? &f->nodes[first].next : &f->nodes[parent].child;

    f->nodes[child].parent = parent;
    f->nodes[child].next = *link;
    *link = child;
}

/* Puts the thread `i`, which has been taken off the root, together with the thread in `slot`. False: out of memory. */
static bool merge(struct thread_forest *f, uint32_t *slot, uint32_t i)
{
    uint32_t there = *slot, child, next, dummy;

    if (!f->nodes[there].seq && !f->nodes[i].seq) {
        for (child = f->nodes[i].child; child; child = next) {
            next = f->nodes[child].next;
            append_child(f, there, child);
        }
        f->nodes[i].child = 0;
        return true;
    }
    if (!f->nodes[there].seq || (f->nodes[i].is_reply && !f->nodes[there].is_reply)) {
        append_child(f, there, i);
        return true;
    }
    /* Neither is the other's reply: a new dummy takes the place of the one in the table, and holds both. The old node
     * keeps its place among the roots as that dummy, so that the list of roots need not be searched. */
    dummy = thread_add(f);
    if (!dummy)
        return false;
    f->nodes[dummy] = f->nodes[there];
    for (child = f->nodes[dummy].child; child; child = f->nodes[child].next)
        f->nodes[child].parent = dummy;
    f->nodes[there].seq = 0;
    f->nodes[there].child = 0;
    append_child(f, there, dummy);
    append_child(f, there, i);
    return true;
}

int thread_merge_subjects(struct thread_forest *f)
{
    struct subject_table t = {.size = 1024};
    uint32_t next, *tail = &f->root;
    int error = 0;

    f->max += f->count; /* room for the dummies of this step */
    while (t.size < f->count * 2)
        t.size *= 2;
    t.slots = calloc(t.size, sizeof(*t.slots));
    if (!t.slots)
        return -ENOMEM;
    fill_subjects(f, &t);
    for (uint32_t i = f->root, last = 0; i && error == 0; i = next) {
        struct str subject = thread_subject(f, standing_for(f, i));
        uint32_t *slot = subject.len ? subject_slot(f, &t, subject) : NULL;

        next = f->nodes[i].next;
        if (!slot || *slot == i) {
            last = i;
            continue;
        }
        tail = last ? &f->nodes[last].next : &f->root;
        *tail = next;
        if (!merge(f, slot, i))
            error = -ENOMEM;
    }
    free(t.slots);
    for (uint32_t i = 1; i < f->count && error == 0; i++)
        f->nodes[i].child = thread_sort_siblings(f, f->nodes[i].child, false, &error);
    if (error == 0)
        f->root = thread_sort_siblings(f, f->root, false, &error);
    return error;
}

/* ---- the response ---- */

#define CLOSE UINT32_MAX /* on the stack: a closing parenthesis */

struct stack {
    uint32_t *items;
    size_t count;
    size_t cap;
};

static int push(struct stack *k, uint32_t item)
{
    if (k->count == k->cap) {
        size_t cap = k->cap ? k->cap * 2 : 64;
        uint32_t *more = realloc(k->items, cap * sizeof(*more));

        if (!more)
            return -ENOMEM;
        k->items = more;
        k->cap = cap;
    }
    k->items[k->count++] = item;
    return 0;
}

/* Pushes all children so that the first is on top. */
static int push_children(struct stack *k, const struct thread_forest *f, uint32_t child)
{
    size_t from = k->count;
    int r = 0;

    for (; child && r >= 0; child = f->nodes[child].next)
        r = push(k, child);
    for (size_t i = from, j = k->count; r >= 0 && i + 1 < j; i++) {
        uint32_t swap = k->items[i];

        j--;
        k->items[i] = k->items[j];
        k->items[j] = swap;
    }
    return r;
}

static void write_number(struct imap *s, uint32_t seq)
{
    struct mbox_info info;

    if (s->is_uid && mbox_info(s->box, seq, &info) >= 0)
        (void)writer_u64(&s->out, info.uid);
    else
        (void)writer_u64(&s->out, seq);
}

/* "(" and the members up to where the thread splits; what comes then is on the stack. */
static int write_list(struct imap *s, const struct thread_forest *f, struct stack *k, uint32_t i)
{
    const struct thread_node *node = &f->nodes[i];
    int r = push(k, CLOSE);

    (void)writer_add(&s->out, "(", 1);
    if (node->seq)
        write_number(s, node->seq);
    while (r >= 0 && node->seq && node->child && !f->nodes[node->child].next) {
        node = &f->nodes[node->child];
        (void)writer_add(&s->out, " ", 1);
        write_number(s, node->seq);
    }
    if (r >= 0 && node->child) {
        if (node->seq)
            (void)writer_add(&s->out, " ", 1);
        r = push_children(k, f, node->child);
    }
    return r;
}

int thread_write(struct imap *s, const struct thread_forest *f)
{
    struct stack k = {.items = NULL};
    int r = 0;

    if (f->root)
        (void)writer_add(&s->out, " ", 1);
    for (uint32_t i = f->root; i && r >= 0; i = f->nodes[i].next) {
        r = write_list(s, f, &k, i);
        while (r >= 0 && k.count > 0) {
            uint32_t item = k.items[--k.count];

            if (item == CLOSE)
                (void)writer_add(&s->out, ")", 1);
            else
                r = write_list(s, f, &k, item);
        }
    }
    free(k.items);
    return r;
}
