/*
 * hosts(5). Runs in trusted processes; reads one file of the admin's.
 */
#include "shared/dns/hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"

static bool names(struct str words, const char *name)
{
    struct str word;

    while (str_word(&words, &word))
        if (str_ieq(dns_name_trim(word), str_from(name)))
            return true;
    return false;
}

static void add(struct hop_host *host, const uint8_t *bytes, size_t len)
{
    struct hop_address *to = &host->addresses[host->count];

    for (size_t i = 0; i < host->count; i++)
        if (host->addresses[i].len == len && memcmp(host->addresses[i].bytes, bytes, len) == 0)
            return;
    if (host->count == 2 * LIMIT_DNS_ADDRESSES)
        return;
    to->len = len;
    memcpy(to->bytes, bytes, len);
    dns_address_print(bytes, len, to->text);
    host->count++;
}

static void parse(struct str text, size_t wanted, struct hop_host *host)
{
    bool is_more = true;
    struct str line, address, before;

    while (is_more) {
        uint8_t bytes[16];
        size_t len = 0;

        is_more = str_cut(&text, '\n', &line);
        (void)str_cut(&line, '#', &before);
        if (str_word(&before, &address) && dns_address_parse(address, bytes, &len) == 0 && len == wanted &&
            names(before, host->name))
            add(host, bytes, len);
    }
}

void hosts_parse(struct str text, struct hop_host *host)
{
    parse(text, 16, host);
    parse(text, 4, host);
}

void hosts_find(const char *path, struct hop_host *host)
{
    _cleanup_buf_ struct buf text = BUF_INIT(HOSTS_MAX);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char block[8192];
    ssize_t n = 0;

    while (fd >= 0 && ((n = read(fd, block, sizeof(block))) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0 && buf_add(&text, block, (size_t)n) < 0)
            break;
    hosts_parse(buf_str(&text), host);
}
