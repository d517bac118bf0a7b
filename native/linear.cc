// Linear layers on inputs of a few rows, which take most of the time of generation. Each weight is read from
// memory once, so memory bandwidth limits the speed: libtorch's AVX2 kernels reach a third to a half of it.
// For x86-64; lib/native/cpu-kernels.ts says on which processors it is used.
#if defined(__x86_64__) && defined(__GNUC__)

#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <immintrin.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <type_traits>
#include <vector>

#include "bfloat16_rows.h"

#define TORCHBIND_AVX2 __attribute__((target("avx2,fma")))

namespace torchbind {
namespace {

constexpr int64_t kStep = 16;

// A weight (rows, columns) in float32, bfloat16 or int8.
template <typename Number>
struct Matrix {
  const Number* numbers;
  int64_t rows;
  int64_t columns;

  const Number* row(int64_t i) const { return numbers + i * columns; }
  int64_t bytes_of_row() const { return columns * static_cast<int64_t>(sizeof(Number)); }
};

// ---- One row ----

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

void prepare(const float* input, const Matrix<float>& weight, FloatRow& row) {
  row.numbers.assign(input, input + weight.columns);
}

// Of each 16 numbers first those at even places, then those at odd ones.
void prepare(const float* input, const Matrix<at::BFloat16>& weight, FloatRow& row) {
  row.numbers.assign(input, input + weight.columns);
  for (int64_t k = 0; k + kStep <= weight.columns; k += kStep) {
    for (int64_t i = 0; i < kStep; ++i) row.numbers[k + i / 2 + (i % 2) * kStep / 2] = input[k + i];
  }
}

void prepare(const float* input, const Matrix<int8_t>& weight, Int16Row& row) {
  constexpr float kLargest = 32767;
  const int64_t columns = weight.columns;
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

// Bytes that are fetched ahead where rows are read one after the other.
constexpr int64_t kAhead = 1024;

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
template <typename Input, typename Weight>
TORCHBIND_AVX2 inline float rest(const Input* numbers, const Weight* weight, int64_t k, int64_t columns) {
  float total = 0;
  for (; k < columns; ++k) total += static_cast<float>(weight[k]) * static_cast<float>(numbers[k]);
  return total;
}

// Dot products of `Rows` adjacent rows of the weight, from row i on, with the input. Each row is summed in
// the same order however many are computed together, so that bits do not depend on the number of threads.
template <int Rows, typename Weight>
TORCHBIND_AVX2 inline void dot(const FloatRow& input, const Matrix<Weight>& matrix, int64_t i,
                               float* result) {
  const int64_t columns = matrix.columns;
  const Weight* const weight = matrix.row(i);
  const float* const numbers = input.numbers.data();
  __m256 first[Rows];
  __m256 second[Rows];
#pragma GCC unroll 4
  for (int row = 0; row < Rows; ++row) first[row] = second[row] = _mm256_setzero_ps();
  int64_t k = 0;
  for (; k + kStep <= columns; k += kStep) {
    if constexpr (Rows == 1) _mm_prefetch(reinterpret_cast<const char*>(weight + k) + kAhead, _MM_HINT_T0);
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

// The dot product of row i.
template <int Rows>
TORCHBIND_AVX2 inline void dot(const Int16Row& input, const Matrix<int8_t>& matrix, int64_t i,
                               float* result) {
  static_assert(Rows == 1);
  // So many columns stay within 32 bits: each sum gets two products below 2^22 for every 16 columns.
  constexpr int64_t kExact = 2048;
  const int64_t columns = matrix.columns;
  const int8_t* const weight = matrix.row(i);
  const int16_t* const numbers = input.numbers.data();
  __m256 sums = _mm256_setzero_ps();
  int64_t k = 0;
  while (k + kStep <= columns) {
    __m256i exact = _mm256_setzero_si256();
    for (const int64_t end = std::min(columns, k + kExact); k + kStep <= end; k += kStep) {
      _mm_prefetch(reinterpret_cast<const char*>(weight + k + kAhead), _MM_HINT_T0);
      const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers + k));
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weight + k));
      exact = _mm256_add_epi32(exact, _mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), own));
    }
    sums = _mm256_add_ps(sums, _mm256_cvtepi32_ps(exact));
  }
  *result = (sum(sums) + rest(numbers, weight, k, columns)) * input.scale;
}

