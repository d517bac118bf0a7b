// The product of one row with a weight, which takes most of the time of a generated token. It reads each
// weight once, so memory is its limit: libtorch's kernels for one row reach half of that with AVX2. For
// x86-64; lib/native/cpu-kernels.ts says on which processors it is used.
#if defined(__x86_64__) && defined(__GNUC__)

#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <immintrin.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#define TORCHBIND_AVX2 __attribute__((target("avx2,fma")))

namespace torchbind {
namespace {

// The input of float32 and bfloat16 weights, in the order in which `sixteen` gives the weights.
struct FloatRow {
  std::vector<float> numbers;
};

// Rounded to 16 bits, so that products with int8 are summed exactly: the error is 2^-16 of the largest
// number.
struct Int16Row {
  std::vector<int16_t> numbers;
  float scale = 0;
};

constexpr int64_t kStep = 16;

void prepare(const float* input, int64_t columns, const float*, FloatRow& row) {
  row.numbers.assign(input, input + columns);
}

// Of each 16 numbers first those at even places, then those at odd ones.
void prepare(const float* input, int64_t columns, const at::BFloat16*, FloatRow& row) {
  row.numbers.assign(input, input + columns);
  for (int64_t k = 0; k + kStep <= columns; k += kStep) {
    for (int64_t i = 0; i < kStep; ++i) row.numbers[k + i / 2 + (i % 2) * kStep / 2] = input[k + i];
  }
}

void prepare(const float* input, int64_t columns, const int8_t*, Int16Row& row) {
  constexpr float kLargest = 32767;
  float largest = 0;
  float problem = 0;  // NaN where a number is not finite, and so is every product then
  for (int64_t k = 0; k < columns; ++k) {
    largest = std::max(largest, std::abs(input[k]));
    problem += 0 * input[k];
  }
  row.scale = largest / kLargest + problem;
  row.numbers.resize(columns);
  for (int64_t k = 0; k < columns; ++k)
    row.numbers[k] = row.scale > 0 ? static_cast<int16_t>(std::lrint(input[k] / row.scale)) : int16_t{0};
}

TORCHBIND_AVX2 inline float sum(__m256 values) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// Sixteen weights as float32.
struct Sixteen {
  __m256 first;
  __m256 second;
};

TORCHBIND_AVX2 inline Sixteen sixteen(const float* weights) {
  return {_mm256_loadu_ps(weights), _mm256_loadu_ps(weights + 8)};
}

// Two bfloat16 in 32 bits are taken apart: the even ones, then the odd ones.
TORCHBIND_AVX2 inline Sixteen sixteen(const at::BFloat16* weights) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(pairs, upper))};
}

// The product of the columns from k on.
template <typename Weight>
TORCHBIND_AVX2 inline float rest(const float* numbers, const Weight* weight, int64_t k, int64_t columns) {
  float total = 0;
  for (; k < columns; ++k) total += static_cast<float>(weight[k]) * numbers[k];
  return total;
}

// Dot products of `Rows` adjacent rows of the weight (out, in) with the input. Each row is summed in the same
// order however many are computed together, so that bits do not depend on the number of threads.
template <int Rows, typename Weight>
TORCHBIND_AVX2 inline void dot(const FloatRow& input, const Weight* weight, int64_t columns, float* result) {
  const float* const numbers = input.numbers.data();
  __m256 first[Rows];
  __m256 second[Rows];
#pragma GCC unroll 4
  for (int row = 0; row < Rows; ++row) first[row] = second[row] = _mm256_setzero_ps();
  int64_t k = 0;
  for (; k + kStep <= columns; k += kStep) {
    const __m256 low = _mm256_loadu_ps(numbers + k);
    const __m256 high = _mm256_loadu_ps(numbers + k + 8);
#pragma GCC unroll 4
    for (int row = 0; row < Rows; ++row) {
      const Sixteen weights = sixteen(weight + row * columns + k);
      first[row] = _mm256_fmadd_ps(weights.first, low, first[row]);
      second[row] = _mm256_fmadd_ps(weights.second, high, second[row]);
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < Rows; ++row)
    result[row] =
        sum(_mm256_add_ps(first[row], second[row])) + rest(numbers, weight + row * columns, k, columns);
}

template <int Rows>
TORCHBIND_AVX2 inline void dot(const Int16Row& input, const int8_t* weight, int64_t columns, float* result) {
  // So many columns stay within 32 bits: each sum gets two products below 2^22 for every 16 columns.
  constexpr int64_t kExact = 2048;
  const int16_t* const numbers = input.numbers.data();
  __m256 sums[Rows];
#pragma GCC unroll 4
  for (int row = 0; row < Rows; ++row) sums[row] = _mm256_setzero_ps();
  int64_t k = 0;
  while (k + kStep <= columns) {
    __m256i exact[Rows];
#pragma GCC unroll 4
    for (int row = 0; row < Rows; ++row) exact[row] = _mm256_setzero_si256();
    for (const int64_t end = std::min(columns, k + kExact); k + kStep <= end; k += kStep) {
      const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers + k));
#pragma GCC unroll 4
      for (int row = 0; row < Rows; ++row) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weight + row * columns + k));
        exact[row] = _mm256_add_epi32(exact[row], _mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), own));
      }
    }
