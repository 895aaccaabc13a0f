/*
 * Names and addresses. Pure.
 */
#include "shared/dns/name.h"

#include <arpa/inet.h>
#include <errno.h>

#define LABEL_MAX 63 /* RFC 1035 2.3.4 */

static bool is_label(struct str label)
{
    if (label.len == 0 || label.len > LABEL_MAX)
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!ascii_is_alpha(label.ptr[i]) && !ascii_is_digit(label.ptr[i]) && label.ptr[i] != '-' &&
            label.ptr[i] != '_')
            return false;
    return true;
}

bool dns_name_is_host(struct str name)
{
    struct str label;
    bool is_more = true;

    if (name.len == 0 || name.len > DNS_NAME_MAX)
        return false;
    while (is_more) {
        is_more = str_cut(&name, '.', &label);
        if (!is_label(label))
            return false;
    }
    return true;
}

struct str dns_name_trim(struct str name)
{
    return name.len > 0 && name.ptr[name.len - 1] == '.' ? str_sub(name, 0, name.len - 1) : name;
}

int dns_name_reverse(const uint8_t *bytes, size_t len, struct str zone, struct buf *out)
{
    size_t start = out->len;
    int r = 0;

    for (size_t i = len; i > 0 && r == 0; i--)
        r = len == 4 ? buf_printf(out, "%u.", (unsigned)bytes[i - 1])
                     : buf_printf(out, "%x.%x.", bytes[i - 1] & 15u, (unsigned)bytes[i - 1] >> 4);
    if (r == 0)
        r = buf_add_str(out, zone);
    if (r < 0)
        buf_truncate(out, start);
    return r;
}

int dns_address_parse(struct str text, uint8_t ret_bytes[static 16], size_t *ret_len)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char c_text[LIMIT_ADDRESS];
    uint8_t bytes[16];
    struct str address;

    (void)str_cut(&text, '%', &address);
    if (address.len == 0 || address.len >= sizeof(c_text) || str_has_nul(address))
        return -EINVAL;
    memcpy(c_text, address.ptr, address.len);
    c_text[address.len] = '\0';
    if (inet_pton(AF_INET, c_text, bytes) == 1) {
        *ret_len = 4;
    } else {
        if (inet_pton(AF_INET6, c_text, bytes) != 1)
            return -EINVAL;
        *ret_len = memcmp(bytes, mapped, sizeof(mapped)) == 0 ? 4 : 16;
        if (*ret_len == 4)
            memmove(bytes, bytes + sizeof(mapped), 4);
    }
    memcpy(ret_bytes, bytes, *ret_len);
    return 0;
}

void dns_address_print(const uint8_t *bytes, size_t len, char out[static LIMIT_ADDRESS])
{
    out[0] = '\0';
    (void)inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, out, LIMIT_ADDRESS);
}
