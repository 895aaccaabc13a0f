/*
 * DNS packets. Runs in `resolve`; pure.
 */
#include "handlers/resolve/convert.h"

#include <ares.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shared/dns/name.h"

#define HEADER_LEN   12 /* RFC 1035 4.1.1 */
#define FIXED_LEN    10 /* of a record behind its name: type, class, ttl, length */
#define QUESTION_LEN 4  /* of a question behind its name */
#define CLASS_IN     1
#define RCODE_OK     0
#define RCODE_NONAME 3
#define TTL_MAX      0x7fffffffu /* RFC 2181 8 */

struct packet {
    const unsigned char *bytes;
    int len;
    unsigned entries; /* of the answer section */
    int first;        /* where it begins */
};

struct entry {
    char *owner;
    unsigned type;
    unsigned class;
    uint32_t ttl;
    int data; /* offset */
    int len;
};

void convert_chain_finish(struct convert_chain *c)
{
    free(c->name);
    *c = (struct convert_chain){0};
}

void convert_fail(struct dns_answer *answer, const char *reason)
{
    dns_answer_finish(answer);
    answer->reason = str_from(reason);
}

static unsigned get16(const struct packet *p, int at)
{
    return (unsigned)p->bytes[at] << 8 | p->bytes[at + 1];
}

/* A name at `at`; *ret_next is behind it. NULL: malformed. Freed by the caller; malloc'ed, since c-ares is used with
 * its default allocator. */
static char *get_name(const struct packet *p, int at, int *ret_next)
{
    char *name = NULL;
    long used = 0;

    if (at >= p->len || ares_expand_name(p->bytes + at, p->bytes, p->len, &name, &used) != ARES_SUCCESS)
        return NULL;
    if (used <= 0 || used > p->len - at) {
        free(name);
        return NULL;
    }
    *ret_next = at + (int)used;
    return name;
}

static bool get_packet(const unsigned char *bytes, size_t len, struct packet *p)
{
    char *name = NULL;
    int next = HEADER_LEN;

    if (len < HEADER_LEN || len > LIMIT_DNS_PACKET || (bytes[2] & 0x80) == 0)
        return false;
    *p = (struct packet){.bytes = bytes, .len = (int)len};
    if (get16(p, 4) != 1)
        return false;
    name = get_name(p, HEADER_LEN, &next);
    free(name);
    if (!name || next + QUESTION_LEN > p->len)
        return false;
    p->entries = get16(p, 6);
    p->first = next + QUESTION_LEN;
    return p->entries <= LIMIT_DNS_ENTRIES;
}

/* The record at *at, which moves behind it. */
static bool get_entry(const struct packet *p, int *at, struct entry *e)
{
    int next = 0;
    char *owner = get_name(p, *at, &next);

    if (!owner)
        return false;
    if (next + FIXED_LEN > p->len || next + FIXED_LEN + (int)get16(p, next + 8) > p->len) {
        free(owner);
        return false;
    }
    *e = (struct entry){.owner = owner,
                        .type = get16(p, next),
                        .class = get16(p, next + 2),
                        .ttl = (uint32_t)get16(p, next + 4) << 16 | get16(p, next + 6),
                        .data = next + FIXED_LEN,
                        .len = (int)get16(p, next + 8)};
    if (e->ttl > TTL_MAX)
        e->ttl = 0;
    *at = e->data + e->len;
    return true;
}

/* ---- records ---- */

static int keep(struct dns_answer *a, struct dns_record *r, const void *data, size_t len)
{
    size_t at = a->memory.len;

    if (buf_add(&a->memory, data, len) < 0)
        return -ENOBUFS;
    r->data = (struct str){a->memory.data + at, len};
    return 0;
}

/* A name inside the record's data, which it must fill. A name that cannot be a host is no record for us. */
static int keep_name(const struct packet *p, const struct entry *e, int at, bool may_be_root, struct dns_answer *a,
                     struct dns_record *r)
{
    int next = 0;
    char *name = get_name(p, at, &next);
    int result = -EBADMSG;

    if (name && next == e->data + e->len)
        result = (may_be_root && name[0] == '\0') || dns_name_is_host(str_from(name)) ? 0 : -EINVAL;
    if (result == 0)
        result = keep(a, r, name, strlen(name));
    free(name);
    return result;
}

/* RFC 1035 3.3.14: character-strings, joined without blanks (RFC 7208 3.3, RFC 8461 3.1). */
static int keep_text(const struct packet *p, const struct entry *e, struct dns_answer *a, struct dns_record *r)
{
    char text[LIMIT_DNS_TEXT];
    size_t len = 0;

    for (int at = e->data, end = e->data + e->len; at < end;) {
        int n = p->bytes[at++];

        if (n > end - at)
            return -EBADMSG;
        if (len + (size_t)n > sizeof(text))
            return -EINVAL;
        memcpy(text + len, p->bytes + at, (size_t)n);
        len += (size_t)n;
        at += n;
    }
    return keep(a, r, text, len);
}

static int keep_tlsa(const struct packet *p, const struct entry *e, struct dns_answer *a, struct dns_record *r)
{
    const unsigned char *data = p->bytes + e->data;

    if (e->len < 4) /* RFC 6698 2.1 */
        return -EBADMSG;
    if (e->len - 3 > LIMIT_DNS_TEXT)
        return -EINVAL;
    r->usage = data[0];
    r->selector = data[1];
    r->matching = data[2];
    return keep(a, r, data + 3, (size_t)e->len - 3);
}

