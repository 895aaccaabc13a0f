/*
 * Paths and parameters of SMTP commands: whatever comes in, the parser stays inside it; what it accepts can be parsed
 * again as a mailbox with the same result.
 */
#include <stdint.h>
#include <stdlib.h>

#include "handlers/smtp/param.h"
#include "shared/queue/xtext.h"
#include "shared/route/path.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static void check_path(struct str input, unsigned flags)
{
    struct smtp_path p, again;
    struct str s = input;

    if (path_parse(&s, flags, &p) < 0) {
        CHECK(s.ptr == input.ptr && s.len == input.len);
        return;
    }
    CHECK(s.ptr + s.len == input.ptr + input.len);
    CHECK(input.len - s.len <= LIMIT_PATH);
    CHECK(path_parse_mailbox(p.text, flags, &again) == 0);
    CHECK(str_eq(path_local(&p), path_local(&again)) && str_eq(p.domain, again.domain));
    CHECK(p.is_null == (p.text.len == 0));
    for (size_t i = 0; i < p.text.len; i++)
        CHECK((unsigned char)p.text.ptr[i] >= 32 && p.text.ptr[i] != 127);
}

/* What is taken is what the trusted half takes again from the frame, and what the next hop can be told. */
static void check_params(struct str input)
{
    struct mail_params mail;
    struct rcpt_params rcpt;
    struct smtp_answer answer;

    if (param_parse_mail(input, ~0u, &mail, &answer) == 0)
        CHECK(param_mail_is_valid(&mail));
    else
        CHECK(answer.code == 501 || answer.code == 555);
    if (param_parse_rcpt(input, ~0u, &rcpt, &answer) == 0) {
        _cleanup_buf_ struct buf ascii = BUF_INIT(ORCPT_MAX);
        struct str type, rest = rcpt.orcpt;

        CHECK(rcpt.notify == 0 || param_rcpt_is_valid(&rcpt));
        if (str_cut(&rest, ';', &type) && !str_is_ascii(rest))
            CHECK(utf8_xtext_encode(rest, &ascii) == 0 && type.len + 1 + ascii.len <= ORCPT_MAX);
    } else {
        CHECK(answer.code == 501 || answer.code == 555);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};
    struct smtp_answer answer;

    for (unsigned flags = 0; flags < 16; flags++)
        check_path(input, flags);
    check_params(input);
    (void)path_is_helo(input);
    (void)path_is_domain(input, true);
    (void)answer_parse(input, &answer);
    return 0;
}
