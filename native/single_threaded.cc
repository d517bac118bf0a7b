// glibc 2.32 has a variable that tells whether the process has one thread alone, and std::shared_ptr asks it
// before it counts. Node always has several: our own, hidden in this library, says so and needs no
// glibc 2.32.
#if __has_include(<sys/single_threaded.h>)
extern "C" {
extern char __libc_single_threaded;  // as <sys/single_threaded.h> declares it
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}
#endif
