/*
 * The reports that the states of recipients call for (RFC 3461): into the queue, as messages of their own. Runs in
 * relay.
 */
#include <stdio.h>

#include "handlers/relay/relay.h"
#include "shared/base/log.h"
#include "shared/queue/report.h"

static void log_reports(const struct open *o, const char *event, const struct report_counts *counts, int x)
{
    char queued[12], dropped[12];

    (void)snprintf(queued, sizeof(queued), "%u", counts->queued);
    (void)snprintf(dropped, sizeof(dropped), "%u", counts->dropped);
    if (x < 0)
        LOG_ERROR(LOG_ERR, "report-failed", x, LOG_FC("queue_id", o->entry.id));
    if (counts->queued > 0 || counts->dropped > 0)
        LOG_EVENT(counts->dropped > 0 ? LOG_WARNING : LOG_INFO, event, LOG_FC("queue_id", o->entry.id),
                  LOG_FC("reports", queued), LOG_FC("dropped", dropped));
}

int reports_final(struct relay *r, struct open *o)
{
    struct report_counts counts = {0};
    int x = queue_report(&r->queue, &r->conf->clock, r->conf->hostname, &o->entry, &counts);

    o->is_changed = true;
    log_reports(o, "reported", &counts, x);
    return x;
}

int reports_delay(struct relay *r, struct open *o)
{
    struct report_counts counts = {0};
    int64_t until = o->entry.envelope.created + r->conf->queue_lifetime;
    int x = queue_report_delay(&r->queue, &r->conf->clock, r->conf->hostname, &o->entry, until, &counts);

    if (x == 0) {
        o->entry.envelope.is_delay_warned = true;
        o->entry.envelope.is_by_told = queue_envelope_is_late(&o->entry.envelope, relay_now(r));
        o->is_changed = true;
    }
    log_reports(o, "delay-reported", &counts, x);
    return x;
}
