/*
 * Questions to the monitor. Part of smtp-session; its answers are checked like everything from outside.
 */
#include "handlers/smtp/remote.h"

#include <errno.h>
#include <string.h>

#include "handlers/smtp/frames.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/io/frame.h"
#include "shared/route/path.h"

#define KNOWN_MS 5000 /* for so long a recipient whom the monitor took is known to be fine */

void remote_finish(struct remote *r)
{
    frame_finish(&r->first);
    buf_finish(&r->known);
}

static int read_answer(struct frame *f, struct smtp_answer *ret)
{
    struct frame_reader in = frame_read(f);
    struct str enhanced, text;
    uint32_t code = 0;

    if (f->type != FRAME_SMTP_ANSWER || frame_get_u32(&in, &code) < 0 ||
        frame_get_str(&in, sizeof(ret->enhanced), &enhanced) < 0 || frame_get_str(&in, ANSWER_TEXT, &text) < 0 ||
        frame_end(&in) < 0)
        return -EBADMSG;
    return answer_from(code, enhanced, text, ret);
}

/* The monitor may be busy with a locked mailbox for minutes; when it dies, the socket says so. */
static int receive(const struct remote *r, struct smtp_answer *ret, int *ret_fd)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e = frame_recv(r->control, &f, -1);

    if (e == 0)
        e = read_answer(&f, ret);
    if (e == 0 && (f.fd >= 0) != (ret_fd && answer_is_ok(ret)))
        e = -EBADMSG;
    if (e == 0 && f.fd >= 0)
        *ret_fd = steal_fd(&f.fd);
    return e;
}

static void end_transaction(struct remote *r)
{
    frame_finish(&r->first);
    r->is_promised = false;
    r->lost.code = 0;
}

/* Nothing that the monitor could have something against, but for the sender. */
static bool is_plain(const struct mail_params *p)
{
    return p->way == WAY_MAIL && p->size == 0 && p->priority == 0 && p->by == QUEUE_BY_NONE && p->hold_for == 0 &&
           p->hold_until == 0;
}

static int remote_mail(void *context, const struct smtp_envelope *envelope, struct smtp_answer *ret)
{
    struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    end_transaction(r);
    if (r->is_quick && is_plain(&envelope->params)) {
        frame_begin(&r->first, FRAME_SMTP_FIRST_RCPT);
        answer_set(ret, 250, "2.1.0", "Sender ok");
        return frames_put_envelope(&r->first, envelope);
    }
    buf_clear(&r->known);
    frame_begin(&f, FRAME_SMTP_MAIL);
    e = frames_put_envelope(&f, envelope);
    if (e == 0)
        e = frame_send(r->control, &f, -1);
    return e < 0 ? e : receive(r, ret, NULL);
}

static int ask_about(const struct remote *r, uint16_t type, struct str mailbox, struct smtp_answer *ret)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, type);
    e = frame_put_str(&f, mailbox);
    if (e == 0)
        e = frame_send(r->control, &f, -1);
    return e < 0 ? e : receive(r, ret, NULL);
}

static int put_rcpt(struct frame *f, struct str mailbox, const struct rcpt_params *params)
{
    int e = frame_put_str(f, mailbox);

    if (e == 0)
        e = frame_put_u32(f, params->notify);
    return e < 0 ? e : frame_put_str(f, params->orcpt);
}

/* The monitor hears of the sender, and of the one who was promised. */
static int tell_first(struct remote *r, struct smtp_answer *ret)
{
    int e = frame_send(r->control, &r->first, -1);

    frame_finish(&r->first);
    r->is_promised = false;
    return e < 0 ? e : receive(r, ret, NULL);
}

/* 0, also if it would not have the one who was promised. */
static int keep_promise(struct remote *r)
{
    struct smtp_answer answer;
    int e;

    if (!r->is_promised)
        return 0;
    e = tell_first(r, &answer);
    if (e == 0 && !answer_is_ok(&answer)) {
        r->lost = answer;
        buf_clear(&r->known);
    }
    return e;
}

/* Without memory for it the next question is asked. */
static void remember(struct remote *r, struct str mailbox)
{
    r->known_until = clock_monotonic_ms() + KNOWN_MS;
    if (!r->is_policed)
        (void)buf_add_str(&r->known, mailbox);
}

static bool is_known(const struct remote *r, struct str mailbox, const struct rcpt_params *params)
{
    return r->known.len > 0 && str_eq(buf_str(&r->known), mailbox) && params->notify == 0 && params->orcpt.len == 0 &&
           clock_monotonic_ms() < r->known_until;
}

