/*
 * Key files. Read as root, before the sandbox.
 */
#include "handlers/sign/keys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/crypto/dkim.h"

/* DOMAIN.SELECTOR.key; a selector has no dots here. */
static bool split_name(struct key_file *f)
{
    struct str name = str_from(f->name);
    size_t dot;

    if (!str_ends(name, STR(".key")) || name.ptr[0] == '.')
        return false;
    name.len -= 4;
    for (dot = name.len; dot > 0 && name.ptr[dot - 1] != '.';)
        dot--;
    if (dot < 2 || dot == name.len)
        return false;
    f->domain = str_sub(name, 0, dot - 1);
    f->selector = str_sub(name, dot, name.len);
    return true;
}

static int read_key(int folder, struct key_file *f)
{
    _cleanup_close_ int fd = openat(folder, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat facts;
    ssize_t n;
    int e;

    if (fd < 0 || fstat(fd, &facts) < 0)
        return -errno;
    if (!S_ISREG(facts.st_mode) || facts.st_uid != geteuid() || (facts.st_mode & (S_IRWXG | S_IRWXO)))
        return -EPERM;
    if (facts.st_size > (off_t)DKIM_KEY_MAX)
        return -EFBIG;
    e = buf_reserve(&f->pem, DKIM_KEY_MAX);
    if (e < 0)
        return e;
    n = read(fd, f->pem.data, DKIM_KEY_MAX);
    if (n < 0)
        return -errno;
    f->pem.len = (size_t)n;
    return 0;
}

static int load_one(int folder, const char *name, struct key_files *k)
{
    struct key_file *f = &k->items[k->count]; /* there is one more than may be used */
    int e;

    *f = (struct key_file){.pem = BUF_INIT(DKIM_KEY_MAX + 1)};
    if (snprintf(f->name, sizeof(f->name), "%s", name) >= (int)sizeof(f->name) || !split_name(f))
        return 0;
    e = k->count == KEYS_MAX ? -E2BIG : read_key(folder, f);
    if (e < 0)
        buf_wipe_finish(&f->pem);
    else
        k->count++;
    return e;
}

int keys_load(const char *folder, struct key_files *ret, char ret_name[static 256])
{
    struct key_files k = {.items = calloc(KEYS_MAX + 1, sizeof(*k.items))};
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int e = 0;

    ret_name[0] = '\0';
    if (!k.items || !dir) {
        e = !k.items ? -ENOMEM : errno == ENOENT ? 0 : -errno;
        free(k.items);
        if (dir)
            (void)closedir(dir);
        if (e == 0)
            *ret = (struct key_files){0};
        return e;
    }
    while (e == 0 && (entry = readdir(dir))) {
        (void)snprintf(ret_name, 256, "%s", entry->d_name);
        e = load_one(dirfd(dir), entry->d_name, &k);
    }
    (void)closedir(dir);
    if (e < 0)
        keys_finish(&k);
    else
        *ret = k;
    return e;
}

void keys_finish(struct key_files *k)
{
    for (size_t i = 0; i < k->count; i++)
        buf_wipe_finish(&k->items[i].pem);
    free(k->items);
    *k = (struct key_files){0};
}

static bool is_above(struct str parent, struct str domain)
{
    if (str_ieq(parent, domain))
        return true;
    return domain.len > parent.len && domain.ptr[domain.len - parent.len - 1] == '.' &&
           str_ieq(str_sub(domain, domain.len - parent.len, domain.len), parent);
}

struct str keys_domain(const struct key_files *k, struct str domain)
{
    struct str best = STR_NULL;

    for (size_t i = 0; i < k->count; i++)
        if (is_above(k->items[i].domain, domain) && k->items[i].domain.len > best.len)
            best = k->items[i].domain;
    return best;
}
