/*
 * Giving everything up in one step. Runs as root for the last time.
 */
#include "shared/gate/confine.h"

#include <string.h>

#include "shared/base/log.h"

int confine_enter(const char *ident, const struct priv_confinement *limits, enum sandbox_role role)
{
    const char *what = "";
    int r = priv_confine(limits, &what);

    if (r == 0) {
        what = "seccomp";
        r = sandbox_enter(role);
    }
    if (r < 0) {
        log_open(ident, true);
        LOG_ERROR(LOG_ERR, "cannot confine", r, LOG_FC("step", what));
    }
    return r;
}
