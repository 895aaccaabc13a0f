/*
 * The only module with global state: where the log goes, and what goes with every line.
 */
#include "shared/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/buf.h"

#define LOG_CONTEXT_MAX 8
#define LOG_VALUE_MAX   1000        /* escaped bytes of one value: a client may send kilobytes */
#define LOG_LINE_MAX    (16u << 10) /* a datagram that every sink takes */
#define LOG_CONTEXT_LEN 300         /* bytes kept of a context value */
#define LOG_KEY_MAX     32
#define LOG_WAIT_MS     1000 /* for a sink whose queue is full */
#define LOG_TRIES       50   /* others fill the place that became free */

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define SYSLOG_SOCKET  "/dev/log"

enum log_sink { LOG_SINK_NONE, LOG_SINK_STDERR, LOG_SINK_SYSLOG, LOG_SINK_JOURNAL };

static struct {
    enum log_sink sink;
    int fd;
    const char *ident;
    struct {
        char key[LOG_KEY_MAX];
        char value[LOG_CONTEXT_LEN];
        size_t len;
    } context[LOG_CONTEXT_MAX];
    size_t contexts;
} logger = {.fd = -1, .ident = "pennypost"};

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

void log_open(const char *ident, bool stderr_ok)
{
    const char *wish = getenv("PENNYPOST_LOG");

    logger.ident = ident;
    close_fd(&logger.fd);
    logger.sink = stderr_ok ? LOG_SINK_STDERR : LOG_SINK_NONE;
    if (stderr_ok && ((wish && strcmp(wish, "stderr") == 0) || isatty(STDERR_FILENO)))
        return;
    logger.fd = connect_to(JOURNAL_SOCKET);
    if (logger.fd >= 0) {
        logger.sink = LOG_SINK_JOURNAL;
        return;
    }
    logger.fd = connect_to(SYSLOG_SOCKET);
    if (logger.fd >= 0)
        logger.sink = LOG_SINK_SYSLOG;
}

int log_fd(void)
{
    return logger.fd;
}

void log_context(const char *key, struct str value)
{
    size_t i = 0;

    while (i < logger.contexts && strcmp(logger.context[i].key, key) != 0)
        i++;
    if (i == LOG_CONTEXT_MAX)
        return;
    if (i == logger.contexts)
        logger.contexts++;
    (void)snprintf(logger.context[i].key, sizeof(logger.context[i].key), "%s", key);
    value = str_sub(value, 0, LOG_CONTEXT_LEN);
    if (value.len > 0)
        memcpy(logger.context[i].value, value.ptr, value.len);
    logger.context[i].len = value.len;
}

static bool is_harmless(char c, bool is_quoted)
{
    return c >= (is_quoted ? ' ' : '!') && c <= '~' && c != '\\' && c != '"';
}

/* Values as one word: what is neither a printable ASCII character nor harmless there becomes \xHH. */
static void add_escaped(struct buf *out, struct str value, bool is_quoted)
{
    size_t end = out->len + LOG_VALUE_MAX;

    for (size_t i = 0; i < value.len && out->len < end; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        size_t n = 0;

        while (i + n < value.len && out->len + n < end && is_harmless(value.ptr[i + n], is_quoted))
            n++;
        (void)buf_add(out, value.ptr + i, n);
        if (n > 0)
            i += n - 1;
        else if (c == '\\' || c == '"')
            (void)buf_printf(out, "\\%c", c);
        else
            (void)buf_printf(out, "\\x%02x", c);
    }
    if (value.len > 0 && out->len >= end)
        (void)buf_add_str(out, STR("..."));
}

static void add_word(struct buf *line, struct log_field f)
{
    bool is_quoted = f.value.len == 0 || str_chr(f.value, ' ') >= 0 || str_chr(f.value, '=') >= 0;

    (void)buf_add_byte(line, ' ');
    (void)buf_add_str(line, str_from(f.key));
    (void)buf_add_str(line, is_quoted ? STR("=\"") : STR("="));
    add_escaped(line, f.value, is_quoted);
    (void)buf_add_str(line, is_quoted ? STR("\"") : STR(""));
}

