#include "geometry.h"

#include <string>

#include "errors.h"
#include "fixed_storage.h"

namespace torchbind {
namespace {

// Whether the sizes and strides speak of elements in a storage that has memory.
bool is_dense(const c10::TensorImpl& tensor) {
  return tensor.layout() == at::kStrided && tensor.has_storage() && !tensor.is_meta() &&
         !tensor.key_set().has(c10::DispatchKey::NestedTensor);
}

// quint4x2 and quint2x4 pack several elements into a byte.
uint64_t elements_per_byte(c10::ScalarType dtype) {
  if (dtype == c10::ScalarType::QUInt4x2) return 2;
  return dtype == c10::ScalarType::QUInt2x4 ? 4 : 1;
}

// Zeros that take no memory have a size all the same, and kernels that know them.
bool has_memory(const c10::Storage& storage) { return storage && storage.data() != nullptr; }

bool is_inside_storage(const c10::TensorImpl& tensor) {
  if (!is_dense(tensor) || tensor.numel() == 0) return true;
  const std::optional<uint64_t> needed =
      elements_needed(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  const c10::Storage& storage = tensor.unsafe_storage();
  const bool is_there = has_memory(storage) || tensor.key_set().has(c10::DispatchKey::ZeroTensor);
  const uint64_t bytes = is_there ? storage.nbytes() : 0;
  const uint64_t shared = elements_per_byte(c10::typeMetaToScalarType(tensor.dtype()));
  return needed && *needed <= bytes / tensor.itemsize() * shared;
}

[[noreturn]] void refuse(const std::string& what) {
  invalid(what +
          " reaches outside its storage, or its sizes and strides are too large to tell. Give sizes, strides "
          "and an offset that stay inside.");
}

uint32_t version_of(const at::Tensor& tensor) {
  return tensor.is_inference() ? 0 : static_cast<uint32_t>(tensor._version());
}

}  // namespace

std::optional<uint64_t> elements_needed(c10::ArrayRef<int64_t> sizes, c10::ArrayRef<int64_t> strides,
                                        int64_t offset) {
  constexpr uint64_t kMost = uint64_t{1} << 63;
  if (offset < 0 || sizes.size() != strides.size()) return std::nullopt;
  uint64_t last = static_cast<uint64_t>(offset);
  bool is_empty = false;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 0 || strides[i] < 0) return std::nullopt;
    is_empty = is_empty || sizes[i] == 0;
    if (sizes[i] <= 1) continue;
    uint64_t reach = 0;
    if (__builtin_mul_overflow(static_cast<uint64_t>(sizes[i] - 1), static_cast<uint64_t>(strides[i]),
                               &reach) ||
        __builtin_add_overflow(last, reach, &last) || last >= kMost) {
      return std::nullopt;
    }
  }
  return is_empty ? 0 : last + 1;
}

void check_inside_storage(const at::Tensor& tensor) {
  if (!is_inside_storage(*tensor.unsafeGetTensorImpl())) refuse("The result");
}

WrittenTensors::WrittenTensors(const torch::jit::Stack& arguments, const std::vector<size_t>& written) {
  for (size_t index : written) add(arguments[index]);
}

void WrittenTensors::add(const c10::IValue& value) {
  if (value.isTensor()) {
    add(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) add(tensor);
  }
}

void WrittenTensors::add(const at::Tensor& tensor) {
  if (!tensor.defined() || !is_dense(*tensor.unsafeGetTensorImpl())) return;
  // To grow, libtorch copies the old bytes.
  if (tensor.storage().nbytes() > 0 && !has_memory(tensor.storage())) fix_for_good(tensor.storage());
  before_.push_back({tensor, tensor.storage(), c10::DimVector(tensor.sizes()),
                     c10::DimVector(tensor.strides()), tensor.storage_offset(), tensor.scalar_type(),
                     version_of(tensor)});
}

bool WrittenTensors::Before::has_changed_shape() const {
  return tensor.sizes() != c10::IntArrayRef(sizes) || tensor.strides() != c10::IntArrayRef(strides) ||
         tensor.storage_offset() != offset;
}

void WrittenTensors::restore() noexcept {
  for (Before& before : before_) {
    c10::TensorImpl& impl = *before.tensor.unsafeGetTensorImpl();
    const bool same_storage =
        impl.unsafe_storage().unsafeGetStorageImpl() == before.storage.unsafeGetStorageImpl();
    if (before.tensor.scalar_type() != before.dtype || (same_storage && !before.has_changed_shape()))
      continue;
    if (!same_storage) impl.set_storage_keep_dtype(before.storage);
    impl.set_sizes_and_strides(c10::IntArrayRef(before.sizes), c10::IntArrayRef(before.strides),
                               before.offset);
  }
}

void WrittenTensors::check(const JsThread& thread) {
  for (const Before& before : before_) {
    if (is_inside_storage(*before.tensor.unsafeGetTensorImpl())) continue;
    restore();
    refuse("The tensor that the operator writes to");
  }
  for (const Before& before : before_) {
    if (!before.has_changed_shape() || !thread.is_lent(before.tensor)) continue;
    restore();
    invalid(
        "The backward pass that is running works with this tensor: its shape cannot change before the pass "
        "ends. Change a clone().");
  }
  for (const Before& before : before_) {
    if (!before.has_changed_shape() || before.tensor.is_inference()) continue;
    if (version_of(before.tensor) == before.version) before.tensor.unsafeGetTensorImpl()->bump_version();
  }
}

}  // namespace torchbind
