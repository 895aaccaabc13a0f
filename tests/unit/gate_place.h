/*
 * A folder for the tests of shared/gate that make files.
 */
#ifndef TEST_GATE_PLACE_H
#define TEST_GATE_PLACE_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    char path[64];
    int folder;
};

static inline int make_place(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    if (!p)
        return -1;
    (void)snprintf(p->path, sizeof(p->path), "/tmp/test_gate.XXXXXX");
    if (!mkdtemp(p->path))
        return -1;
    p->folder = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = p;
    return p->folder < 0 ? -1 : 0;
}

static inline int remove_place(void **state)
{
    struct place *p = *state;

    (void)unlinkat(p->folder, "bob.lock", 0);
    (void)unlinkat(p->folder, "other.lock", 0);
    (void)unlinkat(p->folder, "bob", 0);
    (void)close(p->folder);
    (void)rmdir(p->path);
    free(p);
    return 0;
}

#endif
