/*
 * Makes read-only what the start of a static program has relocated. glibc's start does so by itself; musl leaves it to
 * its loader, which such a program has not. Linked into the programs before a login where they have musl.
 */
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden"))); /* the linker's: where we were loaded */

static __attribute__((constructor)) void protect_relocated(void)
{
    uintptr_t base = (uintptr_t)&__ehdr_start, page = (uintptr_t)getauxval(AT_PAGESZ);
    const ElfW(Phdr) *header = (const ElfW(Phdr) *)(base + __ehdr_start.e_phoff);

    for (size_t i = 0; i < __ehdr_start.e_phnum; i++) {
        uintptr_t begin = (base + header[i].p_vaddr) & ~(page - 1);
        uintptr_t end = (base + header[i].p_vaddr + header[i].p_memsz) & ~(page - 1);

        if (header[i].p_type == PT_GNU_RELRO && end > begin &&
            mprotect((void *)begin, end - begin, PROT_READ) < 0) /* NOLINT(performance-no-int-to-ptr) */
            abort();
    }
}
