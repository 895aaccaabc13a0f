/*
 * The client's half of an authentication exchange. Runs in login stages and smtp-session: own uid, empty root, seccomp.
 * It knows passwords for as long as it takes to hand them to the monitor, and decides nothing.
 */
#include "shared/login/sasl.h"

#include <errno.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"
#include "shared/login/base64.h"

/* The monitor answers before this or ends the connection: its own limits and delays are below. */
#define ANSWER_TIMEOUT_MS ((TIMEOUT_AUTH + 30) * 1000)
#define ROUNDS            16 /* messages of one exchange; SCRAM has two */

struct exchange {
    int control;
    uint32_t attempt;
    const struct sasl_client *client; /* NULL: no dialogue, the answer comes at once */
    struct sasl_outcome *out;
};

void sasl_outcome_finish(struct sasl_outcome *o)
{
    buf_finish(&o->text);
    buf_finish(&o->user);
    buf_finish(&o->messages);
}

/* An attempt that fails here, without the monitor. */
static int fail_here(struct sasl_outcome *out, uint32_t class, struct str text)
{
    out->auth_class = class;
    return buf_add_str(&out->text, text);
}

/* ---- frames ---- */

static int send_start(const struct exchange *x, struct str mechanism, struct str response, uint32_t has_response)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    frame_begin(&f, FRAME_AUTH_START);
    if ((r = frame_put_u32(&f, x->attempt)) < 0 || (r = frame_put_str(&f, mechanism)) < 0 ||
        (r = frame_put_str(&f, response)) < 0 || (r = frame_put_u32(&f, has_response)) < 0)
        return r;
    return frame_send(x->control, &f, -1);
}

static int send_response(const struct exchange *x, struct str response)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    frame_begin(&f, FRAME_AUTH_RESPONSE);
    if ((r = frame_put_u32(&f, x->attempt)) < 0 || (r = frame_put_str(&f, response)) < 0)
        return r;
    return frame_send(x->control, &f, -1);
}

static int send_cancel(const struct exchange *x)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    frame_begin(&f, FRAME_AUTH_CANCEL);
    r = frame_put_u32(&f, x->attempt);
    return r < 0 ? r : frame_send(x->control, &f, -1);
}

/* ---- the client's lines ---- */

static int ask(const struct sasl_client *client, struct str challenge, struct str *ret_line)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_FRAME);
    int r = base64_encode(challenge, &text);

    if (r == 0)
        r = client->challenge(client->context, buf_str(&text));
    return r < 0 ? r : client->response(client->context, ret_line);
}

/* Asks and decodes. 0; -ECANCELED: the client sent "*"; -EINVAL: no base64, or no line at all; others: it is gone. */
static int ask_decoded(const struct sasl_client *client, struct str challenge, struct buf *out)
{
    struct str line;
    int r = ask(client, challenge, &line);

    if (r == -ENOBUFS || r == -EBADMSG)
        return -EINVAL;
    if (r < 0)
        return r;
    if (str_eq(line, STR("*")))
        return -ECANCELED;
    r = buf_reserve(out, out->max);
    return r < 0 ? r : base64_decode(line, out);
}

/* ---- the monitor's answers ---- */

static int on_challenge(const struct exchange *x, const struct frame *f)
{
    struct frame_reader in = frame_read(f);
    struct buf response = BUF_INIT(LIMIT_SASL);
    uint32_t attempt = 0;
    struct str challenge;
    int r = 0;

    if (frame_get_u32(&in, &attempt) < 0 || frame_get_str(&in, LIMIT_SASL, &challenge) < 0 || frame_end(&in) < 0 ||
        attempt != x->attempt || !x->client)
        return -EBADMSG;
    r = ask_decoded(x->client, challenge, &response);
    if (r == 0)
        r = send_response(x, buf_str(&response));
    else if (r == -ECANCELED || r == -EINVAL)
        r = send_cancel(x);
    buf_wipe_finish(&response);
    return r;
}

static int on_failed(const struct exchange *x, const struct frame *f)
{
    struct frame_reader in = frame_read(f);
    uint32_t attempt = 0;
    struct str text;
    struct str unused;

    if (frame_get_u32(&in, &attempt) < 0 || frame_get_u32(&in, &x->out->auth_class) < 0 ||
        frame_get_str(&in, LIMIT_NOTE, &text) < 0 || frame_get_str(&in, 0, &unused) < 0 ||
        frame_get_str(&in, 0, &unused) < 0 || frame_end(&in) < 0 || attempt != x->attempt)
        return -EBADMSG;
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < ' ')
            return -EBADMSG;
    return buf_add_str(&x->out->text, text);
}

static int on_done(const struct exchange *x, const struct frame *f)
{
    struct frame_reader in = frame_read(f);
    uint32_t attempt = 0;
    struct str user;
    struct str messages;
    struct str final;
    struct str line;
    int r = 0;

    if (frame_get_u32(&in, &attempt) < 0 || frame_get_str(&in, LIMIT_USER, &user) < 0 ||
        frame_get_str(&in, LIMIT_FRAME, &messages) < 0 || frame_get_str(&in, LIMIT_SASL, &final) < 0 ||
        frame_end(&in) < 0 || attempt != x->attempt)
        return -EBADMSG;
    /* None of the protocols can carry data with success: it goes as a challenge that is answered by an empty response
     * (RFC 4422 4, item 4 c). */
    if (final.len > 0 && x->client) {
        r = ask(x->client, final, &line);
        if (r == 0 && line.len > 0 && !str_eq(line, STR("=")))
            r = -EPROTO;
    }
    if (r == 0)
        r = buf_add_str(&x->out->user, user);
    if (r == 0)
        r = buf_add_str(&x->out->messages, messages);
    x->out->is_done = r == 0;
    return r;
}

