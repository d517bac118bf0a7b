#include "bfloat16_rows.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <utility>

#define TORCHBIND_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

namespace torchbind {
namespace {

constexpr int64_t kStep = 32;     // numbers in a register
constexpr int64_t kAhead = 1024;  // bytes that are fetched ahead
constexpr int64_t kInputs = 8;    // rows of input that are multiplied together

TORCHBIND_AVX512 inline __m512bh load(const at::BFloat16* numbers) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(numbers));
}

TORCHBIND_AVX512 inline __m512bh load_first(const at::BFloat16* numbers, int64_t count) {
  const auto mask = static_cast<__mmask32>((uint64_t{1} << count) - 1);
  return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, numbers));
}

// By halves, through memory: GCC 12 warns of its own _mm512_reduce_add_ps.
TORCHBIND_AVX512 inline float sum(__m512 values) {
  alignas(64) float numbers[16];
  _mm512_store_ps(numbers, values);
  const __m256 eight = _mm256_add_ps(_mm256_load_ps(numbers), _mm256_load_ps(numbers + 8));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// Dot products of `Rows` adjacent rows of the weight with `Inputs` adjacent rows of the input, each summed in
// the order of its columns: 32 at a time, two in each of 16 sums.
template <int Rows, int Inputs>
TORCHBIND_AVX512 inline void dot(const at::BFloat16* input, const at::BFloat16* weight, int64_t columns,
                                 float* result, int64_t stride) {
  __m512 sums[Rows][Inputs];
#pragma GCC unroll 16
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 16
    for (int i = 0; i < Inputs; ++i) sums[row][i] = _mm512_setzero_ps();
  for (int64_t k = 0; k < columns; k += kStep) {
    const int64_t left = columns - k;
    __m512bh weights[Rows];
#pragma GCC unroll 16
    for (int row = 0; row < Rows; ++row) {
      const at::BFloat16* const from = weight + row * columns + k;
      _mm_prefetch(reinterpret_cast<const char*>(from) + kAhead, _MM_HINT_T0);
      weights[row] = left >= kStep ? load(from) : load_first(from, left);
    }
#pragma GCC unroll 16
    for (int i = 0; i < Inputs; ++i) {
      const at::BFloat16* const from = input + i * columns + k;
      const __m512bh numbers = left >= kStep ? load(from) : load_first(from, left);
#pragma GCC unroll 16
      for (int row = 0; row < Rows; ++row)
        sums[row][i] = _mm512_dpbf16_ps(sums[row][i], weights[row], numbers);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 16
    for (int i = 0; i < Inputs; ++i) result[i * stride + row] = sum(sums[row][i]);
}

// As many rows of the weight at a time as have their sums in registers.
template <int Inputs>
TORCHBIND_AVX512 void multiply_inputs(const at::BFloat16* input, const at::BFloat16* weight, int64_t rows,
                                      int64_t columns, int64_t begin, int64_t end, float* result) {
  constexpr int kRows = std::min(4, 24 / Inputs);
  int64_t i = begin;
  for (; i + kRows <= end; i += kRows)
    dot<kRows, Inputs>(input, weight + i * columns, columns, result + i, rows);
  for (; i < end; ++i) dot<1, Inputs>(input, weight + i * columns, columns, result + i, rows);
}

}  // namespace

bool has_bfloat16_instructions() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}

void multiply_bfloat16(const at::BFloat16* input, int64_t count, const at::BFloat16* weight, int64_t rows,
                       int64_t columns, int64_t begin, int64_t end, float* result) {
  static constexpr auto kForCount = []<size_t... I>(std::index_sequence<I...>) {
    return std::array{&multiply_inputs<static_cast<int>(I) + 1>...};
  }(std::make_index_sequence<kInputs>());
  constexpr int64_t kBlock = 24;  // rows of the weight that stay in the cache for the next inputs
  const int64_t groups = (count + kInputs - 1) / kInputs;
  for (int64_t i = begin; i < end; i += kBlock) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first = group * count / groups;
      const int64_t inputs = (group + 1) * count / groups - first;
      kForCount[inputs - 1](input + first * columns, weight, rows, columns, i, std::min(end, i + kBlock),
                            result + first * rows);
    }
  }
}

}  // namespace torchbind

#endif
