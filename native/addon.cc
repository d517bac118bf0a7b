// Module entry: one init function a file, and the state of the environment.
#include "addon.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <torch/headeronly/version.h>

#include "autocast.h"
#include "autograd.h"
#include "backends.h"
#include "checked_kernels.h"
#include "cpu_allocator.h"
#include "cuda_driver.h"
#include "custom_function.h"
#include "device.h"
#include "distributed/bindings.h"
#include "errors.h"
#include "file_io.h"
#include "geometry.h"
#include "hooks.h"
#include "indexing.h"
#include "random.h"
#include "storage.h"
#include "streams.h"
#include "tensor_info.h"
#include "tensor_jobs.h"

namespace torchbind {
namespace {

// Tensors up to this size may share a token, so that small tensors cost little and pin little.
constexpr size_t kSharedTokenBytes = 1024;

bool is_array_of(const Napi::Value& value, napi_typedarray_type type, size_t length) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type &&
         value.As<Napi::TypedArray>().ElementLength() >= length;
}

Napi::Value setup(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsObject()) invalid("setup() expects { TorchBindError, state, slots }.");
  Napi::Object hooks = info[0].As<Napi::Object>();
  Napi::Value error_class = hooks.Get("TorchBindError");
  Napi::Value state = hooks.Get("state");
  Napi::Value slots = hooks.Get("slots");
  if (!error_class.IsFunction() || !is_array_of(state, napi_uint32_array, 1) ||
      !is_array_of(slots, napi_float64_array, kSlots)) {
    invalid("setup() expects { TorchBindError, state: Uint32Array, slots: Float64Array }.");
  }
  Addon& addon = Addon::of(env);
  addon.error_class = Napi::Persistent(error_class.As<Napi::Function>());
  addon.state_array = Napi::Persistent(state.As<Napi::Uint32Array>());
  addon.state = addon.state_array.Value().Data();
  addon.slots_array = Napi::Persistent(slots.As<Napi::Float64Array>());
  addon.slots = addon.slots_array.Value().Data();
  return env.Undefined();
}

Napi::Value versions(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("torch", TORCH_VERSION);
  result.Set("cpuCapability", at::get_cpu_capability());
  return result;
}

}  // namespace

Addon& Addon::of(Napi::Env env) {
  Addon* addon = env.GetInstanceData<Addon>();
  if (addon == nullptr) throw std::runtime_error("The environment of this addon is gone.");
  return *addon;
}

Handle Addon::add(at::Tensor tensor) {
  check_inside_storage(tensor);
  if (!tensor.is_cpu() && !tensor.is_meta()) js->uses_accelerator = true;
  const bool own = tensor.requires_grad() || storage_bytes(tensor) > kSharedTokenBytes;
  const Handle handle = store->table.add(std::move(tensor));
  if (own && state != nullptr) state[0] = 1;
  return handle;
}

}  // namespace torchbind

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  using namespace torchbind;
  use_cpu_allocator();
  use_checked_kernels();
  env.SetInstanceData<Addon>(new Addon(env));
  // Sparse tensors whose indices point outside would make kernels write there.
  at::globalContext().setCheckSparseTensorInvariants(true);
  expose<setup>(exports, "setup");
  expose<versions>(exports, "versions");
  init_dispatch(env, exports);
  init_direct_call(env, exports);
  init_tensor_table(env, exports);
  init_tickets(env, exports);
  init_tensor_info(env, exports);
  init_storage(env, exports);
  init_file_io(env, exports);
  init_tensor_jobs(env, exports);
  init_indexing(env, exports);
  init_autograd(env, exports);
  init_hooks(env, exports);
  init_custom_function(env, exports);
  init_autocast(env, exports);
  init_random(env, exports);
  init_device(env, exports);
  init_streams(env, exports);
  init_backends(env, exports);
  init_cuda_driver(env, exports);
  init_distributed(env, exports);
  return exports;
}

NODE_API_MODULE(torchbind, init)
