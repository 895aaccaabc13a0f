/*
 * check, IMAP: finds the messages that were sent, reads one, and sees that they are gone in the end.
 */
#include <errno.h>
#include <stdio.h>

#include "handlers/admin/check.h"
#include "shared/base/macros.h"

struct answer {
    struct buf uids; /* of an untagged SEARCH, blank-separated */
    bool has_text;   /* our text was among the lines */
    bool has_uidplus;
};

/* Sends a tagged command and reads to its tagged OK. */
static int command(struct check *c, struct probe *p, const char *doing, struct answer *ret, const char *text)
{
    struct str line;
    int r = probe_send(p, "x %s", text);

    while (r == 0) {
        r = probe_line(p, &line);
        if (r < 0)
            break;
        if (str_istarts(line, STR("x OK")))
            return 0;
        if (str_istarts(line, STR("x ")))
            return check_refused(c, p, doing);
        if (ret && str_istarts(line, STR("* SEARCH")))
            (void)buf_add_str(&ret->uids, str_sub(line, 8, line.len));
        if (ret && str_find(line, STR(CHECK_BODY)) >= 0)
            ret->has_text = true;
        if (ret && str_istarts(line, STR("* CAPABILITY")) && str_ifind(line, STR(" UIDPLUS")) >= 0)
            ret->has_uidplus = true;
    }
    return check_broken(c, p, r, doing);
}

/* A quoted string (RFC 9051 4.3); bytes that it cannot hold make it a non-synchronising literal. */
static int add_string(struct buf *out, struct str s)
{
    int r = 0;
    bool is_plain = true;

    for (size_t i = 0; i < s.len; i++)
        is_plain &= s.ptr[i] != 0 && (unsigned char)s.ptr[i] < 128;
    if (!is_plain)
        return buf_printf(out, "{%zu+}\r\n%.*s", s.len, STR_ARG(s));
    r = buf_add_byte(out, '"');
    for (size_t i = 0; r == 0 && i < s.len; i++) {
        if (s.ptr[i] == '"' || s.ptr[i] == '\\')
            r = buf_add_byte(out, '\\');
        if (r == 0)
            r = buf_add_byte(out, s.ptr[i]);
    }
    return r < 0 ? r : buf_add_byte(out, '"');
}

static int login(struct check *c, const struct check_step *s, struct probe *p)
{
    _cleanup_(buf_wipe_finish) struct buf text = BUF_INIT(LIMIT_PASSWORD * 2 + 256);
    int r = check_open(c, s, "imap", "* OK", p);

    if (buf_printf(&text, "LOGIN %s ", c->account.name) < 0 || add_string(&text, buf_str(&c->account.password)) < 0)
        return check_fail(c, -ENOBUFS, "give a shorter one", "the password is too long");
    if (r == 0)
        r = command(c, p, "the login", NULL, buf_cstr(&text));
    if (r == -EPROTO && !c->hint)
        c->hint =
            "wrong password, or PAM refuses this user: journalctl -t imapd (or the mail log) has a 'login' line that "
            "says why";
    return r;
}

/* Logs in, opens INBOX and searches for our messages. */
static int find(struct check *c, const struct check_step *s, struct probe *p, struct answer *ret, unsigned *ret_count)
{
    char text[160];
    struct str rest;
    struct str word;
    unsigned n = 0;
    int r = login(c, s, p);

    if (r == 0)
        r = command(c, p, "SELECT", NULL, "SELECT INBOX");
    (void)snprintf(text, sizeof(text), "UID SEARCH HEADER %s %s", CHECK_FIELD, c->token);
    if (r == 0)
        r = command(c, p, "SEARCH", ret, text);
    if (r < 0)
        return r;
    rest = buf_str(&ret->uids);
    while (str_word(&rest, &word))
        n++;
    *ret_count = n;
    return 0;
}

/* The first UID that SEARCH named. */
static struct str first(const struct answer *a)
{
    struct str rest = buf_str(&a->uids);
    struct str word = STR_NULL;

    (void)str_word(&rest, &word);
    return word;
}

int check_imap_see(struct check *c, const struct check_step *s)
{
    _cleanup_(probe_close) struct probe p = {.fd = -1};
    struct answer a = {.uids = BUF_INIT(4096)};
    unsigned found = 0;
    char text[96];
    int r = find(c, s, &p, &a, &found);

    if (r == 0 && found == c->sent && found > 0) {
        (void)snprintf(text, sizeof(text), "UID FETCH %.*s (RFC822.SIZE BODY.PEEK[])", STR_ARG(first(&a)));
        r = command(c, &p, "FETCH", &a, text);
    }
    if (r == 0)
        r = command(c, &p, "LOGOUT", NULL, "LOGOUT");
    buf_finish(&a.uids);
    if (r < 0)
        return r;
    if (found != c->sent || (found > 0 && !a.has_text))
        return check_fail(c, -ENOMSG, "is the spool of delivery and of IMAP the same file (key spool)?",
                          "%u of %u messages found%s", found, c->sent, found == c->sent ? ", but not its text" : "");
    (void)buf_printf(&c->detail, found > 0 ? "%u found, one read" : "none was sent", found);
    return 0;
}

int check_imap_remove(struct check *c, const struct check_step *s)
{
    _cleanup_(probe_close) struct probe p = {.fd = -1};
    struct answer a = {.uids = BUF_INIT(4096)};
    _cleanup_buf_ struct buf set = BUF_INIT(4096);
    _cleanup_buf_ struct buf text = BUF_INIT(4200);
    unsigned found = 0;
    int r = find(c, s, &p, &a, &found);
    struct str rest = buf_str(&a.uids);
    struct str word;

    while (r == 0 && str_word(&rest, &word))
        r = buf_printf(&set, "%s%.*s", set.len > 0 ? "," : "", STR_ARG(word));
    if (r == 0 && found > 0) {
        r = command(c, &p, "CAPABILITY", &a, "CAPABILITY");
        (void)buf_printf(&text, "UID STORE %s +FLAGS.SILENT (\\Deleted)", buf_cstr(&set));
        if (r == 0 && !a.has_uidplus)
            r = check_fail(c, -EPROTO, "does another server hold the port? ss -ltnp shows it",
                           "without UIDPLUS only ours cannot be removed");
        if (r == 0)
            r = command(c, &p, "STORE", NULL, buf_cstr(&text));
        buf_clear(&text);
        (void)buf_printf(&text, "UID EXPUNGE %s", buf_cstr(&set));
        if (r == 0)
            r = command(c, &p, "EXPUNGE", NULL, buf_cstr(&text));
    }
    if (r == 0)
        r = command(c, &p, "LOGOUT", NULL, "LOGOUT");
    buf_finish(&a.uids);
    if (r < 0)
        return r;
    c->is_removed = true;
    (void)buf_printf(&c->detail, "%u removed", found);
    return 0;
}

int check_imap_gone(struct check *c, const struct check_step *s)
{
    _cleanup_(probe_close) struct probe p = {.fd = -1};
    struct answer a = {.uids = BUF_INIT(4096)};
    unsigned found = 0;
    int r = find(c, s, &p, &a, &found);

    if (r == 0)
        r = command(c, &p, "LOGOUT", NULL, "LOGOUT");
    buf_finish(&a.uids);
    if (r < 0)
        return r;
    if (found != 0)
        return check_fail(c, -ENOMSG,
                          "do POP3 and IMAP use the same file (key spool)? 'pennypost mbox check FILE' looks at it",
                          "%u messages are still there", found);
    (void)buf_printf(&c->detail, "nothing is left");
    return 0;
}
