#include "checked_kernels.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_ctc_loss_backward_cpu_dispatch.h>
#include <ATen/ops/_ctc_loss_cpu_dispatch.h>
#include <ATen/ops/_weight_int8pack_mm_cpu_dispatch.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/embedding_dense_backward_cpu_dispatch.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <string>
#include <tuple>

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

// Only elements of a target count: rows may be padded with anything. The kernel checks lengths.
void check_labels(const at::Tensor& scores, const at::Tensor& targets, at::IntArrayRef lengths) {
  if (scores.dim() == 0 || targets.dim() == 0 || targets.dim() > 2) return;
  const int64_t labels = scores.size(-1);
  const at::Tensor flat = targets.to(at::kLong).contiguous();
  const int64_t* const values = flat.const_data_ptr<int64_t>();
  const bool in_rows = targets.dim() == 2;
  const int64_t width = targets.size(-1);
  int64_t begin = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (in_rows) begin = static_cast<int64_t>(i) * width;
    const int64_t end = begin + std::max<int64_t>(0, std::min(lengths[i], width));
    for (int64_t at = begin; at < std::min(end, flat.numel()); ++at) {
      if (values[at] >= 0 && values[at] < labels) continue;
      invalid("Expected targets from 0 to " + std::to_string(labels - 1) + ", got " +
              std::to_string(values[at]) +
              ". The last dimension of the log-probabilities counts the labels.");
    }
    begin = end;
  }
}

std::tuple<at::Tensor, at::Tensor> ctc_loss(const at::Tensor& scores, const at::Tensor& targets,
                                            at::IntArrayRef score_lengths, at::IntArrayRef lengths,
                                            int64_t blank, bool zero_infinity) {
  check_labels(scores, targets, lengths);
  return at::cpu::_ctc_loss(scores, targets, score_lengths, lengths, blank, zero_infinity);
}

at::Tensor ctc_loss_backward(const at::Tensor& gradient, const at::Tensor& scores, const at::Tensor& targets,
                             at::IntArrayRef score_lengths, at::IntArrayRef lengths, const at::Tensor& loss,
                             const at::Tensor& alpha, int64_t blank, bool zero_infinity) {
  check_labels(scores, targets, lengths);
  return at::cpu::_ctc_loss_backward(gradient, scores, targets, score_lengths, lengths, loss, alpha, blank,
                                     zero_infinity);
}

// The tensor (rows, columns) with rows at multiples of 16 elements, in memory that begins at a multiple of 64
// bytes: a copy, padded with zeros, where it is not so.
at::Tensor aligned(const at::Tensor& matrix) {
  constexpr int64_t kColumns = 16;
  constexpr uintptr_t kBytes = 64;
  const int64_t rest = matrix.size(1) % kColumns;
  if (rest != 0) return at::constant_pad_nd(matrix, {0, kColumns - rest});
  return reinterpret_cast<uintptr_t>(matrix.const_data_ptr()) % kBytes == 0 ? matrix : matrix.clone();
}

// With AVX-512 the kernel crashes where a row does not begin at a multiple of its registers.
at::Tensor weight_int8pack_mm(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& scales) {
  const bool fits = input.dim() == 2 && weight.dim() == 2 && input.size(1) == weight.size(1);
  if (!fits) return at::cpu::_weight_int8pack_mm(input, weight, scales);  // throws
  return at::cpu::_weight_int8pack_mm(aligned(input), aligned(weight), scales);
}

// libtorch warns of kernels that are replaced.
class Quiet final : public c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

}  // namespace

void use_checked_kernels() {
  static std::once_flag once;
  std::call_once(once, [] {
    Quiet quiet;
    const c10::WarningUtils::WarningHandlerGuard guard(&quiet);
    // Never destroyed: that would take the kernels away.
    auto* library =
        new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
    library->impl("embedding_dense_backward", embedding_dense_backward);
    library->impl("_ctc_loss", ctc_loss);
    library->impl("_ctc_loss_backward", ctc_loss_backward);
    library->impl("_weight_int8pack_mm", weight_int8pack_mm);
  });
}

}  // namespace torchbind
