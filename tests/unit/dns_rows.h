/*
 * A resolver that a unit test plays: a child process that answers the frames of shared/dns from a table. Include it
 * behind cmocka.h.
 */
#ifndef UNIT_DNS_ROWS_H
#define UNIT_DNS_ROWS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "shared/dns/dns.h"

/* Records as text: "10 mail.test" for an MX, "192.0.2.1", "3 1 1 d" (32 times that byte), a name; several separated by
 * "|". */
struct row {
    enum dns_type type;
    const char *name;
    enum dns_status status;
    bool is_secure;
    const char *canonical;
    const char *records;
};

static void add_record(struct dns_answer *a, enum dns_type type, struct str text)
{
    struct dns_record *r = &a->records[a->count++];
    struct str word;
    uint32_t n = 0;
    uint8_t bytes[64];
    size_t len = 0;

    if (type == DNS_MX) {
        assert_true(str_word(&text, &word));
        assert_int_equal(str_to_u32(word, &n), 0);
        r->preference = (uint16_t)n;
        text = str_trim(text);
        len = str_eq(text, STR(".")) ? 0 : text.len;
        memcpy(bytes, text.ptr, len);
    } else if (type == DNS_A || type == DNS_AAAA) {
        assert_int_equal(dns_address_parse(text, bytes, &len), 0);
    } else if (type == DNS_TLSA) {
        uint8_t *numbers[] = {&r->usage, &r->selector, &r->matching};

        for (size_t i = 0; i < 3; i++) {
            assert_true(str_word(&text, &word) && str_to_u32(word, &n) == 0);
            *numbers[i] = (uint8_t)n;
        }
        len = r->matching == 1 ? 32 : 5;
        memset(bytes, str_trim(text).ptr[0], len);
    } else {
        len = text.len;
        memcpy(bytes, text.ptr, len);
    }
    assert_int_equal(buf_add(&a->memory, bytes, len), 0);
    r->data = (struct str){a->memory.data + a->memory.len - len, len};
}

static void make_answer(const struct row *row, enum dns_type type, struct str name, struct dns_answer *a)
{
    struct str rest = str_from(row ? row->records : NULL), one;
    bool is_more = rest.len > 0;

    a->status = row ? row->status : DNS_NXDOMAIN;
    a->is_secure = row && row->is_secure;
    a->canonical = row && row->canonical ? str_from(row->canonical) : name;
    a->reason = a->status == DNS_FAILED ? STR("the test says so") : STR("");
    a->ttl = 60;
    assert_int_equal(buf_reserve(&a->memory, 8192), 0);
    while (is_more) {
        is_more = str_cut(&rest, '|', &one);
        add_record(a, type, str_trim(one));
    }
}

static void play(int control, const struct row *rows, size_t count)
{
    for (;;) {
        _cleanup_frame_ struct frame f = FRAME_INIT;
        _cleanup_frame_ struct frame out = FRAME_INIT;
        struct dns_answer a = DNS_ANSWER_INIT;
        const struct row *found = NULL;
        struct dns_ask ask;

        if (frame_recv(control, &f, -1) < 0 || dns_ask_decode(&f, &ask) < 0)
            _exit(0);
        for (size_t i = 0; i < count; i++)
            if (rows[i].type == ask.type && str_eq(str_from(rows[i].name), ask.name))
                found = &rows[i];
        make_answer(found, ask.type, ask.name, &a);
        if (dns_answer_encode(ask.id, &a, &out) < 0 || frame_send(control, &out, -1) < 0)
            _exit(1);
        dns_answer_finish(&a);
    }
}

/* *d answers from the table until dns_finish(). */
static void start(struct dns *d, const struct conf *conf, const struct row *rows, size_t count)
{
    int pair[2];

    dns_init(d, conf);
    d->timeout_ms = 60000; /* a busy machine */
    assert_int_equal(frame_pair(pair), 0);
    d->child.pid = fork();
    if (d->child.pid == 0) {
        (void)close(pair[0]);
        play(pair[1], rows, count);
    }
    (void)close(pair[1]);
    d->child.control = pair[0];
}

#endif
