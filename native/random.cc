#include "random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <utility>

#include "addon.h"
#include "arguments.h"
#include "errors.h"
#include "external.h"

namespace torchbind {
namespace {

constexpr napi_type_tag kGeneratorTag = {0x2b7e151628aed2a6, 0xabf7158809cf4f3c};

at::Tensor state_of(at::Generator generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_state(at::Generator generator, const at::Tensor& state) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

Napi::Value manual_seed(const Napi::CallbackInfo& info) {
  at::manual_seed(to_uint64(info[0], "seed"));
  return info.Env().Undefined();
}

Napi::Value get_rng_state(const Napi::CallbackInfo& info) {
  return from_tensor(info.Env(),
                     state_of(at::globalContext().defaultGenerator(to_device(info[0], "device"))));
}

Napi::Value set_rng_state(const Napi::CallbackInfo& info) {
  set_state(at::globalContext().defaultGenerator(to_device(info[1], "device")), to_tensor(info[0], "state"));
  return info.Env().Undefined();
}

Napi::Value new_generator(const Napi::CallbackInfo& info) {
  const c10::Device device = to_device(info[0], "device");
  at::Generator generator = device.is_cpu() ? at::detail::createCPUGenerator()
                                            : at::globalContext().defaultGenerator(device).clone();
  return make_external(info.Env(), std::make_unique<at::Generator>(std::move(generator)), kGeneratorTag);
}

Napi::Value generator_seed(const Napi::CallbackInfo& info) {
  at::Generator generator = to_generator(info[0], "generator");
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(to_uint64(info[1], "seed"));
  return info.Env().Undefined();
}

Napi::Value generator_get_state(const Napi::CallbackInfo& info) {
  return from_tensor(info.Env(), state_of(to_generator(info[0], "generator")));
}

Napi::Value generator_set_state(const Napi::CallbackInfo& info) {
  set_state(to_generator(info[0], "generator"), to_tensor(info[1], "state"));
  return info.Env().Undefined();
}

}  // namespace

at::Generator to_generator(const Napi::Value& value, const char* name) {
  if (!value.IsExternal() || !value.As<Napi::External<at::Generator>>().CheckTypeTag(&kGeneratorTag)) {
    invalid(std::string("Expected a Generator for '") + name + "', got " + type_of(value) + ".");
  }
  return *value.As<Napi::External<at::Generator>>().Data();
}

void init_random(Napi::Env, Napi::Object& exports) {
  expose<manual_seed>(exports, "manualSeed");
  expose<get_rng_state>(exports, "getRngState");
  expose<set_rng_state>(exports, "setRngState");
  expose<new_generator>(exports, "newGenerator");
  expose<generator_seed>(exports, "generatorSeed");
  expose<generator_get_state>(exports, "generatorGetState");
  expose<generator_set_state>(exports, "generatorSetState");
}

}  // namespace torchbind
