#include "convert.h"

#include <ATen/core/jit_type.h>

#include <cmath>
#include <utility>
#include <vector>

#include "arguments.h"
#include "dtype.h"
#include "errors.h"
#include "random.h"
#include "storage.h"

namespace torchbind {
namespace {

using c10::IValue;
using c10::TypeKind;

Kind element_kind(const c10::Type& type) {
  switch (type.kind()) {
    case TypeKind::TensorType:
      return Kind::kTensor;
    case TypeKind::IntType:
    case TypeKind::SymIntType:
    case TypeKind::QSchemeType:
      return Kind::kInt;
    case TypeKind::FloatType:
    case TypeKind::SymFloatType:
      return Kind::kFloat;
    case TypeKind::BoolType:
    case TypeKind::SymBoolType:
      return Kind::kBool;
    case TypeKind::NumberType:
      return Kind::kScalar;
    case TypeKind::StringType:
    case TypeKind::AnyType:  // a process group or its name, in the operators of _c10d_functional
      return Kind::kString;
    case TypeKind::ScalarTypeType:
      return Kind::kScalarType;
    case TypeKind::LayoutType:
      return Kind::kLayout;
    case TypeKind::MemoryFormatType:
      return Kind::kMemoryFormat;
    case TypeKind::DeviceObjType:
      return Kind::kDevice;
    case TypeKind::GeneratorType:
      return Kind::kGenerator;
    case TypeKind::StorageType:
      return Kind::kStorage;
    default:
      return Kind::kUnsupported;
  }
}

Kind list_kind(const c10::Type& element) {
  if (element.kind() == TypeKind::OptionalType) {
    const auto& inner = element.expectRef<c10::OptionalType>().getElementType();
    if (inner->kind() == TypeKind::TensorType) return Kind::kOptionalTensorList;
    return inner->kind() == TypeKind::NumberType ? Kind::kOptionalScalarList : Kind::kUnsupported;
  }
  switch (element_kind(element)) {
    case Kind::kTensor:
      return Kind::kTensorList;
    case Kind::kInt:
      return Kind::kIntList;
    case Kind::kFloat:
      return Kind::kFloatList;
    case Kind::kBool:
      return Kind::kBoolList;
    case Kind::kScalar:
      return Kind::kScalarList;
    default:
      return Kind::kUnsupported;
  }
}

[[noreturn]] void mismatch(const Napi::Value& value, const Parameter& parameter) {
  invalid("Expected " + parameter.type + " for '" + parameter.name + "', got " + type_of(value) + ".");
}

double to_double(const Napi::Value& value, const Parameter& parameter) {
  if (value.IsNumber()) return value.As<Napi::Number>().DoubleValue();
  if (value.IsBigInt()) return static_cast<double>(to_int64(value, parameter.name.c_str()));
  mismatch(value, parameter);
}

// Kernels that declare int[2] read two ints, and most do not count them.
void check_length(uint32_t length, const Parameter& parameter) {
  if (parameter.fixed_size < 2) return;
  const auto size = static_cast<uint32_t>(parameter.fixed_size);
  const IValue& value = parameter.default_value;
  const bool may_be_empty = parameter.has_default && value.isList() && value.toListRef().empty();
  if (length == size || length == 1 || (length == 0 && may_be_empty)) return;
  invalid("Expected " + std::to_string(size) + " numbers for '" + parameter.name + "' (" + parameter.type +
          "), got " + std::to_string(length) + ".");
}

template <typename T, typename Read>
IValue to_list(const Napi::Value& value, const Parameter& parameter, Read read) {
  std::vector<T> items;
  if (!value.IsArray()) {
    if (parameter.fixed_size <= 0) mismatch(value, parameter);
    items.assign(static_cast<size_t>(parameter.fixed_size), read(value));
    return IValue(std::move(items));
  }
  const Napi::Array array = value.As<Napi::Array>();
  const uint32_t length = array.Length();
  check_length(length, parameter);
  for (uint32_t i = 0; i < length; ++i) items.push_back(read(array.Get(i)));
  if (length == 1 && parameter.fixed_size > 1)
    items.resize(static_cast<size_t>(parameter.fixed_size), items[0]);
  return IValue(std::move(items));
}

IValue to_bool_list(const Napi::Value& value, const Parameter& parameter) {
  if (!value.IsArray()) mismatch(value, parameter);
  const Napi::Array array = value.As<Napi::Array>();
  const uint32_t length = array.Length();
  c10::List<bool> items;
  for (uint32_t i = 0; i < length; ++i) items.push_back(to_bool(array.Get(i), parameter.name.c_str()));
  return items;
}

IValue to_scalar_list(const Napi::Value& value, const Parameter& parameter) {
  if (!value.IsArray()) mismatch(value, parameter);
  const Napi::Array array = value.As<Napi::Array>();
  const uint32_t length = array.Length();
  c10::impl::GenericList list(c10::NumberType::get());
  for (uint32_t i = 0; i < length; ++i)
    list.push_back(IValue(to_scalar(array.Get(i), parameter.name.c_str())));
  return list;
}

IValue to_optional_scalar_list(const Napi::Value& value, const Parameter& parameter) {
  if (!value.IsArray()) mismatch(value, parameter);
  const Napi::Array array = value.As<Napi::Array>();
  const uint32_t length = array.Length();
  c10::List<std::optional<at::Scalar>> items;
  for (uint32_t i = 0; i < length; ++i) {
    const Napi::Value item = array.Get(i);
    if (item.IsNull()) {
      items.push_back(std::nullopt);
    } else {
      items.push_back(to_scalar(item, parameter.name.c_str()));
    }
  }
  return items;
}

IValue to_tensor_list(const Napi::Value& value, const Parameter& parameter) {
  if (!value.IsArray()) mismatch(value, parameter);
  return IValue(to_tensors(value, parameter.name.c_str()));
}

IValue to_optional_tensor_list(const Napi::Value& value, const Parameter& parameter) {
  if (!value.IsArray()) mismatch(value, parameter);
  c10::List<std::optional<at::Tensor>> items;
  for (at::Tensor& tensor : to_tensors(value, parameter.name.c_str(), true)) {
    if (tensor.defined()) {
      items.push_back(std::move(tensor));
    } else {
      items.push_back(std::nullopt);
    }
  }
  return items;
}

template <typename T>
int64_t named(const Napi::Value& value, const Parameter& parameter,
              std::optional<T> (*lookup)(const std::string&)) {
  if (!value.IsString()) mismatch(value, parameter);
  const auto found = lookup(value.As<Napi::String>().Utf8Value());
  if (!found) mismatch(value, parameter);
  return static_cast<int64_t>(*found);
}

// Kernels read from a storage that they are given; on the meta device there is nothing to read.
c10::Storage to_storage(const at::Tensor& tensor) {
  return tensor.is_meta() ? tensor.storage() : storage_with_bytes(tensor);
}

}  // namespace

c10::Scalar number_to_scalar(double number) {
  const bool integral = std::trunc(number) == number && std::fabs(number) <= 9007199254740991.0;
  if (integral && !(number == 0 && std::signbit(number))) return static_cast<int64_t>(number);
  return number;
}

c10::Scalar to_scalar(const Napi::Value& value, const char* name) {
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  if (value.IsBigInt()) return to_int64(value, name);
  if (value.IsNumber()) return number_to_scalar(value.As<Napi::Number>().DoubleValue());
  if (value.IsObject()) {
    const Napi::Object object = value.As<Napi::Object>();
    const Napi::Value re = object.Get("re");
    const Napi::Value im = object.Get("im");
    if (re.IsNumber() && im.IsNumber()) {
      return c10::complex<double>(re.As<Napi::Number>().DoubleValue(), im.As<Napi::Number>().DoubleValue());
    }
  }
  invalid(std::string("Expected Scalar for '") + name + "', got " + type_of(value) + ".");
}

std::string type_text(const c10::Argument& argument) {
  std::string text = argument.real_type()->str();
  // Types print lists as `int[]` and leave out the fixed size.
  if (argument.N() && *argument.N() > 0) {
    const size_t brackets = text.rfind("[]");
    if (brackets != std::string::npos) text.insert(brackets + 1, std::to_string(*argument.N()));
  }
  return text;
}

Parameter make_parameter(const c10::Argument& argument) {
  Parameter parameter;
  parameter.name = argument.name();
  parameter.type = type_text(argument);
  c10::TypePtr type = argument.real_type();
  parameter.optional = type->kind() == TypeKind::OptionalType;
  if (parameter.optional) type = type->expectRef<c10::OptionalType>().getElementType();
  parameter.kind = type->kind() == TypeKind::ListType
                       ? list_kind(*type->expectRef<c10::ListType>().getElementType())
                       : element_kind(*type);
  parameter.has_default = argument.default_value().has_value();
  if (parameter.has_default) parameter.default_value = *argument.default_value();
  if (argument.N()) parameter.fixed_size = *argument.N();
  return parameter;
}

IValue missing_ivalue(const Parameter& parameter) {
  if (parameter.has_default) return parameter.default_value;
  if (parameter.optional) return IValue();
  invalid("Missing value for '" + parameter.name + "' (" + parameter.type + ").");
}

IValue to_ivalue(const Napi::Value& value, const Parameter& parameter) {
  const napi_valuetype type = value.Type();
  if (type == napi_undefined) return missing_ivalue(parameter);
  if (type == napi_null && parameter.optional) return IValue();
  const char* name = parameter.name.c_str();
  switch (parameter.kind) {
    case Kind::kTensor:
      if (type != napi_number) mismatch(value, parameter);
      return IValue(to_tensor(value, name));
    case Kind::kTensorList:
      return to_tensor_list(value, parameter);
    case Kind::kOptionalTensorList:
      return to_optional_tensor_list(value, parameter);
    case Kind::kInt:
      return IValue(to_int64(value, name));
    case Kind::kIntList:
      return to_list<int64_t>(value, parameter,
                              [&](const Napi::Value& item) { return to_int64(item, name); });
    case Kind::kFloat:
      return IValue(to_double(value, parameter));
    case Kind::kFloatList:
      return to_list<double>(value, parameter,
                             [&](const Napi::Value& item) { return to_double(item, parameter); });
    case Kind::kBool:
      return IValue(to_bool(value, name));
    case Kind::kBoolList:
      return to_bool_list(value, parameter);
    case Kind::kScalar:
      return IValue(to_scalar(value, name));
    case Kind::kScalarList:
      return to_scalar_list(value, parameter);
    case Kind::kOptionalScalarList:
      return to_optional_scalar_list(value, parameter);
    case Kind::kString:
      return IValue(to_string(value, name));
    case Kind::kScalarType:
      return IValue(static_cast<int64_t>(to_scalar_type(value, name)));
    case Kind::kLayout:
      return IValue(named(value, parameter, layout_from_name));
    case Kind::kMemoryFormat:
      return IValue(named(value, parameter, memory_format_from_name));
    case Kind::kDevice:
      return IValue(to_device(value, name));
    case Kind::kGenerator:
      return IValue(to_generator(value, name));
    case Kind::kStorage:
      return IValue(to_storage(to_tensor(value, name)));
    case Kind::kUnsupported:
      break;
  }
  throw Error("ERR_TORCHBIND_UNSUPPORTED", "Argument '" + parameter.name + "' has type " + parameter.type +
                                               ", which JavaScript cannot make.");
}

Napi::Value from_ivalue(Napi::Env env, const IValue& value) {
  if (value.isNone()) return env.Null();
  if (value.isTensor()) return from_tensor(env, value.toTensor());
  if (value.isBool()) return Napi::Boolean::New(env, value.toBool());
  if (value.isInt()) return from_int64(env, value.toInt());
  if (value.isSymInt()) return from_int64(env, value.toSymInt().guard_int(__FILE__, __LINE__));
  if (value.isSymBool()) return Napi::Boolean::New(env, value.toSymBool().guard_bool(__FILE__, __LINE__));
  if (value.isDouble()) return Napi::Number::New(env, value.toDouble());
  if (value.isComplexDouble()) {
    const c10::complex<double> number = value.toComplexDouble();
    Napi::Object object = Napi::Object::New(env);
    object.Set("re", number.real());
    object.Set("im", number.imag());
    return object;
  }
  if (value.isString()) return Napi::String::New(env, value.toStringRef());
  if (value.isDevice()) return Napi::String::New(env, value.toDevice().str());
  if (value.isList() || value.isTuple()) {
    Napi::Array array = Napi::Array::New(env);
    uint32_t index = 0;
    if (value.isTuple()) {
      for (const IValue& item : value.toTupleRef().elements()) array.Set(index++, from_ivalue(env, item));
    } else {
      for (const IValue& item : value.toListRef()) array.Set(index++, from_ivalue(env, item));
    }
    return array;
  }
  throw Error("ERR_TORCHBIND_UNSUPPORTED",
              "The operator returned a " + value.tagKind() + ", which has no JavaScript form.");
}

}  // namespace torchbind
