#include "autocast.h"

#include <ATen/autocast_mode.h>
#include <c10/core/Device.h>

#include "arguments.h"
#include "errors.h"

namespace torchbind {
namespace {

// A type of device that need not be there: `cuda` has its state on every machine.
c10::DeviceType device_type(const Napi::Value& value) {
  return c10::Device(to_string(value, "device")).type();
}

// getAutocast(deviceType): [enabled, dtype, cacheEnabled]
Napi::Value get_autocast(const Napi::CallbackInfo& info) {
  const c10::DeviceType device = device_type(info[0]);
  Napi::Array state = Napi::Array::New(info.Env(), 3);
  state.Set(uint32_t{0}, Napi::Boolean::New(info.Env(), at::autocast::is_autocast_enabled(device)));
  state.Set(uint32_t{1}, static_cast<double>(at::autocast::get_autocast_dtype(device)));
  state.Set(uint32_t{2}, Napi::Boolean::New(info.Env(), at::autocast::is_autocast_cache_enabled()));
  return state;
}

Napi::Value set_autocast(const Napi::CallbackInfo& info) {
  const c10::DeviceType device = device_type(info[0]);
  const bool enabled = to_bool(info[1], "enabled");
  const c10::ScalarType dtype = to_scalar_type(info[2], "dtype");
  const bool cache_enabled = to_bool(info[3], "cacheEnabled");
  at::autocast::set_autocast_enabled(device, enabled);
  at::autocast::set_autocast_dtype(device, dtype);
  at::autocast::set_autocast_cache_enabled(cache_enabled);
  return info.Env().Undefined();
}

Napi::Value enter_autocast(const Napi::CallbackInfo& info) {
  at::autocast::increment_nesting();
  return info.Env().Undefined();
}

// Copies of weights in the lower precision are kept until the outermost scope ends.
Napi::Value exit_autocast(const Napi::CallbackInfo& info) {
  const int depth = at::autocast::decrement_nesting();
  if (depth < 0) {
    at::autocast::increment_nesting();
    invalid("exitAutocast() without enterAutocast().");
  }
  if (depth == 0) at::autocast::clear_cache();
  return info.Env().Undefined();
}

}  // namespace

void init_autocast(Napi::Env, Napi::Object& exports) {
  expose<get_autocast>(exports, "getAutocast");
  expose<set_autocast>(exports, "setAutocast");
  expose<enter_autocast>(exports, "enterAutocast");
  expose<exit_autocast>(exports, "exitAutocast");
}

}  // namespace torchbind