/* 0; -EINVAL: a record that is of no use; -EBADMSG: malformed; -ENOBUFS: enough. */
static int keep_record(const struct packet *p, const struct entry *e, struct dns_answer *a, struct dns_record *r)
{
    switch ((enum dns_type)e->type) {
    case DNS_A:
        return e->len == 4 ? keep(a, r, p->bytes + e->data, 4) : -EBADMSG;
    case DNS_AAAA:
        return e->len == 16 ? keep(a, r, p->bytes + e->data, 16) : -EBADMSG;
    case DNS_MX:
        if (e->len < 3)
            return -EBADMSG;
        r->preference = (uint16_t)get16(p, e->data);
        return keep_name(p, e, e->data + 2, true, a, r);
    case DNS_PTR:
    case DNS_CNAME:
        return keep_name(p, e, e->data, false, a, r);
    case DNS_TXT:
        return keep_text(p, e, a, r);
    case DNS_TLSA:
        return keep_tlsa(p, e, a, r);
    }
    return -EINVAL;
}

/* ---- the answer section ---- */

enum walk { WALK_DONE, WALK_MOVED, WALK_BROKEN };

/* Leads the chain on to the target of this alias. */
static bool follow(const struct packet *p, const struct entry *e, struct convert_chain *chain)
{
    int next = 0;
    char *target = get_name(p, e->data, &next);

    if (!target || next != e->data + e->len || target[0] == '\0') {
        free(target);
        return false;
    }
    free(chain->name);
    chain->name = target;
    chain->aliases++;
    chain->ttl = e->ttl < chain->ttl ? e->ttl : chain->ttl;
    return true;
}

static bool is_wanted(const struct entry *e, unsigned type, const struct convert_chain *chain)
{
    return e->type == type && e->class == CLASS_IN && strcasecmp(e->owner, chain->name) == 0;
}

/* Collects the records of the name that the chain has reached. */
static enum walk collect(const struct packet *p, enum dns_type type, struct convert_chain *chain, struct dns_answer *a)
{
    enum walk result = WALK_DONE;
    int at = p->first;

    for (unsigned i = 0; i < p->entries && result == WALK_DONE; i++) {
        struct dns_record record = {0};
        struct entry e;
        int r = 0;

        if (!get_entry(p, &at, &e))
            return WALK_BROKEN;
        if (is_wanted(&e, type, chain) && a->count < LIMIT_DNS_RECORDS) {
            r = keep_record(p, &e, a, &record);
            chain->ttl = e.ttl < chain->ttl ? e.ttl : chain->ttl;
        } else {
            r = -EINVAL;
        }
        if (r == 0)
            a->records[a->count++] = record;
        if (r == -EBADMSG)
            result = WALK_BROKEN;
        free(e.owner);
    }
    return result;
}

/* Follows one alias of the name that the chain has reached, if there is one. */
static enum walk step(const struct packet *p, struct convert_chain *chain)
{
    int at = p->first;

    for (unsigned i = 0; i < p->entries; i++) {
        enum walk result = WALK_DONE;
        struct entry e;

        if (!get_entry(p, &at, &e))
            return WALK_BROKEN;
        if (is_wanted(&e, DNS_CNAME, chain))
            result = follow(p, &e, chain) ? WALK_MOVED : WALK_BROKEN;
        free(e.owner);
        if (result != WALK_DONE)
            return result;
    }
    return WALK_DONE;
}

/* What was found, or that nothing was. */
static enum convert_result finish(unsigned rcode, bool has_moved, struct convert_chain *chain, struct dns_answer *a)
{
    if (a->count > 0)
        a->status = DNS_OK;
    else if (rcode == RCODE_NONAME)
        a->status = DNS_NXDOMAIN;
    else if (has_moved)
        return CONVERT_AGAIN;
    else
        a->status = DNS_NODATA;
    a->is_secure = !chain->is_insecure;
    a->ttl = chain->ttl;
    a->canonical = STR("");
    if (dns_name_is_host(str_from(chain->name)))
        a->canonical = str_from(chain->name);
    return CONVERT_DONE;
}

enum convert_result convert_packet(const unsigned char *packet, size_t len, enum dns_type type, bool trusts_ad,
                                   struct convert_chain *chain, struct dns_answer *answer)
{
    unsigned before = chain->aliases;
    enum walk walk = WALK_DONE;
    struct packet p;
    unsigned rcode;

    answer->memory.max = LIMIT_DNS_ANSWER;
    if (before == 0)
        chain->ttl = TTL_MAX;
    if (!get_packet(packet, len, &p) || buf_reserve(&answer->memory, LIMIT_DNS_ANSWER) < 0) {
        convert_fail(answer, "malformed answer");
        return CONVERT_DONE;
    }
    rcode = packet[3] & 0x0fu;
    if (rcode != RCODE_OK && rcode != RCODE_NONAME) {
        convert_fail(answer, "the server refused to answer");
        return CONVERT_DONE;
    }
    if (!trusts_ad || (packet[3] & 0x20) == 0) /* RFC 4035 3.2.3 */
        chain->is_insecure = true;
    while (type != DNS_CNAME && chain->aliases <= LIMIT_DNS_CNAMES && (walk = step(&p, chain)) == WALK_MOVED)
        ;
    if (walk != WALK_BROKEN && chain->aliases <= LIMIT_DNS_CNAMES)
        walk = collect(&p, type, chain, answer);
    if (chain->aliases > LIMIT_DNS_CNAMES)
        convert_fail(answer, "too many aliases");
    else if (walk == WALK_BROKEN)
        convert_fail(answer, "malformed answer");
    else
        return finish(rcode, chain->aliases > before, chain, answer);
    return CONVERT_DONE;
}
