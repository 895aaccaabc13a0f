/*
 * Letters as frames bring them. Part of deliver: as the user whose mailbox it is.
 */
#include "handlers/deliver/letter.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/io/frame_types.h"

static int get_text(struct frame_reader *in, char **ret)
{
    struct str text;
    int e = frame_get_str(in, LIMIT_PATH, &text);

    if (e < 0 || str_has_nul(text))
        return -EPROTO;
    *ret = str_dup(text);
    return *ret ? 0 : -ENOMEM;
}

static int parse(struct letter *l)
{
    struct frame_reader in = frame_read(&l->frame);
    uint32_t is_again = 0;
    int e = l->frame.type == FRAME_DELIVER_LETTER ? get_text(&in, &l->sender) : -EPROTO;

    if (e == 0)
        e = get_text(&in, &l->address);
    if (e == 0 && (frame_get_u32(&in, &is_again) < 0 || is_again > 1 || frame_get_str(&in, LIMIT_FRAME, &l->text) < 0 ||
                   frame_end(&in) < 0 || (l->text.len == 0) != (l->frame.fd >= 0)))
        e = -EPROTO;
    l->is_again = is_again == 1;
    return e;
}

int letter_take(struct letter *ret, int from)
{
    int e;

    *ret = (struct letter){.frame = FRAME_INIT, .from = from};
    e = frame_recv(from, &ret->frame, 0);
    if (e == 0)
        e = parse(ret);
    if (e < 0)
        letter_finish(ret);
    return e;
}

void letter_finish(struct letter *l)
{
    frame_finish(&l->frame);
    free(steal_ptr(l->sender));
    free(steal_ptr(l->address));
}

bool letter_is_awaited(const struct letter *l)
{
    struct pollfd p = {.fd = l->from, .events = POLLRDHUP};

    return poll(&p, 1, 0) == 0;
}

void letter_answer_line(struct letter *l, struct str line)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_DELIVER_VERDICT);
    e = frame_put_str(&f, line);
    l->error = e < 0 ? e : frame_send(l->from, &f, -1);
    l->is_told = true;
}

void letter_answer(struct letter *l, int error)
{
    _cleanup_buf_ struct buf line = BUF_INIT(VERDICT_MAX);

    (void)deliver_verdict(error, &line);
    letter_answer_line(l, buf_str(&line));
}

int letter_choose(const struct letter *l, struct deliver_options *o)
{
    o->input = l->frame.fd;
    o->text = l->text;
    o->sender = l->sender;
    o->address = l->address;
    o->is_again = l->is_again;
    /* Whoever had it before has read it with the same offset. */
    return o->input >= 0 && lseek(o->input, 0, SEEK_SET) < 0 && errno != ESPIPE ? -errno : 0;
}
