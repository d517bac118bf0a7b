#include "small_blocks.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

namespace torchbind {
namespace {

constexpr size_t kUnit = 64;       // libtorch's alignment: sizes are rounded up to it, so every block has it
constexpr size_t kLargest = 1024;  // above this malloc costs little compared with the operator
constexpr size_t kClasses = kLargest / kUnit;
constexpr size_t kChunk = size_t{64} << 10;  // a chunk holds blocks of one size
constexpr size_t kArena = size_t{16} << 20;  // beyond this, libtorch's own allocator
constexpr size_t kKept = 128;                // free blocks of a size that a thread keeps for itself
constexpr size_t kMoved = kKept / 2;

// The address alone identifies a small block and its size. Blocks have no header that an operator could
// overwrite. The system commits only touched pages.
alignas(4096) std::byte arena[kArena];
std::array<std::atomic<uint8_t>, kArena / kChunk> class_of_chunk;

bool in_arena(const void* block) {
  return reinterpret_cast<uintptr_t>(block) - reinterpret_cast<uintptr_t>(arena) < kArena;
}

size_t class_of_size(size_t bytes) { return (bytes - 1) / kUnit; }

size_t class_of_block(const void* block) {
  const size_t offset = static_cast<size_t>(static_cast<const std::byte*>(block) - arena);
  return class_of_chunk[offset / kChunk].load(std::memory_order_relaxed);
}

// Free blocks that all threads share, and the part of the arena that was never used.
class Depot {
 public:
  // Gives up to kMoved blocks of a size, or none if the arena is used up.
  size_t take(size_t size_class, void** blocks) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<void*>& free = free_[size_class];
    if (free.empty()) cut_chunk(size_class);
    size_t count = 0;
    while (count < kMoved && !free.empty()) {
      blocks[count++] = free.back();
      free.pop_back();
    }
    return count;
  }

  void give(size_t size_class, void* const* blocks, size_t count) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    // Never beyond its capacity, which cut_chunk() made large enough for every block of this size.
    free_[size_class].insert(free_[size_class].end(), blocks, blocks + count);
  }

 private:
  void cut_chunk(size_t size_class) {
    if (chunks_ == kArena / kChunk) return;
    const size_t size = (size_class + 1) * kUnit;
    std::vector<void*>& free = free_[size_class];
    total_[size_class] += kChunk / size;
    if (free.capacity() < total_[size_class]) free.reserve(2 * total_[size_class]);
    class_of_chunk[chunks_].store(static_cast<uint8_t>(size_class), std::memory_order_relaxed);
    std::byte* chunk = arena + chunks_++ * kChunk;
    for (size_t at = kChunk / size; at-- > 0;) free.push_back(chunk + at * size);
  }

  std::mutex mutex_;
  std::array<std::vector<void*>, kClasses> free_;
  std::array<size_t, kClasses> total_{};
  size_t chunks_ = 0;
};

// Never destroyed: tensors may be freed after static objects are.
Depot& depot() {
  static Depot* const instance = new Depot;
  return *instance;
}

struct Shelf {
  size_t count = 0;
  std::array<void*, kKept> blocks;
};
using Shelves = std::array<Shelf, kClasses>;

// The free blocks of this thread. A plain pointer stays readable after the thread's other objects are
// destroyed, when a tensor among them is freed last.
thread_local Shelves* shelves = nullptr;
thread_local bool thread_ends = false;

struct Owner {
  ~Owner() {
    thread_ends = true;
    for (size_t i = 0; i < kClasses; ++i) depot().give(i, (*shelves)[i].blocks.data(), (*shelves)[i].count);
    delete shelves;
    shelves = nullptr;
  }
};

bool make_shelves() {
  if (thread_ends) return false;
  Shelves* const made = new (std::nothrow) Shelves;
  if (made == nullptr) return false;
  shelves = made;
  thread_local const Owner owner;
  static_cast<void>(owner);
  return true;
}

void* take_block(size_t size_class) {
  if (shelves == nullptr && !make_shelves()) return nullptr;
  Shelf& shelf = (*shelves)[size_class];
  if (shelf.count == 0) shelf.count = depot().take(size_class, shelf.blocks.data());
  return shelf.count == 0 ? nullptr : shelf.blocks[--shelf.count];
}

void give_block(void* block) noexcept {
  const size_t size_class = class_of_block(block);
  if (shelves == nullptr && !make_shelves()) return depot().give(size_class, &block, 1);
  Shelf& shelf = (*shelves)[size_class];
  if (shelf.count == kKept) {
    shelf.count -= kMoved;
    depot().give(size_class, shelf.blocks.data() + shelf.count, kMoved);
  }
  shelf.blocks[shelf.count++] = block;
}

}  // namespace

bool is_small_block(const void* block) { return in_arena(block); }

void* take_small_block(size_t bytes) {
  return bytes == 0 || bytes > kLargest ? nullptr : take_block(class_of_size(bytes));
}

void give_small_block(void* block) noexcept { give_block(block); }

}  // namespace torchbind
