/*
 * pennypost: the admin's command. Runs as whoever calls it; what a sub-command may touch stands at the top of its file.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "handlers/admin/command.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"

static const struct command commands[] = {
    {"check", "[--security | --dns | [--services LIST] [--host HOST] [--password-file FILE] [USER]]",
     "send a message, see it over POP3 and IMAP, remove it", check_main},
    {"demo", "[--seconds N]", "serve a throw-away mailbox on free loopback ports, without root", demo_main},
    {"device", "add|list|revoke ...", "passwords for single devices, and for SCRAM, CRAM-MD5 and APOP", device_main},
    {"dkim", "keygen [--rsa | --ed25519] [--bits N] DOMAIN [SELECTOR] | show [DOMAIN]",
     "keys to sign mail with, and their DNS records", dkim_main},
    {"mbox", "check FILE | repair FILE", "tell what is in an mbox file and wrong with it; write a repaired copy",
     mbox_main},
    {"queue", "list|show|retry|hold|release|remove|bounce ...", "look at the queue, and decide about what is in it",
     queue_main},
    {"recover", "", "finish or undo what was being written to mailboxes when the machine went down", recover_main},
    {"route", "DOMAIN", "where mail for a domain would go: mail hosts, addresses, DANE, MTA-STS", route_main},
};

static int usage(FILE *out)
{
    (void)fprintf(out, "usage: pennypost [-c FILE] [-o key=value] COMMAND [ARGUMENT]...\n");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        (void)fprintf(out, "  %s%s%s\n        %s\n", commands[i].name, commands[i].arguments[0] ? " " : "",
                      commands[i].arguments, commands[i].summary);
    return out == stdout ? 0 : EX_USAGE;
}

int main(int argc, char **argv)
{
    _cleanup_conf_ struct conf conf = {0};
    int r;

    log_open("pennypost", true);
    r = conf_init(&conf);
    if (r == 0)
        r = conf_args(&conf, &argc, argv);
    if (r < 0) {
        (void)fprintf(stderr, "pennypost: %s\n", conf.error.len > 0 ? buf_cstr(&conf.error) : strerror(-r));
        return r == -EINVAL ? EX_CONFIG : EX_OSERR;
    }
    if (conf.warnings.len > 0)
        (void)fprintf(stderr, "%s", buf_cstr(&conf.warnings));

    if (argc < 2)
        return usage(stderr);
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("pennypost " PENNYPOST_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return usage(stdout);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(&conf, argc - 1, argv + 1);
    }
    (void)fprintf(stderr, "pennypost: no command %s\n", argv[1]);
    return usage(stderr);
}
