// Tensors and storages that another thread reads while JavaScript continues.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include <optional>

#include "fixed_storage.h"

namespace torchbind {

// A copy on write of a CPU storage; null where its memory must not move, or is not PyTorch's own.
c10::Storage lazy_copy(const c10::Storage& storage);

// A snapshot of a storage's bytes, independent of later writes: a copy-on-write alias that nobody else has.
// Memory that cannot move, or is not PyTorch's own, cannot be aliased. The result is then the storage itself,
// whose memory stays in place meanwhile, and later writes are visible in it.
class SteadyStorage {
 public:
  explicit SteadyStorage(const c10::Storage& storage);
  const c10::Storage& storage() const { return storage_; }

 private:
  c10::Storage storage_;
  std::optional<FixedStorage> fixed_;
};

// The same of a dense tensor.
class SteadyTensor {
 public:
  // Throws for what has no bytes, or is not dense and plain.
  explicit SteadyTensor(const at::Tensor& tensor);
  const at::Tensor& tensor() const { return tensor_; }

 private:
  SteadyStorage storage_;
  at::Tensor tensor_;
};

}  // namespace torchbind
