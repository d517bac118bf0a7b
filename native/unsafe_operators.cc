#include "unsafe_operators.h"

#include <ATen/core/Tensor.h>

#include <cmath>
#include <initializer_list>
#include <unordered_map>
#include <vector>

#include "errors.h"
#include "fixed_storage.h"
#include "geometry.h"

namespace torchbind {
namespace {

struct Group {
  const char* why;
  std::vector<const char*> names;  // with an overload, or without for all of them
};

// Each was found by the fuzzer (test/fuzz) to end the process; none has a place in PyTorch's documented
// interface.
const std::vector<Group>& groups() {
  static const std::vector<Group> table = {
      {"is a step inside another operator, which has checked the arguments",
       {"aten::_batch_norm_impl_index_backward",
        "aten::_batch_norm_no_update",
        "aten::_cdist_backward",
        "aten::_cholesky_solve_helper",
        "aten::_compute_linear_combination",
        "aten::_cummax_helper",
        "aten::_cummin_helper",
        "aten::_linalg_eigvals",
        "aten::_nested_compute_contiguous_strides_offsets",
        "aten::_nested_from_padded",
        "aten::_new_zeros_with_same_feature_meta",
        "aten::_pdist_backward",
        "aten::_pdist_forward",
        "aten::_remove_batch_dim",
        "aten::_slow_conv2d_backward",
        "aten::_sobol_engine_draw",
        "aten::_sobol_engine_ff_",
        "aten::_sobol_engine_initialize_state_",
        "aten::_stack",
        "aten::_transform_bias_rescale_qkv",
        "aten::_weight_norm_interface",
        "aten::_weight_norm_interface_backward",
        "aten::batch_norm_backward",
        "aten::batch_norm_update_stats",
        "aten::native_batch_norm_backward",
        "c10d::check_for_nan"}},
      {"is a step inside the Fourier transforms, which have checked the dimensions",
       {"aten::_fft_c2c", "aten::_fft_c2r", "aten::_fft_r2c"}},
      {"reads row numbers as they come and writes where they point",
       {"aten::_convert_indices_from_coo_to_csr", "aten::_convert_indices_from_csr_to_coo",
        "aten::embedding_backward", "aten::embedding_dense_backward"}},
      {"reads memory through any strides, without looking at the storage's size",
       {"aten::_reshape_alias_copy"}},
      {"takes gradients that may be missing, and reads them all the same",
       {"aten::_thnn_differentiable_gru_cell_backward", "aten::_thnn_differentiable_lstm_cell_backward"}},
      {"gives a native object as the bytes of a tensor, which must not change",
       {"profiler::_record_function_enter"}},
      {"copies lists of tensors without comparing their lengths", {"aten::_foreach_copy"}},
      {"calls a mobile library with whatever sizes come", {"aten::_nnpack_spatial_convolution"}},
      {"packs weights for kernels of quantized models, and trusts their shape and dtype",
       {"aten::fbgemm_pack_gemm_matrix_fp16",
        "aten::fbgemm_linear_quantize_weight",
        "aten::fbgemm_pack_quantized_matrix",
        "aten::quantized_lstm_cell",
        "aten::_dyn_quant_matmul_4bit",
        "aten::_dyn_quant_pack_4bit_weight",
        "aten::_saturate_weight_to_fp16",
        "_quantized::wrapped_fbgemm_linear_fp16_weight",
        "_quantized::wrapped_fbgemm_pack_gemm_matrix_fp16",
        "quantized::make_quantized_cell_params",
        "quantized::make_quantized_cell_params_dynamic",
        "quantized::make_quantized_cell_params_fp16",
        "quantized::conv1d_prepack",
        "quantized::conv2d_prepack",
        "quantized::conv3d_prepack",
        "quantized::conv_prepack",
        "quantized::conv_transpose1d_prepack",
        "quantized::conv_transpose2d_prepack",
        "quantized::conv_transpose3d_prepack",
        "_quantized::linear_prepack_fp16",
        "_quantized::linear_prepack_fp16_legacy",
        "onednn::linear_prepack_fp16",
        "quantized::embedding_bag_2bit_prepack",
        "quantized::embedding_bag_4bit_prepack",
        "quantized::embedding_bag_byte_prepack",
        "quantized::linear_prepack_fp16",
        "quantized::linear_prepack_fp16_legacy"}},
      {"hands its tensors to oneDNN, and trusts their shapes and dtypes",
       {"aten::mkldnn_rnn_layer", "aten::mkldnn_rnn_layer_backward", "mkl::_mkl_reorder_linear_weight",
        "mkldnn::_convolution_pointwise", "mkldnn::_convolution_pointwise_",
        "mkldnn::_convolution_transpose_pointwise", "mkldnn::_reorder_convolution_weight",
        "mkldnn::_reorder_convolution_transpose_weight", "mkldnn::_reorder_linear_weight",
        "mkldnn::_reorder_mkldnn_rnn_layer_weight", "onednn::qconv1d_pointwise", "onednn::qconv2d_pointwise",
        "onednn::qconv3d_pointwise", "onednn::qconv_pointwise", "onednn::qlinear_pointwise"}},
  };
  return table;
}

std::unordered_map<std::string, const char*> unsafe_table() {
  std::unordered_map<std::string, const char*> table;
  for (const Group& group : groups()) {
    for (const char* name : group.names) table.emplace(name, group.why);
  }
  return table;
}

using Stack = torch::jit::Stack;

const at::Tensor& tensor_at(const Stack& arguments, size_t index) { return arguments.at(index).toTensor(); }

void not_quantized(const Stack& arguments) {
  if (tensor_at(arguments, 0).is_quantized())
    invalid("This operator takes no quantized tensor: dequantize() it.");
}

void with_elements(const Stack& arguments) {
  for (size_t i : {0, 1}) {
    if (tensor_at(arguments, i).numel() == 0) invalid("This operator takes no tensor without elements.");
  }
}

void some_tensors(const Stack& arguments) {
  if (arguments.at(0).toListRef().empty()) invalid("Expected a list of one or more tensors.");
}

void with_dimensions(const Stack& arguments) {
  const c10::List<at::Tensor> tensors = arguments.at(0).toTensorList();
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors.get(i).dim() == 0) invalid("This operator takes no tensor without dimensions.");
  }
}

