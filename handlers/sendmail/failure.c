/*
 * Telling that a message could not be sent, in the way that -oe asks for. Runs as the invoking user; touches the
 * terminal and ~/dead.letter, where historic sendmail leaves what it can neither send nor return.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>

#include "handlers/sendmail/letter.h"
#include "handlers/sendmail/report.h"
#include "shared/base/clock.h"
#include "shared/base/limits.h"

#define LOCK_TRIES 50 /* of 100 ms: another sendmail is saving its message */

static void print_outcomes(const struct letter *l, FILE *to)
{
    for (size_t i = 0; i < l->to.count; i++)
        if (letter_status(&l->outcomes[i]) != EX_OK)
            (void)fprintf(to, "sendmail: %s: %s\n", l->to.items[i], l->outcomes[i].text);
    (void)fflush(to);
}

/* ---- ~/dead.letter ---- */

static int write_all(int fd, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            bytes = str_sub(bytes, (size_t)n, bytes.len);
    }
    return 0;
}

static int lock(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    for (int i = 0; i < LOCK_TRIES; i++) {
        if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
            return 0;
        if (errno != EAGAIN && errno != EACCES)
            return -errno;
        (void)nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return -EAGAIN;
}

/* Our own file and nobody's link: the folder may be one that others can write. */
static int open_dead(const char *path)
{
    _cleanup_close_ int fd =
        open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    struct stat facts;
    int e;

    if (fd < 0 || fstat(fd, &facts) < 0)
        return -errno;
    if (!S_ISREG(facts.st_mode) || facts.st_nlink != 1 || facts.st_uid != geteuid())
        return -EPERM;
    e = lock(fd);
    return e < 0 ? e : steal_fd(&fd);
}

/* An mboxrd entry (RFC 4155 with quoting): header and body, lines that look like a From_ line with one ">" more. */
static int copy_quoted(int to, struct str text, bool *at_start)
{
    int e = 0;

    while (text.len > 0 && e == 0) {
        struct str line, rest;
        bool is_whole = str_cut(&text, '\n', &line);

        for (rest = line; rest.len > 0 && rest.ptr[0] == '>';)
            rest = str_sub(rest, 1, rest.len);
        if (*at_start && str_starts(rest, STR("From ")))
            e = write_all(to, STR(">"));
        if (e == 0)
            e = write_all(to, (struct str){line.ptr, line.len + is_whole});
        *at_start = is_whole;
    }
    return e;
}

static int write_entry(const struct letter *l, int to)
{
    _cleanup_buf_ struct buf line = BUF_INIT(LIMIT_LINE_SMTP);
    bool at_start = true;
    off_t at = 0;
    int e = buf_printf(&line, "From %s ", l->sender.len > 0 ? buf_cstr(&l->sender) : "MAILER-DAEMON");

    if (e == 0)
        e = clock_asctime(clock_now(&l->conf->clock), &line);
    if (e == 0)
        e = buf_add_byte(&line, '\n');
    if (e == 0)
        e = write_all(to, buf_str(&line));
    if (e == 0)
        e = write_all(to, buf_str(&l->header));
    if (e == 0)
        e = write_all(to, STR("\n"));
    while (e == 0) {
        char bytes[32u << 10];
        ssize_t n = pread(l->body, bytes, sizeof(bytes), at);

        if (n <= 0) {
            e = n < 0 ? -errno : 0;
            break;
        }
        at += n;
        e = copy_quoted(to, (struct str){bytes, (size_t)n}, &at_start);
    }
    return e < 0 ? e : write_all(to, STR("\n"));
}

static int save_in(const struct letter *l, const char *path)
{
    _cleanup_close_ int fd = open_dead(path);
    struct stat before;
    int e;

    if (fd < 0)
        return fd;
    if (fstat(fd, &before) < 0)
        return -errno;
    e = write_entry(l, fd);
    if (e == 0 && fsync(fd) < 0)
        e = -errno;
    if (e < 0 && ftruncate(fd, before.st_size) < 0)
        (void)fprintf(stderr, "sendmail: %s: the message is there in part\n", path);
    return e;
}

/* In the home, else where temporary files outlive a reboot. Tells where, or that it is lost. */
static int save(const struct letter *l)
{
    char paths[2][4096] = {"", ""};
    int e = -ENOENT;

    if (l->home[0] == '/')
        (void)snprintf(paths[0], sizeof(paths[0]), "%s/dead.letter", l->home);
    (void)snprintf(paths[1], sizeof(paths[1]), "/var/tmp/dead.letter-%s", l->user);
    for (size_t i = 0; i < ARRAY_SIZE(paths) && e < 0; i++) {
        if (!paths[i][0])
            continue;
        e = save_in(l, paths[i]);
        if (e == 0)
            (void)fprintf(stderr, "sendmail: the message is kept in %s\n", paths[i]);
        else
            (void)fprintf(stderr, "sendmail: %s: %s\n", paths[i], strerror(-e));
    }
    return e;
}

/* ---- the ways of -oe ---- */

static int write_to_terminal(const struct letter *l)
{
    FILE *terminal = fopen("/dev/tty", "we");

    if (!terminal)
        return -errno;
    print_outcomes(l, terminal);
    return fclose(terminal) == 0 ? 0 : -EIO;
}

/* By mail to the sender; what cannot be returned is kept. A bounce is never answered with another (RFC 5321 6.1). */
static int give_back(const struct letter *l)
{
    int e = l->sender.len > 0 ? report_send(l) : -ENOENT;

    if (e == 0)
        return 0;
    print_outcomes(l, stderr);
    return save(l);
}

int letter_fail(struct letter *l, int status)
{
    int e = 0;

    switch (l->options->errors) {
    case SENDMAIL_QUIET:
        break;
    case SENDMAIL_PRINT:
        print_outcomes(l, stderr);
        break;
    case SENDMAIL_WRITE:
        if (write_to_terminal(l) < 0)
            e = give_back(l);
        break;
    case SENDMAIL_MAIL:
        e = give_back(l);
        break;
    case SENDMAIL_BERKNET:
        e = give_back(l);
        if (e == 0)
            status = EX_OK;
        break;
    }
    return e < 0 && status == EX_OK ? EX_UNAVAILABLE : status;
}
