// Calls operators with a few common signatures directly, without a stack of boxed values. JavaScript leaves
// the arguments in shared memory, because passing one through Node-API takes as long as looking up its
// tensor.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "napi_setup.h"

namespace torchbind {

// What JavaScript passes. The numbers are in lib/tensor/operator.ts, too.
enum class DirectForm : uint8_t { kNone, kTensor, kTwoTensors, kTensorAndSizes, kTensorAndNumber };

struct DirectArguments {
  const at::Tensor* first = nullptr;
  const at::Tensor* second = nullptr;
  c10::ArrayRef<int64_t> sizes;
  double number = 0;
};

struct DirectCall {
  DirectForm form = DirectForm::kNone;
  std::function<at::Tensor(const DirectArguments&)> run;
  // All that its autograd kernel does is to record: where no argument has to do with autograd, it is left
  // out.
  bool only_records = false;
};

// Of the form kNone where the operator has another signature.
DirectCall make_direct_call(const c10::OperatorHandle& handle);

// Shared with JavaScript: the operator, the first tensor, then the second one, or the number, or how many
// sizes there are and the sizes. The result comes back in the first place.
constexpr size_t kMostSizes = 8;
constexpr size_t kSlots = 3 + kMostSizes;

void init_direct_call(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
