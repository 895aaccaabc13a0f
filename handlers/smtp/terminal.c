/*
 * Terminals. Runs with agent.c; reads utmp, opens terminal devices. A terminal that is slow or stopped is passed over:
 * nothing here waits.
 */
#include "handlers/smtp/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utmpx.h>

#include "shared/base/buf.h"

#define TEXT_MAX  (TERMINAL_LINES * 400) /* bytes shown; each line is cut well before that */
#define LINE_CUT  300
#define UTMP_MOST 10000 /* entries looked at */

/* Of the name in utmp nothing but a device below /dev is believed. -1: not a terminal that takes messages. */
static int open_terminal(const struct utmpx *entry, uid_t uid)
{
    char path[sizeof(entry->ut_line) + 8];
    struct stat facts;
    int fd;

    (void)snprintf(path, sizeof(path), "/dev/%.*s", (int)sizeof(entry->ut_line), entry->ut_line);
    if (strstr(path, ".."))
        return -1;
    fd = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    /* The user's own, and the group tty may write to it: that is what mesg(1) sets. */
    if (fd >= 0 && (fstat(fd, &facts) < 0 || !S_ISCHR(facts.st_mode) || !isatty(fd) || facts.st_uid != uid ||
                    !(facts.st_mode & S_IWGRP)))
        close_fd(&fd);
    return fd;
}

/* Writes to each terminal of the user; an empty text only counts them. */
static int each_terminal(const char *user, uid_t uid, struct str text)
{
    const struct utmpx *entry;
    int count = 0;

    setutxent();
    for (int i = 0; i < UTMP_MOST && count < TERMINAL_MAX && (entry = getutxent()); i++) {
        int fd;

        if (entry->ut_type != USER_PROCESS || strncmp(entry->ut_user, user, sizeof(entry->ut_user)) != 0)
            continue;
        fd = open_terminal(entry, uid);
        if (fd < 0)
            continue;
        count += text.len == 0 || write(fd, text.ptr, text.len) == (ssize_t)text.len;
        close_fd(&fd);
    }
    endutxent();
    return count;
}

bool terminal_is_open(const char *user, uid_t uid)
{
    return each_terminal(user, uid, STR_NULL) > 0;
}

/* ---- the text ---- */

/* One line, printable: no control characters, neither of ASCII nor of ISO 6429's C1 set, and no broken UTF-8. */
static int add_line(struct buf *out, struct str line)
{
    int e = 0;

    line = str_sub(line, 0, LINE_CUT);
    while (line.len > 0 && e == 0) {
        size_t len = utf8_sequence(line);
        unsigned char c = (unsigned char)line.ptr[0];
        bool is_fine = len == 1 ? (c >= 32 && c != 127) || c == '\t'
                                : len > 1 && !(c == 0xc2 && (unsigned char)line.ptr[1] < 0xa0);

        e = is_fine ? buf_add(out, line.ptr, len) : buf_add_byte(out, '?');
        line = str_sub(line, len > 0 ? len : 1, line.len);
    }
    return e < 0 ? e : buf_add_str(out, STR("\r\n"));
}

static int add_message(struct buf *out, struct str message)
{
    bool is_header = true;
    struct str line;
    int lines = 0;
    int e = 0;

    while (e == 0 && lines < TERMINAL_LINES && message.len > 0) {
        (void)str_cut(&message, '\n', &line);
        if (is_header && line.len == 0)
            is_header = false;
        if (is_header && !str_istarts(line, STR("Subject:")))
            continue;
        e = add_line(out, line);
        lines++;
    }
    if (e == 0 && message.len > 0)
        e = buf_add_str(out, STR("...\r\n"));
    return e;
}

int terminal_show(const char *user, uid_t uid, const char *sender, const struct clock *clock, int file)
{
    _cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX), message = BUF_INIT(TERMINAL_READ);
    ssize_t n;
    int e = buf_reserve(&message, TERMINAL_READ - 1);

    if (e < 0)
        return e;
    do
        n = pread(file, message.data, TERMINAL_READ - 1, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    message.len = (size_t)n;
    e = buf_add_str(&text, STR("\r\n\aMessage from "));
    if (e == 0)
        e = add_line(&text, str_from(sender[0] ? sender : "the mail system"));
    if (e == 0)
        e = clock_rfc5322(clock, clock_now(clock), &text);
    if (e == 0)
        e = buf_add_str(&text, STR("\r\n"));
    if (e == 0)
        e = add_message(&text, buf_str(&message));
    return e < 0 ? e : each_terminal(user, uid, buf_str(&text));
}
