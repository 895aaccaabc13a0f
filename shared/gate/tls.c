/*
 * Starting T and believing its report. Runs in the monitor: it opens certificate and key as root and hands the fds
 * over; it never reads what is in them.
 */
#include "shared/gate/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/gate/sandbox.h"
#include "shared/gate/tickets.h"
#include "shared/io/frame_types.h"

#define HANDSHAKE_TIMEOUT 30 /* seconds */

/* The next certificate and its key. Several are blank-separated in both settings; where there are fewer keys than
 * certificates, the last key, or the certificate's own file, is taken. */
struct pairs {
    struct str certificates;
    struct str keys;
    struct str key;
};

static bool next_pair(struct pairs *p, struct str *ret_certificate, struct str *ret_key)
{
    struct str key;

    if (!str_word(&p->certificates, ret_certificate))
        return false;
    if (str_word(&p->keys, &key))
        p->key = key;
    *ret_key = p->key.len > 0 ? p->key : *ret_certificate;
    return true;
}

static struct pairs pairs_of(const struct conf *conf)
{
    return (struct pairs){.certificates = str_from(conf->tls_certificate), .keys = str_from(conf->tls_key)};
}

static int check_file(struct str path)
{
    _cleanup_free_ char *c_path = str_dup(path);

    if (!c_path)
        return -ENOMEM;
    return access(c_path, R_OK) < 0 ? -errno : 0;
}

int tls_check(const struct conf *conf, struct str *ret_file)
{
    struct pairs p = pairs_of(conf);
    struct str certificate;
    struct str key;
    int r = -ENODATA;

    for (int i = 0; next_pair(&p, &certificate, &key); i++) {
        *ret_file = certificate;
        if (i >= LIMIT_CERTIFICATES)
            return -E2BIG;
        r = check_file(certificate);
        if (r == 0) {
            *ret_file = key;
            r = check_file(key);
        }
        if (r < 0)
            break;
    }
    return r;
}

static int send_file(int control, struct str path, enum tls_file kind)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    _cleanup_free_ char *c_path = str_dup(path);
    _cleanup_close_ int fd = -1;
    struct stat st;
    int r = 0;

    if (!c_path)
        return -ENOMEM;
    fd = open(c_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    frame_begin(&f, FRAME_TLS_FILE);
    r = frame_put_u32(&f, kind);
    if (r == 0)
        r = frame_put_str(&f, path);
    return r < 0 ? r : frame_send(control, &f, fd);
}

/* What TLS also works without: keys of session tickets, authorities of client certificates. */
static int send_optional(const struct conf *conf, int control, const char **ret_what)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    _cleanup_close_ int tickets = -1;
    int r = 0;

    *ret_what = "tls_client_ca";
    if (conf->tls_client_ca[0])
        r = send_file(control, str_from(conf->tls_client_ca), TLS_FILE_CLIENT_CA);
    if (r < 0 || tickets_open(conf, &tickets) < 0)
        return r;
    *ret_what = "tickets";
    frame_begin(&f, FRAME_TLS_FILE);
    r = frame_put_u32(&f, TLS_FILE_TICKETS);
    if (r == 0)
        r = frame_put_str(&f, STR(TICKETS_FILE));
    return r < 0 ? r : frame_send(control, &f, tickets);
}

static int send_config(const struct conf *conf, int control, const char *peer, const char *alpn)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    frame_begin(&f, FRAME_TLS_CONFIG);
    if ((r = frame_put_str(&f, str_from(peer))) < 0 || (r = frame_put_u32(&f, HANDSHAKE_TIMEOUT)) < 0 ||
        (r = frame_put_u32(&f, conf->tls_client_ca[0] != 0)) < 0 || (r = frame_put_str(&f, str_from(alpn))) < 0)
        return r;
    return frame_send(control, &f, -1);
}

static int send_all(const struct conf *conf, int control, const char *peer, const char *alpn, const char **ret_what)
{
    struct pairs p = pairs_of(conf);
    _cleanup_frame_ struct frame go = FRAME_INIT;
    struct str certificate;
    struct str key;
    int r = 0;

    *ret_what = "tls";
    r = send_config(conf, control, peer, alpn);
    for (int i = 0; r == 0 && next_pair(&p, &certificate, &key); i++) {
        *ret_what = "tls_certificate";
        r = i < LIMIT_CERTIFICATES ? send_file(control, certificate, TLS_FILE_CERTIFICATE) : -E2BIG;
        if (r == 0) {
            *ret_what = "tls_key";
            r = send_file(control, key, TLS_FILE_KEY);
        }
    }
    if (r == 0)
        r = send_optional(conf, control, ret_what);
    if (r < 0)
        return r;
    *ret_what = "tls";
    frame_begin(&go, FRAME_TLS_GO);
    return frame_send(control, &go, -1);
}

int tls_run_start(const struct conf *conf, int network, const char *peer, const char *alpn, struct chain_child *ret,
                  int *ret_inner, const char **ret_what)
{
    int inner[2] = {-1, -1};
    struct chain_spec spec = {CHAIN_SPEC("tls"), .has_control = true};
    struct chain_child child = CHAIN_CHILD_NONE;
    int r = 0;

    *ret_what = "tls";
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, inner) < 0)
        return -errno;
    spec.fds[0] = spec.fds[1] = network;
    spec.fds[2] = sandbox_is_built() ? CHAIN_NULL : CHAIN_KEEP; /* sanitizers write there */
    spec.fds[4] = inner[1];
    r = chain_spawn(&spec, &child);
    close_fd(&inner[1]);
    if (r == 0)
        r = send_all(conf, child.control, peer, alpn, ret_what);
    if (r < 0) {
        (void)chain_end(&child, 0);
        close_fd(&inner[0]);
        return r;
    }
    *ret = child;
    *ret_inner = inner[0];
    return 0;
}

static void copy_bytes(struct str s, uint8_t *out, size_t *ret_len)
{
    if (s.len > 0)
        memcpy(out, s.ptr, s.len);
    *ret_len = s.len;
}

int tls_facts_read(const struct frame *f, struct tls_facts *ret)
{
    struct tls_facts t = {0};
    struct str exporter, end_point;

    /* Printable texts, since they go to logs, to the session and to the client. */
    if (frame_take(f, FRAME_TO_TEXT(t.version), FRAME_TO_TEXT(t.cipher), FRAME_TO_TEXT(t.subject),
                   FRAME_TO_STR(&exporter, sizeof(t.exporter)), FRAME_TO_STR(&end_point, sizeof(t.end_point)),
                   FRAME_TO_TEXT(t.alpn), FRAME_TO_BOOL(&t.is_resumed)) < 0 ||
        t.version[0] == '\0')
        return -EBADMSG;
    copy_bytes(exporter, t.exporter, &t.exporter_len);
    copy_bytes(end_point, t.end_point, &t.end_point_len);
    *ret = t;
    return 0;
}
