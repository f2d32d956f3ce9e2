#ifndef MEGENGINE_LITE_OLD_LIBRARIES_H
#define MEGENGINE_LITE_OLD_LIBRARIES_H
#include <stdint.h> /* a header of the C library, which says whose it is */

/* glibc 2.34 moved these functions between its libraries and gave them a new version. They are the same as before, so
 * the old version is asked for, and what is built on a new system runs on an old one. */
#if defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))
#if defined(__x86_64__)
#define ML_OLD_GLIBC "GLIBC_2.2.5"
#else
#define ML_OLD_GLIBC "GLIBC_2.17"
#endif
__asm__(".symver pthread_create, pthread_create@" ML_OLD_GLIBC);
__asm__(".symver pthread_detach, pthread_detach@" ML_OLD_GLIBC);
__asm__(".symver pthread_mutex_trylock, pthread_mutex_trylock@" ML_OLD_GLIBC);
__asm__(".symver dlopen, dlopen@" ML_OLD_GLIBC);
__asm__(".symver dlsym, dlsym@" ML_OLD_GLIBC);
__asm__(".symver dlerror, dlerror@" ML_OLD_GLIBC);
__asm__(".symver dladdr, dladdr@" ML_OLD_GLIBC);
#endif

/* gcc 11 and later call a new function of libstdc++ for vectors that are larger than memory; ours keeps to old ones. */
#if defined(__cplusplus)
#include <new>
#if defined(__GLIBCXX__)
namespace std {
__attribute__((noreturn)) void __throw_bad_array_new_length() { throw std::bad_alloc(); }
}
#endif
#endif
#endif
