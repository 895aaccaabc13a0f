/*
 * A user of the mbox store for the crash, hammer and interop tests: does what the words of its command line (or, with
 * "-", the lines of its standard input) say through the facade, and prints one line after each step.
 *
 *   work [-p] [-r] [-t SECONDS] INBOX FOLDERS STATE  COMMAND [, COMMAND]...
 *   work ... -                                      one command a line; ends at end of file
 *
 *   append BOX FLAGS FILE...    one commit of all files; "ACK append UIDVALIDITY FIRST-UID" (0: not yet known)
 *   open BOX                    "ACK open UIDVALIDITY UIDNEXT COUNT"
 *   close | poll | flush | dump | status BOX
 *   flags UIDS [+-=]FLAGS       FLAGS: letters of S A F D T (seen answered flagged deleted draft), then :keyword,...
 *   expunge [UIDS] | remove UIDS
 *   copy UIDS BOX | move UIDS BOX
 *   create BOX | delete BOX | rename BOX BOX
 *   read SEQ BYTES              starts a stream and reads some of it; leave it open, "read 0 BYTES" goes on
 *   sleep MILLISECONDS
 *
 * "ACK COMMAND ..." means that the store returned success; "ERR COMMAND ERRNO" its error, and then from a command line
 * the program ends with status 2. dump prints "BOX ...", then a "MSG ..." line and the bytes of every message.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/base/limits.h"
#include "shared/mbox/mbox.h"

#define MAX_WORDS 4096
#define MAX_LINE  65536

struct work {
    struct mbox_store *store;
    struct mbox *box;
    struct mbox_stream *stream;
    unsigned open_flags;
};

static int parse_uids(const char *text, struct numset *uids)
{
    if (strcmp(text, "all") == 0)
        return numset_add(uids, 1, UINT32_MAX);
    return numset_parse(str_from(text), uids);
}

static uint32_t parse_system(const char **text)
{
    static const char letters[] = "SAFDT";
    uint32_t bits = 0;
    const char *found;

    for (; **text != '\0' && (found = strchr(letters, **text)) != NULL; (*text)++)
        bits |= 1u << (found - letters);
    return bits;
}

static int parse_flags(struct mbox *box, const char *text, struct mbox_flags *ret)
{
    struct mbox_flags flags = {.system = parse_system(&text)};

    while (*text == ':' || *text == ',') {
        size_t len = strcspn(++text, ",");
        unsigned n = 0;
        int r = mbox_keyword_number(box, (struct str){text, len}, true, &n);

        if (r < 0)
            return r;
        flags.keywords |= UINT64_C(1) << n;
        text += len;
    }
    *ret = flags;
    return 0;
}

/* ---- appending ---- */

static int append_file(struct mbox_append *a, const struct mbox_append_options *options, const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char block[16384];
    ssize_t n;
    int r;

    if (fd < 0)
        return -errno;
    r = mbox_append_message(a, options);
    while (r == 0 && (n = read(fd, block, sizeof(block))) != 0) {
        if (n < 0)
            return -errno;
        r = mbox_append_write(a, block, (size_t)n);
    }
    return r;
}

static int do_append(struct work *w, int argc, char **argv)
{
    struct mbox_append_options options = {.sender = STR("sender@example.org"), .internaldate = 1000000000};
    const char *letters = argc > 2 ? argv[2] : "";
    struct mbox_append *a = NULL;
    struct str keyword;
    uint32_t validity = 0, uid = 0;
    int r;

    if (argc < 4)
        return -EINVAL;
    options.flags.system = parse_system(&letters);
    if (*letters == ':') {
        keyword = str_from(letters + 1);
        options.keywords = &keyword;
        options.keyword_count = 1;
    }
    r = mbox_append_new(w->store, str_from(argv[1]), &a);
    for (int i = 3; r == 0 && i < argc; i++)
        r = append_file(a, &options, argv[i]);
    if (r == 0)
        r = mbox_append_commit(a, &validity, &uid);
    mbox_append_free(a);
    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "ACK append %" PRIu32 " %" PRIu32 "\n", validity, uid);
    return r;
}

/* ---- views ---- */

