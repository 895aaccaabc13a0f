/*
 * A quick look before a search: see caseless.h. Pure functions over bytes; any process.
 */
#include "shared/mime/caseless.h"

#include "shared/base/lanes.h"

/* A byte of the string: what a byte of the text has to be once `bit` is set in it. */
struct anchor {
    uint8_t bit; /* in which the cases of a letter differ; 0: it is no letter */
    uint8_t byte;
};

static struct anchor make_anchor(char upper)
{
    uint8_t bit = upper >= 'A' && upper <= 'Z' ? 'a' - 'A' : 0;

    return (struct anchor){.bit = bit, .byte = (uint8_t)upper | bit};
}

/* Takes its toll of *effort: what is compared, and that the look at many places ends here. */
static bool is_match(const char *text, struct str upper, size_t *effort)
{
    size_t n = 0;

    while (n < upper.len && ascii_upper(text[n]) == upper.ptr[n])
        n++;
    *effort += n + LANES / 8;
    return n == upper.len;
}

/* The first and the last byte of the string, each in its distance, are looked for in many places at a time. */
static bool may_contain(struct str text, struct str upper)
{
    size_t last = upper.len - 1, at = 0, effort = 0;
    struct anchor a = make_anchor(upper.ptr[0]), z = make_anchor(upper.ptr[last]);
    lanes_bytes a_bit = lanes_splat(a.bit), a_byte = lanes_splat(a.byte);
    lanes_bytes z_bit = lanes_splat(z.bit), z_byte = lanes_splat(z.byte);

    while (at + last < text.len && effort <= text.len) {
        if (text.len - at - last >= LANES) {
            const uint8_t *p = (const uint8_t *)text.ptr + at;
            lanes_bytes is_a = (lanes_bytes)((lanes_load(p) | a_bit) == a_byte);
            lanes_bytes is_z = (lanes_bytes)((lanes_load(p + last) | z_bit) == z_byte);

            if (!lanes_any(is_a & is_z)) {
                at += LANES;
                continue;
            }
            at += lanes_first(is_a & is_z);
        }
        if (is_match(text.ptr + at, upper, &effort))
            return true;
        at++;
    }
    return effort > text.len; /* it repeats what the string begins with too often */
}

bool caseless_may_contain(struct str text, struct str upper)
{
    return !str_is_ascii(text) || (str_is_ascii(upper) && may_contain(text, upper));
}
