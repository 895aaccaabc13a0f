/*
 * What each child reads from its monitor, from a hostile one: the start of a session, the request for auth, the files
 * of tls, the answers to smtp-session. The first byte chooses who reads.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handlers/auth/auth.h"
#include "handlers/smtp/frames.h"
#include "handlers/smtp/remote.h"
#include "handlers/tls/setup.h"
#include "shared/base/macros.h"
#include "shared/gate/session.h"
#include "tests/fuzz/frames.h"

#define FRAMES_MAX 100

static const struct fuzz_shape SESSION[] = {{FRAME_SESSION_START, "ssssussss"}};
static const struct fuzz_shape AUTH[] = {{FRAME_AUTH_REQUEST, "usssussusss"}, {FRAME_AUTH_RESPONSE, "us"}};
static const struct fuzz_shape TLS[] = {{FRAME_TLS_FILE, "us"}, {FRAME_TLS_CONFIG, "suus"}, {FRAME_TLS_GO, ""}};
static const struct fuzz_shape SMTP[] = {
    {FRAME_SMTP_ANSWER, "uss"}, {FRAME_SMTP_FACTS, "suuuussu"}, {FRAME_SMTP_NAME, "s"}, {FRAME_SMTP_COUNT, "u"}};

/* The strings that a session is built on are whole and its own. */
static void read_session(int control, struct str *in)
{
    _cleanup_session_ struct session s = SESSION_INIT;
    struct conf conf;

    (void)in;
    if (session_receive(control, &s) < 0)
        return;
    if (conf_init(&conf) < 0)
        abort();
    if (session_paths(&conf, &s) == 0 && (!s.inbox || !s.folders || !s.state))
        abort();
    conf_finish(&conf);
}

static void read_request(int control, struct str *in)
{
    struct auth a = {.request = FRAME_INIT, .response = FRAME_INIT};
    struct str response;

    (void)in;
    if (auth_request(&a, control, true) == 0 && auth_request(&a, control, false) == 0) {
        if (auth_claim(&a, a.initial) && a.user[0] == '\0')
            abort();
        while (auth_challenge(&a, STR("challenge"), &response) == 0)
            if (response.len > LIMIT_SASL)
                abort();
    }
    frame_finish(&a.request);
    frame_finish(&a.response);
}

static void read_files(int control, struct str *in)
{
    struct setup s = {.seconds = 1};

    (void)control;
    (void)in;
    if (setup_receive(&s) == 0 && s.file_count > SETUP_FILES)
        abort();
    for (size_t i = 0; i < s.file_count; i++)
        close_fd(&s.files[i].fd);
}

/* What may be said to a client whoever the monitor is. */
static void check_answer(const struct smtp_answer *a)
{
    if (a->code < 200 || a->code > 599)
        abort();
    for (const char *p = a->text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            abort();
}

static void ask_list(const struct smtp_backend *b)
{
    struct smtp_answer answers[BACKEND_EXPN];
    size_t count = ARRAY_SIZE(answers);

    if (b->expn(b->context, STR("list"), answers, &count) < 0)
        return;
    if (count == 0 || count > ARRAY_SIZE(answers))
        abort();
    for (size_t i = 0; i < count; i++)
        check_answer(&answers[i]);
}

static int ask(const struct smtp_backend *b, uint8_t question)
{
    const struct smtp_envelope envelope = {.id = STR("id"), .sender = STR("a@example.org")};
    const struct rcpt_params params = {0};
    const struct smtp_content content = {0};
    char name[LIMIT_DOMAIN + 1];
    struct smtp_answer answer;
    int fd = -1;
    int r = 0;

    switch (question % 7) {
    case 0:
        ask_list(b);
        return 0;
    case 1:
        return b->hello(b->context, STR("client.example"), name);
    case 2:
        r = b->mail(b->context, &envelope, &answer);
        break;
    case 3:
        r = b->rcpt(b->context, STR("a@example.org"), &params, &answer);
        close_fd(&fd);
        break;
    case 4:
        r = b->own(b->context, STR("a@example.org"), &answer);
        break;
    case 5:
        r = b->larger(b->context, &answer, &fd);
        close_fd(&fd);
        break;
    default:
        r = b->commit(b->context, &content, &answer, 1);
    }
    if (r == 0)
        check_answer(&answer);
    return r;
}

static void read_answers(int control, struct str *in)
{
    struct remote remote = REMOTE_INIT(control, fuzz_byte(in) % 2 == 0);
    const struct smtp_backend backend = remote_backend(&remote);
    struct remote_facts facts;

    if (remote_facts(&remote, &facts) == 0)
        while (in->len > 0 && ask(&backend, fuzz_byte(in)) == 0)
            ;
    remote_finish(&remote);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const struct fuzz_shape *shapes;
        size_t count;
        void (*read)(int control, struct str *in);
    } readers[] = {
        {SESSION, ARRAY_SIZE(SESSION), read_session},
        {AUTH, ARRAY_SIZE(AUTH), read_request},
        {TLS, ARRAY_SIZE(TLS), read_files},
        {SMTP, ARRAY_SIZE(SMTP), read_answers},
    };
    struct str in = {(const char *)data, size};
    struct str questions;
    size_t reader = fuzz_byte(&in) % ARRAY_SIZE(readers);
    _cleanup_close_ int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int pair[2];
    int saved;

    questions = fuzz_piece(&in);
    if (file < 0 || frame_pair(pair) < 0 || fcntl(pair[1], F_SETFL, O_NONBLOCK) < 0)
        abort();
    for (int i = 0; i < FRAMES_MAX && fuzz_send(&in, readers[reader].shapes, readers[reader].count, pair[1], file); i++)
        ;
    if (shutdown(pair[1], SHUT_WR) < 0)
        abort();
    saved = fuzz_place(pair[0], SETUP_CONTROL);
    readers[reader].read(SETUP_CONTROL, &questions);
    fuzz_put_back(saved, SETUP_CONTROL);
    (void)close(pair[0]);
    (void)close(pair[1]);
    return 0;
}
