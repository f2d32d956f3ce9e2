/* Opening libraries: dlopen and the like, by their names, also on Windows. */
#ifndef MEGENGINE_LITE_LIBRARIES_H
#define MEGENGINE_LITE_LIBRARIES_H
#include "old_libraries.h"
#if defined(_WIN32)
#include <stdio.h>
#include <windows.h>

enum { RTLD_LAZY = 0, RTLD_LOCAL = 0 };
typedef struct {
    const char *dli_fname;
} Dl_info;

static inline void *dlopen(const char *path, int flags) {
    (void)flags;
    return (void *)LoadLibraryA(path);
}
static inline void *dlsym(void *library, const char *name) {
    return (void *)GetProcAddress((HMODULE)library, name);
}
/* Of the calling thread; the next call overwrites it. */
static inline char *dlerror(void) {
    static __thread char text[40];
    snprintf(text, sizeof(text), "Windows error %lu", GetLastError());
    return text;
}
static inline int dladdr(const void *address, Dl_info *info) {
    static __thread char path[MAX_PATH];
    HMODULE library;
    DWORD how = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    if (!GetModuleHandleExA(how, (LPCSTR)address, &library)) return 0;
    if (!GetModuleFileNameA(library, path, sizeof(path))) return 0;
    info->dli_fname = path;
    return 1;
}

#else
#include <dlfcn.h>
#endif
#endif
