// Handles: a tensor is known to JavaScript by an integer, slot and generation. A handle that was disposed
// never means another tensor, because its slot's generation has moved on.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "napi_setup.h"

namespace torchbind {

// An integer below 2^53, so that it is exact as a JavaScript number. 0 is never a tensor.
using Handle = uint64_t;

// A handle as JavaScript stores it; anything else becomes 0.
inline Handle handle_from_double(double value) {
  if (!(value >= 1 && value < 9007199254740992.0)) return 0;
  const Handle handle = static_cast<Handle>(value);
  return static_cast<double>(handle) == value ? handle : 0;
}

// One environment's tensors. Used on that environment's JavaScript thread only.
class TensorTable {
 public:
  Handle add(at::Tensor tensor);
  // The tensor, or an error that names `what` when the handle was disposed or never was one.
  const at::Tensor& get(Handle handle, const char* what) const;
  const at::Tensor* find(Handle handle) const;
  bool release(Handle handle);

  size_t live() const { return live_; }
  // Bytes of all storages that live tensors use, each counted once.
  size_t bytes() const;

 private:
  struct Slot {
    at::Tensor tensor;
    uint32_t generation = 1;
  };

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  size_t live_ = 0;
};

// Reports bytes of storages to V8, once a storage however many tokens hold it.
class ExternalMemory {
 public:
  void retain(Napi::BasicEnv env, const at::Tensor& tensor);
  void release(Napi::BasicEnv env, const void* storage);
  // While on, no bytes are reported to V8 and no collection is forced: for code that makes many tensors of
  // which none is garbage. Each report may make V8 mark for milliseconds, so one report follows at the end.
  void defer_collections(Napi::BasicEnv env, bool on);
  // While on, the memory of new tensors does not count: another thread holds it, and freeing them frees
  // nothing.
  void set_borrowing(bool on);
  // Bytes that V8 knows of.
  int64_t reported() const { return total_ - unreported_; }

 private:
  using Clock = std::chrono::steady_clock;

  void report(Napi::BasicEnv env, int64_t bytes);
  void collect_if_due(Napi::BasicEnv env);

  int64_t total_ = 0;
  int64_t unreported_ = 0;
  // Bytes that came in while collections were deferred, since the last one.
  int64_t deferred_ = 0;
  int64_t after_last_collection_ = 0;
  Clock::time_point next_collection_;
  int collections_ = 0;
  int deferrals_ = 0;
  bool is_borrowing_ = false;
  struct Entry {
    int64_t bytes;
    uint32_t holders;
  };
  std::unordered_map<const void*, Entry> storages_;
};

// What tokens share with the environment, so that a token that outlives it is harmless.
struct TensorStore {
  TensorTable table;
  ExternalMemory external;
};

const void* storage_key(const at::Tensor& tensor);
size_t storage_bytes(const at::Tensor& tensor);

void init_tensor_table(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
