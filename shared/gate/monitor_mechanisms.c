/*
 * Which mechanisms are announced: those that can succeed on this connection now, the strongest first. Runs in the
 * monitor, which looks at the file of device passwords only to see what forms there are in it.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/devices.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/gate/monitor_parts.h"

#define OAUTH_STACK "/etc/pam.d/pennypost-oauth" /* written by the admin, who has a PAM module that knows tokens */
#define APOP_RANDOM 12

bool monitor_allows_plaintext(const struct monitor *m)
{
    if (m->is_tls)
        return true;
    switch (m->conf->plaintext_auth) {
    case CONF_PLAINTEXT_YES:
        return true;
    case CONF_PLAINTEXT_LOCAL:
        return m->peer.is_loopback;
    case CONF_PLAINTEXT_NO:
        break;
    }
    return false;
}

/* What device passwords make possible for this protocol. */
static void find_devices(const struct monitor *m, bool *ret_has_scram, bool *ret_has_cram)
{
    *ret_has_scram = *ret_has_cram = false;
    devices_offer(m->conf->devices, str_from(m->protocol->service), (uint64_t)time(NULL), ret_has_scram, ret_has_cram);
}

int monitor_mechanisms(const struct monitor *m, struct buf *out)
{
    bool is_root = priv_is_root(), is_plain = monitor_allows_plaintext(m);
    bool is_bound = m->is_tls && (m->tls.exporter_len > 0 || m->tls.end_point_len > 0);
    bool has_scram, has_cram;
    int r = 0;

    find_devices(m, &has_scram, &has_cram);
    is_plain &= is_root || has_scram; /* each device password has a form for SCRAM */
    has_scram &= m->conf->challenge_auth;
    has_cram &= m->conf->challenge_auth;
    const struct {
        const char *name;
        bool is_offered;
    } all[] = {
        {"SCRAM-SHA-256-PLUS", has_scram && is_bound},
        {"SCRAM-SHA-1-PLUS", has_scram && is_bound},
        {"SCRAM-SHA-256", has_scram},
        {"SCRAM-SHA-1", has_scram},
        {"CRAM-MD5", has_cram},
        {"PLAIN", is_plain},
        {"LOGIN", is_plain},
        {"OAUTHBEARER", is_plain && is_root && access(OAUTH_STACK, R_OK) == 0},
        {"XOAUTH2", is_plain && is_root && access(OAUTH_STACK, R_OK) == 0},
        {"EXTERNAL", m->is_tls && m->conf->external_auth && tls_common_name(str_from(m->tls.subject)).len > 0},
    };
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(all); i++)
        if (all[i].is_offered)
            r = buf_printf(out, "%s%s", out->len > 0 ? " " : "", all[i].name);
    return r;
}

int monitor_make_apop(struct monitor *m)
{
    unsigned char random[APOP_RANDOM];
    bool has_scram, has_cram;
    char text[2 * APOP_RANDOM + 1];
    int r;

    if (strcmp(m->protocol->service, "pop3") != 0 || m->apop[0] != '\0')
        return 0;
    find_devices(m, &has_scram, &has_cram);
    if (!has_cram || !m->conf->challenge_auth)
        return 0;
    r = secret_random(random, sizeof(random));
    for (size_t i = 0; r == 0 && i < sizeof(random); i++)
        (void)snprintf(text + 2 * i, 3, "%02x", random[i]);
    /* RFC 1939 7: a message identifier of RFC 822. Too long a host name: no APOP. */
    if (r == 0 && snprintf(m->apop, sizeof(m->apop), "<%s@%s>", text, m->conf->hostname) >= (int)sizeof(m->apop))
        m->apop[0] = '\0';
    return r;
}
