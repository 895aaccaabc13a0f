/*
 * The monitor's side of T, the TLS process: opening certificate and key, starting it on a socket, reading its report.
 */
#ifndef GATE_TLS_H
#define GATE_TLS_H

#include <stdbool.h>

#include "shared/base/conf.h"
#include "shared/gate/chain.h"
#include "shared/io/frame.h"

/* What T reported. All strings are C strings, "" when there is nothing. */
struct tls_facts {
    char version[16]; /* "TLSv1.3" */
    char cipher[64];
    char alpn[32];
    char subject[512];    /* of the verified client certificate */
    uint8_t exporter[64]; /* tls-exporter channel binding (RFC 9266) */
    size_t exporter_len;
    uint8_t end_point[64]; /* tls-server-end-point (RFC 5929 4) */
    size_t end_point_len;
    bool is_resumed;
};

/* Are there certificates and keys to offer TLS with? 0; -ENODATA: none is configured; -ENOENT, -EACCES, ...: a file,
 * *ret_file, cannot be read. Looks with access(), opens nothing. */
int tls_check(const struct conf *conf, struct str *ret_file);

/* Starts T on `network` (stays ours) with the files of the configuration; `alpn`: names it accepts. *ret_inner is our
 * end of the clear side. 0; -ENOENT, -EACCES, ... (`ret_what`: the file or step). Nothing is left running on failure.
 */
int tls_run_start(const struct conf *conf, int network, const char *peer, const char *alpn, struct chain_child *ret,
                  int *ret_inner, const char **ret_what);

/* Reads FRAME_TLS_FACTS. 0 or -EBADMSG. */
int tls_facts_read(const struct frame *f, struct tls_facts *ret);

/* Words for the log for what OpenSSL's TLS says went wrong in a handshake (the numbers of openssl/sslerr.h). NULL:
 * there are none for it. */
const char *tls_reason(uint32_t reason);

/* The common name in the subject of a certificate as RFC 4514 writes it: who EXTERNAL logs in. A name with escapes is
 * none of a user: the null view, as for a subject without one. */
struct str tls_common_name(struct str subject);

#endif