static int serve(const struct exchange *x)
{
    for (int round = 0; round < ROUNDS; round++) {
        _cleanup_frame_ struct frame f = FRAME_INIT;
        int r = frame_recv(x->control, &f, ANSWER_TIMEOUT_MS);

        if (r < 0)
            return r;
        if (f.type == FRAME_AUTH_DONE)
            return on_done(x, &f);
        if (f.type == FRAME_AUTH_FAILED)
            return on_failed(x, &f);
        r = f.type == FRAME_AUTH_CHALLENGE ? on_challenge(x, &f) : -EBADMSG;
        if (r < 0)
            return r;
    }
    return -EPROTO;
}

/* ---- what the protocols call ---- */

/* Name and password are there: PLAIN, or LOGIN where the client can be asked for more. */
static int run_password(const struct exchange *x, struct str mechanism, struct str user, struct str password)
{
    struct buf message = BUF_INIT(LIMIT_SASL);
    int r = 0;

    if (str_has_nul(user) || str_has_nul(password))
        return fail_here(x->out, AUTH_CLASS_MECHANISM, STR("NUL in name or password"));
    /* RFC 4616 2: authorization identity (none), name, password, a NUL before each of the two. */
    r = buf_reserve(&message, message.max);
    if (r == 0)
        r = buf_add_byte(&message, '\0');
    if (r == 0)
        r = buf_add_str(&message, user);
    if (r == 0)
        r = buf_add_byte(&message, '\0');
    if (r == 0)
        r = buf_add_str(&message, password);
    if (r == 0)
        r = send_start(x, mechanism, buf_str(&message), 1);
    buf_wipe_finish(&message);
    return r < 0 ? r : serve(x);
}

int sasl_plain(int control, uint32_t attempt, struct str user, struct str password, struct sasl_outcome *ret)
{
    struct exchange x = {.control = control, .attempt = attempt, .out = ret};

    return run_password(&x, STR("PLAIN"), user, password);
}

int sasl_apop(int control, uint32_t attempt, struct str user, struct str digest, struct sasl_outcome *ret)
{
    struct exchange x = {.control = control, .attempt = attempt, .out = ret};
    _cleanup_buf_ struct buf message = BUF_INIT(LIMIT_SASL);
    int r = buf_printf(&message, "%.*s %.*s", STR_ARG(user), STR_ARG(digest));

    if (r == 0)
        r = send_start(&x, STR("APOP"), buf_str(&message), 1);
    return r < 0 ? r : serve(&x);
}

/* "=" is an empty initial response (RFC 4954 4, RFC 4959 3). */
static int decode_initial(struct str initial, struct buf *out)
{
    int r = buf_reserve(out, out->max);

    return r < 0 || str_eq(initial, STR("=")) ? r : base64_decode(initial, out);
}

/* Two questions are the login stage's own: nothing is started for a client before it has sent a password. */
static int ask_login(struct str initial, const struct sasl_client *client, struct buf *user, struct buf *password)
{
    int r = initial.ptr ? decode_initial(initial, user) : ask_decoded(client, STR("Username:"), user);

    return r < 0 ? r : ask_decoded(client, STR("Password:"), password);
}

static int run_login(const struct exchange *x, struct str initial)
{
    struct buf user = BUF_INIT(LIMIT_SASL);
    struct buf password = BUF_INIT(LIMIT_SASL);
    int r = ask_login(initial, x->client, &user, &password);

    if (r == 0)
        r = run_password(x, STR("LOGIN"), buf_str(&user), buf_str(&password));
    buf_wipe_finish(&user);
    buf_wipe_finish(&password);
    return r;
}

static int run_other(const struct exchange *x, struct str mechanism, struct str initial)
{
    struct buf response = BUF_INIT(LIMIT_SASL);
    int r = initial.ptr ? decode_initial(initial, &response) : 0;

    if (r == 0)
        r = send_start(x, mechanism, buf_str(&response), initial.ptr != NULL);
    buf_wipe_finish(&response);
    return r < 0 ? r : serve(x);
}

static bool is_listed(struct str list, struct str word)
{
    struct str item;

    while (str_word(&list, &item))
        if (str_ieq(item, word))
            return true;
    return false;
}

int sasl_exchange(int control, uint32_t attempt, struct str mechanisms, struct str mechanism, struct str initial,
                  const struct sasl_client *client, struct sasl_outcome *ret)
{
    struct exchange x = {.control = control, .attempt = attempt, .client = client, .out = ret};
    int r = 0;

    if (!is_listed(mechanisms, mechanism))
        return fail_here(ret, AUTH_CLASS_MECHANISM, STR("Authentication mechanism not available"));
    r = str_ieq(mechanism, STR("LOGIN")) ? run_login(&x, initial) : run_other(&x, mechanism, initial);
    if (r == -ECANCELED)
        return fail_here(ret, AUTH_CLASS_CANCELLED, STR("Authentication cancelled"));
    if (r == -EINVAL || r == -ENOBUFS)
        return fail_here(ret, AUTH_CLASS_MECHANISM, STR("Malformed response"));
    return r;
}
