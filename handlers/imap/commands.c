/*
 * The command table of imap-session.
 */
#include "handlers/imap/commands.h"

#include "shared/base/macros.h"

#define ANY      (1u << IMAP_AUTHENTICATED | 1u << IMAP_SELECTED)
#define UNBOXED  (1u << IMAP_AUTHENTICATED)
#define SELECTED (1u << IMAP_SELECTED)

#define BY_NUMBER (IMAP_HAS_UID | IMAP_NUMBERS)

const struct command commands_table[] = {
    {"FETCH", SELECTED, IMAP_NO_EXPUNGE | BY_NUMBER, cmd_fetch},
    {"STORE", SELECTED, IMAP_NO_EXPUNGE | BY_NUMBER, cmd_store},
    {"SEARCH", SELECTED, IMAP_NO_EXPUNGE | BY_NUMBER, cmd_search},
    {"SORT", SELECTED, IMAP_NO_EXPUNGE | BY_NUMBER, cmd_sort},
    {"THREAD", SELECTED, IMAP_NO_EXPUNGE | BY_NUMBER, cmd_thread},
    {"COPY", SELECTED, BY_NUMBER | IMAP_CHANGES, cmd_copy},
    {"MOVE", SELECTED, BY_NUMBER | IMAP_CHANGES, cmd_move},
    {"EXPUNGE", SELECTED, IMAP_HAS_UID, cmd_expunge},
    {"APPEND", ANY, IMAP_CHANGES, cmd_append},
    {"REPLACE", SELECTED, BY_NUMBER | IMAP_CHANGES, cmd_replace},
    {"IDLE", ANY, 0, cmd_idle},
    {"NOOP", ANY, 0, cmd_noop},
    {"CHECK", SELECTED, 0, cmd_check},
    {"SELECT", ANY, IMAP_NO_UPDATE | IMAP_CHANGES, cmd_select},
    {"EXAMINE", ANY, IMAP_NO_UPDATE | IMAP_CHANGES, cmd_examine},
    {"CLOSE", SELECTED, IMAP_NO_UPDATE | IMAP_CHANGES, cmd_close},
    {"UNSELECT", SELECTED, IMAP_NO_UPDATE | IMAP_CHANGES, cmd_unselect},
    {"LIST", ANY, 0, cmd_list},
    {"LSUB", ANY, 0, cmd_lsub},
    {"STATUS", ANY, 0, cmd_status},
    {"CREATE", ANY, IMAP_CHANGES, cmd_create},
    {"DELETE", ANY, IMAP_CHANGES, cmd_delete},
    {"RENAME", ANY, IMAP_CHANGES, cmd_rename},
    {"SUBSCRIBE", ANY, IMAP_CHANGES, cmd_subscribe},
    {"UNSUBSCRIBE", ANY, IMAP_CHANGES, cmd_unsubscribe},
    {"CAPABILITY", ANY, 0, cmd_capability},
    {"ENABLE", UNBOXED, 0, cmd_enable},
    {"ID", ANY, 0, cmd_id},
    {"NAMESPACE", ANY, 0, cmd_namespace},
    {"NOTIFY", ANY, 0, cmd_notify},
    {"GETQUOTA", ANY, 0, cmd_getquota},
    {"GETQUOTAROOT", ANY, 0, cmd_getquotaroot},
    {"SETQUOTA", ANY, 0, cmd_setquota},
    {"COMPRESS", ANY, 0, cmd_compress},
    {"LOGOUT", ANY, IMAP_NO_UPDATE, cmd_logout},
};

const size_t commands_count = ARRAY_SIZE(commands_table);
