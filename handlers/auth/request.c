/*
 * The talk with the monitor: what is asked, challenges, responses. Runs in auth and auth-sasl, as root; touches the
 * control socket only. Every field is checked again, though the monitor has done so.
 */
#include <errno.h>
#include <string.h>

#include "handlers/auth/auth.h"
#include "shared/base/clock.h"
#include "shared/base/macros.h"

static int parse(struct auth *a)
{
    if (a->request.type != FRAME_AUTH_REQUEST ||
        frame_take(&a->request, FRAME_TO_U32(&a->attempt, UINT32_MAX), FRAME_TO_TEXT(a->service),
                   FRAME_TO_TEXT(a->mechanism), FRAME_TO_STR(&a->initial, LIMIT_SASL), FRAME_TO_BOOL(&a->has_initial),
                   FRAME_TO_TEXT(a->peer), FRAME_TO_STR(&a->apop, LIMIT_LINE_POP3), FRAME_TO_BOOL(&a->is_tls),
                   FRAME_TO_STR(&a->exporter, LIMIT_LINE_POP3), FRAME_TO_STR(&a->end_point, LIMIT_LINE_POP3),
                   FRAME_TO_STR(&a->subject, LIMIT_LINE_POP3)) < 0)
        return -EBADMSG;
    /* The service names a PAM file: letters and digits only. */
    for (const char *p = a->service; *p; p++)
        if (!ascii_is_alpha(*p) && !ascii_is_digit(*p))
            return -EBADMSG;
    return a->service[0] ? 0 : -EBADMSG;
}

int auth_request(struct auth *a, int control, bool is_peek)
{
    int r = (is_peek ? frame_peek : frame_recv)(control, &a->request, TIMEOUT_AUTH * 1000);

    return r < 0 ? r : parse(a);
}

int auth_challenge(struct auth *a, struct str challenge, struct str *ret_response)
{
    uint32_t attempt;
    int r = frame_say(AUTH_CONTROL, FRAME_AUTH_CHALLENGE, -1, FRAME_U32(a->attempt), FRAME_STR(challenge));

    /* The monitor ends the wait for a slow client by closing the socket. */
    if (r == 0)
        r = frame_recv(AUTH_CONTROL, &a->response, -1);
    if (r < 0)
        return r;
    if (a->response.type != FRAME_AUTH_RESPONSE ||
        frame_take(&a->response, FRAME_TO_U32(&attempt, UINT32_MAX), FRAME_TO_STR(ret_response, LIMIT_SASL)) < 0 ||
        attempt != a->attempt)
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

int auth_check_authorization(struct auth *a)
{
    return a->is_for_another ? auth_fail(a, AUTH_CLASS_AUTHORIZATION, "acting for another user is not supported") : 0;
}

int auth_fail(struct auth *a, enum auth_class class, const char *reason)
{
    a->reason = reason;
    return (int)class;
}
