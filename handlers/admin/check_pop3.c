/*
 * check, POP3: finds the messages that were sent, reads one, and removes exactly these.
 */
#include <errno.h>

#include "handlers/admin/check.h"
#include "shared/base/macros.h"

#define NEWEST 50 /* messages looked at from the end: in a full mailbox ours are the newest */

/* Sends a command and wants +OK. */
static int command(struct check *c, struct probe *p, const char *doing, const char *text)
{
    struct str line;
    int r = probe_send(p, "%s", text);

    if (r == 0)
        r = probe_line(p, &line);
    if (r < 0)
        return check_broken(c, p, r, doing);
    return str_starts(line, STR("+OK")) ? 0 : check_refused(c, p, doing);
}

/* TOP or RETR of one message: is our token in its header, our text in its body? */
static int look(struct check *c, struct probe *p, bool is_whole, uint32_t number, bool *ret_is_ours, bool *ret_has_text)
{
    _cleanup_buf_ struct buf text = BUF_INIT(256);
    struct str line;
    bool is_ours = false;
    bool has_text = false;
    int r;

    (void)buf_printf(&text, is_whole ? "RETR %u" : "TOP %u 0", number);
    r = command(c, p, buf_cstr(&text), buf_cstr(&text));
    if (r < 0)
        return r;
    for (;;) {
        r = probe_line(p, &line);
        if (r < 0)
            return check_broken(c, p, r, buf_cstr(&text));
        if (str_eq(line, STR(".")))
            break;
        if (str_istarts(line, STR(CHECK_FIELD ":")) && str_find(line, str_from(c->token)) >= 0)
            is_ours = true;
        if (str_eq(line, STR(CHECK_BODY)))
            has_text = true;
    }
    *ret_is_ours = is_ours;
    *ret_has_text = has_text;
    return 0;
}

static int login(struct check *c, const struct check_step *s, struct probe *p)
{
    _cleanup_(buf_wipe_finish) struct buf text = BUF_INIT(LIMIT_PASSWORD + 16);
    int r = check_open(c, s, "pop3", "+OK", p);

    (void)buf_printf(&text, "USER %s", c->account.name);
    if (r == 0)
        r = command(c, p, "USER", buf_cstr(&text));
    buf_clear(&text);
    (void)buf_printf(&text, "PASS %s", buf_cstr(&c->account.password));
    if (r == 0)
        r = command(c, p, "the login", buf_cstr(&text));
    if (r == -EPROTO && !c->hint)
        c->hint =
            "wrong password, or PAM refuses this user: journalctl -t ipop3d (or the mail log) has a 'login' line that "
            "says why; [IN-USE] means another POP3 session has the mailbox";
    return r;
}

/* Messages in the mailbox, from STAT. */
static int count(struct check *c, struct probe *p, uint32_t *ret)
{
    int r = command(c, p, "STAT", "STAT");
    struct str rest = str_from(p->last);
    struct str word = STR_NULL;

    if (r < 0)
        return r;
    if (!str_word(&rest, &word) || !str_word(&rest, &word) || str_to_u32(word, ret) < 0)
        return check_refused(c, p, "STAT");
    return 0;
}

static int visit(struct check *c, const struct check_step *s, bool is_removing)
{
    _cleanup_(probe_close) struct probe p = {.fd = -1};
    uint32_t total = 0;
    uint32_t found = 0;
    bool has_read = false;
    int r = login(c, s, &p);

    if (r == 0)
        r = count(c, &p, &total);
    for (uint32_t i = total; r == 0 && i > 0 && total - i < NEWEST && found < c->sent; i--) {
        bool is_ours = false;
        bool has_text = false;

        r = look(c, &p, false, i, &is_ours, &has_text);
        if (r < 0 || !is_ours)
            continue;
        found++;
        if (is_removing) {
            _cleanup_buf_ struct buf text = BUF_INIT(64);

            (void)buf_printf(&text, "DELE %u", i);
            r = command(c, &p, "DELE", buf_cstr(&text));
        } else if (!has_read) {
            r = look(c, &p, true, i, &is_ours, &has_text);
            has_read = has_text;
        }
    }
    if (r == 0)
        r = command(c, &p, "QUIT", "QUIT");
    if (r < 0)
        return r;
    if (found != c->sent || (!is_removing && found > 0 && !has_read))
        return check_fail(c, -ENOMSG, "is the spool of delivery and of POP3 the same file (key spool)?",
                          "%u of %u messages found%s", found, c->sent, found && !has_read ? ", but not its text" : "");
    (void)buf_printf(&c->detail,
                     is_removing ? "%u removed"
                     : found > 0 ? "%u found, one read"
                                 : "none was sent",
                     found);
    return 0;
}

int check_pop3_see(struct check *c, const struct check_step *s)
{
    return visit(c, s, false);
}

int check_pop3_remove(struct check *c, const struct check_step *s)
{
    int r = visit(c, s, true);

    c->is_removed = r == 0;
    return r;
}
