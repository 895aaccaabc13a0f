/*
 * Starts `srs`. Runs in relay and in the monitor of smtp, as root, or as the user who tries them.
 */
#include "shared/route/srs_run.h"

#include <errno.h>
#include <sysexits.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/route/helper.h"
#include "shared/route/path.h"
#include "shared/route/rcpt.h"
#include "shared/route/srs.h"

#define SRS_MS 30000 /* a machine under load; nothing in it waits */

bool srs_is_wanted(const struct conf *conf, struct str sender)
{
    struct smtp_path path;

    return conf->srs && sender.len > 0 && path_parse_mailbox(sender, PATH_UTF8, &path) == 0 &&
           !rcpt_is_ours(conf, &path, "");
}

static int error_of(int code)
{
    return code < 0                 ? code
           : code == EX_OK          ? 0
           : code == EX_DATAERR     ? -EINVAL
           : code == EX_NOPERM      ? -EKEYREJECTED
           : code == EX_UNAVAILABLE ? -EKEYEXPIRED
                                    : -EIO;
}

static int run(const struct conf *conf, const char *verb, const char *address, struct buf *out)
{
    struct chain_spec spec = {CHAIN_SPEC("srs"), .conf = conf, .arguments = {verb, address}, .dies_with_us = true};
    _cleanup_buf_ struct buf line = BUF_INIT(2 * SRS_ADDRESS);
    struct smtp_path path;
    struct str said;
    int e;

    if (address[0] == '-')
        return -EINVAL;
    e = error_of(helper_run(&spec, SRS_MS, &line));
    if (e < 0)
        return e;
    said = str_trim(buf_str(&line));
    if (path_parse_mailbox(said, PATH_UTF8, &path) < 0)
        return -EINVAL; /* too long for SMTP (RFC 5321 4.5.3.1.3), above all */
    return buf_add_str(out, said);
}

int srs_run_forward(const struct conf *conf, const char *sender, struct buf *out)
{
    return run(conf, "forward", sender, out);
}

int srs_run_reverse(const struct conf *conf, const char *address, struct buf *out)
{
    return run(conf, "reverse", address, out);
}

int srs_expand(const struct conf *conf, const struct smtp_path *path, struct expansion *ret,
               struct smtp_answer *ret_answer)
{
    _cleanup_free_ char *address = str_dup(path->text);
    _cleanup_buf_ struct buf original = BUF_INIT(LIMIT_PATH);
    int e = address ? srs_run_reverse(conf, address, &original) : -ENOMEM;

    if (e == 0)
        e = expand_remote(buf_str(&original), ret);
    if (e == 0)
        return 0;
    if (e == -EINVAL || e == -EKEYREJECTED)
        answer_set(ret_answer, 550, "5.1.1", "<%.*s>: no such address was ever made here", STR_ARG(path->text));
    else if (e == -EKEYEXPIRED)
        answer_set(ret_answer, 550, "5.1.1", "<%.*s>: this address is too old", STR_ARG(path->text));
    else
        answer_set(ret_answer, 451, "4.3.0", "<%.*s>: cannot be looked up now", STR_ARG(path->text));
    return e == -EINVAL || e == -EKEYREJECTED || e == -EKEYEXPIRED ? -ENOENT : e;
}
