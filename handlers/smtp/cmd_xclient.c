/*
 * XCLIENT, as Postfix defined it: a trusted client (a proxy, a filter, a tester) says for whom it speaks. Part of
 * smtp-session.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "handlers/smtp/session.h"
#include "shared/queue/xtext.h"
#include "shared/route/path.h"

struct xclient {
    char name[LIMIT_DOMAIN + 1];
    char address[LIMIT_ADDRESS];
    uint16_t port;
};

/* xtext (RFC 3461 4) into a C string. */
static int decode(struct str value, char *out, size_t size)
{
    _cleanup_buf_ struct buf plain = BUF_INIT(size - 1);
    int e = xtext_decode(value, &plain);

    if (e < 0)
        return -EINVAL;
    memcpy(out, buf_cstr(&plain), plain.len + 1);
    return 0;
}

static bool is_unknown(struct str value)
{
    return str_ieq(value, STR("[UNAVAILABLE]")) || str_ieq(value, STR("[TEMPUNAVAIL]"));
}

static int take_name(struct str value, struct xclient *x)
{
    if (is_unknown(value)) {
        x->name[0] = '\0';
        return 0;
    }
    return decode(value, x->name, sizeof(x->name)) < 0 || !path_is_helo(str_from(x->name)) ? -EINVAL : 0;
}

/* It will stand in the trace field: nothing but an address, no zone behind it. */
static int take_address(struct str value, struct xclient *x)
{
    if (str_istarts(value, STR("IPV6:")))
        value = str_sub(value, 5, value.len);
    if (decode(value, x->address, sizeof(x->address)) < 0)
        return -EINVAL;
    return x->address[strspn(x->address, "0123456789abcdefABCDEF:.")] == '\0' ? 0 : -EINVAL;
}

static int take_port(struct str value, struct xclient *x)
{
    uint32_t port = 0;

    if (is_unknown(value))
        return 0;
    if (str_to_u32(value, &port) < 0 || port > UINT16_MAX)
        return -EINVAL;
    x->port = (uint16_t)port;
    return 0;
}

static int take_attribute(struct str word, struct xclient *x)
{
    static const struct {
        struct str name;
        int (*take)(struct str value, struct xclient *x);
    } attributes[] = {{{"NAME", 4}, take_name}, {{"ADDR", 4}, take_address}, {{"PORT", 4}, take_port}};
    struct str name;

    if (!str_cut(&word, '=', &name))
        return -EINVAL;
    for (size_t i = 0; i < ARRAY_SIZE(attributes); i++)
        if (str_ieq(name, attributes[i].name))
            return attributes[i].take(word, x);
    return -EINVAL;
}

static int parse(struct str arguments, struct xclient *x)
{
    struct str word;

    while (str_word(&arguments, &word))
        if (take_attribute(word, x) < 0)
            return -EINVAL;
    return x->address[0] ? 0 : -EINVAL;
}

int cmd_xclient(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    struct xclient x = {0};
    struct smtp_answer answer;
    int e;

    if (!s->can_xclient || s->user) {
        session_reply(s, 550, "5.7.0", "You are not believed");
        return 0;
    }
    if (parse(arguments, &x) < 0) {
        session_reply(s, 501, "5.5.4", "Like XCLIENT ADDR=192.0.2.1 [NAME=host] [PORT=number]");
        return 0;
    }
    e = s->backend.xclient(s->backend.context, str_from(x.address), x.port, &answer);
    if (e < 0)
        return e;
    if (answer_is_ok(&answer) && s->learn_facts)
        e = session_learn_facts(s);
    if (e < 0)
        return e;
    if (answer_is_ok(&answer)) {
        (void)snprintf(s->peer, sizeof(s->peer), "%s", x.address);
        (void)snprintf(s->name, sizeof(s->name), "%s", x.name);
        s->can_xclient = false; /* once */
        s->is_near = s->is_pipe;
        s->state = SMTP_START;
        buf_clear(&s->helo);
    }
    session_answer(s, &answer);
    return 0;
}
