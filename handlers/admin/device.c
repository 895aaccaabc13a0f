/*
 * pennypost device: passwords for one device each, for clients that should not know the login password and for
 * challenge mechanisms, which PAM cannot do. Runs as root and writes the file of `devices`; without root only a file of
 * one's own
 * (-o devices=FILE). A password is printed once and kept in a form that cannot be turned back, except with --cram.
 */
#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>

#include "handlers/admin/command.h"
#include "shared/base/devices.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/crypto/scram.h"
#include "shared/login/base64.h"

#define SALT_BYTES      16
#define KEY_BYTES       32
#define GROUPS          5 /* of four characters of five bits: 100 bits, beyond guessing even with MD5 */
#define GROUP           4
#define SECONDS_PER_DAY 86400
#define DAYS_MAX        36500
#define NEVER_USED      "----------"

struct options {
    const char *name;
    const char *protocols;
    uint32_t days;
    bool has_cram;
};

/* The strings of a new row, which its views point into. */
struct fresh {
    struct buf salt, salt1; /* base64 */
    struct buf stored, server, stored1, server1;
    struct buf cram;
    char password[GROUPS * (GROUP + 1)]; /* NUL in the place of the last dash */
};

static int usage(void)
{
    (void)fprintf(stderr,
                  "usage: pennypost device add [--name TEXT] [--protocols imap,pop3,pop2,smtp] [--days N] [--cram]\n"
                  "                            USER\n"
                  "       pennypost device list [USER]\n"
                  "       pennypost device revoke USER NUMBER|NAME|all\n");
    return EX_USAGE;
}

static int fail(const char *what, int err)
{
    (void)fprintf(stderr, "pennypost: %s: %s\n", what,
                  err == -EPERM ? "not ours, or readable by others" : strerror(-err));
    return err == -EACCES || err == -EPERM ? EX_NOPERM : EX_OSERR;
}

/* ---- a new password ---- */

/* No letters and digits that look alike. */
static int make_password(char out[static GROUPS * (GROUP + 1)])
{
    static const char alphabet[] = "abcdefghijkmnpqrstuvwxyz23456789";
    unsigned char random[GROUPS * GROUP];
    int r = secret_random(random, sizeof(random));

    _Static_assert(sizeof(alphabet) - 1 == 32, "five bits each");
    for (size_t i = 0; r == 0 && i < sizeof(random); i++) {
        size_t at = i + i / GROUP;

        out[at] = alphabet[random[i] & 31];
        if ((i + 1) % GROUP == 0)
            out[at + 1] = i + 1 < sizeof(random) ? '-' : '\0';
    }
    secret_wipe(random, sizeof(random));
    return r;
}

static int encode(const void *data, size_t len, struct buf *out)
{
    return base64_encode((struct str){data, len}, out);
}

static int make_salt(struct str known, struct buf *out)
{
    char random[SALT_BYTES];
    int r;

    if (known.len > 0)
        return buf_add_str(out, known);
    r = secret_random(random, sizeof(random));
    return r < 0 ? r : encode(random, sizeof(random), out);
}

static int make_keys(enum digest digest, const char *password, const struct buf *salt, struct buf *stored,
                     struct buf *server)
{
    _cleanup_buf_ struct buf raw = BUF_INIT(DIGEST_MAX);
    struct scram_keys keys;
    int r = base64_decode(buf_str(salt), &raw);

    if (r == 0)
        r = scram_derive(digest, str_from(password), buf_str(&raw), SCRAM_ITERATIONS, &keys);
    if (r == 0)
        r = encode(keys.stored, digest_size(digest), stored);
    if (r == 0)
        r = encode(keys.server, digest_size(digest), server);
    return r;
}

/* `known`: another row of this user, or NULL: all share their salts. */
static int make_fresh(const struct device *known, bool has_cram, struct fresh *f, struct device *row)
{
    int r = make_password(f->password);

    if (r == 0)
        r = make_salt(known ? known->sha256.salt : STR_NULL, &f->salt);
    if (r == 0)
        r = make_salt(known ? known->sha1.salt : STR_NULL, &f->salt1);
    if (r == 0)
        r = make_keys(DIGEST_SHA256, f->password, &f->salt, &f->stored, &f->server);
    if (r == 0)
        r = make_keys(DIGEST_SHA1, f->password, &f->salt1, &f->stored1, &f->server1);
    if (r == 0 && has_cram)
        r = encode(f->password, strlen(f->password), &f->cram);
    row->sha256 = (struct device_scram){SCRAM_ITERATIONS, buf_str(&f->salt), buf_str(&f->stored), buf_str(&f->server)};
    row->sha1 = (struct device_scram){SCRAM_ITERATIONS, buf_str(&f->salt1), buf_str(&f->stored1), buf_str(&f->server1)};
    row->cram = buf_str(&f->cram);
    return r;
}

