/*
 * sts: fetches one MTA-STS policy over HTTPS, parses it, says what it found, and leaves (RFC 8461 3.3). Started by a
 * trusted process (shared/sts/sts.c) with its control socket on fd 3; gets the addresses to connect to and the opened
 * file of certificate authorities by frame. The only program with libcurl in it. Own user, empty root, no capabilities,
 * seccomp: internet sockets and nothing else.
 */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "shared/base/macros.h"
#include "shared/gate/confine.h"
#include "shared/io/frame_types.h"
#include "shared/sts/policy.h"
#include "shared/sts/sts.h"

#define CONTROL     3
#define RECEIVE_MS  10000
#define SECONDS     55L /* of the whole exchange; RFC 8461 3.3 suggests a minute */
#define CONNECT     10L /* of one address */
#define CA_MAX      (1u << 20)
#define MEMORY      (256u << 20)
#define FDS         32
#define RESOLVE_MAX 8192

struct job {
    char domain[DNS_NAME_MAX + 1];
    struct buf addresses; /* "mta-sts.example.org:443:192.0.2.1,[2001:db8::1]" as libcurl wants them */
    struct buf authorities;
    struct buf body;
    char error[CURL_ERROR_SIZE];
};

/* ---- the talk with whoever started us ---- */

static int send_failure(const char *type, const char *text)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    char line[160];
    int r;

    (void)snprintf(line, sizeof(line), "%s", text);
    for (char *c = line; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    frame_begin(&f, FRAME_STS_FAILED);
    r = frame_put_str(&f, str_from(type));
    if (r == 0)
        r = frame_put_str(&f, str_from(line));
    if (r == 0)
        r = frame_send(CONTROL, &f, -1);
    return r == 0 ? EX_OK : EX_IOERR;
}

static int send_policy(const struct sts_policy *p)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r;

    frame_begin(&f, FRAME_STS_POLICY);
    r = sts_policy_put(&f, p);
    if (r == 0)
        r = frame_send(CONTROL, &f, -1);
    return r == 0 ? EX_OK : EX_IOERR;
}

static int add_address(struct job *j, struct str text, bool is_first)
{
    uint8_t bytes[16];
    char printed[LIMIT_ADDRESS];
    size_t len = 0;

    if (dns_address_parse(text, bytes, &len) < 0)
        return -EBADMSG;
    dns_address_print(bytes, len, printed);
    return buf_printf(&j->addresses, len == 4 ? "%s%s" : "%s[%s]", is_first ? "" : ",", printed);
}

static int read_authorities(struct job *j, int fd)
{
    int r = buf_reserve(&j->authorities, CA_MAX);

    while (r == 0 && j->authorities.len < CA_MAX) {
        ssize_t n = read(fd, j->authorities.data + j->authorities.len, CA_MAX - j->authorities.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        if (n > 0)
            j->authorities.len += (size_t)n;
    }
    return r;
}

static int receive(struct job *j)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    struct str domain, address;
    uint32_t count = 0;
    int r = frame_recv(CONTROL, &f, RECEIVE_MS);

    if (r < 0)
        return r;
    in = frame_read(&f);
    if (f.type != FRAME_STS_FETCH || f.fd < 0 || frame_get_str(&in, DNS_NAME_MAX, &domain) < 0 ||
        !dns_name_is_host(domain) || frame_get_u32(&in, &count) < 0 || count == 0 || count > 2 * LIMIT_DNS_ADDRESSES)
        return -EBADMSG;
    memcpy(j->domain, domain.ptr, domain.len);
    r = buf_printf(&j->addresses, "mta-sts.%s:443:", j->domain);
    for (uint32_t i = 0; i < count && r == 0; i++) {
        r = frame_get_str(&in, LIMIT_ADDRESS, &address);
        if (r == 0)
            r = add_address(j, address, i == 0);
    }
    if (r == 0)
        r = frame_end(&in);
    return r < 0 ? r : read_authorities(j, f.fd);
}

/* ---- HTTPS ---- */

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct job *j = context;

    return buf_add(&j->body, bytes, size * count) == 0 ? size * count : 0;
}

/* RFC 8461 3.3: the policy host is known by a DNS-ID. libcurl by itself also takes a common name when the certificate
 * has no DNS-ID; OpenSSL, told the name, refuses that during the handshake. */
static CURLcode on_tls_context(CURL *curl, void *tls, void *context)
{
    const struct job *j = context;
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(tls);
    char host[sizeof("mta-sts.") + DNS_NAME_MAX];

    (void)curl;
    (void)snprintf(host, sizeof(host), "mta-sts.%s", j->domain);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 ? CURLE_OK : CURLE_OUT_OF_MEMORY;
}

