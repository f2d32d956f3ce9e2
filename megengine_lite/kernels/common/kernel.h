/* A kernel's arguments, from the form in which plans hold them: each in 8 bytes. */
#ifndef MEGENGINE_LITE_KERNEL_H
#define MEGENGINE_LITE_KERNEL_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct ml_behind_a_byte {
    char byte;
    int64_t number; /* at a multiple of 8, except on x86 of 32 bits */
};

/* Makes the struct whose pointers have fewer bytes. `kinds` has a letter for each argument, p for pointers. */
static inline const void *ml_narrow_arguments(const void *slots, const char *kinds, void *copy, size_t pointer_bytes) {
    const size_t alignment = offsetof(struct ml_behind_a_byte, number);
    const char *from = (const char *)slots;
    size_t at = 0;
    for (; *kinds; ++kinds, from += 8) {
        size_t nbytes = *kinds == 'p' ? pointer_bytes : 8;
        if (*kinds != 'p') at = (at + alignment - 1) / alignment * alignment;
        memcpy((char *)copy + at, from, nbytes); /* the lower bytes of a pointer come first */
        at += nbytes;
    }
    return copy;
}

/* Where pointers have 8 bytes, the slots are the struct. Elsewhere `copy`, a struct of the caller, is filled. */
static inline const void *ml_arguments(const void *slots, const char *kinds, void *copy) {
    return sizeof(void *) == 8 ? slots : ml_narrow_arguments(slots, kinds, copy, sizeof(void *));
}
#endif
