/*
 * Dropping privileges. Runs in every process of the chain that starts as root: the code between root and not root.
 */
#include "shared/gate/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/gate/sandbox.h"

bool priv_is_root(void)
{
    return geteuid() == 0;
}

/* All three ids are what they should be, and the way back is closed. */
static int verify_ids(uid_t uid, gid_t gid)
{
    uid_t r = 0;
    uid_t e = 0;
    uid_t s = 0;
    gid_t rg = 0;
    gid_t eg = 0;
    gid_t sg = 0;

    if (getresuid(&r, &e, &s) < 0 || getresgid(&rg, &eg, &sg) < 0)
        return -errno;
    if (r != uid || e != uid || s != uid || rg != gid || eg != gid || sg != gid)
        return -EPERM;
    return setuid(0) < 0 && setgid(0) < 0 ? 0 : -EPERM;
}

static int set_ids(uid_t uid, gid_t gid, const gid_t *groups, size_t count)
{
    if (uid == 0 || gid == 0)
        return -EPERM;
    if (setgroups(count, groups) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    return verify_ids(uid, gid);
}

int priv_user_make(struct priv_user *ret, struct str name, struct str home, uint32_t uid, uint32_t gid,
                   struct str groups)
{
    struct priv_user u = {.uid = uid, .gid = gid, .group_count = (int)(groups.len / sizeof(*u.groups))};

    if (name.len == 0 || name.len > LIMIT_USER || str_has_nul(name) || home.len > LIMIT_PATHNAME || str_has_nul(home) ||
        groups.len > sizeof(u.groups) || groups.len % sizeof(*u.groups) != 0)
        return -EBADMSG;
    if (groups.len > 0)
        memcpy(u.groups, groups.ptr, groups.len);
    u.name = str_dup(name);
    u.home = str_dup(home);
    if (!u.name || !u.home) {
        priv_user_finish(&u);
        return -ENOMEM;
    }
    *ret = u;
    return 0;
}

struct str priv_user_groups(const struct priv_user *u)
{
    return (struct str){(const char *)u->groups, (size_t)u->group_count * sizeof(*u->groups)};
}

void priv_user_finish(struct priv_user *u)
{
    free(u->name);
    free(u->home);
    *u = (struct priv_user){0};
}

int priv_become(const struct priv_user *u)
{
    if (!priv_is_root())
        return getuid() == u->uid && geteuid() == u->uid && u->uid != 0 ? 0 : -EPERM;
    return set_ids(u->uid, u->gid, u->groups, (size_t)u->group_count);
}

int priv_no_new_privs(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* Dropping from the bounding set needs CAP_SETPCAP: only root can, and only root needs to. The loop ends at the first
 * number that the kernel does not know. */
static int limit_bounding_set(uint64_t mask)
{
    for (int cap = 0; cap < 64; cap++)
        if (!(mask & (UINT64_C(1) << cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return errno == EINVAL || errno == EPERM ? 0 : -errno;
    return 0;
}

int priv_keep_capabilities(uint64_t mask)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)mask, .permitted = (uint32_t)mask},
        {.effective = (uint32_t)(mask >> 32), .permitted = (uint32_t)(mask >> 32)},
    };
    int r = limit_bounding_set(mask);

    if (r < 0)
        return r;
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* kernels without ambient sets have none */
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int priv_die_with_parent(pid_t parent, int signal)
{
    if (prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0)
        return -errno;
    return getppid() == parent ? 0 : -ESRCH;
}

/* The empty root: whoever may write there could plant files, so it has to be root's own. */
static int enter_empty_dir(void)
{
    _cleanup_close_ int fd = open(PRIV_EMPTY_DIR, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0 && errno == ENOENT) {
        if (mkdir(PRIV_EMPTY_DIR, 0555) < 0 && errno != EEXIST)
            return -errno;
        fd = open(PRIV_EMPTY_DIR, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (st.st_uid != 0 || (st.st_mode & 022) != 0)
        return -EPERM;
    return fchdir(fd) < 0 || chroot(".") < 0 || chdir("/") < 0 ? -errno : 0;
}

int priv_account_listed(const char *account, uid_t *ret_uid, gid_t *ret_gid)
{
    FILE *f = fopen("/etc/passwd", "re");
    const struct passwd *pw;
    int r = -ENOENT;

    if (!f)
        return -errno;
    while (r < 0 && (pw = fgetpwent(f)) != NULL) {
        if (strcmp(pw->pw_name, account) != 0)
            continue;
        *ret_uid = pw->pw_uid;
        *ret_gid = pw->pw_gid;
        r = 0;
    }
    (void)fclose(f);
    return r;
}

int priv_account_given(const char *account, uid_t *ret_uid, gid_t *ret_gid)
{
    const char *text = getenv(PRIV_ACCOUNT_ENV);
    struct str gid = str_from(text), name, uid;
    uint32_t u, g;

    /* Told for another one: nobody's business here. */
    if (!text || !str_cut(&gid, ':', &name) || !str_eq(name, str_from(account)) || !str_cut(&gid, ':', &uid) ||
        str_to_u32(uid, &u) < 0 || str_to_u32(gid, &g) < 0)
        return -ENOENT;
    *ret_uid = u;
    *ret_gid = g;
    return 0;
}

static int become_account(const struct priv_confinement *c, const char **ret_what)
{
    uid_t uid = 0;
    gid_t gid = 0;
    int r = 0;

    *ret_what = c->account;
    r = c->find(c->account, &uid, &gid);
    if (r < 0)
        return r;
    *ret_what = PRIV_EMPTY_DIR;
    r = enter_empty_dir();
    if (r < 0)
        return r;
    *ret_what = "setresuid";
    return set_ids(uid, gid, NULL, 0);
}

static int limit(int resource, rlim_t value)
{
    struct rlimit l = {.rlim_cur = value, .rlim_max = value};

    return setrlimit(resource, &l) < 0 ? -errno : 0;
}

static int set_limits(const struct priv_confinement *c)
{
    int r = limit(RLIMIT_CORE, 0);

    if (r == 0)
        r = limit(RLIMIT_NPROC, 0);
    if (r == 0)
        r = limit(RLIMIT_NOFILE, c->open_files);
    if (r == 0)
        r = limit(RLIMIT_FSIZE, c->file_size);
    if (r == 0 && sandbox_is_built())
        r = limit(RLIMIT_DATA, c->memory);
    return r;
}

int priv_confine(const struct priv_confinement *c, const char **ret_what)
{
    pid_t parent = getppid();
    int r = 0;

    if (priv_is_root()) {
        *ret_what = "capability bounding set";
        r = limit_bounding_set(0); /* while CAP_SETPCAP is there */
        if (r == 0)
            r = become_account(c, ret_what);
        if (r < 0)
            return r;
    }
    *ret_what = "capabilities";
    r = priv_keep_capabilities(0);
    if (r < 0)
        return r;
    *ret_what = "no_new_privs";
    r = priv_no_new_privs();
    if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        r = -errno;
    if (r < 0)
        return r;
    *ret_what = "rlimits";
    r = set_limits(c);
    if (r < 0)
        return r;
    *ret_what = "parent";
    return priv_die_with_parent(parent, SIGKILL);
}
