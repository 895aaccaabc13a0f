/*
 * The front of a message. Part of deliver; pure.
 */
#include "handlers/deliver/prologue.h"

/* A field with its folded lines, or a From_ line. False: it is not whole, or an empty line. */
static bool take_field(struct str *s, struct str *ret)
{
    struct str rest = *s, line;

    do {
        if (!str_cut(&rest, '\n', &line))
            return false;
    } while (rest.len > 0 && (rest.ptr[0] == ' ' || rest.ptr[0] == '\t'));
    *ret = str_sub(*s, 0, s->len - rest.len);
    if (str_trim(*ret).len == 0)
        return false;
    *s = rest;
    return true;
}

static bool is_field(struct str field, struct str name, struct str *ret_body)
{
    if (!str_istarts(field, name))
        return false;
    *ret_body = str_trim(str_sub(field, name.len, field.len));
    return true;
}

/* "From sender Sun Nov 29 12:00:00 2026": written by whoever called us, not by the sender of the message. */
static bool is_from(struct str line, struct str *ret_sender)
{
    struct str rest = line, word;

    if (!str_starts(line, STR("From ")) || !str_word(&rest, &word) || !str_word(&rest, ret_sender))
        return false;
    if (str_ieq(*ret_sender, STR("MAILER-DAEMON")) || str_eq(*ret_sender, STR("<>")))
        *ret_sender = STR("");
    return true;
}

static struct str without_brackets(struct str s)
{
    return s.len >= 2 && s.ptr[0] == '<' && s.ptr[s.len - 1] == '>' ? str_sub(s, 1, s.len - 2) : s;
}

int prologue_read(struct prologue *p, struct str front, struct str address)
{
    static const struct str others[] = {
        {"X-Original-To:", 14}, {"Envelope-To:", 12}, {"Delivery-Date:", 14}, {"X-Envelope-To:", 14}};
    struct str rest = front, field, body, sender;
    int e = 0;

    while (e == 0 && take_field(&rest, &field)) {
        bool is_ours = rest.len + field.len == front.len && is_from(field, &sender);
        bool stays = false;

        if (!is_ours && is_field(field, STR("Return-Path:"), &sender)) {
            is_ours = true;
            sender = without_brackets(sender);
        }
        if (is_ours && !p->sender.ptr)
            p->sender = sender;
        if (!is_ours && is_field(field, STR("Delivered-To:"), &body)) {
            p->is_known |= str_ieq(body, address);
            stays = true;
        }
        for (size_t i = 0; !is_ours && i < ARRAY_SIZE(others); i++)
            stays |= is_field(field, others[i], &body);
        if (!is_ours && !stays)
            break;
        if (stays)
            e = buf_add_str(&p->fields, field);
        p->size = front.len - rest.len;
    }
    return e;
}

void prologue_finish(struct prologue *p)
{
    buf_finish(&p->fields);
}
