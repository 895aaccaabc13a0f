/*
 * Frames made from fuzz input: mostly well-formed ones with fields of any content, so that a mutation does not end at
 * the first length, and some that are only bytes.
 */
#ifndef FUZZ_FRAMES_H
#define FUZZ_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/str.h"

/* A frame and its fields in order: s string, u = u32, U = u64 (as in shared/io/frame_types.h). */
struct fuzz_shape {
    uint16_t type;
    const char *fields;
};

/* The next byte of the input, 0 at its end. */
uint8_t fuzz_byte(struct str *in);

/* The next piece of the input: a length byte and that many bytes, or as many as there are. */
struct str fuzz_piece(struct str *in);

/* Sends the next frame of the input on `socket` without waiting, with a copy of `fd` when the input says so and fd is
 * not -1. False: the input has ended, or the socket takes no more. */
bool fuzz_send(struct str *in, const struct fuzz_shape *shapes, size_t count, int socket, int fd);

/* Puts a copy of `fd` where a program expects its control socket; what was there is returned under another number, -1
 * for nothing. fuzz_put_back() undoes it. */
int fuzz_place(int fd, int where);
void fuzz_put_back(int saved, int where);

#endif
