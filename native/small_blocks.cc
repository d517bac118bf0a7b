#include "small_blocks.h"

#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <cstdlib>
#include <mutex>

namespace torchbind {
namespace {

constexpr uintptr_t kAlignment = 64;  // libtorch's own
constexpr size_t kSmall = 1024;

// libtorch asks posix_memalign for every storage, which takes a fifth of an operator on a few numbers,
// because malloc keeps no list of such blocks. Here a small one is a plain block that is aligned by hand;
// malloc's pointer lies before the data.
class SmallBlocks final : public c10::Allocator {
 public:
  explicit SmallBlocks(c10::Allocator* others) : others_(others) {}

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0 || bytes > kSmall) return others_->allocate(bytes);
    void* block = std::malloc(bytes + kAlignment);
    if (block == nullptr) return others_->allocate(bytes);  // fails with libtorch's message
    // malloc aligns to 16 bytes or 8, so that a pointer fits before the next boundary.
    void** data =
        reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(block) + kAlignment) & ~(kAlignment - 1));
    data[-1] = block;
    return {data, data, release, c10::Device(c10::kCPU)};
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static void release(void* data) { std::free(static_cast<void**>(data)[-1]); }

  c10::Allocator* others_;
};

}  // namespace

void use_small_blocks() {
  static std::once_flag once;
  // Never freed: tensors that live until the process ends refer to it.
  std::call_once(once, [] { c10::SetCPUAllocator(new SmallBlocks(c10::GetCPUAllocator()), /*priority=*/1); });
}

}  // namespace torchbind
