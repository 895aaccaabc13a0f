/*
 * Responses of imap-session (see respond.h). Runs as the user; writes to the client's connection only.
 */
#include "handlers/imap/respond.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mime/date.h"
#include "shared/mime/utf7.h"

#define QUOTED_MAX 256u /* longer strings go as literals */

void respond_char8(struct imap *s, struct str bytes)
{
    /* A NUL cannot be sent in a literal: it becomes 0x80, so that the octet count stays what it was announced to be. */
    while (bytes.len) {
        const char *nul = memchr(bytes.ptr, '\0', bytes.len);
        size_t n = nul ? (size_t)(nul - bytes.ptr) : bytes.len;

        if (writer_add(&s->out, bytes.ptr, n) < 0)
            return;
        if (nul)
            (void)writer_add(&s->out, "\x80", 1);
        bytes = str_sub(bytes, n + (nul ? 1 : 0), bytes.len);
    }
}

static bool can_quote(const struct imap *s, struct str value)
{
    bool has_high = false;

    if (value.len > QUOTED_MAX)
        return false;
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];

        if (c < ' ' || c == 0x7f)
            return false;
        has_high = has_high || c >= 0x80;
    }
    return !has_high || ((s->enabled & (IMAP_UTF8 | IMAP_REV2)) && utf8_valid(value));
}

void respond_string(struct imap *s, struct str value)
{
    if (!can_quote(s, value)) {
        (void)writer_printf(&s->out, "{%zu}\r\n", value.len);
        respond_char8(s, value);
        return;
    }
    (void)writer_add(&s->out, "\"", 1);
    while (value.len) {
        size_t n = 0;

        while (n < value.len && value.ptr[n] != '"' && value.ptr[n] != '\\')
            n++;
        (void)writer_add(&s->out, value.ptr, n);
        if (n < value.len) {
            (void)writer_add(&s->out, "\\", 1);
            (void)writer_add(&s->out, value.ptr + n, 1);
            n++;
        }
        value = str_sub(value, n, value.len);
    }
    (void)writer_add(&s->out, "\"", 1);
}

void respond_nstring(struct imap *s, struct str value)
{
    if (value.ptr)
        respond_string(s, value);
    else
        (void)writer_text(&s->out, "NIL");
}

void respond_astring(struct imap *s, struct str value)
{
    bool is_atom = value.len > 0 && value.len <= QUOTED_MAX;

    for (size_t i = 0; i < value.len && is_atom; i++)
        is_atom = parse_is_astring_char(value.ptr[i]);
    /* NIL as an atom would be read as an absent string. */
    if (is_atom && !str_ieq(value, STR("NIL")))
        (void)writer_str(&s->out, value);
    else
        respond_string(s, value);
}

void respond_mailbox(struct imap *s, struct str name)
{
    _cleanup_buf_ struct buf encoded = BUF_INIT(LIMIT_MAILBOX_NAME * 8);

    if (s->enabled & (IMAP_UTF8 | IMAP_REV2) || utf7_encode(name, &encoded) < 0)
        respond_astring(s, name);
    else
        respond_astring(s, buf_str(&encoded));
}

/* Makes text fit for a reply line: no control characters, no 8-bit bytes, no `]` inside a code. */
static void sanitise(struct buf *text)
{
    for (size_t i = 0; i < text->len; i++) {
        unsigned char c = (unsigned char)text->data[i];

        if (c < ' ' || c >= 0x7f)
            text->data[i] = '?';
    }
}

static _printf_(2, 0) void set_text(struct buf *to, const char *format, va_list ap)
{
    buf_clear(to);
    if (buf_vprintf(to, format, ap) < 0)
        buf_clear(to);
    sanitise(to);
}

int respond_ok(struct imap *s, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    set_text(&s->reply_text, format, ap);
    va_end(ap);
    return OUTCOME_OK;
}

int respond_no(struct imap *s, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    set_text(&s->reply_text, format, ap);
    va_end(ap);
    return OUTCOME_NO;
}

int respond_bad(struct imap *s, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    set_text(&s->reply_text, format, ap);
    va_end(ap);
    return OUTCOME_BAD;
}

void respond_code(struct imap *s, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    set_text(&s->reply_code, format, ap);
    va_end(ap);
}

/* What each class of error means to the client. */
static const struct {
    int error;
    const char *code; /* RFC 5530 3, RFC 9051 7.1 */
    const char *text;
} errors[] = {
    {-ENOENT, "NONEXISTENT", "there is no such mailbox"},
    {-EEXIST, "ALREADYEXISTS", "a mailbox of that name exists"},
    {-EINVAL, "CANNOT", "the name is not one that a mailbox can have"},
    {-ENAMETOOLONG, "CANNOT", "the name is too long"},
    {-EBADMSG, "CORRUPTION", "the file does not look like a mailbox and is left alone; ask the administrator"},
    {-ELOOP, "NOPERM", "the file is a link or not a plain file of yours"},
    {-EPERM, "NOPERM", "the file is not a plain file of yours"},
    {-EACCES, "NOPERM", "permission denied"},
    {-EROFS, "NOPERM", "the mailbox is open read-only"},
    {-EAGAIN, "INUSE", "another program holds the mailbox locked; try again"},
    {-EBUSY, "INUSE", "another session holds the mailbox; try again"},
    {-ESTALE, "EXPUNGEISSUED", "the message or the mailbox is no longer there"},
    {-ENOSPC, "OVERQUOTA", "the disk is full; nothing was changed"},
    {-EDQUOT, "OVERQUOTA", "your quota is used up; nothing was changed"},
    {-EFBIG, "TOOBIG", "the message is larger than this server takes"},
    {-ENOTEMPTY, "HASCHILDREN", "there are mailboxes below it"},
    {-ENOBUFS, "LIMIT", "this is more than the server can handle at once"},
    {-EMFILE, "LIMIT", "there are more mailboxes below it than files may be open"},
    {-ECANCELED, "UNAVAILABLE", "the server is being stopped"},
    {-ENOMEM, "UNAVAILABLE", "the server is out of memory"},
    {-EIO, "UNAVAILABLE", "the disk reports an error"},
    {-ENODEV, "UNAVAILABLE", "the folder of the mailbox is not there"},
};

