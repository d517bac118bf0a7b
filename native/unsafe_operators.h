// Operators whose kernels trust their arguments. PyTorch calls them after checks of its own; called with
// other arguments they read or write memory that is not theirs, and the process ends.
#pragma once

#include <ATen/core/stack.h>

#include <string>

namespace torchbind {

// Why an operator (`aten::_stack.out`, or `aten::_stack` for all its overloads) is refused; null for most.
const char* why_unsafe(const std::string& name, const std::string& overload);

// Checks that a kernel omits: throws if the arguments, in schema order, would crash it. Null for most
// kernels.
using ArgumentCheck = void (*)(const torch::jit::Stack& arguments);
ArgumentCheck argument_check(const std::string& name, const std::string& overload);

}  // namespace torchbind
