/*
 * Questions to the monitor. Part of smtp-session; its answers are checked like everything from outside.
 */
#include "handlers/smtp/remote.h"

#include <errno.h>
#include <string.h>

#include "handlers/smtp/frames.h"
#include "shared/io/frame.h"
#include "shared/route/path.h"

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

/* Nothing but the sender: what could be wrong with it is not for the monitor to say. */
static bool is_plain(const struct mail_params *p)
{
    return p->way == WAY_MAIL && p->size == 0 && p->priority == 0 && p->by == QUEUE_BY_NONE && p->hold_for == 0 &&
           p->hold_until == 0;
}

/* Every question is two processes that wait for each other. */
static int remote_mail(void *context, const struct smtp_envelope *envelope, struct smtp_answer *ret)
{
    struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    if (r->is_quick && is_plain(&envelope->params)) {
        frame_begin(&r->sender, FRAME_SMTP_FIRST_RCPT);
        answer_set(ret, 250, "2.1.0", "Sender ok");
        return frames_put_envelope(&r->sender, envelope);
    }
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

static int remote_rcpt(void *context, struct str mailbox, const struct rcpt_params *params, struct smtp_answer *ret)
{
    struct remote *r = context;
    _cleanup_frame_ struct frame f = r->sender;
    int e;

    r->sender = FRAME_INIT;
    if (f.type == 0)
        frame_begin(&f, FRAME_SMTP_RCPT);
    e = frame_put_str(&f, mailbox);
    if (e == 0)
        e = frame_put_u32(&f, params->notify);
    if (e == 0)
        e = frame_put_str(&f, params->orcpt);
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
    const struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_LARGER);
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

static int remote_commit(void *context, const struct smtp_content *content, struct smtp_answer *ret, size_t count)
{
    const struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_COMMIT);
    e = frame_put_u32(&f, (uint32_t)count);
    if (e == 0)
        e = frame_put_u32(&f, content->traits);
    if (e == 0)
        e = frame_put_str(&f, content->text);
    if (e == 0)
        e = frame_send(r->control, &f, -1);
    for (size_t i = 0; i < count && e == 0; i++)
        e = receive(r, &ret[i], NULL);
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

static int remote_reset(void *context)
{
    struct remote *r = context;
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_finish(&r->sender);
    frame_begin(&f, FRAME_SMTP_RESET);
    return frame_send(r->control, &f, -1);
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

int remote_facts(const struct remote *r, struct remote_facts *ret)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_FACTS_WANTED);
    e = frame_send(r->control, &f, -1);
    if (e == 0)
        e = frame_recv(r->control, &f, -1);
    return e < 0 ? e : read_facts(&f, ret);
}
