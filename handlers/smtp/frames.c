/*
 * The longest of the frames. Runs in smtp-session and in the monitor; pure.
 */
#include "handlers/smtp/frames.h"

#include <errno.h>

#include "shared/base/limits.h"

int frames_put_envelope(struct frame *f, const struct smtp_envelope *e)
{
    const struct mail_params *p = &e->params;
    const struct str strings[] = {e->id, e->sender, p->envid};
    const uint64_t longs[] = {p->size, (uint64_t)(p->by_seconds + BY_MAX), (uint64_t)p->hold_for,
                              (uint64_t)p->hold_until};
    const uint32_t words[] = {p->body, p->ret,      p->is_utf8, p->requires_tls, (uint32_t)(p->priority + PRIORITY_MAX),
                              p->by,   p->by_trace, p->way};
    int error = 0;

    for (size_t i = 0; i < ARRAY_SIZE(strings) && error == 0; i++)
        error = frame_put_str(f, strings[i]);
    for (size_t i = 0; i < ARRAY_SIZE(longs) && error == 0; i++)
        error = frame_put_u64(f, longs[i]);
    for (size_t i = 0; i < ARRAY_SIZE(words) && error == 0; i++)
        error = frame_put_u32(f, words[i]);
    return error;
}

int frames_get_envelope(struct frame_reader *in, struct smtp_envelope *ret)
{
    struct smtp_envelope e = {0};
    struct mail_params *p = &e.params;
    uint64_t longs[4];
    uint32_t words[8];

    if (frame_get_str(in, LIMIT_NOTE, &e.id) < 0 || frame_get_str(in, LIMIT_PATH, &e.sender) < 0 ||
        frame_get_str(in, ENVID_MAX, &p->envid) < 0)
        return -EBADMSG;
    for (size_t i = 0; i < ARRAY_SIZE(longs); i++)
        if (frame_get_u64(in, &longs[i]) < 0 || (i > 0 && longs[i] > INT64_MAX / 2))
            return -EBADMSG;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (frame_get_u32(in, &words[i]) < 0 || words[i] > 2 * PRIORITY_MAX)
            return -EBADMSG;
    if (words[2] > 1 || words[3] > 1 || words[6] > 1 || words[7] > WAY_SAML)
        return -EBADMSG;
    p->size = longs[0];
    p->by_seconds = (int64_t)longs[1] - BY_MAX;
    p->hold_for = (int64_t)longs[2];
    p->hold_until = (int64_t)longs[3];
    p->body = words[0];
    p->ret = words[1];
    p->is_utf8 = words[2];
    p->requires_tls = words[3];
    p->priority = (int32_t)words[4] - PRIORITY_MAX;
    p->by = words[5];
    p->by_trace = words[6];
    p->way = words[7];
    if (!param_mail_is_valid(p))
        return -EBADMSG;
    *ret = e;
    return 0;
}
