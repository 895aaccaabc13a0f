/*
 * tls, program T of the chain: TLS for every protocol. Started by the monitor as root with the network on fd 0 and 1,
 * its control socket on fd 3 and the clear side on fd 4. It takes opened files from the monitor, gives up everything
 * (own uid, empty root, no capabilities), only then parses certificates and keys, enters its seccomp filter, does the
 * handshake, reports what it found, and relays bytes until both sides have ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sysexits.h>

#include "handlers/tls/relay.h"
#include "handlers/tls/setup.h"
#include "shared/base/clock.h"
#include "shared/base/macros.h"
#include "shared/crypto/narrow.h"
#include "shared/gate/priv.h"
#include "shared/gate/sandbox.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

/* With the system's configuration (crypto policy), without the tables of error texts: 60 kB of memory per connection.
 */
#define INIT (OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_SSL_STRINGS | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS)

#define TLS_NETWORK 0
#define TLS_INNER   4
#define TLS_MEMORY  (64u << 20)
#define TLS_FDS     64 /* most fds that may be open after the drop: enough for what the monitor handed over */

/* Whose fault it is decides how loudly the monitor tells the admin. */
static int fail(bool is_ours, uint32_t reason, const char *what, const char *why)
{
    char text[LIMIT_LINE_SMTP];

    (void)snprintf(text, sizeof(text), why[0] ? "%s: %s" : "%s%s", what, why);
    if (frame_say(SETUP_CONTROL, FRAME_TLS_FAILED, -1, FRAME_U32(is_ours), FRAME_U32(reason),
                  FRAME_STR(str_from(text))) < 0)
        return EX_IOERR;
    return EX_PROTOCOL;
}

static void note(enum note_event event, const char *text)
{
    (void)frame_say(SETUP_CONTROL, FRAME_NOTE, -1, FRAME_U32(event), FRAME_STR(str_from(text)));
}

static void note_certificate(const struct setup *s)
{
    char text[LIMIT_NOTE + 1];
    size_t which = 0;
    int age = server_certificate_age(&s->server, &which);

    if (age == 0)
        return;
    (void)snprintf(text, sizeof(text), "%s: %s", age > 0 ? "expired" : "not yet valid", setup_certificate(s, which));
    note(NOTE_CERTIFICATE, text);
}

/* Waits for what the handshake wants. 0, -ETIMEDOUT, or another negative errno. */
static int wait_for(int error, int64_t deadline)
{
    struct pollfd p = {.fd = TLS_NETWORK, .events = error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN};
    int64_t rest = deadline - clock_monotonic_ms();
    int r = rest > 0 ? poll(&p, 1, (int)rest) : 0;

    return r > 0 || (r < 0 && errno == EINTR) ? 0 : r < 0 ? -errno : -ETIMEDOUT;
}

/* 0, or a negative errno, OpenSSL's reason and static words in *ret_why. */
static int handshake(SSL *ssl, int64_t deadline, uint32_t *ret_reason, const char **ret_why)
{
    for (;;) {
        int result, error, r;

        errno = 0;
        result = SSL_do_handshake(ssl);
        if (result == 1)
            return 0;
        error = SSL_get_error(ssl, result);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
            *ret_why = ERR_peek_error() ? "TLS error" : errno ? strerror(errno) : "connection closed";
            *ret_reason = (uint32_t)ERR_GET_REASON(ERR_peek_error());
            return -EPROTO;
        }
        r = wait_for(error, deadline);
        if (r < 0) {
            *ret_why = r == -ETIMEDOUT ? "timed out" : strerror(-r);
            return r;
        }
    }
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* Whoever stops a service sends SIGTERM to all of it: what the session has to say then still goes to the client. The
 * end of the session is the end of this process, and so is the end of its parent (priv_confine()). */
static void outlast_stop(void)
{
    sigset_t stop;

    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &stop, NULL);
}

static int serve(struct setup *s, SSL *ssl)
{
    const char *why = "";
    uint32_t reason = 0;
    int r = handshake(ssl, clock_monotonic_ms() + (int64_t)s->seconds * 1000, &reason, &why);

    if (r < 0)
        return fail(false, reason, "handshake", why);
    r = setup_report(ssl);
    if (r < 0)
        return EX_IOERR;
    server_release(&s->server, ssl);
    outlast_stop();
    r = relay_run(ssl, TLS_NETWORK, TLS_INNER);
    if (r == -EPROTO)
        note(NOTE_TLS_CLOSED, "TLS error");
    else if (r == -ETIMEDOUT)
        note(NOTE_TLS_CLOSED, "client takes nothing");
    return r < 0 ? EX_PROTOCOL : EX_OK;
}

int main(int argc, char **argv)
{
    static const struct priv_confinement confinement = {.account = PRIV_USER_TLS,
                                                        .find = priv_account_named,
                                                        .open_files = TLS_FDS,
                                                        .file_size = 0,
                                                        .memory = TLS_MEMORY};
    struct setup s = {.seconds = TIMEOUT_PREAUTH};
    const char *what = "";
    SSL *ssl = NULL;
    int r;

    (void)argv;
    if (argc > 1 || fcntl(SETUP_CONTROL, F_GETFD) < 0) {
        (void)fputs("tls: imap(8), pop3(8) and smtp(8) start this; it is of no use by hand\n", stderr);
        return EX_USAGE;
    }
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    r = setup_receive(&s);
    if (r < 0)
        return fail(true, 0, "control", strerror(-r));
    /* Everything of OpenSSL that needs files (its configuration with the system's crypto policy, and loadable
     * providers) while there are some. */
    if (narrow_init(INIT) < 0)
        return fail(true, 0, "openssl", "cannot be initialised");
    r = priv_confine(&confinement, &what);
    if (r < 0)
        return fail(true, 0, what, strerror(-r));
    r = setup_apply(&s, &what);
    if (r < 0)
        return fail(true, 0, s.failed, what);
    note_certificate(&s);
    r = set_nonblocking(TLS_NETWORK);
    if (r == 0)
        r = sandbox_enter(SANDBOX_TLS);
    if (r == 0)
        r = server_connect(&s.server, TLS_NETWORK, TLS_NETWORK, &ssl);
    if (r < 0)
        return fail(true, 0, "start", strerror(-r));
    r = serve(&s, ssl);
    SSL_free(ssl);
    server_finish(&s.server);
    return r;
}
