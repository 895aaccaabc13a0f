/*
 * File systems that other machines write to as well. Part of the library: no process of its own.
 */
#include "shared/base/remote.h"

#include <stddef.h>

#include "shared/base/macros.h"

bool remote_is_shared(const struct statfs *fs)
{
    static const unsigned long types[] = {
        0x6969 /* NFS */,       0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */, 0x517b /* SMB */,
        0x01021997 /* 9P */,    0x65735546 /* FUSE */, 0x5346414f /* AFS */,  0x00c36400 /* Ceph */,
        0x7461636f /* OCFS2 */, 0x01161970 /* GFS2 */,
    };

    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (((unsigned long)fs->f_type & 0xffffffff) == types[i])
            return true;
    return false;
}
