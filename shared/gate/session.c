/*
 * How a session learns for whom it runs: from its monitor through fd 3, or, alone, from the account that invoked it.
 * Runs in the session's process, as the user; reads the account data base when alone, looks at the spool path.
 */
#include "shared/gate/session.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/gate/peer.h"
#include "shared/gate/priv.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

#define START_TIMEOUT_MS 60000 /* the client may have a word to say yet; the monitor waits less, and ends us then */

/* ---- started by a monitor ---- */

static int copy(struct str from, char **ret)
{
    if (str_has_nul(from))
        return -EBADMSG;
    *ret = str_dup(from);
    return *ret ? 0 : -ENOMEM;
}

/* We were started ahead of the login, as the monitor's user: on the connection of whoever has logged in we become him.
 * Until then nothing is read but the program, its configuration and this frame. */
static int become(int control)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct priv_user user = {0};
    uint32_t monitor;
    struct str groups;
    int r = frame_recv(control, &f, -1);

    if (r < 0)
        return r == -ENODATA ? -ECANCELED : r;
    if (f.type != FRAME_SESSION_USER || f.fd < 0 ||
        frame_take(&f, FRAME_TO_U32(&monitor, INT32_MAX), FRAME_TO_U32(&user.uid, UINT32_MAX),
                   FRAME_TO_U32(&user.gid, UINT32_MAX), FRAME_TO_STR(&groups, sizeof(user.groups))) < 0 ||
        groups.len % sizeof(*user.groups) != 0)
        return -EBADMSG;
    user.group_count = (int)(groups.len / sizeof(*user.groups));
    if (groups.len > 0)
        memcpy(user.groups, groups.ptr, groups.len);
    r = priv_become(&user);
    if (r == 0)
        r = priv_die_with_parent((pid_t)monitor, SIGTERM); /* what the monitor had set is gone with the change of ids */
    if (r == 0 && (dup2(f.fd, STDIN_FILENO) < 0 || dup2(f.fd, STDOUT_FILENO) < 0))
        r = -errno;
    return r;
}

/* The next field as a string of our own, or into a buffer. */
static int get_copy(struct frame_reader *r, size_t max, char **ret)
{
    struct str field;
    int e = frame_get_str(r, max, &field);

    return e < 0 ? e : copy(field, ret);
}

static int get_buf(struct frame_reader *r, struct buf *out)
{
    struct str field;
    int e = frame_get_str(r, LIMIT_FRAME, &field);

    return e < 0 ? e : buf_add_str(out, field);
}

static int read_start(const struct frame *f, struct session *s)
{
    struct frame_reader in = frame_read(f);
    uint32_t is_tls = 0;
    int r = 0;

    if (f->type != FRAME_SESSION_START)
        return -EBADMSG;
    if ((r = get_copy(&in, LIMIT_USER, &s->user)) < 0 || (r = get_copy(&in, LIMIT_PATHNAME, &s->home)) < 0 ||
        (r = get_copy(&in, LIMIT_ADDRESS, &s->peer)) < 0 || (r = get_copy(&in, LIMIT_ADDRESS, &s->local)) < 0 ||
        (r = frame_get_u32(&in, &is_tls)) < 0 || (r = get_copy(&in, LIMIT_NOTE, &s->tls)) < 0 ||
        (r = get_buf(&in, &s->unread)) < 0 || (r = get_buf(&in, &s->protocol)) < 0 ||
        (r = get_buf(&in, &s->messages)) < 0 || (r = frame_end(&in)) < 0)
        return r;
    if (is_tls > 1)
        return -EBADMSG;
    s->is_tls = is_tls == 1;
    return 0;
}

int session_receive(int control, struct session *s)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    if (fcntl(control, F_SETFD, FD_CLOEXEC) < 0)
        return -EBADMSG;
    r = frame_recv(control, &f, START_TIMEOUT_MS);
    if (r < 0)
        return r;
    r = read_start(&f, s);
    if (r < 0)
        return r;
    s->control = control;
    return 0;
}

/* ---- alone ---- */

/* Several accounts may share a uid: the one that is logged in is the one that is meant. */
static const struct passwd *own_account(void)
{
    static const char *const variables[] = {"USER", "LOGNAME"};

    for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
        const char *name = getenv(variables[i]);
        const struct passwd *pw = name ? getpwnam(name) : NULL;

        if (pw && pw->pw_uid == getuid())
            return pw;
    }
    return getpwuid(getuid());
}

static int start_alone(struct session *s)
{
    struct peer peer;
    const struct passwd *pw = NULL;
    const char *home = getenv("HOME");

    errno = 0;
    pw = own_account();
    if (!pw)
        return errno == 0 || errno == ESRCH ? -ENOENT : -errno;
    peer_find(STDIN_FILENO, &peer);
    s->user = strdup(pw->pw_name);
    s->home = strdup(home && home[0] == '/' ? home : pw->pw_dir);
    s->peer = strdup(peer.address);
    s->local = strdup(peer.local);
    s->tls = strdup("");
    s->is_preauth = true;
    return s->user && s->home && s->peer && s->local && s->tls ? 0 : -ENOMEM;
}

int session_start(const struct conf *conf, struct session *ret)
{
    struct session s = SESSION_INIT;
    const char *control = getenv(GATE_CONTROL_ENV);
    int r = 0;

    bool has_monitor = control && strcmp(control, "3") == 0;

    if (has_monitor)
        r = become(GATE_CONTROL_FD);
    if (r < 0)
        return r;
    if (getuid() == 0 || geteuid() == 0)
        return -EPERM;
    s.uid = getuid();
    r = has_monitor ? session_receive(GATE_CONTROL_FD, &s) : start_alone(&s);
    if (r == 0)
        r = unsetenv(GATE_CONTROL_ENV) < 0 ? -errno : session_paths(conf, &s);
    if (r < 0) {
        session_finish(&s);
        return r == -ENODATA || r == -ETIMEDOUT || r == -ENOTSOCK ? -EBADMSG : r;
    }
    *ret = s;
    return 0;
}

void session_finish(struct session *s)
{
    free(s->user);
    free(s->home);
    free(s->peer);
    free(s->local);
    free(s->tls);
    buf_wipe_finish(&s->unread);
    buf_wipe_finish(&s->protocol);
    buf_finish(&s->messages);
    free(s->inbox);
    free(s->folders);
    free(s->state);
    *s = (struct session){.control = -1};
}
