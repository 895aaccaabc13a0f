/*
 * Special-use mailboxes (see special.h). Runs in imap-session as the user; touches one file of the state folder.
 */
#include "handlers/imap/special.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handlers/imap/folders.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define FILE_NAME "special-use"
#define FILE_MAX  ((size_t)SPECIAL_USES * (LIMIT_MAILBOX_NAME + 32))

static const struct {
    const char *attribute;
    const char *usual_name;
} uses[SPECIAL_USES] = {
    {"\\Drafts", "Drafts"}, {"\\Sent", "Sent"}, {"\\Junk", "Junk"}, {"\\Trash", "Trash"}, {"\\Archive", "Archive"},
};

const char *special_attribute(unsigned use)
{
    return uses[use].attribute;
}

int special_use(struct str attribute)
{
    for (unsigned i = 0; i < SPECIAL_USES; i++)
        if (str_ieq(attribute, str_from(uses[i].attribute)))
            return (int)i;
    return -ENOENT;
}

int special_of(const struct special *sp, struct str name)
{
    for (unsigned i = 0; i < SPECIAL_USES; i++)
        if (sp->names[i].len && str_eq(sp->names[i], name))
            return (int)i;
    return -ENOENT;
}

void special_finish(struct special *sp)
{
    buf_finish(&sp->text);
}

/* Opens the state folder, made if need be. An fd or a negative errno. */
static int open_state(struct imap *s)
{
    int fd;

    if (!s->who->state)
        return -ENOENT;
    fd = open(s->who->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int read_all(int dir, struct buf *text)
{
    _cleanup_close_ int fd = openat(dir, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return -errno;
    for (;;) {
        char block[1024];
        ssize_t n = read(fd, block, sizeof(block));
        int r;

        if (n <= 0)
            return n < 0 ? -errno : 0;
        r = buf_add(text, block, (size_t)n);
        if (r < 0)
            return r;
    }
}

int special_load(struct imap *s, struct special *sp)
{
    struct str rest, line, attribute;
    _cleanup_close_ int dir = open_state(s);

    *sp = (struct special){.text = BUF_INIT(FILE_MAX)};
    for (unsigned i = 0; i < SPECIAL_USES; i++) {
        sp->names[i] = str_from(uses[i].usual_name);
        sp->is_default[i] = true;
    }
    if (dir < 0 || read_all(dir, &sp->text) < 0)
        return 0;
    rest = buf_str(&sp->text);
    while (rest.len) {
        int use;

        (void)str_cut(&rest, '\n', &line);
        if (!str_cut(&line, '\t', &attribute))
            continue;
        use = special_use(attribute);
        if (use < 0 || (line.len && mbox_name_check(line) < 0))
            continue;
        sp->names[use] = line.len ? line : STR_NULL;
        sp->is_default[use] = false;
    }
    return 0;
}

/* Writes the file anew beside the old one, then puts it in its place. */
static int replace(int dir, struct str text)
{
    char temporary[64];
    int r = 0;

    (void)snprintf(temporary, sizeof(temporary), "." FILE_NAME ".%ld", (long)getpid());
    (void)unlinkat(dir, temporary, 0);
    _cleanup_close_ int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return -errno;
    while (text.len && r >= 0) {
        ssize_t n = write(fd, text.ptr, text.len);

        if (n < 0 && errno != EINTR)
            r = -errno;
        else if (n > 0)
            text = str_sub(text, (size_t)n, text.len);
    }
    if (r >= 0 && (fsync(fd) < 0 || renameat(dir, temporary, dir, FILE_NAME) < 0 || fsync(dir) < 0))
        r = -errno;
    if (r < 0)
        (void)unlinkat(dir, temporary, 0);
    return r;
}

static int save(struct imap *s, const struct special *sp)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    _cleanup_close_ int dir = open_state(s);
    int r = dir < 0 ? dir : 0;

    for (unsigned i = 0; i < SPECIAL_USES && r >= 0; i++)
        if (!sp->is_default[i])
            r = buf_printf(&text, "%s\t%.*s\n", uses[i].attribute, STR_ARG(sp->names[i]));
    return r < 0 ? r : replace(dir, buf_str(&text));
}

int special_assign(struct imap *s, struct str name, unsigned bits)
{
    _cleanup_special_ struct special sp;
    int r = special_load(s, &sp);

    for (unsigned i = 0; i < SPECIAL_USES; i++) {
        if (!(bits & (1u << i)))
            continue;
        sp.names[i] = name;
        sp.is_default[i] = false;
    }
    return r < 0 ? r : save(s, &sp);
}

int special_moved(struct imap *s, struct str from, struct str to)
{
    _cleanup_special_ struct special sp;
    bool is_changed = false;
    int r = special_load(s, &sp);

    for (unsigned i = 0; i < SPECIAL_USES; i++) {
        struct str now = STR_NULL;

        if (!sp.names[i].len)
            continue;
        /* RENAME takes the names below along, those of INBOX apart; DELETE does not (RFC 9051 6.3.5, 6.3.6). */
        if (to.len && !str_eq(from, STR("INBOX")))
            now = folders_renamed(&s->parse, sp.names[i], from, to);
        if (!now.len && !str_eq(sp.names[i], from))
            continue;
        sp.names[i] = now;
        sp.is_default[i] = false;
        is_changed = true;
    }
    return r < 0 || !is_changed ? r : save(s, &sp);
}

bool special_is_offered(void *imap, struct str name)
{
    struct imap *s = imap;
    _cleanup_special_ struct special sp;

    return special_load(s, &sp) >= 0 && special_of(&sp, name) >= 0;
}
