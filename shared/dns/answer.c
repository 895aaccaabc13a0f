/*
 * Questions and answers as frames. Runs in `resolve` and, as the judge of what it says, in the trusted process.
 */
#include "shared/dns/answer.h"

#include <errno.h>

#include "shared/dns/name.h"
#include "shared/io/frame_types.h"

#define REASON_MAX       200
#define MILLISECONDS_MAX 300000

void dns_answer_finish(struct dns_answer *a)
{
    buf_finish(&a->memory);
    *a = DNS_ANSWER_INIT;
}

bool dns_type_is_known(uint32_t type)
{
    switch (type) {
    case DNS_A:
    case DNS_CNAME:
    case DNS_PTR:
    case DNS_MX:
    case DNS_TXT:
    case DNS_AAAA:
    case DNS_TLSA:
        return true;
    default:
        return false;
    }
}

int dns_ask_encode(const struct dns_ask *q, struct frame *f)
{
    int r;

    frame_begin(f, FRAME_DNS_QUESTION);
    r = frame_put_u32(f, q->id);
    if (r == 0)
        r = frame_put_u32(f, q->type);
    if (r == 0)
        r = frame_put_str(f, q->name);
    return r < 0 ? r : frame_put_u32(f, q->milliseconds);
}

int dns_ask_decode(const struct frame *f, struct dns_ask *ret)
{
    struct frame_reader in = frame_read(f);
    struct dns_ask q = {0};
    uint32_t type = 0;

    if (f->type != FRAME_DNS_QUESTION || f->fd >= 0 || frame_get_u32(&in, &q.id) < 0 || frame_get_u32(&in, &type) < 0 ||
        frame_get_str(&in, DNS_NAME_MAX, &q.name) < 0 || frame_get_u32(&in, &q.milliseconds) < 0 ||
        frame_end(&in) < 0 || !dns_type_is_known(type) || !dns_name_is_host(q.name) ||
        q.milliseconds > MILLISECONDS_MAX)
        return -EBADMSG;
    q.type = (enum dns_type)type;
    *ret = q;
    return 0;
}

static int put_record(struct frame *f, const struct dns_record *record)
{
    int r = frame_put_u32(f, record->preference);

    if (r == 0)
        r = frame_put_u32(f, record->usage);
    if (r == 0)
        r = frame_put_u32(f, record->selector);
    if (r == 0)
        r = frame_put_u32(f, record->matching);
    return r < 0 ? r : frame_put_str(f, record->data);
}

int dns_answer_encode(uint32_t id, const struct dns_answer *a, struct frame *f)
{
    int r;

    frame_begin(f, FRAME_DNS_ANSWER);
    r = frame_put_u32(f, id);
    if (r == 0)
        r = frame_put_u32(f, a->status);
    if (r == 0)
        r = frame_put_u32(f, a->is_secure);
    if (r == 0)
        r = frame_put_u32(f, a->ttl);
    if (r == 0)
        r = frame_put_str(f, a->canonical);
    if (r == 0)
        r = frame_put_str(f, str_sub(a->reason, 0, REASON_MAX));
    if (r == 0)
        r = frame_put_u32(f, (uint32_t)a->count);
    for (size_t i = 0; i < a->count && r == 0; i++)
        r = put_record(f, &a->records[i]);
    return r;
}

int dns_answer_id(const struct frame *f, uint32_t *ret)
{
    struct frame_reader in = frame_read(f);

    return f->type != FRAME_DNS_ANSWER || f->fd >= 0 ? -EBADMSG : frame_get_u32(&in, ret);
}

/* Numbers that only some types have are zero in the others. */
static bool is_plain(const struct dns_record *r)
{
    return r->preference == 0 && r->usage == 0 && r->selector == 0 && r->matching == 0;
}

static bool is_sound(enum dns_type type, const struct dns_record *r)
{
    switch (type) {
    case DNS_A:
        return is_plain(r) && r->data.len == 4;
    case DNS_AAAA:
        return is_plain(r) && r->data.len == 16;
    case DNS_MX:
        return r->usage == 0 && r->selector == 0 && r->matching == 0 && (r->data.len == 0 || dns_name_is_host(r->data));
    case DNS_PTR:
    case DNS_CNAME:
        return is_plain(r) && dns_name_is_host(r->data);
    case DNS_TXT:
        return is_plain(r) && r->data.len <= LIMIT_DNS_TEXT;
    case DNS_TLSA:
        return r->preference == 0 && r->data.len > 0 && r->data.len <= LIMIT_DNS_TEXT;
    }
    return false;
}

static int get_record(struct frame_reader *in, enum dns_type type, struct dns_record *ret)
{
    uint32_t preference = 0;
    uint32_t usage = 0;
    uint32_t selector = 0;
    uint32_t matching = 0;
    struct str data;

    if (frame_get_u32(in, &preference) < 0 || preference > UINT16_MAX || frame_get_u32(in, &usage) < 0 ||
        usage > UINT8_MAX || frame_get_u32(in, &selector) < 0 || selector > UINT8_MAX ||
        frame_get_u32(in, &matching) < 0 || matching > UINT8_MAX || frame_get_str(in, LIMIT_DNS_TEXT, &data) < 0)
        return -EBADMSG;
    *ret = (struct dns_record){.preference = (uint16_t)preference,
                               .usage = (uint8_t)usage,
                               .selector = (uint8_t)selector,
                               .matching = (uint8_t)matching,
                               .data = data};
    return is_sound(type, ret) ? 0 : -EBADMSG;
}

static bool is_printable(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < ' ' || (unsigned char)s.ptr[i] > '~')
            return false;
    return true;
}

static int get_answer(struct frame_reader *in, enum dns_type type, struct dns_answer *a)
{
    uint32_t id = 0;
    uint32_t status = 0;
    uint32_t is_secure = 0;
    uint32_t count = 0;

    if (frame_get_u32(in, &id) < 0 || frame_get_u32(in, &status) < 0 || status > DNS_FAILED ||
        frame_get_u32(in, &is_secure) < 0 || is_secure > 1 || frame_get_u32(in, &a->ttl) < 0 ||
        frame_get_str(in, DNS_NAME_MAX, &a->canonical) < 0 || frame_get_str(in, REASON_MAX, &a->reason) < 0 ||
        frame_get_u32(in, &count) < 0 || count > LIMIT_DNS_RECORDS)
        return -EBADMSG;
    if ((a->canonical.len > 0 && !dns_name_is_host(a->canonical)) || !is_printable(a->reason) ||
        (status == DNS_OK) != (count > 0))
        return -EBADMSG;
    for (size_t i = 0; i < count; i++)
        if (get_record(in, type, &a->records[i]) < 0)
            return -EBADMSG;
    a->status = (enum dns_status)status;
    a->is_secure = is_secure == 1;
    a->count = count;
    return frame_end(in);
}

int dns_answer_decode(struct frame *f, enum dns_type type, struct dns_answer *ret)
{
    struct frame_reader in = frame_read(f);
    struct dns_answer a = DNS_ANSWER_INIT;

    if (f->type != FRAME_DNS_ANSWER || f->fd >= 0 || get_answer(&in, type, &a) < 0)
        return -EBADMSG;
    a.memory = f->payload; /* the views stay good */
    f->payload = BUF_INIT(LIMIT_FRAME);
    *ret = a;
    return 0;
}
