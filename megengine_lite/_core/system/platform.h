/* What Cython cannot express, or systems do each in their own way: CPUID, the mode for denormal numbers, a pause in spin
 * loops, the cores of a thread, a clock, aligned memory. */
#ifndef MEGENGINE_LITE_PLATFORM_H
#define MEGENGINE_LITE_PLATFORM_H
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/auxv.h>
#endif
#if defined(_WIN32)
#include <malloc.h>
#include <windows.h>
#endif
#include "old_libraries.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>

static inline int ml_cpuid(unsigned leaf, unsigned sub, unsigned *r) {
    __cpuid_count(leaf, sub, r[0], r[1], r[2], r[3]);
    return 1;
}
static inline unsigned long long ml_xgetbv(void) {
    unsigned a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return ((unsigned long long)d << 32) | a;
}
/* Denormal numbers count as zero inside of our loops: each would take hundreds of cycles. */
static inline uint64_t ml_flush_denormals(void) {
    unsigned old = _mm_getcsr();
    _mm_setcsr(old | 0x8040);
    return old;
}
static inline void ml_restore_denormals(uint64_t old) { _mm_setcsr((unsigned)old); }
static inline void ml_pause(void) { _mm_pause(); }

#elif defined(__aarch64__)
static inline int ml_cpuid(unsigned leaf, unsigned sub, unsigned *r) { return 0; }
static inline unsigned long long ml_xgetbv(void) { return 0; }
static inline uint64_t ml_flush_denormals(void) {
    uint64_t old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"(old | (1ull << 24)));
    return old;
}
static inline void ml_restore_denormals(uint64_t old) { __asm__ volatile("msr fpcr, %0" : : "r"(old)); }
static inline void ml_pause(void) { __asm__ volatile("yield"); }

#elif defined(__arm__) && defined(__ARM_FP) /* of 32 bits, with registers for numbers */
static inline int ml_cpuid(unsigned leaf, unsigned sub, unsigned *r) { return 0; }
static inline unsigned long long ml_xgetbv(void) { return 0; }
static inline uint64_t ml_flush_denormals(void) { /* its vectors always do */
    uint32_t old;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(old));
    __asm__ volatile("vmsr fpscr, %0" : : "r"(old | (1u << 24)));
    return old;
}
static inline void ml_restore_denormals(uint64_t old) { __asm__ volatile("vmsr fpscr, %0" : : "r"((uint32_t)old)); }
static inline void ml_pause(void) {}

#else /* another processor */
static inline int ml_cpuid(unsigned leaf, unsigned sub, unsigned *r) { return 0; }
static inline unsigned long long ml_xgetbv(void) { return 0; }
static inline uint64_t ml_flush_denormals(void) { return 0; }
static inline void ml_restore_denormals(uint64_t old) { (void)old; }
static inline void ml_pause(void) {}
#endif

/* ARM64: what the system says (AT_HWCAP, AT_HWCAP2; macOS has other means), and the register that tells the kind of a
 * core, which may be read only where the system allows it. */
#if defined(__aarch64__)
static inline int ml_is_arm64(void) { return 1; }
static inline unsigned long ml_midr(void) {
    uint64_t x;
    __asm__ volatile("mrs %0, midr_el1" : "=r"(x));
    return (unsigned long)x;
}
#else
static inline int ml_is_arm64(void) { return 0; }
static inline unsigned long ml_midr(void) { return 0; }
#endif
#if defined(__arm__)
static inline int ml_is_arm32(void) { return 1; }
#else
static inline int ml_is_arm32(void) { return 0; }
#endif
#if (defined(__aarch64__) || defined(__arm__)) && defined(__linux__)
static inline unsigned long ml_hwcap(int which) { return getauxval(which == 0 ? 16 : 26); }
#elif defined(__aarch64__)
static inline unsigned long ml_hwcap(int which) { return which == 0 ? 2 : 0; } /* vectors belong to every ARM64 */
#else
static inline unsigned long ml_hwcap(int which) { (void)which; return 0; }
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
static inline int ml_sysctl(const char *name, void *value, size_t *size) {
    return sysctlbyname(name, value, size, NULL, 0) == 0;
}
#else
static inline int ml_sysctl(const char *name, void *value, size_t *size) { (void)name, (void)value, (void)size; return 0; }
#endif

/* Keeps the calling thread on those of some cores that it may use, if there are at least so many. */
#if defined(__linux__) && defined(CPU_COUNT)
static inline void ml_keep_on(const int *cores, int n, int least) {
    cpu_set_t usable, kept;
    if (sched_getaffinity(0, sizeof usable, &usable) != 0) return;
    CPU_ZERO(&kept);
    for (int k = 0; k < n; ++k) {
        if (cores[k] < CPU_SETSIZE && CPU_ISSET(cores[k], &usable)) CPU_SET(cores[k], &kept);
    }
    if (CPU_COUNT(&kept) >= least) sched_setaffinity(0, sizeof kept, &kept);
}
#else
static inline void ml_keep_on(const int *cores, int n, int least) { (void)cores, (void)n, (void)least; }
#endif

#if defined(_WIN32)
static inline int64_t ml_now_ns(void) {
    LARGE_INTEGER count, each_second;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&each_second);
    return (int64_t)((double)count.QuadPart * 1e9 / (double)each_second.QuadPart);
}
/* NULL if there is no memory. */
static inline void *ml_aligned(size_t alignment, size_t nbytes) { return _aligned_malloc(nbytes, alignment); }
static inline void ml_free_aligned(void *p) { _aligned_free(p); }
#else
static inline int64_t ml_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static inline void *ml_aligned(size_t alignment, size_t nbytes) {
    void *p = NULL;
    return posix_memalign(&p, alignment, nbytes) == 0 ? p : NULL;
}
static inline void ml_free_aligned(void *p) { free(p); }
#endif
#endif
