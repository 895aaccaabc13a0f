/*
 * The FETCH response of one message (RFC 9051 7.5.2), valid whatever the message holds. Runs in imap-session as the
 * user; streams from shared/mbox to the client.
 */
#include "handlers/imap/fetch.h"

#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/respond.h"
#include "handlers/imap/update.h"
#include "shared/base/macros.h"
#include "shared/mime/bodystructure.h"

void fetch_lacks(struct fetch *f, int error)
{
    if (f->error == 0 || f->error == -ESTALE)
        f->error = error;
}

struct literal {
    struct imap *s;
    uint64_t size;
    bool is_begun;
};

static int write_piece(void *context, struct str piece)
{
    struct literal *l = context;

    /* The head of the literal waits for the first bytes: until then NIL can still be said. */
    if (!l->is_begun)
        (void)writer_printf(&l->s->out, "{%" PRIu64 "}\r\n", l->size);
    l->is_begun = true;
    respond_char8(l->s, piece);
    return l->s->out.error;
}

/* A range of the message as a literal; NIL if the message is gone, -ECONNABORTED if it vanished half-way. */
static int write_range(struct fetch *f, uint64_t start, uint64_t end)
{
    struct literal l = {.s = f->s, .size = end - start};
    int r;

    if (start == end)
        return writer_text(&f->s->out, "\"\"");
    r = message_read(&f->message, start, end, write_piece, &l);
    if (r < 0 && l.is_begun)
        return f->s->out.error ? f->s->out.error : -ECONNABORTED;
    if (r < 0) {
        fetch_lacks(f, r);
        (void)writer_text(&f->s->out, "NIL");
    }
    return f->s->out.error;
}

/* Where a section lies. A section without part numbers needs the header's length only, not the whole tree. */
static int locate(struct fetch *f, const struct section *section, uint64_t *ret_start, uint64_t *ret_end)
{
    struct message *m = &f->message;
    struct mime_part whole = {.end = m->info.size};
    int r;

    if (section->depth > 0) {
        r = message_tree(m);
        return r < 0 ? r : section_locate(section, m->tree.root, ret_start, ret_end);
    }
    if (section->text != SECTION_ALL) {
        r = message_header(m);
        if (r < 0)
            return r;
        whole.body = m->header.length;
    }
    return section_locate(section, &whole, ret_start, ret_end);
}

static int collect_piece(void *context, struct str piece)
{
    struct header_collector *c = context;
    size_t used;
    int r = header_collect(c, piece, &used);

    return r < 0 ? r : c->is_whole ? 1 : 0;
}

/* HEADER.FIELDS and HEADER.FIELDS.NOT: picked out of the header in memory. */
static int write_fields(struct fetch *f, const struct section *section, uint64_t start, uint64_t end)
{
    struct message *m = &f->message;
    struct header_collector nested;
    struct str header, text;
    uint64_t from = 0, to;
    int r = 0;

    header_collector_init(&nested);
    if (section->depth == 0) {
        header = buf_str(&m->header.bytes);
    } else {
        r = message_read(m, start, end, collect_piece, &nested);
        header = buf_str(&nested.bytes);
    }
    buf_clear(&m->scratch);
    if (r >= 0)
        r = header_select(header, section->names, section->name_count, section->text == SECTION_FIELDS_NOT,
                          &m->scratch);
    if (r >= 0) {
        text = buf_str(&m->scratch);
        to = text.len;
        section_clip(section, &from, &to);
        text = str_sub(text, from, to - from);
        (void)writer_printf(&f->s->out, "{%zu}\r\n", text.len);
        respond_char8(f->s, text);
    } else {
        fetch_lacks(f, r);
        (void)writer_text(&f->s->out, "NIL");
    }
    header_collector_finish(&nested);
    return f->s->out.error;
}

