/*
 * `pennypost dkim keygen DOMAIN [SELECTOR]`, `pennypost dkim show [DOMAIN]`: keys for signing, and the records that DNS
 * needs for them. Runs as root; touches the folder dkim_keys.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/admin/command.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/crypto/dkim.h"

#define DEFAULT_SELECTOR "mail"
#define DEFAULT_BITS     2048 /* RFC 8301 3.2; larger ones do not fit into one DNS packet everywhere */
#define STRING_MAX       250  /* of a TXT record, RFC 1035 3.3: 255 */

struct request {
    const char *domain, *selector;
    bool makes_rsa, makes_ed25519;
    uint32_t bits;
};

static int usage(void)
{
    (void)fprintf(stderr, "usage: pennypost dkim keygen [--rsa | --ed25519] [--bits N] DOMAIN [SELECTOR]\n"
                          "       pennypost dkim show [DOMAIN]\n");
    return EX_USAGE;
}

static int fail(const char *path, int e)
{
    (void)fprintf(stderr, "pennypost: %s: %s\n", path, strerror(-e));
    return e == -EACCES || e == -EPERM ? EX_NOPERM : e == -EEXIST ? EX_CANTCREAT : EX_IOERR;
}

/* Labels of letters, digits and hyphens: they become a file's name and a name in DNS. */
static bool is_name(const char *text, bool takes_dots)
{
    size_t len = strlen(text);

    if (len == 0 || len > 200 || text[0] == '.' || text[0] == '-' || text[len - 1] == '.' || strstr(text, ".."))
        return false;
    for (const char *p = text; *p; p++)
        if (!ascii_is_alpha(*p) && !ascii_is_digit(*p) && *p != '-' && !(*p == '.' && takes_dots))
            return false;
    return true;
}

/* As a zone file has it: the record in strings of at most 255 bytes (RFC 6376 3.6.2.2). */
static void print_record(const char *domain, const char *selector, struct str record)
{
    (void)printf("%s._domainkey.%s. IN TXT (", selector, domain);
    for (size_t at = 0; at < record.len; at += STRING_MAX)
        (void)printf(" \"%.*s\"", STR_ARG(str_sub(record, at, STRING_MAX)));
    (void)printf(" )\n");
}

static int show_key(const char *domain, const char *selector, struct str pem)
{
    _cleanup_buf_ struct buf record = BUF_INIT(DKIM_KEY_MAX);
    struct dkim_key *key = NULL;
    int e = dkim_key_parse(pem, &key);

    if (e == 0)
        e = dkim_key_record(key, &record);
    if (e == 0)
        print_record(domain, selector, buf_str(&record));
    dkim_key_free(key);
    return e;
}

/* ---- keygen ---- */

static int write_key(int folder, const char *name, struct str pem)
{
    _cleanup_close_ int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int e = 0;

    if (fd < 0)
        return -errno;
    if (write(fd, pem.ptr, pem.len) != (ssize_t)pem.len)
        e = errno ? -errno : -ENOSPC;
    if (e == 0 && (fsync(fd) < 0 || fsync(folder) < 0))
        e = -errno;
    if (e < 0)
        (void)unlinkat(folder, name, 0);
    return e;
}

static int make_key(const struct conf *conf, int folder, const struct request *r, enum dkim_type type,
                    const char *selector)
{
    struct buf pem = BUF_INIT(DKIM_KEY_MAX);
    char name[512];
    int e = buf_reserve(&pem, DKIM_KEY_MAX - 1); /* it never moves, so that no copy is left behind */

    (void)snprintf(name, sizeof(name), "%s.%s.key", r->domain, selector);
    if (e == 0)
        e = dkim_key_make(type, r->bits, &pem);
    if (e == 0)
        e = write_key(folder, name, buf_str(&pem));
    if (e == 0)
        (void)fprintf(stderr, "pennypost: made %s/%s\n", conf->dkim_keys, name);
    if (e == 0)
        e = show_key(r->domain, selector, buf_str(&pem));
    buf_wipe_finish(&pem);
    if (e < 0)
        (void)fail(name, e);
    return e;
}

