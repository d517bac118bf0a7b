#include "arguments.h"

#include <ATen/DeviceAccelerator.h>

#include <cmath>
#include <utility>

#include "addon.h"
#include "dtype.h"
#include "errors.h"

namespace torchbind {
namespace {

constexpr uint32_t kMaxListLength = 1u << 20;
constexpr double kMaxSafeInteger = 9007199254740991.0;

[[noreturn]] void mismatch(const char* name, const char* expected, const Napi::Value& value) {
  invalid(std::string("Expected ") + expected + " for '" + name + "', got " + type_of(value) + ".");
}

bool is_integer(double value) { return std::trunc(value) == value && std::fabs(value) <= kMaxSafeInteger; }

}  // namespace

std::string type_of(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number: {
      std::string text = std::to_string(value.As<Napi::Number>().DoubleValue());
      text.erase(text.find_last_not_of('0') + 1);
      if (text.back() == '.') text.pop_back();
      return "number " + text;
    }
    case napi_string: {
      const std::string text = value.As<Napi::String>().Utf8Value();
      return text.size() > 40 ? "a string" : "string '" + text + "'";
    }
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    case napi_external:
      return "a native object";
    case napi_object:
      return value.IsArray() ? "an array" : "an object";
  }
  return "an unknown value";
}

Handle to_handle(const Napi::Value& value, const char* name) {
  double number = -1;  // read without asking for the type first: this is the hot path
  if (napi_get_value_double(value.Env(), value, &number) != napi_ok || !(number >= 0) ||
      !is_integer(number)) {
    mismatch(name, "a tensor", value);
  }
  return static_cast<Handle>(number);
}

const at::Tensor& to_tensor(const Napi::Value& value, const char* name) {
  return Addon::of(value.Env()).store->table.get(to_handle(value, name), name);
}

std::vector<at::Tensor> to_tensors(const Napi::Value& value, const char* name, bool allow_null) {
  if (!value.IsArray()) mismatch(name, "an array of tensors", value);
  const Napi::Array array = value.As<Napi::Array>();
  const uint32_t length = array.Length();
  // A sparse array may claim 2^32 - 1 elements, each of them null.
  if (length > kMaxListLength) invalid(std::string("The list of tensors for '") + name + "' is too long.");
  std::vector<at::Tensor> tensors;
  for (uint32_t i = 0; i < length; ++i) {
    const Napi::Value item = array.Get(i);
    if (allow_null && (item.IsNull() || item.IsUndefined())) {
      tensors.emplace_back();
    } else {
      tensors.push_back(to_tensor(item, name));
    }
  }
  return tensors;
}

int64_t to_int64(const Napi::Value& value, const char* name) {
  double number = 0;
  if (napi_get_value_double(value.Env(), value, &number) == napi_ok) {
    if (!is_integer(number)) mismatch(name, "an integer", value);
    return static_cast<int64_t>(number);
  }
  if (value.IsBigInt()) {
    bool lossless = false;
    const int64_t integer = value.As<Napi::BigInt>().Int64Value(&lossless);
    if (!lossless) mismatch(name, "an integer of 64 bits", value);
    return integer;
  }
  mismatch(name, "an integer", value);
}

int64_t exact_int64(double number, const char* name) {
  if (!is_integer(number)) invalid(std::string("Expected integers for '") + name + "'.");
  return static_cast<int64_t>(number);
}

uint64_t to_uint64(const Napi::Value& value, const char* name) {
  if (value.IsBigInt()) {
    bool lossless = false;
    const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless) return number;
  }
  return static_cast<uint64_t>(to_int64(value, name));
}

size_t to_size(const Napi::Value& value, const char* name) {
  const int64_t number = to_int64(value, name);
  if (number < 0) mismatch(name, "a non-negative integer", value);
  return static_cast<size_t>(number);
}

bool to_bool(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) mismatch(name, "a boolean", value);
  return value.As<Napi::Boolean>().Value();
}

std::string to_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) mismatch(name, "a string", value);
  return value.As<Napi::String>().Utf8Value();
}

std::vector<int64_t> to_int64s(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) mismatch(name, "an array of integers", value);
  const Napi::Array array = value.As<Napi::Array>();
  const uint32_t length = array.Length();
  std::vector<int64_t> numbers;
  for (uint32_t i = 0; i < length; ++i) numbers.push_back(to_int64(array.Get(i), name));
  return numbers;
}

c10::ScalarType to_scalar_type(const Napi::Value& value, const char* name) {
  if (value.IsString()) {
    const std::string text = value.As<Napi::String>().Utf8Value();
    if (auto type = dtype_from_name(text)) return *type;
    invalid("Unknown dtype '" + text + "' for '" + name + "'.");
  }
  if (value.IsNumber()) {
    const int64_t code = to_int64(value, name);
    if (code >= 0 && code < static_cast<int64_t>(c10::ScalarType::Undefined)) {
      return static_cast<c10::ScalarType>(code);
    }
  }
  mismatch(name, "a dtype", value);
}

c10::Device to_device(const Napi::Value& value, const char* name) {
  if (!value.IsString()) mismatch(name, "a device such as 'cpu' or 'cuda:0'", value);
  const c10::Device device(value.As<Napi::String>().Utf8Value());
  if (device.is_cpu() || device.is_meta()) return device;
  const auto accelerator = at::getAccelerator();
  const int count = accelerator == device.type() ? at::accelerator::deviceCount() : 0;
  if (count == 0 || (device.has_index() && device.index() >= count)) {
    throw Error("ERR_TORCHBIND_DEVICE",
                "Device '" + device.str() + "' is not available: libtorch sees " + std::to_string(count) +
                    " devices of this type. Use 'cpu', or see what `torchbind doctor` says.");
  }
  return device;
}

Napi::Value from_int64(Napi::Env env, int64_t value) {
  if (std::abs(static_cast<double>(value)) <= kMaxSafeInteger) {
    return Napi::Number::New(env, static_cast<double>(value));
  }
  return Napi::BigInt::New(env, value);
}

Napi::Value from_handle(Napi::Env env, Handle handle) {
  return Napi::Number::New(env, static_cast<double>(handle));
}

Napi::Value from_tensor(Napi::Env env, at::Tensor tensor) {
  if (!tensor.defined()) return env.Null();
  return from_handle(env, Addon::of(env).add(std::move(tensor)));
}

Napi::Value from_int64s(Napi::Env env, c10::ArrayRef<int64_t> values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); ++i) array.Set(static_cast<uint32_t>(i), from_int64(env, values[i]));
  return array;
}

}  // namespace torchbind
