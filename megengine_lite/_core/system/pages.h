/* Memory in whole pages, and files mapped into memory: mmap, and what Windows has for it. */
#ifndef MEGENGINE_LITE_PAGES_H
#define MEGENGINE_LITE_PAGES_H
#include <stddef.h>
#if defined(_WIN32)
#include <errno.h>
#include <io.h>
#include <windows.h>

/* Zeroed; NULL if there is no memory. */
static inline void *ml_pages(size_t nbytes) {
    return VirtualAlloc(NULL, nbytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}
static inline void ml_free_pages(void *p, size_t nbytes) {
    (void)nbytes;
    VirtualFree(p, 0, MEM_RELEASE);
}
/* Gives the content of pages back to the system; false if it does not take it. */
static inline int ml_forget_pages(void *p, size_t nbytes) {
    (void)p, (void)nbytes;
    return 0;
}
/* The file as it is now, to be kept while it may be replaced: Windows would let nobody replace it. */
static inline void *ml_keep_file(int file, size_t nbytes) {
    (void)file, (void)nbytes;
    return NULL;
}
/* A part of a file that processes share, for reading; NULL, with the reason in errno, if it cannot be mapped. It begins
 * at a multiple of the page's size (on Windows of 64 KiB). */
static inline void *ml_share_file(int file, size_t begin, size_t nbytes) {
    HANDLE mapping = CreateFileMappingA((HANDLE)_get_osfhandle(file), NULL, PAGE_READONLY, 0, 0, NULL);
    void *p = mapping ? MapViewOfFile(mapping, FILE_MAP_READ, (DWORD)((unsigned long long)begin >> 32), (DWORD)begin, nbytes) : NULL;
    if (!p) errno = GetLastError() == ERROR_ACCESS_DENIED ? EACCES : ENOMEM;
    if (mapping) CloseHandle(mapping); /* the view keeps it */
    return p;
}
static inline void ml_unmap_file(void *p, size_t nbytes) {
    (void)nbytes;
    UnmapViewOfFile(p);
}

#else
#include <sys/mman.h>

#define ML_LEAST_HUGE ((size_t)4 << 20)

static inline void *ml_or_null(void *p) { return p == MAP_FAILED ? NULL : p; }
static inline void *ml_pages(size_t nbytes) {
    void *p = ml_or_null(mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
#ifdef MADV_HUGEPAGE
    /* Reading 100 MB into fresh pages of 4 KiB takes twice as long. It does not matter if the system has no larger ones. */
    if (p && nbytes >= ML_LEAST_HUGE) madvise(p, nbytes, MADV_HUGEPAGE);
#endif
    return p;
}
static inline void ml_free_pages(void *p, size_t nbytes) { munmap(p, nbytes); }
static inline int ml_forget_pages(void *p, size_t nbytes) { return madvise(p, nbytes, MADV_DONTNEED) == 0; }
static inline void *ml_keep_file(int file, size_t nbytes) {
    return ml_or_null(mmap(NULL, nbytes, PROT_READ, MAP_PRIVATE, file, 0));
}
static inline void *ml_share_file(int file, size_t begin, size_t nbytes) {
    return ml_or_null(mmap(NULL, nbytes, PROT_READ, MAP_SHARED, file, (off_t)begin));
}
static inline void ml_unmap_file(void *p, size_t nbytes) { munmap(p, nbytes); }
#endif
#endif
