// Checks sizes, strides and offsets against the memory of the storage. A tensor that reaches outside its
// storage ends the process at the next read. So no such tensor may enter the table, and an operator that
// fails must not leave one behind.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/stack.h>

#include <optional>
#include <vector>

#include "js_thread.h"

namespace torchbind {

// How many elements of the storage, from its first, the sizes and strides need: 0 for a tensor without
// elements, and nothing where the number does not fit 63 bits.
std::optional<uint64_t> elements_needed(c10::ArrayRef<int64_t> sizes, c10::ArrayRef<int64_t> strides,
                                        int64_t offset);

// Throws when a dense tensor reaches outside its storage.
void check_inside_storage(const at::Tensor& tensor);

// The tensors that one operator call writes to, as they were before it.
class WrittenTensors {
 public:
  WrittenTensors(const torch::jit::Stack& arguments, const std::vector<size_t>& written);

  // After the operator has thrown: gives every tensor the shape and the storage that it had.
  void restore() noexcept;
  // Call after the operator has returned. If a tensor reaches outside its storage, or if a tensor that a
  // running backward pass uses changed its shape, restores all tensors and throws. A changed shape counts as
  // a write, so that a graph that has saved the tensor refuses it.
  void check(const JsThread& thread);

 private:
  struct Before {
    at::Tensor tensor;
    c10::Storage storage;
    c10::DimVector sizes;
    c10::DimVector strides;
    int64_t offset;
    c10::ScalarType dtype;
    uint32_t version;

    bool has_changed_shape() const;
  };

  void add(const c10::IValue& value);
  void add(const at::Tensor& tensor);

  c10::SmallVector<Before, 1> before_;
};

}  // namespace torchbind
