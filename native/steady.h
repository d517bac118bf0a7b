// Tensors and storages that another thread reads while JavaScript continues.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include <optional>

#include "fixed_storage.h"

namespace torchbind {

// A copy on write of a CPU storage; null where its memory must not move, or is not PyTorch's own.
c10::Storage lazy_copy(const c10::Storage& storage);

// The bytes of a storage as they are now, whatever is written to it later: a copy on write that nobody else
// has. Memory that must not move, or is not PyTorch's own, has no such copy: then it is the storage itself,
// whose memory stays where it is meanwhile, and writes show.
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
