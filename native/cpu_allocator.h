// The allocator of CPU storages.
#pragma once

namespace torchbind {

// Makes libtorch reuse the memory of small and of large CPU storages. Takes effect once per process, and not
// with TORCHBIND_ALLOCATOR=libtorch, for tools that track every block: sanitizers, valgrind.
void use_cpu_allocator();

}  // namespace torchbind
