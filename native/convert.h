// JavaScript value <-> c10::IValue, guided by the type in an operator's schema. About 25 types cover all of
// aten.
#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <string>

#include "napi_setup.h"

namespace torchbind {

// How one schema type is read. Integers and their symbolic form are one kind; so are lists of either.
enum class Kind : uint8_t {
  kTensor,
  kTensorList,
  kOptionalTensorList,
  kInt,
  kIntList,
  kFloat,
  kFloatList,
  kBool,
  kBoolList,
  kScalar,
  kScalarList,
  kOptionalScalarList,
  kString,
  kScalarType,
  kLayout,
  kMemoryFormat,
  kDevice,
  kGenerator,
  kStorage,
  kUnsupported,
};

// One argument of an operator, ready for conversion.
struct Parameter {
  std::string name;
  std::string type;  // as the schema prints it, for error messages
  Kind kind;
  bool optional;           // None is accepted
  bool has_default;        // may be left out
  int32_t fixed_size = 0;  // int[2]: a single int stands for two equal ones
  c10::IValue default_value;
};

Parameter make_parameter(const c10::Argument& argument);

// The schema's spelling of an argument's type: `SymInt[2]`, `ScalarType?`, ...
std::string type_text(const c10::Argument& argument);

// The default of an argument that was left out, or an error that names it.
c10::IValue missing_ivalue(const Parameter& parameter);

// JavaScript has one number type: an integral number is an int, as its literal in Python would be.
c10::Scalar number_to_scalar(double number);

// A number, bigint, boolean or { re, im }.
c10::Scalar to_scalar(const Napi::Value& value, const char* name);

c10::IValue to_ivalue(const Napi::Value& value, const Parameter& parameter);

// Tensors become handles in the table, lists and tuples arrays.
Napi::Value from_ivalue(Napi::Env env, const c10::IValue& value);

}  // namespace torchbind
