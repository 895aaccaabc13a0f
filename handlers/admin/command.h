/*
 * The sub-commands of `pennypost`: one row of the table in main.c and one function each.
 */
#ifndef ADMIN_COMMAND_H
#define ADMIN_COMMAND_H

#include "shared/base/conf.h"

struct command {
    const char *name;
    const char *arguments; /* for the usage text, "" none */
    const char *summary;
    /* argv[0] is the name; the common options (-c, -o, --epoch) are taken out. Returns the exit status (sysexits). */
    int (*run)(struct conf *conf, int argc, char **argv);
};

int check_main(struct conf *conf, int argc, char **argv);

/* `pennypost check --security`: the exit status. */
int check_security(struct conf *conf);

/* `pennypost check --dns`: the exit status. */
int check_dns(struct conf *conf);

int dkim_main(struct conf *conf, int argc, char **argv);
int demo_main(struct conf *conf, int argc, char **argv);
int device_main(struct conf *conf, int argc, char **argv);

int mbox_main(struct conf *conf, int argc, char **argv);
int route_main(struct conf *conf, int argc, char **argv);
int queue_main(struct conf *conf, int argc, char **argv);
int recover_main(struct conf *conf, int argc, char **argv);

#endif
