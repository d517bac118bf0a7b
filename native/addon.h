// The state of one environment (the main thread, or one worker).
#pragma once

#include <c10/core/InferenceMode.h>

#include <deque>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "dispatch.h"
#include "js_thread.h"
#include "napi_setup.h"
#include "tensor_table.h"
#include "tickets.h"

namespace torchbind {

struct Addon {
  explicit Addon(Napi::Env env) : js(std::make_shared<JsThread>(env)) {}
  ~Addon() { js->close(); }

  std::shared_ptr<JsThread> js;
  std::shared_ptr<TensorStore> store = std::make_shared<TensorStore>();
  // A deque, so that an operator stays where it is when others are looked up.
  std::deque<Operator> operators;
  // Between calls: the memory for the arguments of the next one.
  torch::jit::Stack spare_stack;
  // Names of operators that allowUnsafe() was called for.
  std::unordered_set<std::string> allowed_unsafe;
  std::vector<std::unique_ptr<c10::InferenceMode>> inference_modes;
  Workers workers;
  // From setup(): the TorchBindError class, and the array through which calls tell how a tensor must be kept.
  Napi::FunctionReference error_class;
  Napi::Reference<Napi::Uint32Array> state_array;
  uint32_t* state = nullptr;
  // From setup(): what callDirect() takes and gives.
  Napi::Reference<Napi::Float64Array> slots_array;
  double* slots = nullptr;

  static Addon& of(Napi::Env env);

  // Puts a tensor into the table and tells JavaScript whether it needs a token of its own.
  Handle add(at::Tensor tensor);
};

}  // namespace torchbind
