#include "shared/io/dispatch.h"

#include <errno.h>

int command_find(const struct command *table, size_t count, struct str name, uint32_t state,
                 const struct command **ret_command)
{
    for (size_t i = 0; i < count; i++) {
        if (!str_ieq(name, str_from(table[i].name)))
            continue;
        *ret_command = &table[i];
        return table[i].states & (1u << state) ? 0 : -EPERM;
    }
    return -ENOENT;
}
