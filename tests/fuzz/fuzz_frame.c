/*
 * The frame readers of the privileged side: the input is a sequence of frames as hostile children would send them, each
 * led by a byte that chooses the child and may set the phase. They run through frame_recv() and the monitor's permit
 * tables in every phase. No program is found beside this one, so that whatever a frame asks for fails to start.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/gate/monitor_parts.h"
#include "shared/io/frame_types.h"
#include "shared/login/proxy.h"
#include "tests/fuzz/frames.h"

/* What each child may say, what the others may say, and what nobody may. */
static const struct fuzz_shape SHAPES[] = {
    {FRAME_AUTH_START, "ussuuss"}, {FRAME_AUTH_RESPONSE, "us"},
    {FRAME_AUTH_CANCEL, "u"},      {FRAME_NOTE, "us"},
    {FRAME_PROXY, "susu"},         {FRAME_STARTTLS, ""},
    {FRAME_HANDOVER, "ss"},        {FRAME_TLS_FACTS, "ssssssu"},
    {FRAME_TLS_FAILED, "uus"},     {FRAME_AUTH_CHALLENGE, "us"},
    {FRAME_AUTH_FAILED, "uusss"},  {FRAME_AUTH_DONE, "usssuuss"},
    {FRAME_SESSION_START, "ssss"}, {FRAME_KEEPER_LOCK, "u"},
    {FRAME_AUTH_REQUEST, "usss"},
};

struct source {
    const struct permit *table;
    const size_t *rows;
    struct permit_use *use;
};

/* Lets the monitor's side take what was sent. */
static void deliver(struct monitor *m, const struct source *s, int socket)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct tls_facts facts;

    if (frame_recv(socket, &f, 0) < 0)
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
    bool has_more = true;

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

    while (has_more) {
        uint8_t head = fuzz_byte(&rest);

        if (head & 0x40)
            m.phase = (enum monitor_phase)((head >> 3 & 7) % (MONITOR_END + 1));
        if ((head & 0x80) && m.auth.control < 0) /* as if an attempt had started */
            m.auth.control = fcntl(front[1], F_DUPFD_CLOEXEC, 0);
        has_more = fuzz_send(&rest, SHAPES, ARRAY_SIZE(SHAPES), pair[1], -1);
        if (has_more)
            deliver(&m, &sources[(head & 3) % ARRAY_SIZE(sources)], pair[0]);
        drain(front[1]);
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
