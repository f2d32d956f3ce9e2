/* Arguments of every kernel; see kernel.pxd. */
#ifndef MEGENGINE_LITE_KERNEL_H
#define MEGENGINE_LITE_KERNEL_H
#include <stdint.h>

typedef struct {
    void *p[16];
    int64_t i[64];
    double f[16];
} KernelArgs;

typedef void (*kernel_fn)(const KernelArgs *a, int64_t begin, int64_t end, void *scratch);
#endif
