/*
 * Frames: typed, capped messages between our own processes over a SOCK_SEQPACKET socketpair, with at most one fd.
 * One packet is one frame, so there is nothing to reassemble: a u16 type, a u16 of zero, a u32 payload length (host
 * order; both ends are on one machine), the payload. A receiver trusts neither the type nor any field: the readers
 * below check every bound, and frame_end() insists that nothing is left over.
 */
#ifndef IO_FRAME_H
#define IO_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"

struct frame {
    uint16_t type;
    struct buf payload; /* max LIMIT_FRAME; wiped when finished: it may carry a password */
    int fd;             /* received with it, O_CLOEXEC, or -1; closed by frame_finish() unless stolen */
};

#define FRAME_INIT ((struct frame){.payload = BUF_INIT(LIMIT_FRAME), .fd = -1})
#define _cleanup_frame_ _cleanup_(frame_finish)

/* Closes the fd, wipes and frees the payload; the frame is fresh again. */
void frame_finish(struct frame *f);

/* Makes the pair (SOCK_SEQPACKET, O_CLOEXEC). 0 or a negative errno. */
int frame_pair(int ret_fds[2]);

/* Starts a frame for sending: clears the payload, sets the type. */
void frame_begin(struct frame *f, uint16_t type);

/* Fields. 0, -ENOBUFS over the cap, -ENOMEM. A string is a u32 length and its bytes. */
int frame_put_u32(struct frame *f, uint32_t n);
int frame_put_u64(struct frame *f, uint64_t n);
int frame_put_str(struct frame *f, struct str s);

/* Sends it, with `fd` if that is not -1 (the fd stays ours). 0, -EPIPE when the other side is gone, another errno. */
int frame_send(int sock, const struct frame *f, int fd);

/* Receives one frame, waiting at most timeout_ms (-1: for ever). 0, -ENODATA when the other side is gone, -ETIMEDOUT,
 * -EBADMSG malformed (wrong length, truncated, more than one fd: everything received is closed), another errno.
 * The frame must be finished or fresh; old content is wiped. */
int frame_recv(int sock, struct frame *f, int timeout_ms);

/* The same, but the frame stays where it is and comes again. */
int frame_peek(int sock, struct frame *f, int timeout_ms);

/* Reading: a cursor over the payload; -EBADMSG when the field is not there whole. Views point into the frame. */
struct frame_reader {
    struct str rest;
};
/* A cursor at the beginning of the payload. */
struct frame_reader frame_read(const struct frame *f);
int frame_get_u32(struct frame_reader *r, uint32_t *ret);
int frame_get_u64(struct frame_reader *r, uint64_t *ret);
int frame_get_str(struct frame_reader *r, size_t max, struct str *ret); /* -EBADMSG also over max */
int frame_end(const struct frame_reader *r);                            /* -EBADMSG when bytes are left */

#endif
