#include "dispatch.h"

#include <dlfcn.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>

#include "addon.h"
#include "arguments.h"
#include "errors.h"
#include "geometry.h"

namespace torchbind {
namespace {

std::string full_name(const std::string& name, const std::string& overload) {
  return overload.empty() ? name : name + "." + overload;
}

int find_alias(const c10::Argument& result, const c10::FunctionSchema& schema) {
  if (result.alias_info() == nullptr || !result.alias_info()->isWrite()) return -1;
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::AliasInfo* alias = schema.arguments()[i].alias_info();
    if (alias != nullptr && alias->isWrite() && alias->beforeSets() == result.alias_info()->beforeSets()) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

Operator make_operator(const c10::OperatorHandle& handle) {
  const c10::OperatorName& name = handle.operator_name();
  Operator op{handle,
              {},
              {},
              {},
              why_unsafe(name.name, name.overload_name),
              argument_check(name.name, name.overload_name),
              {}};
  for (const c10::Argument& argument : handle.schema().arguments()) {
    if (argument.alias_info() != nullptr && argument.alias_info()->isWrite())
      op.written.push_back(op.parameters.size());
    op.parameters.push_back(make_parameter(argument));
  }
  for (const c10::Argument& result : handle.schema().returns()) {
    op.aliases.push_back(find_alias(result, handle.schema()));
  }
  if (op.unsafe == nullptr && op.check == nullptr) op.direct = make_direct_call(handle);
  return op;
}

const Operator& operator_of(const Addon& addon, const Napi::CallbackInfo& info) {
  return operator_at(addon, static_cast<double>(to_int64(info[0], "operator")));
}

Napi::Value find_operator(const Napi::CallbackInfo& info) {
  const std::string name = to_string(info[0], "name");
  const std::string overload = to_string(info[1], "overload");
  const auto found = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!found) throw Error(kUnknownOperator, "libtorch has no operator " + full_name(name, overload) + ".");
  std::deque<Operator>& operators = Addon::of(info.Env()).operators;
  operators.push_back(make_operator(*found));
  return Napi::Number::New(info.Env(), static_cast<double>(operators.size() - 1));
}

std::vector<c10::OperatorName> all_operators() {
  std::vector<c10::OperatorName> names;
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (c10::Dispatcher::singleton().findSchema(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end(), [](const c10::OperatorName& a, const c10::OperatorName& b) {
    return std::tie(a.name, a.overload_name) < std::tie(b.name, b.overload_name);
  });
  return names;
}

Napi::Value operator_names(const Napi::CallbackInfo& info) {
  Napi::Array array = Napi::Array::New(info.Env());
  uint32_t index = 0;
  for (const c10::OperatorName& name : all_operators()) {
    array.Set(index++, full_name(name.name, name.overload_name));
  }
  return array;
}

Napi::Value schema(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const Operator& op = operator_of(Addon::of(env), info);
  const c10::FunctionSchema& source = op.handle.schema();
  std::ostringstream declaration;
  declaration << source;

  Napi::Array arguments = Napi::Array::New(env);
  for (const c10::Argument& argument : source.arguments()) {
    Napi::Object item = Napi::Object::New(env);
    item.Set("name", argument.name());
    item.Set("type", type_text(argument));
    item.Set("kwargOnly", argument.kwarg_only());
    item.Set("hasDefault", argument.default_value().has_value());
    item.Set("isOut", argument.is_out());
    arguments.Set(arguments.Length(), item);
  }
  Napi::Array returns = Napi::Array::New(env);
  Napi::Array return_names = Napi::Array::New(env);
  for (const c10::Argument& result : source.returns()) {
    returns.Set(returns.Length(), type_text(result));
    return_names.Set(return_names.Length(), result.name());
  }
  Napi::Array aliases = Napi::Array::New(env);
  for (int alias : op.aliases) aliases.Set(aliases.Length(), static_cast<double>(alias));

  Napi::Object result = Napi::Object::New(env);
  result.Set("name", source.name());
  result.Set("overload", source.overload_name());
  result.Set("declaration", declaration.str());
  result.Set("arguments", arguments);
  result.Set("returns", returns);
  result.Set("returnNames", return_names);
  result.Set("aliases", aliases);
  result.Set("direct", static_cast<double>(op.direct.form));
  result.Set("unsafe",
             op.unsafe == nullptr ? env.Null() : Napi::String::New(env, op.unsafe).As<Napi::Value>());
  return result;
}

Napi::Value result_of(Napi::Env env, const Operator& op, size_t index, const c10::IValue& value) {
  if (op.aliases[index] >= 0) return env.Null();  // the caller has that tensor already
  return from_ivalue(env, value);
}

Napi::Value results_of(Napi::Env env, const Operator& op, const torch::jit::Stack& stack) {
  if (stack.empty()) return env.Undefined();
  if (stack.size() == 1) return result_of(env, op, 0, stack[0]);
  Napi::Array results = Napi::Array::New(env, stack.size());
  for (size_t i = 0; i < stack.size(); ++i)
    results.Set(static_cast<uint32_t>(i), result_of(env, op, i, stack[i]));
  return results;
}

void check_allowed(Napi::Env env, const Operator& op) {
  const std::string& name = op.handle.operator_name().name;
  if (Addon::of(env).allowed_unsafe.count(name) > 0) return;
  throw Error("ERR_TORCHBIND_UNSAFE_OPERATOR",
              name + " " + op.unsafe +
                  ": wrong ones end the process. If yours are right, allow it first: ops.allowUnsafe('" +
                  name + "').");
}

// allowUnsafe(name): from now on, in this environment, this operator may be called.
Napi::Value allow_unsafe(const Napi::CallbackInfo& info) {
  Addon::of(info.Env()).allowed_unsafe.insert(to_string(info[0], "name"));
  return info.Env().Undefined();
}

// The usual argument, with as few calls of Node-API as can be: each costs as much as the conversion itself.
bool push_tensor(const TensorTable& table, const Napi::Value& value, torch::jit::Stack& stack) {
  double number = 0;
  if (napi_get_value_double(value.Env(), value, &number) != napi_ok) return false;
  const at::Tensor* tensor = table.find(handle_from_double(number));
  if (tensor == nullptr) return false;
  stack.emplace_back(*tensor);
  return true;
}

void run(const JsThread& thread, const Operator& op, torch::jit::Stack& stack) {
  if (op.written.empty()) return op.handle.callBoxed(stack);
  WrittenTensors written(stack, op.written);
  try {
    op.handle.callBoxed(stack);
  } catch (...) {
    written.restore();
    throw;
  }
  written.check(thread);
}

Napi::Value call(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Addon& addon = Addon::of(env);
  const Operator& op = operator_of(addon, info);
  if (op.unsafe != nullptr) check_allowed(env, op);
  const size_t count = op.parameters.size();
  if (info.Length() > count + 1) {
    invalid("Too many arguments: " + std::to_string(info.Length() - 1) + " given, " + std::to_string(count) +
            " expected.");
  }
  torch::jit::Stack stack = std::move(addon.spare_stack);  // empty when this call is inside another's
  stack.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const Parameter& parameter = op.parameters[i];
    if (i + 1 >= info.Length()) {
      stack.push_back(missing_ivalue(parameter));
    } else if (parameter.kind != Kind::kTensor || !push_tensor(addon.store->table, info[i + 1], stack)) {
      stack.push_back(to_ivalue(info[i + 1], parameter));
    }
  }
  if (op.check != nullptr) op.check(stack);
  run(*addon.js, op, stack);
  const Napi::Value result = results_of(env, op, stack);
  stack.clear();
  addon.spare_stack = std::move(stack);
  return result;
}

Napi::Value load_library(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
  if (path.empty() || path.find('\0') != std::string::npos) invalid("Expected the path of a library.");
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    throw Error(kFile, "Cannot load the operator library " + path + ": " + dlerror());
  }
  return info.Env().Undefined();
}

}  // namespace

const Operator& operator_at(const Addon& addon, double id) {
  if (!(id >= 0 && id < static_cast<double>(addon.operators.size()))) {
    throw Error(kUnknownOperator, "No operator has id " + std::to_string(id) + "; use findOperator().");
  }
  return addon.operators[static_cast<size_t>(id)];
}

void init_dispatch(Napi::Env, Napi::Object& exports) {
  expose<find_operator>(exports, "findOperator");
  expose<operator_names>(exports, "operatorNames");
  expose<schema>(exports, "schema");
  expose<call>(exports, "call");
  expose<allow_unsafe>(exports, "allowUnsafe");
  expose<load_library>(exports, "loadLibrary");
}

}  // namespace torchbind
