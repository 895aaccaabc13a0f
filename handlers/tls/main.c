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
static int fail(bool is_ours, const char *what, const char *why)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_LINE_SMTP);

    frame_begin(&f, FRAME_TLS_FAILED);
    if (buf_printf(&text, why ? "%s: %s" : "%s", what, why) < 0 || frame_put_u32(&f, is_ours) < 0 ||
        frame_put_str(&f, buf_str(&text)) < 0 || frame_send(SETUP_CONTROL, &f, -1) < 0)
        return EX_IOERR;
    return EX_PROTOCOL;
}

static int note(uint32_t event, const char *text)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r;

    frame_begin(&f, FRAME_NOTE);
    r = frame_put_u32(&f, event);
    if (r == 0)
        r = frame_put_str(&f, str_from(text));
    return r < 0 ? r : frame_send(SETUP_CONTROL, &f, -1);
}

static void note_certificate(const struct setup *s)
{
    char text[LIMIT_NOTE + 1];
    size_t which = 0;
    int age = server_certificate_age(&s->server, &which);

    if (age == 0)
        return;
    (void)snprintf(text, sizeof(text), "%s: %s", age > 0 ? "expired" : "not yet valid", setup_certificate(s, which));
    (void)note(NOTE_CERTIFICATE, text);
}

/* Waits for what the handshake wants. 0, -ETIMEDOUT, or another negative errno. */
static int wait_for(int error, int64_t deadline)
{
    struct pollfd p = {.fd = TLS_NETWORK, .events = error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN};
    int64_t rest = deadline - clock_monotonic_ms();
    int r = rest > 0 ? poll(&p, 1, (int)rest) : 0;

    return r > 0 || (r < 0 && errno == EINTR) ? 0 : r < 0 ? -errno : -ETIMEDOUT;
}

/* What an admin sees in the log of clients that fail. */
static const char *reason_text(unsigned long code, int err)
{
    static const struct {
        int reason;
        const char *text;
    } known[] = {
        {SSL_R_UNSUPPORTED_PROTOCOL, "unsupported protocol version"},
        {SSL_R_NO_SHARED_CIPHER, "no shared cipher"},
        {SSL_R_HTTP_REQUEST, "client speaks HTTP"},
        {SSL_R_HTTPS_PROXY_REQUEST, "client speaks HTTP"},
        {SSL_R_WRONG_VERSION_NUMBER, "client does not speak TLS"},
        {SSL_R_UNEXPECTED_EOF_WHILE_READING, "connection closed"},
        {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "no signature algorithm in common"},
        {SSL_R_NO_SUITABLE_KEY_SHARE, "no group in common"},
        {SSL_R_NO_APPLICATION_PROTOCOL, "ALPN names no protocol of this port"},
        {SSL_R_TLSV1_ALERT_UNKNOWN_CA, "client does not trust our certificate (unknown CA)"},
        {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "client says that our certificate is expired"},
        {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "client does not accept our certificate"},
        {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "client does not accept our certificate (bad)"},
        {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, "client refuses the handshake"},
        {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "client refuses the protocol version"},
        {SSL_R_TLSV1_ALERT_USER_CANCELLED, "client gave up"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == known[i].reason)
            return known[i].text;
    return code ? "TLS error" : err ? strerror(err) : "connection closed";
}

/* 0, or a negative errno and static words in *ret_why. */
static int handshake(SSL *ssl, int64_t deadline, const char **ret_why)
{
    for (;;) {
        int result, error, r;

        errno = 0;
        result = SSL_do_handshake(ssl);
        if (result == 1)
            return 0;
        error = SSL_get_error(ssl, result);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
            *ret_why = reason_text(ERR_peek_error(), errno);
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

static int serve(struct setup *s, SSL *ssl)
{
    const char *why = "";
    int r = handshake(ssl, clock_monotonic_ms() + (int64_t)s->seconds * 1000, &why);

    if (r < 0)
        return fail(false, "handshake", why);
    r = setup_report(ssl);
    if (r < 0)
        return EX_IOERR;
    server_release(&s->server, ssl);
    r = relay_run(ssl, TLS_NETWORK, TLS_INNER);
    if (r == -EPROTO)
        (void)note(NOTE_TLS_CLOSED, "TLS error");
    else if (r == -ETIMEDOUT)
        (void)note(NOTE_TLS_CLOSED, "client takes nothing");
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
        return fail(true, "control", strerror(-r));
    /* Everything of OpenSSL that needs files (its configuration with the system's crypto policy, and loadable
     * providers) while there are some. */
    if (OPENSSL_init_ssl(INIT, NULL) != 1)
        return fail(true, "openssl", "cannot be initialised");
    r = priv_confine(&confinement, &what);
    if (r < 0)
        return fail(true, what, strerror(-r));
    r = setup_apply(&s, &what);
    if (r < 0)
        return fail(true, s.failed, what);
    note_certificate(&s);
    r = set_nonblocking(TLS_NETWORK);
    if (r == 0)
        r = sandbox_enter(SANDBOX_TLS);
    if (r == 0)
        r = server_connect(&s.server, TLS_NETWORK, TLS_NETWORK, &ssl);
    if (r < 0)
        return fail(true, "start", strerror(-r));
    r = serve(&s, ssl);
    SSL_free(ssl);
    server_finish(&s.server);
    return r;
}
