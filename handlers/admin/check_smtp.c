/*
 * check, SMTP: hands a message in, on port 25 as a stranger, on the submission ports after a login.
 */
#include <errno.h>

#include "handlers/admin/check.h"
#include "shared/base/macros.h"
#include "shared/login/base64.h"

/* Reads a whole reply; its code, or negative. */
static int reply(struct probe *p)
{
    struct str line;
    uint32_t code;

    for (int i = 0; i < 100; i++) {
        int r = probe_line(p, &line);

        if (r < 0)
            return r;
        if (str_to_u32(str_sub(line, 0, 3), &code) < 0)
            return -EPROTO;
        if (line.len < 4 || line.ptr[3] != '-')
            return (int)code;
    }
    return -EPROTO;
}

static const char *hint_of(int code, const char *doing)
{
    if (code == 550)
        return "an unknown user: is he in /etc/passwd (getent passwd USER), and is the domain ours (key domains)?";
    if (code == 535)
        return "PAM refused the password: try it with su; look for 'login' in the log (journalctl -t smtpd)";
    if (code == 530 || code == 538)
        return "TLS first, or plaintext_auth in pennypost.conf";
    if (code >= 400 && code < 500)
        return "a temporary failure: spool folder, disk space, a lock left by another program; the log says which";
    return doing[0] == 'A' ? "does this port offer AUTH? See the log (journalctl -t smtpd)" : NULL;
}

/* Sends a command and wants a reply of this class (2 for 2xx). */
static int command(struct check *c, struct probe *p, const char *doing, int want, const char *text)
{
    int r = probe_send(p, "%s", text);

    if (r == 0)
        r = reply(p);
    if (r < 0)
        return check_broken(c, p, r, doing);
    if (r / 100 != want)
        return check_fail(c, -EPROTO, hint_of(r, doing), "%s: answered '%s'", doing, p->last);
    return 0;
}

static int login(struct check *c, struct probe *p)
{
    _cleanup_(buf_wipe_finish) struct buf plain = BUF_INIT(LIMIT_USER + LIMIT_PASSWORD + 2);
    _cleanup_(buf_wipe_finish) struct buf text = BUF_INIT(4096);

    /* RFC 4616 2: NUL name NUL password */
    if (buf_add_byte(&plain, '\0') < 0 || buf_add_str(&plain, str_from(c->account.name)) < 0 ||
        buf_add_byte(&plain, '\0') < 0 || buf_add_str(&plain, buf_str(&c->account.password)) < 0 ||
        buf_add_str(&text, STR("AUTH PLAIN ")) < 0 || base64_encode(buf_str(&plain), &text) < 0)
        return check_fail(c, -ENOBUFS, "give a shorter one", "the password is too long");
    return command(c, p, "AUTH", 2, buf_cstr(&text));
}

static int transaction(struct check *c, struct probe *p, const struct check_step *s)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    int r;

    (void)buf_printf(&text, "MAIL FROM:<%s@localhost>", c->account.name);
    r = command(c, p, "MAIL", 2, buf_cstr(&text));
    buf_clear(&text);
    (void)buf_printf(&text, "RCPT TO:<%s@localhost>", c->account.name);
    if (r == 0)
        r = command(c, p, "RCPT", 2, buf_cstr(&text));
    if (r == 0)
        r = command(c, p, "DATA", 3, "DATA");
    if (r < 0)
        return r;
    buf_clear(&text);
    (void)buf_printf(&text, "From: pennypost check <%s@localhost>\r\nTo: <%s@localhost>\r\nSubject: %s\r\n",
                     c->account.name, c->account.name, s->name);
    (void)buf_add_str(&text, STR("Date: "));
    (void)clock_rfc5322(&c->conf->clock, clock_now(&c->conf->clock), &text);
    (void)buf_printf(&text, "\r\nMessage-ID: <%s.%u@pennypost.invalid>\r\n%s: %s\r\n\r\n%s\r\n.", c->token, c->sent,
                     CHECK_FIELD, c->token, CHECK_BODY);
    r = command(c, p, "the message", 2, buf_cstr(&text));
    if (r < 0)
        return r;
    c->sent++;
    (void)buf_printf(&c->detail, "%s", p->last);
    return 0;
}

int check_smtp_send(struct check *c, const struct check_step *s)
{
    _cleanup_(probe_close) struct probe p = {.fd = -1};
    int r = check_open(c, s, "smtp", "220", &p);

    if (r == 0)
        r = command(c, &p, "EHLO", 2, "EHLO localhost");
    if (r == 0 && s->service != CHECK_SMTP)
        r = login(c, &p);
    if (r == 0)
        r = transaction(c, &p, s);
    if (r == 0)
        r = command(c, &p, "QUIT", 2, "QUIT");
    return r;
}
