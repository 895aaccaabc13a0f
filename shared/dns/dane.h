/*
 * The TLSA records of a mail host (RFC 7672 2.2): whether DANE applies, and with what. Only a resolver on this machine
 * is believed to have validated anything. The verification is OpenSSL's: for DANE_VERIFY
 *
 *   SSL_CTX_dane_enable(ctx);
 *   SSL_dane_enable(ssl, dane.base);                       also the name for SNI (RFC 7672 8.1)
 *   SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
 *   SSL_add1_host(ssl, list.domain), and list.canonical where it differs      (RFC 7672 3.2.2)
 *   SSL_dane_tlsa_add(ssl, usage, selector, matching, data, len)              for each record
 *   SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL)
 */
#ifndef DNS_DANE_H
#define DNS_DANE_H

#include "shared/dns/hop.h"

#define DANE_RECORDS 32  /* of one host that are used; a roll-over has four */
#define DANE_DATA    512 /* a digest; whole certificates and keys (matching type 0) only as far as they fit */

enum dane_usage { /* RFC 6698 2.1.1 */
                  DANE_TA = 2,
                  DANE_EE = 3,
};

struct dane_record {
    uint8_t usage; /* DANE_TA or DANE_EE: the others are not for SMTP (RFC 7672 3.1.3) */
    uint8_t selector;
    uint8_t matching;
    size_t len;
    uint8_t data[DANE_DATA];
};

enum dane_state {
    DANE_NONE,    /* no secure TLSA records: DANE says nothing about this host */
    DANE_ENCRYPT, /* there are some, none usable: TLS is a must, without authentication (RFC 7672 2.2) */
    DANE_VERIFY,  /* TLS and authentication by the records are a must */
};

struct dane {
    enum dane_state state;
    char base[DNS_NAME_MAX + 1]; /* the TLSA base domain, "" for DANE_NONE */
    size_t count;
    struct dane_record records[DANE_RECORDS];
};

/* 0 with *ret; -EAGAIN: a lookup failed, and the host must be passed over as if it could not be reached (RFC 7672
 * 2.1.2), *ret_why says it. */
int dane_find(struct dns *d, const struct hop_host *host, uint16_t port, struct dane *ret, struct hop_failure *ret_why);

#endif
