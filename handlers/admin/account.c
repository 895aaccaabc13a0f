#include "handlers/admin/account.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include "handlers/admin/child.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/gate/priv.h"
#include "shared/gate/session.h"

#define PASSWORD_BYTES 18 /* random, 24 characters of base64 */
#define USERDEL_TRIES  20
#define THROWAWAY_DAYS 2 /* in every time zone still valid */
#define ACCOUNT_HOME   "/var/lib/pennypost/check"

static int read_line(int fd, struct buf *out)
{
    for (size_t i = 0; i < LIMIT_PASSWORD; i++) {
        char c;
        ssize_t n = read(fd, &c, 1);

        if (n < 0)
            return -errno;
        if (n == 0 || c == '\n')
            return 0;
        if (buf_add_byte(out, c) < 0)
            return -ENOBUFS;
    }
    return -ENOBUFS;
}

static int ask_password(const char *user, struct buf *out)
{
    _cleanup_close_ int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    struct termios saved;
    struct termios silent;
    int r;

    if (tty < 0 || tcgetattr(tty, &saved) < 0)
        return -ENOTTY;
    silent = saved;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    (void)dprintf(tty, "Password of %s, for the logins of this check: ", user);
    (void)tcsetattr(tty, TCSAFLUSH, &silent);
    r = read_line(tty, out);
    (void)tcsetattr(tty, TCSAFLUSH, &saved);
    (void)dprintf(tty, "\n");
    return r;
}

static int read_password_file(const char *path, struct buf *out)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    return fd < 0 ? -errno : read_line(fd, out);
}

static int random_password(struct buf *out)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char random[PASSWORD_BYTES * 4 / 3];
    int r = secret_random(random, sizeof(random));

    _Static_assert(sizeof(letters) == 65, "six bits each");
    for (size_t i = 0; r == 0 && i < sizeof(random); i++)
        r = buf_add_byte(out, letters[random[i] & 63]);
    secret_wipe(random, sizeof(random));
    return r;
}

/* Runs an account tool; `input` is what chpasswd reads. */
static int account_tool(const char *const argv[], struct str input, struct buf *why)
{
    _cleanup_buf_ struct buf output = BUF_INIT(4096);
    int status = child_run(argv, input, &output);

    if (status == 0)
        return 0;
    if (status < 0)
        (void)buf_printf(why, "%s: %s", argv[0], strerror(-status));
    else if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        (void)buf_printf(why, "%s is not installed (Debian: apt-get install passwd)", argv[0]);
    else
        (void)buf_printf(why, "%s failed: %.*s", argv[0], STR_ARG(str_trim(buf_str(&output))));
    return status < 0 ? status : -ECANCELED;
}

/* Its mailbox, where that is named after it: in its home it goes with that, and a `spool` that is one file for all is
 * not its own. */
static int remove_box(const struct conf *conf)
{
    _cleanup_free_ char *box = NULL;

    if (session_inbox(conf, STR(ACCOUNT_THROWAWAY), STR(ACCOUNT_HOME), &box) < 0 ||
        !str_ends(str_from(box), STR("/" ACCOUNT_THROWAWAY)))
        return 0;
    return unlink(box) < 0 && errno != ENOENT ? -errno : 0;
}

static int remove_throwaway(const struct conf *conf, struct buf *why)
{
    static const char *const userdel[] = {"userdel", "--remove", ACCOUNT_THROWAWAY, NULL};
    int r = remove_box(conf);

    /* userdel refuses while a process of the user lives: the last session may need a moment to end. */
    for (int i = 0; getpwnam(ACCOUNT_THROWAWAY); i++) {
        int s;

        buf_clear(why);
        s = account_tool(userdel, STR_NULL, why);
        if (s < 0 && i >= USERDEL_TRIES)
            return s;
        if (s < 0)
            (void)nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    }
    return r;
}

/* No login shell, a home without files, and it expires by itself should we die before removing it. */
static int make_throwaway(const struct conf *conf, struct account *a, struct buf *why)
{
    char expiry[sizeof("2026-12-31")];
    const char *const useradd[] = {"useradd",         "--create-home",
                                   "--home-dir",      ACCOUNT_HOME,
                                   "--skel",          PRIV_EMPTY_DIR,
                                   "--shell",         "/usr/sbin/nologin",
                                   "--expiredate",    expiry,
                                   "--comment",       "of pennypost check, removed when it ends",
                                   ACCOUNT_THROWAWAY, NULL};
    static const char *const chpasswd[] = {"chpasswd", NULL};
    _cleanup_(buf_wipe_finish) struct buf line = BUF_INIT(256);
    time_t expires = (time_t)clock_now(&conf->clock) + THROWAWAY_DAYS * 86400;
    struct tm tm;
    int r;

    if (!gmtime_r(&expires, &tm) || strftime(expiry, sizeof(expiry), "%Y-%m-%d", &tm) == 0)
        return -ERANGE;
    r = remove_throwaway(conf, why);
    if (r == 0)
        r = account_tool(useradd, STR_NULL, why);
    if (r < 0)
        return r;
    a->is_throwaway = true;
    (void)snprintf(a->name, sizeof(a->name), "%s", ACCOUNT_THROWAWAY);
    r = random_password(&a->password);
    if (r == 0)
        r = buf_printf(&line, "%s:%s\n", a->name, buf_cstr(&a->password));
    if (r == 0)
        r = account_tool(chpasswd, buf_str(&line), why);
    return r;
}