void same_shape(const Stack& arguments) {
  if (tensor_at(arguments, 0).sizes() != tensor_at(arguments, 1).sizes())
    invalid("The first two tensors must have one shape.");
}

// The kernel writes to its argument as if it had allocated it.
void out_like_input(const Stack& arguments) {
  const at::Tensor& input = tensor_at(arguments, 0);
  const at::Tensor& out = tensor_at(arguments, 2);
  if (out.scalar_type() != input.scalar_type() || out.sizes() != input.sizes())
    invalid("'out' must have the input's shape and dtype.");
}

// It reads one number a channel from what there is of weight, bias, mean and variance, whatever their sizes.
void one_a_channel(const Stack& arguments, std::initializer_list<size_t> places) {
  const at::Tensor& input = tensor_at(arguments, 0);
  if (input.dim() < 2) invalid("The input needs a dimension of channels after the first.");
  for (const size_t i : places) {
    const c10::IValue& value = arguments.at(i);
    if (value.isNone() || !value.toTensor().defined()) continue;
    if (value.toTensor().dim() != 1 || value.toTensor().numel() != input.size(1))
      invalid("Weight, bias and running statistics must have one element a channel.");
  }
}

// Without running statistics there is nothing to normalize by but the batch's own.
void in_training(const Stack& arguments) {
  if (!arguments.at(3).toBool()) invalid("Without running statistics, 'training' must be true.");
  one_a_channel(arguments, {1, 2});
}

