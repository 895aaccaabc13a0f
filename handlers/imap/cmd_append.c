/*
 * APPEND (RFC 9051 6.3.12, RFC 3502) and REPLACE (RFC 8508): stream messages from the client into the store. Runs in
 * imap-session as the user. Nothing is visible in the mailbox before all of them have come, and OK means that they are
 * on disk.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/append_binary.h"
#include "handlers/imap/commands.h"
#include "handlers/imap/flags.h"
#include "handlers/imap/notify.h"
#include "handlers/imap/quota.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/seqset.h"
#include "handlers/imap/update.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

struct append {
    struct imap *s;
    bool is_utf8; /* inside "UTF8 (" ... ")" */
    struct str mailbox;
    struct mbox_append *to;
    uint32_t count;
    uint64_t size;  /* of all so far */
    uint64_t freed; /* REPLACE: what goes from the same mailbox; only what is more than that counts (RFC 8508 3.4) */
};

/* "No such mailbox" has its own code here (RFC 9051 7.1, TRYCREATE), and binary content too (RFC 3516 4.4). */
static int refuse(struct append *a, int error)
{
    int r;

    if (error == -ENOTSUP) {
        respond_code(a->s, "UNKNOWN-CTE");
        return respond_no(a->s, "Cannot append: there is binary content where nothing can be encoded");
    }
    r = respond_error(a->s, error, "Cannot append");
    if (error == -ENOENT)
        respond_code(a->s, "TRYCREATE");
    return r;
}

/* [SP flag-list] [SP date-time] SP literal: up to the head of the literal. */
static int parse_message(struct append *a, struct mbox_append_options *ret_options, struct parse_literal *ret_literal)
{
    struct parse *p = &a->s->parse;
    struct flag_list flags = {.system = 0};
    int r = parse_space(p);

    *ret_options = (struct mbox_append_options){.size_max = a->s->conf->message_size};
    if (r >= 0 && parse_peek(p) == '(') {
        r = flags_parse(a->s, true, &flags);
        if (r >= 0)
            r = parse_space(p);
    }
    if (r >= 0 && parse_peek(p) == '"') {
        r = parse_date_time(p, &ret_options->internaldate, &ret_options->internaldate_offset);
        /* 0 is "now" to the store; all that is before 1970 is kept as its beginning. */
        if (ret_options->internaldate == 0)
            ret_options->internaldate = -1;
        if (r >= 0)
            r = parse_space(p);
    }
    if (r < 0)
        return r;
    ret_options->flags.system = flags.system;
    ret_options->keywords = flags.keywords;
    ret_options->keyword_count = flags.keyword_count;
    /* append-data of RFC 6855 4: a message with UTF-8 in its header. */
    a->is_utf8 = (a->s->enabled & (IMAP_UTF8 | IMAP_REV2)) && parse_accept_word(p, STR("UTF8"));
    if (a->is_utf8) {
        r = parse_space(p);
        if (r >= 0)
            r = parse_char(p, '(', "a literal8 in parentheses");
        if (r < 0)
            return r;
    }
    return parse_literal_head(p, ret_literal);
}

/* One piece of the literal on its way into the store. */
static int keep(struct append *a, const struct parse_literal *literal, struct append_binary *binary, struct str bytes)
{
    if (binary)
        return append_binary_write(binary, bytes);
    /* RFC 9051 9: only a literal8 carries NULs; UTF-8 text has none either. */
    if (str_has_nul(bytes))
        return literal->is_literal8 ? -ENOTSUP : -EINVAL;
    return mbox_append_write(a->to, bytes.ptr, bytes.len);
}

/* Moves the literal into the store. When that fails, the rest is read all the same: the client sends it anyway. */
static int stream(struct append *a, const struct parse_literal *literal, int *ret_error)
{
    struct append_binary file = {.fd = -1};
    struct append_binary *binary = literal->is_literal8 && !a->is_utf8 ? &file : NULL;
    int error = binary ? append_binary_begin(a->s, binary) : 0, r = 0;

    for (uint64_t left = literal->size; left > 0 && r >= 0;) {
        struct str bytes;

        r = line_peek(&a->s->in, &bytes);
        if (r < 0)
            break;
        bytes = str_sub(bytes, 0, left);
        if (error == 0)
            error = keep(a, literal, binary, bytes);
        left -= bytes.len;
        line_consume(&a->s->in, bytes.len);
    }
    if (r >= 0 && error == 0 && binary)
        error = append_binary_end(binary, a->to);
    append_binary_finish(&file);
    *ret_error = error;
    return r < 0 ? r : 0;
}

