// The allocator of CPU storages.
#pragma once

namespace torchbind {

// Makes libtorch keep the memory of small CPU storages for the next ones. Does so once a process; not where
// TORCHBIND_SMALL_BLOCKS=0, for tools that watch every block: sanitizers, valgrind.
void use_small_blocks();

}  // namespace torchbind
