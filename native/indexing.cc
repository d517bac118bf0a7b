// Indexing by the code that Python's torch uses for x[...]: libtorch's own TensorIndexing.h.
#include "indexing.h"

#include <ATen/TensorIndexing.h>

#include <optional>
#include <vector>

#include "arguments.h"
#include "convert.h"
#include "errors.h"

namespace torchbind {
namespace {

using at::indexing::TensorIndex;

// An index is a number (select), a boolean, null (a new dimension), '...', [start, stop, step] (a slice, null
// for what is left out) or [tensor].
constexpr uint32_t kMaxIndices = 1024;

std::optional<c10::SymInt> bound(const Napi::Value& value) {
  if (value.IsNull()) return std::nullopt;
  return c10::SymInt(to_int64(value, "slice"));
}

TensorIndex to_index(const Napi::Value& value) {
  if (value.IsNumber()) return TensorIndex(to_int64(value, "index"));
  if (value.IsNull()) return TensorIndex(at::indexing::None);
  if (value.IsBoolean()) return TensorIndex(value.As<Napi::Boolean>().Value());
  if (value.IsString()) return TensorIndex(at::indexing::Ellipsis);
  if (value.IsArray()) {
    const Napi::Array parts = value.As<Napi::Array>();
    if (parts.Length() == 1) return TensorIndex(to_tensor(parts.Get(uint32_t{0}), "index"));
    if (parts.Length() == 3) {
      return TensorIndex(at::indexing::Slice(bound(parts.Get(uint32_t{0})), bound(parts.Get(uint32_t{1})),
                                             bound(parts.Get(uint32_t{2}))));
    }
  }
  invalid("Expected an index, got " + type_of(value) + ".");
}

std::vector<TensorIndex> to_indices(const Napi::Value& value) {
  if (!value.IsArray()) invalid("Expected an array of indices, got " + type_of(value) + ".");
  const Napi::Array array = value.As<Napi::Array>();
  const uint32_t length = array.Length();
  if (length > kMaxIndices) invalid("There are " + std::to_string(length) + " indices.");
  std::vector<TensorIndex> indices;
  for (uint32_t i = 0; i < length; ++i) indices.push_back(to_index(array.Get(i)));
  return indices;
}

Napi::Value get_index(const Napi::CallbackInfo& info) {
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  return from_tensor(info.Env(), at::indexing::get_item(tensor, to_indices(info[1])));
}

// setIndex(tensor, indices, value): the value a tensor as [handle], or a number.
Napi::Value set_index(const Napi::CallbackInfo& info) {
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  const std::vector<TensorIndex> indices = to_indices(info[1]);
  at::Tensor value;
  if (info[2].IsArray()) {
    value = to_tensor(info[2].As<Napi::Array>().Get(uint32_t{0}), "value");
  } else {
    value = at::indexing::scalarToTensor(to_scalar(info[2], "value"), tensor.options(), tensor.device());
  }
  at::indexing::set_item(tensor, indices, value);
  return info.Env().Undefined();
}

}  // namespace

void init_indexing(Napi::Env, Napi::Object& exports) {
  expose<get_index>(exports, "getIndex");
  expose<set_index>(exports, "setIndex");
}

}  // namespace torchbind
