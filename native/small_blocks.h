// Memory of CPU storages of up to 1 KB, which is kept for the next ones.
#pragma once

#include <cstddef>

namespace torchbind {

// Null if the size is not that of a small block, or if no block is free.
void* take_small_block(size_t bytes);

bool is_small_block(const void* block);

void give_small_block(void* block) noexcept;

}  // namespace torchbind
