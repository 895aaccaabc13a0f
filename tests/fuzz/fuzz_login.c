/*
 * The login stages of IMAP, POP3 and POP2 as a stranger sees them: the input is what the client sends. The first byte
 * chooses the protocol, the facts and whether the monitor answers.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handlers/imap/login.h"
#include "handlers/pop2/login.h"
#include "handlers/pop3/login.h"
#include "shared/base/macros.h"
#include "shared/io/frame.h"

#define INPUT_MAX 60000 /* less than a socket buffer */

static void put_facts(int control, uint8_t choice)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_LOGIN_START);
    if (frame_put_str(&f, STR("192.0.2.1")) < 0 || frame_put_str(&f, STR("192.0.2.2")) < 0 ||
        frame_put_u32(&f, choice >> 1 & 1) < 0 || frame_put_u32(&f, !(choice >> 1 & 1)) < 0 ||
        frame_put_u32(&f, choice >> 2 & 1) < 0 ||
        frame_put_str(&f, choice & 4 ? STR("PLAIN LOGIN SCRAM-SHA-256") : STR("SCRAM-SHA-256")) < 0 ||
        frame_put_str(&f, STR("fuzz.example")) < 0 ||
        frame_put_str(&f, choice & 8 ? STR("<1.2@fuzz.example>") : STR_NULL) < 0 ||
        frame_put_str(&f, STR("TOP\r\nUIDL\r\n")) < 0 || frame_send(control, &f, -1) < 0)
        abort();
}

static void put_failure(int control, uint32_t attempt)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_AUTH_FAILED);
    if (frame_put_u32(&f, attempt) < 0 || frame_put_u32(&f, AUTH_CLASS_CREDENTIALS) < 0 ||
        frame_put_str(&f, STR("no")) < 0 || frame_put_str(&f, STR_NULL) < 0 || frame_put_str(&f, STR_NULL) < 0 ||
        frame_send(control, &f, -1) < 0)
        abort();
}

static const struct login_protocol *protocol_of(uint8_t choice)
{
    return choice & 32 ? &POP2_LOGIN : choice & 1 ? &POP3_LOGIN : &IMAP_LOGIN;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct login_protocol *protocol = size > 0 ? protocol_of(data[0]) : &IMAP_LOGIN;
    int control[2];
    int client[2];
    uint8_t choice = size > 0 ? data[0] : 0;

    if (size < 1 || size > INPUT_MAX)
        return 0;
    if (frame_pair(control) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client) < 0)
        abort();
    put_facts(control[1], choice);
    if (choice & 16)
        for (uint32_t attempt = 1; attempt <= LIMIT_AUTH_TRIES; attempt++)
            put_failure(control[1], attempt);
    if (write(client[1], data + 1, size - 1) != (ssize_t)(size - 1) || shutdown(client[1], SHUT_WR) < 0)
        abort();
    if (shutdown(control[1], SHUT_WR) < 0)
        abort();
    (void)login_run(protocol, control[0], client[0]);
    (void)close(client[1]);
    (void)close(control[0]);
    (void)close(control[1]);
    return 0;
}
