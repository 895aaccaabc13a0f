/*
 * Commands about the queue: XQUEUE, which mailq says on the socket of sendmail(8), and ATRN. Part of smtp-session.
 */
#include <errno.h>

#include "handlers/smtp/session.h"
#include "shared/base/macros.h"
#include "shared/route/path.h"

/* The lines of the file; the last one ends the reply. */
static int write_lines(struct smtp_session *s, struct line_reader *r)
{
    char text[ANSWER_TEXT] = "";
    struct str line;
    bool is_first = true;
    int e;

    while ((e = line_read(r, &line)) == 0 || e == -ENOBUFS || e == -EBADMSG) {
        if (e < 0) /* too long for a line, or with a NUL: nothing that a list has */
            continue;
        if (!is_first)
            session_reply_line(s, 250, "%s", text);
        is_first = false;
        line = str_sub(line, 0, sizeof(text) - 1);
        memcpy(text, line.ptr, line.len);
        text[line.len] = '\0';
    }
    if (e != -ENODATA)
        return e;
    session_reply(s, 250, "2.0.0", "%s", text);
    return 0;
}

int cmd_xqueue(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    _cleanup_close_ int fd = -1;
    struct smtp_answer answer;
    struct transport file;
    struct line_reader r;
    int e;

    if (s->kind != SMTP_KIND_LOCAL)
        return cmd_not_here(session, arguments);
    e = s->backend.queue(s->backend.context, &answer, &fd);
    if (e < 0)
        return e;
    if (!answer_is_ok(&answer)) {
        session_answer(s, &answer);
        return 0;
    }
    transport_init(&file, fd, fd, 0, 0);
    line_reader_init(&r, &file, NULL, LINE_LENIENT, LIMIT_LINE_SMTP);
    e = write_lines(s, &r);
    line_reader_finish(&r);
    return e;
}

/* Domains with commas in between, and nothing else. */
static bool atrn_is_list(struct str list)
{
    struct str domain;

    while (list.len > 0) {
        if (list.ptr[list.len - 1] == ',')
            return false;
        (void)str_cut(&list, ',', &domain);
        if (!path_is_domain(domain, false))
            return false;
    }
    return true;
}

/* RFC 2645 5.2.1. Whatever came behind it was said too early, to somebody who does not listen any more. */
int cmd_atrn(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    struct smtp_answer answer;
    int e;

    if (!session_offers_atrn(s)) {
        session_reply(s, 502, "5.5.1", "Nobody fetches mail here");
        return 0;
    }
    if (!s->user) {
        session_reply(s, 530, "5.7.0", "Authentication required");
        return 0;
    }
    if (line_buffered(&s->reader).len > 0) {
        session_reply(s, 503, "5.5.1", "ATRN is the last command, wait for its answer");
        return 0;
    }
    e = atrn_is_list(arguments) ? s->backend.atrn(s->backend.context, arguments, &answer) : -EBADMSG;
    if (e == -EBADMSG) {
        session_reply(s, 501, "5.5.4", "Like ATRN example.org,example.com");
        return 0;
    }
    if (e < 0)
        return e;
    session_answer(s, &answer);
    if (!answer_is_ok(&answer))
        return 0;
    e = writer_flush(&s->writer);
    s->is_over = s->has_quit = true;
    return e < 0 ? e : s->backend.turn(s->backend.context);
}
