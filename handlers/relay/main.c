/*
 * relay: one queue run. Started by pennypost-queue.service (path and timer), by cron, by `sendmail -q`, or by hand.
 * Runs as root, or as whoever owns the queue folder; reads no byte of the network.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/relay/pull.h"
#include "handlers/relay/relay.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"

static int usage(void)
{
    (void)fputs("usage: relay [-c file] [-o key=value] [--all] [--domain domain] [--match text]\n"
                "       relay --pull\n",
                stderr);
    return EX_USAGE;
}

static int read_options(int argc, char **argv, struct relay_filter *ret, bool *ret_pulls)
{
    static const struct option options[] = {
        {"all", no_argument, NULL, 'a'},         {"domain", required_argument, NULL, 'd'},
        {"match", required_argument, NULL, 'm'}, {"turn", required_argument, NULL, 't'},
        {"pull", no_argument, NULL, 'p'},        {0}};
    int o;

    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (o == 'a')
            ret->is_forced = true;
        else if (o == 'd')
            ret->domain = optarg[0] == '@' ? optarg + 1 : optarg;
        else if (o == 'm')
            ret->match = optarg;
        else if (o == 't')
            ret->turn = optarg;
        else if (o == 'p')
            *ret_pulls = true;
        else
            return -EINVAL;
    }
    /* Who asks for some of it asks for it now. */
    ret->is_forced |= ret->domain || ret->match || ret->turn;
    return optind == argc ? 0 : -EINVAL;
}

/* fd 0 is the connection of somebody who fetches his mail: out of the way of what is opened next. */
static int take_connection(int *ret)
{
    _cleanup_close_ int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (fd < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0)
        return -errno;
    *ret = steal_fd(&fd);
    return 0;
}

static int run(struct conf *conf, const struct relay_filter *filter)
{
    struct relay *r = calloc(1, sizeof(*r));
    const char *path = "";
    int x;

    if (!r)
        return -ENOMEM;
    r->conf = conf;
    r->filter = *filter;
    r->queue = QUEUE_INIT;
    r->turn = -1;
    x = filter->turn ? take_connection(&r->turn) : 0;
    if (x == 0)
        x = queue_open(conf->queue, &r->queue);
    if (x < 0) {
        LOG_ERROR(LOG_ERR, "queue-unusable", x, LOG_FC("folder", conf->queue));
    } else {
        x = nexthop_load(conf, &r->files, &path);
        if (x < 0)
            LOG_ERROR(LOG_ERR, "file-unusable", x, LOG_FC("file", path),
                      LOG_FC("hint", x == -EPERM ? "only root may read it: chmod 600" : ""));
    }
    if (x == 0) {
        x = run_queue(r);
        nexthop_finish(&r->files);
    }
    close_fd(&r->turn);
    queue_close(&r->queue);
    free(r);
    return x;
}

int main(int argc, char **argv)
{
    struct relay_filter filter = {0};
    struct conf conf;
    bool pulls = false;
    int r = conf_init(&conf);

    log_open("relay", true);
    if (r < 0)
        return EX_OSERR;
    if (conf_args(&conf, &argc, argv) < 0) {
        (void)fprintf(stderr, "relay: %s\n", buf_cstr(&conf.error));
        LOG_EVENT(LOG_ERR, "configuration", LOG_F("error", buf_str(&conf.error)));
        conf_finish(&conf);
        return EX_CONFIG;
    }
    if (read_options(argc, argv, &filter, &pulls) < 0) {
        conf_finish(&conf);
        return usage();
    }
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    (void)umask(077);
    if (pulls) {
        r = pull_run(&conf);
        conf_finish(&conf);
        return r;
    }
    r = run(&conf, &filter);
    conf_finish(&conf);
    return r == 0 ? EX_OK : r == -EPERM || r == -EACCES ? EX_NOPERM : r == -ENOENT ? EX_CONFIG : EX_IOERR;
}
