#include "cpu_allocator.h"

#include <c10/core/CPUAllocator.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "large_blocks.h"
#include "small_blocks.h"

namespace torchbind {
namespace {

c10::Allocator* others = nullptr;
c10::DeleterFnPtr release_other = nullptr;

// The deleter of every block: operators keep `raw_deleter` and free their allocations with it.
void release(void* block) {
  if (is_small_block(block)) {
    give_small_block(block);
  } else if (!give_large_block(block)) {
    release_other(block);
  }
}

class CpuAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* block = take_small_block(bytes);
    if (block == nullptr) block = take_large_block(bytes);
    if (block == nullptr) block = others->raw_allocate(bytes);
    return {block, block, release, c10::Device(c10::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return release; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

bool wanted() {
  const char* setting = std::getenv("TORCHBIND_ALLOCATOR");
  return setting == nullptr || std::strcmp(setting, "libtorch") != 0;
}

}  // namespace

void use_cpu_allocator() {
  static std::once_flag once;
  std::call_once(once, [] {
    others = c10::GetCPUAllocator();
    release_other = others->raw_deleter();
    // Never freed: tensors that live until the process ends refer to it.
    if (wanted() && release_other != nullptr) c10::SetCPUAllocator(new CpuAllocator, /*priority=*/1);
  });
}

}  // namespace torchbind
