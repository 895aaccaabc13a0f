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

#define FRAME_INIT      ((struct frame){.payload = BUF_INIT(LIMIT_FRAME), .fd = -1})
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

/* A whole frame in one go: frame_say(sock, FRAME_FACTS, -1, FRAME_U32(1), FRAME_STR(name)). The memory is taken once
 * and wiped. As frame_send(); -ENOBUFS over the cap, -ENOMEM. */
struct frame_field {
    struct str text;
    uint32_t number;
    bool is_number;
};
#define FRAME_U32(n) ((struct frame_field){.number = (n), .is_number = true})
#define FRAME_STR(s) ((struct frame_field){.text = (s)})
#define frame_say(sock, type, fd, ...)                                                                                 \
    frame_send_fields(sock, type, fd, (const struct frame_field[]){__VA_ARGS__},                                       \
                      sizeof((const struct frame_field[]){__VA_ARGS__}) / sizeof(struct frame_field))
/* What frame_say() calls. */
int frame_send_fields(int sock, uint16_t type, int fd, const struct frame_field *fields, size_t count);

/* Sends it, with `fd` if that is not -1 (the fd stays ours). 0, -EPIPE when the other side is gone, another errno. */
int frame_send(int sock, const struct frame *f, int fd);

/* Receives one frame, waiting at most timeout_ms (-1: for ever, if the socket blocks). 0, -ENODATA when the other side
 * is gone, -ETIMEDOUT, -EBADMSG malformed (wrong length, truncated, more than one fd: everything received is closed),
 * another errno. The frame must be finished or fresh; old content is wiped. */
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

/* Takes a whole frame apart: frame_take(&f, FRAME_TO_U32(&n, 1), FRAME_TO_STR(&view, LIMIT_NOTE)). -EBADMSG when a
 * field is not there, is over its maximum, or something is left behind the last one. Views point into the frame. */
struct frame_slot {
    uint32_t *number; /* one of the four */
    bool *flag;
    struct str *view;
    char *text;
    size_t max;
};
#define FRAME_TO_U32(ret, most) ((struct frame_slot){.number = (ret), .max = (most)})
#define FRAME_TO_BOOL(ret)      ((struct frame_slot){.flag = (ret), .max = 1})
#define FRAME_TO_STR(ret, most) ((struct frame_slot){.view = (ret), .max = (most)})
/* A string without control characters into a char array, as a C string. */
#define FRAME_TO_TEXT(array) ((struct frame_slot){.text = (array), .max = sizeof(array) - 1})
#define frame_take(f, ...)                                                                                             \
    frame_take_fields(f, (const struct frame_slot[]){__VA_ARGS__},                                                     \
                      sizeof((const struct frame_slot[]){__VA_ARGS__}) / sizeof(struct frame_slot))
/* What frame_take() calls. */
int frame_take_fields(const struct frame *f, const struct frame_slot *slots, size_t count);

#endif
