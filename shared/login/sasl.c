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
    struct sasl_ahead ahead;
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

static int send_start(const struct exchange *x, struct str mechanism, struct str response, bool has_response)
{
    bool is_ahead = x->ahead.in != NULL;

    return frame_say(x->control, FRAME_AUTH_START, -1, FRAME_U32(x->attempt), FRAME_STR(mechanism), FRAME_STR(response),
                     FRAME_U32(has_response), FRAME_U32(is_ahead),
                     FRAME_STR(is_ahead ? line_buffered(x->ahead.in) : STR_NULL),
                     FRAME_STR(is_ahead ? buf_str(x->ahead.left) : STR_NULL));
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
    struct buf response = BUF_INIT(LIMIT_SASL);
    uint32_t attempt;
    struct str challenge;
    int r = frame_take(f, FRAME_TO_U32(&attempt, x->attempt), FRAME_TO_STR(&challenge, LIMIT_SASL));

    if (r < 0 || attempt != x->attempt || !x->client)
        return -EBADMSG;
    r = ask_decoded(x->client, challenge, &response);
    if (r == 0)
        r = frame_say(x->control, FRAME_AUTH_RESPONSE, -1, FRAME_U32(attempt), FRAME_STR(buf_str(&response)));
    else if (r == -ECANCELED || r == -EINVAL)
        r = frame_say(x->control, FRAME_AUTH_CANCEL, -1, FRAME_U32(attempt));
    buf_wipe_finish(&response);
    return r;
}

static int on_failed(const struct exchange *x, const struct frame *f)
{
    char text[LIMIT_NOTE + 1];
    uint32_t attempt;
    struct str unused;
    int r = frame_take(f, FRAME_TO_U32(&attempt, x->attempt), FRAME_TO_U32(&x->out->auth_class, AUTH_CLASS_CANCELLED),
                       FRAME_TO_TEXT(text), FRAME_TO_STR(&unused, 0), FRAME_TO_STR(&unused, 0));

    if (r < 0 || attempt != x->attempt)
        return -EBADMSG;
    return buf_add_str(&x->out->text, str_from(text));
}

static int on_done(const struct exchange *x, const struct frame *f)
{
    uint32_t attempt;
    struct str user, messages, final, line;
    int r = frame_take(f, FRAME_TO_U32(&attempt, x->attempt), FRAME_TO_STR(&user, LIMIT_USER),
                       FRAME_TO_STR(&messages, LIMIT_FRAME), FRAME_TO_STR(&final, LIMIT_SASL));

    if (r < 0 || attempt != x->attempt)
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

/* Name and secret are there: PLAIN, LOGIN where the client can be asked for more, APOP. */
static int run_secret(const struct exchange *x, struct str mechanism, struct str user, struct str secret)
{
    struct buf message = BUF_INIT(LIMIT_SASL);
    int r;

    if (str_has_nul(user) || str_has_nul(secret))
        return fail_here(x->out, AUTH_CLASS_MECHANISM, STR("NUL in name or password"));
    /* RFC 4616 2: authorization identity (none), name, password, a NUL before each of the two. RFC 1939 7: a blank. */
    r = buf_reserve(&message, message.max);
    if (r == 0)
        r = str_eq(mechanism, STR("APOP"))
                ? buf_printf(&message, "%.*s %.*s", STR_ARG(user), STR_ARG(secret))
                : buf_printf(&message, "%c%.*s%c%.*s", '\0', STR_ARG(user), '\0', STR_ARG(secret));
    if (r == 0)
        r = send_start(x, mechanism, buf_str(&message), true);
    buf_wipe_finish(&message);
    return r < 0 ? r : serve(x);
}

int sasl_secret(int control, uint32_t attempt, struct sasl_ahead ahead, struct str mechanism, struct str user,
                struct str secret, struct sasl_outcome *ret)
{
    struct exchange x = {.control = control, .attempt = attempt, .ahead = ahead, .out = ret};

    return run_secret(&x, mechanism, user, secret);
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
        r = run_secret(x, STR("LOGIN"), buf_str(&user), buf_str(&password));
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

int sasl_exchange(int control, uint32_t attempt, struct sasl_ahead ahead, struct str mechanisms, struct str mechanism,
                  struct str initial, const struct sasl_client *client, struct sasl_outcome *ret)
{
    struct exchange x = {.control = control, .attempt = attempt, .ahead = ahead, .client = client, .out = ret};
    int r = 0;

    ret->is_offered = str_has_word(mechanisms, mechanism);
    if (!ret->is_offered)
        return fail_here(ret, AUTH_CLASS_MECHANISM, STR("Authentication mechanism not available"));
    r = str_ieq(mechanism, STR("LOGIN")) ? run_login(&x, initial) : run_other(&x, mechanism, initial);
    if (r == -ECANCELED)
        return fail_here(ret, AUTH_CLASS_CANCELLED, STR("Authentication cancelled"));
    if (r == -EINVAL || r == -ENOBUFS)
        return fail_here(ret, AUTH_CLASS_MECHANISM, STR("Malformed response"));
    return r;
}