/* ---- the file ---- */

/* The file under its lock; a missing one is begun. */
static int open_file(const char *path, int *ret_lock, struct devices *ret)
{
    _cleanup_buf_ struct buf header = BUF_INIT(DEVICES_LINE_MAX);
    _cleanup_buf_ struct buf text = BUF_INIT(DEVICES_LINE_MAX);
    char key[KEY_BYTES];
    int r = devices_lock(path, ret_lock);

    if (r == 0)
        r = devices_load(path, ret);
    if (r != -ENOENT)
        return r;
    r = secret_random(key, sizeof(key));
    if (r == 0)
        r = encode(key, sizeof(key), &text);
    if (r == 0)
        r = devices_print_header(buf_str(&text), &header);
    if (r == 0)
        r = devices_replace(path, buf_str(&header));
    return r < 0 ? r : devices_load(path, ret);
}

/* The whole file as it stands, ready for a line more. */
static int copy_text(const struct devices *d, struct buf *out)
{
    int r = buf_add_str(out, buf_str(&d->text));

    if (r == 0 && out->len > 0 && out->data[out->len - 1] != '\n')
        r = buf_add_byte(out, '\n');
    return r;
}

static int append(const char *path, const struct options *o, struct str user, struct devices *d, struct fresh *f)
{
    _cleanup_buf_ struct buf text = BUF_INIT(DEVICES_FILE_MAX);
    struct device known = {0}, other, row = {.user = user, .used = STR(NEVER_USED)};
    bool has_known = false;
    int r;

    while (devices_next(d, &other) > 0) {
        if (str_eq(other.user, user)) {
            known = other;
            has_known = true;
        }
        if (other.id > row.id)
            row.id = other.id;
    }
    row.id++;
    row.name = str_from(o->name);
    row.protocols = str_from(o->protocols);
    row.created = (uint64_t)time(NULL);
    row.expires = o->days > 0 ? row.created + (uint64_t)o->days * SECONDS_PER_DAY : 0;
    r = make_fresh(has_known ? &known : NULL, o->has_cram, f, &row);
    if (r == 0)
        r = copy_text(d, &text);
    if (r == 0)
        r = devices_print(&row, &text);
    return r < 0 ? r : devices_replace(path, buf_str(&text));
}

/* ---- the sub-commands ---- */

static bool is_service(struct str s)
{
    return str_eq(s, STR("imap")) || str_eq(s, STR("pop3")) || str_eq(s, STR("pop2")) || str_eq(s, STR("smtp"));
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {{"name", required_argument, NULL, 'n'},
                                          {"protocols", required_argument, NULL, 'p'},
                                          {"days", required_argument, NULL, 'd'},
                                          {"cram", no_argument, NULL, 'c'},
                                          {NULL, 0, NULL, 0}};
    struct str list, item;
    bool has_more;
    int c;

    optind = 1;
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (c == 'n')
            o->name = optarg;
        else if (c == 'p')
            o->protocols = optarg;
        else if (c == 'c')
            o->has_cram = true;
        else if (c != 'd' || str_to_u32(str_from(optarg), &o->days) < 0 || o->days == 0 || o->days > DAYS_MAX)
            return -EINVAL;
    }
    list = str_from(o->protocols);
    has_more = list.len > 0;
    while (has_more) {
        has_more = str_cut(&list, ',', &item);
        if (!is_service(item))
            return -EINVAL;
    }
    return optind == argc - 1 ? 0 : -EINVAL;
}

static void finish_fresh(struct fresh *f)
{
    struct buf *all[] = {&f->salt, &f->salt1, &f->stored, &f->server, &f->stored1, &f->server1, &f->cram};

    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        buf_wipe_finish(all[i]);
    secret_wipe(f->password, sizeof(f->password));
}