static int first_rcpt(struct remote *r, struct str mailbox, const struct rcpt_params *params, struct smtp_answer *ret)
{
    int e = put_rcpt(&r->first, mailbox, params);

    if (e == 0 && is_known(r, mailbox, params)) {
        r->is_promised = true;
        answer_set(ret, 250, "2.1.5", "Recipient ok");
        return 0;
    }
    buf_clear(&r->known);
    if (e == 0)
        e = tell_first(r, ret);
    if (e == 0 && answer_is_ok(ret))
        remember(r, mailbox);
    return e;
}

static int remote_rcpt(void *context, struct str mailbox, const struct rcpt_params *params, struct smtp_answer *ret)
{
    struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e = keep_promise(r);

    if (e == 0 && r->lost.code != 0) {
        answer_set(ret, 452, "4.5.3", "Send this one in another transaction");
        return 0;
    }
    if (e == 0 && r->first.type != 0)
        return first_rcpt(r, mailbox, params, ret);
    frame_begin(&f, FRAME_SMTP_RCPT);
    if (e == 0)
        e = put_rcpt(&f, mailbox, params);
    if (e == 0)
        e = frame_send(r->control, &f, -1);
    return e < 0 ? e : receive(r, ret, NULL);
}

static int remote_vrfy(void *context, struct str mailbox, struct smtp_answer *ret)
{
    return ask_about(context, FRAME_SMTP_VRFY, mailbox, ret);
}

static int remote_own(void *context, struct str mailbox, struct smtp_answer *ret)
{
    return ask_about(context, FRAME_SMTP_OWN, mailbox, ret);
}

static int remote_etrn(void *context, struct str node, struct smtp_answer *ret)
{
    return ask_about(context, FRAME_SMTP_ETRN, node, ret);
}

static int remote_atrn(void *context, struct str domains, struct smtp_answer *ret)
{
    return ask_about(context, FRAME_SMTP_ATRN, domains, ret);
}

static int remote_turn(void *context)
{
    const struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_SMTP_TURN);
    return frame_send(r->control, &f, -1);
}

static int receive_count(const struct remote *r, size_t most, size_t *ret)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    uint32_t n = 0;
    int e = frame_recv(r->control, &f, -1);

    if (e < 0)
        return e;
    in = frame_read(&f);
    if (f.type != FRAME_SMTP_COUNT || f.fd >= 0 || frame_get_u32(&in, &n) < 0 || frame_end(&in) < 0 || n == 0 ||
        n > most)
        return -EBADMSG;
    *ret = n;
    return 0;
}

static int remote_expn(void *context, struct str mailbox, struct smtp_answer *ret, size_t *count)
{
    const struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_EXPN);
    e = frame_put_str(&f, mailbox);
    if (e == 0)
        e = frame_send(r->control, &f, -1);
    if (e == 0)
        e = receive_count(r, *count, count);
    for (size_t i = 0; e == 0 && i < *count; i++)
        e = receive(r, &ret[i], NULL);
    return e;
}

static int remote_larger(void *context, struct smtp_answer *ret, int *ret_fd)
{
    struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e = keep_promise(r);

    if (e == 0 && r->lost.code != 0) {
        *ret = r->lost;
        return 0;
    }
    frame_begin(&f, FRAME_SMTP_LARGER);
    if (e == 0)
        e = frame_send(r->control, &f, -1);
    return e < 0 ? e : receive(r, ret, ret_fd);
}

static int remote_queue(void *context, struct smtp_answer *ret, int *ret_fd)
{
    const struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_QUEUE);
    e = frame_send(r->control, &f, -1);
    return e < 0 ? e : receive(r, ret, ret_fd);
}

static int remote_reset(void *context)
{
    struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;

    end_transaction(r);
    frame_begin(&f, FRAME_SMTP_RESET);
    return frame_send(r->control, &f, -1);
}

static int put_content(struct frame *f, const struct smtp_content *content)
{
    int e = frame_put_u32(f, content->traits);

    return e < 0 ? e : frame_put_str(f, content->text);
}

/* Envelope and message in one frame. -ENOBUFS: they do not fit. */
static int send_whole(struct remote *r, const struct smtp_content *content)
{
    int e = put_content(&r->first, content);

    r->first.type = FRAME_SMTP_WHOLE;
    return e < 0 ? e : frame_send(r->control, &r->first, -1);
}

static int send_content(const struct remote *r, const struct smtp_content *content, size_t count)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_COMMIT);
    e = frame_put_u32(&f, (uint32_t)count);
    if (e == 0)
        e = put_content(&f, content);
    return e < 0 ? e : frame_send(r->control, &f, -1);
}

static bool fits_with(const struct frame *first, const struct smtp_content *content)
{
    return first->payload.len + content->text.len + 2 * sizeof(uint32_t) <= LIMIT_FRAME;
}

