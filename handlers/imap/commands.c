/*
 * The command table of imap-session.
 */
#include "handlers/imap/commands.h"

#include "shared/base/macros.h"

#define ANY      (1u << IMAP_AUTHENTICATED | 1u << IMAP_SELECTED)
#define UNBOXED  (1u << IMAP_AUTHENTICATED)
#define SELECTED (1u << IMAP_SELECTED)

const struct command commands_table[] = {
    {"FETCH", SELECTED, IMAP_NO_EXPUNGE | IMAP_HAS_UID, cmd_fetch},
    {"STORE", SELECTED, IMAP_NO_EXPUNGE | IMAP_HAS_UID, cmd_store},
    {"SEARCH", SELECTED, IMAP_NO_EXPUNGE | IMAP_HAS_UID, cmd_search},
    {"SORT", SELECTED, IMAP_NO_EXPUNGE | IMAP_HAS_UID, cmd_sort},
    {"THREAD", SELECTED, IMAP_NO_EXPUNGE | IMAP_HAS_UID, cmd_thread},
    {"COPY", SELECTED, IMAP_HAS_UID, cmd_copy},
    {"MOVE", SELECTED, IMAP_HAS_UID, cmd_move},
    {"EXPUNGE", SELECTED, IMAP_HAS_UID, cmd_expunge},
    {"APPEND", ANY, 0, cmd_append},
    {"REPLACE", SELECTED, IMAP_HAS_UID, cmd_replace},
    {"IDLE", ANY, 0, cmd_idle},
    {"NOOP", ANY, 0, cmd_noop},
    {"CHECK", SELECTED, 0, cmd_check},
    {"SELECT", ANY, IMAP_NO_UPDATE, cmd_select},
    {"EXAMINE", ANY, IMAP_NO_UPDATE, cmd_examine},
    {"CLOSE", SELECTED, IMAP_NO_UPDATE, cmd_close},
    {"UNSELECT", SELECTED, IMAP_NO_UPDATE, cmd_unselect},
    {"LIST", ANY, 0, cmd_list},
    {"LSUB", ANY, 0, cmd_lsub},
    {"STATUS", ANY, 0, cmd_status},
    {"CREATE", ANY, 0, cmd_create},
    {"DELETE", ANY, 0, cmd_delete},
    {"RENAME", ANY, 0, cmd_rename},
    {"SUBSCRIBE", ANY, 0, cmd_subscribe},
    {"UNSUBSCRIBE", ANY, 0, cmd_unsubscribe},
    {"CAPABILITY", ANY, 0, cmd_capability},
    {"ENABLE", UNBOXED, 0, cmd_enable},
    {"ID", ANY, 0, cmd_id},
    {"NAMESPACE", ANY, 0, cmd_namespace},
    {"GETQUOTA", ANY, 0, cmd_getquota},
    {"GETQUOTAROOT", ANY, 0, cmd_getquotaroot},
    {"SETQUOTA", ANY, 0, cmd_setquota},
    {"COMPRESS", ANY, 0, cmd_compress},
    {"LOGOUT", ANY, IMAP_NO_UPDATE, cmd_logout},
};

const size_t commands_count = ARRAY_SIZE(commands_table);
