// Memory of CPU storages of 256 KB and more, which is kept for the next ones of its size for some seconds.
//
// malloc gives such memory back to the system at once, which clears it page by page when it is used again: a
// fifth of a training step with a large vocabulary. Here a freed block waits for the next storage of its
// size. Blocks in use and free ones together are never more than the most that was in use, so nothing is
// gained at the price of a higher peak.
#pragma once

#include <cstddef>

namespace torchbind {

// Null where the size is not that of a large block, or the system has no memory left.
void* take_large_block(size_t bytes);

// Takes a block back. Returns false if it did not come from take_large_block().
bool give_large_block(void* block) noexcept;

}  // namespace torchbind
