// Products of a few rows with bfloat16 weights on processors that have instructions for them (AVX512_BF16).
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace torchbind {

bool has_bfloat16_instructions();

// At most as many rows of input are multiplied at once.
constexpr int64_t kBFloat16Rows = 16;

// `input` (count, columns) with rows begin to end of `weight` (rows, columns): those columns of `result`
// (count, rows). Bits depend neither on the other rows nor on how they are divided among threads.
void multiply_bfloat16(const at::BFloat16* input, int64_t count, const at::BFloat16* weight, int64_t rows,
                       int64_t columns, int64_t begin, int64_t end, float* result);

}  // namespace torchbind

#endif
