/*
 * The words for what OpenSSL says of a handshake that failed. They are here and not in tls, which every connection has
 * and which loads no texts; of OpenSSL this takes the numbers only.
 */
#include <openssl/sslerr.h>

#include "shared/base/macros.h"
#include "shared/gate/tls.h"

const char *tls_reason(uint32_t reason)
{
    static const struct {
        uint32_t reason;
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
        if (known[i].reason == reason)
            return known[i].text;
    return NULL;
}
