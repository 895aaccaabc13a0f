/*
 * Where the mail of a user is. Runs in sessions, as the user, and in the keeper; looks at the spool path. Apart from
 * the rest of session.h, which asks the name service when it is alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/base/limits.h"
#include "shared/gate/session.h"

/* A name that becomes part of a path. Leading dots would name hidden files, `..` the parent. */
static bool name_is_safe(struct str name)
{
    return name.len > 0 && name.len <= LIMIT_USER && name.ptr[0] != '.' && str_chr(name, '/') < 0 && !str_has_nul(name);
}

static int expand(const char *value, const struct session *s, char **ret)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_PATHNAME);
    int r = conf_expand(str_from(value), str_from(s->user), str_from(s->home), &path);

    if (r < 0)
        return r;
    *ret = str_dup(buf_str(&path));
    return *ret ? 0 : -ENOMEM;
}

int session_spool_path(const char *spool, struct str user, char **ret)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_PATHNAME);
    size_t len = strlen(spool);
    struct stat st;
    bool is_folder = (len > 0 && spool[len - 1] == '/') || (stat(spool, &st) == 0 && S_ISDIR(st.st_mode));
    int r = 0;

    if (!name_is_safe(user))
        return -EINVAL;
    r = buf_add(&path, spool, len);
    if (r == 0 && is_folder && spool[len - 1] != '/')
        r = buf_add_byte(&path, '/');
    if (r == 0 && is_folder)
        r = buf_add_str(&path, user);
    if (r < 0)
        return r;
    *ret = str_dup(buf_str(&path));
    return *ret ? 0 : -ENOMEM;
}

/* Was it said on the command line? */
static bool is_overridden(const struct conf *conf, struct str key)
{
    struct str rest = buf_str(&conf->overrides), word, name;
    bool is_option = false;

    while (rest.len > 0) {
        (void)str_cut(&rest, '\0', &word);
        if (is_option && str_cut(&word, '=', &name) && str_eq(str_trim(name), key))
            return true;
        is_option = !is_option && str_eq(word, STR("-o"));
    }
    return false;
}

/* A folder of all users' mail that is not there must not be taken for the mailbox of one, which would be empty. */
static bool is_missing_folder(const struct conf *conf, const char *spool)
{
    struct stat st;

    return !is_overridden(conf, STR("spool")) && strchr(conf->spool, '%') == NULL && stat(spool, &st) < 0;
}

int session_inbox(const struct conf *conf, struct str user, struct str home, char **ret)
{
    _cleanup_buf_ struct buf spool = BUF_INIT(LIMIT_PATHNAME);
    int r = conf_expand(str_from(conf->spool), user, home, &spool);

    if (r == 0 && is_missing_folder(conf, buf_cstr(&spool)))
        r = buf_add_byte(&spool, '/');
    return r < 0 ? r : session_spool_path(buf_cstr(&spool), user, ret);
}

/* The path without links and dots, as far as its folder exists. */
static int add_identity(const char *path, struct buf *out)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder =
        slash == NULL ? str_dup(STR(".")) : str_dup((struct str){path, slash == path ? 1 : (size_t)(slash - path)});
    _cleanup_free_ char *real = folder == NULL ? NULL : realpath(folder, NULL);

    if (folder == NULL)
        return -ENOMEM;
    return buf_printf(out, "%s/%s", real == NULL ? folder : real, slash == NULL ? path : slash + 1);
}

/* A try with other mail than the configured has a state of its own, named after what it is tried with: the state of the
 * user's mailboxes must not be mixed with it. */
static int separate_state(struct session *s)
{
    _cleanup_buf_ struct buf identity = BUF_INIT(LIMIT_PATHNAME * 4);
    _cleanup_buf_ struct buf state = BUF_INIT(LIMIT_PATHNAME);
    uint64_t sum = 0xcbf29ce484222325u; /* FNV-1a */
    char *path;
    int r;

    if ((r = add_identity(s->inbox, &identity)) < 0 || (r = buf_add_byte(&identity, '\0')) < 0 ||
        (r = add_identity(s->folders, &identity)) < 0)
        return r;
    for (size_t i = 0; i < identity.len; i++)
        sum = (sum ^ (uint8_t)identity.data[i]) * 0x100000001b3u;
    if ((r = buf_printf(&state, "%s/at-%016" PRIx64, s->state, sum)) < 0)
        return r;
    path = str_dup(buf_str(&state));
    if (path == NULL)
        return -ENOMEM;
    free(s->state);
    s->state = path;
    return 0;
}

int session_paths(const struct conf *conf, struct session *s)
{
    int r = session_inbox(conf, str_from(s->user), str_from(s->home), &s->inbox);

    if (r == 0)
        r = expand(conf->folders, s, &s->folders);
    if (r == 0)
        r = expand(conf->state, s, &s->state);
    if (r == 0 && !is_overridden(conf, STR("state")) &&
        (is_overridden(conf, STR("spool")) || is_overridden(conf, STR("folders"))))
        r = separate_state(s);
    return r;
}
