/*
 * xtext and its form with UTF-8: what is encoded decodes to what it was, what is valid has a form in ASCII that is
 * valid and stays, and nothing else does.
 */
#include <stdint.h>
#include <stdlib.h>

#include "shared/queue/xtext.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_plain(struct str input)
{
    _cleanup_buf_ struct buf encoded = BUF_INIT(1u << 20), decoded = BUF_INIT(1u << 20);

    CHECK(xtext_encode(input, &encoded) == 0 && xtext_is_valid(buf_str(&encoded)));
    CHECK(str_is_ascii(buf_str(&encoded)) && encoded.len <= 3 * input.len);
    CHECK((xtext_decode(buf_str(&encoded), &decoded) == 0) == !str_has_nul(input));
    CHECK(str_has_nul(input) || str_eq(buf_str(&decoded), input));
}

static void check_xtext(struct str input)
{
    _cleanup_buf_ struct buf decoded = BUF_INIT(1u << 20);
    bool is_valid = xtext_is_valid(input);

    if (xtext_decode(input, &decoded) == 0)
        CHECK(is_valid && decoded.len <= input.len);
    else
        CHECK(!is_valid || str_find(input, STR("+00")) >= 0);
}

static void check_utf8(struct str input)
{
    _cleanup_buf_ struct buf ascii = BUF_INIT(1u << 20), again = BUF_INIT(1u << 20);
    bool is_valid = utf8_xtext_is_valid(input);

    CHECK((utf8_xtext_encode(input, &ascii) == 0) == is_valid);
    if (!is_valid)
        return;
    CHECK(str_is_ascii(buf_str(&ascii)) && utf8_xtext_is_valid(buf_str(&ascii)));
    CHECK(utf8_valid(input) && !str_has_nul(input));
    CHECK(utf8_xtext_encode(buf_str(&ascii), &again) == 0 && str_eq(buf_str(&ascii), buf_str(&again)));
    for (size_t i = 0; i < ascii.len; i++)
        CHECK(ascii.data[i] > ' ' && ascii.data[i] != 127);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};

    check_plain(input);
    check_xtext(input);
    check_utf8(input);
    return 0;
}
