/*
 * XQUEUE, which mailq says on the socket of sendmail(8). Part of smtp-session.
 */
#include <errno.h>

#include "handlers/smtp/session.h"
#include "shared/base/macros.h"

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
