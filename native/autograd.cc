#include "autograd.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <utility>

#include "addon.h"
#include "arguments.h"
#include "errors.h"

namespace torchbind {
namespace {

Napi::Value backward(const Napi::CallbackInfo& info) {
  const bool retain_graph = to_bool(info[2], "retainGraph");
  const bool create_graph = to_bool(info[3], "createGraph");
  const auto tensors = to_tensors(info[0], "tensors");
  const auto gradients = to_tensors(info[1], "gradients", true);
  const auto inputs = to_tensors(info[4], "inputs");
  JsThread& js = *Addon::of(info.Env()).js;
  for (const at::Tensor& gradient : gradients) js.lend(gradient);
  js.drive([&] { torch::autograd::backward(tensors, gradients, retain_graph, create_graph, inputs); });
  return info.Env().Undefined();
}

Napi::Value grad(const Napi::CallbackInfo& info) {
  const bool retain_graph = to_bool(info[3], "retainGraph");
  const bool create_graph = to_bool(info[4], "createGraph");
  const bool allow_unused = to_bool(info[5], "allowUnused");
  const auto outputs = to_tensors(info[0], "outputs");
  const auto inputs = to_tensors(info[1], "inputs");
  const auto grad_outputs = to_tensors(info[2], "gradOutputs", true);
  torch::autograd::variable_list gradients;
  JsThread& js = *Addon::of(info.Env()).js;
  for (const at::Tensor& gradient : grad_outputs) js.lend(gradient);
  js.drive([&] {
    gradients =
        torch::autograd::grad(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused);
  });
  Napi::Array result = Napi::Array::New(info.Env(), gradients.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    result.Set(static_cast<uint32_t>(i), from_tensor(info.Env(), gradients[i]));
  }
  return result;
}

Napi::Value get_grad(const Napi::CallbackInfo& info) {
  const at::Tensor gradient = to_tensor(info[0], "tensor").grad();
  return from_tensor(info.Env(), gradient);
}

Napi::Value set_grad(const Napi::CallbackInfo& info) {
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  if (info[1].IsNull() || info[1].IsUndefined()) {
    tensor.mutable_grad().reset();
    return info.Env().Undefined();
  }
  const at::Tensor gradient = to_tensor(info[1], "grad");
  if (gradient.sizes() != tensor.sizes() || gradient.scalar_type() != tensor.scalar_type() ||
      gradient.device() != tensor.device()) {
    invalid("The gradient must have the tensor's shape, dtype and device.");
  }
  tensor.mutable_grad() = gradient;
  return info.Env().Undefined();
}

Napi::Value grad_mode(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), c10::GradMode::is_enabled());
}

Napi::Value set_grad_mode(const Napi::CallbackInfo& info) {
  c10::GradMode::set_enabled(to_bool(info[0], "enabled"));
  return info.Env().Undefined();
}

Napi::Value inference_mode_enabled(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), c10::InferenceMode::is_enabled());
}

Napi::Value enter_inference_mode(const Napi::CallbackInfo& info) {
  const bool enabled = to_bool(info[0], "enabled");
  Addon::of(info.Env()).inference_modes.push_back(std::make_unique<c10::InferenceMode>(enabled));
  return info.Env().Undefined();
}

Napi::Value exit_inference_mode(const Napi::CallbackInfo& info) {
  auto& modes = Addon::of(info.Env()).inference_modes;
  if (modes.empty()) invalid("exitInferenceMode() without enterInferenceMode().");
  modes.pop_back();
  return info.Env().Undefined();
}

// For tests: whether the engine always runs next to the JavaScript thread, as it does with devices.
Napi::Value set_always_beside(const Napi::CallbackInfo& info) {
  Addon::of(info.Env()).js->always_beside = to_bool(info[0], "always");
  return info.Env().Undefined();
}

}  // namespace

void init_autograd(Napi::Env, Napi::Object& exports) {
  expose<backward>(exports, "backward");
  expose<grad>(exports, "grad");
  expose<get_grad>(exports, "getGrad");
  expose<set_grad>(exports, "setGrad");
  expose<grad_mode>(exports, "gradMode");
  expose<set_grad_mode>(exports, "setGradMode");
  expose<inference_mode_enabled>(exports, "inferenceModeEnabled");
  expose<enter_inference_mode>(exports, "enterInferenceMode");
  expose<exit_inference_mode>(exports, "exitInferenceMode");
  expose<set_always_beside>(exports, "setEngineAlwaysBeside");
}

}  // namespace torchbind
