/*
 * From fd 0 through the store into the mailbox. Part of deliver.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handlers/deliver/deliver.h"
#include "handlers/deliver/loop.h"
#include "handlers/deliver/prologue.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/mbox/mbox.h"

#define DELIVER_BLOCK (64u << 10)
#define ADDRESS_MAX   1024
#define HEAD_MAX      (4096 + 2 * PROLOGUE_MAX)

/* Control characters in an argument would break out of the header. */
static bool is_clean(const char *text)
{
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            return false;
    return true;
}

static int find_address(const struct conf *conf, const struct session *s, const struct deliver_options *o,
                        struct buf *out)
{
    return *o->address ? buf_printf(out, "%s", o->address) : buf_printf(out, "%s@%s", s->user, conf->hostname);
}

/* RFC 5321 4.4: the final delivery puts the reverse-path on top. Delivered-To is what finds loops. */
int deliver_head(const struct conf *conf, const struct session *s, const struct deliver_options *o, bool is_known,
                 struct buf *out)
{
    int e = is_clean(o->sender) && is_clean(o->address) ? 0 : -EINVAL;

    if (e == 0)
        e = buf_printf(out, "Return-Path: <%s>\n", o->sender);
    if (e < 0 || is_known)
        return e;
    e = buf_add_str(out, STR("Delivered-To: "));
    if (e == 0)
        e = find_address(conf, s, o, out);
    return e < 0 ? e : buf_add_byte(out, '\n');
}

