/*
 * Paths and mailboxes as SMTP writes them (RFC 5321 4.1.2), with the UTF-8 forms of RFC 6531 3.3 when asked for.
 * Used by smtp-session on what the client sends and once more by the monitor on what smtp-session asks for. Pure: no
 * allocation, no system call.
 */
#ifndef ROUTE_PATH_H
#define ROUTE_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/base/limits.h"
#include "shared/base/str.h"

enum path_flag {
    PATH_NULL_OK = 1u << 0,       /* "<>" is fine: a reverse-path */
    PATH_BARE_OK = 1u << 1,       /* a local part without a domain is fine: a local program talks to us */
    PATH_UTF8 = 1u << 2,          /* RFC 6531 3.3: non-ASCII in local parts and domains */
    PATH_POSTMASTER_OK = 1u << 3, /* <Postmaster> is fine: a recipient (RFC 5321 4.1.1.3) */
};

struct smtp_path {
    struct str text;        /* Mailbox as written, without brackets and source route; empty: null path */
    struct str domain;      /* as written; "[192.0.2.1]" for an address literal; empty: null path, bare local part */
    char local[LIMIT_PATH]; /* the local part without quotes and backslashes; not NUL-terminated */
    size_t local_len;
    bool is_null;
    bool is_literal; /* the domain is an address literal */
    bool is_utf8;    /* there is a non-ASCII byte somewhere */
};

/* Parses the path at the front of *s ("<...>") and moves *s behind it. The views of *ret look into *s.
 * -EINVAL: not a path. -ENAMETOOLONG: over LIMIT_PATH or LIMIT_DOMAIN. */
int path_parse(struct str *s, unsigned flags, struct smtp_path *ret);

/* The same for a Mailbox without brackets, which must be the whole of `s` (VRFY, frames, command lines). */
int path_parse_mailbox(struct str s, unsigned flags, struct smtp_path *ret);

/* The unquoted local part as a view into *p. */
struct str path_local(const struct smtp_path *p);

/* Is `s` a Domain or an address-literal? */
bool path_is_domain(struct str s, bool utf8);
bool path_is_literal(struct str s);

/* Is `s` acceptable behind HELO and EHLO? As path_is_domain() or path_is_literal(), and the underscores and raw
 * addresses of real clients, but nothing that could break out of a Received field. */
bool path_is_helo(struct str s);

#endif
