/*
 * srs: rewrites the sender of forwarded mail, and finds the sender of an address that was made so. Started by relay and
 * by smtp as root; nothing of the secret or of OpenSSL enters those.
 *
 *     srs forward ADDRESS     prints the address to send as
 *     srs reverse ADDRESS     prints the address that it stands for
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/conf.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/crypto/digest.h"
#include "shared/queue/file.h"
#include "shared/route/path.h"
#include "shared/route/srs.h"

#define SECRET 32 /* bytes */

/* Whoever comes first makes it: the file gets its name when it is whole, unless there is one. That name is on the disk
 * before anybody hears of an address, which has to find its way back after a power cut. */
static int make_secret(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    _cleanup_free_ char *parent = slash ? str_dup((struct str){path, (size_t)(name - path)}) : strdup(".");
    _cleanup_close_ int folder = parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, file = -1;
    unsigned char bytes[SECRET];
    int e = parent ? folder < 0 ? -errno : secret_random(bytes, sizeof(bytes)) : -ENOMEM;

    if (e == 0)
        e = queue_file_unnamed(folder, &file);
    if (e == 0)
        e = queue_file_write(file, (struct str){(const char *)bytes, sizeof(bytes)});
    if (e == 0)
        e = queue_file_store(folder, file, name);
    secret_wipe(bytes, sizeof(bytes));
    if (e == -EEXIST)
        e = fsync(folder) < 0 ? -errno : 0;
    return e;
}

static int read_secret(const char *path, unsigned char out[static SECRET])
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat facts;

    if (fd < 0 || fstat(fd, &facts) < 0)
        return -errno;
    if (!S_ISREG(facts.st_mode) || facts.st_uid != geteuid() || (facts.st_mode & (S_IRWXG | S_IRWXO)))
        return -EPERM;
    return read(fd, out, SECRET) == SECRET ? 0 : -EBADMSG;
}

static int get_secret(const char *path, bool may_make, unsigned char out[static SECRET])
{
    int e = read_secret(path, out);

    if (e != -ENOENT || !may_make)
        return e;
    e = make_secret(path);
    return e < 0 ? e : read_secret(path, out);
}

/* HMAC-SHA-256, the first 40 bits of it in base32. */
static int hash(void *context, struct str text, char out[static SRS_HASH])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    struct str key = {context, SECRET};
    uint8_t mac[DIGEST_MAX];
    uint64_t bits = 0;
    int e = digest_hmac(DIGEST_SHA256, key, text, mac);

    if (e < 0)
        return e;
    for (size_t i = 0; i < 5; i++)
        bits = bits << 8 | mac[i];
    for (size_t i = 0; i < SRS_HASH; i++)
        out[i] = letters[bits >> (5 * (SRS_HASH - 1 - i)) & 31];
    return 0;
}

static int convert(const struct conf *conf, bool is_forward, const char *address, struct buf *out)
{
    unsigned char secret[SECRET];
    struct srs s = {.domain = str_from(conf->srs_domain[0] ? conf->srs_domain : conf->hostname),
                    .now = clock_now(&conf->clock),
                    .hash = hash,
                    .context = secret};
    struct str domain, local;
    struct smtp_path path;
    int e;

    if (path_parse_mailbox(str_from(address), PATH_UTF8, &path) < 0)
        return -EINVAL;
    domain = path.domain;
    local = str_sub(path.text, 0, path.text.len - domain.len - 1); /* as written: quotes are part of it */
    e = get_secret(conf->srs_secret, is_forward, secret);
    if (e < 0) {
        LOG_ERROR(LOG_ERR, "srs-secret-failed", e, LOG_FC("file", conf->srs_secret));
        return e == -ENOENT && !is_forward ? -EKEYREJECTED : -EIO;
    }
    e = is_forward ? srs_forward(&s, local, domain, out) : srs_reverse(&s, local, out);
    secret_wipe(secret, sizeof(secret));
    return e;
}

static int status_of(int e)
{
    switch (e) {
    case 0:
        return EX_OK;
    case -EINVAL:
        return EX_DATAERR;
    case -EKEYREJECTED:
        return EX_NOPERM;
    case -EKEYEXPIRED:
        return EX_UNAVAILABLE;
    default:
        return EX_TEMPFAIL;
    }
}

int main(int argc, char **argv)
{
    _cleanup_buf_ struct buf out = BUF_INIT(2 * SRS_ADDRESS);
    _cleanup_conf_ struct conf conf = {0};
    int e = conf_init(&conf);

    log_open("srs", true);
    if (e == 0)
        e = conf_args(&conf, &argc, argv);
    if (e < 0) {
        (void)fprintf(stderr, "srs: %s\n", conf.error.len > 0 ? buf_cstr(&conf.error) : strerror(-e));
        return EX_CONFIG;
    }
    if (argc != 3 || (strcmp(argv[1], "forward") != 0 && strcmp(argv[1], "reverse") != 0)) {
        (void)fprintf(stderr, "usage: srs [-c FILE] [-o key=value]... forward|reverse ADDRESS\n");
        return EX_USAGE;
    }
    e = convert(&conf, argv[1][0] == 'f', argv[2], &out);
    if (e == 0 && (printf("%s\n", buf_cstr(&out)) < 0 || fflush(stdout) != 0))
        e = -EIO;
    return status_of(e);
}
