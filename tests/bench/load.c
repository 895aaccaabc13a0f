/*
 * The load of one connection where Python would be slower than the servers: standard input is a connected socket, for
 * POP3 after login. What is timed looks for the ends of answers and at nothing else; what was sent is proved by a
 * second pass.
 *
 *   load answer COMMAND                      one command, up to the lone dot of its answer
 *   load pipeline VERB FIRST STEP LAST END   "VERB n" for each number, END (as printf(1) has it) ends an answer
 *   load digests COUNT                       RETR of 1 to COUNT: a line each, SHA-256 of the message as it is stored
 *   load imap TAG COMMAND                    one command, up to its tagged answer
 *   load literals TAG COMMAND                the same: a line for each literal of the answer, its SHA-256
 *
 * All but digests and literals print "seconds octets", imap also the last line. digests marks what a server may show
 * otherwise, "h": header fields that mbox programs keep for themselves, "q": From_ lines without their quoting. Status
 * 0, or 1 after a line on standard error.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AHEAD   100 /* commands that wait for an answer, as mpop sends them: no server waits for its client */
#define LOW     20  /* that many are left when it sends more */
#define ROOM    64 /* of a command */
#define PATIENT (600 * 1000)
#define BUFFER  (1u << 20)
#define TAIL    4096u /* of the last line */

struct input {
    char bytes[BUFFER];
    size_t at, end;
};

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void send_all(const char *at, size_t len)
{
    while (len > 0) {
        ssize_t n = send(STDIN_FILENO, at, len, MSG_NOSIGNAL);
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLOUT};

        if (n < 0 && errno == EAGAIN)
            (void)poll(&p, 1, PATIENT);
        else if (n < 0)
            fail("the connection is gone");
        at += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

/* What has come, some bytes at least; the socket may be one that does not block. */
static size_t receive(char *to, size_t room)
{
    for (;;) {
        ssize_t n = recv(STDIN_FILENO, to, room, 0);
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

        if (n > 0)
            return (size_t)n;
        if (n == 0)
            fail("the server has closed the connection");
        if (errno != EAGAIN || poll(&p, 1, PATIENT) <= 0)
            fail("the server does not answer");
    }
}

static long number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || n < 0)
        fail("a number is missing");
    return n;
}

/* ---- pipeline ---- */

static size_t unescape(const char *text, char *to, size_t room)
{
    size_t n = 0;

    for (; *text != '\0' && n < room; text++) {
        if (*text == '\\' && text[1] != '\0')
            to[n++] = *++text == 'r' ? '\r' : *text == 'n' ? '\n' : *text;
        else
            to[n++] = *text;
    }
    return n;
}

struct numbers {
    const char *verb;
    long next, step, last; /* step 0: the verb alone, once */
};

/* Sends the next commands, `most` of them. Returns how many there were. */
static long send_commands(struct numbers *n, long most)
{
    char text[AHEAD * ROOM];
    size_t len = 0;
    long sent = 0;

    for (; sent < most && n->next <= n->last; sent++, n->next += n->step > 0 ? n->step : 1)
        len += (size_t)(n->step > 0 ? snprintf(text + len, ROOM, "%.20s %ld\r\n", n->verb, n->next)
                                    : snprintf(text + len, ROOM, "%.20s\r\n", n->verb));
    send_all(text, len);
    return sent;
}

/* The first `end` between two places, or NULL. `pivot` is its rarest byte, which memchr(3) finds far faster than
 * memmem(3) finds it all. */
static const char *find_end(const char *at, const char *limit, const char *end, size_t len)
{
    const char *dot = memchr(end, '.', len);
    size_t pivot = dot != NULL ? (size_t)(dot - end) : len - 1;

    for (const char *p = at + pivot; p < limit; p++) {
        p = memchr(p, end[pivot], (size_t)(limit - p));
        if (p == NULL)
            break;
        if ((size_t)(limit - p) >= len - pivot && memcmp(p - pivot, end, len) == 0)
            return p - pivot;
    }
    return NULL;
}

