/*
 * The frame readers of the privileged side: the input is a sequence of packets as a hostile child would send them, each
 * led by a byte that chooses who it comes from and a length byte pair. They run through frame_recv() and the monitor's
 * permit tables in every phase. No program is found beside this one, so that whatever a frame asks for fails to start.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/gate/monitor_parts.h"
#include "shared/io/frame_types.h"
#include "shared/login/proxy.h"

struct source {
    const struct permit *table;
    const size_t *rows;
    struct permit_use *use;
};

/* Sends raw bytes as one packet and lets the monitor's side take it. */
static void deliver(struct monitor *m, const struct source *s, const int pair[2], struct str packet)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct tls_facts facts;

    if (packet.len == 0 || send(pair[1], packet.ptr, packet.len, MSG_DONTWAIT) < 0)
        return;
    if (frame_recv(pair[0], &f, 0) < 0)
        return;
    (void)tls_facts_read(&f, &facts);
    (void)permit_run(s->table, *s->rows, s->use, m->phase, m, &f);
}

static void drain(int fd)
{
    char bytes[4096];

    while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct monitor_protocol protocol = {
        .service = "imap", .ident = "fuzz", .front = "none", .alpn = "imap"};
    struct conf conf;
    struct start start = {.is_connection = true, .peer = {.kind = PEER_INET, .address = "192.0.2.1", .local = "::1"}};
    struct monitor m;
    int pair[2];
    int front[2];
    struct str rest = {(const char *)data, size};
    struct proxy_header header;

    if (size > 32768 || conf_init(&conf) < 0)
        return 0;
    (void)proxy_parse(rest, &header);
    if (frame_pair(pair) < 0 || frame_pair(front) < 0)
        abort();
    monitor_init(&m, &protocol, &conf, &start, false);
    m.front.control = front[0];
    const struct source sources[] = {
        {MONITOR_FRONT, &MONITOR_FRONT_ROWS, &m.front_use},
        {MONITOR_TLS, &MONITOR_TLS_ROWS, &m.tls_use},
        {MONITOR_AUTH_ROWS, &MONITOR_AUTH_ROW_COUNT, &m.auth_use},
    };

    while (rest.len >= 3) {
        unsigned head = (unsigned char)rest.ptr[0];
        size_t len = (size_t)(unsigned char)rest.ptr[1] << 8 | (unsigned char)rest.ptr[2];
        struct str packet = str_sub(rest, 3, len);

        if (head & 0x40)
            m.phase = (enum monitor_phase)((head >> 3 & 7) % (MONITOR_END + 1));
        deliver(&m, &sources[(head & 3) % ARRAY_SIZE(sources)], pair, packet);
        drain(front[1]);
        rest = str_sub(rest, 3 + packet.len, rest.len);
    }
    close_fd(&m.auth.control);
    close_fd(&m.tls_child.control);
    monitor_finish(&m);
    conf_finish(&conf);
    for (int i = 0; i < 2; i++) {
        (void)close(pair[i]);
        (void)close(front[i]);
    }
    return 0;
}