static int open_folder(const struct conf *conf)
{
    int fd;

    if (mkdir(conf->dkim_keys, 0700) < 0 && errno != EEXIST)
        return -errno;
    fd = open(conf->dkim_keys, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int keygen(const struct conf *conf, const struct request *r)
{
    _cleanup_close_ int folder = open_folder(conf);
    char second[256];
    int e = 0;

    if (folder < 0)
        return fail(conf->dkim_keys, folder);
    /* A selector has one key: where both are made the second has a name of its own (RFC 8463 3). */
    (void)snprintf(second, sizeof(second), "%s%s", r->selector, r->makes_rsa ? "-ed25519" : "");
    if (r->makes_rsa)
        e = make_key(conf, folder, r, DKIM_RSA, r->selector);
    if (e == 0 && r->makes_ed25519)
        e = make_key(conf, folder, r, DKIM_ED25519, second);
    if (e < 0)
        return e == -EEXIST ? EX_CANTCREAT : EX_IOERR;
    (void)fflush(stdout); /* "above" is true on a pipe, too */
    (void)fprintf(stderr, "pennypost: mail is signed from now on; put the record%s above into the zone of %s first\n",
                  r->makes_rsa && r->makes_ed25519 ? "s" : "", r->domain);
    return EX_OK;
}

/* ---- show ---- */

/* DOMAIN.SELECTOR.key, cut in place. */
static bool split_name(char *name, char **ret_selector)
{
    size_t len = strlen(name);
    char *dot;

    if (len < 5 || strcmp(name + len - 4, ".key") != 0)
        return false;
    name[len - 4] = '\0';
    dot = strrchr(name, '.');
    if (!dot)
        return false;
    *dot = '\0';
    *ret_selector = dot + 1;
    return true;
}

static int show_file(int folder, const char *name, const char *wanted)
{
    _cleanup_close_ int fd = -1;
    char pem[DKIM_KEY_MAX], copy[256], *selector;
    ssize_t n;

    if (snprintf(copy, sizeof(copy), "%s", name) >= (int)sizeof(copy) || !split_name(copy, &selector) ||
        (wanted && !str_ieq(str_from(wanted), str_from(copy))))
        return -ENOENT;
    fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    n = fd < 0 ? -1 : read(fd, pem, sizeof(pem));
    if (n < 0)
        return -errno;
    return show_key(copy, selector, (struct str){pem, (size_t)n});
}

static int show(const struct conf *conf, const char *domain)
{
    DIR *dir = opendir(conf->dkim_keys);
    struct dirent *entry;
    size_t shown = 0;
    int status = EX_OK;

    if (!dir && errno != ENOENT)
        return fail(conf->dkim_keys, -errno);
    while (dir && (entry = readdir(dir))) {
        int e = show_file(dirfd(dir), entry->d_name, domain);

        if (e < 0 && e != -ENOENT)
            status = fail(entry->d_name, e);
        shown += e == 0;
    }
    if (dir)
        (void)closedir(dir);
    if (shown == 0 && status == EX_OK) {
        (void)fprintf(stderr, "pennypost: no keys%s%s in %s\n", domain ? " of " : "", domain ? domain : "",
                      conf->dkim_keys);
        return EX_NOINPUT;
    }
    return status;
}

static int parse(struct request *r, int argc, char **argv)
{
    int i = 0;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--rsa") == 0)
            r->makes_ed25519 = false;
        else if (strcmp(argv[i], "--ed25519") == 0)
            r->makes_rsa = false;
        else if (strcmp(argv[i], "--bits") != 0 || i + 1 >= argc || str_to_u32(str_from(argv[++i]), &r->bits) < 0 ||
                 r->bits < 1024 || r->bits > 4096)
            return -EINVAL;
    }
    if (i >= argc || argc - i > 2 || !(r->makes_rsa || r->makes_ed25519))
        return -EINVAL;
    r->domain = argv[i];
    r->selector = i + 1 < argc ? argv[i + 1] : DEFAULT_SELECTOR;
    for (char *p = argv[i]; *p; p++)
        *p = ascii_lower(*p);
    return is_name(r->domain, true) && strchr(r->domain, '.') && is_name(r->selector, false) ? 0 : -EINVAL;
}

int dkim_main(struct conf *conf, int argc, char **argv)
{
    struct request r = {.makes_rsa = true, .makes_ed25519 = true, .bits = DEFAULT_BITS};

    if (argc >= 3 && strcmp(argv[1], "keygen") == 0)
        return parse(&r, argc - 2, argv + 2) < 0 ? usage() : keygen(conf, &r);
    if (argc >= 2 && argc <= 3 && strcmp(argv[1], "show") == 0)
        return show(conf, argc == 3 ? argv[2] : NULL);
    return usage();
}