static int do_open(struct work *w, int argc, char **argv)
{
    struct mbox_status s;
    int r;

    if (argc < 2 || w->box != NULL)
        return -EINVAL;
    r = mbox_open(w->store, str_from(argv[1]), w->open_flags, &w->box);
    if (r == 0)
        r = mbox_view_status(w->box, &s);
    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "ACK open %" PRIu32 " %" PRIu32 " %" PRIu32 "\n", s.uidvalidity, s.uidnext,
                      mbox_count(w->box));
    return r;
}

static int do_close(struct work *w, int argc, char **argv)
{
    int r;

    mbox_stream_free(steal_ptr(w->stream));
    r = mbox_close(steal_ptr(w->box));
    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "ACK close\n");
    return r;
}

static int do_poll(struct work *w, int argc, char **argv)
{
    int r = mbox_poll(w->box, false, &(struct mbox_changes){0});

    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "ACK poll %" PRIu32 "\n", mbox_count(w->box));
    return r;
}

static int do_flush(struct work *w, int argc, char **argv)
{
    int r = mbox_flush(w->box);

    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "ACK flush\n");
    return r;
}

static int do_flags(struct work *w, int argc, char **argv)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    _cleanup_numset_ struct numset modified = NUMSET_INIT;
    enum mbox_flags_mode mode;
    struct mbox_flags flags;
    int r;

    if (argc < 3 || strchr("+-=", argv[2][0]) == NULL || parse_uids(argv[1], &uids) < 0)
        return -EINVAL;
    mode = argv[2][0] == '+' ? MBOX_FLAGS_ADD : argv[2][0] == '-' ? MBOX_FLAGS_REMOVE : MBOX_FLAGS_SET;
    r = parse_flags(w->box, argv[2] + 1, &flags);
    if (r == 0)
        r = mbox_set_flags(w->box, &uids, mode, flags, UINT64_MAX, &modified);
    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "ACK flags %s %s\n", argv[1], argv[2]);
    return r;
}

static void print_set(const char *what, const struct numset *set, const struct numset *set2, uint32_t validity)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    int r = buf_printf(&text, "ACK %s ", what);

    if (r == 0)
        r = numset_print(set, &text);
    if (r == 0 && set2 != NULL) {
        r = buf_printf(&text, " %" PRIu32 " ", validity);
        if (r == 0)
            r = numset_print(set2, &text);
    }
    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "%s\n", buf_cstr(&text));
}

static int do_expunge(struct work *w, int argc, char **argv)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    _cleanup_numset_ struct numset gone = NUMSET_INIT;
    int r;

    if (argc > 1 && parse_uids(argv[1], &uids) < 0)
        return -EINVAL;
    if (strcmp(argv[0], "remove") == 0)
        r = mbox_remove(w->box, &uids, &gone);
    else
        r = mbox_expunge(w->box, argc > 1 ? &uids : NULL, &gone);
    if (r == 0)
        print_set(argv[0], &gone, NULL, 0);
    return r;
}

static int do_copy(struct work *w, int argc, char **argv)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    _cleanup_numset_ struct numset from = NUMSET_INIT;
    _cleanup_numset_ struct numset to = NUMSET_INIT;
    uint32_t validity = 0;
    int r;

    if (argc < 3 || parse_uids(argv[1], &uids) < 0)
        return -EINVAL;
    r = mbox_copy(w->box, &uids, str_from(argv[2]), strcmp(argv[0], "move") == 0, &from, &to, &validity);
    if (r == 0)
        print_set(argv[0], &from, &to, validity);
    return r;
}

static int do_folder(struct work *w, int argc, char **argv)
{
    int r = -EINVAL;

    if (argc == 2 && strcmp(argv[0], "create") == 0)
        r = mbox_create(w->store, str_from(argv[1]));
    else if (argc == 2 && strcmp(argv[0], "delete") == 0)
        r = mbox_delete(w->store, str_from(argv[1]));
    else if (argc == 3 && strcmp(argv[0], "rename") == 0)
        r = mbox_rename(w->store, str_from(argv[1]), str_from(argv[2]));
    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "ACK %s\n", argv[0]);
    return r;
}

