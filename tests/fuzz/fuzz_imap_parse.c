/*
 * Fuzz target: what a client sends to imap-session, against a store in memory: parser, literals and every command. The
 * first byte chooses how lines end.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "handlers/imap/session.h"
#include "shared/base/macros.h"
#include "tests/unit/imap_store.h"

static const char plain[] = "From: Al <a@example.org>\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@x>\r\n"
                            "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\n\r\nBody one\r\n";
static const char nested[] =
    "Subject: Re: one\r\nReferences: <1@x> <2@x>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n"
    "\r\nR3LDvMOfZQ==\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx\r\n--b--\r\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_close_ int in = memfd_create("in", MFD_CLOEXEC), out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    _cleanup_conf_ struct conf conf = {.hostname = NULL};
    struct session who = {.control = -1};
    struct imap s;

    if (size < 1 || in < 0 || out < 0 || write(in, data + 1, size - 1) != (ssize_t)(size - 1) ||
        lseek(in, 0, SEEK_SET) < 0)
        return 0;
    who.is_preauth = data[0] & 1;
    who.unread = who.protocol = who.messages = BUF_INIT(1024);
    if (conf_init(&conf) < 0)
        return 0;
    conf.clock.is_frozen = true;
    conf.clock.epoch = 1700000000;
    if (imap_init(&s, &conf, &who, in, out) >= 0) {
        store_deliver("INBOX", plain);
        store_deliver("INBOX", nested);
        (void)imap_run(&s);
    }
    imap_finish(&s);
    return 0;
}
