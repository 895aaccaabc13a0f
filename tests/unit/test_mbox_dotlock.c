/*
 * Dotlocks beside a box: whose they are, and what becomes of those whose makers died.
 */
#include "tests/unit/mbox_util.h"

#include <sys/wait.h>

#include "shared/base/macros.h"
#include "shared/base/maker.h"
#include "shared/mbox/box.h"

/* A dotlock that another program has put in the place of ours is not ours to remove. */
static void test_foreign_dotlock_stays(void **state)
{
    struct scratch s;
    struct box *b;
    char *lock;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    lock = path_of(&s, "inbox.lock");
    for (int is_taken = 0; is_taken < 2; is_taken++) {
        assert_int_equal(box_open(s.store, STR("INBOX"), false, &b), 0);
        assert_int_equal(box_lock(b, BOX_WRITE), 0);
        assert_int_equal(access(lock, F_OK), 0);
        if (is_taken) {
            char *fresh = path_of(&s, "fresh");

            write_file(fresh, "1\n", 2);
            assert_int_equal(rename(fresh, lock), 0);
            free(fresh);
        }
        box_unlock(b);
        box_free(b);
        assert_int_equal(access(lock, F_OK), is_taken ? 0 : -1);
    }
    free(lock);
    scratch_close(&s);
}

/* A process that died with a dotlock keeps nobody out: we hold the kernel lock and it is gone. A dotlock that tells of
 * no process, of another boot or of a living one is left to its age. */
static void test_dotlock_of_dead_process(void **state)
{
    static const char *const alive[] = {"0\n", "0\npennypost 00000000-0000-0000-0000-000000000001 999999999\n",
                                        "0\npennypost ", "999999999\n"};
    _cleanup_free_ char *lock = NULL;
    struct scratch s;
    struct box *b;
    char living[MAKER_TEXT];
    size_t len;
    int status;
    pid_t pid;

    (void)state;
    scratch_open(&s);
    append_text(s.store, "INBOX", "Subject: one\n\nfirst\n", 20);
    lock = path_of(&s, "inbox.lock");
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(box_open(s.store, STR("INBOX"), false, &b) == 0 && box_lock(b, BOX_WRITE) == 0 ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(access(lock, F_OK), 0);
    s.store->lock_timeout = 0;
    assert_int_equal(box_open(s.store, STR("INBOX"), false, &b), 0);
    assert_int_equal(box_lock(b, BOX_WRITE), 0);
    box_unlock(b);
    assert_int_equal(access(lock, F_OK), -1);

    assert_int_equal(maker_text(living, &len), 0);
    for (size_t i = 0; i <= ARRAY_SIZE(alive); i++) {
        const char *text = i < ARRAY_SIZE(alive) ? alive[i] : living;

        write_file(lock, text, strlen(text));
        assert_int_equal(box_lock(b, BOX_WRITE), -EAGAIN);
        assert_int_equal(access(lock, F_OK), 0);
    }
    box_free(b);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_dotlock_stays),
        cmocka_unit_test(test_dotlock_of_dead_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
