/*
 * Reading and submitting a message. Runs as the invoking user; touches the standard input, one temporary file without a
 * name, and the server's socket.
 */
#include "handlers/sendmail/letter.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "handlers/sendmail/input.h"
#include "shared/base/limits.h"

#define PASSWD_BUFFER (64u << 10) /* an NSS entry larger than that is broken */

/* ---- who we are ---- */

/* The first item of the GECOS field; "&" in it is the login name, capitalised (passwd(5)). */
static int add_gecos(struct str gecos, struct str login, struct buf *out)
{
    struct str name;
    int e = 0;

    (void)str_cut(&gecos, ',', &name);
    for (size_t i = 0; i < name.len && e == 0; i++) {
        if (name.ptr[i] != '&') {
            e = buf_add_byte(out, name.ptr[i]);
            continue;
        }
        if (login.len > 0)
            e = buf_add_byte(out, ascii_upper(login.ptr[0]));
        if (e == 0)
            e = buf_add_str(out, str_sub(login, 1, login.len));
    }
    return e;
}

/* A user without an entry (a container's, a service's) is nobody in particular. */
static int find_user(struct letter *l, struct buf *full_name)
{
    _cleanup_free_ char *memory = malloc(PASSWD_BUFFER);
    const char *home = secure_getenv("HOME");
    struct passwd entry, *found = NULL;
    int e = 0;

    if (!memory)
        return -ENOMEM;
    (void)getpwuid_r(getuid(), &entry, memory, PASSWD_BUFFER, &found);
    l->user = strdup(found ? entry.pw_name : "nobody");
    l->home = strdup(found ? entry.pw_dir : home ? home : "");
    if (!l->user || !l->home)
        return -ENOMEM;
    if (found)
        e = add_gecos(str_from(entry.pw_gecos), str_from(entry.pw_name), full_name);
    return e;
}

static int find_full_name(struct letter *l, struct buf *gecos)
{
    const char *name = l->options->full_name ? l->options->full_name : secure_getenv("NAME");

    l->full_name = strdup(name ? name : buf_cstr(gecos));
    if (!l->full_name)
        return -ENOMEM;
    for (char *p = l->full_name; *p; p++) /* it becomes part of a field */
        if ((unsigned char)*p < 32 || *p == 127)
            *p = ' ';
    return 0;
}

int letter_init(struct letter *l, const struct sendmail_options *o, struct conf *conf)
{
    _cleanup_buf_ struct buf gecos = BUF_INIT(LIMIT_HEADER_FIELD);
    struct str host = str_from(conf->hostname);
    int e;

    *l = (struct letter){.options = o,
                         .conf = conf,
                         .sender = BUF_INIT(LIMIT_LINE_SMTP),
                         .header = BUF_INIT(2 * LIMIT_HEADER),
                         .body = -1};
    e = find_user(l, &gecos);
    if (e == 0)
        e = find_full_name(l, &gecos);
    if (e == 0)
        e = compose_address(str_from(o->sender ? o->sender : l->user), host, &l->sender);
    return e;
}

void letter_finish(struct letter *l)
{
    free(l->user);
    free(l->full_name);
    free(l->home);
    free(l->outcomes);
    recipients_finish(&l->to);
    buf_finish(&l->sender);
    buf_finish(&l->header);
    close_fd(&l->body);
}

/* ---- reading ---- */

static void set_outcome(struct outcome *o, unsigned code, const char *format, ...) _printf_(3, 4);

static void set_outcome(struct outcome *o, unsigned code, const char *format, ...)
{
    va_list ap;

    o->code = code;
    va_start(ap, format);
    (void)vsnprintf(o->text, sizeof(o->text), format, ap);
    va_end(ap);
}

/* In memory where no folder can be written: a service that sees its files read-only. */
int letter_open_temporary(void)
{
    const char *folders[] = {secure_getenv("TMPDIR"), "/tmp", "/var/tmp"};

    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        int fd = folders[i] && folders[i][0] == '/' ? open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;

        if (fd >= 0)
            return fd;
    }
    return memfd_create("message", MFD_CLOEXEC);
}

