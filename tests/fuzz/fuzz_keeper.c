/*
 * The keeper's side of the frames of a session that somebody took over. Whatever it says, nothing but the spool file
 * and its dotlock ever appears in the folder, and what stood there before is untouched.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/gate/keeper_parts.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"
#include "tests/fuzz/frames.h"

#define FRAMES_MAX 100
#define BOX        "bob"
#define OTHER      "alice"

static const struct fuzz_shape SHAPES[] = {
    {FRAME_KEEPER_LOCK, "u"},  {FRAME_KEEPER_UNLOCK, ""},  {FRAME_KEEPER_CREATE, ""},     {FRAME_KEEPER_OK, ""},
    {FRAME_KEEPER_ERROR, "u"}, {FRAME_AUTH_START, "ussuuss"}, {FRAME_SESSION_START, "ssss"}, {FRAME_HANDOVER, "ss"},
};

static void remove_folder(const char *path, int folder)
{
    static const char *const names[] = {BOX, BOX ".lock", OTHER};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        (void)unlinkat(folder, names[i], 0);
    if (rmdir(path) < 0) /* something else is in it */
        abort();
}

static void check_other(int folder)
{
    struct stat st;

    if (fstatat(folder, OTHER, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) || st.st_size != 0 ||
        (st.st_mode & 07777) != 0600 || st.st_nlink != 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf conf = {0};
    struct keeper k = {.conf = &conf,
                       .markers = -1,
                       .name = BOX,
                       .session = CHAIN_CHILD_NONE,
                       .tls = CHAIN_CHILD_NONE,
                       .auth = CHAIN_CHILD_NONE};
    char path[] = "/tmp/fuzz_keeper.XXXXXX";
    struct str in = {(const char *)data, size};
    int pair[2];

    if (!mkdtemp(path) || (k.folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        close(openat(k.folder, OTHER, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0 ||
        dotlock_init(&k.lock, k.folder, k.name) < 0 || frame_pair(pair) < 0 || fcntl(pair[1], F_SETFL, O_NONBLOCK) < 0)
        abort();
    k.session.control = pair[0];
    if (fuzz_byte(&in) & 1) /* somebody else holds the lock */
        (void)close(openat(k.folder, BOX ".lock", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    for (int i = 0; i < FRAMES_MAX && fuzz_send(&in, SHAPES, ARRAY_SIZE(SHAPES), pair[1], k.folder); i++)
        ;
    if (shutdown(pair[1], SHUT_WR) < 0)
        abort();
    while (keeper_serve_frame(&k) == 0)
        ;
    check_other(k.folder);
    (void)dotlock_release(&k.lock);
    remove_folder(path, k.folder);
    (void)close(k.folder);
    (void)close(pair[0]);
    (void)close(pair[1]);
    return 0;
}