/* Journal field names that other mail programs and admins know go without our prefix. */
static void add_journal_field(struct buf *out, struct log_field f)
{
    static const struct {
        const char *key, *name;
    } known[] = {{"queue_id", "QUEUE_ID"}, {"host", "REMOTE_ADDR"}, {"user", "AUTH_USER"},
                 {"tls", "TLS_VERSION"},   {"from", "MAIL_FROM"},   {"to", "RCPT_TO"}};
    const char *name = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (strcmp(known[i].key, f.key) == 0)
            name = known[i].name;
    /* The line of a login has "host=[ADDRESS]" for fail2ban; the field is the address itself. */
    if (strcmp(f.key, "host") == 0 && str_starts(f.value, STR("[")) && str_ends(f.value, STR("]")))
        f.value = str_sub(f.value, 1, f.value.len - 2);
    if (name) {
        (void)buf_printf(out, "%s=", name);
    } else {
        (void)buf_add_str(out, STR("PENNYPOST_"));
        for (const char *c = f.key; *c; c++)
            (void)buf_add_byte(out, ascii_upper(*c));
        (void)buf_add_byte(out, '=');
    }
    add_escaped(out, f.value, true);
    (void)buf_add_byte(out, '\n');
}

static struct log_field context_field(size_t i)
{
    return (struct log_field){logger.context[i].key, {logger.context[i].value, logger.context[i].len}};
}

static bool is_given(const char *key, const struct log_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(fields[i].key, key) == 0)
            return true;
    return false;
}

/* A burst fills the sink's queue (10 datagrams on plain kernels): what is logged about it must not be lost, but a sink
 * that is stuck must not stop us for long. */
static void send_datagram(const struct buf *out)
{
    for (int tries = 0; tries < LOG_TRIES; tries++) {
        struct pollfd p = {.fd = logger.fd, .events = POLLOUT};

        if (send(logger.fd, out->data, out->len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ||
            (errno != EAGAIN && errno != EINTR))
            return;
        if (poll(&p, 1, LOG_WAIT_MS) == 0)
            return;
    }
}

static void send_journal(int level, const struct buf *line, const struct log_field *fields, size_t count)
{
    _cleanup_buf_ struct buf out = BUF_INIT(2 * LOG_LINE_MAX);

    (void)buf_printf(&out, "PRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=%s\nSYSLOG_PID=%d\nMESSAGE=%s\n", level,
                     LOG_MAIL >> 3, logger.ident, (int)getpid(), buf_cstr(line));
    for (size_t i = 0; i < count; i++)
        add_journal_field(&out, fields[i]);
    for (size_t i = 0; i < logger.contexts; i++)
        if (!is_given(logger.context[i].key, fields, count))
            add_journal_field(&out, context_field(i));
    send_datagram(&out);
}

static void send_syslog(int level, const struct buf *line)
{
    static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    _cleanup_buf_ struct buf out = BUF_INIT(2 * LOG_LINE_MAX);
    time_t now = time(NULL);
    struct tm tm = {0};

    (void)localtime_r(&now, &tm);
    (void)buf_printf(&out, "<%d>%.3s %2d %02d:%02d:%02d %s[%d]: %s", LOG_MAIL | level, MONTHS + 3 * tm.tm_mon,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, logger.ident, (int)getpid(), buf_cstr(line));
    send_datagram(&out);
}

static void send_stderr(struct buf *line)
{
    _cleanup_buf_ struct buf out = BUF_INIT(2 * LOG_LINE_MAX);

    (void)buf_printf(&out, "%s: %s\n", logger.ident, buf_cstr(line));
    if (write(STDERR_FILENO, out.data, out.len) < 0)
        return; /* nobody is left to be told */
}

void log_event(int level, const char *event, const struct log_field *fields, size_t count)
{
    _cleanup_buf_ struct buf line = BUF_INIT(LOG_LINE_MAX);
    int saved_errno = errno;

    (void)buf_add_str(&line, str_from(event));
    for (size_t i = 0; i < count; i++)
        add_word(&line, fields[i]);
    for (size_t i = 0; i < logger.contexts; i++)
        if (!is_given(logger.context[i].key, fields, count))
            add_word(&line, context_field(i));
    if (logger.sink == LOG_SINK_JOURNAL)
        send_journal(level, &line, fields, count);
    else if (logger.sink == LOG_SINK_SYSLOG)
        send_syslog(level, &line);
    else if (logger.sink == LOG_SINK_STDERR)
        send_stderr(&line);
    errno = saved_errno;
}
