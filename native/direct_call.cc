#include "direct_call.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/SymIntArrayRef.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "convert.h"
#include "errors.h"

namespace torchbind {
namespace {

using at::Scalar;
using at::Tensor;
using c10::OperatorHandle;
using Run = std::function<Tensor(const DirectArguments&)>;

// Each of these throws where the operator was registered with another C++ signature.
Run of_tensor(const OperatorHandle& handle) {
  return
      [op = handle.typed<Tensor(const Tensor&)>()](const DirectArguments& in) { return op.call(*in.first); };
}

Run of_tensor_and_dtype(const OperatorHandle& handle) {
  return [op = handle.typed<Tensor(const Tensor&, std::optional<at::ScalarType>)>()](
             const DirectArguments& in) { return op.call(*in.first, std::nullopt); };
}

Run of_two_tensors(const OperatorHandle& handle) {
  return [op = handle.typed<Tensor(const Tensor&, const Tensor&)>()](const DirectArguments& in) {
    return op.call(*in.first, *in.second);
  };
}

Scalar last_default(const OperatorHandle& handle) {
  return handle.schema().arguments().back().default_value()->toScalar();
}

Run of_two_tensors_and_scalar(const OperatorHandle& handle) {
  return [op = handle.typed<Tensor(const Tensor&, const Tensor&, const Scalar&)>(),
          last = last_default(handle)](const DirectArguments& in) {
    return op.call(*in.first, *in.second, last);
  };
}

Run of_tensor_and_sizes(const OperatorHandle& handle) {
  return [op = handle.typed<Tensor(const Tensor&, c10::SymIntArrayRef)>()](const DirectArguments& in) {
    return op.call(*in.first, c10::fromIntArrayRefSlow(in.sizes));
  };
}

Run of_tensor_and_dimensions(const OperatorHandle& handle) {
  return [op = handle.typed<Tensor(const Tensor&, at::IntArrayRef)>()](const DirectArguments& in) {
    return op.call(*in.first, in.sizes);
  };
}

Run of_tensor_and_scalar(const OperatorHandle& handle) {
  return [op = handle.typed<Tensor(const Tensor&, const Scalar&)>()](const DirectArguments& in) {
    return op.call(*in.first, number_to_scalar(in.number));
  };
}

Run of_tensor_and_two_scalars(const OperatorHandle& handle) {
  return [op = handle.typed<Tensor(const Tensor&, const Scalar&, const Scalar&)>(),
          last = last_default(handle)](const DirectArguments& in) {
    return op.call(*in.first, number_to_scalar(in.number), last);
  };
}

struct Signature {
  const char* arguments;  // the types, and `=` where the last one has a default that is left to it
  DirectForm form;
  Run (*make)(const OperatorHandle&);
};

constexpr std::array<Signature, 8> kSignatures{{
    {"Tensor", DirectForm::kTensor, of_tensor},
    {"Tensor, ScalarType?=", DirectForm::kTensor, of_tensor_and_dtype},
    {"Tensor, Tensor", DirectForm::kTwoTensors, of_two_tensors},
    {"Tensor, Tensor, Scalar=", DirectForm::kTwoTensors, of_two_tensors_and_scalar},
    {"Tensor, SymInt[]", DirectForm::kTensorAndSizes, of_tensor_and_sizes},
    {"Tensor, int[]", DirectForm::kTensorAndSizes, of_tensor_and_dimensions},
    {"Tensor, Scalar", DirectForm::kTensorAndNumber, of_tensor_and_scalar},
    {"Tensor, Scalar, Scalar=", DirectForm::kTensorAndNumber, of_tensor_and_two_scalars},
}};

std::string types_of(const std::vector<c10::Argument>& arguments) {
  std::string text;
  for (const c10::Argument& argument : arguments) {
    if (!text.empty()) text += ", ";
    text += type_text(argument);
    if (argument.default_value()) text += "=";
  }
  return text;
}

bool any_alias(const std::vector<c10::Argument>& arguments, bool writes_only) {
  for (const c10::Argument& argument : arguments) {
    const c10::AliasInfo* alias = argument.alias_info();
    if (alias != nullptr && (alias->isWrite() || !writes_only)) return true;
  }
  return false;
}

// An operator with a derivative has its own autograd kernel, which records the call and then calls the
// operator below autograd. An operator without one is composed of others, whose views autograd must see.
bool only_records(const OperatorHandle& handle) {
  return handle.hasKernelForDispatchKey(c10::DispatchKey::Autograd) &&
         !any_alias(handle.schema().arguments(), false) && !any_alias(handle.schema().returns(), false);
}

// A tensor that requires no gradient, has no forward derivative and is not a view.
bool unknown_to_autograd(const Tensor* tensor) {
  return tensor == nullptr || tensor->unsafeGetTensorImpl()->autograd_meta() == nullptr;
}

const Tensor* tensor_in(const Addon& addon, double slot, const Operator& op, size_t parameter) {
  return &addon.store->table.get(handle_from_double(slot), op.parameters[parameter].name.c_str());
}

// call(): see kSlots. The tensors stay where they are in the table: nothing that runs JavaScript, which alone
// adds to it, runs inside an operator.
Napi::Value call_direct(const Napi::CallbackInfo& info) {
  Addon& addon = Addon::of(info.Env());
  double* slots = addon.slots;
  if (slots == nullptr) invalid("setup() was not called.");
  const Operator& op = operator_at(addon, slots[0]);
  const DirectForm form = op.direct.form;
  if (form == DirectForm::kNone) invalid("This operator is called with call().");

  DirectArguments in;
  std::array<int64_t, kMostSizes> sizes;
  in.first = tensor_in(addon, slots[1], op, 0);
  if (form == DirectForm::kTwoTensors) in.second = tensor_in(addon, slots[2], op, 1);
  if (form == DirectForm::kTensorAndNumber) in.number = slots[2];
  if (form == DirectForm::kTensorAndSizes) {
    if (!(slots[2] >= 0 && slots[2] <= kMostSizes)) invalid("Too many sizes.");
    const size_t count = static_cast<size_t>(slots[2]);
    for (size_t i = 0; i < count; ++i) sizes[i] = exact_int64(slots[3 + i], op.parameters[1].name.c_str());
    in.sizes = {sizes.data(), count};
  }

  std::optional<at::AutoDispatchBelowADInplaceOrView> below_autograd;
  if (op.direct.only_records && unknown_to_autograd(in.first) && unknown_to_autograd(in.second))
    below_autograd.emplace();
  slots[0] = static_cast<double>(addon.add(op.direct.run(in)));
  return {};
}

}  // namespace

DirectCall make_direct_call(const OperatorHandle& handle) {
  const c10::FunctionSchema& schema = handle.schema();
  const bool gives_tensor = schema.returns().size() == 1 && type_text(schema.returns()[0]) == "Tensor";
  // Other libraries may register kernels without a C++ signature, or replace aten's.
  if (!gives_tensor || any_alias(schema.arguments(), true) || schema.name().rfind("aten::", 0) != 0)
    return {};
  const std::string types = types_of(schema.arguments());
  for (const Signature& signature : kSignatures) {
    if (types != signature.arguments) continue;
    try {
      return {signature.form, signature.make(handle), only_records(handle)};
    } catch (const c10::Error&) {
      return {};
    }
  }
  return {};
}

void init_direct_call(Napi::Env, Napi::Object& exports) { expose<call_direct>(exports, "callDirect"); }

}  // namespace torchbind
