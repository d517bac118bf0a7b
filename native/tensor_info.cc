#include "tensor_info.h"

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include "addon.h"
#include "arguments.h"
#include "dtype.h"
#include "errors.h"

namespace torchbind {
namespace {

Napi::Value shape(const Napi::CallbackInfo& info) {
  const at::Tensor tensor = to_tensor(info[0], "tensor");  // held: making the array may collect garbage
  return from_int64s(info.Env(), tensor.sizes());
}

Napi::Value strides(const Napi::CallbackInfo& info) {
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  return from_int64s(info.Env(), tensor.strides());
}

Napi::Value storage_offset(const Napi::CallbackInfo& info) {
  return from_int64(info.Env(), to_tensor(info[0], "tensor").storage_offset());
}

Napi::Value dtype(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(to_tensor(info[0], "tensor").scalar_type()));
}

Napi::Value device(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), to_tensor(info[0], "tensor").device().str());
}

Napi::Value layout(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), layout_name(to_tensor(info[0], "tensor").layout()));
}

Napi::Value storage_info(const Napi::CallbackInfo& info) {
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  Napi::Object result = Napi::Object::New(info.Env());
  // Addresses of user space are below 2^53.
  result.Set("id", static_cast<double>(reinterpret_cast<uintptr_t>(storage_key(tensor))));
  result.Set("nbytes", static_cast<double>(storage_bytes(tensor)));
  return result;
}

Napi::Value is_leaf(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_tensor(info[0], "tensor").is_leaf());
}

Napi::Value requires_grad(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_tensor(info[0], "tensor").requires_grad());
}

Napi::Value set_requires_grad(const Napi::CallbackInfo& info) {
  const bool value = to_bool(info[1], "value");
  const at::Tensor& tensor = to_tensor(info[0], "tensor");
  if (!tensor.is_leaf() && !value) {
    throw Error("ERR_TORCHBIND_TORCH",
                "requiresGrad of a computed tensor cannot be unset. Use detach(), which has no graph.");
  }
  tensor.set_requires_grad(value);
  return info.Env().Undefined();
}

Napi::Value grad_fn_name(const Napi::CallbackInfo& info) {
  const auto& node = to_tensor(info[0], "tensor").grad_fn();
  if (node == nullptr) return info.Env().Null();
  return Napi::String::New(info.Env(), node->name());
}

}  // namespace

void init_tensor_info(Napi::Env, Napi::Object& exports) {
  expose<shape>(exports, "shape");
  expose<strides>(exports, "strides");
  expose<storage_offset>(exports, "storageOffset");
  expose<dtype>(exports, "dtype");
  expose<device>(exports, "device");
  expose<layout>(exports, "layout");
  expose<storage_info>(exports, "storageInfo");
  expose<is_leaf>(exports, "isLeaf");
  expose<requires_grad>(exports, "requiresGrad");
  expose<set_requires_grad>(exports, "setRequiresGrad");
  expose<grad_fn_name>(exports, "gradFnName");
}

}  // namespace torchbind