int respond_error(struct imap *s, int error, const char *what)
{
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        if (errors[i].error != error)
            continue;
        respond_code(s, "%s", errors[i].code);
        return respond_no(s, "%s: %s", what, errors[i].text);
    }
    respond_code(s, "SERVERBUG");
    return respond_no(s, "%s: %s", what, strerror(-error));
}

void respond_tagged(struct imap *s, enum imap_outcome outcome)
{
    static const char *const words[] = {[OUTCOME_OK] = "OK", [OUTCOME_NO] = "NO", [OUTCOME_BAD] = "BAD"};

    (void)writer_printf(&s->out, "%s %s ", s->tag[0] ? s->tag : "*", words[outcome]);
    if (s->reply_code.len)
        (void)writer_printf(&s->out, "[%s] ", buf_cstr(&s->reply_code));
    if (s->reply_text.len)
        (void)writer_str(&s->out, buf_str(&s->reply_text));
    else
        (void)writer_printf(&s->out, "%s%s %s", s->is_uid ? "UID " : "", s->command ? s->command : "Command",
                            outcome == OUTCOME_OK ? "completed" : "failed");
    (void)writer_text(&s->out, "\r\n");
    buf_clear(&s->reply_code);
    buf_clear(&s->reply_text);
}

void respond_flags(struct imap *s, const struct mbox_info *info)
{
    static const struct {
        uint32_t flag;
        const char *name;
    } names[] = {
        {MBOX_ANSWERED, "\\Answered"}, {MBOX_FLAGGED, "\\Flagged"}, {MBOX_DELETED, "\\Deleted"},
        {MBOX_SEEN, "\\Seen"},         {MBOX_DRAFT, "\\Draft"},
    };
    const char *gap = "";

    (void)writer_add(&s->out, "(", 1);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!(info->flags.system & names[i].flag))
            continue;
        (void)writer_text(&s->out, gap);
        (void)writer_text(&s->out, names[i].name);
        gap = " ";
    }
    /* RFC 9051 2.3.2: \Recent is gone in IMAP4rev2. */
    if (info->is_recent && !(s->enabled & IMAP_REV2)) {
        (void)writer_text(&s->out, gap);
        (void)writer_text(&s->out, "\\Recent");
        gap = " ";
    }
    for (uint64_t left = info->flags.keywords; left; left &= left - 1) {
        struct str name = mbox_keyword(s->box, (unsigned)__builtin_ctzll(left));

        if (!name.len)
            continue;
        (void)writer_text(&s->out, gap);
        (void)writer_str(&s->out, name);
        gap = " ";
    }
    (void)writer_add(&s->out, ")", 1);
}

void respond_date_time(struct imap *s, int64_t when, int offset)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);

    if (date_print_imap(when, (int16_t)offset, &text) < 0)
        buf_clear(&text);
    (void)writer_printf(&s->out, "\"%s\"", buf_cstr(&text));
}

void respond_fetch(struct imap *s, uint32_t seq, uint32_t uid)
{
    bool is_by_uid = (s->enabled & IMAP_UIDONLY) != 0;

    (void)writer_add(&s->out, "* ", 2);
    (void)writer_u64(&s->out, is_by_uid ? uid : seq);
    (void)writer_text(&s->out, is_by_uid ? " UIDFETCH (" : " FETCH (");
}

void respond_numset(struct imap *s, const struct numset *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct numrange *range = &set->ranges[i];

        if (i)
            (void)writer_add(&s->out, ",", 1);
        (void)writer_u64(&s->out, range->first);
        if (range->last != range->first) {
            (void)writer_add(&s->out, ":", 1);
            (void)writer_u64(&s->out, range->last);
        }
    }
}

int respond_object_id_text(struct buf *out, char letter, const uint8_t id[16])
{
    char text[33];

    text[0] = letter;
    for (size_t i = 0; i < 16; i++) {
        text[1 + 2 * i] = "0123456789abcdef"[id[i] >> 4];
        text[2 + 2 * i] = "0123456789abcdef"[id[i] & 15];
    }
    return buf_add(out, text, sizeof(text));
}

void respond_object_id(struct imap *s, char letter, const uint8_t id[16])
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);

    if (respond_object_id_text(&text, letter, id) >= 0)
        (void)writer_str(&s->out, buf_str(&text));
}