static int write_section(struct fetch *f, const struct section *section)
{
    uint64_t start, end;
    int r = locate(f, section, &start, &end);

    if (r == -ENOENT)
        return writer_text(&f->s->out, "NIL");
    if (r < 0) {
        fetch_lacks(f, r);
        return writer_text(&f->s->out, "NIL");
    }
    if (section->text == SECTION_FIELDS || section->text == SECTION_FIELDS_NOT)
        return write_fields(f, section, start, end);
    section_clip(section, &start, &end);
    return write_range(f, start, end);
}

static int write_envelope(struct fetch *f)
{
    int r = message_envelope(&f->message);

    if (r >= 0)
        return writer_str(&f->s->out, buf_str(&f->message.scratch));
    fetch_lacks(f, r);
    return writer_text(&f->s->out, "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
}

static int write_structure(struct fetch *f, bool is_extended)
{
    struct message *m = &f->message;
    bool is_followed = true;
    int r;

    if (is_extended) {
        r = message_structure(m, &is_followed);
    } else {
        r = message_tree(m);
        is_followed = r < 0 || mime_tree_is_followed(&m->tree);
        buf_clear(&m->scratch);
        if (r >= 0)
            r = bodystructure_print(m->tree.root, false, false, &m->scratch);
    }
    f->is_unparsed = !is_followed;
    if (r >= 0)
        return writer_str(&f->s->out, buf_str(&m->scratch));
    fetch_lacks(f, r);
    return writer_text(&f->s->out, "(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 0 0)");
}

/* Answers about all of a mailbox are mostly numbers: printf(3) would take most of the time. */
static int write_number(struct imap *s, const char *before, uint64_t n, const char *behind)
{
    (void)writer_text(&s->out, before);
    (void)writer_u64(&s->out, n);
    return writer_text(&s->out, behind);
}

/* The items that are facts of the index. */
static int write_fact(struct fetch *f, const struct fetch_item *item)
{
    struct imap *s = f->s;
    const struct mbox_info *info = &f->message.info;
    uint8_t id[16];

    switch (item->kind) {
    case FETCH_FLAGS:
        (void)writer_text(&s->out, "FLAGS ");
        respond_flags(s, info);
        return 0;
    case FETCH_UID:
        return write_number(s, "UID ", info->uid, "");
    case FETCH_INTERNALDATE:
        (void)writer_text(&s->out, "INTERNALDATE ");
        respond_date_time(s, info->internaldate, info->internaldate_offset);
        return 0;
    case FETCH_SIZE:
        return write_number(s, "RFC822.SIZE ", info->size, "");
    case FETCH_MODSEQ:
        return write_number(s, "MODSEQ (", info->modseq, ")");
    case FETCH_SAVEDATE:
        (void)writer_text(&s->out, "SAVEDATE ");
        if (info->savedate == 0)
            return writer_text(&s->out, "NIL");
        respond_date_time(s, info->savedate, clock_utc_offset(&s->conf->clock, info->savedate));
        return 0;
    case FETCH_EMAILID:
        (void)writer_text(&s->out, "EMAILID (");
        message_email_id(info, id);
        respond_object_id(s, 'M', id);
        return writer_text(&s->out, ")");
    default:
        /* RFC 8474 5.3: NIL is the answer of a server without thread ids. */
        return writer_text(&s->out, "THREADID NIL");
    }
}

static int write_item(struct fetch *f, const struct fetch_item *item)
{
    static const struct section whole = {.text = SECTION_ALL}, header = {.text = SECTION_HEADER},
                                text = {.text = SECTION_TEXT};
    struct imap *s = f->s;

    switch (item->kind) {
    case FETCH_ENVELOPE:
        (void)writer_text(&s->out, "ENVELOPE ");
        return write_envelope(f);
    case FETCH_BODY:
        (void)writer_text(&s->out, "BODY ");
        return write_structure(f, false);
    case FETCH_BODYSTRUCTURE:
        (void)writer_text(&s->out, "BODYSTRUCTURE ");
        return write_structure(f, true);
    case FETCH_SECTION:
        (void)writer_text(&s->out, "BODY");
        section_write(s, &item->section, true);
        (void)writer_text(&s->out, " ");
        return write_section(f, &item->section);
    case FETCH_BINARY:
        (void)writer_text(&s->out, "BINARY");
        section_write(s, &item->section, true);
        (void)writer_text(&s->out, " ");
        return fetch_binary(f, &item->section);
    case FETCH_BINARY_SIZE:
        (void)writer_text(&s->out, "BINARY.SIZE");
        section_write(s, &item->section, false);
        (void)writer_text(&s->out, " ");
        return fetch_binary_size(f, &item->section);
    case FETCH_PREVIEW:
        (void)writer_text(&s->out, "PREVIEW ");
        return fetch_preview(f, item->is_lazy);
    case FETCH_RFC822:
        (void)writer_text(&s->out, "RFC822 ");
        return write_section(f, &whole);
    case FETCH_RFC822_HEADER:
        (void)writer_text(&s->out, "RFC822.HEADER ");
        return write_section(f, &header);
    case FETCH_RFC822_TEXT:
        (void)writer_text(&s->out, "RFC822.TEXT ");
        return write_section(f, &text);
    default:
        return write_fact(f, item);
    }
}

/* What setting \\Seen adds to the response: FLAGS, and after a CONDSTORE enabling command UID and MODSEQ
 * (RFC 7162 3.2.4). */
static void write_changed_flags(struct fetch *f, const char *gap)
{
    struct imap *s = f->s;
    bool has_condstore = (s->enabled & IMAP_CONDSTORE) != 0;
    bool has_uid = f->has_uid || s->is_uid || (s->enabled & IMAP_UIDONLY);

    if (!f->has_flags) {
        (void)writer_printf(&s->out, "%sFLAGS ", gap);
        respond_flags(s, &f->message.info);
    }
    if (has_condstore && !has_uid)
        (void)writer_printf(&s->out, " UID %" PRIu32, f->message.info.uid);
    if (has_condstore && !f->has_modseq)
        (void)writer_printf(&s->out, " MODSEQ (%" PRIu64 ")", f->message.info.modseq);
}

bool fetch_is_wanted(const struct fetch *f, const struct mbox_info *info)
{
    return !f->has_changed_since || info->modseq > f->changed_since;
}

int fetch_respond(struct fetch *f, uint32_t seq, bool add_flags)
{
    struct imap *s = f->s;
    const char *gap = "";
    int r = message_begin(&f->message, seq);

    if (r < 0) { /* damaged: whoever hears nothing of a message may take it for expunged */
        fetch_lacks(f, r);
        return 0;
    }
    if (!fetch_is_wanted(f, &f->message.info))
        return 0;
    /* RFC 2180 4.1.2: what is gone cannot be fetched any more, the rest of the set can. A UID that is gone is ignored,
     * as one that never was (RFC 9051 6.4.9). */
    if (f->message.info.is_expunged && f->needs_content) {
        if (!s->is_uid)
            fetch_lacks(f, -ESTALE);
        return 0;
    }
    if (f->has_flags || add_flags)
        update_keywords(s, f->message.info.flags.keywords);
    respond_fetch(s, seq, f->message.info.uid);
    if (s->is_uid && !f->has_uid && !(s->enabled & IMAP_UIDONLY)) {
        (void)write_number(s, "UID ", f->message.info.uid, "");
        gap = " ";
    }
    for (size_t i = 0; i < f->count && r >= 0; i++) {
        (void)writer_text(&s->out, gap);
        gap = " ";
        r = write_item(f, &f->items[i]);
    }
    if (r >= 0 && add_flags)
        write_changed_flags(f, gap);
    if (r >= 0)
        (void)writer_text(&s->out, ")\r\n");
    /* RFC 9051 7.1: what was answered is an approximation. */
    if (r >= 0 && f->is_unparsed)
        (void)writer_printf(&s->out, "* OK [PARSE] Message %" PRIu32 " has a MIME structure that makes no sense\r\n",
                            s->enabled & IMAP_UIDONLY ? f->message.info.uid : seq);
    f->is_unparsed = false;
    return r < 0 ? r : s->out.error;
}
