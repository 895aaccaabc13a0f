/*
 * What a `resolve` or `sts` that somebody took over could send to the process that asked: nothing of it gets past the
 * checks. The first byte chooses the frame and the type that was asked for.
 */
#include <stdint.h>
#include <stdlib.h>

#include "shared/dns/answer.h"
#include "shared/dns/name.h"
#include "shared/io/frame_types.h"
#include "shared/sts/policy.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static void check_record(enum dns_type type, const struct dns_record *r)
{
    if (type == DNS_A || type == DNS_AAAA)
        CHECK(r->data.len == (type == DNS_A ? 4 : 16));
    else if (type == DNS_MX && r->data.len == 0)
        CHECK(r->usage == 0);
    else if (type == DNS_MX || type == DNS_PTR || type == DNS_CNAME)
        CHECK(dns_name_is_host(r->data));
    else
        CHECK(r->data.len <= LIMIT_DNS_TEXT);
}

static void try_answer(struct frame *f, enum dns_type type)
{
    struct dns_answer a = DNS_ANSWER_INIT;
    uint32_t id = 0;

    (void)dns_answer_id(f, &id);
    if (dns_answer_decode(f, type, &a) == 0) {
        CHECK(f->payload.len == 0 && a.count <= LIMIT_DNS_RECORDS && (a.status == DNS_OK) == (a.count > 0));
        CHECK(a.canonical.len == 0 || dns_name_is_host(a.canonical));
        for (size_t i = 0; i < a.count; i++)
            check_record(type, &a.records[i]);
    }
    dns_answer_finish(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_TXT, DNS_TLSA, DNS_PTR, DNS_CNAME};
    static struct sts_policy policy;
    struct frame f = FRAME_INIT;
    struct frame_reader in;
    struct dns_ask ask;

    if (size < 1 || size > LIMIT_FRAME)
        return 0;
    frame_begin(&f, data[0] & 0x80 ? FRAME_DNS_QUESTION : FRAME_DNS_ANSWER);
    CHECK(buf_add(&f.payload, data + 1, size - 1) == 0);
    in = frame_read(&f);
    if (sts_policy_get(&in, &policy) == 0)
        CHECK(policy.mx_count <= STS_MX && policy.max_age <= STS_MAX_AGE);
    if (dns_ask_decode(&f, &ask) == 0)
        CHECK(dns_type_is_known(ask.type) && dns_name_is_host(ask.name));
    try_answer(&f, types[(data[0] & 0x7f) % (sizeof(types) / sizeof(types[0]))]);
    frame_finish(&f);
    return 0;
}
