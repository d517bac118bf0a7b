// CRC-32 as zip files use it (ISO 3309, reflected polynomial 0xEDB88320), eight bytes at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace torchbind {

namespace crc32_tables {

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

}  // namespace crc32_tables

class Crc32 {
 public:
  void update(const void* data, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    const crc32_tables::Tables& tables = crc32_tables::kTables;
    uint32_t crc = crc_;
    for (; size >= 8; size -= 8, bytes += 8) {
      uint32_t low;
      uint32_t high;
      std::memcpy(&low, bytes, 4);
      std::memcpy(&high, bytes + 4, 4);
      low ^= crc;
      crc = tables[7][low & 0xff] ^ tables[6][(low >> 8) & 0xff] ^ tables[5][(low >> 16) & 0xff] ^
            tables[4][low >> 24] ^ tables[3][high & 0xff] ^ tables[2][(high >> 8) & 0xff] ^
            tables[1][(high >> 16) & 0xff] ^ tables[0][high >> 24];
    }
    for (; size > 0; --size, ++bytes) crc = tables[0][(crc ^ *bytes) & 0xff] ^ (crc >> 8);
    crc_ = crc;
  }

  uint32_t value() const { return ~crc_; }

 private:
  uint32_t crc_ = 0xFFFFFFFFu;
};

}  // namespace torchbind
