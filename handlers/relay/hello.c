/*
 * Greeting, EHLO, STARTTLS. Runs in relay-session.
 */
#include "handlers/relay/hello.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "shared/base/clock.h"

#define QUIT_MS 5000 /* nothing depends on the answer to QUIT */

static int refuse(struct talk_ready *ret, enum talk_status status, const struct talk_reply *reply)
{
    ret->status = status;
    ret->reply = *reply;
    if (reply->code / 100 == 3) { /* has no place here */
        ret->reply.code = 451;
        (void)snprintf(ret->reply.enhanced, sizeof(ret->reply.enhanced), "4.5.0");
    }
    return -ECANCELED;
}

/* TLS is demanded and cannot be: a temporary failure, since servers get mended (RFC 7672 2.2, RFC 8461 5). */
static int refuse_tls(struct talk_ready *ret, enum talk_status status, const char *what, const char *why)
{
    struct talk_reply reply;

    talk_reply_set(&reply, TALK_STARTTLS, 454, "4.7.5", "%s%s%s", what, why[0] ? ": " : "", why);
    return refuse(ret, status, &reply);
}

static int greeting(struct wire *w, struct talk_ready *ret)
{
    struct talk_reply reply;

    if (wire_reply(w, TALK_GREETING, &reply) < 0)
        return refuse(ret, TALK_LOST, &reply);
    return reply.code / 100 == 2 ? 0 : refuse(ret, TALK_REFUSED, &reply);
}

/* RFC 5321 3.2: EHLO, and HELO for those who do not know it. */
static int hello(struct wire *w, const struct talk_host *host, struct talk_ready *ret)
{
    struct talk_reply reply;

    wire_command(w, "EHLO %.*s", STR_ARG(host->helo));
    if (wire_reply_ehlo(w, &reply) < 0)
        return refuse(ret, TALK_LOST, &reply);
    if (reply.code / 100 == 2)
        return 0;
    w->ehlo = (struct ehlo){0};
    if (reply.code / 100 != 5)
        return refuse(ret, TALK_REFUSED, &reply);
    wire_command(w, "HELO %.*s", STR_ARG(host->helo));
    if (wire_reply(w, TALK_HELLO, &reply) < 0)
        return refuse(ret, TALK_LOST, &reply);
    return reply.code / 100 == 2 ? 0 : refuse(ret, TALK_REFUSED, &reply);
}

/* What of the policy OpenSSL has to check. RFC 7672 2.2: TLSA records that are all unusable demand TLS all the same. */
static int prepare(struct wire *w, const struct talk_host *host, int trust, enum client_verify *ret_verify)
{
    enum client_verify verify = host->tls == TALK_TLS_VERIFY ? CLIENT_VERIFY_NAMES
                                : host->tls == TALK_TLS_DANE ? CLIENT_VERIFY_DANE
                                                             : CLIENT_VERIFY_NONE;
    bool is_name = host->name.len > 0 && host->name.ptr[0] != '[';
    unsigned usable = 0;
    int r = client_new(verify, is_name ? host->name : STR(""), &w->tls);
    struct str names = host->names, name;

    for (uint32_t i = 0; r == 0 && verify == CLIENT_VERIFY_DANE && i < host->tlsa_count; i++)
        usable += client_tlsa(w->tls, host->tlsa[i].usage, host->tlsa[i].selector, host->tlsa[i].matching,
                              host->tlsa[i].data) == 0;
    if (r == 0 && verify == CLIENT_VERIFY_DANE && usable == 0) {
        client_free(w->tls);
        w->tls = NULL;
        verify = CLIENT_VERIFY_NONE;
        r = client_new(verify, is_name ? host->name : STR(""), &w->tls);
    }
    while (r == 0 && verify != CLIENT_VERIFY_NONE && str_word(&names, &name))
        r = client_name(w->tls, name);
    if (r == 0 && verify == CLIENT_VERIFY_NAMES)
        r = trust >= 0 ? client_trust(w->tls, trust) : -ENOENT;
    *ret_verify = verify;
    return r;
}