/* One message of the command. A negative errno, OUTCOME_NO when it was refused, else 0. */
static int take_message(struct append *a)
{
    struct imap *s = a->s;
    struct mbox_append_options options;
    struct parse_literal literal;
    int error, r = parse_message(a, &options, &literal);

    if (r < 0)
        return r;
    if (a->is_utf8 && !literal.is_literal8)
        return parse_fail(&s->parse, "a literal8");
    /* Refused before the client has sent it; what it sends without asking is dropped by the driver. */
    if (literal.size > s->conf->message_size)
        return refuse(a, -EFBIG);
    a->size += literal.size;
    r = a->size <= a->freed ? 0 : quota_check(s, a->mailbox, a->size - a->freed);
    if (r < 0)
        return refuse(a, r);
    if (literal.size == 0)
        return respond_no(s, "Cannot append an empty message");
    if (!a->to) {
        r = mbox_append_new(s->store, a->mailbox, &a->to);
        if (r < 0)
            return refuse(a, r);
    }
    r = mbox_append_message(a->to, &options);
    if (r < 0)
        return refuse(a, r);
    r = parse_literal_accept(&s->parse, &literal);
    if (r >= 0)
        r = stream(a, &literal, &error);
    if (r >= 0)
        r = parse_continue(&s->parse);
    if (r >= 0 && a->is_utf8)
        r = parse_char(&s->parse, ')', "a closing parenthesis");
    if (r < 0)
        return r;
    a->count++;
    if (error == -EINVAL)
        return parse_fail(&s->parse, "a literal without NUL, or a literal8");
    return error < 0 ? refuse(a, error) : 0;
}

/* The new messages, and the first of their UIDs, are the client's own doing. */
static void own_added(struct append *a, uint32_t first)
{
    struct imap *s = a->s;

    notify_own(s, a->mailbox, a->count, 0);
    if (first && s->box && str_eq(a->mailbox, mbox_name(s->box)))
        (void)numset_add(&s->own.added, first, first + a->count - 1);
}

static int commit(struct append *a)
{
    uint32_t uidvalidity = 0, first = 0;
    int r = mbox_append_commit(a->to, &uidvalidity, &first);

    if (r < 0)
        return refuse(a, r);
    own_added(a, first);
    if (first && a->count > 1)
        respond_code(a->s, "APPENDUID %" PRIu32 " %" PRIu32 ":%" PRIu32, uidvalidity, first, first + a->count - 1);
    else if (first)
        respond_code(a->s, "APPENDUID %" PRIu32 " %" PRIu32, uidvalidity, first);
    return OUTCOME_OK;
}

int cmd_append(void *session, struct str arguments)
{
    struct imap *s = session;
    struct append a = {.s = s};
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_mailbox(&s->parse, &a.mailbox);
    if (r < 0)
        return r;
    do
        r = take_message(&a);
    while (r == 0 && parse_peek(&s->parse) == ' ' && a.count < LIMIT_ARGUMENTS);
    if (r == 0)
        r = parse_end(&s->parse);
    if (r == 0)
        r = commit(&a);
    mbox_append_free(a.to);
    return r;
}

/* seq-number: of the message to replace. ret->uid is 0 when there is none of that UID. */
static int parse_replaced(struct imap *s, struct mbox_info *ret)
{
    struct parse *p = &s->parse;
    struct str before = p->rest;
    uint32_t seq = mbox_count(s->box), number;
    int r;

    *ret = (struct mbox_info){.uid = 0};
    if (!parse_accept(p, '*')) {
        r = parse_nz_number(p, s->is_uid ? "a UID or *" : "the number of a message or *", &number);
        if (r < 0)
            return r;
        seq = s->is_uid ? mbox_seq(s->box, number) : number;
    }
    if (seq != 0 && seq <= mbox_count(s->box))
        return mbox_info(s->box, seq, ret);
    if (s->is_uid)
        return 0;
    p->rest = before;
    return seqset_refuse(s);
}

/* Each step is durable before the next, so that the message is there in its old or its new form, or for a moment in
 * both. An old one that somebody else has removed meanwhile is gone as it should be. */
static int replace(struct append *a, uint32_t old)
{
    struct imap *s = a->s;
    _cleanup_numset_ struct numset uids = NUMSET_INIT, gone = NUMSET_INIT;
    uint32_t uidvalidity = 0, uid = 0;
    int r = numset_add(&uids, old, old);

    if (r >= 0)
        r = mbox_append_commit(a->to, &uidvalidity, &uid);
    if (r < 0)
        return refuse(a, r);
    own_added(a, uid);
    /* RFC 8508 4.3: before the EXPUNGE. */
    if (uid)
        (void)writer_printf(&s->out, "* OK [APPENDUID %" PRIu32 " %" PRIu32 "] The new message is stored\r\n",
                            uidvalidity, uid);
    r = mbox_remove(s->box, &uids, &gone);
    if (r < 0)
        return respond_error(s, r, "The new message is stored, the old one cannot be removed");
    if (gone.count > 0)
        update_send_gone(s); /* RFC 8508 4.5 */
    return OUTCOME_OK;
}

int cmd_replace(void *session, struct str arguments)
{
    struct imap *s = session;
    struct append a = {.s = s};
    struct mbox_info old;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_replaced(s, &old);
    if (r >= 0)
        r = parse_space(&s->parse);
    if (r >= 0)
        r = parse_mailbox(&s->parse, &a.mailbox);
    if (r < 0)
        return r;
    if (mbox_is_readonly(s->box))
        return respond_error(s, -EROFS, "Cannot replace");
    if (old.uid == 0 || old.is_expunged) {
        respond_code(s, old.uid ? "EXPUNGEISSUED" : "NONEXISTENT");
        return respond_no(s, "The message to be replaced is not there");
    }
    if (str_eq(a.mailbox, mbox_name(s->box)))
        a.freed = old.size;
    r = take_message(&a);
    if (r == 0)
        r = parse_end(&s->parse);
    if (r == 0)
        r = replace(&a, old.uid);
    mbox_append_free(a.to);
    return r;
}
