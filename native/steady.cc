#include "steady.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/COW.h>

#include <utility>

#include "errors.h"
#include "storage.h"

namespace torchbind {
namespace {

const c10::Storage& bytes_of(const at::Tensor& tensor) {
  if (!is_plain(tensor)) throw Error(kUnsupported, "Only the bytes of dense, plain tensors can be read.");
  return storage_with_bytes(tensor);
}

// The tensor's view of another storage of the same bytes.
at::Tensor view_of(const at::Tensor& tensor, const c10::Storage& storage) {
  const at::NoGradGuard no_grad;
  at::Tensor view = at::empty({0}, at::TensorOptions().dtype(tensor.dtype()).device(tensor.device()));
  view.set_(storage, tensor.storage_offset(), tensor.sizes(), tensor.strides());
  view._set_conj(tensor.is_conj());
  view._set_neg(tensor.is_neg());
  return view;
}

}  // namespace

c10::Storage lazy_copy(const c10::Storage& storage) {
  if (storage.nbytes() == 0 || !storage.device().is_cpu() || is_fixed(storage)) return {};
  return c10::Storage(c10::impl::cow::lazy_clone_storage(*storage.unsafeGetStorageImpl()));
}

SteadyStorage::SteadyStorage(const c10::Storage& storage) : storage_(lazy_copy(storage)) {
  if (storage_) return;
  storage_ = storage;
  fixed_.emplace(storage_);
}

SteadyTensor::SteadyTensor(const at::Tensor& tensor)
    : storage_(bytes_of(tensor)), tensor_(view_of(tensor, storage_.storage())) {}

}  // namespace torchbind
