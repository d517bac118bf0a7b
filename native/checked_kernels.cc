#include "checked_kernels.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/embedding_dense_backward_cpu_dispatch.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <mutex>
#include <string>

#include "errors.h"

namespace torchbind {
namespace {

void check_rows(const at::Tensor& rows, int64_t count) {
  if (rows.numel() == 0) return;
  const at::NoGradGuard no_grad;
  const auto [low, high] = at::aminmax(rows);
  if (low.item<int64_t>() >= 0 && high.item<int64_t>() < count) return;
  invalid("The indices were changed after the forward pass, and reach outside the " + std::to_string(count) +
          " rows. Leave them as they are until backward() has run, or index with a clone().");
}

at::Tensor embedding_dense_backward(const at::Tensor& gradient, const at::Tensor& indices, int64_t rows,
                                    int64_t padding_index, bool scale) {
  check_rows(indices, rows);
  return at::cpu::embedding_dense_backward(gradient, indices, rows, padding_index, scale);
}

// libtorch warns of kernels that are replaced.
class Quiet final : public c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

}  // namespace

void check_saved_rows() {
  static std::once_flag once;
  std::call_once(once, [] {
    Quiet quiet;
    const c10::WarningUtils::WarningHandlerGuard guard(&quiet);
    // Never destroyed: that would take the kernels away.
    auto* library =
        new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
    library->impl("embedding_dense_backward", embedding_dense_backward);
  });
}

}  // namespace torchbind
