#include "large_blocks.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <list>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace torchbind {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kSmallest = size_t{256} << 10;
constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHugeFrom = size_t{8}
                             << 20;  // from here on the part of a huge page that is not used is small
// What free blocks may take beyond the most that was in use at a time: gradients are free while activations
// are in use, and the other way round, so without it each would be given up for the other.
constexpr size_t kSlack = 4;  // a quarter
constexpr std::chrono::seconds kKept{10};
constexpr std::chrono::seconds kLook{1};

// Sizes are rounded up by at most an eighth, so that storages of nearly the same size can have the same
// block.
size_t rounded(size_t bytes) {
  size_t step = kPage;
  while (step < bytes / 16) step *= 2;
  return (bytes + step - 1) / step * step;
}

#ifdef _WIN32
void* from_system(size_t) { return nullptr; }  // libtorch's own allocator serves

void to_system(void*) noexcept {}
#else
void* from_system(size_t size) {
  void* block = nullptr;
  if (posix_memalign(&block, size >= kHugeFrom ? kHugePage : kPage, size) != 0) return nullptr;
#ifdef MADV_HUGEPAGE
  // Huge pages are cleared in one step, and need fewer page-table walks.
  if (size >= kHugeFrom) madvise(block, size / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return block;
}

void to_system(void* block) noexcept { std::free(block); }
#endif

struct FreeBlock {
  void* block;
  size_t size;
  Clock::time_point since;
};
using FreeList = std::list<FreeBlock>;

class LargeBlocks {
 public:
  void* take(size_t bytes) {
    const size_t size = rounded(bytes);
    FreeList dropped;
    void* block = nullptr;
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      block = reuse(size);
      if (block == nullptr) make_room(size, dropped);
    } catch (const std::bad_alloc&) {
    }
    release(dropped);
    if (block != nullptr) return block;
    block = from_system(size);
    if (block == nullptr) {
      drop_all();
      block = from_system(size);
    }
    if (block != nullptr && note(block, size)) return block;
    to_system(block);
    return nullptr;
  }

  bool give(void* block) noexcept {
    FreeList entry;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = used_.find(block);
      if (found == used_.end()) return false;
      const size_t size = found->second;
      used_.erase(found);
      bytes_used_ -= size;
      try {
        start_janitor();
        entry.push_back({block, size, Clock::now()});
        bins_[size].push_back(entry.begin());
        free_.splice(free_.end(), entry);
        bytes_free_ += size;
        wake_.notify_one();
        return true;
      } catch (...) {  // no memory to remember it, or no thread
      }
    }
    to_system(block);
    return true;
  }

 private:
  void* reuse(size_t size) {
    const auto bin = bins_.find(size);
    if (bin == bins_.end() || bin->second.empty()) return nullptr;
    const FreeList::iterator entry = bin->second.back();
    void* const block = entry->block;
    used_.emplace(block, size);
    bin->second.pop_back();
    free_.erase(entry);
    bytes_free_ -= size;
    bytes_used_ += size;
    return block;
  }

  // Moves out the blocks that have been free for longest, as far as another block of a size would be too
  // much.
  void make_room(size_t size, FreeList& dropped) {
    const size_t most = std::max(peak_, bytes_used_ + size);
    while (!free_.empty() && bytes_used_ + bytes_free_ + size > most + most / kSlack)
      take_out(free_.begin(), dropped);
  }

  void take_out(FreeList::iterator entry, FreeList& dropped) {
    std::vector<FreeList::iterator>& bin = bins_[entry->size];
    bin.erase(std::find(bin.begin(), bin.end(), entry));
    bytes_free_ -= entry->size;
    dropped.splice(dropped.end(), free_, entry);
  }

  bool note(void* block, size_t size) {
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      used_.emplace(block, size);
      bytes_used_ += size;
      peak_ = std::max(peak_, bytes_used_);
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  void drop_all() {
    FreeList dropped;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      dropped.swap(free_);
      bins_.clear();
      bytes_free_ = 0;
    }
    release(dropped);
  }

  static void release(FreeList& blocks) noexcept {
    for (const FreeBlock& entry : blocks) to_system(entry.block);
  }

  // A separate thread returns unused blocks, because no JavaScript thread may be left to do it.
  void start_janitor() {
    if (has_janitor_) return;
    std::thread([this] { tidy_up(); }).detach();
    has_janitor_ = true;
  }

  [[noreturn]] void tidy_up() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return !free_.empty(); });
      const Clock::time_point now = Clock::now();
      FreeList dropped;
      while (!free_.empty() && now - free_.front().since > kKept) take_out(free_.begin(), dropped);
      if (!dropped.empty()) peak_ = bytes_used_ + bytes_free_;
      lock.unlock();
      release(dropped);
      dropped.clear();
      std::this_thread::sleep_for(kLook);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::unordered_map<void*, size_t> used_;
  FreeList free_;  // the one that has been free for longest first
  std::map<size_t, std::vector<FreeList::iterator>> bins_;
  size_t bytes_used_ = 0;
  size_t bytes_free_ = 0;
  size_t peak_ = 0;  // the most that was in use, until blocks were given back unused
  bool has_janitor_ = false;
};

// Never destroyed: tensors may be freed after static objects, and the janitor runs until the process ends.
LargeBlocks& large_blocks() {
  static LargeBlocks* const instance = new LargeBlocks;
  return *instance;
}

}  // namespace

void* take_large_block(size_t bytes) {
  if (bytes < kSmallest || bytes > SIZE_MAX / 2) return nullptr;
  return large_blocks().take(bytes);
}

bool give_large_block(void* block) noexcept {
  // Most other blocks do not start at a page and need no lookup in the table.
  return reinterpret_cast<uintptr_t>(block) % kPage == 0 && large_blocks().give(block);
}

}  // namespace torchbind
