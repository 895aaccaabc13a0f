/*
 * Deliveries on this machine that come from the queue: to each place its deliver, as its user. Runs in relay-courier.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/relay/courier.h"
#include "shared/base/macros.h"
#include "shared/route/transfer.h"

static int send_result(const struct smtp_answer *a)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct talk_reply reply;
    int r;

    talk_reply_set(&reply, TALK_END, a->code,
                   a->enhanced[0]  ? a->enhanced
                   : a->code < 400 ? "2.0.0"
                                   : "4.0.0",
                   "%s", a->text);
    reply.code = a->code / 100 == 3 ? 451 : a->code;
    frame_begin(&f, FRAME_RELAY_RESULT);
    r = talk_put_reply(&f, &reply);
    return r < 0 ? r : frame_send(COURIER_CONTROL, &f, -1);
}

static void deliver(struct postmen *postmen, int message, const struct job_local *l, struct smtp_answer *answer)
{
    static const enum rcpt_kind kinds[] = {
        [JOB_MAILBOX] = RCPT_MAILBOX, [JOB_COMMAND] = RCPT_COMMAND, [JOB_FILE] = RCPT_FILE};
    _cleanup_free_ char *sender = str_dup(l->sender), *address = str_dup(l->address), *argument = str_dup(l->argument);
    struct rcpt_target target = {0};
    struct transfer t = {.postmen = postmen,
                         .target = &target,
                         .letter = {.file = message, .sender = sender, .address = address, .is_again = true}};
    int r = sender && address && argument ? rcpt_find_user(l->user, &target) : -ENOMEM;

    if (r == -ENOENT) {
        answer_set(answer, 550, "5.1.1", "There is no such user here");
        return;
    }
    if (r < 0) {
        answer_set(answer, 451, "4.3.0", "The user database does not answer");
        return;
    }
    target.kind = kinds[l->place];
    free(target.argument);
    target.argument = steal_ptr(argument);
    transfer_begin(&t);
    transfer_end(&t, answer);
    rcpt_target_finish(&target);
}

static int deliver_some(struct postmen *postmen, int message, struct frame *f, uint32_t left, uint32_t *ret_done)
{
    struct frame_reader in = frame_read(f);
    uint32_t count;
    int r = 0;

    if (f->type != FRAME_RELAY_LOCAL || frame_get_u32(&in, &count) < 0 || count == 0 || count > left)
        return -EBADMSG;
    for (uint32_t i = 0; i < count && r == 0; i++) {
        struct smtp_answer answer;
        struct job_local l;

        r = job_get_local(&in, &l);
        if (r == 0) {
            deliver(postmen, message, &l, &answer);
            r = send_result(&answer);
        }
    }
    *ret_done = count;
    return r < 0 ? r : frame_end(&in);
}

int courier_deliver(struct courier *c, struct frame *mail)
{
    _cleanup_close_ int message = steal_fd(&mail->fd);
    _cleanup_frame_ struct frame done = FRAME_INIT;
    struct frame_reader in = frame_read(mail);
    struct talk_mail m;
    uint32_t left;
    int r = talk_get_mail(&in, &m);

    left = r == 0 ? m.count : 0;
    if (message < 0)
        r = -EBADMSG;
    while (r == 0 && left > 0) {
        _cleanup_frame_ struct frame f = FRAME_INIT;
        uint32_t count = 0;

        frame_begin(&f, FRAME_RELAY_MORE);
        r = frame_send(COURIER_CONTROL, &f, -1);
        if (r == 0)
            r = frame_recv(COURIER_CONTROL, &f, COURIER_PATIENCE_MS);
        if (r == 0)
            r = deliver_some(&c->postmen, message, &f, left, &count);
        left -= count;
    }
    frame_begin(&done, FRAME_RELAY_DONE);
    if (r == 0)
        r = frame_put_u32(&done, 1);
    if (r == 0)
        r = frame_put_u32(&done, 0);
    return r < 0 ? r : frame_send(COURIER_CONTROL, &done, -1);
}