// ---- Several rows ----

constexpr int kLanes = 8;         // numbers in a register
constexpr int64_t kChunk = 256;   // columns of a weight that are computed while the next are fetched
constexpr int64_t kPadding = 16;  // keeps rows apart in the first cache

// Columns of a few rows of a weight as float32: where they are, or unpacked into `room`.
struct Unpacked {
  const float* numbers;
  int64_t stride;
};

using Room = std::array<float, kLanes*(kChunk + kPadding)>;

TORCHBIND_AVX2 inline Unpacked unpack(const Matrix<float>& matrix, int64_t i, int /* rows */, int64_t from,
                                      int64_t /* to */, Room&) {
  return {matrix.row(i) + from, matrix.columns};
}

TORCHBIND_AVX2 inline void convert(const at::BFloat16* numbers, int64_t count, float* result) {
  int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(numbers + k));
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16);
    _mm256_storeu_ps(result + k, _mm256_castsi256_ps(bits));
  }
  for (; k < count; ++k) result[k] = static_cast<float>(numbers[k]);
}

TORCHBIND_AVX2 inline Unpacked unpack(const Matrix<at::BFloat16>& matrix, int64_t i, int rows, int64_t from,
                                      int64_t to, Room& room) {
  constexpr int64_t kStride = kChunk + kPadding;
  for (int row = 0; row < rows; ++row)
    convert(matrix.row(i + row) + from, to - from, room.data() + row * kStride);
  return {room.data(), kStride};
}

// Products of `Rows` adjacent rows of the weight, from row i on, with inputs (columns, 8 * Registers): a lane
// for each input. Each product is summed over the columns in their order, a chunk at a time for precision, so
// that bits depend neither on the other inputs nor on threads.
template <int Rows, int Registers, typename Weight>
TORCHBIND_AVX2 inline void tile(const float* inputs, const Weight& matrix, int64_t i, float* result) {
  Room room;
  std::fill_n(result, Rows * Registers * kLanes, 0.0F);
  for (int64_t from = 0; from < matrix.columns; from += kChunk) {
    const int64_t to = std::min(matrix.columns, from + kChunk);
    __m256 sums[Rows][Registers];
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 2
      for (int part = 0; part < Registers; ++part) sums[row][part] = _mm256_setzero_ps();
    const Unpacked weights = unpack(matrix, i, Rows, from, to, room);
    const auto* const next = to < matrix.columns ? matrix.row(i) + to : matrix.row(i + Rows);
    for (int64_t k = from; k < to;) {
      if constexpr (std::is_same_v<Weight, Matrix<float>>) {
#pragma GCC unroll 8
        for (int row = 0; row < Rows; ++row)
          _mm_prefetch(reinterpret_cast<const char*>(next + row * matrix.columns + k - from), _MM_HINT_T0);
      }
      for (const int64_t end = std::min(to, k + kStep); k < end; ++k) {
        __m256 lanes[Registers];
#pragma GCC unroll 2
        for (int part = 0; part < Registers; ++part)
          lanes[part] = _mm256_loadu_ps(inputs + (k * Registers + part) * kLanes);
#pragma GCC unroll 8
        for (int row = 0; row < Rows; ++row) {
          const __m256 weight = _mm256_broadcast_ss(weights.numbers + row * weights.stride + k - from);
#pragma GCC unroll 2
          for (int part = 0; part < Registers; ++part)
            sums[row][part] = _mm256_fmadd_ps(weight, lanes[part], sums[row][part]);
        }
      }
    }
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 2
      for (int part = 0; part < Registers; ++part) {
        float* const total = result + (row * Registers + part) * kLanes;
        _mm256_storeu_ps(total, _mm256_add_ps(_mm256_loadu_ps(total), sums[row][part]));
      }
    }
  }
}

// ---- The operator ----