static int do_status(struct work *w, int argc, char **argv)
{
    struct mbox_status s;
    int r = argc > 1 ? mbox_status(w->store, str_from(argv[1]), &s) : -EINVAL;

    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "ACK status %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu32 "\n", s.uidvalidity,
                      s.uidnext, s.highestmodseq, s.messages);
    return r;
}

/* ---- reading ---- */

static int read_all(struct work *w, uint32_t seq, struct buf *out)
{
    struct mbox_stream *m = NULL;
    struct str piece;
    int r = mbox_stream_new(w->box, seq, &m);

    while (r == 0 && (r = mbox_stream_next(m, &piece)) == 0 && piece.len > 0)
        r = buf_add_str(out, piece);
    mbox_stream_free(m);
    return r;
}

/* What is counted one by one, beside the sums that the store keeps. */
static void count_message(const struct mbox_info *info, uint32_t seq, struct mbox_status *counted)
{
    counted->messages++;
    counted->size += info->size;
    counted->deleted += (info->flags.system & MBOX_DELETED) != 0;
    if (info->flags.system & MBOX_SEEN)
        return;
    counted->unseen++;
    if (counted->first_unseen == 0)
        counted->first_unseen = seq;
}

static bool is_counted(const struct mbox_status *kept, const struct mbox_status *counted)
{
    return kept->messages == counted->messages && kept->size == counted->size && kept->deleted == counted->deleted &&
           kept->unseen == counted->unseen && kept->first_unseen == counted->first_unseen;
}

/* Nothing is printed of a message that cannot be read to its end. */
static int dump_message(struct work *w, uint32_t seq, struct mbox_status *counted)
{
    static const char letters[] = "SAFDT";
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_MESSAGE_SIZE);
    struct mbox_info info;
    int r = mbox_info(w->box, seq, &info);

    if (r == 0)
        r = read_all(w, seq, &text);
    if (r < 0)
        return r;
    count_message(&info, seq, counted);
    printf("MSG %" PRIu32 " ", info.uid);
    for (unsigned i = 0; i < 5; i++)
        if (info.flags.system & (1u << i))
            printf("%c", letters[i]);
    printf(":");
    for (unsigned i = 0; i < 64; i++) {
        struct str word = info.flags.keywords >> i & 1 ? mbox_keyword(w->box, i) : STR("");

        if (word.len > 0)
            printf("%.*s,", STR_ARG(word));
    }
    printf(" %" PRIu64 " %" PRIu64 " %" PRId64 "\n", info.modseq, info.size, info.internaldate);
    (void)fwrite(text.data, 1, text.len, stdout);
    printf("\n");
    return text.len == info.size ? 0 : -EPROTO;
}

static int do_dump(struct work *w, int argc, char **argv)
{
    struct mbox_status s, counted = {0};
    int r = mbox_view_status(w->box, &s);

    if (r < 0)
        return r;
    printf("BOX %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu32 "\n", s.uidvalidity, s.uidnext, s.highestmodseq,
           mbox_count(w->box));
    for (uint32_t i = 1; r == 0 && i <= mbox_count(w->box); i++)
        r = dump_message(w, i, &counted);
    if (r == 0 && !is_counted(&s, &counted))
        r = -ERANGE;
    printf(r == 0 ? "ACK dump\n" : "");
    (void)fflush(stdout);
    return r;
}

static int do_read(struct work *w, int argc, char **argv)
{
    uint64_t left, got = 0;
    struct str piece = {0};
    int r = 0;

    if (argc < 3)
        return -EINVAL;
    if (strcmp(argv[1], "0") != 0) {
        mbox_stream_free(steal_ptr(w->stream));
        r = mbox_stream_new(w->box, (uint32_t)strtoul(argv[1], NULL, 10), &w->stream);
    }
    left = strtoull(argv[2], NULL, 10);
    while (r == 0 && got < left && (r = mbox_stream_next(w->stream, &piece)) == 0 && piece.len > 0)
        got += piece.len;
    if (r == 0)
        (void)dprintf(STDOUT_FILENO, "ACK read %" PRIu64 "\n", got);
    return r;
}

