/*
 * relay-session: the SMTP client for one connection, and the only program that reads what other people's servers say.
 * Started by relay as root with the connected socket as fd 0 and its control socket as fd 3; before it reads the first
 * byte of the network it is user pennypost-relay in an empty root without capabilities, with a seccomp filter that
 * opens no file and no socket. Messages and the trusted authorities come as open files.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sysexits.h>

#include "handlers/relay/deal.h"
#include "handlers/relay/hello.h"
#include "handlers/relay/turn.h"
#include "shared/base/macros.h"
#include "shared/gate/confine.h"

#define NETWORK      0
#define CONTROL      3
#define MEMORY       (96u << 20) /* the structure of a message to convert, a thousand recipients, OpenSSL */
#define FDS          16
#define PATIENCE_MS  (60 * 60 * 1000) /* relay may be busy with the disk; when it dies so do we */
#define MESSAGES_MAX 1000             /* of one connection */

static int send_ready(const struct talk_ready *ready)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r;

    frame_begin(&f, FRAME_RELAY_READY);
    r = talk_put_ready(&f, ready);
    return r < 0 ? r : frame_send(CONTROL, &f, -1);
}

static int ask_more(void)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_RELAY_MORE);
    return frame_send(CONTROL, &f, -1);
}

/* One frame of recipients. */
static int take_rcpts(struct deal *d, struct frame *f)
{
    struct frame_reader in = frame_read(f);
    uint32_t count;

    if (f->type != FRAME_RELAY_RCPT || frame_get_u32(&in, &count) < 0 || count == 0 || count > d->mail.count - d->count)
        return -EBADMSG;
    for (uint32_t i = 0; i < count; i++) {
        struct talk_rcpt rcpt;
        int r = talk_get_rcpt(&in, d->mail.is_utf8, &rcpt);

        if (r == 0)
            r = deal_add(d, &rcpt);
        if (r < 0)
            return r;
    }
    return frame_end(&in);
}

static int send_results(const struct deal *d, const struct wire *w, bool is_last)
{
    int r = 0;

    for (uint32_t i = 0; i < d->count && r == 0; i++) {
        _cleanup_frame_ struct frame f = FRAME_INIT;

        frame_begin(&f, FRAME_RELAY_RESULT);
        r = talk_put_reply(&f, &d->rcpts[i].reply);
        if (r == 0)
            r = frame_send(CONTROL, &f, -1);
    }

    _cleanup_frame_ struct frame f = FRAME_INIT;

    frame_begin(&f, FRAME_RELAY_DONE);
    if (r == 0)
        r = frame_put_u32(&f, !w->is_gone && !w->is_closing && !is_last);
    if (r == 0)
        r = frame_put_u32(&f, d->is_converted);
    return r < 0 ? r : frame_send(CONTROL, &f, -1);
}

static int serve_message(struct frame *f, struct wire *w, bool is_last)
{
    _cleanup_deal_ struct deal d = {.message = -1};
    struct frame_reader in = frame_read(f);
    struct talk_mail mail;
    int r = talk_get_mail(&in, &mail);

    if (r < 0 || f->fd < 0)
        return -EBADMSG;
    r = deal_begin(&d, &mail, steal_fd(&f->fd));
    while (r == 0 && d.count < d.mail.count) {
        _cleanup_frame_ struct frame more = FRAME_INIT;

        r = ask_more();
        if (r == 0)
            r = frame_recv(CONTROL, &more, PATIENCE_MS);
        if (r == 0)
            r = take_rcpts(&d, &more);
    }
    if (r < 0)
        return r;
    deal_run(&d, w);
    return send_results(&d, w, is_last);
}

/* The only thing that a connection for it is good for. */
static int serve_turn(struct frame *f, struct wire *w)
{
    struct frame_reader in = frame_read(f);
    _cleanup_frame_ struct frame answer = FRAME_INIT;
    struct talk_reply reply;
    int r;

    if (frame_end(&in) < 0 || f->fd < 0)
        return -EBADMSG;
    (void)turn_ask(w, &reply); /* whatever it was, there is a reply now */
    if (reply.code / 100 == 3)
        talk_reply_set(&reply, TALK_END, 451, "4.5.0", "the answer to ATRN makes no sense");
    frame_begin(&answer, FRAME_RELAY_RESULT);
    r = talk_put_reply(&answer, &reply);
    if (r == 0)
        r = frame_send(CONTROL, &answer, -1);
    if (r < 0)
        return r;
    if (reply.code / 100 != 2) {
        hello_quit(w);
        return 0;
    }
    r = turn_carry(w, f->fd);
    if (w->tls)
        client_shutdown(w->tls, &w->transport);
    return r;
}

static int serve(struct wire *w)
{
    for (unsigned n = 1; n <= MESSAGES_MAX + 1; n++) { /* behind the last one relay says QUIT */
        _cleanup_frame_ struct frame f = FRAME_INIT;
        int r = frame_recv(CONTROL, &f, PATIENCE_MS);

        if (r == 0 && f.type == FRAME_RELAY_QUIT) {
            hello_quit(w);
            return 0;
        }
        if (r == 0 && f.type == FRAME_RELAY_TURN)
            return serve_turn(&f, w);
        if (r == 0)
            r = f.type == FRAME_RELAY_MAIL && n <= MESSAGES_MAX ? serve_message(&f, w, n == MESSAGES_MAX) : -EBADMSG;
        if (r < 0)
            return r == -ENODATA ? 0 : r;
    }
    return 0;
}

static int run(const struct talk_host *host, int trust)
{
    struct talk_ready ready;
    struct wire w;
    int r;

    wire_init(&w, NETWORK, host->percent);
    r = hello_run(&w, host, trust, &ready);
    if (r == 0)
        r = send_ready(&ready);
    if (r == 0 && ready.status == TALK_READY)
        r = serve(&w);
    else if (r == 0)
        hello_quit(&w);
    wire_finish(&w);
    return r;
}

int main(int argc, char **argv)
{
    static const struct priv_confinement confinement = {
        .account = PRIV_USER_RELAY, .find = priv_account_named, .open_files = FDS, .file_size = 0, .memory = MEMORY};
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    struct talk_host host;
    int r;

    (void)argv;
    if (argc > 1 || fcntl(CONTROL, F_GETFD) < 0) {
        (void)fputs("relay-session: relay(8) starts this; it is of no use by hand\n", stderr);
        return EX_USAGE;
    }
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    /* What of OpenSSL needs files, while there are some: its configuration with the system's crypto policy. */
    if (client_library_init() < 0)
        return EX_SOFTWARE;
    if (confine_enter("relay", &confinement, SANDBOX_RELAY) < 0)
        return EX_CONFIG;
    r = frame_recv(CONTROL, &f, PATIENCE_MS);
    in = frame_read(&f);
    if (r == 0)
        r = f.type == FRAME_RELAY_HOST ? talk_get_host(&in, &host) : -EBADMSG;
    if (r == 0)
        r = run(&host, f.fd);
    return r == 0 ? EX_OK : r == -EBADMSG ? EX_PROTOCOL : EX_IOERR;
}