void numbers_of_channels(const Stack& arguments) {
  const bool training = arguments.at(5).isBool() && arguments.at(5).toBool();
  for (const size_t i : {3, 4}) {
    const c10::IValue& value = arguments.at(i);
    if (!training && (value.isNone() || !value.toTensor().defined()))
      invalid("Without running statistics, 'training' must be true.");
  }
  one_a_channel(arguments, {1, 2, 3, 4});
}

// With grouped queries, the heads of the queries are divided among those of the keys and values.
template <size_t kGrouped>
void some_heads(const Stack& arguments) {
  if (!arguments.at(kGrouped).toBool()) return;
  for (size_t i : {1, 2}) {
    const at::Tensor& tensor = tensor_at(arguments, i);
    if (tensor.dim() >= 3 && tensor.size(-3) == 0) invalid("With enable_gqa, keys and values need heads.");
  }
}

// The fused optimizers read plain memory of the parameter's length in every list that has tensors.
template <size_t kLists>
void like_parameters(const Stack& arguments) {
  const c10::List<at::Tensor> parameters = arguments.at(0).toTensorList();
  for (size_t list = 0; list < kLists; ++list) {
    const c10::List<at::Tensor> tensors = arguments.at(list).toTensorList();
    if (tensors.size() != parameters.size() && !tensors.empty())
      invalid("The lists of a fused optimizer must be of one length.");
    for (size_t i = 0; i < tensors.size(); ++i) {
      const at::Tensor tensor = tensors.get(i);
      if (tensor.sizes() != parameters.get(i).sizes() || !tensor.is_non_overlapping_and_dense())
        invalid("The tensors of a fused optimizer must have their parameter's shape, and no gaps.");
    }
  }
  for (const c10::IValue& argument : arguments) {
    if (argument.isTensor() && argument.toTensor().numel() != 1)
      invalid("grad_scale, found_inf and lr are tensors of one element.");
  }
}

// The derivatives of these read one element of every list for each tensor of the first.
void lists_of_one_length(const Stack& arguments) {
  const size_t length = arguments.at(0).toListRef().size();
  for (const c10::IValue& argument : arguments) {
    if (argument.isList() && argument.toListRef().size() != length)
      invalid("Expected lists of one length, got " + std::to_string(length) + " and " +
              std::to_string(argument.toListRef().size()) + " elements.");
  }
}