static int start_tls(struct wire *w, const struct talk_host *host, int trust, struct talk_ready *ret)
{
    bool is_needed = host->tls >= TALK_TLS_ENCRYPT;
    enum client_verify verify;
    char why[CLIENT_WHY] = "";
    int r = prepare(w, host, trust, &verify);

    if (r == -ENOMEM)
        return r;
    if (r < 0)
        return refuse_tls(ret, TALK_NO_TLS, "the trusted authorities or the names to verify are not usable",
                          strerror(-r));
    w->transport.deadline = clock_monotonic_ms() + (int64_t)w->percent * 10 * TIMEOUT_PREAUTH;
    r = client_handshake(w->tls, &w->transport, why);
    if (r < 0)
        return refuse_tls(ret, is_needed ? TALK_NO_TLS : TALK_TLS_BAD, "TLS handshake failed", why);
    (void)snprintf(ret->tls, sizeof(ret->tls), "%s %s", client_version(w->tls), client_cipher(w->tls));
    ret->is_verified = verify != CLIENT_VERIFY_NONE;
    return 0;
}

/* RFC 3207. What comes behind the 220 in the same breath came in the clear, from anybody: the connection is given up,
 * and nothing of it is believed (CVE-2011-0411 seen from the client's side). */
static int ask_tls(struct wire *w, const struct talk_host *host, int trust, struct talk_ready *ret)
{
    struct talk_reply reply;

    wire_command(w, "STARTTLS");
    if (wire_reply(w, TALK_STARTTLS, &reply) < 0)
        return host->tls >= TALK_TLS_ENCRYPT ? refuse(ret, TALK_NO_TLS, &reply) : refuse(ret, TALK_TLS_BAD, &reply);
    if (reply.code != 220) {
        if (host->tls >= TALK_TLS_ENCRYPT)
            return refuse_tls(ret, TALK_NO_TLS, "the server refuses STARTTLS", reply.text);
        return w->is_closing ? refuse(ret, TALK_REFUSED, &reply) : 0;
    }
    if (line_buffered(&w->in).len > 0) {
        line_discard(&w->in);
        return refuse_tls(ret, host->tls >= TALK_TLS_ENCRYPT ? TALK_NO_TLS : TALK_TLS_BAD,
                          "the server said more than the answer to STARTTLS in the clear", "");
    }
    return start_tls(w, host, trust, ret);
}

static int begin(struct wire *w, const struct talk_host *host, int trust, struct talk_ready *ret)
{
    int r = host->is_implicit ? start_tls(w, host, trust, ret) : 0;

    if (r == 0)
        r = greeting(w, ret);
    if (r == 0)
        r = hello(w, host, ret);
    if (r < 0 || host->is_implicit)
        return r;
    if (host->tls != TALK_TLS_NONE && (w->ehlo.extensions & TALK_STARTTLS_OFFERED)) {
        r = ask_tls(w, host, trust, ret);
        /* RFC 3207 4.2: everything heard before is forgotten. */
        return r == 0 && w->tls && ret->tls[0] ? hello(w, host, ret) : r;
    }
    return host->tls >= TALK_TLS_ENCRYPT ? refuse_tls(ret, TALK_NO_TLS, "the server offers no STARTTLS", "") : 0;
}

int hello_run(struct wire *w, const struct talk_host *host, int trust, struct talk_ready *ret)
{
    int r;

    *ret = (struct talk_ready){.status = TALK_READY};
    talk_reply_set(&ret->reply, TALK_HELLO, 250, "2.0.0", "ready");
    r = begin(w, host, trust, ret);
    if (r == 0 && host->login != TALK_LOGIN_NONE)
        r = auth_run(w, host, ret);
    ret->extensions = w->ehlo.extensions;
    ret->size = w->ehlo.size;
    return r == -ECANCELED ? 0 : r;
}

void hello_quit(struct wire *w)
{
    int64_t end = clock_monotonic_ms() + QUIT_MS;
    struct str bytes;

    if (w->is_gone || w->is_closing)
        return;
    wire_command(w, "QUIT");
    w->transport.deadline = end;
    /* RFC 5321 4.1.1.10: wait for the answer; that it is not waited for long is for the sake of the others. */
    if (line_peek(&w->in, &bytes) == 0 && w->tls)
        client_shutdown(w->tls, &w->transport);
}
