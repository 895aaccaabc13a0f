/* The floor of TLS: a certificate, a handshake, hello, a byte. As little as a program with OpenSSL can do. */
#include <openssl/ssl.h>

int main(int argc, char **argv)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL *tls;
    char byte;

    if (argc != 3 || !context || SSL_CTX_use_certificate_chain_file(context, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM) != 1)
        return 1;
    tls = SSL_new(context);
    if (!tls || SSL_set_fd(tls, 0) != 1 || SSL_accept(tls) != 1 || SSL_write(tls, "+OK floor\r\n", 11) != 11)
        return 1;
    return SSL_read(tls, &byte, 1) < 0;
}