static int remote_commit(void *context, const struct smtp_content *content, struct smtp_answer *ret, size_t count)
{
    struct remote *r = context;
    int e = r->is_promised && !fits_with(&r->first, content) ? keep_promise(r) : 0;

    if (e == 0 && r->lost.code != 0) {
        LOG_EVENT(LOG_NOTICE, "message-refused", LOG_FC("reply", r->lost.text));
        for (size_t i = 0; i < count; i++)
            ret[i] = r->lost;
        return remote_reset(r);
    }
    if (e == 0)
        e = r->is_promised ? send_whole(r, content) : send_content(r, content, count);
    for (size_t i = 0; i < count && e == 0; i++)
        e = receive(r, &ret[i], NULL);
    if (e < 0 || !answer_is_ok(&ret[0]))
        buf_clear(&r->known);
    else if (count == 1)
        r->known_until = clock_monotonic_ms() + KNOWN_MS;
    end_transaction(r);
    return e;
}

static int remote_xclient(void *context, struct str address, uint16_t port, struct smtp_answer *ret)
{
    const struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_XCLIENT);
    e = frame_put_str(&f, address);
    if (e == 0)
        e = frame_put_u32(&f, port);
    if (e == 0)
        e = frame_send(r->control, &f, -1);
    return e < 0 ? e : receive(r, ret, NULL);
}

static int remote_hello(void *context, struct str name, char ret_name[static LIMIT_DOMAIN + 1])
{
    const struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    struct str verified;
    int e;

    frame_begin(&f, FRAME_SMTP_HELLO);
    e = frame_put_str(&f, name);
    if (e == 0)
        e = frame_send(r->control, &f, -1);
    if (e == 0)
        e = frame_recv(r->control, &f, -1);
    if (e < 0)
        return e;
    in = frame_read(&f);
    if (f.type != FRAME_SMTP_NAME || f.fd >= 0 || frame_get_str(&in, LIMIT_DOMAIN, &verified) < 0 ||
        frame_end(&in) < 0 || (verified.len > 0 && !path_is_helo(verified)))
        return -EBADMSG;
    if (verified.len > 0)
        memcpy(ret_name, verified.ptr, verified.len);
    ret_name[verified.len] = '\0';
    return 0;
}

struct smtp_backend remote_backend(struct remote *r)
{
    return (struct smtp_backend){.context = r,
                                 .mail = remote_mail,
                                 .rcpt = remote_rcpt,
                                 .vrfy = remote_vrfy,
                                 .own = remote_own,
                                 .expn = remote_expn,
                                 .etrn = remote_etrn,
                                 .atrn = remote_atrn,
                                 .turn = remote_turn,
                                 .larger = remote_larger,
                                 .commit = remote_commit,
                                 .xclient = remote_xclient,
                                 .hello = remote_hello,
                                 .queue = remote_queue,
                                 .reset = remote_reset};
}

static int get_bool(struct frame_reader *in, bool *ret)
{
    uint32_t n = 0;

    if (frame_get_u32(in, &n) < 0 || n > 1)
        return -EBADMSG;
    *ret = n == 1;
    return 0;
}

static int read_facts(const struct frame *f, struct remote_facts *ret)
{
    struct remote_facts facts = {0};
    struct frame_reader in = frame_read(f);
    struct str cipher, unwelcome, user;

    if (f->type != FRAME_SMTP_FACTS || f->fd >= 0 || frame_get_str(&in, sizeof(facts.cipher) - 1, &cipher) < 0 ||
        get_bool(&in, &facts.is_near) < 0 || get_bool(&in, &facts.can_xclient) < 0 ||
        get_bool(&in, &facts.wants_hello) < 0 || get_bool(&in, &facts.has_atrn) < 0 ||
        frame_get_str(&in, sizeof(facts.unwelcome) - 1, &unwelcome) < 0 ||
        frame_get_str(&in, sizeof(facts.local_user) - 1, &user) < 0 || frame_get_u32(&in, &facts.local_uid) < 0 ||
        frame_end(&in) < 0 || str_has_nul(cipher) || str_has_nul(unwelcome) || str_has_nul(user))
        return -EBADMSG;
    if (user.len > 0)
        memcpy(facts.local_user, user.ptr, user.len);
    if (cipher.len > 0)
        memcpy(facts.cipher, cipher.ptr, cipher.len);
    if (unwelcome.len > 0)
        memcpy(facts.unwelcome, unwelcome.ptr, unwelcome.len);
    *ret = facts;
    return 0;
}

int remote_facts(struct remote *r, struct remote_facts *ret)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_FACTS_WANTED);
    e = frame_send(r->control, &f, -1);
    if (e == 0)
        e = frame_recv(r->control, &f, -1);
    if (e == 0)
        e = read_facts(&f, ret);
    if (e < 0)
        return e;
    buf_clear(&r->known);
    r->is_policed = ret->wants_hello;
    return 0;
}
