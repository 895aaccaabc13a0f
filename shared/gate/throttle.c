/*
 * Counters of failed logins. Runs in the monitor; touches one file that only the monitor's uid can write.
 */
#include "shared/gate/throttle.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"

#define MAGIC UINT64_C(0x31746870706e6570)

struct header {
    uint64_t magic;
    uint64_t seed; /* of the hash: nobody can choose names that fall into one bucket */
};

struct slot {
    uint64_t key; /* 0: free */
    int64_t when; /* of the last failure, seconds; of the first connection of the minute */
    uint64_t count;
};

/* ---- keys ---- */

/* FNV-1a with a secret start, mixed at the end. */
static uint64_t hash(uint64_t seed, char kind, struct str s)
{
    uint64_t h = seed ^ UINT64_C(0xcbf29ce484222325) ^ (uint64_t)(unsigned char)kind;

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ (uint64_t)(unsigned char)s.ptr[i]) * UINT64_C(0x100000001b3);
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    h ^= h >> 32;
    return h != 0 ? h : 1;
}

/* A customer owns at least a /64: addresses in it count as one. */
static uint64_t address_key(uint64_t seed, const char *address)
{
    unsigned char raw[16];

    if (inet_pton(AF_INET6, address, raw) == 1)
        return hash(seed, 'n', (struct str){(const char *)raw, 8});
    return hash(seed, 'a', str_from(address));
}

/* ---- the file ---- */

static int lock(int fd, short type)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET};

    while (fcntl(fd, F_OFD_SETLKW, &l) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* A file that is new, or not ours to understand, starts anew. */
static int read_header(int fd, struct header *ret)
{
    ssize_t n = pread(fd, ret, sizeof(*ret), 0);
    int r = 0;

    if (n == (ssize_t)sizeof(*ret) && ret->magic == MAGIC)
        return 0;
    ret->magic = MAGIC;
    r = secret_random(&ret->seed, sizeof(ret->seed));
    if (r < 0)
        return r;
    if (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)(sizeof(*ret) + THROTTLE_SLOTS * sizeof(struct slot))) < 0 ||
        pwrite(fd, ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
        return errno > 0 ? -errno : -EIO;
    return 0;
}

static int open_file(const struct conf *conf, const char *name)
{
    _cleanup_close_ int folder = -1;
    _cleanup_close_ int fd = -1;
    struct stat st;

    if (mkdir(conf->runtime, 0755) < 0 && errno != EEXIST)
        return -errno;
    folder = open(conf->runtime, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    fd = openat(folder, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) != 0)
        return -EPERM;
    return steal_fd(&fd);
}

/* Others wait until it is unlocked, or closed. */
static int lock_file(int fd, struct header *ret)
{
    int r = fd < 0 ? -EBADF : lock(fd, F_WRLCK);

    if (r < 0)
        return r;
    r = read_header(fd, ret);
    if (r < 0)
        (void)lock(fd, F_UNLCK);
    return r;
}

/* ---- counting ---- */

enum counting {
    COUNT_LOOK,    /* at failures */
    COUNT_FAILURE, /* one more */
    COUNT_CONNECTION,
};

static void decay(struct slot *s, enum counting what, int64_t now)
{
    int64_t halves = now > s->when ? (now - s->when) / THROTTLE_HALF : 0;

    if (what != COUNT_CONNECTION)
        s->count = halves > 63 ? 0 : s->count >> halves;
    else if (now < s->when || now - s->when >= THROTTLE_WINDOW)
        s->count = 0;
}

/* The counter of a key. */
static uint64_t count(int fd, uint64_t key, enum counting what, int64_t now)
{
    struct slot bucket[THROTTLE_BUCKET];
    off_t at = (off_t)(sizeof(struct header) +
                       (key % (THROTTLE_SLOTS / THROTTLE_BUCKET)) * THROTTLE_BUCKET * sizeof(struct slot));
    size_t chosen = 0;

    if (pread(fd, bucket, sizeof(bucket), at) != (ssize_t)sizeof(bucket))
        return 0;
    for (size_t i = 0; i < THROTTLE_BUCKET; i++)
        decay(&bucket[i], what, now);
    for (size_t i = 0; i < THROTTLE_BUCKET; i++) {
        if (bucket[i].key == key) {
            chosen = i;
            break;
        }
        if (bucket[i].count < bucket[chosen].count)
            chosen = i;
    }
    if (bucket[chosen].key != key)
        bucket[chosen] = (struct slot){.key = key};
    if (what == COUNT_LOOK)
        return bucket[chosen].count;
    if (bucket[chosen].count++ == 0 || what == COUNT_FAILURE)
        bucket[chosen].when = now;
    at += (off_t)(chosen * sizeof(struct slot));
    return pwrite(fd, &bucket[chosen], sizeof(struct slot), at) == (ssize_t)sizeof(struct slot) ? bucket[chosen].count
                                                                                                : 0;
}

static unsigned seconds(uint64_t failures, unsigned gratis)
{
    if (failures <= gratis)
        return 0;
    return failures - gratis < THROTTLE_MAX ? (unsigned)(failures - gratis) : THROTTLE_MAX;
}

int throttle_open(const struct conf *conf)
{
    return open_file(conf, THROTTLE_FILE);
}

unsigned throttle_delay(int *fd, const char *address, struct str user, bool is_failure, int64_t now)
{
    enum counting what = is_failure ? COUNT_FAILURE : COUNT_LOOK;
    struct header header;
    unsigned of_address = 0;
    unsigned of_user = 0;

    if (lock_file(*fd, &header) < 0)
        return 0;
    if (address[0] != '\0')
        of_address = seconds(count(*fd, address_key(header.seed, address), what, now), THROTTLE_FREE_ADDRESS);
    if (user.len > 0)
        of_user = seconds(count(*fd, hash(header.seed, 'u', user), what, now), THROTTLE_FREE_USER);
    if (lock(*fd, F_UNLCK) < 0)
        close_fd(fd);
    return of_address > of_user ? of_address : of_user;
}

uint64_t throttle_connections(const struct conf *conf, const char *address, int64_t now)
{
    struct header header;
    _cleanup_close_ int fd = open_file(conf, THROTTLE_RATES);

    return lock_file(fd, &header) < 0 ? 0 : count(fd, address_key(header.seed, address), COUNT_CONNECTION, now);
}
