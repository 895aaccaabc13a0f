/*
 * Finding a domain's policy: the record, the kept policy, a new one. Runs in trusted processes.
 */
#include "shared/sts/sts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/gate/sandbox.h"
#include "shared/io/frame_types.h"
#include "shared/sts/cache.h"

#define RECORD_PREFIX "_mta-sts."
#define HOST_PREFIX   "mta-sts."
#define FETCH_MS      65000 /* `sts` gives up after a minute (RFC 8461 3.3) */
#define END_MS        1000
#define CA_MAX        (1u << 20) /* bytes of the authorities' file */

static _printf_(3, 4) void fail(struct sts_result *r, const char *type, const char *format, ...)
{
    va_list ap;

    r->failure = type;
    va_start(ap, format);
    (void)vsnprintf(r->detail, sizeof(r->detail), format, ap);
    va_end(ap);
}

/* RFC 8461 3.1: exactly one record that is well-formed. False: none, or nobody can say. */
static bool find_record(struct dns *dns, const char *domain, char id[static STS_ID + 1])
{
    struct dns_question q = DNS_QUESTION(DNS_TXT);
    _cleanup_buf_ struct buf name = BUF_INIT(2 * DNS_NAME_MAX);
    const struct dns_record *only = NULL;
    size_t count = 0;
    bool is_found = false;

    if (buf_printf(&name, RECORD_PREFIX "%s", domain) < 0 || dns_question_name(&q, buf_str(&name)) < 0)
        return false;
    dns_ask(dns, &q, 1);
    for (size_t i = 0; i < q.answer.count; i++) {
        if (!sts_record_is_ours(q.answer.records[i].data))
            continue;
        only = &q.answer.records[i];
        count++;
    }
    is_found = count == 1 && sts_record_parse(only->data, id) == 0;
    dns_question_finish(&q);
    return is_found;
}

/* ---- fetching ---- */

/* Where a stranger's record must not lead us: this machine. */
static bool is_sane(const struct dns_record *r)
{
    static const uint8_t none[15] = {0};
    const uint8_t *b = (const uint8_t *)r->data.ptr;

    if (r->data.len == 4)
        return b[0] != 127 && b[0] != 0 && (b[0] != 169 || b[1] != 254);
    return memcmp(b, none, sizeof(none)) != 0 && (b[0] != 0xfe || (b[1] & 0xc0) != 0x80);
}

/* The addresses of the policy host into the frame: u count, s address... */
static int put_addresses(struct dns *dns, const char *domain, struct frame *f)
{
    struct dns_question q[2] = {DNS_QUESTION(DNS_AAAA), DNS_QUESTION(DNS_A)};
    char texts[2 * LIMIT_DNS_ADDRESSES][LIMIT_ADDRESS];
    _cleanup_buf_ struct buf name = BUF_INIT(2 * DNS_NAME_MAX);
    uint32_t count = 0;
    int r = buf_printf(&name, HOST_PREFIX "%s", domain);

    for (size_t i = 0; i < 2 && r == 0; i++)
        r = dns_question_name(&q[i], buf_str(&name));
    if (r < 0)
        return r;
    dns_ask(dns, q, 2);
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < q[i].answer.count && j < LIMIT_DNS_ADDRESSES; j++)
            if (is_sane(&q[i].answer.records[j]))
                dns_address_print((const uint8_t *)q[i].answer.records[j].data.ptr, q[i].answer.records[j].data.len,
                                  texts[count++]);
    dns_question_finish(&q[0]);
    dns_question_finish(&q[1]);
    r = count > 0 ? frame_put_u32(f, count) : -EADDRNOTAVAIL;
    for (uint32_t i = 0; i < count && r == 0; i++)
        r = frame_put_str(f, str_from(texts[i]));
    return r;
}

static int open_authorities(const struct conf *conf)
{
    struct stat st;
    int fd = open(conf->tls_ca, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= (off_t)CA_MAX)
        return fd;
    (void)close(fd);
    return -EINVAL;
}

/* The three ways in which `sts` can have failed. */
static const char *failure_type(struct str name)
{
    static const char *const types[] = {STS_RESULT_FETCH, STS_RESULT_INVALID, STS_RESULT_WEBPKI};

    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (str_eq(name, str_from(types[i])))
            return types[i];
    return NULL;
}

static int take_failure(struct frame_reader *in, struct sts_result *r)
{
    struct str type, text;

    if (frame_get_str(in, LIMIT_NOTE, &type) < 0 || frame_get_str(in, sizeof(r->detail) - 1, &text) < 0 ||
        frame_end(in) < 0 || !failure_type(type))
        return -EBADMSG;
    fail(r, failure_type(type), "%.*s", STR_ARG(text));
    return -EIO;
}

