/*
 * The PROXY protocol, versions 1 and 2, as HAProxy's specification has it: read by the unprivileged front, only after
 * the monitor said FRAME_PROXY_WANTED, and told to it as FRAME_PROXY.
 */
#ifndef LOGIN_PROXY_H
#define LOGIN_PROXY_H

#include <stdint.h>

#include "shared/base/limits.h"
#include "shared/base/str.h"

struct proxy_header {
    char client[LIMIT_ADDRESS]; /* "" for the proxy's own connections (LOCAL, UNKNOWN) */
    char local[LIMIT_ADDRESS];
    uint32_t client_port;
    uint32_t local_port;
};

/* Parses the header at the front of `bytes`. >0: its length. 0: more bytes are needed. -EBADMSG: no header. */
int proxy_parse(struct str bytes, struct proxy_header *ret);

/* Reads exactly the header from a socket (peeking, so that nothing behind it is taken) and reports it to the monitor.
 * 0;
 * -EPROTO: there is none, and the monitor has been told; -ENODATA, -ETIMEDOUT, ... */
int proxy_serve(int socket, int control, int timeout_ms);

#endif
