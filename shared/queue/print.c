/*
 * An entry of the queue in words and as JSON. Pure.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/queue/select.h"

const char *queue_state_name(enum queue_state state)
{
    static const char *const names[] = {
        [QUEUE_PENDING] = "pending", [QUEUE_DEFERRED] = "deferred", [QUEUE_DELIVERED] = "delivered",
        [QUEUE_RELAYED] = "relayed", [QUEUE_FAILED] = "failed",     [QUEUE_EXPANDED] = "expanded",
    };

    return (size_t)state < ARRAY_SIZE(names) && names[state] ? names[state] : "?";
}

/* ---- words ---- */

/* "12s", "5m", "3h", "4d" */
static int add_span(int64_t seconds, struct buf *out)
{
    static const struct {
        int64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}};

    if (seconds < 0)
        seconds = 0;
    for (size_t i = 0; i < ARRAY_SIZE(units); i++)
        if (seconds >= 2 * units[i].seconds)
            return buf_printf(out, "%" PRId64 "%c", seconds / units[i].seconds, units[i].unit);
    return buf_printf(out, "%" PRId64 "s", seconds);
}

/* Text from outside on a terminal: nothing that moves the cursor. */
static int add_shown(const char *text, struct buf *out)
{
    int e = 0;

    for (const char *p = text; *p && e == 0; p++)
        e = buf_add_byte(out, (unsigned char)*p < 32 || *p == 127 ? '?' : *p);
    return e;
}

static int add_path(const char *address, struct buf *out)
{
    int e = buf_add_byte(out, '<');

    if (e == 0 && address)
        e = add_shown(address, out);
    return e < 0 ? e : buf_add_byte(out, '>');
}

static int add_target(const struct queue_recipient *r, struct buf *out)
{
    int e = 0;

    if (r->kind == QUEUE_MAILBOX)
        e = buf_printf(out, " (mailbox of %s)", r->user ? r->user : "?");
    if (r->kind == QUEUE_COMMAND || r->kind == QUEUE_FILE)
        e = buf_printf(out, " (%s of %s)", r->kind == QUEUE_FILE ? "file" : "command", r->user ? r->user : "?");
    return e;
}

static int add_recipient(const struct queue_recipient *r, int64_t now, struct buf *out)
{
    int e = buf_add_str(out, STR("    "));

    if (e == 0)
        e = add_path(r->address, out);
    if (e == 0)
        e = add_target(r, out);
    if (e == 0)
        e = buf_printf(out, " %s", queue_state_name(r->state));
    if (e == 0 && r->state == QUEUE_DEFERRED && r->next_attempt > now) {
        e = buf_add_str(out, STR(", again in "));
        if (e == 0)
            e = add_span(r->next_attempt - now, out);
    }
    if (e == 0 && r->reply) {
        e = buf_add_str(out, STR(": "));
        if (e == 0)
            e = add_shown(r->reply, out);
    }
    if (e == 0 && r->reply && r->host) {
        e = buf_add_str(out, STR(" (said "));
        if (e == 0)
            e = add_shown(r->host, out);
        if (e == 0)
            e = buf_add_byte(out, ')');
    }
    return e < 0 ? e : buf_add_byte(out, '\n');
}

static int add_heading(const char *id, uint64_t size, const struct queue_envelope *env, int64_t now, struct buf *out)
{
    int e = buf_printf(out, "%s  %" PRIu64 " bytes, ", id, size);

    if (e == 0)
        e = add_span(now - env->created, out);
    if (e == 0)
        e = buf_printf(out, " old, from ");
    if (e == 0)
        e = add_path(env->sender, out);
    if (e == 0 && env->is_held)
        e = buf_add_str(out, STR(", held"));
    if (e == 0 && env->hold_until > now) {
        e = buf_add_str(out, STR(", not before "));
        if (e == 0)
            e = clock_asctime(env->hold_until, out);
    }
    return e < 0 ? e : buf_add_byte(out, '\n');
}

int queue_print_brief(const char *id, uint64_t size, const struct queue_envelope *env, int64_t now, size_t most,
                      struct buf *out)
{
    size_t shown = 0, left = 0;
    int e = add_heading(id, size, env, now, out);

    for (size_t i = 0; i < env->count && e == 0; i++) {
        if (queue_recipient_is_done(&env->recipients[i]))
            continue;
        if (shown++ < most)
            e = add_recipient(&env->recipients[i], now, out);
        else
            left++;
    }
    if (e == 0 && left > 0)
        e = buf_printf(out, "    and %zu more\n", left);
    return e;
}

