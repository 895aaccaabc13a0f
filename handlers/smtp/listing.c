/*
 * The list of the queue in a file. Runs in the monitor as root, or in `smtp-session -bs` as the invoking user.
 */
#include "handlers/smtp/listing.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/queue/select.h"

#define LISTING_MAX (64u << 20) /* some hundred thousand entries; more are not read on a terminal */

static int write_file(struct str text, int *ret_fd)
{
    _cleanup_close_ int fd = memfd_create("queue", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    while (text.len > 0) {
        ssize_t n = write(fd, text.ptr, text.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            text = str_sub(text, (size_t)n, text.len);
    }
    if (lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int summarise(struct buf *text, size_t count, size_t unreadable, bool is_cut)
{
    int e = 0;

    if (is_cut)
        e = buf_printf(text, "There is more, see pennypost queue list\n");
    if (e == 0 && unreadable > 0)
        e = buf_printf(text, "%zu cannot be read\n", unreadable);
    if (e == 0)
        e = count > 0 ? buf_printf(text, "%zu in the queue\n", count) : buf_printf(text, "The queue is empty\n");
    return e;
}

static int list(struct smtp_agent *a, struct buf *text)
{
    bool is_everything = a->local_user ? a->local_uid == 0 : a->is_root;
    struct queue_filter filter = {.user = is_everything ? NULL : a->local_user ? a->local_user : ""};
    size_t count = 0, unreadable = 0;
    int e = agent_open_queue(a);

    if (e == -ENOENT) /* nothing was ever queued */
        return summarise(text, 0, 0, false);
    if (e < 0)
        return e;
    text->max = LISTING_MAX;
    e = queue_list(&a->queue, &filter, clock_now(&a->conf->clock), text, &count, &unreadable);
    if (e < 0 && e != -ENOBUFS)
        return e;
    text->max = LISTING_MAX + 4096;
    return summarise(text, count, is_everything ? unreadable : 0, e == -ENOBUFS);
}

int listing_make(struct smtp_agent *a, struct smtp_answer *ret, int *ret_fd)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LISTING_MAX);
    int e = list(a, &text);

    if (e == 0)
        e = write_file(buf_str(&text), ret_fd);
    if (e == 0) {
        answer_set(ret, 250, "2.0.0", "Here it is");
        return 0;
    }
    if (e != -EACCES && e != -EPERM)
        LOG_ERROR(LOG_ERR, "queue-unusable", e, LOG_FC("folder", a->conf->queue));
    if (e == -EACCES || e == -EPERM)
        answer_set(ret, 550, "5.7.1", "The queue is root's; through the socket %s everybody sees his own messages",
                   a->conf->submit_socket);
    else
        answer_set(ret, 451, "4.3.0", "The queue cannot be read");
    return 0;
}
