// Included into every file by the compiler's -include, on Linux with glibc: the addon loads wherever libtorch
// does, on glibc 2.28 with gcc 8's libstdc++, whatever it was compiled on. scripts/symbol-versions.mjs checks
// that.
//
// A linker takes the newest version of a symbol that the machine has. Where an older one does the same, it is
// asked for by name.
#pragma once

#include <features.h>

#if defined(__GLIBC__)

#if defined(__x86_64__)
#define TORCHBIND_FIRST_GLIBC "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define TORCHBIND_FIRST_GLIBC "GLIBC_2.17"
#endif

#ifdef TORCHBIND_FIRST_GLIBC
#define TORCHBIND_SYMBOL_VERSION(symbol, version) __asm__(".symver " symbol "," symbol "@" version)
// glibc 2.34 moved these from libdl and libpthread into libc. Node links those libraries, so they are always
// present.
TORCHBIND_SYMBOL_VERSION("dlopen", TORCHBIND_FIRST_GLIBC);
TORCHBIND_SYMBOL_VERSION("dlerror", TORCHBIND_FIRST_GLIBC);
TORCHBIND_SYMBOL_VERSION("dlsym", TORCHBIND_FIRST_GLIBC);
TORCHBIND_SYMBOL_VERSION("pthread_once", TORCHBIND_FIRST_GLIBC);
#ifdef __cplusplus
// std::condition_variable::wait, which gcc 12 made noexcept.
TORCHBIND_SYMBOL_VERSION("_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE", "GLIBCXX_3.4.11");
#endif
#undef TORCHBIND_SYMBOL_VERSION
#undef TORCHBIND_FIRST_GLIBC
#endif

#endif  // __GLIBC__
