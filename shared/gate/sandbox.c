/*
 * Installing the filter of a role. Runs in processes that have given up everything else.
 */
#include "shared/gate/sandbox.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox_filters.h"
#include "shared/base/macros.h"

bool sandbox_is_built(void)
{
    return SANDBOX_IS_BUILT != 0;
}

#if SANDBOX_IS_BUILT
#define FILTER(role) [SANDBOX_##role] = {SANDBOX_FILTER_##role, ARRAY_SIZE(SANDBOX_FILTER_##role)}

static const struct {
    const struct sock_filter *program;
    size_t length;
} FILTERS[] = {FILTER(LOGIN), FILTER(TLS), FILTER(RELAY), FILTER(FETCH), FILTER(RESOLVE)};

int sandbox_enter(enum sandbox_role role)
{
    struct sock_fprog program = {0};

    if ((size_t)role >= ARRAY_SIZE(FILTERS))
        return -EINVAL;
    program.len = (unsigned short)FILTERS[role].length;
    program.filter = (struct sock_filter *)(uintptr_t)FILTERS[role].program; /* the kernel only reads it */
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}
#else
int sandbox_enter(enum sandbox_role role)
{
    return role <= SANDBOX_RESOLVE ? 0 : -EINVAL;
}
#endif