static int take_reply(const struct frame *f, struct sts_policy *ret, struct sts_result *r)
{
    struct frame_reader in = frame_read(f);

    if (f->fd >= 0)
        return -EBADMSG;
    if (f->type == FRAME_STS_FAILED)
        return take_failure(&in, r);
    return f->type == FRAME_STS_POLICY ? sts_policy_get(&in, ret) : -EBADMSG;
}

/* Starts `sts` for one policy file. 0 with the policy, or a negative errno; *r may say why. */
static int run_sts(const struct frame *request, int authorities, struct sts_policy *ret, struct sts_result *r)
{
    struct chain_spec spec = {CHAIN_SPEC("sts"), .has_control = true};
    struct chain_child child = CHAIN_CHILD_NONE;
    _cleanup_frame_ struct frame reply = FRAME_INIT;
    int e;

    spec.fds[2] = sandbox_is_built() ? CHAIN_NULL : CHAIN_KEEP;
    e = chain_spawn(&spec, &child);
    if (e < 0)
        return e;
    e = frame_send(child.control, request, authorities);
    if (e == 0)
        e = frame_recv(child.control, &reply, FETCH_MS);
    if (e == 0)
        e = take_reply(&reply, ret, r);
    (void)chain_end(&child, END_MS);
    return e;
}

/* FRAME_STS_FETCH and its answer. */
static int fetch(const struct conf *conf, struct dns *dns, const char *domain, struct sts_policy *ret,
                 struct sts_result *r)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    _cleanup_close_ int authorities = open_authorities(conf);
    int e = authorities < 0 ? authorities : 0;

    frame_begin(&f, FRAME_STS_FETCH);
    if (e == 0)
        e = frame_put_str(&f, str_from(domain));
    if (e == 0)
        e = put_addresses(dns, domain, &f);
    if (e == 0)
        e = run_sts(&f, authorities, ret, r);
    if (e < 0 && !r->failure)
        fail(r, STS_RESULT_FETCH, "%s", e == -EADDRNOTAVAIL ? "the policy host has no address" : strerror(-e));
    return e;
}

/* ---- deciding ---- */

static bool is_fresh(const struct sts_entry *e, int64_t now)
{
    return e->fetched > 0 && e->fetched <= now && now - e->fetched < e->policy.max_age;
}

/* Is there something new to fetch, and was it not tried just now? */
static bool is_fetch_due(const struct sts_entry *e, const char *id, int64_t now)
{
    if (e->failed > 0 && strcmp(e->failed_id, id) == 0 && now >= e->failed && now - e->failed < STS_RETRY)
        return false;
    return !is_fresh(e, now) || strcmp(e->id, id) != 0 || now - e->fetched >= STS_REFRESH;
}

static void renew(const struct conf *conf, struct dns *dns, const char *domain, const char *id, struct sts_entry *e,
                  struct sts_result *r)
{
    int64_t now = clock_now(&conf->clock);
    int error;

    if (!is_fetch_due(e, id, now))
        return;
    if (fetch(conf, dns, domain, &e->policy, r) == 0) {
        e->fetched = now;
        e->failed = 0;
        e->failed_id[0] = '\0';
        (void)snprintf(e->id, sizeof(e->id), "%s", id);
    } else {
        e->failed = now;
        (void)snprintf(e->failed_id, sizeof(e->failed_id), "%s", id);
    }
    error = sts_cache_write(conf, domain, e);
    if (error < 0 && !r->failure)
        fail(r, NULL, "%s: %s", conf->sts_cache, strerror(-error));
}

void sts_find(const struct conf *conf, struct dns *dns, struct str domain, struct sts_result *ret)
{
    _cleanup_free_ struct sts_entry *e = calloc(1, sizeof(*e));
    struct dns_question name = DNS_QUESTION(DNS_TXT); /* for its spelling: lower case, no final dot */
    char id[STS_ID + 1] = "";
    uint8_t bytes[16];
    size_t len = 0;

    *ret = (struct sts_result){.policy = {.mode = STS_NONE}};
    if (!e || !conf->mta_sts || dns_question_name(&name, domain) < 0 || dns_address_parse(domain, bytes, &len) == 0)
        return; /* what is no name has no policy */
    if (sts_cache_read(conf, name.name, e) < 0)
        *e = (struct sts_entry){0};
    if (find_record(dns, name.name, id))
        renew(conf, dns, name.name, id, e, ret);
    if (!is_fresh(e, clock_now(&conf->clock)))
        return;
    ret->policy = e->policy;
    ret->is_found = true;
    (void)snprintf(ret->id, sizeof(ret->id), "%s", e->id);
}

const char *sts_policy_type(const struct sts_result *r)
{
    return r->is_found ? "sts" : "no-policy-found";
}
