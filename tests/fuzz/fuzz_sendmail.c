/* What sendmail reads from programs: input of any kind becomes a header and a body; both must keep their promises. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/sendmail/compose.h"
#include "handlers/sendmail/input.h"

static int collect(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    _cleanup_buf_ struct buf body = BUF_INIT(1u << 20), header = BUF_INIT(1u << 20);
    struct compose c = {.sender = STR("a@h"), .full_name = text, .domain = STR("h"), .takes_recipients = true};
    struct recipients r = {0};
    struct input in;
    size_t half;

    if (size == 0)
        return 0;
    half = data[0] % size;
    c.full_name = str_sub(text, 0, half < 64 ? half : 64);
    input_init(&in, data[0] & 1, collect, &body);
    if (input_feed(&in, str_sub(text, 0, half)) == 0 && input_feed(&in, str_sub(text, half, size)) == 0 &&
        input_end(&in) == 0) {
        if (str_has_nul(buf_str(&body)) || str_chr(buf_str(&body), '\r') >= 0 ||
            str_chr(buf_str(&in.header), '\r') >= 0 || (body.len > 0 && body.data[body.len - 1] != '\n'))
            abort();
        (void)compose_header(&c, buf_str(&in.header), &header, &r);
        if (str_find(buf_str(&header), STR("\n\n")) >= 0 || str_starts(buf_str(&header), STR("\n")) ||
            str_ifind(buf_str(&header), STR("\nbcc:")) >= 0)
            abort();
    }
    recipients_finish(&r);
    input_finish(&in);
    return 0;
}
