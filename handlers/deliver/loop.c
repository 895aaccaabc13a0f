/*
 * Delivered-To loops. Part of deliver; pure.
 */
#include "handlers/deliver/loop.h"

static void end_line(struct loop_watch *w)
{
    struct str line = str_trim((struct str){w->line, w->len});

    if (line.len == 0)
        w->is_over = true;
    else if (w->len < LOOP_LINE && str_istarts(line, STR("Delivered-To:")) &&
             str_ieq(str_trim(str_sub(line, 13, line.len)), w->address))
        w->is_found = true;
    w->len = 0;
}

void loop_watch(struct loop_watch *w, struct str bytes)
{
    for (size_t i = 0; i < bytes.len && !w->is_over && !w->is_found; i++) {
        if (bytes.ptr[i] == '\n')
            end_line(w);
        else if (w->len < LOOP_LINE)
            w->line[w->len++] = bytes.ptr[i];
    }
}