/* How many bytes, 0 at the end; or a negative errno. */
static ssize_t read_input(int fd, char *block, size_t size)
{
    ssize_t n;

    do
        n = read(fd, block, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int copy_input(const struct deliver_options *o, struct mbox_append *a, const char *address)
{
    struct loop_watch loop = {.address = str_from(address), .is_over = !o->finds_loops};
    _cleanup_free_ char *block = o->text.len > 0 ? NULL : malloc(DELIVER_BLOCK);
    ssize_t n;
    int e = block || o->text.len > 0 ? 0 : -ENOMEM;

    if (e == 0 && o->text.len > 0) {
        loop_watch(&loop, o->text);
        e = loop.is_found ? -EMULTIHOP : mbox_append_write(a, o->text.ptr, o->text.len);
    }
    while (e == 0 && block && (n = read_input(o->input, block, DELIVER_BLOCK)) != 0) {
        if (n < 0)
            return (int)n;
        loop_watch(&loop, (struct str){block, (size_t)n});
        e = loop.is_found ? -EMULTIHOP : mbox_append_write(a, block, (size_t)n);
    }
    return e == 0 && loop.is_found ? -EMULTIHOP : e;
}

/* A pipe gives in pieces: as much as the prologue may have. */
static int read_front(int fd, struct buf *front)
{
    int e = buf_reserve(front, PROLOGUE_MAX);

    while (e == 0 && front->len < PROLOGUE_MAX) {
        ssize_t n = read_input(fd, front->data + front->len, PROLOGUE_MAX - front->len);

        if (n <= 0)
            return (int)n;
        front->len += (size_t)n;
    }
    return e;
}

static void log_notices(struct mbox_store *store)
{
    _cleanup_buf_ struct buf lines = BUF_INIT(16u << 10);
    struct str rest, line;

    if (mbox_store_notices(store, &lines) < 0)
        return;
    rest = buf_str(&lines);
    while (rest.len > 0) {
        (void)str_cut(&rest, '\n', &line);
        if (line.len > 0)
            LOG_EVENT(LOG_NOTICE, "mailbox", {"notice", line});
    }
}

/* Our own quota; the file system's comes as -EDQUOT. */
static int check_size(const struct conf *conf, const char *path, const struct deliver_options *o)
{
    struct stat box, message;

    if (conf->mailbox_size == 0 || stat(path, &box) < 0)
        return 0;
    if (o->text.len > 0)
        message.st_size = (off_t)o->text.len;
    else if (fstat(o->input, &message) < 0 || !S_ISREG(message.st_mode))
        message.st_size = 0; /* a pipe: unknown before it is read */
    return (uint64_t)box.st_size + (uint64_t)message.st_size > conf->mailbox_size ? -EDQUOT : 0;
}

/* A recipe or a .forward may name a folder that is not there yet. */
static int open_append(struct mbox_store *store, struct str mailbox, struct mbox_append **ret)
{
    int e = mbox_append_new(store, mailbox, ret);

    if (e == -ENOENT) {
        e = mbox_create(store, mailbox);
        if (e == 0 || e == -EEXIST)
            e = mbox_append_new(store, mailbox, ret);
    }
    return e;
}

struct delivery {
    const struct conf *conf;
    const struct session *session;
    const struct deliver_options *options;
};

/* Only now: a copy that an earlier attempt left is no second one in the quota, and who gave it up while we waited for a
 * lock or a disk hands the message to another deliver, which finds no copy before ours is there. */
static int may_write(void *context)
{
    const struct delivery *d = context;
    const struct deliver_options *o = d->options;

    if (o->is_wanted && !o->is_wanted(o->context))
        return -EPIPE;
    return o->file || strcasecmp(o->mailbox, "INBOX") != 0 ? 0 : check_size(d->conf, d->session->inbox, o);
}

static void tell(void *context)
{
    const struct delivery *d = context;

    if (d->options->tell)
        d->options->tell(d->options->context);
}

static int gather(struct deliver_box *b, struct conf *conf, const struct deliver_options *o, struct str head,
                  const char *address)
{
    int64_t now = clock_now(&conf->clock);
    const struct mbox_append_options options = {.sender = str_from(o->sender),
                                                .is_again = o->is_again,
                                                .internaldate = now,
                                                .internaldate_offset = (int16_t)clock_utc_offset(&conf->clock, now)};
    int e = b->append ? 0 : open_append(b->store, str_from(o->mailbox), &b->append);

    if (e == 0)
        e = mbox_append_message(b->append, &options);
    if (e < 0)
        return e;
    e = mbox_append_write(b->append, head.ptr, head.len);
    if (e == 0)
        e = copy_input(o, b->append, address);
    if (e < 0)
        mbox_append_drop(b->append);
    return e;
}

/* What goes in front of the rest of the input; who called us by hand may have told the sender there. */
static int make_head(const struct conf *conf, const struct session *s, struct deliver_options *o, const char *address,
                     struct buf *head)
{
    _cleanup_buf_ struct buf front = BUF_INIT(PROLOGUE_MAX);
    struct prologue p = PROLOGUE_INIT;
    int e;

    if (o->finds_loops)
        return deliver_head(conf, s, o, false, head);
    e = read_front(o->input, &front);
    if (e == 0)
        e = prologue_read(&p, buf_str(&front), str_from(address));
    if (e == 0 && !o->has_sender && p.sender.ptr) {
        o->found_sender = str_dup(p.sender);
        if (o->found_sender)
            o->sender = o->found_sender;
        else
            e = -ENOMEM;
    }
    if (e == 0)
        e = deliver_head(conf, s, o, p.is_known, head);
    if (e == 0)
        e = buf_add_str(head, buf_str(&p.fields));
    if (e == 0)
        e = buf_add_str(head, str_sub(buf_str(&front), p.size, front.len));
    prologue_finish(&p);
    return e;
}

int deliver_open(struct conf *conf, const struct session *s, const struct deliver_options *o, struct deliver_box *ret)
{
    struct mbox_store_options options = {.inbox = s->inbox,
                                         .folders = s->folders,
                                         .state = s->state,
                                         .owner = s->uid,
                                         .clock = &conf->clock,
                                         .keeper = s->control,
                                         .is_delivery = true};

    if (o->file) { /* an mbox file somewhere: appended to, nothing else is known of it */
        options.inbox = o->file;
        options.folders = options.state = NULL;
    }
    return mbox_store_new(&options, &ret->store);
}

void deliver_close(struct deliver_box *b)
{
    mbox_append_free(b->append);
    mbox_store_free(b->store);
    *b = (struct deliver_box){0};
}

int deliver_add(struct deliver_box *b, struct conf *conf, const struct session *s, struct deliver_options *o)
{
    _cleanup_buf_ struct buf address = BUF_INIT(ADDRESS_MAX), head = BUF_INIT(HEAD_MAX);
    int e = find_address(conf, s, o, &address);

    if (e == 0)
        e = make_head(conf, s, o, buf_cstr(&address), &head);
    return e < 0 ? e : gather(b, conf, o, buf_str(&head), buf_cstr(&address));
}

int deliver_commit(struct deliver_box *b, const struct mbox_append_hooks *hooks)
{
    uint32_t uidvalidity, uid;
    int e;

    mbox_append_hook(b->append, hooks);
    e = mbox_append_commit(b->append, &uidvalidity, &uid);
    if (e < 0) { /* what was gathered of it goes with it */
        mbox_append_free(b->append);
        b->append = NULL;
    }
    log_notices(b->store);
    return e;
}

int deliver_message(struct deliver_box *b, struct conf *conf, const struct session *s, struct deliver_options *o)
{
    struct delivery d = {conf, s, o};
    int e;

    if (o->file && strcmp(o->file, "/dev/null") == 0)
        return 0; /* aliases(5): thrown away */
    e = deliver_add(b, conf, s, o);
    return e < 0 ? e : deliver_commit(b, &(struct mbox_append_hooks){.may = may_write, .tell = tell, .context = &d});
}
