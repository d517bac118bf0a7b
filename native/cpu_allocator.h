// The allocator of CPU storages.
#pragma once

namespace torchbind {

// Makes libtorch keep the memory of small and of large CPU storages for the next ones. Does so once a
// process; not where TORCHBIND_ALLOCATOR=libtorch, for tools that watch every block: sanitizers, valgrind.
void use_cpu_allocator();

}  // namespace torchbind
