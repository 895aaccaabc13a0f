/*
 * From fd 0 through the store into the mailbox. Part of deliver.
 */
#include <errno.h>
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
static ssize_t read_input(char *block, size_t size)
{
    ssize_t n;

    do
        n = read(STDIN_FILENO, block, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int copy_input(struct mbox_append *a, const char *address)
{
    struct loop_watch loop = {.address = str_from(address), .is_over = address == NULL};
    char block[DELIVER_BLOCK];
    ssize_t n;
    int e = 0;

    while (e == 0 && (n = read_input(block, sizeof(block))) != 0) {
        if (n < 0)
            return (int)n;
        loop_watch(&loop, (struct str){block, (size_t)n});
        e = loop.is_found ? -EMULTIHOP : mbox_append_write(a, block, (size_t)n);
    }
    return e == 0 && loop.is_found ? -EMULTIHOP : e;
}

/* A pipe gives in pieces: as much as the prologue may have. */
static int read_front(struct buf *front)
{
    int e = buf_reserve(front, PROLOGUE_MAX);

    while (e == 0 && front->len < PROLOGUE_MAX) {
        ssize_t n = read_input(front->data + front->len, PROLOGUE_MAX - front->len);

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
static int check_size(const struct conf *conf, const char *path)
{
    struct stat box, message;

    if (conf->mailbox_size == 0 || stat(path, &box) < 0)
        return 0;
    if (fstat(STDIN_FILENO, &message) < 0 || !S_ISREG(message.st_mode))
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

static int append(struct conf *conf, struct mbox_store *store, const struct deliver_options *o, struct str head,
                  const char *address)
{
    struct mbox_append *a = NULL;
    uint32_t uidvalidity, uid;
    int64_t now = clock_now(&conf->clock);
    const struct mbox_append_options options = {.sender = str_from(o->sender),
                                                .is_again = o->is_again,
                                                .internaldate = now,
                                                .internaldate_offset = (int16_t)clock_utc_offset(&conf->clock, now)};
    int e = open_append(store, str_from(o->mailbox), &a);

    if (e == 0)
        e = mbox_append_message(a, &options);
    if (e == 0)
        e = mbox_append_write(a, head.ptr, head.len);
    if (e == 0)
        e = copy_input(a, o->finds_loops ? address : NULL);
    if (e == 0)
        e = mbox_append_commit(a, &uidvalidity, &uid);
    mbox_append_free(a);
    return e;
}

/* What goes in front of the rest of fd 0; who called us by hand may have told the sender there. */
static int make_head(const struct conf *conf, const struct session *s, struct deliver_options *o, const char *address,
                     struct buf *head)
{
    _cleanup_buf_ struct buf front = BUF_INIT(PROLOGUE_MAX);
    struct prologue p = PROLOGUE_INIT;
    int e;

    if (o->finds_loops)
        return deliver_head(conf, s, o, false, head);
    e = read_front(&front);
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

int deliver_message(struct conf *conf, const struct session *s, struct deliver_options *o)
{
    struct mbox_store_options options = {.inbox = s->inbox,
                                         .folders = s->folders,
                                         .state = s->state,
                                         .owner = s->uid,
                                         .clock = &conf->clock,
                                         .keeper = s->control,
                                         .is_delivery = true};
    _cleanup_buf_ struct buf address = BUF_INIT(ADDRESS_MAX), head = BUF_INIT(HEAD_MAX);
    struct mbox_store *store = NULL;
    int e = find_address(conf, s, o, &address);

    if (e == 0)
        e = make_head(conf, s, o, buf_cstr(&address), &head);
    if (o->file) { /* an mbox file somewhere: appended to, nothing else is known of it */
        options.inbox = o->file;
        options.folders = options.state = NULL;
    }
    if (e == 0 && !o->file && strcasecmp(o->mailbox, "INBOX") == 0)
        e = check_size(conf, options.inbox);
    if (e == 0)
        e = mbox_store_new(&options, &store);
    if (e < 0)
        return e;
    e = append(conf, store, o, buf_str(&head), buf_cstr(&address));
    log_notices(store);
    mbox_store_free(store);
    return e;
}
