// The allocator of CPU storages.
#pragma once

namespace torchbind {

// Makes libtorch take the memory of small CPU storages from malloc. Does so once a process.
void use_small_blocks();

}  // namespace torchbind