#pragma GCC unroll 4
    for (int row = 0; row < Rows; ++row) sums[row] = _mm256_add_ps(sums[row], _mm256_cvtepi32_ps(exact[row]));
  }
#pragma GCC unroll 4
  for (int row = 0; row < Rows; ++row) {
    float total = sum(sums[row]);
    for (int64_t i = k; i < columns; ++i)
      total += static_cast<float>(weight[row * columns + i]) * static_cast<float>(numbers[i]);
    result[row] = total * input.scale;
  }
}

// Numbers for each row of the weight, in float32 or bfloat16; none without a tensor.
class PerRow {
 public:
  PerRow(const std::optional<at::Tensor>& tensor, int64_t rows, const char* name) {
    if (!tensor.has_value()) return;
    TORCH_CHECK(tensor->is_contiguous() && tensor->numel() == rows, "gemv: expected ", rows, " ", name);
    if (tensor->scalar_type() == at::kFloat)
      floats_ = tensor->const_data_ptr<float>();
    else
      halves_ = tensor->const_data_ptr<at::BFloat16>();
  }
  float at(int64_t row, float otherwise) const {
    return floats_ != nullptr   ? floats_[row]
           : halves_ != nullptr ? static_cast<float>(halves_[row])
                                : otherwise;
  }

 private:
  const float* floats_ = nullptr;
  const at::BFloat16* halves_ = nullptr;
};

// (out), of an input (in) and a weight (out, in). Threads are libtorch's own: a TensorIterator divides the
// result among them.
template <typename Row, typename Weight>
void multiply(const float* input, const at::Tensor& weight, const PerRow& scales, const PerRow& bias,
              at::Tensor& result) {
  constexpr int kRows = 4;                    // as many have their sums in registers
  constexpr int64_t kBytesOfThread = 524288;  // another thread costs more than it gains for less
  const int64_t columns = weight.size(1);
  Row row;
  const Weight* const weights = weight.const_data_ptr<Weight>();
  prepare(input, columns, weights, row);
  float* const results = result.mutable_data_ptr<float>();
  const int64_t bytes_of_row = columns * static_cast<int64_t>(sizeof(Weight));
  at::TensorIterator rows = at::TensorIterator::borrowing_nullary_op(result);
  rows.for_each(
      [&](char** data, const int64_t*, int64_t count, int64_t /* one */) {
        const int64_t begin = reinterpret_cast<float*>(data[0]) - results;
        const int64_t end = begin + count;
        int64_t i = begin;
        for (; i + kRows <= end; i += kRows) dot<kRows>(row, weights + i * columns, columns, results + i);
        for (; i < end; ++i) dot<1>(row, weights + i * columns, columns, results + i);
        for (i = begin; i < end; ++i) results[i] = results[i] * scales.at(i, 1) + bias.at(i, 0);
      },
      std::max<int64_t>(kRows, kBytesOfThread / std::max<int64_t>(1, bytes_of_row)));
}

// input (1, ..., in), weight (out, in) in float32, bfloat16 or int8, bias and scales (out): (1, ..., out) in
// the input's dtype.
at::Tensor gemv(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                const std::optional<at::Tensor>& scales) {
  TORCH_CHECK(weight.dim() == 2 && input.dim() > 0 && input.size(-1) == weight.size(1) &&
                  input.numel() == weight.size(1),
              "gemv: expected one row and a matrix");
  const int64_t rows = weight.size(0);
  const at::Tensor matrix = weight.contiguous();
  const at::Tensor numbers = input.to(at::kFloat).contiguous();
  const float* const row = numbers.const_data_ptr<float>();
  const PerRow scale(scales, rows, "scales");
  const PerRow shift(bias, rows, "numbers in the bias");
  at::Tensor result = at::empty({rows}, numbers.options());
  switch (weight.scalar_type()) {
    case at::kFloat:
      multiply<FloatRow, float>(row, matrix, scale, shift, result);
      break;
    case at::kBFloat16:
      multiply<FloatRow, at::BFloat16>(row, matrix, scale, shift, result);
      break;
    case at::kChar:
      multiply<Int16Row, int8_t>(row, matrix, scale, shift, result);
      break;
    default:
      TORCH_CHECK_TYPE(false, "gemv: no kernel for weights in ", weight.scalar_type());
  }
  std::vector<int64_t> shape = input.sizes().vec();
  shape.back() = rows;
  return result.to(input.scalar_type()).view(shape);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(torchbind, library) {
  library.def("gemv(Tensor input, Tensor weight, Tensor? bias=None, Tensor? scales=None) -> Tensor");
}

TORCH_LIBRARY_IMPL(torchbind, CPU, library) { library.impl("gemv", gemv); }

}  // namespace torchbind

#endif
