/*
 * Messages in a literal8 (see append_binary.h). Runs in imap-session as the user; the file never has a name.
 */
#include "handlers/imap/append_binary.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mime/convert.h"

int append_binary_begin(struct imap *s, struct append_binary *b)
{
    const char *folders[] = {s->who->state, "/tmp"};

    *b = (struct append_binary){.fd = -1};
    for (size_t i = 0; i < ARRAY_SIZE(folders) && b->fd < 0; i++)
        if (folders[i])
            b->fd = open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return b->fd < 0 ? -ENOTSUP : 0;
}

void append_binary_finish(struct append_binary *b)
{
    close_fd(&b->fd);
}

int append_binary_write(struct append_binary *b, struct str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.ptr[i];

        b->is_odd = b->is_odd || c == '\0' || (c == '\n') != (b->last == '\r');
        b->last = c;
    }
    while (bytes.len > 0) {
        ssize_t n = write(b->fd, bytes.ptr, bytes.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            bytes = str_sub(bytes, (size_t)n, bytes.len);
    }
    return 0;
}

static int hand_on(void *context, struct str bytes)
{
    return mbox_append_write(context, bytes.ptr, bytes.len);
}

int append_binary_end(struct append_binary *b, struct mbox_append *to)
{
    _cleanup_convert_ struct convert c = {0};
    int r;

    /* RFC 3516 6: encoded only where there is need, signatures hold. */
    if (!b->is_odd && b->last == '\n')
        return content_read_raw(b->fd, hand_on, to);
    r = convert_plan(b->fd, CONVERT_LINES, &c);
    if (r >= 0)
        r = convert_read(b->fd, &c, hand_on, to);
    return r == -EBADMSG ? -ENOTSUP : r;
}
