#include "unsafe_operators.h"

#include <array>
#include <unordered_map>
#include <vector>

namespace torchbind {
namespace {

struct Group {
  const char* why;
  std::vector<const char*> names;  // with an overload, or without for all of them
};

// Each was found by the fuzzer (test/fuzz) to end the process; none has a place in PyTorch's documented interface.
const std::vector<Group>& groups() {
  static const std::vector<Group> table = {
      {"is a step inside another operator, which has checked the sizes",
       {"aten::_cholesky_solve_helper",
        "aten::_cummax_helper",
        "aten::_cummin_helper",
        "aten::_nested_from_padded",
        "aten::_new_zeros_with_same_feature_meta",
        "aten::_pdist_backward",
        "aten::_pdist_forward",
        "aten::_remove_batch_dim",
        "aten::_slow_conv2d_backward",
        "aten::_sobol_engine_ff_",
        "aten::_stack",
        "aten::_transform_bias_rescale_qkv",
        "aten::_weight_norm_interface",
        "aten::_weight_norm_interface_backward",
        "aten::batch_norm_update_stats",
        "aten::native_batch_norm_backward"}},
      {"is a step inside the Fourier transforms, which have checked the dimensions",
       {"aten::_fft_c2c", "aten::_fft_c2r", "aten::_fft_r2c"}},
      {"reads row numbers as they come and writes where they point",
       {"aten::_convert_indices_from_coo_to_csr", "aten::_convert_indices_from_csr_to_coo"}},
      {"reads memory through any strides, without looking at the storage's size", {"aten::_reshape_alias_copy"}},
      {"takes gradients that may be missing, and reads them all the same",
       {"aten::_thnn_differentiable_gru_cell_backward", "aten::_thnn_differentiable_lstm_cell_backward"}},
      {"copies lists of tensors without comparing their lengths", {"aten::_foreach_copy"}},
      {"calls a mobile library with whatever sizes come", {"aten::_nnpack_spatial_convolution"}},
      {"packs weights for kernels of quantized models, and trusts their shape and dtype",
       {"aten::fbgemm_pack_gemm_matrix_fp16",
        "aten::fbgemm_pack_quantized_matrix",
        "aten::quantized_lstm_cell",
        "aten::_dyn_quant_matmul_4bit",
        "_quantized::linear_prepack_fp16",
        "_quantized::linear_prepack_fp16_legacy",
        "onednn::linear_prepack_fp16",
        "quantized::embedding_bag_2bit_prepack",
        "quantized::embedding_bag_4bit_prepack",
        "quantized::embedding_bag_byte_prepack",
        "quantized::linear_prepack_fp16",
        "quantized::linear_prepack_fp16_legacy"}},
      {"reorders weights for oneDNN, and trusts their shape",
       {"mkldnn::_reorder_convolution_weight",
        "mkldnn::_reorder_convolution_transpose_weight",
        "mkldnn::_reorder_linear_weight",
        "mkldnn::_reorder_mkldnn_rnn_layer_weight"}},
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

const std::unordered_map<std::string, ArgumentCheck>& argument_checks() {
  static const std::unordered_map<std::string, ArgumentCheck> table = {};
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
  return find(argument_checks(), name, overload);
}

}  // namespace torchbind