static int add_line(const char *name, const char *value, struct buf *out)
{
    int e;

    if (!value)
        return 0;
    e = buf_printf(out, "    %s ", name);
    if (e == 0)
        e = add_shown(value, out);
    return e < 0 ? e : buf_add_byte(out, '\n');
}

int queue_print_full(const char *id, uint64_t size, const struct queue_envelope *env, int64_t now, struct buf *out)
{
    int e = add_heading(id, size, env, now, out);

    if (e == 0)
        e = add_line("submitted by", env->user, out);
    if (e == 0)
        e = add_line("came from", env->peer, out);
    if (e == 0)
        e = add_line("envelope id", env->envid, out);
    if (e == 0 && env->attempts > 0)
        e = buf_printf(out, "    attempts %" PRIu32 "\n", env->attempts);
    for (size_t i = 0; i < env->count && e == 0; i++)
        e = add_recipient(&env->recipients[i], now, out);
    return e;
}

/* ---- JSON ---- */

/* A string; bytes that are no UTF-8 become U+FFFD. */
static int add_json(const char *text, struct buf *out)
{
    struct str rest = str_from(text);
    int e = buf_add_byte(out, '"');

    while (rest.len > 0 && e == 0) {
        size_t n = utf8_sequence(rest);
        unsigned char c = (unsigned char)rest.ptr[0];

        if (n == 0)
            e = buf_add_str(out, STR("\xef\xbf\xbd"));
        else if (c == '"' || c == '\\')
            e = buf_printf(out, "\\%c", c);
        else if (c < 32 || c == 127)
            e = buf_printf(out, "\\u%04x", c);
        else
            e = buf_add_str(out, str_sub(rest, 0, n));
        rest = str_sub(rest, n > 0 ? n : 1, rest.len);
    }
    return e < 0 ? e : buf_add_byte(out, '"');
}

static int add_member(const char *name, const char *value, struct buf *out)
{
    int e;

    if (!value)
        return 0;
    e = buf_printf(out, ",\"%s\":", name);
    return e < 0 ? e : add_json(value, out);
}

static int add_json_recipient(const struct queue_recipient *r, struct buf *out)
{
    static const char *const kinds[] = {
        [QUEUE_REMOTE] = "remote", [QUEUE_MAILBOX] = "mailbox", [QUEUE_COMMAND] = "command", [QUEUE_FILE] = "file"};
    int e = buf_add_str(out, STR("{\"address\":"));

    if (e == 0)
        e = add_json(r->address ? r->address : "", out);
    if (e == 0)
        e = add_member("kind", (size_t)r->kind < ARRAY_SIZE(kinds) ? kinds[r->kind] : "?", out);
    if (e == 0)
        e = add_member("state", queue_state_name(r->state), out);
    if (e == 0)
        e = add_member("user", r->user, out);
    if (e == 0)
        e = add_member("sender", r->sender, out);
    if (e == 0)
        e = add_member("reply", r->reply, out);
    if (e == 0)
        e = add_member("host", r->host, out);
    if (e == 0)
        e = buf_printf(out, ",\"next_attempt\":%" PRId64 ",\"last_attempt\":%" PRId64 "}", r->next_attempt,
                       r->last_attempt);
    return e;
}

int queue_print_json(const char *id, uint64_t size, const struct queue_envelope *env, struct buf *out)
{
    int e = buf_printf(out, "{\"id\":\"%s\",\"size\":%" PRIu64 ",\"created\":%" PRId64, id, size, env->created);

    if (e == 0)
        e = add_member("sender", env->sender ? env->sender : "", out);
    if (e == 0)
        e = add_member("user", env->user, out);
    if (e == 0)
        e = add_member("peer", env->peer, out);
    if (e == 0)
        e = add_member("envid", env->envid, out);
    if (e == 0)
        e = buf_printf(out,
                       ",\"held\":%s,\"hold_until\":%" PRId64 ",\"attempts\":%" PRIu32 ",\"next_attempt\":%" PRId64
                       ",\"recipients\":[",
                       env->is_held ? "true" : "false", env->hold_until, env->attempts, env->next_attempt);
    for (size_t i = 0; i < env->count && e == 0; i++) {
        if (i > 0)
            e = buf_add_byte(out, ',');
        if (e == 0)
            e = add_json_recipient(&env->recipients[i], out);
    }
    return e < 0 ? e : buf_add_str(out, STR("]}"));
}
