/*
 * Stored bytes to wire form: made-up messages in every form and cut into every kind of piece, beside a converter that
 * looks at one line after the other.
 */
#include "tests/unit/mbox_util.h"

#include "shared/mbox/wire.h"

#define ROUNDS    3000
#define MESSAGE   16384
#define LONG      5000 /* longer than what is looked through at once */
#define ROOM      WIRE_ROOM(MESSAGE + INTEROP_WINDOW)
#define LINES_MAX 200

struct message {
    uint8_t bytes[MESSAGE + INTEROP_WINDOW];
    size_t len;
    size_t header;
    enum interop_form form;
    bool has_marker;
    bool lacks_newline;
    uint32_t longest; /* of its lines mostly, without what they begin with */
};

static uint32_t chance(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

static void add(struct message *m, const char *text, size_t len)
{
    if (m->len + len > MESSAGE)
        return;
    memcpy(m->bytes + m->len, text, len);
    m->len += len;
}

/* Most lines are short, some longer than a line is expected to be, a few very long. */
static size_t line_length(const struct message *m, uint64_t *seed)
{
    if (chance(seed, 3) == 0)
        return chance(seed, 4);
    if (m->longest > 4 && chance(seed, 20) == 0)
        return chance(seed, chance(seed, 5) == 0 ? LONG : 300);
    return chance(seed, m->longest);
}

/* A line with what may matter at its beginning, in its middle and at its end. */
static void add_line(struct message *m, uint64_t *seed, bool is_header)
{
    static const char *const heads[] = {"Subject: ", "Status: RO", "X-UID: 1",  "X-Original-Status: x", "Lines: 3",
                                        "To: ",      "\t",         "X-Other: ", "X-Pennypost-Pad: "};
    static const char *const starts[] = {"",      "",     "",   ">", ">From ",   ">>From x",
                                         "From ", ">Fro", "\r", ".", "Status: R"};
    static const char *const ends[] = {"\n", "\n", "\n", "\r\n", "\r\r\n"};
    const char *start = is_header ? heads[chance(seed, 9)] : starts[chance(seed, 11)];
    const char *end = ends[chance(seed, m->form == INTEROP_OWN_LF ? 3 : 5)];
    char text[LONG];
    size_t len = line_length(m, seed);

    for (size_t i = 0; i < len; i++)
        text[i] = "abc \r>"[chance(seed, 30) > 0 ? chance(seed, 4) : 4 + chance(seed, 2)];
    add(m, start, strlen(start));
    add(m, text, len);
    add(m, end, strlen(end));
}

static void make_up(struct message *m, uint64_t *seed)
{
    uint32_t body;

    m->len = m->header = 0;
    m->form = (enum interop_form)chance(seed, 3);
    m->has_marker = chance(seed, 2) == 0;
    m->longest = chance(seed, 4) == 0 ? 2 : 110;
    for (uint32_t i = chance(seed, 8); i > 0; i--)
        add_line(m, seed, true);
    add(m, "\n", 1);
    m->header = m->len;
    body = chance(seed, m->longest == 2 ? 20 * LINES_MAX : LINES_MAX);
    for (uint32_t i = 0; i < body; i++)
        add_line(m, seed, false);
    if (chance(seed, 4) == 0)
        add(m, "no line end at the end\r", chance(seed, 24));
    m->lacks_newline = m->bytes[m->len - 1] != '\n';
}

/* One line after the other, as the format says. */
static size_t expect(const struct message *m, uint8_t *out)
{
    bool is_hidden = false;
    size_t made = 0;

    for (size_t at = 0, n; at < m->len; at += n) {
        const uint8_t *p = m->bytes + at, *lf = memchr(p, '\n', m->len - at);
        bool is_header = at < m->header;
        size_t skip = 0;

        n = lf == NULL ? m->len - at : (size_t)(lf - p) + 1;
        if (!is_header || (*p != ' ' && *p != '\t')) {
            enum interop_field field = is_header ? interop_field((struct str){(const char *)p, n}) : INTEROP_NONE;

            is_hidden = field != INTEROP_NONE && (m->has_marker || (field != INTEROP_MARKER && field != INTEROP_PAD));
        }
        if (is_hidden)
            continue;
        if (m->form != INTEROP_FOREIGN)
            skip = interop_quoted((struct str){(const char *)p, n}, is_header);
        for (size_t i = skip; i < n; i++) {
            bool has_cr = i > skip && p[i - 1] == '\r';

            if (p[i] == '\n' && (m->form == INTEROP_OWN_LF || !has_cr))
                out[made++] = '\r';
            out[made++] = p[i];
        }
    }
    if (m->lacks_newline) {
        if (m->form == INTEROP_OWN_LF || m->bytes[m->len - 1] != '\r')
            out[made++] = '\r';
        out[made++] = '\n';
    }
    return made;
}

/* In pieces of up to `most` bytes. */
static size_t convert(const struct message *m, uint64_t *seed, size_t most, uint8_t *out)
{
    struct wire w = {.form = m->form,
                     .has_marker = m->has_marker,
                     .lacks_newline = m->lacks_newline,
                     .header = m->header,
                     .last = '\n'};
    size_t made = 0, consumed;

    for (size_t at = 0; at < m->len; at += consumed) {
        size_t n = most >= m->len ? m->len : INTEROP_WINDOW + chance(seed, (uint32_t)most);
        uint8_t *in, *piece;

        n = m->len - at < n ? m->len - at : n;
        in = malloc(n); /* exactly so many: what goes beyond them shows under ASan and valgrind */
        piece = malloc(WIRE_ROOM(n));
        assert_non_null(in);
        assert_non_null(piece);
        memcpy(in, m->bytes + at, n);
        n = wire_convert(&w, in, n, at + n == m->len, piece, &consumed);
        assert_true(consumed > 0);
        memcpy(out + made, piece, n);
        made += n;
        free(in);
        free(piece);
    }
    return made;
}

static void test_made_up(void **state)
{
    static uint8_t wanted[ROOM], found[ROOM];
    struct message *m = malloc(sizeof(*m));
    uint64_t seed = 1;

    (void)state;
    assert_non_null(m);
    for (int i = 0; i < ROUNDS; i++) {
        static const size_t most[] = {SIZE_MAX, 1, 700, 9000};
        size_t len;

        make_up(m, &seed);
        len = expect(m, wanted);
        for (size_t k = 0; k < ARRAY_SIZE(most); k++) {
            assert_int_equal(convert(m, &seed, most[k], found), len);
            assert_memory_equal(found, wanted, len);
        }
    }
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_made_up)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
