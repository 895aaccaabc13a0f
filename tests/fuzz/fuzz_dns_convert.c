/*
 * DNS packets: whatever comes, `resolve` stays inside the packet, and what it makes of it is an answer that the asker
 * accepts. The first two bytes choose the type and the name that was asked for.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/resolve/convert.h"
#include "shared/dns/name.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static const enum dns_type TYPES[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_TXT, DNS_TLSA, DNS_PTR, DNS_CNAME};
static const char *const NAMES[] = {"a.test", "a", "1.2.0.192.in-addr.arpa", "_25._tcp.a.test"};

/* The frame that carries it is taken by the other side, with the same content. */
static void check_answer(enum dns_type type, const struct dns_answer *a)
{
    struct frame f = FRAME_INIT;
    struct dns_answer again = DNS_ANSWER_INIT;
    uint32_t id = 0;

    CHECK(a->count <= LIMIT_DNS_RECORDS && a->memory.len <= LIMIT_DNS_ANSWER);
    CHECK((a->status == DNS_OK) == (a->count > 0));
    CHECK((a->status == DNS_FAILED) == (a->reason.len > 0));
    CHECK(dns_answer_encode(7, a, &f) == 0);
    CHECK(dns_answer_id(&f, &id) == 0 && id == 7);
    CHECK(dns_answer_decode(&f, type, &again) == 0);
    CHECK(again.count == a->count && again.status == a->status && str_eq(again.canonical, a->canonical));
    for (size_t i = 0; i < a->count; i++)
        CHECK(str_eq(again.records[i].data, a->records[i].data) &&
              again.records[i].preference == a->records[i].preference);
    dns_answer_finish(&again);
    frame_finish(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct convert_chain chain = {0};
    enum dns_type type;

    if (size < 2)
        return 0;
    type = TYPES[data[0] % (sizeof(TYPES) / sizeof(TYPES[0]))];
    chain.name = strdup(NAMES[data[1] % (sizeof(NAMES) / sizeof(NAMES[0]))]);
    /* An alias that leads out is asked for again; here the same packet comes, as a liar would send it. */
    for (unsigned round = 0;; round++) {
        struct dns_answer answer = DNS_ANSWER_INIT;
        enum convert_result r = convert_packet(data + 2, size - 2, type, true, &chain, &answer);

        if (r == CONVERT_DONE)
            check_answer(type, &answer);
        dns_answer_finish(&answer);
        if (r == CONVERT_DONE)
            break;
        CHECK(round <= LIMIT_DNS_CNAMES);
    }
    convert_chain_finish(&chain);
    return 0;
}
