/*
 * One courier with one job, and what it says. Runs in relay, as root; reads no byte of the network.
 */
#include "handlers/relay/pull.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "handlers/relay/nexthop.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/chain.h"

#define PORT_ODMR 366
#define PULL_MS   (6 * 60 * 60 * 1000) /* a slow line and a week of mail */
#define NO_MAIL   453                  /* RFC 2645 5.2.1 */

/* The courier's last word about the way, or the provider's about ATRN. */
static int hear(const struct frame *f, bool *ret_is_up, struct talk_reply *ret)
{
    struct frame_reader in = frame_read(f);
    struct job_up up;
    struct job_down down;

    if (f->type == FRAME_RELAY_UP && !*ret_is_up && job_get_up(&in, &up) == 0) {
        *ret_is_up = true;
        return -EAGAIN;
    }
    if (f->type == FRAME_RELAY_DOWN && job_get_down(&in, &down) == 0) {
        *ret = down.reply;
        return 0;
    }
    return f->type == FRAME_RELAY_RESULT && *ret_is_up && talk_get_reply(&in, ret) == 0 && frame_end(&in) == 0
               ? 0
               : -EBADMSG;
}

static int ask(struct conf *conf, const struct job *job, struct talk_reply *ret)
{
    struct chain_spec spec = {CHAIN_SPEC("relay-courier"), .conf = conf, .has_control = true, .dies_with_us = true};
    struct chain_child courier = CHAIN_CHILD_NONE;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    bool is_up = false;
    int r = chain_spawn(&spec, &courier);

    if (r < 0)
        return r;
    r = job_put(&f, job);
    if (r == 0)
        r = frame_send(courier.control, &f, -1);
    if (r == 0)
        r = -EAGAIN;
    while (r == -EAGAIN) {
        r = frame_recv(courier.control, &f, PULL_MS);
        if (r == 0)
            r = hear(&f, &is_up, ret);
    }
    /* It stays until the mail is here, and closes when it leaves. */
    if (r == 0)
        (void)frame_recv(courier.control, &f, PULL_MS);
    (void)chain_end(&courier, 0);
    return r;
}

static int report(const struct conf *conf, const struct talk_reply *reply)
{
    bool is_fine = reply->code / 100 == 2 || (reply->code == NO_MAIL && !reply->is_ours);
    char code[16];

    (void)snprintf(code, sizeof(code), "%u %s", reply->code, reply->enhanced);
    LOG_EVENT(is_fine ? LOG_INFO : LOG_ERR, is_fine ? "pulled" : "pull-failed", LOG_FC("provider", conf->atrn_provider),
              LOG_FC("code", code), LOG_FC("reply", reply->text));
    return is_fine ? EX_OK : EX_TEMPFAIL;
}

int pull_run(struct conf *conf)
{
    struct nexthop_files files;
    struct talk_reply reply;
    struct job job;
    const char *path = "";
    int r = nexthop_load(conf, &files, &path);

    if (r < 0) {
        LOG_ERROR(LOG_ERR, "file-unusable", r, LOG_FC("file", path));
        return r == -EPERM ? EX_NOPERM : EX_IOERR;
    }
    r = nexthop_host(&files, str_from(conf->atrn_provider), PORT_ODMR, &job);
    if (r < 0 || job.login == TALK_LOGIN_NONE) {
        LOG_EVENT(LOG_ERR, "pull-failed", LOG_FC("provider", conf->atrn_provider),
                  LOG_FC("reason", r < 0 ? "atrn_provider names no host" : "relay_credentials has no login for it"));
        nexthop_finish(&files);
        return EX_CONFIG;
    }
    job.kind = JOB_PULL;
    r = ask(conf, &job, &reply);
    nexthop_finish(&files);
    if (r < 0) {
        LOG_ERROR(LOG_ERR, "pull-failed", r, LOG_FC("provider", conf->atrn_provider));
        return EX_TEMPFAIL;
    }
    return report(conf, &reply);
}