static int write_body(void *context, struct str bytes)
{
    const int *fd = context;

    while (bytes.len > 0) {
        ssize_t n = write(*fd, bytes.ptr, bytes.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            bytes = str_sub(bytes, (size_t)n, bytes.len);
    }
    return 0;
}

/* All of the standard input. What is behind a lone dot is left unread, as an interactive user expects. */
static int read_input(struct letter *l, int fd, struct input *in)
{
    uint64_t most = l->conf->message_size;
    int e = 0;

    while (e == 0 && !in->is_end) {
        char bytes[32u << 10];
        ssize_t n = read(fd, bytes, sizeof(bytes));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        e = input_feed(in, (struct str){bytes, (size_t)n});
        if (e == 0 && in->size > most)
            e = -EFBIG;
    }
    return e < 0 ? e : input_end(in);
}

static int explain_read(int e, const struct conf *conf, struct outcome *ret)
{
    switch (e) {
    case -EFBIG:
        set_outcome(ret, 552, "5.3.4 Messages have %llu bytes at most here", (unsigned long long)conf->message_size);
        return EX_UNAVAILABLE;
    case -E2BIG:
        set_outcome(ret, 552, "5.3.4 The header is too big, or has too many recipients");
        return EX_DATAERR;
    case -ENOBUFS:
        set_outcome(ret, 552, "5.3.4 A header field is too long");
        return EX_DATAERR;
    case -EINVAL:
        set_outcome(ret, 501, "5.1.3 That is not an address");
        return EX_USAGE;
    default:
        set_outcome(ret, 451, "4.3.0 The message cannot be read: %s", strerror(-e));
        return e == -ENOMEM ? EX_OSERR : EX_IOERR;
    }
}

static int make_header(struct letter *l, struct str header)
{
    const struct sendmail_options *o = l->options;
    struct str domain = str_from(l->conf->hostname);
    struct compose c = {.sender = buf_str(&l->sender),
                        .full_name = str_from(l->full_name),
                        .domain = domain,
                        .is_gateway = o->is_gateway,
                        .takes_recipients = o->reads_recipients};
    int e = compose_header(&c, header, &l->header, &l->to);

    for (size_t i = 0; i < o->recipient_count && e == 0; i++)
        e = recipients_add(&l->to, str_from(o->recipients[i]), domain);
    return e;
}

int letter_read(struct letter *l, int fd, struct outcome *ret)
{
    struct input in;
    int e = 0;

    input_init(&in, l->options->ignores_dots, write_body, &l->body);
    l->body = letter_open_temporary();
    if (l->body < 0)
        e = -errno;
    if (e == 0)
        e = read_input(l, fd, &in);
    if (e == 0)
        e = make_header(l, buf_str(&in.header));
    l->size = in.size + l->header.len; /* an estimate from above: fields that went, CRLF, fields that came */
    l->is_8bit = in.is_8bit;
    input_finish(&in);
    if (e < 0)
        return explain_read(e, l->conf, ret);
    if (l->to.count == 0) {
        set_outcome(ret, 501, "5.1.0 No recipients: name them behind the options, or in the header with -t");
        return EX_USAGE;
    }
    l->outcomes = calloc(l->to.count, sizeof(*l->outcomes));
    return l->outcomes ? 0 : explain_read(-ENOMEM, l->conf, ret);
}

/* ---- submitting ---- */

/* RFC 3461 4: printable ASCII but "+" and "=". */
static int add_xtext(struct str text, struct buf *out)
{
    int e = 0;

    for (size_t i = 0; i < text.len && e == 0; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        e = c > 32 && c < 127 && c != '+' && c != '=' ? buf_add_byte(out, (char)c) : buf_printf(out, "+%02X", c);
    }
    return e;
}

static bool is_utf8(struct str address)
{
    for (size_t i = 0; i < address.len; i++)
        if (address.ptr[i] & '\x80')
            return true;
    return false;
}

static bool needs_utf8(const struct letter *l, size_t first, size_t count)
{
    bool is_needed = is_utf8(buf_str(&l->sender));

    for (size_t i = first; i < first + count; i++)
        is_needed |= is_utf8(str_from(l->to.items[i]));
    return is_needed;
}

static int say_mail(const struct letter *l, struct client *c, bool with_utf8, struct client_reply *ret)
{
    const struct sendmail_options *o = l->options;
    const char *body = o->body ? o->body : l->is_8bit ? "8BITMIME" : NULL;
    _cleanup_buf_ struct buf line = BUF_INIT(LIMIT_LINE_SMTP - 2);
    int e = buf_printf(&line, "MAIL FROM:<%s>", buf_cstr(&l->sender));

    if (e == 0 && c->has_size)
        e = buf_printf(&line, " SIZE=%llu", (unsigned long long)l->size);
    if (e == 0 && c->has_8bit && body)
        e = buf_printf(&line, " BODY=%s", l->is_8bit ? "8BITMIME" : body);
    if (e == 0 && with_utf8 && c->has_utf8)
        e = buf_add_str(&line, STR(" SMTPUTF8"));
    if (e == 0 && c->has_dsn && o->returns)
        e = buf_printf(&line, " RET=%s", o->returns);
    if (e == 0 && c->has_dsn && o->envelope) {
        e = buf_add_str(&line, STR(" ENVID="));
        if (e == 0)
            e = add_xtext(str_from(o->envelope), &line);
    }
    return e < 0 ? e : client_line(c, buf_str(&line), ret);
}

static int say_rcpt(const struct letter *l, struct client *c, const char *address, struct client_reply *ret)
{
    const char *notify = c->has_dsn ? l->options->notify : NULL;

    return client_command(c, ret, "RCPT TO:<%s>%s%s", address, notify ? " NOTIFY=" : "", notify ? notify : "");
}

static int send_body(const struct letter *l, struct client *c, bool *at_start)
{
    off_t at = 0;
    int e = 0;

    while (e == 0) {
        char bytes[32u << 10];
        ssize_t n = pread(l->body, bytes, sizeof(bytes), at);

        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        at += n;
        e = client_text(c, (struct str){bytes, (size_t)n}, at_start);
    }
    return e;
}

static int say_data(const struct letter *l, struct client *c, struct client_reply *ret)
{
    bool at_start = true;
    int e = client_command(c, ret, "DATA");

    if (e < 0 || ret->code != 354)
        return e;
    e = client_text(c, buf_str(&l->header), &at_start);
    if (e == 0)
        e = client_text(c, STR("\n"), &at_start);
    if (e == 0)
        e = send_body(l, c, &at_start);
    return e < 0 ? e : client_line(c, STR("."), ret);
}

/* Where nobody listens, a refusal is mostly for want of rights: the reader must learn what to switch on. */
static void decide(const struct letter *l, const struct client *c, size_t i, const struct client_reply *r)
{
    struct outcome *o = &l->outcomes[i];

    if (c->is_direct && !client_is_ok(r))
        set_outcome(o, 450, "4.3.2 Nothing listens on %s (%s); tried without: %u %s", l->conf->submit_socket,
                    strerror(-c->connect_error), r->code, r->text);
    else
        set_outcome(o, r->code, "%s", r->text);
}

static int transaction(struct letter *l, struct client *c, size_t first, size_t count)
{
    struct client_reply r;
    size_t accepted = 0;
    int e = say_mail(l, c, needs_utf8(l, first, count), &r);

    if (e == 0 && !client_is_ok(&r)) {
        for (size_t i = first; i < first + count; i++)
            decide(l, c, i, &r);
        return 0;
    }
    for (size_t i = first; i < first + count && e == 0; i++) {
        e = say_rcpt(l, c, l->to.items[i], &r);
        if (e == 0 && client_is_ok(&r))
            accepted++;
        else if (e == 0)
            decide(l, c, i, &r);
    }
    if (e == 0 && accepted > 0)
        e = say_data(l, c, &r);
    else if (e == 0)
        return client_command(c, &r, "RSET");
    for (size_t i = first; i < first + count && e == 0; i++)
        if (l->outcomes[i].code == 0)
            decide(l, c, i, &r);
    return e;
}

static int all_transactions(struct letter *l, struct client *c)
{
    int e = 0;

    for (size_t first = 0; first < l->to.count && e == 0; first += LIMIT_RECIPIENTS)
        e = transaction(l, c, first, l->to.count - first < LIMIT_RECIPIENTS ? l->to.count - first : LIMIT_RECIPIENTS);
    return e;
}

int letter_status(const struct outcome *o)
{
    static const struct {
        const char *enhanced;
        int status;
    } known[] = {
        {"5.1.2", EX_NOHOST}, {"5.1.", EX_NOUSER}, {"5.6.", EX_DATAERR}, {"5.7.", EX_NOPERM}, {"5.5.", EX_PROTOCOL},
    };

    if (o->code >= 200 && o->code < 400)
        return EX_OK;
    if (o->code < 500)
        return EX_TEMPFAIL;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (strncmp(o->text, known[i].enhanced, strlen(known[i].enhanced)) == 0)
            return known[i].status;
    return EX_UNAVAILABLE;
}

/* A permanent failure before a temporary one: who tries again because of the latter would send to the others twice. */
static int worst_status(const struct letter *l)
{
    int worst = EX_OK;

    for (size_t i = 0; i < l->to.count; i++) {
        int status = letter_status(&l->outcomes[i]);

        if (status != EX_OK && (worst == EX_OK || worst == EX_TEMPFAIL))
            worst = status;
    }
    return worst;
}

static FILE *open_transcript(const struct sendmail_options *o)
{
    if (o->transcript)
        return fopen(o->transcript, "ae");
    return o->is_verbose ? stdout : NULL;
}

int letter_submit(struct letter *l)
{
    FILE *transcript = open_transcript(l->options);
    struct client_reply r = {0};
    struct client c;
    int e = client_open(&c, l->conf, transcript, &r);

    if (e == 0)
        e = all_transactions(l, &c);
    for (size_t i = 0; i < l->to.count && e < 0; i++)
        if (l->outcomes[i].code == 0 && e == -EPROTO && r.code != 0)
            decide(l, &c, i, &r);
        else if (l->outcomes[i].code == 0)
            set_outcome(&l->outcomes[i], 0, "4.3.0 No answer from the mail service (%s): %s", l->conf->submit_socket,
                        strerror(-e));
    client_close(&c);
    if (transcript && transcript != stdout)
        (void)fclose(transcript);
    return worst_status(l);
}
