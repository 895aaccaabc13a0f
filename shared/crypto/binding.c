/*
 * Channel bindings.
 */
#include "shared/crypto/binding.h"

size_t binding_exporter(SSL *ssl, uint8_t out[static BINDING_EXPORTER])
{
    static const char label[] = "EXPORTER-Channel-Binding";

    /* RFC 9266 4.1: unique only with TLS 1.3 or the extended master secret. */
    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return 0;
    return SSL_export_keying_material(ssl, out, BINDING_EXPORTER, label, sizeof(label) - 1, NULL, 0, 1) == 1
               ? BINDING_EXPORTER
               : 0;
}
