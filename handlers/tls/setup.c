/*
 * The talk of `tls` with its monitor. setup_receive() runs as root and looks at frames only; setup_apply() and
 * setup_report() run confined.
 */
#include "handlers/tls/setup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/crypto/binding.h"
#include "shared/io/frame.h"

#define RECEIVE_MS 10000 /* the monitor sends everything at once */

static int take_config(struct setup *s, const struct frame *f)
{
    char peer[LIMIT_ADDRESS + 1]; /* of no use here */

    return frame_take(f, FRAME_TO_TEXT(peer), FRAME_TO_U32(&s->seconds, TIMEOUT_IMAP),
                      FRAME_TO_BOOL(&s->asks_certificate), FRAME_TO_TEXT(s->alpn));
}

static int take_file(struct setup *s, struct frame *f)
{
    struct setup_file *file = &s->files[s->file_count];
    struct str path;

    if (s->file_count >= SETUP_FILES || f->fd < 0 ||
        frame_take(f, FRAME_TO_U32(&file->kind, TLS_FILE_CLIENT_CA), FRAME_TO_STR(&path, LIMIT_PATHNAME)) < 0)
        return -EBADMSG;
    (void)snprintf(file->path, SETUP_PATH, "%.*s", STR_ARG(path));
    file->fd = steal_fd(&f->fd);
    s->file_count++;
    return 0;
}

int setup_receive(struct setup *s)
{
    for (size_t i = 0; i < SETUP_FILES + 2; i++) {
        _cleanup_frame_ struct frame f = FRAME_INIT;
        int e = frame_recv(SETUP_CONTROL, &f, RECEIVE_MS);

        if (e < 0)
            return e;
        if (f.type == FRAME_TLS_GO)
            return frame_take_fields(&f, NULL, 0);
        e = f.type == FRAME_TLS_CONFIG ? take_config(s, &f) : f.type == FRAME_TLS_FILE ? take_file(s, &f) : -EBADMSG;
        if (e < 0)
            return e;
    }
    return -EBADMSG;
}

static const struct setup_file *find(const struct setup *s, uint32_t kind)
{
    for (size_t i = 0; i < s->file_count; i++)
        if (s->files[i].kind == kind)
            return &s->files[i];
    return NULL;
}

/* Certificates and keys alternate. */
static int add_pairs(struct setup *s, const char **ret_why)
{
    const struct setup_file *certificate = NULL;

    for (size_t i = 0; i < s->file_count; i++) {
        const struct setup_file *file = &s->files[i];
        int r;

        if (file->kind == TLS_FILE_CERTIFICATE)
            certificate = file;
        if (file->kind != TLS_FILE_KEY)
            continue;
        *ret_why = "key without a certificate";
        r = certificate ? server_add_certificate(&s->server, certificate->fd, file->fd, ret_why) : -EINVAL;
        if (r < 0) {
            s->failed = certificate ? certificate->path : file->path;
            return r;
        }
        certificate = NULL;
    }
    *ret_why = "no certificate";
    return s->server.count > 0 ? 0 : -ENOENT;
}

const char *setup_certificate(const struct setup *s, size_t which)
{
    for (size_t i = 0; i < s->file_count; i++)
        if (s->files[i].kind == TLS_FILE_CERTIFICATE && which-- == 0)
            return s->files[i].path;
    return "";
}

int setup_apply(struct setup *s, const char **ret_why)
{
    const struct setup_file *tickets = find(s, TLS_FILE_TICKETS), *authorities = find(s, TLS_FILE_CLIENT_CA);
    int r;

    s->failed = "files";
    r = add_pairs(s, ret_why);
    if (r == 0 && s->asks_certificate && authorities) {
        s->failed = authorities->path;
        r = server_ask_certificate(&s->server, authorities->fd, ret_why);
    }
    if (r == 0) {
        s->failed = "ALPN";
        *ret_why = "too many names";
        r = server_set_alpn(&s->server, str_from(s->alpn));
    }
    /* Damaged ticket keys cost resumption only. */
    if (r == 0 && tickets)
        (void)server_set_tickets(&s->server, tickets->fd);
    for (size_t i = 0; i < s->file_count; i++)
        close_fd(&s->files[i].fd);
    return r;
}

/* The subject of a client certificate that was verified, as RFC 4514 writes it; else nothing. */
static void subject(SSL *ssl, struct buf *out)
{
    X509 *x = SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER ? SSL_get1_peer_certificate(ssl) : NULL;
    BIO *bio = NULL;
    char *text = NULL;
    long len = 0;

    if (x && SSL_get_verify_result(ssl) == X509_V_OK)
        bio = BIO_new(BIO_s_mem());
    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0)
        len = BIO_get_mem_data(bio, &text);
    if (len > 0 && buf_add(out, text, (size_t)len) < 0)
        buf_clear(out); /* longer than any we would map to a user */
    BIO_free(bio);
    X509_free(x);
}

int setup_report(SSL *ssl)
{
    _cleanup_buf_ struct buf name = BUF_INIT(511);
    uint8_t exporter[BINDING_EXPORTER], end_point[EVP_MAX_MD_SIZE];
    const unsigned char *alpn = NULL;
    unsigned alpn_len = 0;
    size_t exporter_len = binding_exporter(ssl, exporter), end_point_len = server_end_point(ssl, end_point);

    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    subject(ssl, &name);
    return frame_say(SETUP_CONTROL, FRAME_TLS_FACTS, -1, FRAME_STR(str_from(SSL_get_version(ssl))),
                     FRAME_STR(str_from(SSL_get_cipher_name(ssl))), FRAME_STR(buf_str(&name)),
                     FRAME_STR(((struct str){(const char *)exporter, exporter_len})),
                     FRAME_STR(((struct str){(const char *)end_point, end_point_len})),
                     FRAME_STR(((struct str){(const char *)alpn, alpn_len})), FRAME_U32(SSL_session_reused(ssl) == 1));
}
