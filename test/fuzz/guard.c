/*
 * An allocator for the fuzzer, loaded with LD_PRELOAD: every tensor's memory ends at a page that cannot be touched, and
 * is taken away when it is freed. So a kernel that reads or writes outside, or after the free, ends the process in the
 * very call that does it, and not in some later one.
 *
 * libtorch gets its memory from posix_memalign; all else goes to the C library. Up to 15 bytes may lie between the end
 * of the memory and the page, because kernels want elements aligned; they are checked when it is freed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kPage = 4096, kAlignment = 16, kCanary = 0xA5 };
static const size_t kArena = (size_t)1 << 40; /* addresses only; never used twice */

extern void __libc_free(void *);
extern void *__libc_memalign(size_t, size_t);

struct Header { /* in the page before the memory's first */
  size_t pages;
  size_t size;
};

static char *arena;
static _Atomic size_t used;

__attribute__((constructor)) static void reserve(void) {
  void *at = mmap(NULL, kArena, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  arena = at == MAP_FAILED ? NULL : at;
}

static int is_ours(const void *at) {
  return arena != NULL && (const char *)at >= arena && (const char *)at < arena + kArena;
}

int posix_memalign(void **out, size_t alignment, size_t size) {
  /* The header's page, the memory's, and one that stays closed. */
  const size_t pages = 2 + (size + kPage - 1) / kPage;
  if (arena == NULL || size == 0 || size > ((size_t)1 << 31)) {
    *out = size > ((size_t)1 << 31) ? NULL : __libc_memalign(alignment, size);
    return *out == NULL ? ENOMEM : 0;
  }
  const size_t start = atomic_fetch_add(&used, pages * kPage);
  char *base = arena + start;
  if (start + pages * kPage > kArena || mprotect(base, (pages - 1) * kPage, PROT_READ | PROT_WRITE) != 0)
    return ENOMEM;
  struct Header *header = (struct Header *)base;
  header->pages = pages;
  header->size = size;
  char *end = base + (pages - 1) * kPage;
  char *data = (char *)((uintptr_t)(end - size) & ~(uintptr_t)(kAlignment - 1));
  memset(data + size, kCanary, (size_t)(end - data) - size);
  *out = data;
  return 0;
}

void free(void *at) {
  if (!is_ours(at)) {
    __libc_free(at);
    return;
  }
  const int saved = errno;
  char *base = (char *)((uintptr_t)at & ~(uintptr_t)(kPage - 1)) - kPage;
  const struct Header header = *(struct Header *)base;
  for (const char *p = (char *)at + header.size; p < base + (header.pages - 1) * kPage; ++p) {
    if (*(const unsigned char *)p != kCanary) {
      static const char message[] = "guard: bytes beyond the end of an allocation were written\n";
      (void)!write(2, message, sizeof message - 1);
      __builtin_trap();
    }
  }
  /* Fresh closed pages: the old ones go back to the system, and the address is never used again. */
  mmap(base, header.pages * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  errno = saved;
}
