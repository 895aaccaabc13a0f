/*
 * The frames between relay and relay-courier. Runs on both sides; pure.
 */
#include "handlers/relay/job.h"

#include <errno.h>

#define ARGUMENT_MAX 8192 /* a command line of aliases(5) */

int job_put(struct frame *f, const struct job *j)
{
    const uint32_t first[] = {j->port, j->is_implicit, (uint32_t)j->tls};
    int r;

    frame_begin(f, FRAME_RELAY_JOB);
    r = frame_put_u32(f, j->kind);
    if (r == 0)
        r = frame_put_str(f, j->hop);
    for (size_t i = 0; i < ARRAY_SIZE(first) && r == 0; i++)
        r = frame_put_u32(f, first[i]);
    if (r == 0)
        r = frame_put_str(f, j->names);
    if (r == 0)
        r = frame_put_u32(f, j->is_requiretls);
    if (r == 0)
        r = frame_put_u32(f, j->percent);
    if (r == 0)
        r = frame_put_str(f, j->user);
    if (r == 0)
        r = frame_put_str(f, j->secret);
    return r < 0 ? r : frame_put_u32(f, j->login);
}

int job_get(struct frame_reader *in, struct job *ret)
{
    struct job j;
    uint32_t kind, implicit, tls, requiretls, login;

    if (frame_get_u32(in, &kind) < 0 || frame_get_str(in, LIMIT_DOMAIN + 2, &j.hop) < 0 ||
        frame_get_u32(in, &j.port) < 0 || frame_get_u32(in, &implicit) < 0 || frame_get_u32(in, &tls) < 0 ||
        frame_get_str(in, LIMIT_CONF_VALUE, &j.names) < 0 || frame_get_u32(in, &requiretls) < 0 ||
        frame_get_u32(in, &j.percent) < 0 || frame_get_str(in, LIMIT_SASL, &j.user) < 0 ||
        frame_get_str(in, LIMIT_SASL, &j.secret) < 0 || frame_get_u32(in, &login) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    if (kind > JOB_PULL || j.port > UINT16_MAX || implicit > 1 || tls > JOB_TLS_DANE || requiretls > 1 ||
        login > TALK_LOGIN_TOKEN)
        return -EBADMSG;
    j.kind = (enum job_kind)kind;
    j.is_implicit = implicit != 0;
    j.tls = (enum job_tls)tls;
    j.is_requiretls = requiretls != 0;
    j.login = (enum talk_login)login;
    *ret = j;
    return 0;
}

int job_put_up(struct frame *f, const struct job_up *up)
{
    int r;

    frame_begin(f, FRAME_RELAY_UP);
    r = frame_put_str(f, up->host);
    if (r == 0)
        r = frame_put_str(f, up->address);
    if (r == 0)
        r = frame_put_u32(f, up->port);
    return r < 0 ? r : talk_put_ready(f, &up->ready);
}

int job_get_up(struct frame_reader *in, struct job_up *ret)
{
    if (frame_get_str(in, LIMIT_DOMAIN, &ret->host) < 0 || frame_get_str(in, LIMIT_ADDRESS, &ret->address) < 0 ||
        frame_get_u32(in, &ret->port) < 0 || ret->port > UINT16_MAX)
        return -EBADMSG;
    return talk_get_ready(in, &ret->ready);
}

int job_put_down(struct frame *f, const struct job_down *down)
{
    int r;

    frame_begin(f, FRAME_RELAY_DOWN);
    r = frame_put_str(f, down->host);
    if (r == 0)
        r = frame_put_str(f, down->address);
    return r < 0 ? r : talk_put_reply(f, &down->reply);
}

int job_get_down(struct frame_reader *in, struct job_down *ret)
{
    if (frame_get_str(in, LIMIT_DOMAIN, &ret->host) < 0 || frame_get_str(in, LIMIT_ADDRESS, &ret->address) < 0 ||
        talk_get_reply(in, &ret->reply) < 0)
        return -EBADMSG;
    return frame_end(in);
}

int job_put_local(struct frame *f, const struct job_local *l)
{
    int r = frame_put_u32(f, l->place);

    if (r == 0)
        r = frame_put_str(f, l->user);
    if (r == 0)
        r = frame_put_str(f, l->argument);
    if (r == 0)
        r = frame_put_str(f, l->address);
    return r < 0 ? r : frame_put_str(f, l->sender);
}

int job_get_local(struct frame_reader *in, struct job_local *ret)
{
    uint32_t place;

    if (frame_get_u32(in, &place) < 0 || place > JOB_FILE || frame_get_str(in, LIMIT_USER, &ret->user) < 0 ||
        frame_get_str(in, ARGUMENT_MAX, &ret->argument) < 0 || frame_get_str(in, ARGUMENT_MAX, &ret->address) < 0 ||
        frame_get_str(in, LIMIT_PATH, &ret->sender) < 0)
        return -EBADMSG;
    ret->place = (enum job_place)place;
    return 0;
}
