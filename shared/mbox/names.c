/*
 * Mailbox names: which ones there can be, and where their files are. Part of the library; looks at directories only.
 *
 * Mailbox a/b/c is the file FOLDERS/a.sbd/b.sbd/c (Thunderbird's layout), so that every mailbox can have children; a
 * level that is a plain directory, as other servers make them, is entered as it is. Its sidecars are STATE/NAME.* with
 * the name percent-encoded into one file name, or its beginning and a hash when that would be too long.
 */
#include "shared/mbox/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/base/macros.h"
#include "shared/mbox/box.h"
#include "shared/mbox/hash.h"

#define LEVEL_MAX 240 /* bytes: with .sbd, .lock or a temporary name it still is a file name */
#define SIDE_MAX  180

static const struct str reserved_suffixes[] = {STR(".sbd"), STR(".lock"), STR(".msf")};

bool name_is_inbox(struct str name)
{
    return str_ieq(name, STR("INBOX"));
}

bool name_is_reserved(struct str level)
{
    for (size_t i = 0; i < ARRAY_SIZE(reserved_suffixes); i++)
        if (str_ends(level, reserved_suffixes[i]))
            return true;
    return false;
}

/* What a name must not hold (RFC 6855 3, RFC 5198 2): U+0000 to U+001F, U+007F to U+009F, U+2028, U+2029. */
static bool is_control(struct str text)
{
    unsigned char c = (unsigned char)text.ptr[0];

    if (c < ' ' || c == 0x7f)
        return true;
    if (c == 0xc2 && text.len > 1)
        return (unsigned char)text.ptr[1] < 0xa0;
    return str_starts(text, STR("\xe2\x80\xa8")) || str_starts(text, STR("\xe2\x80\xa9"));
}

static int check_level(struct str level)
{
    if (level.len == 0 || level.len > LEVEL_MAX || str_eq(level, STR(".")) || str_eq(level, STR("..")))
        return -EINVAL;
    for (size_t i = 0; i < level.len; i++)
        if (is_control(str_sub(level, i, level.len - i)))
            return -EINVAL;
    return name_is_reserved(level) ? -EINVAL : 0;
}

int mbox_name_check(struct str name)
{
    struct str level;
    int depth = 0;
    bool has_more;

    if (name.len == 0 || name.len > LIMIT_MAILBOX_NAME || !utf8_valid(name))
        return -EINVAL;
    do {
        has_more = str_cut(&name, '/', &level);
        if (check_level(level) < 0 || ++depth > LIMIT_MAILBOX_DEPTH)
            return -EINVAL;
    } while (has_more);
    return 0;
}

static bool is_directory(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int name_canonical(struct str name, struct buf *out)
{
    struct str rest = name, first;

    (void)str_cut(&rest, '/', &first);
    if (!name_is_inbox(first))
        return buf_add_str(out, name);
    return buf_printf(out, "INBOX%.*s", STR_ARG(str_sub(name, first.len, name.len)));
}

/* A level that has children below it: as a plain directory, or with ".sbd". */
static int enter_level(struct buf *path)
{
    if (is_directory(buf_cstr(path)))
        return 0;
    return buf_add_str(path, STR(".sbd"));
}

int name_path(struct mbox_store *s, struct str name, struct buf *out)
{
    struct str level;
    bool has_more;
    int r;

    if (name_is_inbox(name))
        return buf_add_str(out, str_from(s->inbox));
    if (s->folders == NULL)
        return -ENOENT;
    r = buf_add_str(out, str_from(s->folders));
    do {
        has_more = str_cut(&name, '/', &level);
        if (r == 0)
            r = buf_add_byte(out, '/');
        if (r == 0)
            r = buf_add_str(out, level);
        if (r == 0 && has_more)
            r = enter_level(out);
    } while (r == 0 && has_more);
    return r;
}

int name_side(struct mbox_store *s, struct str name, struct buf *out)
{
    _cleanup_buf_ struct buf encoded = BUF_INIT(LIMIT_MAILBOX_NAME * 3);
    int r = 0;

    for (size_t i = 0; r == 0 && i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];

        if (c == '/' || c == '%' || c == '~' || (c == '.' && i == 0))
            r = buf_printf(&encoded, "%%%02X", c);
        else
            r = buf_add_byte(&encoded, (char)c);
    }
    if (r < 0)
        return r;
    if (encoded.len <= SIDE_MAX)
        return buf_printf(out, "%s/%s", s->state, buf_cstr(&encoded));
    return buf_printf(out, "%s/%.*s~%016llx", s->state, SIDE_MAX - 40, buf_cstr(&encoded),
                      (unsigned long long)mhash64(name.ptr, name.len));
}

int name_resolve(struct mbox_store *s, struct str name, char **ret_name, char **ret_path, char **ret_side)
{
    _cleanup_buf_ struct buf canonical = BUF_INIT(LIMIT_MAILBOX_NAME);
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_buf_ struct buf side = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_free_ char *n = NULL;
    _cleanup_free_ char *p = NULL;
    _cleanup_free_ char *d = NULL;
    int r;

    if ((r = mbox_name_check(name)) < 0 || (r = name_canonical(name, &canonical)) < 0 ||
        (r = name_path(s, buf_str(&canonical), &path)) < 0)
        return r;
    if (s->state != NULL && (r = name_side(s, buf_str(&canonical), &side)) < 0)
        return r;
    n = str_dup(buf_str(&canonical));
    p = str_dup(buf_str(&path));
    d = s->state != NULL ? str_dup(buf_str(&side)) : NULL;
    if (n == NULL || p == NULL || (s->state != NULL && d == NULL))
        return -ENOMEM;
    *ret_name = steal_ptr(n);
    *ret_path = steal_ptr(p);
    *ret_side = steal_ptr(d);
    return 0;
}
