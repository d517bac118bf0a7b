// Checked reading of JavaScript arguments. Each throws an Error that names the argument.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>
#include <vector>

#include "napi_setup.h"
#include "tensor_table.h"

namespace torchbind {

// Describes a value for error messages: "number 5", "string", "undefined".
std::string type_of(const Napi::Value& value);

Handle to_handle(const Napi::Value& value, const char* name);
const at::Tensor& to_tensor(const Napi::Value& value, const char* name);
std::vector<at::Tensor> to_tensors(const Napi::Value& value, const char* name, bool allow_null = false);

int64_t to_int64(const Napi::Value& value, const char* name);
// A number that came otherwise than as a JavaScript value.
int64_t exact_int64(double number, const char* name);
uint64_t to_uint64(const Napi::Value& value, const char* name);
// A count of bytes or elements, never negative.
size_t to_size(const Napi::Value& value, const char* name);
bool to_bool(const Napi::Value& value, const char* name);
std::string to_string(const Napi::Value& value, const char* name);
std::vector<int64_t> to_int64s(const Napi::Value& value, const char* name);
c10::ScalarType to_scalar_type(const Napi::Value& value, const char* name);
c10::Device to_device(const Napi::Value& value, const char* name);

// int64 as a number where that is exact, else as a bigint.
Napi::Value from_int64(Napi::Env env, int64_t value);
Napi::Value from_handle(Napi::Env env, Handle handle);
// Adds the tensor to the environment's table; null for an undefined one.
Napi::Value from_tensor(Napi::Env env, at::Tensor tensor);
Napi::Value from_int64s(Napi::Env env, c10::ArrayRef<int64_t> values);

}  // namespace torchbind