static int do_sleep(struct work *w, int argc, char **argv)
{
    long ms = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&t, NULL);
    (void)dprintf(STDOUT_FILENO, "ACK sleep\n");
    return 0;
}

/* ---- commands ---- */

static const struct {
    const char *name;
    int (*run)(struct work *w, int argc, char **argv);
    bool needs_box;
} commands[] = {
    {"append", do_append, false},  {"open", do_open, false},     {"close", do_close, true},
    {"poll", do_poll, true},       {"flush", do_flush, true},    {"flags", do_flags, true},
    {"expunge", do_expunge, true}, {"remove", do_expunge, true}, {"copy", do_copy, true},
    {"move", do_copy, true},       {"create", do_folder, false}, {"delete", do_folder, false},
    {"rename", do_folder, false},  {"status", do_status, false}, {"dump", do_dump, true},
    {"read", do_read, true},       {"sleep", do_sleep, false},
};

static int run_command(struct work *w, int argc, char **argv)
{
    int r = -ENOSYS;

    if (argc == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        if (strcmp(commands[i].name, argv[0]) == 0)
            r = commands[i].needs_box && w->box == NULL ? -EBADF : commands[i].run(w, argc, argv);
    if (r < 0)
        (void)dprintf(STDOUT_FILENO, "ERR %s %s\n", argv[0], strerrorname_np(-r));
    return r;
}

static int run_line(struct work *w, char *line)
{
    char *words[MAX_WORDS];
    int n = 0;

    for (char *p = line + strspn(line, " \n"); *p != '\0' && n < MAX_WORDS; p += strspn(p, " \n")) {
        words[n++] = p;
        p += strcspn(p, " \n");
        if (*p != '\0')
            *p++ = '\0';
    }
    return run_command(w, n, words);
}

static int run_words(struct work *w, int argc, char **argv)
{
    static char line[MAX_LINE];
    int r = 0;

    if (argc == 1 && strcmp(argv[0], "-") == 0) {
        while (fgets(line, sizeof(line), stdin) != NULL)
            (void)run_line(w, line);
        return 0;
    }
    while (r == 0 && argc > 0) {
        int n = 0;

        while (n < argc && strcmp(argv[n], ",") != 0)
            n++;
        r = run_command(w, n, argv);
        argv += n < argc ? n + 1 : n;
        argc -= n < argc ? n + 1 : n;
    }
    return r;
}

static void print_notices(struct mbox_store *store)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);

    if (mbox_store_notices(store, &text) == 0 && text.len > 0)
        (void)fprintf(stderr, "%s", buf_cstr(&text));
}

int main(int argc, char **argv)
{
    struct clock clock = {0};
    struct mbox_store_options options = {.owner = geteuid(), .clock = &clock, .keeper = -1};
    struct work w = {0};
    int c, r;

    while ((c = getopt(argc, argv, "+dprt:")) != -1) {
        if (c == 'p')
            w.open_flags |= MBOX_OPEN_POP3;
        else if (c == 'r')
            w.open_flags |= MBOX_OPEN_READONLY;
        else if (c == 'd')
            options.is_delivery = true;
        else if (c == 't')
            options.lock_timeout = (int)strtol(optarg, NULL, 10);
        else
            return 64;
    }
    if (argc - optind < 4) {
        (void)fprintf(stderr, "usage: work [-dpr] [-t SECONDS] INBOX FOLDERS STATE COMMAND [, COMMAND]...\n");
        return 64;
    }
    options.inbox = argv[optind];
    options.folders = argv[optind + 1];
    options.state = strcmp(argv[optind + 2], "-") != 0 ? argv[optind + 2] : NULL;
    r = mbox_store_new(&options, &w.store);
    if (r < 0) {
        (void)fprintf(stderr, "work: cannot open the store: %s\n", strerror(-r));
        return 1;
    }
    r = run_words(&w, argc - optind - 3, argv + optind + 3);
    mbox_stream_free(w.stream);
    (void)mbox_close(w.box);
    print_notices(w.store);
    mbox_store_free(w.store);
    return r < 0 ? 2 : 0;
}
