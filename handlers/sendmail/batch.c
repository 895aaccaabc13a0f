/*
 * sendmail -bS: batched SMTP, as UUCP and spoolers write it. The commands come without anybody who reads the replies;
 * each refusal is told with its line. Runs as the invoking user.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/sendmail/client.h"
#include "handlers/sendmail/letter.h"
#include "handlers/sendmail/modes.h"
#include "shared/base/limits.h"

struct batch {
    struct client client;
    struct line_reader reader;
    unsigned long line; /* number of the command */
    int status;         /* for the exit */
};

static void judge(struct batch *b, struct str command, const struct client_reply *r)
{
    struct outcome o = {.code = r->code};
    int status;

    memcpy(o.text, r->text, sizeof(o.text));
    status = letter_status(&o);
    if (status == EX_OK)
        return;
    (void)fprintf(stderr, "sendmail: line %lu: %.*s: %u %s\n", b->line, STR_ARG(str_sub(command, 0, 200)), r->code,
                  r->text);
    if (b->status == EX_OK || b->status == EX_TEMPFAIL)
        b->status = status;
}

/* Is this the lone dot? `s` has three bytes unless the input ends. */
static size_t end_of_text(struct str s)
{
    if (str_starts(s, STR(".\r\n")))
        return 3;
    if (str_starts(s, STR(".\n")))
        return 2;
    return str_eq(s, STR(".")) ? 1 : 0;
}

/* Takes a line, or what is there of it, off the input. */
static int copy_piece(struct batch *b, struct str bytes, bool takes, bool *at_start)
{
    ptrdiff_t end = str_chr(bytes, '\n');
    struct str text = end < 0 ? bytes : str_sub(bytes, 0, (size_t)end);
    size_t used = text.len + (end >= 0);

    if (text.len > 0 && text.ptr[text.len - 1] == '\r') { /* of the line end, which may be still to come */
        text.len--;
        if (end < 0 && bytes.len > 1)
            used = text.len;
    }
    if (takes)
        (void)writer_str(&b->client.writer, text);
    if (takes && end >= 0)
        (void)writer_text(&b->client.writer, "\r\n");
    b->line += end >= 0;
    *at_start = end >= 0;
    line_consume(&b->reader, used);
    return b->client.writer.error;
}

/* The text up to its lone dot; `takes`: to the server (it is stuffed already), else it is dropped. */
static int copy_text(struct batch *b, bool takes)
{
    struct str bytes;
    bool at_start = true;
    int e = 0;

    while (e == 0) {
        size_t end = 0;

        e = line_peek_more(&b->reader, 3, &bytes);
        if (e < 0)
            break;
        if (at_start)
            end = end_of_text(bytes);
        if (end > 0) {
            line_consume(&b->reader, end);
            b->line++;
            return 0;
        }
        e = copy_piece(b, bytes, takes, &at_start);
    }
    return e == -ENODATA ? -EPIPE : e;
}

static int run_data(struct batch *b, struct str command)
{
    struct client_reply r;
    int e = client_line(&b->client, command, &r);
    bool goes_on = e == 0 && r.code == 354;

    if (e < 0)
        return e;
    if (!goes_on)
        judge(b, command, &r);
    e = copy_text(b, goes_on);
    if (e < 0 || !goes_on)
        return e;
    e = client_line(&b->client, STR("."), &r);
    if (e == 0)
        judge(b, STR("end of DATA"), &r);
    return e;
}

static int run_command(struct batch *b, struct str line)
{
    struct client_reply r;
    int e;

    if (str_ieq(str_trim(line), STR("DATA")))
        return run_data(b, STR("DATA"));
    if (str_istarts(line, STR("BDAT"))) {
        (void)fprintf(stderr, "sendmail: line %lu: BDAT is nothing for a batch\n", b->line);
        return -EPROTO;
    }
    e = client_line(&b->client, line, &r);
    if (e == 0)
        judge(b, line, &r);
    return e;
}

static int run_all(struct batch *b)
{
    char kept[LIMIT_LINE_SMTP];
    struct str line;
    int e = 0;

    while (e == 0) {
        e = line_read(&b->reader, &line);
        if (e == -ENODATA)
            return 0;
        b->line++;
        if (e < 0 || str_ieq(str_trim(line), STR("QUIT")))
            break;
        line = str_trim(line);
        if (line.len == 0)
            continue;
        memcpy(kept, line.ptr, line.len); /* the view ends with the next read */
        e = run_command(b, (struct str){kept, line.len});
    }
    return e;
}

int mode_batch(const struct conf *conf)
{
    struct batch b = {.status = EX_OK};
    struct client_reply r = {0};
    struct transport input;
    int e = client_open(&b.client, conf, NULL, &r);

    transport_init(&input, STDIN_FILENO, STDOUT_FILENO, 0, 0);
    line_reader_init(&b.reader, &input, NULL, LINE_LENIENT, LIMIT_LINE_SMTP - 2);
    if (e == 0)
        e = run_all(&b);
    if (e == -EPROTO && r.code != 0 && !client_is_ok(&r))
        (void)fprintf(stderr, "sendmail: %u %s\n", r.code, r.text);
    else if (e == -EPIPE || e == -ENOBUFS || e == -EBADMSG)
        (void)fprintf(stderr, "sendmail: line %lu: %s\n", b.line,
                      e == -EPIPE ? "the batch ends in the middle of a message" : "too long, or with a NUL");
    else if (e < 0 && e != -EPROTO)
        (void)fprintf(stderr, "sendmail: %s: %s\n", conf->submit_socket, strerror(-e));
    client_close(&b.client);
    line_reader_finish(&b.reader);
    if (e == -EPROTO || e == -EPIPE || e == -ENOBUFS || e == -EBADMSG)
        return EX_DATAERR;
    return e < 0 ? EX_TEMPFAIL : b.status;
}