/* Only HTTPS to these addresses, no redirection, no file, no proxy, nothing from the environment. */
static CURLcode set_options(CURL *curl, struct job *j, const char *url, struct curl_slist *resolve)
{
    struct curl_blob authorities = {.data = j->authorities.data, .len = j->authorities.len, .flags = CURL_BLOB_NOCOPY};
    CURLcode c = curl_easy_setopt(curl, CURLOPT_URL, url);

#define SET(option, value)                                                                                             \
    if (c == CURLE_OK)                                                                                                 \
    c = curl_easy_setopt(curl, option, value)
    SET(CURLOPT_RESOLVE, resolve);
    SET(CURLOPT_PROTOCOLS_STR, "https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_CAPATH, NULL);
    SET(CURLOPT_CAINFO, NULL);
    SET(CURLOPT_CAINFO_BLOB, &authorities);
    SET(CURLOPT_SSL_CTX_FUNCTION, on_tls_context);
    SET(CURLOPT_SSL_CTX_DATA, j);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TIMEOUT, SECONDS);
    SET(CURLOPT_CONNECTTIMEOUT, CONNECT);
    SET(CURLOPT_MAXFILESIZE, (long)STS_BODY);
    SET(CURLOPT_USERAGENT, "Pennypost/" PENNYPOST_VERSION);
    SET(CURLOPT_ERRORBUFFER, j->error);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, j);
#undef SET
    return c;
}

/* RFC 8461 3.2: text/plain, whatever parameters. */
static bool is_plain_text(const char *type)
{
    struct str rest = str_from(type), media;

    (void)str_cut(&rest, ';', &media);
    return str_ieq(str_trim(media), STR("text/plain"));
}

static int judge(CURL *curl, struct job *j)
{
    struct sts_policy policy = {.mode = STS_NONE};
    const char *type = NULL;
    long code = 0;
    char text[64];

    if (curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code) != CURLE_OK || code != 200) {
        (void)snprintf(text, sizeof(text), "HTTP status %ld", code);
        return send_failure(STS_RESULT_FETCH, text);
    }
    if (curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type) != CURLE_OK || !is_plain_text(type))
        return send_failure(STS_RESULT_FETCH, "the policy is not text/plain");
    if (sts_policy_parse(buf_str(&j->body), &policy) < 0)
        return send_failure(STS_RESULT_INVALID, "the policy is malformed");
    return send_policy(&policy);
}

static int fetch(CURL *curl, struct job *j)
{
    _cleanup_buf_ struct buf url = BUF_INIT(1024);
    struct curl_slist *resolve = curl_slist_append(NULL, buf_cstr(&j->addresses));
    CURLcode c = CURLE_OUT_OF_MEMORY;
    bool is_untrusted;
    int status;

    if (resolve && buf_printf(&url, "https://mta-sts.%s/.well-known/mta-sts.txt", j->domain) == 0)
        c = set_options(curl, j, buf_cstr(&url), resolve);
    if (c == CURLE_OK)
        c = curl_easy_perform(curl);
    is_untrusted = c == CURLE_PEER_FAILED_VERIFICATION || c == CURLE_SSL_CACERT_BADFILE || c == CURLE_SSL_ISSUER_ERROR;
    if (c == CURLE_OK)
        status = judge(curl, j);
    else
        status = send_failure(is_untrusted ? STS_RESULT_WEBPKI : STS_RESULT_FETCH,
                              j->error[0] ? j->error : curl_easy_strerror(c));
    curl_slist_free_all(resolve);
    return status;
}

int main(int argc, char **argv)
{
    static const struct priv_confinement limits = {
        .account = PRIV_USER_STS, .find = priv_account_named, .open_files = FDS, .file_size = 0, .memory = MEMORY};
    struct job j = {.addresses = BUF_INIT(RESOLVE_MAX), .authorities = BUF_INIT(CA_MAX), .body = BUF_INIT(STS_BODY)};
    CURL *curl = NULL;
    int status;

    (void)argv;
    if (argc > 1 || fcntl(CONTROL, F_GETFD) < 0) {
        (void)fputs("sts: the relay starts this; it is of no use by hand\n", stderr);
        return EX_USAGE;
    }
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    /* OpenSSL reads its configuration (the system's policy) while there are files. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(curl = curl_easy_init()))
        return EX_SOFTWARE;
    if (confine_enter("sts", &limits, SANDBOX_FETCH) < 0)
        return EX_CONFIG;
    if (receive(&j) < 0)
        return EX_PROTOCOL;
    status = fetch(curl, &j);
    curl_easy_cleanup(curl);
    buf_finish(&j.addresses);
    buf_finish(&j.authorities);
    buf_finish(&j.body);
    return status;
}
