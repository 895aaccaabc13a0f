/*
 * The talk with the monitor: what is asked, challenges, responses. Runs in auth and auth-sasl, as root; touches the
 * control socket only. Every field is checked again, though the monitor has done so.
 */
#include <errno.h>
#include <string.h>

#include "handlers/auth/auth.h"
#include "shared/base/clock.h"
#include "shared/base/macros.h"

static int copy_word(struct str s, char *out, size_t max, bool is_upper)
{
    if (s.len > max)
        return -EBADMSG;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] <= ' ' || s.ptr[i] >= 127)
            return -EBADMSG;
        out[i] = is_upper ? ascii_upper(s.ptr[i]) : s.ptr[i];
    }
    out[s.len] = '\0';
    return 0;
}

static int parse(struct auth *a)
{
    struct frame_reader r = frame_read(&a->request);
    struct str service, mechanism, peer;
    uint32_t has_initial, is_tls;

    if (a->request.type != FRAME_AUTH_REQUEST || frame_get_u32(&r, &a->attempt) < 0 ||
        frame_get_str(&r, AUTH_SERVICE, &service) < 0 || frame_get_str(&r, AUTH_MECHANISM, &mechanism) < 0 ||
        frame_get_str(&r, LIMIT_SASL, &a->initial) < 0 || frame_get_u32(&r, &has_initial) < 0 ||
        frame_get_str(&r, LIMIT_ADDRESS, &peer) < 0 || frame_get_str(&r, LIMIT_LINE_POP3, &a->apop) < 0 ||
        frame_get_u32(&r, &is_tls) < 0 || frame_get_str(&r, LIMIT_LINE_POP3, &a->exporter) < 0 ||
        frame_get_str(&r, LIMIT_LINE_POP3, &a->end_point) < 0 || frame_get_str(&r, LIMIT_LINE_POP3, &a->subject) < 0 ||
        frame_end(&r) < 0)
        return -EBADMSG;
    if (copy_word(service, a->service, AUTH_SERVICE, false) < 0 ||
        copy_word(mechanism, a->mechanism, AUTH_MECHANISM, true) < 0 ||
        copy_word(peer, a->peer, LIMIT_ADDRESS, false) < 0)
        return -EBADMSG;
    /* The service names a PAM file: letters and digits only. */
    for (const char *p = a->service; *p; p++)
        if (!ascii_is_alpha(*p) && !ascii_is_digit(*p))
            return -EBADMSG;
    a->has_initial = has_initial != 0;
    a->is_tls = is_tls != 0;
    return a->service[0] ? 0 : -EBADMSG;
}

int auth_request(struct auth *a, int control, bool is_peek)
{
    int r = (is_peek ? frame_peek : frame_recv)(control, &a->request, TIMEOUT_AUTH * 1000);

    return r < 0 ? r : parse(a);
}

int auth_challenge(struct auth *a, struct str challenge, struct str *ret_response)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader r;
    uint32_t attempt;
    int e;

    frame_begin(&f, FRAME_AUTH_CHALLENGE);
    e = frame_put_u32(&f, a->attempt);
    if (e == 0)
        e = frame_put_str(&f, challenge);
    if (e == 0)
        e = frame_send(AUTH_CONTROL, &f, -1);
    if (e < 0)
        return e;
    /* The monitor ends the wait for a slow client by closing the socket. */
    e = frame_recv(AUTH_CONTROL, &a->response, -1);
    if (e < 0)
        return e;
    r = frame_read(&a->response);
    if (a->response.type != FRAME_AUTH_RESPONSE || frame_get_u32(&r, &attempt) < 0 || attempt != a->attempt ||
        frame_get_str(&r, LIMIT_SASL, ret_response) < 0 || frame_end(&r) < 0)
        return -EBADMSG;
    return 0;
}

int auth_initial(struct auth *a, struct str *ret_response)
{
    if (!a->has_initial)
        return auth_challenge(a, STR(""), ret_response);
    *ret_response = a->initial;
    return 0;
}

bool auth_claim(struct auth *a, struct str user)
{
    a->user[0] = '\0';
    if (user.len == 0 || user.len > LIMIT_USER || !utf8_valid(user))
        return false;
    for (size_t i = 0; i < user.len; i++)
        if ((unsigned char)user.ptr[i] < ' ' || user.ptr[i] == 127 || user.ptr[i] == '/' || user.ptr[i] == ':')
            return false;
    memcpy(a->user, user.ptr, user.len);
    a->user[user.len] = '\0';
    return true;
}

int auth_fail(struct auth *a, enum auth_class class, const char *reason)
{
    a->reason = reason;
    return (int)class;
}