// The kernel searches in steps of one bin width until the steps cover the ratio.
void some_bins(const Stack& arguments) {
  const int64_t bins = arguments.at(2).toInt();
  const double ratio = arguments.at(3).toDouble();
  if (bins < 1 || bins > 100'000) invalid("The number of bins must be between 1 and 100,000.");
  if (!(ratio >= 0 && ratio <= 1)) invalid("The ratio must be between 0 and 1.");
}

// It reads a layer of both states for every layer that the first one has.
template <size_t kStates>
void states_of_one_depth(const Stack& arguments) {
  const c10::List<at::Tensor> states = arguments.at(kStates).toTensorList();
  if (states.size() != 2) return;  // which libtorch refuses
  const at::Tensor hidden = states.get(0);
  const at::Tensor cell = states.get(1);
  if (hidden.dim() == 0 || cell.dim() == 0 || hidden.size(0) != cell.size(0))
    invalid("The hidden state and the cell state must have as many layers.");
}

// libtorch multiplies and adds these up without looking whether the result still fits 64 bits.
template <size_t kSizes, size_t kStrides, size_t kOffset>
void small_enough(const Stack& arguments) {
  const c10::DimVector sizes = arguments.at(kSizes).toDimVector();
  const c10::DimVector strides = arguments.at(kStrides).toDimVector();
  const int64_t offset = arguments.at(kOffset).isInt() ? arguments.at(kOffset).toInt() : 0;
  // Without strides the tensor is contiguous, and libtorch counts with care.
  if (strides.empty() || elements_needed(sizes, strides, offset)) return;
  invalid(
      "Expected sizes and strides of one length, and with the storage offset all 0 or more and small enough "
      "to add up to fewer than 2^63 elements.");
}

// Memory that is copied on write moves when it is written to.
void not_fixed(const Stack& arguments) {
  const at::Tensor& tensor = tensor_at(arguments, 0);
  if (tensor.has_storage() && is_fixed(tensor.storage()))
    invalid(
        "The tensor's memory cannot be copied on write: it is that of a file, or an array, another thread or "
        "another tensor uses it by its address. Take a clone().");
}

// oneDNN reads as many elements as the shapes say, of the dtype of the first tensor.
void product_with_rows(const Stack& arguments) {
  const at::Tensor& input = tensor_at(arguments, 0);
  const at::Tensor& weight = tensor_at(arguments, 1);
  const auto is_plain = [&](const at::Tensor& tensor) {
    return tensor.layout() == at::kStrided && tensor.is_cpu() && tensor.scalar_type() == input.scalar_type();
  };
  if (!at::isFloatingType(input.scalar_type()) || !is_plain(input) || !is_plain(weight))
    invalid("The input and the weight must be dense CPU tensors of one floating-point dtype.");
  if (input.dim() < 2 || weight.dim() != 2 || input.size(-1) != weight.size(1) || weight.numel() == 0 ||
      input.numel() == 0)
    invalid("Expected an input of shape (..., in) and a weight of shape (out, in), none of them empty.");
  if (!arguments.at(2).isTensor() || !arguments.at(2).toTensor().defined()) return;
  const at::Tensor& bias = tensor_at(arguments, 2);
  if (!is_plain(bias) || bias.dim() != 1 || bias.size(0) != weight.size(0))
    invalid("The bias must have the weight's dtype and one element for each of its rows.");
}

template <size_t kGroups>
void some_groups(const Stack& arguments) {
  if (arguments.at(kGroups).toInt() < 1) invalid("The number of groups must be at least 1.");
}

void index_per_dimension(const Stack& arguments) {
  if (static_cast<int64_t>(arguments.at(2).toList().size()) > tensor_at(arguments, 0).dim())
    invalid("There are more indices than dimensions.");
}

// The gradient differs in size only in the last dimensions.
template <int64_t kPooled>
void pooled_like(const Stack& arguments) {
  const at::Tensor& gradient = tensor_at(arguments, 0);
  const at::Tensor& input = tensor_at(arguments, 1);
  const int64_t kept = input.dim() - kPooled;
  if (kept < 0 || gradient.dim() != input.dim() ||
      gradient.sizes().slice(0, kept) != input.sizes().slice(0, kept))
    invalid("The gradient must have the input's shape but for the pooled dimensions.");
}

// For integers it divides by beta as an integer.
template <size_t kTensors>
void beta_of_one(const Stack& arguments) {
  for (size_t i = 0; i < kTensors; ++i) {
    if (tensor_at(arguments, i).is_floating_point()) return;
  }
  if (!(std::fabs(arguments.at(kTensors + 1).toDouble()) >= 1))
    invalid("For tensors of integers, beta must be 1 or more.");
}

const std::unordered_map<std::string, ArgumentCheck>& argument_checks() {
  static const std::unordered_map<std::string, ArgumentCheck> table = {
      {"aten::_adaptive_avg_pool2d_backward", pooled_like<2>},
      {"aten::_adaptive_avg_pool3d_backward", pooled_like<3>},
      {"aten::_batch_norm_with_update", numbers_of_channels},
      {"aten::_batch_norm_with_update_functional", numbers_of_channels},
      {"aten::_chunk_cat", with_dimensions},
      {"aten::_fused_adagrad", like_parameters<3>},
      {"aten::_fused_adagrad_", like_parameters<3>},
      {"aten::_fused_adam", like_parameters<5>},
      {"aten::_fused_adam_", like_parameters<5>},
      {"aten::_fused_adamw", like_parameters<5>},
      {"aten::_fused_adamw_", like_parameters<5>},
      {"aten::_fused_sgd", like_parameters<3>},
      {"aten::_fused_sgd_", like_parameters<3>},
      {"aten::_lazy_clone", not_fixed},
      {"aten::_log_softmax_backward_data", same_shape},
      {"aten::_logcumsumexp.out", out_like_input},
      {"aten::_native_batch_norm_legit", numbers_of_channels},
      {"aten::_native_batch_norm_legit.no_stats", in_training},
      {"aten::_native_batch_norm_legit.no_stats_out", in_training},
      {"aten::_native_batch_norm_legit_functional", numbers_of_channels},
      {"aten::_native_batch_norm_legit_no_training", numbers_of_channels},
      {"aten::_neg_view", not_quantized},
      {"aten::_neg_view_copy", not_quantized},
      {"aten::_scaled_dot_product_attention_math", some_heads<8>},
      {"aten::_softmax_backward_data", same_shape},
      {"aten::_unsafe_masked_index", index_per_dimension},
      {"aten::_unsafe_masked_index_put_accumulate", index_per_dimension},
      {"aten::adaptive_avg_pool3d_backward", pooled_like<3>},
      {"aten::_weight_norm", with_elements},
      {"aten::as_strided", small_enough<1, 2, 3>},
      {"aten::as_strided_", small_enough<1, 2, 3>},
      {"aten::as_strided_copy", small_enough<1, 2, 3>},
      {"aten::as_strided_scatter", small_enough<2, 3, 4>},
      {"aten::cat.out", some_tensors},
      {"aten::choose_qparams_optimized", some_bins},
      {"aten::concat.out", some_tensors},
      {"aten::concatenate.out", some_tensors},
      {"aten::lstm.data", states_of_one_depth<2>},
      {"aten::lstm.input", states_of_one_depth<1>},
      {"aten::native_batch_norm", numbers_of_channels},
      {"aten::native_batch_norm.out", numbers_of_channels},
      {"aten::native_group_norm", some_groups<6>},
      {"aten::native_group_norm_backward", some_groups<8>},
      {"aten::quantized_lstm.data", states_of_one_depth<2>},
      {"aten::quantized_lstm.data_legacy", states_of_one_depth<2>},
      {"aten::quantized_lstm.input", states_of_one_depth<1>},
      {"aten::quantized_lstm.input_legacy", states_of_one_depth<1>},
      {"aten::scaled_dot_product_attention", some_heads<7>},
      {"aten::set_.source_Storage_storage_offset", small_enough<3, 4, 2>},
      {"aten::set_.source_Tensor_storage_offset", small_enough<3, 4, 2>},
      {"aten::smooth_l1_loss", beta_of_one<2>},
      {"aten::smooth_l1_loss_backward", beta_of_one<3>},
      {"mkldnn::_linear_pointwise", product_with_rows},
      {"aten::view.dtype", not_quantized},
      {"aten::view_copy.dtype", not_quantized},
      {"aten::view_copy.dtype_out", not_quantized},
  };
  return table;
}

template <typename Table>
auto find(const Table& table, const std::string& name, const std::string& overload) ->
    typename Table::mapped_type {
  auto found = table.find(name + "." + overload);
  if (found == table.end()) found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace

const char* why_unsafe(const std::string& name, const std::string& overload) {
  static const std::unordered_map<std::string, const char*> table = unsafe_table();
  return find(table, name, overload);
}

ArgumentCheck argument_check(const std::string& name, const std::string& overload) {
  const ArgumentCheck check = find(argument_checks(), name, overload);
  return check == nullptr && name.rfind("aten::_foreach_", 0) == 0 ? lists_of_one_length : check;
}

}  // namespace torchbind