static int add(struct conf *conf, int argc, char **argv)
{
    struct options o = {.name = "", .protocols = ""};
    struct buf small = BUF_INIT(DIGEST_MAX * 2);
    struct fresh f = {small, small, small, small, small, small, small, {0}};
    _cleanup_devices_ struct devices d = {0};
    _cleanup_close_ int lock = -1;
    const char *user;
    int r;

    if (parse(argc, argv, &o) < 0)
        return usage();
    user = argv[optind];
    if (geteuid() == 0 && !getpwnam(user)) {
        (void)fprintf(stderr, "pennypost: no user %s\n", user);
        return EX_NOUSER;
    }
    r = open_file(conf->devices, &lock, &d);
    if (r == 0)
        r = append(conf->devices, &o, str_from(user), &d, &f);
    if (r == 0 && o.has_cram && conf->challenge_auth)
        (void)fprintf(stderr,
                      "pennypost: CRAM-MD5 and APOP are announced now. Clients of users without such a password may\n"
                      "choose them and fail; with challenge_auth = no in pennypost.conf nobody is misled.\n");
    if (r == 0 && (puts(f.password) < 0 || fflush(stdout) != 0))
        r = -EIO;
    finish_fresh(&f);
    if (r == -EINVAL) {
        (void)fprintf(stderr, "pennypost: a user or device name that cannot be stored\n");
        return EX_DATAERR;
    }
    return r < 0 ? fail(conf->devices, r) : 0;
}

static void print_day(uint64_t when)
{
    char day[sizeof("2026-11-22")] = "never     ";
    time_t t = (time_t)when;
    struct tm tm;

    if (when > 0 && gmtime_r(&t, &tm))
        (void)strftime(day, sizeof(day), "%Y-%m-%d", &tm);
    (void)printf("  %s", day);
}

static int list(struct conf *conf, int argc, char **argv)
{
    _cleanup_devices_ struct devices d = {0};
    struct device row;
    int r = argc <= 2 ? devices_load(conf->devices, &d) : -EINVAL;

    if (r == -EINVAL)
        return usage();
    if (r < 0 && r != -ENOENT)
        return fail(conf->devices, r);
    (void)printf("NUMBER  USER              CREATED     EXPIRES     LAST USED   PROTOCOLS       FORMS       NAME\n");
    while (r == 0 && devices_next(&d, &row) > 0) {
        if (argc == 2 && !str_eq(row.user, str_from(argv[1])))
            continue;
        (void)printf("%6u  %-16.*s", row.id, STR_ARG(row.user));
        print_day(row.created);
        print_day(row.expires);
        (void)printf("  %.*s  %-14.*s  %-10s  %.*s\n", STR_ARG(row.used),
                     STR_ARG(row.protocols.len > 0 ? row.protocols : STR("all")),
                     row.cram.len > 0 ? "scram,cram" : "scram", STR_ARG(row.name));
    }
    return 0;
}

static int withdraw(struct conf *conf, int argc, char **argv)
{
    _cleanup_buf_ struct buf text = BUF_INIT(DEVICES_FILE_MAX);
    _cleanup_devices_ struct devices d = {0};
    _cleanup_close_ int lock = -1;
    size_t revoked = 0;
    struct device row;
    struct str which;
    uint32_t id = 0;
    int r;

    if (argc != 3)
        return usage();
    which = str_from(argv[2]);
    (void)str_to_u32(which, &id);
    r = devices_lock(conf->devices, &lock);
    if (r == 0)
        r = devices_load(conf->devices, &d);
    if (r == 0)
        r = devices_print_header(d.key, &text);
    while (r == 0 && devices_next(&d, &row) > 0) {
        bool is_meant = str_eq(which, STR("all")) || (id > 0 ? row.id == id : str_eq(row.name, which));

        if (str_eq(row.user, str_from(argv[1])) && is_meant)
            revoked++;
        else
            r = devices_print(&row, &text);
    }
    if (r == 0 && revoked > 0)
        r = devices_replace(conf->devices, buf_str(&text));
    if (r < 0 && r != -ENOENT)
        return fail(conf->devices, r);
    (void)printf("%zu revoked\n", revoked);
    return revoked > 0 ? 0 : EX_NOUSER;
}

int device_main(struct conf *conf, int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "add") == 0)
        return add(conf, argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "list") == 0)
        return list(conf, argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "revoke") == 0)
        return withdraw(conf, argc - 1, argv + 1);
    return usage();
}