// Numbers for each row of the weight, in float32 or bfloat16; none without a tensor.
class PerRow {
 public:
  PerRow() = default;
  PerRow(const std::optional<at::Tensor>& tensor, int64_t rows, const char* name) {
    if (!tensor.has_value()) return;
    TORCH_CHECK(tensor->is_contiguous() && tensor->numel() == rows, "linear: expected ", rows, " ", name);
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

// Calls fn(begin, end) for parts of the rows of a weight, whose result is (count, rows). Threads are
// libtorch's own: a TensorIterator divides one row of the result among them.
template <typename Fn>
void for_rows(const at::Tensor& result, int64_t bytes_of_row, const Fn& fn) {
  constexpr int64_t kBytesOfThread = 524288;  // another thread costs more than it gains for less
  const int64_t rows = result.size(1);
  const int64_t rows_of_thread =
      std::max<int64_t>(kLanes, kBytesOfThread / std::max<int64_t>(1, bytes_of_row));
  if (rows <= rows_of_thread) return fn(0, rows);
  const float* const results = result.const_data_ptr<float>();
  const at::Tensor row = result.select(0, 0);
  at::TensorIterator iterator = at::TensorIterator::borrowing_nullary_op(row);
  iterator.for_each(
      [&](char** data, const int64_t*, int64_t count, int64_t /* one */) {
        const int64_t begin = reinterpret_cast<float*>(data[0]) - results;
        fn(begin, begin + count);
      },
      rows_of_thread);
}

// One input (columns): result (1, rows).
template <typename Row, typename Number>
void multiply_one(const float* input, const Matrix<Number>& weight, const PerRow& scales, const PerRow& bias,
                  const at::Tensor& result) {
  // Measured: narrower weights are read fastest row by row, float32 four rows at a time on Zen 3 and row by
  // row on Zen 5. The bits are the same.
  constexpr int kRows = std::is_same_v<Number, float> ? 4 : 1;
  static const bool is_row_by_row = kRows == 1 || __builtin_cpu_supports("avx512f") != 0;
  Row row;
  prepare(input, weight, row);
  float* const results = result.mutable_data_ptr<float>();
  for_rows(result, weight.bytes_of_row(), [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    if (!is_row_by_row)
      for (; i + kRows <= end; i += kRows) dot<kRows>(row, weight, i, results + i);
    for (; i < end; ++i) dot<1>(row, weight, i, results + i);
    for (i = begin; i < end; ++i) results[i] = results[i] * scales.at(i, 1) + bias.at(i, 0);
  });
}

// Up to 8 * Registers inputs (count, columns): result (count, rows).
template <int Registers, typename Weight>
void multiply_few(const float* input, int64_t count, const Weight& weight, const PerRow& bias,
                  const at::Tensor& result) {
  constexpr int kRows = kLanes / Registers;  // as many have their sums in registers
  constexpr int64_t kWidth = kLanes * Registers;
  const int64_t columns = weight.columns;
  std::vector<float> inputs(columns * kWidth);  // (columns, kWidth)
  for (int64_t m = 0; m < count; ++m)
    for (int64_t k = 0; k < columns; ++k) inputs[k * kWidth + m] = input[m * columns + k];
  float* const results = result.mutable_data_ptr<float>();
  for_rows(result, weight.bytes_of_row(), [&](int64_t begin, int64_t end) {
    std::array<float, kRows * kWidth> products;
    for (int64_t i = begin; i < end;) {
      const int rows = i + kRows <= end ? kRows : 1;
      if (rows == kRows)
        tile<kRows, Registers>(inputs.data(), weight, i, products.data());
      else
        tile<1, Registers>(inputs.data(), weight, i, products.data());
      for (int row = 0; row < rows; ++row, ++i) {
        for (int64_t m = 0; m < count; ++m)
          results[m * weight.rows + i] = products[row * kWidth + m] + bias.at(i, 0);
      }
    }
  });
}

// Inputs (count, columns): result (count, rows).
template <typename Number>
void multiply(const at::Tensor& inputs, const Matrix<Number>& weight, const PerRow& bias,
              const at::Tensor& result) {
  constexpr int64_t kTogether = 2 * kLanes;
  const int64_t count = inputs.size(0);
  const float* const input = inputs.const_data_ptr<float>();
  if (count == 1) return multiply_one<FloatRow>(input, weight, PerRow(), bias, result);
  for (int64_t m = 0; m < count; m += kTogether) {
    const int64_t together = std::min(count - m, kTogether);
    const auto& multiply =
        together <= kLanes ? multiply_few<1, Matrix<Number>> : multiply_few<2, Matrix<Number>>;
    multiply(input + m * weight.columns, together, weight, bias, result.narrow(0, m, together));
  }
}

// Inputs (count, columns) in bfloat16, up to kBFloat16Rows of them: result (count, rows).
void multiply_with_instructions(const at::Tensor& inputs, const at::Tensor& weight, const PerRow& bias,
                                const at::Tensor& result) {
  const int64_t count = result.size(0);
  const int64_t rows = result.size(1);
  const int64_t columns = weight.size(1);
  const auto* const input = inputs.const_data_ptr<at::BFloat16>();
  const auto* const numbers = weight.const_data_ptr<at::BFloat16>();
  float* const results = result.mutable_data_ptr<float>();
  for_rows(result, columns * static_cast<int64_t>(sizeof(at::BFloat16)), [&](int64_t begin, int64_t end) {
    multiply_bfloat16(input, count, numbers, rows, columns, begin, end, results);
    for (int64_t m = 0; m < count; ++m)
      for (int64_t i = begin; i < end; ++i) results[m * rows + i] += bias.at(i, 0);
  });
}

// input (..., in); weight (out, in) in float32 or bfloat16, or for one row in int8 with scales (out); bias
// (out): (..., out) in the input's dtype.
at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                  const std::optional<at::Tensor>& scales) {
  TORCH_CHECK(weight.dim() == 2 && input.dim() > 0 && input.size(-1) == weight.size(1),
              "linear: expected rows and a matrix of as many columns");
  const bool is_int8 = weight.scalar_type() == at::kChar;
  const int64_t rows = weight.size(0);
  const int64_t columns = weight.size(1);
  const int64_t count = c10::multiply_integers(input.sizes().begin(), input.sizes().end() - 1);
  TORCH_CHECK(is_int8 == scales.has_value() && (count == 1 || !is_int8),
              "linear: expected scales and one row with int8, and only there");
  const at::Tensor matrix = weight.contiguous();
  const bool has_instructions =
      weight.scalar_type() == at::kBFloat16 && count <= kBFloat16Rows && has_bfloat16_instructions();
  const at::Tensor inputs =
      input.to(has_instructions ? at::kBFloat16 : at::kFloat).reshape({count, columns}).contiguous();
  const PerRow shift(bias, rows, "numbers in the bias");
  const at::Tensor result = at::empty({count, rows}, inputs.options().dtype(at::kFloat));
  switch (weight.scalar_type()) {
    case at::kFloat:
      multiply(inputs, Matrix<float>{matrix.const_data_ptr<float>(), rows, columns}, shift, result);
      break;
    case at::kBFloat16:
      if (has_instructions) {
        multiply_with_instructions(inputs, matrix, shift, result);
        break;
      }
      multiply(inputs, Matrix<at::BFloat16>{matrix.const_data_ptr<at::BFloat16>(), rows, columns}, shift,
               result);
      break;
    case at::kChar:
      multiply_one<Int16Row>(inputs.const_data_ptr<float>(),
                             Matrix<int8_t>{matrix.const_data_ptr<int8_t>(), rows, columns},
                             PerRow(scales, rows, "scales"), shift, result);
      break;
    default:
      TORCH_CHECK_TYPE(false, "linear: no kernel for weights in ", weight.scalar_type());
  }
  std::vector<int64_t> shape = input.sizes().vec();
  shape.back() = rows;
  return result.to(input.scalar_type()).view(shape);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(torchbind, library) {
  library.def("linear(Tensor input, Tensor weight, Tensor? bias=None, Tensor? scales=None) -> Tensor");
}

TORCH_LIBRARY_IMPL(torchbind, CPU, library) { library.impl("linear", linear); }

}  // namespace torchbind

#endif