/* The ends in what has come; what may be the beginning of one more stays in front. */
static long count_ends(struct input *in, const char *end, size_t len)
{
    const char *at = in->bytes, *found;
    long count = 0;
    size_t rest;

    while ((found = find_end(at, in->bytes + in->end, end, len)) != NULL) {
        at = found + len;
        count++;
    }
    rest = (size_t)(in->bytes + in->end - at);
    rest = rest < len ? rest : len - 1;
    memmove(in->bytes, in->bytes + in->end - rest, rest);
    in->end = rest;
    return count;
}

static void pipeline(struct input *in, struct numbers numbers, const char *end_text)
{
    char end[16];
    size_t len = unescape(end_text, end, sizeof(end));
    uint64_t octets = 0;
    double start = now();
    long waiting = send_commands(&numbers, AHEAD);

    while (waiting > 0) {
        size_t n = receive(in->bytes + in->end, BUFFER - in->end);

        in->end += n;
        octets += n;
        waiting -= count_ends(in, end, len);
        if (waiting <= LOW)
            waiting += send_commands(&numbers, AHEAD - waiting);
    }
    printf("%.6f %llu\n", now() - start, (unsigned long long)octets);
    if (waiting < 0 || in->end > 0)
        fail("there is more than was asked for");
}

/* ---- digests ---- */

/* The next line with its end. */
static char *read_line(struct input *in, size_t *ret_len)
{
    for (;;) {
        char *line = in->bytes + in->at;
        char *lf = memchr(line, '\n', in->end - in->at);

        if (lf != NULL) {
            *ret_len = (size_t)(lf - line) + 1;
            in->at += *ret_len;
            return line;
        }
        memmove(in->bytes, line, in->end - in->at);
        in->end -= in->at;
        in->at = 0;
        if (in->end == BUFFER)
            fail("a line is too long");
        in->end += receive(in->bytes + in->end, BUFFER - in->end);
    }
}

