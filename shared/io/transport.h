/*
 * A pair of fds that carry bytes, with deadlines. Sockets, pipes and terminals alike. EINTR is retried, SIGPIPE is not
 * raised for sockets (programs ignore it for pipes). The fds belong to the caller.
 */
#ifndef IO_TRANSPORT_H
#define IO_TRANSPORT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct transport;

/* What stands between the bytes of the protocol and those of the fds (COMPRESS). The functions behave as those of the
 * transport that they are given, whose filter they are and which they read and write by transport_below(). has_input
 * tells whether a read would return at once without looking at rfd. */
struct transport_filter {
    void *context;
    ssize_t (*read)(struct transport *t, void *data, size_t len);
    int (*write)(struct transport *t, const void *data, size_t len);
    bool (*has_input)(const struct transport *t);
};

struct transport {
    int rfd;
    int wfd;
    int read_timeout;                      /* seconds that one wait for input may take; 0: for ever */
    int write_timeout;                     /* seconds that the peer may refuse to take more */
    int64_t deadline;                      /* clock_monotonic_ms() after which everything times out; 0: none */
    int stop_fd;                           /* once it is readable no wait for input goes on; -1: none */
    bool is_ready;                         /* transport_wait() saw input that was not read yet */
    const struct transport_filter *filter; /* borrowed, or NULL */
};

/* poll() until something happens or the time is up (-1: for ever); a signal does not start the time anew. As poll(),
 * but a negative errno. */
int transport_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

/* The same transport below its filter. */
struct transport transport_below(const struct transport *t);

/* Sets the fds (borrowed) and the time-outs in seconds; no deadline, no stop_fd, no filter. */
void transport_init(struct transport *t, int rfd, int wfd, int read_timeout, int write_timeout);

/* Reads what is there, waiting for the first byte. >0 bytes, 0 end of input, -ETIMEDOUT, -ECANCELED (stop_fd), or
 * another negative errno. */
ssize_t transport_read(struct transport *t, void *data, size_t len);

/* Writes everything. 0, -ETIMEDOUT, -EPIPE, or another negative errno. */
int transport_write(struct transport *t, const void *data, size_t len);

/* Has the peer gone for good: would nothing that is written reach it? Half of a connection that is shut (the peer has
 * said all and listens) is not gone. Over TCP it shows only after something was written to a peer that has closed. */
bool transport_is_broken(const struct transport *t);

/* Has somebody said stop? */
bool transport_is_stopped(const struct transport *t);

/* Waits for input on rfd, or for `other_fd` (-1: none) to become readable, at most timeout_ms (-1: for ever).
 * Returns bits TRANSPORT_INPUT and TRANSPORT_OTHER, 0 when the time is up, -ECANCELED (stop_fd), or another negative
 * errno. */
int transport_wait(struct transport *t, int other_fd, int timeout_ms);
#define TRANSPORT_INPUT 1
#define TRANSPORT_OTHER 2

#endif
