/*
 * The state of one IMAP session, shared by the files of this folder. Runs as the user; touches the user's mailboxes
 * through shared/mbox only, and the client through `in` and `out` only.
 */
#ifndef IMAP_IMAP_H
#define IMAP_IMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "handlers/imap/parse.h"
#include "shared/base/buf.h"
#include "shared/base/conf.h"
#include "shared/base/numset.h"
#include "shared/gate/session.h"
#include "shared/io/line.h"
#include "shared/io/transport.h"
#include "shared/io/writer.h"
#include "shared/mbox/mbox.h"

/* The states that exist after login (RFC 9051 3). */
enum imap_state {
    IMAP_AUTHENTICATED,
    IMAP_SELECTED,
};

/* Flags of a command's row. */
enum imap_command_flag {
    IMAP_NO_EXPUNGE = 1u << 0, /* no EXPUNGE response while it is in progress (RFC 9051 7.5.1) */
    IMAP_NO_UPDATE = 1u << 1,  /* no updates before its tagged reply */
    IMAP_HAS_UID = 1u << 2,    /* has a UID form */
    IMAP_CHANGES = 1u << 3,    /* may change other mailboxes than the one that is selected after it */
    IMAP_NUMBERS = 1u << 4,    /* without UID it takes or returns message numbers: not after ENABLE UIDONLY */
};

/* What ENABLE has turned on. */
enum imap_enabled {
    IMAP_CONDSTORE = 1u << 0,
    IMAP_QRESYNC = 1u << 1,
    IMAP_UTF8 = 1u << 2,
    IMAP_REV2 = 1u << 3,
    IMAP_UIDONLY = 1u << 4, /* RFC 9586 */
};

/* What the command in progress has done to a mailbox as such. */
enum own_kind {
    OWN_NOTHING = 0,
    OWN_CREATED,
    OWN_DELETED,
    OWN_RENAMED,
    OWN_SUBSCRIBED,
    OWN_UNSUBSCRIBED,
};

/* What a command returns besides a negative errno: the driver sends the tagged reply after the updates. */
enum imap_outcome {
    OUTCOME_OK = 0, /* OK, with the reply's code and text if set, else "NAME completed" */
    OUTCOME_NO,     /* as respond_no() said */
    OUTCOME_BAD,    /* as respond_bad() said */
};

struct imap {
    struct conf *conf;
    struct session *who;
    struct transport transport;
    struct line_reader in;
    struct writer out;
    struct parse parse;
    struct mbox_store *store;
    struct compress *compress; /* NULL: not compressed */
    bool wants_compress;       /* starts behind the tagged reply */

    enum imap_state state;
    unsigned enabled;       /* bits of enum imap_enabled */
    struct mbox *box;       /* the selected mailbox, or NULL */
    uint64_t keywords_told; /* keyword numbers that the last FLAGS response named */
    uint64_t modseq_told;   /* HIGHESTMODSEQ that the client was told last */
    struct numset saved;    /* `$`: UIDs of the last SEARCH with SAVE (RFC 5182) */
    struct notify *notify;  /* what the client wants to hear of (RFC 5465); NULL: it never said */

    char tag[128];          /* of the command in progress */
    const char *command;    /* its name as the table spells it, for the reply */
    bool is_uid;            /* UID FETCH, UID STORE, ... */
    bool has_numbers;       /* it is a search that names message numbers: none may go before its end */
    struct own {            /* what it does itself, and a client that watches mailboxes need not hear of */
        enum own_kind kind; /* to the mailbox `name`; OWN_RENAMED: it is `to` now */
        struct str name, to;
        struct numset added; /* UIDs of new messages in the selected mailbox */
    } own;
    struct buf reply_code; /* "[...]" of the tagged reply, without the brackets */
    struct buf reply_text;

    bool is_leaving; /* LOGOUT */
    const char *end; /* why the session ends, for the log */
    unsigned bad;    /* bad commands in a row */
    uint64_t commands;
};

#endif
