// Every operator of libtorch, through one boxed call.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <vector>

#include "convert.h"
#include "direct_call.h"
#include "napi_setup.h"
#include "unsafe_operators.h"

namespace torchbind {

// An operator that was looked up, with all that a call needs.
struct Operator {
  c10::OperatorHandle handle;
  std::vector<Parameter> parameters;
  // For each return, the argument that it is (in-place and out= operators), or -1.
  std::vector<int> aliases;
  // The arguments that it writes to.
  std::vector<size_t> written;
  // Why it is refused unless allowed by name; null for most.
  const char* unsafe = nullptr;
  ArgumentCheck check = nullptr;
  DirectCall direct;
};

struct Addon;

// The operator of an id that findOperator() gave, or an error.
const Operator& operator_at(const Addon& addon, double id);

void init_dispatch(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
