#include "backends.h"

#include <ATen/Context.h>

#include <array>
#include <string>

#include "arguments.h"
#include "errors.h"

namespace torchbind {
namespace {

struct Switch {
  const char* name;
  bool (*get)(const at::Context&);
  void (*set)(at::Context&, bool);
};

// Names as lib/tensor/backends.ts uses them.
constexpr std::array kSwitches = {
    Switch{"cuda.matmul.allowTf32", [](const at::Context& c) { return c.allowTF32CuBLAS(); },
           [](at::Context& c, bool on) { c.setAllowTF32CuBLAS(on); }},
    Switch{"cudnn.allowTf32", [](const at::Context& c) { return c.allowTF32CuDNN(); },
           [](at::Context& c, bool on) { c.setAllowTF32CuDNN(on); }},
    Switch{"cudnn.enabled", [](const at::Context& c) { return c.userEnabledCuDNN(); },
           [](at::Context& c, bool on) { c.setUserEnabledCuDNN(on); }},
    Switch{"cudnn.benchmark", [](const at::Context& c) { return c.benchmarkCuDNN(); },
           [](at::Context& c, bool on) { c.setBenchmarkCuDNN(on); }},
    Switch{"cudnn.deterministic", [](const at::Context& c) { return c.deterministicCuDNN(); },
           [](at::Context& c, bool on) { c.setDeterministicCuDNN(on); }},
    Switch{"cuda.flashSdp", [](const at::Context& c) { return c.userEnabledFlashSDP(); },
           [](at::Context& c, bool on) { c.setSDPUseFlash(on); }},
    Switch{"cuda.memEfficientSdp", [](const at::Context& c) { return c.userEnabledMemEfficientSDP(); },
           [](at::Context& c, bool on) { c.setSDPUseMemEfficient(on); }},
    Switch{"cuda.mathSdp", [](const at::Context& c) { return c.userEnabledMathSDP(); },
           [](at::Context& c, bool on) { c.setSDPUseMath(on); }},
    Switch{"cuda.cudnnSdp", [](const at::Context& c) { return c.userEnabledCuDNNSDP(); },
           [](at::Context& c, bool on) { c.setSDPUseCuDNN(on); }},
};

const Switch& to_switch(const Napi::Value& value) {
  const std::string name = to_string(value, "name");
  for (const Switch& known : kSwitches)
    if (name == known.name) return known;
  invalid("Unknown switch '" + name + "'.");
}

Napi::Value get_switch(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_switch(info[0]).get(at::globalContext()));
}

Napi::Value set_switch(const Napi::CallbackInfo& info) {
  const Switch& known = to_switch(info[0]);
  known.set(at::globalContext(), to_bool(info[1], "on"));
  return info.Env().Undefined();
}

// backendVersions(): versions of the CUDA runtime and of cuDNN in the libraries' own numbering; null without
// them.
Napi::Value backend_versions(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  const bool cuda = at::Context::hasCUDA();
  const bool cudnn = cuda && at::Context::hasCuDNN();
  result.Set("cuda", cuda ? Napi::Number::New(env, at::Context::versionCUDART()) : env.Null());
  result.Set("cudnn", cudnn ? Napi::Number::New(env, at::Context::versionCuDNN()) : env.Null());
  return result;
}

Napi::Value float32_matmul_precision(const Napi::CallbackInfo& info) {
  switch (at::globalContext().float32MatmulPrecision()) {
    case at::Float32MatmulPrecision::MEDIUM:
      return Napi::String::New(info.Env(), "medium");
    case at::Float32MatmulPrecision::HIGH:
      return Napi::String::New(info.Env(), "high");
    default:
      return Napi::String::New(info.Env(), "highest");
  }
}

Napi::Value set_float32_matmul_precision(const Napi::CallbackInfo& info) {
  const std::string precision = to_string(info[0], "precision");
  if (precision != "highest" && precision != "high" && precision != "medium")
    invalid("The precision of float32 products must be 'highest', 'high' or 'medium', got '" + precision +
            "'.");
  at::globalContext().setFloat32MatmulPrecision(precision);
  return info.Env().Undefined();
}

// deterministicAlgorithms(): [on, warns only]
Napi::Value deterministic_algorithms(const Napi::CallbackInfo& info) {
  const at::Context& context = at::globalContext();
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  result.Set(uint32_t{0}, Napi::Boolean::New(info.Env(), context.deterministicAlgorithms()));
  result.Set(uint32_t{1}, Napi::Boolean::New(info.Env(), context.deterministicAlgorithmsWarnOnly()));
  return result;
}

Napi::Value set_deterministic_algorithms(const Napi::CallbackInfo& info) {
  const bool on = to_bool(info[0], "on");
  at::globalContext().setDeterministicAlgorithms(on, to_bool(info[1], "warnOnly"));
  return info.Env().Undefined();
}

}  // namespace

void init_backends(Napi::Env, Napi::Object& exports) {
  expose<get_switch>(exports, "getSwitch");
  expose<set_switch>(exports, "setSwitch");
  expose<backend_versions>(exports, "backendVersions");
  expose<float32_matmul_precision>(exports, "float32MatmulPrecision");
  expose<set_float32_matmul_precision>(exports, "setFloat32MatmulPrecision");
  expose<deterministic_algorithms>(exports, "deterministicAlgorithms");
  expose<set_deterministic_algorithms>(exports, "setDeterministicAlgorithms");
}

}  // namespace torchbind