/* Runs `pennypost device ...` of this very program with this configuration. */
static int device_tool(const struct conf *conf, const char *const words[], size_t count, struct buf *output)
{
    char program[PATH_MAX];
    const char *argv[64] = {program};
    char *options[48];
    ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);
    int n = 0;
    int r;

    if (len < 0)
        return -errno;
    program[len] = '\0';
    r = conf_pass_on(conf, options, &n, ARRAY_SIZE(options));
    if (r < 0)
        return r;
    for (int i = 0; i < n; i++)
        argv[1 + i] = options[i];
    for (size_t i = 0; i < count; i++)
        argv[1 + (size_t)n + i] = words[i];
    return child_run(argv, STR_NULL, output);
}

/* Root may lend itself a login of a user: a device password that is revoked when the check ends, and in a day by
 * itself. */
static int lend_password(const struct conf *conf, struct account *a, struct buf *why)
{
    const char *const words[] = {"device", "add", "--name", ACCOUNT_THROWAWAY, "--days", "1", a->name};
    _cleanup_(buf_wipe_finish) struct buf output = BUF_INIT(4096);
    int status = device_tool(conf, words, ARRAY_SIZE(words), &output);
    struct str word = str_trim(buf_str(&output));

    if (status != 0) {
        (void)buf_printf(why, "no device password for %s: %.*s", a->name, STR_ARG(word));
        return status < 0 ? status : -ECANCELED;
    }
    a->is_lent = true;
    return buf_add_str(&a->password, word);
}

static int return_password(const struct conf *conf, const struct account *a, struct buf *why)
{
    const char *const words[] = {"device", "revoke", a->name, ACCOUNT_THROWAWAY};
    _cleanup_buf_ struct buf output = BUF_INIT(4096);
    int status = device_tool(conf, words, ARRAY_SIZE(words), &output);

    if (status == 0)
        return 0;
    (void)buf_printf(why, "%.*s", STR_ARG(str_trim(buf_str(&output))));
    return -ECANCELED;
}

/* Who became root to call us: sudo and doas say it, else the kernel remembers who logged in. NULL: root himself, or
 * somebody without a mail login. */
static struct passwd *invoking_user(const struct conf *conf)
{
    static const char *const variables[] = {"SUDO_USER", "DOAS_USER"};
    _cleanup_close_ int fd = open("/proc/self/loginuid", O_RDONLY | O_CLOEXEC);
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_PASSWORD);
    struct passwd *pw = NULL;
    uint32_t uid = UINT32_MAX;

    for (size_t i = 0; i < ARRAY_SIZE(variables) && !pw; i++) {
        const char *name = getenv(variables[i]);

        pw = name ? getpwnam(name) : NULL;
    }
    if (!pw && fd >= 0 && read_line(fd, &text) == 0 && str_to_u32(buf_str(&text), &uid) == 0 && uid != UINT32_MAX)
        pw = getpwuid(uid);
    return pw && pw->pw_uid != 0 && pw->pw_uid >= conf->min_uid ? pw : NULL;
}

int account_choose(const struct conf *conf, const char *user, const char *password_file, struct account *ret,
                   struct buf *why)
{
    struct passwd *pw = NULL;
    int r;

    *ret = (struct account){.password = BUF_INIT(LIMIT_PASSWORD)};
    pw = user ? getpwnam(user) : geteuid() == 0 ? invoking_user(conf) : getpwuid(getuid());
    if (!user && !pw && geteuid() == 0)
        return make_throwaway(conf, ret, why);
    if (!pw) {
        (void)buf_printf(why, "there is no user %s", user ? user : "for this uid");
        return -ENOENT;
    }
    if (strlen(pw->pw_name) >= sizeof(ret->name)) {
        (void)buf_printf(why, "the name of this user is too long");
        return -EINVAL;
    }
    (void)snprintf(ret->name, sizeof(ret->name), "%s", pw->pw_name);
    if (pw->pw_uid < conf->min_uid) {
        (void)buf_printf(why, "%s has no mail login: uid %u is below min_uid %u", ret->name, (unsigned)pw->pw_uid,
                         (unsigned)conf->min_uid);
        return -EPERM;
    }
    if (!password_file && geteuid() == 0)
        return lend_password(conf, ret, why);
    r = password_file ? read_password_file(password_file, &ret->password) : ask_password(ret->name, &ret->password);
    if (r == -ENOTTY)
        (void)buf_printf(
            why,
            "a login needs the password of %s: run this on a terminal, or with --password-file, or as root "
            "(a login is lent for the check)",
            ret->name);
    else if (r < 0)
        (void)buf_printf(why, "%s: %s", password_file ? password_file : "password", strerror(-r));
    return r;
}

int account_finish(const struct conf *conf, struct account *a)
{
    _cleanup_buf_ struct buf why = BUF_INIT(1024);
    int r = a->is_throwaway ? remove_throwaway(conf, &why) : 0;

    if (r < 0)
        (void)fprintf(stderr, "pennypost: the account %s is left behind: %s\n", ACCOUNT_THROWAWAY, buf_cstr(&why));
    if (a->is_lent) {
        int s = return_password(conf, a, &why);

        if (s < 0)
            (void)fprintf(stderr, "pennypost: the device password %s of %s is left behind: %s\n", ACCOUNT_THROWAWAY,
                          a->name, buf_cstr(&why));
        r = s < 0 ? s : r;
    }
    a->is_throwaway = false;
    a->is_lent = false;
    buf_wipe_finish(&a->password);
    return r;
}