static bool is_kept_by_programs(const char *line, size_t len)
{
    static const char *const names[] = {
        "status:", "x-status:", "x-keywords:", "x-uid:", "x-imapbase:", "x-imap:", "x-uidl:"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (len >= strlen(names[i]) && strncasecmp(line, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static void print_digest(EVP_MD_CTX *hash, const char *end)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;

    EVP_DigestFinal_ex(hash, digest, &size);
    for (unsigned i = 0; i < size; i++)
        printf("%02x", digest[i]);
    printf("%s\n", end);
}

static void digest_message(struct input *in, EVP_MD_CTX *hash)
{
    bool is_header = true, has_hidden = false, has_unquoted = false;
    size_t len;
    char *line = read_line(in, &len);

    if (len < 3 || memcmp(line, "+OK", 3) != 0)
        fail("RETR is refused");
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    while ((line = read_line(in, &len)) != NULL && !(len == 3 && memcmp(line, ".\r\n", 3) == 0)) {
        if (line[0] == '.') {
            line++;
            len--;
        }
        is_header = is_header && !(len == 2 && line[0] == '\r');
        if (is_header && is_kept_by_programs(line, len)) {
            has_hidden = true;
            continue;
        }
        if (!is_header && len >= 5 && memcmp(line, "From ", 5) == 0) {
            has_unquoted = true;
            EVP_DigestUpdate(hash, ">", 1);
        }
        EVP_DigestUpdate(hash, line, len);
    }
    print_digest(hash, has_hidden && has_unquoted ? " hq" : has_hidden ? " h" : has_unquoted ? " q" : " ");
}

static void digests(struct input *in, long count)
{
    struct numbers numbers = {.verb = "RETR", .next = 1, .step = 1, .last = count};
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    long waiting = send_commands(&numbers, AHEAD);

    if (hash == NULL)
        fail("no memory");
    while (waiting-- > 0) {
        digest_message(in, hash);
        waiting += waiting <= LOW ? send_commands(&numbers, AHEAD - waiting) : 0;
    }
    EVP_MD_CTX_free(hash);
}

/* ---- imap ---- */

/* The last line, if all has come and it is the tagged answer. */
static const char *tagged_line(struct input *in, const char *tag)
{
    char *lf;

    if (in->end < 2 || in->bytes[in->end - 1] != '\n')
        return NULL;
    in->bytes[in->end - 1] = '\0';
    lf = memrchr(in->bytes, '\n', in->end - 1);
    if ((lf != NULL || in->at == 0) && strncmp(lf ? lf + 1 : in->bytes, tag, strlen(tag)) == 0)
        return lf ? lf + 1 : in->bytes;
    in->bytes[in->end - 1] = '\n';
    return NULL;
}

static void send_tagged(const char *word, const char *command)
{
    send_all(word, strlen(word));
    send_all(command, strlen(command));
    send_all("\r\n", 2);
}

static void imap(struct input *in, const char *tag, const char *command)
{
    char word[64];
    uint64_t octets = 0;
    const char *last;
    double start;

    (void)snprintf(word, sizeof(word), "%.60s ", tag);
    start = now();
    send_tagged(word, command);
    do {
        size_t n;

        if (in->end > BUFFER / 2) { /* `at`: something was left out in front */
            memmove(in->bytes, in->bytes + in->end - TAIL, TAIL);
            in->end = in->at = TAIL;
        }
        n = receive(in->bytes + in->end, BUFFER - in->end);
        in->end += n;
        octets += n;
        last = tagged_line(in, word);
    } while (last == NULL);
    printf("%.6f %llu\n%s\n", now() - start, (unsigned long long)octets, last);
}

/* The size of the literal that a line announces at its end; -1: it does not. */
static long long literal_after(const char *line, size_t len)
{
    long long size = 0, unit = 1;
    size_t at = len >= 3 ? len - 3 : 0;

    if (at == 0 || memcmp(line + at, "}\r\n", 3) != 0)
        return -1;
    while (at > 0 && line[at - 1] >= '0' && line[at - 1] <= '9' && unit < 1000000000000) {
        size += unit * (line[--at] - '0');
        unit *= 10;
    }
    return at > 0 && unit > 1 && line[at - 1] == '{' ? size : -1;
}

static void digest_octets(struct input *in, EVP_MD_CTX *hash, long long size)
{
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    while (size > 0) {
        size_t n = in->end - in->at;

        if (n == 0) {
            in->at = 0;
            in->end = n = receive(in->bytes, BUFFER);
        }
        n = (long long)n < size ? n : (size_t)size;
        EVP_DigestUpdate(hash, in->bytes + in->at, n);
        in->at += n;
        size -= (long long)n;
    }
    print_digest(hash, "");
}

static void literals(struct input *in, const char *tag, const char *command)
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    char word[64];

    if (hash == NULL)
        fail("no memory");
    (void)snprintf(word, sizeof(word), "%.60s ", tag);
    send_tagged(word, command);
    for (;;) {
        size_t len;
        const char *line = read_line(in, &len);
        long long size = literal_after(line, len);

        if (size >= 0) {
            digest_octets(in, hash, size);
        } else if (len > strlen(word) && memcmp(line, word, strlen(word)) == 0) {
            if (len < strlen(word) + 2 || memcmp(line + strlen(word), "OK", 2) != 0)
                fail("the command is refused");
            break;
        }
    }
    EVP_MD_CTX_free(hash);
}

int main(int argc, char **argv)
{
    struct input *in = calloc(1, sizeof(*in));

    if (in == NULL)
        fail("no memory");
    if (argc == 3 && strcmp(argv[1], "answer") == 0)
        pipeline(in, (struct numbers){.verb = argv[2]}, "\\r\\n.\\r\\n");
    else if (argc == 7 && strcmp(argv[1], "pipeline") == 0)
        pipeline(in, (struct numbers){argv[2], number(argv[3]), number(argv[4]), number(argv[5])}, argv[6]);
    else if (argc == 3 && strcmp(argv[1], "digests") == 0)
        digests(in, number(argv[2]));
    else if (argc == 4 && strcmp(argv[1], "imap") == 0)
        imap(in, argv[2], argv[3]);
    else if (argc == 4 && strcmp(argv[1], "literals") == 0)
        literals(in, argv[2], argv[3]);
    else
        fail("usage: load answer COMMAND | pipeline VERB FIRST STEP LAST END | digests COUNT | imap|literals TAG "
             "COMMAND");
    free(in);
    return 0;
}
