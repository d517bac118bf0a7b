// CRC-32 of zip files (ISO 3309, reflected polynomial 0xEDB88320). Uses the processor's instructions if it
// has them (carry-less multiplication on x86, CRC32 on ARM), else tables of eight bytes at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define TORCHBIND_CRC32_X86 1
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define TORCHBIND_CRC32_ARM 1
#include <arm_acle.h>
#endif

namespace torchbind {

namespace crc32_detail {

using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? 0xEDB88320u ^ (crc >> 1) : crc >> 1;
    tables[0][i] = crc;
  }
  for (uint32_t i = 0; i < 256; ++i) {
    for (size_t t = 1; t < 8; ++t)
      tables[t][i] = tables[0][tables[t - 1][i] & 0xff] ^ (tables[t - 1][i] >> 8);
  }
  return tables;
}

inline constexpr Tables kTables = make_tables();

// All of these take and give the state before the final inversion.
inline uint32_t update_portable(uint32_t crc, const uint8_t* bytes, size_t size) {
  for (; size >= 8; size -= 8, bytes += 8) {
    uint32_t low;
    uint32_t high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + 4, 4);
    low ^= crc;
    crc = kTables[7][low & 0xff] ^ kTables[6][(low >> 8) & 0xff] ^ kTables[5][(low >> 16) & 0xff] ^
          kTables[4][low >> 24] ^ kTables[3][high & 0xff] ^ kTables[2][(high >> 8) & 0xff] ^
          kTables[1][(high >> 16) & 0xff] ^ kTables[0][high >> 24];
  }
  for (; size > 0; --size, ++bytes) crc = kTables[0][(crc ^ *bytes) & 0xff] ^ (crc >> 8);
  return crc;
}

#if TORCHBIND_CRC32_X86

// x^n modulo the polynomial, bit-reflected and shifted left by one, as the folding below multiplies with it:
// the 32-bit reflection of x^n mod P has x^31 in bit 0, and a product of two reflected operands comes out one
// bit too low.
constexpr uint64_t fold_constant(unsigned n) {
  uint32_t power = 0x80000000u;  // x^0
  for (unsigned i = 0; i < n; ++i) power = (power & 1) != 0 ? (power >> 1) ^ 0xEDB88320u : power >> 1;
  return static_cast<uint64_t>(power) << 1;
}

__attribute__((target("pclmul,sse4.1"))) inline __m128i load(const uint8_t* bytes) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}

// Moves the 128 bits of `part` ahead by the distance that `constants` stand for, onto `next`.
__attribute__((target("pclmul,sse4.1"))) inline __m128i fold(__m128i part, __m128i constants, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(part, constants, 0x00);
  const __m128i high = _mm_clmulepi64_si128(part, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

// Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009: four
// lanes of 128 bits are folded over the data, then into one; what is left of it are 16 bytes with the same
// checksum.
__attribute__((target("pclmul,sse4.1"))) inline uint32_t update_x86(uint32_t crc, const uint8_t* bytes,
                                                                    size_t size) {
  if (size < 128) return update_portable(crc, bytes, size);
  constexpr uint64_t ahead512[2] = {fold_constant(4 * 128 + 32), fold_constant(4 * 128 - 32)};
  constexpr uint64_t ahead128[2] = {fold_constant(128 + 32), fold_constant(128 - 32)};
  const __m128i by512 = _mm_set_epi64x(static_cast<int64_t>(ahead512[1]), static_cast<int64_t>(ahead512[0]));
  const __m128i by128 = _mm_set_epi64x(static_cast<int64_t>(ahead128[1]), static_cast<int64_t>(ahead128[0]));
  __m128i lanes[4] = {load(bytes), load(bytes + 16), load(bytes + 32), load(bytes + 48)};
  lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(static_cast<int>(crc)));
  for (bytes += 64, size -= 64; size >= 64; bytes += 64, size -= 64) {
    for (size_t lane = 0; lane < 4; ++lane) lanes[lane] = fold(lanes[lane], by512, load(bytes + 16 * lane));
  }
  __m128i sum = lanes[0];
  for (size_t lane = 1; lane < 4; ++lane) sum = fold(sum, by128, lanes[lane]);
  for (; size >= 16; bytes += 16, size -= 16) sum = fold(sum, by128, load(bytes));
  alignas(16) uint8_t rest[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(rest), sum);
  return update_portable(update_portable(0, rest, sizeof rest), bytes, size);
}

inline bool has_instructions() {
  return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

#elif TORCHBIND_CRC32_ARM

inline uint32_t update_arm(uint32_t crc, const uint8_t* bytes, size_t size) {
  for (; size >= 8; size -= 8, bytes += 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    crc = __crc32d(crc, word);
  }
  for (; size > 0; --size, ++bytes) crc = __crc32b(crc, *bytes);
  return crc;
}

#endif

inline uint32_t update(uint32_t crc, const uint8_t* bytes, size_t size) {
#if TORCHBIND_CRC32_X86
  static const bool fast = has_instructions();
  return fast ? update_x86(crc, bytes, size) : update_portable(crc, bytes, size);
#elif TORCHBIND_CRC32_ARM
  return update_arm(crc, bytes, size);
#else
  return update_portable(crc, bytes, size);
#endif
}

}  // namespace crc32_detail

class Crc32 {
 public:
  void update(const void* data, size_t size) {
    crc_ = crc32_detail::update(crc_, static_cast<const uint8_t*>(data), size);
  }

  uint32_t value() const { return ~crc_; }

 private:
  uint32_t crc_ = 0xFFFFFFFFu;
};

}  // namespace torchbind
